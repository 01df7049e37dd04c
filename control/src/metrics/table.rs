//! The list of metrics: name, kind, what it says.

use Kind::{Counter, Gauge};
use abi::{CoreCounters, PortCounters};

/// A sum, or a value of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Name, kind, what it says, where it is.
pub(super) type CoreField = (&'static str, Kind, &'static str, fn(&CoreCounters) -> u64);
/// The same of a port.
pub(super) type PortField = (&'static str, Kind, &'static str, fn(&PortCounters) -> u64);

/// By worker.
pub(super) const CORES: &[CoreField] = &[
    (
        "ringfence_worker_rounds_total",
        Counter,
        "rounds of the main loop",
        |c| c.rounds,
    ),
    (
        "ringfence_worker_empty_rounds_total",
        Counter,
        "rounds without a packet",
        |c| c.empty_rounds,
    ),
    (
        "ringfence_worker_idle_waits_total",
        Counter,
        "pauses and sleeps of an idle core",
        |c| c.idle_waits,
    ),
    (
        "ringfence_worker_rx_packets_total",
        Counter,
        "packets received",
        |c| c.rx_packets,
    ),
    (
        "ringfence_worker_rx_bytes_total",
        Counter,
        "frame bytes received",
        |c| c.rx_bytes,
    ),
    (
        "ringfence_worker_tx_packets_total",
        Counter,
        "received packets transmitted",
        |c| c.tx_packets,
    ),
    (
        "ringfence_worker_tx_bytes_total",
        Counter,
        "frame bytes of those",
        |c| c.tx_bytes,
    ),
    (
        "ringfence_worker_mirror_packets_total",
        Counter,
        "packets of mirror ports",
        |c| c.mirror_packets,
    ),
    (
        "ringfence_worker_generated_packets_total",
        Counter,
        "RST and ICMP answers sent",
        |c| c.generated_packets,
    ),
    (
        "ringfence_worker_answers_suppressed_total",
        Counter,
        "answers not sent: rate limit or no buffer",
        |c| c.answers_suppressed,
    ),
    (
        "ringfence_worker_flow_packets_total",
        Counter,
        "packets that belong to a flow",
        |c| c.flow_packets,
    ),
    (
        "ringfence_worker_unflowed_packets_total",
        Counter,
        "packets that belong to no flow",
        |c| c.unflowed_packets,
    ),
    (
        "ringfence_worker_recorded_packets_total",
        Counter,
        "packets in records that the ring accepted",
        |c| c.recorded_packets,
    ),
    (
        "ringfence_worker_cached_packets",
        Gauge,
        "packets of flows in the cache, not yet in a record",
        |c| c.cached_packets,
    ),
    (
        "ringfence_worker_shed_packets_total",
        Counter,
        "packets in records that the full ring refused",
        |c| c.shed_packets,
    ),
    (
        "ringfence_worker_shed_bytes_total",
        Counter,
        "bytes in those records",
        |c| c.shed_bytes,
    ),
    (
        "ringfence_worker_records_total",
        Counter,
        "records that the ring accepted",
        |c| c.records,
    ),
    (
        "ringfence_worker_shed_records_total",
        Counter,
        "records that the full ring refused",
        |c| c.shed_records,
    ),
    (
        "ringfence_worker_flows_created_total",
        Counter,
        "flows created",
        |c| c.flows_created,
    ),
    (
        "ringfence_worker_flows_cached",
        Gauge,
        "flows in the cache",
        |c| c.flows_cached,
    ),
    (
        "ringfence_worker_flows_established",
        Gauge,
        "flows in the cache that a flood cannot evict",
        |c| c.flows_established,
    ),
    (
        "ringfence_worker_flows_max",
        Gauge,
        "flows that the cache can hold",
        |c| c.flows_max,
    ),
    (
        "ringfence_worker_flows_ended_idle_total",
        Counter,
        "flows ended by idle timeout",
        |c| c.flows_ended_idle,
    ),
    (
        "ringfence_worker_flows_ended_eof_total",
        Counter,
        "flows ended by FIN or RST",
        |c| c.flows_ended_eof,
    ),
    (
        "ringfence_worker_flows_ended_forced_total",
        Counter,
        "flows ended by stop or policy",
        |c| c.flows_ended_forced,
    ),
    (
        "ringfence_worker_flows_evicted_total",
        Counter,
        "flows whose entry was taken",
        |c| c.flows_evicted,
    ),
    (
        "ringfence_worker_flow_table_full_total",
        Counter,
        "packets of new flows that found the cache full",
        |c| c.flow_table_full,
    ),
    (
        "ringfence_worker_fragments_tracked",
        Gauge,
        "datagrams in the fragment table",
        |c| c.fragments_tracked,
    ),
    (
        "ringfence_worker_fragment_table_full_total",
        Counter,
        "first fragments that found the table full",
        |c| c.fragment_table_full,
    ),
    (
        "ringfence_worker_fragments_inherited_total",
        Counter,
        "fragments that inherited their flow",
        |c| c.fragments_inherited,
    ),
    (
        "ringfence_worker_flows_midstream_total",
        Counter,
        "TCP flows picked up midstream",
        |c| c.flows_midstream,
    ),
    (
        "ringfence_worker_icmp_errors_related_total",
        Counter,
        "ICMP errors tied to their flow",
        |c| c.icmp_errors_related,
    ),
    (
        "ringfence_worker_flows_judged_total",
        Counter,
        "flows judged by the policy",
        |c| c.flows_judged,
    ),
    (
        "ringfence_worker_flows_rejudged_total",
        Counter,
        "flows judged again after a change",
        |c| c.flows_rejudged,
    ),
    (
        "ringfence_worker_flows_verdict_changed_total",
        Counter,
        "flows whose action changed then",
        |c| c.flows_verdict_changed,
    ),
    (
        "ringfence_worker_permitted_packets_total",
        Counter,
        "packets whose action permits them",
        |c| c.permitted_packets,
    ),
    (
        "ringfence_worker_would_deny_packets_total",
        Counter,
        "packets permitted that tests would deny",
        |c| c.would_deny_packets,
    ),
    (
        "ringfence_worker_uncovered_packets_total",
        Counter,
        "packets of flows that no rule covers",
        |c| c.uncovered_packets,
    ),
    (
        "ringfence_worker_superseded_packets_total",
        Counter,
        "packets forwarded under a superseded verdict",
        |c| c.superseded_packets,
    ),
    (
        "ringfence_worker_policy_epoch",
        Gauge,
        "policy epoch adopted",
        |c| c.policy_epoch,
    ),
    (
        "ringfence_worker_policies_adopted_total",
        Counter,
        "policies adopted",
        |c| c.policies_adopted,
    ),
    (
        "ringfence_worker_folded_flows_total",
        Counter,
        "denied and unanswered flows told together",
        |c| c.folded_flows,
    ),
    (
        "ringfence_worker_folded_packets_total",
        Counter,
        "packets of those",
        |c| c.folded_packets,
    ),
    (
        "ringfence_worker_folded_rest_packets_total",
        Counter,
        "of those, packets of sources without a place",
        |c| c.folded_rest_packets,
    ),
    (
        "ringfence_worker_scan_sources",
        Gauge,
        "sources with a budget of records now",
        |c| c.scan_sources,
    ),
    (
        "ringfence_worker_stage_rounds_total",
        Counter,
        "rounds with packets whose stages were measured",
        |c| c.stage_rounds,
    ),
    (
        "ringfence_worker_steered_out_packets_total",
        Counter,
        "received packets handed to the worker that owns them",
        |c| c.steered_out_packets,
    ),
    (
        "ringfence_worker_steered_in_packets_total",
        Counter,
        "packets taken over from the worker that received them",
        |c| c.steered_in_packets,
    ),
    (
        "ringfence_worker_returned_out_packets_total",
        Counter,
        "packets handed to the worker that sends for their port",
        |c| c.returned_out_packets,
    ),
    (
        "ringfence_worker_returned_in_packets_total",
        Counter,
        "packets taken back from other workers to be sent",
        |c| c.returned_in_packets,
    ),
    (
        "ringfence_worker_returned_answers_total",
        Counter,
        "answers among those handed over to be sent",
        |c| c.returned_answers,
    ),
    (
        "ringfence_worker_resteer_ring_full_total",
        Counter,
        "packets that found the ring to their worker full",
        |c| c.resteer_ring_full,
    ),
];

/// By port, lane and role.
pub(super) const PORTS: &[PortField] = &[
    (
        "ringfence_port_rx_packets_total",
        Counter,
        "packets the driver received",
        |c| c.rx_packets,
    ),
    (
        "ringfence_port_rx_bytes_total",
        Counter,
        "bytes the driver received",
        |c| c.rx_bytes,
    ),
    (
        "ringfence_port_tx_packets_total",
        Counter,
        "packets the driver sent",
        |c| c.tx_packets,
    ),
    (
        "ringfence_port_tx_bytes_total",
        Counter,
        "bytes the driver sent",
        |c| c.tx_bytes,
    ),
    (
        "ringfence_port_rx_missed_total",
        Counter,
        "packets no core fetched in time",
        |c| c.rx_missed,
    ),
    (
        "ringfence_port_rx_errors_total",
        Counter,
        "packets received damaged",
        |c| c.rx_errors,
    ),
    (
        "ringfence_port_tx_errors_total",
        Counter,
        "packets that could not be sent",
        |c| c.tx_errors,
    ),
    (
        "ringfence_port_rx_no_buffer_total",
        Counter,
        "packets lost for want of a buffer",
        |c| c.rx_no_buffer,
    ),
    (
        "ringfence_port_link_up",
        Gauge,
        "1 where the link is up",
        |c| c.link_up,
    ),
    (
        "ringfence_port_link_mbps",
        Gauge,
        "link speed, Mbit/s",
        |c| c.link_mbps,
    ),
];

/// Everything else.
const OTHERS: &[(&str, Kind, &str)] = &[
    (
        "ringfence_worker_dropped_packets_total",
        Counter,
        "packets not forwarded, by worker and reason",
    ),
    (
        "ringfence_stage_cycles_total",
        Counter,
        "cycles in rounds that were measured, by worker and stage",
    ),
    (
        "ringfence_stage_packets_total",
        Counter,
        "packets in those, by worker and stage",
    ),
    (
        "ringfence_tsc_hz",
        Gauge,
        "cycles a second, in which stages are counted",
    ),
    (
        "ringfence_ring_records_waiting",
        Gauge,
        "records in a worker's ring",
    ),
    (
        "ringfence_ring_records_max",
        Gauge,
        "records a worker's ring can hold",
    ),
    (
        "ringfence_collector_records_total",
        Counter,
        "records collected, by worker",
    ),
    (
        "ringfence_collector_unreadable_records_total",
        Counter,
        "records this build cannot read",
    ),
    (
        "ringfence_collector_packets_total",
        Counter,
        "packets in the records collected",
    ),
    (
        "ringfence_accounting_difference",
        Gauge,
        "0, or something is lost uncounted, by kind",
    ),
    ("ringfence_dataplane_up", Gauge, "1 where the link is up"),
    ("ringfence_dataplane_connects_total", Counter, "links made"),
    ("ringfence_recent_flows", Gauge, "recent flows kept"),
    (
        "ringfence_recent_flows_max",
        Gauge,
        "recent flows that can be kept",
    ),
    (
        "ringfence_recent_flows_oldest_out_total",
        Counter,
        "recent flows given up for newer ones",
    ),
    ("ringfence_followers", Gauge, "followers of the flow stream"),
    (
        "ringfence_follow_shed_flows_total",
        Counter,
        "flows not sent to slow followers",
    ),
    (
        "ringfence_rule_hits_total",
        Counter,
        "flow records a rule decided, by rule",
    ),
    ("ringfence_rule_packets_total", Counter, "packets in those"),
    ("ringfence_rule_bytes_total", Counter, "bytes in those"),
    (
        "ringfence_rule_pending_hits_total",
        Counter,
        "flow records a rule would decide if tests were enforced",
    ),
    (
        "ringfence_export_records_total",
        Counter,
        "flow records sent, by collector",
    ),
    ("ringfence_export_messages_total", Counter, "messages sent"),
    ("ringfence_export_bytes_total", Counter, "bytes sent"),
    (
        "ringfence_export_not_sent_records_total",
        Counter,
        "flow records not sent",
    ),
    (
        "ringfence_export_errors_total",
        Counter,
        "errors of the socket",
    ),
    (
        "ringfence_export_queue_records",
        Gauge,
        "flow records waiting to be sent",
    ),
    (
        "ringfence_history_records_total",
        Counter,
        "flow records handed to history",
    ),
    (
        "ringfence_history_shed_records_total",
        Counter,
        "flow records not kept because the queue to history was full",
    ),
    (
        "ringfence_history_refused_records_total",
        Counter,
        "flow records not kept because history refused them",
    ),
    (
        "ringfence_history_failures_total",
        Counter,
        "flushes and roll-ups of history that failed and are tried again",
    ),
    (
        "ringfence_history_lost_records_total",
        Counter,
        "flow records lost with processes that were killed, in all",
    ),
    (
        "ringfence_history_queue_records",
        Gauge,
        "flow records waiting to be kept",
    ),
    (
        "ringfence_history_set_aside_files",
        Gauge,
        "files of history that could not be read",
    ),
    ("ringfence_history_rows", Gauge, "rows kept, by tier"),
    ("ringfence_history_bytes", Gauge, "bytes kept, by tier"),
    (
        "ringfence_watch_findings_total",
        Counter,
        "findings made since control started, by kind",
    ),
    (
        "ringfence_watch_findings_out_total",
        Counter,
        "findings given up because newer ones needed the room",
    ),
    (
        "ringfence_watch_open_findings",
        Gauge,
        "findings that nobody has acknowledged or resolved",
    ),
    (
        "ringfence_watch_learning",
        Gauge,
        "1 while less was watched than watch.learning asks for",
    ),
    ("ringfence_watch_edges", Gauge, "edges in the baseline"),
    (
        "ringfence_watch_edges_out_total",
        Counter,
        "edges of the baseline given up because newer ones needed the room",
    ),
    (
        "ringfence_watch_records_total",
        Counter,
        "flow records that the watch looked at",
    ),
    (
        "ringfence_watch_records_waiting",
        Gauge,
        "flow records that wait for the watch",
    ),
    (
        "ringfence_watch_shed_records_total",
        Counter,
        "flow records that the watch did not look at because its queue was full",
    ),
    (
        "ringfence_candidates",
        Gauge,
        "policies judged beside the one in force",
    ),
    (
        "ringfence_candidate_flows_total",
        Counter,
        "flows judged, by candidate",
    ),
    (
        "ringfence_candidate_changed_flows_total",
        Counter,
        "of those, flows that it decides otherwise, by candidate and turn: deny-newly, allow-newly",
    ),
    (
        "ringfence_candidate_uncertain_flows_total",
        Counter,
        "of those, flows about which it is not certain, by candidate",
    ),
    (
        "ringfence_candidate_lost_records_total",
        Counter,
        "flow records not judged because the queue was full, by candidate",
    ),
    (
        "ringfence_candidate_watch_shed_total",
        Counter,
        "changed flows that a slow watcher was not told, by candidate",
    ),
    (
        "ringfence_policy_epoch",
        Gauge,
        "epoch of the policy in force",
    ),
    (
        "ringfence_policy_adoption_seconds",
        Gauge,
        "from publish to the last core's adoption, last time",
    ),
    (
        "ringfence_policy_changes_total",
        Counter,
        "changes of policy, by outcome",
    ),
    (
        "ringfence_policy_publications_total",
        Counter,
        "policies sent to the dataplane, by form: a whole image, or a change of the one in force",
    ),
    (
        "ringfence_policy_published_bytes_total",
        Counter,
        "bytes of these",
    ),
    (
        "ringfence_policy_storage_errors_total",
        Counter,
        "writes of the state directory that failed",
    ),
];

/// Every metric there is: name, kind, what it says.
pub fn all() -> impl Iterator<Item = (&'static str, Kind, &'static str)> {
    let cores = CORES
        .iter()
        .map(|(name, kind, help, _)| (*name, *kind, *help));
    let ports = PORTS
        .iter()
        .map(|(name, kind, help, _)| (*name, *kind, *help));
    cores.chain(ports).chain(OTHERS.iter().copied())
}

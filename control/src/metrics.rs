//! Prometheus metrics: everything that is counted, brought up to date when it is asked for.
//!
//! Names are `ringfence_<what>_<unit>`; `metrics/table.rs` is the whole list.

mod table;

pub use table::{Kind, all};

use crate::app::App;
use crate::dataplane::{DataplaneView, port_role};
use abi::stats::name_of;
use abi::{Reason, Stage};
use api::candidate::Turn;
use api::status::DataplaneState;
use api::watch::FindingKind;
use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use std::sync::Mutex;
use table::Kind::{Counter, Gauge};
use table::{CORES, PORTS};

/// Rules that are told; those with the most hits come first.
pub const RULES_MAX: usize = 1000;

/// Renders metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    /// One rendering at a time: counters are set, then read.
    rendering: Mutex<()>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A recorder of our own, not the process's global one.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            for (name, kind, help) in all() {
                match kind {
                    Counter => describe_counter!(name, help),
                    Gauge => describe_gauge!(name, help),
                }
            }
        });
        Self {
            recorder,
            rendering: Mutex::new(()),
        }
    }

    /// The text of `GET /metrics`.
    #[must_use]
    pub fn render(&self, app: &App) -> String {
        let _one = self
            .rendering
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        with_local_recorder(&self.recorder, || update(app));
        self.recorder.handle().render()
    }
}

fn set(name: &'static str, kind: Kind, labels: &[(&'static str, String)], value: u64) {
    match kind {
        Counter => counter!(name, labels).absolute(value),
        Gauge => gauge!(name, labels).set(as_float(value)),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating point values only"
)]
fn as_float(value: u64) -> f64 {
    value as f64
}

fn update(app: &App) {
    let view = app.dataplane.view();
    update_cores(&view);
    update_ports(&view);
    update_flows(app, &view);
    update_rules(app);
    update_history(app);
    update_watch(app);
    update_candidates(app);
    for (collector, counts) in app.exporter.counts() {
        let labels = [("collector", collector.address.to_string())];
        set(
            "ringfence_export_records_total",
            Counter,
            &labels,
            counts.records,
        );
        set(
            "ringfence_export_messages_total",
            Counter,
            &labels,
            counts.messages,
        );
        set(
            "ringfence_export_bytes_total",
            Counter,
            &labels,
            counts.bytes,
        );
        set(
            "ringfence_export_not_sent_records_total",
            Counter,
            &labels,
            counts.not_sent,
        );
        set(
            "ringfence_export_errors_total",
            Counter,
            &labels,
            counts.errors,
        );
        set(
            "ringfence_export_queue_records",
            Gauge,
            &labels,
            counts.waiting,
        );
    }
    update_policy(app, &view);
}

fn update_policy(app: &App, view: &DataplaneView) {
    let (show, outcomes) = (app.policy.show(), app.policy.outcomes());
    set("ringfence_policy_epoch", Gauge, &[], show.epoch);
    gauge!("ringfence_policy_adoption_seconds")
        .set(as_float(show.adoption_us.unwrap_or(0)) / 1_000_000.0);
    for (outcome, count) in [
        ("adopted", outcomes.adopted),
        ("refused", outcomes.refused),
        ("timeout", outcomes.timeout),
        ("disconnected", outcomes.disconnected),
    ] {
        let labels = [("outcome", outcome.to_owned())];
        set("ringfence_policy_changes_total", Counter, &labels, count);
    }
    let sent = view.publications;
    for (form, count) in [("image", sent.images), ("change", sent.changes)] {
        let labels = [("form", form.to_owned())];
        set(
            "ringfence_policy_publications_total",
            Counter,
            &labels,
            count,
        );
    }
    set(
        "ringfence_policy_published_bytes_total",
        Counter,
        &[],
        sent.bytes,
    );
    set(
        "ringfence_policy_storage_errors_total",
        Counter,
        &[],
        outcomes.storage_errors,
    );
}

fn update_cores(view: &DataplaneView) {
    for (worker, core) in view.cores.iter().enumerate() {
        let labels = [("worker", worker.to_string())];
        for (name, kind, _, of) in CORES {
            set(name, *kind, &labels, of(core));
        }
        for reason in Reason::ALL {
            let labels = [
                ("worker", worker.to_string()),
                ("reason", reason.name().to_owned()),
            ];
            let packets = core.drops.get(reason.index()).copied().unwrap_or(0);
            set(
                "ringfence_worker_dropped_packets_total",
                Counter,
                &labels,
                packets,
            );
        }
        for stage in Stage::ALL {
            let labels = [
                ("worker", worker.to_string()),
                ("stage", stage.name().to_owned()),
            ];
            let index = stage.index();
            let (cycles, packets) = (core.stage_cycles[index], core.stage_packets[index]);
            set("ringfence_stage_cycles_total", Counter, &labels, cycles);
            set("ringfence_stage_packets_total", Counter, &labels, packets);
        }
    }
    for (worker, ring) in view.rings.iter().enumerate() {
        let labels = [("worker", worker.to_string())];
        set(
            "ringfence_ring_records_waiting",
            Gauge,
            &labels,
            ring.backlog,
        );
        set("ringfence_ring_records_max", Gauge, &labels, ring.capacity);
        set(
            "ringfence_collector_records_total",
            Counter,
            &labels,
            ring.collected,
        );
        set(
            "ringfence_collector_unreadable_records_total",
            Counter,
            &labels,
            ring.unreadable,
        );
        set(
            "ringfence_collector_packets_total",
            Counter,
            &labels,
            ring.packets,
        );
    }
}

fn update_ports(view: &DataplaneView) {
    for port in &view.ports {
        let labels = [
            ("port", name_of(&port.name)),
            ("lane", port.lane.to_string()),
            ("role", port_role(port.role).to_owned()),
        ];
        for (name, kind, _, of) in PORTS {
            set(name, *kind, &labels, of(port));
        }
    }
}

fn update_flows(app: &App, view: &DataplaneView) {
    let hz = view.facts.map_or(0, |facts| facts.tsc_hz);
    set("ringfence_tsc_hz", Gauge, &[], hz);
    let up = u64::from(view.state == DataplaneState::Running);
    set("ringfence_dataplane_up", Gauge, &[], up);
    set(
        "ringfence_dataplane_connects_total",
        Counter,
        &[],
        view.connects,
    );
    let recent = app.recent.counts();
    set("ringfence_recent_flows", Gauge, &[], recent.kept);
    set("ringfence_recent_flows_max", Gauge, &[], recent.kept_max);
    set(
        "ringfence_recent_flows_oldest_out_total",
        Counter,
        &[],
        recent.oldest_out,
    );
    set("ringfence_followers", Gauge, &[], recent.followers);
    set(
        "ringfence_follow_shed_flows_total",
        Counter,
        &[],
        recent.follow_shed,
    );
    let account = app.accounting();
    for (kind, difference) in [
        ("packets", account.total.packet_difference),
        ("flows", account.total.flow_difference),
        ("recorded", account.total.record_difference),
        ("records", account.records.difference),
    ] {
        let sign = if difference < 0 { -1.0 } else { 1.0 };
        gauge!("ringfence_accounting_difference", "kind" => kind)
            .set(sign * as_float(difference.unsigned_abs()));
    }
}

fn update_history(app: &App) {
    use std::sync::atomic::Ordering::Relaxed;
    let (counters, state) = (app.history_writer.counters(), app.history.state());
    for (name, kind, value) in [
        (
            "ringfence_history_records_total",
            Counter,
            counters.kept.load(Relaxed),
        ),
        (
            "ringfence_history_shed_records_total",
            Counter,
            counters.shed.load(Relaxed),
        ),
        (
            "ringfence_history_refused_records_total",
            Counter,
            counters.refused.load(Relaxed),
        ),
        (
            "ringfence_history_failures_total",
            Counter,
            counters.failures.load(Relaxed),
        ),
        ("ringfence_history_lost_records_total", Counter, state.lost),
        (
            "ringfence_history_queue_records",
            Gauge,
            counters.waiting.load(Relaxed) as u64,
        ),
        (
            "ringfence_history_set_aside_files",
            Gauge,
            state.set_aside.len() as u64,
        ),
    ] {
        set(name, kind, &[], value);
    }
    for tier in state.tiers {
        let labels = [("tier", tier.name)];
        set("ringfence_history_rows", Gauge, &labels, tier.rows);
        set("ringfence_history_bytes", Gauge, &labels, tier.bytes);
    }
}

fn update_watch(app: &App) {
    let state = app.watch_state();
    let counts = app.watch.detector().findings.counts();
    for (kind, made) in FindingKind::ALL.iter().zip(counts.made) {
        let labels = [("kind", kind.word().to_owned())];
        set("ringfence_watch_findings_total", Counter, &labels, made);
    }
    for (name, kind, value) in [
        ("ringfence_watch_findings_out_total", Counter, counts.out),
        ("ringfence_watch_open_findings", Gauge, state.open),
        ("ringfence_watch_learning", Gauge, u64::from(state.learning)),
        ("ringfence_watch_edges", Gauge, state.edges),
        ("ringfence_watch_edges_out_total", Counter, state.edges_out),
        ("ringfence_watch_records_total", Counter, state.records),
        ("ringfence_watch_records_waiting", Gauge, state.waiting),
        ("ringfence_watch_shed_records_total", Counter, state.shed),
    ] {
        set(name, kind, &[], value);
    }
}

fn update_candidates(app: &App) {
    let candidates = app.policy.candidates().candidates;
    let all = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
    set("ringfence_candidates", Gauge, &[], all);
    for candidate in candidates {
        let counts = candidate.counts;
        let label = ("candidate", candidate.name);
        for (name, value) in [
            ("ringfence_candidate_flows_total", counts.flows),
            (
                "ringfence_candidate_uncertain_flows_total",
                counts.uncertain,
            ),
            (
                "ringfence_candidate_lost_records_total",
                counts.lost_records,
            ),
            ("ringfence_candidate_watch_shed_total", counts.watch_shed),
        ] {
            set(name, Counter, std::slice::from_ref(&label), value);
        }
        for (turn, value) in [
            (Turn::DenyNewly, counts.deny_newly),
            (Turn::AllowNewly, counts.allow_newly),
        ] {
            let labels = [label.clone(), ("turn", turn.word().to_owned())];
            set(
                "ringfence_candidate_changed_flows_total",
                Counter,
                &labels,
                value,
            );
        }
    }
}

fn update_rules(app: &App) {
    let names = app.registry.names();
    let mut rules = app.hits.all();
    rules.sort_by_key(|(_, hits)| std::cmp::Reverse(hits.hits + hits.pending_hits));
    for (id, hits) in rules.into_iter().take(RULES_MAX) {
        let name = names
            .newest()
            .and_then(|d| d.rule(id))
            .map(|r| r.name.to_string());
        let labels = [("rule", name.unwrap_or_else(|| format!("rule-{id:016x}")))];
        set("ringfence_rule_hits_total", Counter, &labels, hits.hits);
        set(
            "ringfence_rule_packets_total",
            Counter,
            &labels,
            hits.packets,
        );
        set("ringfence_rule_bytes_total", Counter, &labels, hits.bytes);
        set(
            "ringfence_rule_pending_hits_total",
            Counter,
            &labels,
            hits.pending_hits,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_one_row_and_stands_in_the_readme() {
        let readme = include_str!("../README.md");
        let mut names: Vec<_> = all().map(|(name, ..)| name).collect();
        for (name, kind, help) in all() {
            assert!(name.starts_with("ringfence_") && !help.is_empty());
            assert_eq!(name.ends_with("_total"), kind == Counter, "{name}");
            assert!(
                readme.contains(&format!("`{name}`")),
                "{name} is not in README.md"
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
    }
}

//! Answers made from counters: status, ports, drops, accounting, and what the doctor finds.

use crate::app::App;
use crate::clock::now_ns;
use crate::dataplane::{DataplaneView, port_role};
use crate::exporter::ExportCounts;
use abi::stats::name_of;
use abi::{CoreCounters, Mode, Reason};
use api::Ts;
use api::accounting::{
    Accounting, CoreAccount, Drop, Drops, Port, Ports, ReasonCount, RecordAccount,
};
use api::policy::{PolicyInForce, PolicyState};
use api::status::{
    Check, CheckState, ControlStatus, DataplaneState, DataplaneStatus, Doctor, ExportStatus,
    FlowsStatus, PolicyStatus, Status, TrafficStatus, WorkerStatus,
};

fn some_ts(ns: u64) -> Option<Ts> {
    (ns != 0).then_some(Ts(ns))
}

/// The signed difference of two sums of counters.
fn difference(whole: u64, parts: u64) -> i64 {
    let difference = i128::from(whole) - i128::from(parts);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

/// A count with its noun: `1 core`, `2 cores`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

impl App {
    /// `GET /v1/status`.
    #[must_use]
    pub fn status(&self) -> Status {
        let view = self.dataplane.view();
        let recent = self.recent.counts();
        let (rx_packets_per_s, rx_bits_per_s) = self.rates.per_second();
        Status {
            control: ControlStatus {
                release: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started_ts: Ts(self.started_ns),
                metrics: self.config.metrics.listen.0.map(|a| a.to_string()),
            },
            traffic: TrafficStatus {
                rx_packets: view.sum(|c| c.rx_packets),
                rx_bytes: view.sum(|c| c.rx_bytes),
                tx_packets: view.sum(|c| c.tx_packets),
                mirror_packets: view.sum(|c| c.mirror_packets),
                dropped_packets: view.sum(CoreCounters::dropped_packets),
                would_deny_packets: view.sum(|c| c.would_deny_packets),
                uncovered_packets: view.sum(|c| c.uncovered_packets),
                rx_packets_per_s,
                rx_bits_per_s,
                flows_cached: view.sum(|c| c.flows_cached),
                flows_rejudged: view.sum(|c| c.flows_rejudged),
                flows_verdict_changed: view.sum(|c| c.flows_verdict_changed),
                flows_ended_forced: view.sum(|c| c.flows_ended_forced),
                superseded_packets: view.sum(|c| c.superseded_packets),
            },
            flows: FlowsStatus {
                collected: view.collected(),
                waiting: view.waiting(),
                shed: view.sum(|c| c.shed_records),
                drained: view.drained,
                kept: recent.kept,
                kept_max: recent.kept_max,
                oldest_out: recent.oldest_out,
                followers: recent.followers,
                follow_shed: recent.follow_shed,
            },
            policy: self.policy_status(),
            export: self
                .exporter
                .counts()
                .into_iter()
                .map(export_status)
                .collect(),
            dataplane: self.dataplane_status(&view),
        }
    }

    fn policy_status(&self) -> PolicyStatus {
        let show = self.policy.show();
        let in_force = self.policy.in_force();
        let of = |mode: Mode| {
            let segments = in_force.iter().flat_map(|f| f.valid.segments.iter());
            segments.filter(|s| s.mode == mode).count() as u64
        };
        PolicyStatus {
            state: show.state,
            revision: show.revision,
            epoch: show.epoch,
            file_name: show.file_name,
            adopted_ts: show.adopted_ts,
            adoption_us: show.adoption_us,
            unconfirmed: show.unconfirmed,
            segments_by_mode: [of(Mode::Observe), of(Mode::Test), of(Mode::Enforce)],
        }
    }

    fn dataplane_status(&self, view: &DataplaneView) -> DataplaneStatus {
        let started = view.facts.and_then(|f| some_ts(f.started_ns));
        DataplaneStatus {
            state: view.state,
            socket: self.dataplane.socket.display().to_string(),
            pid: view.hello.as_ref().map(|h| h.process_id),
            started_ts: started,
            connected_ts: view.connected_ns.map(Ts),
            connects: view.connects,
            error: view.error.clone().or_else(|| view.collector_failed.clone()),
            workers: (0_u32..)
                .zip(&view.cores)
                .map(|(worker, core)| worker_status(view, worker, core))
                .collect(),
        }
    }

    /// `GET /v1/ports`.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let view = self.dataplane.view();
        let workers = |lane: u64| {
            let lane = usize::try_from(lane).ok();
            let facts = view.facts.as_ref().zip(lane);
            let mask = facts.and_then(|(facts, lane)| facts.lane.get(lane));
            let mask = mask.map_or(0, |lane| lane.workers_mask);
            (0..u32::BITS)
                .filter(|worker| mask >> worker & 1 == 1)
                .collect()
        };
        let ports = (0_u32..).zip(&view.ports);
        Ports {
            ports: ports
                .map(|(index, c)| Port {
                    index,
                    name: name_of(&c.name),
                    lane: u32::try_from(c.lane).unwrap_or(u32::MAX),
                    role: port_role(c.role).to_owned(),
                    workers: workers(c.lane),
                    link_up: c.link_up != 0,
                    link_mbps: c.link_mbps,
                    rx_packets: c.rx_packets,
                    rx_bytes: c.rx_bytes,
                    tx_packets: c.tx_packets,
                    tx_bytes: c.tx_bytes,
                    rx_missed: c.rx_missed,
                    rx_errors: c.rx_errors,
                    tx_errors: c.tx_errors,
                    rx_no_buffer: c.rx_no_buffer,
                    read_ts: some_ts(c.read_ns),
                })
                .collect(),
        }
    }

    /// `GET /v1/drops`.
    #[must_use]
    pub fn drops(&self) -> Drops {
        let view = self.dataplane.view();
        let of = |core: &CoreCounters, reason: Reason| {
            core.drops.get(reason.index()).copied().unwrap_or(0)
        };
        Drops {
            drops: Reason::ALL
                .iter()
                .map(|reason| Drop {
                    reason: reason.name().to_owned(),
                    sentence: reason.sentence().to_owned(),
                    packets: view.sum(|c| of(c, *reason)),
                    workers: view.cores.iter().map(|c| of(c, *reason)).collect(),
                })
                .collect(),
            total: view.sum(CoreCounters::dropped_packets),
        }
    }

    /// `GET /v1/accounting`.
    #[must_use]
    pub fn accounting(&self) -> Accounting {
        accounting(&self.dataplane.view())
    }

    /// `GET /v1/doctor`.
    #[must_use]
    pub fn doctor(&self) -> Doctor {
        let view = self.dataplane.view();
        let mut checks = vec![
            self.check_link(&view),
            check_heartbeat(&view),
            self.check_policy(&view),
            check_rings(&view),
            check_resteer(&view),
            check_accounting(&view),
            self.check_recent(),
            self.check_history(),
            self.check_state_dir(),
        ];
        checks.extend(self.check_inventory());
        checks.extend(self.exporter.counts().into_iter().map(check_export));
        Doctor { checks }
    }

    fn check_link(&self, view: &DataplaneView) -> Check {
        let (state, what, mend) = match view.state {
            DataplaneState::Running => {
                let pid = view.hello.as_ref().map_or(0, |h| h.process_id);
                (
                    CheckState::Ok,
                    format!("linked to the dataplane, process {pid}"),
                    "",
                )
            }
            DataplaneState::Finished => (
                CheckState::Ok,
                "the dataplane has ended in order".to_owned(),
                "",
            ),
            DataplaneState::Disconnected | DataplaneState::Incompatible => {
                let socket = self.dataplane.socket.display();
                let error = view
                    .error
                    .clone()
                    .unwrap_or_else(|| format!("no answer at {socket}"));
                (
                    CheckState::Failed,
                    error,
                    "start ringfence-dataplane of the same release",
                )
            }
        };
        check("dataplane-link", state, what, mend)
    }

    fn check_policy(&self, view: &DataplaneView) -> Check {
        let show = self.policy.show();
        if view.state == DataplaneState::Running
            && let Some(check) = check_unenforced(&show, self.policy.unusable())
        {
            return check;
        }
        let cores = show.worker_epochs.iter();
        let behind = cores.filter(|epoch| **epoch != show.epoch).count() as u64;
        let (state, mend) = match show.state {
            PolicyState::Adopted if behind == 0 => (CheckState::Ok, ""),
            PolicyState::Adopted => (CheckState::Warning, "wait a second, then look again"),
            PolicyState::None => (
                CheckState::Warning,
                "apply a policy: ringfence policy apply",
            ),
            PolicyState::Waiting | PolicyState::Publishing => {
                (CheckState::Warning, "see dataplane-link")
            }
            PolicyState::Refused => (CheckState::Failed, "see `ringfence policy log` for why"),
        };
        let what = format!(
            "policy {}, epoch {}, {} behind",
            show.state,
            show.epoch,
            counted(behind, "core")
        );
        check("policy", state, what, mend)
    }

    fn check_recent(&self) -> Check {
        let counts = self.recent.counts();
        let what = format!(
            "{} of {} recent flows kept, {} given up, {} not sent to slow followers",
            counts.kept, counts.kept_max, counts.oldest_out, counts.follow_shed
        );
        let (state, mend) = if counts.follow_shed > 0 {
            (
                CheckState::Warning,
                "a follower reads too slowly: give it a filter",
            )
        } else {
            (CheckState::Ok, "")
        };
        check("recent-flows", state, what, mend)
    }

    fn check_history(&self) -> Check {
        let state = self.history_state();
        let kept: u64 = state.tiers.iter().map(|tier| tier.bytes).sum();
        let what = format!(
            "engine {}, {} flow records taken, {} MiB kept, {} lost, {} shed, {} files set aside",
            state.engine,
            state.appended,
            kept >> 20,
            state.lost,
            state.shed,
            state.set_aside.len()
        );
        match state.error {
            Some(error) => check(
                "history",
                CheckState::Failed,
                format!("{what}; {error}"),
                "see `ringfence history state`; flow records are not kept until this is mended",
            ),
            None if state.lost + state.shed > 0 || !state.set_aside.is_empty() => check(
                "history",
                CheckState::Warning,
                what,
                "see `ringfence history state`",
            ),
            None => check("history", CheckState::Ok, what, ""),
        }
    }

    fn check_state_dir(&self) -> Check {
        let dir = &self.config.control.state_dir;
        let errors = self.policy.outcomes().storage_errors;
        match rustix::fs::statvfs(dir) {
            Ok(fs) => {
                let free = fs.f_bavail.saturating_mul(fs.f_frsize) >> 20;
                let what = format!(
                    "{free} MiB free at {}, {}",
                    dir.display(),
                    counted(errors, "write error")
                );
                let low = free < 64 || errors > 0;
                let state = if low {
                    CheckState::Warning
                } else {
                    CheckState::Ok
                };
                check(
                    "state-dir",
                    state,
                    what,
                    if low { "free space there" } else { "" },
                )
            }
            Err(error) => {
                let what = format!("{}: {error}", dir.display());
                check("state-dir", CheckState::Failed, what, "make it readable")
            }
        }
    }
}

fn export_status(
    (collector, counts): (crate::config::CollectorAddress, ExportCounts),
) -> ExportStatus {
    ExportStatus {
        collector: collector.address.to_string(),
        personality: ipfix::Personality::from(collector.personality)
            .word()
            .to_owned(),
        records: counts.records,
        messages: counts.messages,
        bytes: counts.bytes,
        not_sent: counts.not_sent,
        errors: counts.errors,
        last_error: counts.last_error,
    }
}

fn worker_status(view: &DataplaneView, worker: u32, core: &CoreCounters) -> WorkerStatus {
    let index = usize::try_from(worker).unwrap_or(usize::MAX);
    let ring = view.rings.get(index).copied().unwrap_or_default();
    WorkerStatus {
        worker,
        committed_ts: some_ts(core.committed_ns),
        rx_packets: core.rx_packets,
        steered_out_packets: core.steered_out_packets,
        steered_in_packets: core.steered_in_packets,
        idle_permille: core.empty_rounds.saturating_mul(1000) / core.rounds.max(1),
        flows_cached: core.flows_cached,
        flows_max: core.flows_max,
        ring_waiting: ring.backlog,
        ring_max: ring.capacity,
        policy_epoch: core.policy_epoch,
    }
}

fn core_account(worker: Option<u32>, core: &CoreCounters) -> CoreAccount {
    let dropped = core.dropped_packets();
    CoreAccount {
        worker,
        committed_ts: some_ts(core.committed_ns),
        received: core.rx_packets,
        transmitted: core.tx_packets,
        mirrored: core.mirror_packets,
        dropped,
        dropped_by_reason: Reason::ALL
            .iter()
            .map(|reason| ReasonCount {
                reason: reason.name().to_owned(),
                packets: core.drops.get(reason.index()).copied().unwrap_or(0),
            })
            .filter(|count| count.packets > 0)
            .collect(),
        steered_in: core.steered_in_packets,
        steered_out: core.steered_out_packets,
        returned_in: core.returned_in_packets,
        returned_out: core.returned_out_packets,
        returned_answers: core.returned_answers,
        packet_difference: difference(
            core.rx_packets
                + core.steered_in_packets
                + core.returned_in_packets
                + core.returned_answers,
            core.tx_packets
                + core.mirror_packets
                + dropped
                + core.steered_out_packets
                + core.returned_out_packets,
        ),
        flow_packets: core.flow_packets,
        unflowed_packets: core.unflowed_packets,
        flow_difference: difference(
            core.rx_packets + core.steered_in_packets,
            core.flow_packets + core.unflowed_packets + core.steered_out_packets,
        ),
        recorded: core.recorded_packets,
        cached: core.cached_packets,
        shed: core.shed_packets,
        record_difference: difference(
            core.flow_packets,
            core.recorded_packets + core.cached_packets + core.shed_packets,
        ),
    }
}

/// The sum of all cores, which is balanced only if it is balanced for each.
fn total(cores: &[CoreCounters]) -> CoreAccount {
    let mut sum = CoreCounters::new();
    for core in cores {
        sum.committed_ns = sum.committed_ns.max(core.committed_ns);
        sum.rx_packets += core.rx_packets;
        sum.tx_packets += core.tx_packets;
        sum.mirror_packets += core.mirror_packets;
        sum.flow_packets += core.flow_packets;
        sum.unflowed_packets += core.unflowed_packets;
        sum.recorded_packets += core.recorded_packets;
        sum.cached_packets += core.cached_packets;
        sum.shed_packets += core.shed_packets;
        sum.steered_in_packets += core.steered_in_packets;
        sum.steered_out_packets += core.steered_out_packets;
        sum.returned_in_packets += core.returned_in_packets;
        sum.returned_out_packets += core.returned_out_packets;
        sum.returned_answers += core.returned_answers;
        for (sum, drops) in sum.drops.iter_mut().zip(core.drops) {
            *sum += drops;
        }
    }
    core_account(None, &sum)
}

fn accounting(view: &DataplaneView) -> Accounting {
    let workers: Vec<CoreAccount> = (0_u32..)
        .zip(&view.cores)
        .map(|(worker, core)| core_account(Some(worker), core))
        .collect();
    let sum = |of: fn(&crate::collector::RingCounts) -> u64| view.rings.iter().map(of).sum::<u64>();
    // What the rings say while the dataplane runs: its committed counters are always a little
    // behind. When it has ended both are final, and both must agree.
    let published = sum(|r| r.cursor + r.backlog);
    let counted = view.sum(|c| c.records);
    let final_gap = if view.state == DataplaneState::Finished {
        difference(counted, published)
    } else {
        0
    };
    let mut records = RecordAccount {
        pushed: if view.state == DataplaneState::Finished {
            counted
        } else {
            published
        },
        collected_before: sum(|r| r.start),
        collected: sum(|r| r.collected),
        waiting: sum(|r| r.backlog),
        shed: view.sum(|c| c.shed_records),
        unreadable: sum(|r| r.unreadable),
        difference: 0,
    };
    let accounted = records.collected_before + records.collected + records.waiting;
    records.difference = difference(published, accounted).saturating_add(final_gap);
    let balanced = |a: &CoreAccount| {
        a.packet_difference == 0 && a.flow_difference == 0 && a.record_difference == 0
    };
    let total = total(&view.cores);
    let between_workers = difference(
        total.steered_out + total.returned_out,
        total.steered_in + total.returned_in,
    );
    // Cores count at different times while they run; when they have ended nothing may be left.
    let is_drained = between_workers == 0 || view.state != DataplaneState::Finished;
    Accounting {
        balanced: workers.iter().all(balanced) && records.difference == 0 && is_drained,
        total,
        workers,
        records,
        between_workers,
    }
}

fn check(name: &str, state: CheckState, what: String, mend: &str) -> Check {
    Check {
        name: name.to_owned(),
        state,
        what,
        mend: mend.to_owned(),
    }
}

/// A policy is stored and cores of a running dataplane hold none: nothing stands between the two
/// sides but the exception row.
fn check_unenforced(show: &PolicyInForce, unusable: Option<String>) -> Option<Check> {
    let cores = show.worker_epochs.len();
    let without = show.worker_epochs.iter().filter(|e| **e == 0).count();
    // Where every core has adopted it, cores that tell 0 have only not written their counters yet.
    if show.epoch == 0 || without == 0 || show.state == PolicyState::Adopted {
        return None;
    }
    let which = if without == cores {
        String::new()
    } else {
        format!(" by {without} of {}", counted(cores as u64, "core"))
    };
    let why = unusable.map_or_else(String::new, |why| format!("; {why}"));
    let what = format!(
        "no policy is enforced{which}: every packet follows the exception row no_policy{why}"
    );
    let mend = "apply it again: `ringfence policy apply FILE`";
    Some(check("policy", CheckState::Failed, what, mend))
}

/// A dataplane whose main thread has not written for so long is looked at.
const HEARTBEAT_NS_MAX: u64 = 5_000_000_000;

fn check_heartbeat(view: &DataplaneView) -> Check {
    let name = "dataplane-heartbeat";
    let Some(facts) = view.facts else {
        return check(
            name,
            CheckState::Warning,
            "no region yet".to_owned(),
            "see dataplane-link",
        );
    };
    let age_ns = now_ns().saturating_sub(facts.heartbeat_ns);
    let what = format!("last seen {} ms ago", age_ns / 1_000_000);
    match view.state {
        DataplaneState::Finished => check(name, CheckState::Ok, "it has ended".to_owned(), ""),
        _ if age_ns <= HEARTBEAT_NS_MAX => check(name, CheckState::Ok, what, ""),
        _ => check(
            name,
            CheckState::Failed,
            what,
            "look whether ringfence-dataplane still runs",
        ),
    }
}

fn check_rings(view: &DataplaneView) -> Check {
    let shed = view.sum(|c| c.shed_records);
    let fullest = view
        .rings
        .iter()
        .map(|r| r.backlog * 100 / r.capacity.max(1))
        .max()
        .unwrap_or(0);
    let what = format!(
        "fullest ring {fullest} %, {} shed since the dataplane started",
        counted(shed, "record")
    );
    if let Some(failed) = &view.collector_failed {
        return check(
            "record-rings",
            CheckState::Failed,
            failed.clone(),
            "restart this process",
        );
    }
    let low = shed > 0 || fullest > 50;
    let state = if low {
        CheckState::Warning
    } else {
        CheckState::Ok
    };
    let mend = "give the dataplane larger rings, or this process a faster core";
    check("record-rings", state, what, if low { mend } else { "" })
}

/// Rings between workers of one lane.
fn check_resteer(view: &DataplaneView) -> Check {
    let full = view.sum(|c| c.resteer_ring_full);
    let handed = view.sum(|c| c.steered_out_packets);
    let what = format!(
        "{} handed between workers, {} found the ring full since the dataplane started",
        counted(handed, "packet"),
        counted(full, "packet")
    );
    if full == 0 {
        return check("resteer-rings", CheckState::Ok, what, "");
    }
    let mend = "more workers for the lane, dataplane.idle = \"none\", or larger \
                memory.resteer_ring_packets";
    check("resteer-rings", CheckState::Warning, what, mend)
}

fn check_accounting(view: &DataplaneView) -> Check {
    let account = accounting(view);
    if account.balanced {
        return check(
            "accounting",
            CheckState::Ok,
            "every difference is 0".to_owned(),
            "",
        );
    }
    let what = format!(
        "packets {}, flows {}, records {}",
        account.total.packet_difference, account.total.flow_difference, account.records.difference
    );
    check(
        "accounting",
        CheckState::Failed,
        what,
        "run `ringfence verify accounting` and report it",
    )
}

fn check_export((collector, counts): (crate::config::CollectorAddress, ExportCounts)) -> Check {
    let what = format!(
        "{}: {} sent, {} not sent, {}{}",
        collector.address,
        counted(counts.records, "record"),
        counts.not_sent,
        counted(counts.errors, "error"),
        counts
            .last_error
            .map_or_else(String::new, |e| format!(", last: {e}"))
    );
    let bad = counts.not_sent > 0 || counts.errors > 0;
    let state = if bad {
        CheckState::Warning
    } else {
        CheckState::Ok
    };
    check(
        "export",
        state,
        what,
        if bad {
            "look whether the collector listens"
        } else {
            ""
        },
    )
}

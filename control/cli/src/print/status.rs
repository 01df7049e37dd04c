//! One screen: is it running, is the policy in force, what passes, what got lost.

use api::policy::PolicyState;
use api::status::{DataplaneState, WorkerStatus};
use api::{Ports, Status, Ts};

use crate::page::{Page, Tone};
use crate::quantity::{age, bit_rate, bytes, count, counted, packet_rate, revision, span};

/// What the screen shows.
#[derive(Clone, Copy, Debug)]
pub struct Overview<'a> {
    /// State of both processes.
    pub status: &'a Status,
    /// Ports of the dataplane.
    pub ports: &'a Ports,
    /// The time that ages are counted to.
    pub now: Ts,
}

/// The screen.
#[must_use]
pub fn status(overview: Overview<'_>) -> Page {
    let mut page = Page::new();
    dataplane(&mut page, overview);
    control(&mut page, overview);
    policy(&mut page, overview);
    page.gap();
    lanes(&mut page, overview.ports);
    page.gap();
    traffic(&mut page, overview.status);
    workers(&mut page, &overview.status.dataplane.workers);
    page.gap();
    losses(&mut page, overview);
    page
}

fn dataplane(page: &mut Page, Overview { status, now, .. }: Overview<'_>) {
    let dataplane = &status.dataplane;
    let started = |word: &str| {
        let since = dataplane
            .started_ts
            .map(|ts| span(now.0.saturating_sub(ts.0)));
        let pid = dataplane
            .pid
            .map_or_else(String::new, |pid| format!(", pid {pid}"));
        format!(
            "{word}{}{pid}, {}",
            since.map_or_else(String::new, |since| format!(" for {since}")),
            counted(dataplane.workers.len() as u64, "worker")
        )
    };
    let error = dataplane
        .error
        .as_deref()
        .map_or_else(String::new, |error| format!(": {error}"));
    match dataplane.state {
        DataplaneState::Running => page.field(Tone::Good, "dataplane", started("running")),
        DataplaneState::Finished => page.field(
            Tone::Warning,
            "dataplane",
            started("finished, every record collected; ran"),
        ),
        state @ (DataplaneState::Disconnected | DataplaneState::Incompatible) => page.field(
            Tone::Bad,
            "dataplane",
            format!("{state}{error}; socket {}", dataplane.socket),
        ),
    };
}

fn control(page: &mut Page, Overview { status, now, .. }: Overview<'_>) {
    let control = &status.control;
    let metrics = control
        .metrics
        .as_deref()
        .map_or_else(String::new, |address| format!(", metrics at {address}"));
    page.field(
        Tone::Good,
        "control",
        format!(
            "running for {}, pid {}, release {}{metrics}",
            span(now.0.saturating_sub(control.started_ts.0)),
            control.pid,
            control.release
        ),
    );
}

fn policy(page: &mut Page, Overview { status, now, .. }: Overview<'_>) {
    let policy = &status.policy;
    if policy.state == PolicyState::None {
        page.field(
            Tone::Warning,
            "policy",
            "none yet: everything follows the exception policy; `ringfence policy apply FILE`",
        );
        return;
    }
    if let Some(text) = unadopted(status) {
        page.field(Tone::Bad, "policy", text);
        return;
    }
    let adoption = policy
        .adoption_us
        .map_or_else(String::new, |us| format!(" in {}", span(us * 1_000)));
    let tone = if policy.state == PolicyState::Adopted {
        Tone::Good
    } else {
        Tone::Warning
    };
    let [observe, test, enforce] = policy.segments_by_mode;
    page.field(
        tone,
        "policy",
        format!(
            "{} {}{adoption}, revision {}, epoch {}, {}",
            policy.state,
            age(policy.adopted_ts, now),
            revision(&policy.revision),
            policy.epoch,
            policy.file_name
        ),
    );
    if let Some(waiting) = &policy.unconfirmed {
        page.field(Tone::Warning, "unconfirmed", super::life::waits(waiting));
    }
    page.field(
        Tone::Plain,
        "segments",
        format!("{observe} in observe, {test} in test, {enforce} in enforce"),
    );
}

/// What the cores hold, where that is not the policy that is stored.
fn unadopted(status: &Status) -> Option<String> {
    let (policy, dataplane) = (&status.policy, &status.dataplane);
    let mut held: Vec<u64> = dataplane.workers.iter().map(|w| w.policy_epoch).collect();
    held.sort_unstable();
    held.dedup();
    let same = held.is_empty() || held == [policy.epoch];
    let running = dataplane.state == DataplaneState::Running;
    if same || !running || policy.state == PolicyState::Adopted {
        return None;
    }
    let enforced = if held == [0] {
        "NONE ENFORCED, every packet follows no_policy".to_owned()
    } else {
        let epochs: Vec<String> = held.iter().map(u64::to_string).collect();
        let noun = if held.len() == 1 { "epoch" } else { "epochs" };
        let none = if held.contains(&0) { " (0: none)" } else { "" };
        format!("{noun} {} enforced{none}", epochs.join(", "))
    };
    Some(format!(
        "{enforced}; revision {} (epoch {}) {}, not adopted; see `ringfence doctor`",
        revision(&policy.revision),
        policy.epoch,
        policy.state
    ))
}

fn lanes(page: &mut Page, ports: &Ports) {
    if ports.ports.is_empty() {
        page.field(Tone::Warning, "lanes", "none known");
    }
    let mut indices: Vec<u32> = ports.ports.iter().map(|port| port.lane).collect();
    indices.dedup();
    for lane in indices {
        let members = ports.ports.iter().filter(|port| port.lane == lane);
        let down = members.clone().any(|port| !port.link_up);
        let text: Vec<String> = members
            .map(|port| {
                let link = if port.link_up { "up" } else { "DOWN" };
                format!("{} {} {link}", port.role, port.name)
            })
            .collect();
        let tone = if down { Tone::Bad } else { Tone::Plain };
        page.field(tone, &format!("lane {lane}"), text.join(" <-> "));
    }
}

fn traffic(page: &mut Page, status: &Status) {
    let traffic = &status.traffic;
    page.field(
        Tone::Plain,
        "rate",
        format!(
            "{}, {} (received, last 10 s)",
            packet_rate(traffic.rx_packets_per_s),
            bit_rate(traffic.rx_bits_per_s)
        ),
    );
    page.field(
        Tone::Plain,
        "packets",
        format!(
            "{} received ({}), {} transmitted, {} mirrored, {} dropped",
            count(traffic.rx_packets),
            bytes(traffic.rx_bytes),
            count(traffic.tx_packets),
            count(traffic.mirror_packets),
            count(traffic.dropped_packets)
        ),
    );
    let tone = if traffic.would_deny_packets > 0 {
        Tone::Warning
    } else {
        Tone::Plain
    };
    page.field(
        tone,
        "would deny",
        format!(
            "{} once everything in test is enforced; {} covered by no rule",
            counted(traffic.would_deny_packets, "packet"),
            count(traffic.uncovered_packets)
        ),
    );
    let max: u64 = status
        .dataplane
        .workers
        .iter()
        .map(|worker| worker.flows_max)
        .sum();
    page.field(
        Tone::Plain,
        "flows",
        format!(
            "{} in the cache of {} ({}); {} kept of {}",
            count(traffic.flows_cached),
            count(max),
            percent(traffic.flows_cached, max),
            count(status.flows.kept),
            count(status.flows.kept_max)
        ),
    );
}

fn workers(page: &mut Page, workers: &[WorkerStatus]) {
    for worker in workers {
        page.field(
            Tone::Plain,
            &format!("worker {}", worker.worker),
            format!(
                "{} received{}, idle {}, table {}, ring {}, epoch {}",
                count(worker.rx_packets),
                steered(worker),
                percent(worker.idle_permille, 1_000),
                percent(worker.flows_cached, worker.flows_max),
                percent(worker.ring_waiting, worker.ring_max),
                worker.policy_epoch
            ),
        );
    }
}

/// What a worker of a shared lane handed on or took over; nothing for any other.
fn steered(worker: &WorkerStatus) -> String {
    match (worker.steered_out_packets, worker.steered_in_packets) {
        (0, 0) => String::new(),
        (out, 0) => format!(", {} handed over", count(out)),
        (0, taken) => format!(", {} taken over", count(taken)),
        (out, taken) => format!(", {} handed over, {} taken over", count(out), count(taken)),
    }
}

/// Share of a whole, rounded down: 99.9 % is never shown as 100 %.
fn percent(part: u64, whole: u64) -> String {
    match (u128::from(part) * 1_000).checked_div(u128::from(whole)) {
        Some(permille) => format!("{}.{} %", permille / 10, permille % 10),
        None => "-".to_owned(),
    }
}

fn losses(page: &mut Page, Overview { status, ports, .. }: Overview<'_>) {
    let mut lost = Vec::new();
    let mut note = |number: u64, noun: &str, where_to: &str| {
        if number > 0 {
            lost.push(format!("{} {where_to}", counted(number, noun)));
        }
    };
    for port in &ports.ports {
        let missed = port.rx_missed + port.rx_no_buffer;
        note(missed, "packet", &format!("missed at {}", port.name));
        note(
            port.rx_errors,
            "damaged packet",
            &format!("received at {}", port.name),
        );
        note(
            port.tx_errors,
            "packet",
            &format!("not sent at {}", port.name),
        );
    }
    note(status.flows.shed, "record", "shed by full record rings");
    note(
        status.flows.oldest_out,
        "kept flow",
        "given up for newer ones",
    );
    note(
        status.flows.follow_shed,
        "flow",
        "not sent to slow followers",
    );
    for export in &status.export {
        note(
            export.not_sent,
            "record",
            &format!("not sent to {}", export.collector),
        );
        note(
            export.errors,
            "error",
            &format!("sending to {}", export.collector),
        );
    }
    if lost.is_empty() {
        page.field(Tone::Good, "losses", "none");
    }
    for line in lost {
        page.field(Tone::Warning, "losses", line);
    }
    for export in &status.export {
        page.field(
            Tone::Plain,
            "export",
            format!(
                "{} to {} in {}",
                counted(export.records, "record"),
                export.collector,
                counted(export.messages, "message")
            ),
        );
        if let Some(error) = &export.last_error {
            page.field(Tone::Warning, "", format!("last error: {error}"));
        }
    }
}

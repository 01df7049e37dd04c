//! Policy: places in a file, revisions, and what a policy names.

use std::time::Duration;

use api::ErrorDetail;
use api::policy::{
    ApplyResult, CheckResult, Outcome, PolicyCounts, PolicyInForce, PolicyLog, PolicyLogEntry,
    PolicyState, Revision, Rules, Segments, Workloads,
};
use api::words::Mode;

use super::life::waits;
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count, counted, revision as short, span};
use crate::settle::Settled;
use api::Ts;

/// Places as a compiler shows them: `FILE:LINE:COLUMN: error: what`, then how to mend it.
#[must_use]
pub fn details(details: &[ErrorDetail], kind: &str) -> Page {
    let tone = if kind == "error" {
        Tone::Bad
    } else {
        Tone::Warning
    };
    let mut page = Page::new();
    for detail in details {
        let mut place = detail.file.clone();
        for number in [detail.line, detail.column]
            .into_iter()
            .take_while(|number| *number > 0)
        {
            place.push_str(&format!(":{number}"));
        }
        let colon = if place.is_empty() { "" } else { ": " };
        page.line(tone, format!("{place}{colon}{kind}: {}", detail.what));
        if !detail.mend.is_empty() {
            page.line(Tone::Plain, format!("    {}", detail.mend));
        }
    }
    page
}

/// A policy that could be applied. What is wrong with it is printed by [`details`].
#[must_use]
pub fn checked(file: &str, result: &CheckResult) -> Page {
    let mut page = Page::new();
    if result.valid {
        let warnings = match result.warnings.len() as u64 {
            0 => String::new(),
            number => format!(", {}", counted(number, "warning")),
        };
        match result.broken_invariants.len() as u64 {
            0 => page.line(Tone::Good, format!("{file} is valid{warnings}")),
            number => {
                let broken = counted(number, "broken invariant");
                page.line(Tone::Bad, format!("{file} is valid{warnings}, {broken}"))
            }
        };
        page.field(Tone::Plain, "revision", short(&result.revision));
        page.field(Tone::Plain, "contents", contents(&result.counts));
    } else {
        let errors = counted(result.errors.len() as u64, "error");
        page.line(Tone::Bad, format!("{file} is not valid: {errors}"));
    }
    page
}

fn contents(counts: &PolicyCounts) -> String {
    format!(
        "{}, {}, {}, {}; {}, image {}",
        counted(counts.workloads, "workload"),
        counted(counts.segments, "segment"),
        counted(counts.services, "service"),
        counted(counts.rules, "rule"),
        match counts.identities {
            1 => "1 identity".to_owned(),
            number => format!("{} identities", count(number)),
        },
        bytes(counts.image_bytes)
    )
}

/// A policy that has just come into force.
#[must_use]
pub fn applied(what: &str, result: &ApplyResult) -> Page {
    let mut page = Page::new();
    page.line(Tone::Good, format!("{what} is in force"));
    page.field(Tone::Plain, "revision", short(&result.revision));
    let previous = result.previous_revision.as_ref();
    if let Some(previous) = previous.filter(|previous| **previous != result.revision) {
        page.field(
            Tone::Plain,
            "before",
            format!(
                "{} (`ringfence policy rollback` returns to it)",
                short(previous)
            ),
        );
    }
    page.field(Tone::Plain, "epoch", result.epoch.to_string());
    let kept = if result.memberships_only {
        "; only memberships had changed, rules were kept"
    } else {
        ""
    };
    let compiled = format!("in {}{kept}", span(result.compile_us * 1_000));
    page.field(Tone::Plain, "compiled", compiled);
    let prepared = span(result.preparation_us * 1_000);
    let checked = format!("by the dataplane and kept for its next start in {prepared}");
    page.field(Tone::Plain, "checked", checked);
    page.field(
        Tone::Plain,
        "adopted",
        format!(
            "by {}, {} after it was published",
            counted(u64::from(result.workers), "worker"),
            span(result.adoption_us * 1_000)
        ),
    );
    if result.enforcement_us > 0 {
        let enforced = span(result.enforcement_us * 1_000);
        page.field(
            Tone::Plain,
            "enforced",
            format!("{enforced} after it was asked for"),
        );
    }
    page.field(Tone::Plain, "contents", contents(&result.counts));
    if let Some(waiting) = &result.unconfirmed {
        page.field(Tone::Warning, "unconfirmed", waits(waiting));
    }
    page
}

/// What a change did to the flows that were live.
#[must_use]
pub fn settled(settled: &Settled) -> Page {
    let mut page = Page::new();
    let (live, waited) = (counted(settled.live, "flow"), nanos(settled.waited));
    let later = match settled.live.saturating_sub(settled.rejudged) {
        0 => String::new(),
        rest => format!("; {} at the next packet", count(rest)),
    };
    let changed = match (settled.changed, settled.killed) {
        (0, 0) => "no verdict changed".to_owned(),
        (changed, 0) => format!("{} changed", counted(changed, "verdict")),
        (changed, killed) => format!(
            "{} changed, {} ended (on_change = \"kill\")",
            counted(changed, "verdict"),
            counted(killed, "flow")
        ),
    };
    let text = match (settled.live, settled.rejudged) {
        (0, 0) => "none, so nothing changed".to_owned(),
        (1, 0) => "1 live flow was idle; it is judged at its next packet".to_owned(),
        (live, 0) => format!(
            "{} were idle; each is judged at its next packet",
            counted(live, "live flow")
        ),
        (_, rejudged) => format!(
            "{} of {live} judged again within {waited}: {changed}{later}",
            count(rejudged)
        ),
    };
    page.field(Tone::Plain, "live flows", text);
    let superseded = match settled.superseded_packets {
        0 => format!("no packet passed under the verdict before, within {waited}"),
        packets => format!(
            "{} passed under the verdict before, within {waited}",
            counted(packets, "packet")
        ),
    };
    page.field(Tone::Plain, "superseded", superseded);
    page
}

fn nanos(time: Duration) -> String {
    span(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The policy in force with its text.
#[must_use]
pub fn policy_in_force(policy: &PolicyInForce) -> Page {
    let mut page = Page::new();
    if policy.state == PolicyState::None {
        page.line(
            Tone::Warning,
            "no policy has been applied yet; `ringfence policy apply FILE`",
        );
        return page;
    }
    page.field(Tone::Plain, "revision", &policy.revision);
    page.field(Tone::Plain, "epoch", policy.epoch.to_string());
    let tone = if policy.state == PolicyState::Adopted {
        Tone::Good
    } else {
        Tone::Warning
    };
    let adopted = policy
        .adopted_ts
        .map_or_else(String::new, |ts| format!(" {} UTC", clock(ts)));
    let adoption = policy
        .adoption_us
        .map_or_else(String::new, |us| format!(", in {}", span(us * 1_000)));
    page.field(
        tone,
        "state",
        format!("{}{adopted}{adoption}", policy.state),
    );
    if let Some(refused) = &policy.refused {
        page.field(Tone::Bad, "refused", refused);
    }
    if let Some(waiting) = &policy.unconfirmed {
        page.field(Tone::Warning, "unconfirmed", waits(waiting));
    }
    page.field(Tone::Plain, "file", &policy.file_name);
    page.field(Tone::Plain, "author", &policy.author);
    page.field(Tone::Plain, "note", &policy.note);
    page.field(Tone::Plain, "contents", contents(&policy.counts));
    page.gap();
    page.text(Tone::Plain, &policy.text);
    page
}

/// An earlier revision.
#[must_use]
pub fn revision(revision: &Revision) -> Page {
    let mut page = Page::new();
    page.field(Tone::Plain, "revision", &revision.revision);
    page.gap();
    page.text(Tone::Plain, &revision.text);
    page
}

/// Every change, newest last.
#[must_use]
pub fn policy_log(log: &PolicyLog) -> Page {
    let mut page = Page::new();
    if log.entries.is_empty() {
        page.line(
            Tone::Faint,
            "no policy has been applied yet; `ringfence policy apply FILE`",
        );
        return page;
    }
    let mut grid = Grid::new(&[
        ("time (UTC)", Align::Left),
        ("change", Align::Left),
        ("revision", Align::Left),
        ("epoch", Align::Right),
        ("outcome", Align::Left),
        ("adopted in", Align::Right),
        ("author", Align::Left),
        ("file", Align::Left),
        ("note", Align::Left),
    ]);
    for entry in &log.entries {
        let tone = match entry.outcome {
            Outcome::Adopted | Outcome::Done => Tone::Plain,
            _ => Tone::Bad,
        };
        let epoch = match entry.epoch {
            0 => String::new(),
            epoch => epoch.to_string(),
        };
        let note = [entry.note.as_str(), entry.message.as_str()];
        grid.row(
            tone,
            vec![
                clock(entry.ts),
                entry.change.to_string(),
                short(&entry.revision).to_owned(),
                epoch,
                entry.outcome.to_string(),
                entry
                    .adoption_us
                    .map_or_else(String::new, |us| span(us * 1_000)),
                who(entry),
                entry.file_name.clone(),
                note.iter()
                    .filter(|part| !part.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join("; "),
            ],
        );
    }
    page.table(grid);
    page
}

/// Who somebody says to be, and the user that the kernel names where that is another.
fn who(entry: &PolicyLogEntry) -> String {
    let Some(peer) = &entry.peer else {
        return entry.author.clone();
    };
    let uid = format!("uid {}", peer.uid);
    let user = if peer.user.is_empty() {
        &uid
    } else {
        &peer.user
    };
    match &*entry.author {
        "" => user.clone(),
        author if author == user => user.clone(),
        author => format!("{author} ({user})"),
    }
}

/// Segments in the order of the policy.
#[must_use]
pub fn segments(segments: &Segments) -> Page {
    let mut page = Page::new();
    if segments.segments.is_empty() {
        page.line(Tone::Faint, "no segments: no policy has been applied yet");
        return page;
    }
    let mut grid = Grid::new(&[
        ("segment", Align::Left),
        ("mode", Align::Left),
        ("workloads", Align::Right),
        ("flows from", Align::Right),
        ("flows to", Align::Right),
        ("denied flows", Align::Right),
        ("members", Align::Left),
    ]);
    for segment in &segments.segments {
        let members = match &segment.select {
            Some(select) => select.clone(),
            None => segment.addresses.join(", "),
        };
        let tone = if segment.mode == Some(Mode::Enforce) {
            Tone::Good
        } else {
            Tone::Plain
        };
        grid.row(
            tone,
            vec![
                segment.name.clone(),
                segment
                    .mode
                    .map_or_else(String::new, |mode| mode.to_string()),
                count(segment.workloads.len() as u64),
                count(segment.flows_from),
                count(segment.flows_to),
                count(segment.denied_flows),
                members,
            ],
        );
    }
    page.table(grid);
    page
}

/// Workloads in the order of the policy.
#[must_use]
pub fn workloads(workloads: &Workloads, now: Ts) -> Page {
    let mut page = Page::new();
    if workloads.workloads.is_empty() {
        page.line(Tone::Faint, "no workloads: the policy in force names none");
        return page;
    }
    let mut grid = Grid::new(&[
        ("workload", Align::Left),
        ("segments", Align::Left),
        ("flows from", Align::Right),
        ("flows to", Align::Right),
        ("last packet", Align::Right),
        ("addresses", Align::Left),
        ("labels", Align::Left),
    ]);
    for workload in &workloads.workloads {
        let labels: Vec<String> = workload
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        grid.row(
            Tone::Plain,
            vec![
                workload.name.clone(),
                workload.segments.join(", "),
                count(workload.flows_from),
                count(workload.flows_to),
                crate::quantity::age(workload.last_ts, now),
                workload.addresses.join(", "),
                labels.join(", "),
            ],
        );
    }
    page.table(grid);
    page
}

/// Rules in the order of the policy, with what they decided.
#[must_use]
pub fn rules(rules: &Rules, now: Ts) -> Page {
    let mut page = Page::new();
    if rules.rules.is_empty() {
        page.line(Tone::Faint, "no rules: the policy in force has none");
        return page;
    }
    let mut grid = Grid::new(&[
        ("rule", Align::Left),
        ("tier", Align::Left),
        ("action", Align::Left),
        ("mode", Align::Left),
        ("hits", Align::Right),
        ("packets", Align::Right),
        ("bytes", Align::Right),
        ("pending hits", Align::Right),
        ("last hit", Align::Right),
    ]);
    for rule in &rules.rules {
        grid.row(
            if rule.hits == 0 && rule.pending_hits == 0 {
                Tone::Faint
            } else {
                Tone::Plain
            },
            vec![
                rule.name.clone(),
                rule.tier.clone(),
                rule.action.to_string(),
                rule.mode.map_or_else(String::new, |mode| mode.to_string()),
                count(rule.hits),
                count(rule.packets),
                bytes(rule.bytes),
                count(rule.pending_hits),
                crate::quantity::age(rule.last_ts, now),
            ],
        );
    }
    page.table(grid);
    if let Some(since) = rules.since {
        page.gap();
        page.line(Tone::Faint, format!("counted since {} UTC", clock(since)));
    }
    page
}

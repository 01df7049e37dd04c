//! How far segments have come, and workloads that are held.

use api::Ts;
use api::label::end_label;
use api::quarantine::{Held, QuarantineResult, Quarantines};
use api::readiness::{SegmentReadiness, Unexpected};

use super::foresight::foresight;
use super::policy::applied;
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{age, bytes, clock, count, span};

fn share(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn seconds(s: u64) -> String {
    span(s.saturating_mul(1_000_000_000))
}

/// Every segment in a line.
#[must_use]
pub fn readiness(segments: &[SegmentReadiness], now: Ts) -> Page {
    let mut page = Page::new();
    if segments.is_empty() {
        page.line(Tone::Faint, "no segments: the policy in force names none");
        return page;
    }
    let mut grid = Grid::new(&[
        ("segment", Align::Left),
        ("mode", Align::Left),
        ("next", Align::Left),
        ("ready", Align::Left),
        ("watched", Align::Right),
        ("flows", Align::Right),
        ("covered", Align::Right),
        ("would deny", Align::Right),
        ("last unexpected", Align::Right),
        ("missing", Align::Left),
    ]);
    for segment in segments {
        let (tone, ready) = match (segment.next, segment.ready) {
            (None, _) => (Tone::Good, ""),
            (Some(_), true) => (Tone::Good, "yes"),
            (Some(_), false) => (Tone::Plain, "no"),
        };
        let last = segment.last_unexpected.as_ref().map(|last| last.last_ts);
        let missing: Vec<&str> = segment
            .lacking
            .iter()
            .map(|lacks| lacks.threshold.trim_start_matches("readiness."))
            .collect();
        grid.row(
            tone,
            vec![
                segment.segment.clone(),
                segment.mode.to_string(),
                segment
                    .next
                    .map_or_else(String::new, |mode| mode.to_string()),
                ready.to_owned(),
                seconds(segment.watched_s),
                count(segment.flows),
                share(segment.coverage_permille()),
                count(segment.would_deny_flows),
                age(last, now),
                missing.join(", "),
            ],
        );
    }
    page.table(grid);
    page
}

/// One segment, with what is missing and what would be denied.
#[must_use]
pub fn segment_readiness(segment: &SegmentReadiness, now: Ts) -> Page {
    let mut page = Page::new();
    let (name, mode) = (&segment.segment, segment.mode);
    match segment.next {
        None => page.line(
            Tone::Good,
            format!("{name} is in {mode}: there is nothing beyond it"),
        ),
        Some(next) if segment.ready => page.line(
            Tone::Good,
            format!("{name} is ready for {next}; `ringfence segments promote {name}`"),
        ),
        Some(next) => page.line(Tone::Warning, format!("{name} is not ready for {next}")),
    };
    let since = segment
        .mode_since_ts
        .map_or_else(String::new, |ts| format!(", since {} UTC", clock(ts)));
    page.field(Tone::Plain, "mode", format!("{mode}{since}"));
    let watched = seconds(segment.watched_s);
    page.field(Tone::Plain, "watched", format!("{watched} in {mode}"));
    page.field(
        Tone::Plain,
        "covered",
        format!(
            "{} of {} flows ({})",
            count(segment.covered_flows),
            count(segment.flows),
            share(segment.coverage_permille())
        ),
    );
    page.field(
        Tone::Plain,
        "would deny",
        match segment.would_deny_flows {
            0 => "nothing, were it in enforce".to_owned(),
            flows => format!("{} flows, were it in enforce", count(flows)),
        },
    );
    if let Some(last) = &segment.last_unexpected {
        let [src, dst] = ends(last);
        let when = age(Some(last.last_ts), now);
        let text = format!("{when}, {src} > {dst} {}", last.service);
        page.field(Tone::Plain, "last", text);
    }
    for lacks in &segment.lacking {
        let text = format!("{} ({}); {}", lacks.what, lacks.threshold, lacks.mend);
        page.field(Tone::Warning, "missing", text);
    }
    if !segment.conversations.is_empty() {
        page.gap();
        page.line(Tone::Plain, "would be denied, the most flows first:");
        page.table(unexpected(&segment.conversations, now));
    }
    page
}

fn unexpected(conversations: &[Unexpected], now: Ts) -> Grid {
    let mut grid = Grid::new(&[
        ("source", Align::Left),
        ("destination", Align::Left),
        ("service", Align::Left),
        ("flows", Align::Right),
        ("bytes", Align::Right),
        ("last packet", Align::Right),
        ("why", Align::Left),
    ]);
    for one in conversations {
        let [src, dst] = ends(one);
        grid.row(
            Tone::Plain,
            vec![
                src,
                dst,
                one.service.clone(),
                count(one.flows),
                bytes(one.bytes),
                age(Some(one.last_ts), now),
                one.rule
                    .clone()
                    .unwrap_or_else(|| "no rule allows it".to_owned()),
            ],
        );
    }
    grid
}

fn ends(one: &Unexpected) -> [String; 2] {
    [(&one.src_name, one.src), (&one.dst_name, one.dst)]
        .map(|(name, address)| end_label(name.as_deref(), address))
}

fn allowed(held: &Held) -> String {
    let with = held
        .to
        .as_ref()
        .map_or_else(String::new, |to| format!(", with {to} only"));
    match &held.allow[..] {
        [] => "nothing".to_owned(),
        allow => format!("{}{with}", allow.join(", ")),
    }
}

/// A workload that is held, or the policy that would hold it.
#[must_use]
pub fn quarantined(result: &QuarantineResult) -> Page {
    let held = &result.held;
    let Some(in_force) = &result.applied else {
        let mut page = Page::new();
        page.text(Tone::Plain, &result.text);
        return page;
    };
    let mut page = Page::new();
    let until = clock(held.until_ts);
    page.line(
        Tone::Good,
        format!("{} is held until {until} UTC", held.workload),
    );
    page.field(Tone::Plain, "addresses", result.addresses.join(", "));
    page.field(Tone::Plain, "as before", allowed(held));
    page.field(
        Tone::Plain,
        "let go",
        format!(
            "by itself then; `ringfence quarantine lift {}` before",
            held.workload
        ),
    );
    page.gap();
    page.append(quarantine_foresight(result));
    page.gap();
    page.append(applied("the policy that holds it", in_force));
    page
}

/// What of recent history a quarantine cuts, or would cut.
#[must_use]
pub fn quarantine_foresight(result: &QuarantineResult) -> Page {
    let mut page = Page::new();
    let cuts = match &result.applied {
        Some(_) => "cuts",
        None => "would cut",
    };
    foresight(&mut page, &result.foresight, cuts);
    page
}

/// Who is held.
#[must_use]
pub fn quarantines(list: &Quarantines, now: Ts) -> Page {
    let mut page = Page::new();
    if list.held.is_empty() {
        page.line(Tone::Faint, "no workload is in quarantine");
        return page;
    }
    let mut grid = Grid::new(&[
        ("workload", Align::Left),
        ("until (UTC)", Align::Left),
        ("left", Align::Right),
        ("as before", Align::Left),
        ("author", Align::Left),
        ("note", Align::Left),
    ]);
    for held in &list.held {
        grid.row(
            Tone::Plain,
            vec![
                held.workload.clone(),
                clock(held.until_ts),
                seconds(held.until_ts.0.saturating_sub(now.0) / 1_000_000_000),
                allowed(held),
                held.author.clone(),
                held.note.clone(),
            ],
        );
    }
    page.table(grid);
    page
}

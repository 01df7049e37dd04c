//! The policy's life: what waits for its confirmation, and whether the log is whole.

use api::life::{Confirmed, LogVerification, Unconfirmed};

use crate::page::{Page, Tone};
use crate::quantity::{clock, count, counted, revision as short, span};

/// What comes back and when, in one line.
pub(super) fn waits(waiting: &Unconfirmed) -> String {
    let error = waiting
        .error
        .as_deref()
        .map_or_else(String::new, |error| format!("; not yet reverted: {error}"));
    if waiting.left_s == 0 {
        let before = short(&waiting.fallback_revision);
        return format!("its time is over: {before} comes back{error}");
    }
    format!(
        "waits {} more, until {} UTC: then {} comes back; `ringfence policy confirm` keeps it{error}",
        span(waiting.left_s.saturating_mul(1_000_000_000)),
        clock(waiting.due_ts),
        short(&waiting.fallback_revision),
    )
}

/// A policy that stays.
#[must_use]
pub fn confirmed(confirmed: &Confirmed) -> Page {
    let mut page = Page::new();
    let revision = short(&confirmed.revision);
    page.line(
        Tone::Good,
        format!("revision {revision} is confirmed and stays in force"),
    );
    page.field(
        Tone::Plain,
        "before",
        format!(
            "{} would have come back in {} (`ringfence policy rollback` still returns to it)",
            short(&confirmed.fallback_revision),
            span(confirmed.left_s.saturating_mul(1_000_000_000)),
        ),
    );
    page
}

/// Whether the log is what was written.
#[must_use]
pub fn verification(found: &LogVerification) -> Page {
    let mut page = Page::new();
    let entries = match found.entries {
        1 => "1 entry".to_owned(),
        entries => format!("{} entries", count(entries)),
    };
    match &found.broken {
        None => page.line(Tone::Good, format!("the log is intact: {entries}")),
        Some(broken) => {
            let number = broken
                .seq
                .filter(|seq| *seq > 0)
                .map_or_else(String::new, |seq| format!(", entry {seq}"));
            let change = broken.change.map_or_else(String::new, |c| format!(" {c}"));
            let time = broken
                .ts
                .map_or_else(String::new, |ts| format!(" of {} UTC", clock(ts)));
            let said = format!("line {}{number}{change}{time}", broken.line);
            page.line(
                Tone::Bad,
                format!("the log is broken at {said}: it {}", broken.what),
            );
            page.field(Tone::Plain, "before it", format!("{entries} as written"))
        }
    };
    if found.entries_before > 0 {
        let before = counted(found.entries_before, "line");
        page.field(
            Tone::Plain,
            "taken over",
            format!("{before} of earlier releases, held as a whole"),
        );
    }
    if !found.head.is_empty() {
        page.field(Tone::Plain, "head", &found.head);
    }
    if !found.head_kept {
        page.field(
            Tone::Warning,
            "kept head",
            "log.head cannot be read: entries that were cut from the end would not be missed",
        );
    }
    page
}

//! What a suggestion says.

use super::simulate::period;
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count, counted, revision as short, span, tenths};
use api::suggest::{Evidence, Lack, LeftOut, LeftOutWhy, NewSegment, Suggestion, Watched};
use std::path::Path;

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;
/// Addresses of a segment that a line lists.
const ADDRESSES_TOLD_MAX: usize = 4;

/// A whole suggestion; `out` is where its text was written.
#[must_use]
pub fn suggestion(found: &Suggestion, out: Option<&Path>) -> Page {
    let mut page = Page::new();
    let own = match found.revision.as_str() {
        "" => "no policy yet".to_owned(),
        revision => format!("{}, revision {}", found.file_name, short(revision)),
    };
    page.line(Tone::Heading, own);
    period(&mut page, &found.period);
    let share = tenths(found.covered_flows.into(), 100, found.flows);
    page.field(
        Tone::Plain,
        "covered",
        format!(
            "{} of {} ({share} %) by rules that are there",
            count(found.covered_flows),
            counted(found.flows, "flow"),
        ),
    );
    watched(&mut page, &found.watched);
    segments(&mut page, &found.segments);
    rules(&mut page, found);
    left_out(&mut page, &found.left_out);
    page.gap();
    conclusion(&mut page, found, out);
    page
}

fn watched(page: &mut Page, watched: &Watched) {
    let new = tenths(watched.new_edges.into(), 100, watched.edges);
    page.field(
        Tone::Plain,
        "watched",
        format!(
            "{}, {} of 24 hours, {} of 7 weekdays; {} of {} ({new} %) new in the last tenth",
            match watched.length_s {
                0 => "less than 1 s".to_owned(),
                length_s => span(length_s.saturating_mul(SECOND_NS)),
            },
            watched.hours,
            watched.weekdays,
            count(watched.new_edges),
            counted(watched.edges, "edge"),
        ),
    );
    let lacks: Vec<&str> = watched.lacks.iter().map(|lack| sentence(*lack)).collect();
    if lacks.is_empty() {
        page.field(
            Tone::Good,
            "enough",
            "yes: a week with all its hours, and hardly anything new",
        );
    } else {
        page.field(Tone::Warning, "enough", format!("no: {}", lacks.join(", ")));
    }
}

const fn sentence(lack: Lack) -> &'static str {
    match lack {
        Lack::Days => "less than a week",
        Lack::Weekdays => "not every day of the week",
        Lack::Hours => "not every hour of the day",
        Lack::StillLearning => "new edges still come",
    }
}

fn segments(page: &mut Page, segments: &[NewSegment]) {
    if segments.is_empty() {
        return;
    }
    let mut grid = Grid::new(&[
        ("new segment", Align::Left),
        ("mode", Align::Left),
        ("seen", Align::Right),
        ("members", Align::Left),
        ("why", Align::Left),
    ]);
    for segment in segments {
        let members = segment
            .select
            .clone()
            .unwrap_or_else(|| addresses(&segment.addresses));
        grid.row(
            Tone::Plain,
            vec![
                segment.name.clone(),
                segment.mode.to_string(),
                count(segment.seen),
                members,
                segment.why.clone(),
            ],
        );
    }
    page.gap();
    page.table(grid);
}

fn addresses(addresses: &[String]) -> String {
    let told = addresses.get(..ADDRESSES_TOLD_MAX).unwrap_or(addresses);
    let more = match addresses.len().saturating_sub(ADDRESSES_TOLD_MAX) {
        0 => String::new(),
        more => format!(" and {} more", count(more as u64)),
    };
    format!("{}{more}", told.join(", "))
}

fn direction(evidence: &Evidence) -> String {
    match evidence.sure_flows {
        sure if sure >= evidence.flows => "sure".to_owned(),
        0 => "guessed".to_owned(),
        sure => format!("{} % sure", tenths(sure.into(), 100, evidence.flows)),
    }
}

fn rules(page: &mut Page, found: &Suggestion) {
    if found.rules.is_empty() {
        return;
    }
    let mut grid = Grid::new(&[
        ("new rule", Align::Left),
        ("from", Align::Left),
        ("to", Align::Left),
        ("service", Align::Left),
        ("flows", Align::Right),
        ("bytes", Align::Right),
        ("ends", Align::Right),
        ("direction", Align::Left),
        ("first seen (UTC)", Align::Left),
        ("last seen (UTC)", Align::Left),
    ]);
    for rule in &found.rules {
        let new = found.services.iter().find(|s| s.name == rule.service);
        let service = match new {
            Some(new) => format!("{} ({})", rule.service, new.ports.join(", ")),
            None => rule.service.clone(),
        };
        let Evidence {
            sources,
            destinations,
            ..
        } = rule.evidence;
        grid.row(
            Tone::Plain,
            vec![
                rule.name.clone(),
                rule.from.clone(),
                rule.to.join(", "),
                service,
                count(rule.evidence.flows),
                bytes(rule.evidence.bytes),
                format!("{} -> {}", count(sources), count(destinations)),
                direction(&rule.evidence),
                clock(rule.evidence.first_ts),
                clock(rule.evidence.last_ts),
            ],
        );
    }
    page.gap();
    page.table(grid);
}

fn left_out(page: &mut Page, left_out: &[LeftOut]) {
    if left_out.is_empty() {
        return;
    }
    let mut grid = Grid::new(&[
        ("left out", Align::Left),
        ("source", Align::Left),
        ("asked", Align::Right),
        ("flows", Align::Right),
        ("for example", Align::Left),
        ("why", Align::Left),
    ]);
    for left in left_out {
        let (tone, why) = match left.why {
            LeftOutWhy::Scan => (Tone::Warning, "many destinations or services, in vain"),
            LeftOutWhy::Unanswered => (Tone::Plain, "nothing answered"),
            LeftOutWhy::Outside => (
                Tone::Faint,
                "both ends are outside; nothing can be enforced",
            ),
        };
        grid.row(
            tone,
            vec![
                left.why.to_string(),
                left.src.to_string(),
                count(left.asked),
                count(left.evidence.flows),
                format!("{} {}", left.example_dst, left.example_service),
                why.to_owned(),
            ],
        );
    }
    page.gap();
    page.table(grid);
}

fn conclusion(page: &mut Page, found: &Suggestion, out: Option<&Path>) {
    if found.rules.is_empty() {
        page.line(
            Tone::Good,
            "nothing to propose: every flow is covered by a rule, or left out above",
        );
        return;
    }
    let what = format!(
        "{}, {} and {} proposed",
        counted(found.segments.len() as u64, "segment"),
        counted(found.services.len() as u64, "service"),
        counted(found.rules.len() as u64, "rule"),
    );
    let next = match out {
        Some(out) => format!(
            "{what}; next: ringfence policy simulate {} --enforce",
            out.display()
        ),
        None => format!("{what}; --out FILE writes the policy, --json has it too"),
    };
    page.line(Tone::Plain, next);
}

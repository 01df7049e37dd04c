//! Why a flow would pass or not.

use api::explain::{EndNamed, FlowExplain};
use api::reach::View;
use api::turning::{Turning, TurningChange};
use api::words::Coverage;
use api::{Explain, Ts};

use super::flows::{authority, flows};
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{clock, count, revision, span};

/// Rows of what a change opens and closes that are shown.
const REACH_SHOWN_MAX: usize = 4;

/// The sentence, the ends, the verdicts, the rules that matched, what turns it, and what was seen.
#[must_use]
pub fn explain(explain: &Explain, now: Ts) -> Page {
    let mut page = Page::new();
    if let Some(at) = explain.at {
        page.line(Tone::Faint, format!("at {} UTC:", clock(at)));
    }
    said(&mut page, explain);
    if explain.at.is_some() {
        let now = (explain.now.as_deref(), explain.now_unknown.as_deref());
        now_beside(&mut page, Some(explain), now);
    }
    page.gap();
    if explain.observed.is_empty() {
        page.line(Tone::Faint, "no such flow was seen lately");
    } else {
        page.line(Tone::Plain, "seen lately:");
        page.text(Tone::Plain, &flows(&explain.observed, now).render(false));
    }
    page
}

/// A flow that was seen: what became of it, why, and what would become of it now.
#[must_use]
pub fn explain_flow(explained: &FlowExplain, now: Ts) -> Page {
    let flow = &explained.flow;
    let mut page = Page::new();
    let records = match explained.records {
        1 => "1 record".to_owned(),
        more => format!("{} records", count(more)),
    };
    let ended = if explained.ended { "ended" } else { "goes on" };
    page.line(
        Tone::Plain,
        format!("flow {}: {records}, {ended}", flow.flow_id),
    );
    page.text(
        Tone::Plain,
        &flows(std::slice::from_ref(flow), now).render(false),
    );
    page.gap();
    page.field(
        Tone::Plain,
        "seen",
        format!(
            "{} UTC to {}",
            clock(explained.first_ts),
            clock(flow.last_ts)
        ),
    );
    let rule = authority(flow.rule.as_deref(), flow.verdict_source);
    let lasts = span(now.0.saturating_sub(explained.verdict_since.0));
    page.field(
        tone(flow.verdict.permits()),
        "verdict",
        format!(
            "{}, by {rule}, since {} UTC ({lasts} ago)",
            flow.verdict,
            clock(explained.verdict_since)
        ),
    );
    page.gap();
    page.line(
        Tone::Heading,
        format!("the policy that judged it, epoch {}:", flow.epoch),
    );
    part(
        &mut page,
        explained.then.as_ref(),
        explained.then_unknown.as_deref(),
    );
    let now = (explained.now.as_ref(), explained.now_unknown.as_deref());
    now_beside(&mut page, explained.then.as_ref(), now);
    page
}

/// What the policy in force says of what another said.
fn now_beside(page: &mut Page, then: Option<&Explain>, now: (Option<&Explain>, Option<&str>)) {
    page.gap();
    match (then, now.0) {
        (Some(then), Some(now)) if is_same(then, now) => {
            page.line(Tone::Plain, "the policy in force says the same");
            turnings(page, now);
        }
        _ => {
            page.line(Tone::Heading, "the policy in force:");
            part(page, now.0, now.1);
        }
    }
}

/// Whether two answers say the same of the flow and its ends.
fn is_same(one: &Explain, other: &Explain) -> bool {
    let said = |e: &Explain| {
        (
            e.verdict,
            e.rule.clone(),
            e.pending_verdict,
            e.src.clone(),
            e.dst.clone(),
        )
    };
    said(one) == said(other)
}

fn part(page: &mut Page, explain: Option<&Explain>, unknown: Option<&str>) {
    match (explain, unknown) {
        (Some(explain), _) => said(page, explain),
        (None, why) => {
            page.line(
                Tone::Warning,
                format!("not known: {}", why.unwrap_or("no answer")),
            );
        }
    }
}

const fn tone(permits: bool) -> Tone {
    if permits { Tone::Good } else { Tone::Bad }
}

/// The sentence, the ends, the verdicts and the rules that matched.
fn said(page: &mut Page, explain: &Explain) {
    page.line(tone(explain.verdict.permits()), &explain.sentence);
    page.gap();
    page.field(Tone::Plain, "from", end(&explain.src));
    page.field(Tone::Plain, "to", end(&explain.dst));
    page.field(Tone::Plain, "service", service(explain));
    page.field(
        tone(explain.verdict.permits()),
        "verdict",
        format!(
            "{}, by {}",
            explain.verdict,
            authority(explain.rule.as_deref(), explain.verdict_source)
        ),
    );
    if (explain.verdict, &explain.rule) != (explain.pending_verdict, &explain.pending_rule) {
        let rule = authority(explain.pending_rule.as_deref(), explain.pending_source);
        let text = format!(
            "{}, by {rule}, once everything in test is enforced",
            explain.pending_verdict
        );
        page.field(Tone::Warning, "pending", text);
    }
    let coverage = match explain.coverage {
        Coverage::Rule => "covered by a rule",
        Coverage::Uncovered => "covered by no rule",
    };
    page.field(
        Tone::Plain,
        "mode",
        format!("{} (the stricter end), {coverage}", explain.mode),
    );
    let since = explain
        .since
        .map_or_else(String::new, |ts| format!(", since {} UTC", clock(ts)));
    page.field(
        Tone::Plain,
        "policy",
        format!(
            "revision {}, epoch {}{since}",
            revision(&explain.revision),
            explain.epoch
        ),
    );
    if let Some(why) = &explain.uncertain {
        page.field(Tone::Warning, "uncertain", why);
    }
    rules(page, explain);
    turnings(page, explain);
}

/// The smallest changes that turn the verdict, or keep it.
fn turnings(page: &mut Page, explain: &Explain) {
    for turning in &explain.turnings {
        page.gap();
        let what = if turning.permits { "allow" } else { "deny" };
        let wanted = match turning.view {
            View::Enforced => format!("to {what} it"),
            View::Intended => format!("to go on {what}ing it once everything is enforced"),
        };
        match (&turning.none, turning.changes.len()) {
            (Some(why), _) => {
                page.line(Tone::Heading, format!("{wanted}: {why}"));
            }
            (None, 1) => {
                page.line(Tone::Heading, format!("{wanted}, the smallest change:"));
            }
            (None, _) => {
                page.line(
                    Tone::Heading,
                    format!("{wanted}, the smallest change first:"),
                );
            }
        }
        changes(page, turning);
    }
}

fn changes(page: &mut Page, turning: &Turning) {
    for (at, change) in turning.changes.iter().enumerate() {
        if at > 0 {
            page.line(Tone::Plain, "or");
        }
        for step in &change.steps {
            page.line(Tone::Plain, format!("  {}", step.told));
            for line in step.tables.iter().flat_map(|tables| tables.lines()) {
                page.line(Tone::Plain, format!("      {line}"));
            }
        }
        reach(page, change);
    }
}

/// What else a change does.
fn reach(page: &mut Page, change: &TurningChange) {
    for row in change.reach.iter().take(REACH_SHOWN_MAX) {
        let (from, to) = (row.from.names.join(", "), row.to.names.join(", "));
        let services = row.services.join(", ");
        let line = format!("    {} {from} -> {to}: {services}", row.turn);
        page.line(Tone::Faint, line);
    }
    let hidden = change.reach.len().saturating_sub(REACH_SHOWN_MAX) as u64 + change.reach_untold;
    if hidden > 0 {
        let more = format!("    and {} more", count(hidden));
        page.line(Tone::Faint, more);
    }
}

fn rules(page: &mut Page, explain: &Explain) {
    page.gap();
    if explain.considered.is_empty() {
        page.line(Tone::Faint, "no rule matches");
        return;
    }
    let mut grid = Grid::new(&[
        ("rule", Align::Left),
        ("tier", Align::Left),
        ("action", Align::Left),
        ("why", Align::Left),
    ]);
    for rule in &explain.considered {
        grid.row(
            Tone::Plain,
            vec![
                rule.rule.clone(),
                rule.tier.clone(),
                rule.action.to_string(),
                rule.why.clone(),
            ],
        );
    }
    page.table(grid);
}

fn end(end: &EndNamed) -> String {
    let name = end.name.as_ref().map_or_else(
        || end.address.to_string(),
        |name| format!("{name} ({})", end.address),
    );
    let segments = if end.segments.is_empty() {
        "no segment".into()
    } else {
        end.segments.join(", ")
    };
    let mode = end
        .mode
        .map_or_else(String::new, |mode| format!(" ({mode})"));
    format!("{name} in {segments}{mode}")
}

fn service(explain: &Explain) -> String {
    if explain.services.is_empty() {
        explain.service.clone()
    } else {
        format!("{} ({})", explain.services.join(", "), explain.service)
    }
}

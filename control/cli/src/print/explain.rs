//! Why a flow would pass or not.

use api::explain::{EndNamed, FlowExplain};
use api::words::Coverage;
use api::{Explain, Ts};

use super::flows::{authority, flows};
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{clock, count, revision, span};

/// The sentence, the ends, the verdicts, the rules that matched, and what was seen.
#[must_use]
pub fn explain(explain: &Explain) -> Page {
    let mut page = Page::new();
    if let Some(at) = explain.at {
        page.line(Tone::Faint, format!("at {} UTC:", clock(at)));
    }
    said(&mut page, explain);
    page.gap();
    if explain.observed.is_empty() {
        page.line(Tone::Faint, "no such flow was seen lately");
    } else {
        page.line(Tone::Plain, "seen lately:");
        page.text(Tone::Plain, &flows(&explain.observed).render(false));
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
        &flows(std::slice::from_ref(flow)).render(false),
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
    page.gap();
    let same = match (&explained.then, &explained.now) {
        (Some(then), Some(now)) => is_same(then, now),
        _ => false,
    };
    if same {
        page.line(Tone::Plain, "the policy in force says the same");
    } else {
        page.line(Tone::Heading, "the policy in force:");
        part(
            &mut page,
            explained.now.as_ref(),
            explained.now_unknown.as_deref(),
        );
    }
    page
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

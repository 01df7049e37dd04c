//! Why a flow would pass or not.

use api::Explain;
use api::explain::EndNamed;
use api::words::Coverage;

use super::flows::{authority, flows};
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{clock, revision};

/// The sentence, the ends, the verdicts, the rules that matched, and what was seen.
#[must_use]
pub fn explain(explain: &Explain) -> Page {
    let mut page = Page::new();
    let tone = |permits| if permits { Tone::Good } else { Tone::Bad };
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
    rules(&mut page, explain);
    page.gap();
    if explain.observed.is_empty() {
        page.line(Tone::Faint, "no such flow was seen lately");
    } else {
        page.line(Tone::Plain, "seen lately:");
        page.text(Tone::Plain, &flows(&explain.observed).render(false));
    }
    page
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

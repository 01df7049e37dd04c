//! What a simulation says.

use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count, counted, revision as short, span, tenths};
use api::simulate::{
    Change, Period, SimulatedEdge, SimulatedRule, Simulation, Tally, Totals, Verdict, Verdicts,
};
use api::words::VerdictSource;

/// Names of rules that one line lists.
const NAMES_TOLD_MAX: usize = 12;

/// A whole simulation.
#[must_use]
pub fn simulation(found: &Simulation) -> Page {
    let mut page = Page::new();
    let enforce = if found.enforce {
        ", as if every segment were in enforce"
    } else {
        ""
    };
    page.line(
        Tone::Heading,
        format!(
            "{}, revision {}{enforce}",
            found.file_name,
            short(&found.revision)
        ),
    );
    period(&mut page, &found.period);
    page.field(
        Tone::Plain,
        "seen",
        format!(
            "{} in {} of {}, {}",
            counted(found.all.flows, "flow"),
            counted(found.all.conversations, "conversation"),
            counted(found.edge_count, "edge"),
            bytes(found.all.bytes)
        ),
    );
    page.gap();
    page.table(totals(found));
    changes(&mut page, found);
    doubts(&mut page, found);
    rules(&mut page, &found.rules);
    page.gap();
    verdict_line(&mut page, found);
    page
}

/// Which time was looked at.
pub(super) fn period(page: &mut Page, period: &Period) {
    let found = match (period.first_ts, period.last_ts) {
        (Some(first), Some(last)) => format!(
            "{} to {} UTC, {}",
            clock(first),
            clock(last),
            span(last.0.saturating_sub(first.0))
        ),
        _ => "nothing was seen".to_owned(),
    };
    page.field(Tone::Plain, "period", found);
    if !period.is_whole {
        let since = period.kept_since_ts.map_or_else(
            || "it is empty".to_owned(),
            |ts| format!("it begins at {} UTC", clock(ts)),
        );
        page.field(
            Tone::Warning,
            "history",
            format!("does not reach back as far as was asked for: {since}"),
        );
    }
}

fn totals(found: &Simulation) -> Grid {
    let mut grid = Grid::new(&[
        ("", Align::Left),
        ("flows", Align::Right),
        ("share", Align::Right),
        ("bytes", Align::Right),
        ("flows, tests enforced", Align::Right),
        ("bytes, tests enforced", Align::Right),
    ]);
    let all = found.all.flows;
    type Row = (&'static str, fn(&Totals) -> &Tally, Tone);
    let rows: [Row; 5] = [
        ("stays allowed", |t| &t.stays_allowed, Tone::Plain),
        ("stays denied", |t| &t.stays_denied, Tone::Plain),
        ("newly denied", |t| &t.newly_denied, Tone::Bad),
        ("newly allowed", |t| &t.newly_allowed, Tone::Warning),
        ("uncertain", |t| &t.uncertain, Tone::Warning),
    ];
    for (name, of, tone) in rows {
        let [enforced, pending] = [of(&found.enforced), of(&found.pending)];
        let is_any = enforced.conversations + pending.conversations > 0;
        grid.row(
            if is_any { tone } else { Tone::Plain },
            vec![
                name.to_owned(),
                count(enforced.flows),
                format!("{} %", tenths(enforced.flows.into(), 100, all)),
                bytes(enforced.bytes),
                count(pending.flows),
                bytes(pending.bytes),
            ],
        );
    }
    grid
}

fn changes(page: &mut Page, found: &Simulation) {
    if found.edges.is_empty() {
        return;
    }
    page.gap();
    let mut grid = Grid::new(&[
        ("what", Align::Left),
        ("source", Align::Left),
        ("destination", Align::Left),
        ("service", Align::Left),
        ("flows", Align::Right),
        ("bytes", Align::Right),
        ("was", Align::Left),
        ("would be", Align::Left),
        ("first seen (UTC)", Align::Left),
        ("last seen (UTC)", Align::Left),
    ]);
    for edge in &found.edges {
        let (what, tone) = what(edge);
        let would_be = match &edge.other {
            Some(other) => format!("{} or {}", verdicts(&edge.after), verdicts(other)),
            None => verdicts(&edge.after),
        };
        grid.row(
            tone,
            vec![
                what,
                edge.src.label(),
                if edge.folded {
                    "many".to_owned()
                } else {
                    edge.dst.label()
                },
                edge.service_label(),
                count(edge.tally.flows),
                bytes(edge.tally.bytes),
                verdicts(&edge.before),
                would_be,
                clock(edge.first_ts),
                clock(edge.last_ts),
            ],
        );
    }
    let listed = grid_len(found);
    page.table(grid);
    if found.matched > listed {
        page.line(
            Tone::Faint,
            format!(
                "{} of {}; --limit 0 lists all",
                count(listed),
                counted(found.matched, "edge")
            ),
        );
    }
}

fn grid_len(found: &Simulation) -> u64 {
    found.edges.len() as u64
}

/// What becomes of an edge, in a word or two.
pub(super) fn what(edge: &SimulatedEdge) -> (String, Tone) {
    if let Some(doubt) = edge.doubts.first() {
        return (format!("uncertain: {doubt}"), Tone::Warning);
    }
    match (edge.change, edge.pending_change) {
        (Change::NewlyDenied, _) => ("newly denied".to_owned(), Tone::Bad),
        (Change::NewlyAllowed, _) => ("newly allowed".to_owned(), Tone::Warning),
        (_, Change::NewlyDenied) => ("tests would deny".to_owned(), Tone::Warning),
        (_, Change::NewlyAllowed) => ("tests would allow".to_owned(), Tone::Plain),
        (Change::StaysDenied, _) => ("stays denied".to_owned(), Tone::Plain),
        (Change::StaysAllowed, _) => ("stays allowed".to_owned(), Tone::Plain),
    }
}

fn why(verdict: &Verdict) -> String {
    match (&verdict.rule, verdict.source) {
        (Some(rule), _) => rule.to_string(),
        (None, VerdictSource::Rule) => "several rules".to_owned(),
        (None, source) => source.to_string(),
    }
}

/// `allow by web-to-db`; with the pending view where it differs: `allow by default (deny by no-ssh)`.
pub(super) fn verdicts(verdicts: &Verdicts) -> String {
    let Verdicts { enforced, pending } = verdicts;
    let own = format!("{} by {}", enforced.action, why(enforced));
    if enforced.action == pending.action {
        own
    } else {
        format!("{own} ({} by {})", pending.action, why(pending))
    }
}

fn doubts(page: &mut Page, found: &Simulation) {
    if found.doubts.is_empty() {
        return;
    }
    page.gap();
    for sum in &found.doubts {
        page.line(
            Tone::Plain,
            format!(
                "uncertain: {}, {}: {}",
                sum.doubt,
                counted(sum.tally.flows, "flow"),
                sum.doubt.meaning()
            ),
        );
    }
}

fn rules(page: &mut Page, rules: &[SimulatedRule]) {
    let is_hit =
        |rule: &&SimulatedRule| rule.enforced.conversations + rule.pending.conversations > 0;
    let mut grid = Grid::new(&[
        ("rule", Align::Left),
        ("action", Align::Left),
        ("flows", Align::Right),
        ("bytes", Align::Right),
        ("flows, tests enforced", Align::Right),
        ("sources", Align::Right),
        ("destinations", Align::Right),
        ("first seen (UTC)", Align::Left),
        ("last seen (UTC)", Align::Left),
    ]);
    for rule in rules.iter().filter(is_hit) {
        let time = |ts: Option<api::Ts>| ts.map(clock).unwrap_or_default();
        grid.row(
            Tone::Plain,
            vec![
                rule.rule.to_string(),
                rule.action.to_string(),
                count(rule.enforced.flows),
                bytes(rule.enforced.bytes),
                count(rule.pending.flows),
                count(rule.sources),
                count(rule.destinations),
                time(rule.first_ts),
                time(rule.last_ts),
            ],
        );
    }
    if !grid.is_empty() {
        page.gap();
        page.table(grid);
    }
    let never: Vec<&str> = rules
        .iter()
        .filter(|rule| !is_hit(rule))
        .map(|rule| &*rule.rule)
        .collect();
    if !never.is_empty() {
        let more = match never.len().saturating_sub(NAMES_TOLD_MAX) {
            0 => String::new(),
            more => format!(" and {} more", count(more as u64)),
        };
        let names = never.get(..NAMES_TOLD_MAX).unwrap_or(&never).join(", ");
        page.gap();
        page.line(Tone::Faint, format!("never hit: {names}{more}"));
    }
}

/// The one line that a hurried reader needs.
fn verdict_line(page: &mut Page, found: &Simulation) {
    let denied = found.enforced.newly_denied.flows;
    let conversations = found.enforced.newly_denied.conversations;
    if conversations > 0 {
        page.line(
            Tone::Bad,
            format!("{} would newly be denied", counted(denied, "flow")),
        );
    } else if found.all.conversations == 0 {
        page.line(
            Tone::Warning,
            "nothing was seen in this period, so nothing is shown about the draft",
        );
    } else {
        let uncertain = match found.enforced.uncertain.flows {
            0 => String::new(),
            flows => format!("; of {} that is uncertain", counted(flows, "flow")),
        };
        page.line(
            Tone::Good,
            format!("nothing that is certain would newly be denied{uncertain}"),
        );
    }
}

//! What history answers.

use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count, counted, span};
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Rows, RuleUse, SeriesPoint, Sums,
    Table, TopLine,
};
use api::label::{end_label, service_label};
use api::top::TopBy;
use api::words::Action;
use api::{Flow, Ts};
use std::sync::Arc;

const SUMS: [(&str, Align); 3] = [
    ("flows", Align::Right),
    ("packets", Align::Right),
    ("bytes", Align::Right),
];

fn sums(sums: &Sums) -> [String; 3] {
    [
        count(sums.flows),
        count(sums.packets()),
        bytes(sums.bytes()),
    ]
}

/// A grid with the columns of sums at its end.
fn grid(columns: &[(&'static str, Align)]) -> Grid {
    Grid::new(&[columns, &SUMS].concat())
}

fn row(grid: &mut Grid, tone: Tone, cells: Vec<String>, of: &Sums) {
    grid.row(tone, cells.into_iter().chain(sums(of)).collect());
}

/// The table, what it says where it is empty, and that it was cut.
fn page(grid: Grid, nothing: &str, is_cut: bool) -> Page {
    let mut page = Page::new();
    if grid.is_empty() {
        page.line(Tone::Faint, nothing);
        return page;
    }
    page.table(grid);
    if is_cut {
        page.gap();
        let more = "there is more: --limit 0 shows all of it, --since and --filter narrow it";
        page.line(Tone::Faint, more);
    }
    page
}

const fn tone(denied_flows: u64) -> Tone {
    if denied_flows > 0 {
        Tone::Bad
    } else {
        Tone::Plain
    }
}

fn verdict(enforced: Action, pending: Action) -> String {
    if enforced == pending {
        enforced.to_string()
    } else {
        format!("{enforced} ({pending})")
    }
}

/// State: tiers, losses, files set aside.
#[must_use]
pub fn state(state: &HistoryState) -> Page {
    let mut page = Page::new();
    page.field(Tone::Plain, "engine", &state.engine);
    let kept = format!(
        "{} taken since the start, {} not yet safe",
        counted(state.appended, "flow record"),
        count(state.unflushed)
    );
    page.field(Tone::Plain, "kept", kept);
    for (name, number, what) in [
        ("lost", state.lost, "by processes that were killed"),
        (
            "shed",
            state.shed,
            "because the queue was full or the engine refused",
        ),
        ("spooled", state.spooled, "waiting for a server"),
    ] {
        if number > 0 {
            let line = format!("{} {what}", counted(number, "flow record"));
            page.field(Tone::Warning, name, line);
        }
    }
    if let Some(error) = &state.error {
        page.field(Tone::Bad, "error", error);
    }
    for file in &state.set_aside {
        page.field(
            Tone::Bad,
            "set aside",
            format!("{}: {}", file.file, file.why),
        );
    }
    if state.tiers.is_empty() {
        return page;
    }
    page.gap();
    let mut grid = Grid::new(&[
        ("tier", Align::Left),
        ("rows", Align::Right),
        ("size", Align::Right),
        ("files", Align::Right),
        ("oldest", Align::Left),
        ("newest", Align::Left),
        ("kept for", Align::Right),
        ("at most", Align::Right),
    ]);
    for tier in &state.tiers {
        let cells = vec![
            tier.name.clone(),
            count(tier.rows),
            bytes(tier.bytes),
            count(tier.files),
            tier.oldest_ts.map(clock).unwrap_or_default(),
            tier.newest_ts.map(clock).unwrap_or_default(),
            span(tier.age_max_s.saturating_mul(1_000_000_000)),
            bytes(tier.bytes_max),
        ];
        grid.row(Tone::Plain, cells);
    }
    page.table(grid);
    page
}

/// Flow records, as `ringfence flows` prints them.
#[must_use]
pub fn flows(rows: &Rows<Flow>, now: Ts) -> Page {
    let mut page = super::flows(&rows.rows, now);
    if rows.cut {
        page.gap();
        page.line(Tone::Faint, "these are the newest; --limit 0 shows all");
    }
    page
}

/// Conversations.
#[must_use]
pub fn conversations(rows: &Rows<Conversation>) -> Page {
    let mut grid = grid(&[
        ("interval", Align::Left),
        ("source", Align::Left),
        ("destination", Align::Left),
        ("service", Align::Left),
        ("verdict", Align::Left),
        ("why", Align::Left),
    ]);
    for c in &rows.rows {
        let tone = match (c.verdict.permits(), c.pending_verdict.permits()) {
            (false, _) => Tone::Bad,
            (true, false) => Tone::Warning,
            (true, true) => Tone::Plain,
        };
        let why = c
            .rule
            .as_ref()
            .map_or_else(|| c.verdict_source.to_string(), ToString::to_string);
        let service = if c.folded {
            "(scan)".to_owned()
        } else {
            service_label(c.service.as_deref(), c.proto, c.port)
        };
        let cells = vec![
            format!(
                "{} +{}",
                clock(c.start_ts),
                span(u64::from(c.interval_s) * 1_000_000_000)
            ),
            c.src_label(),
            c.dst_label(),
            service,
            verdict(c.verdict, c.pending_verdict),
            why,
        ];
        row(&mut grid, tone, cells, &c.sums);
    }
    page(grid, "no conversations", rows.cut)
}

/// The matrix.
#[must_use]
pub fn matrix(rows: &Rows<MatrixCell>) -> Page {
    let mut grid = grid(&[
        ("from", Align::Left),
        ("to", Align::Left),
        ("service", Align::Left),
        ("denied flows", Align::Right),
        ("would deny", Align::Right),
    ]);
    let name = |segment: &Option<Arc<str>>| segment.as_deref().unwrap_or("(none)").to_owned();
    for cell in &rows.rows {
        let cells = vec![
            name(&cell.src_segment),
            name(&cell.dst_segment),
            cell.service.to_string(),
            count(cell.denied_flows),
            count(cell.would_deny_flows),
        ];
        let tone = match (cell.denied_flows, cell.would_deny_flows) {
            (0, 0) => Tone::Plain,
            (0, _) => Tone::Warning,
            _ => Tone::Bad,
        };
        row(&mut grid, tone, cells, &cell.sums);
    }
    page(grid, "nothing was seen in this period", rows.cut)
}

/// Sums over time.
#[must_use]
pub fn series(rows: &Rows<SeriesPoint>) -> Page {
    let mut grid = grid(&[("from", Align::Left), ("denied flows", Align::Right)]);
    for point in &rows.rows {
        let cells = vec![clock(point.start_ts), count(point.denied_flows)];
        row(&mut grid, tone(point.denied_flows), cells, &point.sums);
    }
    page(grid, "nothing was seen in this period", rows.cut)
}

/// The largest.
#[must_use]
pub fn top(rows: &Rows<TopLine>, by: TopBy) -> Page {
    let mut grid = grid(&[(by.word(), Align::Left), ("denied flows", Align::Right)]);
    for line in &rows.rows {
        let cells = vec![line.name.to_string(), count(line.denied_flows)];
        row(&mut grid, tone(line.denied_flows), cells, &line.sums);
    }
    page(grid, "nothing was seen in this period", rows.cut)
}

/// Edges.
#[must_use]
pub fn edges(rows: &Rows<Edge>) -> Page {
    let mut grid = grid(&[
        ("first seen", Align::Left),
        ("last seen", Align::Left),
        ("source", Align::Left),
        ("destination", Align::Left),
        ("service", Align::Left),
        ("denied flows", Align::Right),
    ]);
    for edge in &rows.rows {
        let cells = vec![
            clock(edge.first_ts),
            clock(edge.last_ts),
            end_label(edge.src_name.as_deref(), edge.src),
            end_label(edge.dst_name.as_deref(), edge.dst),
            service_label(edge.service.as_deref(), edge.proto, edge.port),
            count(edge.denied_flows),
        ];
        row(&mut grid, tone(edge.denied_flows), cells, &edge.sums);
    }
    page(grid, "no edge in this period", rows.cut)
}

/// What rules decided.
#[must_use]
pub fn rules(rows: &Rows<RuleUse>) -> Page {
    let mut grid = grid(&[
        ("rule", Align::Left),
        ("first", Align::Left),
        ("last", Align::Left),
        ("sources", Align::Right),
        ("destinations", Align::Right),
        ("services", Align::Right),
        ("pending flows", Align::Right),
    ]);
    for rule in &rows.rows {
        let cells = vec![
            rule.rule.to_string(),
            clock(rule.first_ts),
            clock(rule.last_ts),
            count(rule.sources),
            count(rule.destinations),
            count(rule.services),
            count(rule.pending_flows),
        ];
        row(&mut grid, Tone::Plain, cells, &rule.sums);
    }
    page(grid, "no rule decided anything in this period", rows.cut)
}

/// `98.7 %`, rounded down; `-` of nothing.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let permille = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Coverage.
#[must_use]
pub fn coverage(coverage: &CoverageShare) -> Page {
    let mut grid = Grid::new(&[
        ("", Align::Left),
        ("flows", Align::Right),
        ("share", Align::Right),
        ("bytes", Align::Right),
        ("share", Align::Right),
    ]);
    let all = &coverage.all;
    for (name, of, tone) in [
        ("by a rule, or needs none", &coverage.covered, Tone::Good),
        ("would be denied", &coverage.would_deny, Tone::Warning),
        ("denied", &coverage.denied, Tone::Bad),
        ("all", all, Tone::Heading),
    ] {
        let cells = vec![
            name.to_owned(),
            count(of.flows),
            share(of.flows, all.flows),
            bytes(of.bytes()),
            share(of.bytes(), all.bytes()),
        ];
        grid.row(tone, cells);
    }
    page(grid, "", false)
}

/// An answer in SQL.
#[must_use]
pub fn table(table: &Table) -> Page {
    let mut page = Page::new();
    let mut grid = Grid::named(
        table
            .columns
            .iter()
            .map(|name| (name.clone(), Align::Left))
            .collect(),
    );
    for row in &table.rows {
        let cells = row.iter().map(|v| v.clone().unwrap_or_default());
        grid.row(Tone::Plain, cells.collect());
    }
    page.table(grid);
    if table.cut {
        page.gap();
        page.line(Tone::Faint, "there are more rows; add LIMIT or WHERE");
    }
    page
}

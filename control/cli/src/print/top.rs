//! The largest conversations.

use api::Top;
use api::top::TopCounts;

use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count};

/// Rows with their share, and the sum of all.
#[must_use]
pub fn top(top: &Top) -> Page {
    let mut page = Page::new();
    if top.rows.is_empty() {
        page.line(Tone::Faint, "no flows");
        return page;
    }
    let mut grid = Grid::new(&[
        (top.by.word(), Align::Left),
        ("bytes", Align::Right),
        ("packets", Align::Right),
        ("flows", Align::Right),
        ("denied flows", Align::Right),
        ("dropped packets", Align::Right),
    ]);
    for row in &top.rows {
        let tone = if row.counts.denied_flows > 0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        grid.row(tone, cells(&row.name, &row.counts));
    }
    grid.row(Tone::Heading, cells("all", &top.total));
    page.table(grid);
    if let Some(oldest) = top.oldest_ts {
        page.gap();
        page.line(
            Tone::Faint,
            format!(
                "ordered by {}; flows since {} UTC",
                top.metric,
                clock(oldest)
            ),
        );
    }
    page
}

fn cells(name: &str, counts: &TopCounts) -> Vec<String> {
    vec![
        name.to_owned(),
        bytes(counts.bytes),
        count(counts.packets),
        count(counts.flows),
        count(counts.denied_flows),
        count(counts.dropped_packets),
    ]
}

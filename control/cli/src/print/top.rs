//! The largest conversations.

use api::Top;
use api::top::{Reach, TopBy, TopCounts};

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
    let mut columns = vec![
        (top.by.word(), Align::Left),
        ("bytes", Align::Right),
        ("packets", Align::Right),
        ("flows", Align::Right),
        ("denied flows", Align::Right),
        ("dropped packets", Align::Right),
    ];
    let has_reach = top.by == TopBy::Scanners;
    if has_reach {
        columns.extend([("destinations", Align::Right), ("ports", Align::Right)]);
    }
    let mut grid = Grid::new(&columns);
    for row in &top.rows {
        let tone = if row.counts.denied_flows > 0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        let mut cells = cells(&row.name, &row.counts);
        if has_reach {
            cells.extend(reach(row.reach.as_ref()));
        }
        grid.row(tone, cells);
    }
    let mut all = cells("all", &top.total);
    if has_reach {
        all.extend([String::new(), String::new()]);
    }
    grid.row(Tone::Heading, all);
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

/// How far a scanner reached; a dash where each of its flows has a record of its own.
fn reach(reach: Option<&Reach>) -> [String; 2] {
    let told = |of: fn(&Reach) -> u32| {
        reach.map_or_else(|| "-".to_owned(), |reach| count(of(reach).into()))
    };
    [told(|r| r.destinations), told(|r| r.ports)]
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

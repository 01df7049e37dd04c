//! What a draft would cut of what was seen lately.

use super::simulate::{verdicts, what};
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count, counted, span};
use api::foresight::Foresight;
use api::simulate::Tally;

/// Lines about what was looked at, what is cut, and which edges. `cuts` begins the line about that.
pub(super) fn foresight(page: &mut Page, found: &Foresight, cuts: &str) {
    if let Some(why) = &found.unknown {
        let text = format!("what it cuts is not known: {why}");
        page.field(Tone::Warning, "history", text);
        return;
    }
    if found.seen.conversations == 0 {
        let since = found
            .period
            .since_ts
            .map_or_else(String::new, |ts| format!(" since {} UTC", clock(ts)));
        let text = format!("nothing was seen{since}: what it cuts is not known");
        page.field(Tone::Warning, "history", text);
        return;
    }
    page.field(Tone::Plain, "history", looked_at(found));
    if !found.period.is_whole {
        let since = found.period.kept_since_ts;
        let begins = since.map_or_else(|| "it is empty".to_owned(), clock);
        let text = format!("does not reach back as far as was asked for: it begins at {begins}");
        page.field(Tone::Warning, "", text);
    }
    if found.partial {
        let text = "there is more in that time, which was not looked at";
        page.field(Tone::Warning, "", text);
    }
    if found.cut.conversations == 0 {
        page.field(Tone::Good, cuts, "nothing that passes now");
    } else {
        let text = format!("{} that pass now", sum(&found.cut));
        page.field(Tone::Bad, cuts, text);
    }
    if found.opened.conversations > 0 {
        page.field(Tone::Warning, "opens", sum(&found.opened));
    }
    if found.uncertain.conversations > 0 {
        page.field(Tone::Warning, "uncertain", sum(&found.uncertain));
    }
    edges(page, found);
}

fn looked_at(found: &Foresight) -> String {
    let period = &found.period;
    let time = match (period.first_ts, period.last_ts) {
        (Some(first), Some(last)) => format!(
            " from {} to {} UTC, {}",
            clock(first),
            clock(last),
            span(last.0.saturating_sub(first.0))
        ),
        _ => String::new(),
    };
    format!("{}{time}", sum(&found.seen))
}

fn sum(tally: &Tally) -> String {
    format!(
        "{} in {}",
        counted(tally.flows, "flow"),
        counted(tally.conversations, "conversation")
    )
}

fn edges(page: &mut Page, found: &Foresight) {
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
        ("would be", Align::Left),
        ("last seen (UTC)", Align::Left),
    ]);
    for edge in &found.edges {
        let (what, tone) = what(edge);
        let dst = if edge.folded {
            "many".to_owned()
        } else {
            edge.dst.label()
        };
        let cells = vec![
            what,
            edge.src.label(),
            dst,
            edge.service_label(),
            count(edge.tally.flows),
            bytes(edge.tally.bytes),
            verdicts(&edge.after),
            clock(edge.last_ts),
        ];
        grid.row(tone, cells);
    }
    page.table(grid);
    let listed = found.edges.len() as u64;
    if found.edge_count > listed {
        let all = counted(found.edge_count, "edge");
        page.line(Tone::Faint, format!("{} of {all}", count(listed)));
    }
}

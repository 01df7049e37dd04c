//! Flows: names first, addresses second.

use std::net::IpAddr;
use std::sync::Arc;

use api::flow::special_address;
use api::words::{Action, VerdictSource};
use api::{Flow, Ts};

use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock_ms, count, day, day_clock_ms};

const COLUMNS: &[(&str, Align)] = &[
    ("first", Align::Left),
    ("source", Align::Left),
    ("destination", Align::Left),
    ("service", Align::Left),
    ("packets", Align::Right),
    ("bytes", Align::Right),
    ("verdict", Align::Left),
    ("why", Align::Left),
    ("addresses", Align::Left),
];

/// Flows as a table, in the order given; with their days where they are not all of today.
#[must_use]
pub fn flows(flows: &[Flow], now: Ts) -> Page {
    let mut page = Page::new();
    if flows.is_empty() {
        page.line(Tone::Faint, "no flows");
        page.line(
            Tone::Faint,
            "a flow is told when it is denied, when it ends, and while it goes on: after 5 s, then every 60 s (unless configured)",
        );
        return page;
    }
    let mut grid = Grid::new(COLUMNS);
    let today = day(now);
    let time = match flows.iter().all(|flow| day(flow.first_ts) == today) {
        true => clock_ms,
        false => day_clock_ms,
    };
    for flow in flows {
        grid.row(tone(flow), cells(flow, time(flow.first_ts)).into());
    }
    page.table(grid);
    page
}

/// Widths for lines that are printed before the next flow is known.
const WIDTHS: [usize; 8] = [12, 24, 24, 14, 13, 21, 14, 24];

/// Header above lines of [`flow_line`].
#[must_use]
pub fn flow_header() -> Page {
    let names: Vec<String> = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut page = Page::new();
    page.line(Tone::Heading, fixed_width(&names));
    page
}

/// One flow as one line, for `--follow`: it happens now, so its day is not told.
#[must_use]
pub fn flow_line(flow: &Flow) -> Page {
    let mut page = Page::new();
    let time = clock_ms(flow.first_ts);
    page.line(tone(flow), fixed_width(&cells(flow, time)));
    page
}

fn fixed_width(cells: &[String]) -> String {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let width = WIDTHS.get(at).copied().unwrap_or(0);
        match COLUMNS[at].1 {
            Align::Left => line.push_str(&format!("{cell:<width$}  ")),
            Align::Right => line.push_str(&format!("{cell:>width$}  ")),
        }
    }
    line
}

fn tone(flow: &Flow) -> Tone {
    if !flow.verdict.permits() {
        Tone::Bad
    } else if !flow.pending_verdict.permits() {
        Tone::Warning
    } else {
        Tone::Plain
    }
}

fn cells(flow: &Flow, time: String) -> [String; 9] {
    [
        time,
        source(flow),
        destination(flow),
        flow.service_label(),
        pair(count(flow.pkts_fwd), count(flow.pkts_rev)),
        pair(bytes(flow.bytes_fwd), bytes(flow.bytes_rev)),
        verdict(flow.verdict, flow.pending_verdict),
        why(flow),
        addresses(flow),
    ]
}

fn source(flow: &Flow) -> String {
    match &flow.aggregate {
        Some(a) if a.is_of_many_sources() => {
            format!("{} sources", count(a.sources.into()))
        }
        _ => end(flow.src_name.as_deref(), &flow.src_segments, &flow.src),
    }
}

fn destination(flow: &Flow) -> String {
    match &flow.aggregate {
        Some(a) if a.destinations != 1 => {
            format!("{} destinations", count(a.destinations.into()))
        }
        _ => end(flow.dst_name.as_deref(), &flow.dst_segments, &flow.dst),
    }
}

/// Segments that every policy has; they say less than those an operator has named.
const BUILT_IN: &[&str] = &["any", "internet", "unmanaged"];

/// Name of the workload; else the address with the segment it is in, or with what it is where only
/// the policy's built-in segments have it.
fn end(name: Option<&str>, segments: &[Arc<str>], address: &IpAddr) -> String {
    let named = segments
        .iter()
        .find(|segment| !BUILT_IN.contains(&&***segment));
    let special = special_address(*address);
    let label = named.or(segments.first()).map(|segment| &**segment);
    match (name, named, special.or(label)) {
        (Some(name), _, _) => name.to_owned(),
        (None, Some(segment), _) => format!("{address} ({segment})"),
        (None, None, Some(label)) => format!("{address} ({label})"),
        (None, None, None) => address.to_string(),
    }
}

fn pair(fwd: String, rev: String) -> String {
    format!("{fwd} / {rev}")
}

/// The enforced verdict, with the pending one where it would be another.
pub(super) fn verdict(enforced: Action, pending: Action) -> String {
    if enforced == pending {
        enforced.to_string()
    } else {
        format!("{enforced} ({pending})")
    }
}

/// Who decided: the rule, or the authority where no rule did.
fn why(flow: &Flow) -> String {
    let enforced = authority(flow.rule.as_deref(), flow.verdict_source);
    if flow.verdict == flow.pending_verdict {
        return enforced;
    }
    format!(
        "{enforced} ({})",
        authority(flow.pending_rule.as_deref(), flow.pending_source)
    )
}

/// The rule's name, or the word for what decided instead.
pub(super) fn authority(rule: Option<&str>, source: VerdictSource) -> String {
    match (rule, source) {
        (Some(rule), VerdictSource::Rule) => rule.to_owned(),
        (Some(rule), source) => format!("{rule}, {source}"),
        (None, source) => source.to_string(),
    }
}

/// `10.0.1.10:40000 > 10.0.2.10:443`, without ports where the protocol has none; of an aggregate how
/// many flows it tells.
fn addresses(flow: &Flow) -> String {
    if let Some(aggregate) = &flow.aggregate {
        let flows = count(aggregate.flows);
        return format!("{} > {flows} flows, last to {}", flow.src, flow.dst);
    }
    let end = |address: std::net::IpAddr, port: u16| match port {
        0 => address.to_string(),
        port => std::net::SocketAddr::new(address, port).to_string(),
    };
    format!(
        "{} > {}",
        end(flow.src, flow.sport),
        end(flow.dst, flow.dport)
    )
}

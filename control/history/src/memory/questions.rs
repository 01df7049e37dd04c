//! The questions, over a list of conversations.

use api::Ts;
use api::history::{
    Conversation, CoverageShare, Edge, MatrixCell, RuleUse, SeriesPoint, Sums, TopLine,
    interval_start_ns,
};
use api::top::{Metric, TopBy};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

type Name = Option<Arc<str>>;

fn denied_flows(c: &Conversation) -> u64 {
    if c.is_denied() { c.sums.flows } else { 0 }
}

fn would_deny_flows(c: &Conversation) -> u64 {
    if c.would_be_denied() { c.sums.flows } else { 0 }
}

/// Each segment, or none where there is none.
fn each_segment(segments: &[Arc<str>]) -> Vec<Name> {
    match segments {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    }
}

pub(super) fn matrix(conversations: &[Conversation]) -> Vec<MatrixCell> {
    let mut cells: BTreeMap<(Name, Name, String), MatrixCell> = BTreeMap::new();
    for c in conversations {
        for src in each_segment(&c.src_segments) {
            for dst in each_segment(&c.dst_segments) {
                let key = (src.clone(), dst.clone(), c.service_label());
                let cell = cells.entry(key).or_insert_with(|| MatrixCell {
                    src_segment: src.clone(),
                    dst_segment: dst,
                    service: c.service_label().into(),
                    denied_flows: 0,
                    would_deny_flows: 0,
                    sums: Sums::default(),
                });
                cell.denied_flows += denied_flows(c);
                cell.would_deny_flows += would_deny_flows(c);
                cell.sums.add(&c.sums);
            }
        }
    }
    let mut cells: Vec<MatrixCell> = cells.into_values().collect();
    // The sort is stable: cells of the same bytes stay by name.
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.sums.bytes()));
    cells
}

pub(super) fn series(conversations: &[Conversation], step_s: u32) -> Vec<SeriesPoint> {
    let mut points: BTreeMap<u64, SeriesPoint> = BTreeMap::new();
    for c in conversations {
        let start_ns = interval_start_ns(c.start_ts.0, step_s);
        let point = points.entry(start_ns).or_insert_with(|| SeriesPoint {
            start_ts: Ts(start_ns),
            denied_flows: 0,
            sums: Sums::default(),
        });
        point.denied_flows += denied_flows(c);
        point.sums.add(&c.sums);
    }
    points.into_values().collect()
}

fn segments_label(segments: &[Arc<str>]) -> String {
    if segments.is_empty() {
        "-".to_owned()
    } else {
        segments.join(",")
    }
}

/// Names of the lines that a conversation counts for.
fn lines_of(c: &Conversation, by: TopBy) -> Vec<String> {
    match by {
        TopBy::Segments => vec![format!(
            "{} -> {}",
            segments_label(&c.src_segments),
            segments_label(&c.dst_segments)
        )],
        TopBy::Services => vec![c.service_label()],
        TopBy::Workloads if c.src_label() == c.dst_label() => vec![c.src_label()],
        TopBy::Workloads => vec![c.src_label(), c.dst_label()],
        TopBy::Pairs => vec![format!("{} -> {}", c.src_label(), c.dst_label())],
        TopBy::Rules => vec![match &c.rule {
            Some(rule) => rule.to_string(),
            None => format!("({})", c.verdict_source),
        }],
        TopBy::Scanners if c.folded || c.is_denied() => vec![c.src_label()],
        TopBy::Scanners => Vec::new(),
    }
}

pub(super) fn top(
    conversations: &[Conversation],
    by: TopBy,
    metric: Metric,
    limit: u64,
) -> Vec<TopLine> {
    let mut lines: BTreeMap<String, TopLine> = BTreeMap::new();
    for c in conversations {
        for name in lines_of(c, by) {
            let line = lines.entry(name.clone()).or_insert_with(|| TopLine {
                name: name.into(),
                denied_flows: 0,
                sums: Sums::default(),
            });
            line.denied_flows += denied_flows(c);
            line.sums.add(&c.sums);
        }
    }
    let size = |line: &TopLine| match metric {
        Metric::Bytes => line.sums.bytes(),
        Metric::Packets => line.sums.packets(),
        Metric::Flows => line.sums.flows,
    };
    let mut lines: Vec<TopLine> = lines.into_values().collect();
    // The sort is stable: lines of the same size stay by name.
    lines.sort_by_key(|line| std::cmp::Reverse(size(line)));
    if limit != 0 {
        lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    lines
}

const fn edge_key(c: &Conversation) -> (IpAddr, IpAddr, u8, u16) {
    (c.src, c.dst, c.proto, c.port)
}

/// Edges of the `selected` conversations; their times and names are those of `all`.
pub(super) fn edges(selected: &[Conversation], all: &[Conversation]) -> Vec<Edge> {
    let mut edges: BTreeMap<(IpAddr, IpAddr, u8, u16), Edge> = BTreeMap::new();
    for c in selected.iter().filter(|c| !c.folded) {
        let edge = edges.entry(edge_key(c)).or_insert_with(|| Edge {
            src: c.src,
            dst: c.dst,
            proto: c.proto,
            port: c.port,
            src_name: None,
            dst_name: None,
            service: None,
            first_ts: Ts(u64::MAX),
            last_ts: Ts(0),
            denied_flows: 0,
            sums: Sums::default(),
        });
        edge.denied_flows += denied_flows(c);
        edge.sums.add(&c.sums);
    }
    let mut all: Vec<&Conversation> = all.iter().filter(|c| !c.folded).collect();
    all.sort_by(|a, b| {
        (a.first_ts, &a.src_name, &a.dst_name, &a.service).cmp(&(
            b.first_ts,
            &b.src_name,
            &b.dst_name,
            &b.service,
        ))
    });
    for c in all {
        let Some(edge) = edges.get_mut(&edge_key(c)) else {
            continue;
        };
        if edge.first_ts == Ts(u64::MAX) {
            edge.first_ts = c.first_ts;
            (edge.src_name, edge.dst_name) = (c.src_name.clone(), c.dst_name.clone());
            edge.service = c.service.clone();
        }
        edge.last_ts = edge.last_ts.max(c.last_ts);
    }
    edges.into_values().collect()
}

pub(super) fn rule_use(conversations: &[Conversation]) -> Vec<RuleUse> {
    let decided = conversations.iter().filter_map(|c| c.rule.clone());
    let pending = conversations.iter().filter_map(|c| c.pending_rule.clone());
    let mut rules: Vec<Arc<str>> = decided.chain(pending).collect();
    rules.sort();
    rules.dedup();
    let use_of = |rule: Arc<str>| {
        let decided: Vec<&Conversation> = conversations
            .iter()
            .filter(|c| c.rule.as_ref() == Some(&rule))
            .collect();
        let pending = conversations
            .iter()
            .filter(|c| c.pending_rule.as_ref() == Some(&rule));
        let distinct = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut sums = Sums::default();
        decided.iter().for_each(|c| sums.add(&c.sums));
        RuleUse {
            first_ts: decided.iter().map(|c| c.first_ts).min().unwrap_or_default(),
            last_ts: decided.iter().map(|c| c.last_ts).max().unwrap_or_default(),
            sources: distinct(decided.iter().map(|c| c.src).collect::<HashSet<_>>().len()),
            destinations: distinct(decided.iter().map(|c| c.dst).collect::<HashSet<_>>().len()),
            services: distinct(
                decided
                    .iter()
                    .map(|c| (c.proto, c.port))
                    .collect::<HashSet<_>>()
                    .len(),
            ),
            pending_flows: pending.map(|c| c.sums.flows).sum(),
            sums,
            rule,
        }
    };
    rules.into_iter().map(use_of).collect()
}

pub(super) fn coverage(conversations: &[Conversation]) -> CoverageShare {
    let mut share = CoverageShare::default();
    for c in conversations {
        share.all.add(&c.sums);
        if c.coverage == api::words::Coverage::Rule {
            share.covered.add(&c.sums);
        }
        if c.would_be_denied() {
            share.would_deny.add(&c.sums);
        }
        if c.is_denied() {
            share.denied.add(&c.sums);
        }
    }
    share
}

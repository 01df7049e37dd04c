//! Answers made from recent flows and names: top, segments, workloads, rules, explain, and the
//! selection of flows.

mod ends;
mod explain;
mod turning;

use crate::app::{App, Namer};
use crate::flow::StoredFlow;
use crate::names::segment_id;
use crate::recent::Snapshot;
use abi::image::RuleMode;
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::filter::{Filter, FilterError};
use api::policy::{Rule, Rules, Segment, Segments, Workload, Workloads};
use api::top::{Metric, Reach, TopBy, TopCounts, TopRow};
use api::words;
use api::{Flow, Top, TopQuery, Ts};
use std::collections::HashMap;

/// Protocol number of ICMPv6.
const ICMPV6: u8 = 58;
/// Flows that `explain` shows.
const OBSERVED_MAX: usize = 5;

/// A parameter that cannot be understood.
pub(crate) fn bad(parameter: &str, what: String, mend: &str) -> ApiError {
    ApiError {
        code: ErrorCode::BadRequest,
        message: format!("parameter {parameter}: {what}"),
        details: vec![ErrorDetail {
            file: parameter.to_owned(),
            what,
            mend: mend.to_owned(),
            ..ErrorDetail::default()
        }],
    }
}

/// A filter that cannot be understood.
pub(crate) fn bad_filter(error: FilterError) -> ApiError {
    ApiError {
        code: ErrorCode::BadRequest,
        message: error.to_string(),
        details: vec![ErrorDetail {
            file: "filter".to_owned(),
            line: 1,
            column: u32::try_from(error.column).unwrap_or(u32::MAX),
            what: error.what,
            mend: format!("write {}", error.expected),
        }],
    }
}

/// Which flows are meant.
#[derive(Debug)]
pub struct Selection {
    filter: Filter,
    since_ns: u64,
    after: u64,
}

impl Selection {
    /// Understands `filter`, `since` and `after`.
    ///
    /// # Errors
    /// Bad request, with the column of the filter.
    pub fn new(
        filter: Option<&str>,
        since: Option<&str>,
        after: Option<u64>,
    ) -> Result<Self, ApiError> {
        let filter = Filter::parse(filter.unwrap_or_default()).map_err(bad_filter)?;
        let since_ns = match since {
            None => 0,
            Some(text) => {
                text.parse::<Ts>()
                    .map_err(|e| bad("since", e.to_string(), "see the message"))?
                    .0
            }
        };
        Ok(Self {
            filter,
            since_ns,
            after: after.unwrap_or(0),
        })
    }

    /// The flow, named, if it is meant.
    pub fn select(&self, namer: &mut Namer, stored: &StoredFlow) -> Option<Flow> {
        if stored.seq <= self.after || stored.record.last_ns < self.since_ns {
            return None;
        }
        let flow = namer.flow(stored);
        self.filter.matches(&flow).then_some(flow)
    }

    /// The newest `limit` flows that are meant (0 all), oldest first.
    pub fn newest(&self, namer: &mut Namer, snapshot: &Snapshot, limit: u64) -> Vec<Flow> {
        let limit = if limit == 0 {
            usize::MAX
        } else {
            usize::try_from(limit).unwrap_or(usize::MAX)
        };
        let selected = snapshot
            .iter()
            .rev()
            .filter_map(|stored| self.select(namer, stored));
        let mut flows: Vec<Flow> = selected.take(limit).collect();
        flows.reverse();
        flows
    }
}

fn add(counts: &mut TopCounts, flow: &Flow) {
    counts.flows += flow.flow_count();
    counts.packets += flow.packets();
    counts.bytes += flow.bytes();
    counts.dropped_packets += flow.dropped_packets;
    if !flow.verdict.permits() {
        counts.denied_flows += flow.flow_count();
    }
}

/// The segments of one end as one name.
fn segments_label(segments: &[std::sync::Arc<str>]) -> String {
    if segments.is_empty() {
        "-".to_owned()
    } else {
        segments.join(",")
    }
}

/// The source of a scan, or what stands for many.
fn scanner_label(flow: &Flow) -> String {
    match &flow.aggregate {
        Some(aggregate) if aggregate.is_of_many_sources() => "(many sources)".to_owned(),
        _ => flow.src_label(),
    }
}

/// The rows that a flow counts for: a pair, or names.
fn rows_of(flow: &Flow, by: TopBy) -> Vec<(String, Option<String>)> {
    match by {
        TopBy::Segments => vec![(
            segments_label(&flow.src_segments),
            Some(segments_label(&flow.dst_segments)),
        )],
        TopBy::Pairs => vec![(flow.src_label(), Some(flow.dst_label()))],
        TopBy::Services => vec![(flow.service_label(), None)],
        TopBy::Rules => {
            let rule = flow
                .rule
                .as_deref()
                .map_or_else(|| format!("({})", flow.verdict_source), str::to_owned);
            vec![(rule, None)]
        }
        TopBy::Scanners => {
            let scans = flow.aggregate.is_some() || !flow.verdict.permits();
            scans
                .then(|| (scanner_label(flow), None))
                .into_iter()
                .collect()
        }
        TopBy::Workloads => {
            let (src, dst) = (flow.src_label(), flow.dst_label());
            if src == dst {
                vec![(src, None)]
            } else {
                vec![(src, None), (dst, None)]
            }
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Seen {
    from: u64,
    to: u64,
    denied: u64,
    last_ns: u64,
}

impl App {
    /// `GET /v1/top`.
    ///
    /// # Errors
    /// Bad request.
    pub fn top(&self, query: &TopQuery) -> Result<Top, ApiError> {
        let selection = Selection::new(query.filter.as_deref(), query.since.as_deref(), None)?;
        let by = query.by.unwrap_or(TopBy::Pairs);
        let metric = query.metric.unwrap_or(Metric::Bytes);
        let (snapshot, mut namer) = (self.recent.snapshot(), self.namer());
        let mut rows: HashMap<(String, Option<String>), TopCounts> = HashMap::new();
        let mut reach: HashMap<String, Reach> = HashMap::new();
        let mut total = TopCounts::default();
        let mut oldest_ts = None;
        for stored in snapshot.iter() {
            let Some(flow) = selection.select(&mut namer, stored) else {
                continue;
            };
            oldest_ts = Some(oldest_ts.map_or(flow.first_ts, |t: Ts| t.min(flow.first_ts)));
            let named = rows_of(&flow, by);
            if by != TopBy::Scanners || !named.is_empty() {
                add(&mut total, &flow);
            }
            for row in named {
                if let (TopBy::Scanners, Some(a)) = (by, &flow.aggregate) {
                    let most: &mut Reach = reach.entry(row.0.clone()).or_default();
                    most.destinations = most.destinations.max(a.destinations);
                    most.ports = most.ports.max(a.ports);
                }
                add(rows.entry(row).or_default(), &flow);
            }
        }
        let mut rows: Vec<TopRow> = rows
            .into_iter()
            .map(|((first, second), counts)| match second {
                Some(second) => TopRow {
                    name: format!("{first} -> {second}"),
                    src: Some(first),
                    dst: Some(second),
                    counts,
                    reach: None,
                },
                None => TopRow {
                    reach: reach.get(&first).copied(),
                    name: first,
                    src: None,
                    dst: None,
                    counts,
                },
            })
            .collect();
        let size = |row: &TopRow| match metric {
            Metric::Bytes => row.counts.bytes,
            Metric::Packets => row.counts.packets,
            Metric::Flows => row.counts.flows,
        };
        rows.sort_by(|a, b| size(b).cmp(&size(a)).then_with(|| a.name.cmp(&b.name)));
        let limit = query.limit.unwrap_or(TopQuery::LIMIT_DEFAULT);
        if limit != 0 {
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(Top {
            by,
            metric,
            rows,
            total,
            oldest_ts,
        })
    }

    /// `GET /v1/segments`.
    #[must_use]
    pub fn segments(&self) -> Segments {
        let mut seen: HashMap<std::sync::Arc<str>, Seen> = HashMap::new();
        let (snapshot, mut namer) = (self.recent.snapshot(), self.namer());
        for stored in snapshot.iter() {
            let denied =
                !abi::Action::from_byte(stored.record.enforced).is_some_and(abi::Action::permits);
            let [src, dst] = namer.naming(stored.record.epoch).identities(&stored.record);
            let flows = stored.record.as_aggregate().map_or(1, |a| a.flows);
            for name in src.iter().flat_map(|i| i.segments.iter()) {
                let seen = seen.entry(name.clone()).or_default();
                seen.from += flows;
                seen.denied += if denied { flows } else { 0 };
            }
            for name in dst.iter().flat_map(|i| i.segments.iter()) {
                let both = src.is_some_and(|i| i.segments.contains(name));
                let seen = seen.entry(name.clone()).or_default();
                seen.to += flows;
                seen.denied += if denied && !both { flows } else { 0 };
            }
        }
        let Some(in_force) = self.policy.in_force() else {
            return Segments::default();
        };
        let workload_names = |indexes: &[u32]| {
            let workload = |i: &u32| in_force.valid.workloads.get(usize::try_from(*i).ok()?);
            indexes
                .iter()
                .filter_map(workload)
                .map(|w| w.name.clone())
                .collect()
        };
        let counted = |name: &str| seen.get(name).copied().unwrap_or_default();
        let own = in_force.valid.segments.iter().map(|s| Segment {
            name: s.name.clone(),
            id: segment_id(&s.name),
            mode: mode_word(s.mode),
            select: s.select.as_ref().map(ToString::to_string),
            addresses: s.addresses.iter().map(ToString::to_string).collect(),
            workloads: workload_names(&s.workloads),
            flows_from: counted(&s.name).from,
            flows_to: counted(&s.name).to,
            denied_flows: counted(&s.name).denied,
        });
        // `any` is every address and says nothing.
        let built_in = abi::image::BUILT_IN_SEGMENTS
            .iter()
            .skip(1)
            .map(|name| Segment {
                name: (*name).to_owned(),
                id: segment_id(name),
                mode: None,
                select: None,
                addresses: Vec::new(),
                workloads: Vec::new(),
                flows_from: counted(name).from,
                flows_to: counted(name).to,
                denied_flows: counted(name).denied,
            });
        Segments {
            segments: own.chain(built_in).collect(),
        }
    }

    /// `GET /v1/workloads`.
    #[must_use]
    pub fn workloads(&self) -> Workloads {
        let Some(in_force) = self.policy.in_force() else {
            return Workloads::default();
        };
        let mut seen: HashMap<String, Seen> = HashMap::new();
        let names = self.registry.names();
        let newest = names.newest();
        for stored in self.recent.snapshot().iter() {
            let record = &stored.record;
            let name = |bytes| newest.and_then(|d| d.workload(bytes));
            if let Some(name) = name(&record.src) {
                let seen = seen.entry(name.to_string()).or_default();
                (seen.from, seen.last_ns) = (seen.from + 1, seen.last_ns.max(record.last_ns));
            }
            if let Some(name) = name(&record.dst) {
                let seen = seen.entry(name.to_string()).or_default();
                (seen.to, seen.last_ns) = (seen.to + 1, seen.last_ns.max(record.last_ns));
            }
        }
        let mut segments: HashMap<u32, Vec<String>> = HashMap::new();
        for segment in in_force.valid.segments.iter() {
            for workload in &segment.workloads {
                segments
                    .entry(*workload)
                    .or_default()
                    .push(segment.name.clone());
            }
        }
        let workloads = (0_u32..)
            .zip(in_force.valid.workloads.iter())
            .map(|(index, w)| {
                let seen = seen.get(&w.name).copied().unwrap_or_default();
                // Segments by address hold the workload too: the image knows both.
                let by_image = w.addresses.first().and_then(|net| {
                    let bytes = crate::flow::address_bytes(net.addr());
                    let dictionary = newest?;
                    let identity = dictionary.identity(dictionary.image.identity(&bytes))?;
                    Some(
                        identity
                            .segments
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>(),
                    )
                });
                Workload {
                    dns: w.dns.clone(),
                    from_inventory: index as usize >= in_force.members.own_count,
                    name: w.name.clone(),
                    addresses: w.addresses.iter().map(ToString::to_string).collect(),
                    labels: w.labels.clone(),
                    segments: by_image
                        .or_else(|| segments.remove(&index))
                        .unwrap_or_default(),
                    flows_from: seen.from,
                    flows_to: seen.to,
                    last_ts: (seen.last_ns != 0).then_some(Ts(seen.last_ns)),
                }
            });
        Workloads {
            workloads: workloads.collect(),
        }
    }

    /// `GET /v1/rules`.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let in_force = self.policy.in_force();
        let rules = in_force.iter().flat_map(|f| f.valid.rules.iter()).map(|r| {
            let hits = self.hits.of(abi::image::rule_id(&r.name));
            let mode = (r.mode != RuleMode::Inherit).then(|| r.mode.name());
            Rule {
                name: r.name.clone(),
                tier: r.tier.name().to_owned(),
                action: action_word(r.action),
                mode: mode.and_then(words::Mode::from_word),
                hits: hits.hits,
                packets: hits.packets,
                bytes: hits.bytes,
                first_ts: (hits.hits > 0).then_some(Ts(hits.first_ns)),
                last_ts: (hits.hits > 0).then_some(Ts(hits.last_ns)),
                pending_hits: hits.pending_hits,
            }
        });
        Rules {
            since: Some(Ts(self.started_ns)),
            rules: rules.collect(),
        }
    }
}

pub(crate) fn action_word(action: abi::Action) -> words::Action {
    words::Action::from_word(action.name()).unwrap_or(words::Action::Deny)
}

fn source_word(source: abi::VerdictSource) -> words::VerdictSource {
    words::VerdictSource::from_word(source.name()).unwrap_or(words::VerdictSource::Default)
}

fn mode_word(mode: abi::Mode) -> Option<words::Mode> {
    words::Mode::from_word(mode.name())
}

//! Answers made from recent flows and names: top, segments, workloads, rules, explain, and the
//! selection of flows.

mod ends;

use crate::app::{App, Namer};
use crate::flow::{StoredFlow, address, service};
use crate::names::segment_id;
use crate::recent::Snapshot;
use abi::image::RuleMode;
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::explain::{EndNamed, ExplainQuery, RuleConsidered};
use api::filter::{Filter, FilterError};
use api::policy::{Rule, Rules, Segment, Segments, Workload, Workloads};
use api::top::{Metric, Reach, TopBy, TopCounts, TopRow};
use api::words;
use api::{Explain, Flow, Top, TopQuery, Ts};
use ends::ends_of;
use std::collections::HashMap;
use std::net::IpAddr;

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

    /// `GET /v1/explain`.
    ///
    /// # Errors
    /// Bad request, or no policy whose text is known is in force.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explain, ApiError> {
        let Some(in_force) = self.policy.in_force() else {
            let message = if self.policy.show().epoch == 0 {
                "no policy is in force: every flow passes or falls by the dataplane's exception \
                 policy; apply one with `ringfence policy apply FILE`"
            } else {
                "the text of the policy is damaged or not known here; `ringfence doctor` says what \
                 is enforced, `ringfence policy apply FILE` applies it again"
            };
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let valid = &in_force.valid;
        let port = port_of(valid, &query.service)?;
        let asked = service_of(port);
        let (src, dst) = ends_of(valid, query, asked.proto)?;
        let report = policy::explain(&in_force.compiled, src, dst, &asked);
        let show = self.policy.show();
        let sentence = format!(
            "{} from {} to {}: {}, because {}",
            query.service,
            end_label(&report.src),
            end_label(&report.dst),
            report.enforced.action,
            report.enforced.reason
        );
        let sentence = format!("{sentence}{}", passes_by_itself(&asked));
        Ok(Explain {
            sentence,
            src: end_named(&report.src),
            dst: end_named(&report.dst),
            proto: asked.proto,
            port: asked_port(&asked),
            service: port.to_string(),
            services: services_of(valid, &asked),
            verdict: action_word(report.enforced.action),
            verdict_source: source_word(report.enforced.source),
            rule: report.enforced.rule.clone(),
            pending_verdict: action_word(report.pending.action),
            pending_source: source_word(report.pending.source),
            pending_rule: report.pending.rule.clone(),
            mode: mode_word(report.mode).unwrap_or(words::Mode::Observe),
            coverage: words::Coverage::from_word(report.coverage.name())
                .unwrap_or(words::Coverage::Uncovered),
            considered: report.matches.iter().map(considered).collect(),
            revision: show.revision,
            epoch: report.epoch,
            since: show.adopted_ts,
            observed: self.observed(src, dst, &asked),
        })
    }

    fn observed(&self, src: IpAddr, dst: IpAddr, asked: &acl::Service) -> Vec<Flow> {
        let mut namer = self.namer();
        let meant = |stored: &&StoredFlow| {
            let r = &stored.record;
            address(r.src) == src
                && address(r.dst) == dst
                && r.proto == asked.proto
                && service(r).key() == asked.key()
        };
        let snapshot = self.recent.snapshot();
        let newest = snapshot.iter().rev().filter(meant).take(OBSERVED_MAX);
        newest.map(|stored| namer.flow(stored)).collect()
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

fn end_named(end: &policy::EndReport) -> EndNamed {
    // The built-in segments have no mode, here as in the list of segments.
    let built_in = |name: &String| abi::image::BUILT_IN_SEGMENTS.contains(&name.as_str());
    let has_mode = !end.segments.iter().all(built_in);
    EndNamed {
        address: end.address,
        name: end.workload.clone(),
        segments: end.segments.clone(),
        mode: mode_word(end.mode).filter(|_| has_mode),
    }
}

fn end_label(end: &policy::EndReport) -> String {
    let name = end
        .workload
        .clone()
        .unwrap_or_else(|| end.address.to_string());
    format!("{name} ({})", end.segments.join(", "))
}

fn considered(report: &policy::RuleReport) -> RuleConsidered {
    RuleConsidered {
        rule: report.rule.name.clone(),
        tier: report.rule.tier.name().to_owned(),
        action: action_word(report.rule.action),
        why: if report.enforced == report.pending {
            report.enforced.clone()
        } else {
            format!(
                "{}; were every test enforced: {}",
                report.enforced, report.pending
            )
        },
    }
}

/// Names of the services that contain what was asked for.
fn services_of(valid: &policy::ValidPolicy, asked: &acl::Service) -> Vec<String> {
    let covers = |s: &&policy::Service| {
        s.ports.iter().any(|p| {
            p.proto.is_some_and(|proto| proto == asked.proto)
                && (p.low..=p.high).contains(&asked.key())
        })
    };
    valid
        .services
        .iter()
        .filter(covers)
        .map(|s| s.name.clone())
        .collect()
}

/// What is asked about: one port, or the first of a service. Of a range its first; of ICMP every
/// code of a type, where no code was given.
fn port_of(valid: &policy::ValidPolicy, text: &str) -> Result<policy::Port, ApiError> {
    let named = valid
        .services
        .iter()
        .find(|s| s.name == text)
        .and_then(|s| s.ports.first());
    let mut port = match named {
        Some(port) => *port,
        None => policy::Port::parse(text).map_err(|e| bad("service", e.to_string(), &e.mend()))?,
    };
    let Some(proto) = port.proto else {
        let what = format!("`{text}` is every service");
        return Err(bad("service", what, "name one, such as tcp/443"));
    };
    let every_code = port.low | 0x00ff;
    port.high = if crate::flow::is_icmp(proto) && port.high >= every_code {
        every_code
    } else {
        port.low
    };
    Ok(port)
}

/// The first packet that a port stands for.
fn service_of(port: policy::Port) -> acl::Service {
    let proto = port.proto.unwrap_or_default();
    if crate::flow::is_icmp(proto) {
        let [icmp_type, icmp_code] = port.low.to_be_bytes();
        acl::Service::icmp(proto, icmp_type, icmp_code)
    } else {
        acl::Service::port(proto, port.low)
    }
}

/// What the dataplane does before it asks the policy: types of router and neighbour discovery and
/// of multicast listener discovery (RFC 4861, RFC 2710, RFC 3810).
fn passes_by_itself(asked: &acl::Service) -> &'static str {
    let discovery = asked.proto == ICMPV6 && matches!(asked_port(asked), 130..=137 | 143);
    if discovery {
        "; passes whatever the policy says: neighbour discovery, while the dataplane's \
         pass.neighbor_discovery is \"allow\""
    } else {
        ""
    }
}

/// Port of the responder, or ICMP type.
fn asked_port(asked: &acl::Service) -> u16 {
    let key = asked.key();
    if crate::flow::is_icmp(asked.proto) {
        key >> 8
    } else {
        key
    }
}

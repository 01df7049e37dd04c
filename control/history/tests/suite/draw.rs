//! Flow records and questions drawn at random, out of few ends and names, so that they meet.

use super::{FlowBuilder, HOUR_NS, INTERVAL_NS, START_NS};
use api::Filter;
use api::flow::Flow;
use api::top::{Metric, TopBy};
use api::words::{Action, Coverage, InitiatorEvidence, Mode, VerdictSource};
use history::Selection;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

const ADDRESSES: [&str; 6] = [
    "10.0.1.10",
    "10.0.1.11",
    "10.0.2.20",
    "2001:db8::1",
    "2001:db8:0:1::2",
    "::ffff:10.0.1.10",
];
const NAMES: [Option<&str>; 4] = [None, Some("web-1"), Some("web-2"), Some("db-1")];
const SEGMENTS: [&[&str]; 5] = [
    &[],
    &["web"],
    &["web", "prod"],
    &["db"],
    &["prod", "shop-db"],
];
const RULES: [Option<&str>; 4] = [None, None, Some("web-to-db"), Some("web-to-all")];

const FILTERS: [&str; 26] = [
    "",
    "",
    "src host 10.0.1.10",
    "net 10.0.1.0/24",
    "src net 10.0.1.8/30",
    "dst net 2001:db8::/48",
    "not net ::/0",
    "net 0.0.0.0/0 and not 10.0.2.20",
    "dst port 5432 or udp",
    "port 0",
    "segment prod",
    "src segment shop-* or dst segment web",
    "workload web-*",
    "not workload web-1",
    "service postgres",
    "service tcp/*",
    "not service icmp/8",
    "rule web-to-* and not rule web-to-db",
    "pending-rule web-to-db",
    "verdict deny or verdict reject",
    "pending deny and verdict allow",
    "source default or mode test",
    "coverage uncovered",
    "kind aggregate",
    "bytes > 500 and packets <= 9",
    "dropped != 0",
];
/// What only flow records keep.
const FLOW_FILTERS: [&str; 8] = [
    "src port 40000",
    "vlan 20",
    "vni 7",
    "tunnel none",
    "end idle-timeout",
    "state closed",
    "drop denied-*",
    "epoch = 7 and worker >= 1",
];

/// What happened to a flow, and would have.
#[derive(Clone, Copy, Debug)]
struct Decision {
    verdict: Action,
    pending: Action,
    source: VerdictSource,
    pending_source: VerdictSource,
    rule: Option<&'static str>,
    pending_rule: Option<&'static str>,
    mode: Mode,
    coverage: Coverage,
    evidence: InitiatorEvidence,
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let verdicts = (select(Action::ALL), select(Action::ALL));
    let sources = (select(VerdictSource::ALL), select(VerdictSource::ALL));
    let rules = (select(&RULES[..]), select(&RULES[..]));
    let rest = (
        select(Mode::ALL),
        select(Coverage::ALL),
        select(InitiatorEvidence::ALL),
    );
    (verdicts, sources, rules, rest).prop_map(|(verdicts, sources, rules, rest)| Decision {
        verdict: verdicts.0,
        pending: verdicts.1,
        source: sources.0,
        pending_source: sources.1,
        rule: rules.0,
        pending_rule: rules.1,
        mode: rest.0,
        coverage: rest.1,
        evidence: rest.2,
    })
}

impl Decision {
    fn put(&self, flow: &mut Flow) {
        (flow.verdict, flow.pending_verdict) = (self.verdict, self.pending);
        (flow.verdict_source, flow.pending_source) = (self.source, self.pending_source);
        flow.rule = self.rule.map(Arc::from);
        flow.pending_rule = self.pending_rule.map(Arc::from);
        (flow.mode, flow.coverage) = (self.mode, self.coverage);
        flow.initiator_evidence = self.evidence;
        if !self.verdict.permits() {
            (flow.dropped_packets, flow.dropped_bytes) = (flow.pkts_fwd, flow.bytes_fwd);
            flow.drop_reason = Some("denied-by-rule".into());
        }
    }
}

/// Protocol, responder's port, name of the service.
const ASKED: [(u8, u16, Option<&str>); 6] = [
    (6, 5432, Some("postgres")),
    (6, 22, None),
    (17, 53, None),
    (1, 0, None),
    (58, 0, Some("ping6")),
    (47, 0, None),
];

/// Times that tie, that lie at the ends of intervals, of hours and of days, and that do not.
fn any_first_ns() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..30_u64).prop_map(|i| i * INTERVAL_NS),
        (1..30_u64).prop_map(|i| i * INTERVAL_NS - 1),
        select(vec![0, HOUR_NS, 2 * HOUR_NS, 2 * HOUR_NS - 1]),
        0..3 * HOUR_NS,
    ]
}

fn any_span_ns() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..INTERVAL_NS, Just(INTERVAL_NS), 0..3 * HOUR_NS,]
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let times = (any_first_ns(), any_span_ns());
    let addresses = (select(&ADDRESSES[..]), select(&ADDRESSES[..]));
    let names = (select(&NAMES[..]), select(&NAMES[..]));
    let segments = (select(&SEGMENTS[..]), select(&SEGMENTS[..]));
    let asked = (select(&ASKED[..]), 0..3_u8);
    let counts = (0..20_u64, 0..1000_u64, 0..5_u64, 0..500_u64, any::<bool>());
    let folded = prop_oneof![6 => Just(None), 1 => (1..1000_u64).prop_map(Some)];
    (
        times,
        addresses,
        names,
        segments,
        asked,
        counts,
        any_decision(),
        folded,
    )
        .prop_map(
            |(times, addresses, names, segments, (asked, code), counts, decision, folded)| {
                let mut flow = FlowBuilder::new(0)
                    .at(times.0, times.0 + times.1)
                    .ends(addresses.0, addresses.1)
                    .named(names.0, names.1)
                    .segments(segments.0, segments.1)
                    .asks(asked.0, asked.1)
                    .done();
                flow.service = asked.2.map(Arc::from);
                if matches!(asked.0, 1 | 58) {
                    (flow.icmp_type, flow.icmp_code) = (Some(8 * code), Some(code));
                    flow.sport = 0;
                }
                (flow.pkts_fwd, flow.bytes_fwd) = (counts.0, counts.1);
                (flow.pkts_rev, flow.bytes_rev) = (counts.2, counts.3);
                flow.begins = counts.4;
                decision.put(&mut flow);
                match folded {
                    Some(flows) => FlowBuilder(flow).folded(flows).done(),
                    None => flow,
                }
            },
        )
}

/// Flow records in the order of their arrival, which is not that of their times. Each has a `seq` and an id of its own.
pub(crate) fn any_flows(count_max: usize) -> impl Strategy<Value = Vec<Flow>> {
    prop::collection::vec(any_flow(), 1..count_max).prop_map(|mut flows| {
        for (seq, flow) in (1_u64..).zip(&mut flows) {
            flow.seq = seq;
            // Ids out of order, so that ties are not told by arrival.
            flow.flow_id.0 = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        flows
    })
}

fn any_time() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        2 => Just((0, u64::MAX)),
        3 => (any_first_ns(), any_span_ns()).prop_map(|(since, span)| {
            (START_NS + since, START_NS + since + span)
        }),
    ]
}

/// One question, as the trait has it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) of: Selection,
    pub(crate) flows_of: Selection,
    pub(crate) limit: u64,
    pub(crate) step_s: u32,
    pub(crate) by: TopBy,
    pub(crate) metric: Metric,
    pub(crate) workload: &'static str,
}

fn selection(filter: &str, (since_ns, until_ns): (u64, u64)) -> Selection {
    Selection {
        since_ns,
        until_ns,
        filter: Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}")),
    }
}

pub(crate) fn any_asked() -> impl Strategy<Value = Asked> {
    let flow_filters: Vec<&str> = FILTERS.iter().chain(&FLOW_FILTERS).copied().collect();
    (
        (select(&FILTERS[..]), select(flow_filters), any_time()),
        select(vec![0, 1, 3, 1000]),
        select(vec![300, 900, 3600, 86_400]),
        select(TopBy::ALL),
        select(Metric::ALL),
        select(vec!["web-1", "10.0.1.10", "2001:db8:0:1:0::2", "nobody"]),
    )
        .prop_map(
            |((filter, flows, time), limit, step_s, by, metric, workload)| Asked {
                of: selection(filter, time),
                flows_of: selection(flows, time),
                limit,
                step_s,
                by,
                metric,
                workload,
            },
        )
}

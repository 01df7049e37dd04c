//! What a simulation found: sums, what changes, what is in doubt, what each rule decided.

use super::draft::{Draft, EndJudged};
use super::edges::{Edges, Loose, Then};
use super::judge::{After, Doubt, Fate, Judged, permits};
use super::{Before, Sums};
use abi::VerdictSource;
use core::cmp::Reverse;
use core::net::IpAddr;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What becomes of an edge in one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Was permitted and would not be.
    NewlyDenied,
    /// Was not permitted and would be.
    NewlyAllowed,
    /// Was not permitted and would not be.
    StaysDenied,
    /// Was permitted and would be.
    StaysAllowed,
}

impl Change {
    const fn of(before: bool, after: bool) -> Self {
        match (before, after) {
            (true, false) => Self::NewlyDenied,
            (false, true) => Self::NewlyAllowed,
            (false, false) => Self::StaysDenied,
            (true, true) => Self::StaysAllowed,
        }
    }

    /// Whether something is different.
    #[must_use]
    pub const fn is_change(self) -> bool {
        matches!(self, Self::NewlyDenied | Self::NewlyAllowed)
    }
}

/// How much of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Conversations.
    pub conversations: u64,
    /// Flows.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
}

impl Tally {
    const fn add(&mut self, rows: u64, sums: &Sums) {
        self.conversations = self.conversations.saturating_add(rows);
        self.flows = self.flows.saturating_add(sums.flows);
        let packets = sums.pkts_fwd.saturating_add(sums.pkts_rev);
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(sums.bytes);
    }
}

/// Sums of one view. What is in doubt stands in no other sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Was permitted and would be.
    pub stays_allowed: Tally,
    /// Was not permitted and would not be.
    pub stays_denied: Tally,
    /// Was permitted and would not be.
    pub newly_denied: Tally,
    /// Was not permitted and would be.
    pub newly_allowed: Tally,
    /// Is in doubt.
    pub uncertain: Tally,
    /// Decided alike, by another rule than then, or by one where there was none. Stands in a sum above too.
    pub by_other_rule: Tally,
}

/// What one rule of the draft would have decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleUse {
    /// Rule.
    pub rule: Arc<str>,
    /// What it would have decided, what is in doubt included.
    pub enforced: Tally,
    /// What it would have decided, had everything in test been enforced.
    pub pending: Tally,
    /// Of both, how much is in doubt.
    pub uncertain_flows: u64,
    /// Distinct initiators in either view.
    pub sources: u64,
    /// Distinct responders in either view.
    pub destinations: u64,
    /// First packet, nanoseconds since the Unix epoch; 0 where there is none.
    pub first_ns: u64,
    /// Last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
}

/// An end as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndOutcome {
    /// Address.
    pub address: IpAddr,
    /// Name then.
    pub then: Option<Arc<str>>,
    /// Workload of the draft that it was judged as.
    pub workload: Option<Arc<str>>,
    /// Segments of the draft that it was judged by, `any` left out.
    pub segments: Vec<String>,
}

/// What becomes of one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeOutcome {
    /// Initiator.
    pub src: EndOutcome,
    /// Responder.
    pub dst: EndOutcome,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the responder; type * 256 + code of ICMP and ICMPv6.
    pub port: u16,
    /// The draft's name for the service.
    pub service: Option<String>,
    /// Flows that were told together: responder and port are those tried last.
    pub folded: bool,
    /// What was decided then.
    pub before: Before,
    /// What the draft decides.
    pub after: After,
    /// What else it may decide, where something is in doubt.
    pub other: Option<After>,
    /// In the enforced view.
    pub change: Change,
    /// In the pending view.
    pub pending_change: Change,
    /// Why that is not certain; empty where it is.
    pub doubts: Vec<Doubt>,
    /// How much.
    pub tally: Tally,
    /// First packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
}

/// What a simulation found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Everything.
    pub all: Tally,
    /// What happens.
    pub enforced: Totals,
    /// What would happen, were everything in test enforced.
    pub pending: Totals,
    /// What is in doubt, by why, where there is any; an edge with two doubts stands in both.
    pub doubts: Vec<(Doubt, Tally)>,
    /// The rules of the draft, in its order.
    pub rules: Vec<RuleUse>,
    /// Distinct edges.
    pub edge_count: u64,
    /// Conversations of edges beyond the limit: in every sum, and not listed.
    pub unlisted: u64,
    /// Edges that are to be listed, before the limit of the list.
    pub matched: u64,
    /// Those listed: what changes first, then what is in doubt, each the largest first.
    pub edges: Vec<EdgeOutcome>,
    /// First packet of all, nanoseconds since the Unix epoch; 0 where there is none.
    pub first_ns: u64,
    /// Last packet of all, nanoseconds since the Unix epoch.
    pub last_ns: u64,
}

/// Which edges are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Also those of which nothing changes.
    pub unchanged: bool,
    /// The first so many; none: all.
    pub limit: Option<usize>,
}

/// What is counted of an edge.
#[derive(Clone, Copy, Debug)]
struct Seen<'e> {
    before: &'e Before,
    rows: u64,
    sums: &'e Sums,
    first_ns: u64,
    last_ns: u64,
    /// Numbers of its ends, where it has a place.
    ends: Option<[u32; 2]>,
}

/// Sums under way.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    all: Tally,
    totals: [Totals; 2],
    doubts: [Tally; Doubt::ALL.len()],
    rules: HashMap<u32, (RuleUse, [HashSet<u32>; 2])>,
    unlisted: u64,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl Gatherer {
    /// Judges and counts a conversation that has no place.
    pub(super) fn count_loose(&mut self, draft: &mut Draft<'_>, loose: &Loose) {
        let [src, dst] = [0, 1].map(|at| draft.end(&loose.ends[at]));
        let mut judged = draft.judge(&loose.case, &src, &dst);
        if loose.case.source == VerdictSource::Related {
            // Flows of its receiver may have no place either.
            draft.judge_error(&mut judged, Fate::default());
        }
        let seen = Seen {
            before: &loose.before,
            rows: 1,
            sums: &loose.sums,
            first_ns: loose.first_ns,
            last_ns: loose.last_ns,
            ends: None,
        };
        self.unlisted += 1;
        self.count(draft, &seen, &judged);
    }

    fn count(&mut self, draft: &Draft<'_>, seen: &Seen<'_>, judged: &Judged) {
        self.all.add(seen.rows, seen.sums);
        self.first_ns = Some(
            self.first_ns
                .map_or(seen.first_ns, |ns| ns.min(seen.first_ns)),
        );
        self.last_ns = self.last_ns.max(seen.last_ns);
        let certain = judged.doubts.is_empty();
        for doubt in judged.doubts.list() {
            self.doubts[doubt as usize].add(seen.rows, seen.sums);
        }
        for (view, totals) in self.totals.iter_mut().enumerate() {
            let change = changes(seen.before, judged)[view];
            let tally = match change {
                _ if !certain => &mut totals.uncertain,
                Change::StaysAllowed => &mut totals.stays_allowed,
                Change::StaysDenied => &mut totals.stays_denied,
                Change::NewlyDenied => &mut totals.newly_denied,
                Change::NewlyAllowed => &mut totals.newly_allowed,
            };
            tally.add(seen.rows, seen.sums);
            let ids = [judged.decision.rule_id, judged.decision.pending_rule_id];
            let befores = [&seen.before.enforced, &seen.before.pending];
            let rule = draft.rule(ids[view]).map(|(_, name)| name);
            if certain && !change.is_change() && rule != befores[view].rule.as_ref() {
                totals.by_other_rule.add(seen.rows, seen.sums);
            }
        }
        self.count_rules(draft, seen, judged);
    }

    fn count_rules(&mut self, draft: &Draft<'_>, seen: &Seen<'_>, judged: &Judged) {
        let ids = [judged.decision.rule_id, judged.decision.pending_rule_id];
        let rules = ids.map(|id| draft.rule(id).map(|(index, _)| index));
        for (view, rule) in rules.into_iter().enumerate() {
            let Some(rule) = rule else { continue };
            let (used, ends) = self.rules.entry(rule).or_default();
            let tally = [&mut used.enforced, &mut used.pending];
            tally[view].add(seen.rows, seen.sums);
            let again = view == 1 && rules[0] == Some(rule);
            if again {
                continue;
            }
            if used.first_ns == 0 || seen.first_ns < used.first_ns {
                used.first_ns = seen.first_ns;
            }
            used.last_ns = used.last_ns.max(seen.last_ns);
            if !judged.doubts.is_empty() {
                used.uncertain_flows = used.uncertain_flows.saturating_add(seen.sums.flows);
            }
            for (set, end) in ends.iter_mut().zip(seen.ends.into_iter().flatten()) {
                set.insert(end);
            }
        }
    }

    /// Every rule of the draft in its order, those that decided nothing too.
    fn rules(&mut self, draft: &Draft<'_>) -> Vec<RuleUse> {
        let mut counted = core::mem::take(&mut self.rules);
        let count = |set: &HashSet<u32>| set.len() as u64;
        let names = draft.rule_names().iter();
        names
            .zip(0..)
            .map(|(name, index)| {
                let (used, ends) = counted.remove(&index).unwrap_or_default();
                RuleUse {
                    rule: Arc::clone(name),
                    sources: count(&ends[0]),
                    destinations: count(&ends[1]),
                    ..used
                }
            })
            .collect()
    }
}

/// What becomes of an edge in both views.
fn changes(before: &Before, judged: &Judged) -> [Change; 2] {
    let then = [
        before.enforced.action.permits(),
        before.pending.action.permits(),
    ];
    let now = permits(&judged.decision);
    [0, 1].map(|view| Change::of(then[view], now[view]))
}

/// Place of an edge in the list: what changes first.
fn rank(changes: [Change; 2], certain: bool) -> u8 {
    match changes {
        _ if !certain => 4,
        [Change::NewlyDenied, _] => 0,
        [Change::NewlyAllowed, _] => 1,
        [_, Change::NewlyDenied] => 2,
        [_, Change::NewlyAllowed] => 3,
        _ => 5,
    }
}

/// Rank from which on nothing changes and nothing is in doubt.
const UNCHANGED: u8 = 5;

/// Judges every edge: ICMP errors last, for they follow other flows.
pub(super) fn finish(
    draft: &mut Draft<'_>,
    edges: &Edges,
    mut gatherer: Gatherer,
    listing: &Listing,
) -> Outcome {
    let ends: Vec<EndJudged> = edges.ends.iter().map(|end| draft.end(end)).collect();
    let mut judged: Vec<Judged> = Vec::with_capacity(edges.edges.len());
    let mut fates: HashMap<IpAddr, Fate> = HashMap::new();
    let mut errors = Vec::new();
    for (at, edge) in edges.edges.iter().enumerate() {
        let [src, dst] = [&ends[edge.src as usize], &ends[edge.dst as usize]];
        let found = draft.judge(&edge.case, src, dst);
        if edge.case.source == VerdictSource::Related {
            errors.push(at);
        } else {
            fates.entry(src.address).or_default().add(&found);
            fates.entry(dst.address).or_default().add(&found);
        }
        judged.push(found);
    }
    for at in errors {
        let receiver = ends[edges.edges[at].dst as usize].address;
        let fate = fates.get(&receiver).copied().unwrap_or_default();
        draft.judge_error(&mut judged[at], fate);
    }
    let mut listed = Vec::new();
    for (place, (edge, judged)) in edges.edges.iter().zip(&judged).enumerate() {
        let seen = Seen {
            before: &edges.befores[edge.before as usize],
            rows: edge.rows,
            sums: &edge.sums,
            first_ns: edge.first_ns,
            last_ns: edge.last_ns,
            ends: Some([edge.src, edge.dst]),
        };
        gatherer.count(draft, &seen, judged);
        let rank = rank(changes(seen.before, judged), judged.doubts.is_empty());
        if listing.unchanged || rank < UNCHANGED {
            listed.push((rank, place));
        }
    }
    let matched = listed.len() as u64;
    order(&mut listed, edges);
    listed.truncate(listing.limit.unwrap_or(usize::MAX));
    let told = Telling {
        draft,
        edges,
        ends: &ends,
        judged: &judged,
    };
    Outcome {
        edges: listed.iter().map(|(_, place)| told.edge(*place)).collect(),
        matched,
        edge_count: edges.edges.len() as u64,
        rules: gatherer.rules(draft),
        doubts: Doubt::ALL
            .into_iter()
            .zip(gatherer.doubts)
            .filter(|(_, tally)| tally.conversations > 0)
            .collect(),
        all: gatherer.all,
        enforced: gatherer.totals[0],
        pending: gatherer.totals[1],
        unlisted: gatherer.unlisted,
        first_ns: gatherer.first_ns.unwrap_or(0),
        last_ns: gatherer.last_ns,
    }
}

/// By rank, then the largest first, then by address, so that the same traffic is always told alike.
fn order(listed: &mut [(u8, usize)], edges: &Edges) {
    listed.sort_by_cached_key(|(rank, place)| {
        let edge = &edges.edges[*place];
        let [src, dst] = [edge.src, edge.dst].map(|end| edges.ends[end as usize].address);
        let before = &edges.befores[edge.before as usize];
        (
            *rank,
            Reverse((edge.sums.bytes, edge.sums.flows)),
            (src, dst, edge.case.proto, edge.case.port),
            (before.enforced.rule.clone(), before.pending.rule.clone()),
            edge.first_ns,
        )
    });
}

/// What is needed to tell an edge in names.
struct Telling<'t, 'a> {
    draft: &'t Draft<'a>,
    edges: &'t Edges,
    ends: &'t [EndJudged],
    judged: &'t [Judged],
}

impl Telling<'_, '_> {
    fn edge(&self, place: usize) -> EdgeOutcome {
        let (edge, judged) = (&self.edges.edges[place], &self.judged[place]);
        let before = &self.edges.befores[edge.before as usize];
        let [change, pending_change] = changes(before, judged);
        let mut tally = Tally::default();
        tally.add(edge.rows, &edge.sums);
        EdgeOutcome {
            src: self.end(edge.src),
            dst: self.end(edge.dst),
            proto: edge.case.proto,
            port: edge.case.port,
            service: self.draft.service_name(edge.case.proto, edge.case.port),
            folded: edge.case.folded,
            before: before.clone(),
            after: self.draft.after(&judged.decision),
            other: judged.other.as_ref().map(|other| self.draft.after(other)),
            change,
            pending_change,
            doubts: judged.doubts.list(),
            tally,
            first_ns: edge.first_ns,
            last_ns: edge.last_ns,
        }
    }

    fn end(&self, number: u32) -> EndOutcome {
        let (end, judged) = (
            &self.edges.ends[number as usize],
            &self.ends[number as usize],
        );
        EndOutcome {
            address: end.address,
            then: match &end.then {
                Then::Named(name) => Some(Arc::clone(name)),
                Then::Unnamed | Then::Unknown => None,
            },
            workload: judged.workload.clone(),
            segments: self
                .draft
                .dictionary
                .segment_names(judged.identity)
                .map(str::to_owned)
                .collect(),
        }
    }
}

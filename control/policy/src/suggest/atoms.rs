//! Who did what that no rule covers: ends that can be placed in segments, and the pairs of them.

use super::propose::LeftOutWhy;
use super::{FAN_OUT_MAX, UNANSWERED_PACKETS_MAX};
use crate::prefix::address_bytes;
use crate::simulate::Sums;
use crate::simulate::draft::{Draft, EndJudged};
use crate::simulate::edges::{Edge, Edges};
use crate::simulate::judge::{Fate, Sureness};
use crate::validate::ValidPolicy;
use abi::VerdictSource;
use abi::image::{SEGMENT_INTERNET, SEGMENT_UNMANAGED};
use abi::verdict::Coverage;
use core::net::IpAddr;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// Protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Who can be placed in a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Atom {
    /// A workload of the policy, by its place.
    Workload(u32),
    /// An internal address that is nobody's.
    Address(IpAddr),
    /// Addresses that are sent to by many: multicast, broadcast.
    Multicast(IpAddr),
    /// Addresses that mean something on one link only, and none at all.
    LinkLocal(IpAddr),
    /// Everybody outside.
    Internet,
}

/// What one atom asked of another, and what no rule covers of it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) sums: Sums,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// Flows whose initiator is sure.
    pub(super) sure_flows: u64,
}

impl Ask {
    fn of(edge: &Edge) -> Self {
        let is_sure = edge.case.sureness == Sureness::Sure;
        Self {
            sums: edge.sums,
            first_ns: edge.first_ns,
            last_ns: edge.last_ns,
            sure_flows: if is_sure { edge.sums.flows } else { 0 },
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.sums.add(&other.sums);
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.sure_flows = self.sure_flows.saturating_add(other.sure_flows);
    }
}

/// Who asked whom about what: initiator, responder, protocol, key.
pub(super) type Asked = (Atom, Atom, u8, u16);

/// What was left out: why, and whose.
pub(super) type LeftOutKey = (LeftOutWhy, IpAddr);
/// How much of that, and which destinations and services.
pub(super) type LeftOutSum = (Ask, BTreeSet<(IpAddr, u8, u16)>);

/// Everything that no rule covers.
#[derive(Debug, Default)]
pub(super) struct Atoms {
    pub(super) asks: BTreeMap<Asked, Ask>,
    pub(super) left_out: BTreeMap<LeftOutKey, LeftOutSum>,
    pub(super) flows: u64,
    pub(super) covered_flows: u64,
    /// IPv4 addresses that only ever received, from several, and end in 255: broadcasts of their networks.
    broadcasts: BTreeSet<IpAddr>,
}

/// Judges what was seen by the policy in force and keeps what no rule covers.
pub(super) fn gather(draft: &mut Draft<'_>, policy: &ValidPolicy, edges: &Edges) -> Atoms {
    let ends: Vec<EndJudged> = edges.ends.iter().map(|end| draft.end(end)).collect();
    let mut atoms = Atoms {
        broadcasts: broadcasts(edges),
        ..Atoms::default()
    };
    let mut open: Vec<&Edge> = Vec::new();
    for edge in &edges.edges {
        let [src, dst] = [&ends[edge.src as usize], &ends[edge.dst as usize]];
        let mut judged = draft.judge(&edge.case, src, dst);
        atoms.flows = atoms.flows.saturating_add(edge.sums.flows);
        if edge.case.source == VerdictSource::Related {
            // ICMP errors pass with the flow that they are about.
            draft.judge_error(&mut judged, Fate::default());
            judged.decision.coverage = Coverage::Rule;
        }
        if judged.decision.coverage == Coverage::Rule && !edge.case.folded {
            atoms.covered_flows = atoms.covered_flows.saturating_add(edge.sums.flows);
        } else {
            open.push(edge);
        }
    }
    let scanners = scanners(&open);
    for edge in open {
        let [src, dst] = [&ends[edge.src as usize], &ends[edge.dst as usize]];
        let both = [src, dst].map(|end| atoms.atom(draft, policy, end));
        match left_out(edge, &both, scanners.contains(&edge.src)) {
            Some(why) => atoms.leave_out(why, edge, src.address, dst.address),
            None => atoms.ask(both, edge),
        }
    }
    atoms
}

/// Sources that try more than [`FAN_OUT_MAX`] destinations and services in vain.
fn scanners(open: &[&Edge]) -> BTreeSet<u32> {
    let mut tried: BTreeMap<u32, BTreeSet<(u32, u8, u16)>> = BTreeMap::new();
    for edge in open.iter().filter(|edge| is_in_vain(edge)) {
        let what = (edge.dst, edge.case.proto, edge.case.port);
        tried.entry(edge.src).or_default().insert(what);
    }
    tried
        .into_iter()
        .filter(|(_, tried)| tried.len() > FAN_OUT_MAX)
        .map(|(src, _)| src)
        .collect()
}

/// Whether nothing came of it: no answer, or a refusal, or a handshake that its initiator broke off.
fn is_in_vain(edge: &Edge) -> bool {
    let Sums {
        flows,
        pkts_fwd,
        pkts_rev,
        ..
    } = edge.sums;
    let flows = flows.max(1);
    match edge.case.proto {
        TCP => is_unanswered(edge) || (pkts_fwd <= flows.saturating_mul(2) && pkts_rev <= flows),
        _ => pkts_rev == 0 && pkts_fwd <= flows.saturating_mul(2),
    }
}

/// Whether a handshake was begun that nobody answered.
fn is_unanswered(edge: &Edge) -> bool {
    let per_flow = edge
        .sums
        .flows
        .max(1)
        .saturating_mul(UNANSWERED_PACKETS_MAX);
    edge.case.proto == TCP
        && edge.case.sureness == Sureness::Sure
        && edge.sums.pkts_rev == 0
        && edge.sums.pkts_fwd <= per_flow
}

fn left_out(edge: &Edge, both: &[Atom; 2], scans: bool) -> Option<LeftOutWhy> {
    let is_outside = |atom: &Atom| *atom == Atom::Internet;
    let to_many = matches!(both[1], Atom::Multicast(_));
    if edge.case.folded || (scans && is_in_vain(edge) && !to_many) {
        Some(LeftOutWhy::Scan)
    } else if both.iter().all(is_outside) {
        Some(LeftOutWhy::Outside)
    } else if is_unanswered(edge) {
        Some(LeftOutWhy::Unanswered)
    } else {
        None
    }
}

/// Addresses that end in 255 and never sent anything, not even an answer.
fn broadcasts(edges: &Edges) -> BTreeSet<IpAddr> {
    let mut received = BTreeSet::new();
    let mut sent = BTreeSet::new();
    for edge in &edges.edges {
        let [src, dst] = [edge.src, edge.dst].map(|end| edges.ends[end as usize].address);
        sent.insert(src);
        if edge.sums.pkts_rev > 0 || edge.case.proto != UDP {
            sent.insert(dst);
        }
        received.insert(dst);
    }
    let ends_in_255 = |address: &IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[3] == 255);
    received
        .difference(&sent)
        .filter(|address| ends_in_255(address))
        .copied()
        .collect()
}

impl Atoms {
    fn ask(&mut self, [src, dst]: [Atom; 2], edge: &Edge) {
        let ask = Ask::of(edge);
        self.asks
            .entry((src, dst, edge.case.proto, edge.case.port))
            .and_modify(|sum| sum.add(&ask))
            .or_insert(ask);
    }

    fn leave_out(&mut self, why: LeftOutWhy, edge: &Edge, src: IpAddr, dst: IpAddr) {
        let ask = Ask::of(edge);
        let (sum, tried) = self.left_out.entry((why, src)).or_insert_with(|| {
            (
                Ask {
                    sums: Sums::default(),
                    ..ask.clone()
                },
                BTreeSet::new(),
            )
        });
        sum.add(&ask);
        tried.insert((dst, edge.case.proto, edge.case.port));
    }

    fn atom(&self, draft: &Draft<'_>, policy: &ValidPolicy, end: &EndJudged) -> Atom {
        if let Some(place) = end.workload.as_deref().and_then(|name| draft.place(name)) {
            return Atom::Workload(place);
        }
        let address = end.address;
        if is_for_many(address) || self.broadcasts.contains(&address) {
            return Atom::Multicast(address);
        }
        if is_of_a_link(address) {
            return Atom::LinkLocal(address);
        }
        let segments = draft.dictionary.segments_of(end.identity);
        let has_own = segments
            .iter()
            .any(|s| *s > SEGMENT_UNMANAGED.max(SEGMENT_INTERNET));
        let is_internal = policy.internal.iter().any(|net| net.contains(&address));
        if is_internal || has_own {
            Atom::Address(address)
        } else {
            Atom::Internet
        }
    }
}

impl Atom {
    /// An address of it, where it has one by itself.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) | Self::Multicast(address) | Self::LinkLocal(address) => {
                Some(*address)
            }
            Self::Workload(_) | Self::Internet => None,
        }
    }

    /// Segments of the policy in force that hold all of it.
    pub(super) fn segments(&self, draft: &Draft<'_>, policy: &ValidPolicy) -> BTreeSet<u32> {
        let addresses: Vec<IpAddr> = match self {
            Self::Workload(place) => {
                let workload = policy.workloads.get(*place as usize);
                let nets = workload.map_or(&[][..], |workload| &workload.addresses);
                nets.iter().map(IpNet::network).collect()
            }
            _ => self.address().into_iter().collect(),
        };
        let of = |address: &IpAddr| -> BTreeSet<u32> {
            let identity = draft.image.identity(&address_bytes(*address));
            draft.image.segments_of(identity).collect()
        };
        let all = addresses.iter().map(of);
        all.reduce(|held, own| held.intersection(&own).copied().collect())
            .unwrap_or_default()
    }
}

/// Multicast and the limited broadcast.
fn is_for_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Link-local, and the address of a host that has none yet.
fn is_of_a_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

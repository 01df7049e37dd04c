//! What was seen, summed by what cannot be decided differently.

use super::judge::{Case, Sureness};
use super::{Before, NameThen, Observed, Sums};
use crate::prefix::address_bytes;
use abi::VerdictSource;
use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::Arc;

/// No further one.
const NONE: u32 = u32::MAX;
/// Odd factors without a pattern: the fractions of the square roots of 2 and 3.
const FACTORS: [u64; 2] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b];

/// Hashes one number of 128 bits under a key. Whoever sends traffic chooses addresses, so the key counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// State of [`Keyed`].
#[derive(Debug)]
pub(crate) struct Folding(u64);

impl Folding {
    fn fold(&mut self, low: u64, high: u64) {
        let product = u128::from(low ^ self.0 ^ FACTORS[0])
            * u128::from(high ^ self.0.rotate_left(32) ^ FACTORS[1]);
        let [a, b] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        self.0 ^= u64::try_from(a ^ b).unwrap_or(0);
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.fold(u64::from(*byte), 0);
        }
    }

    fn write_u128(&mut self, value: u128) {
        let [low, high] = [value, value >> 64]
            .map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        self.fold(low, high);
        self.fold(high, low);
    }
}

/// An address and whose it was.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) address: IpAddr,
    pub(crate) then: Then,
    /// The same address under another name.
    next: u32,
}

/// [`NameThen`], kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Unnamed,
    Unknown,
    Named(Arc<str>),
}

impl Then {
    fn is(&self, name: &NameThen<'_>) -> bool {
        match (self, name) {
            (Self::Unnamed, NameThen::Unnamed) | (Self::Unknown, NameThen::Unknown) => true,
            (Self::Named(kept), NameThen::Named(name)) => kept == *name,
            _ => false,
        }
    }
}

impl From<&NameThen<'_>> for Then {
    fn from(name: &NameThen<'_>) -> Self {
        match name {
            NameThen::Unnamed => Self::Unnamed,
            NameThen::Unknown => Self::Unknown,
            NameThen::Named(name) => Self::Named(Arc::clone(name)),
        }
    }
}

impl End {
    fn new(address: IpAddr, then: &NameThen<'_>) -> Self {
        Self {
            address,
            then: then.into(),
            next: NONE,
        }
    }
}

/// Conversations of two ends about one service that were decided alike and are judged alike.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) src: u32,
    pub(crate) dst: u32,
    pub(crate) case: Case,
    pub(crate) before: u32,
    /// The same edge, decided otherwise.
    next: u32,
    pub(crate) rows: u64,
    pub(crate) sums: Sums,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

impl Edge {
    fn add(&mut self, seen: &Observed<'_>) {
        self.rows += 1;
        self.sums.add(&seen.sums);
        self.first_ns = self.first_ns.min(seen.first_ns);
        self.last_ns = self.last_ns.max(seen.last_ns);
    }
}

/// A conversation for which there is no place.
#[derive(Debug)]
pub(crate) struct Loose {
    pub(crate) ends: [End; 2],
    pub(crate) case: Case,
    pub(crate) before: Before,
    pub(crate) sums: Sums,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

/// Everything seen.
#[derive(Debug)]
pub(crate) struct Edges {
    ends_by_address: HashMap<u128, u32, Keyed>,
    pub(crate) ends: Vec<End>,
    edges_by_key: HashMap<u128, u32, Keyed>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) befores: Vec<Before>,
    befores_by_value: HashMap<BeforeKey, u32>,
    /// The edge that was added to last: history tells conversations of the same ends one after the other.
    last: u32,
}

type VerdictKey = (u8, u8, Option<Arc<str>>);
type BeforeKey = (VerdictKey, VerdictKey);

fn before_key(before: &Before) -> BeforeKey {
    let key = |verdict: &super::Verdict| {
        (
            verdict.action.byte(),
            verdict.source.byte(),
            verdict.rule.clone(),
        )
    };
    (key(&before.enforced), key(&before.pending))
}

/// What of a conversation the judgement rests on, beside its ends.
fn case(seen: &Observed<'_>) -> Case {
    let sureness = Sureness::of(seen.proto, seen.evidence);
    let is_asked = sureness != Sureness::Sure;
    Case {
        proto: seen.proto,
        port: seen.port,
        folded: seen.folded,
        sureness,
        // Fewer packets than flows: in one of them the initiator said nothing.
        initiator_silent: is_asked && seen.sums.pkts_fwd < seen.sums.flows.max(1),
        responder_silent: is_asked && seen.sums.pkts_rev == 0,
        source: seen.before.enforced.source,
    }
}

fn key(src: u32, dst: u32, case: &Case) -> u128 {
    let flags = u128::from(case.folded)
        | u128::from(case.initiator_silent) << 1
        | u128::from(case.responder_silent) << 2
        | u128::from(case.sureness.number()) << 3
        | u128::from(judged_by_source(case.source)) << 5;
    u128::from(src)
        | u128::from(dst) << 32
        | u128::from(case.port) << 64
        | u128::from(case.proto) << 80
        | flags << 88
}

/// Sources of verdicts that the judgement asks for; the others are one.
fn judged_by_source(source: VerdictSource) -> u8 {
    match source {
        VerdictSource::Related => 1,
        VerdictSource::Exception => 2,
        _ => 0,
    }
}

impl Edges {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ends_by_address: HashMap::with_hasher(Keyed(seed)),
            ends: Vec::new(),
            edges_by_key: HashMap::with_hasher(Keyed(seed.rotate_left(17))),
            edges: Vec::new(),
            befores: Vec::new(),
            befores_by_value: HashMap::new(),
            last: NONE,
        }
    }

    /// Adds a conversation to its edge; gives it back where that would be one more than `edges_max`.
    pub(crate) fn add(&mut self, seen: &Observed<'_>, edges_max: usize) -> Option<Loose> {
        let full = self.edges.len() >= edges_max;
        let case = case(seen);
        if self.is_last(seen, &case) {
            self.edges[self.last as usize].add(seen);
            return None;
        }
        let (Some(src), Some(dst)) = (
            self.end(seen.src, &seen.src_then, full),
            self.end(seen.dst, &seen.dst_then, full),
        ) else {
            return Some(loose(seen, case));
        };
        let key = key(src, dst, &case);
        let first = self.edges_by_key.get(&key).copied().unwrap_or(NONE);
        let mut at = first;
        while let Some(edge) = self.edges.get_mut(at as usize) {
            if self.befores[edge.before as usize] == *seen.before {
                edge.add(seen);
                self.last = at;
                return None;
            }
            at = edge.next;
        }
        if full {
            return Some(loose(seen, case));
        }
        let new = index(self.edges.len());
        let before = self.before(seen.before);
        self.edges.push(Edge {
            src,
            dst,
            case,
            before,
            next: first,
            rows: 1,
            sums: seen.sums,
            first_ns: seen.first_ns,
            last_ns: seen.last_ns,
        });
        self.edges_by_key.insert(key, new);
        self.last = new;
        None
    }

    /// Whether a conversation is of the edge that was added to last.
    fn is_last(&self, seen: &Observed<'_>, case: &Case) -> bool {
        let Some(edge) = self.edges.get(self.last as usize) else {
            return false;
        };
        let is_end = |place: u32, address: IpAddr, then: &NameThen<'_>| {
            let end = &self.ends[place as usize];
            end.address == address && end.then.is(then)
        };
        is_end(edge.dst, seen.dst, &seen.dst_then)
            && is_end(edge.src, seen.src, &seen.src_then)
            && key(0, 0, &edge.case) == key(0, 0, case)
            && self.befores[edge.before as usize] == *seen.before
    }

    /// The end's number; none where it is new and nothing new is taken.
    fn end(&mut self, address: IpAddr, then: &NameThen<'_>, full: bool) -> Option<u32> {
        let bits = u128::from_be_bytes(address_bytes(address));
        let first = self.ends_by_address.get(&bits).copied().unwrap_or(NONE);
        let mut at = first;
        while let Some(end) = self.ends.get(at as usize) {
            if end.then.is(then) {
                return Some(at);
            }
            at = end.next;
        }
        if full {
            return None;
        }
        let new = index(self.ends.len());
        self.ends.push(End {
            next: first,
            ..End::new(address, then)
        });
        self.ends_by_address.insert(bits, new);
        Some(new)
    }

    fn before(&mut self, before: &Before) -> u32 {
        let new = index(self.befores.len());
        let at = *self
            .befores_by_value
            .entry(before_key(before))
            .or_insert(new);
        if at == new {
            self.befores.push(before.clone());
        }
        at
    }
}

fn loose(seen: &Observed<'_>, case: Case) -> Loose {
    Loose {
        ends: [
            End::new(seen.src, &seen.src_then),
            End::new(seen.dst, &seen.dst_then),
        ],
        case,
        before: seen.before.clone(),
        sums: seen.sums,
        first_ns: seen.first_ns,
        last_ns: seen.last_ns,
    }
}

/// A place in a list. The limit of edges keeps each far below 2^32.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(NONE)
}

//! Simulates a draft over what was seen: what it would have decided, through the code that enforces.
//!
//! [`Simulation::push`] takes conversations one by one and sums those that cannot be decided differently: the same two
//! ends under the same names, the same service, the same evidence, the same verdict then. [`Simulation::finish`] asks
//! the draft's image once for each such *edge*. What cannot be known is told as a [`Doubt`], never guessed.
//!
//! Control calls it for `ringfence policy simulate`. Nothing here reads files, clocks or history.

pub(crate) mod draft;
pub(crate) mod edges;
pub(crate) mod judge;
mod outcome;

pub use judge::{After, Doubt};
pub use outcome::{Change, EdgeOutcome, EndOutcome, Listing, Outcome, RuleUse, Tally, Totals};

use crate::compile::CompiledPolicy;
use crate::validate::ValidPolicy;
use abi::verdict::InitiatorEvidence;
use abi::{Action, Mode, VerdictSource};
use core::net::IpAddr;
use draft::Draft;
use edges::Edges;
use outcome::Gatherer;
use std::sync::Arc;

/// Edges that are kept apart; each needs about 200 bytes. Conversations of further edges are judged and summed, but
/// not listed, and do not count as distinct sources and destinations of rules.
pub const EDGES_MAX: usize = 2_000_000;
/// Below this evidence the initiator is not sure, and the other direction is judged too.
pub const DIRECTION_SURE_FROM: InitiatorEvidence = InitiatorEvidence::PortAsymmetry;
/// Decisions that are asked for about one source of folded flows, whose destinations and ports are not known; where
/// more would be needed they are in doubt.
pub const FOLDED_DECISIONS_MAX: usize = 1 << 20;

/// The same policy with every segment in enforce: what it would come to in the end.
#[must_use]
pub fn enforced(policy: &ValidPolicy) -> ValidPolicy {
    let mut segments = policy.segments.to_vec();
    for segment in &mut segments {
        segment.mode = Mode::Enforce;
    }
    ValidPolicy {
        segments: segments.into(),
        ..policy.clone()
    }
}

/// Whose name an address had when it was seen.
#[derive(Clone, Copy, Debug)]
pub enum NameThen<'a> {
    /// No workload's, as far as is known ever.
    Unnamed,
    /// Nobody's then, but the address has had names at other times: who it was then is not known.
    Unknown,
    /// This workload's.
    Named(&'a Arc<str>),
}

/// What was decided in one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happened, or would have.
    pub action: Action,
    /// Who said so.
    pub source: VerdictSource,
    /// Rule that decided.
    pub rule: Option<Arc<str>>,
}

/// What was decided when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// What happened.
    pub enforced: Verdict,
    /// What would have happened, had everything in test been enforced.
    pub pending: Verdict,
}

/// Sums over what was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Flows.
    pub flows: u64,
    /// Packets from the initiator.
    pub pkts_fwd: u64,
    /// Packets from the responder.
    pub pkts_rev: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
}

impl Sums {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.pkts_fwd = self.pkts_fwd.saturating_add(other.pkts_fwd);
        self.pkts_rev = self.pkts_rev.saturating_add(other.pkts_rev);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// One conversation: what two ends did about one service within some time, decided in one way.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// Workload of the initiator then.
    pub src_then: NameThen<'a>,
    /// Workload of the responder then.
    pub dst_then: NameThen<'a>,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the responder; type * 256 + code of ICMP and ICMPv6.
    pub port: u16,
    /// How the initiator was decided.
    pub evidence: InitiatorEvidence,
    /// Flows that were told together (a scan): destinations and ports are not known.
    pub folded: bool,
    /// What was decided.
    pub before: &'a Before,
    /// Sums.
    pub sums: Sums,
    /// First packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
}

/// A simulation under way.
#[derive(Debug)]
pub struct Simulation<'a> {
    draft: Draft<'a>,
    edges: Edges,
    beyond: Gatherer,
    conversations: u64,
    edges_max: usize,
}

impl<'a> Simulation<'a> {
    /// Of a draft and its image. `seed` keys the tables, so that nobody can aim traffic at one place of them: draw it
    /// anew for each simulation; the outcome does not depend on it.
    #[must_use]
    pub fn new(policy: &'a ValidPolicy, compiled: &'a CompiledPolicy, seed: u64) -> Self {
        Self::with_limit(policy, compiled, seed, EDGES_MAX)
    }

    /// The same with another limit than [`EDGES_MAX`].
    #[must_use]
    pub fn with_limit(
        policy: &'a ValidPolicy,
        compiled: &'a CompiledPolicy,
        seed: u64,
        edges_max: usize,
    ) -> Self {
        Self {
            draft: Draft::new(policy, compiled),
            edges: Edges::new(seed),
            beyond: Gatherer::default(),
            conversations: 0,
            edges_max,
        }
    }

    /// Takes one conversation. In any order.
    pub fn push(&mut self, seen: &Observed<'_>) {
        self.conversations += 1;
        if let Some(loose) = self.edges.add(seen, self.edges_max) {
            self.beyond.count_loose(&mut self.draft, &loose);
        }
    }

    /// Conversations taken so far.
    #[must_use]
    pub fn conversations(&self) -> u64 {
        self.conversations
    }

    /// Judges every edge.
    #[must_use]
    pub fn finish(mut self, listing: &Listing) -> Outcome {
        outcome::finish(&mut self.draft, &self.edges, self.beyond, listing)
    }
}

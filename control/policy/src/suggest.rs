//! Suggests rules for traffic that no rule covers, with the evidence behind each.
//!
//! [`Suggester::push`] takes conversations; [`Suggester::finish`] judges them by the policy in force, keeps what no rule
//! speaks about, groups its ends by labels and by behaviour, and writes what is missing as TOML behind the policy's own
//! text. What looks like a scan, what nothing answered, and what cannot be enforced is left out and told. Run again over
//! the same traffic with its own proposal in force, it proposes nothing.
//!
//! Control calls it for `ringfence policy suggest`. Nothing here reads files, clocks or history.

mod atoms;
mod emit;
mod groups;
mod names;
mod propose;
mod watch;

pub use propose::{Evidence, LeftOut, LeftOutWhy, NewSegment, NewService, SuggestedRule};
pub use watch::{DAYS_ENOUGH, Lack, NEW_PER_MILLE_MAX, Watched};

use crate::compile::CompiledPolicy;
use crate::problem::PolicyErrors;
use crate::simulate::draft::Draft;
use crate::simulate::edges::Edges;
use crate::simulate::{EDGES_MAX, Observed};
use crate::validate::ValidPolicy;
use jiff::civil::Date;
use watch::Watch;

/// Of a segment's workloads, or of a service's ports, so many in a hundred must have been seen for it to be used as it
/// is; below, a narrower one is proposed.
pub const REUSE_PERCENT: usize = 50;
/// Of the services of two ends without labels, so many in a hundred must be the same for them to be one segment.
pub const BEHAVIOUR_PERCENT: usize = 60;
/// Destinations and services that one source may try without an answer, or with a refusal; beyond, it scans.
pub const FAN_OUT_MAX: usize = 20;
/// Packets of one flow that may wait for an answer: a SYN and its repetitions.
pub const UNANSWERED_PACKETS_MAX: u64 = 7;

/// How it is to be written.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Before the name of every new segment, service and rule.
    pub name_prefix: String,
}

/// A suggestion under way.
#[derive(Debug)]
pub struct Suggester<'a> {
    policy: &'a ValidPolicy,
    compiled: &'a CompiledPolicy,
    edges: Edges,
    watch: Watch,
    beyond: u64,
}

/// What is proposed.
#[derive(Clone, Debug)]
pub struct Suggestion {
    /// The policy in force with everything that is proposed behind it.
    pub text: String,
    /// Segments that are proposed.
    pub segments: Vec<NewSegment>,
    /// Services that are proposed.
    pub services: Vec<NewService>,
    /// Rules that are proposed.
    pub rules: Vec<SuggestedRule>,
    /// What no rule covers and nothing is proposed for.
    pub left_out: Vec<LeftOut>,
    /// For how long it has been watched, and whether that is enough.
    pub watched: Watched,
    /// Flows seen.
    pub flows: u64,
    /// Of those, covered by the policy in force.
    pub covered_flows: u64,
    /// Conversations that were not looked at: beyond the limit of edges.
    pub beyond: u64,
}

/// Why nothing can be proposed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SuggestError {
    /// What was written is not a valid policy.
    #[error(
        "what would be proposed is not a valid policy, so that its text cannot be extended piece by piece: {0}"
    )]
    Text(PolicyErrors),
}

impl<'a> Suggester<'a> {
    /// For a policy in force. `seed` as for a simulation.
    #[must_use]
    pub fn new(policy: &'a ValidPolicy, compiled: &'a CompiledPolicy, seed: u64) -> Self {
        Self {
            policy,
            compiled,
            edges: Edges::new(seed),
            watch: Watch::default(),
            beyond: 0,
        }
    }

    /// Takes one conversation. In any order.
    pub fn push(&mut self, seen: &Observed<'_>) {
        self.watch.see(seen.first_ns, seen.last_ns);
        if self.edges.add(seen, EDGES_MAX).is_some() {
            self.beyond += 1;
        }
    }

    /// Proposes what is missing in `text`, the policy's own.
    ///
    /// # Errors
    /// The text cannot be extended.
    pub fn finish(
        self,
        text: &str,
        today: Date,
        manner: &Manner,
    ) -> Result<Suggestion, SuggestError> {
        let mut draft = Draft::new(self.policy, self.compiled);
        let atoms = atoms::gather(&mut draft, self.policy, &self.edges);
        let groups = groups::group(self.policy, &draft, &atoms, manner);
        let proposal = propose::propose(self.policy, &atoms, &groups, manner);
        let text = emit::text(text, &proposal);
        // What is handed out is what `policy check` would take.
        crate::load(&text, &self.policy.file, today).map_err(SuggestError::Text)?;
        let (segments, services, rules) = (proposal.segments, proposal.services, proposal.rules);
        Ok(Suggestion {
            text,
            segments,
            services,
            rules,
            left_out: proposal.left_out,
            watched: self
                .watch
                .told(self.edges.edges.iter().map(|edge| edge.first_ns)),
            flows: atoms.flows,
            covered_flows: atoms.covered_flows,
            beyond: self.beyond,
        })
    }
}

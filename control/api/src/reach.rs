//! What a policy lets reach what: broken invariants and the paths that break them.

use crate::error::ErrorDetail;
use crate::words::Action;
use serde::{Deserialize, Serialize};

/// An invariant that a policy breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenInvariant {
    /// Its name.
    pub name: String,
    /// Where it stands, and what it says in one sentence.
    pub place: ErrorDetail,
    /// Segment that must not reach `to`.
    pub from: String,
    /// Segment that must not be reached.
    pub to: String,
    /// Within how many hops it must not.
    pub hops: u32,
    /// Shortest first, one for each kind of host that is reached.
    pub paths: Vec<Path>,
    /// Kinds of hosts that are reached and not told.
    pub untold: u64,
}

/// How one host can come to another. `hops[i]` leads from `ends[i]` to `ends[i + 1]`; no hop means
/// that one host is in both segments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// `dev -> jump (rule dev-to-jump, ssh) -> cardholder (rule ops, tcp/any)`.
    pub told: String,
    /// From the first to the last.
    pub ends: Vec<PathEnd>,
    /// What permits the hops between them.
    pub hops: Vec<PathHop>,
}

/// A host on a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathEnd {
    /// A segment it is in.
    pub segment: String,
    /// A workload, or an address that no workload has; one of those that will do.
    pub host: String,
}

/// What permits a hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathHop {
    /// By rule, the one for most services first.
    pub openings: Vec<Opening>,
}

/// What one rule, or the default, permits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The rule; none where the default permits.
    pub rule: Option<String>,
    /// For which services: names of the policy's, else ports.
    pub services: Vec<String>,
}

/// A policy to ask about: a revision that is kept, or a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// `in-force`, `previous`, or a revision or its first digits (at least 4). Left out where `text`
    /// is given.
    #[serde(default)]
    pub revision: Option<String>,
    /// The policy, TOML.
    #[serde(default)]
    pub text: Option<String>,
    /// Name of the file, for messages.
    #[serde(default)]
    pub file_name: String,
}

impl PolicySource {
    /// What is in force.
    #[must_use]
    pub fn in_force() -> Self {
        Self {
            revision: Some("in-force".to_owned()),
            ..Self::default()
        }
    }
}

words! {
    /// Which verdict an answer about reach is about.
    #[derive(Default)]
    pub enum View {
        /// As the policy is meant: every segment and every rule is taken as enforced.
        #[default]
        Intended => "intended",
        /// What happens now, modes included.
        Enforced => "enforced",
    }
}

/// Body of `POST /v1/policy/diff`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// From this one.
    pub old: PolicySource,
    /// To this one.
    pub new: PolicySource,
    /// Which verdict.
    #[serde(default)]
    pub view: View,
}

/// Answer to `POST /v1/policy/diff`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDiff {
    /// Revision of the old policy.
    pub old_revision: String,
    /// Revision of the new policy.
    pub new_revision: String,
    /// Which verdict `reach` is about.
    pub view: View,
    /// What becomes reachable and what stops being; empty where reach is the same.
    pub reach: Vec<ReachChange>,
    /// What is written differently.
    pub changes: Vec<WordChange>,
    /// Invariants that the new policy breaks and the old one does not.
    pub newly_broken: Vec<BrokenInvariant>,
    /// Invariants that the old policy breaks and the new one has and does not.
    pub mended: Vec<String>,
}

words! {
    /// What happens to connections.
    pub enum Turn {
        /// They were denied or rejected and pass now.
        Opens => "opens",
        /// They passed and are denied or rejected now.
        Closes => "closes",
        /// They pass as before, or not, in another way.
        Changes => "changes",
    }
}

/// The same change for everyone of some ends to everyone of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachChange {
    /// What happens.
    pub turn: Turn,
    /// Initiators.
    pub from: EndSet,
    /// Responders.
    pub to: EndSet,
    /// For which services.
    pub services: Vec<String>,
    /// What was decided.
    pub before: Action,
    /// By which rule; none for the default.
    pub rule_before: Option<String>,
    /// What is decided now.
    pub after: Action,
    /// By which rule; none for the default.
    pub rule_after: Option<String>,
}

/// Some ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSet {
    /// Segments all of whose members are meant; `segments [host and 3 more]` where only some are.
    pub names: Vec<String>,
    /// Workloads among them.
    pub workloads: u64,
}

words! {
    /// What came of a table.
    pub enum Changed {
        /// Only the new policy has it.
        Added => "added",
        /// Only the old policy has it.
        Removed => "removed",
        /// Both have it, and it is not the same.
        Altered => "changed",
    }
}

/// A table that is written differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordChange {
    /// `policy`, `segment`, `workload`, `service`, `rule` or `invariant`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What came of it.
    pub changed: Changed,
    /// What it is, or each thing that is different: `mode: test -> enforce`.
    pub details: Vec<String>,
}

/// Body of `POST /v1/policy/blast`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlastRequest {
    /// Which policy.
    pub policy: PolicySource,
    /// What it is to become, to see before and after.
    #[serde(default)]
    pub draft: Option<PolicySource>,
    /// Which segment; left out: each.
    #[serde(default)]
    pub segment: Option<String>,
    /// Hops, 1 to 16; left out: 3.
    #[serde(default)]
    pub hops: Option<u32>,
    /// Which verdict.
    #[serde(default)]
    pub view: View,
}

/// Answer to `POST /v1/policy/blast`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlastRadius {
    /// Which verdict.
    pub view: View,
    /// By segment, in the order of the policy.
    pub segments: Vec<Blast>,
    /// The same under the draft; none where there is no draft.
    pub draft: Option<Vec<Blast>>,
}

/// What whoever holds a host of a segment can get at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blast {
    /// The segment.
    pub segment: String,
    /// Workloads in it.
    pub workloads: u64,
    /// Its hosts reach each other.
    pub among: bool,
    /// Within 1 hop, 2 hops and so on; each holds what those before it hold.
    pub rings: Vec<Ring>,
}

/// What is reached within some hops, outside of the segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Workloads.
    pub workloads: u64,
    /// Segments with a host that is reached.
    pub segments: Vec<String>,
    /// Addresses of the internet are among them.
    pub internet: bool,
    /// Internal addresses of no workload are among them.
    pub unmanaged: bool,
}

/// Body of `POST /v1/policy/analyze`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnalyzeRequest {
    /// Which policy.
    pub policy: PolicySource,
    /// How far back use is looked at: `30d`, or a time. Left out: all of history.
    #[serde(default)]
    pub since: Option<String>,
}

/// Answer to `POST /v1/policy/analyze`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// Revision of the policy.
    pub revision: String,
    /// Rules that it has.
    pub rules: u64,
    /// Days of the time looked at on which history saw anything.
    pub days_watched: u64,
    /// Why nothing is said about use; empty where it is.
    pub use_not_judged: String,
    /// What is found, by kind, then by line.
    pub findings: Vec<Finding>,
}

/// One finding about one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: String,
    /// Line of the policy text.
    pub line: u32,
    /// `expired`, `expiring`, `unmatched`, `shadowed`, `redundant`, `conflicting`, `unused` or
    /// `over-broad`.
    pub kind: String,
    /// Why, one sentence.
    pub because: String,
    /// Other rules that it is about.
    pub others: Vec<String>,
    /// The rule can go.
    pub remove: bool,
    /// Tables to put in its place, where a narrower rule could be worked out.
    pub replace: Option<String>,
    /// What to do, in words.
    #[serde(default)]
    pub advice: String,
}

//! Policy, and what it names.

use crate::error::ErrorDetail;
use crate::life::{Peer, Unconfirmed};
use crate::time::Ts;
use crate::words::{Action, Mode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Body of `POST /v1/policy/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The policy, TOML.
    pub text: String,
    /// Name of the file, for messages.
    pub file_name: String,
}

/// Answer to `POST /v1/policy/check`. Status 200 also where the policy is not valid: the check
/// itself went well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Whether it could be applied.
    pub valid: bool,
    /// Its revision: SHA-256 of its text, hexadecimal. Empty where it is not valid.
    pub revision: String,
    /// Why not.
    pub errors: Vec<ErrorDetail>,
    /// What is legal and probably not meant.
    pub warnings: Vec<ErrorDetail>,
    /// Invariants of its own that it breaks. It can be applied all the same.
    #[serde(default)]
    pub broken_invariants: Vec<crate::reach::BrokenInvariant>,
    /// How much of everything it has.
    pub counts: PolicyCounts,
}

/// How much of everything a policy has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyCounts {
    /// `[[workload]]` tables.
    pub workloads: u64,
    /// `[[segment]]` tables.
    pub segments: u64,
    /// `[[service]]` tables.
    pub services: u64,
    /// `[[rule]]` tables.
    pub rules: u64,
    /// Distinct sets of segments that addresses map to.
    pub identities: u64,
    /// Size of the image that cores evaluate.
    pub image_bytes: u64,
}

/// Body of `POST /v1/policy/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The policy, TOML.
    pub text: String,
    /// Name of the file, for messages and the log.
    pub file_name: String,
    /// Who applies it.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
    /// It reverts by itself after so many seconds unless `POST /v1/policy/confirm` comes first; left
    /// out: it stays. 1 to [`crate::life::CONFIRM_S_MAX`].
    #[serde(default)]
    pub confirm_s: Option<u64>,
    /// Refuse where another revision than this is in force; its first digits (at least 4) are enough.
    #[serde(default)]
    pub if_revision: Option<String>,
    /// Invariants that may be broken, by name; kept in the log.
    #[serde(default)]
    pub break_invariants: Vec<String>,
}

/// Body of `POST /v1/policy/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// A revision, or its first digits (at least 4) where they are unique, or `previous`.
    pub revision: String,
    /// Who rolls back.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// Body of `POST /v1/workloads`: changes one workload of the policy in force, which becomes a
/// revision of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadRequest {
    /// Its name. A workload that is not there is added.
    pub name: String,
    /// Its addresses from now on; left out: as they are.
    #[serde(default)]
    pub addresses: Option<Vec<String>>,
    /// Its DNS names from now on, whose addresses it has too; left out: as they are.
    #[serde(default)]
    pub dns: Option<Vec<String>>,
    /// Labels to set; `null` takes one away; others stay.
    #[serde(default)]
    pub labels: BTreeMap<String, Option<String>>,
    /// Take the workload out of the policy.
    #[serde(default)]
    pub remove: bool,
    /// Who changes it.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// Answer to apply, rollback and a change of a workload. Only an adopted policy answers 200; everything else is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyResult {
    /// Revision now in force.
    pub revision: String,
    /// Its epoch.
    pub epoch: u64,
    /// The revision that was in force before.
    pub previous_revision: Option<String>,
    /// Cores that adopted it.
    pub workers: u32,
    /// From text to image, microseconds.
    #[serde(default)]
    pub compile_us: u64,
    /// Only memberships had changed: the tables of rules were kept from the policy before.
    #[serde(default)]
    pub memberships_only: bool,
    /// From the image's arrival at the dataplane until the cores were told, microseconds: it was
    /// checked and kept for the next start.
    #[serde(default)]
    pub preparation_us: u64,
    /// From then, the publication, to the last core's adoption, microseconds.
    pub adoption_us: u64,
    /// From the request to the last core's adoption, microseconds: the time to enforcement.
    #[serde(default)]
    pub enforcement_us: u64,
    /// Until when it must be confirmed, where it reverts by itself.
    #[serde(default)]
    pub unconfirmed: Option<Unconfirmed>,
    /// What is legal and probably not meant.
    pub warnings: Vec<ErrorDetail>,
    /// How much of everything it has.
    pub counts: PolicyCounts,
}

words! {
    /// Whether the dataplane has what control wants.
    pub enum PolicyState {
        /// No policy has ever been applied here.
        None => "none",
        /// The dataplane is not connected; it keeps what it has.
        Waiting => "waiting",
        /// Sent, not yet adopted by every core.
        Publishing => "publishing",
        /// Every core has adopted it.
        Adopted => "adopted",
        /// The dataplane refused it and keeps what it has.
        Refused => "refused",
    }
}

/// Answer to `GET /v1/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce {
    /// Whether the dataplane has it.
    pub state: PolicyState,
    /// Revision; empty where there is none.
    pub revision: String,
    /// Epoch, 0 none.
    pub epoch: u64,
    /// The epoch that each core has adopted.
    pub worker_epochs: Vec<u64>,
    /// Since when it is in force; a restart of either process does not change it.
    pub adopted_ts: Option<Ts>,
    /// From publish to the last core's adoption, microseconds.
    pub adoption_us: Option<u64>,
    /// Why the dataplane refused it.
    pub refused: Option<String>,
    /// What comes back and when, where it waits for its confirmation.
    #[serde(default)]
    pub unconfirmed: Option<Unconfirmed>,
    /// Name of the file it came from.
    pub file_name: String,
    /// Who applied it.
    pub author: String,
    /// Why.
    pub note: String,
    /// How much of everything it has.
    pub counts: PolicyCounts,
    /// The text.
    pub text: String,
}

/// Parameters of `GET /v1/policy/revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionQuery {
    /// A revision, or its first digits (at least 4) where they are unique, or `previous`.
    pub revision: String,
}

/// Answer to `GET /v1/policy/revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The whole revision.
    pub revision: String,
    /// Its text.
    pub text: String,
}

words! {
    /// What was done to the policy.
    pub enum PolicyChange {
        /// An operator applied a file.
        Apply => "apply",
        /// An operator went back to an earlier revision.
        Rollback => "rollback",
        /// Control published again what was in force: the dataplane or control had restarted.
        Restore => "restore",
        /// Control applied the file that its configuration names, at its start.
        Start => "start",
        /// An operator changed one workload of the policy in force.
        Workload => "workload",
        /// An operator confirmed a policy that would have reverted by itself.
        Confirm => "confirm",
        /// The policy before one that was not confirmed came back, by itself or because an operator
        /// did not want to wait.
        Revert => "revert",
        /// A segment came into its next mode.
        Promote => "promote",
        /// A segment went back to the mode before.
        Demote => "demote",
        /// A workload is held.
        Quarantine => "quarantine",
        /// A workload is let go.
        Lift => "lift",
        /// A candidate is judged from now on.
        CandidateAdd => "candidate-add",
        /// A candidate is judged no more.
        CandidateRemove => "candidate-remove",
        /// Entries that an earlier release wrote were taken over into the chain of hashes.
        TakenOver => "taken-over",
        /// Control published the same revision with other members: an inventory or DNS changed.
        Membership => "membership",
    }
}

words! {
    /// How it ended.
    pub enum Outcome {
        /// Every core has adopted it.
        Adopted => "adopted",
        /// The dataplane refused it.
        Refused => "refused",
        /// No answer came in time.
        Timeout => "timeout",
        /// The link broke before the answer.
        Disconnected => "disconnected",
        /// Done; nothing had to be published.
        Done => "done",
    }
}

/// Answer to `GET /v1/policy/log`. Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLog {
    /// Every change, successful or not.
    pub entries: Vec<PolicyLogEntry>,
}

/// One change; also one line of `log.jsonl` in the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLogEntry {
    /// When.
    pub ts: Ts,
    /// What was done.
    pub change: PolicyChange,
    /// Revision.
    pub revision: String,
    /// Epoch it was published under.
    pub epoch: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, where it was not adopted.
    #[serde(default)]
    pub message: String,
    /// Who.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
    /// Name of the file it came from.
    #[serde(default)]
    pub file_name: String,
    /// SHA-256 of the inventory beside it, hexadecimal; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inventory: String,
    /// From publish to the last core's adoption, microseconds.
    #[serde(default)]
    pub adoption_us: Option<u64>,
    /// Who sat at the other end of the socket, as the kernel says; `author` is what that one says.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// Number of the entry, from 1; 0 for an entry from before the chain.
    #[serde(default)]
    pub seq: u64,
    /// Hash of the entry before; of the first, SHA-256 of all that stands before it.
    #[serde(default)]
    pub previous_hash: String,
    /// SHA-256, hexadecimal, of the entry's line without this field, which is its last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// Answer to `GET /v1/segments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// In the order of the policy, then `internet`, `unmanaged`.
    pub segments: Vec<Segment>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Name.
    pub name: String,
    /// Id in records and IPFIX.
    pub id: u32,
    /// How far it has come; none for the built-in segments.
    pub mode: Option<Mode>,
    /// Its selector, where it has one.
    pub select: Option<String>,
    /// Its addresses, where it names them.
    pub addresses: Vec<String>,
    /// Workloads in it.
    pub workloads: Vec<String>,
    /// Recent flows whose initiator is in it.
    pub flows_from: u64,
    /// Recent flows whose responder is in it.
    pub flows_to: u64,
    /// Of both, those whose verdict does not permit.
    pub denied_flows: u64,
}

/// Answer to `GET /v1/workloads`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workloads {
    /// In the order of the policy.
    pub workloads: Vec<Workload>,
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// DNS names; the addresses that they stand for are among its addresses.
    #[serde(default)]
    pub dns: Vec<String>,
    /// It is in an inventory beside the policy, not in the policy itself.
    #[serde(default)]
    pub from_inventory: bool,
    /// Segments it is in.
    pub segments: Vec<String>,
    /// Recent flows it initiated.
    pub flows_from: u64,
    /// Recent flows it answered or was asked for.
    pub flows_to: u64,
    /// Last packet to or from it in a recent flow.
    pub last_ts: Option<Ts>,
}

/// Answer to `GET /v1/rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Since when hits are counted: the start of control.
    pub since: Option<Ts>,
    /// In the order of the policy.
    pub rules: Vec<Rule>,
}

/// One rule and what it decided since `Rules::since`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// Tier.
    pub tier: String,
    /// What it asks for.
    pub action: Action,
    /// Its own mode, where it is staged.
    pub mode: Option<Mode>,
    /// Flow records it decided.
    pub hits: u64,
    /// Packets in those.
    pub packets: u64,
    /// IP-layer bytes in those.
    pub bytes: u64,
    /// First packet it decided.
    pub first_ts: Option<Ts>,
    /// Last packet it decided.
    pub last_ts: Option<Ts>,
    /// Flow records it would have decided differently, were everything in test enforced.
    pub pending_hits: u64,
}

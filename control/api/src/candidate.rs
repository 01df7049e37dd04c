//! Candidates: policies that are judged beside the one in force, on the same flows.

use crate::flow::Flow;
use crate::time::Ts;
use crate::words::{Action, VerdictSource};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Candidates at once.
pub const CANDIDATES_MAX: usize = 3;
/// Bytes of a candidate's name.
pub const NAME_BYTES_MAX: usize = 64;

/// Body of `POST /v1/policy/candidates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CandidateRequest {
    /// Its name; empty: the name of the file without its end. One of that name is replaced and counts
    /// from 0.
    pub name: String,
    /// The policy, TOML.
    pub text: String,
    /// Name of the file, for messages and the log.
    pub file_name: String,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

/// Body of `POST /v1/policy/candidates/remove` and `.../promote`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CandidateName {
    /// Its name.
    pub name: String,
    /// As in [`crate::policy::ApplyRequest`]; promoting only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_s: Option<u64>,
    /// As in [`crate::policy::ApplyRequest`]; promoting only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<String>,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

/// What became of flows under a candidate, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateCounts {
    /// Flows that were judged, those of aggregates included.
    pub flows: u64,
    /// Of those, permitted ones that it would deny.
    pub deny_newly: u64,
    /// Of those, denied ones that it would permit.
    pub allow_newly: u64,
    /// Of those, flows about which it is not certain: who began is only guessed, or they were told
    /// together.
    pub uncertain: u64,
    /// Records that were not judged, because more came than could be judged in time.
    pub lost_records: u64,
    /// Changed flows that a watcher was not told, because it did not read in time.
    #[serde(default)]
    pub watch_shed: u64,
}

/// One candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: String,
    /// Name of the file it came from.
    pub file_name: String,
    /// Who added it.
    pub author: String,
    /// Why.
    pub note: String,
    /// Since when it is judged.
    pub added_ts: Ts,
    /// What became of flows.
    pub counts: CandidateCounts,
    /// Who watches it now.
    #[serde(default)]
    pub watchers: u64,
    /// Why it cannot be judged, where it cannot.
    #[serde(default)]
    pub error: Option<String>,
}

/// Answer to `GET /v1/policy/candidates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// The one that was added first, first.
    pub candidates: Vec<Candidate>,
    /// As many as there may be.
    pub candidates_max: usize,
}

/// Parameters of `GET /v1/policy/candidates/watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchQuery {
    /// Candidate.
    pub name: String,
    /// `ndjson` (default) or `tsv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<WatchFormat>,
}

words! {
    /// How changed flows are written.
    pub enum WatchFormat {
        /// One JSON object a line.
        Ndjson => "ndjson",
        /// Tab separated values with a header line.
        Tsv => "tsv",
    }
}

words! {
    /// How a flow changes under a candidate.
    pub enum Turn {
        /// It is permitted and would be denied.
        DenyNewly => "deny-newly",
        /// It is denied and would be permitted.
        AllowNewly => "allow-newly",
    }
}

/// A flow that a candidate decides otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFlow {
    /// What changes.
    pub turn: Turn,
    /// What the candidate would do.
    pub candidate_verdict: Action,
    /// Who says so.
    pub candidate_source: VerdictSource,
    /// Rule of the candidate that decides.
    pub candidate_rule: Option<Arc<str>>,
    /// Not certain: who began is only guessed, or flows were told together.
    pub uncertain: bool,
    /// The flow, as it was decided.
    pub flow: Flow,
}

impl ChangedFlow {
    /// Header line of the TSV, without its end.
    #[must_use]
    pub fn tsv_header() -> String {
        let own = "turn\tcandidate_verdict\tcandidate_source\tcandidate_rule\tuncertain";
        format!("{own}\t{}", Flow::tsv_header())
    }

    /// One line of the TSV, without its end.
    #[must_use]
    pub fn tsv_row(&self) -> String {
        format!(
            "{}\t{}\t{}\t{}\t{}\t{}",
            self.turn,
            self.candidate_verdict,
            self.candidate_source,
            self.candidate_rule.as_deref().unwrap_or_default(),
            u8::from(self.uncertain),
            self.flow.tsv_row()
        )
    }
}

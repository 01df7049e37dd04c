//! Cutting a workload off for a time.

use crate::foresight::Foresight;
use crate::policy::ApplyResult;
use crate::time::Ts;
use serde::{Deserialize, Serialize};

/// Longest time of one quarantine, seconds: 30 days.
pub const FOR_S_MAX: u64 = 30 * 86_400;
/// Workloads that are held at once.
pub const HELD_MAX: usize = 64;

/// Body of `POST /v1/quarantine`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuarantineRequest {
    /// Workload. One that is held already gets these terms instead. Empty with `finding`: the host
    /// that the finding offers.
    pub workload: String,
    /// A finding of the watch that this is about; it is acknowledged once the workload is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<u64>,
    /// For how long, seconds, 1 to [`FOR_S_MAX`].
    pub for_s: u64,
    /// Services or ports (`tcp/22`) about which the policy decides as before; everything else is
    /// denied, both ways.
    pub allow: Vec<String>,
    /// Those only with this segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only say what the policy would be, and what it would cut.
    pub dry_run: bool,
    /// What was seen from this time on is held against it, as in
    /// [`crate::history::HistoryQuery::since`]; left out: [`Foresight::SINCE_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

/// Body of `POST /v1/quarantine/lift`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiftRequest {
    /// Workload.
    pub workload: String,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

/// A workload that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its name.
    pub workload: String,
    /// What stays as it was.
    pub allow: Vec<String>,
    /// With whom only.
    #[serde(default)]
    pub to: Option<String>,
    /// Since when.
    pub since_ts: Ts,
    /// Until when.
    pub until_ts: Ts,
    /// Who.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// Answer to `POST /v1/quarantine`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineResult {
    /// What is held, or would be.
    pub held: Held,
    /// Addresses that it has.
    pub addresses: Vec<String>,
    /// The policy with it.
    pub text: String,
    /// How it came into force; none of a dry run.
    pub applied: Option<ApplyResult>,
    /// What it cuts of what was seen lately, beside the policy that was in force. Looked up after it
    /// has come into force: nothing waits for it.
    pub foresight: Foresight,
}

/// Answer to `GET /v1/quarantine`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantines {
    /// What is held, the first to end first.
    pub held: Vec<Held>,
}

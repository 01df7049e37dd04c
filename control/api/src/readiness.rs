//! How far a segment has come: ready for the next mode, or what is missing; and moving it there.

use crate::time::Ts;
use crate::words::Mode;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// Parameters of `GET /v1/segments/readiness`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadinessQuery {
    /// Only this segment; left out: every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
}

/// Answer to `GET /v1/segments/readiness`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What is asked of a segment.
    pub thresholds: Thresholds,
    /// In the order of the policy.
    pub segments: Vec<SegmentReadiness>,
}

/// What is asked of a segment before it may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Days that it was watched in its mode.
    pub days_min: u32,
    /// Flows that would be denied. Asked before enforce.
    pub would_deny_flows_max: u64,
    /// Share of flows that a rule speaks about, of 1000.
    pub coverage_permille_min: u32,
    /// Days since the last flow that would be denied. Asked before enforce.
    pub quiet_days_min: u32,
    /// Days of history that are looked at.
    pub window_days: u32,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentReadiness {
    /// Name.
    pub segment: String,
    /// Its mode.
    pub mode: Mode,
    /// The next; none where it enforces.
    pub next: Option<Mode>,
    /// Whether nothing is missing for the next.
    pub ready: bool,
    /// Since when it is in its mode, as far as revisions are kept.
    pub mode_since_ts: Option<Ts>,
    /// First flow of it that history keeps within the window.
    pub first_ts: Option<Ts>,
    /// How long it was watched in its mode, seconds.
    pub watched_s: u64,
    /// Flows from and to it within the window.
    pub flows: u64,
    /// Of those, how many a rule of the policy in force speaks about.
    pub covered_flows: u64,
    /// Of those, how many would be denied, were it in enforce under the policy in force.
    pub would_deny_flows: u64,
    /// The last flow that would be denied.
    pub last_unexpected: Option<Unexpected>,
    /// The most of what would be denied, by flows.
    pub conversations: Vec<Unexpected>,
    /// What is missing; empty where it is ready.
    pub lacking: Vec<Lacking>,
}

impl SegmentReadiness {
    /// Share of flows that a rule speaks about, of 1000; all of none.
    #[must_use]
    pub fn coverage_permille(&self) -> u64 {
        let share = u128::from(self.covered_flows) * 1000;
        share
            .checked_div(u128::from(self.flows))
            .map_or(1000, |share| u64::try_from(share).unwrap_or(1000))
    }
}

/// Two ends and a service that would be denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexpected {
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// Workload of the initiator then.
    pub src_name: Option<Arc<str>>,
    /// Workload of the responder then.
    pub dst_name: Option<Arc<str>>,
    /// `postgres` where the policy named it, else `tcp/5432`.
    pub service: String,
    /// Rule that would deny it; none: no rule allows it.
    pub rule: Option<String>,
    /// Flows.
    pub flows: u64,
    /// Bytes both ways.
    pub bytes: u64,
    /// Last packet.
    pub last_ts: Ts,
}

/// One thing that is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Key of the threshold in the configuration.
    pub threshold: String,
    /// What is missing.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// Body of `POST /v1/segments/mode`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModeRequest {
    /// Segment.
    pub segment: String,
    /// Back instead of on; asks for no readiness.
    pub demote: bool,
    /// To which mode; left out: the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Mode>,
    /// Why it is to go on although something is missing; kept in the log with what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<String>,
    /// As in [`crate::policy::ApplyRequest`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_s: Option<u64>,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

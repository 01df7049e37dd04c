//! Suggestion: rules for what was seen and no rule covers.

use crate::simulate::Period;
use crate::time::Ts;
use crate::words::Mode;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

words! {
    /// Why nothing is proposed for something that was seen.
    pub enum LeftOutWhy {
        /// One source tried many destinations or services in vain.
        Scan => "scan",
        /// Nothing answered.
        Unanswered => "unanswered",
        /// Both ends are outside: nothing can be enforced about them.
        Outside => "outside",
    }
}

words! {
    /// Why it has not been watched for long enough.
    pub enum Lack {
        /// Less than a week.
        Days => "days",
        /// Not every day of the week.
        Weekdays => "weekdays",
        /// Not every hour of the day.
        Hours => "hours",
        /// New edges still come.
        StillLearning => "still-learning",
    }
}

/// Body of `POST /v1/policy/suggest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuggestRequest {
    /// The policy to extend, TOML; left out: the one in force, or an empty one where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Name of its file, for messages.
    pub file_name: String,
    /// Only what has a packet at or after this time, as in [`crate::history::HistoryQuery::since`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only what has a packet before this time, written alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Filter language, of what conversations keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Before the name of every new segment, service and rule.
    pub name_prefix: String,
}

/// What speaks for a proposal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Flows.
    pub flows: u64,
    /// Of those, with a sure initiator.
    pub sure_flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
    /// First packet.
    pub first_ts: Ts,
    /// Last packet.
    pub last_ts: Ts,
    /// Distinct initiators: workloads, or addresses that are nobody's; the internet is one.
    pub sources: u64,
    /// Distinct responders.
    pub destinations: u64,
}

/// A segment that is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSegment {
    /// Name.
    pub name: String,
    /// Selector, where one selects exactly its members.
    pub select: Option<String>,
    /// Addresses, where none does.
    pub addresses: Vec<String>,
    /// Mode.
    pub mode: Mode,
    /// Members that were seen.
    pub seen: u64,
    /// Why they belong together.
    pub why: String,
}

/// A service that is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewService {
    /// Name.
    pub name: String,
    /// Ports.
    pub ports: Vec<String>,
}

/// A rule that is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestedRule {
    /// Name.
    pub name: String,
    /// Segment of the initiators.
    pub from: String,
    /// Segments of the responders.
    pub to: Vec<String>,
    /// Service.
    pub service: String,
    /// What speaks for it.
    pub evidence: Evidence,
}

/// What no rule covers and nothing is proposed for, by source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Why.
    pub why: LeftOutWhy,
    /// Who asked.
    pub src: IpAddr,
    /// Distinct destinations and services.
    pub asked: u64,
    /// One of them: the destination.
    pub example_dst: IpAddr,
    /// One of them: the service, `tcp/22`.
    pub example_service: String,
    /// How much.
    pub evidence: Evidence,
}

/// For how long it has been watched. Days and hours are those of UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Seconds from the first packet to the last.
    pub length_s: u64,
    /// Hours of the day in which something was seen, of 24.
    pub hours: u32,
    /// Days of the week in which something was seen, of 7.
    pub weekdays: u32,
    /// Edges: two ends and a service.
    pub edges: u64,
    /// Of those, seen first in the last tenth of the period.
    pub new_edges: u64,
    /// What is missing; nothing: it is enough.
    pub lacks: Vec<Lack>,
}

/// Last line of the answer to `POST /v1/policy/suggest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// Name of the policy that is extended.
    pub file_name: String,
    /// Its revision; empty where there was none.
    pub revision: String,
    /// Which time.
    pub period: Period,
    /// For how long, and whether that is enough.
    pub watched: Watched,
    /// Flows seen.
    pub flows: u64,
    /// Of those, covered by a rule already.
    pub covered_flows: u64,
    /// Conversations that were not looked at: beyond the limit of edges.
    pub beyond: u64,
    /// Segments that are proposed.
    pub segments: Vec<NewSegment>,
    /// Services that are proposed.
    pub services: Vec<NewService>,
    /// Rules that are proposed.
    pub rules: Vec<SuggestedRule>,
    /// What nothing is proposed for, and why.
    pub left_out: Vec<LeftOut>,
    /// The whole policy: what it was, with everything that is proposed behind it.
    pub text: String,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

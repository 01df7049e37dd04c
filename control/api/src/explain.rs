//! Why a flow is, was, or would be allowed or denied.

use crate::flow::Flow;
use crate::time::Ts;
use crate::turning::Turning;
use crate::words::{Action, Coverage, Mode, VerdictSource};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Parameters of `GET /v1/explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// Initiator: an address, or the name of a workload. Of a workload the first address is taken
    /// that has the family of the other end.
    pub src: String,
    /// Responder: an address, or the name of a workload.
    pub dst: String,
    /// `tcp/443`, `udp/53`, `icmp/echo`, `proto/47`, or the name of a service (its first port).
    pub service: String,
    /// What the policy of this time said, with its names and segments: RFC 3339, nanoseconds since
    /// 1970, or a length of time before now (`2h`). Left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Parameters of `GET /v1/explain/flow`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowExplainQuery {
    /// Id of the flow: 16 hexadecimal digits.
    pub flow: String,
    /// Look in history too, from this time on; written as [`ExplainQuery::at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Answer to `GET /v1/explain/flow`: one flow that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowExplain {
    /// Its newest record, with the names of its time.
    pub flow: Flow,
    /// Records of it that are kept.
    pub records: u64,
    /// First packet that is known.
    pub first_ts: Ts,
    /// Since when the verdict and the rule are what they are.
    pub verdict_since: Ts,
    /// Its end was told.
    pub ended: bool,
    /// What the policy said that judged it.
    pub then: Option<Explain>,
    /// Why that is not known, where it is not.
    pub then_unknown: Option<String>,
    /// What the policy in force says.
    pub now: Option<Explain>,
    /// Why that is not known, where it is not.
    pub now_unknown: Option<String>,
}

/// Answer to `GET /v1/explain`: the very code that enforces, asked about one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// One sentence for people.
    pub sentence: String,
    /// Initiator.
    pub src: EndNamed,
    /// Responder.
    pub dst: EndNamed,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the responder, or ICMP type; 0 where the protocol has none.
    pub port: u16,
    /// The same as the policy language writes it: `tcp/443`, `icmp/echo`, `proto/47`.
    pub service: String,
    /// Services of the policy that contain it.
    pub services: Vec<String>,
    /// What happens to the packets.
    pub verdict: Action,
    /// Who says so.
    pub verdict_source: VerdictSource,
    /// Rule that decides.
    pub rule: Option<String>,
    /// What would happen if everything in test were enforced.
    pub pending_verdict: Action,
    /// Who would say so.
    pub pending_source: VerdictSource,
    /// Rule that would decide.
    pub pending_rule: Option<String>,
    /// Mode of the stricter end.
    pub mode: Mode,
    /// Whether a rule speaks about it.
    pub coverage: Coverage,
    /// Rules that match, deciding one first, each with the reason why it decides or does not.
    pub considered: Vec<RuleConsidered>,
    /// Revision of the policy asked, first 12 digits at least.
    pub revision: String,
    /// Its epoch.
    pub epoch: u64,
    /// When it was adopted.
    pub since: Option<Ts>,
    /// The time asked about; none: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Ts>,
    /// What is not known about that time, and what was taken instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<String>,
    /// Newest recent flows between the two ends for this service; at most 5.
    pub observed: Vec<Flow>,
    /// Only of the policy in force: the smallest change that turns the verdict and, where the flow
    /// would be decided otherwise once everything is enforced, first the one that keeps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turnings: Vec<Turning>,
    /// Where a time was asked about: what the policy in force says of the same addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Box<Explain>>,
    /// Why that is not known, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_unknown: Option<String>,
}

/// One end of the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNamed {
    /// Address.
    pub address: IpAddr,
    /// Workload that has it.
    pub name: Option<String>,
    /// Segments it is in.
    pub segments: Vec<String>,
    /// Strictest mode among them; none where it is in built-in segments only, which have none.
    pub mode: Option<Mode>,
}

/// A rule that matches the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleConsidered {
    /// Name.
    pub rule: String,
    /// Tier.
    pub tier: String,
    /// Action.
    pub action: Action,
    /// Why it decides, or why another does.
    pub why: String,
}

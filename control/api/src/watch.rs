//! Unexpected paths: what was found, why it is thought so, and what would end it.
//!
//! A *finding* is told once and kept up as more of the same comes: its evidence grows, its id stays. An *edge* is two
//! ends and a service; it is *novel* where the baseline does not have it.

use crate::flow::FlowId;
use crate::foresight::Foresight;
use crate::label::end_label;
use crate::time::Ts;
use crate::words::{Action, InitiatorEvidence, VerdictSource};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

words! {
    /// What was found.
    pub enum FindingKind {
        /// Two ends that never spoke about this service before.
        NewEdge => "new-edge",
        /// One initiator reached many hosts that it never spoke to before.
        FanOut => "fan-out",
        /// One initiator tried many ports of one host.
        PortSweep => "port-sweep",
        /// One initiator tried one service, or several, at many hosts.
        HostSweep => "host-sweep",
        /// A reached B, then B reached C, each over a novel administrative edge.
        Chain => "chain",
        /// One initiator was denied many times, at several places.
        DeniedBurst => "denied-burst",
    }
}

words! {
    /// How much it matters, least first.
    pub enum FindingSeverity {
        /// Worth a look when something else happens.
        Info => "info",
        /// Unusual.
        Low => "low",
        /// Look at it today.
        Medium => "medium",
        /// Look at it now.
        High => "high",
        /// An intruder moves.
        Critical => "critical",
    }
}

impl FindingSeverity {
    /// One step less.
    #[must_use]
    pub const fn lowered(self) -> Self {
        match self {
            Self::Info | Self::Low => Self::Info,
            Self::Medium => Self::Low,
            Self::High => Self::Medium,
            Self::Critical => Self::High,
        }
    }
}

words! {
    /// What people did about it.
    pub enum FindingState {
        /// Nobody has said anything.
        Open => "open",
        /// Somebody looks at it.
        Acknowledged => "acknowledged",
        /// It is over; the same again is a new finding.
        Resolved => "resolved",
    }
}

words! {
    /// What became of an attempt.
    pub enum EdgeOutcome {
        /// The responder answered, or was sent enough without asking for an answer.
        Answered => "answered",
        /// Nothing came back.
        Unanswered => "unanswered",
        /// The responder reset it.
        Refused => "refused",
        /// The policy stopped it.
        Denied => "denied",
    }
}

/// One end, as it was called when it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEnd {
    /// Address, that of the last flow where there were several.
    pub address: IpAddr,
    /// Workload.
    pub name: Option<Arc<str>>,
    /// Segments.
    pub segments: Arc<[Arc<str>]>,
}

impl WatchEnd {
    /// The workload, or the address.
    #[must_use]
    pub fn label(&self) -> String {
        end_label(self.name.as_deref(), self.address)
    }
}

/// One edge of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Initiator.
    pub src: WatchEnd,
    /// Responder.
    pub dst: WatchEnd,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the responder.
    pub port: u16,
    /// `ssh` where the policy names it, else `tcp/22`.
    pub service: Arc<str>,
    /// First packet.
    pub first_ts: Ts,
    /// Last packet so far.
    pub last_ts: Ts,
    /// What became of it.
    pub outcome: EdgeOutcome,
    /// What was decided.
    pub verdict: Action,
    /// Who decided.
    pub verdict_source: VerdictSource,
    /// Rule that decided.
    pub rule: Option<Arc<str>>,
    /// How the initiator was decided.
    pub initiator_evidence: InitiatorEvidence,
    /// MITRE ATT&CK technique, where one fits: `T1021.004`.
    pub technique: Option<String>,
    /// The first flow.
    pub flow_id: FlowId,
    /// Flows.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
}

impl Hop {
    /// `web-1 -> db-1 tcp/22`.
    #[must_use]
    pub fn label(&self) -> String {
        format!(
            "{} -> {} {}",
            self.src.label(),
            self.dst.label(),
            self.service
        )
    }
}

/// Who decided about the flows of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedBy {
    /// What was decided.
    pub verdict: Action,
    /// Who decided.
    pub source: VerdictSource,
    /// The rule, where one did.
    pub rule: Option<Arc<str>>,
    /// Flow records.
    pub records: u64,
}

/// Why it is thought so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Flows.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
    /// Flow records that were answered.
    pub answered: u64,
    /// Flow records, or folded flows, without an answer.
    pub unanswered: u64,
    /// Flow records, or folded flows, that the responder reset.
    pub refused: u64,
    /// Flow records, or folded flows, that the policy stopped.
    pub denied: u64,
    /// Distinct responders within the window, at the most seen.
    pub destinations: u64,
    /// Distinct services within the window, at the most seen.
    pub services: u64,
    /// The weakest evidence about who began.
    pub initiator_evidence: InitiatorEvidence,
    /// First flows; `ringfence history flows` has the rest.
    pub flow_ids: Vec<FlowId>,
    /// First responders and services: `10.0.2.7 tcp/22`.
    pub targets: Vec<String>,
    /// Who decided.
    pub decided_by: Vec<DecidedBy>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            flows: 0,
            packets: 0,
            bytes: 0,
            answered: 0,
            unanswered: 0,
            refused: 0,
            denied: 0,
            destinations: 0,
            services: 0,
            // The strongest: what is added can only weaken it.
            initiator_evidence: InitiatorEvidence::Syn,
            flow_ids: Vec::new(),
            targets: Vec::new(),
            decided_by: Vec::new(),
        }
    }
}

/// What somebody said about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingSaid {
    /// When.
    pub ts: Ts,
    /// Who.
    pub author: String,
    /// What it became.
    pub state: FindingState,
    /// Why.
    pub note: String,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Number, 1 the first ever.
    pub id: u64,
    /// What.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: FindingSeverity,
    /// The baseline was not old enough to tell new from usual.
    pub learning: bool,
    /// What people did about it.
    pub state: FindingState,
    /// First packet of its first flow.
    pub first_ts: Ts,
    /// Last packet so far.
    pub last_ts: Ts,
    /// Who began.
    pub src: WatchEnd,
    /// At whom, where it is one.
    pub dst: Option<WatchEnd>,
    /// About what, where it is one.
    pub service: Option<Arc<str>>,
    /// One sentence for people.
    pub sentence: String,
    /// MITRE ATT&CK technique, where one fits.
    pub technique: Option<String>,
    /// Why it is thought so.
    pub evidence: Evidence,
    /// The path of a chain, and the edge of a new edge, in order of time.
    pub hops: Vec<Hop>,
    /// Hops of the chain beyond those that are kept.
    pub hops_left_out: u64,
    /// What raises or lowers trust in it.
    pub remarks: Vec<String>,
    /// What was said about it, oldest first.
    pub said: Vec<FindingSaid>,
    /// Grows over all findings with every change worth telling; followers go by it.
    pub change: u64,
}

/// How the watch itself is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchState {
    /// It is configured to watch.
    pub enabled: bool,
    /// Less was watched than `watch.learning` asks for.
    pub learning: bool,
    /// First packet that the baseline knows of.
    pub since: Option<Ts>,
    /// Length of what was watched, seconds.
    pub watched_s: u64,
    /// Length that is asked for, seconds.
    pub learning_s: u64,
    /// Edges in the baseline.
    pub edges: u64,
    /// Edges that it can hold.
    pub edges_max: u64,
    /// Edges given up because newer ones needed the room.
    pub edges_out: u64,
    /// Findings kept.
    pub findings: u64,
    /// Of those, open.
    pub open: u64,
    /// Findings given up because newer ones needed the room.
    pub findings_out: u64,
    /// Flow records looked at since control started.
    pub records: u64,
    /// Flow records that wait to be looked at.
    pub waiting: u64,
    /// Flow records not looked at because the queue was full.
    pub shed: u64,
    /// Why the last attempt to keep or read its state failed.
    pub error: Option<String>,
}

/// Parameters of `GET /v1/watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchQuery {
    /// Only findings with a packet at or after this time: RFC 3339, or a length before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<FindingKind>,
    /// Only this severity and above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<FindingSeverity>,
    /// Only open ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Also those made while the baseline was learning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// The newest so many; 0 all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Answer to `GET /v1/watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// How the watch itself is doing.
    pub state: WatchState,
    /// By id.
    pub findings: Vec<Finding>,
    /// There were more.
    pub cut: bool,
}

/// Parameters of questions about one finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingQuery {
    /// Number.
    pub id: u64,
    /// Of a draft: isolate this workload or address instead of cutting the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
}

/// Body of `POST /v1/watch/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingStateRequest {
    /// Number.
    pub id: u64,
    /// What it becomes.
    pub state: FindingState,
    /// Who says so.
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// What the policy in force says about one hop, now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopJudged {
    /// `web-1 -> db-1 tcp/22`.
    pub hop: String,
    /// What happens to such a flow now.
    pub verdict: Action,
    /// Who says so.
    pub source: VerdictSource,
    /// The rule, where one does.
    pub rule: Option<String>,
    /// The same in words.
    pub why: String,
}

/// One edge that a cut denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutDeny {
    /// From these: a segment, or addresses.
    pub from: Vec<String>,
    /// To these; `any` where everything is meant.
    pub to: Vec<String>,
    /// About this; `any` where everything is meant.
    pub service: String,
    /// What would do the same by hand: which rule to narrow, or which pair has no rule.
    pub instead: String,
}

/// The smallest set that breaks the path, under the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// What is denied.
    pub denies: Vec<CutDeny>,
    /// Edges of the baseline, beside those of the finding, that it would deny too.
    pub also_denied: u64,
    /// The first of them.
    pub also_denied_edges: Vec<String>,
    /// Edges of the baseline that were asked.
    pub asked_edges: u64,
    /// Judged by the code that enforces: no path of the finding is left.
    pub holds: bool,
    /// What else it would cut of what history saw in the last day, the finding's own hops left out.
    #[serde(default)]
    pub foresight: Foresight,
}

/// The quarantine that a finding offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineOffer {
    /// Whom it would hold.
    pub workload: String,
    /// Addresses that it has.
    pub addresses: Vec<String>,
    /// For how long, seconds.
    pub for_s: u64,
    /// The command that applies it and notes that at the finding; with `--dry-run` it prints the draft.
    pub command: String,
    /// The same without the finding.
    pub same: String,
    /// Until when it is held already; then `command` and `same` let it go, and nothing is foreseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until_ts: Option<Ts>,
    /// What it would cut of what history saw in the last day, the finding's own traffic included.
    pub foresight: Foresight,
}

/// Answer to `GET /v1/watch/finding`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingReport {
    /// The finding.
    pub finding: Finding,
    /// Its hops under the policy in force.
    pub judged: Vec<HopJudged>,
    /// What would end it.
    pub cut: Option<Cut>,
    /// Why there is no cut.
    pub no_cut: Option<String>,
    /// The ready quarantine of the host that matters most.
    #[serde(default)]
    pub quarantine: Option<QuarantineOffer>,
    /// Why there is none.
    #[serde(default)]
    pub no_quarantine: Option<String>,
    /// Commands to go on with.
    pub next: Vec<String>,
}

/// Answer to `GET /v1/watch/draft`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchDraft {
    /// Of which finding.
    pub id: u64,
    /// Revision that it was made from.
    pub base: String,
    /// The policy in force and the cut.
    pub text: String,
    /// What it adds.
    pub cut: Cut,
}

/// Parameters of `GET /v1/watch/baseline`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaselineQuery {
    /// Only edges of this workload or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The newest so many; 0 all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// An edge of the baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEdge {
    /// Workload, address, or `internet`.
    pub src: String,
    /// Workload, address, or `internet`.
    pub dst: String,
    /// `tcp/22`; `tcp/high` for ports that are handed out as they come.
    pub service: String,
    /// First packet.
    pub first_ts: Ts,
    /// Last packet.
    pub last_ts: Ts,
    /// It was answered at least once.
    pub answered: bool,
    /// The service administers hosts.
    pub administrative: bool,
}

/// Answer to `GET /v1/watch/baseline`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineEdges {
    /// How the watch itself is doing.
    pub state: WatchState,
    /// By last packet, newest first.
    pub edges: Vec<KnownEdge>,
    /// There were more.
    pub cut: bool,
}

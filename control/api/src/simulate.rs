//! Simulation: what a draft would have decided about what was seen.

use crate::error::ApiError;
use crate::label::{end_label, service_label};
use crate::time::Ts;
use crate::words::{Action, Coverage, Mode, VerdictSource};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

words! {
    /// Why it is not certain what a draft would have decided.
    pub enum Doubt {
        /// Who began is only guessed, and the draft decides otherwise about the other direction.
        Direction => "direction",
        /// A TCP flow whose beginning was not seen; else as `direction`.
        Midstream => "midstream",
        /// The address has had names at other times, and whose it was then is not known.
        NameUnknown => "name-unknown",
        /// The draft has no workload of the name that the address had then.
        NameGone => "name-gone",
        /// The workload has other addresses now, and the draft decides otherwise about some of them.
        Moved => "moved",
        /// Flows that were told together (a scan): the draft decides otherwise about some destinations or services.
        Folded => "folded",
        /// An ICMP error passes with the flow that it is about, and not all flows of its receiver are decided alike.
        Related => "related",
        /// An exception decided then.
        Exception => "exception",
    }
}

impl Doubt {
    /// What it means, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Direction => "who began is a guess, and the other direction is decided otherwise",
            Self::Midstream => {
                "its handshake was not seen, and the other direction is decided otherwise"
            }
            Self::NameUnknown => "whose address it was then is not known",
            Self::NameGone => "the workload that had the address then is not in the draft",
            Self::Moved => "the workload has several addresses now, which are decided otherwise",
            Self::Folded => {
                "a scan told together: destinations and services are not known one by one"
            }
            Self::Related => {
                "an ICMP error passes with the flow it is about, and those are decided differently"
            }
            Self::Exception => "an exception of the dataplane decided then",
        }
    }
}

words! {
    /// What becomes of something seen, under a draft.
    pub enum Change {
        /// Was permitted and would not be.
        NewlyDenied => "newly-denied",
        /// Was not permitted and would be.
        NewlyAllowed => "newly-allowed",
        /// Was not permitted and would not be.
        StaysDenied => "stays-denied",
        /// Was permitted and would be.
        StaysAllowed => "stays-allowed",
    }
}

/// Body of `POST /v1/policy/simulate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulateRequest {
    /// The draft, TOML; or `revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A revision, or its first digits (at least 4), or `previous`; without both: the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Name of the file, for messages.
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
    /// Edges listed; 0 all. Default [`SimulateRequest::LIMIT_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// List also what does not change.
    pub unchanged: bool,
    /// Judge as if every segment of the draft were in enforce.
    pub enforce: bool,
}

impl SimulateRequest {
    /// Edges listed where the request says nothing.
    pub const LIMIT_DEFAULT: u64 = 50;
}

/// How far a long answer has come: every line of it but the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Conversations read so far.
    pub conversations: u64,
    /// In all, as far as history can tell beforehand; 0 where it cannot.
    pub of: u64,
}

/// A line of a long answer: NDJSON, progress as long as the work goes on, then what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line<T> {
    /// Not yet done.
    Progress {
        /// How far it has come.
        progress: Progress,
    },
    /// It failed.
    Failed {
        /// Why.
        error: ApiError,
    },
    /// Done: the last line.
    Done(T),
}

/// How much of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Conversations: two ends, one service, five minutes or an hour.
    pub conversations: u64,
    /// Flows.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
}

/// Sums of one view. What is uncertain stands in no other sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Was permitted and would be.
    pub stays_allowed: Tally,
    /// Was not permitted and would not be.
    pub stays_denied: Tally,
    /// Was permitted and would not be.
    pub newly_denied: Tally,
    /// Was not permitted and would be.
    pub newly_allowed: Tally,
    /// In doubt.
    pub uncertain: Tally,
    /// Decided alike by another rule than then. Stands in a sum above too.
    pub by_other_rule: Tally,
}

/// A verdict of one view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// Who says so.
    pub source: VerdictSource,
    /// Rule that decides.
    pub rule: Option<Arc<str>>,
}

/// Both views of one decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// What happens.
    pub enforced: Verdict,
    /// What would happen, were everything in test enforced.
    pub pending: Verdict,
}

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Address.
    pub address: IpAddr,
    /// Workload that had it then.
    pub name_then: Option<Arc<str>>,
    /// Workload of the draft that it is judged as.
    pub workload: Option<Arc<str>>,
    /// Segments of the draft that it is judged by.
    pub segments: Vec<String>,
}

impl End {
    /// Name, or address where there is none.
    #[must_use]
    pub fn label(&self) -> String {
        let name = self.workload.as_ref().or(self.name_then.as_ref());
        end_label(name.map(|name| &**name), self.address)
    }
}

/// Two ends, a service, how they were decided then, and what becomes of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedEdge {
    /// In the enforced view.
    pub change: Change,
    /// In the pending view.
    pub pending_change: Change,
    /// Why that is not certain; empty where it is.
    pub doubts: Vec<Doubt>,
    /// Initiator.
    pub src: End,
    /// Responder.
    pub dst: End,
    /// IP protocol number.
    pub proto: u8,
    /// As in [`crate::history::Conversation::port`].
    pub port: u16,
    /// The draft's name for the service.
    pub service: Option<String>,
    /// Flows that were told together (a scan): responder and port are those tried last.
    pub folded: bool,
    /// As decided then.
    pub before: Verdicts,
    /// As the draft decides.
    pub after: Verdicts,
    /// What else the draft may decide, where something is in doubt.
    pub other: Option<Verdicts>,
    /// Mode of the stricter end in the draft.
    pub mode: Mode,
    /// Whether a rule of the draft speaks about it.
    pub coverage: Coverage,
    /// How much.
    #[serde(flatten)]
    pub tally: Tally,
    /// First packet.
    pub first_ts: Ts,
    /// Last packet.
    pub last_ts: Ts,
}

impl SimulatedEdge {
    /// `postgres`, `tcp/5432`; `many` for a scan.
    #[must_use]
    pub fn service_label(&self) -> String {
        match &self.service {
            _ if self.folded => "many".to_owned(),
            name => service_label(name.as_deref(), self.proto, self.port),
        }
    }
}

/// What one rule of the draft would have decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedRule {
    /// Rule.
    pub rule: Arc<str>,
    /// What it asks for.
    pub action: Action,
    /// What it would have decided.
    pub enforced: Tally,
    /// What it would have decided, had everything in test been enforced.
    pub pending: Tally,
    /// Of both, how many flows are in doubt.
    pub uncertain_flows: u64,
    /// Distinct initiators.
    pub sources: u64,
    /// Distinct responders.
    pub destinations: u64,
    /// First packet.
    pub first_ts: Option<Ts>,
    /// Last packet.
    pub last_ts: Option<Ts>,
}

/// Which time an answer is about, and whether history has all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Asked for; none: from the beginning.
    pub since_ts: Option<Ts>,
    /// Asked for; none: until now.
    pub until_ts: Option<Ts>,
    /// First packet found.
    pub first_ts: Option<Ts>,
    /// Last packet found.
    pub last_ts: Option<Ts>,
    /// First packet that history keeps of whatever.
    pub kept_since_ts: Option<Ts>,
    /// History reaches back as far as was asked for.
    pub is_whole: bool,
    /// Engine of history.
    pub engine: String,
}

/// Last line of the answer to `POST /v1/policy/simulate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulation {
    /// Name of the draft.
    pub file_name: String,
    /// Its revision.
    pub revision: String,
    /// Judged as if every segment were in enforce.
    pub enforce: bool,
    /// Which time.
    pub period: Period,
    /// Everything seen.
    pub all: Tally,
    /// What happens.
    pub enforced: Totals,
    /// What would happen, were everything in test enforced.
    pub pending: Totals,
    /// What is uncertain, by why; an edge with two doubts stands in both.
    pub doubts: Vec<DoubtSum>,
    /// Distinct edges seen.
    pub edge_count: u64,
    /// Conversations of edges beyond the limit of edges: in every sum, and not listed.
    pub unlisted: u64,
    /// Edges that change or are in doubt (with `unchanged`: all), before the limit of the list.
    pub matched: u64,
    /// Edges: what changes first, the largest first.
    pub edges: Vec<SimulatedEdge>,
    /// Rules of the draft.
    pub rules: Vec<SimulatedRule>,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

/// How much is uncertain for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtSum {
    /// Why.
    pub doubt: Doubt,
    /// How much.
    #[serde(flatten)]
    pub tally: Tally,
}

//! What history tells: conversations, and the questions about them.
//!
//! A *conversation* is what two ends did with each other about one service within one interval, decided in one way. It
//! sums flow records; sums of conversations are sums of flow records. `flows` counts flows by their first record, so
//! that a flow counts once however many intervals it lasts: where it began.

use crate::flow::Flow;
use crate::label::{end_label, service_label};
use crate::time::Ts;
use crate::top::{Metric, TopBy};
use crate::words::{Action, Coverage, InitiatorEvidence, Mode, VerdictSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Sums over flow records. `fwd` is from the initiator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sums {
    /// Flows that began, those of aggregates included.
    pub flows: u64,
    /// Packets from the initiator.
    pub pkts_fwd: u64,
    /// IP-layer bytes from the initiator.
    pub bytes_fwd: u64,
    /// Packets from the responder.
    pub pkts_rev: u64,
    /// IP-layer bytes from the responder.
    pub bytes_rev: u64,
    /// Packets that the box dropped.
    pub dropped_packets: u64,
    /// Bytes that the box dropped.
    pub dropped_bytes: u64,
}

impl Sums {
    /// What one flow record adds.
    #[must_use]
    pub fn of(flow: &Flow) -> Self {
        Self {
            flows: flow.flows_begun(),
            pkts_fwd: flow.pkts_fwd,
            bytes_fwd: flow.bytes_fwd,
            pkts_rev: flow.pkts_rev,
            bytes_rev: flow.bytes_rev,
            dropped_packets: flow.dropped_packets,
            dropped_bytes: flow.dropped_bytes,
        }
    }

    /// Adds other sums; stays at the largest number where one would not fit.
    pub const fn add(&mut self, other: &Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.pkts_fwd = self.pkts_fwd.saturating_add(other.pkts_fwd);
        self.bytes_fwd = self.bytes_fwd.saturating_add(other.bytes_fwd);
        self.pkts_rev = self.pkts_rev.saturating_add(other.pkts_rev);
        self.bytes_rev = self.bytes_rev.saturating_add(other.bytes_rev);
        self.dropped_packets = self.dropped_packets.saturating_add(other.dropped_packets);
        self.dropped_bytes = self.dropped_bytes.saturating_add(other.dropped_bytes);
    }

    /// Packets both ways.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.pkts_fwd.saturating_add(self.pkts_rev)
    }

    /// Bytes both ways.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes_fwd.saturating_add(self.bytes_rev)
    }
}

/// What two ends did with each other about one service within one interval, decided in one way. All fields before
/// `first_ts` are its key; names are those of the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conversation {
    /// Beginning of the interval.
    pub start_ts: Ts,
    /// Length of the interval, seconds: 300, or 3600 once rolled up.
    pub interval_s: u32,
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the responder; type * 256 + code of ICMP and ICMPv6; 0 where the protocol has neither, and where flows
    /// of many ports were told together.
    pub port: u16,
    /// Workload of the initiator.
    pub src_name: Option<Arc<str>>,
    /// Workload of the responder.
    pub dst_name: Option<Arc<str>>,
    /// Segments of the initiator.
    pub src_segments: Arc<[Arc<str>]>,
    /// Segments of the responder.
    pub dst_segments: Arc<[Arc<str>]>,
    /// Service, where the policy named it.
    pub service: Option<Arc<str>>,
    /// What happened to the packets.
    pub verdict: Action,
    /// Who said so.
    pub verdict_source: VerdictSource,
    /// Rule that decided.
    pub rule: Option<Arc<str>>,
    /// What would have happened, had everything in test been enforced.
    pub pending_verdict: Action,
    /// Who would have said so.
    pub pending_source: VerdictSource,
    /// Rule that would have decided.
    pub pending_rule: Option<Arc<str>>,
    /// Mode of the stricter end.
    pub mode: Mode,
    /// Whether a rule spoke about it.
    pub coverage: Coverage,
    /// How the initiator was decided.
    pub initiator_evidence: InitiatorEvidence,
    /// Flows that were told together (a scan): `dst` is the destination tried last.
    pub folded: bool,
    /// First packet.
    pub first_ts: Ts,
    /// Last packet.
    pub last_ts: Ts,
    /// Sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Beginning of the interval of `interval_s` seconds in which a time lies. Intervals are aligned to the Unix epoch.
#[must_use]
pub const fn interval_start_ns(at_ns: u64, interval_s: u32) -> u64 {
    // `interval_s` is 32 bits wide: the product fits.
    let interval_ns = interval_s as u64 * 1_000_000_000;
    match at_ns.checked_rem(interval_ns) {
        Some(into_ns) => at_ns - into_ns,
        None => at_ns,
    }
}

/// [`Conversation::port`] of a flow record.
fn conversation_port(flow: &Flow) -> u16 {
    match (&flow.aggregate, flow.proto) {
        (Some(_), _) => 0,
        (None, 1 | 58) => {
            u16::from(flow.icmp_type.unwrap_or(0)) << 8 | u16::from(flow.icmp_code.unwrap_or(0))
        }
        (None, _) => flow.dport,
    }
}

impl Conversation {
    /// What one flow record is alone: the conversation of the interval in which its first packet lies, whole, even
    /// where its last packet lies in a later one.
    #[must_use]
    pub fn of(flow: &Flow, interval_s: u32) -> Self {
        Self {
            start_ts: Ts(interval_start_ns(flow.first_ns, interval_s)),
            interval_s,
            src: flow.src,
            dst: flow.dst,
            proto: flow.proto,
            port: conversation_port(flow),
            src_name: flow.src_name.clone(),
            dst_name: flow.dst_name.clone(),
            src_segments: Arc::clone(&flow.src_segments),
            dst_segments: Arc::clone(&flow.dst_segments),
            service: flow.service.clone(),
            verdict: flow.verdict,
            verdict_source: flow.verdict_source,
            rule: flow.rule.clone(),
            pending_verdict: flow.pending_verdict,
            pending_source: flow.pending_source,
            pending_rule: flow.pending_rule.clone(),
            mode: flow.mode,
            coverage: flow.coverage,
            initiator_evidence: flow.initiator_evidence,
            folded: flow.aggregate.is_some(),
            first_ts: Ts(flow.first_ns),
            last_ts: Ts(flow.last_ns),
            sums: Sums::of(flow),
        }
    }

    /// Adds another of the same key.
    pub fn add(&mut self, other: &Self) {
        self.first_ts = self.first_ts.min(other.first_ts);
        self.last_ts = self.last_ts.max(other.last_ts);
        self.sums.add(&other.sums);
    }

    /// The same in a longer interval, which is a multiple of its own.
    #[must_use]
    pub fn in_interval(mut self, interval_s: u32) -> Self {
        self.start_ts = Ts(interval_start_ns(self.start_ts.0, interval_s));
        self.interval_s = interval_s;
        self
    }

    /// The key alone: times of packets and sums are zero. Two conversations add up where these are equal.
    #[must_use]
    pub fn key(&self) -> Self {
        Self {
            first_ts: Ts(0),
            last_ts: Ts(0),
            sums: Sums::default(),
            ..self.clone()
        }
    }

    /// Port of the responder as a flow has it: 0 for ICMP and ICMPv6.
    #[must_use]
    pub const fn dport(&self) -> u16 {
        match self.proto {
            1 | 58 => 0,
            _ => self.port,
        }
    }

    /// The initiator's name, or its address where no workload had it.
    #[must_use]
    pub fn src_label(&self) -> String {
        end_label(self.src_name.as_deref(), self.src)
    }

    /// The responder's name, or its address where no workload had it.
    #[must_use]
    pub fn dst_label(&self) -> String {
        end_label(self.dst_name.as_deref(), self.dst)
    }

    /// The service's name where the policy named it, else `tcp/443`, `icmp/echo` (the type), `proto/47`; `(folded)` where
    /// flows of many ports were told together.
    #[must_use]
    pub fn service_label(&self) -> String {
        match &self.service {
            None if self.folded => "(folded)".to_owned(),
            name => service_label(name.as_deref(), self.proto, self.port),
        }
    }

    /// Whether its packets did not pass.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        !self.verdict.permits()
    }

    /// Whether its packets passed, and would not have, had everything in test been enforced.
    #[must_use]
    pub const fn would_be_denied(&self) -> bool {
        self.verdict.permits() && !self.pending_verdict.permits()
    }
}

/// What two segments did with each other about one service. An end in several segments counts in each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixCell {
    /// Segment of the initiator; none where it was in none.
    pub src_segment: Option<Arc<str>>,
    /// Segment of the responder; none where it was in none.
    pub dst_segment: Option<Arc<str>>,
    /// `postgres` where the policy named it, else `tcp/5432`.
    pub service: Arc<str>,
    /// Of the flows, how many were denied or rejected.
    pub denied_flows: u64,
    /// Of the flows, how many were permitted that tests would have denied.
    pub would_deny_flows: u64,
    /// Sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Sums of one step of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesPoint {
    /// Beginning of the step.
    pub start_ts: Ts,
    /// Of the flows, how many were denied or rejected.
    pub denied_flows: u64,
    /// Sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// One line of the largest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopLine {
    /// `web-1 -> db-1`, `postgres`, `web-1`, the name of a rule.
    pub name: Arc<str>,
    /// Of the flows, how many were denied or rejected.
    pub denied_flows: u64,
    /// Sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Two ends and a service, and when they were seen first and last in everything that is kept. Sums are those of the
/// question's selection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// As in [`Conversation::port`].
    pub port: u16,
    /// Name of the initiator when the edge was seen first.
    pub src_name: Option<Arc<str>>,
    /// Name of the responder when the edge was seen first.
    pub dst_name: Option<Arc<str>>,
    /// Service when the edge was seen first.
    pub service: Option<Arc<str>>,
    /// First packet ever kept.
    pub first_ts: Ts,
    /// Last packet.
    pub last_ts: Ts,
    /// Of the flows, how many were denied or rejected.
    pub denied_flows: u64,
    /// Sums.
    #[serde(flatten)]
    pub sums: Sums,
}

/// What a rule decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleUse {
    /// Rule.
    pub rule: Arc<str>,
    /// First packet of a flow that it decided; 0 where it decided none.
    pub first_ts: Ts,
    /// Last packet of a flow that it decided; 0 where it decided none.
    pub last_ts: Ts,
    /// Distinct initiators.
    pub sources: u64,
    /// Distinct responders.
    pub destinations: u64,
    /// Distinct services (protocol and port).
    pub services: u64,
    /// Flows that it would have decided, had everything in test been enforced.
    pub pending_flows: u64,
    /// Sums of what it decided.
    #[serde(flatten)]
    pub sums: Sums,
}

/// How much of what was seen a rule speaks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageShare {
    /// Everything.
    pub all: Sums,
    /// What a rule decided, in force or in test.
    pub covered: Sums,
    /// What was permitted that tests would have denied.
    pub would_deny: Sums,
    /// What was denied or rejected.
    pub denied: Sums,
}

/// An address's names from one time to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Since when.
    pub from_ts: Ts,
    /// Until when; none while it holds.
    pub until_ts: Option<Ts>,
    /// Address or prefix.
    pub prefix: String,
    /// Workload that had it.
    pub workload: Arc<str>,
    /// The workload's labels.
    pub labels: BTreeMap<String, String>,
    /// The workload's segments.
    pub segments: Vec<Arc<str>>,
    /// Revision that said so.
    pub revision: Arc<str>,
}

/// Answer to a question in SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Names of columns.
    pub columns: Vec<String>,
    /// Rows; each value as text, none where it is missing.
    pub rows: Vec<Vec<Option<String>>>,
    /// The answer had more rows than are told.
    pub cut: bool,
}

/// What a tier of history holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierState {
    /// `flows`, `conversations-5m`, `conversations-1h`.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Of these, rows that the tier of longer intervals has, too.
    #[serde(default)]
    pub rolled_rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// First packet kept.
    pub oldest_ts: Option<Ts>,
    /// Last packet kept.
    pub newest_ts: Option<Ts>,
    /// Age after which rows go, seconds.
    pub age_max_s: u64,
    /// Bytes after which the oldest rows go.
    pub bytes_max: u64,
}

/// A file that could not be read and was moved aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Where it is now.
    pub file: String,
    /// What was wrong with it.
    pub why: String,
}

/// State of history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryState {
    /// `embedded`, `clickhouse`, `memory`, `off`.
    pub engine: String,
    /// Tiers.
    pub tiers: Vec<TierState>,
    /// Flow records taken since this process started.
    pub appended: u64,
    /// Of those, not yet safe on disk (or at the server).
    pub unflushed: u64,
    /// Lost when an earlier process was killed before they were safe, in all.
    pub lost: u64,
    /// Not taken because the queue to history was full.
    pub shed: u64,
    /// Waiting on the local disk for a server that does not answer.
    pub spooled: u64,
    /// Files that could not be read.
    pub set_aside: Vec<SetAside>,
    /// The last error, where the last attempt to write failed.
    pub error: Option<String>,
}

/// Parameters that every question of history shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryQuery {
    /// Only what has a packet at or after this time: RFC 3339, nanoseconds since 1970, or a length of time before now
    /// (`30d`, `12h`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only what has a packet before this time, written alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Filter language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Rows; 0 all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What rows of top stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<TopBy>,
    /// What rows are ordered by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Step of a series: `5m`, `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Workload or address whose talkers are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// A question in SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One `SELECT`.
    pub sql: String,
}

/// A list, as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// The answer had more rows than are told.
    #[serde(default)]
    pub cut: bool,
}

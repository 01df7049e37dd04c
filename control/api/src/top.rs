//! Largest first.

use serde::{Deserialize, Serialize};

words! {
    /// What rows of `GET /v1/top` stand for.
    pub enum TopBy {
        /// Pairs of segments, initiator's and responder's.
        Segments => "segments",
        /// Services.
        Services => "services",
        /// Single ends, by workload name or address; both ends of a flow count.
        Workloads => "workloads",
        /// Pairs of ends.
        Pairs => "pairs",
        /// Rules that decided.
        Rules => "rules",
        /// Sources of denied flows and of flows that nobody answered, told together.
        Scanners => "scanners",
    }
}

words! {
    /// By what rows are ordered.
    pub enum Metric {
        /// IP-layer bytes both ways.
        Bytes => "bytes",
        /// Packets both ways.
        Packets => "packets",
        /// Flow records.
        Flows => "flows",
    }
}

/// Parameters of `GET /v1/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopQuery {
    /// Default pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<TopBy>,
    /// Default bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// Rows; 0 all. Default [`TopQuery::LIMIT_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Filter language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Only flows with a packet at or after this time: RFC 3339, or nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl TopQuery {
    /// Rows in an answer where the query says nothing.
    pub const LIMIT_DEFAULT: u64 = 20;
}

/// Answer to `GET /v1/top`, over the recent flows that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// What rows stand for.
    pub by: TopBy,
    /// By what they are ordered.
    pub metric: Metric,
    /// Largest first.
    pub rows: Vec<TopRow>,
    /// Sum over all flows that match, also those of rows cut off by the limit.
    pub total: TopCounts,
    /// Oldest flow that was looked at.
    pub oldest_ts: Option<crate::Ts>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRow {
    /// Name of the row: `shop-web -> shop-db`, `postgres`, `web-1` ...
    pub name: String,
    /// Initiator's side of a pair.
    pub src: Option<String>,
    /// Responder's side of a pair.
    pub dst: Option<String>,
    /// Its counts.
    #[serde(flatten)]
    pub counts: TopCounts,
    /// Of a scanner whose flows were folded: how far it reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// What a scanner tried: the most that any one of its aggregates says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Distinct destinations.
    pub destinations: u32,
    /// Distinct destination ports.
    pub ports: u32,
}

/// Sums over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopCounts {
    /// Flow records, and the flows of aggregates.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
    /// Packets the box dropped.
    pub dropped_packets: u64,
    /// Of those, flows whose verdict does not permit.
    pub denied_flows: u64,
}

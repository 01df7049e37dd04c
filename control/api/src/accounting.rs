//! Counters, and the proof that nothing is missing.

use crate::time::Ts;
use serde::{Deserialize, Serialize};

/// Answer to `GET /v1/accounting`. Every `difference` is 0, or something is lost uncounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Whether every difference is 0.
    pub balanced: bool,
    /// One row a worker (core).
    pub workers: Vec<CoreAccount>,
    /// Their sum; `worker` is none.
    pub total: CoreAccount,
    /// Records from the rings to here.
    pub records: RecordAccount,
    /// Packets that one core has handed to another and that one has not counted as taken: they wait
    /// in the rings between cores, or the two counted at different times. 0 when the dataplane has
    /// ended.
    #[serde(default)]
    pub between_workers: i64,
}

/// What one core received and where it went, at one commit of its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreAccount {
    /// Worker; none in the total.
    pub worker: Option<u32>,
    /// When the core committed these counters.
    pub committed_ts: Option<Ts>,
    /// Packets received.
    pub received: u64,
    /// Of those, packets transmitted.
    pub transmitted: u64,
    /// Of those, packets of mirror ports, which end here.
    pub mirrored: u64,
    /// Of those, packets dropped for any reason.
    pub dropped: u64,
    /// The same by reason; only reasons that happened.
    pub dropped_by_reason: Vec<ReasonCount>,
    /// Packets taken over from the core that received them.
    #[serde(default)]
    pub steered_in: u64,
    /// Received packets handed to the core that owns their flow.
    #[serde(default)]
    pub steered_out: u64,
    /// Packets taken from the core that judged or made them, to be sent.
    #[serde(default)]
    pub returned_in: u64,
    /// Packets handed to the core that sends for their port.
    #[serde(default)]
    pub returned_out: u64,
    /// Of those, answers that this core made.
    #[serde(default)]
    pub returned_answers: u64,
    /// `received + steered_in + returned_in + returned_answers - transmitted - mirrored - dropped
    /// - steered_out - returned_out`.
    pub packet_difference: i64,
    /// Packets received or taken over that belong to a flow.
    pub flow_packets: u64,
    /// Packets received or taken over that belong to no flow.
    pub unflowed_packets: u64,
    /// `received + steered_in - steered_out - flow_packets - unflowed_packets`.
    pub flow_difference: i64,
    /// Packets in records that the ring accepted.
    pub recorded: u64,
    /// Packets of flows still in the cache, not yet in a record.
    pub cached: u64,
    /// Packets in records that the full ring refused.
    pub shed: u64,
    /// `flow_packets - recorded - cached - shed`.
    pub record_difference: i64,
}

/// Records from the rings to the control process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordAccount {
    /// Records the rings accepted since the dataplane started.
    pub pushed: u64,
    /// Of those, records that an earlier control process took, or that were lost with it.
    pub collected_before: u64,
    /// Records that this control process took.
    pub collected: u64,
    /// Records still in the rings.
    pub waiting: u64,
    /// Records that the full rings refused: lost, and counted by the dataplane.
    pub shed: u64,
    /// Records taken that control could not read (unknown codes); counted, not shown.
    pub unreadable: u64,
    /// `pushed - collected_before - collected - waiting`.
    pub difference: i64,
}

/// A reason and its count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The reason's word.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// Answer to `GET /v1/drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Every reason there is, also those that never happened, in the order of the reason table.
    pub drops: Vec<Drop>,
    /// Packets dropped in all.
    pub total: u64,
}

/// One row of the reason table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The word.
    pub reason: String,
    /// The sentence.
    pub sentence: String,
    /// Packets since the dataplane started.
    pub packets: u64,
    /// The same by worker.
    pub workers: Vec<u64>,
}

/// Answer to `GET /v1/ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// In the order of the lanes.
    pub ports: Vec<Port>,
}

/// One port, as its driver counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port index, as in flow records.
    pub index: u32,
    /// Name as configured.
    pub name: String,
    /// Lane index.
    pub lane: u32,
    /// `inside`, `outside` or `mirror`.
    pub role: String,
    /// Workers that its lane is spread over.
    #[serde(default)]
    pub workers: Vec<u32>,
    /// Whether the link is up.
    pub link_up: bool,
    /// Mbit/s, 0 unknown.
    pub link_mbps: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device dropped because no core fetched them in time.
    pub rx_missed: u64,
    /// Packets received damaged.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets lost because no buffer was free.
    pub rx_no_buffer: u64,
    /// When the driver was read.
    pub read_ts: Option<Ts>,
}

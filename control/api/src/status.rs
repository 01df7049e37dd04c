//! The state of the box at a glance, and what is wrong with it.

use crate::policy::PolicyState;
use crate::time::Ts;
use serde::{Deserialize, Serialize};

words! {
    /// State of the dataplane as control sees it.
    pub enum DataplaneState {
        /// No dataplane has answered yet, or the link is down; control tries again for ever.
        Disconnected => "disconnected",
        /// It carries another number of the contract; it must be replaced.
        Incompatible => "incompatible",
        /// Connected and running.
        Running => "running",
        /// It told that it has stopped, or its region says so, and every record was collected.
        Finished => "finished",
    }
}

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This process.
    pub control: ControlStatus,
    /// The other one.
    pub dataplane: DataplaneStatus,
    /// The policy.
    pub policy: PolicyStatus,
    /// Totals over all cores since the dataplane started.
    pub traffic: TrafficStatus,
    /// Records and recent flows.
    pub flows: FlowsStatus,
    /// One row a collector.
    pub export: Vec<ExportStatus>,
}

/// The control process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatus {
    /// Release of the program.
    pub release: String,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started_ts: Ts,
    /// Address of the metrics, where they are on.
    pub metrics: Option<String>,
}

/// The dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataplaneStatus {
    /// Its state.
    pub state: DataplaneState,
    /// Socket that control connects to.
    pub socket: String,
    /// Process id, where it has told it.
    pub pid: Option<u32>,
    /// When it started.
    pub started_ts: Option<Ts>,
    /// Since when this link is up.
    pub connected_ts: Option<Ts>,
    /// Links made since control started.
    pub connects: u64,
    /// Why the last attempt failed, or the last link ended.
    pub error: Option<String>,
    /// One row a worker (core).
    pub workers: Vec<WorkerStatus>,
}

/// One core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Worker.
    pub worker: u32,
    /// When it last committed its counters.
    pub committed_ts: Option<Ts>,
    /// Packets received.
    pub rx_packets: u64,
    /// Of those, packets handed to the worker that owns their flow.
    #[serde(default)]
    pub steered_out_packets: u64,
    /// Packets taken over from the worker that received them.
    #[serde(default)]
    pub steered_in_packets: u64,
    /// Rounds of its main loop in which no port had a packet, of 1000.
    pub idle_permille: u64,
    /// Flows in its cache.
    pub flows_cached: u64,
    /// Flows its cache can hold.
    pub flows_max: u64,
    /// Records waiting in its ring.
    pub ring_waiting: u64,
    /// Records its ring can hold.
    pub ring_max: u64,
    /// Policy epoch it has adopted.
    pub policy_epoch: u64,
}

/// The policy at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Whether the dataplane has it.
    pub state: PolicyState,
    /// Revision; empty where there is none.
    pub revision: String,
    /// Epoch, 0 none.
    pub epoch: u64,
    /// Name of the file it came from.
    pub file_name: String,
    /// Since when it is in force; a restart of either process does not change it.
    pub adopted_ts: Option<Ts>,
    /// From publish to the last core's adoption, microseconds.
    pub adoption_us: Option<u64>,
    /// Segments in observe, in test and in enforce.
    pub segments_by_mode: [u64; 3],
    /// What comes back and when, where it waits for its confirmation.
    #[serde(default)]
    pub unconfirmed: Option<crate::life::Unconfirmed>,
}

/// Totals over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// Packets received.
    pub rx_packets: u64,
    /// Frame bytes received.
    pub rx_bytes: u64,
    /// Packets transmitted.
    pub tx_packets: u64,
    /// Packets of mirror ports.
    pub mirror_packets: u64,
    /// Packets dropped for any reason.
    pub dropped_packets: u64,
    /// Packets that would have been denied, were everything in test enforced.
    pub would_deny_packets: u64,
    /// Packets of flows that no rule covers.
    pub uncovered_packets: u64,
    /// Packets forwarded under a verdict that a change of policy had superseded.
    #[serde(default)]
    pub superseded_packets: u64,
    /// Packets a second, over the last ten seconds.
    pub rx_packets_per_s: u64,
    /// Bits a second, over the last ten seconds.
    pub rx_bits_per_s: u64,
    /// Flows in the caches.
    pub flows_cached: u64,
    /// Flows judged again because the policy changed, at their first packet after that.
    pub flows_rejudged: u64,
    /// Of those, flows whose enforced verdict became another.
    pub flows_verdict_changed: u64,
    /// Flows ended because the policy killed them, or the dataplane stopped.
    pub flows_ended_forced: u64,
}

/// Records and recent flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsStatus {
    /// Records collected since control started.
    pub collected: u64,
    /// Records waiting in the rings.
    pub waiting: u64,
    /// Records that full rings refused since the dataplane started.
    pub shed: u64,
    /// Whether every record that was pushed has been collected and can be read at `/v1/flows`.
    pub drained: bool,
    /// Recent flows kept.
    pub kept: u64,
    /// Recent flows that can be kept.
    pub kept_max: u64,
    /// Recent flows given up because newer ones needed the room.
    pub oldest_out: u64,
    /// Followers now.
    pub followers: u64,
    /// Flows not sent to followers that read too slowly.
    pub follow_shed: u64,
}

/// One collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportStatus {
    /// Where it is.
    pub collector: String,
    /// `biflow` or `uniflow`.
    pub personality: String,
    /// Flow records sent as data records (a uniflow pair counts twice).
    pub records: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Flow records not sent: the queue was full or the socket failed.
    pub not_sent: u64,
    /// Errors of the socket.
    pub errors: u64,
    /// The last of them.
    pub last_error: Option<String>,
}

words! {
    /// How a check of the doctor ended.
    pub enum CheckState {
        /// As it should be.
        Ok => "ok",
        /// Works, and costs something.
        Warning => "warning",
        /// Does not work.
        Failed => "failed",
    }
}

/// Answer to `GET /v1/doctor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doctor {
    /// In the order in which to mend them.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Short name: `dataplane-link`, `record-rings` ...
    pub name: String,
    /// How it ended.
    pub state: CheckState,
    /// What was found.
    pub what: String,
    /// What to do about it; empty where nothing is to be done.
    pub mend: String,
}

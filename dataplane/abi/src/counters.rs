//! What each core and each port counts. Every field is a `u64` and says exactly what it counts.
//!
//! A core keeps one plain [`CoreCounters`] for itself and commits it to the stats segment at an
//! interval; nothing here is atomic.

use crate::byte_enum;
use crate::reason::REASONS_MAX;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Cores (workers) in a stats segment.
pub const WORKERS_MAX: usize = 32;
/// Ports in a stats segment.
pub const PORTS_MAX: usize = 64;
/// Rows reserved for stages in the stats segment. [`Stage`] codes stay below it.
pub const STAGES_MAX: usize = 16;
/// Bytes of a port's name in a stats segment, zero padded UTF-8.
pub const PORT_NAME_BYTES: usize = 64;

byte_enum! {
    /// Where a core spends its cycles. What a round does belongs to exactly one of them.
    pub enum Stage {
        /// From the beginning of the round, clock and adoption included, to the frames of a port.
        Receive = 0 => "receive",
        /// Frames to keys, hashes and facts; index lines are asked for.
        Read = 1 => "read",
        /// Index lines to likely entries, which are asked for.
        LookUp = 2 => "look-up",
        /// The policy image is asked about new flows, and about all after a change of policy.
        Classify = 3 => "classify",
        /// Packets are counted in their flows and get a verdict, but for the policy image.
        Decide = 4 => "decide",
        /// What goes on is sent, what does not is freed, answers are made.
        Transmit = 5 => "transmit",
        /// Flows are looked at for timeouts.
        Sweep = 6 => "sweep",
        /// Records and, at the interval, counters become visible to the control process.
        Export = 7 => "export",
        /// Frames are dealt to the cores that own their flows, and judged ones taken back.
        Steer = 8 => "steer",
    }
}

impl Stage {
    /// Index of the stage's counters in the stats segment.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Counters of one core.
///
/// Conservation, exact at every commit:
/// - `rx_packets + steered_in_packets + returned_in_packets + returned_answers
///   == tx_packets + mirror_packets + sum(drops) + steered_out_packets + returned_out_packets`
/// - `rx_packets + steered_in_packets == flow_packets + unflowed_packets + steered_out_packets`
/// - `flow_packets == recorded_packets + cached_packets + shed_packets`
///
/// Over all cores, once they have stopped: `steered_out_packets == steered_in_packets` and
/// `returned_out_packets == returned_in_packets`; before that the differences wait in rings.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct CoreCounters {
    /// Nanoseconds since the Unix epoch when these counters were committed.
    pub committed_ns: u64,
    /// Rounds of the main loop.
    pub rounds: u64,
    /// Rounds in which no port had a packet.
    pub empty_rounds: u64,
    /// Times the core paused or slept because it was idle.
    pub idle_waits: u64,
    /// Packets received from all ports of this core, not those taken over from another.
    pub rx_packets: u64,
    /// Frame bytes received, without FCS.
    pub rx_bytes: u64,
    /// Received packets, of this core or another, that a transmit queue accepted from this core.
    pub tx_packets: u64,
    /// Frame bytes of those.
    pub tx_bytes: u64,
    /// Packets of mirror ports, which end here by design.
    pub mirror_packets: u64,
    /// Packets this core made itself and sent: TCP RST and ICMP unreachable.
    pub generated_packets: u64,
    /// Answers not sent because the reject rate limit was reached or no buffer was free.
    pub answers_suppressed: u64,
    /// Received packets not forwarded, by reason.
    pub drops: [u64; REASONS_MAX],
    /// Received packets that belong to a flow in the cache.
    pub flow_packets: u64,
    /// Received packets that belong to no flow: non-IP, malformed, table full, unknown fragments.
    pub unflowed_packets: u64,
    /// Packets counted in records that the ring accepted.
    pub recorded_packets: u64,
    /// Packets counted by flows in the cache and not yet in a record.
    pub cached_packets: u64,
    /// Packets counted in records that the full ring refused.
    pub shed_packets: u64,
    /// Bytes (IP layer) counted in records that the full ring refused.
    pub shed_bytes: u64,
    /// Records that the ring accepted.
    pub records: u64,
    /// Records that the full ring refused.
    pub shed_records: u64,
    /// Flows created.
    pub flows_created: u64,
    /// Flows in the cache now.
    pub flows_cached: u64,
    /// Flows in the cache that are established or answered, which a flood cannot evict.
    pub flows_established: u64,
    /// Flows that the cache can hold.
    pub flows_max: u64,
    /// Flows ended by idle timeout (IPFIX flowEndReason 1).
    pub flows_ended_idle: u64,
    /// Flows ended by FIN or RST (3).
    pub flows_ended_eof: u64,
    /// Flows ended because the process stopped or the policy killed them (4).
    pub flows_ended_forced: u64,
    /// Flows whose entry was taken for another (5).
    pub flows_evicted: u64,
    /// Packets of new flows that found the cache full.
    pub flow_table_full: u64,
    /// Slots of the fragment table in use.
    pub fragments_tracked: u64,
    /// First fragments that found the fragment table full.
    pub fragment_table_full: u64,
    /// Non-first fragments that inherited their datagram's flow.
    pub fragments_inherited: u64,
    /// TCP flows picked up midstream.
    pub flows_midstream: u64,
    /// ICMP errors tied to the flow they quote.
    pub icmp_errors_related: u64,
    /// Flows judged by the policy image, first packets and re-decisions.
    pub flows_judged: u64,
    /// Flows judged again because the policy epoch moved.
    pub flows_rejudged: u64,
    /// Flows whose enforced action changed when judged again.
    pub flows_verdict_changed: u64,
    /// Packets whose enforced action permits them.
    pub permitted_packets: u64,
    /// Packets whose enforced action permits them and whose pending action does not.
    pub would_deny_packets: u64,
    /// Packets of flows that no rule covers.
    pub uncovered_packets: u64,
    /// Packets forwarded under a superseded verdict: between a publish and this core's adoption, one
    /// round of its loop at most. None after that.
    pub superseded_packets: u64,
    /// Epoch of the policy this core has adopted, 0 none.
    pub policy_epoch: u64,
    /// Nanoseconds since the Unix epoch when it was adopted.
    pub policy_adopted_ns: u64,
    /// Policies adopted since start.
    pub policies_adopted: u64,
    /// Rounds whose stages were measured: one in so many, as configured, and of those the ones with
    /// a packet.
    pub stage_rounds: u64,
    /// Cycles of each stage in those rounds, by [`Stage`].
    pub stage_cycles: [u64; STAGES_MAX],
    /// Packets that went through each stage in those rounds, by [`Stage`].
    pub stage_packets: [u64; STAGES_MAX],
    /// Flows that were folded into an aggregate instead of being told one by one: denied attempts
    /// beyond the budget of their source, which open no flow, and permitted flows nobody answered.
    pub folded_flows: u64,
    /// Packets of those.
    pub folded_packets: u64,
    /// Of those packets, the ones in the aggregate of all sources that found no place of their own.
    pub folded_rest_packets: u64,
    /// Places of the table of sources that are taken now.
    pub scan_sources: u64,
    /// Received packets handed to the core that owns their flow.
    pub steered_out_packets: u64,
    /// Packets taken over from the core that received them.
    pub steered_in_packets: u64,
    /// Packets, answers among them, handed to the core that sends for their port.
    pub returned_out_packets: u64,
    /// Packets taken from the core that judged or made them, to be sent.
    pub returned_in_packets: u64,
    /// Answers among those handed to the core that sends.
    pub returned_answers: u64,
    /// Packets that found the ring to the core that owns their flow full.
    pub resteer_ring_full: u64,
}

impl CoreCounters {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        <Self as zerocopy::FromZeros>::new_zeroed()
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_packets(&self) -> u64 {
        self.drops.iter().sum()
    }
}

impl Default for CoreCounters {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters of one port, as its driver keeps them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PortCounters {
    /// Nanoseconds since the Unix epoch when these counters were read from the driver.
    pub read_ns: u64,
    /// Packets the driver received.
    pub rx_packets: u64,
    /// Bytes the driver received.
    pub rx_bytes: u64,
    /// Packets the driver sent.
    pub tx_packets: u64,
    /// Bytes the driver sent.
    pub tx_bytes: u64,
    /// Packets the device dropped because no core fetched them in time.
    pub rx_missed: u64,
    /// Packets the device or driver received damaged.
    pub rx_errors: u64,
    /// Packets the driver could not send.
    pub tx_errors: u64,
    /// Packets lost because no buffer was free.
    pub rx_no_buffer: u64,
    /// 1 up, 0 down.
    pub link_up: u64,
    /// Link speed in Mbit/s, 0 unknown.
    pub link_mbps: u64,
    /// Role in its lane: 0 inside, 1 outside, 2 mirror.
    pub role: u64,
    /// Lane index.
    pub lane: u64,
    /// Name as configured, zero padded UTF-8.
    pub name: [u8; PORT_NAME_BYTES],
}

const _: () = assert!(
    size_of::<CoreCounters>().is_multiple_of(8) && size_of::<PortCounters>().is_multiple_of(8)
);

//! What the cache counts.

/// Counters of one cache since its start, except where they say "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Flows in the cache now.
    pub flows: u64,
    /// Of those, flows in the established pool now.
    pub flows_established: u64,
    /// Packets counted by flows in the cache now and not yet in a record.
    pub packets_cached: u64,
    /// Flows created.
    pub flows_created: u64,
    /// TCP flows created by a segment without SYN.
    pub flows_midstream: u64,
    /// Flows moved from the embryonic to the established pool.
    pub flows_promoted: u64,
    /// Flows ended by idle timeout (IPFIX flowEndReason 1).
    pub flows_ended_idle: u64,
    /// Flows ended by FIN or RST, or by a SYN that reused their ports (3).
    pub flows_ended_eof: u64,
    /// Flows ended by flush or by the caller (4).
    pub flows_ended_forced: u64,
    /// Flows ended because their entry was taken for another (5).
    pub flows_evicted: u64,
    /// Records written while the flow went on.
    pub records_update: u64,
    /// Records of denied flows written at once.
    pub records_denied: u64,
    /// Flows whose initiator was turned round by later evidence.
    pub initiators_flipped: u64,
    /// Packets of new flows refused because every entry holds an established flow.
    pub table_full: u64,
    /// Packets of new flows refused because no bucket of the index had room.
    pub index_full: u64,
    /// Packets refused because no context id was free.
    pub contexts_full: u64,
    /// Flows kept without their VLANs and tunnel because no path id was free.
    pub paths_full: u64,
    /// VLAN stacks and tunnels interned now.
    pub contexts: u64,
    /// Paths interned now.
    pub paths: u64,
    /// Flows folded into aggregates: attempts that were denied, permitted flows nobody answered.
    pub folded_flows: u64,
    /// Packets of those.
    pub folded_packets: u64,
    /// Of those, packets in the aggregates of sources without a place of their own.
    pub folded_rest_packets: u64,
    /// Sources, each under one decision, that have a place now.
    pub scan_sources: u64,
    /// Records of aggregates written.
    pub records_aggregate: u64,
    /// Entries looked at by the sweep.
    pub slots_swept: u64,
}

//! Entry to record: the one conversion between what the cache keeps and what it tells.

use crate::context::Path;
use crate::entry::{Cold, Hot, NO_PORT, bytes, packets};
use crate::facts::proto;
use crate::key::Side;
use crate::verdict;
use abi::record::{FlowEndReason, FlowRecord, RecordKind};

/// Where records go: the ring in production, a list in tests.
pub trait RecordSink {
    /// Takes one record. Must not wait.
    fn record(&mut self, record: &FlowRecord);
}

impl<F: FnMut(&FlowRecord)> RecordSink for F {
    fn record(&mut self, record: &FlowRecord) {
        self(record);
    }
}

/// Which record to write.
#[derive(Clone, Copy)]
pub(crate) struct Occasion {
    pub(crate) kind: RecordKind,
    pub(crate) reason: FlowEndReason,
    pub(crate) worker: u8,
}

pub(crate) const fn port(port: u8) -> u16 {
    if port == NO_PORT {
        u16::MAX
    } else {
        port as u16
    }
}

/// A round trip, or 0 while it is still being timed.
const fn rtt(cold: &Cold, index: usize, timing: u8) -> u32 {
    if cold.has(timing) {
        0
    } else {
        cold.rtt_us[index]
    }
}

/// Type and code of ICMP, or the TCP flags of both directions: they share their place.
fn flag_words(cold: &Cold, icmp: bool, fwd: usize, rev: usize) -> ([u8; 2], [u16; 2]) {
    if icmp {
        (cold.flags[Side::A.index()].to_be_bytes(), [0; 2])
    } else {
        ([0; 2], [cold.flags[fwd], cold.flags[rev]])
    }
}

/// The record of a flow as it stands. `path` is as side A's packets see it, none where it is plain.
#[inline]
pub(crate) fn build(hot: &Hot, cold: &Cold, path: Option<&Path>, occasion: Occasion) -> FlowRecord {
    let initiator = hot.initiator();
    let (fwd, rev) = (initiator.index(), initiator.other().index());
    let tuple = hot.key.key().tuple(initiator);
    let path = path.map_or(Path::PLAIN, |path| path.seen_from(initiator));
    let icmp = matches!(tuple.proto, proto::ICMP | proto::ICMPV6);
    let ([icmp_type, icmp_code], [flags_fwd, flags_rev]) = flag_words(cold, icmp, fwd, rev);
    let decision = verdict::Packed::of(cold);
    FlowRecord {
        first_ns: cold.first_ns,
        last_ns: hot.last_ns.max(cold.first_ns),
        packets_fwd: packets(hot, cold, fwd),
        packets_rev: packets(hot, cold, rev),
        bytes_fwd: bytes(hot, cold, fwd),
        bytes_rev: bytes(hot, cold, rev),
        dropped_packets: cold.dropped_packets,
        dropped_bytes: cold.dropped_bytes,
        src: tuple.src,
        dst: tuple.dst,
        outer_src: path.outer_src,
        outer_dst: path.outer_dst,
        flow_id: cold.flow_id,
        epoch: cold.epoch,
        rule_id: cold.rule_id,
        pending_rule_id: cold.pending_rule_id,
        src_identity: cold.src_identity,
        dst_identity: cold.dst_identity,
        tunnel_id: path.tunnel_id,
        rtt_responder_us: rtt(cold, 0, Cold::TIMING_RESPONDER),
        rtt_initiator_us: rtt(cold, 1, Cold::TIMING_INITIATOR),
        retransmits_fwd: cold.retransmits[fwd],
        retransmits_rev: cold.retransmits[rev],
        sport: if icmp { 0 } else { tuple.src_port },
        dport: if icmp { 0 } else { tuple.dst_port },
        vlans: path.vlans.tags.map(|tag| tag & 0xfff),
        tcp_flags_fwd: flags_fwd,
        tcp_flags_rev: flags_rev,
        ingress_port: port(cold.ingress_port),
        egress_port: port(cold.egress_port),
        proto: tuple.proto,
        ip_version: if cold.has(Cold::IPV6) { 6 } else { 4 },
        icmp_type,
        icmp_code,
        tos_fwd: cold.tos[fwd],
        tos_rev: cold.tos[rev],
        end_reason: occasion.reason.byte(),
        kind: occasion.kind.byte(),
        initiator_evidence: cold.evidence,
        enforced: decision.enforced(),
        enforced_source: decision.enforced_source(),
        pending: decision.pending(),
        pending_source: decision.pending_source(),
        drop_reason: cold.drop_reason,
        mode: decision.mode(),
        coverage: decision.coverage(),
        tcp_state: hot.tcp_state().byte(),
        tunnel_kind: path.tunnel_kind.byte(),
        vlan_count: path.vlans.count.min(4),
        worker: occasion.worker,
        initiator_flipped: u8::from(cold.has(Cold::FLIPPED)),
        begins: u8::from(!cold.has(Cold::RECORDED)),
        reserved: [0; 26],
    }
}

//! The aggregate: what a core tells of many flows of one source in one record.

use crate::record::{FlowRecord, RECORD_BYTES, RecordKind};
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One aggregate: a [`FlowRecord`] of kind [`RecordKind::Aggregate`], 256 bytes. What both have in
/// common lies at the same place, so that whoever sums packets, bytes and drops over all records
/// need not know of it. `fwd` is from the source.
///
/// Packets, bytes, drops, `flows` and `refused` are exact *deltas* since the previous record of the
/// same `aggregate_id`. What is distinct, lowest or highest is counted since `since_ns`, so that the
/// latest record says most.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct AggregateRecord {
    /// First packet that this record counts.
    pub first_ns: u64,
    /// Last packet that this record counts.
    pub last_ns: u64,
    /// Packets from the source, forwarded or not.
    pub packets_fwd: u64,
    /// Packets to the source: resets that refused it.
    pub packets_rev: u64,
    /// IP-layer bytes from the source.
    pub bytes_fwd: u64,
    /// IP-layer bytes to the source.
    pub bytes_rev: u64,
    /// Of all those packets, how many this box dropped.
    pub dropped_packets: u64,
    /// Of all those bytes, how many this box dropped.
    pub dropped_bytes: u64,
    /// The source; all zero where the record is about sources that found no place of their own.
    pub src: [u8; 16],
    /// The destination that was tried last.
    pub dst: [u8; 16],
    /// Flows folded: attempts of a denied source, flows of a permitted one.
    pub flows: u64,
    /// Of those, TCP flows that their destination reset.
    pub refused: u64,
    /// When counting of what is distinct began.
    pub since_ns: u64,
    /// Distinct sources: 1, or an estimate where `src` is all zero.
    pub sources: u32,
    /// Distinct destinations: exact up to 64, then an estimate with a standard error of 6.5 %.
    pub destinations: u32,
    /// The same in every record of one aggregate; unique per dataplane start (core in the top byte).
    pub aggregate_id: u64,
    /// Policy epoch of the verdict; 0 where no policy has been adopted.
    pub epoch: u64,
    /// Rule that decided all of them; 0 none.
    pub rule_id: u64,
    /// Rule that would decide; 0 none.
    pub pending_rule_id: u64,
    /// Identity of the source in the image of `epoch`.
    pub src_identity: u32,
    /// Identity of the last destination in the image of `epoch`.
    pub dst_identity: u32,
    /// Distinct pairs of protocol and destination port, as exact as `destinations`.
    pub ports: u32,
    /// Lowest destination port; 0 where no flow had ports.
    pub port_low: u16,
    /// Highest destination port.
    pub port_high: u16,
    /// IP protocols seen: bit 0 TCP, 1 UDP, 2 ICMP, 3 ICMPv6, 4 SCTP, 5 any other.
    pub protocols: u32,
    /// Zero.
    pub reserved_ends: [u8; 20],
    /// TCP flags from the source, or-ed.
    pub tcp_flags_fwd: u16,
    /// TCP flags to the source, or-ed.
    pub tcp_flags_rev: u16,
    /// Port where the first packet came in.
    pub ingress_port: u16,
    /// 0xffff: an aggregate leaves by no one port.
    pub egress_port: u16,
    /// IP protocol of the last packet.
    pub proto: u8,
    /// 4 or 6: of the last packet.
    pub ip_version: u8,
    /// Zero.
    pub reserved_icmp: [u8; 4],
    /// [`FlowEndReason`](crate::record::FlowEndReason): of the aggregate, not of its flows.
    pub end_reason: u8,
    /// [`RecordKind::Aggregate`].
    pub kind: u8,
    /// [`InitiatorEvidence`](crate::verdict::InitiatorEvidence): who sent is certain, who began is not.
    pub initiator_evidence: u8,
    /// [`Action`](crate::Action) enforced on all of them.
    pub enforced: u8,
    /// [`VerdictSource`](crate::VerdictSource) of the enforced verdict.
    pub enforced_source: u8,
    /// [`Action`](crate::Action) pending.
    pub pending: u8,
    /// [`VerdictSource`](crate::VerdictSource) of the pending verdict.
    pub pending_source: u8,
    /// [`Reason`](crate::Reason) of the last dropped packet, 0 none.
    pub drop_reason: u8,
    /// [`Mode`](crate::Mode) of the stricter end.
    pub mode: u8,
    /// [`Coverage`](crate::verdict::Coverage).
    pub coverage: u8,
    /// Zero: no one flow has a state here.
    pub tcp_state: u8,
    /// Zero, and so are the next one and `reserved`.
    pub tunnel_kind: u8,
    /// Zero.
    pub vlan_count: u8,
    /// Worker (core) that tells.
    pub worker: u8,
    /// Zero.
    pub reserved: [u8; 28],
}

macro_rules! same_place {
    ($($field:ident),+ $(,)?) => {
        const _: () = {
            assert!(size_of::<AggregateRecord>() == RECORD_BYTES);
            $(assert!(offset_of!(AggregateRecord, $field) == offset_of!(FlowRecord, $field));)+
        };
    };
}

same_place!(
    first_ns,
    last_ns,
    packets_fwd,
    packets_rev,
    bytes_fwd,
    bytes_rev,
    dropped_packets,
    dropped_bytes,
    src,
    dst,
    epoch,
    rule_id,
    pending_rule_id,
    src_identity,
    dst_identity,
    tcp_flags_fwd,
    tcp_flags_rev,
    ingress_port,
    egress_port,
    proto,
    ip_version,
    end_reason,
    kind,
    initiator_evidence,
    enforced,
    enforced_source,
    pending,
    pending_source,
    drop_reason,
    mode,
    coverage,
    tcp_state,
    tunnel_kind,
    vlan_count,
    worker,
);

impl AggregateRecord {
    /// All zero.
    #[must_use]
    pub fn zero() -> Self {
        <Self as zerocopy::FromZeros>::new_zeroed()
    }

    /// What of it a flow record says too; what only one of both has is zero.
    #[must_use]
    pub fn common(&self) -> FlowRecord {
        let kept = Self {
            flows: 0,
            refused: 0,
            since_ns: 0,
            sources: 0,
            destinations: 0,
            ports: 0,
            port_low: 0,
            port_high: 0,
            protocols: 0,
            ..*self
        };
        kept.to_record()
    }

    /// Whether it is about sources that found no place of their own.
    #[must_use]
    pub fn is_rest(&self) -> bool {
        self.src == [0; 16]
    }

    /// As the ring carries it.
    #[must_use]
    pub fn to_record(self) -> FlowRecord {
        zerocopy::transmute!(self)
    }
}

impl FlowRecord {
    /// The record as the aggregate that it is; `None` where it is about one flow.
    #[must_use]
    pub fn as_aggregate(&self) -> Option<&AggregateRecord> {
        (self.kind == RecordKind::Aggregate.byte()).then(|| zerocopy::transmute_ref!(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_comes_back_from_the_record_that_carries_it() {
        let aggregate = AggregateRecord {
            flows: 7,
            destinations: 254,
            kind: RecordKind::Aggregate.byte(),
            ..AggregateRecord::zero()
        };
        assert_eq!(aggregate.to_record().as_aggregate(), Some(&aggregate));
        let common = aggregate.common();
        assert_eq!((common.outer_src, common.outer_dst), ([0; 16], [0; 16]));
        assert_eq!(common.rtt_responder_us, 0);
        let mut flow = aggregate.to_record();
        flow.kind = RecordKind::End.byte();
        assert_eq!(flow.as_aggregate(), None);
    }
}

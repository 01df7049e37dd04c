//! One aggregate in memory: what the flows of one source that were not told one by one add up to.

use crate::facts::proto;
use crate::key::{FlowKey, Side};
use crate::sketch::Sketch;
use crate::verdict::Packed;
use abi::AggregateRecord;
use abi::record::{FlowEndReason, RecordKind};
use abi::verdict::InitiatorEvidence;

/// What all flows of one aggregate have in common, beside their source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) rule_id: u64,
    pub(crate) pending_rule_id: u64,
    /// The decision's enums as [`Packed`] has them.
    pub(crate) decision: u32,
    /// Context of the flow key: equal addresses on two networks are two sources.
    pub(crate) context: u16,
}

/// A source under one decision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceKey {
    pub(crate) source: [u64; 2],
    pub(crate) class: Class,
}

impl SourceKey {
    pub(crate) const FREE: Self = Self {
        source: [0; 2],
        class: Class {
            rule_id: 0,
            pending_rule_id: 0,
            decision: 0,
            context: 0,
        },
    };

    pub(crate) const fn words(&self) -> [u64; 5] {
        let class = &self.class;
        [
            self.source[0],
            self.source[1],
            class.rule_id,
            class.pending_rule_id,
            class.decision as u64 | (class.context as u64) << 32,
        ]
    }
}

/// One flow, or one attempt at one, as an aggregate counts it. `[0]` is from the source.
#[derive(Clone, Copy)]
pub(crate) struct Folded {
    pub(crate) key: SourceKey,
    pub(crate) destination: [u8; 16],
    /// 0 where the protocol has none.
    pub(crate) port: u16,
    pub(crate) proto: u8,
    pub(crate) is_ipv6: bool,
    pub(crate) is_refused: bool,
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
    pub(crate) dropped_packets: u64,
    pub(crate) dropped_bytes: u64,
    pub(crate) drop_reason: u8,
    pub(crate) flags: [u16; 2],
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) epoch: u64,
    /// Of the source and of the destination.
    pub(crate) identities: [u32; 2],
    pub(crate) ingress_port: u16,
}

/// What an attempt of a run has of its own: all else is as in the first.
#[derive(Clone, Copy)]
pub(crate) struct Target<'k> {
    pub(crate) key: &'k FlowKey,
    pub(crate) receiver: Side,
    pub(crate) ip_bytes: u32,
    pub(crate) flags: u16,
}

/// Counters since the previous record; what is distinct since the aggregate began.
#[derive(Clone, Copy)]
pub(crate) struct Aggregate {
    flows: u64,
    refused: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
    dropped_packets: u64,
    dropped_bytes: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    since_ns: u64,
    pub(crate) epoch: u64,
    id: u64,
    destination: [u8; 16],
    identities: [u32; 2],
    protocols: u32,
    /// Port and protocol that `ports` has seen last, 0 before the first.
    port_last: u32,
    flags: [u16; 2],
    port_low: u16,
    port_high: u16,
    ingress_port: u16,
    proto: u8,
    is_ipv6: bool,
    drop_reason: u8,
    /// A record of this aggregate has been written.
    pub(crate) is_told: bool,
    destinations: Sketch,
    ports: Sketch,
}

const fn protocol_bit(proto: u8) -> u32 {
    match proto {
        proto::TCP => 1,
        proto::UDP => 1 << 1,
        proto::ICMP => 1 << 2,
        proto::ICMPV6 => 1 << 3,
        132 => 1 << 4,
        _ => 1 << 5,
    }
}

/// An address as two words.
#[inline(always)]
pub(crate) const fn address_words(address: [u8; 16]) -> [u64; 2] {
    let bytes = u128::from_ne_bytes(address);
    [(bytes & 0xffff_ffff_ffff_ffff) as u64, (bytes >> 64) as u64]
}

const fn words_address([low, high]: [u64; 2]) -> [u8; 16] {
    (low as u128 | ((high as u128) << 64)).to_ne_bytes()
}

impl Aggregate {
    pub(crate) const NONE: Self = Self {
        flows: 0,
        refused: 0,
        packets: [0; 2],
        bytes: [0; 2],
        dropped_packets: 0,
        dropped_bytes: 0,
        first_ns: 0,
        last_ns: 0,
        since_ns: 0,
        epoch: 0,
        id: 0,
        destination: [0; 16],
        identities: [0; 2],
        protocols: 0,
        port_last: 0,
        flags: [0; 2],
        port_low: u16::MAX,
        port_high: 0,
        ingress_port: u16::MAX,
        proto: 0,
        is_ipv6: false,
        drop_reason: 0,
        is_told: false,
        destinations: Sketch::EMPTY,
        ports: Sketch::EMPTY,
    };

    /// Begins anew, without touching the sketches' words.
    pub(crate) fn begin(&mut self, id: u64, epoch: u64, now: u64) {
        self.clear_counts();
        self.id = id;
        self.epoch = epoch;
        self.since_ns = now;
        self.last_ns = now;
        self.protocols = 0;
        self.port_last = 0;
        self.flags = [0; 2];
        self.port_low = u16::MAX;
        self.port_high = 0;
        self.drop_reason = 0;
        self.is_told = false;
        self.destinations.clear();
        self.ports.clear();
    }

    pub(crate) const fn flows(&self) -> u64 {
        self.flows
    }

    /// Packets since the previous record.
    pub(crate) const fn packets(&self) -> u64 {
        self.packets[0] + self.packets[1]
    }

    /// Adds one flow; with the hash of its destination, and how a port is hashed with its protocol.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        folded: &Folded,
        destination: u32,
        hash_of_port: impl FnOnce(u32) -> u32,
    ) {
        if self.flows == 0 {
            self.first_ns = folded.first_ns;
            self.ingress_port = folded.ingress_port;
        }
        self.first_ns = self.first_ns.min(folded.first_ns);
        self.last_ns = folded.last_ns.max(self.first_ns);
        self.flows += 1;
        self.refused += u64::from(folded.is_refused);
        for side in 0..2 {
            self.packets[side] = self.packets[side].wrapping_add(folded.packets[side]);
            self.bytes[side] = self.bytes[side].wrapping_add(folded.bytes[side]);
            self.flags[side] |= folded.flags[side];
        }
        self.dropped_packets += folded.dropped_packets;
        self.dropped_bytes += folded.dropped_bytes;
        if folded.drop_reason != 0 {
            self.drop_reason = folded.drop_reason;
        }
        self.destination = folded.destination;
        self.identities = folded.identities;
        self.proto = folded.proto;
        self.is_ipv6 = folded.is_ipv6;
        self.protocols |= protocol_bit(folded.proto);
        self.destinations.add(destination);
        self.see_port(folded.port, folded.proto, hash_of_port);
    }

    /// Adds attempts of one packet each as [`Aggregate::add`] would add them one by one; how many. What
    /// they differ in is added up first.
    #[inline(always)]
    pub(crate) fn add_run<'k>(
        &mut self,
        first: &Folded,
        attempts: impl Iterator<Item = Target<'k>>,
        hash_of_destination: impl Fn(&[u64; 2]) -> u32,
        hash_of_port: impl Fn(u32) -> u32,
    ) -> u64 {
        let (mut count, mut bytes, mut flags, mut protocols) = (0, 0, 0, 0);
        let mut last: Option<Target<'_>> = None;
        for target in attempts {
            count += 1;
            bytes += u64::from(target.ip_bytes);
            flags |= target.flags;
            let destination = address_words(target.key.address(target.receiver));
            self.destinations.add(hash_of_destination(&destination));
            let is_repeated = last.is_some_and(|last| {
                last.key.ports_word() == target.key.ports_word() && last.receiver == target.receiver
            });
            if !is_repeated {
                let proto = target.key.proto();
                protocols |= protocol_bit(proto);
                self.see_port(port_to(target.key, target.receiver), proto, &hash_of_port);
            }
            last = Some(target);
        }
        let Some(last) = last else {
            return 0;
        };
        if self.flows == 0 {
            self.first_ns = first.first_ns;
            self.ingress_port = first.ingress_port;
        }
        self.first_ns = self.first_ns.min(first.first_ns);
        self.last_ns = first.last_ns.max(self.first_ns);
        self.flows += count;
        self.packets[0] = self.packets[0].wrapping_add(count);
        self.bytes[0] = self.bytes[0].wrapping_add(bytes);
        self.flags[0] |= flags;
        if first.dropped_packets != 0 {
            self.dropped_packets += count;
            self.dropped_bytes += bytes;
        }
        if first.drop_reason != 0 {
            self.drop_reason = first.drop_reason;
        }
        self.destination = last.key.address(last.receiver);
        self.identities = first.identities;
        self.proto = last.key.proto();
        self.is_ipv6 = first.is_ipv6;
        self.protocols |= protocols;
        count
    }

    #[inline(always)]
    fn see_port(&mut self, port: u16, proto: u8, hash_of_port: impl FnOnce(u32) -> u32) {
        let seen = u32::from(port) | u32::from(proto) << 16;
        if port != 0 && seen != self.port_last {
            self.port_last = seen;
            self.port_low = self.port_low.min(port);
            self.port_high = self.port_high.max(port);
            self.ports.add(hash_of_port(seen));
        }
    }

    /// Takes over what another, never told, has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.flows == 0 {
            self.first_ns = other.first_ns;
            self.ingress_port = other.ingress_port;
        }
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.flows += other.flows;
        self.refused += other.refused;
        for side in 0..2 {
            self.packets[side] += other.packets[side];
            self.bytes[side] += other.bytes[side];
            self.flags[side] |= other.flags[side];
        }
        self.dropped_packets += other.dropped_packets;
        self.dropped_bytes += other.dropped_bytes;
        self.drop_reason = self.drop_reason.max(other.drop_reason);
        self.destination = other.destination;
        self.identities = other.identities;
        (self.proto, self.is_ipv6) = (other.proto, other.is_ipv6);
        self.protocols |= other.protocols;
        self.port_low = self.port_low.min(other.port_low);
        self.port_high = self.port_high.max(other.port_high);
        self.destinations.merge(&other.destinations);
        self.ports.merge(&other.ports);
    }

    fn clear_counts(&mut self) {
        self.flows = 0;
        self.refused = 0;
        self.packets = [0; 2];
        self.bytes = [0; 2];
        self.dropped_packets = 0;
        self.dropped_bytes = 0;
    }

    /// The record of what was counted since the previous one, whose counters start at 0 again.
    pub(crate) fn tell(
        &mut self,
        key: &SourceKey,
        sources: u32,
        reason: FlowEndReason,
        worker: u8,
    ) -> AggregateRecord {
        let decision = Packed(key.class.decision);
        let ports = self.ports.count();
        let record = AggregateRecord {
            first_ns: self.first_ns,
            last_ns: self.last_ns.max(self.first_ns),
            packets_fwd: self.packets[0],
            packets_rev: self.packets[1],
            bytes_fwd: self.bytes[0],
            bytes_rev: self.bytes[1],
            dropped_packets: self.dropped_packets,
            dropped_bytes: self.dropped_bytes,
            src: words_address(key.source),
            dst: self.destination,
            flows: self.flows,
            refused: self.refused,
            since_ns: self.since_ns,
            sources,
            destinations: self.destinations.count(),
            aggregate_id: self.id,
            epoch: self.epoch,
            rule_id: key.class.rule_id,
            pending_rule_id: key.class.pending_rule_id,
            src_identity: self.identities[0],
            dst_identity: self.identities[1],
            ports,
            port_low: if ports == 0 { 0 } else { self.port_low },
            port_high: self.port_high,
            protocols: self.protocols,
            tcp_flags_fwd: self.flags[0],
            tcp_flags_rev: self.flags[1],
            ingress_port: self.ingress_port,
            egress_port: u16::MAX,
            proto: self.proto,
            ip_version: if self.is_ipv6 { 6 } else { 4 },
            end_reason: reason.byte(),
            kind: RecordKind::Aggregate.byte(),
            initiator_evidence: InitiatorEvidence::FirstPacket.byte(),
            enforced: decision.enforced(),
            enforced_source: decision.enforced_source(),
            pending: decision.pending(),
            pending_source: decision.pending_source(),
            drop_reason: self.drop_reason,
            mode: decision.mode(),
            coverage: decision.coverage(),
            worker,
            ..AggregateRecord::zero()
        };
        self.clear_counts();
        self.is_told = true;
        record
    }
}

/// Whether the ports of a key are ports.
const fn has_ports(key: &FlowKey) -> bool {
    !matches!(key.proto(), proto::ICMP | proto::ICMPV6)
}

/// Port of an end as aggregates count it: 0 where the protocol has none.
#[inline(always)]
pub(crate) const fn port_to(key: &FlowKey, receiver: Side) -> u16 {
    if has_ports(key) {
        key.port(receiver)
    } else {
        0
    }
}

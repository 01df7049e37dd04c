//! The one conversion from a record to what IPFIX carries.

use crate::flow::{NO_PORT, end_address, is_icmp};
use crate::names::Naming;
use abi::record::{RecordKind, TunnelKind};
use abi::{Action, FlowRecord, Mode, Reason};
use std::net::Ipv6Addr;

/// firewallEvent (IANA 233): flow deleted, denied, update.
const EVENT_DELETED: u8 = 2;
const EVENT_DENIED: u8 = 3;
const EVENT_UPDATE: u8 = 5;

/// forwardingStatus (RFC 7270 section 4.12): the top two bits say forwarded (1) or dropped (2).
const FORWARDED: u8 = 64;
const DROPPED: u8 = 128;
const DROPPED_ACL_DENY: u8 = 129;
const DROPPED_ACL_DROP: u8 = 130;
const DROPPED_BAD_HEADER: u8 = 136;
const DROPPED_POLICER: u8 = 138;

/// layer2SegmentId (RFC 7133): the type in the top byte.
const LAYER2_VXLAN: u64 = 1 << 56;

/// Whether the flow's packets are dropped, and by what: a flow that passes but lost packets to a
/// limit says so.
fn forwarding_status(record: &FlowRecord) -> u8 {
    let malformed = Reason::MalformedLink.byte()..=Reason::TunnelTooDeep.byte();
    match Action::from_byte(record.enforced) {
        Some(Action::Deny) => DROPPED_ACL_DROP,
        Some(Action::Reject) => DROPPED_ACL_DENY,
        _ if record.dropped_packets == 0 => FORWARDED,
        _ if record.drop_reason == Reason::Limited.byte() => DROPPED_POLICER,
        _ if malformed.contains(&record.drop_reason) => DROPPED_BAD_HEADER,
        _ if record.dropped_packets < record.packets_fwd + record.packets_rev => FORWARDED,
        _ => DROPPED,
    }
}

fn firewall_event(record: &FlowRecord) -> u8 {
    let permits = Action::from_byte(record.enforced).is_some_and(Action::permits);
    match RecordKind::from_byte(record.kind) {
        _ if !permits => EVENT_DENIED,
        Some(RecordKind::Update) => EVENT_UPDATE,
        _ => EVENT_DELETED,
    }
}

/// enforcementMode: 1 observe, 2 test, 4 enforce; 3, selective, is kept free.
pub(super) fn enforcement_mode(mode: Option<Mode>) -> u8 {
    match mode {
        None => 0,
        Some(Mode::Observe) => 1,
        Some(Mode::Test) => 2,
        Some(Mode::Enforce) => 4,
    }
}

/// Port index + 1, so that 0 can mean none.
fn interface(port: u16) -> u32 {
    if port == NO_PORT {
        0
    } else {
        u32::from(port) + 1
    }
}

/// The VLAN at a place of the stack, 0 none.
fn vlan(record: &FlowRecord, at: usize) -> u16 {
    let used = at < usize::from(record.vlan_count);
    record.vlans.get(at).copied().filter(|_| used).unwrap_or(0)
}

/// A record as IPFIX carries it, its segments named by `naming`. An aggregate goes out with the sums
/// of its flows, without ports, to the destination that was tried last.
#[must_use]
pub fn biflow(record: &FlowRecord, naming: &Naming) -> ipfix::Biflow {
    let Some(aggregate) = record.as_aggregate() else {
        return of_flow(record, naming);
    };
    let mut biflow = of_flow(&aggregate.common(), naming);
    if aggregate.is_rest() {
        biflow.src_segment_id = 0;
    }
    biflow
}

fn of_flow(record: &FlowRecord, naming: &Naming) -> ipfix::Biflow {
    let r = record;
    let [src, dst] = naming.identities(r).map(|names| names.map_or(0, |n| n.id));
    let vxlan = r.tunnel_kind == TunnelKind::Vxlan.byte();
    let revision = naming
        .dictionary
        .as_deref()
        .filter(|d| d.epoch() == r.epoch);
    ipfix::Biflow {
        first_ms: r.first_ns / 1_000_000,
        last_ms: r.last_ns / 1_000_000,
        src: end_address(r, r.src),
        dst: end_address(r, r.dst),
        sport: r.sport,
        dport: r.dport,
        proto: r.proto,
        packets_fwd: r.packets_fwd,
        packets_rev: r.packets_rev,
        bytes_fwd: r.bytes_fwd,
        bytes_rev: r.bytes_rev,
        dropped_packets: r.dropped_packets,
        dropped_bytes: r.dropped_bytes,
        tcp_flags_fwd: r.tcp_flags_fwd,
        tcp_flags_rev: r.tcp_flags_rev,
        tos_fwd: r.tos_fwd,
        tos_rev: r.tos_rev,
        icmp_type_code: if is_icmp(r.proto) {
            u16::from_be_bytes([r.icmp_type, r.icmp_code])
        } else {
            0
        },
        end_reason: r.end_reason,
        firewall_event: firewall_event(r),
        forwarding_status: forwarding_status(r),
        ingress_interface: interface(r.ingress_port),
        egress_interface: interface(r.egress_port),
        vlans: [vlan(r, 0), vlan(r, 1)],
        layer2_segment_id: if vxlan {
            LAYER2_VXLAN | u64::from(r.tunnel_id)
        } else {
            0
        },
        flow_id: r.flow_id,
        src_segment_id: src,
        dst_segment_id: dst,
        policy_revision: revision.map_or(0, crate::names::Dictionary::revision_number),
        policy_epoch: r.epoch,
        rule_id: r.rule_id,
        rule_action: r.enforced,
        enforcement_mode: enforcement_mode(Mode::from_byte(r.mode)),
        pending_rule_id: r.pending_rule_id,
        pending_action: r.pending,
        verdict_source: r.enforced_source,
        deny_reason: u16::from(r.drop_reason),
        coverage: r.coverage,
        initiator_confidence: r.initiator_evidence,
        tcp_state: r.tcp_state,
        rtt_initiator_us: r.rtt_initiator_us,
        rtt_responder_us: r.rtt_responder_us,
        retransmits_fwd: r.retransmits_fwd,
        retransmits_rev: r.retransmits_rev,
        tunnel_type: r.tunnel_kind,
        tunnel_id: r.tunnel_id,
        outer_src: Ipv6Addr::from(r.outer_src),
        outer_dst: Ipv6Addr::from(r.outer_dst),
        worker: r.worker,
        kind: r.kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(enforced: Action, kind: RecordKind, dropped: u64, reason: u8) -> FlowRecord {
        let mut record = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
        (record.enforced, record.kind) = (enforced.byte(), kind.byte());
        (
            record.packets_fwd,
            record.dropped_packets,
            record.drop_reason,
        ) = (10, dropped, reason);
        record
    }

    #[test]
    fn forwarding_status_and_firewall_event_say_what_happened_to_the_packets() {
        let check = |record: FlowRecord, status, event| {
            assert_eq!(
                (forwarding_status(&record), firewall_event(&record)),
                (status, event)
            );
        };
        let limited = Reason::Limited.byte();
        check(record(Action::Allow, RecordKind::End, 0, 0), 64, 2);
        check(record(Action::Allow, RecordKind::Update, 0, 0), 64, 5);
        check(record(Action::Deny, RecordKind::Denied, 10, 1), 130, 3);
        check(record(Action::Reject, RecordKind::End, 10, 3), 129, 3);
        check(
            record(Action::Limit, RecordKind::Update, 4, limited),
            138,
            5,
        );
        check(
            record(
                Action::Allow,
                RecordKind::End,
                4,
                Reason::TransmitFull.byte(),
            ),
            64,
            2,
        );
        check(
            record(
                Action::Allow,
                RecordKind::End,
                10,
                Reason::FlowTableFull.byte(),
            ),
            128,
            2,
        );
    }
}

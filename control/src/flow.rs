//! The one conversion from what a core tells to what people read: `FlowRecord` -> `Flow`.

use crate::names::Naming;
use abi::record::{FlowEndReason, RecordKind, TcpState, TunnelKind};
use abi::verdict::{Coverage, InitiatorEvidence};
use abi::{Action, AggregateRecord, FlowRecord, Mode, Reason, VerdictSource};
use acl::Service;
use api::flow::{Aggregate, FlowId, Tunnel};
use api::words::{self, EndReason, Kind, NamedBy};
use api::{Flow, Ts};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// In [`FlowRecord::egress_port`]: the flow left nowhere.
pub const NO_PORT: u16 = 0xffff;

/// Names of ports by index, as the dataplane configured them.
#[derive(Clone, Debug, Default)]
pub struct PortNames(pub Arc<[Arc<str>]>);

impl PortNames {
    fn of(&self, index: u16) -> Arc<str> {
        self.0
            .get(usize::from(index))
            .cloned()
            .unwrap_or_else(|| format!("port{index}").into())
    }
}

/// A record whose codes are all known, and the order in which it came.
#[derive(Clone, Copy, Debug)]
pub struct StoredFlow {
    /// 1 the first since the process started.
    pub seq: u64,
    /// As the core wrote it.
    pub record: FlowRecord,
}

/// The address in a record's 16 bytes.
#[must_use]
pub fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// The address of an end of a flow: an IPv6 flow keeps IPv6 addresses, whatever they look like.
#[must_use]
pub fn end_address(record: &FlowRecord, bytes: [u8; 16]) -> IpAddr {
    if record.ip_version == 4 {
        address(bytes)
    } else {
        IpAddr::V6(bytes.into())
    }
}

/// A record's 16 bytes of an address.
#[must_use]
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Whether every code of a record is one that this build knows. What is not readable is counted and
/// not shown.
#[must_use]
pub fn is_readable(record: &FlowRecord) -> bool {
    FlowEndReason::from_byte(record.end_reason).is_some()
        && RecordKind::from_byte(record.kind).is_some()
        && InitiatorEvidence::from_byte(record.initiator_evidence).is_some()
        && Action::from_byte(record.enforced).is_some()
        && VerdictSource::from_byte(record.enforced_source).is_some()
        && Action::from_byte(record.pending).is_some()
        && VerdictSource::from_byte(record.pending_source).is_some()
        && Mode::from_byte(record.mode).is_some()
        && Coverage::from_byte(record.coverage).is_some()
        && TcpState::from_byte(record.tcp_state).is_some()
        && TunnelKind::from_byte(record.tunnel_kind).is_some()
        && (record.drop_reason == 0 || Reason::from_byte(record.drop_reason).is_some())
        && matches!(record.ip_version, 4 | 6)
        && usize::from(record.vlan_count) <= record.vlans.len()
}

/// Whether a protocol has ICMP types.
#[must_use]
pub const fn is_icmp(proto: u8) -> bool {
    matches!(proto, 1 | 58)
}

/// What the flow asks of its responder.
#[must_use]
pub const fn service(record: &FlowRecord) -> Service {
    if is_icmp(record.proto) {
        Service::icmp(record.proto, record.icmp_type, record.icmp_code)
    } else {
        Service::port(record.proto, record.dport)
    }
}

/// The twin of a word of the contract. The lists are held together by a test; a code outside them
/// cannot pass [`is_readable`], the first value stands for it.
macro_rules! word {
    ($abi:ty, $api:ty, $byte:expr) => {
        <$abi>::from_byte($byte)
            .and_then(|value| <$api>::from_word(value.name()))
            .unwrap_or(<$api>::ALL[0])
    };
}

fn some_if<T>(present: bool, value: T) -> Option<T> {
    present.then_some(value)
}

/// Names a record. Call it with the naming of the record's epoch.
#[must_use]
pub fn flow(stored: &StoredFlow, naming: &Naming, ports: &PortNames) -> Flow {
    let r = &stored.record;
    let dictionary = naming.dictionary.as_deref();
    let [src_identity, dst_identity] = naming.identities(r);
    // The source of an aggregate of many is no address.
    let is_named = !r.as_aggregate().is_some_and(AggregateRecord::is_rest);
    let src_identity = src_identity.filter(|_| is_named);
    let rule_name = |id: u64| {
        let known = dictionary
            .and_then(|d| d.rule(id))
            .map(|rule| Arc::clone(&rule.name));
        some_if(
            id != 0,
            known.unwrap_or_else(|| format!("rule-{id:016x}").into()),
        )
    };
    Flow {
        src_name: dictionary.and_then(|d| d.workload(&r.src)).cloned(),
        dst_name: dictionary.and_then(|d| d.workload(&r.dst)).cloned(),
        src_segments: src_identity.map_or_else(Arc::default, |i| Arc::clone(&i.segments)),
        dst_segments: dst_identity.map_or_else(Arc::default, |i| Arc::clone(&i.segments)),
        named_by: naming.by,
        service: dictionary.and_then(|d| d.service(&service(r))).cloned(),
        rule: rule_name(r.rule_id),
        pending_rule: rule_name(r.pending_rule_id),
        ingress_port: ports.of(r.ingress_port),
        egress_port: some_if(r.egress_port != NO_PORT, ports.of(r.egress_port)),
        ..unnamed(stored)
    }
}

/// What a record tells by itself: every name is missing.
fn unnamed(stored: &StoredFlow) -> Flow {
    let aggregate = stored.record.as_aggregate();
    let r = &aggregate.map_or(stored.record, AggregateRecord::common);
    let evidence = r.initiator_evidence;
    let icmp = is_icmp(r.proto);
    Flow {
        seq: stored.seq,
        first_ts: Ts(r.first_ns),
        last_ts: Ts(r.last_ns),
        first_ns: r.first_ns,
        last_ns: r.last_ns,
        src: end_address(r, r.src),
        dst: end_address(r, r.dst),
        src_name: None,
        dst_name: None,
        src_segments: Arc::default(),
        dst_segments: Arc::default(),
        named_by: NamedBy::None,
        proto: r.proto,
        sport: r.sport,
        dport: r.dport,
        service: None,
        icmp_type: some_if(icmp, r.icmp_type),
        icmp_code: some_if(icmp, r.icmp_code),
        pkts_fwd: r.packets_fwd,
        bytes_fwd: r.bytes_fwd,
        pkts_rev: r.packets_rev,
        bytes_rev: r.bytes_rev,
        dropped_packets: r.dropped_packets,
        dropped_bytes: r.dropped_bytes,
        end_reason: word!(FlowEndReason, EndReason, r.end_reason),
        kind: word!(RecordKind, Kind, r.kind),
        verdict: word!(Action, words::Action, r.enforced),
        verdict_source: word!(VerdictSource, words::VerdictSource, r.enforced_source),
        rule: None,
        pending_verdict: word!(Action, words::Action, r.pending),
        pending_source: word!(VerdictSource, words::VerdictSource, r.pending_source),
        pending_rule: None,
        mode: word!(Mode, words::Mode, r.mode),
        coverage: word!(Coverage, words::Coverage, r.coverage),
        drop_reason: Reason::from_byte(r.drop_reason).map(|reason| reason.name().into()),
        initiator_evidence: word!(InitiatorEvidence, words::InitiatorEvidence, evidence),
        initiator_confidence: evidence,
        initiator_flipped: r.initiator_flipped != 0,
        tcp_state: word!(TcpState, words::TcpState, r.tcp_state),
        tcp_flags_fwd: r.tcp_flags_fwd,
        tcp_flags_rev: r.tcp_flags_rev,
        rtt_initiator_us: some_if(r.rtt_initiator_us != 0, r.rtt_initiator_us),
        rtt_responder_us: some_if(r.rtt_responder_us != 0, r.rtt_responder_us),
        retransmits_fwd: r.retransmits_fwd,
        retransmits_rev: r.retransmits_rev,
        tos_fwd: r.tos_fwd,
        tos_rev: r.tos_rev,
        tunnel: tunnel(r),
        vlans: r
            .vlans
            .iter()
            .take(usize::from(r.vlan_count))
            .copied()
            .collect(),
        ingress_port: "".into(),
        egress_port: None,
        epoch: r.epoch,
        flow_id: FlowId(r.flow_id),
        worker: r.worker,
        begins: r.begins != 0,
        aggregate: aggregate.map(folded),
    }
}

/// Names of the bits of [`AggregateRecord::protocols`].
const PROTOCOLS: [&str; 6] = ["tcp", "udp", "icmp", "icmpv6", "sctp", "other"];

fn folded(a: &AggregateRecord) -> Aggregate {
    let seen = |(bit, _): &(usize, &str)| a.protocols >> bit & 1 == 1;
    let protocols = PROTOCOLS.into_iter().enumerate().filter(seen);
    Aggregate {
        flows: a.flows,
        refused: a.refused,
        since_ts: Ts(a.since_ns),
        sources: a.sources,
        destinations: a.destinations,
        ports: a.ports,
        port_low: a.port_low,
        port_high: a.port_high,
        protocols: protocols.map(|(_, name)| name.into()).collect(),
    }
}

fn tunnel(r: &FlowRecord) -> Option<Tunnel> {
    (r.tunnel_kind != TunnelKind::None.byte()).then(|| Tunnel {
        kind: word!(TunnelKind, api::words::TunnelKind, r.tunnel_kind),
        id: r.tunnel_id,
        outer_src: address(r.outer_src),
        outer_dst: address(r.outer_dst),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! same_words {
        ($abi:ty, $api:ty) => {
            let abi: Vec<_> = <$abi>::ALL.iter().map(|v| v.name()).collect();
            let api: Vec<_> = <$api>::ALL.iter().map(|v| v.word()).collect();
            assert_eq!(abi, api, stringify!($abi));
        };
    }

    #[test]
    fn the_public_protocol_has_the_words_of_the_contract() {
        same_words!(Action, api::words::Action);
        same_words!(VerdictSource, api::words::VerdictSource);
        same_words!(Mode, api::words::Mode);
        same_words!(Coverage, api::words::Coverage);
        same_words!(InitiatorEvidence, api::words::InitiatorEvidence);
        same_words!(FlowEndReason, api::words::EndReason);
        same_words!(RecordKind, api::words::Kind);
        same_words!(TcpState, api::words::TcpState);
        same_words!(TunnelKind, api::words::TunnelKind);
    }

    #[test]
    fn services_are_called_as_the_policy_language_writes_them() {
        let ports = [6, 17, 132].map(|proto| (proto, 443, 443));
        let types = [1, 58].into_iter().flat_map(|proto| {
            (0..=u8::MAX).map(move |kind| {
                let low = u16::from(kind) << 8;
                (proto, low, low | 0xff)
            })
        });
        for (proto, low, high) in ports.into_iter().chain(types) {
            let port = policy::Port {
                proto: Some(proto),
                low,
                high,
            };
            assert_eq!(api::label::service_word(proto, low), port.to_string());
        }
    }

    #[test]
    fn a_record_of_zeros_is_not_readable() {
        let zeros = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
        assert!(!is_readable(&zeros));
    }

    #[test]
    fn an_aggregate_tells_its_reach_and_nothing_that_only_a_flow_has() {
        let record = AggregateRecord {
            flows: 900,
            destinations: 254,
            ports: 3,
            port_low: 22,
            port_high: 443,
            protocols: 0b101,
            sources: 1,
            kind: RecordKind::Aggregate.byte(),
            end_reason: FlowEndReason::ActiveTimeout.byte(),
            initiator_evidence: InitiatorEvidence::FirstPacket.byte(),
            enforced: Action::Deny.byte(),
            pending: Action::Deny.byte(),
            enforced_source: VerdictSource::Default.byte(),
            pending_source: VerdictSource::Default.byte(),
            mode: Mode::Enforce.byte(),
            coverage: Coverage::Uncovered.byte(),
            ip_version: 4,
            ..AggregateRecord::zero()
        };
        let stored = StoredFlow {
            seq: 1,
            record: record.to_record(),
        };
        assert!(is_readable(&stored.record));
        let flow = unnamed(&stored);
        assert_eq!((flow.rtt_responder_us, flow.rtt_initiator_us), (None, None));
        assert_eq!((flow.kind, flow.flow_count()), (Kind::Aggregate, 900));
        assert_eq!(flow.service_label(), "tcp+icmp 3 ports 22-443");
    }

    #[test]
    fn addresses_come_back_from_their_bytes() {
        for text in ["10.0.1.10", "2001:db8::1", "255.255.255.255", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(address_bytes(ip)), ip);
        }
    }
}

//! The one conversion from what a core tells to what people read: `FlowRecord` -> `Flow`.

use crate::names::Naming;
use abi::record::{FlowEndReason, RecordKind, TcpState, TunnelKind};
use abi::verdict::{Coverage, InitiatorEvidence};
use abi::{Action, AggregateRecord, FlowRecord, Mode, Reason, VerdictSource};
use acl::Service;
use api::flow::{Aggregate, FlowId, Tunnel};
use api::history::Conversation;
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
        match self.0.get(usize::from(index)) {
            Some(name) => Arc::clone(name),
            None => number_name("port", format_args!("{index}")),
        }
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

/// Service of a conversation, as an image is asked about it.
#[must_use]
pub const fn service_of(seen: &Conversation) -> Service {
    match seen.proto {
        1 | 58 => {
            let [kind, code] = seen.port.to_be_bytes();
            Service::icmp(seen.proto, kind, code)
        }
        proto => Service::port(proto, seen.port),
    }
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

/// The twin of a word of the contract, by its code: a record has nine of them, and comparing words
/// would take longer than all else. The lists are held together by a test; a code outside them
/// cannot pass [`is_readable`], the first value stands for it.
macro_rules! word {
    ($abi:ty, $api:ty, $byte:expr) => {{
        const TWINS: [$api; 256] = {
            let mut twins = [<$api>::ALL[0]; 256];
            let mut at = 0;
            while at < <$abi>::ALL.len() {
                twins[<$abi>::ALL[at].byte() as usize] = <$api>::ALL[at];
                at += 1;
            }
            twins
        };
        TWINS[usize::from($byte)]
    }};
}

fn some_if<T>(present: bool, value: T) -> Option<T> {
    present.then_some(value)
}

/// Names of a record that lie far away where there are many, found and not yet taken. Each finder
/// tells how many own what it found: reading that number brings the names near.
#[derive(Clone, Copy, Default)]
struct Far<'a> {
    rule: Option<&'a Arc<str>>,
    src_name: Option<&'a Arc<str>>,
    dst_name: Option<&'a Arc<str>>,
}

impl<'a> Far<'a> {
    fn find_rule(&mut self, r: &FlowRecord, naming: &'a Naming) -> usize {
        self.rule = naming.rule(r.rule_id);
        self.rule.map_or(0, Arc::strong_count)
    }

    fn find_ends(&mut self, r: &FlowRecord, naming: &'a Naming) -> usize {
        let workload = |address| naming.dictionary.as_deref()?.workload(address);
        (self.src_name, self.dst_name) = (workload(&r.src), workload(&r.dst));
        let owners = |name: Option<&Arc<str>>| name.map_or(0, Arc::strong_count);
        owners(self.src_name) + owners(self.dst_name)
    }
}

/// The other names of a record.
#[derive(Default)]
struct Found<'a> {
    src_segments: Option<&'a Arc<[Arc<str>]>>,
    dst_segments: Option<&'a Arc<[Arc<str>]>>,
    service: Option<&'a Arc<str>>,
    pending_rule: Option<&'a Arc<str>>,
}

impl<'a> Found<'a> {
    fn of(r: &FlowRecord, far: &Far<'a>, naming: &'a Naming) -> Self {
        let Some(dictionary) = naming.dictionary.as_deref() else {
            return Self::default();
        };
        let [src, dst] = naming.identities(r);
        // The source of an aggregate of many is no address.
        let is_named = !r.as_aggregate().is_some_and(AggregateRecord::is_rest);
        let same_rule = r.pending_rule_id == r.rule_id;
        Self {
            src_segments: src.filter(|_| is_named).map(|i| &i.segments),
            dst_segments: dst.map(|i| &i.segments),
            service: dictionary.service(&service(r)),
            pending_rule: if same_rule {
                far.rule
            } else {
                naming.rule(r.pending_rule_id)
            },
        }
    }
}

/// Names a record. Call it with the naming of the record's epoch.
#[must_use]
pub fn flow(stored: &StoredFlow, naming: &Naming, ports: &PortNames) -> Flow {
    let mut far = Far::default();
    far.find_rule(&stored.record, naming);
    far.find_ends(&stored.record, naming);
    named(stored, &far, naming, ports)
}

/// Records whose far names are found together.
const FOUND_TOGETHER: usize = 32;

/// Names records of one epoch, in order. No cache holds the names of 100,000 rules and 10,000
/// workloads. A core waits for many places of memory as long as for one, but taking a name, which
/// counts its owners, waits for every place before it: so those of [`FOUND_TOGETHER`] records are
/// found first, kind by kind, and then taken.
pub fn flows(
    stored: &[StoredFlow],
    naming: &Naming,
    ports: &PortNames,
    named_flows: &mut Vec<Flow>,
) {
    let mut far = [Far::default(); FOUND_TOGETHER];
    for stored in stored.chunks(FOUND_TOGETHER) {
        let mut owners = 0;
        for (far, stored) in far.iter_mut().zip(stored) {
            owners += far.find_rule(&stored.record, naming);
        }
        for (far, stored) in far.iter_mut().zip(stored) {
            owners += far.find_ends(&stored.record, naming);
        }
        // How many there are is of no interest, only that they were counted: that fetched the names.
        std::hint::black_box(owners);
        let found = far.iter().zip(stored);
        named_flows.extend(found.map(|(far, stored)| named(stored, far, naming, ports)));
    }
}

fn named(stored: &StoredFlow, far: &Far<'_>, naming: &Naming, ports: &PortNames) -> Flow {
    let names = Found::of(&stored.record, far, naming);
    let aggregate = stored.record.as_aggregate();
    let common = aggregate.map(AggregateRecord::common);
    let told = Told {
        seq: stored.seq,
        record: common.as_ref().unwrap_or(&stored.record),
        aggregate,
        by: naming.by,
    };
    with_names(&told, &names, far, ports)
}

/// A record, and its part that tells of many flows taken out of it.
struct Told<'a> {
    seq: u64,
    record: &'a FlowRecord,
    aggregate: Option<&'a AggregateRecord>,
    by: NamedBy,
}

/// The name of a rule. One that the policy no longer has is called by its id.
fn rule_name(known: Option<&Arc<str>>, id: u64) -> Option<Arc<str>> {
    let name = || match known {
        Some(name) => Arc::clone(name),
        None => number_name("rule-", format_args!("{id:016x}")),
    };
    (id != 0).then(name)
}

/// The name of what has none. Kept out of the way of all that has one.
#[cold]
fn number_name(kind: &str, number: std::fmt::Arguments<'_>) -> Arc<str> {
    format!("{kind}{number}").into()
}

/// In one go: a flow is half a kibibyte, which moving it about would show.
fn with_names(told: &Told<'_>, names: &Found<'_>, far: &Far<'_>, ports: &PortNames) -> Flow {
    let r = told.record;
    let evidence = r.initiator_evidence;
    let icmp = is_icmp(r.proto);
    Flow {
        seq: told.seq,
        first_ts: Ts(r.first_ns),
        last_ts: Ts(r.last_ns),
        first_ns: r.first_ns,
        last_ns: r.last_ns,
        src: end_address(r, r.src),
        dst: end_address(r, r.dst),
        src_name: far.src_name.cloned(),
        dst_name: far.dst_name.cloned(),
        src_segments: names.src_segments.cloned().unwrap_or_default(),
        dst_segments: names.dst_segments.cloned().unwrap_or_default(),
        named_by: told.by,
        proto: r.proto,
        sport: r.sport,
        dport: r.dport,
        service: names.service.cloned(),
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
        rule: rule_name(far.rule, r.rule_id),
        pending_verdict: word!(Action, words::Action, r.pending),
        pending_source: word!(VerdictSource, words::VerdictSource, r.pending_source),
        pending_rule: rule_name(names.pending_rule, r.pending_rule_id),
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
        ingress_port: ports.of(r.ingress_port),
        egress_port: (r.egress_port != NO_PORT).then(|| ports.of(r.egress_port)),
        epoch: r.epoch,
        flow_id: FlowId(r.flow_id),
        worker: r.worker,
        begins: r.begins != 0,
        aggregate: told.aggregate.map(folded),
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
    use crate::app::Namer;
    use crate::names::{Dictionary, Names, Registry};
    use proptest::prelude::*;

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
        let flow = flow(&stored, &Names::default().naming(0), &PortNames::default());
        assert_eq!((flow.rtt_responder_us, flow.rtt_initiator_us), (None, None));
        assert_eq!((flow.kind, flow.flow_count()), (Kind::Aggregate, 900));
        assert_eq!(flow.service_label(), "tcp+icmp 3 ports 22-443");
    }

    const POLICY: &str = r#"
[[workload]]
name = "web"
addresses = ["10.0.0.1", "10.1.0.0/16"]
labels = { role = "web" }

[[workload]]
name = "db"
addresses = ["10.0.0.2"]
labels = { role = "db" }

[[segment]]
name = "webs"
select = "role=web"
mode = "observe"

[[service]]
name = "postgres"
ports = ["tcp/5432"]

[[rule]]
name = "web-to-db"
from = ["webs"]
to = ["any"]
services = ["postgres"]
action = "allow"

[[rule]]
name = "web-to-all"
from = ["webs"]
to = ["any"]
services = ["any"]
action = "deny"
"#;

    fn names() -> Names {
        let today = jiff::civil::date(2026, 11, 23);
        let valid = policy::load(POLICY, "shop.toml", today).unwrap();
        let image = policy::compile(&valid, 7, today).unwrap().image;
        let registry = Registry::default();
        registry.insert(Arc::new(Dictionary::new(image)));
        registry.names()
    }

    prop_compose! {
        /// Of the policy's epoch or another, between ends that it knows or not, by its rules or not.
        fn record(names: &Names)(
            rules in [0_usize..4, 0..4],
            ends in [0_u8..4, 0..4],
            kind in 0..RecordKind::ALL.len(),
            (epoch, dport, port) in (6_u64..9, 5431_u16..5434, 0_u16..3),
            known in Just(names.newest().unwrap().rule_ids().collect::<Vec<_>>()),
        ) -> FlowRecord {
            let mut record = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
            let rule = |at: usize| *known.get(at).unwrap_or(&[0, 0, 0, 0xabc][at]);
            let ends = ends.map(|host| match host {
                0 => [0; 16],
                host => address_bytes(IpAddr::from([10, host & 1, 0, host])),
            });
            (record.src, record.dst) = (ends[0], ends[1]);
            (record.rule_id, record.pending_rule_id) = (rule(rules[0]), rule(rules[1]));
            (record.epoch, record.dport, record.egress_port) = (epoch, dport, port);
            (record.proto, record.ip_version) = (6, 4);
            record.kind = RecordKind::ALL[kind].byte();
            record
        }
    }

    proptest! {
        #[test]
        fn records_named_together_are_called_what_each_is_called_alone(
            records in prop::collection::vec(record(&names()), 0..100),
        ) {
            let stored: Vec<_> =
                (1..).zip(records).map(|(seq, record)| StoredFlow { seq, record }).collect();
            let ports = PortNames(["inside0".into(), "outside0".into()].into());
            let names = names();
            let alone: Vec<_> = stored
                .iter()
                .map(|stored| flow(stored, &names.naming(stored.record.epoch), &ports))
                .collect();
            let mut together = Vec::new();
            Namer::new(names, ports).each(&stored, &mut together);
            prop_assert_eq!(together, alone);
        }
    }

    #[test]
    fn a_record_has_the_names_of_its_policy() {
        let names = names();
        let dictionary = names.newest().unwrap();
        let id_of = |name: &str| {
            let mut ids = dictionary.rule_ids();
            ids.find(|id| *dictionary.rule(*id).unwrap().name == *name)
                .unwrap()
        };
        let mut record = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
        record.src = address_bytes(IpAddr::from([10, 1, 2, 3]));
        record.dst = address_bytes(IpAddr::from([10, 0, 0, 2]));
        (record.rule_id, record.pending_rule_id) = (id_of("web-to-db"), 0xabc);
        (record.proto, record.dport, record.egress_port) = (6, 5432, 1);
        let stored = StoredFlow { seq: 1, record };
        let flow = flow(&stored, &names.naming(8), &PortNames::default());
        assert_eq!(
            (flow.src_label(), flow.dst_label()),
            ("web".into(), "db".into())
        );
        assert_eq!(
            (flow.rule.as_deref(), flow.named_by),
            (Some("web-to-db"), NamedBy::Reresolved)
        );
        assert_eq!(flow.pending_rule.as_deref(), Some("rule-0000000000000abc"));
        assert_eq!(flow.src_segments[..], ["webs".into()]);
        assert_eq!(flow.service_label(), "postgres");
        assert_eq!(
            (&*flow.ingress_port, flow.egress_port.as_deref()),
            ("port0", Some("port1"))
        );
    }

    #[test]
    fn addresses_come_back_from_their_bytes() {
        for text in ["10.0.1.10", "2001:db8::1", "255.255.255.255", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(address_bytes(ip)), ip);
        }
    }
}

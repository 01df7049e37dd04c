//! Synthetic flows, skewed as real ones are, always the same.

use api::Ts;
use api::flow::{Flow, FlowId};
use api::words::{
    Action, Coverage, EndReason, InitiatorEvidence, Kind, Mode, NamedBy, TcpState, VerdictSource,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// 2023-11-14T00:00:00Z.
pub(crate) const START_NS: u64 = 1_699_920_000_000_000_000;
/// A day later.
pub(crate) const END_NS: u64 = START_NS + DAY_MS * 1_000_000;
const DAY_MS: u64 = 86_400_000;
/// Pairs of ends with a service.
const EDGES: usize = 300_000;
/// Hosts with names, 100 in each segment.
const HOSTS: u64 = 5_000;
const HOSTS_OF_SEGMENT: u64 = 100;
/// Ports of services.
const PORTS: [u16; 12] = [
    443, 80, 5432, 53, 3306, 6379, 9092, 8080, 22, 9200, 389, 2049,
];

/// `SplitMix64`.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Small numbers often, large ones seldom: `1 / share^power`.
    fn tail(&mut self, power: f64, max: u64) -> u64 {
        let value = (1.0 - self.share()).powf(-power);
        let max_value = max as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 1 to `max`"
        )]
        let whole = value.min(max_value) as u64;
        whole
    }
}

struct Host {
    address: IpAddr,
    name: Option<Arc<str>>,
    segments: Arc<[Arc<str>]>,
}

struct Edge {
    src: usize,
    dst: usize,
    port: u16,
    service: Option<Arc<str>>,
    rule: Option<Arc<str>>,
    is_denied: bool,
    /// What most of its flows are: packets and bytes, of the initiator and of the responder.
    usual: [u64; 4],
    /// Port of its last flow.
    sport: u16,
}

/// An iterator over flow records, in the order in which they end.
pub(crate) struct Generator {
    random: Random,
    hosts: Vec<Host>,
    edges: Vec<Edge>,
    /// Cumulated weights of edges.
    weights: Vec<f64>,
    flows: usize,
    made: usize,
    ports: [Arc<str>; 2],
}

/// A host that is a busy server.
pub(crate) fn host() -> IpAddr {
    address(7)
}

fn address(host: u64) -> IpAddr {
    let (segment, rest) = (host / HOSTS_OF_SEGMENT, host % HOSTS_OF_SEGMENT + 10);
    let [high, low] = u16::try_from(segment).unwrap_or(0).to_be_bytes();
    let rest = u8::try_from(rest).unwrap_or(0);
    if host % 20 == 19 {
        let last = u16::from(rest);
        return Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(low), 0, 0, 0, last).into();
    }
    Ipv4Addr::new(10, high, low, rest).into()
}

fn hosts(random: &mut Random) -> Vec<Host> {
    let inside = (0..HOSTS).map(|host| Host {
        address: address(host),
        name: Some(format!("host-{host}").into()),
        segments: Arc::from([Arc::from(format!("segment-{}", host / HOSTS_OF_SEGMENT))]),
    });
    let internet: Arc<[Arc<str>]> = Arc::from([Arc::from("internet")]);
    let outside = (0..HOSTS * 8).map(|_| {
        let [_, b, c, d, ..] = random.next().to_be_bytes();
        Host {
            address: Ipv4Addr::new(203, b, c, d).into(),
            name: None,
            segments: Arc::clone(&internet),
        }
    });
    inside.chain(outside).collect()
}

fn edges(random: &mut Random, hosts: &[Host]) -> Vec<Edge> {
    let services: Vec<Arc<str>> = PORTS
        .iter()
        .map(|p| format!("service-{p}").into())
        .collect();
    let rules: Vec<Arc<str>> = (0..200).map(|r| format!("rule-{r}").into()).collect();
    let mut edges = Vec::with_capacity(EDGES);
    while edges.len() < EDGES {
        // A tenth of the hosts are servers; few of them serve most.
        let server = random.tail(0.9, HOSTS / 10) - 1;
        let dst = usize::try_from(server * 10 + server % 10).unwrap_or(0)
            % usize::try_from(HOSTS).unwrap_or(1);
        let src = usize::try_from(random.below(hosts.len() as u64)).unwrap_or(0);
        let is_v4 = |host: usize| hosts.get(host).is_some_and(|h| h.address.is_ipv4());
        if src == dst || is_v4(src) != is_v4(dst) {
            continue;
        }
        let which = (dst + usize::try_from(random.tail(0.7, 5)).unwrap_or(0)) % PORTS.len();
        let is_denied = random.below(100) < 3;
        edges.push(Edge {
            src,
            dst,
            port: PORTS[which],
            service: services.get(which).cloned(),
            rule: (!is_denied).then(|| Arc::clone(&rules[dst % rules.len()])),
            is_denied,
            usual: usual(random, PORTS[which], is_denied),
            sport: 32_768 + u16::try_from(random.below(28_232)).unwrap_or(0),
        });
    }
    edges
}

/// Packets and bytes of a flow, of the initiator and of the responder.
fn usual(random: &mut Random, port: u16, is_denied: bool) -> [u64; 4] {
    let (pkts_fwd, size) = match (is_denied, port) {
        (true, _) => (1, 60),
        (_, 53) => (1, 60 + random.below(40)),
        _ => (4 + random.tail(0.9, 100_000), 52 + random.below(300)),
    };
    let pkts_rev = match (is_denied, port) {
        (true, _) => 0,
        (_, 53) => 1,
        _ => pkts_fwd * (8 + random.below(5)) / 10,
    };
    let bytes_rev = pkts_rev * (60 + random.below(1300));
    [pkts_fwd, pkts_fwd * size, pkts_rev, bytes_rev]
}

impl Generator {
    pub(crate) fn new(flows: usize) -> Self {
        let mut random = Random(42);
        let hosts = hosts(&mut random);
        let edges = edges(&mut random, &hosts);
        let mut total = 0.0;
        let weights = (1..=edges.len())
            .map(|rank| {
                total += 1.0 / (rank as f64).powf(0.9);
                total
            })
            .collect();
        Self {
            random,
            hosts,
            edges,
            weights,
            flows,
            made: 0,
            ports: [Arc::from("inside0"), Arc::from("outside0")],
        }
    }

    fn flow(&mut self, index: usize) -> Flow {
        let random = &mut self.random;
        let total = self.weights.last().copied().unwrap_or(1.0);
        let at = random.share() * total;
        let place = self.weights.partition_point(|w| *w < at);
        let last = self.edges.len() - 1;
        let edge = &mut self.edges[place.min(last)];
        let end_ms = DAY_MS * index as u64 / self.flows as u64;
        let start_ms = START_NS / 1_000_000;
        // At most the active timeout; those that ended together came in any order within a second.
        let span_ms = random.tail(1.3, 60_000) - 1;
        let last_ms = start_ms + end_ms.saturating_sub(random.below(1000));
        let first_ms = last_ms.saturating_sub(span_ms).max(start_ms);
        // Most flows of an edge are alike (a check, a query); the others are of any size.
        let numbers = match random.below(100) < 60 {
            true => edge.usual,
            false => usual(random, edge.port, edge.is_denied),
        };
        // Linux counts on from the port before, by small steps, for each pair of ends.
        edge.sport = match edge.sport + 2 * u16::try_from(1 + random.below(3)).unwrap_or(1) {
            61_000.. => 32_768,
            port => port,
        };
        let begins = random.below(20) > 0;
        let seq = index as u64 + 1;
        let (src, dst) = (&self.hosts[edge.src], &self.hosts[edge.dst]);
        Flow {
            seq,
            first_ts: Ts(first_ms * 1_000_000),
            last_ts: Ts(last_ms * 1_000_000),
            first_ns: first_ms * 1_000_000,
            last_ns: last_ms * 1_000_000,
            flow_id: FlowId(0x0100_0000_0000_0000 + seq),
            begins,
            ..plain(src, dst, edge, numbers, &self.ports)
        }
    }
}

/// A flow record of an edge, but when it was and which.
fn plain(
    src: &Host,
    dst: &Host,
    edge: &Edge,
    [pkts_fwd, bytes_fwd, pkts_rev, bytes_rev]: [u64; 4],
    ports: &[Arc<str>; 2],
) -> Flow {
    let is_udp = edge.port == 53;
    let decided = match edge.is_denied {
        true => (
            Action::Deny,
            VerdictSource::Default,
            Coverage::Uncovered,
            Kind::Denied,
        ),
        false => (
            Action::Allow,
            VerdictSource::Rule,
            Coverage::Rule,
            Kind::End,
        ),
    };
    let (verdict, verdict_source, coverage, kind) = decided;
    let state = match is_udp {
        true => (17, 0, TcpState::None, EndReason::IdleTimeout),
        false => (6, 0x1b, TcpState::Closed, EndReason::EndOfFlow),
    };
    let (proto, tcp_flags, tcp_state, end_reason) = state;
    Flow {
        seq: 0,
        first_ts: Ts(0),
        last_ts: Ts(0),
        first_ns: 0,
        last_ns: 0,
        src: src.address,
        dst: dst.address,
        src_name: src.name.clone(),
        dst_name: dst.name.clone(),
        src_segments: Arc::clone(&src.segments),
        dst_segments: Arc::clone(&dst.segments),
        sport: edge.sport,
        dport: edge.port,
        service: edge.service.clone(),
        rule: edge.rule.clone(),
        pending_rule: edge.rule.clone(),
        dropped_packets: u64::from(edge.is_denied),
        dropped_bytes: if edge.is_denied { bytes_fwd } else { 0 },
        drop_reason: edge.is_denied.then(|| Arc::from("denied-by-default")),
        tcp_flags_fwd: tcp_flags,
        tcp_flags_rev: tcp_flags,
        pending_verdict: verdict,
        pending_source: verdict_source,
        ingress_port: Arc::clone(&ports[0]),
        egress_port: Some(Arc::clone(&ports[1])),
        proto,
        tcp_state,
        end_reason,
        verdict,
        verdict_source,
        coverage,
        kind,
        pkts_fwd,
        bytes_fwd,
        pkts_rev,
        bytes_rev,
        ..blank()
    }
}

/// What is the same in every flow record.
fn blank() -> Flow {
    let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Flow {
        seq: 0,
        first_ts: Ts(0),
        last_ts: Ts(0),
        first_ns: 0,
        last_ns: 0,
        src: none,
        dst: none,
        src_name: None,
        dst_name: None,
        src_segments: Arc::default(),
        dst_segments: Arc::default(),
        named_by: NamedBy::Epoch,
        proto: 0,
        sport: 0,
        dport: 0,
        service: None,
        icmp_type: None,
        icmp_code: None,
        pkts_fwd: 0,
        bytes_fwd: 0,
        pkts_rev: 0,
        bytes_rev: 0,
        dropped_packets: 0,
        dropped_bytes: 0,
        end_reason: EndReason::EndOfFlow,
        kind: Kind::End,
        verdict: Action::Allow,
        verdict_source: VerdictSource::Rule,
        rule: None,
        pending_verdict: Action::Allow,
        pending_source: VerdictSource::Rule,
        pending_rule: None,
        mode: Mode::Enforce,
        coverage: Coverage::Rule,
        drop_reason: None,
        initiator_evidence: InitiatorEvidence::Syn,
        initiator_confidence: 255,
        initiator_flipped: false,
        tcp_state: TcpState::None,
        tcp_flags_fwd: 0,
        tcp_flags_rev: 0,
        rtt_initiator_us: None,
        rtt_responder_us: None,
        retransmits_fwd: 0,
        retransmits_rev: 0,
        tos_fwd: 0,
        tos_rev: 0,
        tunnel: None,
        vlans: Vec::new(),
        ingress_port: Arc::default(),
        egress_port: None,
        epoch: 1,
        flow_id: FlowId(0),
        worker: 1,
        begins: true,
        aggregate: None,
    }
}

impl Iterator for Generator {
    type Item = Flow;

    fn next(&mut self) -> Option<Flow> {
        if self.made == self.flows {
            return None;
        }
        let flow = self.flow(self.made);
        self.made += 1;
        Some(flow)
    }
}

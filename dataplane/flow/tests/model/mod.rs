//! The obvious twin of the flow cache: a map of plain structs, every question answered by looking
//! at all of them.

mod tcp;

use abi::record::{FlowEndReason, FlowRecord, RecordKind, TcpState, TunnelKind};
use abi::verdict::{Coverage, Decision, InitiatorEvidence};
use flow::{
    CacheOptions, FlowKey, InitiatorRule, PacketFacts, Path, Side, TcpFlags, Timeouts,
    TransportFacts, Tuple, proto,
};
use std::collections::{BTreeMap, BTreeSet};
use tcp::{sequence, tcp_step};

/// One packet of a test.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// Tried on the straight path first.
    pub(crate) may_pass: bool,
    pub(crate) tuple: Tuple,
    pub(crate) facts: PacketFacts,
    pub(crate) path: Path,
    pub(crate) ingress_port: u16,
}

/// One flow, nothing packed.
#[derive(Clone, Debug)]
struct Flow {
    key: FlowKey,
    id: u64,
    established: bool,
    initiator: Side,
    evidence: InitiatorEvidence,
    state: TcpState,
    seen: [bool; 2],
    first_ns: u64,
    last_ns: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
    flags: [u16; 2],
    last_fin: Option<Side>,
    tos: [u8; 2],
    retransmits: [u32; 2],
    next_seq: [Option<u32>; 2],
    syn_ns: Option<u64>,
    syn_ack_ns: Option<u64>,
    rtt_responder_us: u32,
    rtt_initiator_us: u32,
    dropped: (u64, u64),
    drop_reason: u8,
    /// As the first packet saw it.
    path: Path,
    first_side: Side,
    ingress_port: u16,
    egress_port: u16,
    icmp: (u8, u8),
    ipv6: bool,
    decision: Option<(u64, Decision)>,
    undecided: bool,
    recorded: bool,
    flipped: bool,
    denial_told: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Counted,
    Full,
}

pub(crate) struct Model {
    options: CacheOptions,
    flows: BTreeMap<u64, Flow>,
    listeners: BTreeSet<([u8; 16], u16)>,
    next_id: u64,
    epoch: u64,
    pub(crate) records: Vec<FlowRecord>,
}

fn index(side: Side) -> usize {
    if side == Side::A { 0 } else { 1 }
}

impl Model {
    pub(crate) fn new(options: &CacheOptions) -> Self {
        Self {
            options: *options,
            flows: BTreeMap::new(),
            listeners: BTreeSet::new(),
            next_id: 1,
            epoch: 0,
            records: Vec::new(),
        }
    }

    fn id_of(&self, key: &FlowKey) -> Option<u64> {
        self.flows.values().find(|f| f.key == *key).map(|f| f.id)
    }

    pub(crate) fn flows(&self) -> u64 {
        self.flows.len() as u64
    }

    pub(crate) fn established(&self) -> u64 {
        self.flows.values().filter(|f| f.established).count() as u64
    }

    pub(crate) fn packets_cached(&self) -> u64 {
        self.flows
            .values()
            .map(|f| f.packets[0] + f.packets[1])
            .sum()
    }

    pub(crate) fn packet(&mut self, packet: &Packet, now: u64) -> Outcome {
        let (key, side) = FlowKey::new(&packet.tuple, 0);
        if let Some(id) = self.id_of(&key) {
            if let Some(reason) = self.idle(&self.flows[&id], now) {
                self.end(id, reason);
            } else if self.reused(&self.flows[&id], side, &packet.facts) {
                self.end(id, FlowEndReason::EndOfFlow);
            } else {
                self.count(id, side, &packet.facts, now);
                return Outcome::Counted;
            }
        }
        let embryonic: Vec<u64> = self
            .flows
            .values()
            .filter(|f| !f.established)
            .map(|f| f.id)
            .collect();
        if embryonic.len() as u64 >= u64::from(self.options.embryonic_max())
            || self.flows() == u64::from(self.options.flows_max)
        {
            let Some(oldest) = embryonic.iter().min() else {
                return Outcome::Full;
            };
            self.end(*oldest, FlowEndReason::LackOfResources);
        }
        let id = self.open(key, side, packet, now);
        self.count(id, side, &packet.facts, now);
        Outcome::Counted
    }

    fn open(&mut self, key: FlowKey, side: Side, packet: &Packet, now: u64) -> u64 {
        let id = u64::from(self.options.worker) << 56 | self.next_id;
        self.next_id += 1;
        let (initiator, evidence) = self.first_initiator(&key, side, &packet.facts.transport);
        let icmp = match packet.facts.transport {
            TransportFacts::Icmp { kind, code } => (kind, code),
            _ => (0, 0),
        };
        let flow = Flow {
            key,
            id,
            established: false,
            initiator,
            evidence,
            state: TcpState::None,
            seen: [false; 2],
            first_ns: now,
            last_ns: now,
            packets: [0; 2],
            bytes: [0; 2],
            flags: [0; 2],
            last_fin: None,
            tos: [0; 2],
            retransmits: [0; 2],
            next_seq: [None; 2],
            syn_ns: None,
            syn_ack_ns: None,
            rtt_responder_us: 0,
            rtt_initiator_us: 0,
            dropped: (0, 0),
            drop_reason: 0,
            path: packet.path,
            first_side: side,
            ingress_port: packet.ingress_port,
            egress_port: 0xffff,
            icmp,
            ipv6: packet.facts.ipv6,
            decision: None,
            undecided: true,
            recorded: false,
            flipped: false,
            denial_told: false,
        };
        self.flows.insert(id, flow);
        id
    }

    fn first_initiator(
        &self,
        key: &FlowKey,
        side: Side,
        transport: &TransportFacts,
    ) -> (Side, InitiatorEvidence) {
        if self.options.initiator == InitiatorRule::FirstSender {
            return (side, InitiatorEvidence::FirstPacket);
        }
        if let Some(said) = packet_says(transport, key.proto(), side) {
            return said;
        }
        let listens = |s: Side| {
            key.proto() == proto::TCP && self.listeners.contains(&(key.address(s), key.port(s)))
        };
        match (listens(Side::A), listens(Side::B)) {
            (true, false) => return (Side::B, InitiatorEvidence::KnownListener),
            (false, true) => return (Side::A, InitiatorEvidence::KnownListener),
            _ => {}
        }
        let class = |port: u16| if port < 1024 { 0 } else { 1 + port / 32_768 };
        let (a, b) = (class(key.port(Side::A)), class(key.port(Side::B)));
        let has_ports = [6, 17, 132, 33, 136].contains(&key.proto());
        if has_ports && a != b {
            let initiator = if a > b { Side::A } else { Side::B };
            return (initiator, InitiatorEvidence::PortAsymmetry);
        }
        (side, InitiatorEvidence::FirstPacket)
    }

    fn count(&mut self, id: u64, side: Side, facts: &PacketFacts, now: u64) {
        let options = self.options;
        let Some(f) = self.flows.get_mut(&id) else {
            return;
        };
        let s = index(side);
        if f.packets == [0, 0] {
            f.first_ns = now;
        }
        f.last_ns = now;
        f.packets[s] += 1;
        f.bytes[s] += u64::from(facts.ip_bytes);
        let first_of_side = !f.seen[s];
        if first_of_side {
            f.seen[s] = true;
            f.tos[s] = facts.tos;
        }
        let tcp = matches!(facts.transport, TransportFacts::Tcp { .. });
        if (tcp || first_of_side) && options.initiator == InitiatorRule::Evidence {
            weigh(f, packet_says(&facts.transport, f.key.proto(), side));
        }
        if let TransportFacts::Tcp {
            flags,
            seq,
            ack,
            payload_bytes,
        } = facts.transport
        {
            tcp_step(f, &options, side, flags, ack, now);
            self.promote(id);
            let Some(f) = self.flows.get_mut(&id) else {
                return;
            };
            if f.established && options.tcp_quality {
                sequence(f, s, flags, seq, payload_bytes);
            }
        } else if first_of_side {
            self.promote(id);
        }
    }

    fn promote(&mut self, id: u64) {
        let Some(f) = self.flows.get_mut(&id) else {
            return;
        };
        let half_open = [TcpState::SynSent, TcpState::SynReceived, TcpState::Reset];
        if f.established || f.seen != [true, true] || half_open.contains(&f.state) {
            return;
        }
        f.established = true;
        if f.state != TcpState::None && f.evidence >= InitiatorEvidence::SynAck {
            let responder = f.initiator.other();
            self.listeners
                .insert((f.key.address(responder), f.key.port(responder)));
        }
    }

    fn idle_timeout(&self, f: &Flow) -> u64 {
        let t = &self.options.timeouts;
        match (f.key.proto(), f.state) {
            (6, TcpState::SynSent | TcpState::SynReceived) => t.tcp_opening_ns,
            (6, TcpState::Established) if f.established => t.tcp_established_ns,
            (6, TcpState::Established) => t.tcp_one_way_ns,
            (6, TcpState::Closing) => t.tcp_closing_ns,
            (6, TcpState::Closed | TcpState::Reset) => t.tcp_closed_ns,
            (17 | 136, _) if f.seen == [true, true] => t.udp_paired_ns,
            (17 | 136, _) => t.udp_single_ns,
            (1 | 58, _) => t.icmp_ns,
            _ => t.other_ns,
        }
    }

    fn idle(&self, f: &Flow, now: u64) -> Option<FlowEndReason> {
        let timeout = self.idle_timeout(f);
        let over = timeout != Timeouts::NEVER && now >= f.last_ns && now - f.last_ns >= timeout;
        let closed = matches!(f.state, TcpState::Closed | TcpState::Reset);
        over.then_some(if closed {
            FlowEndReason::EndOfFlow
        } else {
            FlowEndReason::IdleTimeout
        })
    }

    fn reused(&self, f: &Flow, side: Side, facts: &PacketFacts) -> bool {
        let TransportFacts::Tcp { flags, .. } = facts.transport else {
            return false;
        };
        let kind = TcpFlags::SYN | TcpFlags::ACK | TcpFlags::FIN | TcpFlags::RST;
        self.options.tcp_reuse
            && flags & kind == TcpFlags::SYN
            && (matches!(f.state, TcpState::Closed | TcpState::Reset)
                || (f.state == TcpState::Closing && f.flags[index(side)] & TcpFlags::FIN != 0))
    }

    /// Looks at every flow once.
    pub(crate) fn sweep(&mut self, now: u64) {
        let ids: Vec<u64> = self.flows.keys().copied().collect();
        for id in ids {
            if let Some(reason) = self.idle(&self.flows[&id], now) {
                self.end(id, reason);
                continue;
            }
            let timed = self.options.timeouts != Timeouts::none();
            let (active_ns, epoch) = (self.options.timeouts.active_ns, self.epoch);
            let first_active_ns = self.options.timeouts.first_active_ns;
            let Some(f) = self.flows.get_mut(&id) else {
                continue;
            };
            if timed && f.last_ns > now && f.last_ns - now > 10_000_000_000 {
                f.last_ns = now;
            }
            if f.decision.is_some_and(|(of, _)| of != epoch) {
                f.undecided = true;
            }
            let older_than =
                |ns| ns != Timeouts::NEVER && now >= f.first_ns && now - f.first_ns >= ns;
            let due = older_than(active_ns) || (!f.recorded && older_than(first_active_ns));
            if due && f.packets != [0, 0] {
                self.tell(id, RecordKind::Update, FlowEndReason::ActiveTimeout);
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        let ids: Vec<u64> = self.flows.keys().copied().collect();
        for id in ids {
            let closed = matches!(self.flows[&id].state, TcpState::Closed | TcpState::Reset);
            let reason = if closed {
                FlowEndReason::EndOfFlow
            } else {
                FlowEndReason::ForcedEnd
            };
            self.end(id, reason);
        }
    }

    pub(crate) fn kill(&mut self, key: &FlowKey) {
        if let Some(id) = self.id_of(key) {
            self.end(id, FlowEndReason::ForcedEnd);
        }
    }

    /// The decision in force under `epoch`.
    pub(crate) fn verdict(&self, key: &FlowKey, epoch: u64) -> Option<Decision> {
        let f = &self.flows[&self.id_of(key)?];
        f.decision
            .filter(|(of, _)| *of == epoch && !f.undecided)
            .map(|(_, decision)| decision)
    }

    pub(crate) fn initiator(&self, key: &FlowKey) -> Option<(Side, InitiatorEvidence)> {
        self.id_of(key)
            .map(|id| (self.flows[&id].initiator, self.flows[&id].evidence))
    }

    pub(crate) fn set_decision(
        &mut self,
        key: &FlowKey,
        epoch: u64,
        decision: Decision,
        egress: u16,
    ) {
        let Some(f) = self.id_of(key).and_then(|id| self.flows.get_mut(&id)) else {
            return;
        };
        f.decision = Some((epoch, decision));
        f.undecided = false;
        f.egress_port = egress;
        if decision.enforced.permits() {
            f.denial_told = false;
        }
        self.epoch = epoch;
    }

    pub(crate) fn drop_and_tell(&mut self, key: &FlowKey, ip_bytes: u32, reason: u8) {
        let Some(id) = self.id_of(key) else { return };
        let Some(f) = self.flows.get_mut(&id) else {
            return;
        };
        f.dropped.0 += 1;
        f.dropped.1 += u64::from(ip_bytes);
        f.drop_reason = reason;
        if !f.denial_told {
            f.denial_told = true;
            self.tell(id, RecordKind::Denied, FlowEndReason::ActiveTimeout);
        }
    }

    fn end(&mut self, id: u64, reason: FlowEndReason) {
        self.tell(id, RecordKind::End, reason);
        self.flows.remove(&id);
    }

    fn tell(&mut self, id: u64, kind: RecordKind, reason: FlowEndReason) {
        let Some(f) = self.flows.get_mut(&id) else {
            return;
        };
        self.records
            .push(record(f, self.options.worker, kind, reason));
        f.packets = [0; 2];
        f.bytes = [0; 2];
        f.retransmits = [0; 2];
        f.dropped = (0, 0);
        f.first_ns = f.last_ns;
        f.recorded = true;
    }
}

fn packet_says(
    transport: &TransportFacts,
    proto: u8,
    sender: Side,
) -> Option<(Side, InitiatorEvidence)> {
    match *transport {
        TransportFacts::Tcp { flags, .. } => match (flags & TcpFlags::SYN, flags & TcpFlags::ACK) {
            (0, _) => None,
            (_, 0) => Some((sender, InitiatorEvidence::Syn)),
            _ => Some((sender.other(), InitiatorEvidence::SynAck)),
        },
        TransportFacts::Icmp { kind, .. } => {
            let (requests, replies): (&[u8], &[u8]) = match proto {
                1 => (&[8, 13, 15, 17], &[0, 14, 16, 18]),
                _ => (&[128], &[129]),
            };
            if requests.contains(&kind) {
                Some((sender, InitiatorEvidence::Request))
            } else if replies.contains(&kind) {
                Some((sender.other(), InitiatorEvidence::Request))
            } else {
                None
            }
        }
        TransportFacts::Plain => None,
    }
}

fn weigh(f: &mut Flow, said: Option<(Side, InitiatorEvidence)>) {
    let Some((initiator, evidence)) = said else {
        return;
    };
    if evidence <= f.evidence {
        return;
    }
    f.evidence = evidence;
    if f.initiator != initiator {
        f.initiator = initiator;
        f.undecided = true;
        f.flipped |= f.recorded;
        f.syn_ns = None;
        f.syn_ack_ns = None;
        f.rtt_responder_us = 0;
        f.rtt_initiator_us = 0;
    }
}

fn record(f: &Flow, worker: u8, kind: RecordKind, reason: FlowEndReason) -> FlowRecord {
    let (i, r) = (index(f.initiator), index(f.initiator.other()));
    let tuple = f.key.tuple(f.initiator);
    let icmp = [1, 58].contains(&tuple.proto);
    let same_way = f.first_side == f.initiator;
    let tunnelled = f.path.tunnel_kind != TunnelKind::None;
    let (outer_src, outer_dst) = match (tunnelled, same_way) {
        (false, _) => ([0; 16], [0; 16]),
        (true, true) => (f.path.outer_src, f.path.outer_dst),
        (true, false) => (f.path.outer_dst, f.path.outer_src),
    };
    let (epoch, decision) = f.decision.unzip();
    let byte = |of: fn(&Decision) -> u8| decision.as_ref().map_or(0, of);
    FlowRecord {
        first_ns: f.first_ns,
        last_ns: f.last_ns.max(f.first_ns),
        packets_fwd: f.packets[i],
        packets_rev: f.packets[r],
        bytes_fwd: f.bytes[i],
        bytes_rev: f.bytes[r],
        dropped_packets: f.dropped.0,
        dropped_bytes: f.dropped.1,
        src: tuple.src,
        dst: tuple.dst,
        outer_src,
        outer_dst,
        flow_id: f.id,
        epoch: epoch.unwrap_or(0),
        rule_id: decision.map_or(0, |d| d.rule_id),
        pending_rule_id: decision.map_or(0, |d| d.pending_rule_id),
        src_identity: decision.map_or(0, |d| d.src_identity),
        dst_identity: decision.map_or(0, |d| d.dst_identity),
        tunnel_id: f.path.tunnel_id,
        rtt_responder_us: f.rtt_responder_us,
        rtt_initiator_us: f.rtt_initiator_us,
        retransmits_fwd: f.retransmits[i],
        retransmits_rev: f.retransmits[r],
        sport: if icmp { 0 } else { tuple.src_port },
        dport: if icmp { 0 } else { tuple.dst_port },
        vlans: f.path.vlans.tags.map(|tag| tag % 4096),
        tcp_flags_fwd: f.flags[i],
        tcp_flags_rev: f.flags[r],
        ingress_port: f.ingress_port,
        egress_port: f.egress_port,
        proto: tuple.proto,
        ip_version: if f.ipv6 { 6 } else { 4 },
        icmp_type: f.icmp.0,
        icmp_code: f.icmp.1,
        tos_fwd: f.tos[i],
        tos_rev: f.tos[r],
        end_reason: reason.byte(),
        kind: kind.byte(),
        initiator_evidence: f.evidence.byte(),
        enforced: byte(|d| d.enforced.byte()),
        enforced_source: byte(|d| d.enforced_source.byte()),
        pending: byte(|d| d.pending.byte()),
        pending_source: byte(|d| d.pending_source.byte()),
        drop_reason: f.drop_reason,
        mode: byte(|d| d.mode.byte()),
        coverage: decision.map_or(0, |d: Decision| -> u8 { Coverage::byte(d.coverage) }),
        tcp_state: f.state.byte(),
        tunnel_kind: f.path.tunnel_kind.byte(),
        vlan_count: f.path.vlans.count,
        worker,
        initiator_flipped: u8::from(f.flipped),
        begins: u8::from(!f.recorded),
        reserved: [0; 26],
    }
}

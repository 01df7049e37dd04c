//! What the cache promises, one sentence a test.

use abi::Reason;
use abi::record::{FlowEndReason, FlowRecord, RecordKind, TcpState, TunnelKind};
use abi::verdict::{Action, Decision, InitiatorEvidence};
use flow::{
    Admission, CacheError, CacheOptions, ContextTags, FlowCache, FlowIndex, FlowKey, NewFlow,
    PacketFacts, Path, Step, TcpFlags as T, Timeouts, TransportFacts, Tuple, VlanTags, proto,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const START: u64 = 1_700_000_000 * SECOND;

fn options(flows_max: u32, embryonic_max: u32) -> CacheOptions {
    CacheOptions {
        flows_max,
        embryonic_max,
        ..CacheOptions::default()
    }
}

/// A cache, a clock moved by hand, and the records told so far.
struct House {
    cache: FlowCache,
    now: u64,
    records: Vec<FlowRecord>,
}

fn tuple(src: u32, src_port: u16, dst: u32, dst_port: u16, proto: u8) -> Tuple {
    let address = |host: u32| {
        let mut address = [0; 16];
        address[10..12].fill(0xff);
        address[12..].copy_from_slice(&(0x0a00_0000 + host).to_be_bytes());
        address
    };
    Tuple {
        src: address(src),
        dst: address(dst),
        src_port,
        dst_port,
        proto,
    }
}

fn back(t: Tuple) -> Tuple {
    Tuple {
        src: t.dst,
        dst: t.src,
        src_port: t.dst_port,
        dst_port: t.src_port,
        ..t
    }
}

fn plain(ip_bytes: u32) -> PacketFacts {
    PacketFacts {
        ip_bytes,
        tos: 0,
        ipv6: false,
        transport: TransportFacts::Plain,
    }
}

fn segment(flags: u16, seq: u32, payload_bytes: u32) -> PacketFacts {
    let transport = TransportFacts::Tcp {
        flags,
        seq,
        ack: 0,
        payload_bytes,
    };
    PacketFacts {
        ip_bytes: 40 + payload_bytes,
        tos: 0,
        ipv6: false,
        transport,
    }
}

impl House {
    fn new(options: &CacheOptions) -> Self {
        let cache = FlowCache::new(options, [11, 22]).unwrap();
        Self {
            cache,
            now: START,
            records: Vec::new(),
        }
    }

    fn find(&self, tuple: Tuple) -> Option<FlowIndex> {
        let (key, _) = FlowKey::new(&tuple, 0);
        self.cache.find(self.cache.hash(&key), &key)
    }

    fn admit(&mut self, tuple: Tuple, facts: &PacketFacts, path: &Path) -> Admission {
        let (key, side) = FlowKey::new(&tuple, 0);
        let hash = self.cache.hash(&key);
        let new = NewFlow {
            facts,
            ingress_port: 1,
            path,
        };
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        self.cache
            .insert(hash, &key, side, &new, self.now, &mut sink)
    }

    /// One packet the usual way; `None` where the cache is full.
    fn packet(&mut self, tuple: Tuple, facts: &PacketFacts) -> Option<FlowIndex> {
        match self.admit(tuple, facts, &Path::default()) {
            Admission::New(index) | Admission::Joined(index) => Some(index),
            Admission::Full => None,
        }
    }

    fn tcp(&mut self, tuple: Tuple, flags: u16) -> Option<FlowIndex> {
        self.packet(tuple, &segment(flags, 0, 0))
    }

    fn handshake(&mut self, tuple: Tuple) -> FlowIndex {
        self.tcp(tuple, T::SYN).unwrap();
        self.now += 3 * MS;
        self.tcp(back(tuple), T::SYN | T::ACK).unwrap();
        self.now += 5 * MS;
        self.tcp(tuple, T::ACK).unwrap()
    }

    fn sweep(&mut self, slots_max: u32) -> u32 {
        let records = &mut self.records;
        self.cache
            .sweep(self.now, slots_max, &mut |r: &FlowRecord| records.push(*r))
    }

    /// Lets time pass with the sweep running.
    fn wait(&mut self, ns: u64) {
        let end = self.now + ns;
        while self.now < end {
            self.sweep(u32::MAX);
            self.now = (self.now + SECOND / 2).min(end);
        }
        self.sweep(u32::MAX);
    }

    fn flush(&mut self) {
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        while !self.cache.flush(self.now, 16, &mut sink) {}
    }
}

#[test]
fn flood_of_new_flows_evicts_only_its_like() {
    let mut house = House::new(&options(1000, 100));
    let honest: Vec<Tuple> = (0..900)
        .map(|n| tuple(n, 40_000, 5000, 443, proto::TCP))
        .collect();
    for t in &honest {
        house.handshake(*t);
    }
    for n in 0..20_000_u32 {
        assert!(
            house
                .tcp(tuple(100_000 + n, 1, 5000, 443, proto::TCP), T::SYN)
                .is_some()
        );
    }
    assert!(honest.iter().all(|t| house.find(*t).is_some()));
    let counters = house.cache.counters();
    assert_eq!(counters.flows_evicted, 19_900);
    assert_eq!((counters.flows, counters.flows_established), (1000, 900));
    assert_eq!(counters.table_full, 0);
    let evicted = house.records.iter().filter(|r| {
        r.end_reason == FlowEndReason::LackOfResources.byte()
            && r.tcp_state == TcpState::SynSent.byte()
            && r.packets_fwd == 1
    });
    assert_eq!(evicted.count(), 19_900);
}

#[test]
fn cache_full_of_established_flows_refuses_and_counts() {
    let mut house = House::new(&options(64, 64));
    for n in 0..64 {
        house.handshake(tuple(n, 40_000, 5000, 443, proto::TCP));
    }
    let new = tuple(99, 40_000, 5000, 443, proto::TCP);
    let before = house.cache.packets_cached();
    assert_eq!(house.tcp(new, T::SYN), None);
    assert_eq!(house.cache.counters().table_full, 1);
    assert_eq!(house.cache.packets_cached(), before);
    assert!(house.records.is_empty());
    house.wait(400 * SECOND);
    assert!(
        house.tcp(new, T::SYN).is_some(),
        "room again once the others timed out"
    );
}

#[test]
fn every_slot_of_a_large_cache_can_be_used() {
    let flows_max = 100_000;
    let mut house = House::new(&options(flows_max, flows_max));
    for n in 0..flows_max {
        assert!(
            house
                .packet(tuple(n, 53, 1, 53, proto::UDP), &plain(100))
                .is_some()
        );
    }
    for n in 0..flows_max {
        assert!(house.find(tuple(n, 53, 1, 53, proto::UDP)).is_some());
    }
    assert_eq!(house.cache.counters().index_full, 0);
    assert_eq!(house.cache.packets_cached(), house.cache.recount_packets());
    house.flush();
    assert_eq!(house.records.len(), flows_max as usize);
}

#[test]
fn index_found_before_an_eviction_is_noticed_as_gone() {
    let mut house = House::new(&options(4, 1));
    let first = tuple(1, 1000, 9, 53, proto::UDP);
    let second = tuple(2, 1000, 9, 53, proto::UDP);
    let stale = house.packet(first, &plain(60)).unwrap();
    let fresh = house.packet(second, &plain(60)).unwrap();
    assert_ne!(stale, fresh);
    let (_, side) = FlowKey::new(&first, 0);
    let nothing = &mut |_: &FlowRecord| panic!("nothing ended here");
    assert_eq!(
        house.cache.account(stale, side, &plain(60), START, nothing),
        Step::Gone
    );
    assert_eq!(house.cache.verdict(stale, 0), None);
    assert_eq!(house.cache.ends(stale), None);
    assert!(
        !house
            .cache
            .set_decision(stale, 1, &Decision::without_policy(Action::Allow))
    );
    assert_eq!(
        house.cache.decision(fresh),
        None,
        "the newcomer inherits nothing"
    );
    assert_eq!(house.cache.packets_cached(), 1);
}

#[test]
fn counters_do_not_wrap_where_their_hot_parts_do() {
    let mut house = House::new(&CacheOptions::truth(8));
    let t = tuple(1, 1000, 2, 2000, proto::UDP);
    let packets = 3 * 65_536_u64;
    for _ in 0..packets {
        house.packet(t, &plain(u32::MAX)).unwrap();
    }
    house.now += SECOND;
    house.packet(back(t), &plain(7)).unwrap();
    assert_eq!(house.cache.packets_cached(), packets + 1);
    assert_eq!(house.cache.recount_packets(), packets + 1);
    house.flush();
    let [record] = house.records[..] else {
        panic!("one record")
    };
    assert_eq!((record.packets_fwd, record.packets_rev), (packets, 1));
    assert_eq!(
        (record.bytes_fwd, record.bytes_rev),
        (packets * u64::from(u32::MAX), 7)
    );
    assert_eq!((record.first_ns, record.last_ns), (START, START + SECOND));
}

#[test]
fn tcp_flow_tells_handshake_and_end() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 80, proto::TCP);
    let index = house.handshake(t);
    assert_eq!(house.cache.tcp_state(index), Some(TcpState::Established));
    assert_eq!(house.cache.is_established(index), Some(true));
    house.packet(t, &segment(T::ACK | T::PSH, 100, 50)).unwrap();
    house.packet(t, &segment(T::ACK | T::PSH, 100, 50)).unwrap();
    house
        .packet(back(t), &segment(T::ACK, u32::MAX, 2))
        .unwrap();
    house.packet(back(t), &segment(T::ACK, 1, 20)).unwrap();
    house.packet(back(t), &segment(T::ACK, 20, 1)).unwrap();
    house.packet(t, &segment(T::FIN | T::ACK, 150, 0)).unwrap();
    house
        .packet(back(t), &segment(T::FIN | T::ACK, 21, 0))
        .unwrap();
    let last = segment(T::ACK, 151, 0);
    let transport = TransportFacts::Tcp {
        flags: T::ACK,
        seq: 151,
        ack: 22,
        payload_bytes: 0,
    };
    let index = house.packet(t, &PacketFacts { transport, ..last }).unwrap();
    assert_eq!(house.cache.tcp_state(index), Some(TcpState::Closed));
    house.wait(3 * SECOND);
    let [record] = house.records[..] else {
        panic!("one record")
    };
    assert_eq!(record.end_reason, FlowEndReason::EndOfFlow.byte());
    assert_eq!(record.kind, RecordKind::End.byte());
    assert_eq!(record.initiator_evidence, InitiatorEvidence::Syn.byte());
    assert_eq!(
        (record.rtt_responder_us, record.rtt_initiator_us),
        (3000, 5000)
    );
    assert_eq!(
        (record.retransmits_fwd, record.retransmits_rev),
        (1, 0),
        "a keep-alive is none"
    );
    assert_eq!(record.tcp_flags_fwd, T::SYN | T::ACK | T::PSH | T::FIN);
    assert_eq!((record.packets_fwd, record.packets_rev), (6, 5));
    assert_eq!((record.sport, record.dport), (40_000, 80));
}

#[test]
fn syn_on_a_closed_flow_starts_another_flow() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 80, proto::TCP);
    let old = house.handshake(t);
    let old_id = house.cache.flow_id(old).unwrap();
    house.tcp(back(t), T::RST).unwrap();
    let new = house.tcp(t, T::SYN).unwrap();
    assert_ne!(house.cache.flow_id(new), Some(old_id));
    assert_eq!(house.records[0].flow_id, old_id);
    assert_eq!(house.records[0].end_reason, FlowEndReason::EndOfFlow.byte());
    assert_eq!(house.cache.tcp_state(new), Some(TcpState::SynSent));
    assert_eq!(house.cache.packets_cached(), 1);
}

#[test]
fn each_class_has_its_idle_timeout() {
    let timeouts = Timeouts::default();
    let udp = tuple(1, 40_000, 2, 53, proto::UDP);
    let check = |play: &dyn Fn(&mut House), timeout_ns: u64, reason: FlowEndReason| {
        let mut house = House::new(&options(16, 0));
        play(&mut house);
        house.now += timeout_ns - SECOND;
        house.wait(SECOND - 1);
        assert_eq!(house.cache.counters().flows, 1, "before {timeout_ns}");
        house.now += 2 * SECOND;
        house.wait(2 * SECOND);
        assert_eq!(house.cache.counters().flows, 0, "after {timeout_ns}");
        assert_eq!(house.records.last().unwrap().end_reason, reason.byte());
    };
    let idle = FlowEndReason::IdleTimeout;
    let tcp = tuple(1, 40_000, 2, 80, proto::TCP);
    check(
        &|h| drop(h.packet(udp, &plain(60))),
        timeouts.udp_single_ns,
        idle,
    );
    check(
        &|h| {
            h.packet(udp, &plain(60));
            h.packet(back(udp), &plain(60));
        },
        timeouts.udp_paired_ns,
        idle,
    );
    check(&|h| drop(h.tcp(tcp, T::SYN)), timeouts.tcp_opening_ns, idle);
    check(
        &|h| drop(h.handshake(tcp)),
        timeouts.tcp_established_ns,
        idle,
    );
    check(&|h| drop(h.tcp(tcp, T::ACK)), timeouts.tcp_one_way_ns, idle);
    check(&|h| drop(h.tcp(tcp, T::FIN)), timeouts.tcp_closing_ns, idle);
    let eof = FlowEndReason::EndOfFlow;
    check(&|h| drop(h.tcp(tcp, T::RST)), timeouts.tcp_closed_ns, eof);
    let icmp = tuple(1, 7, 2, 7, proto::ICMP);
    check(
        &|h| drop(h.packet(icmp, &plain(60))),
        timeouts.icmp_ns,
        idle,
    );
    let gre = tuple(1, 0, 2, 0, 47);
    check(
        &|h| drop(h.packet(gre, &plain(60))),
        timeouts.other_ns,
        idle,
    );
}

#[test]
fn idle_flow_ends_at_its_next_packet_even_without_a_sweep() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    house.packet(t, &plain(60)).unwrap();
    house.now += 30 * SECOND;
    house.packet(t, &plain(70)).unwrap();
    assert_eq!(house.records.len(), 1);
    assert_eq!(house.records[0].bytes_fwd, 60);
    assert_eq!(house.cache.counters().flows_created, 2);
}

#[test]
fn long_flow_is_told_every_active_timeout_in_deltas() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    for _ in 0..1800 {
        house.packet(t, &plain(100)).unwrap();
        house.packet(back(t), &plain(50)).unwrap();
        house.now += SECOND / 10;
        house.sweep(u32::MAX);
    }
    house.flush();
    let updates = &house.records[..house.records.len() - 1];
    assert!(
        (2..=3).contains(&updates.len()),
        "{} updates in 180 s",
        updates.len()
    );
    for pair in house.records.windows(2) {
        assert_eq!(pair[0].kind, RecordKind::Update.byte());
        assert_eq!(pair[0].flow_id, pair[1].flow_id);
        assert!(pair[0].last_ns < pair[1].first_ns);
        assert!(pair[0].last_ns - pair[0].first_ns <= 61 * SECOND);
    }
    assert_eq!(
        house.records.iter().map(|r| r.packets_fwd).sum::<u64>(),
        1800
    );
    assert_eq!(
        house.records.iter().map(|r| r.bytes_rev).sum::<u64>(),
        90_000
    );
}

#[test]
fn clock_that_steps_back_breaks_nothing() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    house.packet(t, &plain(60)).unwrap();
    house.sweep(u32::MAX);
    house.now -= 3600 * SECOND;
    house
        .packet(tuple(3, 40_000, 2, 53, proto::UDP), &plain(60))
        .unwrap();
    assert_eq!(house.sweep(u32::MAX), 0);
    house.wait(20 * SECOND);
    assert_eq!(house.cache.counters().flows, 2);
    house.wait(60 * SECOND);
    assert_eq!(
        house.cache.counters().flows,
        0,
        "a flow from the future times out from now on"
    );
    assert!(house.records.iter().all(|r| r.first_ns <= r.last_ns));
}

#[test]
fn sweep_keeps_its_pace_and_its_bound() {
    let mut house = House::new(&options(100_000, 0));
    assert_eq!(house.sweep(64), 0, "the first call starts the clock");
    let mut swept = 0;
    for _ in 0..1_000_000 {
        house.now += 1000;
        let slots = house.sweep(64);
        assert!(slots <= 1);
        swept += u64::from(slots);
    }
    assert!(
        (99_000..=100_000).contains(&swept),
        "{swept} entries in a second of microseconds"
    );
    house.now += 3600 * SECOND;
    let mut after_pause = 0;
    for _ in 0..3000 {
        let slots = house.sweep(64);
        assert!(slots <= 64);
        after_pause += slots;
    }
    assert_eq!(after_pause, 100_000, "one pass in arrears, no more");
    assert_eq!(house.sweep(64), 0);
}

#[test]
fn verdict_is_asked_for_again_when_the_epoch_moved() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    let index = house.packet(t, &plain(60)).unwrap();
    assert_eq!(house.cache.verdict(index, 5), None);
    let decision = Decision::without_policy(Action::Deny);
    assert!(house.cache.set_decision(index, 5, &decision));
    let verdict = house.cache.verdict(index, 5).unwrap();
    assert_eq!(verdict.enforced, Action::Deny);
    assert!(!verdict.pending_permits && verdict.uncovered);
    assert_eq!(house.cache.verdict(index, 6), None);
    assert_eq!(
        house.cache.decision(index),
        Some((5, decision)),
        "kept for comparison"
    );
}

#[test]
fn superseded_verdict_does_not_come_back_when_16_bits_of_the_epoch_do() {
    let mut house = House::new(&options(16, 0));
    let old = house
        .packet(tuple(1, 40_000, 2, 53, proto::UDP), &plain(60))
        .unwrap();
    assert!(
        house
            .cache
            .set_decision(old, 5, &Decision::without_policy(Action::Allow))
    );
    let new = house
        .packet(tuple(3, 40_000, 2, 53, proto::UDP), &plain(60))
        .unwrap();
    assert!(
        house
            .cache
            .set_decision(new, 6, &Decision::without_policy(Action::Allow))
    );
    house.wait(2 * SECOND);
    assert_eq!(house.cache.verdict(old, 5 + 65_536), None);
    assert!(house.cache.verdict(new, 6).is_some());
}

#[test]
fn denied_flow_is_told_once_and_its_drops_are_counted() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 23, proto::TCP);
    let index = house.tcp(t, T::SYN).unwrap();
    let mut told = Vec::new();
    let mut sink = |r: &FlowRecord| told.push(*r);
    assert!(!house.cache.tell_denied(index, &mut sink), "not judged yet");
    assert!(
        house
            .cache
            .set_decision(index, 1, &Decision::without_policy(Action::Deny))
    );
    house.cache.note_drop(index, 40, Reason::DeniedByRule);
    assert!(house.cache.tell_denied(index, &mut sink));
    assert!(!house.cache.tell_denied(index, &mut sink));
    assert_eq!(
        (told[0].kind, told[0].dropped_packets),
        (RecordKind::Denied.byte(), 1)
    );
    assert_eq!(told[0].drop_reason, Reason::DeniedByRule.byte());
    house.tcp(t, T::SYN).unwrap();
    house.cache.note_drop(index, 40, Reason::DeniedByRule);
    house.wait(30 * SECOND);
    let [end] = house.records[..] else {
        panic!("one more record")
    };
    assert_eq!(
        (end.packets_fwd, end.dropped_packets, end.dropped_bytes),
        (1, 1, 40)
    );
}

#[test]
fn better_evidence_turns_the_initiator_round_and_asks_for_a_verdict() {
    let mut house = House::new(&options(16, 0));
    // The answer is seen first, from a high port to a high port.
    let request = tuple(1, 2000, 2, 3000, proto::TCP);
    let index = house.tcp(back(request), T::ACK).unwrap();
    assert_eq!(
        house.cache.ends(index).unwrap().evidence,
        InitiatorEvidence::FirstPacket
    );
    assert_eq!(house.cache.ends(index).unwrap().tuple, back(request));
    assert!(
        house
            .cache
            .set_decision(index, 1, &Decision::without_policy(Action::Allow))
    );
    house.tcp(back(request), T::SYN | T::ACK).unwrap();
    assert_eq!(
        house.cache.ends(index).unwrap().evidence,
        InitiatorEvidence::SynAck
    );
    assert_eq!(house.cache.ends(index).unwrap().tuple, request);
    assert_eq!(house.cache.verdict(index, 1), None);
    assert_eq!(house.cache.counters().initiators_flipped, 1);
}

#[test]
fn flow_after_a_record_says_that_its_initiator_was_turned_round() {
    let mut house = House::new(&options(16, 0));
    let request = tuple(1, 2000, 2, 3000, proto::TCP);
    house.tcp(back(request), T::ACK).unwrap();
    for _ in 0..130 {
        house.now += SECOND / 2;
        house.tcp(back(request), T::ACK).unwrap();
        house.sweep(u32::MAX);
    }
    house.tcp(request, T::SYN).unwrap();
    house.flush();
    assert_eq!(house.records[0].initiator_flipped, 0);
    assert_eq!(house.records[0].src, request.dst);
    let last = house.records.last().unwrap();
    assert_eq!((last.initiator_flipped, last.src), (1, request.src));
}

#[test]
fn known_listener_is_evidence_for_a_flow_picked_up_midstream() {
    let mut house = House::new(&options(16, 0));
    house.handshake(tuple(1, 2000, 9, 3000, proto::TCP));
    let midstream = tuple(7, 2001, 9, 3000, proto::TCP);
    let index = house.tcp(back(midstream), T::ACK).unwrap();
    let ends = house.cache.ends(index).unwrap();
    assert_eq!(
        (ends.tuple, ends.evidence),
        (midstream, InitiatorEvidence::KnownListener)
    );
    assert_eq!(house.cache.counters().flows_midstream, 1);
}

#[test]
fn ping_and_its_reply_are_one_flow_with_ports_0() {
    let mut house = House::new(&options(16, 0));
    let icmp = |kind| PacketFacts {
        transport: TransportFacts::Icmp { kind, code: 0 },
        ..plain(84)
    };
    let ping = tuple(1, 77, 2, 77, proto::ICMP);
    house.packet(back(ping), &icmp(0)).unwrap();
    let index = house.packet(ping, &icmp(8)).unwrap();
    let ends = house.cache.ends(index).unwrap();
    assert_eq!((ends.tuple.src, ends.tuple.src_port), (ping.src, 0));
    assert_eq!(ends.evidence, InitiatorEvidence::Request);
    house.flush();
    let [record] = house.records[..] else {
        panic!("one record")
    };
    assert_eq!((record.packets_fwd, record.packets_rev), (1, 1));
    assert_eq!((record.sport, record.dport, record.icmp_type), (0, 0, 0));
    assert_eq!(record.tcp_flags_fwd, 0);
}

#[test]
fn path_is_told_in_the_initiators_direction_and_given_back() {
    let mut house = House::new(&CacheOptions {
        paths_max: 1,
        ..options(16, 0)
    });
    let path = |tunnel_id| Path {
        vlans: VlanTags {
            count: 1,
            tags: [0x1000 | 300, 0, 0, 0],
        },
        tunnel_kind: TunnelKind::Vxlan,
        tunnel_id,
        outer_src: [1; 16],
        outer_dst: [2; 16],
    };
    let answer = tuple(1, 53, 2, 40_000, proto::UDP);
    assert!(matches!(
        house.admit(answer, &plain(60), &path(42)),
        Admission::New(_)
    ));
    let other = tuple(1, 53, 3, 40_000, proto::UDP);
    assert!(matches!(
        house.admit(other, &plain(60), &path(43)),
        Admission::New(_)
    ));
    assert_eq!(
        (
            house.cache.counters().paths,
            house.cache.counters().paths_full
        ),
        (1, 1)
    );
    house.flush();
    house.records.sort_by_key(|r| r.flow_id);
    let told = &house.records[0];
    assert_eq!((told.outer_src, told.outer_dst), ([2; 16], [1; 16]));
    assert_eq!(
        (told.tunnel_id, told.tunnel_kind),
        (42, TunnelKind::Vxlan.byte())
    );
    assert_eq!((told.vlan_count, told.vlans[0]), (1, 300));
    assert_eq!(house.records[1].tunnel_kind, TunnelKind::None.byte());
    assert_eq!(house.cache.counters().paths, 0);
}

#[test]
fn equal_tuples_on_two_vlans_are_two_flows_while_contexts_last() {
    let mut house = House::new(&CacheOptions {
        contexts_max: 2,
        ..options(16, 0)
    });
    let vlan = |id| ContextTags {
        vlans: VlanTags {
            count: 1,
            tags: [id, 0, 0, 0],
        },
        ..ContextTags::default()
    };
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    assert_eq!(
        house.cache.intern_context(&ContextTags::default(), START),
        Some(0)
    );
    for id in [10, 20] {
        let context = house.cache.intern_context(&vlan(id), START).unwrap();
        let (key, side) = FlowKey::new(&t, context);
        let new = NewFlow {
            facts: &plain(60),
            ingress_port: 0,
            path: &Path::default(),
        };
        let hash = house.cache.hash(&key);
        let nothing = &mut |_: &FlowRecord| panic!("nothing ends");
        let admission = house.cache.insert(hash, &key, side, &new, START, nothing);
        assert!(matches!(admission, Admission::New(_)));
    }
    assert_eq!(house.cache.intern_context(&vlan(30), START), None);
    assert_eq!(house.cache.counters().contexts_full, 1);
    house.wait(50 * SECOND);
    assert_eq!(house.cache.counters().flows, 0);
    assert_eq!(house.cache.counters().contexts, 2, "not yet rested");
    house.wait(80 * SECOND);
    assert!(house.cache.intern_context(&vlan(30), house.now).is_some());
}

#[test]
fn truth_knows_one_flow_per_key_for_ever() {
    let mut house = House::new(&CacheOptions::truth(64));
    let t = tuple(1, 80, 2, 40_000, proto::TCP);
    for flags in [
        T::ACK,
        T::SYN,
        T::SYN | T::ACK,
        T::FIN,
        T::RST,
        T::SYN,
        T::ACK,
    ] {
        house.tcp(t, flags).unwrap();
        house.tcp(back(t), flags).unwrap();
        house.now += 86_400 * SECOND;
        house.sweep(u32::MAX);
    }
    house.flush();
    let [record] = house.records[..] else {
        panic!("one record")
    };
    assert_eq!(
        (record.src, record.sport),
        (t.src, 80),
        "the first sender is the initiator"
    );
    assert_eq!((record.packets_fwd, record.packets_rev), (7, 7));
}

#[test]
fn a_flow_costs_200_bytes_and_ten_million_fit_in_two_gibibytes() {
    let bytes_of = |flows_max| {
        let tables = CacheOptions {
            paths_max: 0,
            contexts_max: 0,
            listeners_max: 0,
            ..options(flows_max, 0)
        };
        FlowCache::memory_bytes(&tables)
    };
    assert!(
        bytes_of(10_000_000) <= 200 * 10_000_000 + 64,
        "{}",
        bytes_of(10_000_000)
    );
    assert!(FlowCache::memory_bytes(&options(10_000_000, 0)) <= 2 << 30);
}

#[test]
fn options_out_of_range_are_refused_with_a_reason() {
    let refused = |options: CacheOptions| FlowCache::new(&options, [0, 0]).err().unwrap();
    assert_eq!(
        refused(options(0, 0)),
        CacheError::FlowsMax { flows_max: 0 }
    );
    assert!(
        refused(options(u32::MAX, 0))
            .to_string()
            .contains("choose 1 to 100000000")
    );
    let too_many = CacheError::EmbryonicMax {
        embryonic_max: 9,
        flows_max: 8,
    };
    assert_eq!(refused(options(8, 9)), too_many);
    let stopped = CacheOptions {
        sweep_period_ns: 0,
        ..options(8, 0)
    };
    assert_eq!(refused(stopped), CacheError::SweepPeriod);
    let paths = CacheOptions {
        paths_max: u32::MAX,
        ..options(8, 0)
    };
    assert!(matches!(
        refused(paths),
        CacheError::TableMax {
            name: "paths_max",
            ..
        }
    ));
}

#[test]
fn one_entry_is_enough_to_work() {
    let mut house = House::new(&options(1, 0));
    for n in 0..1000 {
        assert!(
            house
                .packet(tuple(n, 1, 2, 53, proto::UDP), &plain(60))
                .is_some()
        );
    }
    let t = tuple(999, 1, 2, 53, proto::UDP);
    house.packet(back(t), &plain(60)).unwrap();
    assert_eq!(
        house.packet(tuple(1, 1, 2, 53, proto::UDP), &plain(60)),
        None
    );
    assert_eq!(house.cache.counters().flows_evicted, 999);
}

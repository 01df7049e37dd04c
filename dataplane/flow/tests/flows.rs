//! What a flow knows and tells, one sentence a test.

mod house;

use abi::Reason;
use abi::record::{FlowEndReason, FlowRecord, RecordKind, TcpState};
use abi::verdict::{Action, Decision, InitiatorEvidence};
use flow::{CacheOptions, PacketFacts, TcpFlags as T, TransportFacts, proto};
use house::{House, SECOND, back, options, plain, segment, tuple};

#[test]
fn tcp_flow_tells_handshake_and_end() {
    let mut house = House::new(&CacheOptions {
        tcp_quality: true,
        ..options(16, 0)
    });
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
fn caller_can_turn_a_weakly_evidenced_flow_round_but_not_a_surely_known_one() {
    let mut house = House::new(&options(16, 0));
    let weak = tuple(1, 53, 2, 40_000, proto::UDP);
    let index = house.packet(weak, &plain(60)).unwrap();
    let decision = Decision::without_policy(Action::Allow);
    assert!(house.cache.set_decision(index, 1, &decision));
    let initiator = house.cache.ends(index).unwrap().initiator;
    house.cache.turn_round(index, initiator);
    assert!(house.cache.verdict(index, 1).is_some(), "nothing changed");
    house.cache.turn_round(index, initiator.other());
    assert_eq!(house.cache.ends(index).unwrap().tuple, weak);
    assert_eq!(house.cache.verdict(index, 1), None);
    let sure = tuple(1, 40_000, 2, 80, proto::TCP);
    let index = house.handshake(sure);
    let initiator = house.cache.ends(index).unwrap().initiator;
    house.cache.turn_round(index, initiator.other());
    assert_eq!(house.cache.ends(index).unwrap().tuple, sure);
    assert_eq!(house.cache.counters().initiators_flipped, 1);
}

#[test]
fn changed_verdict_is_told_apart_from_the_one_before() {
    let mut house = House::new(&options(16, 0));
    let index = house
        .packet(tuple(1, 40_000, 2, 53, proto::UDP), &plain(60))
        .unwrap();
    assert!(
        house
            .cache
            .set_decision(index, 1, &Decision::without_policy(Action::Allow))
    );
    let records = &mut house.records;
    let mut sink = |r: &FlowRecord| records.push(*r);
    assert!(house.cache.tell_update(index, &mut sink));
    assert!(
        !house.cache.tell_update(index, &mut sink),
        "nothing counted since"
    );
    house.cache.set_undecided(index);
    assert_eq!(house.cache.verdict(index, 1), None);
    assert_eq!(house.cache.packets_cached(), 0);
    let [record] = house.records[..] else {
        panic!("one record")
    };
    assert_eq!(
        (record.kind, record.packets_fwd),
        (RecordKind::Update.byte(), 1)
    );
    assert_eq!(house.cache.counters().records_update, 1);
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

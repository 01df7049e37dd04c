//! The straight path takes a packet that changes nothing about an allowed flow, or about one whose denial is
//! final, and no other.

mod house;

use abi::Reason;
use abi::verdict::{Action, Coverage, Decision, VerdictSource};
use flow::{
    Blocked, FlowIndex, FlowKey, Gate, KeyedPacket, PacketFacts, Passed, Step, TcpFlags as T,
    Tuple, proto,
};
use house::{House, SECOND, back, options, plain, segment, tuple};

const EPOCH: u64 = 7;

fn pass_under(house: &mut House, tuple: Tuple, facts: &PacketFacts, epoch: u64) -> Passed {
    let (key, side) = FlowKey::new(&tuple, 0);
    let packet = KeyedPacket {
        key,
        side,
        facts: *facts,
    };
    let likely = house
        .cache
        .prefetch_entry(house.cache.hash(&key), tuple.proto);
    let gate = Gate::new(epoch);
    let before = house.cache.recount_packets();
    let mut passed = Passed::default();
    let is_passed = house
        .cache
        .pass(&gate, likely, &packet, house.now, &mut passed);
    let passed = house.cache.take_passed(&mut passed);
    assert_eq!(passed.packets, u64::from(is_passed));
    assert_eq!(house.cache.recount_packets() - before, passed.packets);
    assert_eq!(house.cache.packets_cached(), house.cache.recount_packets());
    passed
}

fn passes(house: &mut House, tuple: Tuple, facts: &PacketFacts) -> bool {
    pass_under(house, tuple, facts, EPOCH).packets == 1
}

fn end(house: &mut House, flow: FlowIndex) {
    let records = &mut house.records;
    let mut sink = |r: &abi::FlowRecord| records.push(*r);
    assert!(house.cache.kill(flow, house.now, &mut sink));
}

fn decide(house: &mut House, flow: FlowIndex, action: Action) {
    let decision = Decision::without_policy(action);
    assert!(house.cache.set_decision(flow, EPOCH, &decision));
}

/// A UDP flow that both ends have spoken in, allowed.
fn udp(house: &mut House) -> Tuple {
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    house.packet(t, &plain(60)).unwrap();
    let flow = house.packet(back(t), &plain(60)).unwrap();
    decide(house, flow, Action::Allow);
    t
}

#[test]
fn both_sides_of_an_allowed_flow_pass() {
    let mut house = House::new(&options(16, 0));
    let t = udp(&mut house);
    for _ in 0..5 {
        assert!(passes(&mut house, t, &plain(100)));
        assert!(passes(&mut house, back(t), &plain(200)));
    }
    let flow = house.find(t).unwrap();
    end(&mut house, flow);
    let record = house.records.last().unwrap();
    assert_eq!((record.packets_fwd, record.packets_rev), (6, 6));
    assert_eq!((record.bytes_fwd, record.bytes_rev), (560, 1060));
}

#[test]
fn what_is_not_simply_allowed_does_not_pass() {
    let mut house = House::new(&options(16, 0));
    let t = udp(&mut house);
    let other = tuple(9, 40_000, 2, 53, proto::UDP);
    assert!(!passes(&mut house, other, &plain(60)), "an unknown flow");
    for epoch in [EPOCH - 1, EPOCH + 1] {
        let passed = pass_under(&mut house, t, &plain(60), epoch);
        assert_eq!(passed, Passed::default(), "decided by another policy");
    }
    for action in [Action::Deny, Action::Reject, Action::Limit] {
        let flow = house.find(t).unwrap();
        decide(&mut house, flow, action);
        assert!(!passes(&mut house, t, &plain(60)), "{action:?}");
    }
    let flow = house.find(t).unwrap();
    house.cache.set_undecided(flow);
    assert!(!passes(&mut house, t, &plain(60)), "undecided");
}

#[test]
fn the_first_packet_of_a_side_or_after_a_record_does_not_pass() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 53, proto::UDP);
    let flow = house.packet(t, &plain(60)).unwrap();
    decide(&mut house, flow, Action::Allow);
    assert!(passes(&mut house, t, &plain(60)));
    assert!(!passes(&mut house, back(t), &plain(60)), "the first answer");
    let records = &mut house.records;
    assert!(
        house
            .cache
            .tell_update(flow, &mut |r: &abi::FlowRecord| records.push(*r))
    );
    assert!(
        !passes(&mut house, t, &plain(60)),
        "nothing counted since the record"
    );
}

#[test]
fn an_idle_flow_does_not_pass() {
    let mut house = House::new(&options(16, 0));
    let t = udp(&mut house);
    house.now += 3600 * SECOND;
    assert!(!passes(&mut house, t, &plain(60)), "idle for an hour");
}

#[test]
fn an_entry_looked_up_before_its_flow_ended_lets_nothing_pass() {
    let mut house = House::new(&options(16, 0));
    let t = udp(&mut house);
    let (key, side) = FlowKey::new(&t, 0);
    let facts = plain(60);
    let packet = KeyedPacket { key, side, facts };
    let (gate, now) = (Gate::new(EPOCH), house.now);
    let likely = house.cache.prefetch_entry(house.cache.hash(&key), t.proto);
    let mut passed = Passed::default();
    assert!(house.cache.pass(&gate, likely, &packet, now, &mut passed));
    house.cache.take_passed(&mut passed);
    let flow = house.find(t).unwrap();
    end(&mut house, flow);
    assert!(!house.cache.pass(&gate, likely, &packet, now, &mut passed));
    assert_eq!(passed, Passed::default());
}

#[test]
fn a_counter_about_to_overflow_does_not_pass() {
    let mut house = House::new(&options(16, 0));
    let t = udp(&mut house);
    assert!(passes(&mut house, t, &plain(u32::MAX - 200)));
    assert!(!passes(&mut house, t, &plain(400)), "bytes");
    let t = back(t);
    let mut passed = 0_u32;
    while passes(&mut house, t, &plain(1)) {
        passed += 1;
    }
    assert_eq!(passed, u32::from(u16::MAX) - 1, "packets");
}

#[test]
fn only_plain_segments_of_an_established_connection_pass() {
    let mut house = House::new(&options(16, 0));
    let t = tuple(1, 40_000, 2, 443, proto::TCP);
    let flow = house.handshake(t);
    decide(&mut house, flow, Action::Allow);
    assert!(passes(&mut house, t, &segment(T::ACK, 1, 10)));
    assert!(
        !passes(&mut house, t, &segment(T::ACK | T::PSH, 11, 10)),
        "the first PSH"
    );
    for flags in [T::SYN, T::FIN | T::ACK, T::RST, T::ACK | T::URG] {
        assert!(!passes(&mut house, t, &segment(flags, 21, 0)), "{flags:#x}");
    }
    let (_, side) = FlowKey::new(&t, 0);
    let fin = segment(T::FIN | T::ACK, 21, 0);
    let records = &mut house.records;
    let step = house
        .cache
        .account(flow, side, &fin, house.now, &mut |r: &abi::FlowRecord| {
            records.push(*r)
        });
    assert_eq!(step, Step::Counted);
    assert!(!passes(&mut house, t, &segment(T::ACK, 22, 0)), "closing");
}

#[test]
fn what_the_pending_verdict_says_is_counted() {
    let mut house = House::new(&options(16, 0));
    let t = udp(&mut house);
    let flow = house.find(t).unwrap();
    let decision = Decision {
        pending: Action::Deny,
        coverage: Coverage::Uncovered,
        ..Decision::without_policy(Action::Allow)
    };
    house.cache.set_decision(flow, EPOCH, &decision);
    let passed = pass_under(&mut house, t, &plain(60), EPOCH);
    assert_eq!(
        passed,
        Passed {
            packets: 1,
            would_deny: 1,
            uncovered: 1
        }
    );
}

/// What is dropped straight; nothing is told, and no packet is lost count of.
fn blocks(house: &mut House, tuple: Tuple, facts: &PacketFacts) -> Option<Blocked> {
    let (key, side) = FlowKey::new(&tuple, 0);
    let facts = *facts;
    let packet = KeyedPacket { key, side, facts };
    let hash = house.cache.hash(&key);
    let likely = house.cache.prefetch_entry(hash, tuple.proto);
    let (gate, now) = (Gate::new(EPOCH), house.now);
    let before = house.cache.recount_packets();
    let blocked = house.cache.block(&gate, likely, &packet, now, true);
    let counted = house.cache.recount_packets() - before;
    assert_eq!(counted, u64::from(blocked.is_some()));
    assert_eq!(house.cache.packets_cached(), house.cache.recount_packets());
    blocked
}

/// A UDP flow that both ends have spoken in, denied and told, and final for the first sender.
fn denied(house: &mut House) -> (Tuple, FlowIndex) {
    let t = udp(house);
    let flow = house.find(t).unwrap();
    decide(house, flow, Action::Deny);
    let records = &mut house.records;
    let mut sink = |r: &abi::FlowRecord| records.push(*r);
    assert!(house.cache.tell_denied(flow, &mut sink));
    for t in [t, back(t)] {
        house.packet(t, &plain(60)).unwrap();
        house.cache.note_drop(flow, 60, Reason::DeniedByRule);
    }
    let (_, side) = FlowKey::new(&t, 0);
    assert!(!house.cache.is_denial_final(flow, side));
    house.cache.make_denial_final(flow, side);
    assert!(house.cache.is_denial_final(flow, side));
    (t, flow)
}

#[test]
fn a_side_whose_denial_is_final_is_dropped_and_counted() {
    let mut house = House::new(&options(16, 0));
    let (t, flow) = denied(&mut house);
    let blocked = Blocked {
        source: VerdictSource::NoPolicy,
        uncovered: true,
    };
    for _ in 0..3 {
        assert_eq!(blocks(&mut house, t, &plain(100)), Some(blocked));
        assert_eq!(blocks(&mut house, back(t), &plain(100)), None);
        assert!(!passes(&mut house, t, &plain(100)));
    }
    end(&mut house, flow);
    let record = house.records.last().unwrap();
    assert_eq!((record.packets_fwd, record.packets_rev), (4, 1));
    assert_eq!((record.dropped_packets, record.dropped_bytes), (5, 420));
    assert_eq!(record.drop_reason, Reason::DeniedByRule.byte());
}

#[test]
fn a_denial_is_final_until_the_flow_is_decided_again() {
    let mut house = House::new(&options(16, 0));
    let (t, flow) = denied(&mut house);
    house.now += 3600 * SECOND;
    assert_eq!(blocks(&mut house, t, &plain(60)), None, "idle for an hour");
    house.now -= 3600 * SECOND;
    assert!(blocks(&mut house, t, &plain(60)).is_some());
    let (_, side) = FlowKey::new(&t, 0);
    for action in [Action::Deny, Action::Reject, Action::Limit, Action::Allow] {
        decide(&mut house, flow, action);
        assert!(!house.cache.is_denial_final(flow, side));
        assert_eq!(blocks(&mut house, t, &plain(60)), None, "{action:?}");
    }
    decide(&mut house, flow, Action::Reject);
    house.cache.make_denial_final(flow, side);
    assert_eq!(
        blocks(&mut house, t, &plain(60)),
        None,
        "its sender is told"
    );
}

#[test]
fn a_record_between_takes_the_next_packet_off_the_straight_path() {
    let mut house = House::new(&options(16, 0));
    let (t, flow) = denied(&mut house);
    let records = &mut house.records;
    let mut sink = |r: &abi::FlowRecord| records.push(*r);
    assert!(house.cache.tell_update(flow, &mut sink));
    assert_eq!(blocks(&mut house, t, &plain(60)), None);
    house.packet(t, &plain(60)).unwrap();
    assert!(blocks(&mut house, t, &plain(60)).is_some());
}

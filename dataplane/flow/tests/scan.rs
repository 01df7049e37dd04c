//! Scans: what is told flow by flow, what is folded, and that nothing is lost between the two.

mod house;

use abi::record::{FlowEndReason, FlowRecord, RecordKind};
use abi::verdict::{Action, Coverage, Decision, Mode, OnChange, VerdictSource};
use abi::{AggregateRecord, Reason};
use flow::{
    Attempt, CacheOptions, FlowKey, KeyedPacket, PacketFacts, ScanOptions, TcpFlags as T, Tuple,
};
use house::{House, MS, SECOND, START, back, options, plain, segment, tuple};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn decision(action: Action, rule_id: u64) -> Decision {
    Decision {
        enforced: action,
        enforced_source: VerdictSource::Rule,
        rule_id,
        pending: action,
        pending_source: VerdictSource::Rule,
        pending_rule_id: rule_id,
        mode: Mode::Enforce,
        coverage: Coverage::Rule,
        on_change: OnChange::Reevaluate,
        limit_index: u16::MAX,
        src_identity: 3,
        dst_identity: 4,
    }
}

/// Two records at once, then one every ten seconds, for each source; the core's bucket is large.
fn narrow(sources_max: u32) -> CacheOptions {
    CacheOptions {
        scan: ScanOptions {
            sources_max,
            records_per_second: 1,
            burst: 2,
            core_records_per_second: 1000,
            core_burst: 100_000,
        },
        ..options(1024, 0)
    }
}

/// A packet of a new flow that rule `rule_id` of `epoch` denies: folded, or a flow that is told.
fn denied(house: &mut House, tuple: Tuple, facts: &PacketFacts, rule_id: u64, epoch: u64) -> bool {
    let decision = decision(Action::Deny, rule_id);
    attempt(house, tuple, facts, &decision, epoch)
}

fn attempt_of<'a>(packet: &'a KeyedPacket, decision: &'a Decision, epoch: u64) -> Attempt<'a> {
    Attempt {
        key: &packet.key,
        sender: packet.side,
        facts: &packet.facts,
        ingress_port: 1,
        initiator: packet.side,
        decision,
        epoch,
        dropped: Some(Reason::DeniedByRule),
    }
}

fn keyed(tuple: &Tuple, facts: &PacketFacts) -> KeyedPacket {
    let (key, side) = FlowKey::new(tuple, 0);
    let facts = *facts;
    KeyedPacket { key, side, facts }
}

/// The same of a policy that says this.
fn attempt(
    house: &mut House,
    tuple: Tuple,
    facts: &PacketFacts,
    decision: &Decision,
    epoch: u64,
) -> bool {
    let packet = keyed(&tuple, facts);
    let attempt = attempt_of(&packet, decision, epoch);
    let records = &mut house.records;
    let mut sink = |r: &FlowRecord| records.push(*r);
    if house.cache.fold_denied(&attempt, house.now, &mut sink) {
        return true;
    }
    let Some(flow) = house.packet(tuple, facts) else {
        return false;
    };
    house.cache.set_decision(flow, epoch, decision);
    house
        .cache
        .note_drop(flow, facts.ip_bytes, Reason::DeniedByRule);
    let records = &mut house.records;
    let mut sink = |r: &FlowRecord| records.push(*r);
    house.cache.tell_denied(flow, &mut sink);
    false
}

fn aggregates(house: &House) -> Vec<AggregateRecord> {
    house
        .records
        .iter()
        .filter_map(FlowRecord::as_aggregate)
        .copied()
        .collect()
}

fn check(house: &House) {
    assert_eq!(house.cache.packets_cached(), house.cache.recount_packets());
}

#[test]
fn a_scan_is_told_flow_by_flow_until_its_budget_is_used_and_then_in_one_aggregate() {
    let mut house = House::new(&narrow(64));
    let syn = segment(T::SYN, 1, 0);
    for host in 0..50 {
        for port in 20..40 {
            house.now += MS / 100;
            denied(
                &mut house,
                tuple(1, 40_000, 1000 + host, port, TCP),
                &syn,
                7,
                1,
            );
        }
        check(&house);
    }
    let told: Vec<_> = house.records.iter().map(|r| r.kind).collect();
    assert_eq!(told, [RecordKind::Denied.byte(); 2]);
    assert_eq!(house.cache.counters().flows, 2);
    house.wait(4 * SECOND);
    assert_eq!(house.records.len(), 2, "not due yet");
    house.wait(2 * SECOND);
    let told = aggregates(&house);
    assert_eq!(told.len(), 1);
    let a = told[0];
    assert_eq!((a.flows, a.packets_fwd, a.packets_rev), (998, 998, 0));
    assert_eq!((a.bytes_fwd, a.dropped_bytes), (998 * 40, 998 * 40));
    assert_eq!((a.dropped_packets, a.refused, a.sources), (998, 0, 1));
    assert_eq!((a.destinations, a.ports), (50, 20));
    assert_eq!((a.port_low, a.port_high, a.protocols), (20, 39, 1));
    assert_eq!(
        (a.rule_id, a.epoch, a.enforced),
        (7, 1, Action::Deny.byte())
    );
    assert_eq!((a.src_identity, a.dst_identity), (3, 4));
    assert_eq!(a.src, tuple(1, 0, 0, 0, 0).src);
    assert_eq!(a.dst, tuple(1049, 0, 0, 0, 0).src);
    assert_eq!(
        (a.tcp_flags_fwd, a.drop_reason),
        (T::SYN, Reason::DeniedByRule.byte())
    );
    assert_eq!(
        (a.first_ns, a.last_ns),
        (START + 3 * MS / 100, START + 10 * MS)
    );
    assert_eq!(a.end_reason, FlowEndReason::ActiveTimeout.byte());
}

#[test]
fn what_goes_on_is_told_in_deltas_under_one_id_and_ends_idle() {
    let mut house = House::new(&narrow(64));
    let probe = plain(60);
    for round in 0..30_u32 {
        for port in 0..10 {
            denied(
                &mut house,
                tuple(1, 9, 100 + round, 1000 + port, UDP),
                &probe,
                0,
                1,
            );
        }
        house.wait(SECOND / 2);
    }
    house.wait(30 * SECOND);
    let told = aggregates(&house);
    assert!(told.len() >= 2, "{}", told.len());
    assert!(told.iter().all(|a| a.aggregate_id == told[0].aggregate_id));
    assert!(told.iter().all(|a| a.since_ns == told[0].since_ns));
    let flows: u64 = told.iter().map(|a| a.flows).sum();
    let own = house
        .records
        .iter()
        .filter(|r| r.kind == RecordKind::Denied.byte())
        .count();
    assert_eq!(flows + own as u64, 300);
    let last = told[told.len() - 1];
    assert_eq!(last.end_reason, FlowEndReason::IdleTimeout.byte());
    assert!(
        last.destinations >= 28,
        "since it began: {}",
        last.destinations
    );
    assert_eq!(house.cache.counters().scan_sources, 0);
    check(&house);
}

#[test]
fn an_aggregate_is_of_one_decision_of_one_policy() {
    let mut house = House::new(&narrow(64));
    let syn = segment(T::SYN, 1, 0);
    for n in 0..100 {
        let (rule, epoch) = (1 + u64::from(n) % 2, 1 + u64::from(n) / 50);
        denied(&mut house, tuple(1, 1, 100 + n, 80, TCP), &syn, rule, epoch);
    }
    house.flush();
    let told = aggregates(&house);
    let mut sums: Vec<_> = told.iter().map(|a| (a.epoch, a.rule_id, a.flows)).collect();
    sums.sort_unstable();
    // Two of each rule under the first policy had records of their own.
    assert_eq!(sums, [(1, 1, 23), (1, 2, 23), (2, 1, 25), (2, 2, 25)]);
}

#[test]
fn permitted_flows_that_nobody_answers_fold_when_they_end_and_answered_ones_do_not() {
    let mut house = House::new(&narrow(64));
    let allow = decision(Action::Allow, 5);
    let open = |house: &mut House, n: u32, answer: Option<u16>| {
        let t = tuple(1, 40_000, 100 + n, 22, TCP);
        let flow = house.tcp(t, T::SYN).unwrap();
        house.cache.set_decision(flow, 1, &allow);
        if let Some(flags) = answer {
            house.tcp(back(t), flags).unwrap();
        }
    };
    for n in 0..20 {
        open(&mut house, n, None);
    }
    for n in 20..25 {
        open(&mut house, n, Some(T::RST | T::ACK));
    }
    for n in 25..28 {
        open(&mut house, n, Some(T::SYN | T::ACK));
    }
    house.flush();
    let told = aggregates(&house);
    let sum = |of: fn(&AggregateRecord) -> u64| told.iter().map(of).sum::<u64>();
    assert_eq!((sum(|a| a.flows), sum(|a| a.refused)), (20 + 5 - 2, 5));
    assert_eq!((sum(|a| a.packets_fwd), sum(|a| a.packets_rev)), (23, 5));
    assert!(
        told.iter()
            .all(|a| a.enforced == Action::Allow.byte() && a.rule_id == 5)
    );
    let own: Vec<_> = house
        .records
        .iter()
        .filter(|r| r.as_aggregate().is_none())
        .collect();
    assert_eq!(own.len(), 2 + 3);
    assert_eq!(own.iter().filter(|r| r.packets_rev > 0).count(), 3);
    let packets: u64 = house
        .records
        .iter()
        .map(|r| r.packets_fwd + r.packets_rev)
        .sum();
    assert_eq!(packets, 20 + 2 * 8);
}

#[test]
fn a_stream_one_way_and_a_flow_that_was_told_keep_their_own_records() {
    let mut house = House::new(&narrow(64));
    let allow = decision(Action::Allow, 5);
    for n in 0..10 {
        let t = tuple(1, 514, 100 + n, 514, UDP);
        for _ in 0..5 {
            let flow = house.packet(t, &plain(200)).unwrap();
            house.cache.set_decision(flow, 1, &allow);
        }
    }
    house.wait(60 * SECOND);
    assert!(aggregates(&house).is_empty());
    assert_eq!(
        house.records.len(),
        10 + 10,
        "told after five seconds, and ended"
    );
}

#[test]
fn sources_that_are_more_than_the_table_holds_are_added_up_and_a_loud_one_keeps_its_place() {
    let mut house = House::new(&narrow(8));
    let syn = segment(T::SYN, 1, 0);
    let loud = 77;
    for n in 0..20_000 {
        house.now += MS / 1000;
        denied(&mut house, tuple(1000 + n, 1, 5, 80, TCP), &syn, 0, 1);
        denied(&mut house, tuple(loud, 1, 10_000 + n, 80, TCP), &syn, 0, 1);
    }
    check(&house);
    assert!(house.cache.counters().scan_sources <= 8 + 1);
    let own = house.records.len();
    assert!(own < 6_000, "a flood of sources has {own} records");
    house.flush();
    let (rest, sources): (Vec<_>, Vec<_>) = aggregates(&house)
        .into_iter()
        .partition(|a| a.src == [0; 16]);
    let of_loud: u64 = sources
        .iter()
        .filter(|a| a.src == tuple(loud, 0, 0, 0, 0).src)
        .map(|a| a.flows)
        .sum();
    assert!(of_loud >= 19_900, "{of_loud} of 20000 under its own name");
    assert_eq!(rest.len(), 1);
    let estimate = f64::from(rest[0].sources);
    assert!(
        (12_000.0..24_000.0).contains(&estimate),
        "{estimate} sources"
    );
    assert_eq!(rest[0].destinations, 1);
    let packets: u64 = house.records.iter().map(|r| r.packets_fwd).sum();
    assert_eq!(packets, 40_000);
    assert_eq!(
        house.cache.counters().folded_rest_packets,
        rest.iter().map(|a| a.packets_fwd).sum::<u64>()
    );
}

#[test]
fn more_deciding_rules_than_rests_share_the_last_without_a_name() {
    let mut house = House::new(&CacheOptions {
        scan: ScanOptions {
            core_burst: 1,
            ..narrow(8).scan
        },
        ..narrow(8)
    });
    let syn = segment(T::SYN, 1, 0);
    for n in 0..1000 {
        denied(
            &mut house,
            tuple(1000 + n, 1, 5, 80, TCP),
            &syn,
            1 + u64::from(n % 20),
            1,
        );
    }
    house.flush();
    let told = aggregates(&house);
    let rests: Vec<_> = told.iter().filter(|a| a.src == [0; 16]).collect();
    assert_eq!(rests.len(), 8);
    assert_eq!(rests.iter().filter(|a| a.rule_id == 0).count(), 1);
    assert_eq!(told.iter().map(|a| a.flows).sum::<u64>(), 999);
}

#[test]
fn all_sources_together_have_a_budget_too() {
    let mut house = House::new(&CacheOptions {
        scan: ScanOptions {
            core_records_per_second: 10,
            core_burst: 25,
            ..narrow(4096).scan
        },
        ..narrow(4096)
    });
    let syn = segment(T::SYN, 1, 0);
    let folded = (0..3000)
        .filter(|n| denied(&mut house, tuple(1000 + n, 1, 5, 80, TCP), &syn, 0, 1))
        .count();
    assert_eq!(folded, 3000 - 25);
}

#[test]
fn without_a_table_of_sources_every_flow_is_told() {
    let mut house = House::new(&CacheOptions {
        scan: ScanOptions::OFF,
        ..narrow(0)
    });
    let syn = segment(T::SYN, 1, 0);
    for n in 0..500 {
        assert!(!denied(
            &mut house,
            tuple(1, 1, 100 + n, 80, TCP),
            &syn,
            0,
            1
        ));
    }
    let told = house.records.iter().filter(|r| r.packets_fwd > 0);
    assert_eq!(told.count(), 500);
}

#[test]
fn an_icmp_scan_has_no_ports() {
    let mut house = House::new(&narrow(64));
    let ping = PacketFacts {
        transport: flow::TransportFacts::Icmp { kind: 8, code: 0 },
        ..plain(84)
    };
    for n in 0..100 {
        denied(&mut house, tuple(1, 77, 100 + n, 77, ICMP), &ping, 0, 1);
    }
    house.flush();
    let a = aggregates(&house)[0];
    assert_eq!(
        (a.ports, a.port_low, a.port_high, a.protocols),
        (0, 0, 0, 4)
    );
    assert!(
        (85..=112).contains(&a.destinations),
        "98 counted as {}",
        a.destinations
    );
}

#[test]
fn a_clock_that_steps_back_loses_nothing() {
    let mut house = House::new(&narrow(64));
    let syn = segment(T::SYN, 1, 0);
    for n in 0..100 {
        denied(&mut house, tuple(1, 1, 100 + n, 80, TCP), &syn, 0, 1);
        house.now = if n % 2 == 0 {
            START - 3600 * SECOND
        } else {
            START
        };
        house.sweep(u32::MAX);
    }
    house.flush();
    let packets: u64 = house.records.iter().map(|r| r.packets_fwd).sum();
    assert_eq!(packets, 100);
    assert!(house.records.iter().all(|r| r.first_ns <= r.last_ns));
}

/// The same rules, written down as plainly as possible.
#[derive(Default)]
struct Twin {
    /// Tokens left, in nanoseconds of credit, and when they were filled.
    budgets: BTreeMap<(u32, u64), (u64, u64)>,
    told: BTreeMap<(u32, u64), u64>,
    folded: BTreeMap<(u32, u64), (u64, u64)>,
}

impl Twin {
    const BURST: u64 = 2 * SECOND;

    /// Whether the attempt is folded.
    fn attempt(&mut self, source: u32, rule: u64, bytes: u64, now: u64) -> bool {
        let key = (source, rule);
        let (credit, filled) = self.budgets.entry(key).or_insert((Self::BURST, now));
        *credit = (*credit + (now - *filled)).min(Self::BURST);
        *filled = now;
        if *credit >= SECOND {
            *credit -= SECOND;
            *self.told.entry(key).or_default() += 1;
            return false;
        }
        let sum = self.folded.entry(key).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    Attempt {
        source: u32,
        rule: u64,
        host: u32,
        port: u16,
        bytes: u32,
    },
    Time(u64),
}

fn step(sources: u32, rules: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..sources, 1..=rules, any::<u16>(), 1_u16..100, 40_u32..1500).prop_map(
            |(source, rule, host, port, bytes)| Step::Attempt { source, rule, host: host.into(), port, bytes }
        ),
        1 => (0..SECOND).prop_map(Step::Time),
    ]
}

type Sums = BTreeMap<(u32, u64), (u64, u64)>;

/// Flows and bytes of aggregates by source and rule; source 0 for those without one.
fn sums(house: &House) -> Sums {
    let mut sums = Sums::new();
    for a in aggregates(house) {
        let bytes: [u8; 4] = a.src[12..].try_into().unwrap();
        let source = u32::from_be_bytes(bytes).saturating_sub(0x0a00_0000);
        let sum = sums.entry((source, a.rule_id)).or_default();
        *sum = (sum.0 + a.packets_fwd, sum.1 + a.bytes_fwd);
        assert_eq!((a.flows, a.packets_rev), (a.packets_fwd, 0));
        assert_eq!(
            (a.dropped_packets, a.dropped_bytes),
            (a.packets_fwd, a.bytes_fwd)
        );
    }
    sums
}

fn play(house: &mut House, twin: &mut Twin, step: &Step) -> Option<(bool, bool)> {
    match *step {
        Step::Time(ns) => {
            house.now += ns;
            house.sweep(u32::MAX);
            None
        }
        Step::Attempt {
            source,
            rule,
            host,
            port,
            bytes,
        } => {
            let t = tuple(1 + source, 5, 100_000 + host, port, UDP);
            // A packet of a flow that has its own entry is no attempt.
            if house.find(t).is_some() {
                return None;
            }
            let folded = denied(house, t, &plain(bytes), rule, 1);
            Some((
                folded,
                twin.attempt(1 + source, rule, bytes.into(), house.now),
            ))
        }
    }
}

/// The attempts of a step: at hosts one after the other, by two protocols, to identities of their own.
fn attempts(step: &Step, times: u16) -> Vec<(Tuple, PacketFacts, Decision)> {
    let Step::Attempt {
        source,
        rule,
        host,
        port,
        bytes,
    } = *step
    else {
        return Vec::new();
    };
    let of = |further: u16| {
        let to = 100_000 + host + u32::from(further);
        let is_tcp = (host + u32::from(further)) % 5 == 0;
        let (proto, facts) = match is_tcp {
            true => (TCP, segment(T::SYN | (further % 2) << 8, 1, 0)),
            false => (UDP, plain(bytes + u32::from(further))),
        };
        let said = Decision {
            dst_identity: 4 + to % 3,
            ..decision(Action::Deny, rule)
        };
        (
            tuple(1 + source, 5, to, port + further % 3, proto),
            facts,
            said,
        )
    };
    (0..times).map(of).collect()
}

/// Attempts of one source under one rule: those that go on after one that was folded are folded with
/// those behind them, as many as `run_max`.
fn in_runs(
    house: &mut House,
    attempts: &[(Tuple, PacketFacts, Decision)],
    epoch: u64,
    run_max: usize,
) {
    let mut rest = attempts;
    while let [(first, facts, decision), others @ ..] = rest {
        rest = others;
        if house.find(*first).is_some() {
            continue;
        }
        let packet = keyed(first, facts);
        let begun = attempt_of(&packet, decision, epoch);
        let Some(run) = house.cache.begin_run(&begun, house.now) else {
            attempt(house, *first, facts, decision, epoch);
            continue;
        };
        let more = others.iter().take(run_max - 1);
        let more: Vec<_> = more
            .take_while(|(tuple, ..)| house.find(*tuple).is_none())
            .collect();
        rest = &others[more.len()..];
        let identity = more.last().map_or(decision, |last| &last.2).dst_identity;
        let more: Vec<_> = more
            .iter()
            .map(|(tuple, facts, _)| keyed(tuple, facts))
            .collect();
        let mut taken = std::iter::once(&packet).chain(&more);
        assert!(taken.all(|packet| run.may_take(packet, house.now)));
        let taken = std::iter::once(&packet).chain(&more);
        house.cache.fold_run(&run, identity, taken);
        assert!(house.cache.continues(&run));
    }
}

proptest! {
    #[test]
    fn each_source_is_told_to_the_packet(steps in prop::collection::vec(step(4, 2), 1..600)) {
        // A budget never rests long enough here to be forgotten: what it held is what it would hold.
        let mut house = House::new(&narrow(64));
        let mut twin = Twin::default();
        for step in &steps {
            if let Some((folded, expected)) = play(&mut house, &mut twin, step) {
                prop_assert_eq!(folded, expected);
            }
            check(&house);
        }
        house.flush();
        prop_assert_eq!(house.cache.packets_cached(), 0);
        prop_assert_eq!(sums(&house), twin.folded);
        prop_assert_eq!(house.cache.counters().scan_sources, 0);
    }

    #[test]
    fn folding_a_run_is_folding_each(
        steps in prop::collection::vec((step(3, 2), 1_u16..20, 1_u64..3, 1_usize..20), 1..200),
    ) {
        let mut houses = [House::new(&narrow(16)), House::new(&narrow(16))];
        for (step, times, epoch, run_max) in &steps {
            let attempts = attempts(step, *times);
            for (tuple, facts, decision) in &attempts {
                if houses[0].find(*tuple).is_none() {
                    attempt(&mut houses[0], *tuple, facts, decision, *epoch);
                }
            }
            in_runs(&mut houses[1], &attempts, *epoch, *run_max);
            for house in &mut houses {
                if let Step::Time(ns) = step {
                    house.now += ns;
                    house.sweep(u32::MAX);
                }
                check(house);
            }
        }
        houses.iter_mut().for_each(House::flush);
        let [each, runs] = houses;
        prop_assert_eq!(format!("{:?}", each.records), format!("{:?}", runs.records));
        prop_assert_eq!(each.cache.counters(), runs.cache.counters());
    }

    #[test]
    fn a_flood_of_sources_is_told_to_the_packet_by_rule(steps in prop::collection::vec(step(300, 3), 1..1500)) {
        let mut house = House::new(&narrow(8));
        let (mut attempts, mut folded) = ([0_u64; 4], 0_u64);
        for step in &steps {
            let mut twin = Twin::default();
            if let (Some((is_folded, _)), Step::Attempt { rule, .. }) = (play(&mut house, &mut twin, step), step) {
                attempts[usize::try_from(*rule).unwrap()] += 1;
                folded += u64::from(is_folded);
            }
            check(&house);
        }
        prop_assert_eq!(house.cache.counters().folded_packets, folded);
        house.flush();
        let mut told = [0_u64; 4];
        for record in &house.records {
            told[usize::try_from(record.rule_id).unwrap()] += record.packets_fwd;
        }
        prop_assert_eq!(told, attempts);
    }
}

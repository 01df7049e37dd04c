//! Capacity, time and what happens at each limit, one sentence a test.

mod house;

use abi::record::{FlowEndReason, FlowRecord, RecordKind, TcpState, TunnelKind};
use abi::verdict::{Action, Decision};
use flow::{
    Admission, CacheError, CacheOptions, ContextTags, FlowCache, FlowKey, NewFlow, Path,
    ScanOptions, Step, TcpFlags as T, Timeouts, VlanTags, proto,
};
use house::{House, MS, SECOND, START, back, options, plain, tuple};

#[test]
fn flood_of_new_flows_evicts_only_its_like() {
    let mut house = House::new(&options(1000, 100));
    let honest: Vec<_> = (0..900)
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

/// Plays one flow and checks that it lasts for its timeout and no longer.
fn lasts_for(timeout_ns: u64, reason: FlowEndReason, play: impl Fn(&mut House)) {
    let mut house = House::new(&options(16, 0));
    play(&mut house);
    house.now += timeout_ns - SECOND;
    house.wait(SECOND - 1);
    assert_eq!(house.cache.counters().flows, 1, "before {timeout_ns}");
    house.now += 2 * SECOND;
    house.wait(2 * SECOND);
    assert_eq!(house.cache.counters().flows, 0, "after {timeout_ns}");
    assert_eq!(house.records.last().unwrap().end_reason, reason.byte());
}

#[test]
fn each_class_has_its_idle_timeout() {
    let (idle, eof) = (FlowEndReason::IdleTimeout, FlowEndReason::EndOfFlow);
    let timeouts = Timeouts::default();
    let udp = tuple(1, 40_000, 2, 53, proto::UDP);
    let one_packet = |t| move |h: &mut House| assert!(h.packet(t, &plain(60)).is_some());
    lasts_for(timeouts.udp_single_ns, idle, one_packet(udp));
    lasts_for(timeouts.udp_paired_ns, idle, |h| {
        one_packet(udp)(h);
        one_packet(back(udp))(h);
    });
    lasts_for(
        timeouts.icmp_ns,
        idle,
        one_packet(tuple(1, 7, 2, 7, proto::ICMP)),
    );
    lasts_for(timeouts.other_ns, idle, one_packet(tuple(1, 0, 2, 0, 47)));
    let tcp = tuple(1, 40_000, 2, 80, proto::TCP);
    let one_segment = |flags| move |h: &mut House| assert!(h.tcp(tcp, flags).is_some());
    lasts_for(timeouts.tcp_opening_ns, idle, one_segment(T::SYN));
    lasts_for(timeouts.tcp_one_way_ns, idle, one_segment(T::ACK));
    lasts_for(timeouts.tcp_closing_ns, idle, one_segment(T::FIN));
    lasts_for(timeouts.tcp_closed_ns, eof, one_segment(T::RST));
    lasts_for(timeouts.tcp_established_ns, idle, |h| {
        h.handshake(tcp);
    });
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
        (3..=4).contains(&updates.len()),
        "{} updates in 180 s",
        updates.len()
    );
    let spans: Vec<_> = updates.iter().map(|r| r.last_ns - r.first_ns).collect();
    assert!(
        (4 * SECOND..=6 * SECOND).contains(&spans[0]),
        "the first is early: {spans:?}"
    );
    assert!(
        spans[1..].iter().all(|span| *span >= 59 * SECOND),
        "the others are not: {spans:?}"
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
fn a_flow_that_lives_is_told_early_once() {
    let mut house = House::new(&options(16, 0));
    let waiting = tuple(1, 40_000, 2, 53, proto::UDP);
    let answered = tuple(3, 40_000, 2, 53, proto::UDP);
    let begin = house.now;
    house.packet(waiting, &plain(100)).unwrap();
    house.packet(answered, &plain(100)).unwrap();
    house.packet(back(answered), &plain(100)).unwrap();
    while house.now < begin + 5 * SECOND {
        assert!(house.records.is_empty(), "at {} ns", house.now - begin);
        house.wait(SECOND / 10);
    }
    house.wait(SECOND);
    let told: Vec<_> = house
        .records
        .iter()
        .map(|r| (r.kind, r.end_reason, r.packets_fwd, r.packets_rev))
        .collect();
    let (update, active) = (
        RecordKind::Update.byte(),
        FlowEndReason::ActiveTimeout.byte(),
    );
    assert_eq!(told, [(update, active, 1, 0), (update, active, 1, 1)]);
    // It has been told: what it does now waits for the active timeout.
    house.packet(answered, &plain(100)).unwrap();
    let second = house.now;
    while house.now < second + 59 * SECOND {
        house.wait(SECOND);
        house.packet(answered, &plain(100)).unwrap();
    }
    let of_answered = |house: &House| {
        let all = house.records.iter();
        all.filter(|r| r.kind == update && r.src == answered.src)
            .count()
    };
    assert_eq!(of_answered(&house), 1);
    house.wait(2 * SECOND);
    assert_eq!(of_answered(&house), 2);
    assert_eq!(
        house.cache.counters().records_update,
        3,
        "the one that waits was told once"
    );
}

#[test]
fn a_short_flow_a_told_flow_and_a_cache_without_the_timeout_tell_nothing_early() {
    let mut house = House::new(&options(16, 0));
    let short = tuple(1, 40_000, 2, 443, proto::TCP);
    house.tcp(short, T::SYN).unwrap();
    house.tcp(back(short), T::RST | T::ACK).unwrap();
    let denied = house
        .packet(tuple(5, 40_000, 2, 53, proto::UDP), &plain(60))
        .unwrap();
    let records = &mut house.records;
    assert!(
        house
            .cache
            .tell_update(denied, &mut |r: &FlowRecord| records.push(*r))
    );
    house.packet(tuple(5, 40_000, 2, 53, proto::UDP), &plain(60));
    (0..10).for_each(|_| house.wait(SECOND));
    let kinds: Vec<_> = house.records.iter().map(|r| (r.kind, r.src)).collect();
    assert_eq!(
        kinds,
        [
            (RecordKind::Update.byte(), tuple(5, 0, 0, 0, 0).src),
            (RecordKind::End.byte(), short.src)
        ],
        "what has ended, and what was told before, is not told early"
    );

    let mut house = House::new(&CacheOptions {
        timeouts: Timeouts {
            first_active_ns: Timeouts::NEVER,
            ..Timeouts::default()
        },
        ..options(16, 0)
    });
    for _ in 0..59 {
        house
            .packet(tuple(1, 40_000, 2, 53, proto::UDP), &plain(60))
            .unwrap();
        house.wait(SECOND);
    }
    assert!(house.records.is_empty());
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
        assert!(slots <= 8, "some entries at a time: {slots}");
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

/// Entries that a second of milliseconds looks at.
fn swept_in_a_second(house: &mut House) -> u32 {
    let mut swept = 0;
    for _ in 0..1000 {
        house.now += MS;
        swept += house.sweep(512);
    }
    swept
}

#[test]
fn sweep_is_brisk_for_a_pass_once_flows_begin() {
    let mut house = House::new(&CacheOptions {
        sweep_quiet_period_ns: 4 * SECOND,
        ..options(100_000, 100_000)
    });
    house.sweep(512);
    let quiet = 24_900..=25_100;
    let swept = swept_in_a_second(&mut house);
    assert!(quiet.contains(&swept), "{swept} where no flow begins");
    for host in 0..10_000 {
        house
            .packet(tuple(host, 40_000, 2, 53, proto::UDP), &plain(60))
            .unwrap();
    }
    swept_in_a_second(&mut house);
    let swept = swept_in_a_second(&mut house);
    assert!(!quiet.contains(&swept), "{swept} behind many new flows");
    swept_in_a_second(&mut house);
    let swept = swept_in_a_second(&mut house);
    assert!(quiet.contains(&swept), "{swept} when they are old");
    house.wait(34 * SECOND);
    assert_eq!(house.cache.counters().flows, 0, "a pass late at most");
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
fn a_flow_costs_200_bytes_and_ten_million_fit_in_two_gibibytes() {
    let bytes_of = |flows_max| {
        let tables = CacheOptions {
            paths_max: 0,
            contexts_max: 0,
            listeners_max: 0,
            scan: ScanOptions::OFF,
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
    let hurried = CacheOptions {
        sweep_quiet_period_ns: SECOND / 2,
        ..options(8, 0)
    };
    assert_eq!(refused(hurried), CacheError::SweepPeriod);
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

//! Every row of the exception policy, forced by its test switch and met for real.

use crate::frames::{ACK, CLIENT, DB, End, SYN, WEB, ipv4, tcp, udp, udp_datagram};
use crate::rig::{Rig, SECOND, SHOP};
use abi::Reason;
use dataplane::config::{Config, ForcedCondition, Pass};
use std::time::Duration;

const BROWSER: End = End(CLIENT, 40_000);
const HTTP: End = End(WEB, 80);

fn with(change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = Config::default();
    change(&mut config);
    Rig::with(config)
}

fn dropped(rig: &mut Rig, reason: Reason) -> u64 {
    rig.counters().drops[reason.index()]
}

#[test]
fn no_policy_drops_where_it_says_so() {
    let mut rig = with(|c| c.exception.no_policy = Pass::Drop);
    assert!(
        rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""))
            .inside
            .is_empty()
    );
    assert_eq!(dropped(&mut rig, Reason::NoPolicy), 1);
}

#[test]
fn no_policy_can_be_forced_though_there_is_one() {
    let mut rig = with(|c| {
        c.exception.no_policy = Pass::Drop;
        c.exception.force = vec![ForcedCondition::NoPolicy];
    });
    rig.publish(&SHOP.replace("MODE", "enforce"));
    assert!(
        rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""))
            .inside
            .is_empty()
    );
    assert_eq!(dropped(&mut rig, Reason::NoPolicy), 1);
}

#[test]
fn a_stale_policy_drops_new_flows_and_leaves_live_ones() {
    let mut rig = with(|c| {
        c.exception.policy_stale = Pass::Drop;
        c.exception.policy_stale_after = Duration::from_secs(60);
    });
    rig.publish(&SHOP.replace("MODE", "enforce"));
    assert_eq!(
        rig.send_outside(udp(BROWSER, HTTP, b"x")).inside.len(),
        0,
        "udp/80 is not allowed"
    );
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""))
            .inside
            .len(),
        1
    );
    rig.send_inside(tcp(HTTP, BROWSER, 0x12, 1, b""));
    rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b""));
    rig.pass_time(70 * SECOND);
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b""))
            .inside
            .len(),
        1
    );
    assert_eq!(
        rig.send_outside(tcp(End(CLIENT, 40_001), HTTP, SYN, 1, b""))
            .inside
            .len(),
        0
    );
    assert_eq!(dropped(&mut rig, Reason::PolicyStale), 1);
}

#[test]
fn strict_midstream_drops_what_does_not_begin_with_a_syn() {
    let mut rig = with(|c| c.exception.midstream = Pass::Drop);
    assert!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 1, b"x"))
            .inside
            .is_empty()
    );
    assert_eq!(dropped(&mut rig, Reason::Midstream), 1);
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""))
            .inside
            .len(),
        1
    );
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b"x"))
            .inside
            .len(),
        1
    );
}

#[test]
fn a_full_cache_lets_new_flows_push_out_half_open_ones_and_never_established_ones() {
    let mut rig = with(|c| c.flow.flows_max = 64);
    let talk = |rig: &mut Rig, port: u16| {
        rig.send_outside(udp(End(CLIENT, port), HTTP, b"?"));
        rig.send_inside(udp(HTTP, End(CLIENT, port), b"!"))
    };
    for port in 1..=32 {
        talk(&mut rig, port);
    }
    for port in 1000..3000 {
        rig.send_outside(udp(End(CLIENT, port), End(DB, 7), b"scan"));
    }
    let counters = rig.counters();
    assert_eq!(counters.flows_established, 32);
    assert!(
        counters.flows_cached <= 64 && counters.flows_evicted >= 1900,
        "{counters:?}"
    );
    assert_eq!(counters.flow_table_full, 0);
}

#[test]
fn a_cache_full_of_established_flows_follows_its_row() {
    for (row, passes) in [(Pass::Allow, 1), (Pass::Drop, 0)] {
        let mut rig = with(|c| {
            c.flow.flows_max = 16;
            c.flow.embryonic_percent = 100;
            c.exception.flow_table_full = row;
        });
        for port in 1..=16 {
            rig.send_outside(udp(End(CLIENT, port), HTTP, b"?"));
            rig.send_inside(udp(HTTP, End(CLIENT, port), b"!"));
        }
        assert_eq!(
            rig.send_outside(udp(End(CLIENT, 99), HTTP, b"?"))
                .inside
                .len(),
            passes
        );
        assert_eq!(rig.counters().flow_table_full, 1);
        assert_eq!(dropped(&mut rig, Reason::FlowTableFull), 1 - passes as u64);
    }
}

#[test]
fn a_full_table_that_allows_still_asks_the_policy_packet_by_packet() {
    let mut rig = with(|c| c.exception.force = vec![ForcedCondition::FlowTableFull]);
    rig.publish(&SHOP.replace("MODE", "enforce"));
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""))
            .inside
            .len(),
        1
    );
    assert_eq!(
        rig.send_inside(tcp(HTTP, BROWSER, 0x12, 1, b""))
            .outside
            .len(),
        1,
        "a reply"
    );
    assert_eq!(
        rig.send_outside(tcp(BROWSER, End(DB, 5432), SYN, 1, b""))
            .inside
            .len(),
        0
    );
}

#[test]
fn malformed_packets_follow_their_row_under_their_own_reason() {
    let mut short = tcp(BROWSER, HTTP, SYN, 1, b"");
    short[46] = 0x30; // a TCP header of 12 bytes
    let mut rig = with(|c| c.exception.malformed = Pass::Drop);
    assert!(rig.send_outside(short.clone()).inside.is_empty());
    assert_eq!(dropped(&mut rig, Reason::MalformedTcp), 1);
    let mut rig = Rig::new();
    assert_eq!(rig.send_outside(short.clone()).inside, [short]);
}

/// A UDP datagram in two fragments.
fn fragments() -> [Vec<u8>; 2] {
    let datagram = udp_datagram(40_000, 80, &[7; 24]);
    [
        ipv4(17, CLIENT, WEB, 42, 0x2000, &datagram[..16]),
        ipv4(17, CLIENT, WEB, 42, 2, &datagram[16..]),
    ]
}

#[test]
fn later_fragments_inherit_the_flow_and_the_verdict_of_the_first() {
    let mut rig = Rig::new();
    rig.publish(&SHOP.replace("MODE", "enforce").replace("tcp/80", "udp/80"));
    rig.moved();
    for fragment in fragments() {
        assert_eq!(rig.send_outside(fragment).inside.len(), 1);
    }
    let moved = rig.moved();
    assert!(
        moved.contains(&("fragments_inherited", 1)) && moved.contains(&("flows_created", 1)),
        "{moved:?}"
    );
}

#[test]
fn a_fragment_without_its_first_is_judged_without_ports_or_dropped() {
    let [_, later] = fragments();
    let mut rig = Rig::new();
    rig.publish(&SHOP.replace("MODE", "enforce").replace("tcp/80", "udp/80"));
    assert_eq!(
        rig.send_outside(later.clone()).inside.len(),
        0,
        "no rule allows udp without ports"
    );
    let mut rig = with(|c| c.exception.fragment_unknown = Pass::Drop);
    assert_eq!(rig.send_outside(later).inside.len(), 0);
    assert_eq!(dropped(&mut rig, Reason::FragmentUnknown), 1);
}

#[test]
fn a_full_fragment_table_follows_its_row() {
    let mut rig = with(|c| {
        c.exception.fragment_table_full = Pass::Drop;
        c.exception.force = vec![ForcedCondition::FragmentTableFull];
    });
    let [first, _] = fragments();
    assert_eq!(rig.send_outside(first).inside.len(), 0);
    assert_eq!(dropped(&mut rig, Reason::FragmentTableFull), 1);
}

#[test]
fn what_the_wire_does_not_take_is_dropped_and_counted() {
    let mut rig = Rig::new();
    rig.inside.wire().tx_room = Some(1);
    rig.outside.wire().arriving.extend(
        (1..=3).map(|port| dataplane::port::MemoryFrame::new(udp(End(CLIENT, port), HTTP, b"x"))),
    );
    assert_eq!(rig.round().inside.len(), 1);
    assert_eq!(dropped(&mut rig, Reason::TransmitFull), 2);
}

#[test]
fn a_frame_longer_than_the_other_port_sends_is_dropped_and_counted() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.send_inside(udp(HTTP, BROWSER, &[0; 1700]))
            .outside
            .len(),
        0
    );
    assert_eq!(dropped(&mut rig, Reason::FrameTooLong), 1);
}

#[test]
fn a_ring_that_nobody_drains_sheds_and_counts_and_no_packet_is_lost() {
    // Every flow has a record of its own here; folded, a scan does not fill the ring.
    let mut rig = with(|c| c.scan.sources_max = 0);
    rig.publish(&SHOP.replace("MODE", "enforce"));
    for port in 0..5000 {
        rig.send_outside(udp(End(CLIENT, port), End(DB, 7), b"scan"));
        assert_eq!(
            rig.send_outside(tcp(BROWSER, HTTP, ACK, 1, b""))
                .inside
                .len(),
            1
        );
    }
    let counters = rig.counters();
    assert!(counters.shed_records > 0 && counters.shed_packets > 0);
    assert!(counters.shed_records + counters.records >= 5000);
}

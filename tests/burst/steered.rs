//! A lane of two workers does what one worker does: each judges the flows it owns, in order, and every
//! packet is counted once.

use crate::conservation::frame;
use crate::frames::{DB, End, SYN, WEB, ipv4, port_unreachable, tcp, udp, udp_datagram};
use crate::rig::{Rig, SHOP};
use crate::two_workers::{Layout, TwoWorkers};
use abi::record::FlowRecord;
use abi::{CoreCounters, Reason};
use dataplane::config::{Config, ForcedCondition, Pass};
use dataplane::port::{BURST_MAX, MemoryFrame};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// The shop, and telnet to its web server is rejected.
fn shop(mode: &str) -> String {
    SHOP.replace("MODE", mode)
        + "[[service]]\nname = \"telnet\"\nports = [\"tcp/23\"]\n[[rule]]\nname = \"no-telnet\"\n\
           from = [\"any\"]\nto = [\"web\"]\nservices = [\"telnet\"]\naction = \"reject\"\n"
}

/// Frames of a round: at most a burst a port, from inside or not.
fn rounds() -> impl Strategy<Value = Vec<Vec<(Vec<u8>, bool)>>> {
    let hosts = (any::<bool>(), 0_u8..6, 1_u8..5).prop_map(|(telnet, client, seq)| {
        let from = End([10, 0, 9, client], 40_000 + u16::from(seq));
        tcp(from, End(WEB, if telnet { 23 } else { 80 }), SYN, 1, &[])
    });
    let frame = prop_oneof![4 => frame(), 1 => hosts];
    let frames = prop::collection::vec((frame, any::<bool>()), 0..BURST_MAX);
    prop::collection::vec(frames, 1..10)
}

/// What a record says, whichever cache wrote it.
fn told(mut records: Vec<FlowRecord>) -> Vec<FlowRecord> {
    for record in &mut records {
        (record.flow_id, record.worker) = (0, 0);
    }
    records.sort_by_key(|r| {
        (
            r.src,
            r.dst,
            r.sport,
            r.dport,
            r.proto,
            r.first_ns,
            r.packets_fwd,
            r.packets_rev,
            r.kind,
        )
    });
    records
}

/// What a core counts of the packets that it judges, wherever they came from.
fn judged(c: &CoreCounters) -> Vec<u64> {
    let mut counted = vec![
        c.rx_packets + c.steered_in_packets - c.steered_out_packets,
        c.generated_packets,
        c.flow_packets,
        c.unflowed_packets,
        c.recorded_packets,
        c.flows_created,
        c.flows_judged,
        c.fragments_inherited,
        c.flows_midstream,
        c.icmp_errors_related,
        c.permitted_packets,
        c.would_deny_packets,
        c.uncovered_packets,
    ];
    counted.extend(c.drops);
    counted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_worker_does_what_it_would_do_alone_with_its_share(
        rounds in rounds(),
        has_queues: bool,
        enforces: bool,
    ) {
        let policy = shop(if enforces { "enforce" } else { "test" });
        let mut two = TwoWorkers::new(Layout { has_queues, ..Layout::default() });
        two.publish(&policy);
        let mut alone = [Rig::new(), Rig::new()];
        for rig in &mut alone {
            rig.publish(&policy);
        }
        for frames in &rounds {
            for (bytes, is_inside) in frames {
                let rig = &alone[two.owner(bytes)];
                let (ports, own) = ([&two.outside, &two.inside], [&rig.outside, &rig.inside]);
                let side = usize::from(*is_inside);
                for port in [ports[side], own[side]] {
                    port.wire().arriving.push_back(MemoryFrame::new(bytes.clone()));
                }
            }
            let sent = two.round();
            let expected = [alone[0].round(), alone[1].round()];
            for worker in [0, 1] {
                let mut of = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    frames.iter().filter(|frame| two.owner(frame) == worker).cloned().collect()
                };
                prop_assert_eq!(&of(&sent[0]), &expected[worker].inside, "inside, worker {}", worker);
                prop_assert_eq!(&of(&sent[1]), &expected[worker].outside, "outside, worker {}", worker);
            }
        }
        two.assert_settled();
        let counters = two.counters();
        for worker in [0, 1] {
            prop_assert_eq!(judged(&counters[worker]), judged(&alone[worker].counters()));
            prop_assert_eq!(told(two.records(worker)), told(alone[worker].records()));
        }
    }

    #[test]
    fn two_workers_let_pass_and_count_what_one_does(rounds in rounds(), has_queues: bool) {
        // TCP in the middle of a flow is left out: who began it is guessed from the listeners that
        // a core has seen, and each core has seen its own.
        let is_tcp = |frame: &[u8]| frame.get(23) == Some(&6) || frame.get(27) == Some(&6);
        let (mut two, mut one) = (TwoWorkers::new(Layout { has_queues, ..Layout::default() }), Rig::new());
        two.publish(&shop("enforce"));
        one.publish(&shop("enforce"));
        for frames in &rounds {
            for (bytes, is_inside) in frames.iter().filter(|(bytes, _)| !is_tcp(bytes)) {
                let side = usize::from(*is_inside);
                for port in [[&two.outside, &two.inside][side], [&one.outside, &one.inside][side]] {
                    port.wire().arriving.push_back(MemoryFrame::new(bytes.clone()));
                }
            }
            let [mut inside, mut outside] = two.round();
            let mut expected = one.round();
            for frames in [&mut inside, &mut outside, &mut expected.inside, &mut expected.outside] {
                frames.sort();
            }
            prop_assert_eq!((inside, outside), (expected.inside, expected.outside));
        }
        two.pass_time(1000 * crate::rig::SECOND);
        one.pass_time(1000 * crate::rig::SECOND);
        // Enough rounds for a sweep to come round, which tells every flow.
        for _ in 0..64 {
            two.round();
        }
        two.assert_settled();
        let of_both = [two.records(0), two.records(1)].concat();
        prop_assert_eq!(by_ends(of_both), by_ends(one.records()));
    }
}

type Ends = ([u8; 16], [u8; 16], u16, u16, u8);

/// Packets, bytes and dropped packets by the ends and protocol that records name.
fn by_ends(records: Vec<FlowRecord>) -> BTreeMap<Ends, [u64; 5]> {
    let mut sums = BTreeMap::<_, [u64; 5]>::new();
    for r in records {
        let sum = sums
            .entry((r.src, r.dst, r.sport, r.dport, r.proto))
            .or_default();
        let counts = [
            r.packets_fwd,
            r.packets_rev,
            r.bytes_fwd,
            r.bytes_rev,
            r.dropped_packets,
        ];
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    sums
}

/// A client whose flows with a server are this worker's.
fn client_of(two: &mut TwoWorkers, server: [u8; 4], worker: usize) -> [u8; 4] {
    (0..=255)
        .map(|host| [10, 0, 9, host])
        .find(|client| two.owner(&udp(End(*client, 1), End(server, 2), &[])) == worker)
        .expect("one in two is")
}

#[test]
fn packets_of_a_flow_stay_in_order_both_ways() {
    for has_queues in [false, true] {
        let mut two = TwoWorkers::new(Layout {
            has_queues,
            ..Layout::default()
        });
        let of = |flow: u8, number: u8| (End([10, 0, 9, flow], 4000), End(WEB, 53), [flow, number]);
        for number in 0..100 {
            for flow in 0..20 {
                let (client, web, payload) = of(flow, number);
                let arrive = |port: &dataplane::port::MemoryPort, frame| {
                    port.wire().arriving.push_back(MemoryFrame::new(frame));
                };
                arrive(&two.outside, udp(client, web, &payload));
                arrive(&two.inside, udp(web, client, &payload));
            }
        }
        let mut sent = [Vec::new(), Vec::new()];
        for _ in 0..40 {
            for (all, round) in sent.iter_mut().zip(two.round()) {
                all.extend(round);
            }
        }
        for (side, frames) in sent.iter().enumerate() {
            assert_eq!(frames.len(), 2000);
            for flow in 0..20 {
                let expected: Vec<_> = (0..100)
                    .map(|number| {
                        let (client, web, payload) = of(flow, number);
                        let (from, to) = if side == 0 {
                            (client, web)
                        } else {
                            (web, client)
                        };
                        udp(from, to, &payload)
                    })
                    .collect();
                let of_flow = frames.iter().filter(|frame| frame[42] == flow);
                assert!(of_flow.eq(&expected), "flow {flow}, side {side}");
            }
        }
        let [receiver, owner] = two.counters();
        assert!(receiver.flow_packets > 500 && owner.flow_packets > 500);
        assert_eq!((owner.rx_packets, receiver.rx_packets), (0, 4000));
        assert_eq!(owner.steered_in_packets, owner.flow_packets);
        let returned = if has_queues {
            0
        } else {
            owner.steered_in_packets
        };
        assert_eq!(owner.returned_out_packets, returned);
        two.assert_settled();
    }
}

#[test]
fn a_rejected_flow_of_either_worker_is_answered() {
    for has_queues in [false, true] {
        let mut two = TwoWorkers::new(Layout {
            has_queues,
            ..Layout::default()
        });
        two.publish(&shop("enforce"));
        for worker in [0, 1] {
            let client = client_of(&mut two, WEB, worker);
            let sent = two.send_outside(&tcp(End(client, 40_000), End(WEB, 23), SYN, 7, &[]));
            assert_eq!(
                (sent[0].len(), sent[1].len()),
                (0, 1),
                "an RST to the client"
            );
            assert_eq!(sent[1][0][47] & 0x04, 0x04);
            let counters = two.counters()[worker];
            assert_eq!(counters.generated_packets, 1);
            assert_eq!(counters.drops[Reason::RejectedByRule.index()], 1);
            let returned = u64::from(worker == 1 && !has_queues);
            assert_eq!(counters.returned_answers, returned);
        }
        two.assert_settled();
    }
}

#[test]
fn fragments_errors_and_tunnels_meet_their_flow() {
    let mut two = TwoWorkers::new(Layout::default());
    two.publish(&shop("observe"));
    for worker in [0, 1] {
        let client = client_of(&mut two, DB, worker);
        let before = two.counters()[worker];
        // A datagram in two fragments, then an error about it from a router in between.
        let first = ipv4(17, client, DB, 9, 0x2000, &udp_datagram(5000, 53, &[1; 24]));
        let later = ipv4(17, client, DB, 9, 4, &[2; 24]);
        let error = port_unreachable([10, 0, 77, 1], client, &first);
        for frame in [&first, &later] {
            assert_eq!(two.send_outside(frame)[0], std::slice::from_ref(frame));
        }
        assert_eq!(two.send_inside(&error)[1], [error]);
        // The same two hosts inside VXLAN between two others, both ways.
        let ask = udp(End(client, 5001), End(DB, 53), &[3]);
        let reply = udp(End(DB, 53), End(client, 5001), &[4]);
        let (vtep, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        assert_eq!(two.send_outside(&vxlan(vtep, other, &ask))[0].len(), 1);
        assert_eq!(two.send_inside(&vxlan(other, vtep, &reply))[1].len(), 1);
        let counters = two.counters()[worker];
        let moved = |of: fn(&CoreCounters) -> u64| of(&counters) - of(&before);
        assert_eq!(moved(|c| c.fragments_inherited), 1);
        assert_eq!(moved(|c| c.icmp_errors_related), 1);
        assert_eq!(moved(|c| c.flow_packets), 5);
        assert_eq!(moved(|c| c.flows_created), 3, "datagram, error, tunnelled");
    }
    two.assert_settled();
}

/// RFC 7348 section 5.
fn vxlan(from: [u8; 4], to: [u8; 4], inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 42, 0];
    payload.extend(inner);
    udp(End(from, 50_000), End(to, 4789), &payload)
}

/// A hundred frames of the second worker's flows arrive while it has no turn.
fn stalled(config: Config, layout: Layout) -> (TwoWorkers, [Vec<Vec<u8>>; 2]) {
    let mut two = TwoWorkers::with(config, layout);
    two.publish(&shop("observe"));
    let client = client_of(&mut two, DB, 1);
    for number in 0..50 {
        let frame = udp(End(client, 4000), End(DB, 53), &[number]);
        two.outside
            .wire()
            .arriving
            .push_back(MemoryFrame::new(frame.clone()));
        two.inside
            .wire()
            .arriving
            .push_back(MemoryFrame::new(frame));
    }
    two.workers[0].round();
    two.assert_conservation();
    let sent = two.sent();
    (two, sent)
}

#[test]
fn a_full_ring_drops_and_counts_and_what_was_taken_is_judged() {
    let layout = Layout {
        ring_packets: 8,
        ..Layout::default()
    };
    let (mut two, sent) = stalled(Config::default(), layout);
    assert_eq!(sent, [Vec::<Vec<u8>>::new(), Vec::new()]);
    let receiver = two.counters()[0];
    assert_eq!(
        (receiver.rx_packets, receiver.steered_out_packets),
        (100, 16)
    );
    assert_eq!(receiver.resteer_ring_full, 84);
    assert_eq!(receiver.drops[Reason::ResteerFull.index()], 84);
    assert_eq!(receiver.unflowed_packets, 84);
    let [inside, outside] = two.round();
    assert_eq!(
        (inside.len(), outside.len()),
        (8, 8),
        "the first of each side"
    );
    assert_eq!(two.counters()[1].flow_packets, 16);
    two.assert_settled();
}

#[test]
fn where_the_exception_policy_says_allow_a_full_ring_lets_pass_unjudged() {
    let mut config = Config::default();
    config.exception.resteer_ring_full = Pass::Allow;
    let layout = Layout {
        ring_packets: 8,
        ..Layout::default()
    };
    let (mut two, sent) = stalled(config, layout);
    assert_eq!([sent[0].len(), sent[1].len()], [42, 42]);
    let receiver = two.counters()[0];
    assert_eq!((receiver.resteer_ring_full, receiver.tx_packets), (84, 84));
    assert_eq!(
        (receiver.unflowed_packets, receiver.dropped_packets()),
        (84, 0)
    );
    two.round();
    two.assert_settled();
}

#[test]
fn the_test_switch_takes_every_ring_for_full() {
    let mut config = Config::default();
    config.exception.force = vec![ForcedCondition::ResteerRingFull];
    let (mut two, _) = stalled(config, Layout::default());
    let receiver = two.counters()[0];
    assert_eq!(
        (receiver.resteer_ring_full, receiver.steered_out_packets),
        (100, 0)
    );
    assert_eq!(receiver.drops[Reason::ResteerFull.index()], 100);
    let client = client_of(&mut two, DB, 0);
    let own = udp(End(client, 4000), End(DB, 53), &[1]);
    assert_eq!(
        two.send_outside(&own)[0],
        [own],
        "its own share needs no ring"
    );
}

#[test]
fn a_mirror_port_of_two_workers_counts_what_its_ring_did_not_take() {
    let layout = Layout {
        is_mirror: true,
        ring_packets: 8,
        ..Layout::default()
    };
    let (mut two, _) = stalled(Config::default(), layout);
    let receiver = two.counters()[0];
    assert_eq!((receiver.rx_packets, receiver.steered_out_packets), (50, 8));
    assert_eq!(
        (receiver.resteer_ring_full, receiver.mirror_packets),
        (42, 42)
    );
    assert_eq!(
        receiver.dropped_packets(),
        0,
        "what a mirror shows has ended already"
    );
    two.round();
    assert_eq!(two.counters()[1].mirror_packets, 8);
    two.assert_settled();
}

#[test]
fn a_worker_that_stalls_for_a_second_loses_only_what_is_counted() {
    let mut two = TwoWorkers::new(Layout {
        ring_packets: 64,
        ..Layout::default()
    });
    two.publish(&shop("observe"));
    let clients = [0, 1].map(|worker| client_of(&mut two, DB, worker));
    let ask = |client, number: u8| udp(End(client, 4000), End(DB, 53), &[number]);
    for client in clients {
        assert_eq!(two.send_outside(&ask(client, 0))[0].len(), 1);
    }
    // For a second of a thousand rounds the second worker has no turn.
    let mut passed = 0;
    for number in 0..1000_u32 {
        two.pass_time(1_000_000);
        for client in clients {
            let frame = MemoryFrame::new(ask(client, number.to_le_bytes()[0]));
            two.outside.wire().arriving.push_back(frame);
        }
        two.workers[0].round();
        two.assert_conservation();
        passed += two.sent()[0].len();
    }
    assert_eq!(passed, 1000, "the receiver's own flows do not notice");
    let receiver = two.counters()[0];
    assert_eq!(receiver.drops[Reason::ResteerFull.index()], 1000 - 64);
    let [inside, _] = two.round();
    assert_eq!(inside.len(), 64, "what waited goes on");
    assert_eq!(two.send_outside(&ask(clients[1], 9))[0].len(), 1);
    let owner = two.counters()[1];
    assert_eq!(
        (owner.flows_created, owner.flow_packets),
        (1, 66),
        "one flow, before and after"
    );
    two.assert_settled();
}

/// Runs both workers on threads of their own beside `story`, which stops them or lets them end.
fn run(two: &mut TwoWorkers, story: impl FnOnce(&AtomicBool)) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in &mut two.workers {
            scope.spawn(|| worker.run(&stop));
        }
        story(&stop);
    });
}

#[test]
fn workers_that_are_stopped_leave_nothing_between_them() {
    for has_queues in [false, true] {
        let mut two = TwoWorkers::new(Layout {
            has_queues,
            ring_packets: 64,
            ..Layout::default()
        });
        let (inside, outside) = (two.inside.clone(), two.outside.clone());
        let frame = |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            // 512 flows: their records fit the ring, which nobody drains.
            MemoryFrame::new(udp(End([10, 9, high & 1, low], 4000), End(DB, 53), &[low]))
        };
        run(&mut two, |stop| {
            // Stopped in the middle, with packets everywhere.
            outside.wire().arriving.extend((0..20_000).map(frame));
            while inside.wire().sent.len() < 200 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        two.assert_conservation();
        two.assert_settled();
        let counters = two.counters();
        let sum = |of: fn(&CoreCounters) -> u64| counters.iter().map(of).sum::<u64>();
        let unseen = outside.wire().arriving.len() as u64;
        assert_eq!(sum(|c| c.rx_packets), 20_000 - unseen);
        assert_eq!(sum(|c| c.tx_packets), inside.wire().sent.len() as u64);
        assert_eq!(
            sum(|c| c.tx_packets) + sum(CoreCounters::dropped_packets),
            20_000 - unseen
        );
        assert!(counters[1].steered_in_packets > 0);
    }
}

#[test]
fn both_workers_of_a_capture_end_with_it() {
    let mut two = TwoWorkers::new(Layout {
        is_mirror: true,
        ..Layout::default()
    });
    let port = two.inside.clone();
    {
        let mut wire = port.wire();
        wire.finite = true;
        wire.arriving.extend((0..=255).flat_map(|host| {
            let ends = (End([10, 0, 9, host], 4000), End(DB, 53));
            [udp(ends.0, ends.1, &[1]), udp(ends.1, ends.0, &[2])].map(MemoryFrame::new)
        }));
    }
    run(&mut two, |_| {});
    two.assert_conservation();
    two.assert_settled();
    let told: Vec<u64> = [0, 1]
        .map(|worker| {
            let records = two.records(worker);
            records.iter().map(|r| r.packets_fwd + r.packets_rev).sum()
        })
        .into();
    let counters = two.counters();
    let full: u64 = counters.iter().map(|c| c.resteer_ring_full).sum();
    assert_eq!(told.iter().sum::<u64>() + full, 512);
    assert!(told.iter().all(|packets| *packets > 0), "{told:?}");
}

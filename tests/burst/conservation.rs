//! Conservation, whatever comes in.

use crate::rig::{Rig, SECOND, SHOP};
use dataplane::config::{Config, Pass};
use dataplane::port::MemoryFrame;
use proptest::prelude::*;

/// A frame that is nearly sane: a few hosts and ports, all flags, some fragments, some garbage.
pub(crate) fn frame() -> impl Strategy<Value = Vec<u8>> {
    use crate::frames::tagged;
    (untagged(), prop::option::weighted(0.2, 5_u8..8))
        .prop_map(|(frame, tag)| tag.map_or(frame.clone(), |id| tagged(frame, id)))
}

fn untagged() -> impl Strategy<Value = Vec<u8>> {
    use crate::frames::{CLIENT, DB, End, WEB, arp, ipv4, tcp, udp, udp6};
    let host = prop::sample::select(vec![WEB, DB, CLIENT]);
    let port = prop::sample::select(vec![80_u16, 53, 40_000, 40_001]);
    let ends = (host.clone(), port.clone(), host, port);
    prop_oneof![
        6 => (ends.clone(), any::<u8>(), 0_u32..500, 0_usize..60).prop_map(|((a, p, b, q), flags, seq, size)| {
            tcp(End(a, p), End(b, q), flags, seq, &vec![0; size])
        }),
        4 => (ends.clone(), 0_usize..60).prop_map(|((a, p, b, q), size)| udp(End(a, p), End(b, q), &vec![0; size])),
        2 => (ends, 0_u16..3, any::<u16>(), 0_usize..40).prop_map(|((a, _, b, _), id, offset, size)| {
            ipv4(17, a, b, id, offset & 0x3fff, &vec![3; size])
        }),
        2 => (1..4_u8, 1..4_u8, 0_usize..60).prop_map(|(a, b, size)| udp6((a, 4000), (b, 53), &vec![0; size])),
        1 => Just(arp()),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Inside(Vec<Vec<u8>>),
    Outside(Vec<Vec<u8>>),
    Time(u64),
    Publish(&'static str),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let frames = || prop::collection::vec(frame(), 1..150);
    prop_oneof![
        4 => frames().prop_map(Step::Inside),
        4 => frames().prop_map(Step::Outside),
        2 => (0..200 * SECOND).prop_map(Step::Time),
        1 => prop::sample::select(vec!["observe", "test", "enforce"]).prop_map(Step::Publish),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_is_lost_or_counted_twice(
        steps in prop::collection::vec(step(), 1..40),
        flows_max in 16_usize..300,
        strict in any::<bool>(),
    ) {
        let mut config = Config::default();
        config.flow.flows_max = flows_max;
        if strict {
            config.exception.midstream = Pass::Drop;
            config.exception.malformed = Pass::Drop;
            config.exception.fragment_unknown = Pass::Drop;
            config.exception.flow_table_full = Pass::Drop;
        }
        let mut rig = Rig::with(config);
        let (mut told, mut in_test) = (0, false);
        for step in steps {
            match step {
                Step::Inside(frames) => rig.inside.wire().arriving.extend(frames.into_iter().map(MemoryFrame::new)),
                Step::Outside(frames) => rig.outside.wire().arriving.extend(frames.into_iter().map(MemoryFrame::new)),
                Step::Time(ns) => rig.pass_time(ns),
                Step::Publish(mode) => {
                    in_test |= mode == "test";
                    rig.publish(&SHOP.replace("MODE", mode));
                }
                Step::Drain => told += packets(&mut rig),
            }
            // Each asserts conservation; the frames of a step fill up to three bursts.
            for _ in 0..3 {
                rig.round();
            }
        }
        if !in_test {
            prop_assert_eq!(rig.counters().would_deny_packets, 0, "nothing was ever in test");
        }
        told += packets(&mut rig);
        prop_assert_eq!(told, rig.counters().recorded_packets, "what the records say is what was counted");
    }
}

fn packets(rig: &mut Rig) -> u64 {
    rig.records()
        .iter()
        .map(|r| r.packets_fwd + r.packets_rev)
        .sum()
}

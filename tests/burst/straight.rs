//! The straight path is a shorter way to the same end: with it and without it a core does the same.

use crate::conservation::frame;
use crate::rig::{Rig, SECOND, SHOP};
use dataplane::config::{Config, ForcedCondition, Pass};
use dataplane::port::{BURST_MAX, MemoryFrame};
use proptest::prelude::*;

/// Taking every frame for malformed, and letting malformed frames go on, changes nothing but that
/// no frame is read straight.
fn without_straight_path(mut config: Config) -> Config {
    config.exception.force = vec![ForcedCondition::Malformed];
    config.exception.malformed = Pass::Allow;
    config
}

#[derive(Clone, Debug)]
enum Step {
    Frames(Vec<(Vec<u8>, bool)>),
    Time(u64),
    Publish(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    // Often the same few, so that flows are there already when a packet comes.
    let frames = prop::collection::vec((frame(), any::<bool>()), 1..20)
        .prop_flat_map(|few| prop::collection::vec(prop::sample::select(few), 1..150));
    prop_oneof![
        8 => frames.prop_map(Step::Frames),
        1 => (0..200 * SECOND).prop_map(Step::Time),
        1 => prop::sample::select(vec!["observe", "test", "enforce"]).prop_map(Step::Publish),
    ]
}

fn play(rig: &mut Rig, step: &Step) {
    match step {
        Step::Frames(frames) => {
            for (bytes, is_inside) in frames {
                let port = if *is_inside {
                    &rig.inside
                } else {
                    &rig.outside
                };
                port.wire()
                    .arriving
                    .push_back(MemoryFrame::new(bytes.clone()));
            }
        }
        Step::Time(ns) => rig.pass_time(*ns),
        Step::Publish(mode) => rig.publish(&SHOP.replace("MODE", mode)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_core_does_the_same_with_and_without_the_straight_path(
        steps in prop::collection::vec(step(), 1..30),
        flows_max in prop::sample::select(vec![16_usize, 4096]),
        vlan_key: bool,
        tcp_quality: bool,
        mirror: bool,
    ) {
        let mut config = Config::default();
        config.flow.flows_max = flows_max;
        config.flow.vlan_key = vlan_key;
        config.flow.tcp_quality = tcp_quality;
        config.exception.malformed = Pass::Allow;
        let mut rigs = [config.clone(), without_straight_path(config)].map(|config| {
            if mirror { Rig::mirror_with(config) } else { Rig::with(config) }
        });
        for step in &steps {
            for rig in &mut rigs {
                play(rig, step);
            }
            for _ in 0..3 {
                let [straight, full] = &mut rigs;
                prop_assert_eq!(straight.round(), full.round());
                prop_assert_eq!(straight.moved(), full.moved());
            }
        }
        let [mut straight, mut full] = rigs.map(|mut rig| rig.records());
        straight.sort_by_key(|record| (record.flow_id, record.first_ns));
        full.sort_by_key(|record| (record.flow_id, record.first_ns));
        prop_assert_eq!(straight, full);
    }
}

#[test]
fn a_full_burst_goes_on_in_order_without_what_is_dropped() {
    use crate::frames::{CLIENT, DB, End, WEB, udp};
    let mut rig = Rig::new();
    rig.publish(&SHOP.replace("MODE", "observe"));
    let last = BURST_MAX - 1;
    let denied = udp(End(CLIENT, 40_000), End(WEB, 9), &[0]);
    let allowed = |n| udp(End(CLIENT, 40_000), End(DB, 53), &[n]);
    let mut frames: Vec<_> = (0..=u8::MAX).take(BURST_MAX).map(allowed).collect();
    frames[0] = denied.clone();
    frames[last] = denied;
    // At first the flows are new, then they are known.
    for _ in 0..2 {
        let seen = rig.send_all_inside(&frames);
        assert_eq!(seen.outside, frames[1..last]);
    }
    frames.push(allowed(99));
    assert_eq!(rig.send_all_inside(&frames).outside, frames[1..last]);
    assert_eq!(
        rig.round().outside,
        [allowed(99)],
        "one more than a burst holds"
    );
}

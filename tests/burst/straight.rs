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

/// The policy of the shop and so many rules more that new flows are asked about together; one in
/// `deny_every` of them denies.
fn large_shop(deny_every: u32) -> String {
    use std::fmt::Write as _;
    let mut text = SHOP.replace("MODE", "enforce");
    for number in 0..4200 {
        let (high, low) = (number / 250, number % 250);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[[segment]]\nname = \"s{number}\"\naddresses = [\"10.1.{high}.{low}\"]\nmode = \"enforce\"\n\
             [[rule]]\nname = \"r{number}\"\nfrom = [\"s{number}\"]\nto = [\"db\"]\nservices = [\"postgres\"]\naction = \"{}\"\n",
            if number % deny_every == 0 {
                "deny"
            } else {
                "allow"
            }
        );
    }
    text
}

#[test]
fn flows_that_are_judged_together_get_the_verdicts_they_get_alone() {
    use crate::frames::{CLIENT, DB, End, SYN, WEB, tcp, udp};
    let text = large_shop(3);
    let changed = large_shop(4);
    let today = jiff::civil::date(2026, 11, 22);
    let valid = policy::load(&text, "test.toml", today).expect("a valid policy");
    let image = policy::compile(&valid, 1, today).expect("compiled").image;
    let image = acl::PolicyImage::check(image.bytes()).expect("a good image");
    assert!(image.verdict_row_count() >= 4096, "a large policy");
    let mut frames = Vec::new();
    for host in 0..120 {
        let from = [10, 1, 0, host];
        let port = 40_000 + u16::from(host);
        frames.push(tcp(End(from, port), End(DB, 5432), SYN, 0, &[]));
        frames.push(tcp(End(CLIENT, port), End(WEB, 80), SYN, 0, &[]));
        // A server's answer in the middle, a repeated beginning, and what no rule names.
        frames.push(udp(End(DB, 53), End(from, port), &[0]));
        frames.push(tcp(End(from, port), End(DB, 5432), SYN, 0, &[]));
        frames.push(udp(End(from, port), End(WEB, 9), &[0]));
    }
    let told = |at_once: usize| {
        let mut rig = Rig::new();
        rig.publish(&text);
        let mut out = Vec::new();
        // Then the policy changes for some of them and stays for others.
        for again in 0..3 {
            for frames in frames.chunks(at_once) {
                out.extend(rig.send_all_inside(frames).outside);
            }
            if again == 1 {
                rig.publish(&changed);
            }
        }
        let counters = rig.worker.core().counters();
        assert!(counters.flows_rejudged > 100 && counters.flows_verdict_changed > 20);
        let judged = [
            counters.flows_judged,
            counters.flows_rejudged,
            counters.flows_verdict_changed,
        ];
        rig.pass_time(200 * SECOND);
        let mut records = rig.records();
        records.sort_by_key(|record| (record.flow_id, record.first_ns));
        (out, judged, records)
    };
    let alone = told(1);
    assert!(alone.0.len() > 300 && alone.0.len() < 3 * frames.len() - 300);
    assert_eq!(told(BURST_MAX), alone);
}

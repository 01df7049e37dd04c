//! Measuring the stages changes nothing but the measure, and every cycle belongs to one stage.

use crate::conservation::frame;
use crate::frames::{CLIENT, DB, End, WEB, udp};
use crate::rig::{Rig, SHOP};
use abi::Stage;
use dataplane::port::MemoryFrame;
use dataplane::stages::StageWatch;
use proptest::prelude::*;
use std::cell::Cell;

/// What one reading of the played counter adds to it.
const READING: u64 = 7;

thread_local! {
    static CYCLES: Cell<u64> = const { Cell::new(0) };
}

fn cycles() -> u64 {
    CYCLES.set(CYCLES.get() + READING);
    CYCLES.get()
}

fn measured_rig(every_rounds: u32) -> Rig {
    let mut rig = Rig::new();
    rig.worker
        .core_mut()
        .measure_stages(StageWatch::new(cycles, every_rounds));
    rig
}

/// Cycles and packets of a stage so far.
fn of(rig: &mut Rig, stage: Stage) -> (u64, u64) {
    let counters = rig.counters();
    let index = stage.index();
    (counters.stage_cycles[index], counters.stage_packets[index])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_stages_of_a_round_add_up_to_the_round_and_change_nothing_else(
        rounds in prop::collection::vec(prop::collection::vec((frame(), any::<bool>()), 0..90), 1..12),
    ) {
        let (mut plain, mut measured) = (Rig::new(), measured_rig(1));
        for rig in [&mut plain, &mut measured] {
            rig.publish(&SHOP.replace("MODE", "enforce"));
        }
        for frames in &rounds {
            let before = (CYCLES.get(), measured.counters());
            for rig in [&plain, &measured] {
                for (bytes, is_inside) in frames {
                    let port = if *is_inside { &rig.inside } else { &rig.outside };
                    port.wire().arriving.push_back(MemoryFrame::new(bytes.clone()));
                }
            }
            prop_assert_eq!(plain.round(), measured.round());
            prop_assert_eq!(plain.moved(), measured.moved());
            let (began, before) = before;
            let after = measured.counters();
            let sum = |cycles: &[u64]| cycles.iter().sum::<u64>();
            let stages = sum(&after.stage_cycles) - sum(&before.stage_cycles);
            let received = after.rx_packets - before.rx_packets;
            if received == 0 {
                prop_assert_eq!(stages, 0, "an empty round is no packet's");
                continue;
            }
            // The first reading begins the round.
            prop_assert_eq!(stages, CYCLES.get() - began - READING);
            for stage in [Stage::Receive, Stage::Read, Stage::LookUp, Stage::Decide, Stage::Export] {
                let index = stage.index();
                let packets = after.stage_packets[index] - before.stage_packets[index];
                prop_assert_eq!(packets, received, "{}", stage);
            }
        }
    }
}

#[test]
fn only_new_flows_are_classified() {
    let mut rig = measured_rig(1);
    rig.publish(&SHOP.replace("MODE", "observe"));
    let known = udp(End(CLIENT, 40_000), End(DB, 53), &[1]);
    rig.send_outside(known.clone());
    let (cycles, packets) = of(&mut rig, Stage::Classify);
    // A reading for every question, and one for the burst, which may be asked about together.
    assert!(
        packets >= 1 && cycles == (packets + 1) * READING,
        "{cycles} {packets}"
    );
    rig.send_outside(known);
    assert_eq!(
        of(&mut rig, Stage::Classify),
        (cycles + READING, packets),
        "its verdict stands in its entry"
    );
    rig.send_outside(udp(End(CLIENT, 40_001), End(WEB, 53), &[1]));
    assert!(of(&mut rig, Stage::Classify).1 > packets);
    assert_eq!(of(&mut rig, Stage::Decide).1, 3);
}

#[test]
fn one_round_in_four_is_measured() {
    let mut rig = measured_rig(4);
    for round in 0..12_u16 {
        rig.send_outside(udp(End(CLIENT, 40_000), End(DB, 53), &[1]));
        assert_eq!(rig.counters().stage_rounds, u64::from((round + 1) / 4));
    }
    assert_eq!(of(&mut rig, Stage::Receive).1, 3);
}

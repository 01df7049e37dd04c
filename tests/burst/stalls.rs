//! A core that stands still, and a ring that nobody drains: what is lost is counted, and nothing else
//! is lost.

use crate::frames::{CLIENT, DB, End, SYN, WEB, tcp, udp};
use crate::rig::{Rig, SECOND, SHOP};
use dataplane::port::MemoryFrame;

#[test]
fn a_core_that_stands_still_for_a_second_loses_what_its_device_missed_and_nothing_else() {
    const QUEUE: usize = 1024;
    let mut rig = Rig::new();
    rig.publish(&SHOP.replace("MODE", "observe"));
    let ask = |number: u16| udp(End(CLIENT, 40_000), End(DB, 53), &number.to_be_bytes());
    rig.send_outside(ask(0));
    rig.outside.wire().rx_room = Some(QUEUE);
    // For a second nobody polls, and frames go on arriving.
    for number in 1..=10_000 {
        rig.outside.wire().arrive(MemoryFrame::new(ask(number)));
    }
    rig.stand_still(SECOND);
    let mut passed = Vec::new();
    for _ in 0..QUEUE / 64 {
        passed.extend(rig.round().inside);
    }
    let expected: Vec<_> = (1..=1024).map(ask).collect();
    assert_eq!(passed, expected, "what the queue held, in order");
    let counters = rig.counters();
    let missed = rig.outside.wire().rx_missed;
    assert_eq!((counters.rx_packets, missed), (1 + 1024, 10_000 - 1024));
    assert_eq!(counters.flows_created, 1, "the flow lives on");
    assert_eq!((counters.tx_packets, counters.dropped_packets()), (1025, 0));
    rig.outside.wire().arrive(MemoryFrame::new(ask(7)));
    assert_eq!(rig.round().inside, [ask(7)]);
}

#[test]
fn a_record_ring_that_nobody_drains_sheds_and_counts_while_packets_pass() {
    const FLOWS: u32 = 6000;
    let mut rig = Rig::new();
    rig.publish(&SHOP.replace("MODE", "enforce"));
    // Denied flows are told at once; the ring of the rig has 4096 places.
    let mut shed_before_full = 0;
    for flow in 0..FLOWS {
        // So many sources that none is folded as a scan.
        let port = 10_000 + u16::try_from(flow / 10).expect("few");
        let from = End([10, 3, 0, u8::try_from(flow % 10).expect("few")], port);
        rig.send_outside(udp(from, End(WEB, 9), &[]));
        let counters = rig.counters();
        if counters.records < 4096 {
            shed_before_full += counters.shed_records;
        }
    }
    assert_eq!(shed_before_full, 0);
    let counters = rig.counters();
    assert_eq!(counters.records, 4096);
    assert_eq!(counters.shed_records, u64::from(FLOWS) - 4096);
    assert_eq!(counters.shed_packets, u64::from(FLOWS) - 4096);
    assert_eq!(counters.shed_bytes, 28 * (u64::from(FLOWS) - 4096));
    let allowed = tcp(End(CLIENT, 40_000), End(WEB, 80), SYN, 1, &[]);
    assert_eq!(rig.send_outside(allowed.clone()).inside, [allowed]);
    // Once somebody drains it, records come again.
    assert_eq!(rig.records().len(), 4096);
    rig.send_outside(udp(End([10, 4, 0, 0], 40_000), End(WEB, 9), &[]));
    assert_eq!(rig.records().len(), 1);
}

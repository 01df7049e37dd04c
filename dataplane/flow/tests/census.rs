//! The census of a scanner's flows: what it says does not exist has no entry, whatever else happens.

mod house;

use abi::verdict::{Action, Coverage, Decision, Mode, OnChange, VerdictSource};
use abi::{FlowRecord, Reason};
use flow::{Attempt, CacheOptions, FlowKey, KeyedPacket, ScanOptions, Tuple};
use house::{House, MS, SECOND, back, options, plain, tuple};
use proptest::prelude::*;

const UDP: u8 = 17;
const SCANNER: u32 = 1;

/// One record at once, then one a second, for each source.
fn narrow() -> CacheOptions {
    CacheOptions {
        scan: ScanOptions {
            sources_max: 16,
            records_per_second: 1,
            burst: 1,
            core_records_per_second: 1000,
            core_burst: 100_000,
        },
        sweep_period_ns: SECOND,
        sweep_quiet_period_ns: 2 * SECOND,
        ..options(256, 0)
    }
}

fn denied() -> Decision {
    Decision {
        enforced: Action::Deny,
        enforced_source: VerdictSource::Rule,
        rule_id: 7,
        pending: Action::Deny,
        pending_source: VerdictSource::Rule,
        pending_rule_id: 7,
        mode: Mode::Enforce,
        coverage: Coverage::Rule,
        on_change: OnChange::Reevaluate,
        limit_index: u16::MAX,
        src_identity: 3,
        dst_identity: 4,
    }
}

fn keyed(tuple: &Tuple) -> KeyedPacket {
    let (key, side) = FlowKey::new(tuple, 0);
    KeyedPacket {
        key,
        side,
        facts: plain(60),
    }
}

fn lacks(house: &House, tuple: &Tuple) -> bool {
    let packet = keyed(tuple);
    house.cache.lacks(house.cache.hash(&packet.key), &packet)
}

/// A packet of a scan: in a run where it goes on, else folded or with a flow of its own.
fn scan(house: &mut House, source: u32, host: u32) {
    let to = tuple(source, 5, 1000 + host, 80, UDP);
    if house.find(to).is_some() {
        let _ = house.packet(to, &plain(60));
        return;
    }
    let (packet, decision) = (keyed(&to), denied());
    let attempt = Attempt {
        key: &packet.key,
        sender: packet.side,
        facts: &packet.facts,
        ingress_port: 1,
        initiator: packet.side,
        decision: &decision,
        epoch: 1,
        dropped: Some(Reason::DeniedByRule),
    };
    if let Some(run) = house.cache.begin_run(&attempt, house.now) {
        house.cache.fold_run(&run, 4, std::iter::once(&packet));
        return;
    }
    let records = &mut house.records;
    let mut sink = |r: &FlowRecord| records.push(*r);
    if !house.cache.fold_denied(&attempt, house.now, &mut sink) {
        let _ = house.packet(to, &plain(60));
    }
}

/// Time, in steps in which the hand keeps up, with a scan going on or not.
fn pass(house: &mut House, ms: u64, scans: bool) {
    for n in 0..ms.div_ceil(50) {
        house.now += 50 * MS;
        if scans {
            scan(house, SCANNER, 5000 + u32::try_from(n).unwrap());
        }
        house.sweep(u32::MAX);
    }
}

#[test]
fn a_census_is_complete_when_the_hand_has_come_round_and_over_when_nobody_scans() {
    let mut house = House::new(&narrow());
    let own = tuple(SCANNER, 9, 77, 443, UDP);
    let asked = tuple(SCANNER, 9, 78, 443, UDP);
    let _ = house.packet(own, &plain(60));
    pass(&mut house, 500, true);
    assert!(!house.cache.has_census(), "the hand is on its way");
    pass(&mut house, 5000, true);
    assert!(house.cache.has_census());
    assert!(lacks(&house, &asked));
    assert!(!lacks(&house, &own), "it was there before the scan");
    assert!(!lacks(&house, &tuple(2, 9, 78, 443, UDP)), "another source");
    let _ = house.packet(asked, &plain(60));
    assert!(!lacks(&house, &asked), "opened since");
    pass(&mut house, 5000, false);
    assert!(!house.cache.has_census(), "nobody scans any more");
}

#[test]
fn a_flow_that_ended_is_known_to_be_gone_one_round_later() {
    let mut house = House::new(&narrow());
    pass(&mut house, 5000, true);
    let own = tuple(SCANNER, 9, 77, 443, UDP);
    let flow = house.packet(own, &plain(60)).unwrap();
    pass(&mut house, 5000, true);
    assert!(!lacks(&house, &own));
    let records = &mut house.records;
    let mut sink = |r: &FlowRecord| records.push(*r);
    assert!(house.cache.kill(flow, house.now, &mut sink));
    pass(&mut house, 5000, true);
    assert!(lacks(&house, &own));
}

#[derive(Clone, Debug)]
enum Step {
    Scan {
        source: u32,
        host: u32,
    },
    Own {
        source: u32,
        host: u32,
        replies: bool,
    },
    Time {
        ms: u64,
        scans: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u32..4, 0_u32..60).prop_map(|(source, host)| Step::Scan { source, host }),
        3 => (1_u32..4, 0_u32..60, any::<bool>())
            .prop_map(|(source, host, replies)| Step::Own { source, host, replies }),
        2 => (1_u64..4000, any::<bool>()).prop_map(|(ms, scans)| Step::Time { ms, scans }),
    ]
}

proptest! {
    #[test]
    fn what_a_census_lacks_has_no_entry(steps in prop::collection::vec(step(), 1..150)) {
        let mut house = House::new(&narrow());
        for step in &steps {
            match *step {
                Step::Scan { source, host } => scan(&mut house, source, host),
                Step::Own { source, host, replies } => {
                    let own = tuple(source, 9, 1000 + host, 443, UDP);
                    let own = if replies { back(own) } else { own };
                    let _ = house.packet(own, &plain(60));
                }
                Step::Time { ms, scans } => pass(&mut house, ms, scans),
            }
            for (source, host) in (1..4).flat_map(|s| (0..60).map(move |h| (s, h))) {
                for (port, to) in [(5, 80), (9, 443)] {
                    let asked = tuple(source, port, 1000 + host, to, UDP);
                    for asked in [asked, back(asked)] {
                        prop_assert!(!lacks(&house, &asked) || house.find(asked).is_none());
                    }
                }
            }
        }
    }
}

//! Floods and scans: who lives goes on, what attacks is counted to the packet, and each limit does
//! what its row says. The rig asserts conservation after every round.

use crate::frames::{ACK, CLIENT, DB, End, SYN, WEB, ipv4, tcp, udp, udp_datagram};
use crate::rig::{Rig, SECOND, SHOP};
use abi::record::{FlowRecord, RecordKind};
use abi::{Action, AggregateRecord, Reason};
use dataplane::config::{Config, Pass};
use std::collections::HashMap;

const SYN_ACK: u8 = 0x12;
const HTTP: End = End(WEB, 80);
/// Who attacks.
const SCANNER: [u8; 4] = [10, 0, 9, 66];

fn enforce() -> String {
    SHOP.replace("MODE", "enforce")
}

/// The shop, and a protected network 10.7.0.0/16 that no rule opens.
fn farm() -> String {
    let network = r#"
[[workload]]
name = "farm"
addresses = ["10.7.0.0/16"]
labels = { role = "farm" }
[[segment]]
name = "farm"
select = "role=farm"
mode = "enforce"
"#;
    enforce() + network
}

fn with(change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = Config::default();
    change(&mut config);
    Rig::with(config)
}

/// Small budgets: a scan is soon beyond them.
fn narrow(config: &mut Config) {
    config.scan.records_per_second = 1;
    config.scan.burst = 10;
    config.scan.worker_burst = 100;
    config.scan.worker_records_per_second = 10;
}

fn source(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[10..12].fill(0xff);
    bytes[12..].copy_from_slice(&address);
    bytes
}

/// Opens this many connections to the web server, one from each port from 1000 on.
fn open(rig: &mut Rig, count: u16) {
    for port in 1000..1000 + count {
        let browser = End(CLIENT, port);
        assert_eq!(
            rig.send_outside(tcp(browser, HTTP, SYN, 1, b""))
                .inside
                .len(),
            1
        );
        assert_eq!(
            rig.send_inside(tcp(HTTP, browser, SYN_ACK, 9, b""))
                .outside
                .len(),
            1
        );
        rig.send_outside(tcp(browser, HTTP, ACK, 2, b""));
    }
}

fn aggregates(records: &[FlowRecord]) -> Vec<AggregateRecord> {
    records
        .iter()
        .filter_map(FlowRecord::as_aggregate)
        .copied()
        .collect()
}

fn packets_from(records: &[FlowRecord], address: [u8; 4]) -> u64 {
    let of = |r: &&FlowRecord| r.src == source(address);
    records.iter().filter(of).map(|r| r.packets_fwd).sum()
}

/// A scan at ten times the rate of the live flows; what was told of it, and how much was sent.
fn scan_beside_live_flows(rig: &mut Rig, passes: bool) -> (Vec<FlowRecord>, u64) {
    const LIVE: u16 = 200;
    open(rig, LIVE);
    rig.records();
    let before = rig.counters();
    let mut records = Vec::new();
    let (mut sent, mut host) = (0_u64, 0_u16);
    for round in 0..400_u16 {
        let live = tcp(End(CLIENT, 1000 + round % LIVE), HTTP, ACK, 2, b"");
        let mut frames = vec![live.clone(), live];
        for _ in 0..20 {
            let [high, low] = host.to_be_bytes();
            let target = End([10, 7, high, low], 1 + host % 50);
            frames.insert(
                usize::from(host % 3),
                tcp(End(SCANNER, 4444), target, SYN, 1, b""),
            );
            host += 1;
            sent += 1;
        }
        let seen = rig.send_all_outside(&frames);
        let expected = if passes { frames.len() } else { 2 };
        assert_eq!(seen.inside.len(), expected, "round {round}");
        records.extend(rig.records());
    }
    let counters = rig.counters();
    assert_eq!(counters.flows_established, before.flows_established);
    assert_eq!(counters.flows_rejudged, before.flows_rejudged);
    assert_eq!(counters.shed_records, 0);
    rig.pass_time(100 * SECOND);
    records.extend(rig.records());
    (records, sent)
}

#[test]
fn a_denied_scan_beside_live_flows_evicts_none_and_is_told_to_the_packet() {
    let mut rig = with(narrow);
    rig.publish(&farm());
    let created = rig.counters().flows_created;
    let (records, sent) = scan_beside_live_flows(&mut rig, false);
    assert_eq!(packets_from(&records, SCANNER), sent);
    let told = aggregates(&records);
    let folded: u64 = told.iter().map(|a| a.packets_fwd).sum();
    assert_eq!(folded, sent - 10, "ten had records of their own");
    assert!(
        told.iter()
            .all(|a| a.src == source(SCANNER) && a.enforced == Action::Deny.byte())
    );
    assert!(
        told.iter()
            .all(|a| a.dropped_packets == a.packets_fwd && a.flows == a.packets_fwd)
    );
    let last = told.last().expect("an aggregate");
    assert_eq!((last.ports, last.port_low, last.port_high), (50, 1, 50));
    assert!(
        (6800..9300).contains(&last.destinations),
        "8000 counted as {}",
        last.destinations
    );
    let counters = rig.counters();
    assert_eq!(counters.folded_packets, folded);
    assert_eq!(
        (counters.folded_rest_packets, counters.flows_evicted),
        (0, 0)
    );
    assert_eq!(
        counters.flows_created - created,
        200 + 10,
        "a folded attempt opens no flow"
    );
    let dropped = counters.drops[Reason::DeniedByDefault.index()];
    assert_eq!(dropped, sent);
    let own = records
        .iter()
        .filter(|r| r.kind == RecordKind::Denied.byte());
    assert_eq!(own.count(), 10);
}

#[test]
fn a_permitted_scan_beside_live_flows_evicts_none_and_is_told_to_the_packet() {
    let mut rig = with(|c| {
        narrow(c);
        c.flow.flows_max = 1024;
    });
    let (records, sent) = scan_beside_live_flows(&mut rig, true);
    assert_eq!(packets_from(&records, SCANNER), sent);
    let counters = rig.counters();
    assert!(counters.flows_evicted > 6000, "half open flows gave way");
    let told = aggregates(&records);
    let folded: u64 = told.iter().map(|a| a.packets_fwd).sum();
    assert!(folded > 7_000 && folded == counters.folded_packets);
    assert!(
        told.iter()
            .all(|a| a.enforced == Action::Allow.byte() && a.refused == 0)
    );
}

#[test]
fn a_scan_does_not_fill_a_ring_that_nobody_drains() {
    let mut rig = Rig::new();
    rig.publish(&enforce());
    for round in 0..200_u16 {
        let frames: Vec<_> = (0..50)
            .map(|n| udp(End(SCANNER, 53), End(DB, 1 + round * 50 + n), b"scan"))
            .collect();
        rig.send_all_outside(&frames);
    }
    let counters = rig.counters();
    assert_eq!((counters.shed_records, counters.records), (0, 1000));
    assert_eq!(counters.folded_packets, 9000);
}

#[test]
fn what_a_new_policy_permits_passes_at_once_though_its_source_is_being_folded() {
    let mut rig = with(narrow);
    rig.publish(&enforce());
    let probe = |port| tcp(End(SCANNER, port), End(DB, 5432), SYN, 1, b"");
    for port in 0..100 {
        assert_eq!(rig.send_outside(probe(port)).inside.len(), 0);
    }
    rig.publish(&SHOP.replace("MODE", "observe"));
    assert_eq!(rig.send_outside(probe(50)).inside.len(), 1);
    rig.publish(&enforce());
    for port in 100..200 {
        assert_eq!(rig.send_outside(probe(port)).inside.len(), 0);
    }
    rig.pass_time(100 * SECOND);
    let told = aggregates(&rig.records());
    let mut epochs: HashMap<u64, u64> = HashMap::new();
    for a in &told {
        *epochs.entry(a.epoch).or_default() += a.flows;
    }
    assert_eq!(epochs.get(&1), Some(&90));
    assert_eq!(epochs.get(&3), Some(&100));
}

#[test]
fn what_a_scanner_may_do_goes_on_between_its_denied_attempts() {
    let mut rig = with(narrow);
    rig.publish(&enforce());
    // A client that knocks at every port of the shop's servers, and uses the shop meanwhile.
    let probe = |host, port| tcp(End(CLIENT, 40_000), End(host, port), SYN, 1, b"");
    for round in 0..40_u16 {
        let mut frames: Vec<_> = (0..12)
            .map(|n| probe(WEB, 1000 + 12 * round + n))
            .chain((0..12).map(|n| probe(DB, 1000 + 12 * round + n)))
            .collect();
        let page = tcp(End(CLIENT, 50_000 + round), HTTP, SYN, 1, b"");
        frames.insert(usize::from(round) % 24, page.clone());
        assert_eq!(rig.send_all_inside(&frames).outside, [page]);
    }
    let counters = rig.counters();
    assert_eq!(counters.permitted_packets, 40);
    assert_eq!(counters.drops[Reason::DeniedByDefault.index()], 40 * 24);
    assert!(counters.folded_packets > 40 * 24 - 100);
}

#[test]
fn a_rejected_scan_is_folded_and_answered_as_far_as_answers_go() {
    let mut rig = with(|c| {
        narrow(c);
        c.reject.answers_per_second = 300;
    });
    let reject = format!(
        "{}\n[[rule]]\nname = \"no\"\nfrom = [\"any\"]\nto = [\"db\"]\nservices = [\"postgres\"]\naction = \"reject\"\n",
        enforce()
    );
    rig.publish(&reject);
    let mut answers = 0;
    for port in 0..20 {
        answers += rig
            .send_outside(tcp(End(SCANNER, port), End(DB, 5432), SYN, 1, b""))
            .outside
            .len();
    }
    assert_eq!(answers, 20, "folded or not, each is reset");
    let counters = rig.counters();
    assert_eq!(counters.folded_packets, 10);
    assert_eq!(counters.drops[Reason::RejectedByRule.index()], 20);
}

#[test]
fn a_flood_of_forged_sources_is_counted_to_the_packet_and_fills_neither_cache_nor_ring() {
    let mut rig = with(|c| {
        narrow(c);
        c.scan.sources_max = 64;
    });
    rig.publish(&enforce());
    open(&mut rig, 50);
    rig.records();
    let created = rig.counters().flows_created;
    let mut records = Vec::new();
    for round in 0..300_u16 {
        let [high, low] = round.to_be_bytes();
        let frames: Vec<_> = (0..60)
            .map(|n| {
                tcp(
                    End([172, 16 + high, low, n], 99),
                    End(DB, 5432),
                    SYN,
                    1,
                    b"",
                )
            })
            .collect();
        assert_eq!(rig.send_all_outside(&frames).inside.len(), 0);
        let live = tcp(End(CLIENT, 1000 + round % 50), HTTP, ACK, 2, b"");
        assert_eq!(rig.send_outside(live).inside.len(), 1);
    }
    let counters = rig.counters();
    assert_eq!(
        counters.flows_created - created,
        100,
        "the budget of all sources together"
    );
    assert_eq!(
        (counters.flows_established, counters.flows_evicted),
        (50, 0)
    );
    assert!(counters.records < 1000, "{} records", counters.records);
    assert!(counters.folded_rest_packets > 10_000);
    rig.pass_time(100 * SECOND);
    records.extend(rig.records());
    let forged = |r: &&FlowRecord| r.dst == source(DB);
    let told: u64 = records.iter().filter(forged).map(|r| r.packets_fwd).sum();
    assert_eq!(told, 300 * 60);
    let rest: u32 = aggregates(&records)
        .iter()
        .filter(|a| a.src == [0; 16])
        .map(|a| a.sources)
        .max()
        .unwrap_or(0);
    assert!(
        (13_000..23_000).contains(&rest),
        "17,900 sources counted as {rest}"
    );
}

#[test]
fn a_cache_full_of_live_flows_keeps_them_all_while_a_scan_is_folded_beside_it() {
    for row in [Pass::Allow, Pass::Drop] {
        let mut rig = with(|c| {
            narrow(c);
            c.flow.flows_max = 64;
            c.exception.flow_table_full = row;
        });
        rig.publish(&enforce());
        open(&mut rig, 64);
        let denied = |port| udp(End(SCANNER, port), End(DB, 5432), b"x");
        for port in 0..500 {
            assert_eq!(rig.send_outside(denied(port)).inside.len(), 0);
        }
        let counters = rig.counters();
        assert_eq!(
            (counters.flows_established, counters.flows_evicted),
            (64, 0)
        );
        assert_eq!(
            counters.flow_table_full, 10,
            "within its budget it asks for an entry"
        );
        assert_eq!(
            (counters.folded_packets, counters.unflowed_packets),
            (490, 10)
        );
        // A new flow that the policy permits follows the row.
        let new = rig
            .send_outside(tcp(End(CLIENT, 9), HTTP, SYN, 1, b""))
            .inside
            .len();
        assert_eq!(new, usize::from(row == Pass::Allow));
        for port in 1000..1064 {
            let live = tcp(End(CLIENT, port), HTTP, ACK, 2, b"");
            assert_eq!(rig.send_outside(live).inside.len(), 1);
        }
    }
}

/// A first fragment of datagram `id`, or a later one, from `from`.
fn fragment(from: [u8; 4], id: u16, is_first: bool) -> Vec<u8> {
    let datagram = udp_datagram(40_000, 80, &[7; 24]);
    if is_first {
        ipv4(17, from, WEB, id, 0x2000, &datagram[..16])
    } else {
        ipv4(17, from, WEB, id, 2, &datagram[16..])
    }
}

#[test]
fn a_flood_of_fragments_follows_its_rows_and_leaves_datagrams_under_way_alone() {
    for row in [Pass::Allow, Pass::Drop] {
        let mut rig = with(|c| {
            c.flow.fragments_max = 64;
            c.exception.fragment_table_full = row;
            c.exception.fragment_unknown = row;
        });
        rig.publish(&enforce().replace("tcp/80", "udp/80"));
        assert_eq!(rig.send_outside(fragment(CLIENT, 1, true)).inside.len(), 1);
        let mut passed = 0;
        for id in 0..1000 {
            passed += rig.send_outside(fragment(SCANNER, id, true)).inside.len();
        }
        let counters = rig.counters();
        assert_eq!(counters.fragments_tracked, 64);
        assert_eq!(counters.fragment_table_full, 1000 - 63);
        let dropped = counters.drops[Reason::FragmentTableFull.index()];
        let (first, later) = match row {
            Pass::Allow => (1000, 0),
            Pass::Drop => (63, 1000 - 63),
        };
        assert_eq!((passed, dropped), (first, later));
        // Datagrams whose first was refused: judged without ports, which no rule permits, or dropped.
        let unknown = (100..300)
            .map(|id| fragment(SCANNER, id, false))
            .collect::<Vec<_>>();
        for later in unknown {
            assert_eq!(rig.send_outside(later).inside.len(), 0);
        }
        let counters = rig.counters();
        let unknown = counters.drops[Reason::FragmentUnknown.index()];
        assert_eq!(unknown, if row == Pass::Drop { 200 } else { 0 });
        assert_eq!(counters.fragments_inherited, 0);
        assert_eq!(rig.send_outside(fragment(CLIENT, 1, false)).inside.len(), 1);
        assert_eq!(rig.counters().fragments_inherited, 1);
        // The table is free again when its datagrams time out.
        rig.pass_time(40 * SECOND);
        assert_eq!(rig.send_outside(fragment(CLIENT, 2, true)).inside.len(), 1);
        assert_eq!(rig.send_outside(fragment(CLIENT, 2, false)).inside.len(), 1);
    }
}

#[test]
fn a_mirror_counts_a_denied_scan_and_drops_nothing() {
    let mut config = Config::default();
    narrow(&mut config);
    let mut rig = Rig::mirror_with(config);
    rig.publish(&enforce());
    for port in 0..100 {
        rig.send_inside(udp(End(SCANNER, 9), End(DB, port + 1), b"x"));
    }
    rig.pass_time(100 * SECOND);
    let told = aggregates(&rig.records());
    assert_eq!(told.iter().map(|a| a.packets_fwd).sum::<u64>(), 90);
    assert!(
        told.iter()
            .all(|a| a.dropped_packets == 0 && a.enforced == Action::Deny.byte())
    );
}

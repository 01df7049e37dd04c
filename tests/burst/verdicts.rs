//! Allow, deny, reject and limit, and what the record says.

use crate::frames::{
    ACK, CLIENT, DB, End, SYN, SYN_ACK, WEB, arp, icmpv6, port_unreachable, tcp, udp,
};
use crate::rig::{Rig, SECOND, SHOP};
use abi::record::{FlowEndReason, RecordKind};
use abi::{Action, Reason, VerdictSource};

const BROWSER: End = End(CLIENT, 40_000);
const HTTP: End = End(WEB, 80);

fn enforce() -> String {
    SHOP.replace("MODE", "enforce")
}

#[test]
fn without_a_policy_everything_passes_unchanged() {
    let mut rig = Rig::new();
    let frame = tcp(BROWSER, HTTP, SYN, 1, b"");
    assert_eq!(rig.send_outside(frame.clone()).inside, [frame]);
    assert_eq!(
        rig.moved(),
        [
            ("rx_packets", 1),
            ("tx_packets", 1),
            ("flow_packets", 1),
            ("flows_created", 1),
            ("flows_judged", 1),
            ("permitted_packets", 1),
            ("uncovered_packets", 1),
        ]
    );
}

#[test]
fn an_allowed_flow_passes_both_ways_and_its_record_names_the_rule() {
    let mut rig = Rig::new();
    rig.publish(&enforce());
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""))
            .inside
            .len(),
        1
    );
    assert_eq!(
        rig.send_inside(tcp(HTTP, BROWSER, SYN_ACK, 9, b""))
            .outside
            .len(),
        1
    );
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b"GET /"))
            .inside
            .len(),
        1
    );
    rig.pass_time(400 * SECOND);
    let records = rig.records();
    let (fwd, rev) = records
        .iter()
        .fold((0, 0), |(f, r), x| (f + x.packets_fwd, r + x.packets_rev));
    assert_eq!((fwd, rev), (2, 1));
    let record = records[0];
    assert_eq!((record.sport, record.dport), (40_000, 80));
    assert_eq!(record.enforced, Action::Allow.byte());
    assert_eq!(record.enforced_source, VerdictSource::Rule.byte());
    assert_ne!(record.rule_id, 0);
    assert_eq!(record.dropped_packets, 0);
}

#[test]
fn a_flow_that_no_rule_allows_is_dropped_silently_and_told_at_once() {
    let mut rig = Rig::new();
    rig.publish(&enforce());
    rig.moved();
    let seen = rig.send_outside(tcp(End(CLIENT, 40_001), End(DB, 5432), SYN, 1, b""));
    assert_eq!((seen.inside.len(), seen.outside.len()), (0, 0));
    assert_eq!(
        rig.moved(),
        [
            ("rx_packets", 1),
            ("flow_packets", 1),
            ("recorded_packets", 1),
            ("records", 1),
            ("flows_created", 1),
            ("flows_judged", 1),
            ("uncovered_packets", 1),
            (Reason::DeniedByDefault.name(), 1),
        ]
    );
    let [record] = rig.records()[..] else {
        panic!("one record")
    };
    assert_eq!(record.kind, RecordKind::Denied.byte());
    // Told for reporting while the flow goes on: IPFIX's code for that, whatever the occasion.
    assert_eq!(record.end_reason, FlowEndReason::ActiveTimeout.byte());
    assert_eq!(record.drop_reason, Reason::DeniedByDefault.byte());
    assert_eq!((record.packets_fwd, record.dropped_packets), (1, 1));
}

#[test]
fn a_denied_flow_asks_the_policy_once_for_each_side_and_counts_every_packet() {
    let mut rig = Rig::new();
    rig.publish(&enforce());
    let (client, server) = (End(CLIENT, 40_000), End(DB, 9));
    rig.send_outside(udp(client, server, &[0]));
    rig.send_inside(udp(server, client, &[0]));
    rig.send_outside(udp(client, server, &[0]));
    rig.moved();
    let frames: Vec<_> = (0..50).map(|n| udp(client, server, &[n])).collect();
    let seen = rig.send_all_outside(&frames);
    assert_eq!((seen.inside.len(), seen.outside.len()), (0, 0));
    rig.send_inside(udp(server, client, &[1]));
    assert_eq!(
        rig.moved(),
        [
            ("rx_packets", 51),
            ("flow_packets", 51),
            ("uncovered_packets", 51),
            (Reason::DeniedByDefault.name(), 51),
        ],
        "and nothing was judged"
    );
    // Another policy is asked again, and may say something else.
    rig.publish(&SHOP.replace("MODE", "test"));
    assert_eq!(rig.send_outside(frames[0].clone()).inside.len(), 1);
    rig.pass_time(400 * SECOND);
    let records = rig.records();
    let sum = |of: fn(&abi::FlowRecord) -> u64| records.iter().map(of).sum::<u64>();
    assert_eq!(sum(|r| r.packets_fwd + r.packets_rev), 55);
    assert_eq!(sum(|r| r.dropped_packets), 54);
}

#[test]
fn would_be_denials_pass_and_are_pending_in_a_field_of_their_own() {
    let mut rig = Rig::new();
    rig.publish(&SHOP.replace("MODE", "test"));
    rig.moved();
    let seen = rig.send_outside(tcp(End(CLIENT, 40_001), End(DB, 5432), SYN, 1, b""));
    assert_eq!(seen.inside.len(), 1);
    assert!(rig.moved().contains(&("would_deny_packets", 1)));
    rig.pass_time(400 * SECOND);
    let [record] = rig.records()[..] else {
        panic!("one record")
    };
    assert_eq!(
        (record.enforced, record.pending),
        (Action::Allow.byte(), Action::Deny.byte())
    );
    assert_eq!(record.pending_source, VerdictSource::Default.byte());
}

fn with_rule(rule: &str) -> String {
    format!(
        "{}\n[[rule]]\nname = \"extra\"\nfrom = [\"any\"]\nto = [\"db\"]\n{rule}\n",
        enforce()
    )
}

#[test]
fn a_rejected_syn_is_answered_with_a_reset_and_goes_no_further() {
    let mut rig = Rig::new();
    rig.publish(&with_rule("services = [\"postgres\"]\naction = \"reject\""));
    rig.moved();
    let seen = rig.send_outside(tcp(End(CLIENT, 40_001), End(DB, 5432), SYN, 100, b""));
    assert!(seen.inside.is_empty());
    let [reset] = &seen.outside[..] else {
        panic!("one answer")
    };
    assert_eq!(reset[47] & 0x04, 0x04, "RST");
    assert_eq!(reset[26..30], DB, "from the database, as it seems");
    let moved = rig.moved();
    assert!(
        moved.contains(&("generated_packets", 1))
            && moved.contains(&(Reason::RejectedByRule.name(), 1))
    );
}

#[test]
fn rejected_udp_is_answered_with_icmp_prohibited() {
    let mut rig = Rig::new();
    rig.publish(&with_rule("services = [\"any\"]\naction = \"reject\""));
    let seen = rig.send_outside(udp(End(CLIENT, 40_001), End(DB, 53), b"?"));
    let [error] = &seen.outside[..] else {
        panic!("one answer")
    };
    assert_eq!(error[34..36], [3, 13]);
}

#[test]
fn answers_are_rate_limited_and_what_is_not_sent_is_counted() {
    let mut rig = Rig::new();
    rig.publish(&with_rule("services = [\"any\"]\naction = \"reject\""));
    rig.moved();
    let mut answers = 0;
    for port in 1000..1500 {
        answers += rig
            .send_outside(udp(End(CLIENT, port), End(DB, 53), b"?"))
            .outside
            .len() as u64;
    }
    assert_eq!(answers, 100, "a tenth of a second's worth");
    assert!(rig.moved().contains(&("answers_suppressed", 400)));
}

#[test]
fn a_limit_passes_its_rate_and_drops_the_rest() {
    let mut rig = Rig::new();
    rig.publish(&with_rule(
        "services = [\"any\"]\naction = \"limit\"\nrate = \"10pps\"\nburst = 10",
    ));
    let (from, to) = (End(CLIENT, 40_001), End(DB, 9000));
    let mut passed = 0;
    for _ in 0..200 {
        passed += rig.send_outside(udp(from, to, b"x")).inside.len();
    }
    assert_eq!(passed, 10);
    rig.moved();
    rig.pass_time(SECOND);
    for _ in 0..200 {
        passed += rig.send_outside(udp(from, to, b"x")).inside.len();
    }
    assert!((19..=21).contains(&passed), "{passed}");
    assert!(
        rig.moved()
            .iter()
            .any(|(name, count)| *name == "limited" && (189..=191).contains(count))
    );
}

#[test]
fn a_flow_rate_limit_lets_a_refused_flow_try_again() {
    let mut rig = Rig::new();
    rig.publish(&with_rule(
        "services = [\"any\"]\naction = \"limit\"\nrate = \"1cps\"\nburst = 1",
    ));
    assert_eq!(
        rig.send_outside(udp(End(CLIENT, 1), End(DB, 9), b"x"))
            .inside
            .len(),
        1
    );
    assert_eq!(
        rig.send_outside(udp(End(CLIENT, 2), End(DB, 9), b"x"))
            .inside
            .len(),
        0
    );
    rig.pass_time(2 * SECOND);
    assert_eq!(
        rig.send_outside(udp(End(CLIENT, 2), End(DB, 9), b"x"))
            .inside
            .len(),
        1
    );
}

#[test]
fn arp_and_neighbour_discovery_pass_whatever_the_policy_says() {
    let mut rig = Rig::new();
    rig.publish(&enforce().replace("\"10.0.1.10\"", "\"10.0.1.10\", \"fd00::1\""));
    assert_eq!(rig.send_inside(arp()).outside.len(), 1);
    assert_eq!(
        rig.send_inside(icmpv6(135)).outside.len(),
        1,
        "a neighbour solicitation"
    );
    assert_eq!(
        rig.counters().would_deny_packets,
        0,
        "nothing is in test, so nothing would be denied"
    );
    assert_eq!(
        rig.send_inside(icmpv6(128)).outside.len(),
        0,
        "an echo request is judged"
    );
}

#[test]
fn an_icmp_error_about_an_allowed_flow_passes_and_about_a_denied_one_does_not() {
    let mut rig = Rig::new();
    rig.publish(&with_rule("services = [\"any\"]\naction = \"deny\"").replace("tcp/80", "udp/80"));
    let asked = udp(BROWSER, HTTP, b"12345678");
    assert_eq!(rig.send_outside(asked.clone()).inside.len(), 1);
    let error = port_unreachable(WEB, CLIENT, &asked);
    assert_eq!(rig.send_inside(error.clone()).outside.len(), 1);
    assert_eq!(rig.send_inside(error).outside.len(), 1, "and again");
    let counters = rig.counters();
    assert_eq!(
        (counters.would_deny_packets, counters.uncovered_packets),
        (0, 0),
        "nothing is in test, and no rule is missing"
    );
    let denied = udp(BROWSER, End(DB, 80), b"12345678");
    assert_eq!(rig.send_outside(denied.clone()).inside.len(), 0);
    let error = port_unreachable(DB, CLIENT, &denied);
    assert_eq!(rig.send_inside(error).outside.len(), 0);
}

#[test]
fn a_sender_cannot_pass_as_a_server_by_picking_a_low_port() {
    let mut rig = Rig::new();
    // The web server may ask the client's name server; nobody may ask the web server on 40000.
    let policy = enforce()
        + "\n[[rule]]\nname = \"dns\"\nfrom = [\"web\"]\nto = [\"any\"]\nservices = [\"dns\"]\naction = \"allow\"\n[[service]]\nname = \"dns\"\nports = [\"udp/53\"]\n";
    rig.publish(&policy);
    let (server, asker) = (End(CLIENT, 53), End(WEB, 40_000));
    assert_eq!(
        rig.send_outside(udp(server, asker, b"I am a reply"))
            .inside
            .len(),
        0
    );
    assert_eq!(
        rig.send_inside(udp(asker, server, b"a question"))
            .outside
            .len(),
        1,
        "the asker may begin"
    );
    assert_eq!(
        rig.send_outside(udp(server, asker, b"a reply"))
            .inside
            .len(),
        1
    );
}

#[test]
fn a_mirror_port_judges_and_records_and_drops_nothing() {
    let mut rig = Rig::mirror();
    rig.publish(&enforce());
    rig.moved();
    rig.send_inside(tcp(End(CLIENT, 40_001), End(DB, 5432), SYN, 1, b""));
    assert_eq!(
        rig.moved(),
        [
            ("rx_packets", 1),
            ("mirror_packets", 1),
            ("flow_packets", 1),
            ("recorded_packets", 1),
            ("records", 1),
            ("flows_created", 1),
            ("flows_judged", 1),
            ("uncovered_packets", 1),
        ]
    );
    let [record] = rig.records()[..] else {
        panic!("one record")
    };
    assert_eq!(
        (record.enforced, record.dropped_packets),
        (Action::Deny.byte(), 0)
    );
}

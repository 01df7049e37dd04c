//! What a change of policy does to flows that are alive.

use crate::frames::{ACK, CLIENT, DB, End, FIN_ACK, SYN, SYN_ACK, WEB, tcp, udp};
use crate::rig::{Rig, SECOND, SHOP};
use abi::{Action, Reason, VerdictSource};

const BROWSER: End = End(CLIENT, 40_000);
const HTTP: End = End(WEB, 80);

fn shop(on_change: &str) -> String {
    SHOP.replace("MODE", "enforce") + &format!("on_change = \"{on_change}\"\n")
}

/// The same shop with nothing allowed.
fn closed() -> String {
    shop("re-evaluate").replace("action = \"allow\"", "action = \"deny\"")
}

fn open_flow(rig: &mut Rig) {
    rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""));
    rig.send_inside(tcp(HTTP, BROWSER, SYN_ACK, 9, b""));
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b"GET /"))
            .inside
            .len(),
        1
    );
}

#[test]
fn a_policy_that_forbids_a_live_flow_cuts_it_and_no_record_mixes_the_two_verdicts() {
    let mut rig = Rig::new();
    rig.publish(&shop("re-evaluate"));
    open_flow(&mut rig);
    rig.publish(&closed());
    rig.moved();
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 7, b"more"))
            .inside
            .len(),
        0
    );
    let moved = rig.moved();
    assert!(
        moved.contains(&(Reason::DeniedByRule.name(), 1)),
        "{moved:?}"
    );
    assert!(
        moved.contains(&("flows_rejudged", 1)) && moved.contains(&("flows_verdict_changed", 1))
    );
    assert!(!moved.iter().any(|(name, _)| *name == "superseded_packets"));
    let records = rig.records();
    let told: Vec<_> = records
        .iter()
        .map(|r| (r.enforced, r.epoch, r.packets_fwd, r.packets_rev))
        .collect();
    assert_eq!(
        told,
        [
            (Action::Allow.byte(), 1, 2, 1),
            (Action::Deny.byte(), 2, 1, 0)
        ]
    );
    assert_eq!(records[0].flow_id, records[1].flow_id);
}

#[test]
fn a_flow_that_stays_allowed_loses_no_packet_and_gets_no_extra_record() {
    let mut rig = Rig::new();
    rig.publish(&shop("re-evaluate"));
    open_flow(&mut rig);
    for seq in 0..50 {
        rig.publish(&shop("re-evaluate"));
        assert_eq!(
            rig.send_outside(tcp(BROWSER, HTTP, ACK, 10 + seq, b"x"))
                .inside
                .len(),
            1
        );
    }
    assert_eq!(rig.records().len(), 0);
}

/// A change of policy meets the reply first: it follows its flow all the same, whatever of the ports
/// and the order of packets had said who began.
#[test]
fn a_reply_that_is_first_after_a_change_of_policy_follows_its_flow() {
    let udp_shop = || shop("re-evaluate").replace("tcp/80", "udp/80\", \"udp/8000");
    for (client, server) in [(40_000, 80), (20_000, 8000)] {
        for is_answered in [true, false] {
            let mut rig = Rig::new();
            let (client, server) = (End(CLIENT, client), End(WEB, server));
            rig.publish(&udp_shop());
            assert_eq!(rig.send_outside(udp(client, server, b"?")).inside.len(), 1);
            if is_answered {
                assert_eq!(rig.send_inside(udp(server, client, b"!")).outside.len(), 1);
            }
            for _ in 0..3 {
                rig.publish(&udp_shop());
                assert_eq!(rig.send_inside(udp(server, client, b"!")).outside.len(), 1);
                assert_eq!(rig.send_outside(udp(client, server, b"?")).inside.len(), 1);
            }
        }
    }
}

#[test]
fn keep_lets_a_live_flow_end_in_peace_and_says_so() {
    let mut rig = Rig::new();
    rig.publish(&shop("keep"));
    open_flow(&mut rig);
    rig.publish(&closed());
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 7, b"more"))
            .inside
            .len(),
        1
    );
    rig.publish(&closed());
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 11, b"more"))
            .inside
            .len(),
        1,
        "kept again"
    );
    let other = End(CLIENT, 40_009);
    assert_eq!(
        rig.send_outside(tcp(other, HTTP, SYN, 1, b"")).inside.len(),
        0,
        "a new flow is not"
    );
    rig.pass_time(400 * SECOND);
    assert!(
        rig.records()
            .iter()
            .any(|r| r.enforced_source == VerdictSource::Kept.byte())
    );
}

#[test]
fn kill_ends_the_flow_and_resets_both_ends() {
    let mut rig = Rig::new();
    rig.publish(&shop("kill"));
    open_flow(&mut rig);
    rig.publish(&closed());
    rig.moved();
    let seen = rig.send_outside(tcp(BROWSER, HTTP, ACK, 7, b"more"));
    let is_reset = |frame: &Vec<u8>| frame[47] & 0x04 == 0x04;
    assert!(
        seen.inside.len() == 1 && seen.inside.iter().all(is_reset),
        "the server is told"
    );
    assert!(
        seen.outside.len() == 1 && seen.outside.iter().all(is_reset),
        "the client is told"
    );
    let moved = rig.moved();
    assert!(
        moved.contains(&(Reason::KilledOnChange.name(), 1))
            && moved.contains(&("flows_ended_forced", 1))
    );
}

#[test]
fn a_closed_flow_is_told_with_its_end_reason_and_round_trips() {
    let mut rig = Rig::new();
    rig.publish(&shop("re-evaluate"));
    rig.send_outside(tcp(BROWSER, HTTP, SYN, 1, b""));
    rig.pass_time(SECOND / 100);
    rig.send_inside(tcp(HTTP, BROWSER, SYN_ACK, 9, b""));
    rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b""));
    rig.send_outside(tcp(BROWSER, HTTP, FIN_ACK, 2, b""));
    rig.send_inside(tcp(HTTP, BROWSER, FIN_ACK, 10, b""));
    rig.send_outside(tcp(BROWSER, HTTP, ACK, 3, b""));
    rig.pass_time(10 * SECOND);
    let [record] = rig.records()[..] else {
        panic!("one record")
    };
    assert_eq!(
        record.end_reason,
        abi::record::FlowEndReason::EndOfFlow.byte()
    );
    assert!(
        (9_000..=11_000).contains(&record.rtt_responder_us),
        "{}",
        record.rtt_responder_us
    );
}

#[test]
fn a_midstream_flow_is_judged_by_who_must_have_begun() {
    let mut rig = Rig::new();
    rig.publish(&shop("re-evaluate"));
    // After a restart the server speaks first; its port says that it is the server.
    assert_eq!(
        rig.send_inside(tcp(HTTP, BROWSER, ACK, 100, b"data"))
            .outside
            .len(),
        1
    );
    assert_eq!(
        rig.send_outside(tcp(BROWSER, HTTP, ACK, 2, b""))
            .inside
            .len(),
        1
    );
    let odd = rig.send_inside(tcp(End(WEB, 40_000), End(DB, 5432), ACK, 1, b""));
    assert!(odd.outside.is_empty(), "web may not speak to the database");
}

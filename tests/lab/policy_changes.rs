//! A change of policy cuts the live connections that it forbids and leaves the others without one lost packet.

use ringfence_tests::lab::{ATTACKER, CLIENT, DB, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};
use crate::streams::{
    SOME, Streams, assert_no_retransmission, assert_nothing_lost, await_progress, await_sent,
    echoed, ended, serve,
};

/// That of the service `stream`.
pub(crate) const PORT: u16 = 7007;

pub(crate) fn promises() -> Vec<Promise> {
    vec![
        Promise {
            name: "policy_changes::a_change_cuts_what_it_forbids_and_loses_nothing_else",
            needs: Needs::Namespaces,
            programs: &["ss"],
            show: a_change_cuts_what_it_forbids_and_loses_nothing_else,
        },
        Promise {
            name: "policy_changes::rollback_restores_the_revision_before",
            needs: Needs::Namespaces,
            programs: &[],
            show: rollback_restores_the_revision_before,
        },
    ]
}

fn before() -> String {
    policy(
        "enforce",
        &[
            rule("clients-to-web", ("clients", "shop-web"), "stream", ALLOW),
            rule("guests-to-db", ("unmanaged", "shop-db"), "stream", ALLOW),
        ],
    )
}

fn after() -> String {
    policy(
        "enforce",
        &[rule(
            "clients-to-web",
            ("clients", "shop-web"),
            "stream",
            ALLOW,
        )],
    )
}

fn a_change_cuts_what_it_forbids_and_loses_nothing_else() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(before()),
        ..Settings::default()
    });
    let both = ["udp", "tcp"];
    let _servers = [WEB, DB].map(|host| both.map(|over| serve(&lab, host, over, PORT)));
    let streams = Streams::new(&lab);
    let [mut udp, mut tcp] = both.map(|over| streams.begin(CLIENT, WEB, over, PORT));
    let [mut cut_udp, mut cut_tcp] = both.map(|over| streams.begin(ATTACKER, DB, over, PORT));
    await_progress(&[&udp, &tcp, &cut_udp, &cut_tcp]);
    let applied = appliance.apply(&after()).must();
    assert!(
        applied.stdout.contains(" judged again within ")
            && applied.stdout.contains(": 2 verdicts changed"),
        "the operator is told what became of live flows: {applied}"
    );
    // What was on its way has come by then.
    await_sent(&[&cut_udp]);
    let until_cut = [&cut_udp, &cut_tcp].map(echoed);
    await_progress(&[&udp, &tcp]);
    await_sent(&[&cut_udp]);
    streams.end();
    let [udp, tcp] = [ended(&mut udp), ended(&mut tcp)];
    assert_nothing_lost(&appliance, &[&udp]);
    assert_eq!(
        (&tcp["echoed"], &tcp["end"]),
        (&tcp["sent"], &"done".into()),
        "{tcp}"
    );
    for host in [CLIENT, WEB] {
        assert_no_retransmission(&lab, host, &udp);
    }
    let [udp, tcp] = [ended(&mut cut_udp), ended(&mut cut_tcp)];
    let [udp_passed, tcp_passed] = until_cut;
    assert_eq!(udp["echoed"], udp_passed, "no datagram passes: {udp}");
    assert_ne!(tcp["end"], "done", "the connection is cut: {tcp}");
    // A connection tells now and then how far it is, and stands still since.
    let further = tcp["echoed"].as_u64().map(|echoed| echoed - tcp_passed);
    assert!(further < Some(SOME), "nothing passes: {tcp}");
    let flow = appliance.flow("was cut", |flow| {
        flow["dst"] == DB.v4 && flow["verdict"] == "deny"
    });
    assert_eq!(
        (&flow["drop_reason"], &flow["epoch"]),
        (&"denied-by-default".into(), &2.into()),
        "{flow}"
    );
    let status = appliance.json(&["status"]);
    assert_eq!(
        (&status["policy"]["state"], &status["policy"]["epoch"]),
        (&"adopted".into(), &2.into()),
        "{status}"
    );
    appliance.finish();
}

fn rollback_restores_the_revision_before() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(before()),
        ..Settings::default()
    });
    let first = appliance.json(&["policy", "show"])["revision"].clone();
    let _ = appliance.apply(&after()).must();
    let second = appliance.json(&["policy", "show"])["revision"].clone();
    assert_ne!(first, second);
    let _ = appliance.cli(&["policy", "rollback"]).must();
    assert_eq!(appliance.json(&["policy", "show"])["revision"], first);
    let log = appliance.json(&["policy", "log"]);
    let changes: Vec<&str> = log["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["change"].as_str())
        .collect();
    assert_eq!(changes, ["apply", "apply", "rollback"], "{log}");
    appliance.finish();
}

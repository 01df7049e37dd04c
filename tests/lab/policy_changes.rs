//! A change of policy cuts the live connections that it forbids and leaves the others without one lost packet.

use std::time::Duration;

use ringfence_tests::command::Background;
use ringfence_tests::lab::{DB, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};
use serde_json::Value;

use crate::policies::{ALLOW, policy, rule};

const HOST: &str = env!("CARGO_BIN_EXE_lab-host");
/// How long the streams last; the policy changes after a third of it.
const SECONDS: u64 = 9;

pub(crate) fn promises() -> Vec<Promise> {
    vec![
        Promise {
            name: "policy_changes::a_change_cuts_what_it_forbids_and_loses_nothing_else",
            needs: Needs::Namespaces,
            programs: &[],
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
    let _servers = [WEB, DB].map(|host| servers(&lab, host));
    std::thread::sleep(Duration::from_millis(300));
    let mut kept = [
        stream(&lab, "client", "stream-udp", WEB),
        stream(&lab, "client", "stream-tcp", WEB),
    ];
    let mut cut = [
        stream(&lab, "attacker", "stream-udp", DB),
        stream(&lab, "attacker", "stream-tcp", DB),
    ];
    std::thread::sleep(Duration::from_secs(SECONDS / 3));
    let applied = appliance.apply(&after()).must();
    assert!(
        applied.stdout.contains(" judged again within ")
            && applied.stdout.contains(": 2 verdicts changed"),
        "the operator is told what became of live flows: {applied}"
    );
    let [udp, tcp] = [0, 1].map(|index| finished(&mut kept[index]));
    assert!(
        udp["sent"].as_u64() > Some(1000),
        "the stream was dense: {udp}"
    );
    assert_eq!(
        (&udp["echoed"], &udp["counted_there"]),
        (&udp["sent"], &udp["sent"]),
        "no datagram is lost: {udp}"
    );
    assert_eq!(
        (&tcp["echoed"], &tcp["end"]),
        (&tcp["sent"], &"done".into()),
        "{tcp}"
    );
    for host in ["client", "web"] {
        assert_eq!(
            retransmissions(&lab, host),
            0,
            "{host} sent no segment twice"
        );
    }
    let [udp, tcp] = [0, 1].map(|index| finished(&mut cut[index]));
    assert!(
        udp["echoed"].as_u64() < udp["sent"].as_u64().map(|sent| sent * 2 / 3),
        "the datagrams are cut: {udp}"
    );
    assert!(
        udp["echoed"].as_u64() > Some(100),
        "they passed before: {udp}"
    );
    assert_ne!(tcp["end"], "done", "the connection is cut: {tcp}");
    assert!(
        tcp["echoed"].as_u64() > Some(100),
        "it passed before: {tcp}"
    );
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

/// UDP and TCP echo on one host.
pub(crate) fn servers(lab: &Lab, host: Host) -> [Background; 2] {
    let address = format!("{}:7007", host.v4);
    ["echo-udp", "echo-tcp"].map(|what| {
        lab.start(
            host.name,
            &[HOST, what, &address],
            &format!("{what}-{}", host.name),
        )
    })
}

/// A stream that lasts [`SECONDS`].
pub(crate) fn stream(lab: &Lab, from: &str, what: &str, to: Host) -> Background {
    let address = format!("{}:7007", to.v4);
    lab.start(
        from,
        &[HOST, what, &address, &SECONDS.to_string()],
        &format!("{what}-{from}"),
    )
}

/// What a stream says at its end.
#[track_caller]
pub(crate) fn finished(stream: &mut Background) -> Value {
    let ended = stream.wait(Duration::from_secs(SECONDS + 20));
    assert!(
        ended.is_some_and(|status| status.success()),
        "the stream did not end well: {}",
        stream.log()
    );
    serde_json::from_str(stream.log().trim())
        .unwrap_or_else(|error| panic!("{error}: {}", stream.log()))
}

/// TCP segments that a host has sent more than once.
pub(crate) fn retransmissions(lab: &Lab, host: &str) -> u64 {
    let snmp = lab
        .run(host, &["cat", "/proc/net/snmp"], Duration::from_secs(5))
        .must()
        .stdout;
    let mut tcp = snmp
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp: "))
        .map(|line| line.split(' '));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    names
        .zip(values)
        .find(|(name, _)| *name == "RetransSegs")
        .and_then(|(_, value)| value.parse().ok())
        .expect("RetransSegs")
}

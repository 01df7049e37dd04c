//! A policy that nobody confirms gives the traffic back by itself, also where control is killed meanwhile; a
//! confirmed one stays.

use std::time::Duration;

use ringfence_tests::command::wait_until;
use ringfence_tests::lab::{Appliance, DB, Lab, Settings};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "confirm::an_unconfirmed_policy_gives_the_traffic_back_and_a_confirmed_one_stays",
        needs: Needs::Namespaces,
        programs: &["ping"],
        show: an_unconfirmed_policy_gives_the_traffic_back_and_a_confirmed_one_stays,
    }]
}

fn with_ping() -> String {
    let ends = ("clients", "shop-db");
    policy("enforce", &[rule("clients-ping-db", ends, "ping", ALLOW)])
}

fn without_ping() -> String {
    let ends = ("clients", "shop-db");
    policy("enforce", &[rule("clients-to-db", ends, "http", ALLOW)])
}

/// What takes a second, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Whether one echo request of the client is answered by the database.
fn answered(lab: &Lab) -> bool {
    let ping = ["ping", "-n", "-c", "1", "-W", "1", DB.v4];
    lab.run("client", &ping, LIMIT).ok()
}

fn try_out(lab: &Lab, appliance: &Appliance<'_>, time: &str) {
    let file = lab
        .file("without-ping.toml", without_ping())
        .display()
        .to_string();
    let applied = appliance
        .cli(&["policy", "apply", &file, "--confirm", time])
        .must();
    assert!(applied.stdout.contains("\nunconfirmed  "), "{applied}");
}

fn an_unconfirmed_policy_gives_the_traffic_back_and_a_confirmed_one_stays() {
    let lab = Lab::new();
    let mut appliance = lab.appliance(&Settings {
        policy: Some(with_ping()),
        apart: true,
        ..Settings::default()
    });
    let first = appliance.json(&["policy", "show"])["revision"].clone();
    assert!(wait_until(LIMIT, || answered(&lab)), "allowed before");

    try_out(&lab, &appliance, "20s");
    assert!(!answered(&lab), "the new policy is in force at once");
    let status = appliance.json(&["status"]);
    assert_eq!(
        status["policy"]["unconfirmed"]["fallback_revision"], first,
        "{status}"
    );
    // What waits is on disk: the process that reverts is not the one that was asked.
    appliance.kill_control();
    appliance.start_control();
    appliance.wait_ready();
    let back = wait_until(LIMIT, || answered(&lab));
    assert!(back, "{}", appliance.log());
    let shown = appliance.json(&["policy", "show"]);
    assert_eq!(
        (&shown["revision"], &shown["unconfirmed"]),
        (&first, &serde_json::Value::Null)
    );

    try_out(&lab, &appliance, "10m");
    let _ = appliance
        .cli(&["policy", "confirm", "-m", "as meant"])
        .must();
    assert!(!answered(&lab), "it stays");
    let log = appliance.json(&["policy", "log"]);
    let entries = log["entries"].as_array().cloned().unwrap_or_default();
    let changes: Vec<&str> = entries
        .iter()
        .filter_map(|e| e["change"].as_str())
        .collect();
    assert_eq!(
        changes,
        ["apply", "apply", "revert", "apply", "confirm"],
        "{log}"
    );
    let _ = appliance.cli(&["policy", "log", "--verify"]).must();
    appliance.finish();
}

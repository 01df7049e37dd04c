//! What is not allowed fails as its verdict says: deny in silence, reject with an answer, limit at a rate.

use std::time::Duration;

use ringfence_tests::command::{run, wait_until, words};
use ringfence_tests::lab::{ATTACKER, Appliance, CLIENT, DB, Host, Lab, Settings, WEB};
use ringfence_tests::places::{binary, own_captures};
use ringfence_tests::suite::{Needs, Promise};
use serde_json::Value;

use crate::policies::{ALLOW, policy, rule};
use crate::streams::missed;

/// What takes a second, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(180);
/// What the limit rule below allows, in each direction.
const PACKETS_PER_SECOND: u64 = 20;

pub(crate) fn promises() -> Vec<Promise> {
    let promise = |name, show| Promise {
        name,
        needs: Needs::Namespaces,
        programs: &["curl", "python3", "nmap", "ss"],
        show,
    };
    vec![
        promise(
            "verdicts::denied_connections_meet_silence_and_are_told_with_their_rule",
            denied_connections_meet_silence,
        ),
        promise(
            "verdicts::rejected_connections_are_answered_at_once",
            rejected_connections_are_answered_at_once,
        ),
        promise(
            "verdicts::limited_flows_keep_their_rate",
            limited_flows_keep_their_rate,
        ),
        promise(
            "verdicts::what_is_in_test_passes_and_is_told_as_pending",
            what_is_in_test_passes_and_is_told_as_pending,
        ),
        Promise {
            name: "verdicts::a_replay_tells_what_its_policy_would_have_dropped",
            needs: Needs::Binaries,
            programs: &[],
            show: a_replay_tells_what_its_policy_would_have_dropped,
        },
    ]
}

/// Of the 37 packets in 11 flows of the capture, 15 are of the one flow to port 80.
fn a_replay_tells_what_its_policy_would_have_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("policy.toml");
    let replay = |mode: &str, filter: &[&str]| {
        let text = format!(
            "[[segment]]\nname = \"all\"\naddresses = [\"0.0.0.0/0\"]\nmode = \"{mode}\"\n\
             [[service]]\nname = \"http\"\nports = [\"tcp/80\"]\n{}",
            rule("web", ("all", "all"), "http", ALLOW)
        );
        std::fs::write(&file, text).expect("a file");
        let mut command = words(&[binary("ringfence").as_os_str()]);
        command
            .arg("replay")
            .arg(own_captures().join("plain.pcap"))
            .arg("--policy")
            .arg(&file)
            .args(filter);
        run(&mut command, LIMIT).must()
    };
    let said = "in the path, the policy would have dropped 22 packets of 10 flows\n";
    for filter in [&[][..], &["--filter", "tcp"]] {
        let outcome = replay("enforce", filter);
        assert!(outcome.stderr.contains(said), "{outcome}");
        assert!(outcome.stdout.contains("  deny "), "{outcome}");
    }
    let said = "would have dropped no packet; 22 packets of 10 flows once everything in test";
    let outcome = replay("test", &[]);
    assert!(outcome.stderr.contains(said), "{outcome}");
    assert!(outcome.stdout.contains("  allow (deny) "), "{outcome}");
}

fn denied_connections_meet_silence() {
    let lab = Lab::new();
    let rules = [
        rule("clients-to-web", ("clients", "shop-web"), "http", ALLOW),
        rule("no-telnet", ("any", "any"), "telnet", "action = \"deny\""),
    ];
    let appliance = lab.appliance(&Settings {
        policy: Some(policy("enforce", &rules)),
        ..Settings::default()
    });
    let _server = lab.start(
        "web",
        &["python3", "-m", "http.server", "80", "--bind", "::"],
        "web",
    );
    let _telnet = lab.start(
        "web",
        &["python3", "-m", "http.server", "23", "--bind", "::"],
        "telnet",
    );
    for address in [WEB.v4.to_owned(), format!("[{}]", WEB.v6)] {
        assert_silent(&lab, ATTACKER, &format!("http://{address}/"));
        assert_silent(&lab, CLIENT, &format!("http://{address}:23/"));
    }
    assert_eq!(ask_udp(&lab, CLIENT, WEB.v4, 23)["end"], "silence");
    let by_default = appliance.flow("is denied by default", |flow| {
        flow["src"] == ATTACKER.v4 && flow["dport"] == 80
    });
    assert_eq!(
        (&by_default["verdict"], &by_default["drop_reason"]),
        (&"deny".into(), &"denied-by-default".into())
    );
    assert_eq!(by_default["rule"], Value::Null);
    let by_rule = appliance.flow("is denied by a rule", |flow| {
        flow["src"] == CLIENT.v4 && flow["dport"] == 23
    });
    assert_eq!(
        (&by_rule["verdict"], &by_rule["rule"]),
        (&"deny".into(), &"no-telnet".into()),
        "{by_rule}"
    );
    let explained = appliance.cli(&["explain", "client", "web", "tcp/23"]);
    assert_eq!(explained.code, Some(1), "{explained}");
    assert!(explained.stdout.contains("no-telnet"), "{explained}");
    // A scan finds nothing: every port is silent but the one that is allowed.
    let scan = lab.run(
        "attacker",
        &[
            "nmap",
            "-n",
            "-Pn",
            "-T4",
            "--max-retries",
            "0",
            "-p",
            "1-100",
            WEB.v4,
        ],
        LIMIT,
    );
    assert!(
        scan.ok() && !scan.stdout.contains("/tcp open") && scan.stdout.contains("filtered"),
        "{scan}"
    );
    appliance.finish();
}

fn rejected_connections_are_answered_at_once() {
    let lab = Lab::new();
    let rules = [rule(
        "no-telnet",
        ("clients", "shop-web"),
        "telnet",
        "action = \"reject\"",
    )];
    let appliance = lab.appliance(&Settings {
        policy: Some(policy("enforce", &rules)),
        ..Settings::default()
    });
    let _telnet = lab.start(
        "web",
        &["python3", "-m", "http.server", "23", "--bind", "::"],
        "telnet",
    );
    for address in [WEB.v4.to_owned(), format!("[{}]", WEB.v6)] {
        let refused = lab.run(
            "client",
            &[
                "curl",
                "-sS",
                "--max-time",
                "120",
                &format!("http://{address}:23/"),
            ],
            LIMIT,
        );
        assert_eq!(
            refused.code,
            Some(7),
            "curl says connection refused: {refused}\n{}",
            appliance.log()
        );
    }
    for address in [WEB.v4, WEB.v6] {
        let answer = ask_udp(&lab, CLIENT, address, 23);
        assert_eq!(
            answer["end"], "prohibited",
            "ICMP administratively prohibited: {answer}"
        );
    }
    let flow = appliance.flow("is rejected", |flow| {
        flow["src"] == CLIENT.v4 && flow["dport"] == 23 && flow["proto"] == 6
    });
    assert_eq!(
        (&flow["verdict"], &flow["drop_reason"]),
        (&"reject".into(), &"rejected-by-rule".into()),
        "{flow}"
    );
    appliance.finish();
}

fn limited_flows_keep_their_rate() {
    let lab = Lab::new();
    let limit = format!("action = \"limit\"\nrate = \"{PACKETS_PER_SECOND}pps\"");
    let rules = [rule(
        "slow-stream",
        ("clients", "shop-web"),
        "stream",
        &limit,
    )];
    let appliance = lab.appliance(&Settings {
        policy: Some(policy("enforce", &rules)),
        ..Settings::default()
    });
    let address = format!("{}:7007", WEB.v4);
    let _echo = lab.start(
        "web",
        &[env!("CARGO_BIN_EXE_lab-host"), "echo-udp", &address],
        "echo",
    );
    lab.await_listener("web", "udp", 7007);
    let stream = lab
        .run(
            "client",
            &[env!("CARGO_BIN_EXE_lab-host"), "stream-udp", &address, "6"],
            LIMIT,
        )
        .must();
    let stream: Value = serde_json::from_str(&stream.stdout).expect("a line of JSON");
    let sent = stream["sent"].as_u64().expect("sent");
    let passed = appliance.flow("is the stream", |flow| flow["dport"] == 7007)["rule"].clone();
    assert_eq!(passed, "slow-stream");
    // Six seconds at the rate and one full bucket; questions and echoes have one each.
    let there = stream["counted_there"]
        .as_u64()
        .expect("counted at the other end");
    let echoed = stream["echoed"].as_u64().expect("echoed");
    let (low, high) = (PACKETS_PER_SECOND * 5, PACKETS_PER_SECOND * 8);
    assert!(
        sent > high * 2,
        "the stream is faster than the limit: {stream}"
    );
    assert!(
        (low..=high).contains(&there),
        "{low} to {high} packets pass: {stream}"
    );
    // Besides the stream, the few datagrams that ask for the count may meet the limit.
    assert!(
        echoed + 20 >= there,
        "what was let in is answered: {stream}"
    );
    // A core publishes its counters ten times a second.
    let (lost, mut limited) = (sent - echoed, 0);
    let counted = wait_until(LIMIT, || {
        limited = drops(&appliance, "limited");
        limited + missed(&appliance) >= lost
    });
    assert!(
        counted && limited < lost + 20,
        "{limited} counted, {lost} lost: {stream}"
    );
    appliance.finish();
}

fn what_is_in_test_passes_and_is_told_as_pending() {
    let lab = Lab::new();
    let rules = [rule(
        "clients-to-web",
        ("clients", "shop-web"),
        "http",
        ALLOW,
    )];
    let appliance = lab.appliance(&Settings {
        policy: Some(policy("test", &rules)),
        ..Settings::default()
    });
    let address = format!("{}:7007", DB.v4);
    let _echo = lab.start(
        "db",
        &[env!("CARGO_BIN_EXE_lab-host"), "echo-udp", &address],
        "echo",
    );
    lab.await_listener("db", "udp", 7007);
    assert_eq!(ask_udp(&lab, ATTACKER, DB.v4, 7007)["end"], "answered");
    let _ = lab
        .run(
            "attacker",
            &["ping", "-n", "-c", "1", "-w", "120", DB.v4],
            LIMIT,
        )
        .must();
    // A core publishes its counters ten times a second.
    let mut status = Value::Null;
    let counted = wait_until(LIMIT, || {
        status = appliance.json(&["status"]);
        status["traffic"]["would_deny_packets"].as_u64() > Some(0)
    });
    assert!(counted, "{status}");
    assert_eq!(status["traffic"]["dropped_packets"], 0, "{status}");
    let flow = appliance.flow("would be denied", |flow| {
        flow["dst"] == DB.v4 && flow["src"] == ATTACKER.v4 && flow["proto"] == 1
    });
    assert_eq!(
        (&flow["verdict"], &flow["pending_verdict"]),
        (&"allow".into(), &"deny".into()),
        "{flow}"
    );
    appliance.finish();
}

fn assert_silent(lab: &Lab, from: Host, url: &str) {
    let outcome = lab.run(from.name, &["curl", "-sS", "--max-time", "3", url], LIMIT);
    assert_eq!(outcome.code, Some(28), "curl says time-out: {outcome}");
}

fn ask_udp(lab: &Lab, from: Host, to: &str, port: u16) -> Value {
    let address = if to.contains(':') {
        format!("[{to}]:{port}")
    } else {
        format!("{to}:{port}")
    };
    let asked = lab
        .run(
            from.name,
            &[env!("CARGO_BIN_EXE_lab-host"), "ask-udp", &address],
            LIMIT,
        )
        .must();
    serde_json::from_str(&asked.stdout).expect("a line of JSON")
}

fn drops(appliance: &Appliance<'_>, reason: &str) -> u64 {
    let drops = appliance.json(&["drops"]);
    let rows = drops["drops"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    rows.iter()
        .find(|row| row["reason"] == reason)
        .and_then(|row| row["packets"].as_u64())
        .unwrap_or(0)
}

//! A policy analysed by what a recorded network did: the flows of a capture under that policy, by the real dataplane, on
//! nine days of a fortnight, in a real history; asked as a person asks. What is printed is kept as text.
//!
//! `CARGO_TARGET_DIR` or `RINGFENCE_BIN_DIR` says where the binaries are that replay and ask.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use api::{Flow, Ts};
use control::clock::now_ns;
use control::config::HistoryEngine;
use history::{EmbeddedHistory, EmbeddedOptions, History};
use ringfence_tests::command::{run, words};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::places::{binary, replayable_captures};
use ringfence_tests::recorded::{DAY, INVENTORY, PSEXEC};
use std::path::Path;
use std::time::Duration;
use support::{Box, TestDataplane};

const LIMIT: Duration = Duration::from_secs(120);
const DAY_NS: u64 = 86_400_000_000_000;
/// Days ago on which the domain was at work; on the others the appliance was off.
const AT_WORK: [u64; 9] = [14, 13, 11, 10, 8, 7, 4, 3, 1];

/// What people wrote who know the domain, and some of it years ago. `DATE` comes soon.
const RULES: &str = r#"
[[service]]
name = "domain"
ports = ["tcp/88", "udp/88", "tcp/389", "udp/389", "tcp/445", "tcp/464", "udp/464", "tcp/636", "tcp/3268-3269"]

[[rule]]
name = "desks-to-domain"
from = ["workstations"]
to = ["domain-controllers", "servers"]
services = ["domain"]
action = "allow"
owner = "windows"

[[rule]]
name = "desks-to-kerberos"
from = ["workstations"]
to = ["domain-controllers"]
services = ["kerberos"]
action = "allow"

[[rule]]
name = "zz-desks-to-ldap"
from = ["workstations"]
to = ["domain-controllers"]
services = ["ldap"]
action = "allow"

[[service]]
name = "rpc"
ports = ["tcp/135", "tcp/49152-49175"]

[[rule]]
name = "desks-to-rpc"
from = ["workstations"]
to = ["domain-controllers"]
services = ["rpc"]
action = "allow"

[[rule]]
name = "servers-to-desks"
from = ["servers", "domain-controllers"]
to = ["workstations"]
services = ["ssh", "smb"]
action = "allow"

[[rule]]
name = "no-ssh-to-desks"
from = ["servers"]
to = ["workstations"]
services = ["ssh"]
action = "deny"

[[rule]]
name = "migration"
from = ["workstations"]
to = ["any"]
services = ["smb"]
action = "allow"
expires = "DATE"

[[rule]]
name = "old-backup"
from = ["servers"]
to = ["domain-controllers"]
services = ["smb"]
action = "allow"
"#;

/// The flow records of a capture under a policy, by the real dataplane.
fn flows(capture: &Path, policy: &Path) -> Vec<Flow> {
    let out = policy.with_extension("json");
    let mut command = words(&[binary("ringfence")]);
    command.arg("replay").arg(capture);
    command.arg("--policy").arg(policy);
    command.args(["--format", "json", "--out"]).arg(&out);
    let ended = run(&mut command, LIMIT);
    assert_eq!(ended.code, Some(0), "{ended}");
    let text = std::fs::read_to_string(&out).expect("flows");
    let flow = |line: &str| serde_json::from_str(line).expect("a flow");
    text.lines().map(flow).collect()
}

/// The same as if the capture had begun at `begin_ns`.
fn moved(flows: &[Flow], begin_ns: u64) -> Vec<Flow> {
    let began = flows.iter().map(|flow| flow.first_ns).min().unwrap_or(0);
    let mut moved = flows.to_vec();
    for flow in &mut moved {
        flow.first_ns = flow.first_ns - began + begin_ns;
        flow.last_ns = flow.last_ns - began + begin_ns;
        (flow.first_ts, flow.last_ts) = (Ts(flow.first_ns), Ts(flow.last_ns));
    }
    moved
}

/// The policy, whose last date comes in `days`.
fn policy(days: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
    format!("{INVENTORY}{}", RULES.replace("DATE", &date))
}

#[test]
fn a_policy_is_analysed_by_what_a_recorded_domain_did() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let mut control = Box::new(|config| config.history.engine = HistoryEngine::Embedded);
    let _dataplane = TestDataplane::start(&control.config);
    let text = policy(10);
    let file = control.dir.path().join("domain.toml");
    std::fs::write(&file, &text).expect("a policy");
    // Somebody tried the attack once, before the time that is asked about.
    let (work, attack) = (
        flows(&captures.join(DAY), &file),
        flows(&captures.join(PSEXEC), &file),
    );
    assert!(work.iter().any(|flow| flow.rule.is_some()), "{work:#?}");
    control.stop();
    let now = now_ns();
    let kept = control.config.history_dir();
    let history = EmbeddedHistory::open(&kept, EmbeddedOptions::default()).expect("a history");
    history
        .append(&moved(&attack, now - 40 * DAY_NS))
        .expect("rows");
    for days in AT_WORK {
        history
            .append(&moved(&work, now - days * DAY_NS))
            .expect("rows");
    }
    history.flush().expect("a disk");
    drop(history);
    control.start();
    control.client.wait_running();
    let ask = |arguments: &[&str]| {
        let mut command = words(&[binary("ringfence")]);
        command.arg("--socket").arg(control.config.api_socket());
        command.args(["policy", "analyze"]).args(arguments);
        let ended = run(&mut command, LIMIT);
        assert_eq!(ended.code, Some(0), "{ended}");
        ended.stdout
    };
    let file = file.display().to_string();
    assert_golden("analyze-1-draft.txt", &ask(&[&file, "--since", "30d"]));
    assert_golden("analyze-2-too-short.txt", &ask(&[&file, "--since", "5d"]));
    // Put into force today: nobody says of its rules that they were not used.
    control.client.apply(&text).expect("it is valid");
    assert_golden("analyze-3-in-force.txt", &ask(&["--since", "30d"]));
}

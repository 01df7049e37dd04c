//! Lateral movement and scans as others recorded them: the real dataplane replays the captures, and the watch, which
//! has learned from a quiet capture, must find in them what is there, by name, and nothing in quiet ones.
//!
//! Needs the binaries (`RINGFENCE_BIN_DIR`, else `release` of the target directory) and the shared set of captures
//! (`RINGFENCE_TRAFFIC`, else beside the repository); where one is not there it says SKIPPED.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use api::Flow;
use api::watch::{Finding, FindingKind, FindingSeverity};
use control::config::WatchConfig;
use control::watch::detector::Detector;
use ringfence_tests::command::{run, words};
use ringfence_tests::places::{binary, replayable_captures};

/// One replay takes seconds on an idle machine.
const REPLAY_LIMIT: Duration = Duration::from_secs(180);
/// Years lie between the captures.
const QUIET: &str = "01-general/ndpi_teams.pcap";

/// Everything passes; hosts of the captures have names.
const POLICY: &str = r#"
[[workload]]
name = "workstation"
addresses = ["192.168.10.31"]

[[workload]]
name = "domain-controller"
addresses = ["192.168.10.10", "172.16.5.58"]

[[workload]]
name = "member-server"
addresses = ["192.168.10.30"]

[[workload]]
name = "intruder"
addresses = ["172.16.0.10"]

[[workload]]
name = "win-a"
addresses = ["192.168.199.132"]

[[workload]]
name = "win-b"
addresses = ["192.168.199.133"]

[[segment]]
name = "hosts"
addresses = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
mode = "observe"
"#;

/// The flow records of a capture, by the real dataplane.
fn flows(capture: &Path) -> Vec<Flow> {
    let dir = tempfile::tempdir().expect("a directory");
    let (policy, out) = (
        dir.path().join("policy.toml"),
        dir.path().join("flows.json"),
    );
    std::fs::write(&policy, POLICY).expect("a policy");
    let program = binary("ringfence");
    let arguments: [&OsStr; 9] = [
        program.as_os_str(),
        "replay".as_ref(),
        capture.as_os_str(),
        "--policy".as_ref(),
        policy.as_os_str(),
        "--format".as_ref(),
        "json".as_ref(),
        "--out".as_ref(),
        out.as_os_str(),
    ];
    let ended = run(&mut words(&arguments), REPLAY_LIMIT);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = std::fs::read_to_string(&out).expect("flows");
    let flow = |line: &str| serde_json::from_str(line).expect("a flow");
    text.lines().map(flow).collect()
}

/// What the watch finds in a capture after a quiet one.
fn found(captures: &Path, capture: &str) -> Vec<Finding> {
    let mut detector = Detector::new(&WatchConfig::default());
    for flow in flows(&captures.join(QUIET)) {
        detector.observe(&flow);
    }
    let attack = flows(&captures.join(capture));
    // Learned from a capture, and a month later.
    let (learned, begins) = (detector.now_ns(), attack.iter().map(|f| f.first_ns).min());
    let month_ns = 30 * 86_400_000_000_000;
    let shift = learned + month_ns;
    for mut flow in attack {
        let moved = |at: u64| at - begins.unwrap_or(0) + shift;
        (flow.first_ns, flow.last_ns) = (moved(flow.first_ns), moved(flow.last_ns));
        (flow.first_ts, flow.last_ts) = (api::Ts(flow.first_ns), api::Ts(flow.last_ns));
        detector.observe(&flow);
    }
    detector
        .findings
        .all()
        .filter(|f| !f.learning)
        .cloned()
        .collect()
}

/// `workstation reached member-server on tcp/139 ...`, severity and technique.
fn told(findings: &[Finding], kind: FindingKind) -> Vec<String> {
    let of_kind = findings.iter().filter(|f| f.kind == kind);
    let told = of_kind.map(|f| {
        let technique = f.technique.as_deref().unwrap_or("-");
        format!("{} [{}, {technique}]", f.sentence, f.severity)
    });
    told.collect()
}

#[test]
fn remote_execution_over_smb_is_found_by_its_first_edges() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let found = found(
        &captures,
        "07-lateral-movement/suricata_20171220_smb_psexec_add_user.pcap",
    );
    let edges = told(&found, FindingKind::NewEdge);
    for expected in [
        "workstation reached domain-controller on tcp/445 for the first time [medium, T1021.002]",
        "workstation reached domain-controller on tcp/135 for the first time [medium, T1021.003]",
        // It was under way when the capture began: who began it is a guess.
        "workstation reached member-server on tcp/139 for the first time [low, T1021.002]",
    ] {
        assert!(
            edges.iter().any(|e| e == expected),
            "{expected} is not in {edges:#?}"
        );
    }
    assert!(
        told(&found, FindingKind::Chain).is_empty(),
        "one host did it all"
    );
}

#[test]
fn zerologon_is_found_by_the_services_that_it_goes_through() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let found = found(&captures, "07-lateral-movement/suricata_zerologon.pcap");
    let edges = told(&found, FindingKind::NewEdge);
    for (port, technique) in [(135, "T1021.003"), (445, "T1021.002")] {
        let expected = format!(
            "intruder reached domain-controller on tcp/{port} for the first time [medium, {technique}]"
        );
        assert!(edges.contains(&expected), "{expected} is not in {edges:#?}");
    }
    assert!(told(&found, FindingKind::PortSweep).is_empty());
}

#[test]
fn guessing_passwords_over_ssh_and_a_remote_desktop_are_administrative_edges() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    for (capture, technique) in [
        (
            "07-lateral-movement/joy_kali-password-attack_hydra.pcap",
            "T1021.004",
        ),
        ("07-lateral-movement/zeek_sshguess.pcap", "T1021.004"),
        ("07-lateral-movement/ndpi_rdp3.pcap", "T1021.001"),
        ("01-general/arkime_v6.pcap", "T1021.004"),
    ] {
        let found = found(&captures, capture);
        let edges = told(&found, FindingKind::NewEdge);
        let is_it = |edge: &&String| edge.contains(technique);
        assert_eq!(
            edges.iter().filter(is_it).count(),
            1,
            "{capture}: {edges:#?}"
        );
    }
}

/// Windows B had been on its host by NetBIOS; four minutes later A comes to B: no chain, since B went on before A came.
/// Told the other way round in time it is one.
#[test]
fn a_path_over_smb_is_a_chain_in_the_order_of_time_alone() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let capture = "07-lateral-movement/arkime_wireshark-smb-on-windows10.pcap";
    let real = found(&captures, capture);
    assert!(told(&real, FindingKind::Chain).is_empty(), "{real:#?}");

    let mut detector = Detector::new(&WatchConfig::default());
    for mut flow in flows(&captures.join(capture)) {
        if flow.src_name.as_deref() == Some("win-b") {
            // The same flows, ten minutes later.
            (flow.first_ns, flow.last_ns) = (
                flow.first_ns + 600_000_000_000,
                flow.last_ns + 600_000_000_000,
            );
            (flow.first_ts, flow.last_ts) = (api::Ts(flow.first_ns), api::Ts(flow.last_ns));
        }
        detector.observe(&flow);
    }
    let found: Vec<Finding> = detector.findings.all().cloned().collect();
    assert_eq!(
        told(&found, FindingKind::Chain),
        [
            "win-a -> win-b (tcp/445) -> 192.168.199.1 (tcp/139): 2 hops in a row over novel administrative edges [high, T1021]"
        ]
    );
}

#[test]
fn a_syn_scan_is_one_port_sweep() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let found = found(&captures, "01-general/ndpi_synscan.pcap");
    let sweeps = told(&found, FindingKind::PortSweep);
    assert_eq!(sweeps.len(), 1, "{found:#?}");
    assert!(sweeps[0].starts_with("172.16.0.8 tried "), "{sweeps:?}");
    assert!(sweeps[0].contains("ports of 64.13.134.52"), "{sweeps:?}");
    let sweep = found
        .iter()
        .find(|f| f.kind == FindingKind::PortSweep)
        .expect("a sweep");
    // The dataplane tells the last of a scan in aggregates, without their ports.
    assert!(sweep.evidence.services >= 500, "{sweep:#?}");
    assert!(sweep.evidence.flows >= 1_900, "{sweep:#?}");
    assert_eq!(sweep.severity, FindingSeverity::Medium);
}

#[test]
fn quiet_captures_alarm_nobody() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let mut seen = 0;
    for capture in [
        "01-general/ndpi_whatsapp.pcap",
        "01-general/ndpi_1kxun.pcap",
        "01-general/zeek_wikipedia.pcap",
        "01-general/ipfixprobe_http.pcap",
        "01-general/ipfixprobe_tls.pcap",
        "01-general/pcapplusplus_example.pcap",
        "07-lateral-movement/zeek_kinit.pcap",
    ] {
        let found = found(&captures, capture);
        seen += found.len();
        let alarms: Vec<_> = found
            .iter()
            .filter(|f| f.severity >= FindingSeverity::Medium)
            .map(|f| (f.kind, &f.sentence))
            .collect();
        assert!(alarms.is_empty(), "{capture}: {alarms:#?}");
    }
    assert!(seen > 0, "what is new there is told, quietly");
}

//! The journey on traffic that others recorded, by the commands a person types, without an appliance: learn a working
//! day of a domain, look at what that would deny, then hold what was learnt against recorded attacks.
//!
//! What is learnt is about workloads and their roles: the day and the attacks were recorded in several networks, and the
//! inventory says who each host is. The same journey through an appliance in the path is `lab/recorded.rs`.
//!
//! And a capture on a mirror port: `up` judges all of it and answers after its end.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_tests::command::{Background, Outcome, run, wait_until, words};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::places::{binary, own_captures, replayable_captures};
use ringfence_tests::recorded::{DAY, INVENTORY, PSEXEC};
use tempfile::TempDir;

/// One command takes seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(180);
/// A command of the offline kind ends with this where the answer is no.
const NO: i32 = 1;

/// Nothing may pass.
const CLOSED: &str = r#"
[policy]
name = "closed"

[[segment]]
name = "all"
addresses = ["0.0.0.0/0", "::/0"]
mode = "enforce"
"#;

/// A person in a directory of captures and drafts.
struct Desk {
    captures: PathBuf,
    directory: TempDir,
}

impl Desk {
    fn new(captures: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("inventory.toml"), INVENTORY).expect("a file");
        Self {
            captures,
            directory,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn capture(&self, name: &str) -> String {
        self.captures.join(name).display().to_string()
    }

    #[track_caller]
    fn ringfence(&self, arguments: &[&str], code: i32) -> Outcome {
        let mut command = words(&[binary("ringfence")]);
        // No appliance: whatever asks one fails.
        command
            .args(["--socket", "nobody.sock"])
            .args(arguments)
            .current_dir(self.path());
        let outcome = run(&mut command, LIMIT);
        assert_eq!(outcome.code, Some(code), "{outcome}");
        outcome
    }

    /// Learns the day into `draft.toml`, and the same with every segment in enforce into `enforced.toml`.
    fn learn(&self) -> Outcome {
        let day = self.capture(DAY);
        let from = ["--policy", "inventory.toml", "--out", "draft.toml"];
        let arguments = [&["policy", "suggest", "--capture", &day], &from[..]].concat();
        let suggested = self.ringfence(&arguments, 0);
        let draft = std::fs::read_to_string(self.path().join("draft.toml")).expect("a draft");
        let enforced = draft.replace("mode = \"observe\"", "mode = \"enforce\"");
        std::fs::write(self.path().join("enforced.toml"), enforced).expect("a file");
        suggested
    }

    fn simulate(&self, capture: &str, code: i32) -> Outcome {
        let capture = self.capture(capture);
        let draft = ["policy", "simulate", "draft.toml", "--enforce"];
        self.ringfence(&[&draft[..], &["--capture", &capture]].concat(), code)
    }
}

#[test]
fn a_day_is_learnt_and_an_attack_is_denied() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let desk = Desk::new(captures);
    assert_golden("recorded-1-suggest.txt", &desk.learn().stdout);
    let checked = desk.ringfence(&["policy", "check", "draft.toml"], 0);
    assert_golden("recorded-2-check.txt", &checked.stdout);
    assert_golden(
        "recorded-3-simulate-the-day.txt",
        &desk.simulate(DAY, 0).stdout,
    );
    assert_golden(
        "recorded-4-simulate-psexec.txt",
        &desk.simulate(PSEXEC, NO).stdout,
    );
    let psexec = desk.capture(PSEXEC);
    let replay = ["replay", &psexec, "--policy", "enforced.toml"];
    let denied = ["--filter", "tcp and verdict deny"];
    let replayed = desk.ringfence(&[&replay[..], &denied].concat(), 0);
    assert_golden("recorded-5-replay-psexec.txt", &replayed.stdout);
}

/// What each attack does that the day did not is denied.
#[test]
fn every_recorded_attack_runs_into_what_was_learnt() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let desk = Desk::new(captures);
    let _ = desk.learn();
    for (name, denied) in [
        ("suricata_zerologon.pcap", "tcp/135"),
        ("zeek_sshguess.pcap", "ssh"),
        ("joy_kali-password-attack_hydra.pcap", "ssh"),
        ("ndpi_rdp3.pcap", "tcp/3389"),
        ("suricata_telnet.pcap", "tcp/23"),
        (
            "suricata_20171220_smb_psexec_mimikatz_ticket_dump-s2.pcap",
            "tcp/49155",
        ),
        ("arkime_wireshark-smb-on-windows10.pcap", "smb"),
    ] {
        let found = desk.simulate(&format!("07-lateral-movement/{name}"), NO);
        let is_denied = |line: &str| line.starts_with("newly denied") && line.contains(denied);
        assert!(found.stdout.lines().any(is_denied), "{name}: {found}");
    }
}

/// `up` over a capture that is over in a moment: every packet is judged by the policy, every record is kept, and whoever
/// asks afterwards is answered.
#[test]
fn a_capture_on_a_mirror_port_is_told_after_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("policy.toml"), CLOSED).expect("a file");
    let port = format!("pcap:in={}", own_captures().join("plain.pcap").display());
    let mut command = words(&[binary("ringfence")]);
    command
        .args(["up", "--mirror", &port, "--policy", &at("policy.toml")])
        .args(["--run-dir", &at("run"), "--state-dir", &at("state")])
        .args(["--metrics", "off", "--hugepages", "never"]);
    let mut up = Background::start(&mut command, directory.path().join("log"));
    let ended = wait_until(LIMIT, || {
        up.log().contains("end of its captures") || !up.runs()
    });
    assert!(ended && up.runs(), "{}", up.log());
    let socket = at("run/control.sock");
    let ask = |arguments: &[&str]| {
        let mut command = words(&[binary("ringfence")]);
        command.args(["--socket", &socket]).args(arguments);
        run(&mut command, LIMIT)
    };
    let accounting = ask(&["verify", "accounting"]);
    assert!(
        accounting.ok() && accounting.stdout.contains("balanced: "),
        "{accounting}"
    );
    let unjudged = ask(&["history", "flows", "--filter", "source no-policy"]);
    assert!(unjudged.both().contains("no flows"), "{unjudged}");
    let denied = ask(&["history", "flows", "--filter", "verdict deny"]);
    assert!(denied.stdout.lines().count() > 1, "{denied}");
    assert!(up.stop(LIMIT).success(), "{}", up.log());
}

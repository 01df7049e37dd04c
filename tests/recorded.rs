//! The journey on traffic that others recorded, by the commands a person types, without an appliance: learn a working
//! day of a domain, look at what that would deny, then hold what was learnt against recorded attacks.
//!
//! What is learnt is about workloads and their roles: the day and the attacks were recorded in several networks, and the
//! inventory says who each host is. The same journey through an appliance in the path is `lab/recorded.rs`.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_tests::command::{Outcome, run, words};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::places::{binary, replayable_captures};
use ringfence_tests::recorded::{DAY, INVENTORY, PSEXEC};
use tempfile::TempDir;

/// One command takes seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(180);
/// A command of the offline kind ends with this where the answer is no.
const NO: i32 = 1;

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

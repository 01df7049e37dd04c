//! The journey on recorded lateral movement, with the appliance in the path: a recorded day of a domain is learnt and
//! passes, a recorded attack is seen while the segments are in test, stopped in enforce, and its host is held.
//!
//! `tcpreplay` sends the frames of both ends into the outside of the lane; what passes leaves it at the inside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_tests::command::{Outcome, wait_until};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::lab::{Appliance, Lab, Settings};
use ringfence_tests::places::replayable_captures;
use ringfence_tests::recorded::{DAY, INVENTORY, PSEXEC};
use ringfence_tests::suite::{Needs, Promise};
use serde_json::Value;

/// What takes a second, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(180);
/// The end of a wire into the outside of the lane.
const OUTSIDE: &str = "out0s";
/// The longest frame of that wire; a recording on the sending host has longer ones, from before they were cut.
const WIRE: &str = "frame.len <= 1514";

/// What is recorded of the day. The hosts of the lab speak as well, unasked (neighbour and router discovery).
const RECORDED: &str = "tcp";

/// Where desk-1 and dc-1 are in the recorded attack.
const DESK: &str = "192.168.10.31";
const DOMAIN_CONTROLLER: &str = "192.168.10.10";
const SEGMENTS: [&str; 3] = ["workstations", "domain-controllers", "servers"];

/// A lab that has lived for seconds takes them for its days.
const CONTROL: &str = "\
[history]
flush = \"1s\"

[readiness]
days_min = 0
quiet_days_min = 0

[watch]
learning = \"15s\"
";

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "recorded::a_recorded_day_passes_and_a_recorded_attack_is_stopped",
        needs: Needs::Namespaces,
        programs: &["tcpreplay", "tshark"],
        show: a_recorded_day_passes_and_a_recorded_attack_is_stopped,
    }]
}

fn a_recorded_day_passes_and_a_recorded_attack_is_stopped() {
    let Some(captures) = replayable_captures() else {
        return;
    };
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(INVENTORY.to_owned()),
        control: CONTROL.to_owned(),
        ..Settings::default()
    });
    let story = Story {
        day: fit_for_the_wire(&lab, &captures.join(DAY), "day"),
        attack: fit_for_the_wire(&lab, &captures.join(PSEXEC), "psexec"),
        lab: &lab,
        appliance: &appliance,
    };
    story.observe();
    story.learn();
    story.promote("test", &[]);
    story.learn_what_is_usual();
    let finding = story.be_attacked_in_test();
    story.be_attacked_in_enforce();
    story.quarantine(&finding);
    appliance.finish();
}

fn fit_for_the_wire(lab: &Lab, capture: &Path, name: &str) -> PathBuf {
    let fit = lab.directory().join(format!("{name}.pcap"));
    let [from, to] = [capture, &fit].map(|path| path.display().to_string());
    let select = ["tshark", "-r", &from, "-Y", WIRE, "-F", "pcap", "-w", &to];
    let _ = lab.run("box", &select, LIMIT).must();
    fit
}

struct Story<'a> {
    day: PathBuf,
    attack: PathBuf,
    lab: &'a Lab,
    appliance: &'a Appliance<'a>,
}

impl Story<'_> {
    fn play(&self, capture: &Path) {
        let capture = capture.display().to_string();
        let intf = format!("--intf1={OUTSIDE}");
        let replay = ["tcpreplay", &intf, "--pps=1000", &capture];
        let _ = self.lab.run("box", &replay, LIMIT).must();
    }

    /// Runs a command until it says `words` with `code`: records arrive when flows end.
    #[track_caller]
    fn until(&self, arguments: &[&str], code: i32, words: &[&str]) -> Outcome {
        let mut outcome = self.appliance.cli(arguments);
        let good = |outcome: &Outcome| {
            outcome.code == Some(code) && words.iter().all(|word| outcome.stdout.contains(word))
        };
        wait_until(LIMIT, || {
            outcome = self.appliance.cli(arguments);
            good(&outcome)
        });
        assert!(good(&outcome), "{words:?}\n{outcome}");
        outcome
    }

    fn flows(&self, filter: &str) -> Vec<Value> {
        let asked = ["flows", "--filter", filter, "--limit", "0"];
        let answer = self.appliance.json(&asked);
        answer["flows"].as_array().cloned().unwrap_or_default()
    }

    fn observe(&self) {
        self.play(&self.day);
        let matrix = ["history", "matrix", "--since", "1h", "--filter", RECORDED];
        // All of it, and not only its beginning.
        let whole = ["5.96 KiB", "3.18 KiB", "2.52 KiB"];
        let matrix = self.until(&matrix, 0, &whole);
        // By bytes, which depend on what was cut.
        let mut lines: Vec<&str> = matrix.stdout.lines().collect();
        lines.sort_unstable();
        assert_golden("recorded-lab-1-matrix.txt", &(lines.join("\n") + "\n"));
    }

    fn learn(&self) {
        let draft = self.lab.directory().join("draft.toml");
        let draft = draft.display().to_string();
        let seen = ["--since", "1h", "--filter", RECORDED];
        let suggest = [&["policy", "suggest", "--out", &draft], &seen[..]].concat();
        let suggested = self.appliance.cli(&suggest).must();
        assert_golden("recorded-lab-2-suggest.txt", &suggested.stdout);
        let simulate = [&["policy", "simulate", &draft, "--enforce"], &seen[..]].concat();
        let simulated = self.appliance.cli(&simulate).must();
        assert_golden("recorded-lab-3-simulate.txt", &simulated.stdout);
        let apply = ["policy", "apply", &draft, "-m", "from a day's work"];
        let _ = self.appliance.cli(&apply).must();
    }

    fn promote(&self, mode: &str, more: &[&str]) {
        for segment in SEGMENTS {
            let promote = ["segments", "promote", segment, "--to", mode];
            let _ = self.appliance.cli(&[&promote[..], more].concat()).must();
        }
    }

    /// The day again and again, until the watch takes for usual what it has seen.
    fn learn_what_is_usual(&self) {
        let learns = || self.appliance.json(&["watch", "list"])["state"]["learning"] == true;
        let watched = wait_until(LIMIT, || {
            self.play(&self.day);
            !learns()
        });
        assert!(watched, "{}", self.appliance.cli(&["watch", "list"]));
        let would_be_denied = "verdict deny or pending deny";
        assert_eq!(self.flows(would_be_denied), [Value::Null; 0]);
    }

    /// While the segments are in test everything passes, and what would not is told. The number of the finding.
    fn be_attacked_in_test(&self) -> String {
        self.play(&self.attack);
        let open = ["watch", "list", "--open", "--severity", "medium"];
        let found = self.until(&open, 0, &["tcp/135"]);
        assert_golden("recorded-lab-4-watch.txt", &found.stdout);
        let list = self.appliance.json(&open);
        let findings = list["findings"].as_array().into_iter().flatten();
        let mut of_rpc = findings.filter(|f| f["sentence"].to_string().contains("tcp/135"));
        let id = of_rpc.next().expect("a finding")["id"].to_string();
        // Whole when its record is: a flow that lives is told as far as it is.
        let shown = self.until(&["watch", "show", &id], 0, &["9 packets, 892 B"]);
        assert_golden("recorded-lab-5-finding.txt", &shown.stdout);
        let readiness = ["segments", "readiness", "domain-controllers"];
        let whole = ["8 flows, were it", "1.59 KiB", "892 B", "229 B", "152 B"];
        let refused = self.until(&readiness, 1, &whole);
        assert_golden("recorded-lab-6-readiness.txt", &refused.stdout);
        id
    }

    fn be_attacked_in_enforce(&self) {
        self.promote("enforce", &["--force", "nothing of it is anybody's work"]);
        self.play(&self.attack);
        let expected = [
            "desk-1 dc-1 tcp/135",
            "desk-1 dc-1 tcp/49163",
            "desk-1 files-1 tcp/139",
        ];
        let mut denied = BTreeSet::new();
        wait_until(LIMIT, || {
            let flows = self.flows("tcp and verdict deny");
            denied = flows.iter().map(edge).collect();
            denied.len() >= expected.len()
        });
        assert!(denied.iter().eq(&expected), "{denied:?}");
        let explained = self
            .appliance
            .cli(&["explain", DESK, DOMAIN_CONTROLLER, "tcp/135"]);
        assert_eq!(explained.code, Some(1), "{explained}");
        // What was seen lately depends on which records have come by now.
        let (told, seen) = explained
            .stdout
            .split_once("\nseen lately:")
            .expect("flows");
        assert_golden("recorded-lab-7-explain.txt", told);
        assert!(seen.contains("deny"), "{explained}");
    }

    /// Holds the host of the finding, as the finding says.
    fn quarantine(&self, finding: &str) {
        let hold = ["watch", "quarantine", finding];
        let dry = self.appliance.cli(&[&hold[..], &["--dry-run"]].concat());
        let dry = dry.must();
        let out = "[[rule]]\nname = \"quarantine:desk-1:out\"\ntier = \"guardrail\"";
        assert!(dry.stdout.contains(out), "{dry}");
        let held = self.appliance.cli(&hold).must();
        assert_golden("recorded-lab-8-quarantine.txt", &held.stdout);
        self.play(&self.attack);
        let smb = "port 445 and src workload desk-1 and verdict deny";
        let cut = wait_until(LIMIT, || !self.flows(smb).is_empty());
        assert!(cut, "{}", self.appliance.cli(&["flows", "--limit", "0"]));
        let epoch = &self.appliance.json(&["policy", "show"])["epoch"];
        let passed = format!("tcp and host {DESK} and verdict allow and epoch = {epoch}");
        assert_eq!(
            self.flows(&passed),
            [Value::Null; 0],
            "nothing of it passes now"
        );
        let shown = self.appliance.cli(&["watch", "show", finding]).must();
        assert_golden("recorded-lab-9-acknowledged.txt", &shown.stdout);
        let _ = self.appliance.cli(&["policy", "log", "--verify"]).must();
    }
}

/// Source, destination and service of a flow over TCP.
fn edge(flow: &Value) -> String {
    let [src, dst] = ["src_name", "dst_name"].map(|key| flow[key].as_str().unwrap_or("?"));
    format!("{src} {dst} tcp/{}", flow["dport"])
}

//! The whole journey on real traffic, by the commands a person types: observe, suggest, simulate, promote, attack, be
//! stopped, investigate, quarantine.
//!
//! ```text
//!   client ──http──► web ──8080──► app ──5432──► db         admin ──ssh──► web, db
//!                     ▲                                       attacker: breaks into web, goes on to app from there
//!                     └──ssh── attacker
//! ```

use std::time::Duration;

use ringfence_tests::command::{Background, Outcome, wait_until};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::lab::{ADMIN, APP, ATTACKER, Appliance, CLIENT, DB, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{segment, service, workloads};

const HOST: &str = env!("CARGO_BIN_EXE_lab-host");
/// What the servers of the lab listen on.
const SERVERS: [(Host, u16); 7] = [
    (WEB, 80),
    (WEB, 22),
    (APP, 8080),
    (APP, 22),
    (DB, 5432),
    (DB, 22),
    (DB, 3389),
];
/// What takes a second, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Who is there, and the services by name: no rule yet, and nothing enforced.
fn inventory() -> String {
    let segments = [
        ("clients", "role=client"),
        ("shop-web", "app=shop, role=web"),
        ("shop-app", "app=shop, role=app"),
        ("shop-db", "app=shop, role=db"),
        ("admins", "role=admin"),
    ];
    let services = [
        ("http", "\"tcp/80\""),
        ("ssh", "\"tcp/22\""),
        ("postgres", "\"tcp/5432\""),
    ];
    [
        workloads(),
        segments
            .map(|(name, select)| segment(name, select, "observe"))
            .concat(),
        services.map(|(name, ports)| service(name, ports)).concat(),
    ]
    .concat()
}

/// A lab that has lived for seconds takes them for its days.
const CONTROL: &str = "\
[history]
flush = \"1s\"

[readiness]
days_min = 0
quiet_days_min = 0

[watch]
learning = \"5s\"
expected_admin = [\"admins\"]
";

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "story::from_observing_to_a_stopped_attack",
        needs: Needs::Namespaces,
        programs: &["ss"],
        show: from_observing_to_a_stopped_attack,
    }]
}

fn from_observing_to_a_stopped_attack() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(inventory()),
        control: CONTROL.to_owned(),
        ..Settings::default()
    });
    let _servers = SERVERS.map(|(host, port)| serve(&lab, host, port));
    let story = Story {
        lab: &lab,
        appliance: &appliance,
    };
    story.observe();
    story.suggest_and_simulate();
    story.promote();
    story.attack();
    story.investigate();
    story.quarantine();
    story.hold_by_finding();
    story.log();
    appliance.finish();
}

fn serve(lab: &Lab, host: Host, port: u16) -> Background {
    let address = format!("{}:{port}", host.v4);
    let log = format!("{}-{port}", host.name);
    lab.start(host.name, &[HOST, "echo-tcp", &address], &log)
}

struct Story<'a> {
    lab: &'a Lab,
    appliance: &'a Appliance<'a>,
}

impl Story<'_> {
    /// Whether a conversation of a second over one connection comes to its good end.
    fn talk(&self, from: Host, to: Host, port: u16) -> bool {
        let address = format!("{}:{port}", to.v4);
        let outcome = self
            .lab
            .run(from.name, &[HOST, "stream-tcp", &address, "1"], LIMIT);
        outcome.stdout.contains("\"end\": \"done\"")
    }

    /// What the shop does all day.
    fn business(&self) {
        for (from, to, port) in [
            (CLIENT, WEB, 80),
            (WEB, APP, 8080),
            (APP, DB, 5432),
            (ADMIN, WEB, 22),
            (ADMIN, DB, 22),
        ] {
            assert!(
                self.talk(from, to, port),
                "{} -> {}:{port}",
                from.name,
                to.name
            );
        }
    }

    /// Runs a command until it says `words` with `code`: records arrive when flows end.
    #[track_caller]
    fn until(&self, arguments: &[&str], code: i32, words: &str) -> Outcome {
        let mut outcome = self.appliance.cli(arguments);
        let good = |outcome: &Outcome| outcome.code == Some(code) && outcome.stdout.contains(words);
        wait_until(LIMIT, || {
            outcome = self.appliance.cli(arguments);
            good(&outcome)
        });
        assert!(good(&outcome), "{words}\n{outcome}");
        outcome
    }

    fn observe(&self) {
        for (host, port) in SERVERS {
            self.lab.await_listener(host.name, "tcp", port);
        }
        self.business();
        for pair in [
            "client -> web",
            "web -> app",
            "app -> db",
            "admin -> db",
            "admin -> web",
        ] {
            let _ = self.until(&["history", "top", "--since", "1h"], 0, pair);
        }
        let matrix = self
            .appliance
            .cli(&["history", "matrix", "--since", "1h", "--filter", "tcp"]);
        // By bytes, which are nearly the same.
        let matrix = matrix.must();
        let mut lines: Vec<&str> = matrix.stdout.lines().collect();
        lines.sort_unstable();
        assert_golden("story-1-matrix.txt", &(lines.join("\n") + "\n"));
    }

    /// The draft comes from what was seen, and denies none of it.
    fn suggest_and_simulate(&self) {
        let draft = self.lab.directory().join("draft.toml");
        let draft = draft.display().to_string();
        let suggested = self
            .appliance
            .cli(&["policy", "suggest", "--since", "1h", "--out", &draft]);
        assert_golden("story-2-suggest.txt", &suggested.must().stdout);
        let checked = self.appliance.cli(&["policy", "check", &draft]);
        assert_golden("story-3-check.txt", &checked.must().stdout);
        let simulated =
            self.appliance
                .cli(&["policy", "simulate", &draft, "--since", "1h", "--enforce"]);
        assert_golden("story-4-simulate.txt", &simulated.must().stdout);
        let applied = self.appliance.cli(&[
            "policy",
            "apply",
            &draft,
            "--confirm",
            "5m",
            "-m",
            "from what was seen",
        ]);
        assert_golden("story-5-apply.txt", &applied.must().stdout);
        let _ = self.appliance.cli(&["policy", "confirm"]).must();
        let again = self.appliance.cli(&["policy", "suggest", "--since", "1h"]);
        assert_golden("story-6-suggest-again.txt", &again.must().stdout);
    }

    /// Observe, test, enforce; and not while something would be denied.
    fn promote(&self) {
        for segment in ["shop-db", "shop-app", "shop-web"] {
            let _ = self
                .appliance
                .cli(&["segments", "promote", segment, "--to", "test"])
                .must();
        }
        assert!(self.talk(CLIENT, DB, 3389), "what is in test passes");
        let would_deny = ["history", "conversations", "--filter", "pending deny"];
        let _ = self.until(&would_deny, 0, "client");
        let refused = self.until(&["segments", "readiness", "shop-db"], 1, "client");
        assert_golden("story-7-readiness.txt", &refused.stdout);
        let refused = self.appliance.cli(&["segments", "promote", "shop-db"]);
        assert_eq!(refused.code, Some(1), "{refused}");
        for segment in ["shop-db", "shop-app", "shop-web"] {
            let promote = ["segments", "promote", segment, "--to", "enforce"];
            let forced = ["--force", "the client's RDP was a mistake"];
            let promoted = self.appliance.cli(&[&promote[..], &forced[..]].concat());
            let _ = promoted.must();
        }
        self.business();
    }

    /// From outside, then from a host that was broken into: SSH keys were found there.
    fn attack(&self) {
        assert!(
            !self.talk(ATTACKER, DB, 5432),
            "the database is out of reach"
        );
        assert!(!self.talk(ATTACKER, WEB, 22), "so is the way in");
        assert!(!self.talk(WEB, APP, 22), "and the way on");
        assert!(self.talk(WEB, APP, 8080), "business goes on");
        let onward = "verdict deny and src workload web and dst workload app";
        let _ = self.until(&["flows", "--filter", onward, "--limit", "0"], 0, "ssh");
    }

    fn investigate(&self) {
        let explained = self.appliance.cli(&["explain", "web", "app", "tcp/22"]);
        assert_eq!(explained.code, Some(1), "{explained}");
        assert_golden("story-8-explain.txt", &explained.stdout);
        let first_seen = [
            "history",
            "first-seen",
            "--since",
            "1h",
            "--filter",
            "verdict deny",
        ];
        let first_seen = self.until(&first_seen, 0, "ssh");
        assert!(first_seen.stdout.contains("10.77.0.66"), "{first_seen}");
        let coverage = self
            .appliance
            .cli(&["history", "coverage", "--since", "1h"]);
        assert_golden("story-9-coverage.txt", &coverage.must().stdout);
    }

    /// What may be in the attacker's hands is held, but for what is needed to look at it.
    fn quarantine(&self) {
        let held = self.appliance.cli(&[
            "quarantine",
            "web",
            "--for",
            "1h",
            "--allow",
            "ssh",
            "--to",
            "admins",
            "-m",
            "broken into",
        ]);
        assert_golden("story-10-quarantine.txt", &held.must().stdout);
        assert!(!self.talk(WEB, APP, 8080), "held");
        assert!(!self.talk(CLIENT, WEB, 80), "from both sides");
        assert!(self.talk(ADMIN, WEB, 22), "but for those who look at it");
        assert!(self.talk(APP, DB, 5432), "and nobody else");
        let _ = self.appliance.cli(&["quarantine", "lift", "web"]).must();
        self.business();
    }

    /// While two segments are back in test for a day's work on them, the attacker comes again, gets into the web server
    /// and from there on to the application. The watch tells both hops as one path, and who is to be held.
    fn hold_by_finding(&self) {
        for segment in ["shop-web", "shop-app"] {
            let demote = ["segments", "demote", segment, "-m", "maintenance"];
            let _ = self.appliance.cli(&demote).must();
        }
        assert!(self.talk(ATTACKER, WEB, 22), "what is in test passes");
        assert!(self.talk(WEB, APP, 22), "and so does the way on");
        let open = ["watch", "list", "--open", "--severity", "high"];
        let found = self.until(&open, 0, "2 hops in a row");
        assert_golden("story-12-watch.txt", &found.stdout);
        let list = self.appliance.json(&open);
        let id = list["findings"][0]["id"].to_string();
        // Whole when its records are: a flow that lives is told as far as it is.
        let shown = self.until(&["watch", "show", &id], 0, "2 answered");
        assert_golden("story-13-finding.txt", &shown.stdout);
        let hold = [
            "watch",
            "quarantine",
            &id,
            "--allow",
            "ssh",
            "--to",
            "admins",
        ];
        let dry = self.appliance.cli(&[&hold[..], &["--dry-run"]].concat());
        let dry = dry.must();
        assert_golden("story-14-dry-run.txt", &dry.stderr);
        let draft = self.lab.file("held.toml", &dry.stdout);
        let checked = ["policy", "check", &draft.display().to_string()];
        let _ = self.appliance.cli(&checked).must();
        assert!(self.talk(WEB, APP, 22), "a draft changes nothing");
        let held = self.appliance.cli(&hold).must();
        assert_golden("story-15-held.txt", &held.stdout);
        assert!(!self.talk(ATTACKER, WEB, 22), "the way in is shut");
        assert!(!self.talk(WEB, APP, 22), "and the way on");
        assert!(!self.talk(CLIENT, WEB, 80), "held is held");
        assert!(self.talk(ADMIN, WEB, 22), "but for those who look at it");
        assert!(self.talk(APP, DB, 5432), "and nobody else");
        let shown = self.appliance.cli(&["watch", "show", &id]).must();
        assert!(shown.stdout.contains("acknowledged"), "{shown}");
        let _ = self.appliance.cli(&["quarantine", "lift", "web"]).must();
        self.business();
    }

    fn log(&self) {
        let log = self.appliance.cli(&["policy", "log"]);
        assert_golden("story-11-log.txt", &log.must().stdout);
        let _ = self.appliance.cli(&["policy", "log", "--verify"]).must();
    }
}

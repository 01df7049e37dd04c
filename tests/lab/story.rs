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
use ringfence_tests::lab::{ADMIN, APP, Appliance, ATTACKER, CLIENT, DB, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

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
/// A connection of a second, and time for a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

const INVENTORY: &str = r#"
[[workload]]
name = "client"
addresses = ["10.77.0.5", "fd77::5"]
labels = { role = "client" }

[[workload]]
name = "web"
addresses = ["10.77.0.10", "fd77::10"]
labels = { app = "shop", role = "web" }

[[workload]]
name = "app"
addresses = ["10.77.0.30", "fd77::30"]
labels = { app = "shop", role = "app" }

[[workload]]
name = "db"
addresses = ["10.77.0.20", "fd77::20"]
labels = { app = "shop", role = "db" }

[[workload]]
name = "admin"
addresses = ["10.77.0.40", "fd77::40"]
labels = { role = "admin" }

[[segment]]
name = "clients"
select = "role=client"
mode = "observe"

[[segment]]
name = "shop-web"
select = "app=shop, role=web"
mode = "observe"

[[segment]]
name = "shop-app"
select = "app=shop, role=app"
mode = "observe"

[[segment]]
name = "shop-db"
select = "app=shop, role=db"
mode = "observe"

[[segment]]
name = "admins"
select = "role=admin"
mode = "observe"

[[service]]
name = "http"
ports = ["tcp/80"]

[[service]]
name = "ssh"
ports = ["tcp/22"]

[[service]]
name = "postgres"
ports = ["tcp/5432"]
"#;

/// A lab that has lived for seconds takes them for its days.
const CONTROL: &str = "\
[history]
engine = \"embedded\"
flush = \"1s\"

[readiness]
days_min = 0
quiet_days_min = 0
";

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "story::from_observing_to_a_stopped_attack",
        needs: Needs::Namespaces,
        programs: &[],
        show: from_observing_to_a_stopped_attack,
    }]
}

fn from_observing_to_a_stopped_attack() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(INVENTORY.to_owned()),
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
        assert!(
            wait_until(LIMIT, || self.talk(CLIENT, WEB, 80)),
            "the servers answer"
        );
        self.business();
        for pair in ["app -> db", "admin -> db", "admin -> web"] {
            let _ = self.until(&["history", "top", "--since", "1h"], 0, pair);
        }
        let matrix = self.appliance.cli(&["history", "matrix", "--since", "1h"]);
        assert_golden("story-1-matrix", &matrix.must().stdout);
    }
}

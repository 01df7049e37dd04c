//! A workload moves while its network is at work: its flows are judged again and cut, and let go on when it is back;
//! nobody else loses a packet; each move is one small publication.

use ringfence_tests::command::{Background, wait_until};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::lab::{ADMIN, APP, Appliance, CLIENT, DB, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};
use serde_json::Value;

use crate::policies::{ALLOW, rule, segment, service, workload};
use crate::streams::{
    LIMIT, SOME, Streams, assert_nothing_lost, await_progress, ended, missed, serve,
};

/// Where the administrator's machine goes.
const NEW_ADDRESS: &str = "10.77.0.41";

/// From, to, over what. Each has a server of its own, which counts for it alone.
const KEPT: [(Host, Host, &str, u16); 6] = [
    (CLIENT, WEB, "udp", 7001),
    (CLIENT, WEB, "tcp", 7002),
    (APP, DB, "udp", 7003),
    (APP, DB, "tcp", 7004),
    (CLIENT, DB, "udp", 7005),
    (APP, WEB, "udp", 7006),
];
/// The flows of the one that moves.
const MOVED: [(Host, Host, &str, u16); 2] = [(ADMIN, DB, "udp", 7011), (ADMIN, WEB, "udp", 7012)];

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "moves::a_move_cuts_the_flows_of_the_moved_address_and_disturbs_nobody_else",
        needs: Needs::Namespaces,
        programs: &["ss"],
        show: a_move_cuts_the_flows_of_the_moved_address_and_disturbs_nobody_else,
    }]
}

/// Everybody but the administrator, who is in the inventory.
fn policy() -> String {
    let ends = [
        ("clients", "shop-web"),
        ("clients", "shop-db"),
        ("shop-app", "shop-web"),
        ("shop-app", "shop-db"),
        ("admins", "shop-web"),
        ("admins", "shop-db"),
    ];
    let rules =
        ends.map(|(from, to)| rule(&format!("{from}-to-{to}"), (from, to), "stream", ALLOW));
    let workloads = [(CLIENT, "client"), (WEB, "web"), (APP, "app"), (DB, "db")];
    let segments = [
        ("clients", "role=client"),
        ("shop-web", "role=web"),
        ("shop-app", "role=app"),
        ("shop-db", "role=db"),
        ("admins", "role=admin"),
    ];
    [
        workloads
            .map(|(host, role)| workload(host, &format!("role = \"{role}\"")))
            .concat(),
        segments
            .map(|(name, select)| segment(name, select, "enforce"))
            .concat(),
        service("stream", "\"tcp/7001-7099\", \"udp/7001-7099\""),
        rules.concat(),
    ]
    .concat()
}

fn inventory(address: &str) -> String {
    format!("name,addresses,label:role\nadmin,{address},admin\n")
}

/// The lab at work.
struct Work<'a> {
    lab: &'a Lab,
    appliance: &'a Appliance<'a>,
    streams: Streams<'a>,
    kept: Vec<Background>,
    moved: Vec<Background>,
    _servers: Vec<Background>,
}

fn a_move_cuts_the_flows_of_the_moved_address_and_disturbs_nobody_else() {
    let lab = Lab::new();
    let file = lab.file("workloads.csv", inventory(ADMIN.v4));
    let appliance = lab.appliance(&Settings {
        policy: Some(policy()),
        control: format!(
            "[inventory]\nfiles = [\"{}\"]\nlook_interval = \"50ms\"\nsettle = \"50ms\"\n",
            file.display()
        ),
        ..Settings::default()
    });
    let in_force = || appliance.json(&["workload", "inventory"])["workloads"] == 1;
    assert!(wait_until(LIMIT, in_force), "{}", appliance.log());
    let work = Work::begin(&lab, &appliance);
    work.move_by_file(&inventory(NEW_ADDRESS), |verdict| verdict == "deny");
    work.goes_on(&[]);
    // Back, and what was cut goes on: the same flows, judged again.
    work.move_by_file(&inventory(ADMIN.v4), |verdict| verdict == "allow");
    work.goes_on(&MOVED);
    work.move_by_hand();
    work.finish();
    appliance.finish();
}

impl<'a> Work<'a> {
    fn begin(lab: &'a Lab, appliance: &'a Appliance<'a>) -> Self {
        let all = KEPT.iter().chain(&MOVED);
        let servers = all.map(|(_, to, over, port)| serve(lab, *to, over, *port));
        let servers = servers.collect();
        let streams = Streams::new(lab);
        let begin = |(from, to, over, port): &(Host, Host, &str, u16)| {
            streams.begin(*from, *to, over, *port)
        };
        let work = Self {
            lab,
            appliance,
            kept: KEPT.iter().map(begin).collect(),
            moved: MOVED.iter().map(begin).collect(),
            streams,
            _servers: servers,
        };
        work.goes_on(&MOVED);
        work
    }

    fn traffic(&self, counter: &str) -> u64 {
        let status = self.appliance.json(&["status"]);
        status["traffic"][counter].as_u64().expect("a counter")
    }

    /// Waits until everybody who is kept has done some more, and whoever moved as well where `moved` names them.
    #[track_caller]
    fn goes_on(&self, moved: &[(Host, Host, &str, u16)]) {
        let moved = self.moved.iter().take(moved.len());
        await_progress(&self.kept.iter().chain(moved).collect::<Vec<_>>());
    }

    /// Another inventory: one publication, and the verdicts of the moved flows alone are others.
    fn move_by_file(&self, inventory: &str, is_new: impl Fn(&str) -> bool) {
        let published = self.publications();
        let [changed, judged] =
            ["flows_verdict_changed", "flows_rejudged"].map(|c| self.traffic(c));
        let beside = self.lab.file("workloads.new", inventory);
        std::fs::rename(beside, self.lab.directory().join("workloads.csv")).expect("renamed");
        let flows = MOVED.len() as u64;
        let all_changed = || self.traffic("flows_verdict_changed") >= changed + flows;
        assert!(wait_until(LIMIT, all_changed), "{}", self.appliance.log());
        let everybody = flows + KEPT.len() as u64;
        let all_judged = || self.traffic("flows_rejudged") >= judged + everybody;
        assert!(wait_until(LIMIT, all_judged), "{}", self.appliance.log());
        assert_eq!(self.traffic("flows_verdict_changed"), changed + flows);

        let after = self.publications();
        let [entry] = &after[published.len()..] else {
            panic!("a move is one publication: {after:#?}")
        };
        assert_eq!(entry["change"], "membership", "{entry}");
        let adoption_us = entry["adoption_us"].as_u64().expect("a time");
        println!("a move of one address was adopted within {adoption_us} us of its publication");
        let explained = self.appliance.cli(&["explain", ADMIN.v4, "db", "udp/7011"]);
        let line = explained
            .stdout
            .lines()
            .find(|line| line.starts_with("verdict"));
        let verdict = line.and_then(|line| line.split_whitespace().nth(1));
        assert!(
            verdict.is_some_and(|word| is_new(word.trim_end_matches(','))),
            "{explained}"
        );
    }

    fn publications(&self) -> Vec<Value> {
        let log = self.appliance.json(&["policy", "log"]);
        log["entries"].as_array().cloned().unwrap_or_default()
    }

    /// The command that a person types says what it did, and how long it took.
    fn move_by_hand(&self) {
        let told = self.appliance.cli(&[
            "workload",
            "set",
            "app",
            "--address",
            APP.v4,
            "--address",
            "10.77.0.31",
            "-m",
            "a second interface",
        ]);
        let told = told.must();
        assert_golden("moves-workload-set.txt", &told.stdout);
        self.goes_on(&MOVED);
    }

    fn finish(mut self) {
        self.streams.end();
        let mut datagrams = Vec::new();
        for ((from, to, over, port), stream) in KEPT.iter().zip(&mut self.kept) {
            let what = format!("{} -> {} {over}/{port}", from.name, to.name);
            let ended = ended(stream);
            assert!(ended["sent"].as_u64() > Some(4 * SOME), "{what}: {ended}");
            if *over == "udp" {
                datagrams.push(ended);
                continue;
            }
            assert_eq!(ended["end"], "done", "{what} is not cut: {ended}");
            assert_eq!(ended["echoed"], ended["sent"], "{what}: {ended}");
        }
        assert_nothing_lost(self.appliance, &datagrams.iter().collect::<Vec<_>>());
        let mut missing = 0;
        for stream in &mut self.moved {
            let ended = ended(stream);
            let [sent, there] = ["sent", "counted_there"].map(|key| ended[key].as_u64());
            let lost = sent.zip(there).map(|(sent, there)| sent - there);
            assert!(lost > Some(0), "it was cut for a while: {ended}");
            missing += lost.unwrap_or_default();
        }
        let drops = self.appliance.json(&["drops"]);
        let denied = |drops: &Value| {
            let rows = drops["drops"].as_array().into_iter().flatten();
            let denied = rows.filter(|row| row["reason"] == "denied-by-default");
            denied
                .filter_map(|row| row["packets"].as_u64())
                .sum::<u64>()
        };
        assert!(
            denied(&drops) + missed(self.appliance) >= missing,
            "what the moved flows lack was denied, and is counted: {missing}, {drops}"
        );
    }
}

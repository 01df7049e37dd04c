//! `policy simulate` and `policy suggest` against a server: what they ask, what they print, how they end.
//! `UPDATE_GOLDEN=1 cargo test -p ringfence --test simulate` writes the files anew; the diff is then reviewed.

#![forbid(unsafe_code)]

mod fixtures;

use api::endpoint::{POLICY_SIMULATE, POLICY_SUGGEST};
use api::simulate::{
    Change, Doubt, DoubtSum, End, Period, SimulateRequest, SimulatedEdge, SimulatedRule,
    Simulation, Tally, Totals, Verdict, Verdicts,
};
use api::suggest::{
    Evidence, Lack, LeftOut, LeftOutWhy, NewSegment, NewService, SuggestRequest, SuggestedRule,
    Suggestion, Watched,
};
use api::words::{Action, Coverage, Mode, VerdictSource};
use api::{ApiError, ErrorCode, Ts};
use axum::http::StatusCode;
use fixtures::server::{Ended, Server};

const DAY_NS: u64 = 86_400_000_000_000;
const FIRST: Ts = Ts(1_767_225_600_000_000_000);
const LAST: Ts = Ts(FIRST.0 + 30 * DAY_NS);
const PROGRESS: &str = "{\"progress\":{\"conversations\":4096,\"of\":8640}}\n";

fn tally(flows: u64) -> Tally {
    Tally {
        conversations: flows.div_ceil(10),
        flows,
        packets: flows * 12,
        bytes: flows * 9_000,
    }
}

fn verdict(action: Action, rule: Option<&str>) -> Verdict {
    Verdict {
        action,
        source: if rule.is_some() {
            VerdictSource::Rule
        } else {
            VerdictSource::Default
        },
        rule: rule.map(Into::into),
    }
}

fn both(verdict: Verdict) -> Verdicts {
    Verdicts {
        enforced: verdict.clone(),
        pending: verdict,
    }
}

fn end(address: &str, workload: Option<&str>, segment: &str) -> End {
    End {
        address: address.parse().expect("an address"),
        name_then: workload.map(Into::into),
        workload: workload.map(Into::into),
        segments: vec![segment.to_owned()],
    }
}

fn edge(change: Change, port: u16, flows: u64) -> SimulatedEdge {
    let after = match change {
        Change::NewlyDenied | Change::StaysDenied => verdict(Action::Deny, None),
        Change::NewlyAllowed | Change::StaysAllowed => verdict(Action::Allow, Some("web-to-db")),
    };
    SimulatedEdge {
        change,
        pending_change: change,
        doubts: Vec::new(),
        src: end("10.0.1.10", Some("web-1"), "web"),
        dst: end("10.0.2.10", Some("db-1"), "db"),
        proto: 6,
        port,
        service: (port == 5432).then(|| "postgres".to_owned()),
        folded: false,
        before: both(verdict(Action::Allow, None)),
        after: both(after),
        other: None,
        mode: Mode::Enforce,
        coverage: Coverage::Uncovered,
        tally: tally(flows),
        first_ts: FIRST,
        last_ts: LAST,
    }
}

fn totals(newly_denied: u64) -> Totals {
    Totals {
        stays_allowed: tally(8_000),
        stays_denied: tally(500),
        newly_denied: tally(newly_denied),
        newly_allowed: tally(0),
        uncertain: tally(30),
        by_other_rule: tally(8_000),
    }
}

fn period() -> Period {
    Period {
        since_ts: Some(Ts(FIRST.0 - DAY_NS)),
        until_ts: None,
        first_ts: Some(FIRST),
        last_ts: Some(LAST),
        kept_since_ts: Some(FIRST),
        is_whole: false,
        engine: "embedded".to_owned(),
    }
}

fn simulation(newly_denied: u64) -> Simulation {
    let uncertain = SimulatedEdge {
        doubts: vec![Doubt::Direction],
        other: Some(both(verdict(Action::Deny, None))),
        proto: 17,
        ..edge(Change::StaysAllowed, 53, 30)
    };
    let rule = |name: &str, flows: u64| SimulatedRule {
        rule: name.into(),
        action: Action::Allow,
        enforced: tally(flows),
        pending: tally(flows),
        uncertain_flows: 0,
        sources: 2,
        destinations: 1,
        first_ts: (flows > 0).then_some(FIRST),
        last_ts: (flows > 0).then_some(LAST),
    };
    let denied = (newly_denied > 0).then(|| edge(Change::NewlyDenied, 22, newly_denied));
    Simulation {
        file_name: "draft.toml".to_owned(),
        revision: "3f9c0ad2b7e1".repeat(6)[..64].to_owned(),
        enforce: false,
        period: period(),
        all: tally(8_530 + newly_denied),
        enforced: totals(newly_denied),
        pending: totals(newly_denied),
        doubts: vec![DoubtSum {
            doubt: Doubt::Direction,
            tally: tally(30),
        }],
        edge_count: 4,
        unlisted: 0,
        matched: 3,
        edges: denied.into_iter().chain([uncertain]).collect(),
        rules: vec![rule("web-to-db", 8_000), rule("office-ssh", 0)],
        took_ms: 12,
    }
}

fn evidence(flows: u64, sure_flows: u64) -> Evidence {
    Evidence {
        flows,
        sure_flows,
        packets: flows * 12,
        bytes: flows * 9_000,
        first_ts: FIRST,
        last_ts: LAST,
        sources: 2,
        destinations: 1,
    }
}

fn suggestion() -> Suggestion {
    Suggestion {
        file_name: "policy.toml".to_owned(),
        revision: "3f9c0ad2b7e1".repeat(6)[..64].to_owned(),
        period: Period {
            is_whole: true,
            ..period()
        },
        watched: Watched {
            length_s: 30 * 86_400,
            hours: 24,
            weekdays: 7,
            edges: 400,
            new_edges: 22,
            lacks: vec![Lack::StillLearning],
        },
        flows: 9_000,
        covered_flows: 1_000,
        beyond: 0,
        segments: vec![NewSegment {
            name: "shop-web".to_owned(),
            select: Some("app=shop, role=web".to_owned()),
            addresses: Vec::new(),
            mode: Mode::Test,
            seen: 2,
            why: "2 of 2 workloads with these labels".to_owned(),
        }],
        services: vec![NewService {
            name: "postgres".to_owned(),
            ports: vec!["tcp/5432".to_owned()],
        }],
        rules: vec![SuggestedRule {
            name: "shop-web-to-postgres".to_owned(),
            from: "shop-web".to_owned(),
            to: vec!["shop-db".to_owned()],
            service: "postgres".to_owned(),
            evidence: evidence(8_000, 8_000),
        }],
        left_out: vec![LeftOut {
            why: LeftOutWhy::Scan,
            src: "10.0.7.7".parse().expect("an address"),
            asked: 254,
            example_dst: "10.0.2.1".parse().expect("an address"),
            example_service: "tcp/22".to_owned(),
            evidence: evidence(254, 254),
        }],
        text: "[policy]\nname = \"shop\"\n".to_owned(),
        took_ms: 40,
    }
}

fn line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

/// A server that tells progress and then this.
fn server(path: &str, last: &str) -> Server {
    let server = Server::start();
    let text = format!("{PROGRESS}{PROGRESS}{last}\n");
    server.raw("POST", path, StatusCode::OK, text);
    server
}

fn simulate(found: &Simulation, more: &[&str]) -> (Ended, String) {
    let server = server(POLICY_SIMULATE, &line(found));
    let draft = server.file("draft.toml", "[policy]\n");
    let arguments = ["policy", "simulate", draft.to_str().expect("UTF-8")];
    let ended = server.run(&[&arguments[..], more].concat());
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    (ended, asked[0].2.clone())
}

#[track_caller]
fn check(name: &str, found: &str) {
    let path = fixtures::golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("golden files can be written");
    }
    assert_eq!(found, fixtures::golden(name), "{name}");
}

#[test]
fn a_simulation_tells_what_would_newly_be_denied_first_and_ends_with_1() {
    let (ended, asked) = simulate(&simulation(4), &["--since", "31d", "--enforce"]);
    check("policy-simulate", &ended.stdout);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    let asked: SimulateRequest = serde_json::from_str(&asked).expect("a request");
    assert_eq!(asked.text.as_deref(), Some("[policy]\n"));
    assert_eq!((asked.since.as_deref(), asked.enforce), (Some("31d"), true));
}

#[test]
fn the_exit_code_is_what_was_asked_for() {
    for (denied, fail_on, code) in [
        (4, "denied", 1),
        (0, "denied", 0),
        (0, "uncertain", 1),
        (0, "changed", 0),
        (4, "changed", 1),
        (4, "never", 0),
    ] {
        let (ended, _) = simulate(&simulation(denied), &["--fail-on", fail_on]);
        assert_eq!(ended.code, Some(code), "{denied} {fail_on}");
    }
    check(
        "policy-simulate-clean",
        &simulate(&simulation(0), &[]).0.stdout,
    );
}

#[test]
fn json_is_the_last_line_byte_for_byte() {
    let odd = line(&simulation(0)).replacen('{', "{ \"later\": 1, ", 1);
    let server = server(POLICY_SIMULATE, &odd);
    let ended = server.run(&["--json", "policy", "simulate", "3f9c0a"]);
    assert_eq!(ended.stdout, format!("{odd}\n"));
    assert!(server.asked()[0].2.contains("\"revision\":\"3f9c0a\""));
}

#[test]
fn a_failure_in_the_middle_is_told_as_a_refusal_is() {
    let error = ApiError::new(ErrorCode::Storage, "the disk is gone");
    let server = server(POLICY_SIMULATE, &line(&api::ErrorBody { error }));
    let ended = server.run(&["policy", "simulate", "3f9c0a"]);
    assert_eq!(ended.code, Some(4));
    assert!(ended.stderr.contains("the disk is gone"), "{ended:?}");
    let broken = Server::start();
    broken.raw("POST", POLICY_SIMULATE, StatusCode::OK, PROGRESS);
    let ended = broken.run(&["policy", "simulate", "3f9c0a"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
}

#[test]
fn a_draft_that_is_neither_a_file_nor_a_revision_is_refused_before_anything_is_asked() {
    let server = Server::start();
    let ended = server.run(&["policy", "simulate", "nowhere.toml"]);
    assert_eq!(ended.code, Some(4));
    assert!(
        ended.stderr.contains("cannot read nowhere.toml"),
        "{ended:?}"
    );
    assert!(server.asked().is_empty());
}

#[test]
fn a_suggestion_tells_its_evidence_and_writes_the_policy() {
    let server = server(POLICY_SUGGEST, &line(&suggestion()));
    let out = server.file("draft.toml", "");
    let out = out.to_str().expect("UTF-8");
    let ended = server.run(&["policy", "suggest", "--name-prefix", "x-", "--out", out]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    check("policy-suggest", &ended.stdout.replace(out, "draft.toml"));
    let written = std::fs::read_to_string(out).expect("a file");
    assert_eq!(written, suggestion().text);
    let asked = server.asked();
    let asked: SuggestRequest = serde_json::from_str(&asked[0].2).expect("a request");
    assert_eq!((asked.name_prefix.as_str(), asked.text), ("x-", None));
}

#[test]
fn a_suggestion_of_nothing_says_so() {
    let nothing = Suggestion {
        rules: Vec::new(),
        segments: Vec::new(),
        services: Vec::new(),
        left_out: Vec::new(),
        watched: Watched {
            lacks: Vec::new(),
            ..suggestion().watched
        },
        ..suggestion()
    };
    let server = server(POLICY_SUGGEST, &line(&nothing));
    check(
        "policy-suggest-nothing",
        &server.run(&["policy", "suggest"]).stdout,
    );
}

//! `ringfence watch`: what it asks, what it prints.

#![forbid(unsafe_code)]

mod fixtures;

use api::flow::FlowId;
use api::quarantine::{Held, QuarantineRequest, QuarantineResult};
use api::watch::{
    BaselineEdges, Cut, CutDeny, DecidedBy, EdgeOutcome, Evidence, Finding, FindingKind,
    FindingReport, FindingSaid, FindingSeverity, FindingState, FindingStateRequest, Findings, Hop,
    HopJudged, KnownEdge, QuarantineOffer, WatchDraft, WatchEnd, WatchState,
};
use api::words::{Action, InitiatorEvidence, VerdictSource};
use api::{ApiError, ErrorCode, Ts, endpoint};
use axum::http::StatusCode;
use cli::page::Page;
use cli::print::watch as print;
use fixtures::foresight::foresight;
use fixtures::server::Server;
use fixtures::{NOON, address};

/// Compares a page with `golden/NAME.txt`.
#[track_caller]
fn check(name: &str, page: &Page) {
    let path = fixtures::golden_path(name);
    let found = page.render(false);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).expect("golden files can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "{name} differs; if it is right, UPDATE_GOLDEN=1"
    );
}

fn ago(seconds: u64) -> Ts {
    Ts(NOON.0 - seconds * 1_000_000_000)
}

fn end(name: &str, at: &str, segment: &str) -> WatchEnd {
    WatchEnd {
        address: address(at),
        name: Some(name.into()),
        segments: vec![segment.into()].into(),
    }
}

fn laptop() -> WatchEnd {
    end("laptop-7", "10.0.0.7", "staff")
}

fn web() -> WatchEnd {
    end("web-1", "10.0.1.10", "shop-web")
}

fn db() -> WatchEnd {
    end("db-1", "10.0.2.10", "shop-db")
}

fn hop(src: WatchEnd, dst: WatchEnd, seconds: u64, rule: Option<&str>) -> Hop {
    Hop {
        src,
        dst,
        proto: 6,
        port: 22,
        service: "ssh".into(),
        first_ts: ago(seconds),
        last_ts: ago(seconds - 60),
        outcome: EdgeOutcome::Answered,
        verdict: Action::Allow,
        verdict_source: rule.map_or(VerdictSource::Default, |_| VerdictSource::Rule),
        rule: rule.map(Into::into),
        initiator_evidence: InitiatorEvidence::Syn,
        technique: Some("T1021.004".to_owned()),
        flow_id: FlowId(0x1200_0000_0000_0000 + seconds),
        flows: 1,
        packets: 120,
        bytes: 20_480,
    }
}

fn chain() -> Finding {
    let hops = vec![
        hop(laptop(), web(), 1900, Some("staff-to-web")),
        hop(web(), db(), 600, None),
    ];
    Finding {
        id: 17,
        kind: FindingKind::Chain,
        severity: FindingSeverity::High,
        learning: false,
        state: FindingState::Open,
        first_ts: ago(1900),
        last_ts: ago(540),
        src: laptop(),
        dst: Some(db()),
        service: None,
        sentence:
            "laptop-7 -> web-1 (ssh) -> db-1 (ssh): 2 hops in a row over novel administrative edges"
                .to_owned(),
        technique: Some("T1021".to_owned()),
        evidence: Evidence {
            flows: 2,
            packets: 240,
            bytes: 40_960,
            answered: 2,
            destinations: 2,
            services: 1,
            flow_ids: hops.iter().map(|h| h.flow_id).collect(),
            decided_by: Vec::new(),
            ..Evidence::default()
        },
        hops,
        hops_left_out: 0,
        remarks: Vec::new(),
        said: Vec::new(),
        change: 40,
    }
}

fn sweep() -> Finding {
    Finding {
        id: 18,
        kind: FindingKind::PortSweep,
        severity: FindingSeverity::Medium,
        state: FindingState::Acknowledged,
        src: web(),
        dst: Some(db()),
        sentence: "web-1 tried 200 ports of db-1 within 5m".to_owned(),
        technique: Some("T1046".to_owned()),
        evidence: Evidence {
            flows: 200,
            packets: 200,
            bytes: 8000,
            unanswered: 180,
            refused: 20,
            destinations: 1,
            services: 200,
            targets: vec!["db-1 tcp/1".to_owned(), "db-1 tcp/2".to_owned()],
            flow_ids: Vec::new(),
            decided_by: vec![DecidedBy {
                verdict: Action::Allow,
                source: VerdictSource::Default,
                rule: None,
                records: 200,
            }],
            ..Evidence::default()
        },
        hops: Vec::new(),
        said: vec![FindingSaid {
            ts: ago(100),
            author: "mira".to_owned(),
            state: FindingState::Acknowledged,
            note: "asked the owner".to_owned(),
        }],
        change: 41,
        ..chain()
    }
}

fn state() -> WatchState {
    WatchState {
        enabled: true,
        since: Some(ago(30 * 86_400)),
        watched_s: 30 * 86_400,
        learning_s: 7 * 86_400,
        edges: 1234,
        edges_max: 200_000,
        findings: 2,
        open: 1,
        records: 250_000,
        ..WatchState::default()
    }
}

fn findings() -> Findings {
    Findings {
        state: state(),
        findings: vec![chain(), sweep()],
        cut: false,
    }
}

fn cut() -> Cut {
    Cut {
        denies: vec![CutDeny {
            from: vec!["shop-web".to_owned()],
            to: vec!["shop-db".to_owned()],
            service: "tcp/22".to_owned(),
            instead: "no rule allows it: it ends by itself when shop-web or shop-db is in enforce"
                .to_owned(),
        }],
        also_denied: 0,
        also_denied_edges: Vec::new(),
        asked_edges: 1230,
        holds: true,
        foresight: foresight("watch-17-cut-1"),
    }
}

fn report() -> FindingReport {
    let judge = |hop: &str, rule: Option<&str>, why: &str| HopJudged {
        hop: hop.to_owned(),
        verdict: Action::Allow,
        source: VerdictSource::Default,
        rule: rule.map(str::to_owned),
        why: why.to_owned(),
    };
    FindingReport {
        finding: chain(),
        judged: vec![
            judge(
                "laptop-7 -> web-1 ssh",
                Some("staff-to-web"),
                "rule staff-to-web of tier application",
            ),
            judge(
                "web-1 -> db-1 ssh",
                None,
                "no rule that takes effect matches and both ends are in observe",
            ),
        ],
        cut: Some(cut()),
        no_cut: None,
        quarantine: Some(QuarantineOffer {
            workload: "web-1".to_owned(),
            addresses: vec!["10.0.1.10".to_owned()],
            for_s: 3_600,
            command: "ringfence watch quarantine 17".to_owned(),
            same: "ringfence quarantine web-1 --for 1h -m 'finding 17'".to_owned(),
            held_until_ts: None,
            foresight: foresight("quarantine:web-1:out"),
        }),
        no_quarantine: None,
        next: vec![
            "ringfence watch quarantine 17".to_owned(),
            "ringfence watch draft 17 > draft.toml".to_owned(),
            "ringfence policy check draft.toml".to_owned(),
        ],
    }
}

fn baseline() -> BaselineEdges {
    let edge = |service: &str, answered, administrative| KnownEdge {
        src: "web-1".to_owned(),
        dst: "db-1".to_owned(),
        service: service.to_owned(),
        first_ts: ago(86_400),
        last_ts: ago(5),
        answered,
        administrative,
    };
    BaselineEdges {
        state: state(),
        edges: vec![
            edge("tcp/5432", true, true),
            edge("tcp/high", true, false),
            edge("tcp/23", false, true),
        ],
        cut: true,
    }
}

#[test]
fn findings_are_one_a_line() {
    check("watch-list", &print::findings(&findings()));
}

#[test]
fn no_findings_while_learning_is_said_to_be_so() {
    let state = WatchState {
        learning: true,
        watched_s: 7200,
        shed: 12,
        error: Some("cannot write watch.json: no space left on device".to_owned()),
        ..state()
    };
    let none = Findings {
        state,
        ..Findings::default()
    };
    check("watch-list-learning", &print::findings(&none));
}

#[test]
fn a_chain_is_shown_with_its_path_its_cut_and_what_to_do() {
    check("watch-show", &print::report(&report()));
}

#[test]
fn a_finding_whose_host_is_held_offers_to_let_it_go() {
    let mut shown = report();
    let lift = "ringfence quarantine lift web-1".to_owned();
    shown.cut = None;
    shown.no_cut = Some("the policy in force already denies it: web-1 -> db-1 ssh".to_owned());
    shown.quarantine = shown.quarantine.map(|offer| QuarantineOffer {
        command: lift.clone(),
        held_until_ts: Some(ago(0)),
        ..offer
    });
    shown.next = vec![lift];
    check("watch-show-held", &print::report(&shown));
}

#[test]
fn a_sweep_without_a_cut_is_shown_with_what_was_said() {
    let shown = FindingReport {
        finding: sweep(),
        judged: Vec::new(),
        cut: None,
        no_cut: Some("no policy whose text is known is in force".to_owned()),
        quarantine: None,
        no_quarantine: Some("10.0.9.9 is no workload of the policy in force".to_owned()),
        next: vec!["ringfence history talkers web-1 --since 1d".to_owned()],
    };
    check("watch-show-sweep", &print::report(&shown));
}

#[test]
fn a_cut_that_hits_what_is_usual_says_what() {
    let hits = Cut {
        also_denied: 11,
        also_denied_edges: vec!["web-1 -> db-1 tcp/5432".to_owned()],
        holds: false,
        ..cut()
    };
    check("watch-cut", &print::cut(&hits));
}

#[test]
fn the_baseline_says_what_is_usual() {
    check("watch-baseline", &print::baseline(&baseline()));
}

#[test]
fn every_part_asks_its_endpoint() {
    let server = Server::start();
    server.json("GET", endpoint::WATCH, &findings());
    server.json("GET", endpoint::WATCH_FINDING, &report());
    server.json("GET", endpoint::WATCH_BASELINE, &baseline());
    server.json("POST", endpoint::WATCH_STATE, &sweep());
    let draft = WatchDraft {
        id: 17,
        base: fixtures::REVISION.to_owned(),
        text: "[[rule]]\n".to_owned(),
        cut: cut(),
    };
    server.json("GET", endpoint::WATCH_DRAFT, &draft);
    for (arguments, asked) in [
        (
            &[
                "watch", "list", "--open", "--kind", "chain", "--since", "1d",
            ][..],
            "/v1/watch?kind=chain&open=true&since=1d",
        ),
        (&["watch", "show", "17"], "/v1/watch/finding?id=17"),
        (
            &["watch", "baseline", "db-1"],
            "/v1/watch/baseline?workload=db-1",
        ),
        (
            &["watch", "ack", "18", "-m", "asked the owner"],
            "/v1/watch/state",
        ),
        (&["watch", "resolve", "18"], "/v1/watch/state"),
        (
            &["watch", "draft", "17", "--quarantine", "web-1"],
            "/v1/watch/draft?id=17&quarantine=web-1",
        ),
    ] {
        let ended = server.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        assert!(!ended.stdout.is_empty(), "{arguments:?}");
        let questions = server.asked();
        assert_eq!(questions[0].1, asked, "{arguments:?}");
        let json = server.run(&[arguments, &["--json"]].concat());
        let value: Result<serde_json::Value, _> = serde_json::from_str(&json.stdout);
        assert!(value.is_ok(), "{arguments:?}");
        server.asked();
    }
}

#[test]
fn a_draft_is_the_text_alone_and_what_it_does_is_told_beside_it() {
    let server = Server::start();
    let draft = WatchDraft {
        id: 17,
        base: fixtures::REVISION.to_owned(),
        text: "[[rule]]\nname = \"watch-17-1\"\n".to_owned(),
        cut: cut(),
    };
    server.json("GET", endpoint::WATCH_DRAFT, &draft);
    let ended = server.run(&["watch", "draft", "17"]);
    assert_eq!(ended.stdout, draft.text);
    assert!(
        ended.stderr.contains("deny shop-web -> shop-db on tcp/22"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_finding_is_answered_by_holding_its_host() {
    let server = Server::start();
    let mut result = QuarantineResult {
        held: Held {
            workload: "web-1".to_owned(),
            until_ts: Ts(NOON.0 + 3_600_000_000_000),
            ..Held::default()
        },
        addresses: vec!["10.0.1.10".to_owned()],
        text: "[[rule]]\n".to_owned(),
        applied: Some(fixtures::applied()),
        foresight: foresight("quarantine:web-1:out"),
    };
    server.json("POST", endpoint::QUARANTINE, &result);
    let asked = |line: &[&str]| {
        let ended = server.run(line);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let questions = server.asked();
        let (_, _, body) = questions.iter().find(|(m, ..)| m == "POST").expect("one");
        serde_json::from_str::<QuarantineRequest>(body).expect("a request")
    };
    let request = asked(&["watch", "quarantine", "17"]);
    assert_eq!((request.finding, &*request.workload), (Some(17), ""));
    assert_eq!((request.for_s, request.dry_run), (3_600, false));
    result.applied = None;
    server.json("POST", endpoint::QUARANTINE, &result);
    let line = [
        "watch",
        "quarantine",
        "17",
        "--workload",
        "db-1",
        "--for",
        "8h",
        "--allow",
        "ssh",
        "--since",
        "7d",
        "--dry-run",
    ];
    let request = asked(&line);
    assert_eq!((&*request.workload, request.for_s), ("db-1", 8 * 3_600));
    assert_eq!(
        (&request.allow[..], request.dry_run),
        (&["ssh".to_owned()][..], true)
    );
    assert_eq!(request.since.as_deref(), Some("7d"));
}

#[test]
fn who_acknowledges_says_why() {
    let server = Server::start();
    server.json("POST", endpoint::WATCH_STATE, &sweep());
    let ended = server.run(&["watch", "ack", "18", "-m", "asked the owner"]);
    assert!(
        ended.stdout.starts_with("finding 18 is acknowledged"),
        "{}",
        ended.stdout
    );
    let body = &server.asked()[0].2;
    let request: FindingStateRequest = serde_json::from_str(body).expect("a request");
    assert_eq!(
        (request.id, request.state, &*request.note),
        (18, FindingState::Acknowledged, "asked the owner")
    );
}

#[test]
fn following_prints_a_line_a_finding_until_control_ends() {
    let server = Server::start();
    let lines: Vec<String> = [chain(), sweep()]
        .iter()
        .map(|finding| serde_json::to_string(finding).expect("JSON") + "\n")
        .collect();
    server.raw(
        "GET",
        endpoint::WATCH_FOLLOW,
        StatusCode::OK,
        lines.concat(),
    );
    let ended = server.run(&["watch", "--severity", "medium"]);
    assert_eq!(ended.code, Some(3), "control ended: {}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
    assert_eq!(server.asked()[0].1, "/v1/watch/follow?severity=medium");
}

#[test]
fn a_finding_that_is_not_there_is_said_to_be_so() {
    let server = Server::start();
    let error = ApiError::new(ErrorCode::NotFound, "there is no finding 99");
    server.refuse("GET", endpoint::WATCH_FINDING, error);
    let ended = server.run(&["watch", "show", "99"]);
    assert_eq!(ended.code, Some(4));
    assert!(
        ended.stderr.contains("there is no finding 99"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        server.run(&["watch", "list", "--kind", "worm"]).code,
        Some(2)
    );
}

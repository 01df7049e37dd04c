//! Segments on their way and workloads that are held, by the command.
//! `UPDATE_GOLDEN=1` writes the golden files anew.

#![forbid(unsafe_code)]

mod fixtures;

use api::foresight::Foresight;
use api::quarantine::{Held, QuarantineResult, Quarantines};
use api::readiness::{Lacking, Readiness, SegmentReadiness, Unexpected};
use api::words::Mode;
use api::{ApiError, ErrorCode, ErrorDetail, Ts, endpoint};
use cli::print;
use fixtures::NOON;
use fixtures::foresight::foresight;
use fixtures::server::Server;

#[track_caller]
fn check(name: &str, found: &str) {
    let path = fixtures::golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("golden files can be written");
    }
    assert_eq!(found, fixtures::golden(name), "{name}");
}

const DAY_S: u64 = 86_400;

fn ago(seconds: u64) -> Ts {
    Ts(NOON.0 - seconds * 1_000_000_000)
}

fn unexpected(src: &str, service: &str, flows: u64, ago_s: u64) -> Unexpected {
    Unexpected {
        src: src.parse().expect("an address"),
        dst: "10.0.2.20".parse().expect("an address"),
        src_name: (src == "10.0.1.10").then(|| "web-1".into()),
        dst_name: Some("db-1".into()),
        service: service.into(),
        rule: (service == "ssh").then(|| "no-ssh".into()),
        flows,
        bytes: flows * 5_000,
        last_ts: ago(ago_s),
    }
}

fn segments() -> Vec<SegmentReadiness> {
    let ready = SegmentReadiness {
        segment: "shop-web".into(),
        mode: Mode::Observe,
        next: Some(Mode::Test),
        ready: true,
        mode_since_ts: Some(ago(20 * DAY_S)),
        first_ts: Some(ago(12 * DAY_S)),
        watched_s: 12 * DAY_S,
        flows: 120_000,
        covered_flows: 119_000,
        would_deny_flows: 0,
        last_unexpected: None,
        conversations: Vec::new(),
        lacking: Vec::new(),
    };
    let lacks = |threshold: &str, what: &str, mend: &str| Lacking {
        threshold: threshold.into(),
        what: what.into(),
        mend: mend.into(),
    };
    let not = SegmentReadiness {
        segment: "shop-db".into(),
        mode: Mode::Test,
        next: Some(Mode::Enforce),
        ready: false,
        watched_s: 9 * DAY_S,
        flows: 80_000,
        covered_flows: 79_958,
        would_deny_flows: 42,
        last_unexpected: Some(unexpected("10.0.1.10", "tcp/9100", 1, 90_000)),
        conversations: vec![
            unexpected("10.9.9.9", "ssh", 40, 2 * DAY_S),
            unexpected("10.0.1.10", "tcp/9100", 2, 90_000),
        ],
        lacking: vec![
            lacks(
                "readiness.would_deny_flows_max",
                "42 flows of the last 30 days would be denied, at most 0",
                "allow them, or stop them: `ringfence segments readiness shop-db`",
            ),
            lacks(
                "readiness.quiet_days_min",
                "the last flow that would be denied was 1.0 days ago, at least 3 days",
                "wait, once it is allowed or stopped",
            ),
        ],
        ..ready.clone()
    };
    let done = SegmentReadiness {
        segment: "admin".into(),
        mode: Mode::Enforce,
        next: None,
        ready: false,
        ..ready.clone()
    };
    vec![ready, not, done]
}

#[test]
fn readiness_is_a_table_or_one_segment_with_what_is_missing() {
    let all = segments();
    check("readiness", &print::readiness(&all, NOON).render(false));
    for (at, name) in [(0, "readiness-ready"), (1, "readiness-not")] {
        let page = print::segment_readiness(&all[at], NOON);
        check(name, &page.render(false));
    }
    let server = Server::start();
    let mut answer = Readiness {
        segments: all,
        ..Readiness::default()
    };
    server.json("GET", endpoint::SEGMENTS_READINESS, &answer);
    assert_eq!(server.run(&["segments", "readiness"]).code, Some(0));
    answer.segments.remove(0);
    answer.segments.truncate(1);
    server.json("GET", endpoint::SEGMENTS_READINESS, &answer);
    let ended = server.run(&["segments", "readiness", "shop-db"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stdout
            .starts_with("shop-db is not ready for enforce\n"),
        "{ended:?}"
    );
}

#[test]
fn promote_and_demote_ask_for_a_mode_and_end_with_1_where_something_is_missing() {
    let server = Server::start();
    server.json("POST", endpoint::SEGMENTS_MODE, &fixtures::applied());
    let asked = |arguments: &[&str]| {
        let _ = server.asked();
        let ended = server.run(&[&["--json", "segments"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let body = &server.asked()[0].2;
        serde_json::from_str::<api::readiness::ModeRequest>(body).expect("a ModeRequest")
    };
    let on = asked(&[
        "promote",
        "shop-db",
        "--to",
        "enforce",
        "--force",
        "4711",
        "--confirm",
        "5m",
    ]);
    assert_eq!(
        (on.demote, on.to, on.confirm_s),
        (false, Some(Mode::Enforce), Some(300))
    );
    assert_eq!(on.force.as_deref(), Some("4711"));
    let back = asked(&["demote", "shop-db", "-m", "forgotten"]);
    assert_eq!(
        (back.demote, back.to, &*back.note),
        (true, None, "forgotten")
    );

    let mut error = ApiError::new(
        ErrorCode::NotReady,
        "segment shop-db is not ready for enforce",
    );
    error.details.push(ErrorDetail {
        file: "shop-db".into(),
        what: "watched 2.0 days in test, at least 7 days (readiness.days_min)".into(),
        mend: "wait".into(),
        ..ErrorDetail::default()
    });
    server.refuse("POST", endpoint::SEGMENTS_MODE, error);
    let ended = server.run(&["segments", "promote", "shop-db"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    check("promote-not-ready", &ended.stderr);
    assert_eq!(
        server
            .run(&["segments", "promote", "x", "--to", "deny"])
            .code,
        Some(2)
    );
}

fn held(workload: &str, left_s: u64) -> Held {
    Held {
        workload: workload.into(),
        allow: vec!["ssh".into(), "dns".into()],
        to: Some("admin".into()),
        since_ts: NOON,
        until_ts: Ts(NOON.0 + left_s * 1_000_000_000),
        author: "mira".into(),
        note: "incident 4711".into(),
    }
}

#[test]
fn a_quarantine_is_one_command_and_a_dry_run_prints_the_policy() {
    let server = Server::start();
    let mut result = QuarantineResult {
        held: held("web-1", 3_600),
        addresses: vec!["10.0.1.10".into(), "fd00:1::10".into()],
        text: "[[rule]]\nname = \"quarantine:web-1:out\"\n".into(),
        applied: Some(fixtures::applied()),
        foresight: foresight("quarantine:web-1:out"),
    };
    check("quarantine", &print::quarantined(&result).render(false));
    server.json("POST", endpoint::QUARANTINE, &result);
    let line = [
        "quarantine",
        "web-1",
        "--for",
        "1h",
        "--allow",
        "ssh",
        "--allow",
        "dns",
        "--to",
        "admin",
    ];
    let ended = server.run(&line);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert!(
        ended
            .stdout
            .starts_with("web-1 is held until 2026-01-31 13:00:00 UTC\n")
    );
    let asked = server.asked();
    let (_, _, body) = asked
        .iter()
        .find(|(m, _, _)| m == "POST")
        .expect("a question");
    let request: api::quarantine::QuarantineRequest = serde_json::from_str(body).expect("JSON");
    assert_eq!((request.for_s, request.allow.len()), (3_600, 2));
    result.applied = None;
    server.json("POST", endpoint::QUARANTINE, &result);
    let ended = server.run(&[&line[..], &["--dry-run"]].concat());
    assert_eq!(ended.stdout, result.text);
    let cuts = "would cut    1,200 flows in 120 conversations that pass now";
    assert!(ended.stderr.contains(cuts), "{}", ended.stderr);
    let told = print::quarantine_foresight(&result).render(false);
    assert_eq!(ended.stderr, told);
    for (name, foresight) in [
        (
            "quarantine-unknown",
            Foresight::unknown("history is off".to_owned()),
        ),
        ("quarantine-empty", Foresight::default()),
    ] {
        result.foresight = foresight;
        check(name, &print::quarantine_foresight(&result).render(false));
    }
    for wrong in [
        &["quarantine", "web-1"][..],
        &["quarantine", "--for", "1h"],
        &["quarantine", "web-1", "--for", "soon"],
        &["quarantine", "web-1", "--for", "1h", "--to", "admin"],
    ] {
        assert_eq!(server.run(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn who_is_held_is_listed_and_let_go() {
    let server = Server::start();
    let list = Quarantines {
        held: vec![
            held("web-1", 3_540),
            Held {
                allow: Vec::new(),
                to: None,
                ..held("db-1", 2 * DAY_S)
            },
        ],
    };
    check(
        "quarantine-list",
        &print::quarantines(&list, NOON).render(false),
    );
    server.json("GET", endpoint::QUARANTINE, &Quarantines::default());
    let ended = server.run(&["quarantine", "list"]);
    assert_eq!(ended.stdout, "no workload is in quarantine\n");
    server.json("POST", endpoint::QUARANTINE_LIFT, &fixtures::applied());
    let ended = server.run(&["quarantine", "lift", "web-1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .stdout
            .starts_with("the policy without the quarantine of web-1 is in force\n")
    );
}

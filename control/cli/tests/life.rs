//! The policy's life by the command: what is asked, what is printed, how it ends.
//! `UPDATE_GOLDEN=1` writes the golden files anew.

#![forbid(unsafe_code)]

mod fixtures;

use api::life::{BrokenEntry, Confirmed, LogVerification, Peer, Unconfirmed};
use api::policy::{Outcome, PolicyChange, PolicyLogEntry};
use api::{ApiError, ErrorCode, Ports, endpoint};
use cli::page::Page;
use cli::print;
use fixtures::NOON;
use fixtures::server::Server;

#[track_caller]
fn check(name: &str, found: &str) {
    let path = fixtures::golden_path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("golden files can be written");
    }
    assert_eq!(found, fixtures::golden(name), "{name}");
}

fn waiting() -> Unconfirmed {
    Unconfirmed {
        fallback_revision: "a0d3e8f1b2c4d6e8".into(),
        due_ts: api::Ts(NOON.0 + 252_000_000_000),
        left_s: 252,
        error: None,
    }
}

fn head() -> String {
    "5a0c8e3fd2b1".repeat(6)[..64].to_owned()
}

#[test]
fn a_policy_that_waits_says_so_wherever_it_is_shown() {
    let mut applied = fixtures::applied();
    applied.unconfirmed = Some(waiting());
    let mut policy = fixtures::policy();
    policy.unconfirmed = Some(waiting());
    let mut status = fixtures::status();
    status.policy.unconfirmed = Some(Unconfirmed {
        left_s: 0,
        error: Some("the dataplane is not connected".into()),
        ..waiting()
    });
    let status = print::status(print::Overview {
        status: &status,
        ports: &Ports::default(),
        now: NOON,
    });
    let line = |page: &Page| {
        let text = page.render(false);
        let mut found = text.lines().filter(|l| l.starts_with("unconfirmed"));
        found.next().expect("a line").to_owned()
    };
    let pages = [
        line(&print::applied("policy.toml", &applied)),
        line(&print::policy_in_force(&policy)),
        line(&status),
    ];
    check("policy-waits", &(pages.join("\n") + "\n"));
}

#[test]
fn confirm_and_revert_ask_their_endpoints() {
    let server = Server::start();
    let confirmed = Confirmed {
        revision: fixtures::REVISION.into(),
        fallback_revision: "a0d3e8f1b2c4d6e8".into(),
        left_s: 252,
    };
    server.json("POST", endpoint::POLICY_CONFIRM, &confirmed);
    server.json("POST", endpoint::POLICY_REVERT, &fixtures::applied());
    let ended = server.run(&["policy", "confirm", "3f9c", "-m", "all is well"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    check("policy-confirm", &ended.stdout);
    let (_, path, body) = server.asked().remove(0);
    assert_eq!(path, endpoint::POLICY_CONFIRM);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (&body["revision"], &body["note"]),
        (&"3f9c".into(), &"all is well".into())
    );
    let ended = server.run(&["policy", "revert", "-m", "the shop is down"]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stdout.starts_with("the policy before is in force\n"),
        "{ended:?}"
    );
    let asked = server.asked();
    assert!(
        asked
            .iter()
            .any(|(_, path, _)| path == endpoint::POLICY_REVERT),
        "{asked:?}"
    );

    let nothing = ApiError::new(ErrorCode::Conflict, "no policy waits for its confirmation");
    server.refuse("POST", endpoint::POLICY_CONFIRM, nothing);
    let ended = server.run(&["policy", "confirm"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains("no policy waits"), "{ended:?}");
}

#[test]
fn apply_passes_its_terms_on() {
    let server = Server::start();
    let file = server.file("policy.toml", "");
    let file = file.to_str().expect("UTF-8");
    let terms = ["--confirm", "5m", "--if-revision", "3f9c0ad2"];
    let ended = server.run(&[&["--json", "policy", "apply", file][..], &terms].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let request: api::policy::ApplyRequest =
        serde_json::from_str(&server.asked()[0].2).expect("an ApplyRequest");
    assert_eq!(request.confirm_s, Some(300));
    assert_eq!(request.if_revision.as_deref(), Some("3f9c0ad2"));
    for wrong in ["0s", "5", "1500ms", "2d", "soon"] {
        let ended = server.run(&["policy", "apply", file, "--confirm", wrong]);
        assert_eq!(ended.code, Some(2), "{wrong}: {ended:?}");
    }
    assert!(server.asked().is_empty(), "nothing was asked");
}

#[test]
fn a_broken_log_is_told_with_its_first_broken_entry_and_ends_with_1() {
    let server = Server::start();
    let mut found = LogVerification {
        intact: true,
        entries: 41,
        entries_before: 2,
        head: head(),
        head_kept: true,
        broken: None,
    };
    server.json("GET", endpoint::POLICY_LOG_VERIFY, &found);
    let ended = server.run(&["policy", "log", "--verify", "--head", "5a0c8e3fd2b1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    check("log-intact", &ended.stdout);
    assert!(server.asked()[0].1.ends_with("?head=5a0c8e3fd2b1"));
    found.intact = false;
    found.entries = 1;
    found.head_kept = false;
    found.broken = Some(BrokenEntry {
        line: 4,
        seq: Some(2),
        ts: Some(NOON),
        change: Some(PolicyChange::Rollback),
        what: "was changed: its hash is not that of its words".into(),
    });
    server.json("GET", endpoint::POLICY_LOG_VERIFY, &found);
    let ended = server.run(&["policy", "log", "--verify"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    check("log-broken", &ended.stdout);
    assert_eq!(
        server.run(&["policy", "log", "--head", "5a0c"]).code,
        Some(2)
    );
}

#[test]
fn the_log_names_the_user_of_the_socket_where_that_is_not_the_author() {
    let mut log = fixtures::policy_log();
    let peer = |uid, user: &str| {
        Some(Peer {
            uid,
            user: user.into(),
            pid: Some(4711),
        })
    };
    let first = log.entries[0].clone();
    log.entries[0].peer = peer(0, "root");
    log.entries[1].peer = peer(1000, "mira");
    log.entries.push(PolicyLogEntry {
        change: PolicyChange::Confirm,
        outcome: Outcome::Done,
        epoch: 0,
        author: String::new(),
        peer: peer(1001, ""),
        adoption_us: None,
        ..first
    });
    check("log-users", &print::policy_log(&log).render(false));
}

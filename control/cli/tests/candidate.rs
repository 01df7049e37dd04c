//! Candidates by the command. `UPDATE_GOLDEN=1` writes the golden files anew.

#![forbid(unsafe_code)]

mod fixtures;

use api::candidate::{Candidate, CandidateCounts, CandidateRequest, Candidates, ChangedFlow, Turn};
use api::words::{Action, VerdictSource};
use api::{Ts, endpoint};
use axum::http::StatusCode;
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

fn candidate(name: &str, deny_newly: u64) -> Candidate {
    Candidate {
        name: name.into(),
        revision: fixtures::REVISION.into(),
        file_name: "draft.toml".into(),
        author: "mira".into(),
        note: "for next week".into(),
        added_ts: Ts(NOON.0 - 3 * 86_400_000_000_000),
        counts: CandidateCounts {
            flows: 120_000,
            deny_newly,
            allow_newly: 3,
            uncertain: 41,
            lost_records: 0,
            watch_shed: 0,
        },
        watchers: 0,
        error: None,
    }
}

#[test]
fn candidates_are_added_listed_and_removed() {
    let server = Server::start();
    let mut broken = candidate("old", 0);
    broken.error = Some("the text of revision 3f9c is gone".into());
    let list = Candidates {
        candidates: vec![candidate("draft", 12), broken],
        candidates_max: 3,
    };
    check("candidates", &print::candidates(&list, NOON).render(false));
    server.json("GET", endpoint::CANDIDATES, &Candidates::default());
    let ended = server.run(&["policy", "candidate", "list"]);
    assert!(ended.stdout.starts_with("no candidates"), "{ended:?}");
    server.json("POST", endpoint::CANDIDATES, &candidate("draft", 0));
    let file = server.file("draft.toml", "# empty\n");
    let file = file.to_str().expect("UTF-8");
    let _ = server.asked();
    let ended = server.run(&["policy", "candidate", "add", file, "--name", "draft"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    check("candidate-added", &ended.stdout);
    let request: CandidateRequest =
        serde_json::from_str(&server.asked()[0].2).expect("a CandidateRequest");
    assert_eq!((&*request.name, &*request.text), ("draft", "# empty\n"));
    server.json("POST", endpoint::CANDIDATES_REMOVE, &candidate("draft", 12));
    let ended = server.run(&["policy", "candidate", "remove", "draft"]);
    check("candidate-removed", &ended.stdout);
    server.json("POST", endpoint::CANDIDATES_PROMOTE, &fixtures::applied());
    let ended = server.run(&["policy", "candidate", "promote", "draft", "--confirm", "5m"]);
    assert!(
        ended.stdout.starts_with("candidate draft is in force\n"),
        "{ended:?}"
    );
}

#[test]
fn changed_flows_are_printed_as_they_come() {
    let server = Server::start();
    let changed = ChangedFlow {
        turn: Turn::DenyNewly,
        candidate_verdict: Action::Deny,
        candidate_source: VerdictSource::Rule,
        candidate_rule: Some("no-telnet".into()),
        uncertain: true,
        flow: fixtures::allowed(),
    };
    let mut other = changed.clone();
    (other.turn, other.candidate_rule, other.uncertain) = (Turn::AllowNewly, None, false);
    let lines: String = [&changed, &other]
        .map(|flow| serde_json::to_string(flow).expect("JSON") + "\n")
        .concat();
    server.raw(
        "GET",
        endpoint::CANDIDATES_WATCH,
        StatusCode::OK,
        lines.clone(),
    );
    let ended = server.run(&["policy", "watch", "draft"]);
    assert_eq!(ended.code, Some(3), "the server ended: {ended:?}");
    check("policy-watch", &ended.stdout);
    assert!(server.asked()[0].1.contains("name=draft"));
    let ended = server.run(&["--json", "policy", "watch", "draft"]);
    assert_eq!(ended.stdout, lines);
    let tsv = format!("{}\n{}\n", ChangedFlow::tsv_header(), changed.tsv_row());
    let columns = |line: &str| line.split('\t').count();
    assert_eq!(
        columns(&ChangedFlow::tsv_header()),
        columns(&changed.tsv_row())
    );
    server.raw(
        "GET",
        endpoint::CANDIDATES_WATCH,
        StatusCode::OK,
        tsv.clone(),
    );
    assert_eq!(
        server.run(&["policy", "watch", "draft", "--tsv"]).stdout,
        tsv
    );
}

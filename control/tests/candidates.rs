//! Candidates are judged beside the policy in force: the control process against a played dataplane.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use api::candidate::{Candidate, CandidateName, CandidateRequest, Candidates, ChangedFlow, Turn};
use api::error::{ApiError, ErrorCode};
use api::policy::{ApplyResult, PolicyChange, PolicyInForce, PolicyLog};
use std::io::{BufRead, BufReader};
use support::{Client, POLICY, denied, record, with_dataplane};

fn add(client: &Client, name: &str, text: &str) -> Result<Candidate, (u16, ApiError)> {
    let request = CandidateRequest {
        name: name.into(),
        text: text.into(),
        file_name: "drafts/next.toml".into(),
        author: "ada".into(),
        ..CandidateRequest::default()
    };
    client.post(api::endpoint::CANDIDATES, &request)
}

fn list(client: &Client) -> Vec<Candidate> {
    client
        .get::<Candidates>(api::endpoint::CANDIDATES)
        .candidates
}

/// Waits until a candidate has judged so many flows.
#[track_caller]
fn judged(client: &Client, name: &str, flows: u64) -> Candidate {
    client.wait("judged", |_| {
        let all = list(client);
        all.iter()
            .any(|c| c.name == name && c.counts.flows >= flows)
    });
    list(client).into_iter().find(|c| c.name == name).unwrap()
}

/// No flow to the database, and ssh to it.
fn draft() -> String {
    POLICY.replace("tcp/5432", "tcp/22")
}

#[test]
fn candidates_are_judged_on_the_flows_that_are_told_counted_and_watched() {
    let (mut control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    assert_eq!(add(&control.client, "", &draft()).unwrap().name, "next");
    add(&control.client, "same", POLICY).unwrap();
    let path = "/v1/policy/candidates/watch?name=next";
    let stream = control.client.open("GET", path, "");
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}

    let image = dataplane.image();
    for number in 0..20 {
        let mut r = record(Some(&image), number);
        r.begins = 1;
        assert!(dataplane.push(usize::from(number % 2), &r));
    }
    let mut ssh = denied(&image, 99);
    ssh.begins = 1;
    assert!(dataplane.push(0, &ssh));
    let next = judged(&control.client, "next", 21).counts;
    assert_eq!((next.flows, next.deny_newly, next.allow_newly), (21, 20, 1));
    assert_eq!((next.uncertain, next.lost_records), (0, 0));
    let same = judged(&control.client, "same", 21).counts;
    assert_eq!((same.deny_newly, same.allow_newly), (0, 0));
    let mut turns = [0, 0];
    for _ in 0..21 {
        let line = lines.next().unwrap().unwrap();
        let changed: ChangedFlow = serde_json::from_str(&line).unwrap();
        assert_eq!(changed.flow.src_name.as_deref(), Some("web-1"));
        match changed.turn {
            Turn::DenyNewly => turns[0] += 1,
            Turn::AllowNewly => {
                turns[1] += 1;
                assert_eq!(changed.candidate_rule.as_deref(), Some("web-to-db"));
            }
        }
    }
    assert_eq!(turns, [20, 1]);
    // Kept over a restart, with what was counted.
    control.stop();
    control.start();
    control.client.wait_running();
    assert_eq!(judged(&control.client, "next", 21).counts, next);
    let mut r = record(Some(&image), 30);
    (r.begins, r.flow_id) = (1, 4711);
    assert!(dataplane.push(0, &r));
    assert_eq!(judged(&control.client, "next", 22).counts.deny_newly, 21);
}

#[test]
fn candidates_are_few_named_logged_and_promoted() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let (code, error) = add(client, "wrong", "mood = 1\n").unwrap_err();
    assert_eq!((code, error.code), (422, ErrorCode::InvalidPolicy));
    assert_eq!(add(client, "no name", POLICY).unwrap_err().0, 400);
    for name in ["one", "two", "three", "two"] {
        add(client, name, &draft()).unwrap();
    }
    let (code, error) = add(client, "four", POLICY).unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::Conflict));
    assert!(error.message.contains("one, two, three"), "{error}");
    let remove = CandidateName {
        name: "one".into(),
        author: "ada".into(),
        ..CandidateName::default()
    };
    let removed = |request: &CandidateName| {
        client.post::<Candidate>(api::endpoint::CANDIDATES_REMOVE, request)
    };
    assert_eq!(removed(&remove).unwrap().name, "one");
    assert_eq!(removed(&remove).unwrap_err().0, 404);
    assert_eq!(dataplane.published(), [1], "candidates are not published");
    let promote = CandidateName {
        name: "two".into(),
        confirm_s: Some(600),
        ..remove
    };
    let path = api::endpoint::CANDIDATES_PROMOTE;
    let applied: ApplyResult = client.post(path, &promote).unwrap();
    assert!(applied.unconfirmed.is_some());
    let in_force: PolicyInForce = client.get("/v1/policy");
    assert_eq!(in_force.text, draft());
    assert!(
        in_force.note.starts_with("candidate two: 0 flows judged"),
        "{in_force:?}"
    );
    let log: PolicyLog = client.get("/v1/policy/log");
    let kinds: Vec<_> = log.entries.iter().map(|e| e.change).collect();
    for kind in [PolicyChange::CandidateAdd, PolicyChange::CandidateRemove] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(
        client
            .ask("GET", "/v1/policy/candidates/watch?name=four", "")
            .0,
        404
    );
}

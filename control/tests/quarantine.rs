//! A workload is held for a time, and segments move on or back: the control process against a played
//! dataplane.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use abi::VerdictSource;
use api::error::{ApiError, ErrorCode};
use api::foresight::Foresight;
use api::life::RevertRequest;
use api::policy::{
    ApplyRequest, ApplyResult, Outcome, PolicyChange, PolicyInForce, PolicyLog, Segments,
};
use api::quarantine::{LiftRequest, QuarantineRequest, QuarantineResult, Quarantines};
use api::readiness::{ModeRequest, Readiness};
use api::words::{Action, Mode};
use support::{Behaviour, Box, Client, POLICY, TestDataplane, record, with_dataplane};

fn hold(
    client: &Client,
    workload: &str,
    for_s: u64,
    allow: &[&str],
) -> Result<QuarantineResult, (u16, ApiError)> {
    let request = QuarantineRequest {
        workload: workload.into(),
        for_s,
        allow: allow.iter().map(ToString::to_string).collect(),
        author: "ada".into(),
        note: "incident 4711".into(),
        ..QuarantineRequest::default()
    };
    client.post(api::endpoint::QUARANTINE, &request)
}

fn lift(client: &Client, workload: &str) -> Result<ApplyResult, (u16, ApiError)> {
    let request = LiftRequest {
        workload: workload.into(),
        author: "ada".into(),
        ..LiftRequest::default()
    };
    client.post(api::endpoint::QUARANTINE_LIFT, &request)
}

fn held(client: &Client) -> Vec<String> {
    let list: Quarantines = client.get(api::endpoint::QUARANTINE);
    list.held.into_iter().map(|held| held.workload).collect()
}

/// What happens to web-1 asking db-1, by what is in force.
fn verdict(client: &Client, service: &str) -> Action {
    let path = format!("/v1/explain?src=web-1&dst=db-1&service={service}");
    client.get::<api::Explain>(&path).verdict
}

fn changes(client: &Client) -> Vec<PolicyChange> {
    let log: PolicyLog = client.get("/v1/policy/log");
    let adopted = log.entries.iter().filter(|e| e.outcome == Outcome::Adopted);
    adopted.map(|e| e.change).collect()
}

#[test]
fn a_held_workload_is_cut_off_at_once_but_for_what_is_allowed_and_let_go_in_time() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let result = hold(client, "web-1", 1, &["icmp/echo"]).unwrap();
    assert_eq!(result.addresses, ["10.0.1.10"]);
    assert_eq!(result.applied.unwrap().epoch, 2);
    // A machine that took its second for this has let it go already.
    assert!(dataplane.image().epoch() >= 2, "the cores have it");
    client.wait("let go", |s| s.policy.epoch == 3);
    assert_eq!(verdict(client, "postgres"), Action::Allow);
    let in_force: PolicyInForce = client.get("/v1/policy");
    assert!(!in_force.text.contains("quarantine"), "{}", in_force.text);
    let all = [
        PolicyChange::Apply,
        PolicyChange::Quarantine,
        PolicyChange::Lift,
    ];
    assert_eq!(changes(client), all);
    let log: PolicyLog = client.get("/v1/policy/log");
    let noted = &log.entries[1].note;
    assert!(
        noted.contains("but for icmp/echo: incident 4711"),
        "{noted}"
    );
    assert!(log.entries[2].note.contains("the time of web-1 is over"));
}

#[test]
fn a_policy_that_knows_nothing_of_it_lets_nobody_go() {
    let (mut control, dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    hold(&control.client, "web-1", 600, &[]).unwrap();
    hold(&control.client, "db-1", 900, &["postgres"]).unwrap();
    let other = POLICY.replace("web-to-db", "web-may-ask-db");
    let applied = control.client.apply(&other).unwrap();
    let told: Vec<_> = applied.warnings.iter().map(|w| &*w.what).collect();
    for workload in ["web-1", "db-1"] {
        let beginning = format!("{workload} is in quarantine until ");
        assert!(told.iter().any(|w| w.starts_with(&beginning)), "{told:?}");
    }
    assert_eq!(verdict(&control.client, "postgres"), Action::Deny);
    control.stop();
    // The dataplane starts anew as well.
    dataplane.forget_policy();
    control.start();
    control.client.wait("restored", |s| s.policy.epoch == 5);
    assert_eq!(held(&control.client), ["web-1", "db-1"]);
    assert_eq!(verdict(&control.client, "postgres"), Action::Deny);
    lift(&control.client, "web-1").unwrap();
    assert_eq!(
        verdict(&control.client, "postgres"),
        Action::Allow,
        "db-1 keeps it"
    );
    assert_eq!(verdict(&control.client, "tcp/22"), Action::Deny);
    assert_eq!(lift(&control.client, "web-1").unwrap_err().0, 404);
    // A text that was shown while it held somebody does not hold for ever.
    let shown: PolicyInForce = control.client.get("/v1/policy");
    lift(&control.client, "db-1").unwrap();
    control.client.apply(&shown.text).unwrap();
    let in_force: PolicyInForce = control.client.get("/v1/policy");
    assert!(!in_force.text.contains("quarantine:"), "{}", in_force.text);
}

#[test]
fn a_dry_run_changes_nothing_and_what_cannot_be_held_is_refused() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    assert_eq!(hold(client, "web-1", 60, &[]).unwrap_err().0, 404);
    client.apply(POLICY).unwrap();
    let request = QuarantineRequest {
        workload: "web-1".into(),
        for_s: 60,
        dry_run: true,
        ..QuarantineRequest::default()
    };
    let dry: QuarantineResult = client.post(api::endpoint::QUARANTINE, &request).unwrap();
    assert!(dry.text.contains("quarantine:web-1:out") && dry.applied.is_none());
    for (workload, for_s, allow, status) in [
        ("nobody", 60, None, 404),
        ("web-1", 0, None, 400),
        ("web-1", api::quarantine::FOR_S_MAX + 1, None, 400),
        ("web-1", 60, Some("postgre"), 400),
        ("web-1", 60, Some("any"), 400),
    ] {
        let refused = hold(client, workload, for_s, &allow.map_or(vec![], |a| vec![a]));
        assert_eq!(
            refused.unwrap_err().0,
            status,
            "{workload} {for_s} {allow:?}"
        );
    }
    dataplane.set_behaviour(Behaviour::Refuse);
    assert_eq!(hold(client, "web-1", 60, &[]).unwrap_err().0, 502);
    dataplane.set_behaviour(Behaviour::Adopt);
    assert!(held(client).is_empty(), "what was refused is not held");
    assert_eq!(verdict(client, "postgres"), Action::Allow);
}

#[test]
fn a_revert_brings_the_policy_before_back_and_lets_nobody_go() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let tried = ApplyRequest {
        text: POLICY.replace("web-to-db", "tried"),
        file_name: "shop.toml".into(),
        confirm_s: Some(600),
        ..ApplyRequest::default()
    };
    client
        .post::<ApplyResult>(api::endpoint::POLICY_APPLY, &tried)
        .unwrap();
    hold(client, "web-1", 600, &[]).unwrap();
    let waiting = client.status().policy.unconfirmed;
    assert!(waiting.is_some(), "what waits goes on waiting");
    let request = RevertRequest::default();
    client
        .post::<ApplyResult>(api::endpoint::POLICY_REVERT, &request)
        .unwrap();
    let in_force: PolicyInForce = client.get("/v1/policy");
    assert!(in_force.text.contains("web-to-db") && !in_force.text.contains("tried"));
    assert_eq!(verdict(client, "postgres"), Action::Deny);
    assert_eq!(in_force.unconfirmed, None);
}

#[test]
fn a_time_that_ends_while_control_is_down_ends_at_its_start() {
    let (mut control, _dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    let until = hold(&control.client, "web-1", 1, &[])
        .unwrap()
        .held
        .until_ts;
    control.stop();
    while control::clock::now_ns() <= until.0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    control.start();
    // The list is written after the policy is in force.
    control.client.wait("let go", |s| {
        s.policy.epoch >= 3 && held(&control.client).is_empty()
    });
    assert_eq!(verdict(&control.client, "postgres"), Action::Allow);
}

fn move_segment(client: &Client, request: &ModeRequest) -> Result<ApplyResult, (u16, ApiError)> {
    client.post(api::endpoint::SEGMENTS_MODE, request)
}

/// One that keeps history in memory and asks for no days.
fn with_history() -> (Box, TestDataplane) {
    let control = Box::new(|config| {
        config.history.engine = control::config::HistoryEngine::Memory;
        config.readiness.days_min = 0;
        config.readiness.quiet_days_min = 0;
    });
    let dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    (control, dataplane)
}

#[test]
fn a_segment_goes_on_when_it_is_ready_and_else_only_by_force() {
    let (control, mut dataplane) = with_history();
    let client = &control.client;
    let in_test = POLICY.replace("\"enforce\"", "\"test\"");
    client.apply(&in_test).unwrap();
    let image = dataplane.image();
    let to_db = |number, dport| {
        let mut r = record(Some(&image), number);
        (r.dport, r.begins) = (dport, 1);
        (r.first_ns, r.last_ns) = (control::clock::now_ns(), control::clock::now_ns());
        r
    };
    assert!(dataplane.push(0, &to_db(1, 5432)));
    assert!(dataplane.push(0, &to_db(2, 22)));
    let readiness = || client.get::<Readiness>("/v1/segments/readiness?segment=shop-db");
    while readiness().segments[0].flows < 2 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let found = &readiness().segments[0];
    assert_eq!((found.mode, found.next), (Mode::Test, Some(Mode::Enforce)));
    assert_eq!((found.covered_flows, found.would_deny_flows), (1, 1));
    assert!(found.mode_since_ts.is_some() && !found.ready, "{found:?}");

    let promote = ModeRequest {
        segment: "shop-db".into(),
        ..ModeRequest::default()
    };
    let (code, error) = move_segment(client, &promote).unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::NotReady));
    let lacks: Vec<_> = error.details.iter().map(|d| &*d.what).collect();
    assert!(
        lacks.iter().any(|w| w.contains("would be denied")),
        "{lacks:?}"
    );
    assert_eq!(dataplane.published(), [1]);
    // Allowed, it counts no more: history is judged by the policy in force.
    let allowed = in_test.replace("[\"tcp/5432\"]", "[\"tcp/5432\", \"tcp/22\"]");
    client.apply(&allowed).unwrap();
    assert!(readiness().segments[0].ready, "{:?}", readiness());
    move_segment(client, &promote).unwrap();
    assert_eq!(mode_of(client, "shop-db"), Some(Mode::Enforce));
    assert_eq!(mode_of(client, "shop-web"), Some(Mode::Test));

    back_and_on_by_force(client, &in_test, &promote);
}

fn mode_of(client: &Client, name: &str) -> Option<Mode> {
    let all: Segments = client.get("/v1/segments");
    all.segments.iter().find(|s| s.name == name).unwrap().mode
}

/// The rest of the story: the segment enforces.
fn back_and_on_by_force(client: &Client, in_test: &str, promote: &ModeRequest) {
    let demote = ModeRequest {
        demote: true,
        ..promote.clone()
    };
    move_segment(client, &demote).unwrap();
    assert_eq!(mode_of(client, "shop-db"), Some(Mode::Test));
    client.apply(in_test).unwrap();
    let forced = ModeRequest {
        force: Some("incident 4711".into()),
        ..promote.clone()
    };
    move_segment(client, &forced).unwrap();
    let log: PolicyLog = client.get("/v1/policy/log");
    let last = log.entries.last().unwrap();
    assert_eq!(last.change, PolicyChange::Promote);
    for word in [
        "test -> enforce",
        "forced (incident 4711)",
        "would be denied",
    ] {
        assert!(last.note.contains(word), "{}", last.note);
    }
    assert_eq!(
        move_segment(client, promote).unwrap_err().0,
        400,
        "nothing beyond"
    );
    let nobody = ModeRequest {
        segment: "nobody".into(),
        ..promote.clone()
    };
    assert_eq!(move_segment(client, &nobody).unwrap_err().0, 404);
}

/// What a quarantine of web-1 says of history.
fn foreseen(client: &Client, dry_run: bool, since: Option<&str>, allow: &[&str]) -> Foresight {
    let request = QuarantineRequest {
        workload: "web-1".into(),
        for_s: 600,
        allow: allow.iter().map(ToString::to_string).collect(),
        dry_run,
        since: since.map(str::to_owned),
        ..QuarantineRequest::default()
    };
    let result: QuarantineResult = client.post(api::endpoint::QUARANTINE, &request).unwrap();
    result.foresight
}

#[test]
fn a_quarantine_says_what_it_cuts_of_what_was_seen_and_nothing_else() {
    let (control, mut dataplane) = with_history();
    let client = &control.client;
    // Observed, so that what no rule allows passes too.
    let observed = POLICY.replace("\"enforce\"", "\"observe\"");
    client.apply(&observed).unwrap();
    let image = dataplane.image();
    let now = control::clock::now_ns();
    let seen = |number: u16, dport: u16, ago_s: u64, src: [u8; 4]| {
        let mut r = record(Some(&image), number);
        r.src = std::net::Ipv4Addr::from(src).to_ipv6_mapped().octets();
        (r.dport, r.begins) = (dport, 1);
        r.first_ns = now - ago_s * 1_000_000_000;
        r.last_ns = r.first_ns + 1_000_000;
        r
    };
    let web = [10, 0, 1, 10];
    // Before a rule spoke about it; it is the same edge.
    let mut earlier = seen(2, 5432, 70, web);
    (earlier.rule_id, earlier.pending_rule_id) = (0, 0);
    earlier.enforced_source = VerdictSource::Default.byte();
    earlier.pending_source = VerdictSource::Default.byte();
    let records = [
        seen(1, 5432, 60, web),
        earlier,
        seen(3, 22, 80, web),
        // Of somebody else, and of the day before yesterday.
        seen(4, 5432, 90, [10, 0, 9, 9]),
        seen(5, 8443, 2 * 86_400, web),
    ];
    for record in &records {
        assert!(dataplane.push(0, record));
    }
    control.collected(records.len() as u64);
    let dry = |since: Option<&str>| foreseen(client, true, since, &[]);
    while dry(Some("3d")).seen.flows < 4 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let day = dry(None);
    assert_eq!(day.unknown, None);
    assert_eq!((day.seen.flows, day.cut.flows, day.edge_count), (3, 3, 2));
    assert_eq!(
        (day.opened.flows, day.uncertain.flows, day.partial),
        (0, 0, false)
    );
    let first = &day.edges[0];
    assert_eq!(
        first.service.as_deref(),
        Some("postgres"),
        "the most bytes first"
    );
    assert_eq!(first.tally.flows, 2);
    assert_eq!(
        first.after.enforced.rule.as_deref(),
        Some("quarantine:web-1:out")
    );
    assert_eq!(dry(Some("3d")).cut.flows, 4);
    let kept = foreseen(client, true, None, &["postgres"]);
    assert_eq!((kept.seen.flows, kept.cut.flows), (3, 1));
    assert!(held(client).is_empty());

    // Applied, the answer says the same of the policy that it came upon.
    let applied = foreseen(client, false, None, &[]);
    assert_eq!((applied.cut, &applied.edges), (day.cut, &day.edges));
    assert_eq!(held(client), ["web-1"]);
    // Upon itself it cuts nothing more.
    let again = dry(None);
    assert_eq!((again.seen.flows, again.cut.flows), (3, 0), "{again:?}");
}

#[test]
fn without_history_a_quarantine_is_applied_and_says_that_nothing_is_known() {
    let control = Box::new(|config| {
        config.history.engine = control::config::HistoryEngine::Off;
    });
    let _dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let told = foreseen(client, false, None, &[]).unknown.unwrap();
    assert!(told.contains("history is off"), "{told}");
    assert_eq!(held(client), ["web-1"]);
    let told = foreseen(client, true, Some("yesterday"), &[])
        .unknown
        .unwrap();
    assert!(told.contains("`yesterday` is no time"), "{told}");
}

#[test]
fn without_history_a_segment_goes_on_only_by_force() {
    let control = Box::new(|config| {
        config.history.engine = control::config::HistoryEngine::Off;
    });
    let _dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    let client = &control.client;
    client
        .apply(&POLICY.replace("\"enforce\"", "\"observe\""))
        .unwrap();
    let mut request = ModeRequest {
        segment: "shop-db".into(),
        ..ModeRequest::default()
    };
    let (code, error) = move_segment(client, &request).unwrap_err();
    assert!(code != 200 && error.message.contains("history"), "{error}");
    request.force = Some("a lab".into());
    move_segment(client, &request).unwrap();
}

//! Flows explained against a played dataplane: asked about, at another time, seen; and the smallest
//! change that turns each, held to what applying it does.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use api::explain::FlowExplain;
use api::policy::{ApplyResult, WorkloadRequest};
use api::reach::View;
use api::turning::{StepKind, Turning};
use api::words::{Action, Mode};
use api::{Explain, Ts};
use control::config::{HistoryEngine, Span};
use std::time::{Duration, Instant};
use support::{Box, Client, POLICY, TestDataplane, denied, record, with_dataplane};

/// Longest wait for anything; nothing takes a tenth of it.
const WAIT: Duration = Duration::from_secs(20);

fn explain(client: &Client, src: &str, dst: &str, service: &str) -> Explain {
    let path = format!("/v1/explain?src={src}&dst={dst}&service={service}");
    client.get(&path)
}

fn at(client: &Client, asked: [&str; 3], at: Ts) -> Explain {
    let [src, dst, service] = asked;
    let path = format!(
        "/v1/explain?src={src}&dst={dst}&service={service}&at={}",
        at.0
    );
    client.get(&path)
}

/// The turning of a view.
#[track_caller]
fn turning(explain: &Explain, view: View) -> &Turning {
    let mut found = explain.turnings.iter().filter(|t| t.view == view);
    let turning = found
        .next()
        .unwrap_or_else(|| panic!("none of {view}: {explain:#?}"));
    assert_eq!(found.next(), None);
    turning
}

/// The tables that the first change of a turning adds.
#[track_caller]
fn added(turning: &Turning) -> &str {
    let step = &turning.changes[0].steps[0];
    assert_eq!(step.kind, StepKind::Add, "{turning:#?}");
    step.tables.as_deref().unwrap()
}

/// Waits for the clock to go on: what comes next is later than what was.
fn later() -> Ts {
    let now = control::clock::now_ns();
    while control::clock::now_ns() < now + 1_000_000 {
        std::hint::spin_loop();
    }
    Ts(now)
}

#[test]
fn a_denied_flow_comes_with_the_rule_that_opens_it_and_nothing_else() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let asked = explain(client, "web-1", "db-1", "tcp/8443");
    assert_eq!(asked.verdict, Action::Deny);
    let [turning] = &asked.turnings[..] else {
        panic!("denied whatever is enforced: {:#?}", asked.turnings);
    };
    assert_eq!((turning.view, turning.permits), (View::Enforced, true));
    let tables = added(turning);
    assert_eq!(turning.changes[0].reach.len(), 1);
    client.apply(&format!("{POLICY}\n{tables}")).unwrap();
    let opened = explain(client, "web-1", "db-1", "tcp/8443");
    assert_eq!(opened.verdict, Action::Allow, "{}", opened.sentence);
    assert_eq!(
        explain(client, "web-1", "db-1", "tcp/8444").verdict,
        Action::Deny
    );
    // The way back takes the rule out again.
    let back = &self::turning(&opened, View::Enforced).changes;
    let kinds: Vec<StepKind> = back.iter().map(|change| change.steps[0].kind).collect();
    assert!(kinds.contains(&StepKind::Remove), "{back:#?}");
}

#[test]
fn a_flow_that_is_to_be_denied_once_all_is_enforced_comes_with_what_keeps_it() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    let tested = POLICY.replace("mode = \"enforce\"", "mode = \"test\"");
    client.apply(&tested).unwrap();
    let asked = explain(client, "web-1", "db-1", "tcp/8443");
    assert_eq!(
        (asked.verdict, asked.pending_verdict),
        (Action::Allow, Action::Deny)
    );
    let kept = turning(&asked, View::Intended);
    assert_eq!(kept.view, asked.turnings[0].view, "what keeps it is first");
    let with = format!("{tested}\n{}", added(kept));
    let denied = turning(&asked, View::Enforced);
    assert!(!denied.permits);
    let without = format!("{tested}\n{}", added(denied));
    client.apply(&with).unwrap();
    let kept = explain(client, "web-1", "db-1", "tcp/8443");
    assert_eq!(kept.pending_verdict, Action::Allow, "{}", kept.sentence);
    client.apply(&without).unwrap();
    let denied = explain(client, "web-1", "db-1", "tcp/8443");
    assert_eq!(denied.verdict, Action::Deny, "{}", denied.sentence);
}

#[test]
fn what_a_quarantine_denies_is_turned_by_lifting_it() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let request = api::quarantine::QuarantineRequest {
        workload: "web-1".into(),
        for_s: 600,
        author: "ada".into(),
        ..Default::default()
    };
    let held: Result<api::quarantine::QuarantineResult, _> =
        client.post(api::endpoint::QUARANTINE, &request);
    held.unwrap();
    let asked = explain(client, "web-1", "db-1", "postgres");
    let changes = &turning(&asked, View::Enforced).changes;
    assert_eq!(changes.len(), 1, "{changes:#?}");
    let step = &changes[0].steps[0];
    assert_eq!(
        (step.kind, step.workload.as_deref()),
        (StepKind::Lift, Some("web-1"))
    );
    assert!(
        step.told.contains("`ringfence quarantine lift web-1`"),
        "{step:?}"
    );
}

/// What became of the policy and its members in a test.
struct Times {
    /// web-1 has 10.0.1.10 and may ask db-1.
    first: Ts,
    /// web-1 has moved to 10.0.1.99.
    moved: Ts,
}

/// A policy, a workload that moves, and another policy.
fn changed(client: &Client) -> Times {
    client.apply(POLICY).unwrap();
    let first = later();
    let request = WorkloadRequest {
        name: "web-1".into(),
        addresses: Some(vec!["10.0.1.99".into()]),
        author: "ada".into(),
        ..WorkloadRequest::default()
    };
    let set: Result<ApplyResult, _> = client.post(api::endpoint::WORKLOADS, &request);
    set.unwrap();
    let moved = later();
    let last = POLICY
        .replace("10.0.1.10", "10.0.1.99")
        .replace("action = \"allow\"", "action = \"reject\"")
        .replace("mode = \"enforce\"", "mode = \"test\"");
    client.apply(&last).unwrap();
    Times { first, moved }
}

#[test]
fn a_time_is_answered_by_the_names_segments_and_rules_of_then_beside_those_of_now() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    let begun = later();
    let Times { first, moved } = changed(client);
    let asked = ["web-1", "db-1", "postgres"];

    let then = at(client, asked, first);
    assert_eq!(then.at, Some(first));
    assert_eq!(then.src.address.to_string(), "10.0.1.10");
    assert_eq!(then.src.segments, ["shop-web", "unmanaged"][..1]);
    assert_eq!((then.verdict, then.mode), (Action::Allow, Mode::Enforce));
    assert_eq!(then.rule.as_deref(), Some("web-to-db"));
    assert_eq!(then.epoch, 1);
    assert!(then.since.unwrap() <= first, "{:?}", then.since);
    assert!(then.turnings.is_empty(), "the past is not changed");
    // The same address is nobody's by now.
    let now = then.now.as_deref().unwrap();
    assert_eq!((now.src.address, &now.src.name), (then.src.address, &None));
    assert_eq!(now.epoch, 3);
    assert_ne!(now.revision, then.revision);
    assert_eq!(now.at, None);
    assert!(!now.turnings.is_empty());

    let between = at(client, asked, moved);
    assert_eq!(between.src.address.to_string(), "10.0.1.99");
    assert_eq!((between.verdict, between.epoch), (Action::Allow, 2));
    let now = between.now.as_deref().unwrap();
    assert_eq!(now.src.name.as_deref(), Some("web-1"));
    assert_eq!((now.rule.as_deref(), now.mode), (None, Mode::Test));
    assert_eq!(now.pending_rule.as_deref(), Some("web-to-db"));
    let lost = &now.considered[0];
    assert_eq!(lost.action, Action::Reject);
    assert!(
        lost.why.contains("neither end is in enforce"),
        "{}",
        lost.why
    );

    // The address itself tells who had it.
    let old = at(client, ["10.0.1.10", "db-1", "postgres"], first);
    assert_eq!(old.src.name.as_deref(), Some("web-1"));
    let path = format!(
        "/v1/explain?src=web-1&dst=db-1&service=postgres&at={}",
        begun.0
    );
    let (status, told) = client.ask("GET", &path, "");
    assert!(
        status == 404 && told.contains("no policy was in force at"),
        "{told}"
    );
    let (status, told) = client.ask("GET", "/v1/explain?src=a&dst=b&service=c&at=dusk", "");
    assert!(status == 400 && told.contains("parameter at"), "{told}");
}

#[test]
fn a_flow_that_was_seen_is_explained_by_what_judged_it_and_by_what_is_in_force() {
    let (control, mut dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let image = dataplane.image();
    // Two records of one flow, and one of another that was denied.
    let mut update = record(Some(&image), 1);
    update.kind = abi::record::RecordKind::Update.byte();
    let mut end = record(Some(&image), 1);
    end.first_ns += 2_000_000;
    end.last_ns += 2_000_000;
    for r in [update, end, denied(&image, 2)] {
        assert!(dataplane.push(0, &r));
    }
    control.collected(3);
    let opened = format!(
        "{}\n[[rule]]\nname = \"ssh\"\nfrom = [\"shop-web\"]\nto = [\"shop-db\"]\n\
         services = [\"ssh\"]\naction = \"allow\"\n",
        POLICY.replace(
            "[[rule]]",
            "[[service]]\nname = \"ssh\"\nports = [\"tcp/22\"]\n\n[[rule]]"
        )
    );
    client.apply(&opened).unwrap();

    let seen: FlowExplain = client.get("/v1/explain/flow?flow=0100000000000001");
    assert_eq!((seen.records, seen.ended), (2, true));
    assert_eq!(seen.first_ts.0, update.first_ns);
    assert_eq!(seen.verdict_since.0, update.first_ns);
    assert_eq!(seen.flow.src_name.as_deref(), Some("web-1"));
    let (then, now) = (seen.then.unwrap(), seen.now.unwrap());
    assert_eq!((then.epoch, now.epoch), (1, 2));
    assert_eq!(then.rule, now.rule);
    assert!(then.turnings.is_empty());
    assert!(!turning(&now, View::Enforced).permits);

    let lost: FlowExplain = client.get("/v1/explain/flow?flow=0100000000000002");
    assert_eq!(lost.flow.verdict, Action::Deny);
    let (then, now) = (lost.then.unwrap(), lost.now.unwrap());
    assert_eq!((then.verdict, now.verdict), (Action::Deny, Action::Allow));
    assert_eq!(now.rule.as_deref(), Some("ssh"));
    assert!(!turning(&now, View::Enforced).permits, "the way back");

    let (status, told) = client.ask("GET", "/v1/explain/flow?flow=01000000000000ff", "");
    assert!(status == 404 && told.contains("give --since"), "{told}");
    let (status, told) = client.ask("GET", "/v1/explain/flow?flow=web", "");
    assert!(
        status == 400 && told.contains("is no id of a flow"),
        "{told}"
    );
}

#[test]
fn a_flow_that_only_history_has_is_explained_after_a_restart() {
    let mut control = Box::new(|config| {
        config.history.engine = HistoryEngine::Embedded;
        config.history.flush = Span::ms(20);
    });
    let mut dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    control.client.apply(POLICY).unwrap();
    let image = dataplane.image();
    let mut flow = record(Some(&image), 7);
    flow.first_ns = control::clock::now_ns() - 60_000_000_000;
    flow.last_ns = flow.first_ns + 1_000_000;
    assert!(dataplane.push(0, &flow));
    control.collected(1);
    control.stop();
    control.start();
    let client = &control.client;
    client.wait_running();
    let path = "/v1/explain/flow?flow=0100000000000007";
    assert_eq!(client.ask("GET", path, "").0, 404, "no recent flow");
    let until = Instant::now() + WAIT;
    let seen: FlowExplain = loop {
        let (status, answer) = client.ask("GET", &format!("{path}&since=1h"), "");
        if status == 200 {
            break serde_json::from_str(&answer).unwrap();
        }
        assert!(Instant::now() < until, "never in history: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((seen.records, seen.flow.epoch), (1, 1));
    assert_eq!(seen.flow.dst_name.as_deref(), Some("db-1"));
    assert_eq!(seen.then.unwrap().rule.as_deref(), Some("web-to-db"));
    assert!(!seen.now.unwrap().turnings.is_empty());
}

//! A policy is tried until it is confirmed, and the log shows whether anybody changed it: the control
//! process against a played dataplane.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use api::error::{ApiError, ErrorCode};
use api::life::{ConfirmRequest, Confirmed, LogVerification, RevertRequest};
use api::policy::{
    ApplyRequest, ApplyResult, Outcome, PolicyChange, PolicyInForce, PolicyLog, RollbackRequest,
};
use api::status::DataplaneState;
use support::{Behaviour, Box, Client, POLICY, TestDataplane, with_dataplane};

fn other() -> String {
    POLICY.replace("web-to-db", "web-may-ask-db")
}

fn apply_with(
    client: &Client,
    text: &str,
    confirm_s: Option<u64>,
    if_revision: Option<&str>,
) -> Result<ApplyResult, (u16, ApiError)> {
    let request = ApplyRequest {
        text: text.to_owned(),
        file_name: "shop.toml".into(),
        author: "ada".into(),
        confirm_s,
        if_revision: if_revision.map(str::to_owned),
        ..ApplyRequest::default()
    };
    client.post(api::endpoint::POLICY_APPLY, &request)
}

fn confirm(client: &Client, revision: Option<&str>) -> Result<Confirmed, (u16, ApiError)> {
    let request = ConfirmRequest {
        revision: revision.map(str::to_owned),
        author: "bob".into(),
        note: "all is well".into(),
    };
    client.post(api::endpoint::POLICY_CONFIRM, &request)
}

fn show(client: &Client) -> PolicyInForce {
    client.get("/v1/policy")
}

fn changes(client: &Client) -> Vec<(PolicyChange, Outcome)> {
    let log: PolicyLog = client.get("/v1/policy/log");
    log.entries.iter().map(|e| (e.change, e.outcome)).collect()
}

fn verify(client: &Client) -> LogVerification {
    client.get("/v1/policy/log/verify")
}

const APPLIED: (PolicyChange, Outcome) = (PolicyChange::Apply, Outcome::Adopted);
const REVERTED: (PolicyChange, Outcome) = (PolicyChange::Revert, Outcome::Adopted);

/// One with a policy in force and another that waits `confirm_s` for its confirmation.
fn tried(confirm_s: u64) -> (Box, TestDataplane, [ApplyResult; 2]) {
    let (control, dataplane) = with_dataplane();
    let first = control.client.apply(POLICY).unwrap();
    let second = apply_with(&control.client, &other(), Some(confirm_s), None).unwrap();
    (control, dataplane, [first, second])
}

#[test]
fn a_policy_that_nobody_confirms_reverts_by_itself() {
    let (control, dataplane, [first, second]) = tried(1);
    let waiting = second.unconfirmed.expect("it waits");
    assert_eq!(waiting.fallback_revision, first.revision);
    assert_eq!(waiting.left_s, 1);
    let status = control
        .client
        .wait("reverted", |s| s.policy.revision == first.revision);
    assert_eq!((status.policy.epoch, status.policy.unconfirmed), (3, None));
    assert_eq!(dataplane.published(), [1, 2, 3]);
    let in_force = show(&control.client);
    assert_eq!(
        (&*in_force.text, &*in_force.file_name),
        (POLICY, "shop.toml")
    );
    assert_eq!(changes(&control.client), [APPLIED, APPLIED, REVERTED]);
    let (code, error) = confirm(&control.client, None).unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::Conflict));
    assert!(error.message.contains("has reverted"), "{}", error.message);
    // It was never accepted: the way back does not lead to it.
    let back = RollbackRequest {
        revision: "previous".into(),
        ..RollbackRequest::default()
    };
    let refused = control
        .client
        .post::<ApplyResult>(api::endpoint::POLICY_ROLLBACK, &back);
    assert_eq!(refused.unwrap_err().0, 404);
}

#[test]
fn a_confirmed_policy_stays_also_after_a_restart() {
    let (mut control, dataplane, [first, second]) = tried(600);
    let waiting = control.client.status().policy.unconfirmed.unwrap();
    assert!((1..=600).contains(&waiting.left_s), "{waiting:?}");
    let (code, error) = confirm(&control.client, Some(&first.revision[..12])).unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::Conflict));
    assert!(show(&control.client).unconfirmed.is_some(), "still waits");
    let confirmed = confirm(&control.client, Some(&second.revision[..12])).unwrap();
    assert_eq!(confirmed.revision, second.revision);
    assert_eq!(confirmed.fallback_revision, first.revision);
    assert_eq!(show(&control.client).unconfirmed, None);
    control.stop();
    control.start();
    control.client.wait_running();
    let in_force = show(&control.client);
    assert_eq!(
        (in_force.revision, in_force.unconfirmed),
        (second.revision, None)
    );
    assert_eq!(
        dataplane.published(),
        [1, 2],
        "confirming publishes nothing"
    );
    let done = (PolicyChange::Confirm, Outcome::Done);
    assert_eq!(changes(&control.client), [APPLIED, APPLIED, done]);
}

#[test]
fn what_waits_goes_on_waiting_after_a_restart_with_the_time_that_is_left() {
    let (mut control, _dataplane, [first, second]) = tried(600);
    let due = control.client.status().policy.unconfirmed.unwrap().due_ts;
    control.stop();
    control.start();
    control.client.wait_running();
    let in_force = show(&control.client);
    assert_eq!(in_force.revision, second.revision);
    let waiting = in_force.unconfirmed.unwrap();
    assert_eq!(waiting.fallback_revision, first.revision);
    let moved_ns = waiting.due_ts.0.abs_diff(due.0);
    assert!(moved_ns < 1_000_000_000, "the same end: {moved_ns} ns");
}

#[test]
fn a_time_that_ends_while_control_is_down_reverts_at_its_start() {
    // Long enough that control is down before it ends, on a loaded machine too.
    let (mut control, dataplane, [first, second]) = tried(5);
    let due_ns = second.unconfirmed.unwrap().due_ts.0;
    control.stop();
    // The dataplane starts anew as well: what was not confirmed is not brought back to it.
    dataplane.forget_policy();
    while control::clock::now_ns() <= due_ns {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    control.start();
    let status = control
        .client
        .wait("reverted", |s| s.policy.revision == first.revision);
    assert_eq!(status.policy.epoch, 3);
    assert_eq!(dataplane.published(), [1, 2, 3]);
}

#[test]
fn a_time_that_ends_without_a_dataplane_reverts_when_it_is_back() {
    let (control, mut dataplane, [first, _]) = tried(1);
    dataplane.close(false);
    let status = control.client.wait("tried in vain", |s| {
        let waiting = s.policy.unconfirmed.as_ref();
        waiting.is_some_and(|w| w.left_s == 0 && w.error.is_some())
    });
    let error = status.policy.unconfirmed.unwrap().error.unwrap();
    assert!(error.contains("not connected"), "{error}");
    dataplane.listen();
    control
        .client
        .wait("reverted", |s| s.policy.revision == first.revision);
    assert_eq!(dataplane.published(), [1, 2, 3]);
}

#[test]
fn while_one_waits_a_change_is_refused_and_going_back_is_not() {
    let (control, _dataplane, [first, second]) = tried(600);
    let client = &control.client;
    let third = POLICY.replace("web-to-db", "a-third-name");
    for confirm_s in [None, Some(5)] {
        let (code, error) = apply_with(client, &third, confirm_s, None).unwrap_err();
        assert_eq!((code, error.code), (409, ErrorCode::Conflict));
        for word in ["policy confirm", "policy revert", &second.revision[..12]] {
            assert!(error.message.contains(word), "{}", error.message);
        }
    }
    let request = RevertRequest {
        author: "bob".into(),
        note: "the shop is down".into(),
    };
    let back: ApplyResult = client.post(api::endpoint::POLICY_REVERT, &request).unwrap();
    assert_eq!((&back.revision, back.unconfirmed), (&first.revision, None));
    let again = client.post::<ApplyResult>(api::endpoint::POLICY_REVERT, &request);
    assert_eq!(again.unwrap_err().0, 409);

    apply_with(client, &third, Some(600), None).unwrap();
    let back = RollbackRequest {
        revision: second.revision[..8].into(),
        ..RollbackRequest::default()
    };
    let rolled: ApplyResult = client.post(api::endpoint::POLICY_ROLLBACK, &back).unwrap();
    assert_eq!(rolled.revision, second.revision);
    assert_eq!(show(client).unconfirmed, None, "nothing reverts any more");
    let refused = (PolicyChange::Apply, Outcome::Refused);
    let rolled = (PolicyChange::Rollback, Outcome::Adopted);
    assert_eq!(
        changes(client),
        [
            APPLIED, APPLIED, refused, refused, REVERTED, APPLIED, rolled
        ]
    );
}

#[test]
fn a_policy_is_applied_only_over_the_revision_that_was_meant() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    let (code, error) = apply_with(client, POLICY, Some(60), None).unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::Conflict));
    assert!(error.message.contains("no policy to return to"), "{error}");
    let first = client.apply(POLICY).unwrap();
    let wrong = apply_with(client, &other(), None, Some("0123456789ab"));
    let (code, error) = wrong.unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::Conflict));
    assert!(error.message.contains(&first.revision[..12]), "{error}");
    for (confirm_s, revision) in [(None, Some("xyz")), (Some(0), None), (Some(86_401), None)] {
        let refused = apply_with(client, &other(), confirm_s, revision);
        assert_eq!(refused.unwrap_err().0, 400, "{confirm_s:?} {revision:?}");
    }
    assert_eq!(dataplane.published(), [1]);
    let digits = first.revision[..12].to_uppercase();
    let applied = apply_with(client, &other(), None, Some(&digits)).unwrap();
    assert!(applied.enforcement_us >= applied.compile_us, "{applied:?}");
}

#[test]
fn the_log_names_who_sat_at_the_socket_and_the_first_entry_that_was_changed() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    client
        .apply(&POLICY.replace("tcp/5432", "tcp/99999"))
        .unwrap_err();
    client.apply(&other()).unwrap();
    let log: PolicyLog = client.get("/v1/policy/log");
    let outcomes: Vec<_> = log.entries.iter().map(|e| e.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Adopted, Outcome::Refused, Outcome::Adopted]
    );
    let own_uid = rustix::process::getuid().as_raw();
    for entry in &log.entries {
        let peer = entry.peer.as_ref().expect("the kernel tells");
        assert_eq!(peer.uid, own_uid);
        assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(entry.author, "ada", "what the client said stands beside it");
    }
    let whole = verify(client);
    assert!(whole.intact && whole.head_kept, "{whole:?}");
    assert_eq!((whole.entries, &whole.head), (3, &log.entries[2].hash));

    let path = control.dir.path().join("state/log.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"refused\"", "\"adopted\"", 1)).unwrap();
    let broken = verify(client).broken.expect("broken");
    assert_eq!((broken.line, broken.seq), (2, Some(2)));
    assert!(broken.what.contains("was changed"), "{broken:?}");
    // A damaged log harms nothing else.
    std::fs::write(&path, b"\xff\xfe\n{}\n").unwrap();
    assert!(!verify(client).intact);
    client.apply(POLICY).unwrap();
    let log: PolicyLog = client.get("/v1/policy/log");
    assert_eq!(log.entries.len(), 1);
    let noted = format!("/v1/policy/log/verify?head={}", &whole.head[..16]);
    assert!(!client.get::<LogVerification>(&noted).intact);
    assert_eq!(client.ask("GET", "/v1/policy/log/verify?head=x", "").0, 400);
}

#[test]
fn a_policy_goes_over_whole_once_and_then_as_changes() {
    let (control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    let second = control.client.apply(&other()).unwrap();
    let third = control.client.apply(POLICY).unwrap();
    assert_eq!((second.epoch, third.epoch), (2, 3));
    assert_eq!(
        (dataplane.published(), dataplane.changed()),
        (vec![1, 2, 3], vec![2, 3])
    );
    assert_eq!(dataplane.image().revision().to_vec(), revision(&third));
    // A new conversation begins with a whole image: what stands at the other end is not known.
    dataplane.close(false);
    control.client.wait("gone", |s| {
        s.dataplane.state == DataplaneState::Disconnected
    });
    dataplane.listen();
    control
        .client
        .wait("back", |s| s.dataplane.state == DataplaneState::Running);
    control.client.apply(&other()).unwrap();
    assert_eq!(
        (dataplane.published(), dataplane.changed()),
        (vec![1, 2, 3, 4], vec![2, 3])
    );
}

#[test]
fn a_change_of_an_image_that_is_not_in_force_is_followed_by_the_whole_image() {
    let (control, dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    dataplane.set_behaviour(Behaviour::OtherBase);
    let second = control.client.apply(&other()).unwrap();
    assert_eq!(second.epoch, 2);
    assert_eq!(
        (dataplane.published(), dataplane.changed()),
        (vec![1, 2], vec![])
    );
    dataplane.set_behaviour(Behaviour::Adopt);
    control.client.apply(POLICY).unwrap();
    assert_eq!(
        (dataplane.published(), dataplane.changed()),
        (vec![1, 2, 3], vec![3])
    );
}

fn revision(applied: &ApplyResult) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&applied.revision[at..at + 2], 16).unwrap();
    (0..applied.revision.len()).step_by(2).map(byte).collect()
}

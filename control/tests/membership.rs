//! One workload of the policy in force is changed, over the API, against a played dataplane.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use api::Explain;
use api::policy::{PolicyChange, PolicyInForce, PolicyLog, WorkloadRequest};
use support::{POLICY, with_dataplane};

#[test]
fn a_workload_is_changed_in_the_text_that_is_in_force() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    let set = |name: &str, addresses: &[&str], labels: &[(&str, &str)]| {
        let request = WorkloadRequest {
            name: name.into(),
            addresses: (!addresses.is_empty())
                .then(|| addresses.iter().map(ToString::to_string).collect()),
            labels: labels
                .iter()
                .map(|(key, value)| (key.to_string(), Some(value.to_string())))
                .collect(),
            author: "ada".into(),
            note: "moved".into(),
            ..WorkloadRequest::default()
        };
        client.post::<api::policy::ApplyResult>(api::endpoint::WORKLOADS, &request)
    };
    assert_eq!(set("web-1", &["10.0.1.99"], &[]).unwrap_err().0, 404);
    let first = client.apply(POLICY).unwrap();
    assert!(!first.memberships_only);
    let moved = set("web-1", &["10.0.1.99"], &[]).unwrap();
    assert!(moved.memberships_only, "{moved:?}");
    assert_eq!(moved.previous_revision, Some(first.revision));
    let in_force: PolicyInForce = client.get("/v1/policy");
    assert_eq!(in_force.revision, moved.revision);
    let changed = POLICY.lines().zip(in_force.text.lines());
    let changed: Vec<_> = changed.filter(|(was, is)| was != is).collect();
    assert!(
        matches!(changed[..], [(_, is)] if is.contains("10.0.1.99")),
        "{changed:?}"
    );
    // What cores evaluate now knows the workload by its new address.
    let explain: Explain = client.get("/v1/explain?src=10.0.1.99&dst=db-1&service=tcp/5432");
    assert_eq!(explain.rule.as_deref(), Some("web-to-db"), "{explain:?}");
    // The same text applied by hand takes the short way too.
    assert!(client.apply(POLICY).unwrap().memberships_only);
    assert_eq!(set("web-9", &[], &[("app", "x")]).unwrap_err().0, 400);
    assert_eq!(set("web-1", &["10.0.1"], &[]).unwrap_err().0, 422);
    assert_eq!(dataplane.published(), [1, 2, 3]);
    let log: PolicyLog = client.get("/v1/policy/log");
    let entry = &log.entries[1];
    let told = (entry.change, &*entry.author, &*entry.note);
    assert_eq!(told, (PolicyChange::Workload, "ada", "moved"));
}

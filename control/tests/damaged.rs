//! What is told where the stored policy is damaged and the dataplane has none.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use api::policy::PolicyState;
use api::status::{Check, CheckState, Doctor};
use support::{Client, POLICY, TestDataplane, with_dataplane};

fn policy_check(client: &Client) -> Check {
    let doctor: Doctor = client.get("/v1/doctor");
    let mut checks = doctor.checks.into_iter();
    checks.find(|check| check.name == "policy").unwrap()
}

#[test]
fn a_damaged_policy_and_a_dataplane_without_one_fail_the_doctor_until_it_is_applied_again() {
    let (mut control, dataplane) = with_dataplane();
    let first = control.client.apply(POLICY).unwrap();
    drop(dataplane);
    control.stop();
    let text = control
        .dir
        .path()
        .join(format!("state/revisions/{}.toml", first.revision));
    std::fs::write(&text, "[policy]\nname = \"not what was applied\"\n").unwrap();

    control.start();
    let dataplane = TestDataplane::start(&control.config);
    let client = &control.client;
    client.wait_running();
    let status = client.status();
    assert_eq!(
        (status.policy.state, status.policy.epoch),
        (PolicyState::Waiting, 1)
    );
    assert_eq!(status.dataplane.workers[0].policy_epoch, 0);
    let check = policy_check(client);
    assert_eq!(check.state, CheckState::Failed, "{check:?}");
    assert!(
        check.what.starts_with(
            "no policy is enforced: every packet follows the exception row no_policy; "
        ),
        "{check:?}"
    );
    assert!(check.what.contains("is damaged"), "{check:?}");
    assert!(
        check.what.contains(&*text.display().to_string()),
        "{check:?}"
    );
    assert!(check.mend.contains("apply it again"), "{check:?}");
    assert_eq!(
        dataplane.published().len(),
        0,
        "what is damaged is not published"
    );
    let (code, told) = client.ask("GET", "/v1/explain?src=web-1&dst=db-1&service=tcp/22", "");
    assert!(code == 404 && told.contains("damaged"), "{code} {told}");

    let again = client.apply(POLICY).unwrap();
    assert_eq!((again.epoch, &again.revision), (2, &first.revision));
    assert_ne!(policy_check(client).state, CheckState::Failed);
    assert_eq!(std::fs::read_to_string(&text).unwrap(), POLICY);
}

#[test]
fn segments_that_enforce_no_longer_are_told_when_a_policy_is_applied() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    let told = |text: &str| {
        let warnings = client.apply(text).unwrap().warnings;
        warnings.into_iter().map(|w| w.what).collect::<Vec<_>>()
    };
    assert!(told(POLICY).iter().all(|w| !w.contains("no longer")));
    let nothing = "[policy]\nname = \"nothing\"\n";
    assert_eq!(
        told(nothing),
        [
            "no segment: nothing is enforced",
            "2 segments no longer enforce: shop-web, shop-db"
        ]
    );
    assert_eq!(client.apply("").unwrap_err().0, 422);
}

#[test]
fn explain_takes_the_address_of_the_other_ends_family() {
    let (control, _dataplane) = with_dataplane();
    let client = &control.client;
    let both = POLICY.replace("[\"10.0.1.10\"]", "[\"10.0.1.10\", \"fd00:1::10\"]");
    client.apply(&both).unwrap();
    let explain = |src: &str, dst: &str, service: &str| {
        let path = format!("/v1/explain?src={src}&dst={dst}&service={service}");
        client.get::<api::Explain>(&path)
    };
    let six = explain("web-1", "fd09::1", "tcp/80");
    assert_eq!(six.src.address.to_string(), "fd00:1::10");
    let four = explain("web-1", "198.51.100.7", "tcp/80");
    assert_eq!(four.src.address.to_string(), "10.0.1.10");
    assert_eq!(
        explain("web-1", "db-1", "tcp/80").dst.address.to_string(),
        "10.0.2.20"
    );
    let found = explain("web-1", "fd09::1", "icmpv6/neighbor-solicitation");
    let passes = "passes whatever the policy says: neighbour discovery";
    assert!(found.sentence.contains(passes), "{}", found.sentence);
    assert!(!six.sentence.contains(passes), "{}", six.sentence);
    let refused = |src: &str, dst: &str| {
        let path = format!("/v1/explain?src={src}&dst={dst}&service=tcp/80");
        let (code, told) = client.ask("GET", &path, "");
        assert_eq!(code, 400, "{told}");
        told
    };
    let told = refused("db-1", "fd09::1");
    assert!(
        told.contains("`db-1` has only IPv4 and `fd09::1` only IPv6: no packet goes"),
        "{told}"
    );
    refused("10.0.0.1", "fd09::1");
    // Built-in segments have no mode, as in the list of segments.
    assert_eq!(four.dst.segments, ["internet"]);
    assert_eq!(
        (four.src.mode, four.dst.mode),
        (Some(api::words::Mode::Enforce), None)
    );
}

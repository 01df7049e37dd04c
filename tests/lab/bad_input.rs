//! Bad input: each gets a clear error, and nothing is lost.

use std::time::Duration;

use ringfence_tests::command::{Outcome, run, words};
use ringfence_tests::golden::assert_golden;
use ringfence_tests::lab::{Lab, Settings};
use ringfence_tests::places::{binary, own_captures};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};

const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn promises() -> Vec<Promise> {
    let promise = |name, needs, show| Promise {
        name,
        needs,
        programs: &[],
        show,
    };
    vec![
        promise(
            "bad_input::a_bad_policy_is_refused_with_its_line_and_the_old_one_stays",
            Needs::Namespaces,
            a_bad_policy_is_refused_with_its_line_and_the_old_one_stays,
        ),
        promise(
            "bad_input::a_policy_is_checked_without_an_appliance",
            Needs::Binaries,
            a_policy_is_checked_without_an_appliance,
        ),
        promise(
            "bad_input::a_draft_with_every_kind_of_error_tells_all_of_them_at_once",
            Needs::Binaries,
            a_draft_with_every_kind_of_error_tells_all_of_them_at_once,
        ),
        promise(
            "bad_input::bad_captures_are_refused_in_a_sentence",
            Needs::Binaries,
            bad_captures_are_refused_in_a_sentence,
        ),
        promise(
            "bad_input::a_port_that_does_not_exist_is_named",
            Needs::Namespaces,
            a_port_that_does_not_exist_is_named,
        ),
        promise(
            "bad_input::missing_hugepages_are_told_with_their_remedy",
            Needs::Namespaces,
            missing_hugepages_are_told_with_their_remedy,
        ),
        promise(
            "bad_input::missing_permission_is_told",
            Needs::Namespaces,
            missing_permission_is_told,
        ),
        promise(
            "bad_input::a_second_instance_is_refused_and_the_first_goes_on",
            Needs::Namespaces,
            a_second_instance_is_refused,
        ),
        promise(
            "bad_input::a_full_disk_refuses_the_policy_and_keeps_the_old_one",
            Needs::Namespaces,
            a_full_disk_refuses_the_policy,
        ),
    ]
}

fn good() -> String {
    policy(
        "enforce",
        &[rule(
            "clients-to-web",
            ("clients", "shop-web"),
            "http",
            ALLOW,
        )],
    )
}

/// What is wrong, the policy, and words that the error must say.
fn bad_policies() -> Vec<(&'static str, String, &'static [&'static str])> {
    let good = good();
    let workload = |name: &str, address: &str| {
        format!("{good}\n[[workload]]\nname = \"{name}\"\naddresses = [\"{address}\"]\n")
    };
    let segment = |lines: &str| format!("{good}\n[[segment]]\nname = \"odd\"\n{lines}\n");
    vec![
        (
            "an unknown key",
            good.replace("select =", "selekt ="),
            &["selekt"],
        ),
        ("two names alike", workload("web", "10.9.9.9"), &["web"]),
        (
            "an address in two workloads",
            workload("other", "10.77.0.20"),
            &["10.77.0.20", "db"],
        ),
        (
            "a missing mode",
            segment("addresses = [\"10.9.0.0/16\"]"),
            &["mode"],
        ),
        (
            "a mode that is none",
            segment("addresses = [\"10.9.0.0/16\"]\nmode = \"enforced\""),
            &["enforced"],
        ),
        (
            "a segment that is none",
            good.replace("[\"shop-web\"]", "[\"shop-wep\"]"),
            &["shop-wep", "shop-web"],
        ),
        ("text that is no TOML", format!("{good}\n[[rule\n"), &[]),
    ]
}

fn a_bad_policy_is_refused_with_its_line_and_the_old_one_stays() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(good()),
        ..Settings::default()
    });
    let revision = appliance.json(&["policy", "show"])["revision"].clone();
    for (what, text, must_say) in bad_policies() {
        let path = lab.file("bad.toml", &text).display().to_string();
        for command in ["check", "apply"] {
            let outcome = appliance.cli(&["policy", command, &path]);
            assert_eq!(outcome.code, Some(1), "{what}: {outcome}");
            let said = outcome.both();
            assert!(
                said.contains("bad.toml:"),
                "{what}: the place is told: {outcome}"
            );
            must_say.iter().for_each(|word| {
                assert!(said.contains(word), "{what}: `{word}` is told: {outcome}")
            });
        }
        assert_eq!(
            appliance.json(&["policy", "show"])["revision"],
            revision,
            "{what}: the old policy stays"
        );
    }
    let empty = format!(
        "{}\n[[segment]]\nname = \"nobody\"\nselect = \"app=none\"\nmode = \"observe\"\n",
        good()
    );
    let path = lab.file("warned.toml", empty).display().to_string();
    let outcome = appliance.cli(&["policy", "check", &path]);
    assert_eq!(
        outcome.code,
        Some(0),
        "a selector that matches nothing is a warning: {outcome}"
    );
    assert!(
        outcome.both().contains("warning") && outcome.both().contains("nobody"),
        "{outcome}"
    );
    appliance.finish();
}

fn a_policy_is_checked_without_an_appliance() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("policy.toml");
    let nobody = directory.path().join("control.sock");
    let check = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        let mut command = words(&[binary("ringfence").as_os_str()]);
        command.arg("--socket").arg(&nobody);
        run(command.args(["policy", "check"]).arg(&path), LIMIT)
    };
    let outcome = check(&good()).must();
    assert!(outcome.stdout.contains("is valid"), "{}", outcome.both());
    for (what, text, must_say) in bad_policies() {
        let outcome = check(&text);
        assert_eq!(outcome.code, Some(1), "{what}: {}", outcome.both());
        let place = format!("{}:", path.display());
        for word in must_say.iter().chain([&&*place]) {
            assert!(outcome.stderr.contains(word), "{what}: {}", outcome.both());
        }
    }
    assert!(!nobody.exists(), "nothing was started to stay");
}

fn a_draft_with_every_kind_of_error_tells_all_of_them_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let draft = directory.path().join("draft.toml");
    std::fs::write(&draft, include_str!("every_error.toml")).expect("a file");
    let check = |before: &[&str]| {
        let mut command = words(&[binary("ringfence").as_os_str()]);
        command.args(["--socket", "nobody.sock"]).args(before);
        command.args(["policy", "check", "draft.toml"]);
        run(command.current_dir(directory.path()), LIMIT)
    };
    let refused = check(&[]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert_golden("every-error.txt", &refused.both());
    // The same for programs, one place after the other.
    let told = check(&["--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    let errors = told["errors"].as_array().expect("a list");
    let lines: Vec<u64> = errors.iter().filter_map(|e| e["line"].as_u64()).collect();
    assert!(
        lines.is_sorted() && lines.len() == errors.len(),
        "{lines:?}"
    );
    let printed = refused.both().matches(": error: ").count();
    assert_eq!(errors.len(), printed, "{told:#}");
}

fn bad_captures_are_refused_in_a_sentence() {
    let refused = [
        "empty.pcap",
        "header-only.pcap",
        "cut-in-header.pcap",
        "not-a-capture.pcap",
        "not-ethernet.pcap",
        "length-lies.pcap",
        "no-such-file.pcap",
    ];
    for name in refused {
        let outcome = replay(name);
        assert_eq!(outcome.code, Some(4), "{name}: {outcome}");
        assert!(
            outcome.stderr.contains(name) && outcome.stderr.lines().count() <= 3,
            "{name}: {outcome}"
        );
        assert!(outcome.stdout.is_empty(), "{name}: {outcome}");
    }
    // Frames before the damage are counted, and the damage is told.
    let outcome = replay("cut-in-frame.pcap");
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome}");
    assert!(outcome.stderr.contains("cut"), "{outcome}");
    assert!(
        outcome.stdout.lines().count() > 5,
        "the flows before it are printed: {outcome}"
    );
}

fn replay(name: &str) -> Outcome {
    let mut command = words(&[binary("ringfence")]);
    command
        .arg("replay")
        .arg(own_captures().join("bad").join(name))
        .args(["--format", "tsv"]);
    run(&mut command, LIMIT)
}

/// Starts a dataplane by itself in a lab, as it would be by hand.
fn dataplane(lab: &Lab, before: &[&str], config: &str) -> Outcome {
    let path = lab.file("by-hand.toml", config).display().to_string();
    let program = binary("ringfence-dataplane").display().to_string();
    lab.run(
        "box",
        &[before, &[&program, "--config", &path]].concat(),
        LIMIT,
    )
}

fn by_hand(lab: &Lab, name: &str, lane: &str, memory: &str) -> String {
    let directory = lab.directory().join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    format!(
        "[dataplane]\nrun_dir = \"{0}\"\nstate_dir = \"{0}\"\n\n[eal]\nfile_prefix = \"{1}-{name}\"\n\n[memory]\n{memory}\n\n{lane}",
        directory.display(),
        lab.namespace("hand")
    )
}

const LANE: &str = "[[lane]]\ninside = \"af_packet:in0\"\noutside = \"af_packet:out0\"\n";

fn a_port_that_does_not_exist_is_named() {
    let lab = Lab::new();
    let config = by_hand(
        &lab,
        "port",
        "[[lane]]\ninside = \"af_packet:in0\"\noutside = \"af_packet:nowhere0\"\n",
        "",
    );
    let outcome = dataplane(&lab, &[], &config);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(outcome.stderr.contains("nowhere0"), "{outcome}");
}

fn missing_hugepages_are_told_with_their_remedy() {
    let lab = Lab::new();
    // More buffers than any test machine has hugepages for, in case that it has some.
    let config = by_hand(
        &lab,
        "huge",
        LANE,
        "hugepages = \"always\"\nmbufs = 16000000",
    );
    let outcome = dataplane(&lab, &[], &config);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    assert!(outcome.stderr.contains("hugepage-setup"), "{outcome}");
}

fn missing_permission_is_told() {
    let lab = Lab::new();
    let config = by_hand(&lab, "nobody", LANE, "hugepages = \"never\"");
    open_to_all(&lab);
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let outcome = dataplane(&lab, &nobody, &config);
    assert_eq!(outcome.code, Some(1), "{outcome}");
    let said = outcome.stderr.to_lowercase();
    assert!(
        said.contains("permi") || said.contains("root") || said.contains("cap_net_raw"),
        "{outcome}"
    );
    // The operator's command, kept out by the mode of the socket.
    let appliance = lab.appliance(&Settings::default());
    let socket = lab
        .directory()
        .join("run/control.sock")
        .display()
        .to_string();
    let program = binary("ringfence").display().to_string();
    let asked = lab.run(
        "box",
        &[&nobody[..], &[&program, "--socket", &socket, "status"]].concat(),
        LIMIT,
    );
    assert_eq!(asked.code, Some(3), "{asked}");
    assert!(
        asked.stderr.to_lowercase().contains("permission"),
        "{asked}"
    );
    appliance.finish();
}

/// The lab's directory and the binaries must be reachable for others, so that what is shown is the refusal meant.
fn open_to_all(lab: &Lab) {
    let mut command = words(&["chmod", "-R", "a+rwX"]);
    let _ = run(command.arg(lab.directory()), LIMIT).must();
}

fn a_second_instance_is_refused() {
    let lab = Lab::new();
    let mut appliance = lab.appliance(&Settings {
        policy: Some(good()),
        ..Settings::default()
    });
    let pid = appliance.dataplane_pid();
    let program = binary("ringfence").display().to_string();
    let directory = lab.directory().display();
    let (dataplane, control) = (
        format!("{directory}/dataplane.toml"),
        format!("{directory}/control.toml"),
    );
    let socket = format!("{directory}/run/control.sock");
    let again = [
        &program,
        "--socket",
        &socket,
        "up",
        "--config",
        &dataplane,
        "--control-config",
        &control,
    ];
    let second = lab.run("box", &again, LIMIT);
    assert!(!second.ok() && !second.timed_out, "{second}");
    assert!(
        second.stderr.contains("run") && second.stderr.lines().count() <= 12,
        "{second}"
    );
    let program = binary("ringfence-dataplane").display().to_string();
    let second = lab.run("box", &[&program, "--config", &dataplane], LIMIT);
    assert_eq!(second.code, Some(1), "{second}");
    appliance.wait_ready();
    assert_eq!(appliance.dataplane_pid(), pid, "the first goes on");
    appliance.finish();
}

fn a_full_disk_refuses_the_policy() {
    let lab = Lab::new();
    let state = lab.directory().join("control");
    std::fs::create_dir_all(&state).expect("a directory");
    let first = format!("mount -t tmpfs -o size=160k tmpfs {}", state.display());
    let appliance = lab.appliance(&Settings {
        policy: Some(good()),
        first: Some(first),
        // The policy alone fills the disk here; `tests/embedded_faults.rs` of history fills it otherwise.
        control: "[history]\nengine = \"off\"\n".to_owned(),
        ..Settings::default()
    });
    let revision = appliance.json(&["policy", "show"])["revision"].clone();
    let many: String = (0..4000)
        .map(|i| {
            format!(
                "\n[[workload]]\nname = \"w{i}\"\naddresses = [\"10.80.{}.{}\"]\n",
                i / 250,
                i % 250 + 1
            )
        })
        .collect();
    let outcome = appliance.apply(&format!("{}{many}", good()));
    assert_eq!(outcome.code, Some(4), "{outcome}");
    assert!(
        outcome.stderr.contains("space") || outcome.stderr.contains("written"),
        "{outcome}"
    );
    assert_eq!(
        appliance.json(&["policy", "show"])["revision"],
        revision,
        "the old policy stays"
    );
    appliance.finish();
}

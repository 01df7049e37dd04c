//! The command line itself: what is refused, what help says, completions.

#![forbid(unsafe_code)]

mod fixtures;

use std::path::Path;

use fixtures::server::{Ended, run};

fn ringfence(arguments: &[&str]) -> Ended {
    run(Path::new("/nonexistent/control.sock"), arguments)
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_known() {
    for (arguments, word) in [
        (&["block"][..], "unrecognized subcommand"),
        (&["bound-child"], "unrecognized subcommand"),
        (&[][..], "Usage"),
        (&["top", "--by", "colour"], "segments"),
        (&["replay"], "CAPTURE"),
        (
            &["replay", "a.pcap", "--format", "xml"],
            "possible values: table, tsv, json",
        ),
        (
            &["replay", "a.pcap", "--key", "middle"],
            "possible values: outer, inner",
        ),
        (
            &["replay", "a.pcap", "--ipfix", "nowhere"],
            "write HOST:PORT",
        ),
        (
            &["up", "--lane", "eth1"],
            "for example af_packet:eth1,af_packet:eth2",
        ),
        (
            &["up", "--metrics", "9464"],
            "`9464` is neither off nor ADDRESS:PORT",
        ),
        (&["up", "--ready-timeout", "0"], "0 is not in 1..=604800"),
        (
            &["replay", "a.pcap", "--timeout", "0"],
            "0 is not in 1..=604800",
        ),
        (
            &["workload", "set", "web-1", "--label", "app"],
            "write KEY=VALUE",
        ),
        (&["explain", "web-1", "db-1"], "PROTO/PORT"),
        (&["completions", "tcsh"], "bash"),
        (&["flows", "--limit", "many"], "invalid digit"),
    ] {
        let ended = ringfence(arguments);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {ended:?}"
        );
        assert!(
            ended.stderr.contains(word),
            "{arguments:?} lacks {word}: {}",
            ended.stderr
        );
    }
}

#[test]
fn help_tells_first_steps_and_exit_codes() {
    let ended = ringfence(&["--help"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for word in [
        "First steps",
        "ringfence doctor",
        "Exit codes",
        "cannot be reached",
        "NO_COLOR",
    ] {
        assert!(
            ended.stdout.contains(word),
            "{word} is missing: {}",
            ended.stdout
        );
    }
    assert!(
        !ended.stdout.contains("bound-child"),
        "inner commands are nobody's business"
    );
}

#[test]
fn help_of_commands_has_examples() {
    for command in [
        &["up"][..],
        &["flows"],
        &["top"],
        &["policy", "check"],
        &["policy", "apply"],
        &["policy", "rollback"],
        &["policy", "confirm"],
        &["policy", "log"],
        &["policy", "candidate", "add"],
        &["policy", "watch"],
        &["segments", "readiness"],
        &["segments", "promote"],
        &["quarantine"],
        &["explain"],
        &["replay"],
        &["completions"],
    ] {
        let ended = ringfence(&[command, &["--help"]].concat());
        let example = format!("  ringfence {}", command.join(" "));
        assert!(
            ended.stdout.contains(&example),
            "{command:?}: {}",
            ended.stdout
        );
    }
}

#[test]
fn completions_know_every_command_of_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = ringfence(&["completions", shell]);
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{shell}"
        );
        for word in [
            "policy",
            "rollback",
            "accounting",
            "truth-rules",
            "workloads",
            "services",
        ] {
            assert!(ended.stdout.contains(word), "{shell} lacks {word}");
        }
        assert!(
            !ended.stdout.contains("bound"),
            "{shell} offers what is nobody's business"
        );
    }
}

#[test]
fn bash_accepts_its_completions() {
    let script = ringfence(&["completions", "bash"]).stdout;
    let checked = std::process::Command::new("bash")
        .args(["-n", "-c", &script])
        .output()
        .expect("bash starts");
    assert!(checked.status.success(), "{checked:?}");
}

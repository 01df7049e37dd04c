//! The command against a server: what it asks, what it prints, how it ends.

#![forbid(unsafe_code)]

mod fixtures;

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use api::{ApiError, ErrorCode, endpoint};
use axum::http::StatusCode;
use fixtures::server::{Server, command, run};

/// Every command that asks and shows, with the endpoint it asks last.
const SHOWING: &[(&[&str], &str)] = &[
    (&["flows"], endpoint::FLOWS),
    (&["top"], endpoint::TOP),
    (&["ports"], endpoint::PORTS),
    (&["stages"], endpoint::STAGES),
    (&["drops"], endpoint::DROPS),
    (&["segments"], endpoint::SEGMENTS),
    (&["workloads"], endpoint::WORKLOADS),
    (&["policy", "show"], endpoint::POLICY),
    (&["policy", "log"], endpoint::POLICY_LOG),
    (&["policy", "rules"], endpoint::RULES),
    (&["policy", "show", "3f9c"], endpoint::POLICY_REVISION),
    (&["explain", "web-1", "db-1", "tcp/5432"], endpoint::EXPLAIN),
    (&["verify", "accounting"], endpoint::ACCOUNTING),
];

#[test]
fn every_command_asks_its_endpoint_and_prints_a_table() {
    let server = Server::start();
    for (arguments, path) in SHOWING {
        let ended = server.run(arguments);
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
        assert!(
            !ended.stdout.is_empty() && !ended.stdout.contains('\x1b'),
            "{ended:?}"
        );
        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].1.split('?').next(), Some(*path));
    }
}

#[test]
fn json_is_the_answer_of_the_api_byte_for_byte() {
    let server = Server::start();
    let odd = "{\"drops\":[], \"total\":0,\"later\":\"a field of a later release\"}";
    server.raw("GET", endpoint::DROPS, StatusCode::OK, odd);
    assert_eq!(server.run(&["drops", "--json"]).stdout, format!("{odd}\n"));
    for (arguments, _) in SHOWING {
        let ended = server.run(&[&["--json"], *arguments].concat());
        let value: Result<serde_json::Value, _> = serde_json::from_str(&ended.stdout);
        assert!(
            value.is_ok() && ended.code == Some(0),
            "{arguments:?}: {ended:?}"
        );
    }
}

#[test]
fn a_policy_that_breaks_an_invariant_is_answered_with_no() {
    let server = Server::start();
    let mut checked = fixtures::valid();
    checked.warnings.clear();
    checked.broken_invariants.push(fixtures::broken_invariant());
    server.json("POST", endpoint::POLICY_CHECK, &checked);
    let file = server.file("shop.toml", "[policy]\n");
    let ended = server.run(&["policy", "check", &file.display().to_string()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let path = "    dev -> jump (rule dev-to-jump, ssh) -> cardholder (rule ops, tcp/any)\n";
    assert!(ended.stderr.contains(path), "{ended:?}");
    assert!(
        ended.stdout.contains("is valid, 1 broken invariant"),
        "{ended:?}"
    );
}

#[test]
fn status_shows_processes_and_ports() {
    let server = Server::start();
    let ended = server.run(&["status"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in [
        "dataplane",
        "control",
        "3f9c0ad2b7e1",
        "af_packet:eth2 DOWN",
        "missed",
    ] {
        assert!(
            ended.stdout.contains(word),
            "{word} is missing: {}",
            ended.stdout
        );
    }
}

#[test]
fn flows_pass_filter_limit_and_time_on() {
    let server = Server::start();
    let filter = "src workload web-1 and bytes > 1k";
    let ended = server.run(&[
        "flows",
        "--filter",
        filter,
        "--limit",
        "0",
        "--since",
        "2026-01-31T12:00:00Z",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let query = &server.asked()[0].1;
    for part in [
        "filter=src%20workload%20web-1%20and%20bytes%20%3E%201k",
        "limit=0",
        "since=2026-01-31T12%3A00%3A00Z",
    ] {
        assert!(query.contains(part), "{query}");
    }
}

#[test]
fn a_filter_is_refused_before_anything_is_asked() {
    let server = Server::start();
    for command in ["flows", "top"] {
        let ended = server.run(&[command, "--filter", "verdict blocked"]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("expected one of allow, deny, reject, limit"),
            "{ended:?}"
        );
        assert!(
            ended.stderr.ends_with("\n  verdict blocked\n          ^\n"),
            "{ended:?}"
        );
    }
    assert_eq!(server.asked(), []);
}

#[test]
fn followed_flows_are_printed_until_control_ends() {
    let server = Server::start();
    let lines: String = fixtures::flows()
        .flows
        .iter()
        .map(|flow| format!("{}\n", serde_json::to_string(flow).expect("JSON")))
        .collect();
    server.raw("GET", endpoint::FLOWS, StatusCode::OK, lines.clone());
    let ended = server.run(&["flows", "--follow"]);
    let golden = fixtures::golden("flows-follow");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(3), golden.as_str()),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("the control process ended"),
        "{ended:?}"
    );
    assert!(server.asked()[0].1.contains("follow=true"));
    assert_eq!(server.run(&["flows", "--follow", "--json"]).stdout, lines);
}

#[test]
fn tsv_is_passed_through() {
    let server = Server::start();
    let text = format!(
        "{}\n{}\n",
        api::Flow::tsv_header(),
        fixtures::allowed().tsv_row()
    );
    server.raw("GET", endpoint::FLOWS, StatusCode::OK, text.clone());
    let ended = server.run(&["flows", "--tsv"]);
    assert_eq!((ended.code, ended.stdout), (Some(0), text));
    assert!(server.asked()[0].1.contains("format=tsv"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let server = Server::start();
    let row = format!("{}\n", fixtures::allowed().tsv_row());
    server.raw("GET", endpoint::FLOWS, StatusCode::OK, row.repeat(20_000));
    let mut child = command(&server.socket())
        .args(["flows", "--tsv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut first = [0; 10];
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_exact(&mut first)
        .expect("ten bytes");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}

#[test]
fn explain_ends_with_1_where_the_flow_is_denied() {
    let server = Server::start();
    server.json("GET", endpoint::EXPLAIN, &fixtures::explain_denied());
    let ended = server.run(&["explain", "2001:db8::66", "db-1", "tcp/22"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout, fixtures::golden("explain-denied"));
    let query = &server.asked()[0].1;
    assert!(
        query.contains("src=2001%3Adb8%3A%3A66") && query.contains("service=tcp%2F22"),
        "{query}"
    );
}

#[test]
fn accounting_that_differs_ends_with_1() {
    let server = Server::start();
    server.json("GET", endpoint::ACCOUNTING, &fixtures::unbalanced());
    for arguments in [
        &["verify", "accounting"][..],
        &["--json", "verify", "accounting"],
    ] {
        assert_eq!(server.run(arguments).code, Some(1), "{arguments:?}");
    }
}

#[test]
fn an_invalid_policy_is_told_with_its_places_and_ends_with_1() {
    let server = Server::start();
    let file = server.file("policy.toml", "form = 1\n");
    let file = file.to_str().expect("UTF-8");
    server.json("POST", endpoint::POLICY_CHECK, &fixtures::invalid());
    let ended = server.run(&["policy", "check", file]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, fixtures::golden("policy-errors"));
    assert!(ended.stdout.contains("is not valid: 2 errors"), "{ended:?}");

    let mut error = ApiError::new(
        ErrorCode::InvalidPolicy,
        "the policy is not valid: 2 errors",
    );
    error.details = fixtures::details();
    server.refuse("POST", endpoint::POLICY_APPLY, error);
    let ended = server.run(&["policy", "apply", file]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), ""),
        "{ended:?}"
    );
    let places = fixtures::golden("policy-errors");
    assert_eq!(
        ended.stderr,
        format!("error: the policy is not valid: 2 errors\n{places}")
    );
}

/// Bodies of the changes that were asked for.
fn changes(server: &Server) -> Vec<String> {
    let asked = server.asked().into_iter();
    asked
        .filter(|(method, _, _)| method == "POST")
        .map(|(_, _, body)| body)
        .collect()
}

#[test]
fn a_change_says_what_it_did_to_live_flows() {
    let server = Server::start();
    let file = server.file("policy.toml", "");
    let file = file.to_str().expect("UTF-8");
    for arguments in [&["policy", "apply", file][..], &["policy", "rollback"]] {
        let ended = server.run(arguments);
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
        let line = "live flows   8,192 live flows were idle; each is judged at its next packet";
        assert!(ended.stdout.contains(line), "{ended:?}");
    }
    // Programs are answered at once, in the API's own words.
    let _ = server.asked();
    let ended = server.run(&["--json", "policy", "apply", file]);
    assert!(ended.stdout.starts_with('{'), "{ended:?}");
    assert_eq!(server.asked().len(), 1);
    // A control process that tells no counters: the change counts all the same.
    server.raw("GET", endpoint::STATUS, StatusCode::OK, "{}");
    let ended = server.run(&["policy", "apply", file]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("live flows"), "{ended:?}");
}

#[test]
fn apply_sends_the_text_the_name_and_the_note() {
    let server = Server::start();
    let file = server.file("policy.toml", "# \"empty\"\n");
    let ended = server.run(&[
        "policy",
        "apply",
        file.to_str().expect("UTF-8"),
        "-m",
        "because",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("3f9c0ad2b7e1") && ended.stdout.contains("412 us"),
        "{ended:?}"
    );
    let body = &changes(&server)[0];
    let request: api::policy::ApplyRequest = serde_json::from_str(body).expect("an ApplyRequest");
    assert_eq!(
        (request.text.as_str(), request.note.as_str()),
        ("# \"empty\"\n", "because")
    );
    assert_eq!(Path::new(&request.file_name), file);
}

#[test]
fn a_change_is_told_with_the_user_who_makes_it() {
    let server = Server::start();
    let file = server.file("policy.toml", "");
    let file = file.to_str().expect("UTF-8");
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("SUDO_USER", "mira"), ("USER", "root")], "mira"),
        (&[("SUDO_USER", ""), ("USER", "ada")], "ada"),
        (&[("LOGNAME", "eve")], "eve"),
        (&[], &uid),
    ];
    for (environment, author) in cases {
        for arguments in [&["policy", "apply", file][..], &["policy", "rollback"]] {
            let mut command = command(&server.socket());
            for name in ["SUDO_USER", "USER", "LOGNAME"] {
                command.env_remove(name);
            }
            let ended = command
                .args(arguments)
                .envs(environment.iter().copied())
                .output()
                .expect("the command starts");
            assert!(ended.status.success(), "{ended:?}");
            let body = &changes(&server)[0];
            assert!(body.contains(&format!("\"author\":\"{author}\"")), "{body}");
        }
    }
}

#[test]
fn rollback_asks_for_the_revision_before() {
    let server = Server::start();
    assert_eq!(server.run(&["policy", "rollback"]).code, Some(0));
    assert!(changes(&server)[0].contains("\"revision\":\"previous\""));
    assert_eq!(server.run(&["policy", "rollback", "a0d3"]).code, Some(0));
    assert!(changes(&server)[0].contains("\"revision\":\"a0d3\""));
}

#[test]
fn the_text_of_a_policy_comes_back_as_it_was_applied() {
    let server = Server::start();
    assert_eq!(
        server.run(&["policy", "show", "--text"]).stdout,
        fixtures::policy().text
    );
}

#[test]
fn doctor_joins_the_checks_of_both_sides() {
    let server = Server::start();
    let ended = server.run(&["doctor"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for word in [
        "hugepages",
        "control-socket",
        "release",
        "policy",
        "af_packet:eth2",
        "record-rings",
    ] {
        assert!(
            ended.stdout.contains(word),
            "{word} is missing: {}",
            ended.stdout
        );
    }
    let ended = server.run(&["doctor", "--json"]);
    let doctor: api::Doctor = serde_json::from_str(&ended.stdout).expect("a Doctor");
    assert!(doctor.checks.len() > 8, "{doctor:?}");
}

#[test]
fn a_control_process_that_is_not_there_is_told_with_its_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("control.sock");
    let expected = format!(
        "error: the control process is not running: nobody listens at {0}; start it with \
         `ringfence up`, or name another socket with --socket or RINGFENCE_SOCKET\n",
        socket.display()
    );
    let ended = run(&socket, &["status"]);
    assert_eq!(
        (ended.code, ended.stdout, ended.stderr),
        (Some(3), String::new(), expected.clone())
    );
    // A socket that is left over from a process that died is no different.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    assert_eq!(run(&socket, &["flows"]).stderr, expected);
}

#[test]
fn refusals_end_with_the_code_of_their_kind() {
    let server = Server::start();
    for (code, exit) in [
        (ErrorCode::BadRequest, 2),
        (ErrorCode::NotFound, 4),
        (ErrorCode::NoDataplane, 4),
        (ErrorCode::Timeout, 4),
        (ErrorCode::InvalidPolicy, 1),
    ] {
        let message = format!("refused: {code}; do something else");
        server.refuse("GET", endpoint::TOP, ApiError::new(code, &*message));
        let ended = server.run(&["top"]);
        assert_eq!(
            (ended.code, ended.stderr),
            (Some(exit), format!("error: {message}\n"))
        );
    }
}

#[test]
fn an_answer_of_another_release_is_told_so() {
    let server = Server::start();
    server.raw("GET", endpoint::PORTS, StatusCode::OK, "{\"ports\": 7}");
    let ended = server.run(&["ports"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains("may be another release"), "{ended:?}");
    server.raw("GET", endpoint::PORTS, StatusCode::BAD_GATEWAY, "<html>");
    assert_eq!(server.run(&["ports"]).code, Some(4));
}

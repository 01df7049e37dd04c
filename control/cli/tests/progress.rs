//! Work that takes long: how far it is is drawn on a terminal and nowhere else, and Ctrl-C ends it with nothing half
//! done. The terminal is a real one.

#![forbid(unsafe_code)]

mod fixtures;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use api::endpoint::POLICY_SIMULATE;
use axum::http::StatusCode;
use fixtures::server::{Server, command};
use ringfence_tests::command::{Background, wait_until};
use ringfence_tests::terminal::{CTRL_C, on_terminal};
use rustix::process::Signal;
use tempfile::TempDir;

/// Longest wait for something that takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(180);
const PROGRESS: &str = "{\"progress\":{\"conversations\":4096,\"of\":8192}}\n";
/// What is drawn of it.
const BAR: &str = "[##########----------]  50 %  4,096 of 8,192 conversations";
/// How it is taken away.
const CLEARED: &str = "\r\u{1b}[K";
const SIMULATE: [&str; 3] = ["policy", "simulate", "3f9c0ad2"];

/// The command on a terminal of its own.
fn start(socket: &Path, arguments: &[&str], directory: &TempDir) -> Background {
    let socket = socket.to_str().expect("UTF-8");
    let program = [env!("CARGO_BIN_EXE_ringfence"), "--socket", socket];
    let mut command = on_terminal(&[&program[..], arguments].concat());
    command.current_dir(directory.path());
    Background::start(&mut command, directory.path().join("screen"))
}

/// A server that begins to answer and never ends. Its thread ends when nobody waits for the answer any more.
fn unending(socket: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut asked = BufReader::new(&stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if asked.read_line(&mut line).expect("a head") == 0 {
                return;
            }
        }
        let length = PROGRESS.len();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}{length:x}\r\n{PROGRESS}\r\n");
        if (&stream).write_all(answer.as_bytes()).is_ok() {
            // The body of the question, then the end.
            let _ = asked.read_to_end(&mut Vec::new());
        }
    })
}

#[test]
fn a_bar_is_drawn_on_a_terminal_and_taken_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    let refused = "{\"error\":{\"code\":\"storage\",\"message\":\"the disk is gone\"}}\n";
    let answer = format!("{PROGRESS}{refused}");
    server.raw("POST", POLICY_SIMULATE, StatusCode::OK, answer);
    let mut command = start(&server.socket(), &SIMULATE, &directory);
    let ended = command.wait(LIMIT).and_then(|status| status.code());
    let screen = command.log();
    assert_eq!(ended, Some(4), "{screen}");
    let (_, after) = screen.split_once(BAR).expect("a bar");
    assert!(after.starts_with(CLEARED), "{screen:?}");
    assert!(after.contains("the disk is gone"), "{screen:?}");
    // The same into a pipe.
    let piped = server.run(&SIMULATE);
    assert_eq!(piped.code, Some(4));
    assert_eq!(piped.stderr, "error: the disk is gone\n", "nothing else");
}

#[test]
fn ctrl_c_takes_the_bar_away_and_ends_the_work() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("control.sock");
    let server = unending(&socket);
    let suggest = ["policy", "suggest", "--out", "draft.toml"];
    let mut command = start(&socket, &suggest, &directory);
    let is_drawn = wait_until(LIMIT, || command.log().contains(BAR));
    assert!(is_drawn, "{:?}", command.log());
    command.type_in(CTRL_C);
    let ended = command.wait(LIMIT).and_then(|status| status.code());
    let screen = command.log();
    assert_eq!(ended, Some(130), "{screen:?}");
    let (_, after) = screen.rsplit_once(CLEARED).expect("cleared");
    assert!(
        after.contains("interrupted: nothing was found out"),
        "{screen:?}"
    );
    server.join().expect("the command has hung up");
    let draft = directory.path().join("draft.toml");
    assert!(!draft.exists(), "no draft was begun");
}

#[test]
fn without_a_terminal_a_signal_ends_the_work_too() {
    for signal in [Signal::INT, Signal::TERM] {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("control.sock");
        let server = unending(&socket);
        let mut command = command(&socket);
        let log = directory.path().join("log");
        let mut asking = Background::start(command.args(SIMULATE), log);
        // Signals are taken over before anything is asked.
        assert!(wait_until(LIMIT, || has_handler(asking.id(), signal)));
        asking.signal(signal);
        let ended = asking.wait(LIMIT).and_then(|status| status.code());
        assert_eq!(ended, Some(130), "{signal:?}: {}", asking.log());
        assert_eq!(
            asking.log(),
            "warning: interrupted: nothing was found out\n"
        );
        drop(asking);
        // Where it had not asked yet, nobody will.
        drop(std::os::unix::net::UnixStream::connect(&socket));
        server.join().expect("it ends");
    }
}

/// Whether a process handles a signal itself (`SigCgt` of proc_pid_status(5): bit 0 is signal 1).
fn has_handler(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

//! `up` and `replay` with programs that fail, hang or are not there: what is said, how it ends, and
//! that nothing stays behind. That they work with the real programs is shown in the lab.

#![forbid(unsafe_code)]

mod fixtures;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fixtures::server::Ended;
use tempfile::TempDir;

/// Longest wait for something that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that is being written must not be inherited by a child of another test: it could not
/// be started as long as that child has it open.
static WRITING_OR_STARTING: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    WRITING_OR_STARTING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// A directory in which the command and its two programs are installed.
struct Installation {
    directory: TempDir,
}

impl Installation {
    /// The command alone.
    fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let installation = Self { directory };
        std::fs::create_dir(installation.temporary()).expect("a directory");
        let _alone = alone();
        std::fs::copy(
            env!("CARGO_BIN_EXE_ringfence"),
            installation.path("ringfence"),
        )
        .expect("the command can be installed");
        installation
    }

    /// The command, a shell script as control process, and a dataplane that tells its configuration
    /// and fails.
    fn with(control: &str) -> Self {
        let installation = Self::empty();
        installation.install("ringfence-control", control);
        installation.dataplane("");
        installation
    }

    /// The command and a control process that tells its process id and then says nothing.
    fn hanging() -> Self {
        let installation = Self::with("");
        let script = format!(
            "echo $$ > {}; exec sleep 600",
            installation.path("pid").display()
        );
        installation.install("ringfence-control", &script);
        installation
    }

    /// A dataplane that tells `flow` as what is in force, and fails when it is to run.
    fn dataplane(&self, flow: &str) {
        let script = format!("[ \"$3\" = --dump ] || exit 9; printf '[flow]\\n{flow}'");
        self.install("ringfence-dataplane", &script);
    }

    fn install(&self, name: &str, script: &str) {
        let _alone = alone();
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a program");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the command makes temporary files.
    fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("ringfence"));
        command
            .args(arguments)
            .env("TMPDIR", self.temporary())
            .env("PATH", "/usr/bin:/bin")
            .env("RINGFENCE_SOCKET", self.path("control.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let child = self.spawn(arguments);
        child.wait_with_output().expect("it ends").into()
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let _alone = alone();
        self.command(arguments).spawn().expect("the command starts")
    }

    /// Starts the command and waits until its control process has told its process id.
    fn start(&self, arguments: &[&str]) -> (Child, i32) {
        let child = self.spawn(arguments);
        let path = self.path("pid");
        let mut pid = None;
        wait_until("the control process tells its process id", || {
            pid = std::fs::read_to_string(&path)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        (child, pid.expect("a process id"))
    }

    fn capture(&self) -> String {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures/plain.pcap");
        own.display().to_string()
    }

    fn nothing_left(&self) -> bool {
        std::fs::read_dir(self.temporary())
            .expect("a directory")
            .next()
            .is_none()
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Whether the process is there and not a zombie.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process id"), signal).expect("it runs");
}

const LANE: &[&str] = &["up", "--lane", "null,null:size=64"];

#[test]
fn a_missing_program_is_told_with_the_directories_searched() {
    let installation = Installation::empty();
    for arguments in [LANE, &["replay", &installation.capture()]] {
        let ended = installation.run(arguments);
        assert_eq!(ended.code, Some(4), "{ended:?}");
        let expected = format!(
            "cannot find the program ringfence-dataplane; looked in {}, /usr/bin, /bin;",
            installation.directory.path().display()
        );
        assert!(ended.stderr.contains(&expected), "{ended:?}");
    }
}

#[test]
fn up_without_a_lane_says_how_to_give_one() {
    let installation = Installation::with("exit 9");
    let config = installation.path("dataplane.toml");
    std::fs::write(&config, "[dataplane]\nidle = \"sleep\"\n").expect("a file");
    let ended = installation.run(&["up", "--config", &config.display().to_string()]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("error: no lane: give --lane INSIDE,OUTSIDE"),
        "{ended:?}"
    );
}

#[test]
fn a_second_instance_is_refused() {
    let installation = Installation::with("exit 9");
    let _first = UnixListener::bind(installation.path("control.sock")).expect("a socket");
    let ended = installation.run(LANE);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("error: ringfence is already running here"),
        "{ended:?}"
    );
}

#[test]
fn a_process_that_dies_is_told_with_its_last_words_and_exit_code() {
    let installation = Installation::with("echo one; echo two >&2; exit 7");
    for arguments in [LANE, &["replay", &installation.capture()]] {
        let ended = installation.run(arguments);
        assert_eq!(ended.code, Some(4), "{ended:?}");
        let expected =
            "the control process ended before it was ready: exit code 7; its last words:\n";
        assert!(ended.stderr.contains(expected), "{ended:?}");
        assert!(
            ended.stderr.contains("\n  one\n") && ended.stderr.contains("\n  two\n"),
            "{ended:?}"
        );
        assert!(installation.nothing_left(), "{arguments:?}");
    }
}

#[test]
fn up_hands_over_where_metrics_are_served() {
    let installation = Installation::with("cat $2; exit 7");
    let config = installation.path("control.toml");
    std::fs::write(&config, "[metrics]\nlisten = \"127.0.0.1:9\"\n").expect("a file");
    let config = config.display().to_string();
    for (given, listen) in [
        (&[][..], "127.0.0.1:9"),
        (&["--metrics", "off"], "off"),
        (&["--metrics", "[::1]:9465"], "[::1]:9465"),
    ] {
        let ended = installation.run(&[LANE, &["--control-config", &config], given].concat());
        let line = format!("\n  listen = \"{listen}\"\n");
        assert!(ended.stderr.contains(&line), "{given:?}: {ended:?}");
    }
}

#[test]
fn up_tells_control_the_timeouts_of_the_dataplane_it_starts() {
    let installation = Installation::with("cat $2; exit 7");
    installation
        .dataplane("active_timeout = \"1m 30s\"\\nidle_icmp = \"11m\"\\nidle_other = \"2s\"\\n");
    let config = installation.path("control.toml");
    std::fs::write(&config, "[export]\nidle_timeout = \"7m\"\n").expect("a file");
    let config = config.display().to_string();
    for (given, idle) in [(&[][..], "660s"), (&["--control-config", &config], "7m")] {
        let ended = installation.run(&[LANE, given].concat());
        for line in [
            "\n  active_timeout = \"90s\"\n".to_owned(),
            format!("\n  idle_timeout = \"{idle}\"\n"),
        ] {
            assert!(ended.stderr.contains(&line), "{given:?}: {ended:?}");
        }
    }
}

#[test]
fn a_dataplane_that_refuses_its_configuration_is_told_before_anything_starts() {
    let installation = Installation::with("echo started; exit 7");
    installation.install("ringfence-dataplane", "echo no such key >&2; exit 2");
    let ended = installation.run(LANE);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let expected = "error: the dataplane process ended when it was asked for its configuration: \
                    exit code 2; its last words:\n  no such key\n";
    assert_eq!(ended.stderr, expected);
}

#[test]
fn up_starts_nothing_with_a_policy_that_is_not_valid() {
    let installation = Installation::empty();
    let file = installation.path("policy.toml");
    std::fs::write(&file, "form = 1\n").expect("a file");
    let started = installation.path("started");
    let invalid = serde_json::to_string(&fixtures::invalid()).expect("JSON");
    let start = format!("touch {}; exit 7", started.display());
    let check = format!("case $1 in --check-policy=*) echo '{invalid}'; exit;; esac; {start}");
    installation.install("ringfence-control", &check);
    installation.install("ringfence-dataplane", &start);
    let policy = ["--policy", &file.display().to_string()];
    let ended = installation.run(&[LANE, &policy].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let errors = fixtures::golden("policy-errors");
    assert!(ended.stderr.starts_with(&errors), "{ended:?}");
    assert!(!started.exists(), "{ended:?}");

    let missing = installation.path("missing.toml").display().to_string();
    let ended = installation.run(&[LANE, &["--policy", &missing]].concat());
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let expected = format!("error: cannot read {missing}: ");
    assert!(ended.stderr.starts_with(&expected), "{ended:?}");
    assert!(!started.exists(), "{ended:?}");
}

#[test]
fn a_flag_names_the_socket_and_the_environment_does_not_overrule_it() {
    let installation = Installation::with("cat $2; exit 7");
    let text = |name| installation.path(name).display().to_string();
    let (run_dir, own) = (text("run"), text("own.sock"));
    for (given, socket) in [
        (&[][..], text("control.sock")),
        (&["--run-dir", &run_dir], text("run/control.sock")),
        (&["--run-dir", &run_dir, "--socket", &own], own.clone()),
    ] {
        let ended = installation.run(&[LANE, given].concat());
        let line = format!("| [api]\ncontrol   | socket = \"{socket}\"\n");
        assert!(ended.stderr.contains(&line), "{given:?}: {ended:?}");
    }
    let ended =
        installation.run(&[&["--socket", &own][..], LANE, &["--run-dir", &run_dir]].concat());
    assert!(
        ended.stderr.contains(&own),
        "before the command too: {ended:?}"
    );
}

#[test]
fn up_without_the_right_to_write_says_what_to_do() {
    use std::os::unix::process::CommandExt;
    let installation = Installation::with("exit 7");
    let denied = installation.path("denied");
    std::fs::create_dir(&denied).expect("a directory");
    for (path, mode) in [(installation.directory.path(), 0o755), (&denied, 0o555)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    }
    let below = denied.join("below");
    for (run_dir, path) in [
        (&denied, denied.join("up-dataplane.toml")),
        (&below, below.clone()),
    ] {
        let run_dir = run_dir.display().to_string();
        let mut command = installation.command(&[LANE, &["--run-dir", &run_dir]].concat());
        if rustix::process::getuid().is_root() {
            command.uid(65_534);
        }
        let child = {
            let _alone = alone();
            command.spawn().expect("the command starts")
        };
        let ended = Ended::from(child.wait_with_output().expect("it ends"));
        assert_eq!(ended.code, Some(4), "{ended:?}");
        let expected = format!(
            "error: cannot write {}: Permission denied (os error 13); run as root, or give \
             --run-dir DIR and --state-dir DIR that are yours, and ports that need no privilege",
            path.display()
        );
        assert!(ended.stderr.starts_with(&expected), "{ended:?}");
    }
}

#[test]
fn a_process_killed_by_a_signal_is_told_with_the_signal() {
    let installation = Installation::with("kill -SEGV $$");
    let ended = installation.run(LANE);
    assert!(
        ended
            .stderr
            .contains("killed by signal 11 (SIGSEGV); it left no message"),
        "{ended:?}"
    );
}

#[test]
fn a_process_that_hangs_is_ended_and_told() {
    let installation = Installation::hanging();
    let ended = installation.run(&[LANE, &["--ready-timeout", "1"]].concat());
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let expected = "the control process did not answer on its socket within 1 s; it was ended";
    assert!(ended.stderr.contains(expected), "{ended:?}");
    let pid = std::fs::read_to_string(installation.path("pid"))
        .expect("it ran")
        .trim()
        .parse()
        .expect("a number");
    assert!(!runs(pid));
}

#[test]
fn ctrl_c_ends_everything_and_leaves_nothing() {
    for how in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let installation = Installation::hanging();
        let (child, pid) = installation.start(&["replay", &installation.capture()]);
        signal(&child, how);
        let ended = Ended::from(child.wait_with_output().expect("it ends"));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(130), ""),
            "{ended:?}"
        );
        assert!(!runs(pid) && installation.nothing_left(), "{ended:?}");
    }
}

#[test]
fn even_sigkill_leaves_no_process_behind() {
    let installation = Installation::hanging();
    let (mut child, pid) = installation.start(LANE);
    assert!(runs(pid));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    wait_until("the control process has ended too", || !runs(pid));
}

#[test]
fn a_child_of_a_dead_parent_does_not_start() {
    let installation = Installation::empty();
    let ended = installation.run(&["bound-child", "999999999", "--", "/bin/echo", "alive"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(130), ""),
        "{ended:?}"
    );
}

#[test]
fn without_a_control_process_a_policy_is_checked_by_the_program_alone() {
    let check = api::policy::CheckResult {
        warnings: fixtures::details(),
        ..fixtures::valid()
    };
    let json = serde_json::to_string(&check).expect("JSON");
    let installation = Installation::empty();
    installation.install(
        "ringfence-control",
        &format!(
            "echo \"$*\" > {0}/asked; cat > {0}/text; echo '{json}'",
            installation.directory.path().display()
        ),
    );
    let file = installation.path("-odd name.toml");
    let text = "# \u{fc}ber\n".repeat(50_000);
    std::fs::write(&file, &text).expect("a file");
    let arguments = ["policy", "check", &file.display().to_string()];
    let ended = installation.run(&arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("is valid, 2 warnings"), "{ended:?}");
    assert!(ended.stderr.contains("warning: "), "{ended:?}");
    let told = |name| std::fs::read_to_string(installation.path(name)).expect("it was asked");
    assert_eq!(
        told("asked"),
        format!("--check-policy={}\n", file.display())
    );
    assert!(told("text") == text, "the whole text is handed over");
    let ended = installation.run(&[&["--json"], &arguments[..]].concat());
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{json}\n")));

    let invalid = serde_json::to_string(&fixtures::invalid()).expect("JSON");
    installation.install("ringfence-control", &format!("echo '{invalid}'"));
    let ended = installation.run(&arguments);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr, fixtures::golden("policy-errors"));
}

#[test]
fn a_policy_that_cannot_be_checked_is_told_with_the_program_and_its_last_words() {
    let installation = Installation::empty();
    let file = installation.path("policy.toml");
    std::fs::write(&file, "form = 1\n").expect("a file");
    let arguments = ["policy", "check", &file.display().to_string()];
    let ended = installation.run(&arguments);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let expected = "error: cannot find the program ringfence-control; looked in ";
    assert!(ended.stderr.starts_with(expected), "{ended:?}");
    installation.install("ringfence-control", "echo out of luck >&2; exit 3");
    let ended = installation.run(&arguments);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let expected = "did not check the policy (exit status: 3): out of luck\n";
    assert!(ended.stderr.ends_with(expected), "{ended:?}");
}

//! Commands with a time limit. Nothing that a test starts outlives it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const POLL: Duration = Duration::from_millis(5);

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command as typed, for messages.
    pub command: String,
    /// Exit code; none where a signal or the time limit ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// From start to end.
    pub took: Duration,
}

impl Outcome {
    /// Exit code 0 within its time.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }

    /// The outcome itself, if it is good.
    ///
    /// # Panics
    /// If it is not, with everything the command said.
    #[track_caller]
    #[must_use]
    pub fn must(self) -> Self {
        assert!(self.ok(), "{self}");
        self
    }

    /// Standard output and standard error.
    #[must_use]
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match (self.timed_out, self.code) {
            (true, _) => "was stopped at its time limit".to_owned(),
            (false, Some(code)) => format!("ended with {code}"),
            (false, None) => "was killed by a signal".to_owned(),
        };
        write!(
            f,
            "`{}` {how} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.took, self.stdout, self.stderr
        )
    }
}

/// Runs a command to its end, at most `limit`. Output goes through files, so none is too long.
///
/// # Panics
/// If the program cannot be started.
#[must_use]
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    let mut out = tempfile::tempfile().expect("a temporary file");
    let mut err = tempfile::tempfile().expect("a temporary file");
    command
        .stdout(share(&out))
        .stderr(share(&err))
        .process_group(0);
    let text = typed(command);
    let begin = Instant::now();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("`{text}` cannot be started: {error}"));
    let status = wait(&mut child, limit);
    if status.is_none() {
        end_group(&mut child);
    }
    Outcome {
        command: text,
        code: status.and_then(|status| status.code()),
        stdout: content(&mut out),
        stderr: content(&mut err),
        timed_out: status.is_none(),
        took: begin.elapsed(),
    }
}

/// A command line from words: the first is the program.
///
/// # Panics
/// If there is no word.
#[must_use]
pub fn words<S: AsRef<std::ffi::OsStr>>(words: &[S]) -> Command {
    let (program, arguments) = words.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A process that runs beside the test. Dropped, it is gone, with everything it started.
#[derive(Debug)]
pub struct Background {
    child: Child,
    text: String,
    log: PathBuf,
}

impl Background {
    /// Starts it; standard output and error go to `log`.
    ///
    /// # Panics
    /// If the program cannot be started or the log cannot be made.
    #[must_use]
    pub fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        command.stdout(share(&file)).stderr(file).process_group(0);
        let text = typed(command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("`{text}` cannot be started: {error}"));
        Self { child, text, log }
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Writes to its standard input, where that is a pipe.
    ///
    /// # Panics
    /// If it is none, or nobody reads it.
    pub fn type_in(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(bytes).expect("somebody reads");
    }

    /// Sends a signal to the process itself.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(pid(&self.child), signal);
    }

    /// Waits for its end, at most `limit`; none where it still runs.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, limit)
    }

    /// Asks it to end (SIGTERM) and waits for it, at most `limit`.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit).unwrap_or_else(|| {
            panic!(
                "`{}` did not end within {limit:?} of SIGTERM\n{}",
                self.text,
                self.log()
            )
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        end_group(&mut self.child);
    }
}

/// Waits until `condition` holds, at most `limit`. True if it came to hold.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(POLL),
            _ => return None,
        }
    }
}

/// Each command leads a process group of its own, so that its children go with it.
fn end_group(child: &mut Child) {
    let _ = kill_process_group(pid(child), Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

fn share(file: &File) -> File {
    file.try_clone().expect("a second handle of a file")
}

fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

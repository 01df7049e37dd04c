//! One child process: its log lines, its end, and its last words.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::{BoundChild, last_resort};

/// Log lines kept of each child, for the report of its death.
const LAST_LINES_MAX: usize = 20;
/// Bytes of one log line that are kept; the rest of the line is not shown.
const LINE_BYTES_MAX: usize = 4096;
/// How long the last log lines of a dead child are waited for; a grandchild may hold the pipe.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a killed child may take to be gone; only the kernel can make it wait.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether it is.
const KILL_INTERVAL: Duration = Duration::from_millis(1);

/// What becomes of a child's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// Printed to standard error with the child's name in front.
    Prefixed,
    /// Only the last are kept, for the report of its death.
    Kept,
}

/// Why a child did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("cannot start {program}: {source}", program = program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended.
    #[error("the {name} process ended {when}: {ended}{}", last_words(last_lines))]
    Ended {
        /// Which.
        name: &'static str,
        /// In which phase, as the end of a sentence.
        when: &'static str,
        /// Exit code or signal.
        ended: String,
        /// The last lines of its log.
        last_lines: Vec<String>,
    },
    /// It runs and does not get where it should.
    #[error(
        "the {name} process did not {what} within {seconds} s; it was ended{}",
        last_words(last_lines)
    )]
    Hung {
        /// Which.
        name: &'static str,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
        /// The last lines of its log.
        last_lines: Vec<String>,
    },
}

fn last_words(lines: &[String]) -> String {
    if lines.is_empty() {
        return "; it left no message".to_owned();
    }
    let mut text = "; its last words:".to_owned();
    for line in lines {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

/// A running child, or one that has ended and not been dropped. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    pid: Pid,
    process: tokio::process::Child,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts `program`, bound to this process's life and in a process group of its own, so that
    /// Ctrl-C in the terminal reaches this process only and the order of stopping is ours.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start<A: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &Environment,
        logs: Logs,
    ) -> Result<Self, ChildError> {
        let failed = |source| ChildError::Start {
            program: program.to_owned(),
            source,
        };
        let mut command = Command::new("/proc/self/exe");
        command
            .args(BoundChild::ask(rustix::process::getpid()))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        environment.give_to(&mut command);
        let mut process = command.spawn().map_err(failed)?;
        let pid = process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(io::Error::other("it has no process id")))?;
        last_resort::kill_on_panic(pid);
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = process.stdout.take() {
            readers.push(tokio::spawn(read_lines(
                stdout,
                name,
                logs,
                Arc::clone(&last_lines),
            )));
        }
        if let Some(stderr) = process.stderr.take() {
            readers.push(tokio::spawn(read_lines(
                stderr,
                name,
                logs,
                Arc::clone(&last_lines),
            )));
        }
        Ok(Self {
            name,
            pid,
            process,
            last_lines,
            readers,
            ended: None,
        })
    }

    /// Which process it is.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits for its end and for its last log lines. May be asked again.
    ///
    /// # Errors
    /// The system cannot tell.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let ended = self.process.wait().await?;
        self.ended = Some(ended);
        last_resort::forget(self.pid);
        for reader in &mut self.readers {
            let _ = tokio::time::timeout(LAST_LINES_TIMEOUT, reader).await;
        }
        self.readers.clear();
        Ok(ended)
    }

    /// Asks it to stop, and kills it where it does not within `grace`. Returns whether it stopped
    /// by itself.
    ///
    /// # Errors
    /// The system cannot tell its end.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<bool> {
        if self.ended.is_none() {
            // It may have ended in between: then there is nothing to ask.
            let _ = kill_process(self.pid, Signal::TERM);
        }
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(ended) => ended.map(|_| true),
            Err(_) => {
                self.process.start_kill()?;
                self.wait().await.map(|_| false)
            }
        }
    }

    /// The report of its end.
    #[must_use]
    pub fn ended_error(&self, when: &'static str) -> ChildError {
        ChildError::Ended {
            name: self.name,
            when,
            ended: self
                .ended
                .map_or_else(|| "nobody knows how".to_owned(), describe),
            last_lines: self.last_lines(),
        }
    }

    /// The report of its not getting where it should.
    #[must_use]
    pub fn hung_error(&self, what: &'static str, waited: Duration) -> ChildError {
        ChildError::Hung {
            name: self.name,
            what,
            seconds: waited.as_secs(),
            last_lines: self.last_lines(),
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        let lines = self
            .last_lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = kill_process(self.pid, Signal::KILL);
            last_resort::forget(self.pid);
            // Gone, not only told to go: what comes next may take away the directory it works in.
            let deadline = Instant::now() + KILL_TIMEOUT;
            while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(KILL_INTERVAL);
            }
        }
    }
}

/// What a child finds in its environment, beside what this process has.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Variables to set.
    pub set: Vec<(&'static str, PathBuf)>,
    /// Whether variables that configure the processes are kept away from it.
    pub without_configuration: bool,
}

impl Environment {
    fn give_to(&self, command: &mut Command) {
        if self.without_configuration {
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("RINGFENCE_") {
                    command.env_remove(name);
                }
            }
        }
        for (name, value) in &self.set {
            command.env(name, value);
        }
    }
}

/// An exit status in words.
pub(super) fn describe(ended: ExitStatus) -> String {
    match (ended.code(), ended.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                _ => "",
            };
            format!("killed by signal {signal}{name}")
        }
        (None, None) => ended.to_string(),
    }
}

/// A line of a log without what would steer a terminal.
pub(super) fn printable(line: &str) -> String {
    line.trim_end().replace(|c: char| c.is_control(), "?")
}

async fn read_lines(
    pipe: impl AsyncRead + Unpin,
    name: &'static str,
    logs: Logs,
    last_lines: Arc<Mutex<VecDeque<String>>>,
) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        line.truncate(LINE_BYTES_MAX);
        let text = printable(&String::from_utf8_lossy(&line));
        if logs == Logs::Prefixed {
            // A terminal that went away must not stop the child's log from being read.
            let _ = writeln!(io::stderr().lock(), "{name:<9} | {text}");
        }
        let mut kept = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}

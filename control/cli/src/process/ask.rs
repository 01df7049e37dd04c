//! One question to a program: started, read to its end, gone.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::ChildError;
use super::child::{describe, printable};

/// Longest time that an answer may take; it takes milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// What is not done by a program that does not answer in time.
const WHAT: &str = "answer a question about its configuration";

/// What `program` prints on standard output. Dropping the future ends the program.
///
/// # Errors
/// It cannot be started, fails, or takes too long.
pub async fn ask<A: AsRef<OsStr>>(
    name: &'static str,
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String, ChildError> {
    let failed = |source: io::Error| ChildError::Start {
        program: program.to_owned(),
        source,
    };
    let answer = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer)
        .await
        .map_err(|_| ChildError::Hung {
            name,
            what: WHAT,
            seconds: ANSWER_TIMEOUT.as_secs(),
            last_lines: Vec::new(),
        })?
        .map_err(failed)?;
    if !answer.status.success() {
        return Err(ChildError::Ended {
            name,
            when: "when it was asked for its configuration",
            ended: describe(answer.status),
            last_lines: String::from_utf8_lossy(&answer.stderr)
                .lines()
                .map(printable)
                .collect(),
        });
    }
    String::from_utf8(answer.stdout)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

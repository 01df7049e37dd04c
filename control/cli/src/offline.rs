//! Checks a policy where no control process runs: by the program that would, started for this one
//! question. It reads no configuration, opens no socket and keeps nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use api::policy::{CheckRequest, CheckResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::Answer;
use crate::error::{CliError, ClientError};
use crate::process::Programs;

/// Longest check. The largest policy that is taken needs a tenth of it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a policy could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The program cannot be started or spoken to.
    #[error("cannot check the policy with {program}: {source}", program = program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended without an answer.
    #[error("{program} did not check the policy ({ended}): {told}", program = program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Exit code or signal.
        ended: String,
        /// What it said, or what is wrong with what it said.
        told: String,
    },
    /// The question cannot be written down.
    #[error("the question cannot be asked: {why}")]
    Question {
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{program} did not check the policy within {seconds} s; it was ended", program = program.display())]
    Slow {
        /// The program.
        program: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
}

/// Asks `ringfence-control --check-policy`.
pub(crate) async fn check_policy(request: &CheckRequest) -> Result<Answer<CheckResult>, CliError> {
    // One word, so that a name may begin with a dash.
    let flag = format!("--check-policy={}", request.file_name);
    answered(&flag, request.text.as_bytes()).await
}

/// Asks `ringfence-control --policy-question WORD`, the question as the API takes it.
pub(crate) async fn ask<T: DeserializeOwned>(
    word: &str,
    question: &impl Serialize,
) -> Result<Answer<T>, CliError> {
    let json = serde_json::to_vec(question).map_err(|source| OfflineError::Question {
        why: source.to_string(),
    })?;
    answered(&format!("--policy-question={word}"), &json).await
}

async fn answered<T: DeserializeOwned>(flag: &str, input: &[u8]) -> Result<Answer<T>, CliError> {
    let program = Programs::locate_control()?;
    let unusable = |source| OfflineError::Unusable {
        program: program.clone(),
        source,
    };
    let output = tokio::time::timeout(CHECK_TIMEOUT, run(&program, flag, input))
        .await
        .map_err(|_| OfflineError::Slow {
            program: program.clone(),
            seconds: CHECK_TIMEOUT.as_secs(),
        })?
        .map_err(unusable)?;
    let failed = |told: String| OfflineError::Failed {
        program: program.clone(),
        ended: output.status.to_string(),
        told,
    };
    if !output.status.success() {
        // What the API would have refused is refused in its words.
        if let Ok(body) = serde_json::from_slice::<api::ErrorBody>(&output.stdout) {
            return Err(ClientError::Refused(body.error).into());
        }
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(told).into());
    }
    let json = output.stdout.trim_ascii_end();
    let value = serde_json::from_slice(json).map_err(|error| failed(error.to_string()))?;
    Ok(Answer {
        value,
        json: json.to_vec().into(),
    })
}

async fn run(program: &Path, flag: &str, input: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(program)
        .arg(flag)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It answers only once it has read everything. Where it ends before that, its last words
        // say why, and a broken pipe would not.
        let _ = stdin.write_all(input).await;
    }
    child.wait_with_output().await
}

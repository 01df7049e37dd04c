//! Checks a policy where no control process runs: by the program that would, started for this one
//! question. It reads no configuration, opens no socket and keeps nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use api::policy::{CheckRequest, CheckResult};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::Answer;
use crate::error::CliError;
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
    let program = Programs::locate_control()?;
    let unusable = |source| OfflineError::Unusable {
        program: program.clone(),
        source,
    };
    let output = tokio::time::timeout(CHECK_TIMEOUT, run(&program, request))
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

async fn run(program: &Path, request: &CheckRequest) -> io::Result<Output> {
    let mut child = Command::new(program)
        // One word, so that a name may begin with a dash.
        .arg(format!("--check-policy={}", request.file_name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It answers only once it has read everything. Where it ends before that, its last words
        // say why, and a broken pipe would not.
        let _ = stdin.write_all(request.text.as_bytes()).await;
    }
    child.wait_with_output().await
}

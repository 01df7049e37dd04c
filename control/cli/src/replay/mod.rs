//! `ringfence replay`: a capture through the real dataplane, every flow printed.
//!
//! Both processes are started in a private directory with the capture as mirror port, and are gone
//! afterwards, whatever happens. The phases are in [`run`]; each has a limit in time, and the
//! message of a phase that takes too long says which it was.

pub mod capture;
mod distinct;
mod ethernet;
mod link_type;
mod pcapng;
mod report;
mod rewrite;
mod run;
mod workspace;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

pub use capture::{Capture, CaptureError, Cut, PassedOver, Refused};
pub use report::{Summary, order, summary};
pub use run::{Judged, Replayed, WouldDrop};
pub use workspace::WorkspaceError;

use crate::args::{Format, ReplayArgs};
use crate::client::Client;
use crate::commands::{check_filter, read};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use crate::process::{Programs, Signals};
use crate::progress;
use workspace::History;

/// Why a replay failed. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be replayed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The private directory cannot be made.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A phase took too long, and both processes answer.
    #[error("replay: {what} took longer than {} s; both processes were ended", limit.as_secs())]
    Slow {
        /// The phase.
        what: &'static str,
        /// Its limit.
        limit: Duration,
    },
    /// Not every flow that was recorded can be printed.
    #[error(
        "replay: {kept} of {collected} flow records were kept by the control process; the \
             capture has more flows than can be printed; split it with `editcap -c`"
    )]
    NotAllKept {
        /// Records collected.
        collected: u64,
        /// Records that can be printed.
        kept: u64,
    },
}

impl ReplayError {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::Failed
    }
}

impl From<ReplayError> for CliError {
    fn from(error: ReplayError) -> Self {
        Self::Replay(Box::new(error))
    }
}

/// Replays a capture and prints its flows.
pub(crate) async fn replay(
    args: &ReplayArgs,
    json: bool,
    output: Output,
) -> Result<Exit, CliError> {
    // Everything that can be found wrong without starting a process is found here.
    check_filter(args.filter.as_deref())?;
    let capture = capture::inspect(&args.capture).map_err(ReplayError::from)?;
    if let Some(policy) = &args.policy {
        read(policy)?;
    }
    let programs = Programs::locate()?;
    let mut signals = Signals::new().map_err(CliError::Runtime)?;
    let workspace =
        workspace::Workspace::make(args, &capture, History::Off).map_err(ReplayError::from)?;
    let mut run = run::Run::new(args, &capture, &workspace, programs, output);
    let ended = tokio::select! {
        ended = run.phases() => Some(ended),
        _ = signals.next() => None,
    };
    // The processes end before their directory goes.
    run.end().await;
    drop(workspace);
    let Some(mut replayed) = ended.transpose()? else {
        progress::clear(output);
        output.warning("interrupted: no flows are printed");
        return Ok(Exit::Interrupted);
    };
    let Some(result) = replayed.take() else {
        return Ok(Exit::No);
    };
    for warning in capture.warnings(&args.capture) {
        output.warning(&warning);
    }
    let format = args
        .format
        .unwrap_or(if json { Format::Json } else { Format::Table });
    print(args, &result, format, output)?;
    let summary = Summary {
        capture: &capture,
        result: &result,
        filtered: args.filter.is_some(),
    };
    output.error_page(&report::summary(
        &args.capture.display().to_string(),
        &summary,
    ));
    let refused = result.exported.iter().any(|export| export.errors > 0);
    Ok(match (result.accounting.balanced, refused) {
        (false, _) => Exit::No,
        (true, true) => Exit::Failed,
        (true, false) => Exit::Ok,
    })
}

/// Replays a capture in a private appliance and asks that about it. None where it was interrupted or the policy is
/// not valid, which has then been told.
pub(crate) async fn record<T>(
    capture: &Path,
    policy: Option<&Path>,
    output: Output,
    ask: impl AsyncFnOnce(&Client) -> Result<T, CliError>,
) -> Result<Option<T>, CliError> {
    let args = ReplayArgs::record(capture.to_owned(), policy.map(Path::to_owned));
    let inspected = capture::inspect(capture).map_err(ReplayError::from)?;
    let programs = Programs::locate()?;
    let mut signals = Signals::new().map_err(CliError::Runtime)?;
    let workspace =
        workspace::Workspace::make(&args, &inspected, History::Kept).map_err(ReplayError::from)?;
    let mut run = run::Run::new(&args, &inspected, &workspace, programs, output);
    let asked = tokio::select! {
        asked = async {
            if run.record().await? {
                ask(run.client()).await.map(Some)
            } else {
                Ok(None)
            }
        } => Some(asked),
        _ = signals.next() => None,
    };
    // The processes end before their directory goes.
    run.end().await;
    drop(workspace);
    for warning in inspected.warnings(capture) {
        output.warning(&warning);
    }
    match asked {
        Some(answer) => answer,
        None => {
            progress::clear(output);
            output.warning("interrupted: nothing was found out");
            Ok(None)
        }
    }
}

fn print(
    args: &ReplayArgs,
    result: &run::Replayed,
    format: Format,
    output: Output,
) -> Result<(), CliError> {
    let Some(path) = &args.out else {
        return match format {
            Format::Table => output
                .page(&crate::print::flows(&result.flows, crate::commands::now()))
                .map(|_| ()),
            Format::Tsv | Format::Json => output
                .bytes(&report::lines(&result.flows, format))
                .map(|_| ()),
        };
    };
    let text = match format {
        Format::Table => crate::print::flows(&result.flows, crate::commands::now())
            .render(false)
            .into_bytes(),
        Format::Tsv | Format::Json => report::lines(&result.flows, format),
    };
    let unwritable = |source| CliError::Unwritable {
        path: path.clone(),
        source,
    };
    let mut file = std::fs::File::create(path).map_err(unwritable)?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(unwritable)
}

//! `ringfence policy simulate`, and what else is answered line by line while it is worked out.

use super::{Context, check_filter, check_policy_offline, read};
use crate::args::simulate::{FailOn, PeriodArgs, SimulateArgs};
use crate::client::{Client, Lines};
use crate::error::{CliError, ClientError};
use crate::exit::Exit;
use crate::output::Output;
use crate::process::Signals;
use crate::{print, progress, replay};
use api::endpoint;
use api::simulate::{Line, SimulateRequest, Simulation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Shortest beginning of a revision that names one.
const REVISION_DIGITS_MIN: usize = 4;

/// An answer that took long: what it means, and its line as it came.
pub(super) struct LongAnswer<T> {
    pub(super) value: T,
    pub(super) json: Vec<u8>,
}

impl Context {
    pub(super) async fn simulate(&self, args: SimulateArgs) -> Result<Exit, CliError> {
        check_filter(args.period.filter.as_deref())?;
        let Some(request) = self.draft(&args).await? else {
            return Ok(Exit::No);
        };
        let path = endpoint::POLICY_SIMULATE;
        let Some(answer) = self
            .over::<Simulation>(&args.period, path, &request)
            .await?
        else {
            return Ok(Exit::Interrupted);
        };
        self.print(&answer.json, || print::simulate::simulation(&answer.value))?;
        Ok(exit(&answer.value, args.fail_on))
    }

    /// The request; none where the draft is not valid, which has then been told.
    async fn draft(&self, args: &SimulateArgs) -> Result<Option<SimulateRequest>, CliError> {
        let request = SimulateRequest {
            file_name: args.draft.display().to_string(),
            since: args.period.since.clone(),
            until: args.period.until.clone(),
            filter: args.period.filter.clone(),
            limit: args.limit,
            unchanged: args.unchanged,
            enforce: args.enforce,
            ..SimulateRequest::default()
        };
        if let Some(revision) = revision(&args.draft).filter(|_| args.period.capture.is_none()) {
            return Ok(Some(SimulateRequest {
                revision: Some(revision),
                ..request
            }));
        }
        let text = read(&args.draft)?;
        // Nothing is replayed for a draft that cannot be judged.
        if args.period.capture.is_some() && !check_policy_offline(&args.draft, self.output).await? {
            return Ok(None);
        }
        Ok(Some(SimulateRequest {
            text: Some(text),
            ..request
        }))
    }

    /// Asks about history, or about the flows of a capture, which is then replayed first. None where that was
    /// interrupted, which has then been told.
    pub(super) async fn over<T: DeserializeOwned>(
        &self,
        period: &PeriodArgs,
        path: &str,
        request: &impl Serialize,
    ) -> Result<Option<LongAnswer<T>>, CliError> {
        let output = self.output;
        let Some(capture) = &period.capture else {
            let mut signals = Signals::new().map_err(CliError::Runtime)?;
            let answer = tokio::select! {
                answer = ask_long(&self.client, output, path, request) => Some(answer),
                _ = signals.next() => None,
            };
            if answer.is_none() {
                progress::clear(output);
                output.warning("interrupted: nothing was found out");
            }
            return answer.transpose();
        };
        let policy = period.policy.as_deref();
        replay::record(capture, policy, output, async |client: &Client| {
            ask_long(client, output, path, request).await
        })
        .await
    }
}

/// What stands for a revision: no file of that name, and nothing but hexadecimal digits.
fn revision(draft: &Path) -> Option<String> {
    let text = draft.to_str()?;
    let is_revision = text == "previous"
        || (text.len() >= REVISION_DIGITS_MIN && text.bytes().all(|b| b.is_ascii_hexdigit()));
    (is_revision && !draft.exists()).then(|| text.to_owned())
}

/// Asks for what takes long, and shows how far it has come. Where this ends early the work ends with it: the control
/// process notices that nobody waits any more.
async fn ask_long<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    path: &str,
    request: &impl Serialize,
) -> Result<LongAnswer<T>, CliError> {
    let mut lines = client.post_lines(path, request).await?;
    let answer = last(&mut lines, output, path).await;
    progress::clear(output);
    answer
}

async fn last<T: DeserializeOwned>(
    lines: &mut Lines,
    output: Output,
    path: &str,
) -> Result<LongAnswer<T>, CliError> {
    let not_understood = |message: String| ClientError::NotUnderstood {
        path: path.to_owned(),
        message,
    };
    while let Some(json) = lines.next().await? {
        match serde_json::from_slice::<Line<T>>(&json) {
            Ok(Line::Progress { progress }) => {
                progress::draw(output, progress.conversations, progress.of, "conversations");
            }
            Ok(Line::Failed { error }) => return Err(ClientError::Refused(error).into()),
            Ok(Line::Done(value)) => return Ok(LongAnswer { value, json }),
            Err(error) => return Err(not_understood(error.to_string()).into()),
        }
    }
    Err(not_understood("it ends before it has said anything".to_owned()).into())
}

fn exit(simulation: &Simulation, fail_on: FailOn) -> Exit {
    let [enforced, pending] = [&simulation.enforced, &simulation.pending];
    let flows = |tallies: &[u64]| tallies.iter().any(|conversations| *conversations > 0);
    let denied = enforced.newly_denied.conversations;
    let fails = match fail_on {
        FailOn::Denied => flows(&[denied]),
        FailOn::Uncertain => flows(&[denied, enforced.uncertain.conversations]),
        FailOn::Changed => flows(&[
            denied,
            enforced.newly_allowed.conversations,
            pending.newly_denied.conversations,
            pending.newly_allowed.conversations,
        ]),
        FailOn::Never => false,
    };
    if fails { Exit::No } else { Exit::Ok }
}

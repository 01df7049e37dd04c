//! One function a command: ask, print, and say with which exit code it ends.

mod candidate;
mod explain;
mod history;
mod life;
mod reach;
mod segments;
mod simulate;
mod suggest;
mod watch;
mod workload;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use api::filter::Filter;
use api::flow::{Flows, FlowsFormat};
use api::policy::{
    ApplyRequest, ApplyResult, CheckRequest, CheckResult, PolicyInForce, Revision, RevisionQuery,
    RollbackRequest, Rules, Workloads,
};
use api::{
    Accounting, Drops, Flow, FlowsQuery, Ports, Stages, Status, Top, TopQuery, Ts, endpoint,
};
use clap::CommandFactory;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::candidate::CandidateCommand;
use crate::args::life::TermsArgs;
use crate::args::{Cli, Command, FlowsArgs, PolicyCommand, TopArgs, VerifyCommand};
use crate::client::{Client, Lines};
use crate::error::{CliError, ClientError};
use crate::exit::Exit;
use crate::output::{Output, Reader};
use crate::page::Page;
use crate::{doctor, offline, print, replay, settle, up};

/// Where a command asks and how it prints.
#[derive(Clone, Debug)]
struct Context {
    client: Client,
    json: bool,
    output: Output,
}

/// Runs one command.
pub(crate) async fn run(cli: Cli, output: Output) -> Result<Exit, CliError> {
    let context = Context {
        client: Client::new(&cli.socket),
        json: cli.json,
        output,
    };
    match cli.command {
        Command::Up(up) => {
            let socket = up::socket(&up, &cli.socket, cli.socket_by_flag);
            up::up(&up, &socket, output).await
        }
        Command::Status => context.status().await,
        Command::Flows(flows) => context.flows(&flows).await,
        Command::Top(top) => context.top(top).await,
        Command::Watch(watch) => context.watch(watch).await,
        Command::History(question) => context.history(question).await,
        Command::Ports => context.table::<Ports>(endpoint::PORTS, print::ports).await,
        Command::Stages => {
            context
                .table::<Stages>(endpoint::STAGES, print::stages)
                .await
        }
        Command::Drops => context.table::<Drops>(endpoint::DROPS, print::drops).await,
        Command::Segments(args) => context.segments(args).await,
        Command::Quarantine(args) => context.quarantine(args).await,
        Command::Workloads => {
            let print = |workloads: &Workloads| print::workloads(workloads, now());
            context.table(endpoint::WORKLOADS, print).await
        }
        Command::Workload(change) => context.workload(change).await,
        Command::Policy(policy) => context.policy(policy).await,
        Command::Explain(explain) => context.explain(explain).await,
        Command::Verify(VerifyCommand::Accounting) => context.accounting().await,
        Command::Doctor(args) => doctor::doctor(&args, &context.client, cli.json, output).await,
        Command::Replay(args) => replay::replay(&args, cli.json, output).await,
        Command::Completions { shell } => completions(shell, output),
    }
}

/// Prints why a command failed: for people on standard error, and where a program asked for JSON and
/// the API refused, the API's own error body on standard output.
pub(crate) fn report(error: &CliError, json: bool, output: Output) {
    output.error(&error.to_string());
    if let CliError::Client(ClientError::Refused(refused)) = error {
        if json {
            let body = api::ErrorBody {
                error: refused.clone(),
            };
            if let Ok(text) = serde_json::to_string(&body) {
                // A closed pipe is nobody's loss: the exit code says the same.
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            return;
        }
        output.error_page(&print::details(&refused.details, "error"));
    }
}

/// The time of this machine.
pub(crate) fn now() -> Ts {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ts(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads a file named on the command line.
pub(crate) fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Understands a filter before anything is asked or started.
pub(crate) fn check_filter(filter: Option<&str>) -> Result<(), CliError> {
    let Some(text) = filter else { return Ok(()) };
    Filter::parse(text)
        .map(|_| ())
        .map_err(|error| CliError::Filter {
            text: text.to_owned(),
            error,
        })
}

/// Who changes the policy, for the log: the person behind `sudo`, else the user, else its number.
fn author() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn completions(shell: clap_complete::Shell, output: Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringfence", &mut script);
    output.bytes(&script).map(|_| Exit::Ok)
}

impl Context {
    async fn table<T: DeserializeOwned>(
        &self,
        path: &str,
        print: impl FnOnce(&T) -> Page,
    ) -> Result<Exit, CliError> {
        let answer = self.client.get::<T>(path, &()).await?;
        self.print(&answer.json, || print(&answer.value))
    }

    /// Prints the API's own JSON, or the page.
    fn print(&self, json: &[u8], page: impl FnOnce() -> Page) -> Result<Exit, CliError> {
        if self.json {
            self.output.json(json)?
        } else {
            self.output.page(&page())?
        };
        Ok(Exit::Ok)
    }

    async fn status(&self) -> Result<Exit, CliError> {
        let status = self.client.get::<Status>(endpoint::STATUS, &()).await?;
        if self.json {
            return self.print(&status.json, Page::new);
        }
        let ports = self.client.get::<Ports>(endpoint::PORTS, &()).await?;
        let overview = print::Overview {
            status: &status.value,
            ports: &ports.value,
            now: now(),
        };
        self.print(&status.json, || print::status(overview))
    }

    async fn flows(&self, args: &FlowsArgs) -> Result<Exit, CliError> {
        check_filter(args.filter.as_deref())?;
        let format = match (args.tsv, args.follow) {
            (true, _) => FlowsFormat::Tsv,
            (false, true) => FlowsFormat::Ndjson,
            (false, false) => FlowsFormat::Json,
        };
        let query = FlowsQuery {
            filter: args.filter.clone(),
            limit: args.limit,
            since: args.since.clone(),
            follow: args.follow.then_some(true),
            format: Some(format),
            ..FlowsQuery::default()
        };
        if !args.follow && !args.tsv {
            let answer = self.client.get::<Flows>(endpoint::FLOWS, &query).await?;
            return self.print(&answer.json, || print::flows(&answer.value.flows, now()));
        }
        let lines = self.client.lines(endpoint::FLOWS, &query).await?;
        match (args.follow, args.tsv || self.json) {
            (true, false) => self.follow(lines).await,
            (true, true) => self.copy(lines).await.map(|reader| self.followed(reader)),
            (false, _) => self.copy(lines).await.map(|_| Exit::Ok),
        }
    }

    /// How following ended: only control's end ends it while somebody reads.
    fn followed(&self, reader: Reader) -> Exit {
        match reader {
            Reader::Gone => Exit::Ok,
            Reader::Present => {
                self.output
                    .error("the control process ended; `ringfence status` shows its state");
                Exit::Unreachable
            }
        }
    }

    /// Prints lines as they came.
    async fn copy(&self, mut lines: Lines) -> Result<Reader, CliError> {
        while let Some(mut line) = lines.next().await? {
            line.push(b'\n');
            if self.output.bytes(&line)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        Ok(Reader::Present)
    }

    async fn follow(&self, mut lines: Lines) -> Result<Exit, CliError> {
        let mut reader = self.output.page(&print::flow_header())?;
        while reader == Reader::Present {
            let Some(line) = lines.next().await? else {
                break;
            };
            let flow: Flow =
                serde_json::from_slice(&line).map_err(|error| ClientError::NotUnderstood {
                    path: endpoint::FLOWS.to_owned(),
                    message: error.to_string(),
                })?;
            reader = self.output.page(&print::flow_line(&flow))?;
        }
        Ok(self.followed(reader))
    }

    async fn top(&self, args: TopArgs) -> Result<Exit, CliError> {
        check_filter(args.filter.as_deref())?;
        let query = TopQuery {
            by: Some(args.by),
            metric: Some(args.metric),
            limit: Some(args.limit),
            filter: args.filter,
            since: args.since,
        };
        let answer = self.client.get::<Top>(endpoint::TOP, &query).await?;
        self.print(&answer.json, || print::top(&answer.value))
    }

    async fn accounting(&self) -> Result<Exit, CliError> {
        let answer = self
            .client
            .get::<Accounting>(endpoint::ACCOUNTING, &())
            .await?;
        self.print(&answer.json, || print::accounting(&answer.value))?;
        Ok(if answer.value.balanced {
            Exit::Ok
        } else {
            Exit::No
        })
    }

    async fn policy(&self, command: PolicyCommand) -> Result<Exit, CliError> {
        match command {
            PolicyCommand::Check { file } => self.policy_check(&file).await,
            PolicyCommand::Apply { file, note, terms } => {
                self.policy_apply(file, note, terms).await
            }
            PolicyCommand::Candidate { command } => {
                self.candidate(command.unwrap_or(CandidateCommand::List))
                    .await
            }
            PolicyCommand::Watch(args) => self.watch_candidate(args).await,
            PolicyCommand::Confirm(args) => self.policy_confirm(args).await,
            PolicyCommand::Revert { note } => self.policy_revert(note).await,
            PolicyCommand::Diff(args) => self.policy_diff(args).await,
            PolicyCommand::Blast(args) => self.policy_blast(args).await,
            PolicyCommand::Analyze(args) => self.policy_analyze(args).await,
            PolicyCommand::Simulate(args) => self.simulate(args).await,
            PolicyCommand::Suggest(args) => self.suggest(args).await,
            PolicyCommand::Show { revision, text } => self.policy_show(revision, text).await,
            PolicyCommand::Rules => {
                let print = |rules: &Rules| print::rules(rules, now());
                self.table(endpoint::RULES, print).await
            }
            PolicyCommand::Log(args) => self.policy_log(args).await,
            PolicyCommand::Rollback { revision, note } => {
                self.policy_rollback(revision, note).await
            }
        }
    }

    async fn policy_check(&self, file: &Path) -> Result<Exit, CliError> {
        let request = CheckRequest {
            text: read(file)?,
            file_name: file.display().to_string(),
        };
        let asked = self
            .client
            .post::<CheckResult>(endpoint::POLICY_CHECK, &request)
            .await;
        let answer = match asked {
            // A file can be judged without an appliance, and without the right to ask one.
            Err(error) if error.is_not_connected() => offline::check_policy(&request).await?,
            asked => asked?,
        };
        let result = &answer.value;
        if !self.json {
            self.output
                .error_page(&print::details(&result.errors, "error"));
            self.output
                .error_page(&print::details(&result.warnings, "warning"));
            self.output
                .error_page(&print::broken(&result.broken_invariants));
        }
        self.print(&answer.json, || print::checked(&request.file_name, result))?;
        let good = result.valid && result.broken_invariants.is_empty();
        Ok(if good { Exit::Ok } else { Exit::No })
    }

    async fn policy_apply(
        &self,
        file: PathBuf,
        note: String,
        terms: TermsArgs,
    ) -> Result<Exit, CliError> {
        let file_name = file.display().to_string();
        let text = read(&file)?;
        let request = ApplyRequest {
            text,
            file_name,
            author: author(),
            note,
            confirm_s: terms.confirm.map(|time| time.as_secs()),
            if_revision: terms.if_revision,
            break_invariants: terms.break_invariant,
        };
        self.change(endpoint::POLICY_APPLY, &request, &request.file_name)
            .await
    }

    /// Changes the policy and tells what that did to live flows.
    async fn change(
        &self,
        path: &str,
        request: &impl Serialize,
        what: &str,
    ) -> Result<Exit, CliError> {
        if self.json {
            let answer = self.client.post::<ApplyResult>(path, request).await?;
            return self.print(&answer.json, Page::new);
        }
        let before = settle::counters(&self.client).await;
        let answer = self.client.post::<ApplyResult>(path, request).await?;
        self.output
            .error_page(&print::details(&answer.value.warnings, "warning"));
        self.output.page(&print::applied(what, &answer.value))?;
        if let Some(before) = before
            && let Some(settled) = settle::settle(&self.client, &before).await
        {
            self.output.page(&print::settled(&settled))?;
        }
        Ok(Exit::Ok)
    }

    async fn policy_rollback(
        &self,
        revision: Option<String>,
        note: String,
    ) -> Result<Exit, CliError> {
        let revision = revision.unwrap_or_else(|| "previous".to_owned());
        let request = RollbackRequest {
            revision,
            author: author(),
            note,
        };
        self.change(endpoint::POLICY_ROLLBACK, &request, "the earlier revision")
            .await
    }

    async fn policy_show(&self, revision: Option<String>, text: bool) -> Result<Exit, CliError> {
        if let Some(revision) = revision {
            let query = RevisionQuery { revision };
            let answer = self
                .client
                .get::<Revision>(endpoint::POLICY_REVISION, &query)
                .await?;
            if text {
                return self
                    .output
                    .bytes(answer.value.text.as_bytes())
                    .map(|_| Exit::Ok);
            }
            return self.print(&answer.json, || print::revision(&answer.value));
        }
        let answer = self
            .client
            .get::<PolicyInForce>(endpoint::POLICY, &())
            .await?;
        if text {
            return self
                .output
                .bytes(answer.value.text.as_bytes())
                .map(|_| Exit::Ok);
        }
        self.print(&answer.json, || print::policy_in_force(&answer.value))
    }
}

/// Whether a policy is sound, asked of the program alone, before any process runs. Where it is not,
/// that is told; warnings are left to [`check_policy`].
pub(crate) async fn check_policy_offline(file: &Path, output: Output) -> Result<bool, CliError> {
    let request = CheckRequest {
        text: read(file)?,
        file_name: file.display().to_string(),
    };
    let result = offline::check_policy(&request).await?.value;
    if !result.valid {
        tell_refused(&request.file_name, &result, output);
    }
    Ok(result.valid)
}

fn tell_refused(file_name: &str, result: &CheckResult, output: Output) {
    output.error_page(&print::details(&result.errors, "error"));
    output.error_page(&print::details(&result.warnings, "warning"));
    output.error_page(&print::checked(file_name, result));
}

/// Checks and applies a policy through `client`: what `up` and `replay` do with `--policy`.
pub(crate) async fn check_policy(
    client: &Client,
    file: &Path,
    output: Output,
) -> Result<Option<ApplyRequest>, CliError> {
    let file_name = file.display().to_string();
    let request = CheckRequest {
        text: read(file)?,
        file_name,
    };
    let result = client
        .post::<CheckResult>(endpoint::POLICY_CHECK, &request)
        .await?
        .value;
    if !result.valid {
        tell_refused(&request.file_name, &result, output);
        return Ok(None);
    }
    output.error_page(&print::details(&result.warnings, "warning"));
    let CheckRequest { text, file_name } = request;
    Ok(Some(ApplyRequest {
        text,
        file_name,
        author: author(),
        ..ApplyRequest::default()
    }))
}

//! The phases of a replay, each with its limit in time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::flow::{FlowId, FlowsFormat};
use api::history::HistoryState;
use api::policy::ApplyResult;
use api::status::{DataplaneState, ExportStatus};
use api::words::Action;
use api::{Accounting, Flow, FlowsQuery, Status, endpoint};

use super::ReplayError;
use super::capture::Capture;
use super::report::order;
use super::workspace::Workspace;
use crate::args::ReplayArgs;
use crate::client::Client;
use crate::commands::check_policy;
use crate::error::{CliError, ClientError};
use crate::output::Output;
use crate::process::{Child, Logs, Programs};
use crate::progress;

/// From its start to the control process's first answer.
const CONTROL_READY_LIMIT: Duration = Duration::from_secs(30);
/// From its start until control has the dataplane's shared memory.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// From the dataplane's end until every record can be read.
const COLLECT_LIMIT: Duration = Duration::from_secs(60);
/// From the first flow asked for until the last is here.
const FETCH_LIMIT: Duration = Duration::from_secs(300);
/// From being asked to stop to the end.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The same where records go to a collector, which may take them slowly; and how long the export may
/// stand still before it is told as it is.
const EXPORT_LIMIT: Duration = Duration::from_secs(120);
/// Name of the port that the capture comes in at, in flows.
const PORT_SHOWN: &str = "capture";
/// Flows that the policy would have dropped, now or with everything in test enforced.
const WOULD_DROP: &str = "verdict deny or verdict reject or pending deny or pending reject";
/// How often a phase looks whether it is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often progress is drawn.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// What a replay found.
#[derive(Debug)]
pub struct Replayed {
    /// Flow records that the filter lets through, in order.
    pub flows: Vec<Flow>,
    /// Records in all.
    pub records: u64,
    /// Where every packet went.
    pub accounting: Accounting,
    /// What each collector got.
    pub exported: Vec<ExportStatus>,
    /// What the policy would have done in the path; none without a policy.
    pub judged: Option<Judged>,
}

/// What a policy would have dropped, over all flows, whatever the filter shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// With the policy as it is.
    pub enforced: WouldDrop,
    /// With everything in test enforced.
    pub pending: WouldDrop,
}

/// Packets that a policy would have dropped, and the flows that they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "counts")]
pub struct WouldDrop {
    pub packets: u64,
    pub flows: u64,
}

/// Adds up what would have been dropped, record by record.
#[derive(Debug, Default)]
struct Adding {
    sum: WouldDrop,
    /// A flow may have several records.
    flows: HashSet<FlowId>,
}

impl Adding {
    fn add(&mut self, flow: &Flow, verdict: Action) {
        if !verdict.permits() {
            self.sum.packets += flow.pkts_fwd + flow.pkts_rev;
            self.flows.insert(flow.flow_id);
            self.sum.flows = self.flows.len() as u64;
        }
    }
}

/// One replay: what it is about and the processes that run.
pub(super) struct Run<'a> {
    args: &'a ReplayArgs,
    capture: &'a Capture,
    workspace: &'a Workspace,
    programs: Programs,
    client: Client,
    output: Output,
    control: Option<Child>,
    dataplane: Option<Child>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        args: &'a ReplayArgs,
        capture: &'a Capture,
        workspace: &'a Workspace,
        programs: Programs,
        output: Output,
    ) -> Self {
        let client = Client::new(workspace.socket());
        Self {
            args,
            capture,
            workspace,
            programs,
            client,
            output,
            control: None,
            dataplane: None,
        }
    }

    /// All phases. None where the policy is not valid, which has then been told.
    pub(super) async fn phases(&mut self) -> Result<Option<Replayed>, CliError> {
        if !self.play().await? {
            return Ok(None);
        }
        let exported = self.exported().await?;
        match tokio::time::timeout(FETCH_LIMIT, self.fetch(exported)).await {
            Ok(replayed) => replayed.map(Some),
            Err(_) => {
                let what = "reading the flows from the control process";
                let error = ReplayError::Slow {
                    what,
                    limit: FETCH_LIMIT,
                };
                Err(error.into())
            }
        }
    }

    /// The phases that record the capture into the private history. False where the policy is not valid, which has
    /// then been told.
    pub(super) async fn record(&mut self) -> Result<bool, CliError> {
        if !self.play().await? {
            return Ok(false);
        }
        self.kept().await.map(|()| true)
    }

    /// Everything until control has collected the last record.
    async fn play(&mut self) -> Result<bool, CliError> {
        self.start_control().await?;
        let policy = match &self.args.policy {
            None => None,
            Some(file) => match check_policy(&self.client, file, self.output).await? {
                None => return Ok(false),
                request => request,
            },
        };
        self.start_dataplane().await?;
        if let Some(request) = policy {
            self.client
                .post::<ApplyResult>(endpoint::POLICY_APPLY, &request)
                .await?;
        }
        self.finish_capture().await?;
        self.collect().await?;
        Ok(true)
    }

    /// Waits until history has every record that was collected.
    async fn kept(&self) -> Result<(), CliError> {
        let deadline = Instant::now() + COLLECT_LIMIT;
        let collected = self.status().await?.flows.collected;
        loop {
            let history = self
                .client
                .get::<HistoryState>(endpoint::HISTORY, &())
                .await?
                .value;
            if history.appended + history.shed >= collected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = "keeping the last flow records";
                let limit = COLLECT_LIMIT;
                return Err(ReplayError::Slow { what, limit }.into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Who is asked about what was recorded.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Ends what still runs, in order: control sends its last IPFIX messages.
    pub(super) async fn end(&mut self) {
        let limit = if self.args.ipfix.is_empty() {
            STOP_LIMIT
        } else {
            EXPORT_LIMIT
        };
        let children = [self.dataplane.take(), self.control.take()];
        for mut child in children.into_iter().flatten() {
            match child.stop(limit).await {
                Ok(true) | Err(_) => {}
                Ok(false) => self
                    .output
                    .warning(&child.hung_error("stop", limit).to_string()),
            }
        }
    }

    fn start(
        &self,
        name: &'static str,
        program: &Path,
        configuration: &Path,
    ) -> Result<Child, CliError> {
        let environment = self.workspace.environment();
        let arguments = [Path::new("--config"), configuration];
        Ok(Child::start(
            name,
            program,
            arguments,
            &environment,
            Logs::Kept,
        )?)
    }

    async fn start_control(&mut self) -> Result<(), CliError> {
        let configuration = self.workspace.control_config();
        let mut control = self.start("control", &self.programs.control, &configuration)?;
        let deadline = Instant::now() + CONTROL_READY_LIMIT;
        while self.status().await.is_err() {
            if Instant::now() > deadline {
                return Err(control
                    .hung_error("answer on its socket", CONTROL_READY_LIMIT)
                    .into());
            }
            if ended_within(&mut control, LOOK_INTERVAL).await {
                return Err(control.ended_error("before it was ready").into());
            }
        }
        self.control = Some(control);
        Ok(())
    }

    async fn start_dataplane(&mut self) -> Result<(), CliError> {
        let configuration = self.workspace.dataplane_config();
        let mut dataplane = self.start("dataplane", &self.programs.dataplane, &configuration)?;
        let deadline = Instant::now() + CONNECT_LIMIT;
        while !self.status().await?.dataplane_seen() {
            if Instant::now() > deadline {
                let what = "connect to the control process";
                return Err(dataplane.hung_error(what, CONNECT_LIMIT).into());
            }
            if ended_within(&mut dataplane, LOOK_INTERVAL).await {
                // A short capture may be over before control was asked again.
                if self.status().await?.dataplane_seen() {
                    break;
                }
                return Err(dataplane.ended_error("before it read the capture").into());
            }
        }
        self.dataplane = Some(dataplane);
        Ok(())
    }

    /// Waits until the dataplane has read the capture, recorded every flow, and ended.
    async fn finish_capture(&mut self) -> Result<(), CliError> {
        let limit = Duration::from_secs(self.args.timeout);
        let deadline = Instant::now() + limit;
        // Taken out, so that both are killed should this wait end early.
        let (Some(mut dataplane), Some(mut control)) = (self.dataplane.take(), self.control.take())
        else {
            return Ok(());
        };
        let ended = loop {
            tokio::select! {
                ended = dataplane.wait() => break ended.map_err(CliError::Runtime)?,
                _ = control.wait() => {
                    self.clear_progress();
                    return Err(control.ended_error("while the capture was being read").into());
                }
                () = tokio::time::sleep(PROGRESS_INTERVAL) => self.draw_progress().await,
            }
            if Instant::now() > deadline {
                self.clear_progress();
                let what = "finish the capture (see --timeout)";
                return Err(dataplane.hung_error(what, limit).into());
            }
        };
        self.control = Some(control);
        self.clear_progress();
        if !ended.success() {
            return Err(dataplane
                .ended_error("while it was reading the capture")
                .into());
        }
        Ok(())
    }

    /// Waits until control has collected every record of the dataplane that has ended.
    async fn collect(&self) -> Result<(), CliError> {
        let deadline = Instant::now() + COLLECT_LIMIT;
        loop {
            let status = self.status().await?;
            if status.flows.drained && status.dataplane.state != DataplaneState::Running {
                if status.flows.oldest_out > 0 {
                    let (collected, kept) = (status.flows.collected, status.flows.kept);
                    return Err(ReplayError::NotAllKept { collected, kept }.into());
                }
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = "collecting the last flow records";
                let limit = COLLECT_LIMIT;
                return Err(ReplayError::Slow { what, limit }.into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until every collected record was sent to every collector, or refused, or nothing has
    /// moved for too long.
    async fn exported(&self) -> Result<Vec<ExportStatus>, CliError> {
        let done = |export: &ExportStatus| export.records + export.not_sent;
        let (mut moved, mut moved_at) = (0, Instant::now());
        loop {
            let status = self.status().await?;
            let slowest = status.export.iter().map(done).min();
            let all = slowest.is_none_or(|done| done >= status.flows.collected);
            if all || moved_at.elapsed() > EXPORT_LIMIT {
                return Ok(status.export);
            }
            let sum = status.export.iter().map(done).sum();
            if moved != sum {
                (moved, moved_at) = (sum, Instant::now());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn fetch(&self, exported: Vec<ExportStatus>) -> Result<Replayed, CliError> {
        let accounting = self
            .client
            .get::<Accounting>(endpoint::ACCOUNTING, &())
            .await?
            .value;
        let mut flows = Vec::new();
        let mut adding = [Adding::default(), Adding::default()];
        let judge = |flow: &Flow, [enforced, pending]: &mut [Adding; 2]| {
            enforced.add(flow, flow.verdict);
            pending.add(flow, flow.pending_verdict);
        };
        let filter = self.args.filter.clone();
        let judged_aside = self.args.policy.is_some() && filter.is_some();
        self.flows(filter, |flow| {
            judge(&flow, &mut adding);
            flows.push(flow);
        })
        .await?;
        if judged_aside {
            // The filter may have left out what the policy would have dropped.
            adding = [Adding::default(), Adding::default()];
            self.flows(Some(WOULD_DROP.to_owned()), |flow| {
                judge(&flow, &mut adding)
            })
            .await?;
        }
        flows.sort_by(order);
        let [enforced, pending] = adding.map(|adding| adding.sum);
        let judged = self.args.policy.as_ref();
        Ok(Replayed {
            flows,
            records: accounting.records.collected,
            accounting,
            exported,
            judged: judged.map(|_| Judged { enforced, pending }),
        })
    }

    /// Reads every flow that the filter lets through.
    async fn flows(
        &self,
        filter: Option<String>,
        mut take: impl FnMut(Flow),
    ) -> Result<(), CliError> {
        let query = FlowsQuery {
            filter,
            limit: Some(0),
            format: Some(FlowsFormat::Ndjson),
            ..FlowsQuery::default()
        };
        let mut lines = self.client.lines(endpoint::FLOWS, &query).await?;
        let port: Arc<str> = PORT_SHOWN.into();
        while let Some(line) = lines.next().await? {
            let mut flow: Flow =
                serde_json::from_slice(&line).map_err(|error| ClientError::NotUnderstood {
                    path: endpoint::FLOWS.to_owned(),
                    message: error.to_string(),
                })?;
            // The port is named after the private directory, and two replays would differ.
            flow.ingress_port = Arc::clone(&port);
            take(flow);
        }
        Ok(())
    }

    async fn status(&self) -> Result<Status, ClientError> {
        self.client
            .get::<Status>(endpoint::STATUS, &())
            .await
            .map(|answer| answer.value)
    }

    async fn draw_progress(&self) {
        if !self.output.draws_progress() {
            return;
        }
        let Ok(status) = self.status().await else {
            return;
        };
        let read = status.traffic.rx_packets;
        progress::draw(self.output, read, self.capture.frames, "frames");
    }

    fn clear_progress(&self) {
        progress::clear(self.output);
    }
}

/// What a replay asks of a status.
trait Seen {
    /// Whether control has, or has had, the dataplane's shared memory.
    fn dataplane_seen(&self) -> bool;
}

impl Seen for Status {
    fn dataplane_seen(&self) -> bool {
        self.dataplane.connects > 0
            || matches!(
                self.dataplane.state,
                DataplaneState::Running | DataplaneState::Finished
            )
    }
}

async fn ended_within(child: &mut Child, wait: Duration) -> bool {
    tokio::time::timeout(wait, child.wait()).await.is_ok()
}

//! `ringfence up`: both processes in one terminal, in the right order, and out again cleanly.
//!
//! Start: the policy is checked, then control, then the dataplane, then the policy applied. Stop: the
//! dataplane first (it writes its last records), then control once it has collected them. Control
//! may die and is started again; traffic does not notice. The dataplane's
//! death is the end of all; where its captures have come to theirs, control stays and answers.

mod timeouts;

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use api::policy::ApplyResult;
use api::status::DataplaneState;
use api::{Ports, Status, endpoint};
use toml::{Table, Value};

use crate::args::{Hugepages, Idle, UpArgs};
use crate::client::Client;
use crate::commands::{check_policy, check_policy_offline};
use crate::configuration;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use crate::page::{Page, Tone};
use crate::port_spec::PortSpec;
use crate::print;
use crate::process::{Child, Environment, Logs, Programs, Signals};

/// Where the configuration lies unless the command line says otherwise.
pub(crate) const DATAPLANE_CONFIG: &str = "/etc/ringfence/dataplane.toml";
/// See [`DATAPLANE_CONFIG`].
pub(crate) const CONTROL_CONFIG: &str = "/etc/ringfence/control.toml";
/// How often a process that is starting is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// How long a process may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long control may take to collect the last records once the dataplane has gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Control is started again at most this often within [`RESTART_WINDOW`].
const RESTARTS_MAX: usize = 5;
/// See [`RESTARTS_MAX`].
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// What is to be started.
struct Plan {
    programs: Programs,
    socket: PathBuf,
    dataplane_config: PathBuf,
    control_config: PathBuf,
    ready_timeout: Duration,
}

/// The two processes; dropping it kills what still runs.
struct Running {
    plan: Plan,
    client: Client,
    output: Output,
    control: Option<Child>,
    dataplane: Option<Child>,
}

/// How waiting ended.
enum Waited {
    Ready,
    Stop(&'static str),
}

/// Control's socket: as the flag `--socket` says, else in `--run-dir`, else as the environment says or
/// where it always is.
pub(crate) fn socket(args: &UpArgs, socket: &Path, by_flag: bool) -> PathBuf {
    match &args.run_dir {
        Some(run_dir) if !by_flag => run_dir.join("control.sock"),
        _ => socket.to_owned(),
    }
}

/// Starts both processes and stays until they end.
pub(crate) async fn up(args: &UpArgs, socket: &Path, output: Output) -> Result<Exit, CliError> {
    let mut signals = Signals::new().map_err(CliError::Runtime)?;
    let prepared = tokio::select! {
        prepared = prepare(args, socket, output) => prepared?,
        _ = signals.next() => return Ok(Exit::Interrupted),
    };
    let Some(plan) = prepared else {
        return Ok(Exit::No);
    };
    let client = Client::new(&plan.socket);
    let mut running = Running {
        plan,
        client,
        output,
        control: None,
        dataplane: None,
    };
    let ended = running
        .start_and_watch(args.policy.as_deref(), &mut signals)
        .await;
    let stopped = running.stop(&mut signals).await;
    ended.and_then(|exit| stopped.map(|()| exit))
}

/// Everything that comes before the first process that stays. None where the policy is not valid,
/// which has then been told.
async fn prepare(args: &UpArgs, socket: &Path, output: Output) -> Result<Option<Plan>, CliError> {
    if let Some(policy) = &args.policy
        && !check_policy_offline(policy, output).await?
    {
        return Ok(None);
    }
    let (plan, mut control) = plan(args, socket)?;
    let dataplane = timeouts::in_force(&plan.programs.dataplane, &plan.dataplane_config).await?;
    timeouts::overlay(&mut control, &dataplane);
    configuration::write(&plan.control_config, &control).map_err(forbidden)?;
    Ok(Some(plan))
}

/// What is to be started, and control's configuration, which is not yet written.
fn plan(args: &UpArgs, socket: &Path) -> Result<(Plan, Table), CliError> {
    let programs = Programs::locate()?;
    let file = |given: &Option<PathBuf>, default: &str| match given {
        Some(path) => configuration::load(path),
        None if Path::new(default).exists() => configuration::load(Path::new(default)),
        None => Ok(Table::new()),
    };
    let mut dataplane = file(&args.config, DATAPLANE_CONFIG)?;
    let mut control = file(&args.control_config, CONTROL_CONFIG)?;
    let run_dir = args
        .run_dir
        .clone()
        .or_else(|| configuration::text(&dataplane, "dataplane", "run_dir").map(PathBuf::from))
        .or_else(|| socket.parent().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("."));
    let socket = socket.to_owned();
    overlay_dataplane(&mut dataplane, args, &run_dir);
    overlay_control(&mut control, args, &run_dir, &socket);
    if !dataplane.contains_key("lane") {
        let path = args
            .config
            .clone()
            .unwrap_or_else(|| PathBuf::from(DATAPLANE_CONFIG));
        return Err(CliError::NoLane { path });
    }
    refuse_second(&socket, "a control process")?;
    refuse_second(&run_dir.join("dataplane.sock"), "a dataplane process")?;
    std::fs::create_dir_all(&run_dir)
        .map_err(|source| CliError::Unwritable {
            path: run_dir.clone(),
            source,
        })
        .map_err(forbidden)?;
    let (dataplane_config, control_config) = (
        run_dir.join("up-dataplane.toml"),
        run_dir.join("up-control.toml"),
    );
    configuration::write(&dataplane_config, &dataplane).map_err(forbidden)?;
    let ready_timeout = Duration::from_secs(args.ready_timeout);
    let plan = Plan {
        programs,
        socket,
        dataplane_config,
        control_config,
        ready_timeout,
    };
    Ok((plan, control))
}

/// Puts the command line on top of the dataplane's configuration.
fn overlay_dataplane(table: &mut Table, args: &UpArgs, run_dir: &Path) {
    configuration::set(
        table,
        "dataplane",
        "run_dir",
        configuration::path_text(run_dir),
    );
    if let Some(state_dir) = &args.state_dir {
        let path = configuration::path_text(&state_dir.join("dataplane"));
        configuration::set(table, "dataplane", "state_dir", path);
    }
    if !args.workers.is_empty() {
        let cpus: Vec<Value> = args
            .workers
            .iter()
            .map(|cpu| Value::from(i64::from(*cpu)))
            .collect();
        configuration::set(table, "dataplane", "workers", cpus);
    }
    // A person at a terminal would rather have the core back; the configuration file may differ.
    let idle = match (args.idle, configuration::text(table, "dataplane", "idle")) {
        (None, Some(_)) => None,
        (None | Some(Idle::Sleep), _) => Some("sleep"),
        (Some(Idle::Pause), _) => Some("pause"),
        (Some(Idle::None), _) => Some("none"),
    };
    if let Some(idle) = idle {
        configuration::set(table, "dataplane", "idle", idle);
    }
    if let Some(hugepages) = args.hugepages {
        let word = match hugepages {
            Hugepages::Auto => "auto",
            Hugepages::Always => "always",
            Hugepages::Never => "never",
        };
        configuration::set(table, "memory", "hugepages", word);
    }
    if args.lane.is_empty() && args.mirror.is_empty() {
        return;
    }
    let mut lanes = Vec::new();
    for lane in &args.lane {
        let mut entry = named(&format!("lane{}", lanes.len()));
        entry.insert("inside".to_owned(), lane.inside.to_string().into());
        entry.insert("outside".to_owned(), lane.outside.to_string().into());
        lanes.push(Value::Table(entry));
    }
    for mirror in &args.mirror {
        let mut entry = named(&format!("mirror{}", lanes.len()));
        entry.insert("mirror".to_owned(), mirror.to_string().into());
        lanes.push(Value::Table(entry));
    }
    table.insert("lane".to_owned(), Value::Array(lanes));
    // A capture waits: for somebody to collect its records, and for the policy that it shall be judged by.
    if args.lane.is_empty() && args.mirror.iter().all(PortSpec::is_read_once) {
        configuration::set(table, "replay", "finish", true);
        configuration::set(table, "replay", "wait_policy", args.policy.is_some());
    }
}

/// Puts the command line on top of control's configuration.
fn overlay_control(table: &mut Table, args: &UpArgs, run_dir: &Path, socket: &Path) {
    configuration::set(
        table,
        "control",
        "run_dir",
        configuration::path_text(run_dir),
    );
    let link = configuration::path_text(&run_dir.join("dataplane.sock"));
    configuration::set(table, "dataplane", "socket", link);
    configuration::set(table, "api", "socket", configuration::path_text(socket));
    if let Some(state_dir) = &args.state_dir {
        let path = configuration::path_text(&state_dir.join("control"));
        configuration::set(table, "control", "state_dir", path);
    }
    if let Some(metrics) = args.metrics {
        configuration::set(table, "metrics", "listen", metrics.to_string());
    }
    if !args.ipfix.is_empty() {
        let collectors: Vec<Value> = args
            .ipfix
            .iter()
            .map(|collector| Value::Table(collector.to_table()))
            .collect();
        configuration::set(table, "export", "collectors", collectors);
    }
}

/// Says what to do where the directory of the sockets is not ours to write.
fn forbidden(error: CliError) -> CliError {
    match error {
        CliError::Unwritable { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            CliError::NotRoot { path, source }
        }
        other => other,
    }
}

fn named(name: &str) -> Table {
    Table::from_iter([("name".to_owned(), Value::from(name))])
}

fn refuse_second(socket: &Path, what: &'static str) -> Result<(), CliError> {
    match UnixStream::connect(socket) {
        Ok(_) => Err(CliError::AlreadyRunning {
            what,
            socket: socket.to_owned(),
        }),
        Err(_) => Ok(()),
    }
}

impl Running {
    async fn start_and_watch(
        &mut self,
        policy: Option<&Path>,
        signals: &mut Signals,
    ) -> Result<Exit, CliError> {
        self.control = Some(self.start_control()?);
        if let Waited::Stop(signal) = self.wait_control(signals).await? {
            return Ok(self.interrupted(signal));
        }
        let request = match policy {
            None => None,
            Some(file) => match check_policy(&self.client, file, self.output).await? {
                Some(request) => Some(request),
                None => return Ok(Exit::No),
            },
        };
        let dataplane = Child::start(
            "dataplane",
            &self.plan.programs.dataplane,
            [Path::new("--config"), &self.plan.dataplane_config],
            &Environment::default(),
            Logs::Prefixed,
        )?;
        self.say(&format!(
            "dataplane process started, pid {}",
            dataplane.pid()
        ));
        self.dataplane = Some(dataplane);
        if let Waited::Stop(signal) = self.wait_dataplane(signals).await? {
            return Ok(self.interrupted(signal));
        }
        if let Some(request) = request {
            let result = self
                .client
                .post::<ApplyResult>(endpoint::POLICY_APPLY, &request)
                .await?;
            self.output
                .page(&print::applied(&request.file_name, &result.value))?;
        }
        self.say_ready().await?;
        self.watch(signals).await
    }

    fn start_control(&self) -> Result<Child, CliError> {
        let control = Child::start(
            "control",
            &self.plan.programs.control,
            [Path::new("--config"), &self.plan.control_config],
            &Environment::default(),
            Logs::Prefixed,
        )?;
        self.say(&format!("control process started, pid {}", control.pid()));
        Ok(control)
    }

    /// Waits until the control process answers.
    async fn wait_control(&mut self, signals: &mut Signals) -> Result<Waited, CliError> {
        let Some(control) = &mut self.control else {
            return Ok(Waited::Ready);
        };
        let deadline = Instant::now() + self.plan.ready_timeout;
        loop {
            let pause = tokio::time::sleep(READY_INTERVAL);
            tokio::select! {
                signal = signals.next() => return Ok(Waited::Stop(signal)),
                _ = control.wait() => return Err(control.ended_error("before it was ready").into()),
                () = pause => {}
            }
            if self
                .client
                .get::<Status>(endpoint::STATUS, &())
                .await
                .is_ok()
            {
                return Ok(Waited::Ready);
            }
            if Instant::now() > deadline {
                return Err(control
                    .hung_error("answer on its socket", self.plan.ready_timeout)
                    .into());
            }
        }
    }

    /// Waits until control has found the dataplane running.
    async fn wait_dataplane(&mut self, signals: &mut Signals) -> Result<Waited, CliError> {
        let (Some(control), Some(dataplane)) = (&mut self.control, &mut self.dataplane) else {
            return Ok(Waited::Ready);
        };
        let deadline = Instant::now() + self.plan.ready_timeout;
        loop {
            let pause = tokio::time::sleep(READY_INTERVAL);
            tokio::select! {
                signal = signals.next() => return Ok(Waited::Stop(signal)),
                // A short capture has been read before anybody asked.
                ended = dataplane.wait() => {
                    if !has_finished(&ended) {
                        return Err(dataplane.ended_error("before it was ready").into());
                    }
                    return Ok(Waited::Ready);
                }
                _ = control.wait() => {
                    return Err(control.ended_error("while the dataplane was starting").into());
                }
                () = pause => {}
            }
            let status = self.client.get::<Status>(endpoint::STATUS, &()).await;
            if status.is_ok_and(|status| status.value.dataplane.state == DataplaneState::Running) {
                return Ok(Waited::Ready);
            }
            if Instant::now() > deadline {
                let what = "connect to the control process";
                return Err(dataplane.hung_error(what, self.plan.ready_timeout).into());
            }
        }
    }

    async fn say_ready(&self) -> Result<(), CliError> {
        let status = self.client.get::<Status>(endpoint::STATUS, &()).await?;
        let ports = self.client.get::<Ports>(endpoint::PORTS, &()).await?;
        let now = crate::commands::now();
        let overview = print::Overview {
            status: &status.value,
            ports: &ports.value,
            now,
        };
        self.output.page(&print::status(overview))?;
        self.say(
            "ready; Ctrl-C stops; in another terminal: ringfence status, ringfence flows --follow",
        );
        Ok(())
    }

    /// Stays until a signal comes or the dataplane ends; starts control again where it dies.
    async fn watch(&mut self, signals: &mut Signals) -> Result<Exit, CliError> {
        let mut restarts: Vec<Instant> = Vec::new();
        loop {
            let dataplane_ended = async {
                match &mut self.dataplane {
                    Some(dataplane) => dataplane.wait().await,
                    None => std::future::pending().await,
                }
            };
            let control_ended = async {
                match &mut self.control {
                    Some(control) => {
                        let _ = control.wait().await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                signal = signals.next() => {
                    self.say(&format!("{signal}: stopping"));
                    return Ok(Exit::Ok);
                }
                ended = dataplane_ended => {
                    if let Some(dataplane) = self.dataplane.take()
                        && !has_finished(&ended)
                    {
                        return Err(dataplane.ended_error("while it was running").into());
                    }
                    self.say(
                        "the dataplane process has come to the end of its captures; the control process stays and \
                         answers; Ctrl-C stops",
                    );
                }
                () = control_ended => {
                    let now = Instant::now();
                    restarts.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
                    restarts.push(now);
                    self.restart_control(restarts.len());
                }
            }
        }
    }

    fn restart_control(&mut self, restarts: usize) {
        if let Some(control) = self.control.take() {
            self.output
                .error(&control.ended_error("while it was running").to_string());
        }
        if restarts > RESTARTS_MAX {
            self.output.warning(&format!(
                "the control process died {restarts} times within {} s and is not started again; \
                 traffic and the policy in force are not affected, names, export and commands are; \
                 mend what its last words say, then stop this with Ctrl-C and start it again",
                RESTART_WINDOW.as_secs()
            ));
            return;
        }
        self.say("traffic goes on; starting the control process again");
        match self.start_control() {
            Ok(control) => self.control = Some(control),
            Err(error) => self.output.error(&error.to_string()),
        }
    }

    fn interrupted(&self, signal: &str) -> Exit {
        self.say(&format!("{signal}: stopping before everything was ready"));
        Exit::Interrupted
    }

    /// Ends both: the dataplane first, so that its last records find somebody to collect them.
    async fn stop(&mut self, signals: &mut Signals) -> Result<(), CliError> {
        let (control, dataplane) = (self.control.take(), self.dataplane.take());
        let orderly = stop_in_order(control, dataplane, &self.client, self.output);
        tokio::select! {
            ended = orderly => ended,
            // Dropping the children kills them.
            _ = signals.next() => {
                self.output.warning("stopped at once: the last flow records may be lost");
                Ok(())
            }
        }
    }

    fn say(&self, text: &str) {
        let mut page = Page::new();
        page.line(Tone::Faint, format!("{:<9} | {text}", "ringfence"));
        self.output.error_page(&page);
    }
}

/// Its own end without an error: what it reads once has come to its end.
fn has_finished(ended: &std::io::Result<ExitStatus>) -> bool {
    ended.as_ref().is_ok_and(ExitStatus::success)
}

async fn stop_in_order(
    control: Option<Child>,
    dataplane: Option<Child>,
    client: &Client,
    output: Output,
) -> Result<(), CliError> {
    if let Some(dataplane) = dataplane {
        stop_one(dataplane, output).await?;
    }
    if let Some(control) = control {
        wait_drained(client).await;
        stop_one(control, output).await?;
    }
    Ok(())
}

async fn stop_one(mut child: Child, output: Output) -> Result<(), CliError> {
    let by_itself = child.stop(STOP_TIMEOUT).await.map_err(CliError::Runtime)?;
    if !by_itself {
        let error = child.hung_error("stop", STOP_TIMEOUT);
        output.warning(&error.to_string());
    }
    Ok(())
}

/// Waits until control has collected every record, or cannot be asked, or takes too long.
async fn wait_drained(client: &Client) {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while Instant::now() < deadline {
        match client.get::<Status>(endpoint::STATUS, &()).await {
            Ok(status) if !status.value.flows.drained => {
                tokio::time::sleep(READY_INTERVAL).await;
            }
            _ => return,
        }
    }
}

//! The wiring: starts every part in order, waits, and ends them in the reverse order.

use crate::api_server::{SocketError, SocketPath, SocketPeer, metrics_router, router};
use crate::app::{App, Rates, sample};
use crate::candidates::Candidates;
use crate::clock::now_ns;
use crate::collector::Sinks;
use crate::config::{Config, HistoryEngine};
use crate::dataplane::{Dataplane, Link};
use crate::exporter::{ExportError, Exporter};
use crate::history_writer::HistoryWriter;
use crate::inventory::{self, InventoryService};
use crate::names::Registry;
use crate::naming;
use crate::policy_service::{PolicyService, StoreError};
use crate::recent::RecentFlows;
use crate::rule_hits::HitCounters;
use crate::watch::Watch;
use api::status::DataplaneState;
use history::{ClickHouseHistory, EmbeddedHistory, History, MemoryHistory, OffHistory};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How often a process that ends with the dataplane looks whether it has.
const FINISHED_INTERVAL: Duration = Duration::from_millis(50);
/// Longest wait for answers that are being written when this process stops.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// State directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Exporter.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// API socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The operating system has no thread to give.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// Metrics.
    #[error(
        "cannot listen at {address} for metrics: {source}; name another ADDRESS:PORT, or off, with \
         --metrics or metrics.listen in the configuration of control"
    )]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A running control process.
pub struct Running {
    /// Its parts, for answers.
    pub app: Arc<App>,
    stop: watch::Sender<bool>,
    link: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
    servers: Vec<JoinHandle<()>>,
    /// Where metrics are served: the configured address with its real port.
    pub metrics_address: Option<SocketAddr>,
    socket: Option<SocketPath>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// Starts everything. Must be called within a tokio runtime.
///
/// # Errors
/// [`RunError`]; nothing keeps running then.
pub async fn start(config: Config) -> Result<Running, RunError> {
    // The socket first: it is what refuses a second instance.
    let (listener, socket) = SocketPath::listen(&config.api_socket())?;
    let metrics = listen_for_metrics(&config).await?;
    let (stop, stopped) = watch::channel(false);
    let (parts, candidates) = Parts::new(&config)?;
    let (events, told) = mpsc::unbounded_channel();
    let (link, link_task) = Link::start(Arc::clone(&parts.dataplane), events, stopped.clone());
    let opened = parts.open_policy(&config, link, candidates);
    let (policy, history) = match opened.and_then(|policy| Ok((policy, parts.start(&config)?))) {
        Ok(opened) => opened,
        Err(error) => {
            stop.send_replace(true);
            let _ = link_task.await;
            return Err(error);
        }
    };
    let watching = tokio::spawn(Arc::clone(&policy).watch(told));
    let app = Arc::new(parts.into_app(config, policy, history));
    let mut tasks = start_tasks(&app, &stopped);
    tasks.push(watching);
    let metrics_address = metrics.as_ref().and_then(|m| m.local_addr().ok());
    let servers = start_servers(&app, listener, metrics, &stopped);
    tracing::info!(
        socket = %app.config.api_socket().display(),
        metrics = ?metrics_address,
        collectors = app.config.export.collectors.len(),
        "control is ready"
    );
    Ok(Running {
        app,
        stop,
        link: link_task,
        tasks,
        servers,
        metrics_address,
        socket: Some(socket),
    })
}

/// What stands before there is a policy.
struct Parts {
    dataplane: Arc<Dataplane>,
    recent: Arc<RecentFlows>,
    hits: Arc<HitCounters>,
    exporter: Arc<Exporter>,
    registry: Arc<Registry>,
    history_writer: Arc<HistoryWriter>,
    watch: Arc<Watch>,
}

impl Parts {
    fn new(config: &Config) -> Result<(Self, Candidates), RunError> {
        let registry = Arc::new(Registry::default());
        let recent = Arc::new(RecentFlows::new(&config.flows));
        let hits = Arc::new(HitCounters::default());
        let exporter = Arc::new(Exporter::start(&config.export, &registry)?);
        let history_writer = Arc::new(HistoryWriter::new(&config.history, history_is_on(config)));
        let watch = Arc::new(Watch::new(config, history_survives(config)));
        let (candidates, candidate_queue) = Candidates::start();
        let sinks = Sinks {
            recent: Arc::clone(&recent),
            hits: Arc::clone(&hits),
            history: history_writer.queue(),
            watch: watch.queue(),
            candidates: candidate_queue,
            export: exporter.queues(),
        };
        let dataplane = Dataplane::new(config, sinks, Arc::clone(&exporter.told));
        let parts = Self {
            dataplane: Arc::new(dataplane),
            recent,
            hits,
            exporter,
            registry,
            history_writer,
            watch,
        };
        Ok((parts, candidates))
    }

    fn open_policy(
        &self,
        config: &Config,
        link: Link,
        candidates: Candidates,
    ) -> Result<Arc<PolicyService>, RunError> {
        let policy = PolicyService::open(
            config,
            Arc::clone(&self.registry),
            Arc::clone(&self.dataplane),
            link,
            candidates,
        )?;
        Ok(Arc::new(policy))
    }

    /// Opens history and starts the threads that read from and write to it.
    fn start(&self, config: &Config) -> Result<Arc<dyn History>, RunError> {
        let history = open_history(config);
        let names = || (Arc::clone(&self.registry), Arc::clone(&self.dataplane));
        let (registry, dataplane) = names();
        self.history_writer
            .start(&config.history, Arc::clone(&history), registry, dataplane)
            .map_err(RunError::Thread)?;
        let (registry, dataplane) = names();
        self.watch
            .start(&config.watch, Arc::clone(&history), registry, dataplane)
            .map_err(RunError::Thread)?;
        Ok(history)
    }

    fn into_app(
        self,
        config: Config,
        policy: Arc<PolicyService>,
        history: Arc<dyn History>,
    ) -> App {
        App {
            inventory: InventoryService::new(&config.inventory, &policy.resolved()),
            config,
            started_ns: now_ns(),
            dataplane: self.dataplane,
            recent: self.recent,
            hits: self.hits,
            exporter: self.exporter,
            registry: self.registry,
            policy,
            history,
            history_writer: self.history_writer,
            watch: self.watch,
            rates: Rates::default(),
        }
    }
}

async fn listen_for_metrics(config: &Config) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = config.metrics.listen.0 else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound
        .map(Some)
        .map_err(|source| RunError::Metrics { address, source })
}

/// What goes on beside answers.
fn start_tasks(app: &Arc<App>, stopped: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(sample(Arc::clone(app))),
        tokio::spawn(inventory::keep(Arc::clone(app), stopped.clone())),
        tokio::spawn(naming::note(Arc::clone(app), stopped.clone())),
    ]
}

fn start_servers(
    app: &Arc<App>,
    listener: UnixListener,
    metrics: Option<TcpListener>,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut servers = Vec::new();
    if let Some(metrics) = metrics {
        let served = axum::serve(metrics, metrics_router(Arc::clone(app)));
        servers.push(serve(served.with_graceful_shutdown(until(stopped.clone()))));
    }
    let service = router(Arc::clone(app)).into_make_service_with_connect_info::<SocketPeer>();
    let served = axum::serve(listener, service);
    servers.push(serve(served.with_graceful_shutdown(until(stopped.clone()))));
    servers
}

fn history_is_on(config: &Config) -> bool {
    config.history.engine != HistoryEngine::Off
}

/// Whether history still has the baseline of the watch after a restart.
fn history_survives(config: &Config) -> bool {
    match config.history.engine {
        HistoryEngine::Embedded | HistoryEngine::ClickHouse => true,
        HistoryEngine::Memory | HistoryEngine::Off => false,
    }
}

fn open_history(config: &Config) -> Arc<dyn History> {
    match config.history.engine {
        HistoryEngine::Off => Arc::new(OffHistory::default()),
        HistoryEngine::Embedded => {
            let dir = config.history_dir();
            match EmbeddedHistory::open(&dir, config.history.embedded()) {
                Ok(history) => Arc::new(history),
                // Policy and export do not wait for it; doctor and `history state` tell why.
                Err(error) => {
                    tracing::error!(%error, dir = %dir.display(), "history cannot be opened; nothing is kept");
                    Arc::new(OffHistory::because(error.to_string()))
                }
            }
        }
        HistoryEngine::Memory => {
            let records_max = NonZeroUsize::new(config.history.memory_records_max);
            Arc::new(MemoryHistory::new(records_max.unwrap_or(NonZeroUsize::MIN)))
        }
        HistoryEngine::ClickHouse => open_clickhouse(config),
    }
}

/// No server is asked here: one that is away, or refuses, is told by the state of history and may come later.
fn open_clickhouse(config: &Config) -> Arc<dyn History> {
    let clickhouse = config.history.clickhouse.clone().unwrap_or_default();
    let spool_dir = config.history_dir().join("spool");
    match ClickHouseHistory::open(clickhouse, &spool_dir) {
        Ok(history) => Arc::new(history),
        Err(error) => {
            tracing::error!(%error, dir = %spool_dir.display(), "history cannot be opened; nothing is kept");
            Arc::new(OffHistory::because(error.to_string()))
        }
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which also means stop.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn serve(
    served: impl IntoFuture<Output = std::io::Result<()>, IntoFuture: Send + 'static>,
) -> JoinHandle<()> {
    let served = served.into_future();
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "a server has ended");
        }
    })
}

impl Running {
    /// Waits until the dataplane has ended in order, every record was collected and every
    /// collector was sent its part.
    pub async fn finished(&self) {
        loop {
            let state = self.app.dataplane.view().state;
            if state == DataplaneState::Finished && self.app.exporter.waiting() == 0 {
                return;
            }
            tokio::time::sleep(FINISHED_INTERVAL).await;
        }
    }

    /// Ends everything: the link, the rings once more, the exports, then the answers.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = self.link.await;
        let app = Arc::clone(&self.app);
        let drained = tokio::task::spawn_blocking(move || {
            app.dataplane.end_collector();
            app.history_writer.stop();
            app.watch.stop();
            app.exporter.stop();
        });
        if drained.await.is_err() {
            tracing::error!("the last records were not exported");
        }
        self.app.recent.end_followers();
        self.app.policy.judged().end_watchers();
        for server in self.servers.drain(..) {
            let abort = server.abort_handle();
            if tokio::time::timeout(ANSWERS_TIMEOUT, server).await.is_err() {
                abort.abort();
            }
        }
        for task in self.tasks.drain(..) {
            task.abort();
            // Aborted, or ended before.
            let _ = task.await;
        }
        self.app.policy.close();
        self.socket = None;
        tracing::info!("control has stopped");
    }
}

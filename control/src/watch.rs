//! The watch for unexpected paths: edges that were never seen before, sweeps, fan-outs, chains of administrative edges.
//!
//! `watch/detector.rs` judges one flow record after the other and knows neither clock nor file. This file is its
//! thread: records come through a bounded queue of their own, what does not fit is counted, and nobody waits. The
//! baseline is read out of history at the start and kept up from then on.

pub mod answers;
pub mod baseline;
pub mod chain;
pub mod cut;
pub mod detector;
pub mod edge;
pub mod findings;
pub mod state;
pub mod sweep;

use crate::app::Namer;
use crate::clock::now_ns;
use crate::config::{Config, WatchConfig};
use crate::dataplane::Dataplane;
use crate::lock::lock;
use crate::names::Registry;
use crate::recent::Batch;
use api::filter::Filter;
use api::watch::{Finding, FindingSaid, FindingSeverity, FindingState};
use detector::Detector;
use history::{History, HistoryError, Selection};
use state::{WatchFile, WatchFileError};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often what changed is kept on disk.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// Name of the file in the state directory.
const FILE_NAME: &str = "watch.json";

/// What was done with records, in all.
#[derive(Debug, Default)]
pub struct WatchCounters {
    /// Records that wait.
    pub waiting: AtomicUsize,
    /// Records not looked at because the queue was full.
    pub shed: AtomicU64,
    /// Conversations of history that the baseline was learned from.
    pub learned: AtomicU64,
}

/// The way in, for the collector.
#[derive(Clone, Debug, Default)]
pub struct WatchQueue {
    /// None where nothing is watched.
    batches: Option<Sender<Order>>,
    counters: Arc<WatchCounters>,
    records_max: usize,
}

#[derive(Debug)]
enum Order {
    Look(Batch),
    /// Look at everything before this, then answer.
    Settle(Sender<()>),
    End,
}

impl WatchQueue {
    /// Hands over a batch; never waits.
    pub fn offer(&self, batch: &Batch) {
        let Some(batches) = &self.batches else { return };
        let (waiting, records) = (&self.counters.waiting, batch.len());
        let before = waiting.fetch_add(records, Ordering::AcqRel);
        let is_full = before > 0 && before + records > self.records_max;
        if is_full || batches.send(Order::Look(Arc::clone(batch))).is_err() {
            waiting.fetch_sub(records, Ordering::AcqRel);
            self.counters
                .shed
                .fetch_add(records as u64, Ordering::Relaxed);
        }
    }
}

/// The detector, its thread, and its file.
#[derive(Debug)]
pub struct Watch {
    queue: WatchQueue,
    detector: Mutex<Detector>,
    path: PathBuf,
    /// History does not have the baseline.
    keeps_baseline: bool,
    error: Mutex<Option<String>>,
    /// Number of the last change of a finding.
    changes: watch::Sender<u64>,
    work: Mutex<Option<Receiver<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread has besides.
struct Work {
    watch: Arc<Watch>,
    orders: Receiver<Order>,
    history: Arc<dyn History>,
    registry: Arc<Registry>,
    dataplane: Arc<Dataplane>,
    learning_ns: u64,
    told: u64,
}

impl Watch {
    /// A watch whose thread has not started yet. `has_history` where history will have the baseline
    /// after a restart.
    #[must_use]
    pub fn new(config: &Config, has_history: bool) -> Self {
        let (sender, receiver) = channel();
        let of: &WatchConfig = &config.watch;
        let queue = WatchQueue {
            batches: of.enabled.then_some(sender),
            counters: Arc::default(),
            records_max: of.queue_records_max,
        };
        Self {
            queue,
            detector: Mutex::new(Detector::new(of)),
            path: config.control.state_dir.join(FILE_NAME),
            keeps_baseline: !has_history,
            error: Mutex::default(),
            changes: watch::Sender::new(0),
            work: Mutex::new(of.enabled.then_some(receiver)),
            thread: Mutex::default(),
        }
    }

    /// The way in.
    #[must_use]
    pub fn queue(&self) -> WatchQueue {
        self.queue.clone()
    }

    /// What was done with records.
    #[must_use]
    pub fn counters(&self) -> &WatchCounters {
        &self.queue.counters
    }

    /// The detector. Whoever holds it makes its thread wait, and nobody else.
    pub fn detector(&self) -> MutexGuard<'_, Detector> {
        lock(&self.detector)
    }

    /// Told with every change of a finding; ended when this process ends.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Why the file was not read or written the last time.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    /// Starts the thread: it reads the file and history, then looks at what comes.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(
        self: &Arc<Self>,
        config: &WatchConfig,
        history: Arc<dyn History>,
        registry: Arc<Registry>,
        dataplane: Arc<Dataplane>,
    ) -> std::io::Result<()> {
        let Some(orders) = lock(&self.work).take() else {
            return Ok(());
        };
        // Before anybody asks: what people have said is there from the first answer on.
        self.restore();
        let work = Work {
            watch: Arc::clone(self),
            orders,
            history,
            registry,
            dataplane,
            learning_ns: config.learning.ns(),
            told: self.detector().findings.change(),
        };
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || work.run())?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    fn restore(&self) {
        match WatchFile::read(&self.path) {
            Ok(None) => {}
            Ok(Some(file)) => file.restore(&mut self.detector()),
            Err(error) => {
                tracing::error!(%error, "findings of the process before are not known");
                *lock(&self.error) = Some(error.to_string());
            }
        }
    }

    /// Keeps everything on disk.
    ///
    /// # Errors
    /// The file system refuses; it is tried again later.
    pub fn save(&self) -> Result<(), WatchFileError> {
        let file = WatchFile::of(&self.detector(), self.keeps_baseline);
        let written = file.write(&self.path);
        *lock(&self.error) = written.as_ref().err().map(ToString::to_string);
        written
    }

    /// Waits until everything that was offered before was looked at, or until `limit` has passed.
    pub fn settle(&self, limit: Duration) {
        let (done, told) = channel();
        let asked = self.queue.batches.as_ref();
        if asked.is_some_and(|orders| orders.send(Order::Settle(done)).is_ok()) {
            // An error means that it takes too long, or that the thread is gone: the answer is as new as it can be.
            let _ = told.recv_timeout(limit);
        }
    }

    /// Somebody says something about a finding; it is on disk before this returns.
    ///
    /// # Errors
    /// It is said, and not on disk.
    pub fn say(&self, id: u64, said: FindingSaid) -> Result<Option<Finding>, WatchFileError> {
        let (finding, change) = {
            let mut detector = self.detector();
            let finding = detector.say(id, said);
            (finding, detector.findings.change())
        };
        if finding.is_some() {
            self.changes.send_replace(change);
            self.save()?;
        }
        Ok(finding)
    }

    /// Looks at what waits, keeps everything, and ends the thread. The collector has ended before.
    pub fn stop(&self) {
        let asked = self.queue.batches.as_ref();
        if asked.is_some_and(|orders| orders.send(Order::End).is_ok())
            && let Some(thread) = lock(&self.thread).take()
        {
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the thread of the watch panicked");
        }
        // Followers take it for the end.
        self.changes.send_replace(u64::MAX);
    }
}

impl Work {
    fn run(mut self) {
        self.learn();
        let mut saved = (Instant::now(), self.watch.detector().findings.change());
        loop {
            match self.orders.recv_timeout(SAVE_INTERVAL) {
                Ok(Order::Look(batch)) => self.look(&batch),
                Ok(Order::Settle(done)) => {
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            let change = self.watch.detector().findings.change();
            if saved.0.elapsed() >= SAVE_INTERVAL && saved.1 != change {
                self.save();
                saved = (Instant::now(), change);
            }
        }
        self.save();
    }

    fn save(&self) {
        if let Err(error) = self.watch.save() {
            tracing::error!(%error, "findings are not on disk; it is tried again");
        }
    }

    /// The baseline, out of history.
    fn learn(&self) {
        let now = now_ns();
        // A filter without a test is every flow; should that ever change, nothing is learned and all is novel.
        let Ok(filter) = Filter::parse("") else {
            return;
        };
        let all = Selection {
            since_ns: now.saturating_sub(self.learning_ns),
            until_ns: now,
            filter,
        };
        let learned = &self.watch.queue.counters.learned;
        let mut detector = self.watch.detector();
        let asked = self
            .history
            .conversations_to_add_up(&all, &mut |conversation| {
                detector.learn(&conversation);
                learned.fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            });
        let edges = detector.baseline.len();
        drop(detector);
        match asked {
            Ok(()) => tracing::info!(edges, "the baseline of the watch was read out of history"),
            Err(HistoryError::Off) => {}
            Err(error) => {
                tracing::error!(%error, "history does not tell the baseline; it is learned anew");
                *lock(&self.watch.error) = Some(error.to_string());
            }
        }
    }

    fn look(&mut self, batch: &Batch) {
        let mut namer = Namer::new(self.registry.names(), self.dataplane.port_names());
        let mut flows = Vec::with_capacity(batch.len());
        namer.each(batch, &mut flows);
        let mut detector = self.watch.detector();
        for flow in &flows {
            detector.observe(flow);
        }
        let change = detector.findings.change();
        if change > self.told {
            let new = detector.findings.all().filter(|f| f.change > self.told);
            new.for_each(tell);
            self.told = change;
            self.watch.changes.send_replace(change);
        }
        drop(detector);
        let waiting = &self.watch.queue.counters.waiting;
        waiting.fetch_sub(batch.len(), Ordering::AcqRel);
    }
}

/// One line of the log a finding.
fn tell(finding: &Finding) {
    let Finding {
        id,
        kind,
        severity,
        sentence,
        ..
    } = finding;
    let is_alarm = *severity >= FindingSeverity::Medium;
    match (
        finding.learning || finding.state == FindingState::Resolved,
        is_alarm,
    ) {
        (true, _) => tracing::debug!(id, %kind, %severity, "{sentence}"),
        (false, true) => tracing::warn!(id, %kind, %severity, "{sentence}"),
        (false, false) => tracing::info!(id, %kind, %severity, "{sentence}"),
    }
}

#[cfg(test)]
mod tests;

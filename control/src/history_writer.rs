//! Names what the collector takes and hands it to history, in a thread of its own: a slow disk makes nobody wait. A second
//! thread rolls up and merges meanwhile.
//!
//! The queue is bounded. When it is full its records are shed and counted, or, where the configuration says `wait`,
//! the collector waits.

use crate::app::Namer;
use crate::clock::now_ns;
use crate::config::{HistoryConfig, WhenFull};
use crate::dataplane::Dataplane;
use crate::lock::lock;
use crate::names::Registry;
use crate::recent::Batch;
use history::{History, HistoryError};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a full queue is left alone before it is looked at again.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(1);
/// Batches that are appended together at most.
const BATCHES_MAX: usize = 64;

/// What was done with records, in all.
#[derive(Debug, Default)]
pub struct HistoryCounters {
    /// Records that wait.
    pub waiting: AtomicUsize,
    /// Records appended.
    pub kept: AtomicU64,
    /// Records not kept because the queue was full.
    pub shed: AtomicU64,
    /// Records not kept because the engine refused them.
    pub refused: AtomicU64,
    /// Flushes and maintenance runs that failed.
    pub failures: AtomicU64,
}

/// The way into history, for the collector.
#[derive(Clone, Debug, Default)]
pub struct HistoryQueue {
    /// None where history is off.
    batches: Option<Sender<Order>>,
    counters: Arc<HistoryCounters>,
    records_max: usize,
    when_full: WhenFull,
    stopping: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Order {
    Keep(Batch),
    /// Make everything before this safe, then answer.
    Flush(Sender<()>),
    End,
}

impl HistoryQueue {
    /// Hands over a batch.
    pub fn offer(&self, batch: &Batch) {
        let Some(batches) = &self.batches else { return };
        let waiting = || self.counters.waiting.load(Ordering::Acquire);
        let full = || waiting() > 0 && waiting() + batch.len() > self.records_max;
        while self.when_full == WhenFull::Wait && full() && !self.stopping.load(Ordering::Acquire) {
            std::thread::sleep(FULL_QUEUE_WAIT);
        }
        let records = batch.len();
        let is_full = full();
        self.counters.waiting.fetch_add(records, Ordering::AcqRel);
        if is_full || batches.send(Order::Keep(Arc::clone(batch))).is_err() {
            self.counters.waiting.fetch_sub(records, Ordering::AcqRel);
            let shed = &self.counters.shed;
            shed.fetch_add(records as u64, Ordering::Relaxed);
        }
    }
}

/// The threads, and what they count.
#[derive(Debug)]
pub struct HistoryWriter {
    queue: HistoryQueue,
    work: Mutex<Option<Receiver<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    upkeep: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Work {
    orders: Receiver<Order>,
    history: Arc<dyn History>,
    registry: Arc<Registry>,
    dataplane: Arc<Dataplane>,
    counters: Arc<HistoryCounters>,
    flush: Duration,
}

/// Maintenance, which takes long and makes nobody wait.
struct Upkeep {
    /// Ends it when nobody can send any more.
    ended: Receiver<()>,
    history: Arc<dyn History>,
    counters: Arc<HistoryCounters>,
    every: Duration,
}

impl HistoryWriter {
    /// A queue whose thread has not started yet.
    #[must_use]
    pub fn new(config: &HistoryConfig, is_on: bool) -> Self {
        let (sender, receiver) = channel();
        let queue = HistoryQueue {
            batches: is_on.then_some(sender),
            counters: Arc::default(),
            records_max: config.queue_records_max,
            when_full: config.when_full,
            stopping: Arc::default(),
        };
        Self {
            queue,
            work: Mutex::new(is_on.then_some(receiver)),
            thread: Mutex::new(None),
            upkeep: Mutex::new(None),
        }
    }

    /// The way in.
    #[must_use]
    pub fn queue(&self) -> HistoryQueue {
        self.queue.clone()
    }

    /// What was done with records.
    #[must_use]
    pub fn counters(&self) -> &HistoryCounters {
        &self.queue.counters
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(
        &self,
        config: &HistoryConfig,
        history: Arc<dyn History>,
        registry: Arc<Registry>,
        dataplane: Arc<Dataplane>,
    ) -> std::io::Result<()> {
        let Some(orders) = lock(&self.work).take() else {
            return Ok(());
        };
        let (end, ended) = channel();
        let upkeep = Upkeep {
            ended,
            history: Arc::clone(&history),
            counters: Arc::clone(&self.queue.counters),
            every: config.maintain.0,
        };
        let thread = std::thread::Builder::new()
            .name("history-upkeep".to_owned())
            .spawn(move || upkeep.run())?;
        *lock(&self.upkeep) = Some((end, thread));
        let work = Work {
            orders,
            history,
            registry,
            dataplane,
            counters: Arc::clone(&self.queue.counters),
            flush: config.flush.0,
        };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || work.run())?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Waits until everything that was offered before is in history and safe there.
    pub fn settle(&self) {
        let (done, told) = channel();
        let asked = self.queue.batches.as_ref();
        if asked.is_some_and(|orders| orders.send(Order::Flush(done)).is_ok()) {
            // An error means that the thread is gone, and nothing is left to wait for.
            let _ = told.recv();
        }
    }

    /// Keeps what waits, makes it safe, and ends the threads; what maintenance is at is done first. The collector has
    /// ended before.
    pub fn stop(&self) {
        if let Some((end, thread)) = lock(&self.upkeep).take() {
            drop(end);
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the thread of maintenance panicked");
        }
        self.queue.stopping.store(true, Ordering::Release);
        self.settle();
        let asked = self.queue.batches.as_ref();
        if asked.is_some_and(|orders| orders.send(Order::End).is_ok())
            && let Some(thread) = lock(&self.thread).take()
        {
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the thread of history panicked");
        }
    }
}

impl Work {
    fn run(self) {
        let mut flushed = Instant::now();
        loop {
            let due = self.flush.saturating_sub(flushed.elapsed());
            match self.orders.recv_timeout(due) {
                Ok(Order::Keep(batch)) => self.keep(batch),
                Ok(Order::Flush(done)) => {
                    self.try_to("make history safe", self.history.flush());
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if flushed.elapsed() >= self.flush {
                self.try_to("make history safe", self.history.flush());
                flushed = Instant::now();
            }
        }
    }

    /// Keeps a batch, and what came meanwhile.
    fn keep(&self, first: Batch) {
        let mut namer = Namer::new(self.registry.names(), self.dataplane.port_names());
        let mut flows = Vec::with_capacity(first.len());
        let mut take = |batch: &Batch| namer.each(batch, &mut flows);
        take(&first);
        let mut asked = None;
        for _ in 1..BATCHES_MAX {
            match self.orders.try_recv() {
                Ok(Order::Keep(batch)) => take(&batch),
                Ok(Order::Flush(done)) => {
                    asked = Some(done);
                    break;
                }
                // Only `stop` ends the thread, after a flush: nothing waits behind it.
                Ok(Order::End) | Err(_) => break,
            }
        }
        let records = flows.len();
        let counter = match self.history.append(&flows) {
            Ok(()) => &self.counters.kept,
            Err(error) => {
                tracing::error!(%error, records, "flow records are not kept");
                &self.counters.refused
            }
        };
        counter.fetch_add(records as u64, Ordering::Relaxed);
        self.counters.waiting.fetch_sub(records, Ordering::AcqRel);
        if let Some(done) = asked {
            self.try_to("make history safe", self.history.flush());
            let _ = done.send(());
        }
    }

    fn try_to(&self, what: &str, tried: Result<(), HistoryError>) {
        count_failure(&self.counters, what, tried);
    }
}

impl Upkeep {
    fn run(self) {
        while let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(self.every) {
            let maintained = self.history.maintain(now_ns());
            count_failure(&self.counters, "roll history up", maintained);
        }
    }
}

fn count_failure(counters: &HistoryCounters, what: &str, tried: Result<(), HistoryError>) {
    if let Err(error) = tried {
        counters.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "cannot {what}; it is tried again");
    }
}

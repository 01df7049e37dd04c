//! Drains the record rings: one thread of the operating system for each region.
//!
//! It never makes a core wait: a ring that it does not empty in time is shed and counted by the
//! dataplane. Its sleep adapts from nothing to `sleep_max`, so that an idle box costs no processor.

use crate::candidates::CandidateQueue;
use crate::config::CollectorConfig;
use crate::exporter::ExportQueues;
use crate::flow::is_readable;
use crate::history_writer::HistoryQueue;
use crate::recent::RecentFlows;
use crate::rule_hits::HitCounters;
use crate::watch::WatchQueue;
use abi::ring::ConsumerError;
use abi::{Consumer, FlowRecord, RegionView};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where records go.
#[derive(Clone, Debug)]
pub struct Sinks {
    /// Recent flows and their followers.
    pub recent: Arc<RecentFlows>,
    /// Hits of rules.
    pub hits: Arc<HitCounters>,
    /// The flow store.
    pub history: HistoryQueue,
    /// The watch for unexpected paths.
    pub watch: WatchQueue,
    /// Candidates, which are judged on what is told.
    pub candidates: CandidateQueue,
    /// IPFIX collectors.
    pub export: ExportQueues,
}

/// How far one ring has been read. Written by the collector's thread alone.
#[derive(Debug, Default)]
pub struct RingProgress {
    /// Cursor where this process began.
    start: AtomicU64,
    /// Records below are read.
    cursor: AtomicU64,
    /// Published and not read.
    backlog: AtomicU64,
    /// Records that the ring can hold.
    capacity: AtomicU64,
    /// Records handed on, counted one by one and not by cursor.
    collected: AtomicU64,
    /// Of those, records that this build cannot read.
    unreadable: AtomicU64,
    /// Packets in the records collected.
    packets: AtomicU64,
}

/// A copy of [`RingProgress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of RingProgress")]
pub struct RingCounts {
    pub start: u64,
    pub cursor: u64,
    pub backlog: u64,
    pub capacity: u64,
    pub collected: u64,
    pub unreadable: u64,
    pub packets: u64,
}

impl RingProgress {
    /// A copy. The collector's thread may be one batch further.
    #[must_use]
    pub fn counts(&self) -> RingCounts {
        // Relaxed: gauges and sums, nothing is read through them.
        let get = |field: &AtomicU64| field.load(Ordering::Relaxed);
        RingCounts {
            start: get(&self.start),
            cursor: get(&self.cursor),
            backlog: get(&self.backlog),
            capacity: get(&self.capacity),
            collected: get(&self.collected),
            unreadable: get(&self.unreadable),
            packets: get(&self.packets),
        }
    }
}

/// What a collector does when its rings are empty.
#[derive(Debug, Default)]
struct Orders {
    /// End when every ring has been seen empty once.
    drain_and_end: AtomicBool,
}

/// The collector of one region.
#[derive(Debug)]
pub struct Collector {
    rings: Arc<[RingProgress]>,
    orders: Arc<Orders>,
    failed: Arc<Mutex<Option<String>>>,
    /// Rounds in which every ring was found empty; grows while idle.
    empty_rounds: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Collector {
    /// Takes the consumer's seat of every ring and starts to drain.
    ///
    /// # Errors
    /// A ring whose seat is contended by another process.
    pub fn start(
        region: &RegionView,
        config: &CollectorConfig,
        sinks: Sinks,
    ) -> Result<Self, ConsumerError> {
        let drain = Drain::attach(region, config.batch_records, sinks)?;
        let rings = Arc::clone(&drain.rings);
        let orders = Arc::new(Orders::default());
        let failed = Arc::new(Mutex::new(None));
        let empty_rounds = Arc::new(AtomicU64::new(0));
        let work = Work {
            drain,
            orders: Arc::clone(&orders),
            failed: Arc::clone(&failed),
            empty_rounds: Arc::clone(&empty_rounds),
            sleep_max: config.sleep_max.0,
        };
        let thread = std::thread::Builder::new()
            .name("collector".to_owned())
            .spawn(move || work.run())
            .ok();
        Ok(Self {
            rings,
            orders,
            failed,
            empty_rounds,
            thread: Mutex::new(thread),
        })
    }

    /// How far each ring has been read.
    #[must_use]
    pub fn rings(&self) -> Vec<RingCounts> {
        self.rings.iter().map(RingProgress::counts).collect()
    }

    /// Why a ring can no longer be read.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A number that grows with every round that found all rings empty.
    #[must_use]
    pub fn empty_rounds(&self) -> u64 {
        self.empty_rounds.load(Ordering::Acquire)
    }

    /// Drains what is there, then ends the thread and waits for it. Ends soon: a ring that a core
    /// fills as fast as it is read is left after its capacity has been read once.
    pub fn end(&self) {
        self.orders.drain_and_end.store(true, Ordering::Release);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the collector's thread panicked");
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

fn empty_record() -> FlowRecord {
    <FlowRecord as zerocopy::FromZeros>::new_zeroed()
}

/// Takes records out of the rings of one region and hands them on.
#[derive(Debug)]
pub struct Drain {
    rings: Arc<[RingProgress]>,
    consumers: Vec<Consumer>,
    sinks: Sinks,
    batch: Vec<FlowRecord>,
}

impl Drain {
    /// Takes the consumer's seat of every ring.
    ///
    /// # Errors
    /// A ring whose seat is contended by another process.
    pub fn attach(
        region: &RegionView,
        batch_records: usize,
        sinks: Sinks,
    ) -> Result<Self, ConsumerError> {
        let mut consumers = Vec::new();
        for worker in 0..region.workers() {
            if let Some(consumer) = region.attach(worker, std::process::id()) {
                consumers.push(consumer?);
            }
        }
        let rings = consumers
            .iter()
            .map(|c| {
                let ring = RingProgress::default();
                ring.start.store(c.cursor(), Ordering::Relaxed);
                ring.cursor.store(c.cursor(), Ordering::Relaxed);
                ring.backlog.store(c.backlog(), Ordering::Relaxed);
                ring.capacity.store(c.capacity(), Ordering::Relaxed);
                ring
            })
            .collect();
        Ok(Self {
            rings,
            consumers,
            sinks,
            batch: vec![empty_record(); batch_records],
        })
    }

    fn rounds_to_read_all(&self) -> u64 {
        let largest = self
            .consumers
            .iter()
            .map(Consumer::capacity)
            .max()
            .unwrap_or(0);
        largest / (self.batch.len() as u64).max(1) + 1
    }

    /// Takes at most one batch from each ring; gives how many records.
    ///
    /// # Errors
    /// A ring that another process has taken over, or that is broken.
    pub fn round(&mut self) -> Result<usize, ConsumerError> {
        let mut taken = 0;
        for (consumer, ring) in self.consumers.iter_mut().zip(self.rings.iter()) {
            let count = consumer.read(&mut self.batch)?;
            if count > 0 {
                let records = self.batch.get_mut(..count).unwrap_or_default();
                deliver(&self.sinks, ring, records);
                // Only now: records that were not handed on are read again by a successor.
                consumer.release()?;
            }
            ring.cursor.store(consumer.cursor(), Ordering::Relaxed);
            ring.backlog.store(consumer.backlog(), Ordering::Relaxed);
            taken += count;
        }
        Ok(taken)
    }
}

struct Work {
    drain: Drain,
    orders: Arc<Orders>,
    failed: Arc<Mutex<Option<String>>>,
    empty_rounds: Arc<AtomicU64>,
    sleep_max: Duration,
}

/// First sleep after a round that found nothing.
const SLEEP_MIN: Duration = Duration::from_micros(50);

impl Work {
    fn run(mut self) {
        let mut sleep = SLEEP_MIN;
        // What may still be read after the order to end: every ring once.
        let mut rounds_left = None;
        loop {
            let ending = self.orders.drain_and_end.load(Ordering::Acquire);
            let taken = match self.drain.round() {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(%error, "a record ring cannot be read any longer");
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(error.to_string());
                    return;
                }
            };
            if taken == 0 {
                self.empty_rounds.fetch_add(1, Ordering::AcqRel);
            }
            if ending {
                let left = rounds_left.get_or_insert_with(|| self.drain.rounds_to_read_all());
                if taken == 0 || *left == 0 {
                    return;
                }
                *left -= 1;
            } else if taken == 0 {
                std::thread::sleep(sleep);
                sleep = (sleep * 2).min(self.sleep_max);
            } else {
                sleep = SLEEP_MIN;
            }
        }
    }
}

fn deliver(sinks: &Sinks, ring: &RingProgress, records: &mut [FlowRecord]) {
    let packets: u64 = records.iter().map(|r| r.packets_fwd + r.packets_rev).sum();
    let count = records.len();
    let readable = sort_out(records);
    let unreadable = count - readable.len();
    sinks.hits.count(readable.iter());
    let batch = sinks.recent.add(readable);
    sinks.history.offer(&batch);
    sinks.watch.offer(&batch);
    sinks.candidates.offer(&batch);
    sinks.export.offer(&batch);
    ring.collected.fetch_add(count as u64, Ordering::Relaxed);
    ring.unreadable
        .fetch_add(unreadable as u64, Ordering::Relaxed);
    ring.packets.fetch_add(packets, Ordering::Relaxed);
}

/// The readable records, in their order. Nearly always that is all of them, and nothing is moved.
fn sort_out(records: &mut [FlowRecord]) -> &[FlowRecord] {
    let mut kept = 0;
    for at in 0..records.len() {
        if is_readable(&records[at]) {
            if kept != at {
                records[kept] = records[at];
            }
            kept += 1;
        }
    }
    &records[..kept]
}

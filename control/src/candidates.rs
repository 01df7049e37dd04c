//! Candidates: policies that are judged live, beside the one in force, on the same flows.
//!
//! Not in the dataplane: every flow is told within seconds of its first packet, and the record has
//! all that a policy asks, so the same `acl` code decides here, on a thread of its own, at no cost to a
//! packet. The queue to it is bounded; what does not fit is counted and not judged.

mod judge;
mod watch;

pub use judge::{Judged, judge};
pub use watch::{Changed, ChangedBatch};

use crate::lock::lock;
use crate::recent::Batch;
use abi::FlowRecord;
use abi::record::RecordKind;
use acl::PolicyImage;
use api::candidate::{Candidate, CandidateCounts, Turn};
use policy::CompiledPolicy;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Batches that wait to be judged; of further ones the records are counted as lost.
const BATCHES_MAX: usize = 1024;
/// Live flows that one candidate remembers, so that a flow counts once; beyond them only flows that
/// begin are counted. Each needs about 16 bytes.
const LIVE_MAX: usize = 4_000_000;
/// Batches that wait for one watcher; what does not fit it misses, counted.
const WATCH_BATCHES_MAX: usize = 256;
/// Watchers of one candidate.
pub const WATCHERS_MAX: usize = 8;

/// A candidate that is judged.
#[derive(Debug)]
pub struct Judging {
    /// What is told of it; its counts are those of earlier processes.
    about: Candidate,
    /// Its image and names.
    pub compiled: Arc<CompiledPolicy>,
    counts: Counts,
    /// Lost records of the queue when it was added.
    lost_before: u64,
    live: Mutex<HashSet<u64>>,
    watchers: Mutex<Vec<mpsc::Sender<ChangedBatch>>>,
}

#[derive(Debug, Default)]
struct Counts {
    flows: AtomicU64,
    deny_newly: AtomicU64,
    allow_newly: AtomicU64,
    uncertain: AtomicU64,
    watch_shed: AtomicU64,
}

/// One in the list: judged, or kept although it cannot be.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Judged.
    Judging(Arc<Judging>),
    /// Its text cannot be compiled any more.
    Broken(Candidate),
}

impl Entry {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Judging(judging) => &judging.about.name,
            Self::Broken(about) => &about.name,
        }
    }

    fn end_watchers(&self) {
        if let Self::Judging(judging) = self {
            lock(&judging.watchers).clear();
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    list: Mutex<Vec<Entry>>,
    /// How many are judged; nobody, nothing is queued.
    judging: AtomicUsize,
    lost: AtomicU64,
}

/// The candidates.
#[derive(Debug, Default)]
pub struct Candidates {
    shared: Arc<Shared>,
}

/// Where the collector leaves records.
#[derive(Clone, Debug)]
pub struct CandidateQueue {
    sender: SyncSender<Batch>,
    shared: Arc<Shared>,
}

impl CandidateQueue {
    /// Leaves a batch to be judged. Never waits.
    pub fn offer(&self, batch: &Batch) {
        // Relaxed: one that is added now is judged from some batch on.
        if self.shared.judging.load(Ordering::Relaxed) == 0 || batch.is_empty() {
            return;
        }
        match self.sender.try_send(Arc::clone(batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                let lost = batch.len() as u64;
                self.shared.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

impl Candidates {
    /// None yet, and the queue that its thread empties. The thread ends with the last queue.
    #[must_use]
    pub fn start() -> (Self, CandidateQueue) {
        let (sender, batches) = sync_channel(BATCHES_MAX);
        let candidates = Self::default();
        let queue = CandidateQueue {
            sender,
            shared: Arc::clone(&candidates.shared),
        };
        let shared = Arc::clone(&candidates.shared);
        let thread = std::thread::Builder::new().name("candidates".to_owned());
        if let Err(error) = thread.spawn(move || shared.judge_all(&batches)) {
            tracing::error!(%error, "candidates are not judged");
        }
        (candidates, queue)
    }

    /// Every one, the first added first.
    #[must_use]
    pub fn all(&self) -> Vec<Candidate> {
        let list = lock(&self.shared.list).clone();
        list.iter()
            .map(|entry| match entry {
                Entry::Judging(judging) => judging.told(&self.shared),
                Entry::Broken(about) => about.clone(),
            })
            .collect()
    }

    /// One by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Entry> {
        let list = lock(&self.shared.list);
        list.iter().find(|entry| entry.name() == name).cloned()
    }

    /// Puts one in, at the place of one of the same name.
    pub fn put(&self, about: Candidate, compiled: Result<Arc<CompiledPolicy>, String>) {
        let entry = match compiled {
            Ok(compiled) => Entry::Judging(Arc::new(Judging {
                compiled,
                counts: Counts::default(),
                lost_before: self.shared.lost.load(Ordering::Relaxed),
                live: Mutex::default(),
                watchers: Mutex::default(),
                about,
            })),
            Err(error) => Entry::Broken(Candidate {
                error: Some(error),
                ..about
            }),
        };
        let mut list = lock(&self.shared.list);
        match list.iter_mut().find(|e| e.name() == entry.name()) {
            Some(place) => std::mem::replace(place, entry).end_watchers(),
            None => list.push(entry),
        }
        self.shared.count(&list);
    }

    /// Takes one out; whether it was there. Its watchers end.
    pub fn remove(&self, name: &str) -> bool {
        let mut list = lock(&self.shared.list);
        let place = list.iter().position(|entry| entry.name() == name);
        if let Some(place) = place {
            list.remove(place).end_watchers();
        }
        self.shared.count(&list);
        place.is_some()
    }

    /// Ends every watcher's stream.
    pub fn end_watchers(&self) {
        lock(&self.shared.list).iter().for_each(Entry::end_watchers);
    }
}

impl Shared {
    fn count(&self, list: &[Entry]) {
        let judging = list.iter().filter(|e| matches!(e, Entry::Judging(_)));
        self.judging.store(judging.count(), Ordering::Relaxed);
    }

    fn judge_all(&self, batches: &Receiver<Batch>) {
        while let Ok(batch) = batches.recv() {
            let list = lock(&self.list).clone();
            for entry in &list {
                if let Entry::Judging(judging) = entry {
                    judging.take(&batch);
                }
            }
        }
    }
}

impl Judging {
    fn image(&self) -> &PolicyImage {
        &self.compiled.image
    }

    fn told(&self, shared: &Shared) -> Candidate {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let before = self.about.counts;
        let watchers = lock(&self.watchers);
        let present = watchers.iter().filter(|w| !w.is_closed()).count();
        Candidate {
            counts: CandidateCounts {
                flows: before.flows + get(&self.counts.flows),
                deny_newly: before.deny_newly + get(&self.counts.deny_newly),
                allow_newly: before.allow_newly + get(&self.counts.allow_newly),
                uncertain: before.uncertain + get(&self.counts.uncertain),
                lost_records: before.lost_records
                    + get(&shared.lost).saturating_sub(self.lost_before),
                watch_shed: before.watch_shed + get(&self.counts.watch_shed),
            },
            watchers: present as u64,
            ..self.about.clone()
        }
    }

    /// Changed flows as they come; none where as many watch as may.
    #[must_use]
    pub fn watch(&self) -> Option<mpsc::Receiver<ChangedBatch>> {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| !watcher.is_closed());
        if watchers.len() >= WATCHERS_MAX {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WATCH_BATCHES_MAX);
        watchers.push(sender);
        Some(receiver)
    }

    fn take(&self, batch: &Batch) {
        let mut changed = Vec::new();
        let mut live = lock(&self.live);
        for stored in batch.iter() {
            let Some(flows) = counts(&mut live, &stored.record) else {
                continue;
            };
            let judged = judge(self.image(), &stored.record);
            let turn = judged.turn(&stored.record);
            let add = |counter: &AtomicU64| counter.fetch_add(flows, Ordering::Relaxed);
            add(&self.counts.flows);
            if judged.uncertain {
                add(&self.counts.uncertain);
            }
            match turn {
                Some(Turn::DenyNewly) => add(&self.counts.deny_newly),
                Some(Turn::AllowNewly) => add(&self.counts.allow_newly),
                None => continue,
            };
            changed.extend(turn.map(|turn| Changed {
                stored: *stored,
                turn,
                judged,
            }));
        }
        drop(live);
        self.tell(changed);
    }

    fn tell(&self, changed: Vec<Changed>) {
        let mut watchers = lock(&self.watchers);
        if changed.is_empty() || watchers.is_empty() {
            return;
        }
        let batch: ChangedBatch = changed.into();
        watchers.retain(|watcher| match watcher.try_send(Arc::clone(&batch)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let shed = batch.len() as u64;
                self.counts.watch_shed.fetch_add(shed, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }
}

/// How many flows a record counts for: one by the first record of it that is seen here, an aggregate's
/// all, none otherwise.
fn counts(live: &mut HashSet<u64>, record: &FlowRecord) -> Option<u64> {
    if let Some(aggregate) = record.as_aggregate() {
        return Some(aggregate.flows);
    }
    let ends = record.kind == RecordKind::End.byte();
    let known = if ends {
        live.remove(&record.flow_id)
    } else if live.len() < LIVE_MAX {
        !live.insert(record.flow_id)
    } else {
        // No room to know it again: only its beginning counts.
        record.begins == 0 || live.contains(&record.flow_id)
    };
    // An id that is used anew, after the dataplane has started anew, begins another flow.
    (!known || record.begins != 0).then_some(1)
}

#[cfg(test)]
mod tests;

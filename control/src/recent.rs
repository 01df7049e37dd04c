//! Recent flows: bounded by count, oldest out; and followers, who get flows as they come and lose
//! what they read too slowly, counted.

use crate::flow::StoredFlow;
use abi::FlowRecord;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Flows in the order of their arrival; one allocation for each batch.
pub type Batch = Arc<[StoredFlow]>;

/// The store.
#[derive(Debug)]
pub struct RecentFlows {
    flows_max: usize,
    followers_max: usize,
    follower_batches_max: usize,
    state: Mutex<State>,
    oldest_out: AtomicU64,
    follow_shed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    /// Flows at the front of the first batch that are no longer kept.
    front_out: usize,
    kept: usize,
    last_seq: u64,
    followers: Vec<mpsc::Sender<Batch>>,
}

/// What is kept at one moment; cheap to take, flows are shared with the store.
#[derive(Debug, Default)]
pub struct Snapshot {
    batches: Vec<Batch>,
    front_out: usize,
}

impl Snapshot {
    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &StoredFlow> {
        self.batches.iter().enumerate().flat_map(|(index, batch)| {
            let out = if index == 0 { self.front_out } else { 0 };
            batch.get(out..).unwrap_or_default().iter()
        })
    }
}

/// As many followers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{followers_max} followers are here already; end one of them or raise flows.followers_max")]
pub struct TooManyFollowers {
    /// The limit.
    pub followers_max: usize,
}

/// Counts of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecentCounts {
    /// Flows kept.
    pub kept: u64,
    /// Flows that can be kept.
    pub kept_max: u64,
    /// Flows given up because newer ones needed the room.
    pub oldest_out: u64,
    /// Followers now.
    pub followers: u64,
    /// Flows not sent to followers that read too slowly.
    pub follow_shed: u64,
}

impl RecentFlows {
    /// An empty store.
    #[must_use]
    pub fn new(config: &crate::config::FlowsConfig) -> Self {
        Self {
            flows_max: config.recent_max,
            followers_max: config.followers_max,
            follower_batches_max: config.follower_batches_max,
            state: Mutex::default(),
            oldest_out: AtomicU64::new(0),
            follow_shed: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, gives its flows their `seq`, and hands it to the followers.
    pub fn add(&self, records: &[FlowRecord]) -> Batch {
        let mut state = self.state();
        // The one copy of a record that control makes; of a known length, so that there is no other.
        let first = state.last_seq + 1;
        let batch: Batch = records
            .iter()
            .enumerate()
            .map(|(at, record)| StoredFlow {
                seq: first + at as u64,
                record: *record,
            })
            .collect();
        if batch.is_empty() {
            return batch;
        }
        state.last_seq += batch.len() as u64;
        state.kept += batch.len();
        state.batches.push_back(Arc::clone(&batch));
        while state.kept > self.flows_max {
            let over = state.kept - self.flows_max;
            let front = state.batches.front().map_or(0, |b| b.len()) - state.front_out;
            let out = over.min(front);
            state.kept -= out;
            state.front_out += out;
            self.oldest_out.fetch_add(out as u64, Ordering::Relaxed);
            if out == front {
                state.batches.pop_front();
                state.front_out = 0;
            }
        }
        state
            .followers
            .retain(|follower| match follower.try_send(Arc::clone(&batch)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.follow_shed
                        .fetch_add(batch.len() as u64, Ordering::Relaxed);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
        batch
    }

    /// What is kept now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            batches: state.batches.iter().cloned().collect(),
            front_out: state.front_out,
        }
    }

    /// What is kept now, and everything that comes later, without a gap or an overlap.
    ///
    /// # Errors
    /// As many followers as there may be.
    pub fn follow(&self) -> Result<(Snapshot, mpsc::Receiver<Batch>), TooManyFollowers> {
        let mut state = self.state();
        state.followers.retain(|f| !f.is_closed());
        if state.followers.len() >= self.followers_max {
            return Err(TooManyFollowers {
                followers_max: self.followers_max,
            });
        }
        let (sender, receiver) = mpsc::channel(self.follower_batches_max);
        state.followers.push(sender);
        let batches = state.batches.iter().cloned().collect();
        Ok((
            Snapshot {
                batches,
                front_out: state.front_out,
            },
            receiver,
        ))
    }

    /// Ends every follower's stream.
    pub fn end_followers(&self) {
        self.state().followers.clear();
    }

    /// Counts of the store.
    #[must_use]
    pub fn counts(&self) -> RecentCounts {
        let state = self.state();
        RecentCounts {
            kept: state.kept as u64,
            kept_max: self.flows_max as u64,
            oldest_out: self.oldest_out.load(Ordering::Relaxed),
            followers: state.followers.iter().filter(|f| !f.is_closed()).count() as u64,
            follow_shed: self.follow_shed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FlowsConfig;
    use proptest::prelude::*;

    fn store(recent_max: usize) -> RecentFlows {
        let config = FlowsConfig {
            recent_max,
            followers_max: 2,
            follower_batches_max: 2,
        };
        RecentFlows::new(&config)
    }

    fn flows(count: usize) -> Vec<FlowRecord> {
        vec![<FlowRecord as zerocopy::FromZeros>::new_zeroed(); count]
    }

    fn seqs(snapshot: &Snapshot) -> Vec<u64> {
        snapshot.iter().map(|f| f.seq).collect()
    }

    proptest! {
        #[test]
        fn exactly_the_newest_flows_are_kept_and_the_rest_is_counted(
            recent_max in 1_usize..50,
            batches in prop::collection::vec(0_usize..40, 0..20),
        ) {
            let store = store(recent_max);
            for size in &batches {
                store.add(&flows(*size));
            }
            let total: usize = batches.iter().sum();
            let kept = total.min(recent_max);
            let expected: Vec<u64> = ((total - kept + 1) as u64..=total as u64).collect();
            prop_assert_eq!(seqs(&store.snapshot()), expected);
            prop_assert_eq!(store.counts().kept, kept as u64);
            prop_assert_eq!(store.counts().oldest_out, (total - kept) as u64);
        }
    }

    #[test]
    fn a_follower_gets_what_comes_after_the_snapshot_and_no_more_than_its_queue_holds() {
        let store = store(100);
        store.add(&flows(3));
        let (snapshot, mut receiver) = store.follow().unwrap();
        assert_eq!(seqs(&snapshot), [1, 2, 3]);
        store.add(&flows(2));
        store.add(&flows(1));
        store.add(&flows(4));
        assert_eq!(receiver.try_recv().unwrap()[0].seq, 4);
        assert_eq!(receiver.try_recv().unwrap()[0].seq, 6);
        assert!(receiver.try_recv().is_err());
        assert_eq!(store.counts().follow_shed, 4);
    }

    #[test]
    fn followers_are_bounded_and_those_who_left_make_room() {
        let store = store(100);
        let first = store.follow().unwrap();
        let _second = store.follow().unwrap();
        assert_eq!(
            store.follow().unwrap_err(),
            TooManyFollowers { followers_max: 2 }
        );
        drop(first);
        assert!(store.follow().is_ok());
    }
}

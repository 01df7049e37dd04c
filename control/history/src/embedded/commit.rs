//! Changing files: a flush, and what every change has in common.

use super::disk;
use super::files::{StoredFile, Tier, file_path};
use super::journal::{Commit, Journal};
use super::nothing;
use super::parquet_file::{self, Content, Effort};
use super::state::{Frozen, held};
use super::totals::Totals;
use super::{EmbeddedHistory, count, lock};
use crate::HistoryError;
use arrow::array::RecordBatch;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Rows of a file that is written in one piece.
const BATCH_ROWS: usize = 65_536;

/// A commit whose journal is written and whose names are not turned yet.
#[derive(Debug)]
struct Pending {
    commit: Commit,
    journal: Journal,
    change: Change,
}

/// What a commit changes in memory.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub add: Vec<StoredFile>,
    pub remove: Vec<Arc<StoredFile>>,
    /// Rows in memory that are in the files now.
    pub frozen: Vec<Arc<Frozen>>,
}

/// The one who commits. Held for a flush, and for the commit of a maintenance step, not while that reads and writes files.
#[derive(Debug)]
pub(super) struct Writer {
    pub totals: Totals,
    /// Left over from an attempt that failed in its middle; finished before anything else is begun.
    pending: Option<Pending>,
}

impl Writer {
    pub(super) const fn new(totals: Totals) -> Self {
        Self {
            totals,
            pending: None,
        }
    }

    /// Makes the rows in memory safe.
    pub(super) fn flush(&mut self, engine: &EmbeddedHistory) -> Result<(), HistoryError> {
        self.finish(engine)?;
        let frozen = lock(&engine.state).freeze()?;
        if frozen.is_empty() {
            return Ok(());
        }
        let mut change = Change::default();
        let written = engine.write_frozen(&frozen, &mut change);
        change.frozen = frozen;
        self.commit_written(engine, written, change)
    }

    /// Commits what was written; where writing failed in its middle, removes it.
    pub(super) fn commit_written(
        &mut self,
        engine: &EmbeddedHistory,
        written: Result<(), HistoryError>,
        change: Change,
    ) -> Result<(), HistoryError> {
        let published = written
            .and_then(|()| self.finish(engine))
            .and_then(|()| self.publish(engine, &change));
        match published {
            Ok((commit, journal)) => {
                self.pending = Some(Pending {
                    commit,
                    journal,
                    change,
                });
                self.finish(engine)
            }
            Err(error) => {
                for file in &change.add {
                    disk::remove(&disk::tmp_of(&file.full_path()));
                }
                Err(error)
            }
        }
    }

    fn publish(
        &self,
        engine: &EmbeddedHistory,
        change: &Change,
    ) -> Result<(Commit, Journal), HistoryError> {
        let rows: usize = change.frozen.iter().map(|f| f.rows).sum();
        let commit = Commit {
            add: change.add.iter().map(|f| f.path.clone()).collect(),
            remove: change.remove.iter().map(|f| f.path.clone()).collect(),
            accounted: self.totals.accounted + count(rows),
        };
        let journal = commit.publish(&engine.root, engine.next_id())?;
        Ok((commit, journal))
    }

    /// Finishes a commit that has been published.
    pub(super) fn finish(&mut self, engine: &EmbeddedHistory) -> Result<(), HistoryError> {
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        pending.commit.turn_names(&engine.root)?;
        let totals = Totals {
            accounted: pending.commit.accounted,
            ..self.totals
        };
        totals.write(&engine.root)?;
        self.totals = totals;
        let Some(Pending {
            journal, change, ..
        }) = self.pending.take()
        else {
            return Ok(());
        };
        let journal = Arc::new(journal);
        let mut state = lock(&engine.state);
        for file in change.add {
            state.catalog.add(Arc::new(file));
        }
        for file in &change.remove {
            state.catalog.remove(file);
            file.doom(&journal);
        }
        state
            .frozen
            .retain(|f| !change.frozen.iter().any(|done| Arc::ptr_eq(done, f)));
        drop(state);
        Ok(())
    }
}

impl EmbeddedHistory {
    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn write_frozen(
        &self,
        frozen: &[Arc<Frozen>],
        change: &mut Change,
    ) -> Result<(), HistoryError> {
        let rows = Frozen::together(frozen)?;
        let tiers = [
            (Tier::Flows, &rows.flows),
            (Tier::Short, &rows.conversations),
        ];
        for (tier, hours) in tiers {
            for (hour, batch) in hours {
                let held = held(batch, tier, tier.partition_of(*hour))?;
                let content = Content {
                    tier,
                    effort: Effort::Quick,
                    held: &held,
                    columns: nothing::needed(batch),
                };
                let file = self.write_file(false, &content, pieces(batch.clone()))?;
                change.add.push(file);
            }
        }
        Ok(())
    }

    /// Writes a file under its temporary name.
    pub(super) fn write_file(
        &self,
        rolled: bool,
        content: &Content<'_>,
        batches: impl Iterator<Item = Result<RecordBatch, HistoryError>>,
    ) -> Result<StoredFile, HistoryError> {
        let id = self.next_id();
        let path = file_path(content.tier, content.held.partition, id, rolled);
        let bytes = parquet_file::write(&self.root.join(&path), content, batches)?;
        Ok(StoredFile {
            tier: content.tier,
            id,
            rolled,
            root: self.root.clone(),
            path,
            bytes,
            held: content.held.clone(),
            gone: Mutex::new(None),
        })
    }
}

/// A batch in pieces: a writer holds less at once.
pub(super) fn pieces(
    batch: RecordBatch,
) -> impl Iterator<Item = Result<RecordBatch, HistoryError>> {
    let rows = batch.num_rows();
    (0..rows)
        .step_by(BATCH_ROWS)
        .map(move |begin| Ok(batch.slice(begin, BATCH_ROWS.min(rows - begin))))
}

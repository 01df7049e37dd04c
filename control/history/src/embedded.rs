//! The embedded engine: Parquet files on the local disk, DataFusion for questions.
//!
//! ```text
//! append ─► rows in memory ─► flush ─► flows/2026-11-23T05/…           one file a flush, merged by maintain
//!              │  (told to every question)  conversations-5m/2026-11-23T05/…
//!              └ conversations, added up       └► maintain ─► conversations-1h/2026-11-23/…
//! ```
//!
//! What a commit adds and removes comes and goes together (`journal`); names of files and their footers say the rest, so
//! that there is no list that could be lost. A file that cannot be read is moved aside, and the rest still answers.

mod ask;
mod commit;
mod conversation_rows;
mod conversation_table;
mod disk;
mod files;
mod flow_columns;
mod journal;
mod maintain;
mod names;
mod nothing;
mod parquet_file;
mod plan;
mod questions;
mod recover;
mod sql;
mod state;
mod texts;
mod totals;

use crate::question::Question;
use crate::{History, HistoryError, Selection};
use api::Ts;
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Membership, RuleUse, SeriesPoint,
    Table, TierState, TopLine,
};
use api::top::{Metric, TopBy};
use ask::Asker;
use commit::Writer;
use files::Tier;
use names::NameBook;
use state::State;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use totals::Progress;

/// How long a tier keeps rows. Whatever is reached first counts; whole files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Age after which rows go, seconds.
    pub age_max_s: u64,
    /// Bytes after which the oldest rows go.
    pub bytes_max: u64,
}

/// Limits of the embedded engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Flow records.
    pub flows: Retention,
    /// Conversations of 300 seconds.
    pub short: Retention,
    /// Conversations of an hour.
    pub long: Retention,
    /// Flow records in memory after which `append` flushes by itself, unless the last flush failed.
    pub flush_rows: usize,
    /// Flow records in memory, where the disk takes none; further ones are refused, and counted.
    pub memory_rows_max: usize,
    /// Bytes that queries may use; what does not fit is spilled to disk, and what cannot be is an error.
    pub query_bytes_max: usize,
    /// Threads that answer.
    pub query_threads: NonZeroUsize,
    /// Seconds after which a question in SQL that has no whole answer is given up.
    pub sql_max_s: u64,
    /// How long after the end of an hour it is rolled up: most late records have come by then. Later ones are taken
    /// too. Seconds.
    pub roll_up_after_s: u64,
}

const DAY_S: u64 = 86_400;
const GIB: u64 = 1 << 30;

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            flows: Retention {
                age_max_s: 30 * DAY_S,
                bytes_max: 50 * GIB,
            },
            short: Retention {
                age_max_s: 90 * DAY_S,
                bytes_max: 20 * GIB,
            },
            long: Retention {
                age_max_s: 400 * DAY_S,
                bytes_max: 20 * GIB,
            },
            flush_rows: 500_000,
            memory_rows_max: 1_000_000,
            query_bytes_max: 1 << 30,
            query_threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            sql_max_s: 60,
            roll_up_after_s: 600,
        }
    }
}

impl EmbeddedOptions {
    const fn retention(&self, tier: Tier) -> Retention {
        match tier {
            Tier::Flows => self.flows,
            Tier::Short => self.short,
            Tier::Long => self.long,
        }
    }
}

/// History on the local disk.
#[derive(Debug)]
pub struct EmbeddedHistory {
    root: PathBuf,
    options: EmbeddedOptions,
    asker: Asker,
    progress: Progress,
    next_id: AtomicU64,
    /// Held by whoever maintains, the whole time. Taken before `writer`.
    maintaining: Mutex<()>,
    /// Held by whoever commits. Taken before `state`, never after.
    writer: Mutex<Writer>,
    state: Mutex<State>,
    names: Mutex<NameBook>,
    /// Held as long as the engine lives; the lock goes with the file.
    _lock: File,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

impl EmbeddedHistory {
    /// Opens a directory, and makes it where there is none. Finishes what a killed process had begun, sets damaged
    /// files aside, and counts what was lost.
    ///
    /// # Errors
    /// Another process has it open, or it cannot be read or written.
    pub fn open(root: &Path, options: EmbeddedOptions) -> Result<Self, HistoryError> {
        recover::open(root, options)
    }

    fn tier_state(&self, state: &State, tier: Tier) -> TierState {
        let retention = self.options.retention(tier);
        let mut told = TierState {
            name: tier.name().to_owned(),
            age_max_s: retention.age_max_s,
            bytes_max: retention.bytes_max,
            ..TierState::default()
        };
        for file in state.catalog.of(tier) {
            told.rows += file.held.rows;
            told.rolled_rows += if file.rolled { file.held.rows } else { 0 };
            told.bytes += file.bytes;
            told.files += 1;
            let (first, last) = (Ts(file.held.first_ns), Ts(file.held.last_ns));
            told.oldest_ts = Some(told.oldest_ts.map_or(first, |t| t.min(first)));
            told.newest_ts = told.newest_ts.max(Some(last));
        }
        told
    }
}

impl Drop for EmbeddedHistory {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!(%error, "the last flow records are not safe");
        }
    }
}

impl History for EmbeddedHistory {
    fn append(&self, flows: &[Flow]) -> Result<(), HistoryError> {
        let is_due = {
            let mut state = lock(&self.state);
            let waiting = state.rows_in_memory();
            if waiting + flows.len() > self.options.memory_rows_max {
                state.refused += count(flows.len());
                return Err(HistoryError::Engine {
                    what: "keep flow records",
                    why: format!(
                        "{waiting} of at most {} wait in memory for the disk: {}",
                        self.options.memory_rows_max,
                        state
                            .error
                            .as_deref()
                            .unwrap_or("it is slower than they come")
                    ),
                });
            }
            let taken = state.taken + count(flows.len());
            self.progress.write(taken)?;
            state.taken = taken;
            state.appended += count(flows.len());
            for flow in flows {
                state.hot.push(flow);
            }
            state.hot.rows() >= self.options.flush_rows && state.error.is_none()
        };
        if is_due {
            // What was appended is taken all the same; the error stands in the state, and `flush` tries again.
            let _ = self.flush();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), HistoryError> {
        let flushed = lock(&self.writer).flush(self);
        lock(&self.state).error = flushed.as_ref().err().map(ToString::to_string);
        flushed
    }

    fn maintain(&self, now_ns: u64) -> Result<(), HistoryError> {
        let maintained = self.do_due(now_ns);
        if let Err(error) = &maintained {
            lock(&self.state).error = Some(error.to_string());
        }
        maintained
    }

    fn flows(&self, of: &Selection, limit: u64) -> Result<Vec<Flow>, HistoryError> {
        self.ask_flows(of, limit)
    }

    fn conversations(
        &self,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        self.ask_conversations(&Question::Conversations, of, each)
    }

    fn conversations_to_add_up(
        &self,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        self.ask_conversations(&Question::ConversationsToAddUp, of, each)
    }

    fn matrix(&self, of: &Selection) -> Result<Vec<MatrixCell>, HistoryError> {
        self.ask_matrix(of)
    }

    fn series(&self, of: &Selection, step_s: u32) -> Result<Vec<SeriesPoint>, HistoryError> {
        self.ask_series(of, step_s)
    }

    fn top(
        &self,
        of: &Selection,
        by: TopBy,
        metric: Metric,
        limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError> {
        self.ask_top(of, by, metric, limit)
    }

    fn first_seen(&self, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        self.ask_first_seen(of)
    }

    fn rule_use(&self, of: &Selection) -> Result<Vec<RuleUse>, HistoryError> {
        self.ask_rule_use(of)
    }

    fn coverage(&self, of: &Selection) -> Result<CoverageShare, HistoryError> {
        self.ask_coverage(of)
    }

    fn talkers(&self, workload: &str, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        self.ask_talkers(workload, of)
    }

    fn sql(&self, text: &str) -> Result<Table, HistoryError> {
        self.ask_sql(text)
    }

    fn note_names(&self, at_ns: u64, names: &[Membership]) -> Result<(), HistoryError> {
        let mut book = lock(&self.names);
        let noted = book.noted(at_ns, names);
        if noted != *book {
            noted.write(&self.root)?;
            *book = noted;
        }
        Ok(())
    }

    fn names(&self, since_ns: u64, until_ns: u64) -> Result<Vec<Membership>, HistoryError> {
        Ok(lock(&self.names).held_in(since_ns, until_ns))
    }

    fn state(&self) -> HistoryState {
        let state = lock(&self.state);
        HistoryState {
            engine: "embedded".to_owned(),
            tiers: Tier::ALL
                .iter()
                .map(|tier| self.tier_state(&state, *tier))
                .collect(),
            appended: state.appended,
            unflushed: count(state.rows_in_memory()),
            lost: state.lost,
            shed: state.refused,
            spooled: 0,
            set_aside: state.set_aside.clone(),
            error: state.error.clone(),
        }
    }
}

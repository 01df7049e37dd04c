//! The flow store: what was seen, for long enough to trust it.
//!
//! One row type, [`api::Flow`]; one trait, [`History`]; two engines that hold the same tables and answer the same
//! questions, and `MemoryHistory`, their obvious twin: lists and loops. One suite of tests holds the three together.
//!
//! Rows carry the names of their time. Nothing is ever rewritten when names change; what an address was called when is
//! a history of its own ([`History::note_names`], [`History::names`]).
//!
//! # What is counted where
//!
//! A flow record belongs, whole, to the interval in which its first packet lies ([`Conversation::of`]), also where its
//! last packet lies in a later interval. Every question but [`History::flows`] is answered from conversations: its
//! filter may only use what they keep ([`HistoryError::NotKept`] names the first test that does not), and compares
//! `bytes`, `packets` and `dropped` with the sums of a conversation. A question takes a conversation that overlaps its
//! time whole.
#![forbid(unsafe_code)]

pub mod answer;
pub mod clickhouse;
pub mod embedded;
mod memory;
mod off;
pub mod question;

pub use clickhouse::{ClickHouseConfig, ClickHouseHistory};
pub use embedded::{EmbeddedHistory, EmbeddedOptions, Retention};
pub use memory::MemoryHistory;
pub use off::OffHistory;

use api::filter::Filter;
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Membership, RuleUse, SeriesPoint,
    Table, TopLine,
};
use api::top::{Metric, TopBy};
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Length of the intervals of the first roll-up, seconds.
pub const INTERVAL_S: u32 = 300;
/// Length of the intervals of the second roll-up, seconds.
pub const LONG_INTERVAL_S: u32 = 3600;
/// Rows of an answer in SQL; the rest is cut and said to be.
pub const SQL_ROWS_MAX: usize = 10_000;

/// What of history a question is about.
///
/// A flow record, or a conversation, is within where its last packet is at or after `since_ns` and its first before
/// `until_ns`: whatever overlaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Nanoseconds since the Unix epoch.
    pub since_ns: u64,
    /// Nanoseconds since the Unix epoch, exclusive.
    pub until_ns: u64,
    /// Which of them.
    pub filter: Filter,
}

impl Selection {
    /// The same whenever it was.
    pub(crate) fn of_all_time(&self) -> Self {
        Self {
            since_ns: 0,
            until_ns: u64::MAX,
            filter: self.filter.clone(),
        }
    }
}

/// Why history does not answer, or does not keep.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum HistoryError {
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the engine failed to {what}: {why}")]
    Engine { what: &'static str, why: String },
    #[error(
        "the filter's `{test}` asks for what conversations do not keep; ask `history flows`, or leave it out"
    )]
    NotKept { test: String },
    #[error("{why}; history answers one SELECT over its tables: flows, conversations, memberships")]
    Sql { why: String },
    #[error("history is off; set history.engine in the configuration of control")]
    Off,
}

/// A flow store. Every method may be called from any thread; none needs a runtime around it.
pub trait History: Send + Sync + Debug {
    /// Takes flow records, in any order of time. They are found by questions at once and are safe at the next flush.
    ///
    /// # Errors
    /// Nothing was taken.
    fn append(&self, flows: &[Flow]) -> Result<(), HistoryError>;

    /// Makes everything taken so far safe.
    ///
    /// # Errors
    /// What was taken stays and is tried again at the next flush.
    fn flush(&self) -> Result<(), HistoryError>;

    /// Rolls up what is old enough, merges small files, lets go what is beyond retention.
    ///
    /// # Errors
    /// What was not done is done the next time.
    fn maintain(&self, now_ns: u64) -> Result<(), HistoryError>;

    /// The newest `limit` flow records of the selection (0 all), the one whose first packet came first, first. Where
    /// first packets tie, the last packet decides, then `flow_id`, then `seq`.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn flows(&self, of: &Selection, limit: u64) -> Result<Vec<Flow>, HistoryError>;

    /// Hands every conversation of the selection to `each`, until it breaks. In no stated order.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn conversations(
        &self,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError>;

    /// As [`History::conversations`], for whoever adds them up: of intervals as long as the engine has (sums, first and
    /// last packet are the same), and in parts.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn conversations_to_add_up(
        &self,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        self.conversations(of, each)
    }

    /// Segment by segment by service. By bytes, largest first, then by name.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn matrix(&self, of: &Selection) -> Result<Vec<MatrixCell>, HistoryError>;

    /// Sums of each step of `step_s` seconds (a multiple of [`INTERVAL_S`]) in which there was anything; a conversation
    /// counts where its interval begins.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn series(&self, of: &Selection, step_s: u32) -> Result<Vec<SeriesPoint>, HistoryError>;

    /// The `limit` largest (0 all), then by name. An end in several segments is one row, their names with commas
    /// between; `-` stands for none. What no rule decided is `(default)`, `(exception)` and so on. A flow counts in the
    /// rows of both its workloads, once where they are the same. Scanners are the sources of what was folded or denied.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn top(
        &self,
        of: &Selection,
        by: TopBy,
        metric: Metric,
        limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError>;

    /// Edges of the selection whose first packet ever kept, whatever the filter, is within its time, earliest first.
    /// What was folded is no edge. Names are those of the conversation with the first packet ever kept; where several
    /// tie, of the first by source name, responder's name and service.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn first_seen(&self, of: &Selection) -> Result<Vec<Edge>, HistoryError>;

    /// What each rule decided, or would have, by name.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn rule_use(&self, of: &Selection) -> Result<Vec<RuleUse>, HistoryError>;

    /// How much a rule speaks about.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn coverage(&self, of: &Selection) -> Result<CoverageShare, HistoryError>;

    /// Edges of the selection that one workload, or address, is an end of, by bytes, largest first, then by ends and
    /// service. An edge is a workload's where it had the name then.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn talkers(&self, workload: &str, of: &Selection) -> Result<Vec<Edge>, HistoryError>;

    /// One `SELECT`, read only.
    ///
    /// # Errors
    /// [`HistoryError::Sql`] where it is anything else.
    fn sql(&self, text: &str) -> Result<Table, HistoryError>;

    /// From `at_ns` on, these are all the names; what is no longer among them ends then. Their own times are not looked
    /// at. A name goes on where prefix, workload, labels and segments stay: it keeps the revision that said it first.
    /// Where `at_ns` is before an earlier call's, the clock went back: that call's time is taken.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn note_names(&self, at_ns: u64, names: &[Membership]) -> Result<(), HistoryError>;

    /// Every name that held at some time of `since_ns..until_ns`, by time, then prefix, then workload.
    ///
    /// # Errors
    /// [`HistoryError`].
    fn names(&self, since_ns: u64, until_ns: u64) -> Result<Vec<Membership>, HistoryError>;

    /// Its own state.
    fn state(&self) -> HistoryState;
}

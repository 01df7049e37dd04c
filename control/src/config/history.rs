//! The flow store.

use super::{Span, WhenFull};
use history::{ClickHouseConfig, EmbeddedOptions, Retention};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who keeps history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryEngine {
    /// Parquet files on the local disk.
    #[default]
    Embedded,
    /// A list in memory: gone with the process. For replays and short looks.
    Memory,
    /// Servers of ClickHouse, where `history.clickhouse` says.
    #[serde(rename = "clickhouse")]
    ClickHouse,
    /// Nobody.
    Off,
}

/// How long rows are kept: whichever comes first counts, and whole files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Age after which they go.
    pub age_max: Span,
    /// Bytes after which the oldest go.
    pub bytes_max: u64,
}

impl Kept {
    const fn of(retention: Retention) -> Self {
        Self {
            age_max: Span::s(retention.age_max_s),
            bytes_max: retention.bytes_max,
        }
    }

    const fn retention(self) -> Retention {
        Retention {
            age_max_s: self.age_max.0.as_secs(),
            bytes_max: self.bytes_max,
        }
    }
}

/// The flow store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Who keeps it.
    pub engine: HistoryEngine,
    /// Directory of the embedded engine and of what waits for servers, where it is not `history` in
    /// `control.state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Flow records on disk.
    pub flows: Kept,
    /// Conversations of five minutes.
    pub conversations_5m: Kept,
    /// Conversations of an hour.
    pub conversations_1h: Kept,
    /// Bytes of memory that a question may use; what does not fit is spilled to disk.
    pub query_bytes_max: usize,
    /// Flow records that the engine in memory keeps; the oldest goes first.
    pub memory_records_max: usize,
    /// How often what was taken is made safe: what a killed process loses at most.
    pub flush: Span,
    /// How often it is rolled up, merged, and old rows let go.
    pub maintain: Span,
    /// Records that wait to be kept; further ones are not kept, counted.
    pub queue_records_max: usize,
    /// What a full queue does: `shed`, or `wait` so that collection waits (replays).
    pub when_full: WhenFull,
    /// Servers of the distributed engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse: Option<ClickHouseConfig>,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        let engine = EmbeddedOptions::default();
        Self {
            engine: HistoryEngine::default(),
            dir: None,
            flows: Kept::of(engine.flows),
            conversations_5m: Kept::of(engine.short),
            conversations_1h: Kept::of(engine.long),
            query_bytes_max: engine.query_bytes_max,
            memory_records_max: 1_000_000,
            flush: Span::s(10),
            maintain: Span::s(60),
            queue_records_max: 262_144,
            when_full: WhenFull::Shed,
            clickhouse: None,
        }
    }
}

impl HistoryConfig {
    /// Limits of the embedded engine.
    #[must_use]
    pub fn embedded(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            flows: self.flows.retention(),
            short: self.conversations_5m.retention(),
            long: self.conversations_1h.retention(),
            query_bytes_max: self.query_bytes_max,
            ..EmbeddedOptions::default()
        }
    }
}

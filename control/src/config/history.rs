//! The flow store.

use super::{Span, WhenFull};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who keeps history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryEngine {
    /// Nobody.
    #[default]
    Off,
    /// A list in memory: gone with the process. For replays and short looks.
    Memory,
}

/// The flow store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Who keeps it.
    pub engine: HistoryEngine,
    /// Directory of the embedded engine, where it is not `history` in `control.state_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
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
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            engine: HistoryEngine::default(),
            dir: None,
            memory_records_max: 1_000_000,
            flush: Span::s(10),
            maintain: Span::s(60),
            queue_records_max: 262_144,
            when_full: WhenFull::Shed,
        }
    }
}

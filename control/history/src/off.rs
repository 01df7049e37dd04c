//! No history: takes everything, keeps nothing, and says why when it is asked.

use crate::{History, HistoryError, Selection};
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Membership, RuleUse, SeriesPoint,
    Table, TopLine,
};
use api::top::{Metric, TopBy};
use std::ops::ControlFlow;

/// History that is off, or could not be opened.
#[derive(Clone, Debug, Default)]
pub struct OffHistory {
    why: Option<String>,
}

impl OffHistory {
    /// History that could not be opened.
    #[must_use]
    pub const fn because(why: String) -> Self {
        Self { why: Some(why) }
    }

    fn refused(&self) -> HistoryError {
        match &self.why {
            None => HistoryError::Off,
            Some(why) => HistoryError::Engine {
                what: "open",
                why: why.clone(),
            },
        }
    }
}

impl History for OffHistory {
    fn append(&self, _flows: &[Flow]) -> Result<(), HistoryError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), HistoryError> {
        Ok(())
    }

    fn maintain(&self, _now_ns: u64) -> Result<(), HistoryError> {
        Ok(())
    }

    fn flows(&self, _of: &Selection, _limit: u64) -> Result<Vec<Flow>, HistoryError> {
        Err(self.refused())
    }

    fn conversations(
        &self,
        _of: &Selection,
        _each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        Err(self.refused())
    }

    fn matrix(&self, _of: &Selection) -> Result<Vec<MatrixCell>, HistoryError> {
        Err(self.refused())
    }

    fn series(&self, _of: &Selection, _step_s: u32) -> Result<Vec<SeriesPoint>, HistoryError> {
        Err(self.refused())
    }

    fn top(
        &self,
        _of: &Selection,
        _by: TopBy,
        _metric: Metric,
        _limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError> {
        Err(self.refused())
    }

    fn first_seen(&self, _of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        Err(self.refused())
    }

    fn rule_use(&self, _of: &Selection) -> Result<Vec<RuleUse>, HistoryError> {
        Err(self.refused())
    }

    fn coverage(&self, _of: &Selection) -> Result<CoverageShare, HistoryError> {
        Err(self.refused())
    }

    fn talkers(&self, _workload: &str, _of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        Err(self.refused())
    }

    fn sql(&self, _text: &str) -> Result<Table, HistoryError> {
        Err(self.refused())
    }

    fn note_names(&self, _at_ns: u64, _names: &[Membership]) -> Result<(), HistoryError> {
        Ok(())
    }

    fn names(&self, _since_ns: u64, _until_ns: u64) -> Result<Vec<Membership>, HistoryError> {
        Err(self.refused())
    }

    fn state(&self) -> HistoryState {
        HistoryState {
            engine: "off".to_owned(),
            error: self.why.clone(),
            ..HistoryState::default()
        }
    }
}

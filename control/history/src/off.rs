//! No history: takes everything, keeps nothing, and says so when it is asked.

use crate::{History, HistoryError, Selection};
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Membership, RuleUse, SeriesPoint,
    Table, TopLine,
};
use api::top::{Metric, TopBy};
use std::ops::ControlFlow;

/// History that is off.
#[derive(Clone, Copy, Debug, Default)]
pub struct OffHistory;

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
        Err(HistoryError::Off)
    }

    fn conversations(
        &self,
        _of: &Selection,
        _each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        Err(HistoryError::Off)
    }

    fn matrix(&self, _of: &Selection) -> Result<Vec<MatrixCell>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn series(&self, _of: &Selection, _step_s: u32) -> Result<Vec<SeriesPoint>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn top(
        &self,
        _of: &Selection,
        _by: TopBy,
        _metric: Metric,
        _limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn first_seen(&self, _of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn rule_use(&self, _of: &Selection) -> Result<Vec<RuleUse>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn coverage(&self, _of: &Selection) -> Result<CoverageShare, HistoryError> {
        Err(HistoryError::Off)
    }

    fn talkers(&self, _workload: &str, _of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn sql(&self, _text: &str) -> Result<Table, HistoryError> {
        Err(HistoryError::Off)
    }

    fn note_names(&self, _at_ns: u64, _names: &[Membership]) -> Result<(), HistoryError> {
        Ok(())
    }

    fn names(&self, _since_ns: u64, _until_ns: u64) -> Result<Vec<Membership>, HistoryError> {
        Err(HistoryError::Off)
    }

    fn state(&self) -> HistoryState {
        HistoryState {
            engine: "off".to_owned(),
            ..HistoryState::default()
        }
    }
}

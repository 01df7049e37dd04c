//! Questions put to the files and the rows in memory.

use super::EmbeddedHistory;
use super::ask::{StoredTable, Tables};
use super::conversation_rows::ConversationRows;
use super::files::{HOUR_NS, StoredFile, Tier};
use super::flow_columns::{FLOW_SCHEMA, Rows, flows_view};
use super::lock;
use super::plan;
use super::state::Snapshot;
use crate::answer::{self, Value};
use crate::question::{DataFusion, Question};
use crate::{HistoryError, Selection};
use api::flow::Flow;
use api::history::{Conversation, CoverageShare, Edge, MatrixCell, RuleUse, SeriesPoint, TopLine};
use api::top::{Metric, TopBy};
use arrow::array::RecordBatch;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How often a question is asked again after a damaged file was set aside.
const ATTEMPTS_MAX: usize = 8;

impl EmbeddedHistory {
    /// Asks; where that fails and files are damaged, sets them aside and asks again.
    pub(super) fn ask<T>(
        &self,
        mut asked: impl FnMut(&Snapshot) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        let mut attempt = 1;
        loop {
            let snapshot = lock(&self.state).snapshot()?;
            let error = match asked(&snapshot) {
                Ok(answer) => return Ok(answer),
                Err(error @ (HistoryError::Engine { .. } | HistoryError::File { .. })) => error,
                Err(error) => return Err(error),
            };
            let files: Vec<Arc<StoredFile>> = snapshot
                .catalog
                .partitions
                .values()
                .flatten()
                .cloned()
                .collect();
            if attempt == ATTEMPTS_MAX || !self.set_aside_damaged(&files)? {
                return Err(error);
            }
            attempt += 1;
        }
    }

    fn rows(&self, question: &Question, of: &Selection) -> Result<Vec<Vec<Value>>, HistoryError> {
        self.ask(|snapshot| {
            let tables = self.asker.tables();
            let source = plan::conversations(&tables, snapshot, question, of)?;
            let of = plan::tested(snapshot, question, of);
            self.asker
                .rows(&tables, &question.sql(&DataFusion, &source, &of)?)
        })
    }

    pub(super) fn ask_matrix(&self, of: &Selection) -> Result<Vec<MatrixCell>, HistoryError> {
        answer::matrix(self.rows(&Question::Matrix, of)?)
    }

    pub(super) fn ask_series(
        &self,
        of: &Selection,
        step_s: u32,
    ) -> Result<Vec<SeriesPoint>, HistoryError> {
        answer::series(self.rows(&Question::Series { step_s }, of)?)
    }

    pub(super) fn ask_top(
        &self,
        of: &Selection,
        by: TopBy,
        metric: Metric,
        limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError> {
        answer::top(self.rows(&Question::Top { by, metric, limit }, of)?)
    }

    pub(super) fn ask_first_seen(&self, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        answer::first_seen(self.rows(&Question::FirstSeen, of)?)
    }

    pub(super) fn ask_rule_use(&self, of: &Selection) -> Result<Vec<RuleUse>, HistoryError> {
        let decided = self.rows(&Question::RuleUse, of)?;
        answer::rule_use(decided, self.rows(&Question::PendingRuleUse, of)?)
    }

    pub(super) fn ask_coverage(&self, of: &Selection) -> Result<CoverageShare, HistoryError> {
        answer::coverage(self.rows(&Question::Coverage, of)?)
    }

    pub(super) fn ask_talkers(
        &self,
        workload: &str,
        of: &Selection,
    ) -> Result<Vec<Edge>, HistoryError> {
        let (workload, addresses) = match workload.parse::<IpAddr>() {
            Ok(address) => (address.to_string(), vec![address.to_string()]),
            Err(_) => {
                let workload = workload.to_owned();
                let question = Question::TalkerAddresses {
                    workload: workload.clone(),
                };
                (workload, answer::addresses(self.rows(&question, of)?)?)
            }
        };
        let question = Question::Talkers {
            workload,
            addresses,
        };
        answer::talkers(self.rows(&question, of)?)
    }

    pub(super) fn ask_conversations(
        &self,
        question: &Question,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        let mut begun = false;
        let mut failed_late = None;
        self.ask(|snapshot| {
            if let Some(error) = failed_late.take() {
                return Err(error);
            }
            let tables = self.asker.tables();
            let source = plan::conversations(&tables, snapshot, question, of)?;
            let tested = plan::tested(snapshot, question, of);
            let sql = question.sql(&DataFusion, &source, &tested)?;
            let mut rows = ConversationRows::default();
            let told = self.asker.each_batch(&tables, &sql, |batch| {
                begun |= batch.num_rows() > 0;
                rows.each(batch, each)
            });
            match told {
                // What has been handed over cannot be taken back: asking again would tell it twice.
                Err(error) if begun => {
                    let why = error.to_string();
                    failed_late = Some(HistoryError::Engine {
                        what: "tell the rest of the conversations",
                        why,
                    });
                    Err(error)
                }
                told => told,
            }
        })
    }

    /// From the newest hour to the oldest, until there are enough.
    pub(super) fn ask_flows(&self, of: &Selection, limit: u64) -> Result<Vec<Flow>, HistoryError> {
        self.ask(|snapshot| {
            let hot = snapshot.hot_flows();
            let mut newest = self.flows_in(of, limit, vec![], hot)?;
            if limit == 0 {
                let all = snapshot.catalog.of(Tier::Flows).cloned().collect();
                newest.extend(self.flows_in(of, 0, all, vec![])?);
            } else {
                self.flows_by_hour(snapshot, of, limit, &mut newest)?;
            }
            newest.sort_by_key(|f| (f.first_ns, f.last_ns, f.flow_id, f.seq));
            let left_out = match usize::try_from(limit) {
                Ok(0) | Err(_) => 0,
                Ok(limit) => newest.len().saturating_sub(limit),
            };
            Ok(newest.split_off(left_out))
        })
    }

    fn flows_by_hour(
        &self,
        snapshot: &Snapshot,
        of: &Selection,
        limit: u64,
        newest: &mut Vec<Flow>,
    ) -> Result<(), HistoryError> {
        let limit_rows = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut hours = snapshot.catalog.partitions_of(Tier::Flows);
        // Where the newest hour has not enough, many may not: twice as many each time, which threads share.
        let mut at_once = 1;
        while let Some(newest_hour) = hours.last().copied() {
            newest.sort_by_key(|f| std::cmp::Reverse((f.first_ns, f.last_ns, f.flow_id, f.seq)));
            newest.truncate(limit_rows);
            let end_ns = newest_hour.saturating_add(1).saturating_mul(HOUR_NS);
            let is_full = newest.len() >= limit_rows;
            // Every row of that hour, and of those before, began earlier than what there is.
            if is_full
                && newest
                    .last()
                    .is_some_and(|oldest| oldest.first_ns >= end_ns)
            {
                break;
            }
            let asked = hours.split_off(hours.len().saturating_sub(at_once));
            at_once *= 2;
            let files = asked
                .iter()
                .flat_map(|hour| snapshot.catalog.in_partition(Tier::Flows, *hour));
            let files: Vec<Arc<StoredFile>> = files
                .filter(|f| f.held.last_ns >= of.since_ns && f.held.first_ns < of.until_ns)
                .cloned()
                .collect();
            if !files.is_empty() {
                newest.extend(self.flows_in(of, limit, files, vec![])?);
            }
        }
        Ok(())
    }

    fn flows_in(
        &self,
        of: &Selection,
        limit: u64,
        files: Vec<Arc<StoredFile>>,
        hot: Vec<RecordBatch>,
    ) -> Result<Vec<Flow>, HistoryError> {
        let tables = self.asker.tables();
        let is_all = hot.is_empty()
            && files
                .iter()
                .all(|file| of.since_ns <= file.held.first_ns && file.held.last_ns < of.until_ns);
        let of = if is_all { of.of_all_time() } else { of.clone() };
        let source = flows_source(&tables, files, hot)?;
        let question = Question::Flows { limit };
        let sql = question.sql(&DataFusion, &source, &of)?;
        let mut flows = Vec::new();
        self.asker.each_batch(&tables, &sql, |batch| {
            let mut rows = Rows::new(batch)?;
            for row in 0..batch.num_rows() {
                flows.push(rows.flow(row)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(flows)
    }
}

/// Registers flow records, and gives the source to ask.
pub(super) fn flows_source(
    tables: &Tables,
    files: Vec<Arc<StoredFile>>,
    hot: Vec<RecordBatch>,
) -> Result<String, HistoryError> {
    tables.add("stored_flows", StoredTable::new(&FLOW_SCHEMA, files, hot))?;
    Ok(format!("({})", flows_view("stored_flows")))
}

//! Questions that somebody writes in SQL: one `SELECT`, read only.

use super::ask::{TOO_LONG, Tables};
use super::files::Tier;
use super::questions::flows_source;
use super::{EmbeddedHistory, lock, plan};
use crate::question::Question;
use crate::{HistoryError, SQL_ROWS_MAX, Selection};
use api::filter::Filter;
use api::history::{Membership, Table};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn refused(why: impl std::fmt::Display) -> HistoryError {
    HistoryError::Sql {
        why: why.to_string(),
    }
}

impl EmbeddedHistory {
    /// Answers one `SELECT` over `flows`, `conversations` and `memberships`.
    pub(super) fn ask_sql(&self, text: &str) -> Result<Table, HistoryError> {
        let query = self.one_select(text)?;
        let everything = Selection {
            since_ns: 0,
            until_ns: u64::MAX,
            filter: Filter::parse("").map_err(refused)?,
        };
        let asked = self.ask(|snapshot| {
            let tables = self.asker.tables();
            let files = snapshot.catalog.of(Tier::Flows).cloned().collect();
            let hot = snapshot.hot_flows();
            let flows = flows_source(&tables, files, hot)?;
            let question = Question::Conversations;
            let conversations = plan::conversations(&tables, snapshot, &question, &everything)?;
            self.add_memberships(&tables)?;
            self.add_view(&tables, "flows", &flows)?;
            self.add_view(&tables, "conversations", &conversations)?;
            match self.table_of(&tables, &query) {
                // It is the question's fault: no file is looked at for it.
                Err(HistoryError::Engine { why, .. }) if why == TOO_LONG => Err(refused(format!(
                    "the answer was not there after {} s",
                    self.options.sql_max_s
                ))),
                table => table,
            }
        });
        match asked {
            Err(HistoryError::Engine { why, .. }) => Err(refused(why)),
            asked => asked,
        }
    }

    /// The statement, where it is one query.
    fn one_select(&self, text: &str) -> Result<String, HistoryError> {
        match self.asker.parse(text).map_err(refused)? {
            Statement::Statement(statement) => match *statement {
                ast::Statement::Query(query) => Ok(query.to_string()),
                _ => Err(refused("this is no SELECT")),
            },
            _ => Err(refused("this is no SELECT")),
        }
    }

    fn add_view(&self, tables: &Tables, name: &str, source: &str) -> Result<(), HistoryError> {
        self.asker
            .add_view(tables, name, &format!("SELECT * FROM {source}"))
    }

    fn add_memberships(&self, tables: &Tables) -> Result<(), HistoryError> {
        let names = lock(&self.names).held_in(0, u64::MAX);
        let text = |of: &dyn Fn(&Membership) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(names.iter().map(of)))
        };
        let labels = |m: &Membership| {
            let labels: Vec<String> = m.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            labels.join(",")
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "from_ns",
                Arc::new(UInt64Array::from_iter_values(
                    names.iter().map(|m| m.from_ts.0),
                )),
            ),
            (
                "until_ns",
                Arc::new(UInt64Array::from_iter(
                    names.iter().map(|m| m.until_ts.map(|t| t.0)),
                )),
            ),
            ("prefix", text(&|m| m.prefix.clone())),
            ("workload", text(&|m| m.workload.to_string())),
            ("labels", text(&labels)),
            ("segments", text(&|m| m.segments.join(","))),
            ("revision", text(&|m| m.revision.to_string())),
        ];
        let batch = RecordBatch::try_from_iter(columns).map_err(refused)?;
        tables.add_memory("memberships", batch)
    }

    fn table_of(&self, tables: &Tables, query: &str) -> Result<Table, HistoryError> {
        let mut table = Table {
            columns: self.asker.columns(tables, query)?,
            ..Table::default()
        };
        let options = FormatOptions::default();
        let deadline = Instant::now() + Duration::from_secs(self.options.sql_max_s);
        self.asker
            .each_batch_until(tables, query, Some(deadline), |batch| {
                let formatters: Result<Vec<ArrayFormatter<'_>>, _> = batch
                    .columns()
                    .iter()
                    .map(|c| ArrayFormatter::try_new(c, &options))
                    .collect();
                let formatters = formatters.map_err(refused)?;
                for row in 0..batch.num_rows() {
                    if table.rows.len() == SQL_ROWS_MAX {
                        table.cut = true;
                        return Ok(ControlFlow::Break(()));
                    }
                    let values = batch.columns().iter().zip(&formatters);
                    let values = values
                        .map(|(c, f)| (!c.is_null(row)).then(|| f.value(row).to_string()))
                        .collect();
                    table.rows.push(values);
                }
                Ok(ControlFlow::Continue(()))
            })?;
        Ok(table)
    }
}

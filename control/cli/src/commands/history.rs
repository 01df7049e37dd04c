//! `ringfence history`: one question each.

use super::{Context, check_filter};
use crate::args::history::{HistoryArgs, HistoryCommand};
use crate::error::CliError;
use crate::exit::Exit;
use crate::page::Page;
use crate::print::history as print;
use api::Flow;
use api::endpoint;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryQuery, HistoryState, MatrixCell, Rows, RuleUse,
    SeriesPoint, SqlRequest, Table, TopLine,
};
use serde::de::DeserializeOwned;

fn query(args: HistoryArgs) -> HistoryQuery {
    HistoryQuery {
        since: args.since,
        until: args.until,
        filter: args.filter,
        limit: args.limit,
        ..HistoryQuery::default()
    }
}

impl Context {
    pub(super) async fn history(&self, command: HistoryCommand) -> Result<Exit, CliError> {
        match command {
            HistoryCommand::State => {
                self.table::<HistoryState>(endpoint::HISTORY, print::state)
                    .await
            }
            HistoryCommand::Flows(args) => {
                let print = |rows: &Rows<Flow>| print::flows(rows, super::now());
                self.ask(endpoint::HISTORY_FLOWS, query(args), print).await
            }
            HistoryCommand::Conversations(args) => {
                let print = |rows: &Rows<Conversation>| print::conversations(rows);
                self.ask(endpoint::HISTORY_CONVERSATIONS, query(args), print)
                    .await
            }
            HistoryCommand::Matrix(args) => {
                let print = |rows: &Rows<MatrixCell>| print::matrix(rows);
                self.ask(endpoint::HISTORY_MATRIX, query(args), print).await
            }
            HistoryCommand::Series { common, step } => {
                let query = HistoryQuery {
                    step: Some(step),
                    ..query(common)
                };
                let print = |rows: &Rows<SeriesPoint>| print::series(rows);
                self.ask(endpoint::HISTORY_SERIES, query, print).await
            }
            HistoryCommand::Top { common, by, metric } => {
                let query = HistoryQuery {
                    by: Some(by),
                    metric: Some(metric),
                    ..query(common)
                };
                let print = |rows: &Rows<TopLine>| print::top(rows, by);
                self.ask(endpoint::HISTORY_TOP, query, print).await
            }
            HistoryCommand::FirstSeen(args) => {
                let print = |rows: &Rows<Edge>| print::edges(rows);
                self.ask(endpoint::HISTORY_FIRST_SEEN, query(args), print)
                    .await
            }
            HistoryCommand::Rules(args) => {
                let print = |rows: &Rows<RuleUse>| print::rules(rows);
                self.ask(endpoint::HISTORY_RULES, query(args), print).await
            }
            HistoryCommand::Coverage(args) => {
                self.ask::<CoverageShare>(endpoint::HISTORY_COVERAGE, query(args), print::coverage)
                    .await
            }
            HistoryCommand::Talkers { workload, common } => {
                let query = HistoryQuery {
                    workload: Some(workload),
                    ..query(common)
                };
                let print = |rows: &Rows<Edge>| print::edges(rows);
                self.ask(endpoint::HISTORY_TALKERS, query, print).await
            }
            HistoryCommand::Sql { sql } => {
                let request = SqlRequest { sql };
                let answer = self
                    .client
                    .post::<Table>(endpoint::HISTORY_SQL, &request)
                    .await?;
                self.print(&answer.json, || print::table(&answer.value))
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        query: HistoryQuery,
        print: impl FnOnce(&T) -> Page,
    ) -> Result<Exit, CliError> {
        check_filter(query.filter.as_deref())?;
        let answer = self.client.get::<T>(path, &query).await?;
        self.print(&answer.json, || print(&answer.value))
    }
}

//! `ringfence watch`: findings as they come, one of them, and what to do about it.

use super::{Context, author};
use crate::args::watch::{WatchArgs, WatchCommand, WatchFilter};
use crate::client::Lines;
use crate::error::{CliError, ClientError};
use crate::exit::Exit;
use crate::output::Reader;
use crate::print::watch as print;
use api::endpoint;
use api::watch::{
    BaselineEdges, BaselineQuery, Finding, FindingQuery, FindingReport, FindingState,
    FindingStateRequest, Findings, WatchDraft, WatchQuery,
};

fn query(which: WatchFilter) -> WatchQuery {
    WatchQuery {
        kind: which.kind,
        severity: which.severity,
        open: which.open.then_some(true),
        learning: which.learning.then_some(true),
        ..WatchQuery::default()
    }
}

impl Context {
    pub(super) async fn watch(&self, args: WatchArgs) -> Result<Exit, CliError> {
        match args.command {
            None => self.watch_follow(args.which).await,
            Some(WatchCommand::List {
                which,
                since,
                limit,
            }) => {
                let query = WatchQuery {
                    since,
                    limit,
                    ..query(which)
                };
                let answer = self.client.get::<Findings>(endpoint::WATCH, &query).await?;
                self.print(&answer.json, || print::findings(&answer.value))
            }
            Some(WatchCommand::Show { id }) => {
                let query = FindingQuery {
                    id,
                    quarantine: None,
                };
                let path = endpoint::WATCH_FINDING;
                let answer = self.client.get::<FindingReport>(path, &query).await?;
                self.print(&answer.json, || print::report(&answer.value))
            }
            Some(WatchCommand::Ack { id, note }) => {
                self.say(id, FindingState::Acknowledged, note).await
            }
            Some(WatchCommand::Resolve { id, note }) => {
                self.say(id, FindingState::Resolved, note).await
            }
            Some(WatchCommand::Draft { id, quarantine }) => {
                self.watch_draft(FindingQuery { id, quarantine }).await
            }
            Some(WatchCommand::Quarantine {
                id,
                workload,
                time,
                terms,
            }) => {
                let workload = workload.unwrap_or_default();
                self.hold(workload, Some(id), time, terms).await
            }
            Some(WatchCommand::Baseline { workload, limit }) => {
                let query = BaselineQuery { workload, limit };
                let path = endpoint::WATCH_BASELINE;
                let answer = self.client.get::<BaselineEdges>(path, &query).await?;
                self.print(&answer.json, || print::baseline(&answer.value))
            }
        }
    }

    async fn say(&self, id: u64, state: FindingState, note: String) -> Result<Exit, CliError> {
        let request = FindingStateRequest {
            id,
            state,
            author: author(),
            note,
        };
        let path = endpoint::WATCH_STATE;
        let answer = self.client.post::<Finding>(path, &request).await?;
        self.print(&answer.json, || print::said(&answer.value))
    }

    /// The text on standard output, what it does on standard error.
    async fn watch_draft(&self, query: FindingQuery) -> Result<Exit, CliError> {
        let path = endpoint::WATCH_DRAFT;
        let answer = self.client.get::<WatchDraft>(path, &query).await?;
        if self.json {
            return self.print(&answer.json, crate::page::Page::new);
        }
        self.output.error_page(&print::cut(&answer.value.cut));
        let text = answer.value.text.as_bytes();
        self.output.bytes(text).map(|_| Exit::Ok)
    }

    async fn watch_follow(&self, which: WatchFilter) -> Result<Exit, CliError> {
        let lines = self
            .client
            .lines(endpoint::WATCH_FOLLOW, &query(which))
            .await?;
        if self.json {
            return self.copy(lines).await.map(|reader| self.followed(reader));
        }
        self.print_findings(lines)
            .await
            .map(|reader| self.followed(reader))
    }

    async fn print_findings(&self, mut lines: Lines) -> Result<Reader, CliError> {
        while let Some(line) = lines.next().await? {
            let finding: Finding =
                serde_json::from_slice(&line).map_err(|error| ClientError::NotUnderstood {
                    path: endpoint::WATCH_FOLLOW.to_owned(),
                    message: error.to_string(),
                })?;
            if self.output.page(&print::finding_line(&finding))? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        Ok(Reader::Present)
    }
}

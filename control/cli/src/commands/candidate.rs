//! Candidates: judged beside the policy in force.

use std::path::Path;

use api::candidate::{
    Candidate, CandidateName, CandidateRequest, Candidates, ChangedFlow, WatchFormat, WatchQuery,
};
use api::endpoint;

use super::{Context, author, now, read};
use crate::args::candidate::{CandidateCommand, WatchArgs};
use crate::error::{CliError, ClientError};
use crate::exit::Exit;
use crate::output::Reader;
use crate::print;

impl Context {
    pub(super) async fn candidate(&self, command: CandidateCommand) -> Result<Exit, CliError> {
        match command {
            CandidateCommand::Add { file, name, note } => {
                self.candidate_add(&file, name.unwrap_or_default(), note)
                    .await
            }
            CandidateCommand::List => {
                let print = |list: &Candidates| print::candidates(list, now());
                self.table(endpoint::CANDIDATES, print).await
            }
            CandidateCommand::Remove { name, note } => {
                let request = CandidateName {
                    name,
                    author: author(),
                    note,
                    ..CandidateName::default()
                };
                let path = endpoint::CANDIDATES_REMOVE;
                let answer = self.client.post::<Candidate>(path, &request).await?;
                self.print(&answer.json, || print::candidate_removed(&answer.value))
            }
            CandidateCommand::Promote {
                name,
                confirm,
                if_revision,
                note,
            } => {
                let what = format!("candidate {name}");
                let request = CandidateName {
                    name,
                    confirm_s: confirm.map(|time| time.as_secs()),
                    if_revision,
                    author: author(),
                    note,
                };
                self.change(endpoint::CANDIDATES_PROMOTE, &request, &what)
                    .await
            }
        }
    }

    async fn candidate_add(
        &self,
        file: &Path,
        name: String,
        note: String,
    ) -> Result<Exit, CliError> {
        let request = CandidateRequest {
            name,
            text: read(file)?,
            file_name: file.display().to_string(),
            author: author(),
            note,
        };
        let path = endpoint::CANDIDATES;
        let answer = self.client.post::<Candidate>(path, &request).await?;
        self.print(&answer.json, || print::candidate_added(&answer.value))
    }

    pub(super) async fn watch_candidate(&self, args: WatchArgs) -> Result<Exit, CliError> {
        let format = if args.tsv {
            WatchFormat::Tsv
        } else {
            WatchFormat::Ndjson
        };
        let query = WatchQuery {
            name: args.candidate,
            format: Some(format),
        };
        let mut lines = self
            .client
            .lines(endpoint::CANDIDATES_WATCH, &query)
            .await?;
        if args.tsv || self.json {
            return self.copy(lines).await.map(|reader| self.followed(reader));
        }
        let mut reader = self.output.page(&print::changed_header())?;
        while reader == Reader::Present {
            let Some(line) = lines.next().await? else {
                break;
            };
            let flow: ChangedFlow =
                serde_json::from_slice(&line).map_err(|error| ClientError::NotUnderstood {
                    path: endpoint::CANDIDATES_WATCH.to_owned(),
                    message: error.to_string(),
                })?;
            reader = self.output.page(&print::changed_line(&flow))?;
        }
        Ok(self.followed(reader))
    }
}

//! `ringfence workload`: change one, import a list, look at inventories and past names.

use super::{Context, author, read};
use crate::args::workload::WorkloadCommand;
use crate::error::{CliError, ClientError};
use crate::exit::Exit;
use crate::page::Page;
use crate::print;
use api::endpoint;
use api::error::ErrorCode;
use api::history::{HistoryQuery, Membership, Rows};
use api::inventory::{ImportRequest, ImportResult, Inventory};
use api::policy::WorkloadRequest;

impl Context {
    pub(super) async fn workload(&self, command: WorkloadCommand) -> Result<Exit, CliError> {
        let request = match command {
            WorkloadCommand::Set {
                name,
                address,
                dns,
                label,
                without_label,
                note,
            } => {
                let set = label.into_iter().map(|(key, value)| (key, Some(value)));
                let gone = without_label.into_iter().map(|key| (key, None));
                WorkloadRequest {
                    name,
                    addresses: (!address.is_empty()).then_some(address),
                    dns: (!dns.is_empty()).then_some(dns),
                    labels: gone.chain(set).collect(),
                    note,
                    ..WorkloadRequest::default()
                }
            }
            WorkloadCommand::Remove { name, note } => WorkloadRequest {
                name,
                remove: true,
                note,
                ..WorkloadRequest::default()
            },
            WorkloadCommand::Import {
                file,
                replace,
                dry_run,
                note,
            } => {
                let request = ImportRequest {
                    text: read(&file)?,
                    file_name: file.display().to_string(),
                    replace,
                    dry_run,
                    author: author(),
                    note,
                };
                return self.workload_import(&request).await;
            }
            WorkloadCommand::Inventory => return self.workload_inventory().await,
            WorkloadCommand::History { of, since } => {
                let query = HistoryQuery {
                    workload: Some(of),
                    since,
                    limit: Some(0),
                    ..HistoryQuery::default()
                };
                let path = endpoint::HISTORY_NAMES;
                let answer = self.client.get::<Rows<Membership>>(path, &query).await?;
                return self.print(&answer.json, || print::names(&answer.value.rows));
            }
        };
        let request = WorkloadRequest {
            author: author(),
            ..request
        };
        let what = format!("the policy with workload {} changed", request.name);
        self.change(endpoint::WORKLOADS, &request, &what).await
    }

    async fn workload_import(&self, request: &ImportRequest) -> Result<Exit, CliError> {
        let path = endpoint::WORKLOADS_IMPORT;
        let asked = self.client.post::<ImportResult>(path, request).await;
        let answer = match asked {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::InvalidPolicy => {
                self.output
                    .error_page(&print::details(&error.details, "error"));
                self.output.error(&error.message);
                return Ok(Exit::No);
            }
            asked => asked?,
        };
        if self.json {
            return self.print(&answer.json, Page::new);
        }
        let result = &answer.value;
        self.output.page(&print::imported(
            &request.file_name,
            result,
            request.dry_run,
        ))?;
        if let Some(applied) = &result.applied {
            let warnings = print::details(&applied.warnings, "warning");
            self.output.error_page(&warnings);
            self.output
                .page(&print::applied("the policy with them", applied))?;
        }
        Ok(Exit::Ok)
    }

    async fn workload_inventory(&self) -> Result<Exit, CliError> {
        let path = endpoint::INVENTORY;
        let answer = self.client.get::<Inventory>(path, &()).await?;
        let inventory = &answer.value;
        self.print(&answer.json, || print::inventory(inventory, super::now()))?;
        let good = inventory.files.iter().all(|file| file.errors.is_empty())
            && inventory.names.iter().all(|name| name.error.is_none())
            && inventory.waiting.is_none();
        Ok(if good { Exit::Ok } else { Exit::No })
    }
}

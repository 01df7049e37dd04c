//! A list of workloads, CSV or TOML, becomes part of the policy in force: one change, one revision.

use super::check::invalid;
use super::press::compile_aside;
use super::{Change, PolicyService, lock};
use api::error::{ApiError, ErrorCode};
use api::inventory::{ImportRequest, ImportResult};
use api::life::Peer;
use api::policy::PolicyChange;
use policy::{Import, InventoryFile};
use std::sync::Arc;

impl PolicyService {
    /// Brings a list of workloads into the text of the policy in force and publishes that.
    ///
    /// # Errors
    /// The list is not valid, with every place; or as [`PolicyService::apply`].
    pub async fn import(
        &self,
        request: ImportRequest,
        peer: Option<Peer>,
    ) -> Result<ImportResult, ApiError> {
        let change = Change {
            kind: Some(PolicyChange::Workload),
            file_name: lock(&self.current).record.file_name.clone(),
            author: request.author.clone(),
            note: request.note.clone(),
            peer,
            breaks: Vec::new(),
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        if !request.dry_run {
            self.nothing_may_wait()?;
        }
        let import = self.edit(&request).await?;
        let mut result = ImportResult {
            same: import.same_count as u64,
            added: import.added,
            changed: import.changed,
            removed: import.removed,
            applied: None,
        };
        let nothing = [&result.added, &result.changed, &result.removed];
        if nothing.iter().all(|names| names.is_empty()) {
            return Ok(result);
        }
        if request.dry_run {
            // What would be refused is told now; the image is thrown away.
            let (press, sources) = (Arc::default(), self.sources());
            compile_aside(press, import.text, change.file_name, 1, sources).await?;
            return Ok(result);
        }
        let note = match change.note.as_str() {
            "" => format!("imported from {}", request.file_name),
            note => format!("{note} (imported from {})", request.file_name),
        };
        let change = Change { note, ..change };
        let revision = policy::Revision::of(&import.text).to_string();
        let applied = self.publish(import.text, change.clone(), None, None).await;
        let applied = applied.inspect_err(|e| self.note_refused(&change, &revision, e))?;
        result.applied = Some(applied);
        Ok(result)
    }

    /// The text of the policy in force with the list in it.
    async fn edit(&self, request: &ImportRequest) -> Result<Import, ApiError> {
        let Some(in_force) = self.in_force() else {
            let message = "no policy is in force here whose text is known; `ringfence policy apply \
                           FILE` first";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let (list, file) = (request.text.clone(), request.file_name.clone());
        let replace = request.replace;
        let edit = move || {
            let list = InventoryFile::read(&list, &file).map_err(|errors| invalid(&errors))?;
            let own = in_force.own_workloads();
            policy::import(&in_force.text, own, &list.workloads, replace)
                .map_err(|error| ApiError::new(ErrorCode::BadRequest, error.to_string()))
        };
        tokio::task::spawn_blocking(edit)
            .await
            .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
    }
}

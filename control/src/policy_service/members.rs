//! Membership that moves: workloads from inventories and addresses of DNS names, put beside the
//! policy in force and published as the same revision under a new epoch.

use super::check::details;
use super::store::{Store, StoreError};
use super::{Change, InForce, PolicyService, lock, stored_text};
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::policy::{ApplyResult, PolicyChange};
use policy::{Inventory, InventoryFile, Overridden, PolicyErrors, Resolved, Severity, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Name of the inventory that is read back from the state directory.
const STORED: &str = "the inventory in force";

/// Where workloads come from beside a policy's text.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// Files, each without an error.
    pub(super) files: Vec<InventoryFile>,
    /// What DNS names stand for.
    pub(super) resolved: Resolved,
}

/// What stands beside a policy's text.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// Its workloads, and what DNS names stand for.
    pub inventory: Arc<Inventory>,
    /// Workloads that the policy has itself: the first ones.
    pub own_count: usize,
    /// Workloads of files that the policy has as well.
    pub overridden: Arc<[Overridden]>,
}

/// Files that do not stand together, or not beside the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the inventory is in conflict with itself or with the policy in force")]
pub struct SourcesError {
    /// By file.
    pub files: Vec<PolicyErrors>,
}

/// An inventory as it is kept in the state directory.
#[derive(Serialize, Deserialize)]
struct Stored {
    tables: String,
    resolved: Resolved,
}

/// Conflicts between a policy and inventories, as an answer.
pub(super) fn conflict(errors: &[PolicyErrors]) -> ApiError {
    let mut error = ApiError::new(
        ErrorCode::InvalidPolicy,
        "the policy and the inventory beside it claim the same: mend one of the two",
    );
    error.details = errors.iter().flat_map(told).collect();
    error
}

/// Every error of a file.
#[must_use]
pub fn told(errors: &PolicyErrors) -> Vec<ErrorDetail> {
    let mut told = details(&errors.file, &errors.diagnostics, Severity::Error);
    if errors.untold > 0 {
        told.push(ErrorDetail {
            file: errors.file.clone(),
            what: format!("and {} more", errors.untold),
            ..ErrorDetail::default()
        });
    }
    told
}

impl Sources {
    /// The inventory that stood beside a stored revision.
    pub(super) fn stored(store: &Store, hash: &str) -> Result<Self, ApiError> {
        if hash.is_empty() {
            return Ok(Self::default());
        }
        let gone = || {
            let message = format!("the inventory {hash} that was in force is gone");
            ApiError::new(ErrorCode::NotFound, message)
        };
        let json = store.inventory(hash)?.ok_or_else(gone)?;
        let unreadable = |what: String| {
            let message = format!("the inventory {hash} cannot be read: {what}");
            ApiError::new(ErrorCode::Storage, message)
        };
        let Stored { tables, resolved } =
            serde_json::from_slice(&json).map_err(|e| unreadable(e.to_string()))?;
        let files = if tables.is_empty() {
            Vec::new()
        } else {
            let file = InventoryFile::read(&tables, STORED);
            vec![file.map_err(|e| unreadable(e.to_string()))?]
        };
        Ok(Self { files, resolved })
    }
}

impl PolicyService {
    pub(super) fn sources(&self) -> Arc<Sources> {
        Arc::clone(&lock(&self.sources))
    }

    /// Tells the epoch of each policy that is adopted from now on, and when it was, in nanoseconds.
    #[must_use]
    pub fn adoptions(&self) -> watch::Receiver<(u64, u64)> {
        self.adopted_epoch.subscribe()
    }

    /// What DNS names stood for when the policy in force was published.
    #[must_use]
    pub fn resolved(&self) -> Resolved {
        self.sources().resolved.clone()
    }

    /// Every DNS name that workloads have or will have: of the policy in force and of the files
    /// beside it.
    #[must_use]
    pub fn dns_names(&self) -> BTreeSet<String> {
        let in_force = self.in_force();
        let mut names = in_force.map_or_else(BTreeSet::new, |f| policy::dns_names(&f.valid));
        let sources = self.sources();
        let workloads = sources.files.iter().flat_map(|file| &file.workloads);
        names.extend(workloads.flat_map(|workload| workload.dns.iter().cloned()));
        names
    }

    /// Takes files as the inventory from now on. Publishes nothing yet.
    ///
    /// # Errors
    /// They do not stand together; what was taken before stays.
    pub fn set_files(&self, files: Vec<InventoryFile>) -> Result<(), SourcesError> {
        let in_force = self.in_force();
        let own: &[Workload] = in_force.as_ref().map_or(&[], InForce::own_workloads);
        let file = in_force.as_ref().map_or("", |f| f.valid.file.as_str());
        policy::merge(own, file, &files).map_err(|files| SourcesError { files })?;
        let mut sources = lock(&self.sources);
        let resolved = sources.resolved.clone();
        *sources = Arc::new(Sources { files, resolved });
        Ok(())
    }

    /// Takes what DNS names stand for from now on. Publishes nothing yet.
    pub fn set_resolved(&self, resolved: Resolved) {
        let mut sources = lock(&self.sources);
        let files = sources.files.clone();
        *sources = Arc::new(Sources { files, resolved });
    }

    /// Publishes the policy in force once more where its members are not those that it should have;
    /// none where they are, or where nothing is in force whose text is known.
    ///
    /// # Errors
    /// As [`PolicyService::apply`].
    pub async fn publish_members(&self, note: String) -> Result<Option<ApplyResult>, ApiError> {
        self.compared().await;
        let _busy = self.busy.lock().await;
        let Some(in_force) = self.in_force() else {
            return Ok(None);
        };
        if !self.has_moved(&in_force)? {
            return Ok(None);
        }
        let record = lock(&self.current).record.clone();
        let text = stored_text(&lock(&self.store), &record.revision)?;
        let change = Change {
            kind: Some(PolicyChange::Membership),
            file_name: record.file_name.clone(),
            author: "ringfence-control".to_owned(),
            note,
            peer: None,
            breaks: Vec::new(),
        };
        let again = Some(record);
        self.publish(text, change, again, None).await.map(Some)
    }

    fn has_moved(&self, in_force: &InForce) -> Result<bool, ApiError> {
        let sources = self.sources();
        let (own, file) = (in_force.own_workloads(), &in_force.valid.file);
        let merged = policy::merge(own, file, &sources.files).map_err(|e| conflict(&e))?;
        let now = &in_force.members.inventory;
        if merged.tables != now.tables {
            return Ok(true);
        }
        let used = policy::dns_names(&in_force.valid);
        let resolved = sources
            .resolved
            .iter()
            .filter(|(name, _)| used.contains(*name));
        Ok(!resolved.eq(now.resolved.iter()))
    }

    /// Puts what stands beside a text on disk; its hash, empty where there is nothing.
    pub(super) fn keep_inventory(&self, members: &Members) -> Result<String, StoreError> {
        let Inventory { tables, resolved } = &*members.inventory;
        if members.inventory.is_empty() {
            return Ok(String::new());
        }
        let stored = Stored {
            tables: tables.clone(),
            resolved: resolved.clone(),
        };
        let json = serde_json::to_vec(&stored).unwrap_or_default();
        let needed = lock(&self.current).record.inventory.clone();
        let kept = lock(&self.store).keep_inventory(&json, &[&needed]);
        kept.inspect_err(|_| lock(&self.outcomes).storage_errors += 1)
    }
}

impl InForce {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The workloads that the policy has itself.
    #[must_use]
    pub fn own_workloads(&self) -> &[Workload] {
        let own = self.valid.workloads.get(..self.members.own_count);
        own.unwrap_or_default()
    }
}

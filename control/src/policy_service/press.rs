//! From text to image, and what is remembered from one to the next.
//!
//! A policy in which nothing but memberships changed is read and compiled from what the policy
//! before it left: see [`policy::Loader`] and [`policy::Compiler`].

use super::check::invalid;
use super::members::{Members, Sources, conflict};
use super::{Change, InForce, PolicyService, lock, micros};
use crate::clock::today;
use api::error::{ApiError, ErrorCode};
use api::life::Peer;
use api::policy::{ApplyResult, PolicyChange, WorkloadRequest};
use jiff::civil::Date;
use policy::{
    Compiler, EditError, Inventory, Loader, PolicyErrors, Revision, ValidPolicy, Workload,
    WorkloadChange,
};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Reads and compiles texts one after the other.
#[derive(Debug, Default)]
pub(super) struct Press {
    loader: Loader,
    compiler: Compiler,
    /// The workloads that the last text has itself.
    own: Option<(Revision, Date, Arc<[Workload]>)>,
}

impl Press {
    /// Compiles a text, with the inventory beside it, under an epoch. Takes long for a large policy:
    /// call it off the event loop.
    pub(super) fn compile(
        &mut self,
        text: &str,
        file: &str,
        epoch: u64,
        sources: &Sources,
    ) -> Result<InForce, ApiError> {
        self.compile_on(today(), text, file, epoch, sources)
    }

    /// The same as of a date, which decides which rules have expired.
    pub(super) fn compile_on(
        &mut self,
        today: Date,
        text: &str,
        file: &str,
        epoch: u64,
        sources: &Sources,
    ) -> Result<InForce, ApiError> {
        let began = Instant::now();
        let (valid, members) = self.load(text, file, today, sources)?;
        let compiled = self
            .compiler
            .compile(&valid, epoch, today)
            .map_err(|error| {
                ApiError::new(
                    ErrorCode::InvalidPolicy,
                    format!("{file} cannot be compiled: {error}"),
                )
            })?;
        Ok(InForce {
            valid: Arc::new(valid),
            compiled: Arc::new(compiled),
            members,
            text: text.into(),
            compile_us: micros(began.elapsed()),
        })
    }
}

/// The same off the event loop.
pub(super) async fn compile_aside(
    press: Arc<Mutex<Press>>,
    text: String,
    file: String,
    epoch: u64,
    sources: Arc<Sources>,
) -> Result<InForce, ApiError> {
    tokio::task::spawn_blocking(move || lock(&press).compile(&text, &file, epoch, &sources))
        .await
        .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
}

impl Press {
    /// Reads a text, with the inventory beside it.
    pub(super) fn load(
        &mut self,
        text: &str,
        file: &str,
        today: Date,
        sources: &Sources,
    ) -> Result<(ValidPolicy, Members), ApiError> {
        let own = self.own(text, file, today)?;
        let merged = policy::merge(&own, file, &sources.files).map_err(|e| conflict(&e))?;
        let inventory = Inventory {
            tables: merged.tables,
            resolved: sources.resolved.clone(),
        };
        let loaded = self.loader.load_with(text, &inventory, file, today);
        let valid = loaded.map_err(|errors| behind(text, &errors))?;
        let used = policy::dns_names(&valid);
        let mut inventory = inventory;
        inventory.resolved.retain(|name, _| used.contains(name));
        let members = Members {
            inventory: Arc::new(inventory),
            own_count: own.len(),
            overridden: merged.overridden.into(),
        };
        Ok((valid, members))
    }

    /// The workloads that a text has itself. Those of the last text are remembered, so that a move
    /// does not read the text again.
    fn own(&mut self, text: &str, file: &str, today: Date) -> Result<Arc<[Workload]>, ApiError> {
        let revision = Revision::of(text);
        if let Some((of, on, own)) = &self.own
            && (*of, *on) == (revision, today)
        {
            return Ok(Arc::clone(own));
        }
        let valid = self.loader.load(text, file, today);
        let own = valid.map_err(|errors| invalid(&errors))?.workloads;
        self.own = Some((revision, today, Arc::clone(&own)));
        Ok(own)
    }
}

/// Errors of a policy that is good by itself, with an inventory behind its text.
fn behind(text: &str, errors: &PolicyErrors) -> ApiError {
    let lines = text.lines().count();
    let within = |d: &policy::Diagnostic| (d.line as usize) <= lines;
    if errors.diagnostics.iter().all(within) {
        return invalid(errors);
    }
    let mut error = invalid(errors);
    error.message = format!(
        "{} and the workloads of the inventory do not stand together: write the policy's own \
         workloads as [[workload]] tables, and look at the details",
        errors.file
    );
    error
}

pub(super) fn edit_error(error: &EditError) -> ApiError {
    let code = match error {
        EditError::NoWorkload(_) | EditError::NoSegment(_) => ErrorCode::NotFound,
        EditError::NoAddress(_)
        | EditError::Same(_)
        | EditError::SameMode { .. }
        | EditError::Text(_) => ErrorCode::BadRequest,
    };
    ApiError::new(code, error.to_string())
}

impl PolicyService {
    /// Changes one workload of the policy in force: edits the policy's text, which stays the truth,
    /// and publishes it as a revision of its own.
    ///
    /// # Errors
    /// There is no such workload, nothing would change, or as [`PolicyService::apply`].
    pub async fn set_workload(
        &self,
        request: WorkloadRequest,
        peer: Option<Peer>,
    ) -> Result<ApplyResult, ApiError> {
        let began = Instant::now();
        let WorkloadRequest {
            name,
            addresses,
            dns,
            labels,
            remove,
            author,
            note,
        } = request;
        let change = Change {
            kind: Some(PolicyChange::Workload),
            file_name: lock(&self.current).record.file_name.clone(),
            author,
            note,
            peer,
            breaks: Vec::new(),
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        self.nothing_may_wait()?;
        let Some(in_force) = self.in_force() else {
            let message = "no policy is in force here whose text is known; `ringfence policy apply \
                           FILE` first";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let wanted = WorkloadChange {
            addresses,
            dns,
            labels,
            remove,
        };
        let press = Arc::clone(&self.press);
        let edit = move || {
            lock(&press)
                .loader
                .set_workload(&in_force.text, &name, &wanted)
        };
        let edited = tokio::task::spawn_blocking(edit).await;
        let text = edited
            .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?
            .map_err(|error| edit_error(&error))?;
        let revision = policy::Revision::of(&text).to_string();
        let applied = self.publish(text, change.clone(), None, None).await;
        let mut result = applied.inspect_err(|e| self.note_refused(&change, &revision, e))?;
        result.enforcement_us = micros(began.elapsed());
        Ok(result)
    }
}

//! From text to image, and what is remembered from one to the next.
//!
//! A policy in which nothing but memberships changed is read and compiled from what the policy
//! before it left: see [`policy::Loader`] and [`policy::Compiler`].

use super::check::invalid;
use super::{Change, InForce, PolicyService, lock, micros};
use crate::clock::today;
use api::error::{ApiError, ErrorCode};
use api::life::Peer;
use api::policy::{ApplyResult, PolicyChange, WorkloadRequest};
use policy::{Compiler, EditError, Loader, WorkloadChange};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Reads and compiles texts one after the other.
#[derive(Debug, Default)]
pub(super) struct Press {
    loader: Loader,
    compiler: Compiler,
}

impl Press {
    /// Compiles a text under an epoch. Takes long for a large policy: call it off the event loop.
    pub(super) fn compile(
        &mut self,
        text: &str,
        file: &str,
        epoch: u64,
    ) -> Result<InForce, ApiError> {
        let (began, today) = (Instant::now(), today());
        let valid = self
            .loader
            .load(text, file, today)
            .map_err(|errors| invalid(&errors))?;
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
) -> Result<InForce, ApiError> {
    tokio::task::spawn_blocking(move || lock(&press).compile(&text, &file, epoch))
        .await
        .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
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

//! Candidates on disk: added, removed, promoted; judged by [`crate::candidates`].

use super::press::compile_aside;
use super::store::PolicyRecord;
use super::{Change, PolicyService, Press, Terms, lock};
use crate::candidates::{Candidates, Entry};
use crate::clock::now_ns;
use api::Ts;
use api::candidate::{
    CANDIDATES_MAX, Candidate, CandidateCounts, CandidateName, CandidateRequest,
    Candidates as Told, NAME_BYTES_MAX,
};
use api::error::{ApiError, ErrorCode};
use api::life::Peer;
use api::policy::{ApplyResult, Outcome, PolicyChange};
use std::sync::{Arc, Mutex};

fn no_candidate(name: &str) -> ApiError {
    let message = format!("there is no candidate `{name}`; `ringfence policy candidate list`");
    ApiError::new(ErrorCode::NotFound, message)
}

/// The name of a request: given, or that of the file without its directory and end.
fn named(request: &CandidateRequest) -> Result<String, ApiError> {
    let file = std::path::Path::new(&request.file_name);
    let stem = file.file_stem().and_then(std::ffi::OsStr::to_str);
    let name = match &*request.name {
        "" => stem.unwrap_or_default(),
        name => name,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.len() > NAME_BYTES_MAX || !begins || !name.chars().all(fits) {
        let message = format!(
            "`{name}` is no name of a candidate: give 1 to {NAME_BYTES_MAX} letters, digits and - _ ., \
             a letter or digit first"
        );
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    Ok(name.to_owned())
}

impl PolicyService {
    /// Takes candidates of an earlier process up again.
    pub(super) fn restore_candidates(&self) {
        let kept = lock(&self.store).candidates();
        let sources = self.sources();
        for about in kept {
            let text = lock(&self.store).text(&about.revision);
            let compiled = match text {
                Ok(Some(text)) => Press::default()
                    .compile(&text, &about.file_name, 1, &sources)
                    .map(|in_force| in_force.compiled)
                    .map_err(|error| error.message),
                Ok(None) => Err(format!("the text of revision {} is gone", about.revision)),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = &compiled {
                tracing::error!(candidate = about.name, %error, "a candidate is not judged");
            }
            self.candidates.put(about, compiled);
        }
    }

    /// Every candidate with what became of flows.
    #[must_use]
    pub fn candidates(&self) -> Told {
        Told {
            candidates: self.candidates.all(),
            candidates_max: CANDIDATES_MAX,
        }
    }

    /// One that is judged, to be watched.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn candidate(&self, name: &str) -> Result<Entry, ApiError> {
        self.candidates.get(name).ok_or_else(|| no_candidate(name))
    }

    /// Compiles a text and judges it from now on.
    ///
    /// # Errors
    /// It is not valid, there are as many as may be, or it cannot be kept.
    pub async fn add_candidate(
        &self,
        request: CandidateRequest,
        peer: Option<Peer>,
    ) -> Result<Candidate, ApiError> {
        let name = named(&request)?;
        let change = Change {
            kind: Some(PolicyChange::CandidateAdd),
            file_name: request.file_name.clone(),
            author: request.author.clone(),
            note: request.note.clone(),
            peer,
            breaks: Vec::new(),
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        let revision = policy::Revision::of(&request.text).to_string();
        let added = self.put_candidate(name, &revision, request).await;
        let about = added.inspect_err(|e| self.note_refused(&change, &revision, e))?;
        self.log_candidate(&change, &about.name, &revision);
        Ok(about)
    }

    async fn put_candidate(
        &self,
        name: String,
        revision: &str,
        request: CandidateRequest,
    ) -> Result<Candidate, ApiError> {
        let there = self.candidates.all();
        if there.len() >= CANDIDATES_MAX && there.iter().all(|c| c.name != name) {
            let names: Vec<&str> = there.iter().map(|c| c.name.as_str()).collect();
            let message = format!(
                "{CANDIDATES_MAX} candidates are judged already ({}); remove one first",
                names.join(", ")
            );
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        // A press of its own: that of the policy in force remembers the policy in force.
        let press = Arc::new(Mutex::new(Press::default()));
        let file = request.file_name.clone();
        let in_force = compile_aside(press, request.text.clone(), file, 1, self.sources()).await?;
        let about = Candidate {
            name,
            revision: revision.to_owned(),
            file_name: request.file_name,
            author: request.author,
            note: request.note,
            added_ts: Ts(now_ns()),
            counts: CandidateCounts::default(),
            ..Candidate::default()
        };
        lock(&self.store).keep_text(revision, &request.text)?;
        let mut all = there;
        all.retain(|c| c.name != about.name);
        all.push(about.clone());
        lock(&self.store).keep_candidates(&all)?;
        self.candidates.put(about.clone(), Ok(in_force.compiled));
        Ok(about)
    }

    /// Judges it no more.
    ///
    /// # Errors
    /// There is none of this name, or that cannot be written down.
    pub async fn remove_candidate(
        &self,
        request: CandidateName,
        peer: Option<Peer>,
    ) -> Result<Candidate, ApiError> {
        let change = Change {
            kind: Some(PolicyChange::CandidateRemove),
            author: request.author,
            note: request.note,
            peer,
            ..Change::default()
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        let mut all = self.candidates.all();
        let at = all.iter().position(|c| c.name == request.name);
        let about = all.remove(at.ok_or_else(|| no_candidate(&request.name))?);
        lock(&self.store).keep_candidates(&all)?;
        self.candidates.remove(&request.name);
        let change = Change {
            file_name: about.file_name.clone(),
            ..change
        };
        self.log_candidate(&change, &about.name, &about.revision);
        Ok(about)
    }

    /// Applies a candidate. It is judged on, and then decides as what is in force.
    ///
    /// # Errors
    /// There is none of this name, or as [`PolicyService::apply`].
    pub async fn promote_candidate(
        &self,
        request: CandidateName,
        peer: Option<Peer>,
    ) -> Result<ApplyResult, ApiError> {
        let all = self.candidates.all();
        let about = all.into_iter().find(|c| c.name == request.name);
        let about = about.ok_or_else(|| no_candidate(&request.name))?;
        let text = super::stored_text(&lock(&self.store), &about.revision)?;
        let counts = about.counts;
        let watched = format!(
            "candidate {}: {} flows judged, {} denied newly, {} allowed newly",
            about.name, counts.flows, counts.deny_newly, counts.allow_newly
        );
        let note = [watched, request.note];
        let note: Vec<&str> = note
            .iter()
            .map(String::as_str)
            .filter(|n| !n.is_empty())
            .collect();
        let change = Change {
            kind: Some(PolicyChange::Apply),
            file_name: about.file_name,
            author: request.author,
            note: note.join("; "),
            peer,
            breaks: Vec::new(),
        };
        let terms = Terms {
            confirm_s: request.confirm_s,
            if_revision: request.if_revision,
        };
        self.apply(text, change, &terms).await
    }

    /// Keeps what was counted so far.
    pub(super) fn keep_counts(&self) {
        let all = self.candidates.all();
        if all.is_empty() {
            return;
        }
        if let Err(error) = lock(&self.store).keep_candidates(&all) {
            tracing::warn!(%error, "what became of flows under candidates is not kept");
        }
    }

    fn log_candidate(&self, change: &Change, name: &str, revision: &str) {
        let record = PolicyRecord {
            revision: revision.to_owned(),
            ..PolicyRecord::default()
        };
        let change = Change {
            note: match &*change.note {
                "" => format!("candidate {name}"),
                note => format!("candidate {name}: {note}"),
            },
            ..change.clone()
        };
        self.log(&record, &change, Outcome::Done, "", None);
    }

    /// The judged ones.
    #[must_use]
    pub fn judged(&self) -> &Candidates {
        &self.candidates
    }
}

//! How far segments have come: since when, and one step on or back, by an edit of the text in force.

use super::{Change, InForce, PolicyService, lock, micros};
use crate::clock::today;
use crate::readiness::{Asked, before, next};
use abi::Mode as AbiMode;
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::life::Peer;
use api::policy::{ApplyResult, Outcome, PolicyChange};
use api::readiness::{Lacking, ModeRequest};
use api::words::Mode;
use policy::CompiledPolicy;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Revisions that are read to find since when a segment is in its mode; further back it is not known.
const REVISIONS_READ_MAX: usize = 200;

fn word(mode: AbiMode) -> Mode {
    Mode::from_word(mode.name()).unwrap_or(Mode::Observe)
}

fn no_policy() -> ApiError {
    let message =
        "no policy is in force here whose text is known; `ringfence policy apply FILE` first";
    ApiError::new(ErrorCode::NotFound, message)
}

/// Segments as readiness asks about them, and the image that answers.
pub struct Question {
    /// Revision that it is about.
    pub revision: String,
    /// In the order of the policy.
    pub asked: Vec<Asked>,
    /// The policy with every segment in enforce.
    pub enforced: CompiledPolicy,
}

impl PolicyService {
    /// What is asked about one segment, or every one. Takes long for a large policy: call it off the
    /// event loop.
    ///
    /// # Errors
    /// There is no policy, or no such segment.
    pub fn readiness_question(&self, segment: Option<&str>) -> Result<Question, ApiError> {
        let in_force = self.in_force().ok_or_else(no_policy)?;
        let segments = in_force.valid.segments.iter();
        let own = segments.filter(|s| !s.name.starts_with(policy::quarantine::PREFIX));
        let modes: BTreeMap<&str, AbiMode> = own.map(|s| (s.name.as_str(), s.mode)).collect();
        if let Some(segment) = segment
            && !modes.contains_key(segment)
        {
            let message =
                format!("there is no segment `{segment}`; `ringfence segments` lists them");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
        let since = self.modes_since(&modes)?;
        let segments = in_force.valid.segments.iter();
        let asked = segments
            .filter(|s| modes.contains_key(s.name.as_str()))
            .filter(|s| segment.is_none_or(|segment| segment == s.name))
            .map(|s| Asked {
                name: s.name.clone(),
                mode: word(s.mode),
                mode_since_ns: since.get(s.name.as_str()).copied(),
            });
        Ok(Question {
            revision: in_force.valid.revision.to_string(),
            asked: asked.collect(),
            enforced: enforced(&in_force)?,
        })
    }

    /// Since when each segment is in its mode: the time of the first of the last revisions in a row
    /// that say so.
    fn modes_since<'a>(
        &self,
        modes: &BTreeMap<&'a str, AbiMode>,
    ) -> Result<BTreeMap<&'a str, u64>, ApiError> {
        let entries = lock(&self.store).log().entries()?;
        let mut since = BTreeMap::new();
        let mut open: BTreeSet<&str> = modes.keys().copied().collect();
        let mut read: BTreeMap<String, BTreeMap<String, AbiMode>> = BTreeMap::new();
        for entry in entries
            .iter()
            .rev()
            .filter(|e| e.outcome == Outcome::Adopted)
        {
            if open.is_empty() {
                break;
            }
            if !read.contains_key(&entry.revision) {
                if read.len() >= REVISIONS_READ_MAX {
                    break;
                }
                let text = lock(&self.store).text(&entry.revision).ok().flatten();
                let then = text.and_then(|text| policy::modes_in(&text));
                let Some(then) = then else {
                    break;
                };
                read.insert(entry.revision.clone(), then);
            }
            let then = read.get(&entry.revision);
            open.retain(|name| {
                let same = then.and_then(|then| then.get(*name)) == modes.get(name);
                if same {
                    since.insert(*name, entry.ts.0);
                }
                same
            });
        }
        Ok(since)
    }

    /// Puts a segment into its next mode, or back. `lacking` is what is missing for it at `revision`.
    ///
    /// # Errors
    /// Something is missing and nobody forces it, or as [`PolicyService::apply`].
    pub async fn set_mode(
        &self,
        request: ModeRequest,
        peer: Option<Peer>,
        judged: Option<(String, Vec<Lacking>)>,
    ) -> Result<ApplyResult, ApiError> {
        let began = Instant::now();
        let (from, to) = self.step(&request)?;
        let lacking = judged.as_ref().map_or(&[][..], |(_, lacking)| lacking);
        let kind = if request.demote {
            PolicyChange::Demote
        } else {
            PolicyChange::Promote
        };
        let change = Change {
            kind: Some(kind),
            file_name: lock(&self.current).record.file_name.clone(),
            author: request.author.clone(),
            note: noted(&request, from, to, lacking),
            peer,
            breaks: Vec::new(),
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        let in_force = self.in_force().ok_or_else(no_policy)?;
        let revision = in_force.valid.revision.to_string();
        let applied = async {
            if let Some((judged, _)) = &judged {
                super::same_revision(judged, &revision)?;
            }
            if request.force.is_none() && !lacking.is_empty() {
                return Err(not_ready(&request.segment, to, lacking));
            }
            self.nothing_may_wait()?;
            let confirmation = match request.confirm_s {
                None => None,
                Some(confirm_s) => Some(self.fallback(super::confirm::window(confirm_s)?)?),
            };
            let mode = AbiMode::ALL.iter().copied().find(|m| m.name() == to.word());
            let mode = mode.unwrap_or(AbiMode::Enforce);
            let text = policy::set_mode(&in_force.text, &request.segment, mode)
                .map_err(|error| super::press::edit_error(&error))?;
            self.publish(text, change.clone(), None, confirmation).await
        };
        let mut applied = applied
            .await
            .inspect_err(|e| self.note_refused(&change, &revision, e))?;
        applied.enforcement_us = micros(began.elapsed());
        Ok(applied)
    }

    /// From which mode to which.
    ///
    /// # Errors
    /// There is no such segment, or no such step.
    pub fn step(&self, request: &ModeRequest) -> Result<(Mode, Mode), ApiError> {
        let in_force = self.in_force().ok_or_else(no_policy)?;
        let name = &request.segment;
        let mut segments = in_force.valid.segments.iter();
        let Some(segment) = segments.find(|s| &s.name == name) else {
            let message = format!("there is no segment `{name}`; `ringfence segments` lists them");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        let from = word(segment.mode);
        let step = if request.demote {
            before(from)
        } else {
            next(from)
        };
        let bad = |message: String| Err(ApiError::new(ErrorCode::BadRequest, message));
        let Some(to) = request.to.or(step) else {
            return bad(format!("{name} is in {from}: there is no mode beyond it"));
        };
        if request.demote == (to > from) || to == from {
            let verb = if request.demote { "demote" } else { "promote" };
            return bad(format!(
                "{name} is in {from}: to {verb} it to {to} is no step that way"
            ));
        }
        Ok((from, to))
    }
}

/// The policy in force with every segment in enforce.
fn enforced(in_force: &InForce) -> Result<CompiledPolicy, ApiError> {
    let internal = |message: String| ApiError::new(ErrorCode::Internal, message);
    let text = policy::set_every_mode(&in_force.text, AbiMode::Enforce)
        .map_err(|error| super::press::edit_error(&error))?;
    let valid = policy::load(&text, &in_force.valid.file, today())
        .map_err(|errors| super::check::invalid(&errors))?;
    policy::compile(&valid, 1, today()).map_err(|error| internal(error.to_string()))
}

fn noted(request: &ModeRequest, from: Mode, to: Mode, lacking: &[Lacking]) -> String {
    let mut note = format!("{}: {from} -> {to}", request.segment);
    if let Some(reason) = &request.force {
        let lacks: Vec<&str> = lacking.iter().map(|lacks| lacks.what.as_str()).collect();
        note.push_str(&format!("; forced ({reason})"));
        if !lacks.is_empty() {
            note.push_str(&format!(" although {}", lacks.join("; ")));
        }
    }
    if !request.note.is_empty() {
        note.push_str(&format!("; {}", request.note));
    }
    note
}

fn not_ready(segment: &str, to: Mode, lacking: &[Lacking]) -> ApiError {
    let details = lacking.iter().map(|lacks| ErrorDetail {
        file: segment.to_owned(),
        what: format!("{} ({})", lacks.what, lacks.threshold),
        mend: lacks.mend.clone(),
        ..ErrorDetail::default()
    });
    ApiError {
        code: ErrorCode::NotReady,
        message: format!(
            "segment {segment} is not ready for {to}; --force REASON does it all the same, and the log \
             keeps the reason"
        ),
        details: details.collect(),
    }
}

//! Workloads that are held for a time. They are kept beside the policy and put into every text that is
//! published, whoever brings it: a file that knows nothing of them does not let them go.

use super::members::Sources;
use super::press::Press;
use super::store::StoreError;
use super::{Change, PolicyService, lock, micros};
use crate::clock::{now_ns, today};
use api::Ts;
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::foresight::Foresight;
use api::life::Peer;
use api::policy::{ApplyResult, PolicyChange};
use api::quarantine::{
    FOR_S_MAX, HELD_MAX, Held, LiftRequest, QuarantineRequest, QuarantineResult, Quarantines,
};
use policy::quarantine::{
    PREFIX, Quarantine, QuarantineError, with_quarantine, without_quarantines,
};
use policy::{EditError, ValidPolicy};
use std::time::{Duration, Instant};

/// One that is held, and when that ends by the monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    held: Held,
    due: Instant,
}

impl Timed {
    /// What is left of its time counts from `now`. A clock that was set back does not make it longer
    /// than it was.
    fn new(held: Held, now_ns: u64, now: Instant) -> Self {
        let whole = held.until_ts.0.saturating_sub(held.since_ts.0);
        let left = held.until_ts.0.saturating_sub(now_ns).min(whole);
        let due = now.checked_add(Duration::from_nanos(left)).unwrap_or(now);
        Self { held, due }
    }
}

/// All that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldList {
    all: Vec<Timed>,
    /// The text in force may not have them: this process ended between the list and the text.
    pub(super) unsure: bool,
}

impl HeldList {
    pub(super) fn new(held: Vec<Held>, now_ns: u64, now: Instant) -> Self {
        let timed = held.into_iter().map(|held| Timed::new(held, now_ns, now));
        let all: Vec<Timed> = timed.collect();
        let unsure = !all.is_empty();
        Self { all, unsure }
    }

    /// The next time at which one ends.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let next = self.all.iter().map(|timed| timed.due).min();
        if self.unsure { Some(now) } else { next }
    }

    fn active(&self, now: Instant) -> Vec<Held> {
        let active = self.all.iter().filter(|timed| timed.due > now);
        active.map(|timed| timed.held.clone()).collect()
    }

    fn ended(&self, now: Instant) -> Vec<String> {
        let ended = self.all.iter().filter(|timed| timed.due <= now);
        ended.map(|timed| timed.held.workload.clone()).collect()
    }

    fn without(&self, workload: &str) -> Self {
        let mut rest = self.clone();
        rest.all.retain(|timed| timed.held.workload != workload);
        rest
    }

    fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = self.all.iter().map(|timed| timed.held.clone()).collect();
        held.sort_by(|a, b| (a.until_ts, &a.workload).cmp(&(b.until_ts, &b.workload)));
        held
    }
}

/// What a policy text became before it is published.
pub(super) struct Carried {
    pub(super) text: String,
    /// What the operator should know about that.
    pub(super) notes: Vec<ErrorDetail>,
}

impl Carried {
    /// As it came.
    pub(super) const fn plain(text: String) -> Self {
        Self {
            text,
            notes: Vec::new(),
        }
    }
}

fn refused(error: &QuarantineError) -> ApiError {
    let code = match error {
        QuarantineError::Edit(EditError::NoWorkload(_)) | QuarantineError::NoSegment(_) => {
            ErrorCode::NotFound
        }
        _ => ErrorCode::BadRequest,
    };
    ApiError::new(code, error.to_string())
}

fn as_rules(held: &Held) -> Quarantine {
    let note = match &*held.note {
        "" => String::new(),
        // A comment of the language has its limit.
        note => format!(": {}", note.chars().take(200).collect::<String>()),
    };
    let author: String = held.author.chars().take(64).collect();
    Quarantine {
        workload: held.workload.clone(),
        allow: held.allow.clone(),
        to: held.to.clone(),
        comment: format!("held until {} by {author}{note}", held.until_ts),
    }
}

/// A text with exactly these held, workloads of inventories as well. `strict` where one that cannot be held is an error of its own.
fn carry(
    text: String,
    file: &str,
    sources: &Sources,
    held: &[Held],
    strict: Option<&str>,
) -> Result<Carried, ApiError> {
    let had = text.contains(PREFIX);
    if held.is_empty() && !had {
        return Ok(Carried::plain(text));
    }
    // What cannot be read is told by whoever compiles it, with the lines as they were written.
    let Ok(bare) = without_quarantines(&text) else {
        return Ok(Carried::plain(text));
    };
    let Ok((policy, _)) = Press::default().load(&bare, file, today(), sources) else {
        return Ok(Carried::plain(text));
    };
    let mut carried = Carried::plain(bare);
    for one in held {
        match with_quarantine(&carried.text, &policy, &as_rules(one)) {
            Ok(with) => {
                carried.text = with;
                if strict.is_none() && !text_holds(&one.workload, &text) {
                    carried.notes.push(kept(one, file));
                }
            }
            Err(error) if strict == Some(&one.workload) => return Err(refused(&error)),
            Err(QuarantineError::Edit(EditError::NoWorkload(_))) => {
                carried.notes.push(gone(one, file));
            }
            Err(error) => return Err(cannot_stay(one, &error)),
        }
    }
    Ok(carried)
}

/// The policy that holds one more workload, not applied.
fn drafted(
    text: String,
    file: &str,
    sources: &Sources,
    all: &[Held],
    held: Held,
) -> Result<QuarantineResult, ApiError> {
    let carried = carry(text, file, sources, all, Some(&held.workload))?;
    let (policy, _) = Press::default().load(&carried.text, file, today(), sources)?;
    Ok(QuarantineResult {
        addresses: addresses(&policy, &held.workload),
        held,
        text: carried.text,
        applied: None,
        // For whoever can ask history.
        foresight: Foresight::default(),
    })
}

fn text_holds(workload: &str, text: &str) -> bool {
    text.contains(&format!("\"{PREFIX}{workload}:out\""))
}

fn kept(held: &Held, file: &str) -> ErrorDetail {
    ErrorDetail {
        file: file.to_owned(),
        what: format!(
            "{} is in quarantine until {}: its rules were added to the text",
            held.workload, held.until_ts
        ),
        mend: format!("`ringfence quarantine lift {}` lets it go", held.workload),
        ..ErrorDetail::default()
    }
}

fn gone(held: &Held, file: &str) -> ErrorDetail {
    ErrorDetail {
        file: file.to_owned(),
        what: format!(
            "{} is in quarantine and neither in this policy nor in an inventory beside it: nothing holds it",
            held.workload
        ),
        mend: "put the workload back into one of them, or lift its quarantine".to_owned(),
        ..ErrorDetail::default()
    }
}

fn cannot_stay(held: &Held, error: &QuarantineError) -> ApiError {
    let message = format!(
        "the quarantine of {0} cannot be kept over this policy: {error}; mend the policy, or \
         `ringfence quarantine lift {0}` first",
        held.workload
    );
    ApiError::new(ErrorCode::Conflict, message)
}

impl PolicyService {
    /// Puts what is held into a text that is to be published.
    pub(super) async fn carried(&self, text: String, file: String) -> Result<Carried, ApiError> {
        let held = lock(&self.held).active(Instant::now());
        let sources = self.sources();
        let work = move || carry(text, &file, &sources, &held, None);
        aside(work).await
    }

    /// What is held.
    #[must_use]
    pub fn quarantines(&self) -> Quarantines {
        Quarantines {
            held: lock(&self.held).held(),
        }
    }

    fn text_in_force(&self) -> Result<(String, String), ApiError> {
        let current = lock(&self.current);
        let Some(in_force) = &current.in_force else {
            let message = "no policy is in force here whose text is known; `ringfence policy apply \
                           FILE` first";
            return Err(ApiError::new(ErrorCode::NotFound, message));
        };
        Ok((in_force.text.to_string(), current.record.file_name.clone()))
    }

    /// Holds a workload.
    ///
    /// # Errors
    /// It cannot be held, or as [`PolicyService::apply`]; then it is not held.
    pub async fn quarantine(
        &self,
        request: QuarantineRequest,
        peer: Option<Peer>,
    ) -> Result<QuarantineResult, ApiError> {
        let began = Instant::now();
        let change = Change {
            kind: Some(PolicyChange::Quarantine),
            author: request.author.clone(),
            note: request.note.clone(),
            peer,
            ..Change::default()
        };
        change.check()?;
        let held = held(&request)?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        let (text, file_name) = self.text_in_force()?;
        let list = lock(&self.held).without(&held.workload);
        if list.all.len() >= HELD_MAX {
            let message = format!("{HELD_MAX} workloads are in quarantine already; lift one first");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let mut all = list.active(Instant::now());
        all.push(held.clone());
        let (bare, file, one) = (text.clone(), file_name.clone(), held.clone());
        let sources = self.sources();
        let mut result = aside(move || drafted(bare, &file, &sources, &all, one)).await?;
        if request.dry_run {
            return Ok(result);
        }
        let mut list = list;
        list.all.push(Timed::new(held, now_ns(), Instant::now()));
        let change = Change {
            file_name,
            note: noted(&request),
            ..change
        };
        let mut applied = self.publish_held(list, text, change).await?;
        applied.enforcement_us = micros(began.elapsed());
        result.applied = Some(applied);
        Ok(result)
    }

    /// What holding a workload would make of the policy in force. Takes long for a large policy.
    ///
    /// # Errors
    /// It cannot be held, or no policy is in force.
    pub fn quarantine_draft(
        &self,
        request: &QuarantineRequest,
    ) -> Result<QuarantineResult, ApiError> {
        let held = held(request)?;
        let (text, file_name) = self.text_in_force()?;
        let mut all = lock(&self.held)
            .without(&held.workload)
            .active(Instant::now());
        all.push(held.clone());
        drafted(text, &file_name, &self.sources(), &all, held)
    }

    /// Lets a workload go.
    ///
    /// # Errors
    /// It is not held, or as [`PolicyService::apply`]; then it stays held.
    pub async fn lift(
        &self,
        request: LiftRequest,
        peer: Option<Peer>,
    ) -> Result<ApplyResult, ApiError> {
        let began = Instant::now();
        let change = Change {
            kind: Some(PolicyChange::Lift),
            author: request.author,
            note: format!("{} is let go", request.workload) + &because(&request.note),
            peer,
            ..Change::default()
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        let list = lock(&self.held).clone();
        let rest = list.without(&request.workload);
        if rest.all.len() == list.all.len() {
            let message = format!(
                "{} is not in quarantine; `ringfence quarantine list` tells who is",
                request.workload
            );
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
        let (text, file_name) = self.text_in_force()?;
        let change = Change {
            file_name,
            ..change
        };
        let mut applied = self.publish_held(rest, text, change).await?;
        applied.enforcement_us = micros(began.elapsed());
        Ok(applied)
    }

    /// Publishes a text with another list of what is held. What waits for its confirmation goes on
    /// waiting. The caller holds `busy`.
    async fn publish_held(
        &self,
        list: HeldList,
        text: String,
        change: Change,
    ) -> Result<ApplyResult, ApiError> {
        // The list first: a text that holds a workload without an end in the list would hold it for
        // ever.
        let before = self.keep(list)?;
        let confirmation = lock(&self.current).record.confirmation.clone();
        let published = self.publish(text, change, None, confirmation).await;
        match &published {
            Ok(_) => {}
            // It may be in force: the list stays, and is compared with the text at the next link.
            Err(error) if matches!(error.code, ErrorCode::Timeout) => {
                lock(&self.held).unsure = true;
            }
            Err(_) => {
                self.keep(before)?;
            }
        }
        self.wake();
        published
    }

    /// Keeps another list; gives the one before.
    fn keep(&self, list: HeldList) -> Result<HeldList, StoreError> {
        let all: Vec<Held> = list.all.iter().map(|timed| timed.held.clone()).collect();
        lock(&self.store).keep_quarantines(&all)?;
        Ok(std::mem::replace(&mut *lock(&self.held), list))
    }

    /// The time of some is over, or it is not sure that the text in force holds them. The caller holds
    /// `busy`.
    pub(super) async fn end_quarantines(&self) -> Result<(), ApiError> {
        let (ended, unsure) = {
            let list = lock(&self.held);
            (list.ended(Instant::now()), list.unsure)
        };
        if ended.is_empty() && !unsure {
            return Ok(());
        }
        let (text, file_name) = self.text_in_force()?;
        let same = self.carried(text.clone(), file_name.clone()).await?.text == text;
        if !same {
            let (kind, note) = if ended.is_empty() {
                (
                    PolicyChange::Quarantine,
                    "held again after a restart".to_owned(),
                )
            } else {
                let names = ended.join(", ");
                (PolicyChange::Lift, format!("the time of {names} is over"))
            };
            let change = Change {
                kind: Some(kind),
                file_name,
                author: "ringfence-control".to_owned(),
                note,
                peer: None,
                breaks: Vec::new(),
            };
            let confirmation = lock(&self.current).record.confirmation.clone();
            self.publish(text, change, None, confirmation).await?;
        }
        let mut list = lock(&self.held).clone();
        list.all
            .retain(|timed| !ended.contains(&timed.held.workload));
        list.unsure = false;
        self.keep(list)?;
        Ok(())
    }
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
}

fn addresses(policy: &ValidPolicy, workload: &str) -> Vec<String> {
    let found = policy.workloads.iter().find(|w| w.name == workload);
    let addresses = found.map(|w| w.addresses.iter());
    addresses
        .into_iter()
        .flatten()
        .map(|net| match net.prefix_len() == net.max_prefix_len() {
            true => net.addr().to_string(),
            false => net.to_string(),
        })
        .collect()
}

fn held(request: &QuarantineRequest) -> Result<Held, ApiError> {
    if request.for_s == 0 || request.for_s > FOR_S_MAX {
        let message = format!(
            "{} s is no time to hold a workload: give 1 s to {FOR_S_MAX} s (30 days)",
            request.for_s
        );
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    let since_ns = now_ns();
    Ok(Held {
        workload: request.workload.clone(),
        allow: request.allow.clone(),
        to: request.to.clone(),
        since_ts: Ts(since_ns),
        until_ts: Ts(since_ns.saturating_add(request.for_s.saturating_mul(1_000_000_000))),
        author: request.author.clone(),
        note: request.note.clone(),
    })
}

fn because(note: &str) -> String {
    match note {
        "" => String::new(),
        note => format!(": {note}"),
    }
}

fn noted(request: &QuarantineRequest) -> String {
    let allowed = match &request.allow[..] {
        [] => String::new(),
        allow => format!(", but for {}", allow.join(", ")),
    };
    let with = request
        .to
        .as_ref()
        .map_or_else(String::new, |to| format!(" with {to}"));
    format!(
        "{} is held for {}{allowed}{with}{}",
        request.workload,
        humantime::format_duration(std::time::Duration::from_secs(request.for_s)),
        because(&request.note)
    )
}

//! A policy that is tried: it reverts by itself unless somebody confirms it in time.
//!
//! What comes back and when is part of the record of the policy in force, so that it counts from the
//! moment of adoption and survives this process. While this process lives its monotonic clock
//! decides; after a start the machine's clock does, and never gives more than the whole time anew.

use super::store::PolicyRecord;
use super::{Change, Current, PolicyService, lock, same_revision, stored_text};
use crate::clock::now_ns;
use api::Ts;
use api::error::{ApiError, ErrorCode};
use api::life::{CONFIRM_S_MAX, ConfirmRequest, Confirmed, Peer, RevertRequest, Unconfirmed};
use api::policy::{ApplyResult, Outcome, PolicyChange};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two attempts to publish what is due.
const RETRY: Duration = Duration::from_secs(2);

/// What comes back, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmation {
    /// The revision that comes back.
    pub(super) fallback: String,
    /// Name of the file it came from.
    pub(super) fallback_file: String,
    /// When it comes back, nanoseconds since the Unix epoch.
    pub(super) due_ns: u64,
    /// The whole time, nanoseconds.
    pub(super) window_ns: u64,
}

impl Confirmation {
    /// A time that begins at `now_ns`, with what was in force until then.
    pub(super) fn begin(before: &PolicyRecord, window: Duration, now_ns: u64) -> Self {
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            fallback: before.revision.clone(),
            fallback_file: before.file_name.clone(),
            due_ns: now_ns.saturating_add(window_ns),
            window_ns,
        }
    }

    /// What is left of the time. A clock that was set back does not make it longer than it was.
    pub(super) fn left(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.due_ns.saturating_sub(now_ns).min(self.window_ns))
    }
}

/// What waits for its time, as the monotonic clock counts.
#[derive(Debug, Default)]
pub(super) struct RevertClock {
    /// When the policy before comes back.
    due: Option<Instant>,
    /// Why the last attempt failed.
    error: Option<String>,
}

impl RevertClock {
    /// Begins to count for a record that is in force now, or stops.
    pub(super) fn set(&mut self, record: &PolicyRecord, now_ns: u64, now: Instant) {
        let left = record.confirmation.as_ref().map(|c| c.left(now_ns));
        *self = Self {
            due: left.and_then(|left| now.checked_add(left)),
            ..Self::default()
        };
    }

    /// Whether the time is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    fn next(&self) -> Option<Instant> {
        self.due
    }

    fn left(&self, now: Instant) -> Duration {
        self.due
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }
}

/// Waits until the time that `due` says, whatever it is changed to meanwhile.
pub(super) async fn until(due: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let at = *due.borrow_and_update();
        let changed = match at {
            None => due.changed().await,
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at.into()) => return,
                changed = due.changed() => changed,
            },
        };
        if changed.is_err() {
            // Nobody can set a time any more.
            return std::future::pending().await;
        }
    }
}

/// Seconds of a request as the time to wait.
pub(super) fn window(confirm_s: u64) -> Result<Duration, ApiError> {
    if confirm_s == 0 || confirm_s > CONFIRM_S_MAX {
        let message = format!(
            "{confirm_s} s is no time to wait for a confirmation: give 1 s to {CONFIRM_S_MAX} s (a day)"
        );
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    Ok(Duration::from_secs(confirm_s))
}

fn seconds_up(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

impl Current {
    /// What waits for its confirmation.
    pub(super) fn unconfirmed(&self) -> Option<Unconfirmed> {
        let confirmation = self.record.confirmation.as_ref()?;
        let left = self.revert.left(Instant::now());
        let left_ns = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        Some(Unconfirmed {
            fallback_revision: confirmation.fallback.clone(),
            due_ts: Ts(now_ns().saturating_add(left_ns)),
            left_s: seconds_up(left),
            error: self.revert.error.clone(),
        })
    }
}

fn nothing_waits() -> ApiError {
    let message = "no policy waits for its confirmation: it was confirmed or has reverted, see \
                   `ringfence policy log`";
    ApiError::new(ErrorCode::Conflict, message)
}

impl PolicyService {
    /// Tells the clock of `watch` when to look next.
    pub(super) fn wake(&self) {
        let (revert, retry) = {
            let current = lock(&self.current);
            (current.revert.next(), current.retry)
        };
        let held = lock(&self.held).next(Instant::now());
        let next = [revert, held].into_iter().flatten().min();
        // An attempt has failed: not before that.
        self.due
            .send_replace(next.map(|at| at.max(retry.unwrap_or(at))));
    }

    /// Refuses a change beside a policy that waits for its confirmation: what would come back then
    /// would be what nobody expects.
    pub(super) fn nothing_may_wait(&self) -> Result<(), ApiError> {
        let current = lock(&self.current);
        let Some(waiting) = current.unconfirmed() else {
            return Ok(());
        };
        let message = format!(
            "revision {} waits for its confirmation, {} s are left; `ringfence policy confirm` keeps \
             it, `ringfence policy revert` brings {} back, then apply again",
            short(&current.record.revision),
            waiting.left_s,
            short(&waiting.fallback_revision),
        );
        Err(ApiError::new(ErrorCode::Conflict, message))
    }

    /// What comes back where a policy is to be tried.
    pub(super) fn fallback(&self, window: Duration) -> Result<Confirmation, ApiError> {
        let current = lock(&self.current);
        let refused = |message: &str| Err(ApiError::new(ErrorCode::Conflict, message));
        if current.record.epoch == 0 {
            return refused(
                "there is no policy to return to yet: apply one that enforces nothing first, or \
                 leave --confirm out",
            );
        }
        if current.in_force.is_none() {
            return refused(
                "the text of the policy in force is not known here, so it could not come back: leave \
                 --confirm out",
            );
        }
        Ok(Confirmation::begin(&current.record, window, now_ns()))
    }

    /// Keeps the policy that would have reverted.
    ///
    /// # Errors
    /// Nothing waits, another revision waits, or it cannot be written down: then it still reverts.
    pub async fn confirm(
        &self,
        request: ConfirmRequest,
        peer: Option<Peer>,
    ) -> Result<Confirmed, ApiError> {
        let change = Change {
            kind: Some(PolicyChange::Confirm),
            author: request.author,
            note: request.note,
            peer,
            ..Change::default()
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        let _busy = self.busy.lock().await;
        let (mut record, left) = {
            let current = lock(&self.current);
            (current.record.clone(), current.revert.left(Instant::now()))
        };
        let confirmation = record.confirmation.take().ok_or_else(nothing_waits)?;
        if let Some(wanted) = &request.revision {
            same_revision(wanted, &record.revision)?;
        }
        lock(&self.store).amend(&record)?;
        {
            let mut current = lock(&self.current);
            current.record = record.clone();
            current.revert = RevertClock::default();
        }
        self.wake();
        self.log(&record, &change, Outcome::Done, "", None);
        Ok(Confirmed {
            revision: record.revision,
            fallback_revision: confirmation.fallback,
            left_s: left.as_secs(),
        })
    }

    /// Brings the policy before back without waiting.
    ///
    /// # Errors
    /// Nothing waits, or as [`PolicyService::apply`].
    pub async fn revert(
        &self,
        request: RevertRequest,
        peer: Option<Peer>,
    ) -> Result<ApplyResult, ApiError> {
        let change = Change {
            kind: Some(PolicyChange::Revert),
            author: request.author,
            note: request.note,
            peer,
            ..Change::default()
        };
        change.check()?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        self.bring_back(change).await
    }

    /// Publishes the fall-back. The caller holds `busy`.
    async fn bring_back(&self, change: Change) -> Result<ApplyResult, ApiError> {
        let waiting = lock(&self.current).record.confirmation.clone();
        let waiting = waiting.ok_or_else(nothing_waits)?;
        let text = stored_text(&lock(&self.store), &waiting.fallback)?;
        let change = Change {
            file_name: waiting.fallback_file,
            ..change
        };
        self.publish(text, change, None, None).await
    }

    /// The time of something is over: acts, and tries again a little later where it cannot.
    pub(super) async fn act(&self) {
        let _busy = self.busy.lock().await;
        lock(&self.current).retry = None;
        let acted = match self.revert_due().await {
            Ok(()) => self.end_quarantines().await,
            Err(error) => Err(error),
        };
        if let Err(error) = acted {
            tracing::error!(%error, "what is due could not be published yet");
            let mut current = lock(&self.current);
            current.retry = Instant::now().checked_add(RETRY);
            current.revert.error =
                Some(error.message).filter(|_| current.record.confirmation.is_some());
        }
        self.wake();
    }

    /// The policy before comes back, where the one in force was not confirmed in time.
    async fn revert_due(&self) -> Result<(), ApiError> {
        if !lock(&self.current).revert.is_due(Instant::now()) {
            return Ok(());
        }
        let revision = lock(&self.current).record.revision.clone();
        let change = Change {
            kind: Some(PolicyChange::Revert),
            author: "ringfence-control".to_owned(),
            note: format!("{} was not confirmed in time", short(&revision)),
            ..Change::default()
        };
        self.bring_back(change).await.map(|_| ())
    }

    /// A new link: what failed without one is tried at once.
    pub(super) fn act_at_once(&self) {
        lock(&self.current).retry = None;
        self.wake();
    }
}

fn short(revision: &str) -> &str {
    revision.get(..super::SHOWN_DIGITS).unwrap_or(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_left_never_grows_whatever_the_clock_does() {
        let before = PolicyRecord {
            revision: "a".to_owned(),
            ..PolicyRecord::default()
        };
        let waiting = Confirmation::begin(&before, Duration::from_secs(300), 1000 * SECOND);
        let left = |s: u64| waiting.left(s * SECOND).as_secs();
        assert_eq!((left(1000), left(1299), left(1300)), (300, 1, 0));
        assert_eq!(left(9_999_999), 0, "set forward: reverts");
        assert_eq!(left(10), 300, "set back: the whole time again, never more");
        assert_eq!(waiting.fallback, "a");
    }

    #[test]
    fn a_clock_is_due_when_its_time_is_over() {
        let now = Instant::now();
        let at = |s: u64| now + Duration::from_secs(s);
        let mut record = PolicyRecord::default();
        let mut clock = RevertClock::default();
        clock.set(&record, 0, now);
        assert!(!clock.is_due(at(1_000_000)) && clock.next().is_none());
        record.confirmation = Some(Confirmation {
            due_ns: 5 * SECOND,
            window_ns: 5 * SECOND,
            ..Confirmation::default()
        });
        clock.set(&record, 2 * SECOND, now);
        assert_eq!(clock.next(), Some(at(3)));
        assert!(!clock.is_due(at(2)) && clock.is_due(at(3)));
        assert_eq!(seconds_up(clock.left(at(1))), 2);
        clock.set(&record, 60 * SECOND, now);
        assert!(clock.is_due(now), "the time passed while control was down");
    }

    #[tokio::test]
    async fn the_watch_wakes_at_the_time_that_was_set_last() {
        let far = Instant::now().checked_add(Duration::from_secs(86_400));
        let (set, mut due) = watch::channel(far);
        let moved = async {
            for at in [None, far, Some(Instant::now())] {
                tokio::task::yield_now().await;
                set.send_replace(at);
            }
        };
        tokio::join!(moved, until(&mut due));
        assert!(due.borrow().is_some_and(|at| at <= Instant::now()));
    }
}

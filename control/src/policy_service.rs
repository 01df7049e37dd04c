//! The policy: check, compile, publish, remember; and bring it back after a restart of either side.
//!
//! A change is on disk before it is published and in force on disk only after every core has
//! adopted it. One change at a time: a second one is refused, and each waits for what the service
//! itself has to bring back when a link comes up.

mod candidates;
mod check;
mod confirm;
mod gate;
mod import;
mod log;
mod members;
mod past;
mod press;
mod proof;
mod quarantine;
mod reach;
mod restore;
mod revisions;
mod segments;
mod store;

pub use check::check;
pub use members::{Members, SourcesError, told};
pub use past::Past;
pub(crate) use reach::reach_change;
pub use reach::{PolicyQuestion, answer_alone};
pub use segments::Question;
pub use store::StoreError;

use crate::candidates::Candidates;
use crate::clock::{now_ns, today_days};
use crate::config::Config;
use crate::dataplane::{Adoption, Dataplane, Link, LinkEvent, PublishError};
use crate::lock::lock;
use crate::names::{Dictionary, EPOCHS_MAX, Registry};
use api::Ts;
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::life::Peer;
use api::policy::{
    ApplyResult, CheckResult, Outcome, PolicyChange, PolicyCounts, PolicyInForce, PolicyLogEntry,
    PolicyState,
};
use check::{counts, no_longer_enforces, warnings};
use confirm::{Confirmation, RevertClock};
use members::Sources;
use policy::{CompiledPolicy, ValidPolicy};
use press::{Press, compile_aside};
use quarantine::{Carried, HeldList};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::{NOTE_BYTES_MAX, PolicyRecord, Store, hash_hex};
use tokio::sync::watch;

/// Text of a policy that is taken from a request, bytes.
pub const POLICY_BYTES_MAX: usize = policy::limits::TEXT_BYTES_MAX;
/// Shortest beginning of a revision that names one.
const REVISION_DIGITS_MIN: usize = 4;
/// Digits of a revision that stand for it in the log.
const SHOWN_DIGITS: usize = 12;

/// What is in force, compiled.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policy.
    pub valid: Arc<ValidPolicy>,
    /// Its image and names.
    pub compiled: Arc<CompiledPolicy>,
    /// What stands beside its text.
    pub members: Members,
    text: Arc<str>,
    /// From text to image, microseconds.
    compile_us: u64,
}

#[derive(Debug, Default)]
struct Current {
    state: Option<PolicyState>,
    record: PolicyRecord,
    adoption_us: Option<u64>,
    refused: Option<String>,
    /// Why the stored text cannot be compiled again.
    unusable: Option<String>,
    in_force: Option<InForce>,
    last_epoch: u64,
    /// Number of the link over which a policy was adopted last.
    adopted_link: u64,
    revert: RevertClock,
    /// What is due is not tried before this: an attempt has failed.
    retry: Option<Instant>,
}

/// Who changes the policy, and why.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What is done.
    pub kind: Option<PolicyChange>,
    /// Name of the file.
    pub file_name: String,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
    /// Who sits at the other end of the socket.
    pub peer: Option<Peer>,
    /// Invariants that may be broken, by name.
    pub breaks: Vec<String>,
}

/// On which terms a policy is applied.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// It reverts by itself after so many seconds unless it is confirmed.
    pub confirm_s: Option<u64>,
    /// Only where this revision is in force.
    pub if_revision: Option<String>,
}

impl Change {
    fn check(&self) -> Result<(), ApiError> {
        for (what, value) in [
            ("author", &self.author),
            ("note", &self.note),
            ("file_name", &self.file_name),
        ] {
            if value.len() > NOTE_BYTES_MAX {
                let message = format!("{what} has {} bytes, at most {NOTE_BYTES_MAX}", value.len());
                return Err(ApiError::new(ErrorCode::BadRequest, message));
            }
        }
        Ok(())
    }
}

/// Counts of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "counts of outcomes")]
pub struct PolicyOutcomes {
    pub adopted: u64,
    pub refused: u64,
    pub timeout: u64,
    pub disconnected: u64,
    pub storage_errors: u64,
}

/// The service.
#[derive(Debug)]
pub struct PolicyService {
    store: Mutex<Store>,
    registry: Arc<Registry>,
    dataplane: Arc<Dataplane>,
    link: Link,
    adopt_timeout: Duration,
    /// Applied when the dataplane first connects.
    first_file: Mutex<Option<PathBuf>>,
    current: Mutex<Current>,
    press: Arc<Mutex<Press>>,
    /// Workloads from beside the policy, as they should be in force.
    sources: Mutex<Arc<Sources>>,
    /// The epoch that was adopted last, and when, nanoseconds since the Unix epoch.
    adopted_epoch: watch::Sender<(u64, u64)>,
    outcomes: Mutex<PolicyOutcomes>,
    /// Workloads in quarantine.
    held: Mutex<HeldList>,
    /// Policies that are judged beside the one in force.
    candidates: Candidates,
    /// Held while somebody's change is under way; whoever comes second is refused.
    changing: tokio::sync::Mutex<()>,
    /// Held while anything is published, this process's own restoring too; whoever comes second
    /// waits.
    busy: tokio::sync::Mutex<()>,
    /// Links whose policy was compared with the wanted one.
    compared_links: watch::Sender<u64>,
    /// When `watch` has to act by itself.
    due: watch::Sender<Option<Instant>>,
}

/// A policy text that can be published.
struct Prepared {
    in_force: InForce,
    record: PolicyRecord,
    /// What became of the text before it was published.
    notes: Vec<ErrorDetail>,
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Storage, error.to_string())
    }
}

/// Whether `wanted`, or its first digits, is this revision.
fn same_revision(wanted: &str, revision: &str) -> Result<(), ApiError> {
    let hexadecimal = wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if wanted.len() < REVISION_DIGITS_MIN || !hexadecimal {
        let message = format!(
            "`{wanted}` names no revision: give at least {REVISION_DIGITS_MIN} of its hexadecimal \
             digits"
        );
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    if revision.starts_with(&wanted.to_ascii_lowercase()) {
        return Ok(());
    }
    let in_force = match revision.get(..SHOWN_DIGITS) {
        Some(digits) => format!("revision {digits} is in force"),
        None => "no policy is in force".to_owned(),
    };
    let message = format!(
        "{in_force}, not {wanted}: somebody else changed it; see `ringfence policy log`, then decide \
         anew"
    );
    Err(ApiError::new(ErrorCode::Conflict, message))
}

/// Whether an answer is a judgement of the request, which the log keeps. That another change is
/// under way or that the dataplane is away says nothing about it.
const fn is_judged(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidPolicy
            | ErrorCode::InvariantBroken
            | ErrorCode::Conflict
            | ErrorCode::NotReady
    )
}

/// The text of a record, whole, and that it is there.
fn stored_text(store: &Store, revision: &str) -> Result<String, ApiError> {
    store.text(revision)?.ok_or_else(|| {
        let message = format!("the text of revision {revision} is gone");
        ApiError::new(ErrorCode::NotFound, message)
    })
}

fn read_back(
    store: &Store,
    record: &PolicyRecord,
    press: &mut Press,
) -> Result<(InForce, Sources), ApiError> {
    let text = stored_text(store, &record.revision)?;
    let sources = Sources::stored(store, &record.inventory)?;
    let in_force = press.compile(&text, &record.file_name, record.epoch, &sources)?;
    Ok((in_force, sources))
}

impl PolicyService {
    /// Opens the state directory and reads what was in force. Publishes nothing yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        config: &Config,
        registry: Arc<Registry>,
        dataplane: Arc<Dataplane>,
        link: Link,
        candidates: Candidates,
    ) -> Result<Self, StoreError> {
        let store = Store::open(&config.control.state_dir)?;
        let mut current = Current {
            last_epoch: store.last_epoch()?,
            ..Current::default()
        };
        let held = HeldList::new(store.quarantines(), now_ns(), Instant::now());
        let mut press = Press::default();
        let mut sources = Sources::default();
        for (epoch, image) in store.images(EPOCHS_MAX)? {
            match acl::PolicyImage::check(image) {
                Ok(image) => registry.insert(Arc::new(Dictionary::new(Arc::new(image)))),
                Err(error) => tracing::warn!(epoch, %error, "an old image cannot be read"),
            }
        }
        if let Some(record) = store.current()? {
            current.last_epoch = current.last_epoch.max(record.epoch);
            // Valid when it was adopted, so what the dataplane has stays in force.
            match read_back(&store, &record, &mut press) {
                Ok((in_force, stored)) => {
                    current.in_force = Some(in_force);
                    sources = stored;
                }
                Err(error) => {
                    tracing::error!(%error, "the stored policy cannot be used");
                    current.unusable = Some(error.message);
                }
            }
            current.state = Some(PolicyState::Waiting);
            current.revert.set(&record, now_ns(), Instant::now());
            current.record = record;
        }
        let service = Self {
            store: Mutex::new(store),
            registry,
            dataplane,
            link,
            adopt_timeout: config.policy.adopt_timeout.0,
            first_file: Mutex::new(config.policy.file.clone()),
            current: Mutex::new(current),
            press: Arc::new(Mutex::new(press)),
            sources: Mutex::new(Arc::new(sources)),
            adopted_epoch: watch::Sender::new((0, 0)),
            outcomes: Mutex::default(),
            held: Mutex::new(held),
            candidates,
            changing: tokio::sync::Mutex::new(()),
            busy: tokio::sync::Mutex::new(()),
            compared_links: watch::Sender::new(0),
            due: watch::Sender::new(None),
        };
        service.restore_candidates();
        service.wake();
        Ok(service)
    }

    /// What is in force, compiled; none where there is none or its text is not known here.
    #[must_use]
    pub fn in_force(&self) -> Option<InForce> {
        lock(&self.current).in_force.clone()
    }

    /// Why the stored text of the policy cannot be published again, where it cannot.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        lock(&self.current).unusable.clone()
    }

    /// Gives the state directory back, when this process stops.
    pub fn close(&self) {
        self.keep_counts();
        lock(&self.store).unlock();
    }

    /// How often changes ended how.
    #[must_use]
    pub fn outcomes(&self) -> PolicyOutcomes {
        *lock(&self.outcomes)
    }

    /// Checks a text without publishing it.
    ///
    /// # Errors
    /// The check itself failed; a policy that is not valid is an answer.
    pub async fn check(&self, text: String, file: String) -> Result<CheckResult, ApiError> {
        let sources = self.sources();
        tokio::task::spawn_blocking(move || check::check_with(&text, &file, &sources))
            .await
            .unwrap_or_else(|e| Err(ApiError::new(ErrorCode::Internal, e.to_string())))
    }

    /// Compiles a text, puts it on disk, publishes it and waits until every core has adopted it.
    ///
    /// # Errors
    /// Everything but adoption; the policy that was in force then stays in force, unless the answer
    /// says that it is not known.
    pub async fn apply(
        &self,
        text: String,
        change: Change,
        terms: &Terms,
    ) -> Result<ApplyResult, ApiError> {
        let began = Instant::now();
        change.check()?;
        let _changing = self.one_at_a_time()?;
        self.compared().await;
        let _busy = self.busy.lock().await;
        let revision = policy::Revision::of(&text).to_string();
        let applied = self.apply_on(text, change.clone(), terms).await;
        let mut result = applied.inspect_err(|e| self.note_refused(&change, &revision, e))?;
        result.enforcement_us = micros(began.elapsed());
        Ok(result)
    }

    async fn apply_on(
        &self,
        text: String,
        change: Change,
        terms: &Terms,
    ) -> Result<ApplyResult, ApiError> {
        if let Some(wanted) = &terms.if_revision {
            same_revision(wanted, &lock(&self.current).record.revision)?;
        }
        // Going back is always possible: that it is wanted is what a confirmation waits for.
        if change.kind != Some(PolicyChange::Rollback) {
            self.nothing_may_wait()?;
        }
        let confirmation = match terms.confirm_s {
            None => None,
            Some(confirm_s) => Some(self.fallback(confirm::window(confirm_s)?)?),
        };
        self.publish(text, change, None, confirmation).await
    }

    /// Keeps in the log that a change was judged and refused.
    fn note_refused(&self, change: &Change, revision: &str, error: &ApiError) {
        if is_judged(error.code) {
            let record = PolicyRecord {
                revision: revision.to_owned(),
                ..PolicyRecord::default()
            };
            self.log(&record, change, Outcome::Refused, &error.message, None);
        }
    }

    /// Whoever comes while another change is under way is refused.
    fn one_at_a_time(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, ApiError> {
        self.changing.try_lock().map_err(|_| {
            let message = "another change of policy is under way; try again when it has ended";
            ApiError::new(ErrorCode::Busy, message)
        })
    }

    /// Waits until what the present link told is compared with the wanted policy: a change before
    /// that would be taken for what the dataplane should not have.
    async fn compared(&self) {
        let links = self.dataplane.links();
        let mut compared = self.compared_links.subscribe();
        // The sender lives as long as the service.
        let _ = compared.wait_for(|compared| *compared >= links).await;
    }

    /// Publishes a text; where it is to be in force `again`, its record stays as it was but for
    /// the epoch. It reverts where there is a `confirmation` to wait for. The caller holds `busy`.
    async fn publish(
        &self,
        text: String,
        mut change: Change,
        again: Option<PolicyRecord>,
        confirmation: Option<Confirmation>,
    ) -> Result<ApplyResult, ApiError> {
        let carried = match &again {
            // As it was in force; what is held is compared with it at the next link.
            Some(_) => Carried::plain(text),
            None => self.carried(text, change.file_name.clone()).await?,
        };
        let Carried { text, mut notes } = carried;
        let epoch = lock(&self.current).last_epoch + 1;
        let press = Arc::clone(&self.press);
        let file = change.file_name.clone();
        let in_force = compile_aside(press, text, file, epoch, self.sources()).await?;
        if again.is_none() {
            notes.extend(self.hold_to_invariants(&in_force, &mut change).await?);
        }
        if !self.dataplane.is_connected() {
            let message = PublishError::NoDataplane.to_string();
            return Err(ApiError::new(ErrorCode::NoDataplane, message));
        }
        let mut record = again.unwrap_or_else(|| PolicyRecord {
            revision: in_force.valid.revision.to_string(),
            file_name: change.file_name.clone(),
            author: change.author.clone(),
            note: change.note.clone(),
            applied_ns: now_ns(),
            confirmation,
            ..PolicyRecord::default()
        });
        record.epoch = epoch;
        record.image_hash = hash_hex(&in_force.compiled.image.bytes());
        record.inventory = self.keep_inventory(&in_force.members)?;
        let prepared = Prepared {
            in_force,
            record,
            notes,
        };
        if let Err(error) = self.prepare(&prepared) {
            lock(&self.outcomes).storage_errors += 1;
            lock(&self.store).abandon(epoch);
            return Err(error.into());
        }
        let image = Arc::clone(&prepared.in_force.compiled.image);
        let answer = tokio::time::timeout(self.adopt_timeout, self.link.publish(image)).await;
        self.conclude(prepared, &change, answer.ok())
    }

    fn prepare(&self, prepared: &Prepared) -> Result<(), StoreError> {
        let image = &prepared.in_force.compiled.image;
        lock(&self.store).prepare(&prepared.record, &prepared.in_force.text, &image.bytes())?;
        // Names before the image: the first record of the new epoch may come at once.
        let newest = self.registry.names().newest().cloned();
        let names = Dictionary::after(Arc::clone(image), newest.as_deref());
        self.registry.insert(Arc::new(names));
        let mut current = lock(&self.current);
        current.last_epoch = prepared.record.epoch;
        current.state = Some(PolicyState::Publishing);
        Ok(())
    }

    /// Writes down how a publication ended.
    fn conclude(
        &self,
        prepared: Prepared,
        change: &Change,
        answer: Option<Result<Adoption, PublishError>>,
    ) -> Result<ApplyResult, ApiError> {
        let epoch = prepared.record.epoch;
        match answer {
            Some(Ok(adoption)) => self.adopted(prepared, change, Some(adoption)),
            Some(Err(error @ (PublishError::Refused { .. } | PublishError::Encode(_)))) => {
                lock(&self.outcomes).refused += 1;
                self.registry.remove(epoch);
                lock(&self.store).abandon(epoch);
                self.settle(Some(error.to_string()));
                self.log(
                    &prepared.record,
                    change,
                    Outcome::Refused,
                    &error.to_string(),
                    None,
                );
                Err(ApiError::new(ErrorCode::Refused, error.to_string()))
            }
            // Not known: what is prepared stays, and the next link says whether it is in force.
            Some(Err(error)) => {
                lock(&self.outcomes).disconnected += 1;
                self.settle(None);
                let message = error.to_string();
                self.log(
                    &prepared.record,
                    change,
                    Outcome::Disconnected,
                    &message,
                    None,
                );
                Err(ApiError::new(ErrorCode::NoDataplane, message))
            }
            None => {
                lock(&self.outcomes).timeout += 1;
                self.settle(None);
                let message = format!(
                    "the dataplane did not answer within {} s; it may still adopt the policy, see \
                     `ringfence policy show`",
                    self.adopt_timeout.as_secs()
                );
                self.log(&prepared.record, change, Outcome::Timeout, &message, None);
                Err(ApiError::new(ErrorCode::Timeout, message))
            }
        }
    }

    /// The state after a publication that did not end in adoption.
    fn settle(&self, refused: Option<String>) {
        let mut current = lock(&self.current);
        let has_one = current.record.epoch != 0;
        current.state = Some(match (&refused, has_one) {
            (Some(_), _) => PolicyState::Refused,
            (None, true) => PolicyState::Waiting,
            (None, false) => PolicyState::None,
        });
        current.refused = refused;
    }

    fn adopted(
        &self,
        prepared: Prepared,
        change: &Change,
        adoption: Option<Adoption>,
    ) -> Result<ApplyResult, ApiError> {
        // It is in force whatever the disk says now: only the name of a file is left to change.
        if let Err(error) = lock(&self.store).commit() {
            lock(&self.outcomes).storage_errors += 1;
            tracing::error!(%error, "the adopted policy is not marked as current");
        }
        let adoption_us = adoption.map(|a| a.adoption_ns / 1000);
        self.log(&prepared.record, change, Outcome::Adopted, "", adoption_us);
        if let Err(error) = lock(&self.store).images(EPOCHS_MAX) {
            tracing::warn!(%error, "old images were not removed");
        }
        lock(&self.outcomes).adopted += 1;
        let Prepared {
            in_force,
            record,
            notes,
        } = prepared;
        let mut current = lock(&self.current);
        let before = current.in_force.as_ref();
        let mut warned = notes;
        warned.extend(warnings(&in_force.valid));
        warned.extend(before.and_then(|f| no_longer_enforces(&f.valid, &in_force.valid)));
        let previous = std::mem::replace(&mut current.record, record);
        let mut result = ApplyResult {
            revision: current.record.revision.clone(),
            epoch: current.record.epoch,
            previous_revision: (!previous.revision.is_empty()).then_some(previous.revision),
            workers: adoption.map_or(0, |a| a.workers),
            compile_us: in_force.compile_us,
            memberships_only: in_force.compiled.tables_kept,
            preparation_us: adoption.map_or(0, |a| a.preparation_ns / 1000),
            adoption_us: adoption_us.unwrap_or(0),
            // Known to whoever asked for it.
            enforcement_us: 0,
            unconfirmed: None,
            warnings: warned,
            counts: counts(&in_force),
        };
        tracing::info!(epoch = result.epoch, revision = %result.revision, "policy adopted");
        current.state = Some(PolicyState::Adopted);
        current.adopted_link = adoption.map_or(current.adopted_link, |a| a.link);
        current.refused = None;
        current.unusable = None;
        current.adoption_us = adoption_us;
        current.in_force = Some(in_force);
        let Current { record, revert, .. } = &mut *current;
        revert.set(record, now_ns(), Instant::now());
        result.unconfirmed = current.unconfirmed();
        drop(current);
        self.wake();
        self.adopted_epoch.send_replace((result.epoch, now_ns()));
        Ok(result)
    }

    fn log(
        &self,
        record: &PolicyRecord,
        change: &Change,
        outcome: Outcome,
        message: &str,
        adoption_us: Option<u64>,
    ) {
        let entry = PolicyLogEntry {
            ts: Ts(now_ns()),
            change: change.kind.unwrap_or(PolicyChange::Apply),
            revision: record.revision.clone(),
            epoch: record.epoch,
            outcome,
            message: message.to_owned(),
            author: change.author.clone(),
            note: change.note.clone(),
            file_name: change.file_name.clone(),
            inventory: record.inventory.clone(),
            adoption_us,
            peer: change.peer.clone(),
            // The log numbers and seals it.
            seq: 0,
            previous_hash: String::new(),
            hash: String::new(),
        };
        if let Err(error) = lock(&self.store).log().append(&entry) {
            lock(&self.outcomes).storage_errors += 1;
            tracing::error!(%error, epoch = record.epoch, "a change of policy is not in the log");
        }
    }

    /// What is in force.
    #[must_use]
    pub fn show(&self) -> PolicyInForce {
        let view = self.dataplane.view();
        let current = lock(&self.current);
        let record = &current.record;
        let in_force = current.in_force.as_ref();
        // A policy that only the dataplane remembers: it knows since when its cores have it.
        let adopted = view.cores.iter().filter(|c| c.policy_epoch == record.epoch);
        let adopted_ns = adopted.map(|c| c.policy_adopted_ns).max();
        let since_ns = Some(record.applied_ns).filter(|ns| *ns > 0).or(adopted_ns);
        PolicyInForce {
            state: self.state_of(&current),
            revision: record.revision.clone(),
            epoch: record.epoch,
            worker_epochs: view.cores.iter().map(|c| c.policy_epoch).collect(),
            adopted_ts: since_ns.filter(|ns| *ns > 0 && record.epoch > 0).map(Ts),
            adoption_us: current.adoption_us,
            refused: current.refused.clone(),
            unconfirmed: current.unconfirmed(),
            file_name: record.file_name.clone(),
            author: record.author.clone(),
            note: record.note.clone(),
            counts: in_force.map_or_else(PolicyCounts::default, counts),
            text: in_force.map_or_else(String::new, |f| f.text.to_string()),
        }
    }

    fn state_of(&self, current: &Current) -> PolicyState {
        match current.state {
            None => PolicyState::None,
            Some(PolicyState::Adopted) if !self.dataplane.is_connected() => PolicyState::Waiting,
            Some(state) => state,
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

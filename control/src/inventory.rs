//! Membership that moves: watches inventories, asks DNS, and publishes what changed.
//!
//! One task owns files and names. Changes that come close together are published as one: the policy
//! in force, the same revision, under a new epoch. What was good stays in force until something
//! better is known: a file with an error, a name that cannot be resolved change nothing.

mod dns;
mod files;
mod resolver;

use crate::app::App;
use crate::clock::now_ns;
use crate::flow::address;
use crate::recent::Snapshot;
use abi::record::RecordKind;
use api::Ts;
use api::inventory::{Inventory, Overridden};
use api::status::{Check, CheckState};
use dns::{Answer, Names};
use files::Watched;
use policy::Resolved;
use resolver::Asker;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// DNS names asked about at once; further ones wait.
const QUESTIONS_MAX: usize = 32;
/// Wait before what could not be published is tried again; doubles up to [`RETRY_MAX_NS`].
const RETRY_MIN_NS: u64 = 1_000_000_000;
const RETRY_MAX_NS: u64 = 30_000_000_000;
/// A flow of which no end was told counts as alive so long after its last packet, at most.
const UNENDED_NS: u64 = 2 * 3600 * 1_000_000_000;
/// Causes that the note of a change names.
const CAUSES_MAX: usize = 4;
/// Longest sleep, so that a clock that was set back is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// What is known of inventories and names, for answers.
#[derive(Debug)]
pub struct InventoryService {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As they are told.
    files: Vec<api::inventory::InventoryFile>,
    names: Names,
    waiting: Option<String>,
    moves: u64,
    moved_ns: u64,
}

/// What has changed and is not published yet.
#[derive(Debug, Default)]
struct Pending {
    /// When it is published; none where there is nothing.
    due_ns: Option<u64>,
    retry_ns: u64,
    causes: Vec<String>,
}

impl Pending {
    fn add(&mut self, cause: String, now_ns: u64, settle_ns: u64) {
        self.due_ns.get_or_insert(now_ns.saturating_add(settle_ns));
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    fn note(&self) -> String {
        let told = self.causes.len().min(CAUSES_MAX);
        let rest = match self.causes.len() - told {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        format!("{}{rest}", self.causes[..told].join(", "))
    }
}

impl InventoryService {
    /// Reads nothing yet. `known` is what DNS names stood for before.
    #[must_use]
    pub fn new(config: &crate::config::InventoryConfig, known: &Resolved) -> Self {
        let state = State {
            files: told(&watched(config)),
            names: Names::new(config.dns.clone(), known),
            waiting: None,
            moves: 0,
            moved_ns: 0,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watched(config: &crate::config::InventoryConfig) -> Vec<Watched> {
    config.files.iter().cloned().map(Watched::new).collect()
}

fn told(files: &[Watched]) -> Vec<api::inventory::InventoryFile> {
    files.iter().map(Watched::state).collect()
}

/// Keeps the members of the policy in force as files and DNS say, until it is stopped.
pub async fn keep(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut adoptions = app.policy.adoptions();
    let mut keeper = Keeper {
        asker: Asker::new(&app.config.inventory.dns),
        files: watched(&app.config.inventory),
        questions: JoinSet::new(),
        next_look_ns: 0,
        pending: Pending::default(),
        app,
    };
    keeper.check_names();
    loop {
        keeper.look().await;
        keeper.ask();
        keeper.take_names();
        keeper.publish().await;
        let sleep = keeper.sleep();
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(sleep) => {}
            Some(answered) = keeper.questions.join_next() => keeper.answered(answered),
            changed = adoptions.changed() => {
                if changed.is_err() {
                    return;
                }
                keeper.adopted();
            }
        }
    }
}

/// The task's own part.
struct Keeper {
    app: Arc<App>,
    files: Vec<Watched>,
    asker: Asker,
    questions: JoinSet<(String, Answer)>,
    next_look_ns: u64,
    pending: Pending,
}

impl Keeper {
    /// Looks at the files where it is time, and takes them where one has changed.
    async fn look(&mut self) {
        let now = now_ns();
        if now < self.next_look_ns {
            return;
        }
        self.next_look_ns = now.saturating_add(self.app.config.inventory.look_interval.ns());
        let mut files = std::mem::take(&mut self.files);
        let looked = tokio::task::spawn_blocking(move || {
            let changed: Vec<bool> = files.iter_mut().map(Watched::look).collect();
            (files, changed)
        });
        let Ok((files, changed)) = looked.await else {
            // Only a defect ends the look; the files are read anew.
            self.files = watched(&self.app.config.inventory);
            return;
        };
        self.files = files;
        if changed.contains(&true) {
            self.take_files(&changed);
        }
        self.app.inventory.state().files = told(&self.files);
    }

    /// Takes the files as they were good last, once each has been good.
    fn take_files(&mut self, changed: &[bool]) {
        let good: Option<Vec<_>> = self.files.iter().map(|file| file.good().cloned()).collect();
        let Some(good) = good else {
            // Until then what was in force when this process ended stays.
            return;
        };
        let conflicts = match self.app.policy.set_files(good) {
            Ok(()) => Vec::new(),
            Err(error) => error.files,
        };
        self.files
            .iter_mut()
            .for_each(|file| file.set_conflicts(&conflicts));
        if conflicts.is_empty() {
            let files = self
                .files
                .iter()
                .zip(changed)
                .filter(|(_, changed)| **changed);
            let causes: Vec<String> = files.map(|(file, _)| file.state().file).collect();
            let settle_ns = self.app.config.inventory.settle.ns();
            for file in causes {
                self.pending
                    .add(format!("{file} changed"), now_ns(), settle_ns);
            }
            self.check_names();
        }
    }

    /// The names that workloads have now.
    fn check_names(&self) {
        let names: BTreeSet<String> = self.app.policy.dns_names();
        self.app.inventory.state().names.want(&names);
    }

    /// Asks what is due.
    fn ask(&mut self) {
        let room = QUESTIONS_MAX.saturating_sub(self.questions.len());
        let due = self.app.inventory.state().names.due(now_ns(), room);
        for name in due {
            let asker = self.asker.clone();
            self.questions.spawn(async move {
                let answer = asker.ask(&name).await;
                (name, answer)
            });
        }
    }

    fn answered(&mut self, answered: Result<(String, Answer), tokio::task::JoinError>) {
        let mut state = self.app.inventory.state();
        match answered {
            Ok((name, answer)) => state.names.answered(&name, answer, now_ns()),
            Err(error) => tracing::error!(%error, "a question to DNS has failed"),
        }
    }

    /// Lets old addresses go, and takes what names stand for now.
    fn take_names(&mut self) {
        let now = now_ns();
        let grace_ns = self.app.config.inventory.dns.flow_grace.ns();
        let recent = &self.app.recent;
        let mut state = self.app.inventory.state();
        state
            .names
            .expire(now, |asked| live(&recent.snapshot(), asked, now, grace_ns));
        let resolved = state.names.resolved();
        drop(state);
        let before = self.app.policy.resolved();
        if resolved == before {
            return;
        }
        let settle_ns = self.app.config.inventory.settle.ns();
        let names = before.keys().chain(resolved.keys());
        let moved: BTreeSet<&String> = names
            .filter(|name| before.get(*name) != resolved.get(*name))
            .collect();
        for name in moved {
            self.pending.add(format!("{name} moved"), now, settle_ns);
        }
        self.app.policy.set_resolved(resolved);
    }

    /// Publishes what has changed, once it has settled.
    async fn publish(&mut self) {
        let now = now_ns();
        if self.pending.due_ns.is_none_or(|due| due > now) {
            return;
        }
        let published = self.app.policy.publish_members(self.pending.note()).await;
        let mut state = self.app.inventory.state();
        match published {
            Ok(moved) => {
                state.waiting = None;
                if moved.is_some() {
                    state.moves += 1;
                    state.moved_ns = now_ns();
                }
                self.pending = Pending::default();
            }
            Err(error) => {
                let wait_ns = self.pending.retry_ns.clamp(RETRY_MIN_NS, RETRY_MAX_NS);
                tracing::warn!(%error, "a change of members is not in force");
                state.waiting = Some(error.message);
                self.pending.retry_ns = wait_ns * 2;
                self.pending.due_ns = Some(now_ns().saturating_add(wait_ns));
            }
        }
    }

    /// Another policy is in force: other names, and perhaps no conflict any more.
    fn adopted(&mut self) {
        self.check_names();
        let conflict = |file: &Watched| !file.state().errors.is_empty();
        let files: Vec<bool> = self.files.iter().map(conflict).collect();
        if files.contains(&true) {
            self.take_files(&files);
            self.app.inventory.state().files = told(&self.files);
        }
    }

    fn sleep(&self) -> Duration {
        let has_files = !self.app.config.inventory.files.is_empty();
        let asks = self.app.inventory.state().names.next_ns();
        // With as many questions under way as there may be, the next answer wakes.
        let asks = asks.filter(|_| self.questions.len() < QUESTIONS_MAX);
        let next = has_files
            .then_some(self.next_look_ns)
            .into_iter()
            .chain(self.pending.due_ns)
            .chain(asks)
            .min();
        let sleep = next.map_or(SLEEP_MAX, |next| {
            Duration::from_nanos(next.saturating_sub(now_ns()))
        });
        sleep.min(SLEEP_MAX)
    }
}

/// Which of some addresses flows need: a flow that has not ended, or whose last packet was a short
/// time ago. Denied flows need nothing.
fn live(recent: &Snapshot, asked: &HashSet<IpAddr>, now_ns: u64, grace_ns: u64) -> HashSet<IpAddr> {
    let mut live = HashSet::new();
    let mut seen = HashSet::new();
    for stored in recent.iter().rev() {
        let record = &stored.record;
        let kind = RecordKind::from_byte(record.kind);
        let permits = abi::Action::from_byte(record.enforced).is_some_and(abi::Action::permits);
        let is_newest = seen.insert(record.flow_id);
        if !permits || !is_newest || live.len() == asked.len() {
            continue;
        }
        let stays_ns = match kind {
            Some(RecordKind::Update) => UNENDED_NS.max(grace_ns),
            _ => grace_ns,
        };
        if record.last_ns.saturating_add(stays_ns) < now_ns {
            continue;
        }
        let ends = [address(record.src), address(record.dst)];
        live.extend(ends.into_iter().filter(|end| asked.contains(end)));
    }
    live
}

impl App {
    /// `GET /v1/inventory`.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let in_force = self.policy.in_force();
        let members = in_force.as_ref().map(|f| (&f.valid, &f.members));
        let added = members.map_or(0, |(valid, m)| valid.workloads.len() - m.own_count);
        let overridden = members.iter().flat_map(|(_, m)| m.overridden.iter());
        let overridden = overridden
            .map(|o| Overridden {
                workload: o.workload.clone(),
                file: o.file.clone(),
                line: o.line,
            })
            .collect();
        let state = self.inventory.state();
        Inventory {
            files: state.files.clone(),
            names: state.names.state(now_ns()),
            workloads: added as u64,
            overridden,
            waiting: state.waiting.clone(),
            moves: state.moves,
            moved_ts: (state.moved_ns != 0).then_some(Ts(state.moved_ns)),
        }
    }

    /// The doctor's look at inventories; nothing where there are none.
    #[must_use]
    pub fn check_inventory(&self) -> Option<Check> {
        let inventory = self.inventory();
        if inventory.files.is_empty() && inventory.names.is_empty() {
            return None;
        }
        let wrong: Vec<&str> = inventory
            .files
            .iter()
            .filter(|file| !file.errors.is_empty())
            .map(|file| file.file.as_str())
            .collect();
        let unresolved: Vec<&str> = inventory
            .names
            .iter()
            .filter(|name| name.error.is_some())
            .map(|name| name.name.as_str())
            .collect();
        let counted = crate::answers::counted;
        let (state, what) = if let Some(why) = &inventory.waiting {
            (
                CheckState::Warning,
                format!("a change of members waits: {why}"),
            )
        } else if let Some(first) = wrong.first() {
            let files = counted(wrong.len() as u64, "inventory file");
            let what = format!("{files} with errors, {first} first; what was good stays in force");
            (CheckState::Warning, what)
        } else if let Some(first) = unresolved.first() {
            let names = counted(unresolved.len() as u64, "DNS name");
            let what = format!("{names} not resolved, {first} first; what was known is kept");
            (CheckState::Warning, what)
        } else {
            let what = format!(
                "{} from {}, {}",
                counted(inventory.workloads, "workload"),
                counted(inventory.files.len() as u64, "file"),
                counted(inventory.names.len() as u64, "DNS name")
            );
            (CheckState::Ok, what)
        };
        let mend = match state {
            CheckState::Ok => "",
            _ => "`ringfence workload inventory` says what is wrong and where",
        };
        Some(Check {
            name: "inventory".to_owned(),
            state,
            what,
            mend: mend.to_owned(),
        })
    }
}

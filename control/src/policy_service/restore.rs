//! After a restart of either side: does the dataplane have what it should have?

use super::confirm::until;
use super::members::Sources;
use super::store::{PolicyRecord, hash_hex, hex};
use super::{
    Change, InForce, LinkEvent, PolicyService, Prepared, compile_aside, lock, stored_text,
    today_days,
};
use crate::names::Dictionary;
use api::policy::{PolicyChange, PolicyState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often the date is looked at, for rules that expire.
const DATE_INTERVAL: Duration = Duration::from_secs(60);

impl PolicyService {
    /// Acts on what the link tells, for ever.
    pub async fn watch(self: Arc<Self>, mut events: mpsc::UnboundedReceiver<LinkEvent>) {
        let mut date = tokio::time::interval(DATE_INTERVAL);
        let mut due = self.due.subscribe();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    None => return,
                    Some(LinkEvent::InForce { link, epoch, image_hash }) => {
                        self.compare(link, epoch, hex(&image_hash)).await;
                        self.compared_links.send_replace(link);
                        self.act_at_once();
                    }
                    Some(LinkEvent::Image { epoch, image }) => self.learn_image(epoch, image),
                },
                _ = date.tick() => {
                    self.keep_counts();
                    self.expire().await;
                }
                () = until(&mut due) => self.act().await,
            }
        }
    }

    /// Compares what the dataplane had when the link came up with what it should have, and brings it there.
    async fn compare(&self, link: u64, epoch: u64, image_hash: String) {
        let _busy = self.busy.lock().await;
        let (wanted, is_older) = {
            let mut current = lock(&self.current);
            // Epochs rise across restarts of either side.
            current.last_epoch = current.last_epoch.max(epoch);
            (current.record.clone(), current.adopted_link == link)
        };
        if is_older {
            // What was due has been published over this link before what it told was looked at.
            return self.apply_first_file().await;
        }
        let has = |record: &PolicyRecord| record.epoch == epoch && record.image_hash == image_hash;
        let pending = lock(&self.store).pending().ok().flatten();
        if let Some(pending) = pending {
            if epoch != 0 && has(&pending) {
                self.adopt_pending(pending).await;
                return self.apply_first_file().await;
            }
            lock(&self.store).abandon(pending.epoch);
        }
        if wanted.epoch == 0 {
            if epoch == 0 {
                lock(&self.current).state = None;
            } else {
                // The dataplane kept a policy that this process has never seen: learn its names.
                self.link.request_image();
            }
        } else if has(&wanted) {
            let mut current = lock(&self.current);
            current.state = Some(PolicyState::Adopted);
        } else if lock(&self.current).revert.is_due(Instant::now()) {
            // Not confirmed in time: what comes back is published instead.
        } else {
            self.restore(&wanted, "the dataplane had another policy or none")
                .await;
        }
        self.apply_first_file().await;
    }

    /// Publishes again what should be in force. The caller holds `busy`.
    async fn restore(&self, wanted: &PolicyRecord, why: &str) {
        let text = match stored_text(&lock(&self.store), &wanted.revision) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "nothing is restored");
                lock(&self.current).unusable = Some(error.message);
                return;
            }
        };
        let change = Change {
            kind: Some(PolicyChange::Restore),
            file_name: wanted.file_name.clone(),
            author: "ringfence-control".to_owned(),
            note: why.to_owned(),
            peer: None,
            breaks: Vec::new(),
        };
        let again = Some(wanted.clone());
        if let Err(error) = self.publish(text, change, again, None).await {
            tracing::error!(%error, "the policy could not be restored");
        }
    }

    /// A publication whose answer was lost has been adopted after all.
    async fn adopt_pending(&self, record: PolicyRecord) {
        let text = match stored_text(&lock(&self.store), &record.revision) {
            Ok(text) => text,
            Err(error) => return tracing::error!(%error, "the adopted policy cannot be read back"),
        };
        let change = Change {
            kind: Some(PolicyChange::Apply),
            file_name: record.file_name.clone(),
            author: record.author.clone(),
            note: record.note.clone(),
            peer: None,
            breaks: Vec::new(),
        };
        let press = Arc::clone(&self.press);
        let sources = match Sources::stored(&lock(&self.store), &record.inventory) {
            Ok(sources) => Arc::new(sources),
            Err(error) => return tracing::error!(%error, "the adopted policy cannot be read back"),
        };
        let file = record.file_name.clone();
        match compile_aside(press, text, file, record.epoch, Arc::clone(&sources)).await {
            Ok(in_force) => {
                *lock(&self.sources) = sources;
                let adopted = self.adopted(
                    Prepared {
                        in_force,
                        record,
                        notes: Vec::new(),
                    },
                    &change,
                    None,
                );
                debug_assert!(adopted.is_ok(), "nothing in it can fail");
            }
            Err(error) => tracing::error!(%error, "the adopted policy cannot be read back"),
        }
    }

    /// The policy named in the configuration, once.
    async fn apply_first_file(&self) {
        let Some(path) = lock(&self.first_file).take() else {
            return;
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "policy.file cannot be read");
                return;
            }
        };
        let (revision, state) = {
            let current = lock(&self.current);
            (current.record.revision.clone(), current.state)
        };
        let same = policy::Revision::of(&text).to_string() == revision;
        if same && state == Some(PolicyState::Adopted) {
            return;
        }
        let change = Change {
            kind: Some(PolicyChange::Start),
            file_name: path.display().to_string(),
            author: "ringfence-control".to_owned(),
            note: "policy.file of the configuration".to_owned(),
            peer: None,
            breaks: Vec::new(),
        };
        if let Err(error) = self.publish(text, change, None, None).await {
            tracing::error!(%error, details = ?error.details, "policy.file was not applied");
        }
    }

    /// Names of an image that only the dataplane had.
    fn learn_image(&self, epoch: u64, image: Vec<u8>) {
        if epoch == 0 {
            return;
        }
        let image_hash = hash_hex(&image);
        match acl::PolicyImage::check(image) {
            Ok(image) => {
                let revision = hex(image.revision());
                self.registry
                    .insert(Arc::new(Dictionary::new(Arc::new(image))));
                let mut current = lock(&self.current);
                current.state = Some(PolicyState::Adopted);
                current.record = PolicyRecord {
                    revision,
                    epoch,
                    image_hash,
                    note: "kept by the dataplane; its text is not known here".to_owned(),
                    ..PolicyRecord::default()
                };
            }
            Err(error) => tracing::error!(epoch, %error, "the dataplane's image cannot be read"),
        }
    }

    /// Compiles again on the day on which a rule expires.
    async fn expire(&self) {
        let due = |in_force: &InForce| {
            let day = in_force.compiled.image.next_expiry_day();
            day.is_some_and(|day| day <= today_days())
        };
        if !self.in_force().is_some_and(|f| due(&f)) || !self.dataplane.is_connected() {
            return;
        }
        let _busy = self.busy.lock().await;
        let record = lock(&self.current).record.clone();
        self.restore(&record, "a rule has expired").await;
    }
}

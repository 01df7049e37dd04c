//! The main thread's part of a policy's life: check the image, keep it for the next start, publish
//! it, wait until every core has adopted it.

use crate::adopt::{PublishError, Publisher};
use crate::policy_files::PolicyFiles;
use abi::link::{Message, RefusalCode};
use acl::{ImageError, PolicyImage};
use core::ops::Range;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long all cores may take to adopt an image.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(2);
/// How often the main thread asks meanwhile.
const ADOPTION_POLL: Duration = Duration::from_micros(20);

/// A policy as it comes from the control process.
#[derive(Debug)]
pub enum Arrived {
    /// A whole image.
    Image(Vec<u8>),
    /// A change of the image in force.
    Change(Vec<u8>),
}

/// The policy in force, as the main thread knows it.
#[derive(Debug)]
pub struct PolicyKeeper {
    publisher: Publisher,
    files: PolicyFiles,
    in_force: Option<Arc<PolicyImage>>,
    workers: u32,
    place: fn(&Range<*const u8>),
}

impl PolicyKeeper {
    /// A keeper without a policy. `place` may put a table of an image where cores read it faster,
    /// before any core sees it.
    #[must_use]
    pub fn new(
        publisher: Publisher,
        state_dir: &Path,
        workers: usize,
        place: fn(&Range<*const u8>),
    ) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        Self {
            publisher,
            files: PolicyFiles::new(state_dir),
            in_force: None,
            workers,
            place,
        }
    }

    /// Publishes the image kept by an earlier run, if there is one. An image that does not pass
    /// its check is set aside under another name and said so.
    pub fn restore(&mut self) {
        let path = self.files.image_path();
        let kept = match self.files.read() {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(error) => {
                return eprintln!(
                    "policy: {}: {error}; starting without a policy",
                    path.display()
                );
            }
        };
        match PolicyImage::check(kept.image) {
            Ok(image) => {
                let image = Arc::new(with_changes(image, &kept.changes));
                self.place_tables(&image);
                if self.publisher.publish(&image).is_ok() {
                    eprintln!(
                        "policy: epoch {} restored from {}",
                        image.epoch(),
                        path.display()
                    );
                    self.in_force = Some(image);
                }
            }
            Err(error) => {
                let aside = path.with_extension("image.refused");
                let _ = std::fs::rename(&path, &aside);
                eprintln!(
                    "policy: {}: {error}; set aside as {}, starting without a policy",
                    path.display(),
                    aside.display()
                );
            }
        }
    }

    /// What the control process is told about the policy in force.
    #[must_use]
    pub fn in_force(&self) -> Message {
        let hash = |image: &Arc<PolicyImage>| (image.epoch(), Sha256::digest(image.bytes()).into());
        let (epoch, image_hash) = self.in_force.as_ref().map_or((0, [0; 32]), hash);
        Message::PolicyInForce { epoch, image_hash }
    }

    /// The image in force.
    #[must_use]
    pub fn image(&self) -> Message {
        let (epoch, image) = self
            .in_force
            .as_ref()
            .map_or((0, Vec::new()), |i| (i.epoch(), i.bytes()));
        Message::Image { epoch, image }
    }

    /// Takes a policy from the control process through to adoption, or refuses it; whatever goes
    /// wrong, the policy in force stays. `elapsed` tells the time since it had arrived.
    pub fn publish(
        &mut self,
        epoch: u64,
        arrived: Arrived,
        elapsed: impl Fn() -> Duration,
    ) -> Message {
        match self.try_publish(epoch, arrived, &elapsed) {
            Ok((published, adopted)) => Message::Adopted {
                epoch,
                workers: self.workers,
                received_to_published_ns: nanos(published),
                published_to_adopted_ns: nanos(adopted.saturating_sub(published)),
            },
            Err((code, sentence)) => Message::Refused {
                epoch,
                code,
                sentence,
            },
        }
    }

    /// When the cores were told, and when the last one had adopted, since the image had arrived.
    fn try_publish(
        &mut self,
        epoch: u64,
        arrived: Arrived,
        elapsed: &impl Fn() -> Duration,
    ) -> Result<(Duration, Duration), (RefusalCode, String)> {
        let (image, change) = self.check(arrived).map_err(|error| {
            let code = match error {
                ImageError::Base { .. } => RefusalCode::UnknownBase,
                _ => RefusalCode::MalformedImage,
            };
            (code, error.to_string())
        })?;
        if image.epoch() != epoch {
            let sentence = format!(
                "the message says epoch {epoch}, the image {}; compile it again",
                image.epoch()
            );
            return Err((RefusalCode::MalformedImage, sentence));
        }
        let in_force = self.publisher.epoch();
        if epoch <= in_force {
            let sentence = PublishError::Stale { epoch, in_force }.to_string();
            return Err((RefusalCode::StaleEpoch, sentence));
        }
        self.place_tables(&image);
        let image = Arc::new(image);
        self.keep(&image, change.as_deref())?;
        let published = elapsed();
        if let Err(error) = self.publisher.publish(&image) {
            self.keep_again();
            return Err((RefusalCode::NotAdopted, error.to_string()));
        }
        self.in_force = Some(image);
        Ok((published, self.await_adoption(elapsed)?))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the main thread waits for the cores, never the other way round"
    )]
    fn await_adoption(
        &self,
        elapsed: &impl Fn() -> Duration,
    ) -> Result<Duration, (RefusalCode, String)> {
        let began = elapsed();
        while !self.publisher.is_adopted() {
            if elapsed().saturating_sub(began) > ADOPTION_PATIENCE {
                let sentence = format!(
                    "not every worker has adopted epoch {} within {} s; a core has stalled, and adopts when it goes on",
                    self.publisher.epoch(),
                    ADOPTION_PATIENCE.as_secs()
                );
                return Err((RefusalCode::NotAdopted, sentence));
            }
            std::thread::sleep(ADOPTION_POLL);
        }
        let took = elapsed();
        self.publisher.reclaim();
        Ok(took)
    }

    /// The checked image, and the change that made it of the one in force, if that is how it came.
    fn check(&self, arrived: Arrived) -> Result<(PolicyImage, Option<Vec<u8>>), ImageError> {
        match (arrived, &self.in_force) {
            (Arrived::Image(bytes), _) => Ok((PolicyImage::check(bytes)?, None)),
            (Arrived::Change(change), Some(base)) => {
                Ok((base.check_change(&change)?, Some(change)))
            }
            (Arrived::Change(_), None) => Err(ImageError::Base {
                base_epoch: 0,
                base_checksum: 0,
            }),
        }
    }

    /// Places the tables that the image in force does not have.
    fn place_tables(&self, image: &PolicyImage) {
        let placed = self.in_force.as_ref().map(|in_force| in_force.tables());
        for table in image.tables() {
            if placed.iter().flatten().all(|placed| *placed != table) {
                (self.place)(&table);
            }
        }
    }

    /// Keeps the image for the next start.
    fn keep(
        &mut self,
        image: &PolicyImage,
        change: Option<&[u8]>,
    ) -> Result<(), (RefusalCode, String)> {
        let kept = match change {
            Some(change) => self.files.keep_change(change, image),
            None => self.files.keep_image(image),
        };
        kept.map_err(|error: io::Error| {
            let sentence = format!(
                "{}: the policy could not be kept for the next start ({error}); free space there or give another dataplane.state_dir",
                self.files.dir().display()
            );
            (RefusalCode::NotKept, sentence)
        })
    }

    fn keep_again(&mut self) {
        if let Some(image) = self.in_force.clone()
            && let Err((_, sentence)) = self.keep(&image, None)
        {
            eprintln!("policy: {sentence}");
        }
    }
}

/// The image that a kept one became by the changes kept with it. What does not follow is left out and
/// said so: a change that was being written when the machine stopped, or one of an older image.
fn with_changes(mut image: PolicyImage, changes: &[Vec<u8>]) -> PolicyImage {
    for change in changes {
        match image.check_change(change) {
            Ok(changed) => image = changed,
            Err(error) => {
                eprintln!(
                    "policy: changes kept after epoch {}: {error}",
                    image.epoch()
                );
                break;
            }
        }
    }
    image
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! The main thread's part of a policy's life: check the image, keep it for the next start, publish
//! it, wait until every core has adopted it.

use crate::adopt::{PublishError, Publisher};
use abi::link::{Message, RefusalCode};
use acl::PolicyImage;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the kept image in the state directory.
pub const IMAGE_NAME: &str = "policy.image";
/// How long all cores may take to adopt an image.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(2);
/// How often the main thread asks meanwhile.
const ADOPTION_POLL: Duration = Duration::from_micros(20);

/// The policy in force, as the main thread knows it.
#[derive(Debug)]
pub struct PolicyKeeper {
    publisher: Publisher,
    state_dir: PathBuf,
    in_force: Option<Arc<PolicyImage>>,
    workers: u32,
    place: fn(&PolicyImage),
}

impl PolicyKeeper {
    /// A keeper without a policy. `place` may put the tables of an image where cores read them faster,
    /// before any core sees it.
    #[must_use]
    pub fn new(
        publisher: Publisher,
        state_dir: &Path,
        workers: usize,
        place: fn(&PolicyImage),
    ) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        Self {
            publisher,
            state_dir: state_dir.to_owned(),
            in_force: None,
            workers,
            place,
        }
    }

    /// Publishes the image kept by an earlier run, if there is one. An image that does not pass
    /// its check is set aside under another name and said so.
    pub fn restore(&mut self) {
        let path = self.state_dir.join(IMAGE_NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return eprintln!(
                    "policy: {}: {error}; starting without a policy",
                    path.display()
                );
            }
        };
        match PolicyImage::check(bytes) {
            Ok(image) => {
                (self.place)(&image);
                let image = Arc::new(image);
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
            .map_or((0, Vec::new()), |i| (i.epoch(), i.bytes().to_vec()));
        Message::Image { epoch, image }
    }

    /// Takes an image from the control process through to adoption, or refuses it; whatever goes
    /// wrong, the policy in force stays. `elapsed` tells the time since the image had arrived.
    pub fn publish(
        &mut self,
        epoch: u64,
        bytes: Vec<u8>,
        elapsed: impl Fn() -> Duration,
    ) -> Message {
        match self.try_publish(epoch, bytes, &elapsed) {
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
        bytes: Vec<u8>,
        elapsed: &impl Fn() -> Duration,
    ) -> Result<(Duration, Duration), (RefusalCode, String)> {
        let image =
            PolicyImage::check(bytes).map_err(|e| (RefusalCode::MalformedImage, e.to_string()))?;
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
        (self.place)(&image);
        let image = Arc::new(image);
        self.keep(image.bytes())?;
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

    /// Keeps the image for the next start: written beside, flushed, then renamed over the old one.
    fn keep(&self, bytes: &[u8]) -> Result<(), (RefusalCode, String)> {
        write_whole(&self.state_dir, bytes).map_err(|error| {
            let sentence = format!(
                "{}: the policy could not be kept for the next start ({error}); free space there or give another dataplane.state_dir",
                self.state_dir.display()
            );
            (RefusalCode::NotKept, sentence)
        })
    }

    fn keep_again(&self) {
        if let Some(image) = &self.in_force
            && let Err((_, sentence)) = self.keep(image.bytes())
        {
            eprintln!("policy: {sentence}");
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn write_whole(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let beside = dir.join("policy.image.new");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    std::fs::rename(&beside, dir.join(IMAGE_NAME))?;
    File::open(dir)?.sync_all()
}

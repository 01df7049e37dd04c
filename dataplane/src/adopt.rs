//! Policy images on their way to the cores, and back.
//!
//! The main thread checks an image and publishes it; every core adopts it between two bursts, with
//! no packet in hand; the image it had before goes back to the main thread, which alone frees it.
//!
//! | who | change | why |
//! |---|---|---|
//! | main | pushes the image into every mailbox | a core must find it when it sees the new epoch |
//! | main | then stores `published` | load-bearing order: the other way round a core would look into an empty mailbox |
//! | core | sees `published` differ, pops, swaps | the only moment when its verdicts change |
//! | core | pushes the old image into `retired`, then stores `adopted` | main may publish again when all have adopted, so `retired` has room |
//! | main | drains `retired` | freeing memory is not a core's work |
//!
//! Prohibited: a core dropping an image; main publishing before every core has adopted the one
//! before (a core that stalls delays the next publish, never another core).

use crate::limits::Limits;
use acl::PolicyImage;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Images under way to one core. One is in use, one may be waiting.
const MAILBOX_IMAGES_MAX: usize = 2;

/// A policy as one core holds it.
#[derive(Debug)]
struct Held {
    image: Arc<PolicyImage>,
    limits: Limits,
}

#[derive(Debug)]
struct Mailbox {
    incoming: ArrayQueue<Held>,
    retired: ArrayQueue<Held>,
    adopted: AtomicU64,
}

/// The main thread's end.
#[derive(Debug)]
pub struct Publisher {
    published: Arc<AtomicU64>,
    mailboxes: Vec<Arc<Mailbox>>,
}

/// One core's end.
#[derive(Debug)]
pub struct Subscriber {
    published: Arc<AtomicU64>,
    mailbox: Arc<Mailbox>,
    held: Option<Held>,
    epoch: u64,
}

/// Why an image was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Epochs only rise.
    #[error("epoch {epoch} is not above epoch {in_force} in force; publish with a higher epoch")]
    Stale {
        /// Of the refused image.
        epoch: u64,
        /// Of the image in force.
        in_force: u64,
    },
    /// A core has not come round since the last publish.
    #[error("worker {worker} has not adopted epoch {epoch} yet; the earlier policy stays in force")]
    Stalled {
        /// Index of the worker.
        worker: usize,
        /// What it has not adopted.
        epoch: u64,
    },
}

impl Publisher {
    /// A publisher and one subscriber for each of `workers` cores.
    #[must_use]
    pub fn new(workers: usize) -> (Self, Vec<Subscriber>) {
        let published = Arc::new(AtomicU64::new(0));
        let mailboxes: Vec<_> = (0..workers)
            .map(|_| {
                Arc::new(Mailbox {
                    incoming: ArrayQueue::new(MAILBOX_IMAGES_MAX),
                    retired: ArrayQueue::new(MAILBOX_IMAGES_MAX),
                    adopted: AtomicU64::new(0),
                })
            })
            .collect();
        let subscribers = mailboxes
            .iter()
            .map(|mailbox| Subscriber {
                published: Arc::clone(&published),
                mailbox: Arc::clone(mailbox),
                held: None,
                epoch: 0,
            })
            .collect();
        (
            Self {
                published,
                mailboxes,
            },
            subscribers,
        )
    }

    /// Hands a checked image to every core. Returns at once; ask [`Publisher::is_adopted`].
    ///
    /// # Errors
    /// The epoch does not rise, or a core has not adopted the image before.
    pub fn publish(&self, image: &Arc<PolicyImage>) -> Result<(), PublishError> {
        let in_force = self.published.load(Ordering::Relaxed);
        let epoch = image.epoch();
        if epoch <= in_force {
            return Err(PublishError::Stale { epoch, in_force });
        }
        if let Some(worker) = self.first_behind(in_force) {
            return Err(PublishError::Stalled {
                worker,
                epoch: in_force,
            });
        }
        self.reclaim();
        let (limits, workers) = (image.limits(), self.mailboxes.len() as u64);
        for (worker, mailbox) in self.mailboxes.iter().enumerate() {
            let held = Held {
                image: Arc::clone(image),
                limits: Limits::new(&limits, workers),
            };
            mailbox
                .incoming
                .push(held)
                .map_err(|_| PublishError::Stalled {
                    worker,
                    epoch: in_force,
                })?;
        }
        // Release: pairs with the Acquire in `Subscriber::adopt`. After the pushes: see the module.
        self.published.store(epoch, Ordering::Release);
        Ok(())
    }

    /// Whether every core has adopted the image published last.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.first_behind(self.published.load(Ordering::Relaxed))
            .is_none()
    }

    /// Epoch of the image published last, 0 none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Frees the images that cores have handed back.
    pub fn reclaim(&self) {
        for mailbox in &self.mailboxes {
            while mailbox.retired.pop().is_some() {}
        }
    }

    fn first_behind(&self, epoch: u64) -> Option<usize> {
        // Acquire: pairs with the Release in `Subscriber::adopt`; what was retired is then visible.
        self.mailboxes
            .iter()
            .position(|m| m.adopted.load(Ordering::Acquire) != epoch)
    }
}

impl Subscriber {
    /// Adopts a published image, if there is one. Called between bursts; says whether it changed.
    #[inline]
    pub fn adopt(&mut self) -> bool {
        // Acquire: pairs with the Release in `Publisher::publish`.
        if self.published.load(Ordering::Acquire) == self.epoch {
            return false;
        }
        self.swap()
    }

    #[cold]
    fn swap(&mut self) -> bool {
        let Some(mut held) = self.mailbox.incoming.pop() else {
            return false;
        };
        if let Some(old) = &self.held {
            held.limits.inherit(&old.limits);
        }
        self.epoch = held.image.epoch();
        if let Some(old) = self.held.replace(held)
            && let Err(old) = self.mailbox.retired.push(old)
        {
            // `retired` always has room (see the module). If it had not, leaking one image is
            // better than freeing memory on a polling core.
            core::mem::forget(old);
        }
        self.mailbox.adopted.store(self.epoch, Ordering::Release);
        true
    }

    /// The image in force on this core.
    #[inline]
    #[must_use]
    pub fn image(&self) -> Option<&PolicyImage> {
        self.held.as_ref().map(|held| &*held.image)
    }

    /// The limits of the image in force on this core.
    #[inline]
    pub fn limits_mut(&mut self) -> Option<&mut Limits> {
        self.held.as_mut().map(|held| &mut held.limits)
    }

    /// Epoch of the image in force on this core, 0 none.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a newer policy than this core's has been published already.
    #[inline]
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        // Relaxed: only counted, nothing is read on the strength of it.
        self.published.load(Ordering::Relaxed) != self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_adopted_before_something_is_published() {
        let (publisher, mut subscribers) = Publisher::new(2);
        assert!(publisher.is_adopted() && publisher.epoch() == 0);
        for subscriber in &mut subscribers {
            assert!(
                !subscriber.adopt() && subscriber.image().is_none() && !subscriber.is_superseded()
            );
        }
    }
}

//! Publish and adopt between threads: order, refusals, and who frees what.

use abi::link::{Message, RefusalCode};
use acl::PolicyImage;
use dataplane::adopt::{PublishError, Publisher};
use dataplane::policy_keeper::{Arrived, PolicyKeeper};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn image(epoch: u64) -> Arc<PolicyImage> {
    let today = jiff::civil::date(2026, 11, 22);
    let valid = policy::load(
        &crate::rig::SHOP.replace("MODE", "enforce"),
        "test.toml",
        today,
    )
    .expect("valid");
    policy::compile(&valid, epoch, today)
        .expect("compiled")
        .image
}

#[test]
fn epochs_only_rise_and_no_image_overtakes_another() {
    let (publisher, mut subscribers) = Publisher::new(2);
    publisher.publish(&image(5)).expect("published");
    assert_eq!(
        publisher.publish(&image(5)),
        Err(PublishError::Stale {
            epoch: 5,
            in_force: 5
        })
    );
    assert!(subscribers[0].adopt());
    assert!(!publisher.is_adopted());
    assert_eq!(
        publisher.publish(&image(6)),
        Err(PublishError::Stalled {
            worker: 1,
            epoch: 5
        })
    );
    assert!(subscribers[1].adopt() && publisher.is_adopted());
    publisher.publish(&image(6)).expect("published");
    assert!(
        subscribers[0].is_superseded() && subscribers[0].adopt() && !subscribers[0].is_superseded()
    );
    assert_eq!(subscribers[0].epoch(), 6);
}

#[test]
fn a_retired_image_is_freed_by_the_publisher_only() {
    let (publisher, mut subscribers) = Publisher::new(1);
    let first = image(1);
    publisher.publish(&first).expect("published");
    assert!(subscribers[0].adopt());
    publisher.publish(&image(2)).expect("published");
    assert!(subscribers[0].adopt());
    assert_eq!(Arc::strong_count(&first), 2, "it waits in the mailbox");
    publisher.reclaim();
    assert_eq!(Arc::strong_count(&first), 1);
}

#[test]
fn cores_that_spin_adopt_every_image_in_order() {
    let (publisher, subscribers) = Publisher::new(2);
    let stop = Arc::new(AtomicBool::new(false));
    let cores: Vec<_> = subscribers
        .into_iter()
        .map(|mut subscriber| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if subscriber.adopt() {
                        seen.push(subscriber.epoch());
                        let own = subscriber.image().map(PolicyImage::epoch);
                        assert_eq!(own, Some(subscriber.epoch()));
                    }
                    std::thread::yield_now();
                }
                seen
            })
        })
        .collect();
    for epoch in 1..=50 {
        publisher.publish(&image(epoch)).expect("published");
        while !publisher.is_adopted() {
            std::thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for core in cores {
        assert_eq!(core.join().expect("a core"), (1..=50).collect::<Vec<_>>());
    }
}

/// A keeper whose one core adopts whatever is published, on a thread of its own.
struct Kept {
    keeper: PolicyKeeper,
    stop: Arc<AtomicBool>,
    core: Option<std::thread::JoinHandle<()>>,
}

impl Kept {
    fn new(state_dir: &std::path::Path) -> Self {
        let (publisher, mut subscribers) = Publisher::new(1);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let mut subscriber = subscribers.remove(0);
        let core = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                subscriber.adopt();
                std::thread::yield_now();
            }
        });
        Self {
            keeper: PolicyKeeper::new(publisher, state_dir, 1, |_| ()),
            stop,
            core: Some(core),
        }
    }

    fn publish(&mut self, epoch: u64, bytes: Vec<u8>) -> Message {
        let began = std::time::Instant::now();
        let image = Arrived::Image(bytes);
        self.keeper.publish(epoch, image, || began.elapsed())
    }

    /// Publishes `image` as a change of `base`.
    fn change(&mut self, base: &PolicyImage, image: &PolicyImage) -> Message {
        self.arrive(image.epoch(), image.change_from(base))
    }

    fn arrive(&mut self, epoch: u64, change: Vec<u8>) -> Message {
        let began = std::time::Instant::now();
        let change = Arrived::Change(change);
        self.keeper.publish(epoch, change, || began.elapsed())
    }

    fn epoch(&self) -> u64 {
        let Message::PolicyInForce { epoch, .. } = self.keeper.in_force() else {
            panic!("no answer")
        };
        epoch
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(core) = self.core.take() {
            core.join().expect("the core ended in order");
        }
    }
}

#[test]
fn the_last_good_policy_survives_a_restart_of_the_dataplane() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = image(7).bytes();
    let mut first = Kept::new(dir.path());
    assert!(matches!(
        first.publish(7, bytes.clone()),
        Message::Adopted {
            epoch: 7,
            workers: 1,
            ..
        }
    ));
    drop(first);
    let mut second = Kept::new(dir.path());
    second.keeper.restore();
    assert_eq!(second.epoch(), 7);
    assert_eq!(
        second.keeper.image(),
        Message::Image {
            epoch: 7,
            image: bytes
        }
    );
}

#[test]
fn a_damaged_kept_image_is_set_aside_and_the_dataplane_starts_without() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut bytes = image(7).bytes();
    bytes[200] ^= 1;
    std::fs::write(dir.path().join("policy.image"), bytes).expect("written");
    let mut kept = Kept::new(dir.path());
    kept.keeper.restore();
    assert_eq!(kept.epoch(), 0);
    assert!(dir.path().join("policy.image.refused").exists());
}

#[test]
fn an_image_with_any_byte_flipped_is_refused_and_the_old_policy_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::new(dir.path());
    assert!(matches!(
        kept.publish(1, image(1).bytes()),
        Message::Adopted { .. }
    ));
    let good = image(2).bytes();
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        assert!(
            matches!(kept.publish(2, damaged), Message::Refused { .. }),
            "byte {at}"
        );
    }
    assert_eq!(kept.epoch(), 1);
    assert!(matches!(
        kept.publish(2, good),
        Message::Adopted { epoch: 2, .. }
    ));
}

#[test]
fn a_policy_that_cannot_be_kept_is_refused_and_the_old_one_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::new(&dir.path().join("state"));
    assert!(matches!(
        kept.publish(1, image(1).bytes()),
        Message::Adopted { .. }
    ));
    // A file where the directory must be: nothing can be written there, whoever asks.
    std::fs::remove_dir_all(dir.path().join("state")).expect("removed");
    std::fs::write(dir.path().join("state"), b"in the way").expect("written");
    let answer = kept.publish(2, image(2).bytes());
    let Message::Refused {
        code: RefusalCode::NotKept,
        sentence,
        ..
    } = answer
    else {
        panic!("{answer:?}")
    };
    assert!(sentence.contains("state_dir"), "{sentence}");
    assert_eq!(kept.epoch(), 1);
}

/// The shop, tried and not enforced.
fn other(epoch: u64) -> Arc<PolicyImage> {
    let today = jiff::civil::date(2026, 11, 22);
    let text = crate::rig::SHOP.replace("MODE", "test");
    let valid = policy::load(&text, "test.toml", today).expect("valid");
    let compiled = policy::compile(&valid, epoch, today);
    compiled.expect("compiled").image
}

fn adopted(answer: &Message) -> bool {
    matches!(answer, Message::Adopted { .. })
}

#[test]
fn changes_are_adopted_and_survive_a_restart_of_the_dataplane() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = Kept::new(dir.path());
    let mut before = image(1);
    assert!(adopted(&first.publish(1, before.bytes())));
    // More than are kept behind one whole image.
    for epoch in 2..200 {
        let next = if epoch % 2 == 0 {
            other(epoch)
        } else {
            image(epoch)
        };
        assert!(adopted(&first.change(&before, &next)), "epoch {epoch}");
        before = next;
    }
    drop(first);
    let mut second = Kept::new(dir.path());
    second.keeper.restore();
    let image = before.bytes();
    assert_eq!(second.keeper.image(), Message::Image { epoch: 199, image });
}

#[test]
fn a_change_of_an_image_that_is_not_in_force_is_refused_as_such() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::new(dir.path());
    let refused = |answer: &Message| {
        matches!(
            answer,
            Message::Refused {
                code: RefusalCode::UnknownBase,
                ..
            }
        )
    };
    assert!(
        refused(&kept.change(&image(1), &image(2))),
        "none is in force"
    );
    assert!(adopted(&kept.publish(3, image(3).bytes())));
    assert!(refused(&kept.change(&image(1), &image(4))));
    assert!(
        refused(&kept.change(&other(3), &image(4))),
        "the same epoch"
    );
    assert_eq!(kept.epoch(), 3);
    assert!(adopted(&kept.publish(4, image(4).bytes())));
}

#[test]
fn a_change_with_any_byte_flipped_is_refused_and_the_old_policy_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut kept = Kept::new(dir.path());
    assert!(adopted(&kept.publish(1, image(1).bytes())));
    let change = other(2).change_from(&image(1));
    for at in 0..change.len() {
        let mut damaged = change.clone();
        damaged[at] ^= 0x40;
        let answer = kept.arrive(2, damaged);
        assert!(matches!(answer, Message::Refused { .. }), "byte {at}");
    }
    assert_eq!(kept.epoch(), 1);
    assert!(adopted(&kept.arrive(2, change)));
}

#[test]
fn changes_cut_by_a_stop_leave_the_policy_before_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = Kept::new(dir.path());
    assert!(adopted(&first.publish(1, image(1).bytes())));
    let changes = dir.path().join("policy.changes");
    let bytes = |path| std::fs::read(path).expect("there");
    assert!(adopted(&first.change(&image(1), &other(2))));
    let one = bytes(&changes).len();
    assert!(adopted(&first.change(&other(2), &image(3))));
    let both = bytes(&changes);
    drop(first);
    for (length, epoch) in [
        (0, 1),
        (one - 1, 1),
        (one, 2),
        (both.len() - 1, 2),
        (both.len(), 3),
    ] {
        std::fs::write(&changes, &both[..length]).expect("written");
        let mut kept = Kept::new(dir.path());
        kept.keeper.restore();
        assert_eq!(kept.epoch(), epoch, "{length} of {} bytes", both.len());
    }
    // Changes of an older image than the one kept, as a stop between the two leaves them.
    std::fs::write(dir.path().join("policy.image"), image(7).bytes()).expect("written");
    let mut kept = Kept::new(dir.path());
    kept.keeper.restore();
    assert_eq!(kept.epoch(), 7);
}

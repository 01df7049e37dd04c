//! Publish and adopt between threads: order, refusals, and who frees what.

use abi::link::{Message, RefusalCode};
use acl::PolicyImage;
use dataplane::adopt::{PublishError, Publisher};
use dataplane::policy_keeper::PolicyKeeper;
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
        self.keeper.publish(epoch, bytes, || began.elapsed())
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
    let bytes = image(7).bytes().to_vec();
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
    let mut bytes = image(7).bytes().to_vec();
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
        kept.publish(1, image(1).bytes().to_vec()),
        Message::Adopted { .. }
    ));
    let good = image(2).bytes().to_vec();
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
        kept.publish(1, image(1).bytes().to_vec()),
        Message::Adopted { .. }
    ));
    // A file where the directory must be: nothing can be written there, whoever asks.
    std::fs::remove_dir_all(dir.path().join("state")).expect("removed");
    std::fs::write(dir.path().join("state"), b"in the way").expect("written");
    let answer = kept.publish(2, image(2).bytes().to_vec());
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

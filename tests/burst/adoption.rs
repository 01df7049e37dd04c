//! Publish and adopt between threads: order, refusals, and who frees what.

use acl::PolicyImage;
use dataplane::adopt::{PublishError, Publisher};
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

//! Threads that EAL did not start. In a file of its own, because while a thread is registered no
//! pool is freed.

mod support;

use std::sync::mpsc;
use std::thread;

use dpdk::RegisterError;
use support::{EAL, pool};

#[test]
fn a_registered_thread_has_a_cache_and_gives_its_place_back() {
    let pool = pool("cached", 255);
    let (sender, receiver) = mpsc::channel();
    let worker_pool = pool.clone();
    let worker = thread::spawn(move || {
        let registration = EAL.register_thread().unwrap();
        assert!(matches!(
            EAL.register_thread(),
            Err(RegisterError::RegisteredBefore)
        ));
        sender.send(worker_pool.alloc().unwrap()).unwrap();
        drop(registration);
        EAL.register_thread().unwrap();
    });
    let mbuf = receiver.recv().unwrap();
    worker.join().unwrap();
    assert_eq!(pool.in_use_count(), 1, "frames move between threads");
    drop(mbuf);
    assert_eq!(pool.in_use_count(), 0);
}

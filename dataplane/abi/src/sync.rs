//! The atomics of this room: the machine's in the product, loom's under `--cfg loom`, where every
//! interleaving and every reordering that the memory model permits is tried.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Tells the core (or loom's scheduler) that another thread must move before this one can.
pub(crate) fn wait_a_little() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

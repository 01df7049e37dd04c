//! Safe owners for DPDK: EAL, mempool, mbuf, burst, port, queue.
//!
//! What is this room: every `unsafe` call into libdpdk that Ringfence makes, behind types that
//! cannot be misused from safe code. Who calls it: the dataplane process and `perf`, nobody else.
//! What it never does: allocate, lock, log, make a system call or panic in [`RxQueue::rx_burst`],
//! [`TxQueue::tx_burst`], [`Burst`] and [`Mbuf`] (what a *driver* does below them is listed in
//! the README of this room).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod burst;
mod capture;
mod eal;
mod errno;
mod huge_pages;
mod interfaces;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod ring;
mod runtime_dir;
mod spec;
mod tsc;

pub use burst::{BURST_MBUFS_MAX, Burst};
pub use capture::{
    CaptureError, CaptureFile, CaptureFormat, CaptureReader, CaptureSummary, Damage, FrameRecord,
    HeaderError, LinkType, PortStop,
};
pub use eal::{Eal, EalError, EalOptions, LogLevel, Memory, RegisterError, ThreadRegistration};
pub use errno::Errno;
pub use huge_pages::move_to_huge_pages;
pub use mbuf::Mbuf;
pub use mempool::{Mempool, PoolError, PoolOptions};
pub use port::{LinkStatus, Port, PortConfig, PortError, PortFacts, PortStats, ProbedPort};
pub use queue::{PortIndex, QueueIndex, RxQueue, TxQueue};
pub use spec::{PciAddress, PortSpec, PortSpecError};
pub use tsc::{rdtsc, tsc_hz};

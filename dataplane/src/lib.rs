//! The polling process: packets from ports through parse, flow cache and policy, and on.
//!
//! Started by an operator or by `ringfence up`; speaks with the control process through shared
//! memory and one socket, and forwards and enforces with or without it. After start a polling core
//! never allocates, locks, logs, reads files or waits. `worker` is where to start reading.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod adopt;
pub mod answer;
mod burst;
pub mod claim;
pub mod clock;
pub mod config;
pub mod control_link;
pub mod core;
#[cfg(feature = "dpdk")]
pub mod dpdk_port;
pub mod exception;
pub mod export;
mod fold;
mod foresee;
pub mod handover;
pub mod idle;
mod judge;
pub mod kernel_link;
pub mod limits;
mod policy_files;
pub mod policy_keeper;
pub mod port;
pub mod stages;
#[cfg(feature = "dpdk")]
pub mod start;
pub mod steer;
pub mod steered_lane;
pub mod token_bucket;
pub mod worker;

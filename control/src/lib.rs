//! The control process: owns policy, names, recent flows, export and the API.
//!
//! Called by its binary and by its tests. It reads the dataplane's records and counters from shared
//! memory and sends it policy images; it never touches a network port, and the dataplane never
//! waits for it. `README.md` tells the life of a policy and the life of a flow record.
#![forbid(unsafe_code)]

pub mod answers;
pub mod api_server;
pub mod app;
pub mod candidates;
pub mod clock;
pub mod collector;
pub mod config;
pub mod dataplane;
pub mod exporter;
pub mod flow;
mod foresight;
pub mod history_questions;
pub mod history_writer;
pub mod inventory;
mod lock;
pub mod metrics;
pub mod names;
pub mod naming;
pub mod policy_service;
mod quarantine;
pub mod questions;
pub mod readiness;
pub mod recent;
pub mod rule_hits;
pub mod run;
pub mod simulate;
mod stages;
pub mod suggest;
pub mod watch;

pub use config::Config;
pub use run::{RunError, Running, start};

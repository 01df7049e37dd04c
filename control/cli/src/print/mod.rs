//! One printer for every answer of the API: values in, a [`Page`](crate::page::Page) out.

mod accounting;
mod candidate;
mod capacity;
mod doctor;
mod explain;
mod flows;
mod foresight;
pub mod history;
mod inventory;
mod life;
mod policy;
mod ports;
mod reach;
mod segments;
pub mod simulate;
mod stages;
mod status;
pub mod suggest;
mod top;
pub mod watch;

pub use accounting::accounting;
pub use candidate::{candidate_added, candidate_removed, candidates, changed_header, changed_line};
pub use capacity::capacity;
pub use doctor::{doctor, doctor_summary};
pub use explain::{explain, explain_flow};
pub use flows::{flow_header, flow_line, flows};
pub use inventory::{imported, inventory, names_as_they_were as names};
pub use life::{confirmed, verification};
pub use policy::{
    applied, checked, details, policy_in_force, policy_log, revision, rules, segments, settled,
    workloads,
};
pub use ports::{drops, ports};
pub use reach::{analysis, blast, broken, policy_diff};
pub use segments::{quarantine_foresight, quarantined, quarantines, readiness, segment_readiness};
pub use stages::stages;
pub use status::{Overview, status};
pub use top::top;

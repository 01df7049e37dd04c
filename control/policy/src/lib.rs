//! Policy: model, validate, compile, explain.
//!
//! A policy is a TOML text. [`parse`] reads it into a [`PolicyFile`] that remembers where every
//! word stands, [`validate`] turns that into a [`ValidPolicy`] or into every error at once, and
//! [`compile`] turns that into the image that the dataplane evaluates, with the [`Dictionary`] by
//! which control names what records tell. [`explain`] says why, by the code that enforces.
//!
//! [`InventoryFile`] reads workloads from beside the policy, [`merge`] puts them together.
//!
//! Control calls all of it. Nothing here opens a file, reads a clock or speaks to a network: text
//! and date are arguments. `README.md` is the language's reference.
#![forbid(unsafe_code)]

mod analysis;
mod blast;
mod compile;
mod dictionary;
mod diff;
mod edit;
mod explain;
mod file;
mod invariants;
mod inventory;
pub mod limits;
mod loader;
mod modes;
mod near;
mod prefix;
mod problem;
pub mod quarantine;
mod rate;
mod reach;
mod read;
mod repair;
mod revision;
mod selector;
mod service;
pub mod simulate;
pub mod suggest;
mod validate;
mod written;

pub use analysis::{
    Finding, FindingKind, OVER_BROAD_PERCENT, RULES_TOLD_MAX, Remedy, RuleFacts, USAGE_DAYS_MIN,
    Usage, analyze,
};
pub use blast::{BLAST_HOPS_MAX, Blast, Ring, blast};
pub use compile::{CompileError, CompiledPolicy, Compiler, compile};
pub use dictionary::{Dictionary, RuleEntry, SegmentEntry, WorkloadEntry};
pub use diff::{Changed, EndSet, PolicyDiff, ReachChange, Turn, WordChange, diff};
pub use edit::{EditError, Import, WorkloadChange, import};
pub use explain::{EndReport, Report, RuleReport, ViewReport, explain};
pub use file::PolicyFile;
pub use invariants::{BrokenInvariant, Opening, PATHS_TOLD_MAX, Path, PathEnd, PathHop, prove};
pub use inventory::{Inventory, InventoryFile, Merged, Overridden, Resolved, dns_names, merge};
pub use loader::Loader;
pub use modes::{modes_in, set_every_mode, set_mode};
pub use problem::{Diagnostic, PolicyErrors, Problem, Severity};
pub use rate::Rate;
pub use reach::View;
pub use read::parse;
pub use repair::{
    REPAIR_STEPS_MAX, REPAIR_TRIES_MAX, REPAIRS_TOLD_MAX, Repair, RepairError, RepairStep,
    Repaired, Wanted, passes, repair,
};
pub use revision::{Revision, revision_hash};
pub use selector::{Selector, SelectorError};
pub use service::{Port, PortError};
pub use validate::{Invariant, Rule, Segment, Service, ValidPolicy, Workload, validate};

/// Reads and validates a policy text. `file` is the name that errors carry.
///
/// # Errors
/// Every error of the text, by line.
pub fn load(text: &str, file: &str, today: jiff::civil::Date) -> Result<ValidPolicy, PolicyErrors> {
    validate(&parse(text, file), today)
}

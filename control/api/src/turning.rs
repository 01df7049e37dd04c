//! The smallest change of the policy that turns the verdict of a flow.

use crate::reach::{ReachChange, View};
use serde::{Deserialize, Serialize};

words! {
    /// What is done to the policy.
    pub enum StepKind {
        /// Tables are added at the end.
        Add => "add",
        /// A rule is taken out.
        Remove => "remove",
        /// Entries of one of a rule's lists are left out.
        Narrow => "narrow",
        /// A workload is let go that is in quarantine.
        Lift => "lift",
    }
}

/// One way to turn a verdict, or to keep one that is to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turning {
    /// Which verdict: `enforced` is the one that happens, `intended` the one once every segment and
    /// rule is enforced.
    pub view: View,
    /// What it becomes: whether the flow passes.
    pub permits: bool,
    /// The changes that do it, each compiled and asked, the smallest first; at most 3.
    pub changes: Vec<TurningChange>,
    /// Why there is none, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
}

/// A change of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurningChange {
    /// What is to be done, all of it; mostly one step.
    pub steps: Vec<Step>,
    /// Everything that it opens and closes, the flow itself included; at most
    /// [`TurningChange::REACH_TOLD_MAX`] rows.
    pub reach: Vec<ReachChange>,
    /// Rows of it that are left out.
    pub reach_untold: u64,
}

impl TurningChange {
    /// Rows of `reach` that are told.
    pub const REACH_TOLD_MAX: usize = 16;
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub kind: StepKind,
    /// One line for people.
    pub told: String,
    /// Rule that goes or becomes narrower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Its list: `from`, `to` or `services`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Entries that the list loses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Tables to add, TOML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<String>,
    /// Workload to let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

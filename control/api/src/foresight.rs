//! What a draft would cut of what was seen lately, beside the policy in force.

use crate::simulate::{Period, SimulatedEdge, Tally};
use serde::{Deserialize, Serialize};

/// What becomes of recent history under a draft and does not under the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foresight {
    /// Why nothing is said, where nothing is: history is off or does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Which time was looked at.
    pub period: Period,
    /// Everything that was looked at.
    pub seen: Tally,
    /// Only the first conversations were: there are more than
    /// [`Foresight::CONVERSATIONS_MAX`].
    pub partial: bool,
    /// Passed, passes under the policy in force, and would not under the draft.
    pub cut: Tally,
    /// Did not pass, does not, and would.
    pub opened: Tally,
    /// Of this it is not certain what the draft would decide.
    pub uncertain: Tally,
    /// Edges of `cut`, the largest first, then those of `opened` and of `uncertain`; at most
    /// [`Foresight::EDGES_TOLD_MAX`].
    pub edges: Vec<SimulatedEdge>,
    /// Edges in all.
    pub edge_count: u64,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

impl Foresight {
    /// Time that is looked at where nothing else is asked for.
    pub const SINCE_DEFAULT: &'static str = "1d";
    /// Conversations that are looked at.
    pub const CONVERSATIONS_MAX: u64 = 5_000_000;
    /// Edges that are listed.
    pub const EDGES_TOLD_MAX: usize = 20;

    /// Nothing can be said, for this reason.
    #[must_use]
    pub fn unknown(why: String) -> Self {
        Self {
            unknown: Some(why),
            ..Self::default()
        }
    }
}

//! Changed flows as watchers read them.

use super::{Judged, Judging};
use crate::app::Namer;
use crate::flow::StoredFlow;
use api::candidate::{ChangedFlow, Turn};
use api::words::{Action, VerdictSource};
use std::sync::Arc;

/// A flow that a candidate decides otherwise, in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// The flow.
    pub stored: StoredFlow,
    /// What changes.
    pub turn: Turn,
    /// What the candidate would do.
    pub judged: Judged,
}

/// Changed flows of one batch.
pub type ChangedBatch = Arc<[Changed]>;

impl Judging {
    /// A changed flow in names.
    #[must_use]
    pub fn named(&self, namer: &mut Namer, changed: &Changed) -> ChangedFlow {
        let decision = &changed.judged.decision;
        let rule = self.compiled.dictionary().rule(decision.rule_id);
        ChangedFlow {
            turn: changed.turn,
            candidate_verdict: Action::from_word(decision.enforced.name()).unwrap_or(Action::Deny),
            candidate_source: VerdictSource::from_word(decision.enforced_source.name())
                .unwrap_or(VerdictSource::Default),
            candidate_rule: rule.map(|rule| rule.name.as_str().into()),
            uncertain: changed.judged.uncertain,
            flow: namer.flow(&changed.stored),
        }
    }
}

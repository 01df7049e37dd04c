//! Who can open a connection to whom, for what: over the whole policy, never over traffic.
//!
//! Asked by [`mod@crate::invariants`], diff, blast radius and analysis. Every answer comes from the
//! image that is published, by the code that enforces: pairs of identities that meet in one cell are
//! decided alike, and services that no port tells apart are one class, so that one evaluation of
//! each class in each cell says all there is. Nothing is sampled.

pub(crate) mod ends;
pub(crate) mod services;
pub(crate) mod walk;

use crate::compile::CompiledPolicy;
use abi::{Action, VerdictSource};
use acl::IdentityId;
use core::fmt;
use ends::{Ends, HostKind};
use foldhash::fast::FixedState;
use services::{ServiceSet, Services};
use std::collections::HashMap;

/// What is looked up once for each pair of ends, of which there are millions. Its keys are numbers of our own.
pub(crate) type Numbered<K, V> = HashMap<K, V, FixedState>;

/// Which verdict "can" stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// As the policy is meant: every segment and every rule is taken as enforced, whatever its mode.
    /// That is the pending verdict, but for the default between ends of which one is in a segment:
    /// it denies, as it will once that segment enforces.
    #[default]
    Intended,
    /// What happens now, modes included.
    Enforced,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intended => "intended",
            Self::Enforced => "enforced",
        })
    }
}

/// What two identities are to each other: the action for each class of services.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) actions: Box<[Action]>,
    /// Classes that pass.
    pub(crate) open: ServiceSet,
}

/// The reach of one policy in one view. Remembers what it has worked out.
pub(crate) struct Reach<'c> {
    pub(crate) compiled: &'c CompiledPolicy,
    pub(crate) view: View,
    pub(crate) ends: Ends,
    pub(crate) services: Services,
    of_cell: Numbered<(u32, bool), u32>,
    numbers: HashMap<Box<[u8]>, u32>,
    outcomes: Vec<Outcome>,
}

impl<'c> Reach<'c> {
    pub(crate) fn new(compiled: &'c CompiledPolicy, view: View) -> Self {
        let services = Services::of(&[&compiled.policy().services]);
        Self::with_services(compiled, view, services)
    }

    /// With services that are cut at least as fine as the policy's own.
    pub(crate) fn with_services(
        compiled: &'c CompiledPolicy,
        view: View,
        services: Services,
    ) -> Self {
        Self {
            compiled,
            view,
            ends: Ends::of(compiled.policy(), &compiled.image),
            services,
            of_cell: Numbered::default(),
            numbers: HashMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// Number of what two identities are to each other: the same for all that are the same.
    pub(crate) fn outcome_number(&mut self, src: IdentityId, dst: IdentityId) -> u32 {
        let place = self.place(src, dst);
        if let Some(number) = self.of_cell.get(&place) {
            return *number;
        }
        let count = u32::try_from(self.services.classes().len()).unwrap_or(u32::MAX);
        let actions: Box<[Action]> = (0..count)
            .map(|class| self.decide(src, dst, class).0)
            .collect();
        let key: Box<[u8]> = actions.iter().map(|action| action.byte()).collect();
        let next = u32::try_from(self.outcomes.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            let open = (0..).zip(&actions).filter(|(_, action)| action.permits());
            self.outcomes.push(Outcome {
                open: open.map(|(class, _)| class).collect(),
                actions,
            });
        }
        self.of_cell.insert(place, number);
        number
    }

    /// Where two identities meet: the cell, and whether the default is that of a segment. Pairs with
    /// the same place are decided alike, by the same rules.
    pub(crate) fn place(&self, src: IdentityId, dst: IdentityId) -> (u32, bool) {
        // An identity that the image does not have meets nobody: it denies, like everything unknown.
        let cell = self.compiled.image.cell(src, dst).unwrap_or(u32::MAX);
        (cell, self.ends.governed(src, dst))
    }

    pub(crate) fn outcome(&self, number: u32) -> &Outcome {
        &self.outcomes[number as usize]
    }

    /// How many outcomes are known so far.
    pub(crate) fn outcome_count(&self) -> usize {
        self.outcomes.len()
    }

    /// The action for one class of services, and the rule that says so; none for the default.
    pub(crate) fn decide(
        &self,
        src: IdentityId,
        dst: IdentityId,
        class: u32,
    ) -> (Action, Option<u64>) {
        let Some(service) = self.services.classes().get(class as usize) else {
            return (Action::Deny, None);
        };
        let decision = self.compiled.image.evaluate_identities(src, dst, service);
        let (action, source, rule) = match self.view {
            View::Enforced => (
                decision.enforced,
                decision.enforced_source,
                decision.rule_id,
            ),
            View::Intended => (
                decision.pending,
                decision.pending_source,
                decision.pending_rule_id,
            ),
        };
        match source {
            VerdictSource::Rule => (action, Some(rule)),
            _ if self.view == View::Intended && self.ends.governed(src, dst) => {
                (Action::Deny, None)
            }
            _ => (action, None),
        }
    }

    pub(crate) fn kind(&self, kind: u32) -> &HostKind {
        &self.ends.kinds[kind as usize]
    }

    pub(crate) fn segment_name(&self, segment: u32) -> &str {
        let found = self.compiled.image.segment(segment);
        found.map_or("?", |segment| segment.name)
    }

    /// A host of a kind, by name or address; the first, or the second where there are two.
    pub(crate) fn host_name(&self, kind: u32, nth: usize) -> String {
        let kind = self.kind(kind);
        let workloads = &self.compiled.policy().workloads;
        let address = || kind.examples.get(nth).or(kind.examples.first());
        match kind.workloads.get(nth).or(kind.workloads.first()) {
            Some(at) => workloads[*at as usize].name.clone(),
            None => address().map_or_else(String::new, ToString::to_string),
        }
    }
}

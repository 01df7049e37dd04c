//! Identities to classes: identities that the same rules name, in the same mode, are one class.

use super::{Interner, identities::Identities};
use crate::validate::{Rule, ValidPolicy};
use abi::Mode;
use abi::image::BUILT_IN_SEGMENTS;
use jiff::civil::Date;

/// The classes of both sides.
pub(super) struct Classes {
    pub(super) source: Side,
    pub(super) destination: Side,
}

/// The classes of initiators, or of responders.
pub(super) struct Side {
    /// Class of each identity.
    pub(super) of_identity: Vec<u32>,
    /// End set of each rule (segments of its `from`, or of its `to`); of expired rules too, where
    /// it means nothing.
    pub(super) set_of_rule: Vec<u32>,
    /// Classes that are in each end set, ascending.
    pub(super) classes_of_set: Vec<Vec<u32>>,
    /// End sets that each class is in, ascending.
    pub(super) sets_of_class: Vec<Vec<u32>>,
    /// Mode of each class.
    pub(super) modes: Vec<Mode>,
}

impl Side {
    pub(super) fn count(&self) -> usize {
        self.modes.len()
    }

    /// Whether every class is in an end set.
    pub(super) fn is_universal(&self, set: u32) -> bool {
        self.classes_of_set[set as usize].len() == self.count()
    }
}

pub(super) fn classes(policy: &ValidPolicy, ids: &Identities, today: Date) -> Classes {
    Classes {
        source: side(policy, ids, today, |rule| &rule.from),
        destination: side(policy, ids, today, |rule| &rule.to),
    }
}

fn side(policy: &ValidPolicy, ids: &Identities, today: Date, end: fn(&Rule) -> &Vec<u32>) -> Side {
    let mut sets = Interner::new();
    let mut sets_of_segment = vec![Vec::new(); policy.segments.len() + BUILT_IN_SEGMENTS.len()];
    let mut set_of_rule = Vec::with_capacity(policy.rules.len());
    for rule in &policy.rules {
        if rule.expired(today) {
            set_of_rule.push(u32::MAX);
            continue;
        }
        let (set, new) = sets.number(end(rule).clone());
        set_of_rule.push(set);
        if new {
            end(rule)
                .iter()
                .for_each(|segment| sets_of_segment[*segment as usize].push(set));
        }
    }
    let mut classes = Interner::new();
    let mut side = Side {
        of_identity: Vec::with_capacity(ids.sets.len()),
        set_of_rule,
        classes_of_set: vec![Vec::new(); sets.count()],
        sets_of_class: Vec::new(),
        modes: Vec::new(),
    };
    for (segments, mode) in ids.sets.iter().zip(&ids.modes) {
        let mut within: Vec<u32> = segments
            .iter()
            .flat_map(|segment| &sets_of_segment[*segment as usize])
            .copied()
            .collect();
        within.sort_unstable();
        within.dedup();
        let (class, new) = classes.number((within.clone(), *mode));
        side.of_identity.push(class);
        if new {
            within
                .iter()
                .for_each(|set| side.classes_of_set[*set as usize].push(class));
            side.sets_of_class.push(within);
            side.modes.push(*mode);
        }
    }
    side
}

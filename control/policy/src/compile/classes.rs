//! Identities to classes: identities that the same rules name, in the same mode, are one class.

use super::{Interner, identities::Identities};
use super::{UNUSED_CLASSES_DIVISOR, UNUSED_CLASSES_MIN};
use crate::validate::{Rule, ValidPolicy};
use abi::Mode;
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY};
use jiff::civil::Date;

/// The classes of both sides.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) source: Side,
    pub(super) destination: Side,
}

/// The classes of initiators, or of responders. Classes are only ever added.
#[derive(Debug)]
pub(super) struct Side {
    /// Class of each identity.
    pub(super) of_identity: Vec<u32>,
    /// End set of each rule (segments of its `from`, or of its `to`); of expired rules too, where
    /// it means nothing.
    pub(super) set_of_rule: Vec<u32>,
    /// Classes that are in each end set, ascending.
    pub(super) classes_of_set: Vec<Vec<u32>>,
    /// Whether an end set is everybody, whoever comes.
    universal: Vec<bool>,
    /// End sets that each class is in, ascending.
    pub(super) sets_of_class: Vec<Vec<u32>>,
    /// Mode of each class.
    pub(super) modes: Vec<Mode>,
    /// End sets that name each segment.
    sets_of_segment: Vec<Vec<u32>>,
    /// End sets and the mode behind them to class.
    numbers: Interner<Vec<u32>>,
    /// Classes that an identity has.
    used: usize,
}

impl Classes {
    /// The end sets of a policy's rules, and no class yet.
    pub(super) fn new(policy: &ValidPolicy, today: Date) -> Self {
        Self {
            source: Side::new(policy, today, |rule| &rule.from),
            destination: Side::new(policy, today, |rule| &rule.to),
        }
    }

    /// Gives every identity its class, and makes those that are new.
    pub(super) fn place(&mut self, ids: &Identities) {
        self.source.place(ids);
        self.destination.place(ids);
    }

    /// Whether too many classes are there for nothing.
    pub(super) fn wasteful(&self) -> bool {
        let wasteful = |side: &Side| {
            side.count() > side.used + side.used / UNUSED_CLASSES_DIVISOR + UNUSED_CLASSES_MIN
        };
        wasteful(&self.source) || wasteful(&self.destination)
    }
}

impl Side {
    pub(super) fn count(&self) -> usize {
        self.modes.len()
    }

    /// Whether an end set is everybody.
    pub(super) fn is_universal(&self, set: u32) -> bool {
        self.universal[set as usize]
    }

    fn new(policy: &ValidPolicy, today: Date, end: fn(&Rule) -> &Vec<u32>) -> Self {
        let mut sets = Interner::new();
        let mut sets_of_segment = vec![Vec::new(); policy.segments.len() + BUILT_IN_SEGMENTS.len()];
        let mut set_of_rule = Vec::with_capacity(policy.rules.len());
        let mut universal = Vec::new();
        for rule in policy.rules.iter() {
            if rule.expired(today) {
                set_of_rule.push(u32::MAX);
                continue;
            }
            let segments = end(rule);
            let (set, new) = sets.number_of(segments);
            set_of_rule.push(set);
            if new {
                universal.push(segments.contains(&SEGMENT_ANY));
                segments
                    .iter()
                    .for_each(|segment| sets_of_segment[*segment as usize].push(set));
            }
        }
        Self {
            of_identity: Vec::new(),
            set_of_rule,
            classes_of_set: vec![Vec::new(); universal.len()],
            universal,
            sets_of_class: Vec::new(),
            modes: Vec::new(),
            sets_of_segment,
            numbers: Interner::new(),
            used: 0,
        }
    }

    fn place(&mut self, ids: &Identities) {
        self.of_identity.clear();
        let mut seen = vec![false; self.count()];
        let mut within: Vec<u32> = Vec::new();
        for (segments, mode) in ids.sets.iter().zip(&ids.modes) {
            within.clear();
            for segment in segments {
                within.extend(&self.sets_of_segment[*segment as usize]);
            }
            within.sort_unstable();
            within.dedup();
            within.push(u32::from(mode.byte()));
            let (class, new) = self.numbers.number_of(&within);
            self.of_identity.push(class);
            if new {
                within.pop();
                within
                    .iter()
                    .for_each(|set| self.classes_of_set[*set as usize].push(class));
                self.sets_of_class.push(within.clone());
                self.modes.push(*mode);
                seen.push(false);
            }
            seen[class as usize] = true;
        }
        self.used = seen.iter().filter(|seen| **seen).count();
    }
}

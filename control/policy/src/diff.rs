//! What one policy lets reach that another does not, and what was written differently.
//!
//! Both policies are asked about the same ends: the addresses that neither tells apart. So a row of
//! the answer is exact: every connection that it speaks of was opened, or closed, and every
//! connection that was opened or closed is in one row.

mod ends;
mod rows;
mod words;

#[cfg(test)]
mod tests;

use crate::compile::CompiledPolicy;
use crate::reach::services::{ServiceSet, Services};
use crate::reach::{Numbered, Reach, View};
use abi::Action;
use ends::JointEnds;
use rows::Rectangles;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

pub use words::{Changed, WordChange};

/// What a change of policy does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDiff {
    /// Which connections pass that did not, and the other way round; none where reach is the same.
    pub reach: Vec<ReachChange>,
    /// What is written differently: segments, workloads, services, rules, invariants, by name.
    pub words: Vec<WordChange>,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// They were denied or rejected and pass now.
    Opens,
    /// They passed and are denied or rejected now.
    Closes,
    /// They pass as before, or not, in another way: allow and limit, deny and reject.
    Changes,
}

/// The same change for everyone of some ends to everyone of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachChange {
    /// What happens.
    pub turn: Turn,
    /// Initiators.
    pub from: EndSet,
    /// Responders.
    pub to: EndSet,
    /// For which services: names of the new policy's, else ports.
    pub services: Vec<String>,
    /// What was decided.
    pub before: Action,
    /// By which rule; none for the default.
    pub rule_before: Option<String>,
    /// What is decided now.
    pub after: Action,
    /// By which rule; none for the default.
    pub rule_after: Option<String>,
}

/// Some ends, named as briefly as they can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndSet {
    /// Segments, all of whose members are meant; a segment and one host of it in brackets where only
    /// some are.
    pub names: Vec<String>,
    /// Workloads among them, as the new policy has them.
    pub workloads: u64,
}

/// Services by turn, actions and rules.
type Stroke = (Sign, ServiceSet);

/// A turn with the actions and the rules of both sides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Sign {
    turn: Turn,
    before: (u8, Option<u64>),
    after: (u8, Option<u64>),
}

/// Compares two policies in one view.
///
/// # Unbounded
/// Asks both images once about each pair of ends.
#[must_use]
pub fn diff(old: &CompiledPolicy, new: &CompiledPolicy, view: View) -> PolicyDiff {
    PolicyDiff {
        reach: reach_changes(old, new, view),
        words: words::changes(old.policy(), new.policy()),
    }
}

fn reach_changes(old: &CompiledPolicy, new: &CompiledPolicy, view: View) -> Vec<ReachChange> {
    let found = Found::of(old, new, view);
    let named = |(stroke, from, to): &(u32, Vec<u32>, Vec<u32>)| {
        let (sign, set) = found.sides.strokes[*stroke as usize].clone();
        (sign, (found.ends.named(from), found.ends.named(to)), set)
    };
    found
        .sides
        .told(merged(found.parts.iter().map(named).collect()))
}

/// Everything that is different, by number.
struct Found<'c> {
    sides: Sides<'c>,
    ends: JointEnds,
    /// Stroke, initiators and responders.
    parts: Vec<(u32, Vec<u32>, Vec<u32>)>,
}

impl<'c> Found<'c> {
    fn of(old: &'c CompiledPolicy, new: &'c CompiledPolicy, view: View) -> Self {
        let services = Services::of(&[&new.policy().services, &old.policy().services]);
        let ends = JointEnds::of(old, new);
        let mut sides = Sides {
            old: Reach::with_services(old, view, services.clone()),
            new: Reach::with_services(new, view, services),
            strokes: Vec::new(),
            numbers: HashMap::new(),
            known: Numbered::default(),
            same: Numbered::default(),
        };
        let mut rows = Rectangles::default();
        for v4 in [true, false] {
            let all = ends.of_family(v4);
            for src in &all {
                let one = &ends.all[*src as usize];
                let mut row: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
                for dst in &all {
                    let other = &ends.all[*dst as usize];
                    let between = ((one.old, one.new), (other.old, other.new));
                    for stroke in sides.strokes(between.0, between.1).iter() {
                        row.entry(*stroke).or_default().push(*dst);
                    }
                }
                rows.add(*src, row);
            }
        }
        let parts = rows.into_parts().collect();
        Self { sides, ends, parts }
    }
}

/// A stroke between two sets of ends.
type Row = (Sign, (EndSet, EndSet), ServiceSet);
/// A stroke, and the names of its initiators and responders.
type RowKey = (Sign, Vec<String>, Vec<String>, ServiceSet);

/// The same stroke between ends of the same names becomes one row: what IPv4 and IPv6 say alike.
fn merged(changes: Vec<Row>) -> Vec<Row> {
    let mut by_ends: BTreeMap<RowKey, (EndSet, EndSet)> = BTreeMap::new();
    for (sign, (from, to), set) in changes {
        let key = (sign, from.names.clone(), to.names.clone(), set);
        let kept = by_ends
            .entry(key)
            .or_insert_with(|| (from.clone(), to.clone()));
        kept.0.workloads = kept.0.workloads.max(from.workloads);
        kept.1.workloads = kept.1.workloads.max(to.workloads);
    }
    by_ends
        .into_iter()
        .map(|((sign, _, _, set), ends)| (sign, ends, set))
        .collect()
}

struct Sides<'c> {
    old: Reach<'c>,
    new: Reach<'c>,
    strokes: Vec<Stroke>,
    numbers: HashMap<Stroke, u32>,
    /// What is different between a cell of either side.
    known: Numbered<[(u32, bool); 2], Rc<[u32]>>,
    /// Whether two outcomes are the same.
    same: Numbered<(u32, u32), bool>,
}

impl Sides<'_> {
    /// What is different between two ends, each as (old, new) identity.
    fn strokes(&mut self, src: (u32, u32), dst: (u32, u32)) -> Rc<[u32]> {
        let (before, after) = (
            self.old.outcome_number(src.0, dst.0),
            self.new.outcome_number(src.1, dst.1),
        );
        let (old, new) = (&self.old, &self.new);
        let equal = || old.outcome(before).actions == new.outcome(after).actions;
        if *self.same.entry((before, after)).or_insert_with(equal) {
            return Rc::default();
        }
        let key = [self.old.place(src.0, dst.0), self.new.place(src.1, dst.1)];
        if let Some(known) = self.known.get(&key) {
            return Rc::clone(known);
        }
        let mut numbers = Vec::new();
        for stroke in self.compare(src, dst) {
            let next = u32::try_from(self.strokes.len()).unwrap_or(u32::MAX);
            let number = *self.numbers.entry(stroke.clone()).or_insert(next);
            if number == next {
                self.strokes.push(stroke);
            }
            numbers.push(number);
        }
        let numbers: Rc<[u32]> = numbers.into();
        self.known.insert(key, Rc::clone(&numbers));
        numbers
    }

    fn compare(&self, src: (u32, u32), dst: (u32, u32)) -> Vec<Stroke> {
        let mut by_sign: BTreeMap<Sign, ServiceSet> = BTreeMap::new();
        let classes = u32::try_from(self.new.services.classes().len()).unwrap_or(u32::MAX);
        for class in 0..classes {
            let before = self.old.decide(src.0, dst.0, class);
            let after = self.new.decide(src.1, dst.1, class);
            if before.0 == after.0 {
                continue;
            }
            let turn = match (before.0.permits(), after.0.permits()) {
                (false, true) => Turn::Opens,
                (true, false) => Turn::Closes,
                _ => Turn::Changes,
            };
            let sign = Sign {
                turn,
                before: (before.0.byte(), before.1),
                after: (after.0.byte(), after.1),
            };
            by_sign.entry(sign).or_default().push(class);
        }
        by_sign.into_iter().collect()
    }

    fn told(&self, rows: Vec<Row>) -> Vec<ReachChange> {
        let name = |reach: &Reach<'_>, id: Option<u64>| {
            let rule = reach.compiled.image.rule_by_id(id?)?;
            Some(rule.name.to_owned())
        };
        let action = |byte| Action::from_byte(byte).unwrap_or(Action::Deny);
        let mut told: Vec<ReachChange> = rows
            .into_iter()
            .map(|(sign, (from, to), set)| ReachChange {
                turn: sign.turn,
                from,
                to,
                services: self.new.services.told(&set),
                before: action(sign.before.0),
                rule_before: name(&self.old, sign.before.1),
                after: action(sign.after.0),
                rule_after: name(&self.new, sign.after.1),
            })
            .collect();
        told.sort_by(|one, other| {
            (one.turn, &one.from, &one.to, &one.services).cmp(&(
                other.turn,
                &other.from,
                &other.to,
                &other.services,
            ))
        });
        told
    }
}

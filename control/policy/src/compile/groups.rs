//! Rules to groups: rules with the same ends are one group, and a group knows which of its rules
//! comes first for each class of service.

use super::{Interner, classes::Classes, index, service_classes::ServiceClasses};
use crate::validate::{Rule, ValidPolicy};
use abi::image::RuleMode;
use abi::{Action, Mode};
use jiff::civil::Date;
use std::cmp::Ordering;

/// Places of the rules that come first in both views; `u32::MAX` where none matches.
///
/// A place is a rule's position when all are sorted by tier, then action (deny, reject, limit,
/// allow), then name: the whole meaning of precedence is "the lowest place".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct First {
    pub(super) enforced: u32,
    pub(super) pending: u32,
}

impl First {
    pub(super) const NONE: Self = Self {
        enforced: u32::MAX,
        pending: u32::MAX,
    };

    pub(super) fn min(self, other: Self) -> Self {
        Self {
            enforced: self.enforced.min(other.enforced),
            pending: self.pending.min(other.pending),
        }
    }
}

/// The rules that come first: for every service, and for single classes where it differs.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) any: First,
    /// By class, ascending.
    pub(super) classes: Vec<(u32, First)>,
}

impl Profile {
    /// Brings the same classes together, each with the rules that come first of all.
    pub(super) fn of(any: First, mut classes: Vec<(u32, First)>) -> Self {
        classes.sort_unstable_by_key(|(class, _)| *class);
        classes.dedup_by(|(class, first), (kept, of_kept)| {
            *of_kept = if class == kept {
                of_kept.min(*first)
            } else {
                *of_kept
            };
            class == kept
        });
        classes
            .iter_mut()
            .for_each(|(_, first)| *first = first.min(any));
        classes.retain(|(_, first)| *first != any);
        Self { any, classes }
    }
}

/// Rules with the same ends.
#[derive(Debug)]
pub(super) struct Group {
    /// Where the stricter end does not enforce, and where it does.
    profiles: [Profile; 2],
    /// End set of the responders.
    pub(super) to: u32,
    /// Every responder is in `to`.
    pub(super) to_universal: bool,
}

impl Group {
    pub(super) fn profile(&self, mode: Mode) -> &Profile {
        &self.profiles[usize::from(mode == Mode::Enforce)]
    }
}

/// All groups, in the order in which cells take them.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) all: Vec<Group>,
    /// Groups whose initiators are everybody; they come first in `all`.
    pub(super) from_anybody: usize,
    /// The other groups of each end set of initiators, ascending.
    pub(super) of_set: Vec<Vec<u32>>,
    /// Rule of each place.
    pub(super) rule_at: Vec<u32>,
}

pub(super) fn groups(
    policy: &ValidPolicy,
    classes: &Classes,
    services: &ServiceClasses,
    today: Date,
) -> Groups {
    let rule_at = rule_at(&policy.rules);
    let mut numbers = Interner::new();
    let mut members: Vec<(u32, u32, Vec<u32>)> = Vec::new();
    for (place, rule_index) in rule_at.iter().enumerate() {
        let at = *rule_index as usize;
        if policy.rules[at].expired(today) {
            continue;
        }
        let ends = (
            classes.source.set_of_rule[at],
            classes.destination.set_of_rule[at],
        );
        let (number, new) = numbers.number(ends);
        if new {
            members.push((ends.0, ends.1, Vec::new()));
        }
        members[number as usize].2.push(index(place));
    }
    // Cells take groups in one fixed order; those that apply to whole rows or columns come first,
    // so that the work for them is shared.
    members.sort_by_key(|(from, to, _)| {
        (
            !classes.source.is_universal(*from),
            !classes.destination.is_universal(*to),
            *from,
            *to,
        )
    });
    let mut groups = Groups {
        all: Vec::with_capacity(members.len()),
        from_anybody: members
            .iter()
            .filter(|(f, _, _)| classes.source.is_universal(*f))
            .count(),
        of_set: vec![Vec::new(); classes.source.classes_of_set.len()],
        rule_at,
    };
    for (from, to, places) in members {
        let number = index(groups.all.len());
        if groups.all.len() >= groups.from_anybody {
            groups.of_set[from as usize].push(number);
        }
        let profile = |enforces| profile(policy, &groups.rule_at, &places, services, enforces);
        let profiles = [profile(false), profile(true)];
        let to_universal = classes.destination.is_universal(to);
        groups.all.push(Group {
            profiles,
            to,
            to_universal,
        });
    }
    groups
}

/// Rules in order of precedence.
fn rule_at(rules: &[Rule]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..index(rules.len())).collect();
    order.sort_by(|one, other| precedes(&rules[*one as usize], &rules[*other as usize]));
    order
}

fn precedes(one: &Rule, other: &Rule) -> Ordering {
    let strength = |action| match action {
        Action::Deny => 0,
        Action::Reject => 1,
        Action::Limit => 2,
        Action::Allow => 3,
    };
    (one.tier, strength(one.action), &one.name).cmp(&(
        other.tier,
        strength(other.action),
        &other.name,
    ))
}

/// Whether a rule takes effect between ends of which the stricter enforces, or does not.
fn takes_effect(rule: &Rule, enforces: bool) -> bool {
    match rule.mode {
        RuleMode::Test => false,
        RuleMode::Enforce => true,
        RuleMode::Inherit => enforces || rule.action == Action::Allow,
    }
}

fn profile(
    policy: &ValidPolicy,
    rule_at: &[u32],
    places: &[u32],
    services: &ServiceClasses,
    enforces: bool,
) -> Profile {
    let mut any = First::NONE;
    let mut classes: Vec<(u32, First)> = Vec::new();
    for place in places {
        let rule = &policy.rules[rule_at[*place as usize] as usize];
        let enforced = if takes_effect(rule, enforces) {
            *place
        } else {
            u32::MAX
        };
        let first = First {
            enforced,
            pending: *place,
        };
        if rule.services.is_empty() {
            any = any.min(first);
        }
        let of_rule = rule
            .services
            .iter()
            .flat_map(|at| &services.of_service[*at as usize]);
        classes.extend(of_rule.map(|class| (*class, first)));
    }
    Profile::of(any, classes)
}

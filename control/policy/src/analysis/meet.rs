//! Which rules meet in which cases, and what each does there.

use crate::compile::CompiledPolicy;
use crate::reach::services::Services;
use crate::validate::Rule;
use abi::image::{BUILT_IN_SEGMENTS, RuleMode, SEGMENT_ANY};
use abi::verdict::OnChange;
use abi::{Action, Mode};
use core::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a rule does in all cases together. Rules are told by their place in the policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// It matches in some case.
    pub(super) matches: bool,
    /// It decides some case, in either verdict.
    pub(super) decides: bool,
    /// Without it some case would have another action: in either verdict, or were every segment in enforce.
    pub(super) needed: bool,
    /// What would decide in its place.
    pub(super) instead: BTreeSet<u32>,
    /// The default would, in some case.
    pub(super) default_instead: bool,
    /// What decides where it matches and does not.
    pub(super) lost_to: BTreeSet<u32>,
    /// Rules of its tier that deny where it would let pass.
    pub(super) denied_by: BTreeSet<u32>,
}

/// What comes first of two rules that both match: tier, then action, then name.
pub(crate) fn precedes(one: &Rule, other: &Rule) -> Ordering {
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

/// Whether a rule takes effect between ends whose stricter mode is `mode`.
pub(crate) fn takes_effect(rule: &Rule, mode: Mode) -> bool {
    match rule.mode {
        RuleMode::Test => false,
        RuleMode::Enforce => true,
        RuleMode::Inherit => mode == Mode::Enforce || rule.action == Action::Allow,
    }
}

/// One side of all rules: which lists of ends there are, and which ends are in the same.
struct Side {
    /// List of each rule; none where it has expired.
    list_of_rule: Vec<Option<u32>>,
    /// Lists that are everybody.
    universal: Vec<bool>,
    /// Classes in each list, ascending.
    classes_of_list: Vec<Vec<u32>>,
    /// Lists that each class is in, ascending.
    lists_of_class: Vec<Vec<u32>>,
    modes: Vec<Mode>,
    /// Whether a class is in a segment that the policy names.
    segmented: Vec<bool>,
    /// Whether addresses of IPv6, and of IPv4, are in a class.
    families: Vec<[bool; 2]>,
}

impl Side {
    fn of(compiled: &CompiledPolicy, seats: &[(u32, bool)], end: fn(&Rule) -> &Vec<u32>) -> Self {
        let policy = compiled.policy();
        let mut numbers: HashMap<&[u32], u32> = HashMap::new();
        let mut universal = Vec::new();
        let segments = policy.segments.len() + BUILT_IN_SEGMENTS.len();
        let mut lists_of_segment: Vec<Vec<u32>> = vec![Vec::new(); segments];
        let list_of_rule = policy.rules.iter().map(|rule| {
            if rule.expired(compiled.today()) {
                return None;
            }
            let next = u32::try_from(universal.len()).unwrap_or(u32::MAX);
            let list = *numbers.entry(end(rule)).or_insert(next);
            if list == next {
                universal.push(end(rule).contains(&SEGMENT_ANY));
                let named = end(rule).iter();
                named.for_each(|at| lists_of_segment[*at as usize].push(next));
            }
            Some(list)
        });
        let list_of_rule = list_of_rule.collect();
        let mut side = Self {
            list_of_rule,
            classes_of_list: vec![Vec::new(); universal.len()],
            universal,
            lists_of_class: Vec::new(),
            modes: Vec::new(),
            segmented: Vec::new(),
            families: Vec::new(),
        };
        let mut classes: HashMap<(Vec<u32>, Mode, bool), u32> = HashMap::new();
        for (identity, v4) in seats {
            let segments: Vec<u32> = compiled.image.segments_of(*identity).collect();
            let lists: BTreeSet<u32> = segments
                .iter()
                .flat_map(|at| &lists_of_segment[*at as usize])
                .copied()
                .collect();
            let lists: Vec<u32> = lists.into_iter().collect();
            let mode = compiled.image.mode_of(*identity);
            let mut named = segments.iter();
            let segmented = named.any(|at| *at as usize >= BUILT_IN_SEGMENTS.len());
            let next = u32::try_from(side.modes.len()).unwrap_or(u32::MAX);
            let class = *classes
                .entry((lists.clone(), mode, segmented))
                .or_insert(next);
            if class == next {
                for list in &lists {
                    side.classes_of_list[*list as usize].push(class);
                }
                side.lists_of_class.push(lists);
                side.modes.push(mode);
                side.segmented.push(segmented);
                side.families.push([false; 2]);
            }
            side.families[class as usize][usize::from(*v4)] = true;
        }
        side
    }
}

/// Rules with the same lists at both ends.
struct Group {
    from: u32,
    to: u32,
    rules: Vec<u32>,
}

/// Sets of groups, one number each. The same set may have two where its groups came in another order.
struct Sets {
    numbers: HashMap<(u32, u32), u32>,
    chain: Vec<(u32, u32)>,
}

impl Sets {
    fn add(&mut self, set: u32, group: u32) -> u32 {
        let next = u32::try_from(self.chain.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry((set, group)).or_insert(next);
        if number == next {
            self.chain.push((set, group));
        }
        number
    }

    fn groups(&self, set: u32) -> impl Iterator<Item = u32> + '_ {
        let link = |set: u32| (set != 0).then(|| self.chain[set as usize]);
        core::iter::successors(link(set), move |(before, _)| link(*before)).map(|(_, group)| group)
    }
}

/// The standing of every rule of a policy, by its place; expired ones stand nowhere.
pub(super) fn standings(compiled: &CompiledPolicy) -> Vec<Standing> {
    let policy = compiled.policy();
    let seats = seats(compiled);
    let from = Side::of(compiled, &seats, |rule| &rule.from);
    let to = Side::of(compiled, &seats, |rule| &rule.to);
    let groups = groups(&from, &to);
    let mut judge = Judge::of(compiled);
    let mut sets = Sets {
        numbers: HashMap::new(),
        chain: vec![(0, u32::MAX)],
    };
    // Rules about everybody are in every case; those about everybody as initiator are shared by rows.
    let mut everywhere: Vec<u32> = Vec::new();
    let mut shared = vec![0_u32; to.modes.len()];
    let mut of_list: Vec<Vec<u32>> = vec![Vec::new(); from.universal.len()];
    for (number, group) in (0..).zip(&groups) {
        match (
            from.universal[group.from as usize],
            to.universal[group.to as usize],
        ) {
            (true, true) => everywhere.extend(&group.rules),
            (true, false) => {
                for class in &to.classes_of_list[group.to as usize] {
                    let cell = &mut shared[*class as usize];
                    *cell = sets.add(*cell, number);
                }
            }
            (false, _) => of_list[group.from as usize].push(number),
        }
    }
    let mut done: Vec<[[bool; 3]; 2]> = Vec::new();
    for (src, lists) in from.lists_of_class.iter().enumerate() {
        let mut row = shared.clone();
        let own = lists.iter().flat_map(|list| &of_list[*list as usize]);
        for number in own {
            for class in &to.classes_of_list[groups[*number as usize].to as usize] {
                let cell = &mut row[*class as usize];
                *cell = sets.add(*cell, *number);
            }
        }
        done.resize(sets.chain.len(), [[false; 3]; 2]);
        for (dst, set) in row.iter().enumerate() {
            let common = |v4: usize| from.families[src][v4] && to.families[dst][v4];
            let mode = from.modes[src].max(to.modes[dst]);
            let segmented = from.segmented[src] || to.segmented[dst];
            let known = &mut done[*set as usize][usize::from(segmented)];
            let known = &mut known[usize::from(mode.byte() - 1)];
            if *known || !(common(0) || common(1)) {
                continue;
            }
            *known = true;
            let rules = sets.groups(*set).flat_map(|at| &groups[at as usize].rules);
            let rules: Vec<u32> = rules.chain(&everywhere).copied().collect();
            judge.cell(rules, (mode, segmented));
        }
    }
    debug_assert_eq!(judge.standings.len(), policy.rules.len());
    judge.standings
}

/// Identities that addresses of a family really have.
fn seats(compiled: &CompiledPolicy) -> Vec<(u32, bool)> {
    let ends = crate::reach::ends::Ends::of(compiled.policy(), &compiled.image);
    let both = [false, true].map(|v4| {
        ends.seats(v4)
            .map(move |seat| (seat.identity, v4))
            .collect()
    });
    both.into_iter().flat_map(|seats: Vec<_>| seats).collect()
}

fn groups(from: &Side, to: &Side) -> Vec<Group> {
    let mut numbers: HashMap<(u32, u32), usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (rule, lists) in (0..).zip(from.list_of_rule.iter().zip(&to.list_of_rule)) {
        let (Some(from), Some(to)) = lists else {
            continue;
        };
        let at = *numbers.entry((*from, *to)).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Group {
                from: *from,
                to: *to,
                rules: Vec::new(),
            });
        }
        groups[at].rules.push(rule);
    }
    groups
}

struct Judge<'c> {
    rules: &'c [Rule],
    /// Place of each rule in the order of precedence.
    place: Vec<u32>,
    /// Classes of the services of each rule; none for every service.
    services: Vec<Option<Vec<u32>>>,
    classes: usize,
    standings: Vec<Standing>,
}

impl<'c> Judge<'c> {
    fn of(compiled: &'c CompiledPolicy) -> Self {
        let rules: &'c [Rule] = &compiled.policy().rules;
        let services = Services::of(&[&compiled.policy().services]);
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by(|one, other| precedes(&rules[*one], &rules[*other]));
        let mut place = vec![0; rules.len()];
        for (at, rule) in (0..).zip(order) {
            place[rule] = at;
        }
        let classes_of = |rule: &Rule| {
            let named = rule.services.iter().filter_map(|at| {
                let service = compiled.policy().services.get(*at as usize)?;
                Some(services.named(&service.name))
            });
            let classes: BTreeSet<u32> = named.flatten().copied().collect();
            (!rule.services.is_empty()).then(|| classes.into_iter().collect())
        };
        Self {
            rules,
            place,
            services: rules.iter().map(classes_of).collect(),
            classes: services.classes().len(),
            standings: vec![Standing::default(); rules.len()],
        }
    }

    /// All cases of ends between which these rules match, each with every service.
    fn cell(&mut self, rules: Vec<u32>, ends: (Mode, bool)) {
        let mut always: Vec<u32> = Vec::new();
        let mut by_class: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for rule in rules {
            match &self.services[rule as usize] {
                None => always.push(rule),
                Some(classes) => {
                    for class in classes {
                        by_class.entry(*class).or_default().push(rule);
                    }
                }
            }
        }
        if by_class.len() < self.classes {
            self.case(always.clone(), ends);
        }
        // Many classes have the same rules.
        let lists: BTreeSet<Vec<u32>> = by_class.into_values().collect();
        for mut list in lists {
            list.extend(&always);
            self.case(list, ends);
        }
    }

    /// One case, or several alike: the rules that match in it, the stricter mode of its ends, and whether one of them is
    /// in a segment. A rule that only the default of `observe` would stand in for is needed as soon as that is left.
    fn case(&mut self, mut rules: Vec<u32>, (mode, segmented): (Mode, bool)) {
        rules.sort_unstable_by_key(|rule| self.place[*rule as usize]);
        let effective: Vec<u32> = rules
            .iter()
            .filter(|rule| takes_effect(&self.rules[**rule as usize], mode))
            .copied()
            .collect();
        self.verdict(&rules, mode >= Mode::Test, false);
        self.verdict(&rules, segmented, false);
        self.verdict(&effective, mode == Mode::Enforce, true);
        let first = rules.first().copied();
        for rule in &rules {
            let standing = &mut self.standings[*rule as usize];
            standing.matches = true;
            standing.lost_to.extend(first.filter(|first| first != rule));
        }
        self.conflicts(&rules);
    }

    /// One verdict of a case: the first decides, the second would without it.
    fn verdict(&mut self, rules: &[u32], denies_by_default: bool, enforced: bool) {
        let Some(first) = rules.first() else { return };
        let second = rules.get(1);
        let decider = &self.rules[*first as usize];
        let (action, on_change) = match second.map(|at| &self.rules[*at as usize]) {
            Some(rule) => (rule.action, rule.on_change),
            None if denies_by_default => (Action::Deny, OnChange::Reevaluate),
            None => (Action::Allow, OnChange::Reevaluate),
        };
        let same = decider.action == action
            && action != Action::Limit
            && (!enforced || decider.on_change == on_change);
        let standing = &mut self.standings[*first as usize];
        standing.decides = true;
        standing.needed |= !same;
        match second {
            Some(second) => {
                standing.instead.insert(*second);
            }
            None => standing.default_instead = true,
        }
    }

    fn conflicts(&mut self, rules: &[u32]) {
        for rule in rules {
            let own = &self.rules[*rule as usize];
            if !own.action.permits() {
                continue;
            }
            let winner = rules.iter().find(|at| {
                let other = &self.rules[**at as usize];
                other.tier == own.tier && !other.action.permits()
            });
            let standing = &mut self.standings[*rule as usize];
            standing.denied_by.extend(winner);
        }
    }
}

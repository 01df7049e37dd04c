//! Judges rules and invariants, and what nobody uses.

use super::{Invariant, Judge, Names, Rule, ValidPolicy, is_name, nameless};
use crate::file::{At, RuleText, Words};
use crate::limits::{
    BURST_BITS_MIN, EXPIRY_WARNING_DAYS, HOPS_MAX, INVARIANTS_MAX, LIMIT_RULES_MAX, RULE_ENDS_MAX,
    RULES_MAX,
};
use crate::prefix::{Span, Union};
use crate::problem::{Kind, Problem};
use crate::rate::{self, Rate};
use abi::Action;
use abi::image::{BUILT_IN_SEGMENTS, RateKind, RuleMode, SEGMENT_ANY, Tier, rule_id};
use abi::verdict::OnChange;
use core::ops::ControlFlow;
use jiff::civil::Date;
use std::collections::HashMap;

const TIERS: [(&str, Tier); 3] = [
    ("guardrail", Tier::Guardrail),
    ("application", Tier::Application),
    ("baseline", Tier::Baseline),
];
const ACTIONS: [(&str, Action); 4] = [
    ("allow", Action::Allow),
    ("deny", Action::Deny),
    ("reject", Action::Reject),
    ("limit", Action::Limit),
];
const RULE_MODES: [(&str, RuleMode); 2] =
    [("test", RuleMode::Test), ("enforce", RuleMode::Enforce)];
const ON_CHANGES: [(&str, OnChange); 3] = [
    ("keep", OnChange::Keep),
    ("re-evaluate", OnChange::Reevaluate),
    ("kill", OnChange::Kill),
];

/// Names that rules may use.
struct Known {
    segments: Names,
    services: Names,
}

impl Judge<'_> {
    pub(super) fn rules(&mut self, policy: &mut ValidPolicy) {
        let file = self.file;
        let at = file
            .rules
            .get(RULES_MAX)
            .map_or(0, |first_over| first_over.at);
        self.count(at, "rules", file.rules.len(), RULES_MAX);
        let known = known(policy);
        let mut names = Names::of(Kind::Rule);
        let mut rules = Vec::with_capacity(file.rules.len());
        for (index, text) in file.rules.iter().enumerate() {
            let name = self.name(&mut names, index, text.name.as_ref());
            let name = name.continue_value().unwrap_or_else(nameless);
            rules.push(self.rule(name, text, &known));
        }
        policy.rules = rules.into();
        let lines = file.rules.iter().map(|text| file.lines.line(text.at));
        policy.rule_lines = lines.collect();
        let limits = policy
            .rules
            .iter()
            .filter(|rule| rule.action == Action::Limit)
            .count();
        self.count(0, "rules that limit", limits, LIMIT_RULES_MAX);
        self.ids(policy);
        self.invariants(policy, &known);
    }

    fn rule(&mut self, name: String, text: &RuleText, known: &Known) -> Rule {
        let about = |key| (Kind::Rule, name.as_str(), key);
        let tier = text
            .tier
            .as_ref()
            .and_then(|word| self.word(about("tier"), word, &TIERS));
        let action = text
            .action
            .as_ref()
            .and_then(|word| self.word(about("action"), word, &ACTIONS));
        let mode = text
            .mode
            .as_ref()
            .and_then(|word| self.word(about("mode"), word, &RULE_MODES));
        let on_change = text
            .on_change
            .as_ref()
            .and_then(|word| self.word(about("on_change"), word, &ON_CHANGES));
        let owner = self.note(about("owner"), text.owner.as_ref());
        let ticket = self.note(about("ticket"), text.ticket.as_ref());
        let comment = self.note(about("comment"), text.comment.as_ref());
        let expires = text
            .expires
            .as_ref()
            .and_then(|date| self.expires(&name, date));
        let from = self.segment_list(Kind::Rule, &name, "from", text.from.as_ref(), known);
        let to = self.segment_list(Kind::Rule, &name, "to", text.to.as_ref(), known);
        let services = self.service_list((Kind::Rule, &name), text.services.as_ref(), known);
        let limit = action.and_then(|action| self.limit(&name, text, action));
        Rule {
            tier: tier.unwrap_or(Tier::Application),
            from,
            to,
            services,
            action: action.unwrap_or(Action::Deny),
            limit,
            mode: mode.unwrap_or(RuleMode::Inherit),
            owner,
            ticket,
            expires,
            on_change: on_change.unwrap_or(OnChange::Reevaluate),
            comment,
            name,
        }
    }

    /// Segments of one end, ascending; `any` makes the others superfluous.
    fn segment_list(
        &mut self,
        kind: Kind,
        name: &str,
        key: &'static str,
        words: Option<&Words>,
        known: &Known,
    ) -> Vec<u32> {
        let Some(words) = words else {
            return Vec::new();
        };
        if words.value.is_empty() {
            self.problem(
                words.at,
                Problem::Empty {
                    kind,
                    name: name.to_owned(),
                    key,
                },
            );
        }
        self.count(
            words.at,
            "segments in one list",
            words.value.len(),
            RULE_ENDS_MAX,
        );
        let mut list: Vec<u32> = words
            .value
            .iter()
            .filter_map(|word| self.segment_word(kind, name, key, word, known))
            .collect();
        list.sort_unstable();
        list.dedup();
        if list.contains(&SEGMENT_ANY) {
            vec![SEGMENT_ANY]
        } else {
            list
        }
    }

    fn segment_word(
        &mut self,
        kind: Kind,
        name: &str,
        key: &'static str,
        word: &At<String>,
        known: &Known,
    ) -> Option<u32> {
        let built_in = BUILT_IN_SEGMENTS
            .iter()
            .position(|built_in| *built_in == word.value);
        let found = match built_in {
            Some(index) => u32::try_from(index).ok(),
            None => known.segments.get(&word.value),
        };
        if found.is_none() {
            let near = known.segments.nearest(&word.value, &BUILT_IN_SEGMENTS);
            let (name, found_word) = (name.to_owned(), word.value.clone());
            let problem = Problem::UnknownSegment {
                kind,
                name,
                key,
                found: found_word,
                near,
            };
            self.problem(word.at, problem);
        }
        found
    }

    /// Services, ascending; empty means any.
    fn service_list(
        &mut self,
        (kind, name): (Kind, &str),
        words: Option<&Words>,
        known: &Known,
    ) -> Vec<u32> {
        let Some(words) = words else {
            return Vec::new();
        };
        self.count(
            words.at,
            "services in one list",
            words.value.len(),
            RULE_ENDS_MAX,
        );
        let mut list = Vec::new();
        for At { value, at } in &words.value {
            match known.services.get(value) {
                Some(index) => list.push(index),
                None if value == "any" => {}
                None => {
                    let near = known.services.nearest(value, &["any"]);
                    let (name, found) = (name.to_owned(), value.clone());
                    let problem = Problem::UnknownService {
                        kind,
                        name,
                        found,
                        near,
                    };
                    self.problem(*at, problem);
                }
            }
        }
        if words.value.iter().any(|word| word.value == "any") {
            return Vec::new();
        }
        list.sort_unstable();
        list.dedup();
        list
    }

    fn limit(&mut self, rule: &str, text: &RuleText, action: Action) -> Option<(Rate, u64)> {
        let owned = || rule.to_owned();
        if action != Action::Limit {
            if let Some(rate) = &text.rate {
                self.problem(
                    rate.at,
                    Problem::RateUnused {
                        rule: owned(),
                        key: "rate",
                    },
                );
            }
            if let Some(burst) = &text.burst {
                self.problem(
                    burst.at,
                    Problem::RateUnused {
                        rule: owned(),
                        key: "burst",
                    },
                );
            }
            return None;
        }
        let written = text.rate.as_ref()?;
        let Some(rate) = rate::parse(&written.value) else {
            self.problem(
                written.at,
                Problem::Rate {
                    rule: owned(),
                    found: written.value.clone(),
                },
            );
            return None;
        };
        let least = if rate.kind == RateKind::Bits {
            BURST_BITS_MIN
        } else {
            1
        };
        let Some(burst) = &text.burst else {
            return Some((rate, rate.per_second.max(least)));
        };
        let found = burst.value;
        match u64::try_from(found) {
            Ok(tokens) if tokens >= least => Some((rate, tokens)),
            _ => {
                self.problem(
                    burst.at,
                    Problem::Burst {
                        rule: owned(),
                        found,
                        least,
                    },
                );
                None
            }
        }
    }

    fn expires(&mut self, rule: &str, date: &At<String>) -> Option<Date> {
        let Ok(expires) = date.value.parse::<Date>() else {
            let found = date.value.clone();
            self.problem(
                date.at,
                Problem::Date {
                    rule: rule.to_owned(),
                    found,
                },
            );
            return None;
        };
        let rule = rule.to_owned();
        let days = (expires - self.today).get_days();
        if days < 0 {
            self.problem(date.at, Problem::Expired { rule, expires });
        } else if days <= EXPIRY_WARNING_DAYS {
            self.problem(
                date.at,
                Problem::Expiring {
                    rule,
                    expires,
                    days,
                },
            );
        }
        Some(expires)
    }

    /// Ids are hashes of names: two that meet could not be told apart in records.
    fn ids(&mut self, policy: &ValidPolicy) {
        let mut first: HashMap<u64, (&Rule, u32)> = HashMap::with_capacity(policy.rules.len());
        let rules = policy.rules.iter().zip(policy.rule_lines.iter().copied());
        for ((rule, line), text) in rules.zip(&self.file.rules) {
            let found = first.entry(rule_id(&rule.name)).or_insert((rule, line));
            let (other, other_line) = *found;
            if other.name != rule.name {
                self.problems.push((
                    text.at,
                    Problem::SameId {
                        name: rule.name.clone(),
                        other: other.name.clone(),
                        other_line,
                    },
                ));
            }
        }
    }

    fn invariants(&mut self, policy: &mut ValidPolicy, known: &Known) {
        let file = self.file;
        self.count(0, "invariants", file.invariants.len(), INVARIANTS_MAX);
        let mut names = Names::of(Kind::Invariant);
        let mut invariants = Vec::with_capacity(file.invariants.len());
        for (index, text) in file.invariants.iter().enumerate() {
            let name = self.name(&mut names, index, text.name.as_ref());
            let (Some(never), ControlFlow::Continue(name)) = (&text.never, name) else {
                continue;
            };
            let mut end = |key, word: &Option<At<String>>| {
                let word = word.as_ref()?;
                self.segment_word(Kind::Invariant, &name, key, word, known)
            };
            let (from, to) = (end("from", &never.from), end("to", &never.to));
            let hops = never.hops.as_ref().map_or(1, |hops| hops.value);
            if !(1..=HOPS_MAX).contains(&hops) {
                let at = never.hops.as_ref().map_or(never.at, |hops| hops.at);
                let problem = Problem::Hops {
                    invariant: name.clone(),
                    found: hops,
                    limit: HOPS_MAX,
                };
                self.problem(at, problem);
            }
            let about = (Kind::Invariant, name.as_str());
            let services = self.service_list(about, never.services.as_ref(), known);
            let except = match &never.except {
                Some(words) if words.value.is_empty() => Vec::new(),
                words => self.segment_list(Kind::Invariant, &name, "except", words.as_ref(), known),
            };
            if let (Some(from), Some(to)) = (from, to) {
                let line = file.lines.line(text.at);
                invariants.push(Invariant {
                    name,
                    from,
                    to,
                    hops,
                    services,
                    except,
                    line,
                });
            }
        }
        policy.invariants = invariants.into();
    }

    /// Warnings about what nothing speaks of. Left out beside errors: a slip in a name would make
    /// them false.
    pub(super) fn unused(&mut self, policy: &ValidPolicy) {
        let file = self.file;
        if !self.is_good() {
            return;
        }
        let mut segments = vec![false; policy.segments.len() + BUILT_IN_SEGMENTS.len()];
        let mut services = vec![false; policy.services.len()];
        for rule in policy.rules.iter() {
            rule.from
                .iter()
                .chain(&rule.to)
                .for_each(|at| segments[*at as usize] = true);
            rule.services
                .iter()
                .for_each(|at| services[*at as usize] = true);
        }
        for at in policy.invariants.iter().flat_map(|i| &i.services) {
            services[*at as usize] = true;
        }
        let named = segments.iter().skip(BUILT_IN_SEGMENTS.len());
        for ((used, segment), text) in named.zip(policy.segments.iter()).zip(&file.segments) {
            if !used {
                let segment = segment.name.clone();
                self.problem(text.at, Problem::SegmentWithoutRules { segment });
            }
        }
        for ((used, service), text) in services
            .iter()
            .zip(policy.services.iter())
            .zip(&file.services)
        {
            if !used {
                self.problem(
                    text.at,
                    Problem::ServiceUnused {
                        service: service.name.clone(),
                    },
                );
            }
        }
    }

    /// Workloads that are in no segment, told as [`Self::unused`] is.
    pub(super) fn alone(&mut self, policy: &ValidPolicy) {
        let file = self.file;
        if !self.is_good() {
            return;
        }
        let mut placed = vec![false; policy.workloads.len()];
        for index in policy
            .segments
            .iter()
            .flat_map(|segment| &segment.workloads)
        {
            placed[*index as usize] = true;
        }
        let nets = policy
            .segments
            .iter()
            .flat_map(|segment| &segment.addresses);
        let covered = Union::of(nets.map(|net| Span::from(*net)).collect());
        for ((placed, workload), text) in placed
            .iter()
            .zip(policy.workloads.iter())
            .zip(&file.workloads)
        {
            let touched = workload
                .addresses
                .iter()
                .any(|net| covered.touches(Span::from(*net)));
            if !placed && !touched {
                self.problem(
                    text.at,
                    Problem::WorkloadAlone {
                        workload: workload.name.clone(),
                    },
                );
            }
        }
    }
}

/// Names of what is valid, first come first named.
fn known(policy: &ValidPolicy) -> Known {
    let mut known = Known {
        segments: Names::of(Kind::Segment),
        services: Names::of(Kind::Service),
    };
    let built_in = BUILT_IN_SEGMENTS.len();
    for (index, segment) in policy
        .segments
        .iter()
        .enumerate()
        .filter(|(_, s)| is_name(&s.name))
    {
        let index = u32::try_from(index + built_in).unwrap_or(u32::MAX);
        known
            .segments
            .first
            .entry(segment.name.clone())
            .or_insert((index, 0));
    }
    for (index, service) in policy
        .services
        .iter()
        .enumerate()
        .filter(|(_, s)| is_name(&s.name))
    {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        known
            .services
            .first
            .entry(service.name.clone())
            .or_insert((index, 0));
    }
    known
}

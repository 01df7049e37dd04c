//! What two policies say differently, by name.

use crate::prefix::Span;
use crate::validate::{Invariant, Rule, Segment, Service, ValidPolicy, Workload};
use abi::image::{BUILT_IN_SEGMENTS, RuleMode};
use core::fmt;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// What came of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// Only the new policy has it.
    Added,
    /// Only the old policy has it.
    Removed,
    /// Both have it, and it is not the same.
    Altered,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Altered => "changed",
        })
    }
}

/// A table that is written differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordChange {
    /// `policy`, `segment`, `workload`, `service`, `rule` or `invariant`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What came of it.
    pub changed: Changed,
    /// What it is, or each thing that is different: `mode: test -> enforce`.
    pub details: Vec<String>,
}

/// A table as keys and values, in the order in which they are told.
type Facts = Vec<(&'static str, String)>;

/// Everything that is different, by kind, then by name.
pub(super) fn changes(old: &ValidPolicy, new: &ValidPolicy) -> Vec<WordChange> {
    let mut changes = Vec::new();
    let policy = |policy: &ValidPolicy| {
        let internal = nets(&policy.internal);
        BTreeMap::from([(String::new(), vec![("internal", internal)])])
    };
    compare("policy", &policy(old), &policy(new), &mut changes);
    compare("segment", &segments(old), &segments(new), &mut changes);
    compare("workload", &workloads(old), &workloads(new), &mut changes);
    compare("service", &services(old), &services(new), &mut changes);
    compare("rule", &rules(old), &rules(new), &mut changes);
    compare(
        "invariant",
        &invariants(old),
        &invariants(new),
        &mut changes,
    );
    changes
}

fn compare(
    kind: &'static str,
    old: &BTreeMap<String, Facts>,
    new: &BTreeMap<String, Facts>,
    changes: &mut Vec<WordChange>,
) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let nothing = Facts::new();
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        let changed = match (before, after) {
            (None, _) => Changed::Added,
            (_, None) => Changed::Removed,
            (Some(before), Some(after)) if before == after => continue,
            _ => Changed::Altered,
        };
        let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
        changes.push(WordChange {
            kind,
            name: name.clone(),
            changed,
            details: details(changed, before, after),
        });
    }
}

fn details(changed: Changed, before: &Facts, after: &Facts) -> Vec<String> {
    let said = |facts: &Facts| {
        let told = facts.iter().filter(|(_, value)| !value.is_empty());
        told.map(|(key, value)| format!("{key}: {value}")).collect()
    };
    match changed {
        Changed::Added => said(after),
        Changed::Removed => said(before),
        Changed::Altered => {
            let or_none = |value: &str| match value {
                "" => "none".to_owned(),
                value => value.to_owned(),
            };
            let pairs = before.iter().zip(after);
            pairs
                .filter(|(before, after)| before != after)
                .map(|((key, before), (_, after))| {
                    format!("{key}: {} -> {}", or_none(before), or_none(after))
                })
                .collect()
        }
    }
}

fn nets(nets: &[IpNet]) -> String {
    let mut told: Vec<String> = nets
        .iter()
        .map(|net| Span::from(*net).to_string())
        .collect();
    told.sort();
    told.join(", ")
}

fn segment_name(policy: &ValidPolicy, at: u32) -> &str {
    let at = at as usize;
    match at.checked_sub(BUILT_IN_SEGMENTS.len()) {
        None => BUILT_IN_SEGMENTS[at],
        Some(own) => policy
            .segments
            .get(own)
            .map_or("?", |segment| &segment.name),
    }
}

fn segment_names(policy: &ValidPolicy, segments: &[u32]) -> String {
    let names: BTreeSet<&str> = segments
        .iter()
        .map(|at| segment_name(policy, *at))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn service_names(policy: &ValidPolicy, services: &[u32]) -> String {
    let name = |at: &u32| policy.services.get(*at as usize).map(|s| s.name.as_str());
    let names: BTreeSet<&str> = services.iter().filter_map(name).collect();
    match names.len() {
        0 => "any".to_owned(),
        _ => names.into_iter().collect::<Vec<_>>().join(", "),
    }
}

fn segments(policy: &ValidPolicy) -> BTreeMap<String, Facts> {
    let facts = |segment: &Segment| {
        let select = segment.select.as_ref().map(ToString::to_string);
        let facts = vec![
            ("mode", segment.mode.to_string()),
            ("select", select.unwrap_or_default()),
            ("addresses", nets(&segment.addresses)),
        ];
        (segment.name.clone(), facts)
    };
    policy.segments.iter().map(facts).collect()
}

fn workloads(policy: &ValidPolicy) -> BTreeMap<String, Facts> {
    let mut selected: Vec<Vec<u32>> = vec![Vec::new(); policy.workloads.len()];
    let own = u32::try_from(BUILT_IN_SEGMENTS.len()).unwrap_or(0);
    for (at, segment) in (own..).zip(policy.segments.iter()) {
        let workloads = segment.workloads.iter();
        workloads.for_each(|workload| selected[*workload as usize].push(at));
    }
    let facts = |(workload, selected): (&Workload, Vec<u32>)| {
        let labels: Vec<String> = workload
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let facts = vec![
            ("addresses", nets(&workload.addresses)),
            ("labels", labels.join(", ")),
            ("selected by", segment_names(policy, &selected)),
        ];
        (workload.name.clone(), facts)
    };
    policy.workloads.iter().zip(selected).map(facts).collect()
}

fn services(policy: &ValidPolicy) -> BTreeMap<String, Facts> {
    let facts = |service: &Service| {
        let ports: BTreeSet<String> = service.ports.iter().map(ToString::to_string).collect();
        let ports: Vec<String> = ports.into_iter().collect();
        (service.name.clone(), vec![("ports", ports.join(", "))])
    };
    policy.services.iter().map(facts).collect()
}

fn rules(policy: &ValidPolicy) -> BTreeMap<String, Facts> {
    let facts = |rule: &Rule| {
        let mode = match rule.mode {
            RuleMode::Inherit => String::new(),
            RuleMode::Test => "test".to_owned(),
            RuleMode::Enforce => "enforce".to_owned(),
        };
        let limit = rule
            .limit
            .map(|(rate, burst)| format!("{rate} burst {burst}"));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let facts = vec![
            ("action", rule.action.to_string()),
            ("tier", rule.tier.to_string()),
            ("mode", mode),
            ("from", segment_names(policy, &rule.from)),
            ("to", segment_names(policy, &rule.to)),
            ("services", service_names(policy, &rule.services)),
            ("limit", limit.unwrap_or_default()),
            (
                "expires",
                rule.expires
                    .map(|date| date.to_string())
                    .unwrap_or_default(),
            ),
            ("on_change", rule.on_change.to_string()),
            ("owner", text(&rule.owner)),
            ("ticket", text(&rule.ticket)),
        ];
        (rule.name.clone(), facts)
    };
    policy.rules.iter().map(facts).collect()
}

fn invariants(policy: &ValidPolicy) -> BTreeMap<String, Facts> {
    let facts = |invariant: &Invariant| {
        let facts = vec![
            ("from", segment_name(policy, invariant.from).to_owned()),
            ("to", segment_name(policy, invariant.to).to_owned()),
            ("hops", invariant.hops.to_string()),
            ("services", service_names(policy, &invariant.services)),
            ("except", segment_names(policy, &invariant.except)),
        ];
        (invariant.name.clone(), facts)
    };
    policy.invariants.iter().map(facts).collect()
}

//! Proves invariants over the whole policy, and tells the path where one is broken.
//!
//! A path is a row of *hops*. A hop is a connection that the policy permits from an address of one
//! host to an address of another, both of one family; a host is a workload with all of its
//! addresses, or an address that no workload has. A path goes on from a host by anything but ICMP
//! and ICMPv6, from any of its addresses; its last hop may be anything.

use crate::compile::CompiledPolicy;
use crate::reach::walk::{Bits, Quest, Walk};
use crate::reach::{Reach, View};
use crate::validate::Invariant;
use abi::image::SEGMENT_ANY;
use core::fmt;
use std::collections::BTreeMap;

/// Paths told of one broken invariant; the number of the others is told with them.
pub const PATHS_TOLD_MAX: usize = 8;

/// An invariant that a policy breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenInvariant {
    /// Its name.
    pub name: String,
    /// Line of the policy text.
    pub line: u32,
    /// Segment that must not reach `to`.
    pub from: String,
    /// Segment that must not be reached.
    pub to: String,
    /// Within how many hops it must not.
    pub hops: i64,
    /// Shortest first, one for each kind of host that is reached.
    pub paths: Vec<Path>,
    /// Kinds of hosts that are reached and not told.
    pub untold: usize,
}

/// One path. `hops[i]` leads from `ends[i]` to `ends[i + 1]`; no hop at all means that one host is
/// in both segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// From the first to the last.
    pub ends: Vec<PathEnd>,
    /// Between them.
    pub hops: Vec<PathHop>,
}

/// A host on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathEnd {
    /// A segment it is in: the one that the rules beside it speak of.
    pub segment: String,
    /// A workload, or an address that no workload has; one of those that will do.
    pub host: String,
}

/// What permits a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathHop {
    /// By rule, the one for most services first; never empty.
    pub openings: Vec<Opening>,
}

/// What one rule, or the default, permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The rule; none where the default permits.
    pub rule: Option<String>,
    /// For which services.
    pub services: Vec<String>,
}

/// As people read it: `dev -> jump (rule dev-to-jump, ssh) -> cardholder (rule ops, tcp/any)`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ends = self.ends.iter();
        if let Some(first) = ends.next() {
            f.write_str(&first.segment)?;
        }
        for (end, hop) in ends.zip(&self.hops) {
            write!(f, " -> {} (", end.segment)?;
            if let Some(opening) = hop.openings.first() {
                match &opening.rule {
                    Some(rule) => write!(f, "rule {rule}")?,
                    None => f.write_str("by default")?,
                }
                write!(f, ", {}", opening.services.join(", "))?;
            }
            match hop.openings.len() {
                0 | 1 => f.write_str(")")?,
                more => write!(f, "; and {} more)", more - 1)?,
            }
        }
        Ok(())
    }
}

impl Path {
    /// One host of each end: `build-1 -> jump-1 -> db-1`.
    #[must_use]
    pub fn hosts(&self) -> String {
        let hosts: Vec<&str> = self.ends.iter().map(|end| end.host.as_str()).collect();
        hosts.join(" -> ")
    }
}

/// The invariants that a policy breaks, in its order. [`View::Intended`] asks what the policy is
/// meant to permit, and is what `policy check` asks; [`View::Enforced`] asks what passes now.
///
/// # Unbounded
/// For every kind of host that a path comes to, all other identities are asked once.
#[must_use]
pub fn prove(compiled: &CompiledPolicy, view: View) -> Vec<BrokenInvariant> {
    let invariants = &compiled.policy().invariants;
    if invariants.is_empty() {
        return Vec::new();
    }
    let mut reach = Reach::new(compiled, view);
    let mut broken = BTreeMap::new();
    let places: Vec<usize> = (0..invariants.len()).collect();
    // Invariants about the same services share what is worked out about hops.
    let mut by_services: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for at in places {
        let services = invariants[at].services.as_slice();
        by_services.entry(services).or_default().push(at);
    }
    for (services, places) in by_services {
        let counting = counting(&reach, services);
        let mut walk = Walk::new(&mut reach, counting);
        for at in places {
            if let Some(found) = prove_one(&mut walk, &invariants[at]) {
                broken.insert(at, found);
            }
        }
    }
    broken.into_values().collect()
}

/// Classes of services that an invariant counts; none where it counts all.
fn counting(reach: &Reach<'_>, services: &[u32]) -> Option<Vec<bool>> {
    if services.is_empty() {
        return None;
    }
    let mut counting = vec![false; reach.services.classes().len()];
    for at in services {
        let name = &reach.compiled.policy().services[*at as usize].name;
        for class in reach.services.named(name) {
            counting[*class as usize] = true;
        }
    }
    Some(counting)
}

fn prove_one(walk: &mut Walk<'_, '_>, invariant: &Invariant) -> Option<BrokenInvariant> {
    let [from, to, without] = [
        members(walk, &[invariant.from]),
        members(walk, &[invariant.to]),
        members(walk, &invariant.except),
    ];
    // Everybody is in a segment and in itself, and in `any`: that says nothing about reach.
    let others_only = invariant.from == invariant.to
        || invariant.from == SEGMENT_ANY
        || invariant.to == SEGMENT_ANY;
    let mut found: Vec<Vec<u32>> = Vec::new();
    if !others_only {
        let both = from
            .iter()
            .filter(|kind| to.has(*kind) && !without.has(*kind));
        found.extend(both.map(|kind| vec![kind]));
    }
    if found.is_empty() {
        let quest = Quest {
            from: &from,
            to: &to,
            without: &without,
            hops: invariant.hops,
            others_only,
        };
        found = walk.search(&quest).into_values().collect();
        found.sort_by_key(Vec::len);
    }
    if found.is_empty() {
        return None;
    }
    let untold = found.len().saturating_sub(PATHS_TOLD_MAX);
    let told = found.iter().take(PATHS_TOLD_MAX);
    let paths = told.map(|kinds| path(walk, invariant, kinds)).collect();
    let name = |segment| walk.reach.segment_name(segment).to_owned();
    Some(BrokenInvariant {
        name: invariant.name.clone(),
        line: invariant.line,
        from: name(invariant.from),
        to: name(invariant.to),
        hops: invariant.hops,
        paths,
        untold,
    })
}

/// Kinds of hosts that are in any of some segments.
fn members(walk: &Walk<'_, '_>, segments: &[u32]) -> Bits {
    let kinds = (0..).zip(&walk.reach.ends.kinds);
    let within = kinds.filter(|(_, kind)| {
        segments
            .iter()
            .any(|segment| *segment == SEGMENT_ANY || kind.segments.binary_search(segment).is_ok())
    });
    Bits::of(walk.kinds(), within.map(|(at, _)| at))
}

/// Rule ids and what they permit, the one for most services first.
type Permits = Vec<(Option<u64>, Vec<u32>)>;

fn path(walk: &Walk<'_, '_>, invariant: &Invariant, kinds: &[u32]) -> Path {
    let steps: Vec<&[u32]> = kinds.windows(2).collect();
    let permits: Vec<Permits> = steps
        .iter()
        .enumerate()
        .map(|(at, step)| permits(walk, step[0], step[1], at + 1 == steps.len()))
        .collect();
    let ends = (0..kinds.len())
        .map(|at| PathEnd {
            segment: end_segment(walk, invariant, kinds, &permits, at),
            // A path that comes back to a kind of host comes to another host.
            host: walk
                .reach
                .host_name(kinds[at], usize::from(kinds[..at].contains(&kinds[at]))),
        })
        .collect();
    let name = |id: u64| {
        let rule = walk.reach.compiled.image.rule_by_id(id);
        rule.map_or_else(String::new, |rule| rule.name.to_owned())
    };
    let hop = |permits: &Permits| PathHop {
        openings: permits
            .iter()
            .map(|(rule, classes)| Opening {
                rule: rule.map(name),
                services: walk.reach.services.told(classes),
            })
            .collect(),
    };
    Path {
        ends,
        hops: permits.iter().map(hop).collect(),
    }
}

/// What permits a hop from one kind of host to another.
fn permits(walk: &Walk<'_, '_>, from: u32, to: u32, last: bool) -> Permits {
    let reach = &walk.reach;
    let mut by_rule: BTreeMap<Option<u64>, Vec<u32>> = BTreeMap::new();
    let classes = u32::try_from(reach.services.classes().len()).unwrap_or(u32::MAX);
    for src in &reach.kind(from).seats {
        for dst in reach.kind(to).seats.iter().filter(|dst| dst.v4 == src.v4) {
            for class in (0..classes).filter(|class| walk.counts(*class, last)) {
                let (action, rule) = reach.decide(src.identity, dst.identity, class);
                if action.permits() {
                    by_rule.entry(rule).or_default().push(class);
                }
            }
        }
    }
    let mut permits: Permits = by_rule.into_iter().collect();
    for (_, classes) in &mut permits {
        classes.sort_unstable();
        classes.dedup();
    }
    let name = |id: &Option<u64>| {
        let rule = id.and_then(|id| reach.compiled.image.rule_by_id(id));
        rule.map(|rule| rule.name)
    };
    permits.sort_by_key(|(rule, classes)| (core::cmp::Reverse(classes.len()), name(rule)));
    permits
}

/// The segment by which an end of a path is best named.
fn end_segment(
    walk: &Walk<'_, '_>,
    invariant: &Invariant,
    kinds: &[u32],
    permits: &[Permits],
    at: usize,
) -> String {
    let reach = &walk.reach;
    let own = &reach.kind(kinds[at]).segments;
    let stated = match at {
        _ if kinds.len() == 1 => Some(invariant.from),
        0 => Some(invariant.from),
        last if last + 1 == kinds.len() => Some(invariant.to),
        _ => None,
    };
    if let Some(stated) = stated.filter(|segment| *segment != SEGMENT_ANY) {
        return reach.segment_name(stated).to_owned();
    }
    let rule = |hop: Option<&Permits>| {
        let id = hop?.first()?.0?;
        reach.compiled.image.rule_by_id(id)
    };
    let (before, after) = (
        rule(at.checked_sub(1).and_then(|hop| permits.get(hop))),
        rule(permits.get(at)),
    );
    let spoken: Vec<u32> = before
        .iter()
        .flat_map(|rule| rule.to())
        .chain(after.iter().flat_map(|rule| rule.from()))
        .collect();
    let segment = spoken
        .into_iter()
        .find(|segment| own.binary_search(segment).is_ok())
        .or(own.last().copied());
    segment.map_or_else(|| "any".to_owned(), |at| reach.segment_name(at).to_owned())
}

//! Places atoms in segments: those that the policy has, else by labels, else by behaviour.

use super::atoms::{Atom, Atoms};
use super::names::{Taken, service};
use super::propose::NewSegment;
use super::{BEHAVIOUR_PERCENT, Manner, REUSE_PERCENT};
use crate::prefix::Span;
use crate::simulate::draft::Draft;
use crate::validate::{ValidPolicy, Workload};
use abi::Mode;
use abi::image::BUILT_IN_SEGMENTS;
use core::net::IpAddr;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// Number of the built-in segments, which come before the policy's own.
const BUILT_IN: u32 = 3;

/// A segment that rules can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// Workloads that it selects, where it is the policy's own and has a selector.
    pub(super) selects: Option<usize>,
    /// Its mode; none for the built-in ones.
    pub(super) mode: Option<Mode>,
}

/// Where every atom is.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
    pub(super) of: BTreeMap<Atom, usize>,
    pub(super) new: Vec<NewSegment>,
    pub(super) taken: Taken,
}

/// One service in one direction: whether it was asked for, protocol, key, and of what kind the peers were.
type Habit = (bool, u8, u16, usize);

pub(super) fn group(
    policy: &ValidPolicy,
    draft: &Draft<'_>,
    atoms: &Atoms,
    manner: &Manner,
) -> Groups {
    let mut placing = Placing {
        policy,
        manner,
        groups: Groups {
            groups: Vec::new(),
            of: BTreeMap::new(),
            new: Vec::new(),
            taken: Taken::of(
                policy
                    .segments
                    .iter()
                    .map(|s| s.name.as_str())
                    .chain(BUILT_IN_SEGMENTS),
            ),
        },
        by_name: BTreeMap::new(),
    };
    let all: BTreeSet<&Atom> = atoms
        .asks
        .keys()
        .flat_map(|(src, dst, ..)| [src, dst])
        .collect();
    let mut by_labels: BTreeMap<Vec<(&str, &str)>, Vec<&Atom>> = BTreeMap::new();
    let mut by_behaviour = Vec::new();
    let (mut many, mut links) = (Vec::new(), Vec::new());
    for atom in all {
        if let Some(segment) = placing.own_segment(draft, atom) {
            placing.place_existing(atom, segment);
            continue;
        }
        match atom {
            Atom::Internet => placing.place_built_in(atom),
            Atom::Multicast(address) => many.push((atom, *address)),
            Atom::LinkLocal(address) => links.push((atom, *address)),
            Atom::Workload(place) => match labels(policy, *place) {
                labels if labels.is_empty() => by_behaviour.push(atom),
                labels => by_labels.entry(labels).or_default().push(atom),
            },
            Atom::Address(_) => by_behaviour.push(atom),
        }
    }
    placing.place_special("multicast", &many, MANY);
    placing.place_special("link-local", &links, LINK);
    for (labels, members) in by_labels {
        placing.place_labelled(&labels, &members);
    }
    placing.place_by_behaviour(atoms, &by_behaviour);
    placing.groups
}

/// Whole ranges that stand for single addresses of their kind.
const MANY: &[&str] = &["224.0.0.0/4", "255.255.255.255", "ff00::/8"];
const LINK: &[&str] = &["0.0.0.0", "169.254.0.0/16", "::", "fe80::/10"];

fn labels(policy: &ValidPolicy, place: u32) -> Vec<(&str, &str)> {
    let workload = policy.workloads.get(place as usize);
    workload.map_or_else(Vec::new, |w| {
        let pairs = w.labels.iter();
        pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect()
    })
}

struct Placing<'p> {
    policy: &'p ValidPolicy,
    manner: &'p Manner,
    groups: Groups,
    by_name: BTreeMap<String, usize>,
}

impl Placing<'_> {
    /// The policy's own segment with the fewest members that holds the atom.
    fn own_segment(&self, draft: &Draft<'_>, atom: &Atom) -> Option<u32> {
        let segments = atom.segments(draft, self.policy);
        let own = segments.iter().filter_map(|at| at.checked_sub(BUILT_IN));
        own.min_by_key(|at| (self.size(*at), *at))
    }

    /// Members of a segment, as far as they can be counted: workloads, or addresses.
    fn size(&self, segment: u32) -> u128 {
        let Some(segment) = self.policy.segments.get(segment as usize) else {
            return u128::MAX;
        };
        if segment.select.is_some() {
            return segment.workloads.len() as u128;
        }
        let sizes = segment.addresses.iter().map(|net| {
            let span = Span::from(*net);
            (span.last() - span.address).saturating_add(1)
        });
        sizes.fold(0, u128::saturating_add)
    }

    fn add(&mut self, group: Group) -> usize {
        if let Some(at) = self.by_name.get(&group.name) {
            return *at;
        }
        let at = self.groups.groups.len();
        self.by_name.insert(group.name.clone(), at);
        self.groups.groups.push(group);
        at
    }

    fn place_existing(&mut self, atom: &Atom, segment: u32) {
        let Some(segment) = self.policy.segments.get(segment as usize) else {
            return;
        };
        let at = self.add(Group {
            name: segment.name.clone(),
            selects: segment.select.is_some().then_some(segment.workloads.len()),
            mode: Some(segment.mode),
        });
        self.groups.of.insert(atom.clone(), at);
    }

    fn place_built_in(&mut self, atom: &Atom) {
        let at = self.add(Group {
            name: BUILT_IN_SEGMENTS[1].to_owned(),
            selects: None,
            mode: None,
        });
        self.groups.of.insert(atom.clone(), at);
    }

    /// A new segment, in test.
    fn place_new(&mut self, members: &[&Atom], segment: NewSegment) {
        let at = self.add(Group {
            name: segment.name.clone(),
            selects: None,
            mode: Some(Mode::Test),
        });
        self.groups.new.push(segment);
        for atom in members {
            self.groups.of.insert((*atom).clone(), at);
        }
    }

    fn name(&mut self, wanted: &str) -> String {
        let prefix = &self.manner.name_prefix;
        self.groups.taken.take(&format!("{prefix}{wanted}"))
    }

    fn place_special(&mut self, wanted: &str, members: &[(&Atom, IpAddr)], ranges: &[&str]) {
        if members.is_empty() {
            return;
        }
        let ranges: Vec<IpNet> = ranges.iter().filter_map(|text| net(text)).collect();
        let mut used = BTreeSet::new();
        for (_, address) in members {
            let range = ranges.iter().find(|net| net.contains(address));
            used.insert(range.copied().unwrap_or_else(|| IpNet::from(*address)));
        }
        let name = self.name(wanted);
        let atoms: Vec<&Atom> = members.iter().map(|(atom, _)| *atom).collect();
        let seen = atoms.len();
        let segment = NewSegment {
            name,
            select: None,
            addresses: used.into_iter().map(|net| text(&net)).collect(),
            mode: Mode::Test,
            seen,
            why: "addresses that belong to no single host".to_owned(),
        };
        self.place_new(&atoms, segment);
    }

    /// Workloads with the same labels: by a selector that selects these alone, where enough of them were seen.
    fn place_labelled(&mut self, labels: &[(&str, &str)], members: &[&Atom]) {
        let all = self.policy.workloads.iter();
        let alike: Vec<&Workload> = all
            .filter(|w| {
                let own = w.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
                own.eq(labels.iter().copied())
            })
            .collect();
        let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        let is_whole = members.len() * 100 >= alike.len() * REUSE_PERCENT;
        let wanted = values.join("-").replace([':', '/'], "-");
        let name = self.name(&wanted);
        let segment = NewSegment {
            name,
            select: is_whole.then(|| self.selector(labels)),
            addresses: if is_whole {
                Vec::new()
            } else {
                self.addresses(members)
            },
            mode: Mode::Test,
            seen: members.len(),
            why: format!(
                "{} of {} workloads with these labels",
                members.len(),
                alike.len()
            ),
        };
        self.place_new(members, segment);
    }

    /// A selector that selects exactly the workloads with these labels and no others.
    fn selector(&self, labels: &[(&str, &str)]) -> String {
        let mut terms: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let has = |w: &&Workload| {
            labels
                .iter()
                .all(|(k, v)| w.labels.get(*k).is_some_and(|own| own == v))
        };
        let others: BTreeSet<&str> = self
            .policy
            .workloads
            .iter()
            .filter(has)
            .flat_map(|w| w.labels.keys())
            .map(String::as_str)
            .filter(|key| labels.iter().all(|(own, _)| own != key))
            .collect();
        terms.extend(others.into_iter().map(|key| format!("!{key} exists")));
        terms.join(", ")
    }

    fn addresses(&self, members: &[&Atom]) -> Vec<String> {
        addresses(self.policy, members.iter().copied())
    }

    /// Ends without labels: those that serve the same services are one, and those that serve none and ask the same of
    /// the same.
    fn place_by_behaviour(&mut self, atoms: &Atoms, members: &[&Atom]) {
        let mut clusters: Vec<(BTreeSet<Habit>, Vec<&Atom>)> = Vec::new();
        for atom in members {
            let habits = self.habits(atoms, atom);
            let alike = clusters.iter_mut().find(|(of, _)| is_alike(of, &habits));
            match alike {
                Some((_, cluster)) => cluster.push(atom),
                None => clusters.push((habits, vec![atom])),
            }
        }
        for (habits, cluster) in clusters {
            let (wanted, what) = call(atoms, &habits, &cluster);
            let name = self.name(&wanted);
            let segment = NewSegment {
                name,
                select: None,
                addresses: self.addresses(&cluster),
                mode: Mode::Test,
                seen: cluster.len(),
                why: format!("without labels; {what}"),
            };
            self.place_new(&cluster, segment);
        }
    }

    /// What an end serves; where it serves nothing, what it asks of whom.
    fn habits(&self, atoms: &Atoms, atom: &Atom) -> BTreeSet<Habit> {
        let kind = |peer: &Atom| self.groups.of.get(peer).map_or(0, |at| at + 1);
        let served = atoms.asks.keys().filter(|(_, dst, ..)| dst == atom);
        let served: BTreeSet<Habit> = served
            .map(|(_, _, proto, port)| (false, *proto, *port, 0))
            .collect();
        if !served.is_empty() {
            return served;
        }
        let asked = atoms.asks.keys().filter(|(src, ..)| src == atom);
        asked
            .map(|(_, dst, proto, port)| (true, *proto, *port, kind(dst)))
            .collect()
    }
}

/// Whether so many in a hundred of both ends' habits are the same.
fn is_alike(one: &BTreeSet<Habit>, two: &BTreeSet<Habit>) -> bool {
    let both = one.intersection(two).count();
    let either = one.union(two).count();
    both * 100 >= either * BEHAVIOUR_PERCENT
}

/// What to call ends of the same habits: after the service of which there is most.
fn call(atoms: &Atoms, habits: &BTreeSet<Habit>, cluster: &[&Atom]) -> (String, String) {
    let flows = |(asks, proto, port, _): &Habit| -> u64 {
        let of = atoms.asks.iter().filter(|((src, dst, p, k), _)| {
            let end = if *asks { src } else { dst };
            (p, k) == (proto, port) && cluster.contains(&end)
        });
        of.map(|(_, ask)| ask.sums.flows).sum()
    };
    let most = habits
        .iter()
        .max_by_key(|habit| (flows(habit), core::cmp::Reverse(**habit)));
    let Some((asks, proto, port, _)) = most else {
        return ("others".to_owned(), "seen without a service".to_owned());
    };
    let named = service(*proto, *port);
    let number = habits.len();
    if *asks {
        let what = format!("serve nothing and ask for {}", services(number));
        (format!("{named}-clients"), what)
    } else {
        let what = format!("serve the same {}", services(number));
        (format!("{named}-servers"), what)
    }
}

fn services(number: usize) -> String {
    if number == 1 {
        "1 service".to_owned()
    } else {
        format!("{number} services")
    }
}

/// Addresses of atoms, as a policy writes them.
pub(super) fn addresses<'a>(
    policy: &ValidPolicy,
    members: impl Iterator<Item = &'a Atom>,
) -> Vec<String> {
    let mut nets = BTreeSet::new();
    for atom in members {
        match atom {
            Atom::Workload(place) => {
                let workload = policy.workloads.get(*place as usize);
                nets.extend(
                    workload
                        .into_iter()
                        .flat_map(|w| w.addresses.iter().copied()),
                );
            }
            _ => nets.extend(atom.address().map(IpNet::from)),
        }
    }
    nets.iter().map(text).collect()
}

fn text(net: &IpNet) -> String {
    Span::from(*net).to_string()
}

fn net(text: &str) -> Option<IpNet> {
    crate::prefix::parse(text).ok()
}

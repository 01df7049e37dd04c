//! From who asked whom to rules: one for each segment and service, with all that it reaches.

use super::atoms::{Ask, Atom, Atoms};
use super::groups::{Groups, addresses};
use super::names::{Taken, port, service};
use super::{Manner, REUSE_PERCENT};
use crate::service::Port;
use crate::validate::{Service, ValidPolicy};
use abi::Mode;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

/// What speaks for a proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Flows.
    pub flows: u64,
    /// Of those, with a sure initiator.
    pub sure_flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// IP-layer bytes both ways.
    pub bytes: u64,
    /// First packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
    /// Distinct initiators: workloads, or addresses where there are none; the internet is one.
    pub sources: usize,
    /// Distinct responders.
    pub destinations: usize,
}

/// A segment that is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSegment {
    /// Name.
    pub name: String,
    /// Selector, where one selects exactly these.
    pub select: Option<String>,
    /// Addresses, where none does.
    pub addresses: Vec<String>,
    /// Mode.
    pub mode: Mode,
    /// Members that were seen.
    pub seen: usize,
    /// Why these belong together.
    pub why: String,
}

/// A service that is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewService {
    /// Name.
    pub name: String,
    /// Ports.
    pub ports: Vec<String>,
}

/// A rule that is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuggestedRule {
    /// Name.
    pub name: String,
    /// Segment of the initiators.
    pub from: String,
    /// Segments of the responders.
    pub to: Vec<String>,
    /// Service.
    pub service: String,
    /// What speaks for it.
    pub evidence: Evidence,
}

/// Why nothing is proposed for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOutWhy {
    /// One source tried many destinations or services in vain.
    Scan,
    /// Nothing answered.
    Unanswered,
    /// Both ends are outside: nothing can be enforced about them.
    Outside,
}

/// What no rule covers and nothing is proposed for, by source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Why.
    pub why: LeftOutWhy,
    /// Who asked.
    pub src: IpAddr,
    /// Distinct destinations and services.
    pub asked: usize,
    /// The first of them: destination, protocol, port.
    pub example: (IpAddr, u8, u16),
    /// How much.
    pub evidence: Evidence,
}

/// Everything that is proposed.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) segments: Vec<NewSegment>,
    pub(super) services: Vec<NewService>,
    pub(super) rules: Vec<SuggestedRule>,
    pub(super) left_out: Vec<LeftOut>,
}

/// One rule under way: who asked whom.
#[derive(Debug, Default)]
struct Gathered<'a> {
    sum: Option<Ask>,
    sources: BTreeSet<&'a Atom>,
    /// By segment of the responder.
    destinations: BTreeMap<usize, BTreeSet<&'a Atom>>,
}

impl Evidence {
    fn of(ask: &Ask, sources: usize, destinations: usize) -> Self {
        Self {
            flows: ask.sums.flows,
            sure_flows: ask.sure_flows,
            packets: ask.sums.pkts_fwd.saturating_add(ask.sums.pkts_rev),
            bytes: ask.sums.bytes,
            first_ns: ask.first_ns,
            last_ns: ask.last_ns,
            sources,
            destinations,
        }
    }
}

pub(super) fn propose(
    policy: &ValidPolicy,
    atoms: &Atoms,
    groups: &Groups,
    manner: &Manner,
) -> Proposal {
    let mut services = Services::new(policy, atoms, manner);
    let mut gathered: BTreeMap<(usize, String), Gathered<'_>> = BTreeMap::new();
    for ((src, dst, proto, key), ask) in &atoms.asks {
        let (Some(from), Some(to)) = (groups.of.get(src), groups.of.get(dst)) else {
            continue;
        };
        let rule = gathered
            .entry((*from, services.name(*proto, *key)))
            .or_default();
        match &mut rule.sum {
            Some(sum) => sum.add(ask),
            None => rule.sum = Some(ask.clone()),
        }
        rule.sources.insert(src);
        rule.destinations.entry(*to).or_default().insert(dst);
    }
    let mut narrowing = Narrowing::new(policy, groups, manner);
    let mut rule_names = Taken::of(policy.rules.iter().map(|rule| rule.name.as_str()));
    let mut rules: Vec<SuggestedRule> = gathered
        .into_iter()
        .filter_map(|((from, service), rule)| {
            let sum = rule.sum?;
            let own = &groups.groups[from].name;
            let bare = own.strip_prefix(manner.name_prefix.as_str()).unwrap_or(own);
            let asked = service
                .strip_prefix(manner.name_prefix.as_str())
                .unwrap_or(&service);
            let wanted = format!("{}{bare}-to-{asked}", manner.name_prefix);
            let destinations = rule.destinations.values().map(BTreeSet::len).sum();
            Some(SuggestedRule {
                name: rule_names.take(&wanted),
                from: narrowing.narrow(from, &rule.sources, asked, "clients"),
                to: rule
                    .destinations
                    .iter()
                    .map(|(to, seen)| narrowing.narrow(*to, seen, asked, "servers"))
                    .collect(),
                evidence: Evidence::of(&sum, rule.sources.len(), destinations),
                service,
            })
        })
        .collect();
    let mut segments = groups.new.clone();
    segments.extend(narrowing.new);
    segments.sort_by(|one, two| one.name.cmp(&two.name));
    services.new.sort_by(|one, two| one.name.cmp(&two.name));
    rules.sort_by(|one, two| one.name.cmp(&two.name));
    Proposal {
        segments,
        services: services.new,
        rules,
        left_out: left_out(atoms),
    }
}

fn left_out(atoms: &Atoms) -> Vec<LeftOut> {
    let told = atoms
        .left_out
        .iter()
        .filter_map(|((why, src), (sum, asked))| {
            let destinations: BTreeSet<&IpAddr> = asked.iter().map(|(dst, ..)| dst).collect();
            Some(LeftOut {
                why: *why,
                src: *src,
                asked: asked.len(),
                example: *asked.first()?,
                evidence: Evidence::of(sum, 1, destinations.len()),
            })
        });
    told.collect()
}

/// Segments of the policy of which too few were seen: a narrower one is proposed.
struct Narrowing<'p> {
    policy: &'p ValidPolicy,
    groups: &'p Groups,
    manner: &'p Manner,
    taken: Taken,
    new: Vec<NewSegment>,
}

impl<'p> Narrowing<'p> {
    fn new(policy: &'p ValidPolicy, groups: &'p Groups, manner: &'p Manner) -> Self {
        let own = policy.segments.iter().map(|s| s.name.as_str());
        let new = groups.new.iter().map(|s| s.name.as_str());
        Self {
            policy,
            groups,
            manner,
            taken: Taken::of(own.chain(new)),
            new: Vec::new(),
        }
    }

    fn narrow(
        &mut self,
        group: usize,
        seen: &BTreeSet<&Atom>,
        service: &str,
        role: &str,
    ) -> String {
        let group = &self.groups.groups[group];
        let (Some(members), Some(mode)) = (group.selects, group.mode) else {
            return group.name.clone();
        };
        if seen.len() * 100 >= members * REUSE_PERCENT {
            return group.name.clone();
        }
        let addresses = addresses(self.policy, seen.iter().copied());
        if let Some(same) = self.new.iter().find(|s| s.addresses == addresses) {
            return same.name.clone();
        }
        let prefix = &self.manner.name_prefix;
        let wanted = format!("{prefix}{}-{service}-{role}", group.name);
        let name = self.taken.take(&wanted);
        self.new.push(NewSegment {
            name: name.clone(),
            select: None,
            addresses,
            mode,
            seen: seen.len(),
            why: format!("only these of the {members} workloads of {}", group.name),
        });
        name
    }
}

/// Services: those of the policy where enough of their ports were seen, else new ones.
struct Services<'p> {
    policy: &'p ValidPolicy,
    seen: BTreeSet<(u8, u16)>,
    prefix: &'p str,
    taken: Taken,
    names: BTreeMap<(Option<u8>, u16, u16), String>,
    new: Vec<NewService>,
}

impl<'p> Services<'p> {
    fn new(policy: &'p ValidPolicy, atoms: &Atoms, manner: &'p Manner) -> Self {
        let own = policy.services.iter().map(|s| s.name.as_str());
        Self {
            policy,
            seen: atoms.asks.keys().map(|(_, _, p, k)| (*p, *k)).collect(),
            prefix: &manner.name_prefix,
            taken: Taken::of(own.chain(["any"])),
            names: BTreeMap::new(),
            new: Vec::new(),
        }
    }

    fn name(&mut self, proto: u8, key: u16) -> String {
        let range = port(proto, key);
        let place = (range.proto, range.low, range.high);
        if let Some(name) = self.names.get(&place) {
            return name.clone();
        }
        let name = self.existing(proto, key).unwrap_or_else(|| {
            let wanted = format!("{}{}", self.prefix, service(proto, key));
            let name = self.taken.take(&wanted);
            self.new.push(NewService {
                name: name.clone(),
                ports: vec![range.to_string()],
            });
            name
        });
        self.names.insert(place, name.clone());
        name
    }

    /// The narrowest service of the policy that has the port, and of whose ports enough were seen.
    fn existing(&self, proto: u8, key: u16) -> Option<String> {
        let fits = |service: &&Service| {
            let ports = &service.ports;
            ports.iter().any(|port| covers(port, proto, key))
                && self.seen_of(ports) * 100 >= size(ports) * REUSE_PERCENT
        };
        let fitting = self.policy.services.iter().filter(fits);
        let narrowest = fitting.min_by_key(|service| size(&service.ports));
        narrowest.map(|service| service.name.clone())
    }

    fn seen_of(&self, ports: &[Port]) -> usize {
        let within = |(proto, key): &&(u8, u16)| ports.iter().any(|p| covers(p, *proto, *key));
        self.seen
            .iter()
            .filter(within)
            .map(|(proto, key)| units(*proto, *key))
            .collect::<BTreeSet<_>>()
            .len()
    }
}

fn covers(port: &Port, proto: u8, key: u16) -> bool {
    port.proto == Some(proto) && (port.low..=port.high).contains(&key)
}

/// What counts as one port: a port, a type of ICMP, a protocol.
const fn units(proto: u8, key: u16) -> (u8, u16) {
    match proto {
        6 | 17 | 132 => (proto, key),
        1 | 58 => (proto, key >> 8),
        _ => (proto, 0),
    }
}

fn size(ports: &[Port]) -> usize {
    let size = |port: &Port| match port.proto {
        Some(6 | 17 | 132) => usize::from(port.high - port.low) + 1,
        Some(1 | 58) => usize::from((port.high >> 8) - (port.low >> 8)) + 1,
        Some(_) => 1,
        // Everything there is.
        None => usize::from(u16::MAX),
    };
    ports.iter().map(size).sum()
}

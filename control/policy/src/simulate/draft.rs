//! A draft as the simulation asks it: ends by the names they had, services to stand for all, names for decisions.

use super::edges::{End, Then};
use super::judge::{After, Doubt, service};
use super::{Verdict, judge};
use crate::compile::CompiledPolicy;
use crate::dictionary::Dictionary;
use crate::prefix::{Span, address_bytes};
use crate::validate::{ValidPolicy, Workload};
use abi::{Action, Decision, VerdictSource};
use acl::{PolicyImage, PortRange, Service};
use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Protocols whose services have keys of their own: ICMP, TCP, UDP, ICMPv6, SCTP.
const KEYED: [u8; 5] = [1, 6, 17, 58, 132];

/// What an end is to the draft.
#[derive(Clone, Debug)]
pub(crate) struct EndJudged {
    pub(crate) address: IpAddr,
    pub(crate) identity: u32,
    /// Identities of other addresses of the same workload, where they differ.
    pub(crate) others: Vec<u32>,
    pub(crate) doubt: Option<Doubt>,
    /// Name that the draft judges it by.
    pub(crate) workload: Option<Arc<str>>,
}

/// A draft and what was worked out about it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) image: &'a PolicyImage,
    pub(crate) dictionary: &'a Dictionary,
    policy: &'a ValidPolicy,
    by_name: HashMap<&'a str, u32>,
    names: Vec<Arc<str>>,
    rules: Vec<Arc<str>>,
    /// Services that stand for all of a protocol, by protocol.
    stand_ins: HashMap<u8, Vec<Service>>,
    /// What is decided about a source whatever it asks of whom, by identity.
    uniform: HashMap<u32, Option<Decision>>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(policy: &'a ValidPolicy, compiled: &'a CompiledPolicy) -> Self {
        let names = policy.workloads.iter().map(|w| w.name.as_str());
        Self {
            image: &compiled.image,
            dictionary: compiled.dictionary(),
            policy,
            by_name: names.zip(0..).collect(),
            names: policy
                .workloads
                .iter()
                .map(|w| w.name.as_str().into())
                .collect(),
            rules: policy
                .rules
                .iter()
                .map(|r| r.name.as_str().into())
                .collect(),
            stand_ins: HashMap::new(),
            uniform: HashMap::new(),
        }
    }

    /// An end by the name it had: where the draft gives that name other addresses, by one of those.
    pub(crate) fn end(&self, end: &End) -> EndJudged {
        let bytes = address_bytes(end.address);
        let now = self.dictionary.workload(&bytes).map(|w| w.name.as_str());
        let by_address = |doubt| EndJudged {
            address: end.address,
            identity: self.image.identity(&bytes),
            others: Vec::new(),
            doubt,
            workload: now.and_then(|name| self.shared_name(name)),
        };
        let then = match &end.then {
            Then::Unnamed => return by_address(None),
            Then::Unknown => return by_address(Some(Doubt::NameUnknown)),
            Then::Named(name) if now == Some(&**name) => return by_address(None),
            Then::Named(name) => name,
        };
        let Some(workload) = self.workload(then) else {
            return by_address(Some(Doubt::NameGone));
        };
        let identities = self.identities(workload, end.address.is_ipv4());
        let mut identities = identities.into_iter();
        let Some(identity) = identities.next() else {
            return by_address(Some(Doubt::NameGone));
        };
        EndJudged {
            address: end.address,
            identity,
            others: identities.collect(),
            doubt: None,
            workload: self.shared_name(then),
        }
    }

    fn workload(&self, name: &str) -> Option<&'a Workload> {
        self.policy.workloads.get(*self.by_name.get(name)? as usize)
    }

    /// A workload's place by its name.
    pub(crate) fn place(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    fn shared_name(&self, name: &str) -> Option<Arc<str>> {
        self.names.get(*self.by_name.get(name)? as usize).cloned()
    }

    /// Distinct identities of a workload's addresses, those of one family where it has any.
    fn identities(&self, workload: &Workload, v4: bool) -> Vec<u32> {
        let spans: Vec<Span> = workload.addresses.iter().map(|net| (*net).into()).collect();
        let family: Vec<&Span> = spans.iter().filter(|span| span.v4 == v4).collect();
        let chosen = if family.is_empty() {
            spans.iter().collect()
        } else {
            family
        };
        let mut seen = BTreeSet::new();
        chosen
            .into_iter()
            .map(|span| self.image.identity(&span.address.to_be_bytes()))
            .filter(|identity| seen.insert(*identity))
            .collect()
    }

    /// Services of a protocol, one of each class that the draft can tell apart.
    pub(crate) fn services_of(&mut self, proto: u8) -> &[Service] {
        let image = self.image;
        self.stand_ins.entry(proto).or_insert_with(|| {
            let keys = edges_of(image, |range| range.proto == Some(proto));
            keys.into_iter().map(|key| service(proto, key)).collect()
        })
    }

    /// What is decided about a source, whatever it asks of whom, where that is always the same.
    pub(crate) fn uniform(&mut self, src: u32) -> Option<Decision> {
        if let Some(known) = self.uniform.get(&src) {
            return *known;
        }
        let found = self.ask_everything(src);
        self.uniform.insert(src, found);
        found
    }

    fn ask_everything(&mut self, src: u32) -> Option<Decision> {
        let mut protos: BTreeSet<u8> = KEYED.into_iter().collect();
        let named = self.image.services().flat_map(|service| {
            let ranges: Vec<PortRange> = service.ports().collect();
            ranges.into_iter().filter_map(|range| range.proto)
        });
        protos.extend(named);
        // One that no service names stands for all of those.
        protos.extend((0..=u8::MAX).rev().find(|proto| !protos.contains(proto)));
        let services: Vec<Service> = protos
            .into_iter()
            .flat_map(|proto| self.services_of(proto).to_vec())
            .collect();
        let destinations = self.image.identity_count();
        if services.len().saturating_mul(destinations as usize) > super::FOLDED_DECISIONS_MAX {
            return None;
        }
        let image = self.image;
        let mut all = (0..destinations).flat_map(|dst| {
            let ask = move |service| image.evaluate_identities(src, dst, service);
            services.iter().map(ask)
        });
        let first = all.next()?;
        let mut rules = [true; 2];
        for decision in all {
            if judge::permits(&decision) != judge::permits(&first) {
                return None;
            }
            rules[0] &= decision.rule_id == first.rule_id;
            rules[1] &= decision.pending_rule_id == first.pending_rule_id;
        }
        let named = |same: bool, id: u64, source: VerdictSource| match (same, id) {
            (true, id) => (id, source),
            // Several rules decide, all alike.
            (false, _) => (0, VerdictSource::Rule),
        };
        let (rule_id, enforced_source) = named(rules[0], first.rule_id, first.enforced_source);
        let (pending_rule_id, pending_source) =
            named(rules[1], first.pending_rule_id, first.pending_source);
        Some(Decision {
            rule_id,
            enforced_source,
            pending_rule_id,
            pending_source,
            ..first
        })
    }

    /// A decision in names.
    pub(crate) fn after(&self, decision: &Decision) -> After {
        let verdict = |action: Action, source, id: u64| Verdict {
            action,
            source,
            rule: self.rule(id).map(|(_, name)| Arc::clone(name)),
        };
        After {
            enforced: verdict(
                decision.enforced,
                decision.enforced_source,
                decision.rule_id,
            ),
            pending: verdict(
                decision.pending,
                decision.pending_source,
                decision.pending_rule_id,
            ),
            mode: decision.mode,
            coverage: decision.coverage,
        }
    }

    /// A rule's place and name by its id; none for 0.
    pub(crate) fn rule(&self, id: u64) -> Option<(u32, &Arc<str>)> {
        if id == 0 {
            return None;
        }
        let index = self.image.rule_by_id(id)?.index;
        Some((index, self.rules.get(index as usize)?))
    }

    /// Names of rules, by their place.
    pub(crate) fn rule_names(&self) -> &[Arc<str>] {
        &self.rules
    }

    /// The draft's name for a service, the first that contains it.
    pub(crate) fn service_name(&self, proto: u8, key: u16) -> Option<String> {
        let asked = service(proto, key);
        let mut services = self.image.services();
        let found = services.find(|s| s.ports().any(|r| r.proto.is_some() && r.covers(&asked)));
        found.map(|service| service.name.to_owned())
    }
}

/// Keys at which the ranges of one protocol begin, or have just ended: between two of them nothing changes.
fn edges_of(image: &PolicyImage, of: impl Fn(&PortRange) -> bool) -> BTreeSet<u16> {
    let mut keys = BTreeSet::from([0]);
    for service in image.services() {
        for range in service.ports().filter(&of) {
            keys.insert(range.low);
            keys.extend(range.high.checked_add(1));
        }
    }
    keys
}

//! What history says about the use of rules, and the narrower rule that would have done.

use super::{FindingKind, Found, OVER_BROAD_PERCENT, Remedy, USAGE_DAYS_MIN};
use crate::compile::CompiledPolicy;
use crate::prefix::address_bytes;
use crate::service::Port;
use crate::written;
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY};
use acl::Service;
use core::net::IpAddr;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};

/// Ports that a narrower service lists at most; a rule with more is not narrowed.
const NARROW_PORTS_MAX: usize = 64;

/// What was seen of all rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Days on which history saw anything.
    pub days: u64,
    /// By the name of the rule; a rule that decided nothing, and of which nothing else is known, may be left out.
    pub rules: BTreeMap<String, RuleFacts>,
}

/// What was seen of one rule: flows that it decided, or would have decided were everything in test
/// enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFacts {
    /// Flows.
    pub flows: u64,
    /// Addresses of initiators.
    pub sources: BTreeSet<IpAddr>,
    /// Addresses of responders.
    pub destinations: BTreeSet<IpAddr>,
    /// Protocol, and port of the responder or ICMP type x 256 + code.
    pub services: BTreeSet<(u8, u16)>,
    /// Not everything that was seen is listed: too much was.
    pub cut: bool,
    /// Day of its last flow before the time looked at, where that is known.
    pub last_before: Option<Date>,
    /// Since when a policy with this rule has been in force, where that is later than the time looked at begins.
    pub in_force_since: Option<Date>,
}

impl RuleFacts {
    /// Whether the rule came so late that its not being used says nothing yet.
    fn is_young(&self, today: Date) -> bool {
        self.in_force_since.is_some_and(|since| {
            i64::from((today - since).get_days()) < i64::try_from(USAGE_DAYS_MIN).unwrap_or(0)
        })
    }
}

pub(super) fn judge(compiled: &CompiledPolicy, found: &mut Found<'_>, at: usize, usage: &Usage) {
    let days = usage.days;
    if days < USAGE_DAYS_MIN {
        return;
    }
    let rule = &compiled.policy().rules[at];
    let known = usage.rules.get(&rule.name);
    let Some(facts) = known.filter(|facts| facts.flows > 0) else {
        unused(found, known, days, compiled.today());
        return;
    };
    if facts.cut || !rule.action.permits() {
        return;
    }
    let shares = [
        members(
            compiled,
            &rule.from,
            &facts.sources,
            "workloads of its from",
        ),
        members(
            compiled,
            &rule.to,
            &facts.destinations,
            "workloads of its to",
        ),
        ports(compiled, &rule.services, facts),
    ];
    let broad = |share: &Share| share.used * 100 < share.all * OVER_BROAD_PERCENT;
    if !shares.iter().flatten().any(broad) {
        return;
    }
    let told: Vec<String> = shares
        .iter()
        .flatten()
        .map(|share| format!("{} of {} {}", share.used, share.all, share.of))
        .collect();
    let because = format!("in the {days} days watched {} were used", told.join(", "));
    match narrowed(compiled, at, facts) {
        Some(tables) => {
            let remedy = Remedy::Replace(tables);
            found.add(FindingKind::OverBroad, because, Vec::new(), remedy);
        }
        None => {
            let advice =
                format!("name its ports as ranges: more than {NARROW_PORTS_MAX} were used");
            let what = (Remedy::Look, advice);
            found.add_with(FindingKind::OverBroad, because, Vec::new(), what);
        }
    }
}

/// A rule that nothing needed. One that denies and never had to may be what keeps others from trying.
fn unused(found: &mut Found<'_>, known: Option<&RuleFacts>, days: u64, today: Date) {
    if known.is_some_and(|facts| facts.is_young(today)) {
        return;
    }
    let mut because = format!("in the {days} days watched it decided no flow, nor would have");
    if let Some(last) = known.and_then(|facts| facts.last_before) {
        because.push_str(&format!("; the last one was on {last}"));
    }
    if let Some(since) = known.and_then(|facts| facts.in_force_since) {
        because.push_str(&format!("; it is in force since {since}"));
    }
    let what = match found.rule.action.permits() {
        true => (Remedy::Remove, "remove it".to_owned()),
        false => (
            Remedy::Look,
            "keep it where it guards, else remove it".to_owned(),
        ),
    };
    found.add_with(FindingKind::Unused, because, Vec::new(), what);
}

/// What to do about a rule whose date comes: nothing where nobody needs it, else the rule with a later
/// date, and as narrow as what was seen lets it be.
pub(super) fn of_expiring(
    compiled: &CompiledPolicy,
    at: usize,
    usage: Option<&Usage>,
) -> (Remedy, String) {
    let rule = &compiled.policy().rules[at];
    let renew = "renew its date if it is still needed";
    let Some(usage) = usage.filter(|usage| usage.days >= USAGE_DAYS_MIN) else {
        return (Remedy::Look, renew.to_owned());
    };
    let known = usage.rules.get(&rule.name);
    let Some(facts) = known.filter(|facts| facts.flows > 0) else {
        let advice = match known.is_some_and(|facts| facts.is_young(compiled.today())) {
            true => renew.to_owned(),
            false => format!("let it expire: unused in the {} days watched", usage.days),
        };
        return (Remedy::Look, advice);
    };
    let whole = written::rule(compiled.policy(), rule, written::Instead::default());
    let narrower = (!facts.cut && rule.action.permits())
        .then(|| narrowed(compiled, at, facts))
        .flatten()
        .filter(|narrower| *narrower != whole);
    match narrower {
        Some(tables) => {
            let advice = "if it is still needed, renew its date in the narrower one below";
            (Remedy::Replace(tables), advice.to_owned())
        }
        None => (Remedy::Look, renew.to_owned()),
    }
}

/// How much of something was used.
struct Share {
    used: u64,
    all: u64,
    of: &'static str,
}

/// Used workloads of an end; none where the end is not made of workloads alone.
fn members(
    compiled: &CompiledPolicy,
    end: &[u32],
    used: &BTreeSet<IpAddr>,
    of: &'static str,
) -> Option<Share> {
    if end
        .iter()
        .any(|at| (*at as usize) < BUILT_IN_SEGMENTS.len())
    {
        return None;
    }
    let dictionary = compiled.dictionary();
    let within = |segments: &[u32]| segments.iter().any(|at| end.contains(at));
    let all = dictionary
        .workloads
        .iter()
        .filter(|w| within(&w.segments))
        .count() as u64;
    let used: BTreeSet<&str> = used
        .iter()
        .filter_map(|address| dictionary.workload_at(*address))
        .filter(|workload| within(&workload.segments))
        .map(|workload| workload.name.as_str())
        .collect();
    (all > 0).then_some(Share {
        used: used.len() as u64,
        all,
        of,
    })
}

/// Used ports of TCP, UDP and SCTP. A rule about every service opens all of TCP and of UDP.
fn ports(compiled: &CompiledPolicy, services: &[u32], facts: &RuleFacts) -> Option<Share> {
    const PROTOS: [u8; 3] = [6, 17, 132];
    let mut open: BTreeSet<(u8, u16)> = BTreeSet::new();
    let mut all = 0;
    if services.is_empty() {
        all = 2 << 16;
    }
    for at in services {
        for port in &compiled.policy().services[*at as usize].ports {
            match port.proto {
                None => all = 2 << 16,
                Some(proto) if PROTOS.contains(&proto) => {
                    open.extend((port.low..=port.high).map(|key| (proto, key)));
                }
                Some(_) => {}
            }
        }
    }
    let all = if all > 0 { all } else { open.len() as u64 };
    let used = facts
        .services
        .iter()
        .filter(|(proto, _)| PROTOS.contains(proto))
        .count() as u64;
    (all > 0).then_some(Share {
        used: used.min(all),
        all,
        of: "ports",
    })
}

/// The rule with the ends and services that were used, and the service that it needs.
fn narrowed(compiled: &CompiledPolicy, at: usize, facts: &RuleFacts) -> Option<String> {
    let policy = compiled.policy();
    let rule = &policy.rules[at];
    let from = narrow_end(compiled, &rule.from, &facts.sources);
    let to = narrow_end(compiled, &rule.to, &facts.destinations);
    if facts.services.len() > NARROW_PORTS_MAX {
        return None;
    }
    let (named, rest) = fitting_services(compiled, facts);
    let mut services = named;
    let mut text = String::new();
    if !rest.is_empty() {
        let taken = |name: &str| policy.services.iter().any(|service| service.name == name);
        let name = free_name(&format!("{}-used", rule.name), taken)?;
        text = written::service(&name, &rest);
        text.push('\n');
        services.push(name);
    }
    let instead = written::Instead {
        from,
        to,
        services: Some(services),
    };
    text.push_str(&written::rule(policy, rule, instead));
    Some(text)
}

/// A name that nothing has yet.
pub(crate) fn free_name(wanted: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    let cut: String = wanted
        .chars()
        .take(crate::limits::NAME_BYTES_MAX - 4)
        .collect();
    let numbered = (2..100).map(|number| format!("{cut}-{number}"));
    core::iter::once(cut.clone())
        .chain(numbered)
        .find(|name| !taken(name))
}

/// Segments of an end that hold what was used; none where they are all needed.
fn narrow_end(
    compiled: &CompiledPolicy,
    end: &[u32],
    used: &BTreeSet<IpAddr>,
) -> Option<Vec<String>> {
    let image = &compiled.image;
    let of = |address: &IpAddr| -> BTreeSet<u32> {
        let identity = image.identity(&address_bytes(*address));
        image
            .segments_of(identity)
            .filter(|at| *at != SEGMENT_ANY)
            .collect()
    };
    let mut left: Vec<BTreeSet<u32>> = used.iter().map(of).collect();
    let mut kept: Vec<u32> = Vec::new();
    while !left.is_empty() {
        let offered: BTreeSet<u32> = left.iter().flatten().copied().collect();
        let allowed = |at: &u32| end == [SEGMENT_ANY] || end.contains(at);
        let holds = |at: &u32| left.iter().filter(|segments| segments.contains(at)).count();
        let best = offered.into_iter().filter(allowed).max_by_key(|at| {
            let size = compiled.dictionary().segments.get(*at as usize);
            (
                holds(at),
                core::cmp::Reverse(size.map_or(0, |s| s.workloads.len())),
            )
        })?;
        left.retain(|segments| !segments.contains(&best));
        kept.push(best);
    }
    kept.sort_unstable();
    let names = |at: &u32| written::segment_name(compiled.policy(), *at).to_owned();
    (kept != end).then(|| kept.iter().map(names).collect())
}

/// Named services all of whose ports were used, and the ports that are left.
fn fitting_services(compiled: &CompiledPolicy, facts: &RuleFacts) -> (Vec<String>, Vec<String>) {
    let mut left = facts.services.clone();
    let mut named = Vec::new();
    for service in compiled.policy().services.iter() {
        let mut keys = BTreeSet::new();
        let mut fits = !service.ports.is_empty();
        for port in &service.ports {
            let narrow = usize::from(port.high - port.low) < NARROW_PORTS_MAX;
            match port.proto.filter(|_| narrow) {
                Some(proto) => keys.extend((port.low..=port.high).map(|key| (proto, key))),
                None => fits = false,
            }
        }
        if fits && keys.is_subset(&facts.services) && !keys.is_disjoint(&left) {
            keys.iter().for_each(|key| {
                left.remove(key);
            });
            named.push(service.name.clone());
        }
    }
    (named, left.into_iter().map(port_text).collect())
}

/// One port as `ports` lists it.
pub(crate) fn port_text((proto, key): (u8, u16)) -> String {
    let ported = Service::port(proto, 1).key() == 1;
    let (low, high) = match proto {
        1 | 58 => (key, key),
        _ if ported => (key, key),
        _ => (0, u16::MAX),
    };
    Port {
        proto: Some(proto),
        low,
        high,
    }
    .to_string()
}

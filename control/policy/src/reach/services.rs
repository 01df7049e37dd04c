//! Services cut into what no port of a policy tells apart, and told as people write them.

use crate::service::Port;
use crate::validate::Service as Named;
use acl::Service;
use std::collections::{BTreeMap, HashMap};

const ICMP: [u8; 2] = [1, 58];

/// A range of one protocol, or everything of the protocols that no port names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Atom {
    /// None: every protocol that is not named.
    proto: Option<u8>,
    low: u16,
    high: u16,
    class: u32,
}

/// Every service there is, cut at the edges of all ports of one policy, or of several together.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    atoms: Vec<Atom>,
    /// A service of each class: services of one class are in the same ports.
    classes: Vec<Service>,
    /// Whether a class holds anything but ICMP.
    carries: Vec<bool>,
    /// Classes of each named service, ascending; the first of its name counts.
    named: Vec<(String, Vec<u32>)>,
}

/// A set of services: classes, ascending.
pub(crate) type ServiceSet = Vec<u32>;

impl Services {
    /// Cuts at the ports of every list.
    pub(crate) fn of(lists: &[&[Named]]) -> Self {
        let all: Vec<&Named> = lists.iter().copied().flatten().collect();
        let mut edges: BTreeMap<u8, Vec<(u32, bool, u32)>> = BTreeMap::new();
        let mut everywhere: Vec<u32> = Vec::new();
        for (at, service) in (0..).zip(&all) {
            for port in &service.ports {
                match port.proto {
                    None => everywhere.push(at),
                    Some(proto) => edges.entry(proto).or_default().extend([
                        (u32::from(port.low), true, at),
                        (u32::from(port.high) + 1, false, at),
                    ]),
                }
            }
        }
        // ICMP is its own, so that what carries no path on is never one class with what does.
        for proto in ICMP {
            edges.entry(proto).or_default();
        }
        everywhere.dedup();
        let unnamed = (0..=u8::MAX).find(|proto| !edges.contains_key(proto));
        let mut builder = Builder::default();
        for (proto, edges) in edges {
            builder.protocol(proto, edges, &everywhere);
        }
        if let Some(proto) = unnamed {
            builder.add(None, proto, (0, u16::MAX), everywhere);
        }
        builder.finish(&all)
    }

    /// A service of each class.
    pub(crate) fn classes(&self) -> &[Service] {
        &self.classes
    }

    /// Whether one can go on from an end that was reached by it: anything but ICMP.
    pub(crate) fn carries(&self, class: u32) -> bool {
        self.carries.get(class as usize).copied().unwrap_or(false)
    }

    /// Classes of a named service.
    pub(crate) fn named(&self, name: &str) -> &[u32] {
        let mut named = self.named.iter();
        named
            .find(|(own, _)| own == name)
            .map_or(&[], |(_, classes)| classes)
    }

    /// The class of a service.
    #[cfg(test)]
    pub(crate) fn class_of(&self, service: &Service) -> u32 {
        let key = service.key();
        let holds = |atom: &&Atom| {
            atom.proto == Some(service.proto) && (atom.low..=atom.high).contains(&key)
        };
        let found = self.atoms.iter().find(holds).or(self.atoms.last());
        found.map_or(0, |atom| atom.class)
    }

    /// A set as people write it: `any`, `any except ssh`, `postgres, tcp/8000-8003`.
    pub(crate) fn told(&self, set: &[u32]) -> Vec<String> {
        let within = |atom: &Atom| set.binary_search(&atom.class).is_ok();
        let (inside, outside): (Vec<Atom>, Vec<Atom>) = self.atoms.iter().partition(|a| within(a));
        if outside.is_empty() {
            return vec!["any".to_owned()];
        }
        if inside.iter().any(|atom| atom.proto.is_none()) {
            return vec![format!("any except {}", self.listed(&outside).join(", "))];
        }
        self.listed(&inside)
    }

    /// Names of services that lie within, the largest first, and ranges for the rest.
    fn listed(&self, atoms: &[Atom]) -> Vec<String> {
        let mut left: Vec<Atom> = atoms.to_vec();
        let classes: std::collections::BTreeSet<u32> = atoms.iter().map(|a| a.class).collect();
        let within = |(_, own): &&(String, Vec<u32>)| {
            !own.is_empty() && own.iter().all(|class| classes.contains(class))
        };
        let mut fitting: Vec<_> = self.named.iter().filter(within).collect();
        fitting.sort_by_key(|(_, own)| core::cmp::Reverse(own.len()));
        let mut told = Vec::new();
        for (name, own) in fitting {
            let before = left.len();
            left.retain(|atom| own.binary_search(&atom.class).is_err());
            if left.len() < before {
                told.push(name.clone());
            }
        }
        told.sort();
        told.extend(ranges(&left));
        told
    }
}

/// Atoms that touch each other become one range.
fn ranges(atoms: &[Atom]) -> Vec<String> {
    let mut runs: Vec<Atom> = Vec::new();
    for atom in atoms {
        match runs.last_mut() {
            Some(run)
                if run.proto == atom.proto && u32::from(run.high) + 1 == u32::from(atom.low) =>
            {
                run.high = atom.high;
            }
            _ => runs.push(*atom),
        }
    }
    runs.iter().flat_map(range).collect()
}

fn range(run: &Atom) -> Vec<String> {
    let Some(proto) = run.proto else {
        return vec!["every other protocol".to_owned()];
    };
    let port = |low, high| {
        Port {
            proto: Some(proto),
            low,
            high,
        }
        .to_string()
    };
    let whole = run.low == 0 && run.high == u16::MAX;
    if !ICMP.contains(&proto) || whole {
        return vec![port(run.low, run.high)];
    }
    icmp_types(run.low, run.high)
        .into_iter()
        .map(
            |(low, high)| match (low.to_be_bytes(), high.to_be_bytes()) {
                ([kind, 0], [last, 255]) if kind < last => {
                    let name = if proto == 1 { "icmp" } else { "icmpv6" };
                    format!("{name}/{kind}-{last}")
                }
                ([kind, first], [_, last]) if first < last && (first, last) != (0, 255) => {
                    let name = if proto == 1 { "icmp" } else { "icmpv6" };
                    format!("{name}/{kind}/{first}-{last}")
                }
                _ => port(low, high),
            },
        )
        .collect()
}

/// Cuts a range of ICMP keys into whole types and parts of one.
fn icmp_types(low: u16, high: u16) -> Vec<(u16, u16)> {
    let mut parts = Vec::new();
    let (mut low, high) = (u32::from(low), u32::from(high));
    while low <= high {
        let end_of_type = low | 0xff;
        let end = if low & 0xff == 0 && end_of_type <= high {
            ((high + 1) & !0xff) - 1
        } else {
            end_of_type.min(high)
        };
        let key = |key: u32| u16::try_from(key).unwrap_or(u16::MAX);
        parts.push((key(low), key(end)));
        low = end + 1;
    }
    parts
}

#[derive(Default)]
struct Builder {
    atoms: Vec<Atom>,
    classes: Vec<Service>,
    carries: Vec<bool>,
    sets: HashMap<(bool, Vec<u32>), u32>,
    members: Vec<Vec<u32>>,
}

impl Builder {
    fn protocol(&mut self, proto: u8, mut edges: Vec<(u32, bool, u32)>, everywhere: &[u32]) {
        edges.sort_unstable();
        let mut holds: BTreeMap<u32, u32> = everywhere.iter().map(|at| (*at, 1)).collect();
        let mut low = 0_u32;
        let end = (1 << 16, false, u32::MAX);
        for (key, begins, service) in edges.into_iter().chain([end]) {
            if key > low {
                let [first, last] = [low, key - 1].map(|key| u16::try_from(key).unwrap_or(0));
                let set = holds.keys().copied().collect();
                self.add(Some(proto), proto, (first, last), set);
                low = key;
            }
            let count = holds.entry(service).or_insert(0);
            *count = if begins {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            if *count == 0 {
                holds.remove(&service);
            }
        }
    }

    fn add(&mut self, proto: Option<u8>, example: u8, (low, high): (u16, u16), set: Vec<u32>) {
        let carries = !ICMP.contains(&example);
        let next = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        let class = *self.sets.entry((carries, set.clone())).or_insert(next);
        if class == next {
            let [kind, code] = low.to_be_bytes();
            self.classes.push(if carries {
                Service::port(example, low)
            } else {
                Service::icmp(example, kind, code)
            });
            self.carries.push(carries);
            self.members.push(set);
        }
        self.atoms.push(Atom {
            proto,
            low,
            high,
            class,
        });
    }

    fn finish(self, all: &[&Named]) -> Services {
        let mut of_service: Vec<Vec<u32>> = vec![Vec::new(); all.len()];
        for (class, members) in (0..).zip(&self.members) {
            for at in members {
                of_service[*at as usize].push(class);
            }
        }
        let mut named: Vec<(String, Vec<u32>)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (service, classes) in all.iter().zip(of_service) {
            if seen.insert(service.name.as_str()) {
                named.push((service.name.clone(), classes));
            }
        }
        Services {
            atoms: self.atoms,
            classes: self.classes,
            carries: self.carries,
            named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(named: &[(&str, &[&str])]) -> Services {
        let named: Vec<Named> = named
            .iter()
            .map(|(name, ports)| Named {
                name: (*name).to_owned(),
                ports: ports.iter().map(|p| Port::parse(p).expect(p)).collect(),
            })
            .collect();
        Services::of(&[&named])
    }

    fn told(services: &Services, holds: impl Fn(&Service) -> bool) -> String {
        let classes = (0..).zip(services.classes());
        let set: Vec<u32> = classes.filter(|(_, s)| holds(s)).map(|(c, _)| c).collect();
        services.told(&set).join(", ")
    }

    #[test]
    fn sets_of_services_are_told_by_name_range_and_exception() {
        let services = services(&[
            ("ssh", &["tcp/22"]),
            ("pg", &["tcp/5432"]),
            ("apps", &["tcp/8000-8099"]),
            ("one", &["tcp/8050"]),
            ("tcp", &["tcp/any"]),
            ("ping", &["icmp/echo"]),
            ("gre", &["proto/47"]),
        ]);
        assert_eq!(told(&services, |_| true), "any");
        assert_eq!(told(&services, |s| s.proto != 6), "any except tcp");
        assert_eq!(
            told(&services, |s| (s.proto, s.dport) != (6, 22)),
            "any except ssh"
        );
        assert_eq!(
            told(&services, |s| s.proto == 6 && s.dport != 5432),
            "apps, ssh, tcp/0-21, tcp/23-5431, tcp/5433-7999, tcp/8100-65535"
        );
        assert_eq!(told(&services, |s| s.proto == 6 && s.dport == 8050), "one");
        assert_eq!(
            told(&services, |s| s.proto == 6 && s.dport == 8000),
            "tcp/8000-8049, tcp/8051-8099"
        );
        assert_eq!(
            told(&services, |s| s.proto == 1 && s.icmp_type != 8),
            "icmp/0-7, icmp/9-255, icmpv6/any"
        );
        assert_eq!(told(&services, |s| s.proto == 47), "gre");
    }

    #[test]
    fn every_service_has_the_class_of_its_ports() {
        let services = services(&[("a", &["tcp/10-20", "any"]), ("b", &["tcp/15", "udp/15"])]);
        let class = |proto, port| services.class_of(&Service::port(proto, port));
        assert_eq!(class(6, 15), class(17, 15));
        assert_ne!(class(6, 14), class(6, 15));
        assert_eq!(class(6, 14), class(6, 0));
        assert_eq!(class(6, 14), class(47, 0));
        assert_ne!(class(47, 0), services.class_of(&Service::icmp(1, 8, 0)));
        assert_eq!(services.named("a").len(), 3);
    }
}

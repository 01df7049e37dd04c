//! A policy of any number of rules in which the generated flows are permitted, as text, and its
//! images under rising epochs.

use crate::traffic::{CLIENT_BASE, CLIENTS, Family, SERVER_BASE, address};
use abi::image::change::{ChangeHeader, PIECES_OFFSET};
use abi::image::{Header, SECTIONS_OFFSET, reseal};
use acl::PolicyImage;
use std::fmt::Write;
use zerocopy::FromBytes;

/// Segments of clients at most: prefixes of 10.0.0.0/12.
const CLIENT_SEGMENTS_MAX: u32 = 256;
/// Workloads at most, each with an address among the clients.
const WORKLOADS_MAX: u32 = 10_000;
/// Segments of workloads at most, by label.
const ROLES_MAX: u32 = 2_000;
/// Services that are not those of the generated flows.
const SERVICES_MAX: u32 = 200;

/// The plan of a policy of `rules` rules, everything enforced. A prefix of clients to the servers:
/// allowed, one rule for each prefix. All other rules are between segments of workloads, which
/// stand among the clients, for other services; one in ten denies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    rules: u32,
    client_segments: u32,
    workloads: u32,
    roles: u32,
    services: u32,
}

/// Which of two policies that differ in one rule in a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    A,
    B,
}

/// One end of a rule as a prefix of IPv4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Its first address.
    pub(crate) bits: u32,
    /// Bits that count.
    pub(crate) length: u32,
}

/// A rule without segments.
#[derive(Clone, Debug)]
pub(crate) struct FlatRule {
    pub(crate) from: End,
    pub(crate) to: End,
    /// Destination ports of UDP.
    pub(crate) ports: Vec<u16>,
    /// Whether it denies; else it allows.
    pub(crate) denies: bool,
}

/// A rule before it is written down.
enum Rule {
    /// From a prefix of clients to the servers: allowed.
    Clients(u32),
    /// Between workloads, or from workloads to clients, for another service.
    Other {
        from: u32,
        to: To,
        service: u32,
        denies: bool,
    },
}

enum To {
    Role(u32),
    Clients(u32),
}

/// Port of a service that is not that of the generated flows.
fn service_port(service: u32) -> u16 {
    (6_000 + 10 * service) as u16
}

/// Numbers without pattern, the same every time.
fn scatter(number: u32) -> u32 {
    let mixed = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)) >> 24) as u32
}

impl Plan {
    /// A policy of `rules` rules, 2 at the least.
    pub(crate) fn new(rules: u32) -> Self {
        let within = |value: u32, most: u32| value.clamp(1, most);
        Self {
            rules: rules.max(2),
            client_segments: 1 << within(rules / 10, CLIENT_SEGMENTS_MAX).ilog2(),
            workloads: within(rules / 10, WORKLOADS_MAX),
            roles: within(rules / 50, ROLES_MAX),
            services: within(rules / 10, SERVICES_MAX),
        }
    }

    /// The policy as an operator would write it.
    pub(crate) fn text(&self, variant: Variant) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_segments(&mut text);
        let _ = self.write_workloads(&mut text);
        let _ = self.write_rules(&mut text, variant);
        text
    }

    /// Every rule between two prefixes of IPv4, for a peer that knows no segments: of a segment of
    /// workloads the first workload stands for all.
    pub(crate) fn flat_rules(&self) -> impl Iterator<Item = FlatRule> + '_ {
        let length = 12 + self.client_segments.ilog2();
        let clients = move |number: u32| End {
            bits: CLIENT_BASE + (number << (32 - length)),
            length,
        };
        let workload = |role: u32| End {
            bits: self.workload(role * self.workloads.div_ceil(self.roles)),
            length: 32,
        };
        (0..self.rules).map(move |number| match self.rule(number, Variant::A) {
            Rule::Clients(prefix) => FlatRule {
                from: clients(prefix),
                to: End {
                    bits: SERVER_BASE,
                    length: 28,
                },
                ports: vec![5000, 5001],
                denies: false,
            },
            Rule::Other {
                from,
                to,
                service,
                denies,
            } => FlatRule {
                from: workload(from),
                to: match to {
                    To::Role(role) => workload(role),
                    To::Clients(prefix) => clients(prefix),
                },
                ports: vec![service_port(service)],
                denies,
            },
        })
    }

    /// A rule of the plan, before it is written down.
    fn rule(&self, number: u32, variant: Variant) -> Rule {
        if number < self.client_segments {
            return Rule::Clients(number);
        }
        let to = match scatter(3 * number + 1) % (self.roles + self.client_segments) {
            role if role < self.roles => To::Role(role),
            other => To::Clients(other - self.roles),
        };
        Rule::Other {
            from: scatter(3 * number) % self.roles,
            to,
            service: scatter(3 * number + 2) % self.services,
            denies: number % 10 == 5 || (variant == Variant::B && number % 100 == 7),
        }
    }

    /// Address of a workload: spread over all clients, so that every prefix has some.
    fn workload(&self, number: u32) -> u32 {
        let apart = CLIENTS as u32 / self.workloads;
        CLIENT_BASE + number * apart + scatter(number) % apart.min(64)
    }

    fn write_segments(&self, t: &mut String) -> std::fmt::Result {
        let prefixes = |bits: u32, length: u32| {
            let four = address(bits, Family::Ipv4);
            let six = address(bits, Family::Ipv6);
            format!("\"{four}/{length}\", \"{six}/{}\"", 96 + length)
        };
        segment(t, "servers", &prefixes(SERVER_BASE, 28))?;
        let length = 12 + self.client_segments.ilog2();
        for number in 0..self.client_segments {
            let bits = CLIENT_BASE + (number << (32 - length));
            segment(t, &format!("clients-{number}"), &prefixes(bits, length))?;
        }
        writeln!(
            t,
            "[[service]]\nname = \"bench\"\nports = [\"udp/5000-5001\"]"
        )?;
        (0..self.services).try_for_each(|number| {
            let port = service_port(number);
            writeln!(
                t,
                "[[service]]\nname = \"service-{number}\"\nports = [\"tcp/{port}\", \"udp/{port}\"]"
            )
        })
    }

    fn write_workloads(&self, t: &mut String) -> std::fmt::Result {
        for number in 0..self.workloads {
            let bits = self.workload(number);
            let (four, six) = (address(bits, Family::Ipv4), address(bits, Family::Ipv6));
            // Those of a role stand side by side, mostly in one prefix.
            let role = number / self.workloads.div_ceil(self.roles);
            writeln!(
                t,
                "[[workload]]\nname = \"w{number}\"\naddresses = [\"{four}\", \"{six}\"]\nlabels = {{ role = \"r{role}\" }}"
            )?;
        }
        (0..self.roles).try_for_each(|role| {
            writeln!(
                t,
                "[[segment]]\nname = \"role-{role}\"\nselect = \"role=r{role}\"\nmode = \"enforce\""
            )
        })
    }

    fn write_rules(&self, t: &mut String, variant: Variant) -> std::fmt::Result {
        (0..self.rules).try_for_each(|number| {
            let (from, to, service, action) = match self.rule(number, variant) {
                Rule::Clients(prefix) => {
                    let from = format!("clients-{prefix}");
                    (from, "servers".to_owned(), "bench".to_owned(), "allow")
                }
                Rule::Other {
                    from,
                    to,
                    service,
                    denies,
                } => {
                    let to = match to {
                        To::Role(role) => format!("role-{role}"),
                        To::Clients(prefix) => format!("clients-{prefix}"),
                    };
                    let action = if denies { "deny" } else { "allow" };
                    (format!("role-{from}"), to, format!("service-{service}"), action)
                }
            };
            writeln!(
                t,
                "[[rule]]\nname = \"rule-{number}\"\nfrom = [\"{from}\"]\nto = [\"{to}\"]\nservices = [\"{service}\"]\naction = \"{action}\""
            )
        })
    }
}

fn segment(t: &mut String, name: &str, addresses: &str) -> std::fmt::Result {
    writeln!(
        t,
        "[[segment]]\nname = \"{name}\"\naddresses = [{addresses}]\nmode = \"enforce\""
    )
}

/// An image that can be published again and again: compiled once, then stamped with other epochs.
#[derive(Clone)]
pub(crate) struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Compiles a policy.
    ///
    /// # Errors
    /// The sentence of the policy's first error.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let today = jiff::civil::date(2026, 1, 1);
        let valid = policy::load(text, "perf.toml", today).map_err(|error| error.to_string())?;
        let compiled = policy::compile(&valid, 1, today).map_err(|error| error.to_string())?;
        Ok(Self {
            bytes: compiled.image.bytes(),
        })
    }

    /// Its bytes under another epoch.
    pub(crate) fn stamped(&self, epoch: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        stamp(&mut bytes, epoch);
        bytes
    }

    /// Bytes of the image.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What takes `base` to this image.
    ///
    /// # Errors
    /// A sentence: one of them is no image.
    pub(crate) fn change_from(&self, base: &Self) -> Result<Change, String> {
        let checked = |image: &Self| {
            PolicyImage::check(image.bytes.as_slice()).map_err(|error| error.to_string())
        };
        Ok(Change {
            bytes: checked(self)?.change_from(&checked(base)?),
            base_front: base.bytes.get(..SECTIONS_OFFSET).unwrap_or(&[]).to_vec(),
        })
    }
}

/// What takes an image to another, again and again: compared once, then stamped with other epochs.
pub(crate) struct Change {
    bytes: Vec<u8>,
    base_front: Vec<u8>,
}

impl Change {
    /// From the base under the epoch before to the other image under `epoch`.
    pub(crate) fn stamped(&self, epoch: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut base_front = self.base_front.clone();
        stamp(&mut base_front, epoch - 1);
        if let Ok((base, _)) = Header::ref_from_prefix(&base_front)
            && let Ok((header, _)) = ChangeHeader::mut_from_prefix(&mut bytes)
        {
            header.base_epoch = base.epoch;
            header.base_checksum = base.checksum;
        }
        if let Some(front) = bytes.get_mut(size_of::<ChangeHeader>()..PIECES_OFFSET) {
            stamp(front, epoch);
        }
        bytes
    }

    /// Bytes of the change.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes an epoch into an image, or its front.
fn stamp(image: &mut [u8], epoch: u64) {
    if let Ok((header, _)) = Header::mut_from_prefix(image) {
        header.epoch.set(epoch);
    }
    reseal(image);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{CLIENTS, SERVERS, ends};
    use acl::Service;
    use std::net::IpAddr;

    fn sixteen(address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    fn image(rules: u32, variant: Variant) -> PolicyImage {
        let image = Image::compile(&Plan::new(rules).text(variant)).expect("a valid policy");
        PolicyImage::check(image.stamped(7)).expect("a sound image")
    }

    #[test]
    fn the_generated_flows_are_permitted_however_many_rules_there_are() {
        for rules in [2, 10, 100, 3_000] {
            let image = image(rules, Variant::A);
            assert_eq!((image.epoch(), image.rule_count()), (7, rules));
            for flow in (0..25 * CLIENTS).step_by(100_003) {
                for family in [Family::Ipv4, Family::Ipv6] {
                    let (client, server) = ends(flow, family);
                    let (src, dst) = (sixteen(client.0), sixteen(server.0));
                    for port in [server.1, 5001] {
                        let verdict = image.evaluate(&src, &dst, &Service::port(17, port));
                        assert_eq!(verdict.enforced, abi::Action::Allow, "{flow} {rules}");
                    }
                    let other = image.evaluate(&src, &dst, &Service::port(17, 999));
                    assert_eq!(other.enforced, abi::Action::Deny, "{flow} {rules}");
                }
            }
        }
        assert_eq!(SERVERS, 16, "servers are a /28");
    }

    #[test]
    fn a_stamped_change_takes_a_stamped_image_to_the_other() {
        let plan = Plan::new(1_000);
        let both = [Variant::A, Variant::B].map(|variant| plan.text(variant));
        let [a, b] = both.map(|text| Image::compile(&text).expect("a valid policy"));
        let change = b.change_from(&a).expect("two images");
        assert!(change.len() < b.len() / 4);
        let base = PolicyImage::check(a.stamped(6)).expect("a sound image");
        let changed = base
            .check_change(&change.stamped(7))
            .expect("a sound change");
        assert_eq!(changed.bytes(), b.stamped(7));
    }

    #[test]
    fn the_two_variants_differ() {
        let plan = Plan::new(1_000);
        assert_ne!(plan.text(Variant::A), plan.text(Variant::B));
    }
}

//! Invariants are proved over the whole policy: by hand, and against a twin that walks from address
//! to address.

mod drawn;

use abi::Action;
use abi::image::SEGMENT_ANY;
use acl::{PolicyImage, Service, reference};
use drawn::{Drawn, TODAY, drawn};
use ipnet::IpNet;
use policy::{CompiledPolicy, View, compile, load, prove};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use std::collections::{BTreeMap, BTreeSet};

fn compiled(text: &str) -> CompiledPolicy {
    let policy = load(text, "p.toml", TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"));
    compile(&policy, 1, TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// What is broken, one path a line.
fn told(text: &str, view: View) -> String {
    let mut told = String::new();
    for broken in prove(&compiled(text), view) {
        for path in &broken.paths {
            told += &format!("{}: {path} [{}]\n", broken.name, path.hosts());
        }
    }
    told
}

const PLANT: &str = r#"
workload = [
    { name = "build-1", addresses = ["10.0.1.1"], labels = { net = "dev" } },
    { name = "build-2", addresses = ["10.0.1.2"], labels = { net = "dev" } },
    { name = "jump-1", addresses = ["10.0.2.1", "2001:db8::2"], labels = { net = "jump" } },
    { name = "db-1", addresses = ["2001:db8::3"], labels = { net = "cards" } },
]
[[segment]]
name = "dev"
select = "net=dev"
mode = "observe"
[[segment]]
name = "jump"
select = "net=jump"
mode = "enforce"
[[segment]]
name = "cards"
select = "net=cards"
mode = "enforce"
[[service]]
name = "ssh"
ports = ["tcp/22"]
[[service]]
name = "tcp"
ports = ["tcp/any"]
[[service]]
name = "ping"
ports = ["icmp/echo", "icmpv6/echo"]
"#;

fn plant(more: &str) -> String {
    format!("{PLANT}{more}")
}

const DEV_TO_JUMP: &str = r#"
[[rule]]
name = "dev-to-jump"
from = ["dev"]
to = ["jump"]
services = ["ssh"]
action = "allow"
"#;
const OPS: &str = r#"
[[rule]]
name = "ops"
from = ["jump"]
to = ["cards"]
services = ["tcp"]
action = "allow"
"#;

fn never(invariant: &str) -> String {
    format!("[[invariant]]\nname = \"i\"\nnever = {{ {invariant} }}\n")
}

#[test]
fn a_broken_invariant_names_each_hop_with_its_rule_and_service() {
    // From the jump host's other address: what is reached is a host, not an address.
    let two = never(r#"from = "dev", to = "cards", hops = 2"#);
    assert_eq!(
        told(&plant(&format!("{DEV_TO_JUMP}{OPS}{two}")), View::Intended),
        "i: dev -> jump (rule dev-to-jump, ssh) -> cards (rule ops, tcp) [build-1 -> jump-1 -> db-1]\n"
    );
    let one = never(r#"from = "dev", to = "cards""#);
    assert_eq!(
        told(&plant(&format!("{DEV_TO_JUMP}{OPS}{one}")), View::Intended),
        ""
    );
    // Without the second address the jump host cannot speak to the database at all.
    let v4 = plant(&format!("{DEV_TO_JUMP}{OPS}{two}")).replace(", \"2001:db8::2\"", "");
    assert_eq!(told(&v4, View::Intended), "");
}

#[test]
fn a_path_goes_on_by_anything_but_icmp() {
    let ping = DEV_TO_JUMP.replace("ssh", "ping");
    let two = never(r#"from = "dev", to = "cards", hops = 2"#);
    assert_eq!(
        told(&plant(&format!("{ping}{OPS}{two}")), View::Intended),
        ""
    );
    let one = never(r#"from = "dev", to = "jump""#);
    assert_eq!(
        told(&plant(&format!("{ping}{one}")), View::Intended),
        "i: dev -> jump (rule dev-to-jump, ping) [build-1 -> jump-1]\n"
    );
}

#[test]
fn what_is_left_out_begins_no_path_and_carries_none_on() {
    let gate = never(r#"from = "any", to = "cards", hops = 3, except = ["jump"]"#);
    assert_eq!(
        told(&plant(&format!("{DEV_TO_JUMP}{OPS}{gate}")), View::Intended),
        ""
    );
    let by_ssh = never(r#"from = "dev", to = "cards", hops = 2, services = ["ssh"]"#);
    assert_eq!(
        told(
            &plant(&format!("{DEV_TO_JUMP}{OPS}{by_ssh}")),
            View::Intended
        ),
        "i: dev -> jump (rule dev-to-jump, ssh) -> cards (rule ops, ssh) [build-1 -> jump-1 -> db-1]\n"
    );
    let by_ping = by_ssh.replace("\"ssh\"", "\"ping\"");
    assert_eq!(
        told(
            &plant(&format!("{DEV_TO_JUMP}{OPS}{by_ping}")),
            View::Intended
        ),
        ""
    );
}

#[test]
fn a_segment_in_observe_is_proved_as_it_is_meant_and_is_open_now() {
    let among = never(r#"from = "dev", to = "dev""#);
    assert_eq!(told(&plant(&among), View::Intended), "");
    assert_eq!(
        told(&plant(&among), View::Enforced),
        "i: dev -> dev (by default, any) [build-1 -> build-2]\n"
    );
    // A rule in test opens nothing now, and is meant to.
    let staged = DEV_TO_JUMP.replace("action", "mode = \"test\"\naction");
    let one = never(r#"from = "dev", to = "jump""#);
    let text = plant(&format!("{staged}{one}"));
    assert_eq!(
        told(&text, View::Intended),
        "i: dev -> jump (rule dev-to-jump, ssh) [build-1 -> jump-1]\n"
    );
    assert_eq!(told(&text, View::Enforced), "");
}

#[test]
fn a_workload_in_both_segments_is_no_hop_away() {
    let text = plant(
        r#"
[[segment]]
name = "both"
select = "net in (jump, cards)"
mode = "enforce"
[[invariant]]
name = "apart"
never = { from = "jump", to = "both" }
[[invariant]]
name = "among"
never = { from = "both", to = "both", hops = 5 }
"#,
    );
    assert_eq!(told(&text, View::Intended), "apart: jump [jump-1]\n");
    // Somebody else of the same segment.
    assert_eq!(
        told(&format!("{text}{OPS}"), View::Intended),
        "apart: jump [jump-1]\namong: both -> both (rule ops, tcp) [jump-1 -> db-1]\n"
    );
}

#[test]
fn the_internet_and_the_unmanaged_are_walked_through() {
    let out = r#"
[[rule]]
name = "out"
from = ["dev"]
to = ["internet"]
services = ["tcp"]
action = "allow"
[[rule]]
name = "in"
from = ["internet"]
to = ["jump"]
services = ["ssh"]
action = "allow"
"#;
    let two = never(r#"from = "dev", to = "jump", hops = 2"#);
    assert_eq!(
        told(&plant(&format!("{out}{two}")), View::Intended),
        "i: dev -> internet (rule out, tcp) -> jump (rule in, ssh) [build-1 -> 1.0.0.0 -> jump-1]\n"
    );
    let fenced = two.replace("hops = 2", "hops = 2, except = [\"internet\"]");
    assert_eq!(told(&plant(&format!("{out}{fenced}")), View::Intended), "");
}

#[test]
fn an_identity_that_no_address_has_is_no_end() {
    // The segment is wholly taken by two narrower ones that a guardrail keeps apart from `to`.
    let text = r#"
segment = [
    { name = "wide", mode = "enforce", addresses = ["10.0.0.0/31"] },
    { name = "low", mode = "enforce", addresses = ["10.0.0.0"] },
    { name = "high", mode = "enforce", addresses = ["10.0.0.1"] },
    { name = "to", mode = "enforce", addresses = ["10.1.0.0/16"] },
]
rule = [
    { name = "open", from = ["wide"], to = ["to"], action = "allow" },
    { name = "shut", tier = "guardrail", from = ["low", "high"], to = ["to"], action = "deny" },
]
[[invariant]]
name = "i"
never = { from = "wide", to = "to" }
"#;
    assert_eq!(told(text, View::Intended), "");
    let half = text.replace("\"low\", \"high\"", "\"low\"");
    assert_eq!(
        told(&half, View::Intended),
        "i: wide -> to (rule open, any) [10.0.0.1 -> 10.1.0.0]\n"
    );
}

// The twin -----------------------------------------------------------------------------------------

struct Host {
    addresses: Vec<u128>,
    segments: BTreeSet<u32>,
}

fn is_v4(address: u128) -> bool {
    address >> 32 == 0xffff
}

fn bits(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(v4) => (
            u128::from(v4.network().to_ipv6_mapped()),
            u128::from(v4.broadcast().to_ipv6_mapped()),
        ),
        IpNet::V6(v6) => (u128::from(v6.network()), u128::from(v6.broadcast())),
    }
}

/// Addresses around every edge of every prefix: each region that can be told apart holds one, and
/// two where it has two.
fn addresses(image: &PolicyImage, nets: &[IpNet]) -> Vec<u128> {
    let mut all = BTreeSet::new();
    let mut edges: Vec<u128> = nets
        .iter()
        .flat_map(|net| <[u128; 2]>::from(bits(net)))
        .collect();
    edges.extend([0, 0xffff << 32, (0xffff << 32) | 0xffff_ffff, u128::MAX]);
    for edge in edges {
        for step in 0..3 {
            all.extend([edge.saturating_sub(step), edge.saturating_add(step)]);
        }
    }
    // Three of each that nothing tells apart will do.
    let mut seen: BTreeMap<(bool, Vec<u32>), usize> = BTreeMap::new();
    all.retain(|address| {
        let managed = image
            .workloads()
            .any(|w| w.prefixes().any(|p| p.covers(&address.to_be_bytes())));
        let set = reference::segments(image, &address.to_be_bytes());
        let count = seen.entry((is_v4(*address), set)).or_insert(0);
        *count += 1;
        managed || *count <= 3
    });
    all.into_iter().collect()
}

fn hosts(image: &PolicyImage, nets: &[IpNet]) -> Vec<Host> {
    let mut of_workload: BTreeMap<String, Host> = BTreeMap::new();
    let mut hosts = Vec::new();
    for address in addresses(image, nets) {
        let bytes = address.to_be_bytes();
        let segments = reference::segments(image, &bytes).into_iter();
        let owner = image
            .workloads()
            .find(|w| w.prefixes().any(|p| p.covers(&bytes)));
        match owner {
            Some(owner) => {
                let host = of_workload.entry(owner.name.to_owned()).or_insert(Host {
                    addresses: Vec::new(),
                    segments: BTreeSet::new(),
                });
                host.addresses.push(address);
                host.segments.extend(segments);
            }
            None => hosts.push(Host {
                addresses: vec![address],
                segments: segments.collect(),
            }),
        }
    }
    hosts.extend(of_workload.into_values());
    hosts
}

fn every_service() -> Vec<Service> {
    let mut all = Vec::new();
    for port in [0, 80, 84, 85, 90, 91, 255, 256, 257, 1000, 1001, 65535] {
        all.push(Service::port(6, port));
    }
    all.extend([0, 53, 54].map(|port| Service::port(17, port)));
    all.extend([79, 80, 81].map(|port| Service::port(132, port)));
    all.extend([(3, 0), (8, 0), (8, 1), (8, 2)].map(|(kind, code)| Service::icmp(1, kind, code)));
    all.extend([(134, 9), (135, 0)].map(|(kind, code)| Service::icmp(58, kind, code)));
    all.extend([Service::port(47, 0), Service::port(99, 0)]);
    all
}

/// Whether a connection passes, by the sentences of the language.
fn passes(image: &PolicyImage, src: u128, dst: u128, service: &Service, view: View) -> bool {
    let [from, to] = [src, dst].map(|at| reference::segments(image, &at.to_be_bytes()));
    let mode = reference::mode(image, &from).max(reference::mode(image, &to));
    let rules: Vec<_> = image
        .rules()
        .filter(|rule| reference::matches(image, rule, &from, &to, service))
        .filter(|rule| view == View::Intended || reference::takes_effect(rule, mode))
        .collect();
    let in_a_segment = from.iter().chain(&to).any(|segment| *segment > 2);
    match reference::decides(&rules) {
        Some(rule) => matches!(rule.action, Action::Allow | Action::Limit),
        None if view == View::Intended => !in_a_segment,
        None => mode != abi::Mode::Enforce,
    }
}

struct Twin {
    hosts: Vec<Host>,
    /// For each pair of hosts, which services pass.
    open: Vec<Vec<Vec<usize>>>,
    services: Vec<Service>,
}

impl Twin {
    fn of(image: &PolicyImage, nets: &[IpNet], view: View) -> Self {
        let (hosts, services) = (hosts(image, nets), every_service());
        let mut known: BTreeMap<[Vec<u32>; 2], Vec<usize>> = BTreeMap::new();
        let mut between = |src: u128, dst: u128| {
            let ends = [src, dst].map(|at| reference::segments(image, &at.to_be_bytes()));
            let all = || {
                let passing = |at: &usize| passes(image, src, dst, &services[*at], view);
                (0..services.len()).filter(passing).collect()
            };
            known.entry(ends).or_insert_with(all).clone()
        };
        let mut open = Vec::new();
        for one in &hosts {
            let mut row = Vec::new();
            for other in &hosts {
                let mut passing = BTreeSet::new();
                for src in &one.addresses {
                    for dst in other
                        .addresses
                        .iter()
                        .filter(|dst| is_v4(**dst) == is_v4(*src))
                    {
                        passing.extend(between(*src, *dst));
                    }
                }
                row.push(passing.into_iter().collect());
            }
            open.push(row);
        }
        Self {
            hosts,
            open,
            services,
        }
    }

    /// The least number of hops by which an invariant is broken.
    fn broken(&self, image: &PolicyImage, invariant: &policy::Invariant) -> Option<i64> {
        let counts = |at: usize| {
            invariant.services.is_empty()
                || invariant.services.iter().any(|service| {
                    let service = image.service(*service).expect("a service");
                    service.ports().any(|port| port.covers(&self.services[at]))
                })
        };
        let is = |host: usize, segment: u32| self.hosts[host].segments.contains(&segment);
        let left_out = |host: usize| invariant.except.iter().any(|segment| is(host, *segment));
        let others_only =
            invariant.from == invariant.to || [invariant.from, invariant.to].contains(&SEGMENT_ANY);
        let all = 0..self.hosts.len();
        let begin = all
            .clone()
            .filter(|host| is(*host, invariant.from) && !left_out(*host));
        let mut least: Option<i64> = None;
        for source in begin {
            if !others_only && is(source, invariant.to) {
                return Some(0);
            }
            let mut front = BTreeSet::from([source]);
            for hop in 1..=invariant.hops {
                let mut next = BTreeSet::new();
                for from in front {
                    for to in all.clone().filter(|to| *to != from) {
                        let passing = || self.open[from][to].iter().filter(|at| counts(**at));
                        let target = is(to, invariant.to) && to != source;
                        if target && passing().next().is_some() {
                            least = Some(least.map_or(hop, |known| known.min(hop)));
                        }
                        let icmp = |at: &&usize| [1, 58].contains(&self.services[**at].proto);
                        if !left_out(to) && !passing().all(|at| icmp(&at)) {
                            next.insert(to);
                        }
                    }
                }
                front = next;
            }
        }
        least
    }
}

#[derive(Clone, Debug)]
struct Never {
    from: usize,
    to: usize,
    hops: i64,
    services: Vec<usize>,
    except: Vec<usize>,
}

fn a_never() -> impl Strategy<Value = Never> {
    let services = prop_oneof![3 => Just(Vec::new()), 1 => vec(0_usize..8, 1..3)];
    let except = prop_oneof![3 => Just(Vec::new()), 1 => vec(1_usize..10, 1..3)];
    (0_usize..10, 0_usize..10, 1_i64..5, services, except).prop_map(
        |(from, to, hops, services, except)| Never {
            from,
            to,
            hops,
            services,
            except,
        },
    )
}

fn text(drawn: &Drawn, invariants: &[Never]) -> String {
    let mut text = drawn.text();
    for (at, never) in invariants.iter().enumerate() {
        let ends = drawn.ends(&[never.from, never.to]);
        let count = drawn.services.len();
        let services: Vec<_> = never
            .services
            .iter()
            .map(|s| format!("p{}", s % count))
            .collect();
        text += &format!(
            "[[invariant]]\nname = \"i{at}\"\nnever = {{ from = {:?}, to = {:?}, hops = {}, services = {services:?}, except = {:?} }}\n",
            ends[0],
            ends[1],
            never.hops,
            drawn.ends(&never.except)
        );
    }
    text
}

fn nets(policy: &policy::ValidPolicy) -> Vec<IpNet> {
    let segments = policy
        .segments
        .iter()
        .flat_map(|segment| &segment.addresses);
    let workloads = policy
        .workloads
        .iter()
        .flat_map(|workload| &workload.addresses);
    segments
        .chain(workloads)
        .chain(&policy.internal)
        .copied()
        .collect()
}

/// Few ends and few rules between them, so that paths are long.
fn sparse() -> impl Strategy<Value = Drawn> {
    const ENDS: [&str; 9] = [
        "10.0.1.4",
        "10.0.1.5",
        "10.0.1.6",
        "10.0.2.1",
        "192.0.2.128/25",
        "2001:db8:1::4",
        "2001:db8:1::5",
        "2001:db8:1::6",
        "2001:db8:2::/48",
    ];
    let ends = vec(
        (0_usize..3, subsequence(ENDS.to_vec(), 1..3), Just(0_u8)),
        5..8,
    );
    let rule = (3_usize..11, 3_usize..11, 0_usize..6, 0_usize..12);
    (
        subsequence(drawn::ADDRESSES.to_vec(), 0..6).prop_shuffle(),
        ends,
        vec(rule, 3..12),
    )
        .prop_map(|(addresses, segments, rules)| Drawn {
            workloads: addresses.chunks(2).map(|own| (own.to_vec(), 0)).collect(),
            segments,
            services: [
                vec!["tcp/80"],
                vec!["tcp/80-90", "udp/53"],
                vec!["icmp/any"],
            ]
            .into(),
            rules: rules
                .into_iter()
                .map(|(from, to, service, action)| drawn::Rule {
                    tier: "application",
                    action: if action == 0 { "deny" } else { "allow" },
                    mode: ["", "mode = \"test\""][action % 2],
                    from: vec![from],
                    to: vec![to],
                    services: if service < 3 {
                        vec![service]
                    } else {
                        Vec::new()
                    },
                    expires: "",
                })
                .collect(),
            internal: None,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_prover_and_a_walk_from_address_to_address_agree(
        drawn in prop_oneof![drawn(), sparse(), sparse()],
        invariants in vec(a_never(), 1..8),
        enforced in any::<bool>(),
    ) {
        let text = text(&drawn, &invariants);
        let compiled = compiled(&text);
        let policy = compiled.policy();
        let view = if enforced { View::Enforced } else { View::Intended };
        let twin = Twin::of(&compiled.image, &nets(policy), view);
        let broken = prove(&compiled, view);
        for invariant in policy.invariants.iter() {
            let found = broken.iter().find(|broken| broken.name == invariant.name);
            let hops = found.map(|broken| broken.paths[0].hops.len() as i64);
            prop_assert_eq!(hops, twin.broken(&compiled.image, invariant), "{:?} {}\n{}", invariant, view, text);
            for path in found.iter().flat_map(|broken| &broken.paths) {
                for hosts in path.ends.windows(2) {
                    prop_assert_ne!(&hosts[0].host, &hosts[1].host, "{}", text);
                }
                prop_assert!(path.hops.iter().all(|hop| !hop.openings.is_empty()));
            }
        }
    }
}

#[test]
fn the_twin_finds_a_path_of_two_hops() {
    // Where it let nothing through, it would agree with a prover that finds nothing.
    let two = never(r#"from = "dev", to = "cards", hops = 2"#);
    let compiled =
        compiled(&plant(&format!("{DEV_TO_JUMP}{OPS}{two}")).replace("tcp/22", "tcp/80"));
    let twin = Twin::of(&compiled.image, &nets(compiled.policy()), View::Intended);
    let invariant = &compiled.policy().invariants[0];
    assert_eq!(twin.broken(&compiled.image, invariant), Some(2));
}

use super::*;
use crate::compile::{CompiledPolicy, compile};
use crate::{Inventory, InventoryFile, Loader};
use abi::Action;
use acl::Service;
use core::net::IpAddr;
use jiff::civil::date;
use proptest::prelude::*;

const TEXT: &str = r#"
# The shop.
[[workload]]
name = "web-1"
addresses = ["10.0.1.10", "fd00:1::10"]
labels = { role = "web" }

[[workload]]
name = "db-1"
addresses = ["10.0.2.20"]
labels = { role = "db" }

[[workload]]
name = "admin-1"
addresses = ["10.0.9.1"]
labels = { role = "admin" }

[[segment]]
name = "web"
select = "role=web"
mode = "enforce"

[[segment]]
name = "db"
select = "role=db"
mode = "enforce"

[[segment]]
name = "admin"
select = "role=admin"
mode = "observe"

[[service]]
name = "postgres"
ports = ["tcp/5432"]

[[service]]
name = "ssh"
ports = ["tcp/22"]

[[rule]]
name = "web-to-db"
from = ["web"]
to = ["db"]
services = ["postgres"]
action = "allow"

[[rule]]
name = "ssh-to-all"
tier = "guardrail"
from = ["any"]
to = ["any"]
services = ["ssh"]
action = "allow"
"#;

fn load(text: &str) -> ValidPolicy {
    crate::load(text, "shop.toml", date(2026, 1, 31)).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

fn compiled(text: &str) -> CompiledPolicy {
    compile(&load(text), 1, date(2026, 1, 31)).unwrap()
}

fn hold(allow: &[&str], to: Option<&str>) -> Result<String, QuarantineError> {
    let quarantine = Quarantine {
        workload: "web-1".into(),
        allow: allow.iter().map(ToString::to_string).collect(),
        to: to.map(str::to_owned),
        comment: "until noon".into(),
    };
    with_quarantine(TEXT, &load(TEXT), &quarantine)
}

/// What happens, and the rule that says so.
fn explain(policy: &CompiledPolicy, src: &str, dst: &str, service: Service) -> (Action, String) {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let report = crate::explain(policy, src, dst, &service);
    assert!(report.consistent);
    let rule = report.enforced.rule.unwrap_or_else(|| "default".into());
    (report.enforced.action, rule)
}

const TCP: u8 = 6;
const WEB: &str = "10.0.1.10";
const DB: &str = "10.0.2.20";
const ADMIN: &str = "10.0.9.1";

#[test]
fn a_workload_without_allowances_reaches_nobody_and_nobody_reaches_it() {
    let held = compiled(&hold(&[], None).unwrap());
    let (out, within) = (
        "quarantine:web-1:out".to_owned(),
        "quarantine:web-1:in".to_owned(),
    );
    for service in [
        Service::port(TCP, 5432),
        Service::port(TCP, 22),
        Service::icmp(1, 8, 0),
    ] {
        for other in [DB, ADMIN, "198.51.100.7", "10.9.9.9"] {
            assert_eq!(
                explain(&held, WEB, other, service),
                (Action::Deny, out.clone())
            );
            assert_eq!(
                explain(&held, other, WEB, service),
                (Action::Deny, within.clone())
            );
        }
    }
    let six = explain(&held, "fd00:1::10", "fd00:9::9", Service::port(17, 53));
    assert_eq!(six, (Action::Deny, out), "its other address too");
    let ssh = explain(&held, ADMIN, DB, Service::port(TCP, 22));
    assert_eq!(
        ssh,
        (Action::Allow, "ssh-to-all".into()),
        "others are as before"
    );
}

#[test]
fn about_allowed_services_the_policy_decides_as_before() {
    let before = compiled(TEXT);
    let held = compiled(&hold(&["postgres", "icmp/echo"], None).unwrap());
    for (src, dst) in [(WEB, DB), (DB, WEB), (WEB, "198.51.100.7"), (ADMIN, WEB)] {
        for service in [Service::port(TCP, 5432), Service::icmp(1, 8, 0)] {
            assert_eq!(
                explain(&held, src, dst, service),
                explain(&before, src, dst, service)
            );
        }
        for service in [
            Service::port(TCP, 22),
            Service::port(TCP, 5431),
            Service::port(TCP, 5433),
            Service::port(TCP, 0),
            Service::port(TCP, 65_535),
            Service::port(17, 5432),
            Service::icmp(1, 0, 0),
            Service::icmp(58, 128, 0),
            Service::port(47, 0),
            Service::port(255, 0),
        ] {
            let (action, rule) = explain(&held, src, dst, service);
            assert_eq!(action, Action::Deny, "{src} {dst} {service:?}");
            assert!(rule.starts_with("quarantine:web-1:"), "{rule}");
        }
    }
    assert_eq!(
        explain(&held, WEB, DB, Service::port(TCP, 5432)),
        (Action::Allow, "web-to-db".into())
    );
}

#[test]
fn allowances_may_hold_for_one_segment_only() {
    let held = compiled(&hold(&["ssh"], Some("admin")).unwrap());
    let ssh = Service::port(TCP, 22);
    for (src, dst) in [(WEB, ADMIN), (ADMIN, WEB)] {
        let allowed = (Action::Allow, "ssh-to-all".to_owned());
        assert_eq!(explain(&held, src, dst, ssh), allowed);
        assert_eq!(
            explain(&held, src, dst, Service::port(TCP, 80)).0,
            Action::Deny
        );
    }
    for other in [DB, "10.0.9.0", "10.0.9.2", "198.51.100.7", "0.0.0.0"] {
        let denied = |way: &str| (Action::Deny, format!("quarantine:web-1:other-{way}"));
        assert_eq!(explain(&held, WEB, other, ssh), denied("out"));
        assert_eq!(explain(&held, other, WEB, ssh), denied("in"));
    }
}

#[test]
fn what_was_held_is_let_go_to_the_byte_but_for_blank_lines() {
    let held = hold(&["ssh", "tcp/443"], Some("admin")).unwrap();
    assert!(held.contains("# The shop.") && held.contains("until noon"));
    let lifted = without_quarantines(&held).unwrap();
    let bare = |text: &str| {
        let lines = text.lines().filter(|l| !l.trim().is_empty());
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(bare(&lifted), bare(TEXT));
    assert_eq!(without_quarantines(TEXT).unwrap(), TEXT);
    let twice = with_quarantine(
        &held,
        &load(&held),
        &Quarantine {
            workload: "db-1".into(),
            ..Quarantine::default()
        },
    );
    let both = compiled(&twice.unwrap());
    assert_eq!(
        explain(&both, DB, ADMIN, Service::port(TCP, 22)).0,
        Action::Deny
    );
    assert_eq!(
        explain(&both, WEB, ADMIN, Service::port(TCP, 22)).0,
        Action::Allow
    );
}

#[test]
fn what_cannot_be_held_is_told() {
    let told = |allow: &[&str], to: Option<&str>| hold(allow, to).unwrap_err().to_string();
    assert!(told(&["postgre"], None).contains("neither a service of the policy nor a port"));
    assert!(told(&["any"], None).contains("nothing would be held"));
    assert!(told(&["ssh"], Some("ops")).contains("no segment `ops`"));
    assert!(told(&[], Some("admin")).contains("needs --allow"));
    for workload in ["nobody".to_owned(), "x".repeat(WORKLOAD_BYTES_MAX + 1)] {
        let quarantine = Quarantine {
            workload,
            ..Quarantine::default()
        };
        assert!(with_quarantine(TEXT, &load(TEXT), &quarantine).is_err());
    }
}

#[test]
fn allowances_of_single_codes_take_more_than_one_service() {
    let codes = [
        "icmp/8/0",
        "icmpv6/128/0",
        "tcp/22",
        "udp/53",
        "sctp/9",
        "proto/47",
    ];
    let text = hold(&codes, None).unwrap();
    let held = compiled(&text);
    assert!(text.contains("quarantine:web-1:denied-2"));
    for (service, held_back) in [
        (Service::icmp(1, 8, 0), false),
        (Service::icmp(1, 8, 1), true),
        (Service::icmp(58, 128, 0), false),
        (Service::icmp(58, 129, 0), true),
        (Service::port(255, 0), true),
    ] {
        let (_, rule) = explain(&held, WEB, DB, service);
        assert_eq!(rule.starts_with("quarantine:"), held_back, "{service:?}");
    }
}

proptest! {
    #[test]
    fn a_service_is_either_allowed_or_denied_and_never_both(
        ranges in prop::collection::vec((prop::sample::select(vec![1_u8, 6, 17, 47, 58]), any::<u16>(), any::<u16>()), 0..6),
        proto in prop::sample::select(vec![1_u8, 6, 17, 47, 58, 99]),
        key: u16,
    ) {
        let allowed: Vec<Port> = ranges
            .iter()
            .map(|(proto, a, b)| match proto {
                47 => Port { proto: Some(47), low: 0, high: u16::MAX },
                _ => Port { proto: Some(*proto), low: *a.min(b), high: *a.max(b) },
            })
            .collect();
        let covers = |ports: &[Port]| ports.iter().any(|p| {
            p.proto == Some(proto) && (p.low..=p.high).contains(&key)
        });
        let denied: Vec<Port> = denied_ports(&allowed).iter().map(|p| Port::parse(p).unwrap()).collect();
        prop_assert_ne!(covers(&allowed), covers(&denied));
        let again: Vec<Port> = allowed.iter().flat_map(|p| written(*p)).map(|p| Port::parse(&p).unwrap()).collect();
        prop_assert_eq!(covers(&allowed), covers(&again));
    }

    #[test]
    fn an_address_is_either_in_some_prefixes_or_in_their_complement(
        prefixes in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..8),
        inside in any::<prop::sample::Index>(),
        address: u32,
    ) {
        let nets: Vec<IpNet> = prefixes
            .iter()
            .map(|(a, len)| IpNet::V4(Ipv4Net::new((*a).into(), *len).unwrap().trunc()))
            .collect();
        let rest = complement(&nets);
        let mut addresses = vec![IpAddr::V4(address.into())];
        if !prefixes.is_empty() {
            addresses.push(IpAddr::V4(inside.get(&prefixes).0.into()));
        }
        for address in addresses {
            prop_assert_ne!(covers(&nets, address), covers(&rest, address));
        }
    }
}

/// `web-9` beside the text, at an address.
fn beside(address: &str) -> Inventory {
    let csv = format!("name,addresses,label:role\nweb-9,{address},web\n");
    let file = InventoryFile::read(&csv, "hosts.csv").unwrap();
    let merged = crate::merge(&load(TEXT).workloads, "shop.toml", &[file]).unwrap();
    Inventory {
        tables: merged.tables,
        ..Inventory::default()
    }
}

#[test]
fn a_workload_of_an_inventory_is_held_wherever_it_moves() {
    let today = date(2026, 1, 31);
    let mut loader = Loader::new();
    let mut decider = |text: &str, address: &str| {
        let inventory = beside(address);
        let valid = loader.load_with(text, &inventory, "shop.toml", today);
        let valid = valid.unwrap();
        let anew = Loader::new().load_with(text, &inventory, "shop.toml", today);
        // What is remembered of the last text changes nothing.
        assert_eq!(format!("{valid:?}"), format!("{:?}", anew.unwrap()));
        let compiled = compile(&valid, 1, today).unwrap();
        let [src, dst]: [IpAddr; 2] = [address, "10.0.2.20"].map(|a| a.parse().unwrap());
        let asked = Service::port(6, 5432);
        let told = crate::explain(&compiled, src, dst, &asked);
        (valid, told.enforced.rule)
    };
    let (policy, rule) = decider(TEXT, "10.0.1.19");
    assert_eq!(rule.as_deref(), Some("web-to-db"));
    let quarantine = Quarantine {
        workload: "web-9".into(),
        ..Quarantine::default()
    };
    let held = with_quarantine(TEXT, &policy, &quarantine).unwrap();
    assert!(!held.contains("\"web-9\""), "it has no table here: {held}");
    for address in ["10.0.1.19", "10.0.1.29", "10.0.1.19"] {
        let (_, rule) = decider(&held, address);
        assert_eq!(rule.as_deref(), Some("quarantine:web-9:out"), "{address}");
    }
    let free = without_quarantines(&held).unwrap();
    let (_, rule) = decider(&free, "10.0.1.29");
    assert_eq!(rule.as_deref(), Some("web-to-db"));
    let unknown = with_quarantine(TEXT, &load(TEXT), &quarantine);
    assert!(
        matches!(
            unknown,
            Err(QuarantineError::Edit(EditError::NoWorkload(_)))
        ),
        "{unknown:?}"
    );
}

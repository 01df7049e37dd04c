//! Policies drawn at random, and flows that meet in them.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test uses a part of it"
)]

use acl::Service;
use core::fmt::Write;
use core::net::IpAddr;
use jiff::civil::{Date, date};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub const TODAY: Date = date(2026, 11, 22);
pub const MODES: [&str; 3] = ["observe", "test", "enforce"];
pub const PREFIXES: [&str; 22] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/15",
    "10.0.0.0/22",
    "10.0.1.0/24",
    "10.0.1.0/28",
    "10.0.1.4/30",
    "10.0.1.5",
    "10.0.2.0/23",
    "10.128.0.0/9",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "2000::/3",
    "2001:db8::/32",
    "2001:db8::/47",
    "2001:db8:1::/48",
    "2001:db8:1::/64",
    "2001:db8:1::/120",
    "2001:db8:1::4/127",
    "2001:db8:1::5",
    "fe80::/10",
];
pub const ADDRESSES: [&str; 26] = [
    "10.0.1.4",
    "10.0.1.5",
    "10.0.1.6",
    "10.0.1.7",
    "10.0.1.8",
    "10.0.1.16",
    "10.0.2.1",
    "10.0.3.255",
    "10.0.4.0",
    "10.1.0.0",
    "10.2.0.0",
    "10.128.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "192.0.2.127",
    "192.0.2.128",
    "203.0.113.1",
    "2001:db8:1::4",
    "2001:db8:1::5",
    "2001:db8:1::6",
    "2001:db8:1::1:0",
    "2001:db8:1:1::",
    "2001:db8:2::",
    "2001:db9::",
    "fe80::1",
    "4000::1",
];
pub const PORTS: [&str; 15] = [
    "tcp/80",
    "tcp/80-90",
    "tcp/85-1000",
    "tcp/255-256",
    "tcp/any",
    "udp/53",
    "udp/0-53",
    "sctp/80",
    "icmp/echo",
    "icmp/8/1",
    "icmp/any",
    "icmpv6/135",
    "proto/47",
    "proto/6",
    "any",
];
pub const END: [&str; 3] = ["any", "internet", "unmanaged"];

#[derive(Clone, Debug)]
pub struct Rule {
    pub tier: &'static str,
    pub action: &'static str,
    pub mode: &'static str,
    pub from: Vec<usize>,
    pub to: Vec<usize>,
    pub services: Vec<usize>,
    pub expires: &'static str,
}

/// A segment's mode, and its prefixes or, where it has none, the label that it selects.
pub type Segment = (usize, Vec<&'static str>, u8);

#[derive(Clone, Debug)]
pub struct Drawn {
    pub workloads: Vec<(Vec<&'static str>, u8)>,
    pub segments: Vec<Segment>,
    pub services: Vec<Vec<&'static str>>,
    pub rules: Vec<Rule>,
    pub internal: Option<Vec<&'static str>>,
}

pub fn rule() -> impl Strategy<Value = Rule> {
    (
        select(&["guardrail", "application", "baseline"][..]),
        select(&["allow", "allow", "deny", "reject", "limit"][..]),
        select(&["", "", "mode = \"test\"", "mode = \"enforce\""][..]),
        vec(0_usize..10, 1..3),
        vec(0_usize..10, 1..3),
        vec(0_usize..8, 0..3),
        select(
            &[
                "",
                "",
                "",
                "expires = \"2026-11-21\"",
                "expires = \"2026-11-22\"",
            ][..],
        ),
    )
        .prop_map(|(tier, action, mode, from, to, services, expires)| Rule {
            tier,
            action,
            mode,
            from,
            to,
            services,
            expires,
        })
}

pub fn drawn() -> impl Strategy<Value = Drawn> {
    let workload = (any::<proptest::sample::Index>(), 0_u8..4);
    (
        subsequence(ADDRESSES.to_vec(), 0..8).prop_shuffle(),
        vec(workload, 0..8),
        vec(
            (0_usize..3, subsequence(PREFIXES.to_vec(), 0..4), 0_u8..4),
            1..7,
        ),
        vec(subsequence(PORTS.to_vec(), 1..4), 1..6),
        vec(rule(), 0..14),
        proptest::option::of(subsequence(PREFIXES.to_vec(), 0..4)),
    )
        .prop_map(|(addresses, labels, segments, services, rules, internal)| {
            // One or two addresses each, nobody's twice.
            let workloads = addresses
                .chunks(2)
                .map(<[_]>::to_vec)
                .zip(labels.into_iter().map(|l| l.1))
                .collect();
            Drawn {
                workloads,
                segments,
                services,
                rules,
                internal,
            }
        })
}

impl Drawn {
    pub fn text(&self) -> String {
        let mut text = String::new();
        let t = &mut text;
        if let Some(internal) = &self.internal {
            writeln!(t, "[policy]\ninternal = {internal:?}").expect("a string");
        }
        for (at, (addresses, label)) in self.workloads.iter().enumerate() {
            let labels = format!("{{ app = \"a{}\", zone = \"z{}\" }}", label % 2, label / 2);
            writeln!(
                t,
                "[[workload]]\nname = \"w{at}\"\naddresses = {addresses:?}\nlabels = {labels}"
            )
            .expect("a string");
        }
        for (at, (mode, prefixes, label)) in self.segments.iter().enumerate() {
            let members = match (prefixes.is_empty(), label) {
                (false, _) => format!("addresses = {prefixes:?}"),
                (true, 0) => "select = \"app=a0\"".into(),
                (true, 1) => "select = \"app in (a0, a1), zone!=z0\"".into(),
                (true, 2) => "select = \"zone notin (z1)\"".into(),
                (true, _) => "select = \"app exists, !rack exists\"".into(),
            };
            let mode = MODES[*mode];
            writeln!(
                t,
                "[[segment]]\nname = \"s{at}\"\n{members}\nmode = \"{mode}\""
            )
            .expect("a string");
        }
        for (at, ports) in self.services.iter().enumerate() {
            writeln!(t, "[[service]]\nname = \"p{at}\"\nports = {ports:?}").expect("a string");
        }
        for (at, rule) in self.rules.iter().enumerate() {
            // Names do not follow the order of the file.
            let name = format!("r{}", (at * 7) % 16);
            let Rule {
                tier,
                action,
                mode,
                expires,
                ..
            } = rule;
            let rate = if *action == "limit" {
                "rate = \"10pps\""
            } else {
                ""
            };
            let (from, to) = (self.ends(&rule.from), self.ends(&rule.to));
            let services: Vec<_> = rule
                .services
                .iter()
                .map(|s| format!("p{}", s % self.services.len()))
                .collect();
            writeln!(
                t,
                "[[rule]]\nname = \"{name}\"\ntier = \"{tier}\"\naction = \"{action}\"\n{rate}\n{mode}\nfrom = {from:?}\nto = {to:?}\nservices = {services:?}\n{expires}"
            )
            .expect("a string");
        }
        text
    }

    pub fn ends(&self, ends: &[usize]) -> Vec<String> {
        let name = |end: &usize| match END.get(*end) {
            Some(name) => (*name).to_owned(),
            None => format!("s{}", end % self.segments.len()),
        };
        ends.iter().map(name).collect()
    }
}

pub fn bytes(address: &str) -> [u8; 16] {
    match address.parse().expect(address) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub fn address() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        8 => select(&ADDRESSES[..]).prop_map(bytes),
        1 => any::<u32>().prop_map(|v4| core::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()),
        1 => any::<u128>().prop_map(u128::to_be_bytes),
    ]
}

pub fn service() -> impl Strategy<Value = Service> {
    let edges = select(
        &[
            0_u16, 52, 53, 54, 79, 80, 81, 84, 85, 90, 91, 254, 255, 256, 257, 1000, 1001, 65535,
        ][..],
    );
    prop_oneof![
        4 => (select(&[6_u8, 17, 132][..]), edges).prop_map(|(p, port)| Service::port(p, port)),
        1 => (select(&[6_u8, 17, 132][..]), any::<u16>()).prop_map(|(p, port)| Service::port(p, port)),
        2 => (select(&[1_u8, 58][..]), select(&[0_u8, 8, 134, 135, 255][..]), 0_u8..3)
            .prop_map(|(p, kind, code)| Service::icmp(p, kind, code)),
        // Every protocol, with fields that must not count where they mean nothing.
        1 => (any::<u8>(), any::<u16>(), any::<u8>()).prop_map(|(proto, dport, icmp_type)| Service {
            proto, dport, icmp_type, icmp_code: 0,
        }),
    ]
}

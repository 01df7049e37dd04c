//! How ends and services are called for people: one wording, in every answer, table and filter.

use std::net::IpAddr;

/// ICMP types by name (IANA "ICMP Type Numbers"), as the policy language has them; a test in the
/// control process holds the two lists together.
pub const ICMP_TYPES: [(&str, u8); 11] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("redirect", 5),
    ("echo", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp", 13),
    ("timestamp-reply", 14),
    ("extended-echo", 42),
];

/// ICMPv6 types by name (IANA "ICMPv6 type Numbers"), likewise.
pub const ICMPV6_TYPES: [(&str, u8); 16] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo", 128),
    ("echo-reply", 129),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbor-solicitation", 135),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("mldv2-report", 143),
    ("extended-echo", 160),
];

/// The workload, or the address where no workload has it.
#[must_use]
pub fn end_label(name: Option<&str>, address: IpAddr) -> String {
    name.map_or_else(|| address.to_string(), str::to_owned)
}

/// The service's name where the policy has one, else [`service_word`].
#[must_use]
pub fn service_label(name: Option<&str>, proto: u8, port: u16) -> String {
    name.map_or_else(|| service_word(proto, port), str::to_owned)
}

/// `tcp/5432`, `icmp/echo`, `icmp/200`, `proto/47`: a service by its numbers, as the policy language
/// writes it but for codes of ICMP, which are left out; `port` is as in
/// [`crate::history::Conversation::port`].
#[must_use]
pub fn service_word(proto: u8, port: u16) -> String {
    match proto {
        1 => icmp_word("icmp", &ICMP_TYPES, port),
        58 => icmp_word("icmpv6", &ICMPV6_TYPES, port),
        6 => format!("tcp/{port}"),
        17 => format!("udp/{port}"),
        132 => format!("sctp/{port}"),
        proto => format!("proto/{proto}"),
    }
}

fn icmp_word(proto: &str, types: &[(&str, u8)], port: u16) -> String {
    let [kind, _] = port.to_be_bytes();
    match types.iter().find(|(_, number)| *number == kind) {
        Some((name, _)) => format!("{proto}/{name}"),
        None => format!("{proto}/{kind}"),
    }
}

/// A service as it may be asked for: `icmp/8` is `icmp/echo`, everything else is as it is.
#[must_use]
pub fn asked_service(text: &str) -> String {
    let typed = text.split_once('/').and_then(|(proto, kind)| {
        let proto = match proto {
            "icmp" => 1,
            "icmpv6" => 58,
            _ => return None,
        };
        let digits = kind.bytes().all(|byte| byte.is_ascii_digit());
        let kind: u8 = kind.parse().ok().filter(|_| digits)?;
        Some(service_word(proto, u16::from(kind) << 8))
    });
    typed.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_called_as_the_policy_writes_them() {
        for (proto, port, word) in [
            (6, 5432, "tcp/5432"),
            (17, 53, "udp/53"),
            (132, 3868, "sctp/3868"),
            (1, 0x0800, "icmp/echo"),
            (1, 0x0301, "icmp/destination-unreachable"),
            (1, 200 << 8, "icmp/200"),
            (58, 0x8000, "icmpv6/echo"),
            (47, 0, "proto/47"),
        ] {
            assert_eq!(service_word(proto, port), word);
            assert_eq!(service_label(None, proto, port), word);
            assert_eq!(service_label(Some("own"), proto, port), "own");
        }
    }

    #[test]
    fn a_type_may_be_asked_for_by_its_number() {
        for (asked, meant) in [
            ("icmp/8", "icmp/echo"),
            ("icmpv6/128", "icmpv6/echo"),
            ("icmp/200", "icmp/200"),
            ("icmp/+8", "icmp/+8"),
            ("icmp/echo", "icmp/echo"),
            ("icmp/*", "icmp/*"),
            ("tcp/8", "tcp/8"),
            ("ssh", "ssh"),
        ] {
            assert_eq!(asked_service(asked), meant);
        }
    }
}

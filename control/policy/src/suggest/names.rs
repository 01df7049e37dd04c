//! Names that people expect, and that are nobody's yet.

use crate::limits::NAME_BYTES_MAX;
use crate::service::Port;
use std::collections::BTreeSet;

/// Bytes that a name leaves for a number that tells it apart.
const NUMBER_BYTES: usize = 4;

/// Well-known services by protocol and port (IANA "Service Name and Transport Protocol Port Number Registry"), under
/// the names that people use.
const WELL_KNOWN: &[(u8, u16, &str)] = &[
    (6, 20, "ftp-data"),
    (6, 21, "ftp"),
    (6, 22, "ssh"),
    (6, 23, "telnet"),
    (6, 25, "smtp"),
    (6, 53, "dns-tcp"),
    (6, 80, "http"),
    (6, 88, "kerberos-tcp"),
    (6, 110, "pop3"),
    (6, 111, "rpcbind-tcp"),
    (6, 135, "msrpc"),
    (6, 139, "netbios-ssn"),
    (6, 143, "imap"),
    (6, 179, "bgp"),
    (6, 389, "ldap"),
    (6, 443, "https"),
    (6, 445, "smb"),
    (6, 514, "syslog-tcp"),
    (6, 587, "submission"),
    (6, 636, "ldaps"),
    (6, 993, "imaps"),
    (6, 1433, "mssql"),
    (6, 1521, "oracle"),
    (6, 2049, "nfs"),
    (6, 3268, "global-catalog"),
    (6, 3306, "mysql"),
    (6, 3389, "rdp"),
    (6, 5432, "postgres"),
    (6, 5672, "amqp"),
    (6, 5900, "vnc"),
    (6, 5985, "winrm"),
    (6, 6379, "redis"),
    (6, 8080, "http-8080"),
    (6, 9092, "kafka"),
    (6, 9100, "node-metrics"),
    (6, 27017, "mongodb"),
    (17, 53, "dns"),
    (17, 67, "dhcp"),
    (17, 68, "dhcp-client"),
    (17, 69, "tftp"),
    (17, 88, "kerberos"),
    (17, 111, "rpcbind"),
    (17, 123, "ntp"),
    (17, 137, "netbios-ns"),
    (17, 138, "netbios-dgm"),
    (17, 161, "snmp"),
    (17, 162, "snmp-trap"),
    (17, 389, "cldap"),
    (17, 443, "quic"),
    (17, 514, "syslog"),
    (17, 546, "dhcpv6-client"),
    (17, 547, "dhcpv6"),
    (17, 1900, "ssdp"),
    (17, 2055, "netflow"),
    (17, 3702, "ws-discovery"),
    (17, 4739, "ipfix"),
    (17, 4789, "vxlan"),
    (17, 5353, "mdns"),
    (17, 5355, "llmnr"),
];

/// The range that stands for a key: a port, a type of ICMP with every code, or a whole protocol.
pub(super) const fn port(proto: u8, key: u16) -> Port {
    let (low, high) = match proto {
        6 | 17 | 132 => (key, key),
        1 | 58 => (key & 0xff00, key | 0x00ff),
        _ => (0, u16::MAX),
    };
    Port {
        proto: Some(proto),
        low,
        high,
    }
}

/// The name that people expect for a service.
pub(super) fn service(proto: u8, key: u16) -> String {
    let known = WELL_KNOWN.iter().find(|(p, k, _)| (*p, *k) == (proto, key));
    if let Some((_, _, name)) = known {
        return (*name).to_owned();
    }
    match (proto, key >> 8) {
        (1, 8) => "ping".to_owned(),
        (58, 128) => "ping6".to_owned(),
        (2, _) => "igmp".to_owned(),
        (47, _) => "gre".to_owned(),
        (50, _) => "esp".to_owned(),
        _ => port(proto, key).to_string().replace('/', "-"),
    }
}

/// Names of one kind that are taken.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeSet<String>);

impl Taken {
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        Self(names.map(str::to_owned).collect())
    }

    /// A name like this that is nobody's, taken from now on.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let end = wanted.len().min(NAME_BYTES_MAX - NUMBER_BYTES);
        let wanted = wanted.get(..end).unwrap_or(wanted);
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}-{number}");
            number += 1;
        }
        name
    }
}

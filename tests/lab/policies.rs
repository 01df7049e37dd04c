//! The lab's policies: the same workloads and segments, other modes and rules.

use ringfence_tests::lab::{ADMIN, APP, CLIENT, DB, Host, WEB};

/// The services of [`policy`].
const SERVICES: [(&str, &str); 4] = [
    ("http", r#""tcp/80""#),
    ("telnet", r#""tcp/23", "udp/23""#),
    ("stream", r#""tcp/7007", "udp/7007""#),
    ("ping", r#""icmp/echo""#),
];

/// Every host of the lab, with its labels. `attacker` is no workload: its address is unmanaged.
#[must_use]
pub(crate) fn workloads() -> String {
    [
        (CLIENT, r#"role = "client""#),
        (WEB, r#"app = "shop", role = "web""#),
        (APP, r#"app = "shop", role = "app""#),
        (DB, r#"app = "shop", role = "db""#),
        (ADMIN, r#"role = "admin""#),
    ]
    .map(|(host, labels)| workload(host, labels))
    .concat()
}

/// One `[[workload]]` table.
#[must_use]
pub(crate) fn workload(host: Host, labels: &str) -> String {
    let Host { name, v4, v6, .. } = host;
    format!(
        "\n[[workload]]\nname = \"{name}\"\naddresses = [\"{v4}\", \"{v6}\"]\nlabels = {{ {labels} }}\n"
    )
}

/// One `[[segment]]` table.
#[must_use]
pub(crate) fn segment(name: &str, select: &str, mode: &str) -> String {
    format!("\n[[segment]]\nname = \"{name}\"\nselect = \"{select}\"\nmode = \"{mode}\"\n")
}

/// One `[[service]]` table; `ports` are quoted.
#[must_use]
pub(crate) fn service(name: &str, ports: &str) -> String {
    format!("\n[[service]]\nname = \"{name}\"\nports = [{ports}]\n")
}

/// A policy whose three segments are all in `mode`, with these `[[rule]]` tables.
#[must_use]
pub(crate) fn policy(mode: &str, rules: &[String]) -> String {
    let segments = [
        ("clients", "role=client"),
        ("shop-web", "role=web"),
        ("shop-db", "role=db"),
    ]
    .map(|(name, select)| segment(name, select, mode));
    let services = SERVICES.map(|(name, ports)| service(name, ports));
    [
        workloads(),
        services.concat(),
        segments.concat(),
        rules.concat(),
    ]
    .concat()
}

/// One `[[rule]]` table.
#[must_use]
pub(crate) fn rule(name: &str, ends: (&str, &str), service: &str, action: &str) -> String {
    let (from, to) = ends;
    format!(
        "\n[[rule]]\nname = \"{name}\"\nfrom = [\"{from}\"]\nto = [\"{to}\"]\nservices = [\"{service}\"]\n{action}\n"
    )
}

/// `action = "allow"`.
pub(crate) const ALLOW: &str = "action = \"allow\"";

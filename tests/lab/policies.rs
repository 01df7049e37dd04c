//! The lab's policies: the same workloads and segments, other modes and rules.

/// Workloads, segments and services of the lab. `attacker` is no workload: its address is unmanaged.
const INVENTORY: &str = r#"
[[workload]]
name = "client"
addresses = ["10.77.0.5", "fd77::5"]
labels = { role = "client" }

[[workload]]
name = "web"
addresses = ["10.77.0.10", "fd77::10"]
labels = { app = "shop", role = "web" }

[[workload]]
name = "db"
addresses = ["10.77.0.20", "fd77::20"]
labels = { app = "shop", role = "db" }

[[service]]
name = "http"
ports = ["tcp/80"]

[[service]]
name = "telnet"
ports = ["tcp/23", "udp/23"]

[[service]]
name = "stream"
ports = ["tcp/7007", "udp/7007"]

[[service]]
name = "ping"
ports = ["icmp/echo"]
"#;

/// A policy whose three segments are all in `mode`, with these `[[rule]]` tables.
#[must_use]
pub(crate) fn policy(mode: &str, rules: &[String]) -> String {
    let segments: String = [
        ("clients", "role=client"),
        ("shop-web", "role=web"),
        ("shop-db", "role=db"),
    ]
    .map(|(name, select)| {
        format!("\n[[segment]]\nname = \"{name}\"\nselect = \"{select}\"\nmode = \"{mode}\"\n")
    })
    .concat();
    format!("{INVENTORY}{segments}{}", rules.concat())
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

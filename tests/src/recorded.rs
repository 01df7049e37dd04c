//! Recorded traffic that a story is told with: a day of a domain, an attack, and who their hosts are.

/// A host joins its domain and is worked at: Kerberos, LDAP, SMB.
pub const DAY: &str = "07-lateral-movement/zeek_aduser1.pcap";
/// From a workstation into the domain controller and on to a server, by remote execution over SMB.
pub const PSEXEC: &str = "07-lateral-movement/suricata_20171220_smb_psexec_add_user.pcap";

/// Who is who in these captures, which were made in several networks: a workload has an address in each that tells of it.
/// Nothing is enforced and no rule is there yet.
pub const INVENTORY: &str = r#"
[policy]
name = "domain"

[[workload]]
name = "desk-1"
addresses = ["192.168.226.131", "192.168.10.31", "192.168.199.132"]
labels = { role = "workstation" }

[[workload]]
name = "dc-1"
addresses = ["192.168.226.136", "192.168.10.10", "172.16.5.58"]
labels = { role = "domain-controller" }

[[workload]]
name = "files-1"
addresses = ["192.168.10.30", "192.168.199.133"]
labels = { role = "server" }

[[workload]]
name = "linux-1"
addresses = ["192.168.56.103", "192.168.1.3"]
labels = { role = "server" }

[[workload]]
name = "terminal-1"
addresses = ["10.157.4.161"]
labels = { role = "server" }

[[workload]]
name = "switch-1"
addresses = ["192.168.0.1"]
labels = { role = "server" }

[[segment]]
name = "workstations"
select = "role=workstation"
mode = "observe"

[[segment]]
name = "domain-controllers"
select = "role=domain-controller"
mode = "observe"

[[segment]]
name = "servers"
select = "role=server"
mode = "observe"

[[service]]
name = "kerberos"
ports = ["tcp/88", "udp/88"]

[[service]]
name = "ldap"
ports = ["tcp/389", "udp/389"]

[[service]]
name = "smb"
ports = ["tcp/445"]

[[service]]
name = "ssh"
ports = ["tcp/22"]
"#;

//! The watch for unexpected paths.

use super::Span;
use serde::{Deserialize, Serialize};

/// Services by which hosts are administered, unless the configuration names others.
const ADMIN_SERVICES: [&str; 16] = [
    "tcp/22",
    "tcp/23",
    "tcp/135",
    "tcp/139",
    "tcp/445",
    "tcp/3389",
    "udp/3389",
    "tcp/5900",
    "tcp/5985-5986",
    "tcp/1433",
    "tcp/1521",
    "tcp/3306",
    "tcp/5432",
    "tcp/6379",
    "tcp/9200",
    "tcp/27017",
];

/// The watch for unexpected paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Watch at all.
    pub enabled: bool,
    /// How much must have been watched before what is new alarms; and how far back history is read at the start.
    pub learning: Span,
    /// Alarm also before that.
    pub alarm_while_learning: bool,
    /// An edge that was not seen for so long is novel again.
    pub forget: Span,
    /// Edges of the baseline; those not seen for the longest time go first, counted.
    pub edges_max: usize,
    /// Findings kept; new edges go first, then the oldest, counted.
    pub findings_max: usize,
    /// Records that wait to be looked at; further ones are not looked at, counted.
    pub queue_records_max: usize,
    /// More of the same within so long is the same finding.
    pub repeat: Span,
    /// From the last packet of A to B until B reaches C.
    pub chain_window: Span,
    /// Hops of a chain that are kept; further ones are counted.
    pub chain_hops_max: usize,
    /// How long what one initiator tried is added up.
    pub sweep_window: Span,
    /// Hosts that one initiator newly reaches within the window.
    pub fan_out_min: usize,
    /// Ports of one host that one initiator tries within the window.
    pub port_sweep_min: usize,
    /// Hosts at which one initiator tries one service within the window.
    pub host_sweep_min: usize,
    /// Flows of one initiator that are denied within the window ...
    pub denied_min: usize,
    /// ... at so many ends and services.
    pub denied_targets_min: usize,
    /// Services by which hosts are administered.
    pub admin_services: Vec<String>,
    /// Segments whose members administer hosts as their work: jump hosts, configuration servers.
    pub expected_admin: Vec<String>,
    /// Segments whose members try many hosts as their work: scanners, monitoring.
    pub expected_sweep: Vec<String>,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            learning: Span::s(7 * 86_400),
            alarm_while_learning: false,
            forget: Span::s(30 * 86_400),
            edges_max: 200_000,
            findings_max: 4096,
            queue_records_max: 262_144,
            repeat: Span::s(3600),
            chain_window: Span::s(3600),
            chain_hops_max: 16,
            sweep_window: Span::s(300),
            fan_out_min: 20,
            port_sweep_min: 20,
            host_sweep_min: 20,
            denied_min: 30,
            denied_targets_min: 5,
            admin_services: ADMIN_SERVICES.map(str::to_owned).to_vec(),
            expected_admin: Vec::new(),
            expected_sweep: Vec::new(),
        }
    }
}

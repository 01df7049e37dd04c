//! Inventories and DNS.

use super::{ConfigError, Span};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Files of an inventory.
const FILES_MAX: usize = 64;
/// DNS servers to ask.
pub const DNS_SERVERS_MAX: usize = 8;

/// Workloads from beside the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InventoryConfig {
    /// CSV (`.csv`) or TOML with `[[workload]]` tables.
    pub files: Vec<PathBuf>,
    /// How often they are looked at. A file is read once it was the same at two looks in a row.
    pub look_interval: Span,
    /// Changes that come within this time of the first are published together.
    pub settle: Span,
    /// DNS names of workloads.
    pub dns: DnsConfig,
}

impl Default for InventoryConfig {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            look_interval: Span::s(2),
            settle: Span::s(1),
            dns: DnsConfig::default(),
        }
    }
}

/// DNS names of workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Servers to ask, `ADDRESS:PORT`; none: the `nameserver` lines of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Longest wait for one server's answer.
    pub timeout: Span,
    /// A shorter time to live counts as this.
    pub ttl_min: Span,
    /// A longer time to live counts as this.
    pub ttl_max: Span,
    /// Wait before a name is asked again that could not be resolved.
    pub retry: Span,
    /// An address that DNS has given up stays with its workload as long as flows of it live, and so
    /// long after the last packet of them.
    pub flow_grace: Span,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Span::s(3),
            ttl_min: Span::s(5),
            ttl_max: Span::s(3600),
            retry: Span::s(15),
            flow_grace: Span::s(60),
        }
    }
}

impl InventoryConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        within(
            "inventory.look_interval",
            self.look_interval,
            ms(10),
            s(3600),
        )?;
        within("inventory.settle", self.settle, ms(0), s(600))?;
        let dns = &self.dns;
        within("inventory.dns.timeout", dns.timeout, ms(100), s(60))?;
        within("inventory.dns.ttl_min", dns.ttl_min, s(1), s(86_400))?;
        within(
            "inventory.dns.ttl_max",
            dns.ttl_max,
            dns.ttl_min.0,
            s(604_800),
        )?;
        within("inventory.dns.retry", dns.retry, s(1), s(3600))?;
        within("inventory.dns.flow_grace", dns.flow_grace, s(0), s(604_800))?;
        let counts = [
            ("inventory.files", self.files.len(), FILES_MAX),
            ("inventory.dns.servers", dns.servers.len(), DNS_SERVERS_MAX),
        ];
        for (key, count, max) in counts {
            super::validate::within(key, count, 0, max)?;
        }
        Ok(())
    }
}

fn within(key: &'static str, span: Span, min: Duration, max: Duration) -> Result<(), ConfigError> {
    super::validate::within(key, span.0, min, max)
}

//! Workloads from beside the policy: files of an inventory and DNS names; and bringing a list of
//! workloads into the policy.

use crate::error::ErrorDetail;
use crate::policy::ApplyResult;
use crate::time::Ts;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Answer to `GET /v1/inventory`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Files, in the order of the configuration.
    pub files: Vec<InventoryFile>,
    /// DNS names that workloads have, by name.
    pub names: Vec<DnsName>,
    /// Workloads that the inventory adds to the policy in force.
    pub workloads: u64,
    /// Workloads of files that the policy in force has itself, which is taken.
    pub overridden: Vec<Overridden>,
    /// Why what was read is not in force, where it is not.
    pub waiting: Option<String>,
    /// Changes of members published since control started.
    pub moves: u64,
    /// The last of them.
    pub moved_ts: Option<Ts>,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryFile {
    /// As configured.
    pub file: String,
    /// Workloads in it, as it was when it was good last.
    pub workloads: u64,
    /// When it was good last.
    pub good_ts: Option<Ts>,
    /// What is wrong with it now. The workloads that were good last stay in force.
    pub errors: Vec<ErrorDetail>,
    /// How often it was read and something was wrong, since control started.
    pub refused: u64,
}

/// A workload that a file and the policy have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// Its name.
    pub workload: String,
    /// The file.
    pub file: String,
    /// Line in it.
    pub line: u32,
}

/// One DNS name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsName {
    /// Lower case, without the dot of the root.
    pub name: String,
    /// What it stands for.
    pub addresses: Vec<DnsAddress>,
    /// When it is asked next.
    pub next_ts: Ts,
    /// Answers with an address since control started.
    pub answers: u64,
    /// Questions without one. What was known is kept.
    pub failures: u64,
    /// Why the last question had no answer, where it had none.
    pub error: Option<String>,
}

/// One address of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAddress {
    /// The address.
    pub address: IpAddr,
    /// Until when the last answer that had it holds.
    pub until_ts: Ts,
    /// That time has passed, no later answer has it, and it is kept because flows of it live or did
    /// a short time ago.
    pub kept_for_flows: bool,
}

/// Body of `POST /v1/workloads/import`: a list of workloads becomes part of the policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The list: CSV, or TOML with `[[workload]]` tables.
    pub text: String,
    /// Name of the file; CSV where it ends with `.csv`.
    pub file_name: String,
    /// Take out of the policy the workloads that are not in the list.
    #[serde(default)]
    pub replace: bool,
    /// Change nothing, only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Who imports it.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub note: String,
}

/// Answer to `POST /v1/workloads/import`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportResult {
    /// Workloads that are new.
    pub added: Vec<String>,
    /// Workloads whose addresses, DNS names or labels change.
    pub changed: Vec<String>,
    /// Workloads that go.
    pub removed: Vec<String>,
    /// Workloads that are so already.
    pub same: u64,
    /// What came of it; none where nothing was to change, or was not to be changed.
    pub applied: Option<ApplyResult>,
}

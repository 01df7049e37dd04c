//! The policy's life after it is written: tried until it is confirmed, and a log that shows whether
//! anybody changed it.

use crate::policy::PolicyChange;
use crate::time::Ts;
use serde::{Deserialize, Serialize};

/// Longest time that a policy may wait for its confirmation, seconds: a day.
pub const CONFIRM_S_MAX: u64 = 86_400;

/// A policy that reverts by itself unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// The revision that comes back.
    pub fallback_revision: String,
    /// When it comes back.
    pub due_ts: Ts,
    /// Until then, seconds, rounded up.
    pub left_s: u64,
    /// Why the last attempt to bring it back failed; it is tried again.
    #[serde(default)]
    pub error: Option<String>,
}

/// Body of `POST /v1/policy/confirm`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfirmRequest {
    /// Confirm only where this revision waits; its first digits (at least 4) are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Who confirms.
    pub author: String,
    /// Why.
    pub note: String,
}

/// Answer to `POST /v1/policy/confirm`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The revision that stays in force.
    pub revision: String,
    /// The one that would have come back.
    pub fallback_revision: String,
    /// How much of its time was left, seconds.
    pub left_s: u64,
}

/// Body of `POST /v1/policy/revert`: does not wait for the end of the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevertRequest {
    /// Who reverts.
    pub author: String,
    /// Why.
    pub note: String,
}

/// A process that spoke to the Unix socket, as the kernel tells it (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// The user's name in `/etc/passwd`; empty where it has none there.
    #[serde(default)]
    pub user: String,
    /// The process.
    #[serde(default)]
    pub pid: Option<i32>,
}

/// Parameters of `GET /v1/policy/log/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyQuery {
    /// A hash that was noted earlier, at least 12 digits of it: the log must still contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// Answer to `GET /v1/policy/log/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogVerification {
    /// Nothing is broken.
    pub intact: bool,
    /// Entries in the chain of hashes.
    pub entries: u64,
    /// Entries of earlier releases before it; the chain holds their bytes as a whole.
    pub entries_before: u64,
    /// Hash of the newest entry: noted elsewhere, it proves later that nothing was cut.
    pub head: String,
    /// Whether the head that is kept beside the log could be read; without it a cut at the end cannot
    /// be seen.
    pub head_kept: bool,
    /// The first entry that is not what it was.
    pub broken: Option<BrokenEntry>,
}

/// An entry of the log, or a place in it, that is not what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenEntry {
    /// Line of the log, from 1; one after the last where something is gone from its end.
    pub line: u64,
    /// Its number, where it can be read.
    pub seq: Option<u64>,
    /// When it was written, as it says.
    pub ts: Option<Ts>,
    /// What was done, as it says.
    pub change: Option<PolicyChange>,
    /// What is wrong.
    pub what: String,
}

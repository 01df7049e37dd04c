//! Names as they were: which prefix was whose, from when to when.

use super::disk::{self, failed};
use crate::HistoryError;
use api::Ts;
use api::history::Membership;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "names.json";

/// Every name that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameBook {
    /// When names were noted last.
    noted_ns: u64,
    names: Vec<Membership>,
}

/// What a name is: where it stays, the name goes on, though the revision may be another.
type What<'a> = (
    &'a str,
    &'a str,
    &'a BTreeMap<String, String>,
    &'a [Arc<str>],
);

fn what(name: &Membership) -> What<'_> {
    (&name.prefix, &name.workload, &name.labels, &name.segments)
}

impl NameBook {
    /// Reads the file; why, where it is damaged.
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        match std::fs::read(root.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed("read", &root.join(FILE))(error).to_string()),
        }
    }

    pub(super) const fn file() -> &'static str {
        FILE
    }

    pub(super) fn write(&self, root: &Path) -> Result<(), HistoryError> {
        let text = serde_json::to_vec(self).map_err(|e| HistoryError::Engine {
            what: "write names",
            why: e.to_string(),
        })?;
        disk::replace(&root.join(FILE), &text)
    }

    /// The book after these are all the names from `at_ns` on.
    pub(super) fn noted(&self, at_ns: u64, names: &[Membership]) -> Self {
        let at = Ts(at_ns.max(self.noted_ns));
        let wanted: BTreeSet<What<'_>> = names.iter().map(what).collect();
        let mut still: BTreeSet<What<'_>> = BTreeSet::new();
        let mut kept = Vec::with_capacity(self.names.len());
        for old in &self.names {
            let mut then = old.clone();
            if old.until_ts.is_none() {
                if wanted.contains(&what(old)) {
                    still.insert(what(old));
                } else {
                    then.until_ts = Some(at);
                }
            }
            // What began and ended at one time never held.
            if then.until_ts != Some(then.from_ts) {
                kept.push(then);
            }
        }
        for new in names {
            if still.insert(what(new)) {
                kept.push(Membership {
                    from_ts: at,
                    until_ts: None,
                    ..new.clone()
                });
            }
        }
        Self {
            noted_ns: at.0,
            names: kept,
        }
    }

    /// The book without what ended before a time.
    pub(super) fn since(&self, since_ns: u64) -> Self {
        let held = |m: &&Membership| m.until_ts.is_none_or(|until| until.0 >= since_ns);
        Self {
            noted_ns: self.noted_ns,
            names: self.names.iter().filter(held).cloned().collect(),
        }
    }

    pub(super) fn held_in(&self, since_ns: u64, until_ns: u64) -> Vec<Membership> {
        let holds = |m: &&Membership| {
            m.from_ts.0 < until_ns && m.until_ts.is_none_or(|until| until.0 > since_ns)
        };
        let mut names: Vec<Membership> = self.names.iter().filter(holds).cloned().collect();
        names.sort_by(|a, b| {
            (a.from_ts, &a.prefix, &a.workload).cmp(&(b.from_ts, &b.prefix, &b.workload))
        });
        names
    }
}

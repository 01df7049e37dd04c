//! Workloads from beside a policy's text: files of an inventory, and addresses of DNS names.
//!
//! An inventory is read from CSV or TOML and judged by the code that judges a policy's own
//! workloads, so that the same mistakes are told in the same words, by line and column of the file.
//! [`merge`] puts inventories and the policy's own workloads together; what comes out is appended
//! to the policy by [`Loader::load_with`](crate::Loader::load_with) as tables of the same language.

mod csv;
mod merge;

pub use merge::{Merged, Overridden, merge};

use crate::file::{At, PolicyFile};
use crate::problem::{PolicyErrors, Problem};
use crate::read::parse;
use crate::validate::{ValidPolicy, Workload, judge_workloads};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses by DNS name (lower case, without the dot of the root).
pub type Resolved = BTreeMap<String, Vec<IpAddr>>;

/// What is known about members beside a policy's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `[[workload]]` tables, as [`merge`] writes them.
    pub tables: String,
    /// What DNS names stand for.
    pub resolved: Resolved,
}

impl Inventory {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.resolved.is_empty()
    }

    /// The text with the tables behind it.
    pub(crate) fn behind<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.tables.is_empty() {
            Cow::Borrowed(text)
        } else {
            Cow::Owned([text, "\n", &self.tables].concat())
        }
    }
}

/// Lines of a text, a last one without a line end included.
pub(crate) fn line_count(text: &str) -> u32 {
    let ends = text.bytes().filter(|byte| *byte == b'\n').count();
    u32::try_from(ends).unwrap_or(u32::MAX).saturating_add(1)
}

/// Every DNS name that a policy's workloads have.
#[must_use]
pub fn dns_names(policy: &ValidPolicy) -> BTreeSet<String> {
    let names = policy.workloads.iter().flat_map(|w| &w.dns);
    names.cloned().collect()
}

/// A file of an inventory without errors.
#[derive(Clone, Debug)]
pub struct InventoryFile {
    /// Its workloads, in the order of the file.
    pub workloads: Vec<Workload>,
    pub(crate) parsed: PolicyFile,
}

impl InventoryFile {
    /// Reads a file: CSV where its name ends with `.csv`, else TOML with `[[workload]]` tables.
    ///
    /// # Errors
    /// Every error of the file, by line.
    pub fn read(text: &str, file: &str) -> Result<Self, PolicyErrors> {
        let is_csv = file.len() >= 4 && file[file.len() - 4..].eq_ignore_ascii_case(".csv");
        let mut parsed = if is_csv {
            csv::parse(text, file)
        } else {
            parse(text, file)
        };
        if let Some(at) = other_table(&parsed) {
            parsed.problems.push((at, Problem::NotInventory));
        }
        // The reader's own word for it speaks of a policy.
        let nothing = |(_, problem): &(usize, Problem)| !matches!(problem, Problem::NothingWritten);
        parsed.problems.retain(nothing);
        if parsed.problems.is_empty() && parsed.workloads.is_empty() {
            parsed.problems.push((0, Problem::NoWorkload));
        }
        let workloads = judge_workloads(&parsed)?;
        Ok(Self { workloads, parsed })
    }

    /// Name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.parsed.file
    }
}

/// Where a table begins that only a policy has.
fn other_table(file: &PolicyFile) -> Option<usize> {
    let word = |word: &At<String>| word.at;
    file.segments
        .iter()
        .map(|table| table.at)
        .chain(file.services.iter().map(|table| table.at))
        .chain(file.rules.iter().map(|table| table.at))
        .chain(file.invariants.iter().map(|table| table.at))
        .chain(file.name.as_ref().map(word))
        .chain(file.internal.as_ref().map(|words| words.at))
        .min()
}

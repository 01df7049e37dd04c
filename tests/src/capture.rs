//! Captures and the truth beside them.

use std::path::{Path, PathBuf};

/// Link types that are replayed, as capinfos names them.
const REPLAYED: [&str; 8] = [
    "ether",
    "null",
    "rawip",
    "ppp",
    "chdlc",
    "linux-sll",
    "linux-sll2",
    "per-packet",
];

/// Which key a truth table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Outermost IP header.
    Outer,
    /// Innermost IP header.
    Inner,
    /// Outermost IP header and the VLAN stack.
    Vlan,
}

impl Key {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Outer, Self::Inner, Self::Vlan];

    /// The word in reports and in `truth-differences.toml`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
            Self::Vlan => "vlan",
        }
    }

    /// What `ringfence replay` is asked for.
    #[must_use]
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Outer => &["--key", "outer"],
            Self::Inner => &["--key", "inner"],
            Self::Vlan => &["--key", "outer", "--vlan-key"],
        }
    }

    /// The table to compare with, the first that exists. For the outer key non-first fragments are
    /// credited to their first, which `.flows.frag.tsv` counts.
    #[must_use]
    pub fn truth(self, capture: &Path) -> Option<PathBuf> {
        let suffixes: &[&str] = match self {
            Self::Outer => &[".flows.frag.tsv", ".flows.tsv"],
            Self::Inner => &[".flows.inner.tsv", ".flows.tsv"],
            Self::Vlan => &[".flows.vlan.tsv", ".flows.tsv"],
        };
        suffixes
            .iter()
            .map(|suffix| beside(capture, suffix))
            .find(|path| path.is_file())
    }
}

/// Every capture below a directory, sorted.
#[must_use]
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(directory, &mut found);
    found.sort();
    found
}

/// Whether the truth beside a capture says that its link type is one that is replayed. Captures of our
/// own, which have no `.truth.json`, always are.
#[must_use]
pub fn is_replayed(capture: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(beside(capture, ".truth.json")) else {
        return true;
    };
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    truth["link_type"]
        .as_str()
        .is_some_and(|name| REPLAYED.contains(&name))
}

fn beside(capture: &Path, suffix: &str) -> PathBuf {
    let mut name = capture.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "pcap" || extension == "pcapng")
        {
            found.push(path);
        }
    }
}

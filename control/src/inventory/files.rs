//! Files of an inventory: looked at by time, read when they are another and at rest.
//!
//! They are looked at rather than watched by the kernel: what inotify tells is nothing on NFS and
//! little of a bind mount or of a directory that is swapped by its link, and a look costs a system
//! call. A file is read once it was the same at two looks in a row, so that one that is being written
//! is not taken for a shorter one.

use crate::clock::now_ns;
use crate::policy_service::told;
use api::Ts;
use api::error::ErrorDetail;
use policy::{InventoryFile, PolicyErrors};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells one state of a file from another, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    There {
        modified_s: i64,
        modified_ns: i64,
        size: u64,
        inode: u64,
        device: u64,
    },
    Not(io::ErrorKind),
}

/// One file.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// At the last look.
    seen: Option<Stamp>,
    /// When it was read last.
    read: Option<Stamp>,
    good: Option<InventoryFile>,
    good_ns: u64,
    /// Wrong in the file itself.
    errors: Vec<ErrorDetail>,
    /// Wrong beside other files or the policy.
    conflicts: Vec<ErrorDetail>,
    refused: u64,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: None,
            read: None,
            good: None,
            good_ns: 0,
            errors: Vec::new(),
            conflicts: Vec::new(),
            refused: 0,
        }
    }

    /// Looks at the file, and reads it where that is due. Whether it was read without an error.
    pub(super) fn look(&mut self) -> bool {
        let stamp = self.stamp();
        let at_rest = self.seen.is_none_or(|seen| seen == stamp);
        self.seen = Some(stamp);
        if !at_rest || self.read == Some(stamp) {
            return false;
        }
        self.read = Some(stamp);
        match self.read_file() {
            Ok(file) => {
                self.good = Some(file);
                self.errors.clear();
                true
            }
            Err(errors) => {
                self.errors = errors;
                self.refused += 1;
                tracing::warn!(file = %self.path.display(), errors = self.errors.len(), "an inventory file is not taken");
                false
            }
        }
    }

    fn stamp(&self) -> Stamp {
        match std::fs::metadata(&self.path) {
            Ok(facts) => Stamp::There {
                modified_s: facts.mtime(),
                modified_ns: facts.mtime_nsec(),
                size: facts.size(),
                inode: facts.ino(),
                device: facts.dev(),
            },
            Err(error) => Stamp::Not(error.kind()),
        }
    }

    fn read_file(&self) -> Result<InventoryFile, Vec<ErrorDetail>> {
        let file = self.path.display().to_string();
        let unreadable = |error: &io::Error| {
            vec![ErrorDetail {
                file: file.clone(),
                what: format!("cannot be read: {error}"),
                mend: "put it there, readable for this process; what it held before stays in force"
                    .to_owned(),
                ..ErrorDetail::default()
            }]
        };
        let facts = std::fs::metadata(&self.path).map_err(|e| unreadable(&e))?;
        if facts.len() > policy::limits::TEXT_BYTES_MAX as u64 {
            let (bytes, limit) = (facts.len(), policy::limits::TEXT_BYTES_MAX);
            return Err(vec![ErrorDetail {
                file: file.clone(),
                what: format!("it has {bytes} bytes, the limit is {limit}"),
                mend: "split it into several files".to_owned(),
                ..ErrorDetail::default()
            }]);
        }
        let text = std::fs::read_to_string(&self.path).map_err(|e| unreadable(&e))?;
        InventoryFile::read(&text, &file).map_err(|errors| told(&errors))
    }

    /// As it was when it was good last.
    pub(super) fn good(&self) -> Option<&InventoryFile> {
        self.good.as_ref()
    }

    /// Takes what is wrong with it beside other files and the policy; nothing: it is in force.
    pub(super) fn set_conflicts(&mut self, of: &[PolicyErrors]) {
        let file = self.path.display().to_string();
        let own = of.iter().filter(|errors| errors.file == file);
        let conflicts: Vec<ErrorDetail> = own.flat_map(told).collect();
        if !conflicts.is_empty() && conflicts != self.conflicts {
            self.refused += 1;
        }
        self.conflicts = conflicts;
        if of.is_empty() && self.errors.is_empty() {
            self.good_ns = now_ns();
        }
    }

    pub(super) fn state(&self) -> api::inventory::InventoryFile {
        let errors = self.errors.iter().chain(&self.conflicts);
        api::inventory::InventoryFile {
            file: self.path.display().to_string(),
            workloads: self
                .good
                .as_ref()
                .map_or(0, |good| good.workloads.len() as u64),
            good_ts: (self.good_ns != 0).then_some(Ts(self.good_ns)),
            errors: errors.cloned().collect(),
            refused: self.refused,
        }
    }
}

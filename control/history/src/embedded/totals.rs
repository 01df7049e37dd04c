//! How many flow records were taken, and how many of them are safe: what is between is lost when a process is killed.

use super::disk::{self, failed};
use crate::HistoryError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PROGRESS: &str = "progress";
const TOTALS: &str = "totals.json";

/// Flow records ever taken, written at every append and not synced: what a killed process wrote is there, and what a
/// loss of power takes is taken from the rows as well.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    file: File,
}

impl Progress {
    /// Opens the file, and gives the number that stands in it.
    pub(super) fn open(root: &Path) -> Result<(Self, u64), HistoryError> {
        let path = root.join(PROGRESS);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut bytes = [0; 8];
        let taken = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => u64::from_le_bytes(bytes),
            // A file that was only just created.
            Err(_) => 0,
        };
        let progress = Self { path, file };
        progress.write(taken)?;
        Ok((progress, taken))
    }

    pub(super) fn write(&self, taken: u64) -> Result<(), HistoryError> {
        self.file
            .write_all_at(&taken.to_le_bytes(), 0)
            .map_err(failed("write", &self.path))
    }
}

/// What is known to be safe, or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Flow records stored or told lost.
    pub accounted: u64,
    /// Flow records lost.
    pub lost: u64,
    /// Time of the last maintenance by which rows went, nanoseconds since the Unix epoch.
    pub maintained_ns: u64,
}

impl Totals {
    pub(super) fn path(root: &Path) -> PathBuf {
        root.join(TOTALS)
    }

    /// None where there is no file yet.
    pub(super) fn read(root: &Path) -> Result<Option<Self>, String> {
        match std::fs::read(Self::path(root)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| e.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn write(&self, root: &Path) -> Result<(), HistoryError> {
        let text = serde_json::to_vec(self).map_err(|e| HistoryError::Engine {
            what: "write totals",
            why: e.to_string(),
        })?;
        disk::replace(&Self::path(root), &text)
    }
}

//! Commits: several files come and go together, or not at all.
//!
//! Files are written under temporary names. The journal file that names them is the commit: from then on the names are
//! turned and what is replaced is removed, now or when the engine opens next. Doing it twice does no harm.

use super::disk::{self, failed};
use crate::HistoryError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Directory of journals.
pub(super) const DIR: &str = "commits";

/// What a commit does. Paths are below the engine's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Commit {
    /// Files that turn from their temporary names to these.
    pub add: Vec<String>,
    /// Files that go.
    pub remove: Vec<String>,
    /// Flow records stored or told lost once it is done, of all that were ever taken.
    pub accounted: u64,
}

/// A commit on disk. The file goes when nothing of the commit is left to do.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Drop for Journal {
    fn drop(&mut self) {
        disk::remove(&self.path);
    }
}

impl Commit {
    /// The commit point: after it the commit will be done, whatever happens.
    pub(super) fn publish(&self, root: &Path, id: u64) -> Result<Journal, HistoryError> {
        let path = root.join(DIR).join(format!("{id:016x}.json"));
        let bytes = serde_json::to_vec(self).map_err(|e| HistoryError::Engine {
            what: "write a commit",
            why: e.to_string(),
        })?;
        disk::replace(&path, &bytes)?;
        Ok(Journal { path })
    }

    /// Turns the names of what is added. May be done again.
    pub(super) fn turn_names(&self, root: &Path) -> Result<(), HistoryError> {
        let mut dirs = Vec::new();
        for path in &self.add {
            let path = root.join(path);
            match fs::rename(disk::tmp_of(&path), &path) {
                Ok(()) => {}
                // Turned by an earlier attempt; and it may have been replaced since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("rename to", &path)(error)),
            }
            dirs.extend(path.parent().map(Path::to_owned));
        }
        dirs.dedup();
        for dir in dirs {
            // A directory is gone when everything in it was replaced since.
            if dir.exists() {
                disk::sync_dir(&dir)?;
            }
        }
        Ok(())
    }
}

/// Journals that an earlier process left, the oldest first; and those that cannot be read, with why.
#[expect(clippy::type_complexity, reason = "two lists of pairs")]
pub(super) fn left(
    root: &Path,
) -> Result<(Vec<(Journal, Commit)>, Vec<(PathBuf, String)>), HistoryError> {
    let dir = root.join(DIR);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
        let path = entry.map_err(failed("list", &dir))?.path();
        if path.extension().is_some_and(|e| e == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut journals, mut damaged) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        match serde_json::from_slice(&bytes) {
            Ok(commit) => journals.push((Journal { path }, commit)),
            Err(error) => damaged.push((path, error.to_string())),
        }
    }
    Ok((journals, damaged))
}

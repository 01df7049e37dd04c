//! Opening a directory: after a stop, a kill, or a disk that failed.

use super::ask::Asker;
use super::commit::Writer;
use super::disk::{self, TMP, failed};
use super::files::{Catalog, StoredFile, Tier, file_name};
use super::journal;
use super::names::NameBook;
use super::parquet_file;
use super::state::State;
use super::totals::{Progress, Totals};
use super::{EmbeddedHistory, EmbeddedOptions};
use crate::HistoryError;
use api::history::SetAside;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// Where files go that cannot be read, each with why beside it.
const SET_ASIDE_DIR: &str = "set-aside";
/// Ending of the file that says why.
const WHY: &str = "why";

pub(super) fn open(root: &Path, options: EmbeddedOptions) -> Result<EmbeddedHistory, HistoryError> {
    disk::create_dir(root)?;
    let lock = take_lock(root)?;
    for dir in Tier::ALL
        .iter()
        .map(|t| t.name())
        .chain([journal::DIR, SET_ASIDE_DIR])
    {
        disk::create_dir(&root.join(dir))?;
    }
    let mut totals = match Totals::read(root) {
        Ok(totals) => totals,
        Err(why) => {
            set_aside(root, &Totals::path(root), &why)?;
            None
        }
    };
    let accounted = finish_commits(root)?;
    let (progress, taken) = Progress::open(root)?;
    // Where the totals are gone, what was taken counts as accounted for: nothing says what was lost.
    let mut known = totals.take().unwrap_or(Totals {
        accounted: taken,
        ..Totals::default()
    });
    known.accounted = known.accounted.max(accounted);
    let lost = taken.saturating_sub(known.accounted);
    if lost > 0 {
        tracing::warn!(lost, "flow records were lost when an earlier process ended");
    }
    known.lost += lost;
    known.accounted += lost;
    known.write(root)?;
    let names = match NameBook::read(root) {
        Ok(names) => names,
        Err(why) => {
            set_aside(root, &root.join(NameBook::file()), &why)?;
            NameBook::default()
        }
    };
    let (catalog, id_max) = list(root)?;
    let state = State {
        catalog,
        taken: known.accounted,
        lost: known.lost,
        set_aside: list_set_aside(root)?,
        ..State::default()
    };
    progress.write(known.accounted)?;
    Ok(EmbeddedHistory {
        asker: Asker::new(root, options.query_bytes_max, options.query_threads.get())?,
        root: root.to_owned(),
        options,
        progress,
        next_id: AtomicU64::new(id_max + 1),
        maintaining: Mutex::new(()),
        writer: Mutex::new(Writer::new(known)),
        state: Mutex::new(state),
        names: Mutex::new(names),
        _lock: lock,
    })
}

/// One process has a directory at a time.
fn take_lock(root: &Path) -> Result<File, HistoryError> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(failed("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(HistoryError::Engine {
            what: "open history",
            why: format!(
                "another process has {} open; stop it, or set another directory",
                root.display()
            ),
        }),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
    }
}

/// Does what was committed and not done. Gives how many flow records are accounted for by that.
fn finish_commits(root: &Path) -> Result<u64, HistoryError> {
    let (commits, damaged) = journal::left(root)?;
    for (path, why) in damaged {
        set_aside(root, &path, &why)?;
    }
    let mut accounted = 0;
    for (journal, commit) in commits {
        // The journal must outlive its names: it is dropped, and so removed, last.
        commit.turn_names(root)?;
        for path in &commit.remove {
            disk::remove(&root.join(path));
        }
        accounted = accounted.max(commit.accounted);
        let totals = Totals::read(root).ok().flatten().unwrap_or_default();
        if totals.accounted < commit.accounted {
            Totals {
                accounted: commit.accounted,
                ..totals
            }
            .write(root)?;
        }
        drop(journal);
    }
    Ok(accounted)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        paths.push(entry.map_err(failed("list", dir))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Every file that can be read; and the largest id. What was never finished goes.
fn list(root: &Path) -> Result<(Catalog, u64), HistoryError> {
    let (mut catalog, mut id_max) = (Catalog::default(), 0);
    for tier in Tier::ALL {
        for dir in entries(&root.join(tier.name()))? {
            if !dir.is_dir() {
                continue;
            }
            for path in entries(&dir)? {
                if path.extension().is_some_and(|e| e == TMP) {
                    disk::remove(&path);
                    continue;
                }
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let Some((id, rolled)) = file_name(&name) else {
                    continue;
                };
                id_max = id_max.max(id);
                match stored(root, tier, id, rolled, &path) {
                    Ok(file) => catalog.add(Arc::new(file)),
                    Err(error) => set_aside(root, &path, &error.to_string())?,
                }
            }
            // An empty directory goes; one that is not empty stays.
            let _ = fs::remove_dir(&dir);
        }
    }
    Ok((catalog, id_max))
}

fn stored(
    root: &Path,
    tier: Tier,
    id: u64,
    rolled: bool,
    path: &Path,
) -> Result<StoredFile, HistoryError> {
    let held = parquet_file::held(path, tier)?;
    let below = path.strip_prefix(root).unwrap_or(path);
    Ok(StoredFile {
        tier,
        id,
        rolled,
        root: root.to_owned(),
        path: below.to_string_lossy().into_owned(),
        bytes: fs::metadata(path).map_err(failed("measure", path))?.len(),
        held,
        gone: Mutex::new(None),
    })
}

/// Moves a file aside, with why beside it.
pub(super) fn set_aside(root: &Path, path: &Path, why: &str) -> Result<(), HistoryError> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let name: Vec<String> = below
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    let aside = root.join(SET_ASIDE_DIR).join(name.join("-"));
    tracing::error!(file = %path.display(), why, "a file of history cannot be read; it is set aside");
    fs::rename(path, &aside).map_err(failed("set aside", path))?;
    // Not being able to say why is no reason to stop.
    let mut told = aside.into_os_string();
    told.push(".");
    told.push(WHY);
    let _ = fs::write(PathBuf::from(told), why);
    Ok(())
}

/// What stands aside.
pub(super) fn list_set_aside(root: &Path) -> Result<Vec<SetAside>, HistoryError> {
    let mut listed = Vec::new();
    for path in entries(&root.join(SET_ASIDE_DIR))? {
        if path.extension().is_some_and(|e| e == WHY) {
            continue;
        }
        let mut why = path.clone().into_os_string();
        why.push(".");
        why.push(WHY);
        listed.push(SetAside {
            file: path.display().to_string(),
            why: fs::read_to_string(PathBuf::from(why)).unwrap_or_default(),
        });
    }
    Ok(listed)
}

impl EmbeddedHistory {
    /// Sets aside those of the files that cannot be read; whether there were any.
    pub(super) fn set_aside_damaged(
        &self,
        files: &[Arc<StoredFile>],
    ) -> Result<bool, HistoryError> {
        let mut found = false;
        for file in files {
            let path = file.full_path();
            let Err(error) = parquet_file::verify(&path, file.tier) else {
                continue;
            };
            if path.exists() {
                set_aside(&self.root, &path, &error.to_string())?;
            }
            let mut state = super::lock(&self.state);
            state.catalog.remove(file);
            state.set_aside = list_set_aside(&self.root)?;
            found = true;
        }
        Ok(found)
    }
}

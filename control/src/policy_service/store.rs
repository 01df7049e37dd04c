//! The state directory: every write is atomic and synced, and everything that adoption will need
//! is on disk before an image is published.
//!
//! ```text
//! revisions/<sha256>.toml    texts, never changed
//! inventories/<sha256>.json  workloads and DNS names beside a revision, never changed
//! images/<epoch>.image       images of the last epochs, so that old records keep their names
//! current.json               the revision that was adopted last
//! pending.json               the one that is being published; renamed to current.json when adopted
//! candidates.json            policies that are judged beside the one in force, and their counts
//! quarantines.json           workloads that are held, and until when
//! epoch                      the highest epoch ever used
//! log.jsonl, log.head        every change, one line each, and the newest: see `log.rs`
//! lock                       held by the process that uses this directory
//! ```

use super::confirm::Confirmation;
use super::log::Log;
use crate::clock::now_ns;
use api::Ts;
use api::candidate::Candidate;
use api::policy::{Outcome, PolicyChange, PolicyLogEntry};
use api::quarantine::Held;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Inventories kept beside revisions; the oldest goes first.
const INVENTORIES_MAX: usize = 1_000;
/// Bytes of author, note and file name each.
pub(super) const NOTE_BYTES_MAX: usize = 4096;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("cannot {what} {path}: {source}; {mend}")]
    Io {
        /// `write`, `read` ...
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// Another process has it.
    #[error("the state directory {path} is in use by another control process; stop it first")]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged ({what}); restore it, or move it away to begin without it")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        what: String,
    },
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| {
        let mend = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free space there; the policy in force is unchanged"
            }
            io::ErrorKind::PermissionDenied => "give this process write access to it",
            io::ErrorKind::ReadOnlyFilesystem => "make it writable, or name another state_dir",
            _ => "check control.state_dir",
        };
        StoreError::Io {
            what,
            path,
            source,
            mend,
        }
    }
}

/// What is in force, or is being published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PolicyRecord {
    pub(super) revision: String,
    pub(super) epoch: u64,
    /// SHA-256 of the image, hexadecimal.
    pub(super) image_hash: String,
    pub(super) file_name: String,
    pub(super) author: String,
    pub(super) note: String,
    /// When it was put into force, nanoseconds since the Unix epoch; publishing it again does not
    /// change it. 0 where that is not known.
    #[serde(default)]
    pub(super) applied_ns: u64,
    /// It reverts by itself unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confirmation: Option<Confirmation>,
    /// SHA-256 of the inventory beside it, hexadecimal; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) inventory: String,
}

/// The state directory, locked.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    lock: File,
    log: Log,
}

/// The entry that says that entries of an earlier release stand before the chain.
fn takes_over(entries: u64) -> PolicyLogEntry {
    PolicyLogEntry {
        ts: Ts(now_ns()),
        change: PolicyChange::TakenOver,
        revision: String::new(),
        epoch: 0,
        outcome: Outcome::Done,
        message: String::new(),
        author: "ringfence-control".to_owned(),
        note: format!("{entries} entries before the chain of hashes"),
        file_name: String::new(),
        inventory: String::new(),
        adoption_us: None,
        peer: None,
        seq: 0,
        previous_hash: String::new(),
        hash: String::new(),
    }
}

pub(super) fn hash_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(io_error("sync", dir))
}

impl Store {
    /// Opens the directory, makes what is missing, and locks it.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        for sub in ["", "revisions", "images", "inventories"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).map_err(io_error("make the directory", &path))?;
        }
        let lock_path = dir.join("lock");
        let mut writable = OpenOptions::new();
        writable.create(true).truncate(false).write(true);
        let lock = writable
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    path: dir.to_owned(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &lock_path)(e)),
        }
        let log = Log::open(dir, takes_over)?;
        Ok(Self {
            dir: dir.to_owned(),
            lock,
            log,
        })
    }

    /// Gives the directory back, for the next process; nothing is written afterwards.
    pub(super) fn unlock(&self) {
        // The end of the process does it too.
        let _ = self.lock.unlock();
    }

    /// Writes a file beside its place, syncs it, and moves it there.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let beside = path.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        let moved = written.and_then(|()| fs::rename(&beside, path));
        if let Err(error) = moved {
            // Half a file is worth nothing and takes room on a disk that may be full.
            let _ = fs::remove_file(&beside);
            return Err(io_error("write", path)(error));
        }
        sync_dir(path.parent().unwrap_or(&self.dir))
    }

    fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", path)(e)),
        }
    }

    fn record(&self, name: &str) -> Result<Option<PolicyRecord>, StoreError> {
        let path = self.dir.join(name);
        let Some(bytes) = Self::read_optional(&path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| StoreError::Damaged {
                path,
                what: e.to_string(),
            })
    }

    /// The revision that was adopted last.
    pub(super) fn current(&self) -> Result<Option<PolicyRecord>, StoreError> {
        self.record("current.json")
    }

    /// The one whose publication had no answer.
    pub(super) fn pending(&self) -> Result<Option<PolicyRecord>, StoreError> {
        self.record("pending.json")
    }

    /// The highest epoch ever used.
    pub(super) fn last_epoch(&self) -> Result<u64, StoreError> {
        let path = self.dir.join("epoch");
        let Some(bytes) = Self::read_optional(&path)? else {
            return Ok(0);
        };
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map_err(|_| StoreError::Damaged {
            path,
            what: format!("`{}` is no number", text.trim()),
        })
    }

    fn revision_path(&self, revision: &str) -> PathBuf {
        self.dir.join("revisions").join(format!("{revision}.toml"))
    }

    fn image_path(&self, epoch: u64) -> PathBuf {
        self.dir.join("images").join(format!("{epoch}.image"))
    }

    /// Puts everything on disk that adoption will need, so that nothing can fail after it.
    pub(super) fn prepare(
        &self,
        record: &PolicyRecord,
        text: &str,
        image: &[u8],
    ) -> Result<(), StoreError> {
        self.write(
            &self.dir.join("epoch"),
            format!("{}\n", record.epoch).as_bytes(),
        )?;
        self.keep_text(&record.revision, text)?;
        self.write(&self.image_path(record.epoch), image)?;
        let json = serde_json::to_vec_pretty(record).unwrap_or_default();
        self.write(&self.dir.join("pending.json"), &json)?;
        self.log.reserve()
    }

    /// What was prepared is in force now.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        let current = self.dir.join("current.json");
        fs::rename(self.dir.join("pending.json"), &current).map_err(io_error("write", &current))?;
        sync_dir(&self.dir)
    }

    /// Changes what is known of the revision in force; what is in force stays.
    pub(super) fn amend(&self, record: &PolicyRecord) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(record).unwrap_or_default();
        self.write(&self.dir.join("current.json"), &json)
    }

    /// Workloads that are held; none where the file cannot be read, which is told.
    pub(super) fn quarantines(&self) -> Vec<Held> {
        let path = self.dir.join("quarantines.json");
        let read = Self::read_optional(&path);
        let bytes = read.unwrap_or_else(|error| {
            tracing::error!(%error, "who is in quarantine is not known");
            None
        });
        let held = bytes
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose();
        held.unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "who is in quarantine is not known");
            None
        })
        .unwrap_or_default()
    }

    /// Candidates; none where the file cannot be read, which is told.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let path = self.dir.join("candidates.json");
        let read = Self::read_optional(&path).and_then(|bytes| {
            let read = bytes.map(|bytes| serde_json::from_slice(&bytes));
            read.transpose().map_err(|error| StoreError::Damaged {
                path,
                what: error.to_string(),
            })
        });
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "candidates are not judged");
            None
        })
        .unwrap_or_default()
    }

    /// Keeps candidates.
    pub(super) fn keep_candidates(&self, all: &[Candidate]) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(all).unwrap_or_default();
        self.write(&self.dir.join("candidates.json"), &json)
    }

    /// Keeps a text under its hash.
    pub(super) fn keep_text(&self, revision: &str, text: &str) -> Result<(), StoreError> {
        let path = self.revision_path(revision);
        // A damaged text is mended by writing it again.
        if Self::read_optional(&path)?.as_deref() != Some(text.as_bytes()) {
            self.write(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// Keeps who is held.
    pub(super) fn keep_quarantines(&self, held: &[Held]) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(held).unwrap_or_default();
        self.write(&self.dir.join("quarantines.json"), &json)
    }

    /// What was prepared will never be in force.
    pub(super) fn abandon(&self, epoch: u64) {
        // Left behind they do no harm: the epoch is never used again.
        let _ = fs::remove_file(self.dir.join("pending.json"));
        let _ = fs::remove_file(self.image_path(epoch));
    }

    /// The log of changes.
    pub(super) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The text of a revision, which is named by the SHA-256 of its text.
    pub(super) fn text(&self, revision: &str) -> Result<Option<String>, StoreError> {
        let path = self.revision_path(revision);
        let Some(bytes) = Self::read_optional(&path)? else {
            return Ok(None);
        };
        let damaged = |what: String| StoreError::Damaged {
            path: path.clone(),
            what,
        };
        let found = hash_hex(&bytes);
        let text = String::from_utf8(bytes).map_err(|e| damaged(e.to_string()))?;
        // A revision is named by its canonical text: other line ends are no damage.
        if found != revision && policy::Revision::of(&text).to_string() != revision {
            return Err(damaged(format!("the SHA-256 of its text is {found}")));
        }
        Ok(Some(text))
    }

    /// Keeps what stands beside a revision and returns its hash. The oldest beyond
    /// [`INVENTORIES_MAX`] go, but for those that are `needed`.
    pub(super) fn keep_inventory(
        &self,
        json: &[u8],
        needed: &[&str],
    ) -> Result<String, StoreError> {
        let hash = hash_hex(json);
        let path = self.inventory_path(&hash);
        if Self::read_optional(&path)?.as_deref() != Some(json) {
            self.write(&path, json)?;
        }
        let dir = self.dir.join("inventories");
        let entries = fs::read_dir(&dir).map_err(io_error("read", &dir))?;
        let mut kept: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        kept.sort();
        let gone = kept.len().saturating_sub(INVENTORIES_MAX);
        for (_, path) in kept.into_iter().take(gone) {
            let name = path.file_stem().and_then(|name| name.to_str());
            if name.is_some_and(|name| name != hash && !needed.contains(&name)) {
                // What cannot be removed now is removed the next time.
                let _ = fs::remove_file(path);
            }
        }
        Ok(hash)
    }

    fn inventory_path(&self, hash: &str) -> PathBuf {
        self.dir.join("inventories").join(format!("{hash}.json"))
    }

    /// What stood beside a revision, named by its SHA-256; none where it is not kept any more.
    pub(super) fn inventory(&self, hash: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.inventory_path(hash);
        let Some(bytes) = Self::read_optional(&path)? else {
            return Ok(None);
        };
        let found = hash_hex(&bytes);
        if found != hash {
            let what = format!("the SHA-256 of its text is {found}");
            return Err(StoreError::Damaged { path, what });
        }
        Ok(Some(bytes))
    }

    /// Revisions whose name begins so.
    pub(super) fn revisions(&self, beginning: &str) -> Result<Vec<String>, StoreError> {
        let dir = self.dir.join("revisions");
        let entries = fs::read_dir(&dir).map_err(io_error("read", &dir))?;
        let mut found: Vec<String> = entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
            .filter(|name| name.starts_with(beginning))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Images kept, by epoch; those beyond the newest `keep` are removed.
    pub(super) fn images(&self, keep: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let dir = self.dir.join("images");
        let entries = fs::read_dir(&dir).map_err(io_error("read", &dir))?;
        let mut epochs: Vec<u64> = entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".image")?.parse().ok())
            .collect();
        epochs.sort_unstable();
        while epochs.len() > keep {
            let _ = fs::remove_file(self.image_path(epochs.remove(0)));
        }
        let read = |epoch: u64| {
            let path = self.image_path(epoch);
            fs::read(&path)
                .map(|image| (epoch, image))
                .map_err(io_error("read", &path))
        };
        epochs.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64) -> PolicyRecord {
        PolicyRecord {
            revision: format!("r{epoch}"),
            epoch,
            ..PolicyRecord::default()
        }
    }

    #[test]
    fn what_is_prepared_counts_only_once_it_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.current().unwrap(), None);
        store.prepare(&record(4), "text", b"image").unwrap();
        assert_eq!(store.current().unwrap(), None);
        assert_eq!(store.pending().unwrap(), Some(record(4)));
        store.commit().unwrap();
        assert_eq!(store.current().unwrap(), Some(record(4)));
        assert_eq!(store.pending().unwrap(), None);
        store.prepare(&record(5), "text 2", b"image 2").unwrap();
        store.abandon(5);
        assert_eq!(store.current().unwrap(), Some(record(4)));
        assert_eq!(
            store.last_epoch().unwrap(),
            5,
            "an epoch is never used twice"
        );
        assert_eq!(store.images(32).unwrap(), [(4, b"image".to_vec())]);
    }

    #[test]
    fn a_damaged_text_is_told_with_its_file_and_mended_by_the_same_text() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut record = record(4);
        record.revision = hash_hex(b"text");
        store.prepare(&record, "text", b"image").unwrap();
        let text = || store.text(&record.revision);
        assert_eq!(text().unwrap().as_deref(), Some("text"));
        let path = store.revision_path(&record.revision);
        for damaged in [&b""[..], b"test", b"\xff"] {
            fs::write(&path, damaged).unwrap();
            let error = text().unwrap_err().to_string();
            assert!(error.contains("is damaged"), "{error}");
            assert!(error.contains(&*path.display().to_string()), "{error}");
        }
        store.prepare(&record, "text", b"image").unwrap();
        assert_eq!(text().unwrap().as_deref(), Some("text"));
        fs::remove_file(&path).unwrap();
        assert_eq!(text().unwrap(), None);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path()).unwrap();
        let second = Store::open(dir.path()).unwrap_err().to_string();
        assert!(
            second.contains("in use by another control process"),
            "{second}"
        );
    }

    #[test]
    fn old_images_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for epoch in 1..=5 {
            store.prepare(&record(epoch), "text", b"image").unwrap();
        }
        let epochs: Vec<u64> = store
            .images(2)
            .unwrap()
            .into_iter()
            .map(|(e, _)| e)
            .collect();
        assert_eq!(epochs, [4, 5]);
    }
}

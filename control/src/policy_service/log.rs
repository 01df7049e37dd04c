//! The log of the policy: a chain of hashes, so that nobody changes it unseen.
//!
//! ```text
//! log.jsonl   {"ts":...,"change":"apply",...,"seq":7,"previous_hash":"<64>","hash":"<64>"}   one line an entry
//! log.head    00000000000000000007 <64>                                       the newest, kept apart
//! ```
//!
//! `hash` is the SHA-256 of the line's own bytes without `,"hash":"..."`, and among those bytes is the
//! hash of the entry before. So an entry that is changed, taken out, put in or moved breaks the chain
//! there, and one that is cut from the end is missed by the head. Whoever may write both files can
//! write both anew: against that only a head helps that was noted somewhere else.

use super::store::{StoreError, hash_hex, io_error};
use api::life::{BrokenEntry, LogVerification};
use api::policy::PolicyLogEntry;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes reserved for the next line before an image is published.
const LINE_BYTES_MAX: u64 = 32 << 10;
/// Newest entries that are read.
pub(super) const ENTRIES_MAX: usize = 10_000;
/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 64;
/// What stands between an entry's words and its hash.
const SEAL: &[u8] = b",\"hash\":\"";
/// Fewest digits of a noted head.
const NOTED_DIGITS_MIN: usize = 12;

/// The newest entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    seq: u64,
    hash: String,
}

/// The log, open.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    head_path: PathBuf,
    head: Head,
}

/// The lines of the log with where each begins; without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    text.split_inclusive(|byte| *byte == b'\n')
        .map(move |line| {
            let at = start;
            start += line.len();
            (at, line.strip_suffix(b"\n").unwrap_or(line))
        })
}

/// A line as its words and the hash that it says.
fn unseal(line: &[u8]) -> Option<(Vec<u8>, String)> {
    let seal_at = line.len().checked_sub(SEAL.len() + HASH_DIGITS + 2)?;
    let (words, seal) = line.split_at_checked(seal_at)?;
    let hash = seal.strip_prefix(SEAL)?.strip_suffix(b"\"}")?;
    let hash = String::from_utf8(hash.to_vec()).ok()?;
    let words = [words, b"}"].concat();
    hash.bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then_some((words, hash))
}

/// The entry's line without its end; gives the entry its hash.
fn seal(entry: &mut PolicyLogEntry) -> Vec<u8> {
    entry.hash.clear();
    // Texts and numbers: serialising cannot fail.
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    entry.hash = hash_hex(&line);
    line.pop();
    line.extend_from_slice(SEAL);
    line.extend_from_slice(entry.hash.as_bytes());
    line.extend_from_slice(b"\"}");
    line
}

/// Walks a chain from its beginning.
#[derive(Default)]
struct Walk {
    newest: Option<Head>,
    entries: u64,
    before: u64,
}

impl Walk {
    /// Takes one line; what is wrong with it.
    fn take(&mut self, text: &[u8], at: usize, line: &[u8]) -> Result<(), String> {
        let Some((words, hash)) = unseal(line) else {
            if self.newest.is_none() {
                self.before += 1;
                return Ok(());
            }
            return Err("is no entry of the chain: something else wrote it".to_owned());
        };
        if hash_hex(&words) != hash {
            return Err("was changed: its hash is not that of its words".to_owned());
        }
        let entry: PolicyLogEntry =
            serde_json::from_slice(&words).map_err(|error| format!("cannot be read: {error}"))?;
        let (last_seq, last_hash) = match &self.newest {
            Some(head) => (head.seq, head.hash.clone()),
            None => (0, hash_hex(text.get(..at).unwrap_or_default())),
        };
        if entry.seq > last_seq + 1 {
            let gone = gone(last_seq + 1, entry.seq - 1);
            return Err(format!("follows a gap: {gone} before it"));
        }
        if entry.seq != last_seq + 1 {
            return Err(format!("has number {}, not {}", entry.seq, last_seq + 1));
        }
        if entry.previous_hash != last_hash {
            let before = match &self.newest {
                Some(_) => "the entry before it was put in the place of another",
                None => "what stands before the first entry of the chain was changed",
            };
            return Err(format!("does not follow what is before it: {before}"));
        }
        self.entries += 1;
        self.newest = Some(Head {
            seq: entry.seq,
            hash,
        });
        Ok(())
    }
}

fn gone(first: u64, last: u64) -> String {
    if first == last {
        format!("entry {first} is gone")
    } else {
        format!("entries {first} to {last} are gone")
    }
}

/// Whether a log is what was written, by its head (where that can be read) and one `noted` earlier.
fn verify(text: &[u8], head: Option<&Head>, noted: Option<&str>) -> LogVerification {
    let mut walk = Walk::default();
    let (mut found, mut broken, mut number) = (noted.is_none(), None, 0);
    for (at, line) in lines(text) {
        number += 1;
        let mut taken = walk.take(text, at, line);
        let newest = walk.newest.as_ref();
        found |= newest
            .zip(noted)
            .is_some_and(|(n, noted)| n.hash.starts_with(noted));
        let kept = head.filter(|head| newest.is_some_and(|n| n.seq == head.seq));
        if let Some((kept, newest)) = kept.zip(newest)
            && taken.is_ok()
            && newest.hash != kept.hash
        {
            taken = Err("is not what was written: the head kept apart has another hash".to_owned());
        }
        if let Err(what) = taken {
            broken = Some(broken_at(number, Some(line), what));
            break;
        }
    }
    let last = walk.newest.as_ref().map_or(0, |newest| newest.seq);
    if broken.is_none()
        && let Some(head) = head
        && head.seq > last
    {
        let what = format!("{} from the end", gone(last + 1, head.seq));
        broken = Some(broken_at(number + 1, None, what));
    }
    if broken.is_none() && !found {
        let noted = noted.unwrap_or_default();
        let what =
            format!("no entry has the hash {noted}, which was noted: the log was written anew");
        broken = Some(broken_at(number + 1, None, what));
    }
    LogVerification {
        intact: broken.is_none(),
        entries: walk.entries,
        entries_before: walk.before,
        head: walk.newest.map(|newest| newest.hash).unwrap_or_default(),
        head_kept: head.is_some(),
        broken,
    }
}

fn broken_at(line: u64, text: Option<&[u8]>, what: String) -> BrokenEntry {
    let entry = text.and_then(|text| serde_json::from_slice::<PolicyLogEntry>(text).ok());
    BrokenEntry {
        line,
        seq: entry.as_ref().map(|e| e.seq),
        ts: entry.as_ref().map(|e| e.ts),
        change: entry.as_ref().map(|e| e.change),
        what,
    }
}

fn read_head(path: &Path) -> Option<Head> {
    let text = std::fs::read_to_string(path).ok()?;
    let (seq, hash) = text.trim_end().split_once(' ')?;
    let hash = (hash.len() == HASH_DIGITS).then(|| hash.to_owned())?;
    Some(Head {
        seq: seq.parse().ok()?,
        hash,
    })
}

/// Where the next entry goes on. The head that is kept decides, so that a gap stays visible for
/// ever; but entries behind it that follow it were written before a crash could move it.
fn resume(text: &[u8], kept: Option<Head>) -> Head {
    let mut walk = Walk::default();
    let mut whole = true;
    let mut passed = kept.as_ref().is_none_or(|kept| kept.seq == 0);
    for (at, line) in lines(text) {
        whole &= walk.take(text, at, line).is_ok();
        if !whole {
            break;
        }
        passed |= kept.is_some() && walk.newest == kept;
    }
    let start = || Head {
        seq: 0,
        hash: hash_hex(text),
    };
    match kept {
        Some(kept) if passed && whole => walk.newest.unwrap_or(kept),
        Some(kept) => kept,
        None if whole => walk.newest.unwrap_or_else(start),
        // A damaged log without its head: goes on behind its last entry that can be read.
        None => lines(text)
            .filter_map(|(_, line)| unseal(line))
            .filter_map(|(words, hash)| {
                let seq = serde_json::from_slice::<PolicyLogEntry>(&words).ok()?.seq;
                Some(Head { seq, hash })
            })
            .last()
            .unwrap_or_else(start),
    }
}

impl Log {
    /// Opens the log of a state directory. Entries of an earlier release stay before the chain;
    /// `takes_over` makes the entry that says so.
    pub(super) fn open(
        dir: &Path,
        takes_over: impl FnOnce(u64) -> PolicyLogEntry,
    ) -> Result<Self, StoreError> {
        let (path, head_path) = (dir.join("log.jsonl"), dir.join("log.head"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let text = mend(&path, &file)?;
        let kept = read_head(&head_path);
        if kept.is_none() && head_path.exists() {
            tracing::error!(path = %head_path.display(), "the head of the log cannot be read");
        }
        let old =
            kept.is_none() && !text.is_empty() && !lines(&text).any(|(_, l)| unseal(l).is_some());
        let mut log = Self {
            head: resume(&text, kept),
            path,
            file,
            head_path,
        };
        if old {
            let entries = lines(&text).count() as u64;
            log.append(&takes_over(entries))?;
        } else if let Err(error) = log.write_head() {
            tracing::error!(%error, "the head of the log is not kept");
        }
        Ok(log)
    }

    /// Reserves room for one line.
    pub(super) fn reserve(&self) -> Result<(), StoreError> {
        let end = self.end()?;
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, end, LINE_BYTES_MAX) {
            // A file system that cannot reserve: the line is tried as it is.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(io_error("reserve room in", &self.path)(errno.into())),
        }
    }

    fn end(&self) -> Result<u64, StoreError> {
        let metadata = self.file.metadata().map_err(io_error("read", &self.path))?;
        Ok(metadata.len())
    }

    /// Appends one entry; a line that does not fit is taken back.
    pub(super) fn append(&mut self, entry: &PolicyLogEntry) -> Result<(), StoreError> {
        let end = self.end()?;
        let mut entry = PolicyLogEntry {
            seq: self.head.seq + 1,
            previous_hash: self.head.hash.clone(),
            ..entry.clone()
        };
        let mut line = seal(&mut entry);
        line.push(b'\n');
        let appended = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = appended {
            let _ = self.file.set_len(end);
            return Err(io_error("append to", &self.path)(error));
        }
        self.head = Head {
            seq: entry.seq,
            hash: entry.hash,
        };
        // The journal is a third place, often on another machine.
        tracing::info!(seq = self.head.seq, change = %entry.change, outcome = %entry.outcome,
            author = %entry.author, head = %self.head.hash, "policy log");
        self.write_head()
    }

    /// In place and of one length, so that a full disk does not stop it.
    fn write_head(&self) -> Result<(), StoreError> {
        let text = format!("{:020} {}\n", self.head.seq, self.head.hash);
        let written = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.head_path)
            .and_then(|file| {
                file.write_all_at(text.as_bytes(), 0)?;
                file.sync_data()
            });
        written.map_err(io_error("write", &self.head_path))
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        std::fs::read(&self.path).map_err(io_error("read", &self.path))
    }

    /// The newest entries, oldest first. Lines that cannot be read are passed over.
    pub(super) fn entries(&self) -> Result<Vec<PolicyLogEntry>, StoreError> {
        let text = self.read()?;
        let lines: Vec<&[u8]> = lines(&text).map(|(_, line)| line).collect();
        let newest = lines.len().saturating_sub(ENTRIES_MAX);
        let entries = lines.get(newest..).unwrap_or_default();
        Ok(entries
            .iter()
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// Whether the log is what was written.
    pub(super) fn verify(&self, noted: Option<&str>) -> Result<LogVerification, VerifyError> {
        let noted = noted.map(str::to_ascii_lowercase);
        if let Some(noted) = &noted
            && (noted.len() < NOTED_DIGITS_MIN || !noted.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(VerifyError::NoHash {
                text: noted.clone(),
            });
        }
        let head = read_head(&self.head_path);
        Ok(verify(&self.read()?, head.as_ref(), noted.as_deref()))
    }
}

/// Why a log was not verified.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error("`{text}` is no hash: give at least {NOTED_DIGITS_MIN} of its hexadecimal digits")]
    NoHash { text: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log's bytes, without a last line that a crash left half written.
fn mend(path: &Path, mut file: &File) -> Result<Vec<u8>, StoreError> {
    let mut text = Vec::new();
    let mut read = || -> io::Result<usize> {
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)
    };
    read().map_err(io_error("read", path))?;
    let whole = text
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    if whole < text.len() {
        tracing::warn!(path = %path.display(), "the log's last line was half written");
        file.set_len(whole as u64).map_err(io_error("mend", path))?;
        text.truncate(whole);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Ts;
    use api::policy::{Outcome, PolicyChange};

    fn entry(epoch: u64) -> PolicyLogEntry {
        PolicyLogEntry {
            ts: Ts(epoch),
            change: PolicyChange::Apply,
            revision: "abc".to_owned(),
            epoch,
            outcome: Outcome::Adopted,
            message: String::new(),
            author: "ada".to_owned(),
            note: "because \"hash\":\"x\"".to_owned(),
            file_name: "p.toml".to_owned(),
            inventory: String::new(),
            adoption_us: Some(3),
            peer: None,
            seq: 0,
            previous_hash: String::new(),
            hash: String::new(),
        }
    }

    fn open(dir: &Path) -> Log {
        let takes_over = |entries| PolicyLogEntry {
            change: PolicyChange::TakenOver,
            note: format!("{entries} entries"),
            ..entry(0)
        };
        Log::open(dir, takes_over).unwrap()
    }

    /// A log of five entries, and its lines.
    fn five() -> (tempfile::TempDir, Vec<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        for epoch in 1..=5 {
            log.append(&entry(epoch)).unwrap();
        }
        let text = std::fs::read(dir.path().join("log.jsonl")).unwrap();
        let lines = lines(&text).map(|(_, line)| line.to_vec()).collect();
        (dir, lines)
    }

    fn rewrite(dir: &Path, lines: &[Vec<u8>]) -> LogVerification {
        let mut text = lines.join(&b'\n');
        text.push(b'\n');
        std::fs::write(dir.join("log.jsonl"), text).unwrap();
        let head = read_head(&dir.join("log.head"));
        let text = std::fs::read(dir.join("log.jsonl")).unwrap();
        verify(&text, head.as_ref(), None)
    }

    #[track_caller]
    fn broken(found: &LogVerification, line: u64, what: &str) {
        let broken = found.broken.as_ref().expect("broken");
        assert!(!found.intact);
        assert_eq!(broken.line, line, "{broken:?}");
        assert!(broken.what.contains(what), "{broken:?}");
    }

    #[test]
    fn an_untouched_log_is_intact_across_starts_and_its_lines_hash_as_any_tool_does() {
        let (dir, lines) = five();
        let mut log = open(dir.path());
        log.append(&entry(6)).unwrap();
        let found = log.verify(None).unwrap();
        assert!(found.intact && found.head_kept, "{found:?}");
        assert_eq!((found.entries, found.entries_before), (6, 0));
        // What `sed 's/,"hash":"[0-9a-f]*"}$/}/' | sha256sum` says.
        let line = String::from_utf8(lines[0].clone()).unwrap();
        let (words, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
        assert_eq!(hash_hex(format!("{words}}}").as_bytes()), hash[..64]);
        assert!(log.verify(Some(&hash[..16])).unwrap().intact);
        broken(
            &log.verify(Some("0123456789abcdef")).unwrap(),
            7,
            "written anew",
        );
        assert!(matches!(
            log.verify(Some("xyz")),
            Err(VerifyError::NoHash { .. })
        ));
    }

    #[test]
    fn what_is_changed_removed_moved_or_put_in_is_named() {
        let (dir, lines) = five();
        assert!(rewrite(dir.path(), &lines).intact);
        for at in 0..5 {
            let mut changed = lines.clone();
            let text = String::from_utf8(changed[at].clone()).unwrap();
            changed[at] = text.replace("\"ada\"", "\"eve\"").into_bytes();
            broken(&rewrite(dir.path(), &changed), at as u64 + 1, "was changed");
            let mut removed = lines.clone();
            removed.remove(at);
            let what = if at == 4 {
                "entry 5 is gone from the end".to_owned()
            } else {
                format!("entry {} is gone before it", at + 1)
            };
            broken(&rewrite(dir.path(), &removed), at as u64 + 1, &what);
        }
        let mut moved = lines.clone();
        moved.swap(1, 2);
        broken(&rewrite(dir.path(), &moved), 2, "entry 2 is gone");
        let mut doubled = lines.clone();
        doubled.insert(3, lines[1].clone());
        broken(&rewrite(dir.path(), &doubled), 4, "has number 2, not 4");
        let mut put_in = lines.clone();
        put_in.insert(2, b"\xff\xfe no entry".to_vec());
        broken(&rewrite(dir.path(), &put_in), 3, "no entry of the chain");
        broken(
            &rewrite(dir.path(), &lines[..2]),
            3,
            "entries 3 to 5 are gone from the end",
        );
    }

    #[test]
    fn an_entry_that_was_written_anew_with_a_true_hash_breaks_the_one_behind_it_or_the_head() {
        let (dir, lines) = five();
        for at in [1, 4] {
            let mut forged = lines.clone();
            let mut entry: PolicyLogEntry = serde_json::from_slice(&forged[at]).unwrap();
            entry.author = "eve".to_owned();
            forged[at] = seal(&mut entry);
            let found = rewrite(dir.path(), &forged);
            if at == 4 {
                broken(&found, 5, "head kept apart");
            } else {
                broken(&found, at as u64 + 2, "put in the place of another");
            }
        }
    }

    #[test]
    fn what_was_cut_stays_a_gap_after_a_start_and_further_entries() {
        let (dir, lines) = five();
        rewrite(dir.path(), &lines[..2]);
        let mut log = open(dir.path());
        log.append(&entry(6)).unwrap();
        drop(log);
        let log = open(dir.path());
        broken(
            &log.verify(None).unwrap(),
            3,
            "entries 3 to 5 are gone before it",
        );
        assert_eq!(log.entries().unwrap().len(), 3, "the rest is still read");
        std::fs::remove_file(dir.path().join("log.jsonl")).unwrap();
        let mut log = open(dir.path());
        broken(&log.verify(None).unwrap(), 1, "entries 1 to 6 are gone");
        log.append(&entry(7)).unwrap();
        broken(&log.verify(None).unwrap(), 1, "entries 1 to 6 are gone");
    }

    #[test]
    fn a_crash_between_the_entry_and_its_head_is_no_damage() {
        let (dir, lines) = five();
        let head = dir.path().join("log.head");
        for behind in 0..5 {
            let hash = match behind {
                0 => hash_hex(b""),
                _ => unseal(&lines[behind - 1]).unwrap().1,
            };
            std::fs::write(&head, format!("{behind:020} {hash}\n")).unwrap();
            let mut log = open(dir.path());
            assert!(log.verify(None).unwrap().intact, "{behind} behind");
            assert_eq!(log.head.seq, 5);
            log.append(&entry(6)).unwrap();
            assert!(log.verify(None).unwrap().intact);
            rewrite(dir.path(), &lines);
        }
        std::fs::write(&head, "torn").unwrap();
        let text = std::fs::read(dir.path().join("log.jsonl")).unwrap();
        let found = verify(&text, read_head(&head).as_ref(), None);
        assert!(found.intact && !found.head_kept);
        assert_eq!(open(dir.path()).head.seq, 5);
    }

    #[test]
    fn a_half_written_last_line_is_taken_back_at_the_next_start() {
        let (dir, _) = five();
        let path = dir.path().join("log.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"ts\":").unwrap();
        let mut log = open(dir.path());
        log.append(&entry(6)).unwrap();
        let found = log.verify(None).unwrap();
        assert_eq!((found.intact, found.entries), (true, 6), "{found:?}");
        let epochs: Vec<u64> = log.entries().unwrap().iter().map(|e| e.epoch).collect();
        assert_eq!(epochs, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_log_of_an_earlier_release_is_taken_over_and_held_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let old = "{\"ts\":\"2026-01-31T12:00:00.000000000Z\",\"change\":\"apply\",\"revision\":\"r\",\
                   \"epoch\":1,\"outcome\":\"adopted\"}\n";
        std::fs::write(&path, old.repeat(2)).unwrap();
        let mut log = open(dir.path());
        log.append(&entry(2)).unwrap();
        let found = log.verify(None).unwrap();
        assert_eq!(
            (found.intact, found.entries, found.entries_before),
            (true, 2, 2)
        );
        let changes: Vec<_> = log.entries().unwrap().iter().map(|e| e.change).collect();
        let apply = PolicyChange::Apply;
        assert_eq!(changes, [apply, apply, PolicyChange::TakenOver, apply]);
        drop(log);
        assert_eq!(open(dir.path()).entries().unwrap().len(), 4, "once");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"r\"", "\"s\"", 1)).unwrap();
        let found = open(dir.path()).verify(None).unwrap();
        broken(&found, 3, "before the first entry of the chain was changed");
    }
}

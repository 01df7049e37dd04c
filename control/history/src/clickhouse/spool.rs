//! Batches that wait on the local disk for a server that is away: a directory for each server, a file for each batch.
//!
//! A file is whole or not there. Its name says what the server is asked before and after: number, rows, day, intervals.
//! What has gone to a server without an answer waits for that server and no other.

use super::schema::BatchRows;
use crate::HistoryError;
use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Rows of one batch, as they go to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) batch: u64,
    pub(super) rows: usize,
    pub(super) day: u16,
    pub(super) start_s: u64,
    pub(super) end_s: u64,
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    /// Where its rows are.
    pub(super) const fn place<'a>(&self, appliance: &'a str) -> BatchRows<'a> {
        BatchRows {
            batch: self.batch,
            appliance,
            day: self.day,
            start_s: self.start_s,
            end_s: self.end_s,
        }
    }

    fn file_name(&self) -> String {
        // Twenty digits: names sort as numbers do.
        format!(
            "{:020}-{}-{}-{}-{}.rows",
            self.batch, self.rows, self.day, self.start_s, self.end_s
        )
    }

    /// All but its bytes.
    fn of_file_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".rows")?.split('-');
        let batch = Self {
            batch: parts.next()?.parse().ok()?,
            rows: parts.next()?.parse().ok()?,
            day: parts.next()?.parse().ok()?,
            start_s: parts.next()?.parse().ok()?,
            end_s: parts.next()?.parse().ok()?,
            bytes: Vec::new(),
        };
        parts.next().is_none().then_some(batch)
    }
}

#[derive(Clone, Debug)]
struct Waiting {
    path: PathBuf,
    rows: u64,
    bytes: u64,
    /// Where the disk did not take it.
    in_memory: Option<Vec<u8>>,
}

/// Batches that wait, by server.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    bytes: u64,
    queues: Vec<VecDeque<Waiting>>,
    dirs: Vec<PathBuf>,
    last_batch: u64,
    /// Directories of servers that are no longer configured.
    pub(super) strays: Vec<PathBuf>,
}

fn file_error(what: &'static str, path: &Path, source: std::io::Error) -> HistoryError {
    HistoryError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// `http://10.0.0.5:8123/` as the name of a directory.
fn dir_name(url: &str) -> String {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let kept = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    format!("to-{}", host.chars().map(kept).collect::<String>())
}

impl Spool {
    /// Opens the spool, with what waits there.
    pub(super) fn open(dir: &Path, urls: &[String], bytes_max: u64) -> Result<Self, HistoryError> {
        let mut spool = Self {
            dir: dir.to_owned(),
            bytes_max,
            bytes: 0,
            queues: Vec::new(),
            dirs: Vec::new(),
            last_batch: 0,
            strays: Vec::new(),
        };
        for url in urls {
            let own = dir.join(dir_name(url));
            fs::create_dir_all(&own).map_err(|e| file_error("make directory", &own, e))?;
            let queue = spool.waiting_in(&own)?;
            spool.queues.push(queue);
            spool.dirs.push(own);
        }
        let entries = fs::read_dir(dir).map_err(|e| file_error("list", dir, e))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && !spool.dirs.contains(&path) {
                spool.strays.push(path);
            }
        }
        let last = fs::read_to_string(spool.last_path()).unwrap_or_default();
        spool.last_batch = spool.last_batch.max(last.trim().parse().unwrap_or(0));
        Ok(spool)
    }

    fn waiting_in(&mut self, dir: &Path) -> Result<VecDeque<Waiting>, HistoryError> {
        let mut found = Vec::new();
        let entries = fs::read_dir(dir).map_err(|e| file_error("list", dir, e))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            // What a killed process had begun to write has another ending.
            let Some(batch) = name.to_str().and_then(Batch::of_file_name) else {
                continue;
            };
            let bytes = entry.metadata().map_or(0, |m| m.len());
            let rows = u64::try_from(batch.rows).unwrap_or(u64::MAX);
            self.last_batch = self.last_batch.max(batch.batch);
            self.bytes += bytes;
            found.push(Waiting {
                path: entry.path(),
                rows,
                bytes,
                in_memory: None,
            });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found.into())
    }

    fn last_path(&self) -> PathBuf {
        self.dir.join("last-batch")
    }

    /// A number larger than all before, also of processes before: by the clock where it goes forward.
    pub(super) fn next_batch(&mut self, now_ns: u64) -> Result<u64, HistoryError> {
        self.last_batch = now_ns.max(self.last_batch + 1);
        let path = self.last_path();
        fs::write(&path, self.last_batch.to_string()).map_err(|e| file_error("write", &path, e))?;
        Ok(self.last_batch)
    }

    /// Numbers up to this are taken: a server has them.
    pub(super) fn pass(&mut self, batch: u64) {
        self.last_batch = self.last_batch.max(batch);
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> u64 {
        self.queues.iter().flatten().map(|w| w.rows).sum()
    }

    /// Whether nothing waits for this server.
    pub(super) fn is_empty(&self, server: usize) -> bool {
        self.queues.get(server).is_none_or(VecDeque::is_empty)
    }

    /// Puts a batch behind those that wait for the server. False where there is no room.
    pub(super) fn push(&mut self, server: usize, batch: &Batch) -> Result<bool, HistoryError> {
        let bytes = u64::try_from(batch.bytes.len()).unwrap_or(u64::MAX);
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            return Ok(false);
        }
        self.write(server, batch)?;
        self.wait(server, batch, None);
        Ok(true)
    }

    /// The same for a batch of which nobody knows whether the server has it: it must be asked again under its number, so
    /// there is always room, in memory where the disk takes no more. One batch a server can be such.
    pub(super) fn push_unknown(&mut self, server: usize, batch: &Batch) {
        let in_memory = self.write(server, batch).is_err();
        self.wait(server, batch, in_memory.then(|| batch.bytes.clone()));
    }

    fn write(&self, server: usize, batch: &Batch) -> Result<(), HistoryError> {
        let Some(dir) = self.dirs.get(server) else {
            return Ok(());
        };
        let (path, unfinished) = (dir.join(batch.file_name()), dir.join("unfinished"));
        let written = fs::File::create(&unfinished)
            .and_then(|mut file| file.write_all(&batch.bytes).and_then(|()| file.sync_data()))
            .and_then(|()| fs::rename(&unfinished, &path));
        written.map_err(|e| file_error("write", &path, e))
    }

    fn wait(&mut self, server: usize, batch: &Batch, in_memory: Option<Vec<u8>>) {
        let (Some(dir), Some(queue)) = (self.dirs.get(server), self.queues.get_mut(server)) else {
            return;
        };
        let bytes = u64::try_from(batch.bytes.len()).unwrap_or(u64::MAX);
        self.bytes += bytes;
        queue.push_back(Waiting {
            path: dir.join(batch.file_name()),
            rows: u64::try_from(batch.rows).unwrap_or(u64::MAX),
            bytes,
            in_memory,
        });
    }

    /// The batch that has waited longest for the server.
    pub(super) fn front(&self, server: usize) -> Result<Option<Batch>, HistoryError> {
        let Some(waiting) = self.queues.get(server).and_then(VecDeque::front) else {
            return Ok(None);
        };
        let name = waiting.path.file_name().and_then(|n| n.to_str());
        let Some(batch) = name.and_then(Batch::of_file_name) else {
            return Ok(None);
        };
        let bytes = match &waiting.in_memory {
            Some(bytes) => bytes.clone(),
            None => fs::read(&waiting.path).map_err(|e| file_error("read", &waiting.path, e))?,
        };
        Ok(Some(Batch { bytes, ..batch }))
    }

    /// Forgets it: the server has it.
    pub(super) fn pop(&mut self, server: usize) -> Result<(), HistoryError> {
        let Some(waiting) = self.queues.get_mut(server).and_then(VecDeque::pop_front) else {
            return Ok(());
        };
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        if waiting.in_memory.is_some() {
            return Ok(());
        }
        fs::remove_file(&waiting.path).map_err(|e| file_error("remove", &waiting.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, bytes: usize) -> Batch {
        Batch {
            batch: number,
            rows: 3,
            day: 19_675,
            start_s: 1_699_999_200,
            end_s: 1_699_999_500,
            bytes: vec![7; bytes],
        }
    }

    #[test]
    fn batches_wait_in_order_for_their_own_server_and_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let urls = ["http://a:1/".to_owned(), "http://b:2/".to_owned()];
        let open = |urls: &[String]| Spool::open(dir.path(), urls, 1000).unwrap();
        let mut spool = open(&urls);
        for number in [9, 10] {
            assert!(spool.push(1, &batch(number, 100)).unwrap());
        }
        fs::write(dir.path().join("to-b_2/unfinished"), "half").unwrap();
        let mut spool = open(&urls);
        assert_eq!((spool.rows(), spool.is_empty(0)), (6, true));
        assert_eq!(spool.front(1).unwrap(), Some(batch(9, 100)));
        spool.pop(1).unwrap();
        assert_eq!(spool.front(1).unwrap(), Some(batch(10, 100)));
        assert_eq!(
            spool.next_batch(5).unwrap(),
            11,
            "numbers rise though the clock went back"
        );
        assert_eq!(open(&urls).next_batch(5).unwrap(), 12);
        assert_eq!(open(&urls[..1]).strays, [dir.path().join("to-b_2")]);
    }

    #[test]
    fn a_full_spool_takes_nothing_more_until_something_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), &["http://a:1/".to_owned()], 150).unwrap();
        assert!(spool.push(0, &batch(1, 100)).unwrap());
        assert!(!spool.push(0, &batch(2, 100)).unwrap());
        spool.pop(0).unwrap();
        assert!(spool.push(0, &batch(2, 100)).unwrap());
    }
}

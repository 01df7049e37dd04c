//! Names as they were: facts that say from when to when a name held.
//!
//! What is noted waits on the disk until a server takes it. A fact may be inserted twice: the latest `noted` of those
//! alike says until when.

use super::rows::Decoder;
use super::server::{Failure, escaped};
use super::{ClickHouseHistory, failed, lock};
use crate::HistoryError;
use api::Ts;
use api::history::Membership;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What was noted and waits; beyond, the oldest notes go: the next one says all names again.
const NOTES_MAX: usize = 4096;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    at_ns: u64,
    names: Vec<Membership>,
}

/// Names that wait, and those that hold at the servers.
#[derive(Debug)]
pub(super) struct Names {
    dir: PathBuf,
    waiting: VecDeque<(PathBuf, Note)>,
    next: u64,
    /// What holds, and the time of the last note; none until it was asked for.
    open: Option<(u64, Vec<Membership>)>,
}

fn file_error(what: &'static str, path: &Path, source: std::io::Error) -> HistoryError {
    HistoryError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

fn is_same_name(a: &Membership, b: &Membership) -> bool {
    (&a.prefix, &a.workload, &a.labels, &a.segments)
        == (&b.prefix, &b.workload, &b.labels, &b.segments)
}

impl Names {
    pub(super) fn open(dir: &Path) -> Result<Self, HistoryError> {
        fs::create_dir_all(dir).map_err(|e| file_error("make directory", dir, e))?;
        let mut found = Vec::new();
        let entries = fs::read_dir(dir).map_err(|e| file_error("list", dir, e))?;
        for path in entries.flatten().map(|e| e.path()) {
            let number = path.file_stem().and_then(|s| s.to_str());
            let Some(number) = number.and_then(|n| n.parse::<u64>().ok()) else {
                continue;
            };
            let text = fs::read_to_string(&path).map_err(|e| file_error("read", &path, e))?;
            // A note that was cut off was never promised: it is left where it is.
            if let Ok(note) = serde_json::from_str(&text) {
                found.push((number, path, note));
            }
        }
        found.sort_by_key(|(number, ..)| *number);
        Ok(Self {
            dir: dir.to_owned(),
            next: found.last().map_or(1, |(number, ..)| number + 1),
            waiting: found.into_iter().map(|(_, p, n)| (p, n)).collect(),
            open: None,
        })
    }

    /// Keeps what is to be told to the servers.
    pub(super) fn note(&mut self, at_ns: u64, names: &[Membership]) -> Result<(), HistoryError> {
        let path = self.dir.join(format!("{:020}.json", self.next));
        let note = Note {
            at_ns,
            names: names.to_vec(),
        };
        let text = serde_json::to_string(&note).map_err(|e| HistoryError::Engine {
            what: "write names",
            why: e.to_string(),
        })?;
        let unfinished = self.dir.join("unfinished");
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|e| file_error("write", &path, e))?;
        self.next += 1;
        self.waiting.push_back((path, note));
        while self.waiting.len() > NOTES_MAX {
            self.forget_front();
        }
        Ok(())
    }

    fn forget_front(&mut self) {
        if let Some((path, _)) = self.waiting.pop_front() {
            // A note that stays is told again, which changes nothing.
            let _ = fs::remove_file(path);
        }
    }
}

/// One line of facts: a name from a time on, until 0 while it holds.
fn fact(lines: &mut String, appliance: &str, noted: u64, m: &Membership) {
    let labels = serde_json::to_string(&m.labels).unwrap_or_default();
    // Writing to a text does not fail.
    let _ = writeln!(
        lines,
        "{appliance}\t{noted}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
        m.from_ts.0,
        m.until_ts.map_or(0, |t| t.0),
        escaped(&m.prefix),
        escaped(&m.workload),
        escaped(&labels),
        escaped(&m.segments.join(",")),
        escaped(&m.revision),
    );
}

impl ClickHouseHistory {
    /// Every name that the servers know, of the appliances that are meant.
    pub(super) fn names_kept(&self, whose: &str) -> Result<Vec<Membership>, HistoryError> {
        let sql = format!(
            "SELECT from_ns, argMax(until_ns, noted) AS until, prefix, workload, labels, segments, argMax(revision, noted) \
             AS said_by FROM {}.memberships WHERE {whose} GROUP BY appliance, from_ns, prefix, workload, labels, segments \
             HAVING until = 0 OR until > from_ns",
            self.cluster.db()
        );
        let mut names = Vec::new();
        for row in self.table(&sql, &[])?.into_iter().skip(2) {
            let mut row = Decoder::new(row);
            let (from, until): (u64, u64) = (row.number()?, row.number()?);
            let (prefix, workload, labels, segments, revision) = (
                row.text()?,
                row.text()?,
                row.text()?,
                row.text()?,
                row.text()?,
            );
            names.push(Membership {
                from_ts: Ts(from),
                until_ts: (until != 0).then_some(Ts(until)),
                prefix,
                workload: workload.into(),
                labels: serde_json::from_str(&labels).map_err(|e| HistoryError::Engine {
                    what: "read labels",
                    why: e.to_string(),
                })?,
                segments: segments
                    .split(',')
                    .filter(|s| !s.is_empty())
                    .map(Into::into)
                    .collect(),
                revision: revision.into(),
            });
        }
        Ok(names)
    }

    /// Tells the servers what was noted, in order.
    pub(super) fn send_names(&self) -> Result<(), HistoryError> {
        let mut names = lock(&self.names);
        if names.waiting.is_empty() {
            return Ok(());
        }
        self.prepare_all()?;
        if names.open.is_none() {
            let own = format!("appliance = '{}'", self.cluster.config.appliance);
            let kept = self.names_kept(&own)?;
            let times = kept.iter().map(|m| m.until_ts.unwrap_or(m.from_ts).0);
            let noted = times.max().unwrap_or(0);
            let open = kept.into_iter().filter(|m| m.until_ts.is_none()).collect();
            names.open = Some((noted, open));
        }
        while let Some((_, note)) = names.waiting.front().cloned() {
            let (noted_ns, open) = names.open.clone().unwrap_or_default();
            let (at_ns, open) = self.tell(&note, noted_ns, open)?;
            names.open = Some((at_ns, open));
            names.forget_front();
        }
        Ok(())
    }

    /// Inserts what a note changes, and says what holds then.
    fn tell(
        &self,
        note: &Note,
        noted_ns: u64,
        open: Vec<Membership>,
    ) -> Result<(u64, Vec<Membership>), HistoryError> {
        let at = Ts(note.at_ns.max(noted_ns));
        let number = {
            let mut writer = lock(&self.writer);
            let now_ns = (writer.now_ns)();
            writer.spool.next_batch(now_ns)?
        };
        let appliance = &self.cluster.config.appliance;
        let mut lines = String::new();
        let mut held: Vec<Membership> = Vec::new();
        for mut old in open {
            if note.names.iter().any(|new| is_same_name(&old, new)) {
                held.push(old);
            } else {
                old.until_ts = Some(at);
                fact(&mut lines, appliance, number, &old);
            }
        }
        for new in &note.names {
            if held.iter().any(|m| is_same_name(m, new)) {
                continue;
            }
            let new = Membership {
                from_ts: at,
                until_ts: None,
                ..new.clone()
            };
            fact(&mut lines, appliance, number, &new);
            held.push(new);
        }
        if !lines.is_empty() {
            self.insert_facts(&lines)?;
        }
        Ok((at.0, held))
    }

    fn insert_facts(&self, lines: &str) -> Result<(), HistoryError> {
        let sql = format!(
            "INSERT INTO {}.memberships_local FORMAT TabSeparated\n{lines}",
            self.cluster.db()
        );
        let mut last = Failure::NotSent("no server is configured".to_owned());
        for server in &self.cluster.servers {
            match server.ask(&sql, &[]) {
                Ok(_) => return Ok(()),
                Err(failure) => last = failure,
            }
        }
        Err(failed("keep names")(last))
    }
}

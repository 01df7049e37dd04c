//! What survives a restart beside history: findings, the novel administrative edges of late, since when is watched, and
//! the baseline where history is off.

use super::baseline::Known;
use super::chain::AdminEdge;
use super::detector::Detector;
use super::edge::EdgeKey;
use api::watch::Finding;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Number of this layout of the file.
const LAYOUT: u32 = 1;

/// Why the state is not kept, or not read.
#[derive(Debug, thiserror::Error)]
pub enum WatchFileError {
    /// The file system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read`, `write` ...
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold what it should; it was set aside.
    #[error("{} was damaged ({what}) and is now {}; findings before this start are gone from here", path.display(), aside.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// How.
        what: String,
    },
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchFile {
    layout: u32,
    since_ns: Option<u64>,
    last_id: u64,
    change: u64,
    findings: Vec<Finding>,
    admin_edges: Vec<AdminEdge>,
    /// Empty where history has it.
    baseline: Vec<(EdgeKey, Known)>,
}

impl WatchFile {
    /// What is to be kept of a detector.
    #[must_use]
    pub fn of(detector: &Detector, with_baseline: bool) -> Self {
        let edges = detector.baseline.edges();
        let edges = edges.map(|(key, known)| (key.clone(), known.clone()));
        Self {
            layout: LAYOUT,
            since_ns: detector.baseline.since_ns(),
            last_id: detector.findings.next_id() - 1,
            change: detector.findings.change(),
            findings: detector.findings.all().cloned().collect(),
            admin_edges: detector.chains.edges().cloned().collect(),
            baseline: if with_baseline {
                edges.collect()
            } else {
                Vec::new()
            },
        }
    }

    /// Gives it back to a detector that knows nothing.
    pub fn restore(self, detector: &mut Detector) {
        if let Some(since_ns) = self.since_ns {
            detector.baseline.watched(since_ns);
        }
        for (key, known) in self.baseline {
            detector.baseline.keep(key, known);
        }
        for edge in self.admin_edges {
            detector.chains.insert(edge);
        }
        detector
            .findings
            .restore(self.findings, self.last_id, self.change);
    }

    /// Writes it beside its place, syncs it, and moves it there.
    ///
    /// # Errors
    /// The file system refuses; what was there before stays.
    pub fn write(&self, path: &Path) -> Result<(), WatchFileError> {
        let failed = |source| WatchFileError::Io {
            what: "write",
            path: path.to_owned(),
            source,
        };
        let bytes = serde_json::to_vec(self).map_err(|e| failed(e.into()))?;
        let beside = path.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        let moved = written.and_then(|()| fs::rename(&beside, path));
        if moved.is_err() {
            // Half a file is worth nothing; where it cannot be removed the next write replaces it.
            let _ = fs::remove_file(&beside);
        }
        moved.map_err(failed)
    }

    /// Reads it; nothing where there is no file.
    ///
    /// # Errors
    /// It cannot be read, or was damaged and is set aside.
    pub fn read(path: &Path) -> Result<Option<Self>, WatchFileError> {
        let failed = |what| {
            move |source| WatchFileError::Io {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read"))?,
        };
        let what = match serde_json::from_slice::<Self>(&bytes) {
            Ok(file) if file.layout == LAYOUT => return Ok(Some(file)),
            Ok(file) => format!("layout {}", file.layout),
            Err(error) => error.to_string(),
        };
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside).map_err(failed("set aside"))?;
        Err(WatchFileError::Damaged {
            path: path.to_owned(),
            aside,
            what,
        })
    }
}

//! Ratios with their spread, as a table and as JSON.

use crate::machine::Machine;
use crate::median;
use crate::peer::Peer;
use crate::subject::Measured;
use std::fmt::Write;
use std::path::Path;

/// One comparison: every sample of both.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cell {
    peer_mode: Peer,
    flows: u32,
    frame_bytes: u32,
    seconds: u32,
    pub(crate) subject: Vec<Measured>,
    pub(crate) peer: Vec<f64>,
}

impl Cell {
    pub(crate) fn new(peer_mode: Peer, flows: u32, seconds: u32) -> Self {
        Self {
            peer_mode,
            flows,
            frame_bytes: 64,
            seconds,
            subject: Vec::new(),
            peer: Vec::new(),
        }
    }

    fn rates(&self) -> Vec<f64> {
        self.subject.iter().map(|measured| measured.rate).collect()
    }

    fn ratio(&self) -> f64 {
        median(&mut self.rates()) / median(&mut self.peer.clone())
    }
}

/// All comparisons of one run of this program.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Report {
    machine: Machine,
    command: String,
    pub(crate) cells: Vec<Cell>,
}

impl Report {
    pub(crate) fn new() -> Self {
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        Self {
            machine: Machine::read(),
            command: format!("ringfence-perf {command}"),
            cells: Vec::new(),
        }
    }

    /// A table for people. Rates are packets received per second, medians of the runs, with the
    /// slowest and the fastest run.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "| flows | frame | peer | ringfence Mpps (min..max) | peer Mpps (min..max) | ratio | forwarded | unaccounted |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for cell in &self.cells {
            let forwarded = cell.subject.iter().map(|m| m.forwarded).fold(1.0, f64::min);
            let unaccounted: i128 = cell.subject.iter().map(|m| m.unaccounted.abs()).sum();
            let _ = writeln!(
                text,
                "| {} | {} B | testpmd {} | {} | {} | {:.2} | {:.4} | {} |",
                cell.flows,
                cell.frame_bytes,
                cell.peer_mode.name(),
                spread(&cell.rates()),
                spread(&cell.peer),
                cell.ratio(),
                forwarded,
                unaccounted
            );
        }
        text
    }

    pub(crate) fn json(&self) -> Result<String, String> {
        #[derive(serde::Serialize)]
        struct WithRatios<'a> {
            #[serde(flatten)]
            report: &'a Report,
            ratios: Vec<f64>,
        }
        let ratios = self.cells.iter().map(Cell::ratio).collect();
        serde_json::to_string_pretty(&WithRatios {
            report: self,
            ratios,
        })
        .map_err(|error| error.to_string())
    }

    /// Writes `DATE-MACHINE.md` and `.json` into `dir`.
    pub(crate) fn keep(&self, dir: &Path) -> Result<(), String> {
        let machine: String = self
            .machine
            .cpu
            .chars()
            .map(|c| {
                if c.is_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        let machine = machine
            .split('-')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-");
        let stem = dir.join(format!("{}-{machine}", self.machine.date));
        let m = &self.machine;
        let text = format!(
            "# {} on {}\n\n{} CPUs, kernel {}, DPDK {}, {}, commit {}, {} hugepages of 2 MiB free.\n\nCommand: `{}`\n\n{}",
            m.date,
            m.cpu,
            m.cpus,
            m.kernel,
            m.dpdk,
            m.rustc,
            m.commit,
            m.hugepages_free,
            self.command,
            self.table()
        );
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let write = |extension: &str, text: String| {
            let path = stem.with_extension(extension);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write("md", text)?;
        write("json", self.json()?)
    }
}

fn spread(samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    let middle = median(&mut sorted) / 1e6;
    let (low, high) = (
        sorted.first().copied().unwrap_or(0.0) / 1e6,
        sorted.last().copied().unwrap_or(0.0) / 1e6,
    );
    format!("{middle:.2} ({low:.2}..{high:.2})")
}

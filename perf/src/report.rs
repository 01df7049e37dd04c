//! Ratios with their spread, as a table and as JSON.

use crate::machine::Machine;
use crate::median;
use crate::peer::Peer;
use crate::rows::{Check, Outcome};
use crate::subject::Measured;
use std::collections::BTreeMap;
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

    /// As a row: the ratio of the medians, its spread run by run.
    pub(crate) fn outcome(&self) -> Outcome {
        let pairs = self.rates().into_iter().zip(self.peer.iter().copied());
        let ratios: Vec<f64> = pairs.map(|(subject, peer)| subject / peer).collect();
        let unaccounted: i128 = self.subject.iter().map(|m| m.unaccounted.abs()).sum();
        Outcome {
            value: self.ratio(),
            spread: (
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ),
            samples: BTreeMap::from([
                ("subject_pps".to_owned(), self.rates()),
                ("peer_pps".to_owned(), self.peer.clone()),
            ]),
            checks: vec![Check {
                what: "every packet is accounted for".to_owned(),
                holds: unaccounted == 0,
            }],
            facts: serde_json::Map::new(),
            told: format!("{} and {} Mpps", spread(&self.rates()), spread(&self.peer)),
            command: format!(
                "ringfence-perf side-by-side --peer {} --flows {}",
                self.peer_mode.name(),
                self.flows
            ),
        }
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
        Self {
            machine: Machine::read(),
            command: own_command(),
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
        let text = format!(
            "{}\nCommand: `{}`\n\n{}",
            self.machine.headline(),
            self.command,
            self.table()
        );
        self.machine.keep(dir, &text, &self.json()?)
    }
}

/// How this program was called.
pub(crate) fn own_command() -> String {
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("ringfence-perf {command}")
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

//! From runs to the outcome of a row: values, what must hold beside them, facts.

use super::{Check, Effort, Outcome};
use crate::cell::{Cell, Compared, Spread};
use crate::peer::{self, Peer};
use crate::subject::{Knobs, Measured};
use crate::traffic::Traffic;
use std::collections::BTreeMap;

/// A cell of one core with its effort.
pub(super) fn cell(effort: &Effort, peer: Peer, traffic: Traffic, rules: u32) -> Cell {
    Cell {
        peer,
        traffic,
        rules,
        publishes_per_second: 0.0,
        cores: vec![effort.core],
        runs: effort.runs,
        seconds: effort.seconds,
        knobs: Knobs::default(),
    }
}

/// Every run of `runs` kept the books: what came in went out or was dropped by reason, and what
/// flows counted is in records, in the cache or counted as shed.
pub(super) fn books(runs: &[Measured]) -> Check {
    Check {
        what: "every packet is accounted for".to_owned(),
        holds: runs
            .iter()
            .all(|run| run.unaccounted == 0 && run.unrecorded == 0),
    }
}

/// No packet of any run was dropped, for whatever reason.
pub(super) fn all_forwarded(runs: &[Measured]) -> Check {
    Check {
        what: "every packet is forwarded".to_owned(),
        holds: runs.iter().all(|run| run.drops.is_empty()),
    }
}

/// Subject over peer.
pub(super) fn ratio(compared: &Compared) -> Result<Outcome, String> {
    let ratio = compared.ratio().ok_or("the cell has no peer")?;
    let (subject, peer) = (compared.subject_rates(), compared.peer_rates());
    let told = format!(
        "{} and {} Mpps",
        Spread::of(&subject).millions(),
        Spread::of(&peer).millions()
    );
    let peer_forwards = |run: &peer::Measured| run.forwarded.is_none_or(|share| share > 0.99);
    Ok(Outcome {
        value: ratio.median,
        spread: (ratio.min, ratio.max),
        samples: BTreeMap::from([("ringfence_pps".into(), subject), ("peer_pps".into(), peer)]),
        checks: vec![
            books(&compared.subject),
            all_forwarded(&compared.subject),
            Check {
                what: "the peer forwards what it receives".to_owned(),
                holds: compared.peer.iter().all(peer_forwards),
            },
        ],
        facts: facts(&[("cell", compared)])?,
        told,
        command: compared.cell.command(),
    })
}

/// Two cells of the subject, run in alternation.
pub(super) struct Pair {
    pub(super) first: Compared,
    pub(super) second: Compared,
}

impl Pair {
    /// Runs `first` and `second` in turn, as often as `first` says.
    pub(super) fn run(first: Cell, second: Cell) -> Result<Self, String> {
        let (of_first, of_second) = (first.prepare()?, second.prepare()?);
        let (mut ones, mut twos) = (Vec::new(), Vec::new());
        for number in 1..=first.runs {
            eprintln!("  run {number} of {}: one, other", first.runs);
            // Who goes first changes, so that neither always has the warmer machine.
            if number % 2 == 1 {
                ones.push(first.run_subject(&of_first)?);
                twos.push(second.run_subject(&of_second)?);
            } else {
                twos.push(second.run_subject(&of_second)?);
                ones.push(first.run_subject(&of_first)?);
            }
        }
        let compared = |cell: Cell, subject| Compared {
            cell,
            subject,
            peer: Vec::new(),
        };
        Ok(Self {
            first: compared(first, ones),
            second: compared(second, twos),
        })
    }

    /// `value` of the medians of a rate of both, and of each pair of neighbouring runs.
    pub(super) fn outcome(
        &self,
        rate: impl Fn(&Measured) -> f64,
        value: impl Fn(f64, f64) -> f64,
    ) -> Result<Outcome, String> {
        let rates = |compared: &Compared| compared.subject.iter().map(&rate).collect::<Vec<_>>();
        let (ones, twos) = (rates(&self.first), rates(&self.second));
        let each: Vec<f64> = ones.iter().zip(&twos).map(|(a, b)| value(*a, *b)).collect();
        let (one, two) = (Spread::of(&ones), Spread::of(&twos));
        let each = (
            each.iter().copied().fold(f64::INFINITY, f64::min),
            each.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        let all: Vec<Measured> = [&self.first.subject[..], &self.second.subject[..]].concat();
        Ok(Outcome {
            value: value(one.median, two.median),
            spread: each,
            samples: BTreeMap::from([("first_per_s".into(), ones), ("second_per_s".into(), twos)]),
            checks: vec![books(&all)],
            facts: facts(&[("first", &self.first), ("second", &self.second)])?,
            told: format!("{} and {} M/s", one.millions(), two.millions()),
            command: format!(
                "{}; {}",
                self.first.cell.command(),
                self.second.cell.command()
            ),
        })
    }
}

/// The runs themselves, for the results.
fn facts(
    compared: &[(&str, &Compared)],
) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let pairs = compared.iter().map(|(name, compared)| {
        let value = serde_json::to_value(compared).map_err(|error| error.to_string())?;
        Ok(((*name).to_owned(), value))
    });
    pairs.collect()
}

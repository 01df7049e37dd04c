//! Rows of more than one core, and of the sources themselves.

use super::outcome::{Pair, all_forwarded, cell};
use super::{Effort, Outcome};
use crate::cell::{Cell, Spread};
use crate::peer::{self, Peer};
use crate::subject::Knobs;
use crate::traffic::{Source, Traffic};
use std::collections::BTreeMap;

/// Beside it what two cores of this machine are worth to testpmd: the second shares its CPU with the
/// main thread and the harness, and both share what lies behind their caches.
pub(super) fn two_workers(effort: &Effort, flows: u64, rules: u32) -> Result<Outcome, String> {
    let of = |peer, workers| Cell {
        cores: crate::side_by_side::cores(effort.core, workers),
        ..cell(effort, peer, Traffic::established(flows, true), rules)
    };
    let pair = Pair::run(of(Peer::None, 2), of(Peer::None, 1))?;
    let mut outcome = pair.outcome(|run| run.rate, |two, one| two / one)?;
    outcome.checks.push(all_forwarded(&pair.first.subject));
    let cells = [2, 1].map(|cores| of(Peer::Macswap, cores));
    let prepared = cells[0].prepare()?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..effort.runs {
        for (cell, rates) in cells.iter().zip(&mut rates) {
            rates.extend(cell.run_peer(&prepared)?.map(|run| run.rate));
        }
    }
    let [two, one] = rates.each_ref().map(|rates| Spread::of(rates).median);
    outcome.told += &format!("; testpmd macswap {:.2} x", two / one);
    for (name, rates) in ["testpmd_two_pps", "testpmd_one_pps"]
        .into_iter()
        .zip(rates)
    {
        outcome.samples.insert(name.into(), rates);
    }
    Ok(outcome)
}

/// One lane of tunnels dealt out between two workers, and two lanes of them with a worker each.
pub(super) fn steered(effort: &Effort) -> Result<Outcome, String> {
    let traffic = Traffic {
        vxlan: true,
        ..Traffic::established(100_000, true)
    };
    let of = |knobs| Cell {
        cores: crate::side_by_side::cores(effort.core, 2),
        knobs,
        ..cell(effort, Peer::None, traffic.with_source(None), 1_000)
    };
    let steered = Knobs {
        lanes: Some(1),
        lane: vec!["workers = [0, 1]".to_owned()],
        ..Knobs::default()
    };
    let pair = Pair::run(of(steered), of(Knobs::default()))?;
    // What is sent counts: a source without a pace offers more than is carried.
    pair.outcome(|run| run.sent_rate, |steered, direct| steered / direct)
}

/// testpmd on the generator and on a bare net_null, which hands out mbufs without a frame.
pub(super) fn generator_cost(effort: &Effort) -> Result<Outcome, String> {
    let traffic = Traffic::established(1_000_000, true).with_source(Some(Source::Generator));
    let bare = Traffic {
        source: Source::Bare,
        ..traffic
    };
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut told = Vec::new();
    for mode in [Peer::Macswap, Peer::Io, Peer::Rxonly] {
        for _ in 0..effort.runs {
            for (name, traffic) in [("generator", &traffic), ("bare", &bare)] {
                let setup = peer::Setup {
                    capture: std::path::Path::new(""),
                    traffic,
                    cores: &[effort.core],
                    rules: 0,
                    seconds: effort.seconds,
                };
                let measured = peer::run(mode, &setup)?.ok_or("testpmd is a peer")?;
                let series = format!("{}_{name}_pps", mode.name());
                samples.entry(series).or_default().push(measured.rate);
            }
        }
        told.push(format!(
            "{} {:.1} ns",
            mode.name(),
            cost(&samples, mode).median
        ));
    }
    let cost = cost(&samples, Peer::Rxonly);
    Ok(Outcome {
        value: cost.median,
        spread: (cost.min, cost.max),
        samples,
        told: told.join(", "),
        command: "ringfence-perf bench --only generator-cost".to_owned(),
        ..Outcome::default()
    })
}

/// Nanoseconds that a frame of the generator costs more than one without a frame in it.
fn cost(samples: &BTreeMap<String, Vec<f64>>, mode: Peer) -> Spread {
    let of = |name: &str| samples.get(&format!("{}_{name}_pps", mode.name()));
    let (Some(with), Some(without)) = (of("generator"), of("bare")) else {
        return Spread::default();
    };
    let pairs = with.iter().zip(without);
    let each: Vec<f64> = pairs
        .map(|(with, without)| 1e9 / with - 1e9 / without)
        .collect();
    Spread::of(&each)
}

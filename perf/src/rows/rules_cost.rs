//! Rows of what more rules cost: nothing to a packet of a known flow, little to a new flow.

use super::outcome::{Pair, cell};
use super::{Effort, Outcome};
use crate::cell::Cell;
use crate::peer::Peer;
use crate::subject::Knobs;
use crate::traffic::Traffic;

const FEW: u32 = 10;
const MANY: u32 = 100_000;

/// Of the rates with many and with few rules, how much longer a packet takes, in per cent.
fn more_percent(many: f64, few: f64) -> f64 {
    (few / many - 1.0) * 100.0
}

pub(super) fn packet(effort: &Effort) -> Result<Outcome, String> {
    let of = |rules| {
        cell(
            effort,
            Peer::None,
            Traffic::established(100_000, true),
            rules,
        )
    };
    Pair::run(of(MANY), of(FEW))?.outcome(|run| run.rate, more_percent)
}

pub(super) fn new_flow(effort: &Effort) -> Result<Outcome, String> {
    let of = |rules| every_packet_new(effort, rules);
    Pair::run(of(MANY), of(FEW))?.outcome(|run| run.flows_created_rate, more_percent)
}

/// Every packet a new flow, which ends by its idle timeout.
pub(super) fn every_packet_new(effort: &Effort, rules: u32) -> Cell {
    let traffic = Traffic {
        new_flow_percent: 100,
        ..Traffic::established(1, false)
    };
    Cell {
        knobs: Knobs {
            flows_max: Some(1 << 23),
            flow: vec!["idle_udp_single = \"500ms\"".to_owned()],
            ..Knobs::default()
        },
        ..cell(effort, Peer::None, traffic.with_source(None), rules)
    }
}

#[cfg(test)]
mod tests {
    use super::more_percent;

    #[test]
    fn a_tenth_less_rate_is_a_ninth_more_time() {
        assert!((more_percent(9.0, 10.0) - 100.0 / 9.0).abs() < 1e-9);
        assert_eq!(more_percent(10.0, 10.0), 0.0);
    }
}

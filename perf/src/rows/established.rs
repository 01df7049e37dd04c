//! Rows of established flows: against testpmd and OVS-DPDK, against fewer flows, against IPv4.

use super::outcome::{Pair, cell, ratio};
use super::{Check, Effort, Outcome};
use crate::cell::Cell;
use crate::peer::Peer;
use crate::subject::{Knobs, Measured};
use crate::traffic::{Family, Frame, Source, Traffic};
use std::collections::BTreeMap;

const THOUSAND: u64 = 1_000;
const MILLION: u64 = 1_000_000;
const TEN_MILLION: u64 = 10_000_000;
/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

pub(super) fn thousand(effort: &Effort) -> Result<Outcome, String> {
    let traffic = Traffic::established(THOUSAND, true);
    ratio(&cell(effort, Peer::Macswap, traffic, 10).run()?)
}

pub(super) fn million(effort: &Effort) -> Result<Outcome, String> {
    let traffic = Traffic::established(MILLION, true);
    let compared = cell(effort, Peer::Macswap, traffic, 10_000).run()?;
    let mut outcome = ratio(&compared)?;
    outcome.checks.push(Check {
        what: "no record is shed".to_owned(),
        holds: compared.subject.iter().all(|run| run.shed_records == 0),
    });
    Ok(outcome)
}

pub(super) fn imix(effort: &Effort) -> Result<Outcome, String> {
    let traffic = Traffic {
        frame: Frame::Imix,
        ..Traffic::established(100_000, true)
    };
    ratio(&cell(effort, Peer::Macswap, traffic, 1_000).run()?)
}

pub(super) fn first_look(peer: Peer, effort: &Effort) -> Result<Outcome, String> {
    let traffic = Traffic::established(100_000, false);
    ratio(&cell(effort, peer, traffic, 10).run()?)
}

/// Both on frames that are written in place, as a NIC does: half of the time of our packet is
/// `net_pcap`'s copy out of its pool otherwise.
pub(super) fn beside_ovs(effort: &Effort) -> Result<Outcome, String> {
    beside_ovs_on(effort, Source::Generator)
}

pub(super) fn beside_ovs_on_a_file(effort: &Effort) -> Result<Outcome, String> {
    beside_ovs_on(effort, Source::Pcap)
}

fn beside_ovs_on(effort: &Effort, source: Source) -> Result<Outcome, String> {
    let traffic = Traffic::established(100_000, true).with_source(Some(source));
    ratio(&cell(effort, Peer::Ovs, traffic, 1_000).run()?)
}

/// The subject alone on frames of the generator, whose cost does not grow with the flows.
fn generated(effort: &Effort, flows: u64, family: Family, rules: u32) -> Cell {
    let traffic = Traffic {
        family,
        ..Traffic::established(flows, true)
    };
    let traffic = traffic.with_source(Some(Source::Generator));
    let knobs = Knobs {
        // Ten million is what is promised for 2 GiB, not the next power of two.
        flows_max: (flows == TEN_MILLION).then_some(TEN_MILLION),
        ..Knobs::default()
    };
    Cell {
        knobs,
        ..cell(effort, Peer::None, traffic, rules)
    }
}

pub(super) fn ten_million(effort: &Effort) -> Result<Outcome, String> {
    let pair = Pair::run(
        generated(effort, TEN_MILLION, Family::Ipv4, 10),
        generated(effort, THOUSAND, Family::Ipv4, 10),
    )?;
    let mut outcome = pair.outcome(|run| run.rate, |many, few| many / few)?;
    let all_in = |run: &Measured| run.flows_established == TEN_MILLION && run.flows_evicted == 0;
    outcome.checks.push(Check {
        what: "all 10M flows are in the cache, answered, and none was evicted".to_owned(),
        holds: pair.first.subject.iter().all(all_in),
    });
    Ok(outcome)
}

/// Resident memory with room for ten million flows, less that with room for sixteen.
pub(super) fn memory(effort: &Effort) -> Result<Outcome, String> {
    let once = Effort {
        runs: 1,
        seconds: 1,
        ..*effort
    };
    let with_room = |flows_max: u64| {
        let mut cell = generated(&once, 16, Family::Ipv4, 10);
        cell.knobs.flows_max = Some(flows_max);
        cell
    };
    let pair = Pair::run(with_room(TEN_MILLION), with_room(16))?;
    let resident = |runs: &[Measured]| runs.first().map_or(0, |run| run.resident_bytes) as f64;
    let (large, small) = (
        resident(&pair.first.subject),
        resident(&pair.second.subject),
    );
    let gib = (large - small) / GIB;
    Ok(Outcome {
        value: gib,
        spread: (gib, gib),
        samples: BTreeMap::from([("resident_bytes".into(), vec![large, small])]),
        told: format!("{:.1} bytes a flow", (large - small) / TEN_MILLION as f64),
        command: pair.first.cell.command(),
        ..Outcome::default()
    })
}

fn six_over_four(
    effort: &Effort,
    flows: u64,
    rules: u32,
    source: Option<Source>,
) -> Result<Outcome, String> {
    let of = |family| {
        let base = generated(effort, flows, family, rules);
        Cell {
            traffic: base.traffic.with_source(source),
            ..base
        }
    };
    let pair = Pair::run(of(Family::Ipv6), of(Family::Ipv4))?;
    let mut outcome = pair.outcome(|run| run.rate, |six, four| six / four)?;
    outcome
        .checks
        .push(super::outcome::all_forwarded(&pair.first.subject));
    Ok(outcome)
}

pub(super) fn ipv6_thousand(effort: &Effort) -> Result<Outcome, String> {
    six_over_four(effort, THOUSAND, 10, None)
}

pub(super) fn ipv6_million(effort: &Effort) -> Result<Outcome, String> {
    six_over_four(effort, MILLION, 10_000, None)
}

pub(super) fn ipv6_ten_million(effort: &Effort) -> Result<Outcome, String> {
    six_over_four(effort, TEN_MILLION, 10, Some(Source::Generator))
}

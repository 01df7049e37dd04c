//! Rows under load that is not established traffic: new flows, a scan, policies.

use super::outcome::{Pair, all_forwarded, books, cell};
use super::rules_cost::every_packet_new;
use super::{Check, Effort, Outcome};
use crate::cell::{Cell, Spread};
use crate::peer::Peer;
use crate::subject::{Knobs, Measured};
use crate::traffic::{Source, Traffic};
use std::collections::BTreeMap;

/// Frames of the scan offered a second.
const SCAN_PER_SECOND: u64 = 10_000_000;
/// Flows beside the scan.
const SCANNED_BESIDE: u64 = 1_000_000;
/// Flows that their cache holds, with a scan and without.
const SCANNED_FLOWS_MAX: u64 = 1 << 22;
/// An adoption takes this long at most, p99, milliseconds.
const ADOPTION_MS_MAX: f64 = 2.0;

pub(super) fn new_flows(effort: &Effort) -> Result<Outcome, String> {
    let compared = every_packet_new(effort, 100_000).run()?;
    let runs = &compared.subject;
    let created: Vec<f64> = runs.iter().map(|run| run.flows_created_rate).collect();
    let created_millions: Vec<f64> = created.iter().map(|rate| rate / 1e6).collect();
    let spread = Spread::of(&created_millions);
    let none = |what: &str, of: fn(&Measured) -> u64| Check {
        what: what.to_owned(),
        holds: runs.iter().all(|run| of(run) == 0),
    };
    let shed: u64 = runs.iter().map(|run| run.shed_records).sum();
    Ok(Outcome {
        value: spread.median,
        spread: (spread.min, spread.max),
        samples: BTreeMap::from([("flows_per_s".into(), created)]),
        checks: vec![
            books(runs),
            all_forwarded(runs),
            none("no entry is taken for another flow", |run| {
                run.flows_evicted
            }),
            none("no new flow finds the table full", |run| {
                run.flow_table_full
            }),
        ],
        told: format!("{shed} records shed in all runs"),
        command: compared.cell.command(),
        facts: serde_json::Map::from_iter([("runs".to_owned(), serde_json::json!(runs))]),
    })
}

/// Both with the same cache, and both behind the first records of flows that were opened all at once: else the
/// one beside a scan, which begins later, would alone be measured while a million records are told.
pub(super) fn scan(effort: &Effort) -> Result<Outcome, String> {
    let of = |scan_per_second| {
        let traffic = Traffic {
            scan_per_second,
            ..Traffic::established(SCANNED_BESIDE, true)
        };
        let traffic = traffic.with_source(Some(Source::Generator));
        let knobs = Knobs {
            flows_max: Some(SCANNED_FLOWS_MAX),
            behind_first_records: true,
            ..Knobs::default()
        };
        Cell {
            knobs,
            ..cell(effort, Peer::None, traffic, 1_000)
        }
    };
    let pair = Pair::run(of(SCAN_PER_SECOND), of(0))?;
    let established = |run: &Measured| run.established_rate.unwrap_or(0.0);
    let mut outcome = pair.outcome(established, |attacked, alone| attacked / alone)?;
    let attacked = &pair.first.subject;
    let scanned: Vec<f64> = attacked.iter().filter_map(|run| run.scan_rate).collect();
    let scan = |run: &Measured| run.generated.map_or(0, |counts| counts.scan);
    let of_denied = |run: &Measured| {
        let dropped: u64 = run.drops.values().sum();
        run.drops.get("denied-by-default") == Some(&dropped) && dropped == scan(run)
    };
    outcome.checks.extend([
        Check {
            what: "the scan arrives at 10 M/s".to_owned(),
            holds: scanned
                .iter()
                .all(|rate| *rate > 0.98 * SCAN_PER_SECOND as f64),
        },
        Check {
            what: "all established flows are still in the cache, answered".to_owned(),
            holds: attacked
                .iter()
                .all(|run| run.flows_established >= SCANNED_BESIDE),
        },
        Check {
            what: "what is dropped is the scan, denied by default, to the packet".to_owned(),
            holds: attacked.iter().all(of_denied),
        },
        Check {
            what: "the scan is in the records to the packet".to_owned(),
            holds: attacked.iter().all(|run| run.scan_told == Some(scan(run))),
        },
    ]);
    outcome.told += &format!("; scan {} M/s", Spread::of(&scanned).millions());
    outcome.samples.insert("scan_per_s".into(), scanned);
    Ok(outcome)
}

/// Two policies in turn that differ in what one rule in a hundred does; what differs goes over. On
/// frames written in place, as a NIC does: `net_pcap` copies each out of a pool of 77 MB, which waits
/// for the very memory that preparing a policy takes.
pub(super) fn publish(effort: &Effort) -> Result<Outcome, String> {
    publish_on(effort, Source::Generator)
}

pub(super) fn publish_on_a_file(effort: &Effort) -> Result<Outcome, String> {
    publish_on(effort, Source::Pcap)
}

fn publish_on(effort: &Effort, source: Source) -> Result<Outcome, String> {
    let traffic = Traffic::established(100_000, true).with_source(Some(source));
    let of = |publishes_per_second| Cell {
        publishes_per_second,
        ..cell(effort, Peer::None, traffic, 100_000)
    };
    let pair = Pair::run(of(10.0), of(0.0))?;
    let mut outcome = pair.outcome(|run| run.rate, |disturbed, alone| disturbed / alone)?;
    let publishing = pair
        .first
        .subject
        .iter()
        .filter_map(|run| run.publishing.as_ref());
    let publishing: Vec<_> = publishing.collect();
    let all: Vec<u64> = publishing
        .iter()
        .flat_map(|p| p.adopted_ns.iter().copied())
        .collect();
    let round: Vec<u64> = publishing
        .iter()
        .flat_map(|p| p.round_trip_ns.iter().copied())
        .collect();
    let ms = |samples: &[u64], percent| crate::subject::percentile(samples, percent) as f64 / 1e6;
    let p99 = ms(&all, 99);
    outcome.checks.extend([
        all_forwarded(&pair.first.subject),
        Check {
            what: format!("publish to last adoption p99 is {ADOPTION_MS_MAX} ms or less"),
            holds: p99 <= ADOPTION_MS_MAX && !all.is_empty(),
        },
        Check {
            what: "no packet is forwarded under a superseded verdict after adoption".to_owned(),
            holds: publishing.iter().all(|p| p.superseded_after == 0),
        },
    ]);
    outcome.told += &format!(
        "; {} publications of {} bytes, adopted p50 {:.3} p99 {p99:.3} max {:.3} ms, round trip p50 {:.1} ms",
        all.len(),
        publishing.first().map_or(0, |p| p.change_bytes),
        ms(&all, 50),
        ms(&all, 100),
        ms(&round, 50)
    );
    let as_f64 = |samples: Vec<u64>| samples.into_iter().map(|ns| ns as f64).collect();
    outcome.samples.insert("adopted_ns".into(), as_f64(all));
    outcome
        .samples
        .insert("round_trip_ns".into(), as_f64(round));
    Ok(outcome)
}

//! Drains the records and reads the counters while the subject runs.

use super::link::Link;
use super::process::Running;
use super::publisher::Turns;
use super::{Measured, Publishing, Setup, publisher};
use crate::generator::Counts;
use crate::traffic::SCANNER;
use abi::record::FlowRecord;
use abi::ring::Consumer;
use abi::shm::RegionView;
use abi::{CoreCounters, Reason};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the caches may take to fill before measuring begins.
const WARM_UP_MAX: Duration = Duration::from_secs(60);
/// How long it may take until the last packet of a scan is in a record: the idle timeout of an
/// unanswered UDP flow, and some.
const SCAN_TOLD_MAX: Duration = Duration::from_secs(35);
/// How long new flows come before their pace is steady.
const STEADY: Duration = Duration::from_secs(3);
/// So many flows, all opened within a second or two, take seconds to tell their first records, all at
/// once: what is measured begins behind that.
const TELLS_LONG: u64 = 4_000_000;
/// How long a core may take to commit its counters, with room for a busy machine.
const COMMIT: Duration = Duration::from_millis(300);
/// Records read at once.
const BATCH_RECORDS: usize = 1024;

/// The rings of all workers.
struct Drain {
    consumers: Vec<Consumer>,
    batch: Vec<FlowRecord>,
    records: u64,
    /// Whether packets of the scan are counted in them.
    counts_scan: bool,
    scan_packets: u64,
}

impl Drain {
    fn attach(view: &RegionView, counts_scan: bool) -> Result<Self, String> {
        let consumers = (0..view.workers()).map(|worker| {
            let consumer = view.attach(worker, std::process::id());
            consumer
                .ok_or("the region has no worker")?
                .map_err(|error| error.to_string())
        });
        Ok(Self {
            consumers: consumers.collect::<Result<_, String>>()?,
            batch: vec![zerocopy::FromZeros::new_zeroed(); BATCH_RECORDS],
            records: 0,
            counts_scan,
            scan_packets: 0,
        })
    }

    /// Reads what is there; whether there was anything.
    fn drain(&mut self) -> Result<bool, String> {
        let scanner = Ipv4Addr::from(SCANNER).to_ipv6_mapped().octets();
        let before = self.records;
        for consumer in &mut self.consumers {
            loop {
                let count = consumer.read(&mut self.batch).map_err(|e| e.to_string())?;
                if count == 0 {
                    break;
                }
                self.records += count as u64;
                if self.counts_scan {
                    let of_scan = self.batch[..count]
                        .iter()
                        .filter(|record| record.src == scanner);
                    self.scan_packets +=
                        of_scan.map(|r| r.packets_fwd + r.packets_rev).sum::<u64>();
                }
                consumer.release().map_err(|error| error.to_string())?;
            }
        }
        Ok(self.records > before)
    }

    /// Drains until `until`.
    fn drain_until(&mut self, until: Instant) -> Result<(), String> {
        while Instant::now() < until {
            if !self.drain()? {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        Ok(())
    }
}

/// Counters of all cores at about one time, and what the generator had written by then.
#[derive(Clone)]
struct Reading {
    cores: Vec<CoreCounters>,
    at: Instant,
    generated: Option<Counts>,
}

impl Reading {
    fn take(view: &RegionView, running: &Running) -> Result<Self, String> {
        let cores = (0..view.workers()).map(|worker| {
            let core = view.core(worker).ok_or("the region has no worker")?;
            core.map_err(|error| error.to_string())
        });
        let generated = running.generator.as_ref().map(|g| g.counts());
        Ok(Self {
            cores: cores.collect::<Result<_, String>>()?,
            at: Instant::now(),
            generated: generated.transpose()?,
        })
    }

    fn sum(&self, of: impl Fn(&CoreCounters) -> u64) -> u64 {
        self.cores.iter().map(of).sum()
    }

    /// Per second by each core's own clock, all cores together.
    fn rate_since(&self, before: &Self, of: impl Fn(&CoreCounters) -> u64) -> f64 {
        let pairs = before.cores.iter().zip(&self.cores);
        let rates = pairs.map(|(before, now)| {
            let ns = now.committed_ns.saturating_sub(before.committed_ns);
            of(now).saturating_sub(of(before)) as f64 * 1e9 / ns.max(1) as f64
        });
        rates.sum()
    }

    /// Per second of what the generator wrote.
    fn generated_since(&self, before: &Self, of: impl Fn(&Counts) -> u64) -> Option<f64> {
        let (before_counts, counts) = (before.generated?, self.generated?);
        let seconds = (self.at - before.at).as_secs_f64();
        Some(of(&counts).saturating_sub(of(&before_counts)) as f64 / seconds)
    }
}

/// Warms up, measures, and reads everything there is to know at the end.
pub(super) fn measure(
    setup: &Setup<'_>,
    running: &Running,
    link: Link,
) -> Result<Measured, String> {
    let view = link.view.clone();
    let mut drain = Drain::attach(&view, setup.traffic.scan_per_second > 0)?;
    let turns = match setup.images {
        Some(images) if setup.publishes_per_second > 0.0 => Some(Turns::new(images)?),
        _ => None,
    };
    warm_up(setup, running, &view, &mut drain)?;
    let stop = &AtomicBool::new(false);
    let (readings, publishing) = std::thread::scope(|scope| {
        let pace = setup.publishes_per_second;
        let publisher = turns
            .as_ref()
            .map(|turns| scope.spawn(move || publisher::publish(link, turns, pace, stop)));
        let readings = read(setup, running, &view, &mut drain);
        stop.store(true, Ordering::Relaxed);
        // The rings are drained on: the last publication waits for cores that record.
        while publisher
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            drain.drain()?;
            std::thread::sleep(Duration::from_micros(500));
        }
        let publishing = publisher.map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("the publisher panicked".into()))
        });
        Ok::<_, String>((readings?, publishing.transpose()?))
    })?;
    let publishing = match publishing {
        Some(publishing) => Some(superseded(publishing, running, &view, &mut drain)?),
        None => None,
    };
    if setup.traffic.scan_per_second > 0 {
        settle_scan(running, &mut drain)?;
    }
    let last = Reading::take(&view, running)?;
    let mut measured = figures(&readings, &last)?;
    measured.scan_told = drain.counts_scan.then_some(drain.scan_packets);
    measured.publishing = publishing;
    measured.records_read = drain.records;
    measured.resident_bytes = running.resident_bytes();
    Ok(measured)
}

/// Until every flow is in a cache, and answered where replies come, and many have told their first record; or, where new ones come all the
/// time, until they come at a steady pace.
fn warm_up(
    setup: &Setup<'_>,
    running: &Running,
    view: &RegionView,
    drain: &mut Drain,
) -> Result<(), String> {
    let steady = setup.traffic.new_flow_percent > 0 || setup.traffic.scan_per_second > 0;
    let wanted = setup.traffic.flows * setup.lanes() as u64;
    let began = Instant::now();
    loop {
        drain.drain_until(Instant::now() + Duration::from_millis(200))?;
        let reading = Reading::take(view, running)?;
        let cached = reading.sum(|core| match setup.traffic.both_directions {
            true => core.flows_established,
            false => core.flows_cached,
        });
        let waited = began.elapsed();
        let told = reading.sum(|core| core.records + core.shed_records);
        let waits_for_records = wanted >= TELLS_LONG || setup.knobs.behind_first_records;
        let is_settled = !waits_for_records || told >= wanted;
        let is_full = cached >= wanted && is_settled || setup.traffic.new_flow_percent == 100;
        if is_full && (!steady || waited > STEADY) {
            return Ok(());
        }
        if waited > WARM_UP_MAX {
            let log = running.log();
            return Err(format!(
                "{cached} of {wanted} flows are in the caches after {waited:?}: {log}"
            ));
        }
    }
}

/// A reading at the beginning and one every second.
fn read(
    setup: &Setup<'_>,
    running: &Running,
    view: &RegionView,
    drain: &mut Drain,
) -> Result<Vec<Reading>, String> {
    let mut readings = vec![Reading::take(view, running)?];
    let began = Instant::now();
    for second in 1..=setup.seconds {
        drain.drain_until(began + Duration::from_secs(u64::from(second)))?;
        readings.push(Reading::take(view, running)?);
    }
    Ok(readings)
}

/// Waits for two commits after the last adoption and sees whether anything was still forwarded
/// under an old verdict in between.
fn superseded(
    mut publishing: Publishing,
    running: &Running,
    view: &RegionView,
    drain: &mut Drain,
) -> Result<Publishing, String> {
    let mut read = || {
        drain.drain_until(Instant::now() + COMMIT)?;
        Ok::<_, String>(Reading::take(view, running)?.sum(|core| core.superseded_packets))
    };
    publishing.superseded_packets = read()?;
    publishing.superseded_after = read()? - publishing.superseded_packets;
    Ok(publishing)
}

/// Ends the scan and reads records until every packet of it is told, or the longest wait is over.
fn settle_scan(running: &Running, drain: &mut Drain) -> Result<(), String> {
    let Some(generator) = &running.generator else {
        return Ok(());
    };
    generator.stop_scan()?;
    drain.drain_until(Instant::now() + COMMIT)?;
    let written = generator.counts()?.scan;
    let began = Instant::now();
    while drain.scan_packets < written && began.elapsed() < SCAN_TOLD_MAX {
        drain.drain_until(Instant::now() + COMMIT)?;
    }
    // A commit more, so that the counters speak of a time after the scan.
    drain.drain_until(Instant::now() + COMMIT)
}

/// What came to a core, from its ports and from other workers, less what became of it: 0, at every
/// commit of every core.
fn unaccounted(core: &CoreCounters) -> i128 {
    let came = core.rx_packets
        + core.steered_in_packets
        + core.returned_in_packets
        + core.returned_answers;
    let went = core.tx_packets
        + core.mirror_packets
        + core.dropped_packets()
        + core.steered_out_packets
        + core.returned_out_packets;
    (i128::from(came) - i128::from(went)).abs()
}

fn figures(readings: &[Reading], last: &Reading) -> Result<Measured, String> {
    let [first, .., end] = readings else {
        return Err("the run was shorter than a second".into());
    };
    let pairs = readings.iter().zip(&readings[1..]);
    let rates: Vec<f64> = pairs
        .map(|(before, now)| now.rate_since(before, |core| core.rx_packets))
        .collect();
    let received = last.sum(|core| core.rx_packets);
    let told = last.sum(|core| core.recorded_packets + core.cached_packets + core.shed_packets);
    let mut measured = Measured {
        rate: crate::median(&mut rates.clone()),
        sent_rate: end.rate_since(first, |core| core.tx_packets),
        readings: rates,
        established_rate: end.generated_since(first, Counts::established),
        scan_rate: end.generated_since(first, |counts| counts.scan),
        fresh_rate: end.generated_since(first, |counts| counts.fresh),
        forwarded: last.sum(|core| core.tx_packets) as f64 / received.max(1) as f64,
        unaccounted: last.cores.iter().map(unaccounted).sum(),
        unrecorded: i128::from(last.sum(|core| core.flow_packets)) - i128::from(told),
        flows_cached: last.sum(|core| core.flows_cached),
        flows_established: last.sum(|core| core.flows_established),
        flows_created: last.sum(|core| core.flows_created),
        flows_evicted: last.sum(|core| core.flows_evicted),
        flows_created_rate: end.rate_since(first, |core| core.flows_created),
        records: last.sum(|core| core.records),
        shed_records: last.sum(|core| core.shed_records),
        flow_table_full: last.sum(|core| core.flow_table_full),
        generated: last.generated,
        ..Measured::default()
    };
    for (code, name) in Reason::ALL
        .iter()
        .map(|reason| (reason.byte(), reason.name()))
    {
        let dropped = last.sum(|core| core.drops[usize::from(code)]);
        if dropped > 0 {
            measured.drops.insert(name.to_owned(), dropped);
        }
    }
    Ok(measured)
}

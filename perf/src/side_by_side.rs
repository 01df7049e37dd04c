//! One cell from the command line.

use crate::cell::Cell;
use crate::machine::Machine;
use crate::peer::Peer;
use crate::subject::Knobs;
use crate::traffic::{Family, Frame, Source, Traffic};

/// What `side-by-side` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What the subject is compared with; `testpmd` is `macswap`.
    #[arg(long, value_enum, default_value_t = Peer::Macswap)]
    peer: Peer,
    /// Established flows of each source.
    #[arg(long, default_value_t = 100_000)]
    flows: u64,
    /// Rules of the policy.
    #[arg(long, default_value_t = 10)]
    rules: u32,
    /// Of a hundred frames, so many are the first of a new flow.
    #[arg(long, default_value_t = 0)]
    new_flow_percent: u8,
    /// Single-packet flows a second of a scan, from one source to many, which the policy denies.
    #[arg(long, default_value_t = 0)]
    scan_per_second: u64,
    /// Policies published a second while the subject is measured.
    #[arg(long, default_value_t = 0.0)]
    publishes_per_second: f64,
    /// Sizes of frames, with FCS.
    #[arg(long, value_enum, default_value_t = Frame::Small)]
    frame: Frame,
    /// IP version.
    #[arg(long, value_enum, default_value_t = Family::Ipv4)]
    family: Family,
    /// Where frames come from; by default a capture where it can hold them, else the generator.
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Replies are there too.
    #[arg(long)]
    both_directions: bool,
    /// Everything inside one VXLAN tunnel.
    #[arg(long)]
    vxlan: bool,
    /// Polling cores, each with a source of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    workers: u8,
    /// Lanes of the subject, where there are not as many as workers.
    #[arg(long)]
    lanes: Option<u8>,
    /// Seconds that are measured, of each run.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Alternating runs of each.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// CPU of the polling core.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Flows that each core's cache holds.
    #[arg(long)]
    flows_max: Option<u64>,
    /// Measure only when every flow has told its first record, some seconds after all were opened at once.
    #[arg(long)]
    behind_first_records: bool,
    /// A line of the subject's `[flow]`, such as `idle_udp_single = "1s"`; may be repeated.
    #[arg(long)]
    flow: Vec<String>,
    /// A line of each `[[lane]]` of the subject; may be repeated.
    #[arg(long)]
    lane: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the cell and prints it.
///
/// # Errors
/// A sentence.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let machine = Machine::read();
    let compared = cell(options).run()?;
    let text = if options.json {
        compared.json(&machine)?
    } else {
        compared.table()
    };
    println!("{text}");
    Ok(())
}

fn cell(options: &Options) -> Cell {
    let traffic = Traffic {
        flows: options.flows,
        both_directions: options.both_directions,
        new_flow_percent: options.new_flow_percent,
        scan_per_second: options.scan_per_second,
        family: options.family,
        frame: options.frame,
        vxlan: options.vxlan,
        source: Source::Pcap,
    };
    Cell {
        peer: options.peer,
        traffic: traffic.with_source(options.source),
        rules: options.rules,
        publishes_per_second: options.publishes_per_second,
        cores: cores(options.core, options.workers),
        runs: options.runs.max(1),
        seconds: options.seconds.max(1),
        knobs: Knobs {
            flows_max: options.flows_max,
            behind_first_records: options.behind_first_records,
            lanes: options.lanes,
            flow: options.flow.clone(),
            lane: options.lane.clone(),
        },
    }
}

/// `workers` CPUs, from `core` on and back to the first.
pub(crate) fn cores(core: usize, workers: u8) -> Vec<usize> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = usize::from(workers);
    (0..count)
        .map(|number| (core + number) % cpus.max(count))
        .collect()
}

//! Runs the dataplane beside its peers and prints ratios.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "figures for people, not sizes of memory"
)]

mod machine;
mod peer;
mod report;
mod source;
mod subject;

use clap::{Parser, Subcommand};
use peer::Peer;
use report::{Cell, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of an mbuf, headroom included, for subject and peer alike.
pub(crate) const MBUF_BYTES: u32 = 384;
/// Mbufs beside those that hold the capture.
pub(crate) const SPARE_MBUFS: u32 = 16_384;

/// Measures Ringfence beside what a user would pick instead, on this machine.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Job>,
}

#[derive(Subcommand)]
enum Job {
    /// The first look: inline against testpmd macswap and 5tswap, 100,000 flows, 64-byte frames.
    FirstLook {
        /// Alternating runs of each.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Seconds of each run.
        #[arg(long, default_value_t = 6)]
        seconds: u32,
        /// Where the results are kept; without it they are only printed.
        #[arg(long)]
        results: Option<PathBuf>,
    },
    /// One cell: one peer, one number of flows.
    SideBySide {
        /// What testpmd does with a packet.
        #[arg(long, value_enum, default_value_t = Peer::Macswap)]
        peer: Peer,
        /// Flows; the capture has one frame of each.
        #[arg(long, default_value_t = 100_000)]
        flows: u32,
        /// Alternating runs of each.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Seconds of each run.
        #[arg(long, default_value_t = 6)]
        seconds: u32,
        /// CPU of the polling core.
        #[arg(long, default_value_t = 1)]
        core: usize,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let first_look = Job::FirstLook {
        runs: 5,
        seconds: 6,
        results: None,
    };
    match run(Arguments::parse().command.unwrap_or(first_look)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringfence-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: Job) -> Result<(), String> {
    match job {
        Job::FirstLook {
            runs,
            seconds,
            results,
        } => {
            let mut report = Report::new();
            for peer in [Peer::Macswap, Peer::FiveTupleSwap] {
                report.cells.push(cell(peer, 100_000, runs, seconds, 1)?);
            }
            println!("{}", report.table());
            if let Some(dir) = results {
                report.keep(&dir)?;
            }
            Ok(())
        }
        Job::SideBySide {
            peer,
            flows,
            runs,
            seconds,
            core,
            json,
        } => {
            let mut report = Report::new();
            report.cells.push(cell(peer, flows, runs, seconds, core)?);
            println!("{}", if json { report.json()? } else { report.table() });
            Ok(())
        }
    }
}

/// Subject and peer in alternation on the same source and the same core.
fn cell(peer: Peer, flows: u32, runs: u32, seconds: u32, core: usize) -> Result<Cell, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let capture = dir.path().join("flows.pcap");
    source::write_capture(&capture, flows, source::Family::Ipv4)
        .map_err(|error| format!("{}: {error}", capture.display()))?;
    let binary = dataplane_binary()?;
    let mut cell = Cell::new(peer, flows, seconds);
    for number in 0..runs {
        eprintln!(
            "{} of {runs}: {flows} flows, ringfence then testpmd {}",
            number + 1,
            peer.name()
        );
        let setup = subject::Setup {
            binary: &binary,
            capture: &capture,
            frames: flows,
            core,
            policy: Some(TEN_RULES),
            seconds,
        };
        cell.subject.push(subject::run(&setup)?);
        cell.peer
            .push(peer::run(peer, &capture, flows, core, seconds)?);
    }
    Ok(cell)
}

/// Ten rules that allow the generated flows by the last of them.
const TEN_RULES: &str = include_str!("ten_rules.toml");

fn dataplane_binary() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.parent().map(|dir| dir.join("ringfence-dataplane"));
    beside.filter(|path| Path::is_file(path)).ok_or_else(|| {
        "ringfence-dataplane is not beside this program; build it with `cargo build --release`"
            .to_owned()
    })
}

/// Mbufs of the pool that holds a capture of `frames`.
pub(crate) fn pool_mbufs(frames: u32) -> u32 {
    // As the dataplane sizes its pool: what is spare, what the capture needs, what two ports hold.
    SPARE_MBUFS + frames + 2 * 2048
}

/// The middle of the samples; the lower of the two middles.
pub(crate) fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples
        .get(samples.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

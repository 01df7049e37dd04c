//! Runs the dataplane beside its peers and prints ratios.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "figures for people, not sizes of memory"
)]

mod bench;
mod capture;
mod cell;
mod first_look;
mod generator;
mod machine;
mod micro;
mod peer;
mod rows;
mod rules;
mod side_by_side;
mod source;
mod subject;
mod traffic;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Mbufs beside those that hold the capture.
pub(crate) const SPARE_MBUFS: u32 = 16_384;

/// Measures Ringfence beside what a user would pick instead, on this machine.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

/// One module per job: its options and a `run`.
#[derive(Subcommand)]
enum Job {
    /// Every row of a profile, with its target and whether it holds; what `make bench` runs.
    Bench(bench::Options),
    /// The first look: inline against testpmd macswap and 5tswap, 100,000 flows, 64-byte frames.
    FirstLook(first_look::Options),
    /// One cell: one peer, one kind of traffic, one policy.
    SideBySide(side_by_side::Options),
    /// Instructions a packet, against the recorded ones; fails where they differ by more than 5 %.
    Instructions(micro::instructions::Options),
    /// Classification alone, random keys; prints keys a second, permitted, keys, microseconds to compile.
    Classify(micro::classify::Options),
    /// Flow lookup alone, in bursts of 32; prints lookups a second, hits, lookups, flows.
    Lookup(micro::lookup::Options),
    /// The work that `instructions` counts, one kind of it; prints the packets counted.
    Work(micro::work::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().job {
        Job::Bench(options) => bench::run(&options),
        Job::FirstLook(options) => first_look::run(&options),
        Job::SideBySide(options) => side_by_side::run(&options),
        Job::Instructions(options) => micro::instructions::run(&options),
        Job::Classify(options) => micro::classify::run(&options),
        Job::Lookup(options) => micro::lookup::run(&options),
        Job::Work(options) => micro::work::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringfence-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The middle of the samples; the lower of the two middles.
pub(crate) fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples
        .get(samples.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

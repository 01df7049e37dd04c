//! The first look: inline against testpmd macswap and 5tswap, 100,000 flows, ten rules.

use crate::bench;
use std::path::PathBuf;

/// What `first-look` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Alternating runs of each.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Where the results are kept; without it they are only printed.
    #[arg(long)]
    results: Option<PathBuf>,
}

/// Runs both rows and prints them.
///
/// # Errors
/// A sentence.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let names = ["first-look-macswap", "first-look-5tswap"];
    bench::run(&bench::Options::of_rows(
        &names,
        options.runs,
        options.seconds,
        options.results.clone(),
    ))
}

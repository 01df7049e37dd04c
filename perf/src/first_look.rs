//! The first look: inline against testpmd macswap and 5tswap.

use crate::peer::Peer;
use crate::report::Report;
use crate::side_by_side::cell;
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

/// Runs both cells and prints them.
///
/// # Errors
/// A sentence.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut report = Report::new();
    for peer in [Peer::Macswap, Peer::FiveTupleSwap] {
        let cell = cell(peer, 100_000, options.runs, options.seconds, 1)?;
        report.cells.push(cell);
    }
    println!("{}", report.table());
    if let Some(dir) = &options.results {
        report.keep(dir)?;
    }
    Ok(())
}

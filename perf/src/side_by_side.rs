//! One cell: subject and peer in alternation on the same source and the same core.

use crate::peer::Peer;
use crate::report::{Cell, Report};
use crate::rows::{Effort, Outcome};
use crate::{peer, source, subject};
use std::path::{Path, PathBuf};

/// What `side-by-side` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
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
}

/// Runs the cell and prints it.
///
/// # Errors
/// A sentence.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut report = Report::new();
    report.cells.push(cell(
        options.peer,
        options.flows,
        options.runs,
        options.seconds,
        options.core,
    )?);
    let text = if options.json {
        report.json()?
    } else {
        report.table()
    };
    println!("{text}");
    Ok(())
}

/// Subject and peer in alternation on the same source and the same core.
pub(crate) fn cell(
    peer: Peer,
    flows: u32,
    runs: u32,
    seconds: u32,
    core: usize,
) -> Result<Cell, String> {
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

/// The dataplane that was built with this program.
pub(crate) fn dataplane_binary() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.parent().map(|dir| dir.join("ringfence-dataplane"));
    beside.filter(|path| Path::is_file(path)).ok_or_else(|| {
        "ringfence-dataplane is not beside this program; build it with `cargo build --release`"
            .to_owned()
    })
}

/// The first look as a row.
pub(crate) fn first_look_row(peer: Peer, effort: &Effort) -> Result<Outcome, String> {
    let cell = cell(peer, 100_000, effort.runs, effort.seconds, effort.core)?;
    Ok(cell.outcome())
}

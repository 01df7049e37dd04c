//! `ringfence policy simulate` and `ringfence policy suggest`

use super::FILTER_HELP;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `ringfence policy simulate`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
Runs every conversation of history through the draft, by the code that enforces, and tells what stays allowed, what would
newly be denied or allowed, and what is uncertain and why. Names are those of the time. Nothing is sampled; what is
uncertain is told apart and never counted as certain.

Exits 0 where the answer to --fail-on is no, 1 where it is yes:
  denied      something that is certain would newly be denied (default)
  uncertain   the same, or something that is uncertain may be
  changed     anything that is certain would be decided otherwise, in force or in test
  never       0 whatever is found

Examples:
  ringfence policy simulate draft.toml --since 30d
  ringfence policy simulate draft.toml --enforce --filter 'dst segment shop-db'
  ringfence policy simulate 3f9c0a --since 7d               an earlier revision
  ringfence policy simulate draft.toml --capture day.pcap   over a recording; needs no appliance

{FILTER_HELP}"))]
pub struct SimulateArgs {
    /// Policy file (TOML), or a revision from `ringfence policy log`
    pub draft: PathBuf,
    /// Which part of history.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// List at most so many conversations; 0 all [default: 50]
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
    /// List also what would not change
    #[arg(long)]
    pub unchanged: bool,
    /// Judge as if every segment of the draft were in enforce
    #[arg(long)]
    pub enforce: bool,
    /// What to exit 1 for
    #[arg(long, value_name = "WHAT", default_value = "denied")]
    pub fail_on: FailOn,
}

/// Where the traffic comes from.
#[derive(Args, Debug)]
pub struct PeriodArgs {
    /// From this time on, or so long before now: 2026-01-31T12:00:00Z, 30d, 12h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until this time, written alike [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only what matches, for example 'dst workload web-1'
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Replay this capture in a private appliance and take its flows instead of history
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// With --capture: judge it by this policy while it is replayed, as if that had been in force
    #[arg(long, value_name = "FILE", requires = "capture")]
    pub policy: Option<PathBuf>,
}

/// What a simulation exits 1 for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Something certain would newly be denied
    Denied,
    /// The same, or something uncertain may be
    Uncertain,
    /// Anything certain would be decided otherwise
    Changed,
    /// Nothing
    Never,
}

/// `ringfence policy suggest`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
Looks at what was seen and no rule of the policy in force covers, groups its ends by labels and by behaviour, and writes
segments, services and rules for it behind the policy's own text, with the evidence as comments. What looks like a scan,
what nothing answered and what cannot be enforced is left out and listed. Changes nothing. Once what it proposes is in
force, it proposes nothing for the same traffic.

New segments are in test: nothing is denied until you say so.

Examples:
  ringfence policy suggest --since 30d --out draft.toml
  ringfence policy simulate draft.toml --since 30d --enforce      what it would deny in the end
  ringfence policy suggest --name-prefix shop- --filter 'segment shop-*'
  ringfence policy suggest --capture day.pcap --out draft.toml    from a recording; needs no appliance

{FILTER_HELP}"))]
pub struct SuggestArgs {
    /// Which part of history.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// Before the name of every new segment, service and rule
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub name_prefix: String,
    /// Write the whole policy to this file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

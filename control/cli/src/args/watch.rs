//! `ringfence watch`

use super::life::duration;
use super::segments::QuarantineTerms;
use super::words;
use api::watch::{FindingKind, FindingSeverity};
use clap::{Args, Subcommand};
use std::time::Duration;

/// `ringfence watch`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Looks for edges that were never seen before, one host that reaches or tries many, and chains: A
reaches B over SSH, RDP, SMB, WinRM or a database, then B reaches C, each for the first time.
Without a command it prints findings as they come, until Ctrl-C.

Examples:
  ringfence watch --severity medium                    what is worth leaving your seat for
  ringfence watch list --open --since 1d
  ringfence watch show 17                              the path, the evidence, what would cut it
  ringfence watch quarantine 17                        hold the host that matters most for an hour
  ringfence watch draft 17 > draft.toml                the policy in force and the cut
  ringfence watch ack 17 -m 'asked the owner'")]
#[command(args_conflicts_with_subcommands = true)]
pub struct WatchArgs {
    /// Which findings to follow.
    #[command(flatten)]
    pub which: WatchFilter,
    /// What to do instead of following.
    #[command(subcommand)]
    pub command: Option<WatchCommand>,
}

/// What is done with findings.
#[derive(Debug, Subcommand)]
pub enum WatchCommand {
    /// Findings, the newest last
    #[command(after_long_help = "\
Findings that were made while the baseline was learning are left out unless --learning is said.

Example:
  ringfence watch list --kind chain --since 7d")]
    List {
        /// Which.
        #[command(flatten)]
        which: WatchFilter,
        /// From this time on, or so long before now: 2026-01-31T12:00:00Z, 30d, 12h
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many, the newest; 0 all [default: 100]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
    },
    /// One finding: path, evidence, rules, what would cut it, what to do next
    Show {
        /// Number of the finding
        id: u64,
    },
    /// Somebody looks at it
    Ack {
        /// Number of the finding
        id: u64,
        /// Why; kept with the finding
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// It is over; the same again is a new finding
    Resolve {
        /// Number of the finding
        id: u64,
        /// Why; kept with the finding
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// The policy in force and what cuts the path; changes nothing
    #[command(after_long_help = "\
The smallest set of edges whose denial breaks every path of the finding, as rules of tier guardrail
that enforce. What else that would deny of what is usual is told on standard error.

Examples:
  ringfence watch draft 17 > draft.toml
  ringfence watch draft 17 --quarantine web-1 > draft.toml    isolate it altogether
  ringfence policy apply draft.toml -m 'finding 17'")]
    Draft {
        /// Number of the finding
        id: u64,
        /// Isolate this workload or address instead of cutting the path
        #[arg(long, value_name = "WORKLOAD")]
        quarantine: Option<String>,
    },
    /// Hold the host of a finding that matters most: `ringfence quarantine`, and the finding is
    /// acknowledged
    #[command(after_long_help = "\
Of a chain that is who was reached first and went on from there, else who began. `watch show` names
it, and what holding it would cut.

Examples:
  ringfence watch quarantine 17
  ringfence watch quarantine 17 --for 8h --allow ssh --to admin
  ringfence watch quarantine 17 --workload db-1 --dry-run > draft.toml")]
    Quarantine {
        /// Number of the finding
        id: u64,
        /// Hold this workload instead
        #[arg(long, value_name = "WORKLOAD")]
        workload: Option<String>,
        /// For how long
        #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "1h")]
        time: Duration,
        /// On which terms.
        #[command(flatten)]
        terms: QuarantineTerms,
    },
    /// Edges that are usual
    #[command(after_long_help = "\
Example:
  ringfence watch baseline db-1 --limit 0")]
    Baseline {
        /// Only edges of this workload or address
        workload: Option<String>,
        /// At most so many, those seen last; 0 all [default: 100]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
    },
}

/// Which findings.
#[derive(Args, Clone, Debug, Default)]
pub struct WatchFilter {
    /// Only this kind
    #[arg(long, value_name = "KIND",
          value_parser = words::<FindingKind>(FindingKind::ALL.iter().map(|w| w.word())))]
    pub kind: Option<FindingKind>,
    /// Only this severity and above
    #[arg(long, value_name = "SEVERITY",
          value_parser = words::<FindingSeverity>(FindingSeverity::ALL.iter().map(|w| w.word())))]
    pub severity: Option<FindingSeverity>,
    /// Only what nobody has acknowledged or resolved
    #[arg(long)]
    pub open: bool,
    /// Also what was found while the baseline was learning
    #[arg(long)]
    pub learning: bool,
}

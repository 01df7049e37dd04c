//! Words about candidates.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::life::confirm_time;

/// `ringfence policy candidate`
#[derive(Debug, Subcommand)]
pub enum CandidateCommand {
    /// Judge this policy beside the one in force, on the same flows, from now on
    #[command(after_long_help = "\
Costs packets nothing and changes nothing: each flow is judged when it is told, within seconds of its
first packet. Up to three at once; they survive a restart.

Examples:
  ringfence policy candidate add draft.toml
  ringfence policy candidate add draft.toml --name next-week")]
    Add {
        /// Policy file (TOML)
        file: PathBuf,
        /// Its name [default: that of the file]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Candidates and what became of flows under each
    List,
    /// Judge it no more
    Remove {
        /// Candidate
        name: String,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Put it into force
    #[command(after_long_help = "\
Example:
  ringfence policy candidate promote draft --confirm 10m")]
    Promote {
        /// Candidate
        name: String,
        /// Revert by itself after this time, unless `ringfence policy confirm` comes first
        #[arg(long, value_name = "TIME", value_parser = confirm_time)]
        confirm: Option<Duration>,
        /// Refuse where another revision than this one is in force
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<String>,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
}

/// `ringfence policy watch`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Prints flows that the candidate decides otherwise, as they happen, until Ctrl-C: denied newly and
allowed newly. `?` marks what is not certain, because who began is only guessed.

Examples:
  ringfence policy watch draft
  ringfence policy watch draft --tsv > changed.tsv")]
pub struct WatchArgs {
    /// Candidate
    pub candidate: String,
    /// Tab separated values with a header line, every column
    #[arg(long, conflicts_with = "json")]
    pub tsv: bool,
}

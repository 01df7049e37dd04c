//! `ringfence history`

use super::{FILTER_HELP, words};
use api::top::{Metric, TopBy};
use clap::{Args, Subcommand};

/// `ringfence history`
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// How much is kept, since when, and what was lost
    State,
    /// Flow records of the past
    #[command(after_long_help = format!("\
Examples:
  ringfence history flows --since 1h --filter 'verdict deny'
  ringfence history flows --since 2026-01-31T12:00:00Z --until 2026-01-31T12:05:00Z --limit 0 --json

{FILTER_HELP}"))]
    Flows(HistoryArgs),
    /// Who did what with whom, in five minutes or an hour
    Conversations(HistoryArgs),
    /// Segment by segment by service
    #[command(after_long_help = "\
An end in several segments counts in each of them.

Example:
  ringfence history matrix --since 7d --filter 'coverage uncovered'")]
    Matrix(HistoryArgs),
    /// Flows, packets and bytes over time
    #[command(after_long_help = "\
Example:
  ringfence history series --since 1d --step 1h --filter 'service postgres'")]
    Series {
        /// Which part of history.
        #[command(flatten)]
        common: HistoryArgs,
        /// Length of a step, a multiple of five minutes
        #[arg(long, value_name = "LENGTH", default_value = "1h")]
        step: String,
    },
    /// The largest pairs, services, workloads, segments, rules
    #[command(after_long_help = "\
Example:
  ringfence history top --since 30d --by services --metric flows")]
    Top {
        /// Which part of history.
        #[command(flatten)]
        common: HistoryArgs,
        /// What a line stands for
        #[arg(long, value_name = "WHAT", default_value = "pairs",
              value_parser = words::<TopBy>(TopBy::ALL.iter().map(|w| w.word())))]
        by: TopBy,
        /// What the lines are ordered by
        #[arg(long, value_name = "METRIC", default_value = "bytes",
              value_parser = words::<Metric>(Metric::ALL.iter().map(|w| w.word())))]
        metric: Metric,
    },
    /// Pairs and services that were never seen before
    #[command(after_long_help = "\
Example:
  ringfence history first-seen --since 1d              what is new since yesterday")]
    FirstSeen(HistoryArgs),
    /// What each rule decided
    Rules(HistoryArgs),
    /// Which share of flows and bytes a rule speaks about
    Coverage(HistoryArgs),
    /// Whom one workload talks to
    #[command(after_long_help = "\
Example:
  ringfence history talkers db-1 --since 7d")]
    Talkers {
        /// Workload or address
        workload: String,
        /// Which part of history.
        #[command(flatten)]
        common: HistoryArgs,
    },
    /// Ask in SQL; read only
    #[command(after_long_help = "\
Tables: flows, conversations, memberships. Ten thousand rows at most.

Example:
  ringfence history sql \"select src_name, count(*) from flows group by src_name\"")]
    Sql {
        /// One SELECT
        sql: String,
    },
}

/// What every question of history takes.
#[derive(Args, Clone, Debug, Default)]
pub struct HistoryArgs {
    /// From this time on, or so long before now: 2026-01-31T12:00:00Z, 30d, 12h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until this time, written alike [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only what matches, for example 'dst workload web-1 and verdict deny'
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// At most so many rows; 0 all
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
}

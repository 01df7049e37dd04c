//! Words about segments on their way to enforcement, and about workloads that are held.

use std::time::Duration;

use api::words::Mode;
use clap::{Args, Subcommand};

use super::life::{confirm_time, duration};

/// `ringfence segments`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  ringfence segments                        modes, members, flows
  ringfence segments readiness              how far each has come
  ringfence segments readiness shop-db      what is missing, and what would be denied
  ringfence segments promote shop-db")]
pub struct SegmentsArgs {
    /// What about them
    #[command(subcommand)]
    pub command: Option<SegmentsCommand>,
}

/// Below `ringfence segments`.
#[derive(Debug, Subcommand)]
pub enum SegmentsCommand {
    /// Is a segment ready for its next mode, and what is missing?
    #[command(after_long_help = "\
Judged by history: what was seen, decided by the policy in force as if the segment enforced. Exits 1
if a segment is named and not ready. The thresholds are readiness.* of control's configuration.

Examples:
  ringfence segments readiness
  ringfence segments readiness shop-db")]
    Readiness {
        /// Only this one, with what would be denied
        segment: Option<String>,
    },
    /// Put a segment into its next mode: observe, test, enforce
    #[command(after_long_help = "\
Edits this one word in the text of the policy in force and applies that. Exits 1 and changes nothing
where something is missing; --force does it all the same and keeps the reason in the policy log.

Examples:
  ringfence segments promote shop-db
  ringfence segments promote shop-db --confirm 10m
  ringfence segments promote shop-db --to enforce --force 'incident 4711'")]
    Promote {
        /// Segment
        segment: String,
        /// To which mode [default: the next]
        #[arg(long, value_name = "MODE", value_parser = mode)]
        to: Option<Mode>,
        /// Although something is missing, for this reason
        #[arg(long, value_name = "REASON")]
        force: Option<String>,
        /// Revert by itself after this time, unless `ringfence policy confirm` comes first
        #[arg(long, value_name = "TIME", value_parser = confirm_time)]
        confirm: Option<Duration>,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Put a segment back into the mode before
    #[command(after_long_help = "\
Example:
  ringfence segments demote shop-db -m 'the nightly job was forgotten'")]
    Demote {
        /// Segment
        segment: String,
        /// To which mode [default: the one before]
        #[arg(long, value_name = "MODE", value_parser = mode)]
        to: Option<Mode>,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse()
        .map_err(|error: api::words::UnknownWord| error.to_string())
}

/// `ringfence quarantine`
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Everything from and to the workload is denied in the first tier, whatever the modes are, but for the
services given by --allow: about those the policy decides as before. It ends by itself. Policies that
are applied meanwhile do not let it go. What was seen of the workload in the last day is held against
it: what of that it cuts is told.

Examples:
  ringfence quarantine web-1 --for 1h
  ringfence quarantine web-1 --for 1h --allow ssh --allow dns --to admin -m 'incident 4711'
  ringfence quarantine web-1 --for 1h --dry-run       the policy as it would be, and what it would cut
  ringfence quarantine list
  ringfence quarantine lift web-1"
)]
pub struct QuarantineArgs {
    /// What about those that are held
    #[command(subcommand)]
    pub command: Option<QuarantineCommand>,
    /// Workload
    #[arg(required = true)]
    pub workload: Option<String>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = duration, required = true)]
    pub time: Option<Duration>,
    /// On which terms.
    #[command(flatten)]
    pub terms: QuarantineTerms,
}

/// What a workload that is held keeps, and how it is held.
#[derive(Args, Clone, Debug, Default)]
pub struct QuarantineTerms {
    /// A service, or a port as tcp/22, that stays as the policy has it; repeatable
    #[arg(long, value_name = "SERVICE")]
    pub allow: Vec<String>,
    /// Those services only with this segment
    #[arg(long, value_name = "SEGMENT", requires = "allow")]
    pub to: Option<String>,
    /// Print the policy as it would be, and on standard error what it would cut; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Tell what it cuts of what was seen from this time on, or so long before now [default: 1d]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Why; kept in the policy log
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub note: String,
}

/// Below `ringfence quarantine`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Who is held, and until when
    List,
    /// Let a workload go before its time
    Lift {
        /// Workload
        workload: String,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
}

//! `ringfence policy diff`, `blast` and `analyze`

use std::path::PathBuf;

use clap::Args;

/// `ringfence policy diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The old policy, or the new one where it is the only one named: a file, a revision (at least 4
    /// digits), `previous` or `in-force`
    #[arg(value_name = "OLD")]
    pub first: String,
    /// The new policy, named the same way [default: OLD is compared with the policy in force]
    #[arg(value_name = "NEW")]
    pub second: Option<String>,
    /// What passes now, modes included, instead of what the policies mean
    #[arg(long)]
    pub enforced: bool,
}

/// `ringfence policy blast`
#[derive(Debug, Args)]
pub struct BlastArgs {
    /// Segment that somebody has got into [default: each]
    pub segment: Option<String>,
    /// Policy: a file, a revision, `previous` or `in-force`
    #[arg(long, value_name = "POLICY", default_value = "in-force")]
    pub policy: String,
    /// Show before and after this draft
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
    /// Hops, 1 to 16
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub hops: u32,
    /// What passes now, modes included, instead of what the policy means
    #[arg(long)]
    pub enforced: bool,
}

/// `ringfence policy analyze`
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Policy: a file, a revision, `previous` or `in-force`
    #[arg(default_value = "in-force")]
    pub policy: String,
    /// How far back use is looked at, for example 30d [default: all of history]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

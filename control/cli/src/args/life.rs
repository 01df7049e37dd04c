//! Words of the policy's life: trying, confirming, the log.

use std::time::Duration;

use clap::Args;

/// Longest time that a policy may be tried.
const CONFIRM_MAX: Duration = Duration::from_secs(api::life::CONFIRM_S_MAX);

/// A time as `5m`, `90s`, `1h 30min`; in whole seconds.
///
/// # Errors
/// What it should have been.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no length of time: write 90s, 5m, 1h"))?;
    if parsed.is_zero() || parsed.subsec_nanos() > 0 {
        return Err(format!("`{text}` is not one or more whole seconds"));
    }
    Ok(parsed)
}

pub(super) fn confirm_time(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if parsed > CONFIRM_MAX {
        return Err(format!("`{text}` is more than a day"));
    }
    Ok(parsed)
}

/// On which terms a policy is applied.
#[derive(Args, Clone, Debug, Default)]
pub struct TermsArgs {
    /// Revert by itself after this time, unless `ringfence policy confirm` comes first
    #[arg(long, value_name = "TIME", value_parser = confirm_time)]
    pub confirm: Option<Duration>,
    /// Refuse where another revision than this one is in force; 4 or more of its digits are enough
    #[arg(long, value_name = "REVISION")]
    pub if_revision: Option<String>,
    /// This invariant may be broken; kept in the policy log; repeatable
    #[arg(long, value_name = "NAME")]
    pub break_invariant: Vec<String>,
}

/// `ringfence policy confirm`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example:
  ringfence policy apply policy.toml --confirm 5m
  ringfence policy confirm                   after a look at `ringfence flows --filter 'verdict deny'`")]
pub struct ConfirmArgs {
    /// Confirm only where this revision waits; 4 or more of its digits are enough
    pub revision: Option<String>,
    /// Why; kept in the policy log
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub note: String,
}

/// `ringfence policy log`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Each entry holds the hash of the one before it. With --verify the whole chain is computed anew; exits
1 and names the first entry that was changed, taken out or put in. What was cut from the end shows
by the head that is kept beside the log; a head that you noted elsewhere also shows a log that was
written anew, head and all.

Examples:
  ringfence policy log
  ringfence policy log --verify
  ringfence policy log --verify --head 5a0c8e3fd2b1    a head that was noted earlier")]
pub struct LogArgs {
    /// Is the log what was written?
    #[arg(long)]
    pub verify: bool,
    /// A head that was noted earlier: the log must still contain it
    #[arg(long, value_name = "HASH", requires = "verify")]
    pub head: Option<String>,
}

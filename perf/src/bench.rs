//! Every row of a profile, with its target and whether it holds.

use crate::machine::Machine;
use crate::rows::{ALL, Effort, Outcome, Profile, Row};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What `bench` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which rows, and how long each.
    #[arg(long, value_enum, default_value_t = Profile::Short)]
    profile: Profile,
    /// Only these rows, by name; see `--list`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Alternating runs of each; by default 5.
    #[arg(long)]
    runs: Option<u32>,
    /// Seconds of each run; by default 2 in the short profile and 6 in the full one.
    #[arg(long)]
    seconds: Option<u32>,
    /// CPU of the polling core.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Where the results are kept; without it they are only printed.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Name the rows and their targets, and run nothing.
    #[arg(long)]
    list: bool,
}

impl Options {
    /// The rows of these names.
    pub(crate) fn of_rows(
        names: &[&str],
        runs: u32,
        seconds: u32,
        results: Option<PathBuf>,
    ) -> Self {
        Self {
            profile: Profile::Short,
            only: names.iter().map(|name| (*name).to_owned()).collect(),
            runs: Some(runs),
            seconds: Some(seconds),
            core: 1,
            results,
            list: false,
        }
    }
}

/// How this program was called.
fn own_command() -> String {
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("ringfence-perf {command}")
}

/// A row that was run, or could not be.
#[derive(serde::Serialize)]
struct Ran {
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    target: String,
    /// `holds`, `missed`, `told` or `not run`.
    verdict: &'static str,
    /// How long the row took.
    took_seconds: f64,
    outcome: Option<Outcome>,
    error: Option<String>,
}

impl Ran {
    fn new(row: &Row, effort: &Effort) -> Self {
        let began = Instant::now();
        let measured = (row.run)(effort);
        let took_seconds = began.elapsed().as_secs_f64();
        let (outcome, error) = match measured {
            Ok(outcome) => (Some(outcome), None),
            Err(error) => (None, Some(error)),
        };
        let verdict = match &outcome {
            None => "not run",
            Some(outcome) if outcome.checks.iter().any(|check| !check.holds) => "missed",
            Some(outcome) => match row.target.holds(outcome.value) {
                None => "told",
                Some(true) => "holds",
                Some(false) => "missed",
            },
        };
        Self {
            name: row.name,
            what: row.what,
            unit: row.unit,
            target: row.target.to_string(),
            verdict,
            took_seconds,
            outcome,
            error,
        }
    }
}

/// All rows of one run of this program.
#[derive(serde::Serialize)]
struct Results {
    machine: Machine,
    command: String,
    rows: Vec<Ran>,
}

/// Runs the rows and prints the table; a row that cannot run here is told, not hidden.
///
/// # Errors
/// A sentence: an unknown row, or the results cannot be kept.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let rows = chosen(options)?;
    if options.list {
        for row in rows {
            println!(
                "{:24} {} {:22} {}",
                row.name, row.target, row.unit, row.what
            );
        }
        return Ok(());
    }
    let effort = Effort {
        runs: options.runs.unwrap_or(5),
        seconds: options.seconds.unwrap_or(match options.profile {
            Profile::Short => 2,
            Profile::Full => 6,
        }),
        core: options.core,
    };
    let mut results = Results {
        machine: Machine::read(),
        command: own_command(),
        rows: Vec::new(),
    };
    for row in rows {
        eprintln!("{}: {}", row.name, row.what);
        let ran = Ran::new(row, &effort);
        if let Some(error) = &ran.error {
            eprintln!("{}: {error}", row.name);
        }
        eprintln!("  {} in {:.0} s", ran.verdict, ran.took_seconds);
        results.rows.push(ran);
    }
    println!("{}", table(&results.rows));
    match &options.results {
        Some(dir) => keep(&results, dir),
        None => Ok(()),
    }
}

fn chosen(options: &Options) -> Result<Vec<&'static Row>, String> {
    if options.only.is_empty() {
        let in_profile = |row: &&Row| row.profile <= options.profile;
        return Ok(ALL.iter().filter(in_profile).collect());
    }
    let named = options.only.iter().map(|name| {
        let row = ALL.iter().find(|row| row.name == name);
        row.ok_or_else(|| format!("no row `{name}`; `bench --profile full --list` names them"))
    });
    named.collect()
}

fn table(rows: &[Ran]) -> String {
    let mut text = String::from(
        "| what | measured (min..max) | target | verdict | medians |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let (measured, told) = match (&row.outcome, &row.error) {
            (Some(o), _) => (
                format!(
                    "{:.3} ({:.3}..{:.3}) {}",
                    o.value, o.spread.0, o.spread.1, row.unit
                ),
                failed_checks(o),
            ),
            (None, error) => ("-".to_owned(), one_line(error.as_deref().unwrap_or(""))),
        };
        let _ = writeln!(
            text,
            "| {} | {measured} | {} | {} | {told} |",
            row.what, row.target, row.verdict
        );
    }
    text
}

/// A sentence that stays in its cell of the table.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").replace('|', "/")
}

/// The medians, and what did not hold beside the value.
fn failed_checks(outcome: &Outcome) -> String {
    let mut text = outcome.told.clone();
    for check in outcome.checks.iter().filter(|check| !check.holds) {
        let _ = write!(text, "; NOT: {}", check.what);
    }
    text
}

/// Writes `DATE-MACHINE.md` and `.json` into `dir`.
fn keep(results: &Results, dir: &Path) -> Result<(), String> {
    let text = format!(
        "{}\nCommand: `{}`\n\n{}",
        results.machine.headline(),
        results.command,
        table(&results.rows)
    );
    let json = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    results.machine.keep(dir, &text, &json)
}

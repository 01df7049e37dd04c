//! From the record rings to flows with names: the example `records` of the control process, run
//! beside this program.

use super::{Check, Effort, Outcome};
use std::path::PathBuf;
use std::process::Command;

/// Rules of the policy that names the records.
const RULES: &str = "100000";
/// Records of a second of the effort: what the target takes a second.
const RECORDS_A_SECOND: u32 = 3_000_000;

/// What the example prints with `--json`.
#[derive(serde::Deserialize)]
struct Run {
    records: u64,
    named: u64,
    collect_ns: f64,
    name_ns: f64,
    records_per_s: f64,
}

/// Records a second on one core: out of the ring, counted, kept, handed on and named.
pub(super) fn ring_to_named(effort: &Effort) -> Result<Outcome, String> {
    let program = program()?;
    let records = (RECORDS_A_SECOND * effort.seconds).to_string();
    // Not tied to a core: the ring is filled on another one, and thread time is what counts.
    let arguments = [records.as_str(), RULES, "--json"];
    let runs: Vec<Run> = (0..effort.runs)
        .map(|_| run(&program, &arguments))
        .collect::<Result<_, _>>()?;
    let of = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<f64>>();
    let median = |value: fn(&Run) -> f64| crate::median(&mut of(value));
    let rates = of(|run| run.records_per_s / 1e6);
    Ok(Outcome {
        value: crate::median(&mut rates.clone()),
        spread: rates
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), rate| {
                (low.min(*rate), high.max(*rate))
            }),
        told: format!(
            "ns a record: collected {:.0}, named {:.0}",
            median(|run| run.collect_ns),
            median(|run| run.name_ns)
        ),
        checks: vec![Check {
            what: "every record is a flow with its names".to_owned(),
            holds: runs.iter().all(|run| run.named == run.records),
        }],
        samples: [
            ("records_per_s".into(), of(|run| run.records_per_s)),
            ("collect_ns".into(), of(|run| run.collect_ns)),
            ("name_ns".into(), of(|run| run.name_ns)),
        ]
        .into(),
        command: format!("{program} {}", arguments.join(" ")),
        ..Outcome::default()
    })
}

/// The example, which cargo puts beside this program.
fn program() -> Result<String, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let path: PathBuf = own.with_file_name("examples").join("records");
    if path.is_file() {
        return Ok(path.display().to_string());
    }
    Err(format!(
        "{} is not there; build it with `cargo build --release -p ringfence-control --example records`",
        path.display()
    ))
}

fn run(program: &str, arguments: &[&str]) -> Result<Run, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program} did not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).map_err(|error| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("records said {said:?}, which is no result ({error}): {complaint}")
    })
}

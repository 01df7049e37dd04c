//! Start order: configuration, region, socket, EAL, ports, policy, workers; then wait.
#![forbid(unsafe_code)]

mod process;

use clap::Parser;
use dataplane::config::{Config, ConfigError};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// The polling process of Ringfence: packets from ports, through the flow cache and the policy, and on.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP)]
struct Flags {
    /// Configuration file (TOML). Without it the defaults, the environment and the flags hold.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Checks the configuration and the ports, starts nothing.
    #[arg(long)]
    check: bool,
    /// Prints the configuration in force, with all defaults, and starts nothing.
    #[arg(long)]
    dump: bool,
    /// A lane: two ports with a comma between them, inside first.
    #[arg(long = "lane", value_name = "INSIDE,OUTSIDE")]
    lanes: Vec<String>,
    /// A mirror port: receives only.
    #[arg(long = "mirror", value_name = "PORT")]
    mirrors: Vec<String>,
    /// Where dataplane.sock lives.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Where the last good policy is kept.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What an idle core does: none, pause or sleep.
    #[arg(long)]
    idle: Option<String>,
}

const AFTER_HELP: &str = "\
Ports: af_packet:IFACE, tap:NAME, pcap:in=FILE[,out=FILE][,infinite], null[:size=N][,no-rx],
       ring:NAME, pci:0000:01:00.0, vdev:ARGUMENTS (any other virtual device of DPDK)
Every key of the file can be given as RINGFENCE_DATAPLANE_SECTION__KEY in the environment.
Exit codes: 0 stopped in order, 1 did not start, 2 wrong arguments or configuration.";

/// The flags that override keys of the file, in the file's shape.
#[derive(Serialize)]
struct Overrides {
    #[serde(skip_serializing_if = "Section::is_empty")]
    dataplane: Section,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lane: Vec<LaneOverride>,
}

#[derive(Serialize)]
struct Section {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<String>,
}

impl Section {
    fn is_empty(&self) -> bool {
        self.run_dir.is_none() && self.state_dir.is_none() && self.idle.is_none()
    }
}

#[derive(Serialize)]
struct LaneOverride {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inside: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outside: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<String>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringfence-dataplane: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(flags: Flags) -> Result<(), process::ProcessError> {
    let overrides = overrides(&flags)?;
    let config = Config::load(flags.config.as_deref(), overrides)?;
    if flags.dump {
        print_configuration(&config)?;
        return Ok(());
    }
    let config = config.validate()?;
    if flags.check {
        process::check(&config)?;
        eprintln!(
            "configuration: good, {} lanes, {} workers",
            config.lanes.len(),
            config.worker_count
        );
        return Ok(());
    }
    process::run(&config)
}

fn overrides(flags: &Flags) -> Result<Overrides, ConfigError> {
    let mut lane = Vec::new();
    for (index, text) in flags.lanes.iter().enumerate() {
        let (inside, outside) = split_lane(text).ok_or_else(|| ConfigError::Lane {
            lane: text.clone(),
            what: "is not two ports with a comma between them".into(),
        })?;
        lane.push(LaneOverride {
            name: format!("lane{index}"),
            inside: Some(inside),
            outside: Some(outside),
            mirror: None,
        });
    }
    for (index, port) in flags.mirrors.iter().enumerate() {
        let name = format!("mirror{index}");
        lane.push(LaneOverride {
            name,
            inside: None,
            outside: None,
            mirror: Some(port.clone()),
        });
    }
    let dataplane = Section {
        run_dir: flags.run_dir.clone(),
        state_dir: flags.state_dir.clone(),
        idle: flags.idle.clone(),
    };
    Ok(Overrides { dataplane, lane })
}

/// Splits at the comma behind which another port begins: settings of a port have commas too.
fn split_lane(text: &str) -> Option<(String, String)> {
    const KINDS: [&str; 7] = [
        "af_packet:",
        "tap:",
        "pcap:",
        "null",
        "ring:",
        "pci:",
        "vdev:",
    ];
    text.match_indices(',').find_map(|(at, _)| {
        let (inside, outside) = (text.get(..at)?, text.get(at + 1..)?);
        let begins = KINDS.iter().any(|kind| outside.starts_with(kind));
        (begins && !inside.is_empty()).then(|| (inside.to_owned(), outside.to_owned()))
    })
}

fn print_configuration(config: &Config) -> Result<(), process::ProcessError> {
    use std::io::Write;
    let text = toml::to_string(config).map_err(process::ProcessError::Dump)?;
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(process::ProcessError::Output)
}

//! `ringfence-control`: reads its configuration, runs until told to stop.
#![forbid(unsafe_code)]

use api::error::{ApiError, ErrorBody, ErrorCode};
use clap::Parser;
use control::config::{CONFIG_PATH, CollectorAddress, Config, ConfigError, Depth, Listen, load};
use control::policy_service::PolicyQuestion;
use figment::value::{Dict, Value};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// The control process of Ringfence: policy, names, recent flows, export, API.
#[derive(Debug, Parser)]
#[command(
    name = "ringfence-control",
    version,
    after_help = "Exit codes: 0 done or stopped in order, 1 failed, 2 flags, configuration or its policy file refused"
)]
struct Flags {
    /// Configuration file [default: /etc/ringfence/control.toml, if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Check the configuration and the policy file it names, then end
    #[arg(long)]
    check: bool,
    /// Check the policy on standard input, print what was found as JSON (the API's answer to
    /// /v1/policy/check), then end: no configuration, state or dataplane is needed. NAME is the
    /// policy's name in messages
    #[arg(long, value_name = "NAME", exclusive = true)]
    check_policy: Option<String>,
    /// Answer the question about policies on standard input (JSON, the body of /v1/policy/diff, blast
    /// or analyze) as the API would, then end: no configuration, state or dataplane is needed. Its
    /// policies are texts
    #[arg(long, value_name = "QUESTION", exclusive = true)]
    policy_question: Option<PolicyQuestion>,
    /// Print the configuration as it is understood, then end
    #[arg(long)]
    dump: bool,
    /// Where the sockets are (control.run_dir)
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// Where the policy's state is kept (control.state_dir)
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Recent flows to keep (flows.recent_max)
    #[arg(long)]
    recent_max: Option<u64>,
    /// Export to ADDRESS:PORT[,uniflow][,MESSAGES_PER_SECOND]; may be repeated (export.collectors)
    #[arg(long)]
    collector: Vec<CollectorAddress>,
    /// Policy to apply when the dataplane first connects (policy.file)
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Serve metrics at ADDRESS:PORT, or "off" (metrics.listen)
    #[arg(long)]
    metrics: Option<Listen>,
    /// End when the dataplane has ended and everything is exported (control.exit_with_dataplane)
    #[arg(long)]
    exit_with_dataplane: bool,
    /// Log level or filter (log.level)
    #[arg(long)]
    log: Option<String>,
}

impl Flags {
    /// What was said, as a tree of the configuration's keys.
    fn tree(&self) -> Result<Dict, Box<figment::Error>> {
        let mut tree = Dict::new();
        let mut set = |table: &str, key: &str, value: Value| {
            let entry = tree
                .entry(table.to_owned())
                .or_insert_with(|| Dict::new().into());
            if let Value::Dict(_, dict) = entry {
                dict.insert(key.to_owned(), value);
            }
        };
        let value = |path: &PathBuf| Value::from(path.display().to_string());
        if let Some(path) = &self.run_dir {
            set("control", "run_dir", value(path));
        }
        if let Some(path) = &self.state_dir {
            set("control", "state_dir", value(path));
        }
        if self.exit_with_dataplane {
            set("control", "exit_with_dataplane", Value::from(true));
        }
        if let Some(count) = self.recent_max {
            set("flows", "recent_max", Value::from(count));
        }
        if !self.collector.is_empty() {
            let collectors = Value::serialize(&self.collector).map_err(Box::new)?;
            set("export", "collectors", collectors);
        }
        if let Some(path) = &self.policy {
            set("policy", "file", value(path));
        }
        if let Some(listen) = &self.metrics {
            set(
                "metrics",
                "listen",
                Value::serialize(listen).map_err(Box::new)?,
            );
        }
        if let Some(level) = &self.log {
            set("log", "level", Value::from(level.clone()));
        }
        Ok(tree)
    }
}

/// Exit code of a configuration that is refused.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(question) = flags.policy_question {
        return answer_alone(question);
    }
    if let Some(name) = &flags.check_policy {
        return check_policy(name);
    }
    let config = match read(&flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringfence-control: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if flags.dump {
        return match toml::to_string(&config) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("ringfence-control: cannot print the configuration: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if flags.check {
        return check(&config);
    }
    let filter = match config.log.filter() {
        Ok(filter) => filter,
        Err(what) => {
            eprintln!("ringfence-control: configuration, key log.level: {what}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => {
            eprintln!("ringfence-control: cannot start its threads: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(flags: &Flags) -> Result<Config, ConfigError> {
    let tree = flags.tree().map_err(|e| ConfigError::from(*e))?;
    let path = flags.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
    let depth = if flags.check {
        Depth::Machine
    } else {
        Depth::Values
    };
    load(path, flags.config.is_some(), &tree, depth)
}

fn check(config: &Config) -> ExitCode {
    if let Some(path) = &config.policy.file {
        let checked = std::fs::read_to_string(path)
            .map_err(|e| e.to_string())
            .and_then(|text| {
                let file = path.display().to_string();
                let loaded = policy::load(&text, &file, control::clock::today());
                loaded.map_err(|errors| errors.to_string())
            });
        if let Err(error) = checked {
            eprintln!("ringfence-control: policy.file {}: {error}", path.display());
            return ExitCode::from(EXIT_CONFIG);
        }
    }
    println!("configuration ok");
    ExitCode::SUCCESS
}

/// Checks a policy for `ringfence policy check` where no control process runs.
fn check_policy(name: &str) -> ExitCode {
    let read = std::io::read_to_string(std::io::stdin()).map_err(|e| e.to_string());
    let checked = read.and_then(|text| {
        let found = control::policy_service::check(&text, name).map_err(|e| e.to_string())?;
        serde_json::to_string(&found).map_err(|e| e.to_string())
    });
    match checked {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringfence-control: cannot check {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers a question of `ringfence policy` where no control process runs.
fn answer_alone(question: PolicyQuestion) -> ExitCode {
    let read = std::io::read_to_string(std::io::stdin());
    let answered = read
        .map_err(|e| ApiError::new(ErrorCode::BadRequest, e.to_string()))
        .and_then(|json| control::policy_service::answer_alone(question, &json));
    match answered {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringfence-control: {error}");
            if let Ok(json) = serde_json::to_string(&ErrorBody { error }) {
                println!("{json}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> ExitCode {
    let signals = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("ringfence-control: cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit_with_dataplane = config.control.exit_with_dataplane;
    let running = match control::start(config).await {
        Ok(running) => running,
        Err(error) => {
            eprintln!("ringfence-control: {error}");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
        () = running.finished(), if exit_with_dataplane => {
            tracing::info!("stopping: the dataplane has finished");
        }
    }
    running.stop().await;
    ExitCode::SUCCESS
}

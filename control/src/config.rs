//! Configuration: defaults, file, environment, flags; later ones win.
//!
//! Environment variables are `RINGFENCE_CONTROL_` and the key, tables separated by two underscores:
//! `RINGFENCE_CONTROL_FLOWS__RECENT_MAX=1000000`.

mod export;
mod history;
mod inventory;
mod readiness;
mod validate;
mod watch;

pub use export::{CollectorAddress, ExportConfig, PersonalityWord, WhenFull};
pub use history::{HistoryConfig, HistoryEngine};
pub use inventory::{DNS_SERVERS_MAX, DnsConfig, InventoryConfig};
pub use readiness::{ReadinessConfig, Share};
pub use watch::WatchConfig;

use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Source};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Where the configuration is read from unless `--config` says otherwise.
pub const CONFIG_PATH: &str = "/etc/ringfence/control.toml";
/// Prefix of environment variables.
pub const ENV_PREFIX: &str = "RINGFENCE_CONTROL_";
/// Collectors to export to.
pub const COLLECTORS_MAX: usize = 16;
/// Recent flows that may be asked for: 264 bytes each.
pub const RECENT_MAX: usize = 50_000_000;

/// A duration, written `"30s"`, `"5m"`, `"100ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Milliseconds.
    #[must_use]
    pub const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Seconds.
    #[must_use]
    pub const fn s(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }

    /// Nanoseconds.
    #[must_use]
    pub fn ns(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|e| {
            serde::de::Error::custom(format!(
                "`{text}` is no duration ({e}); write 30s, 5m, 100ms"
            ))
        })
    }
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The process: directories, and when it ends.
    pub control: ControlConfig,
    /// Link to the dataplane.
    pub dataplane: DataplaneConfig,
    /// Reading of record rings.
    pub collector: CollectorConfig,
    /// Recent flows.
    pub flows: FlowsConfig,
    /// The flow store.
    pub history: HistoryConfig,
    /// The watch for unexpected paths.
    pub watch: WatchConfig,
    /// IPFIX export.
    pub export: ExportConfig,
    /// Policy and its state.
    pub policy: PolicyConfig,
    /// Workloads from beside the policy.
    pub inventory: InventoryConfig,
    /// What is asked of a segment before its next mode.
    pub readiness: ReadinessConfig,
    /// Metrics over HTTP.
    pub metrics: MetricsConfig,
    /// The public API.
    pub api: ApiConfig,
    /// Log lines on standard error.
    pub log: LogConfig,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// Where the sockets are: `control.sock` of this process, `dataplane.sock` of the other.
    pub run_dir: PathBuf,
    /// Where revisions, images and the log of the policy are kept.
    pub state_dir: PathBuf,
    /// End when the dataplane has ended in order and every record was collected and exported.
    pub exit_with_dataplane: bool,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            run_dir: "/run/ringfence".into(),
            state_dir: "/var/lib/ringfence/control".into(),
            exit_with_dataplane: false,
        }
    }
}

/// Link to the dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataplaneConfig {
    /// Its Unix socket, where it is not `dataplane.sock` in `control.run_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// First wait before connecting again; doubles up to `reconnect_max`.
    pub reconnect_min: Span,
    /// Longest wait before connecting again.
    pub reconnect_max: Span,
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            socket: None,
            reconnect_min: Span::ms(50),
            reconnect_max: Span::s(2),
        }
    }
}

/// Reading of record rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorConfig {
    /// Longest sleep between two looks at empty rings.
    pub sleep_max: Span,
    /// Records taken from one ring at once.
    pub batch_records: usize,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            sleep_max: Span::ms(10),
            batch_records: 1024,
        }
    }
}

/// Recent flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowsConfig {
    /// Flows kept; the oldest goes first, counted.
    pub recent_max: usize,
    /// Followers of `/v1/flows?follow=true` at once.
    pub followers_max: usize,
    /// Batches that wait for one slow follower; further ones are not sent to it, counted.
    pub follower_batches_max: usize,
}

impl Default for FlowsConfig {
    fn default() -> Self {
        Self {
            recent_max: 200_000,
            followers_max: 32,
            follower_batches_max: 256,
        }
    }
}

/// Policy and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// A policy to apply when the dataplane first connects, in place of the one in the state
    /// directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How long the dataplane may take to adopt or refuse.
    pub adopt_timeout: Span,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            file: None,
            adopt_timeout: Span::s(30),
        }
    }
}

/// Metrics over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// `127.0.0.1:9464`; `off` for none.
    pub listen: Listen,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: Listen(Some(SocketAddr::from(([127, 0, 0, 1], 9464)))),
        }
    }
}

/// An address to listen at, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| {
            format!("`{text}` is neither off nor ADDRESS:PORT, such as 127.0.0.1:9464")
        })?;
        Ok(Self(Some(address)))
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(address) => serializer.collect_str(&address),
            None => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The public API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Unix socket, mode 0660, where it is not `control.sock` in `control.run_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// Log lines on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `control::exporter=debug,info`.
    pub level: String,
}

/// Words for how much is logged.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogConfig {
    /// The filter that `level` says.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        let known = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
        for directive in self.level.split(',').map(str::trim) {
            // A word alone would be taken for a module, and a wrong level for a silent log.
            if !directive.contains(['=', '[']) && !known(directive) {
                return Err(format!(
                    "`{directive}` is no level; write {}, or MODULE=LEVEL, separated by commas",
                    LEVELS.join(", ")
                ));
            }
        }
        EnvFilter::try_new(&self.level).map_err(|error| {
            let levels = LEVELS.join(", ");
            format!(
                "`{}` is no log filter ({error}); levels are {levels}",
                self.level
            )
        })
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file cannot be read.
    #[error(
        "cannot read the configuration {path}: {source}; name an existing file or leave --config out"
    )]
    File {
        /// As named.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key is unknown or has a wrong type.
    #[error("configuration{place}{key}: {what}")]
    Key {
        /// `, file PATH`, `, environment` ...
        place: String,
        /// `, key a.b`.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// A value outside its limits.
    #[error("configuration{place}, key {key}: {what}")]
    Limit {
        /// `, file PATH`, `, environment` ...; empty where it is not known.
        place: String,
        /// The key.
        key: &'static str,
        /// What is wrong and what is allowed.
        what: String,
    },
}

impl ConfigError {
    fn limit(key: &'static str, what: String) -> Self {
        let place = String::new();
        Self::Limit { place, key, what }
    }

    /// The same with the place where the key was said.
    fn said_in(mut self, figment: &Figment) -> Self {
        if let Self::Limit { place: of, key, .. } = &mut self {
            let metadata = figment.find_metadata(key);
            *of = metadata.map_or_else(String::new, place);
        }
        self
    }
}

/// Where a value comes from, as the beginning of a message has it.
fn place(metadata: &figment::Metadata) -> String {
    match &metadata.source {
        Some(Source::File(path)) => format!(", file {}", path.display()),
        // Defaults and flags: values of this program.
        Some(Source::Code(_)) => ", command line".to_owned(),
        _ if metadata.name.contains(ENV_PREFIX) => {
            format!(", environment ({ENV_PREFIX}...)")
        }
        _ => String::new(),
    }
}

impl From<figment::Error> for ConfigError {
    fn from(error: figment::Error) -> Self {
        let place = error.metadata.as_ref().map_or_else(String::new, place);
        let path = error.path.join(".");
        let key = if path.is_empty() {
            String::new()
        } else {
            format!(", key {path}")
        };
        Self::Key {
            place,
            key,
            what: error.kind.to_string(),
        }
    }
}

/// Reads file and environment over the defaults. `flags` is what was said on the command line, as
/// a tree of the same keys. A missing file is no error unless it was `named`.
///
/// # Errors
/// The first thing that is wrong, with file and key.
pub fn load(
    path: &Path,
    named: bool,
    flags: &figment::value::Dict,
    depth: Depth,
) -> Result<Config, ConfigError> {
    if named {
        std::fs::File::open(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
    }
    let defaults = Figment::from(Serialized::defaults(Config::default()));
    let with_file = if named || path.exists() {
        defaults.merge(Toml::file_exact(path))
    } else {
        defaults
    };
    let whole = with_file
        .merge(Env::prefixed(ENV_PREFIX).split("__"))
        .merge(Serialized::defaults(flags));
    let config: Config = whole.extract()?;
    let judged = config.validate().and_then(|()| match depth {
        Depth::Values => Ok(()),
        Depth::Machine => config.validate_here(),
    });
    judged.map_err(|error| error.said_in(&whole))?;
    Ok(config)
}

/// How far a configuration is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// By its values: what a start needs, which then finds out the rest.
    Values,
    /// Also by this machine: whether it has the addresses.
    Machine,
}

impl Config {
    /// The dataplane's socket.
    #[must_use]
    pub fn dataplane_socket(&self) -> PathBuf {
        let own = || self.control.run_dir.join("dataplane.sock");
        self.dataplane.socket.clone().unwrap_or_else(own)
    }

    /// Where history is kept.
    #[must_use]
    pub fn history_dir(&self) -> PathBuf {
        let own = || self.control.state_dir.join("history");
        self.history.dir.clone().unwrap_or_else(own)
    }

    /// The socket of the public API.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        let own = || self.control.run_dir.join("control.sock");
        self.api.socket.clone().unwrap_or_else(own)
    }
}

#[cfg(test)]
mod tests;

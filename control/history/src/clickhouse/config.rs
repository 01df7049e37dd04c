//! What the distributed engine is told: where the servers are, who asks, what is kept for how long.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Configuration of the distributed engine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickHouseConfig {
    /// One URL for each shard: `http://10.0.0.5:8123`. TLS is not spoken.
    pub servers: Vec<String>,
    /// Name of the cluster in the servers' own `remote_servers`: the same servers, one replica a shard.
    pub cluster: String,
    /// Database; made when it is missing.
    pub database: String,
    /// User.
    pub user: String,
    /// Password; it is never written out again.
    #[serde(skip_serializing)]
    pub password: Option<String>,
    /// File whose first line is the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Name of this appliance, different in each that writes into the cluster.
    pub appliance: String,
    /// Whether questions are about this appliance's rows alone.
    pub own_rows_only: bool,
    /// Rows of one insert at most; more than so many that no server took and the spool has no room for are refused.
    pub batch_rows_max: usize,
    /// Bytes that wait on the local disk for servers that are away.
    pub spool_bytes_max: u64,
    /// Time to connect, milliseconds.
    pub connect_timeout_ms: u64,
    /// Time for one insert or one question, milliseconds.
    pub request_timeout_ms: u64,
    /// Flow records older than this go, days.
    pub flows_age_days: u32,
    /// Conversations of 5 minutes older than this are told by the hour, days.
    pub conversations_5m_age_days: u32,
    /// Conversations of an hour older than this go, days.
    pub conversations_1h_age_days: u32,
    /// Bytes of this appliance's flow records on all servers; beyond, the oldest days go.
    pub flows_bytes_max: u64,
    /// The same of conversations of 5 minutes.
    pub conversations_5m_bytes_max: u64,
    /// The same of conversations of an hour.
    pub conversations_1h_bytes_max: u64,
}

const GIB: u64 = 1 << 30;

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            cluster: "ringfence".to_owned(),
            database: "ringfence".to_owned(),
            user: "default".to_owned(),
            password: None,
            password_file: None,
            appliance: "ringfence".to_owned(),
            own_rows_only: false,
            batch_rows_max: 100_000,
            spool_bytes_max: 8 * GIB,
            connect_timeout_ms: 3_000,
            request_timeout_ms: 60_000,
            flows_age_days: 7,
            conversations_5m_age_days: 30,
            conversations_1h_age_days: 400,
            flows_bytes_max: 500 * GIB,
            conversations_5m_bytes_max: 200 * GIB,
            conversations_1h_bytes_max: 200 * GIB,
        }
    }
}

/// All but the password.
impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("servers", &self.servers)
            .field("cluster", &self.cluster)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("appliance", &self.appliance)
            .finish_non_exhaustive()
    }
}

/// Why the distributed engine is not configured.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ClickHouseConfigError {
    #[error("the distributed engine has no server; set servers = [\"http://HOST:8123\", ...]")]
    NoServer,
    #[error("server `{url}` is no URL of HTTP; write http://HOST:8123, TLS is not spoken")]
    Url { url: String },
    #[error("server `{url}` is listed twice; each shard is one server")]
    Twice { url: String },
    #[error(
        "{field} `{name}` must be 1 to 64 letters, digits, `_` or `-`, and begin with a letter"
    )]
    Name { field: &'static str, name: String },
    #[error("{field} must be at least 1")]
    Zero { field: &'static str },
    #[error("cannot read the password from {}: {source}", path.display())]
    Password {
        path: PathBuf,
        source: std::io::Error,
    },
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl ClickHouseConfig {
    /// Whether an engine can be opened with it.
    ///
    /// # Errors
    /// [`ClickHouseConfigError`]; the password's file is read only by [`ClickHouseConfig::secret`].
    pub fn validate(&self) -> Result<(), ClickHouseConfigError> {
        if self.servers.is_empty() {
            return Err(ClickHouseConfigError::NoServer);
        }
        for (index, url) in self.servers.iter().enumerate() {
            let host = url.strip_prefix("http://").unwrap_or_default();
            if host.trim_end_matches('/').is_empty() || host.contains(['?', '#', '@', ' ']) {
                return Err(ClickHouseConfigError::Url { url: url.clone() });
            }
            if self.servers.iter().skip(index + 1).any(|u| u == url) {
                return Err(ClickHouseConfigError::Twice { url: url.clone() });
            }
        }
        for (field, name) in [
            ("cluster", &self.cluster),
            ("database", &self.database),
            ("appliance", &self.appliance),
        ] {
            if !is_name(name) {
                let name = name.clone();
                return Err(ClickHouseConfigError::Name { field, name });
            }
        }
        for (field, zero) in [
            ("batch_rows_max", self.batch_rows_max == 0),
            ("connect_timeout_ms", self.connect_timeout_ms == 0),
            ("request_timeout_ms", self.request_timeout_ms == 0),
            ("flows_age_days", self.flows_age_days == 0),
            (
                "conversations_5m_age_days",
                self.conversations_5m_age_days == 0,
            ),
            (
                "conversations_1h_age_days",
                self.conversations_1h_age_days == 0,
            ),
        ] {
            if zero {
                return Err(ClickHouseConfigError::Zero { field });
            }
        }
        Ok(())
    }

    /// The password, empty where there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn secret(&self) -> Result<String, ClickHouseConfigError> {
        match &self.password_file {
            None => Ok(self.password.clone().unwrap_or_default()),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
                Err(source) => Err(ClickHouseConfigError::Password {
                    path: path.clone(),
                    source,
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not_told() {
        let config = |servers: &[&str]| ClickHouseConfig {
            servers: servers.iter().map(|s| (*s).to_owned()).collect(),
            password: Some("secret".to_owned()),
            ..ClickHouseConfig::default()
        };
        let wrong = |config: &ClickHouseConfig| config.validate().unwrap_err().to_string();
        assert!(wrong(&config(&[])).contains("no server"));
        assert!(wrong(&config(&["https://a"])).contains("TLS is not spoken"));
        assert!(wrong(&config(&["http://a", "http://a"])).contains("listed twice"));
        let odd = ClickHouseConfig {
            appliance: "a'; DROP".to_owned(),
            ..config(&["http://a"])
        };
        assert!(wrong(&odd).contains("appliance `a'; DROP`"));
        let good = config(&["http://a:8123", "http://b:8123"]);
        good.validate().unwrap();
        assert!(!format!("{good:?}").contains("secret"));
        assert!(!serde_json::to_string(&good).unwrap().contains("secret"));
    }
}

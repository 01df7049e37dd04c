//! Where metrics are served, on the command line: `ADDRESS:PORT` or `off`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Where metrics are served; none where they are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSpec(Option<SocketAddr>);

/// Why it is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither off nor ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464")]
pub struct MetricsSpecError {
    /// As given.
    text: String,
}

impl FromStr for MetricsSpec {
    type Err = MetricsSpecError;

    fn from_str(text: &str) -> Result<Self, MetricsSpecError> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| MetricsSpecError {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for MetricsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

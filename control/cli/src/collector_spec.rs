//! IPFIX collectors on the command line: `HOST:PORT[,uniflow][,RATE]`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use toml::{Table, Value};

/// Where IPFIX is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSpec {
    address: SocketAddr,
    uniflow: bool,
    messages_per_s_max: u32,
}

/// Why a collector on the command line is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectorSpecError {
    /// No port, or a name that nobody knows.
    #[error("collector `{text}`: {reason}; write HOST:PORT, for example 192.0.2.1:4739")]
    Address {
        /// As given.
        text: String,
        /// What the system said.
        reason: String,
    },
    /// A word behind the address.
    #[error(
        "collector `{text}`: `{word}` is neither biflow, uniflow nor a number of messages a second"
    )]
    Word {
        /// As given.
        text: String,
        /// The word.
        word: String,
    },
}

impl FromStr for CollectorSpec {
    type Err = CollectorSpecError;

    fn from_str(text: &str) -> Result<Self, CollectorSpecError> {
        let mut parts = text.split(',');
        let host = parts.next().unwrap_or_default();
        let unknown = |reason: String| CollectorSpecError::Address {
            text: text.to_owned(),
            reason,
        };
        let address = host
            .to_socket_addrs()
            .map_err(|error| unknown(error.to_string()))?
            .next()
            .ok_or_else(|| unknown("no address is known for it".to_owned()))?;
        let mut collector = Self {
            address,
            uniflow: false,
            messages_per_s_max: 0,
        };
        for word in parts {
            match (word, word.parse()) {
                ("biflow", _) => collector.uniflow = false,
                ("uniflow", _) => collector.uniflow = true,
                (_, Ok(rate)) => collector.messages_per_s_max = rate,
                _ => {
                    let (text, word) = (text.to_owned(), word.to_owned());
                    return Err(CollectorSpecError::Word { text, word });
                }
            }
        }
        Ok(collector)
    }
}

impl fmt::Display for CollectorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl CollectorSpec {
    /// As the control process's configuration writes it.
    #[must_use]
    pub fn to_table(&self) -> Table {
        let personality = if self.uniflow { "uniflow" } else { "biflow" };
        Table::from_iter([
            ("address".to_owned(), Value::from(self.address.to_string())),
            ("personality".to_owned(), Value::from(personality)),
            (
                "messages_per_s_max".to_owned(),
                Value::from(i64::from(self.messages_per_s_max)),
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_an_address_with_what_it_can_read() {
        let collector: CollectorSpec = "[::1]:4739,uniflow,500".parse().unwrap();
        assert_eq!(
            collector.to_table().to_string(),
            "address = \"[::1]:4739\"\nmessages_per_s_max = 500\npersonality = \"uniflow\"\n"
        );
    }

    #[test]
    fn what_is_no_collector_says_what_to_write() {
        let error = "127.0.0.1"
            .parse::<CollectorSpec>()
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("write HOST:PORT, for example 192.0.2.1:4739"),
            "{error}"
        );
        assert_eq!(
            "127.0.0.1:4739,fast"
                .parse::<CollectorSpec>()
                .unwrap_err()
                .to_string(),
            "collector `127.0.0.1:4739,fast`: `fast` is neither biflow, uniflow nor a number of \
             messages a second"
        );
    }
}

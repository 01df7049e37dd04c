//! Configuration of the exporter.

use super::Span;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What happens to a record whose collector's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It is not sent to that collector, and counted.
    #[default]
    Shed,
    /// Collection waits for room: for replays, where nothing may be missing.
    Wait,
}

/// IPFIX export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// Observation domain id.
    pub domain: u32,
    /// Name of the observation domain.
    pub domain_name: String,
    /// Private enterprise number of our own elements.
    pub pen: u32,
    /// Bytes of a message.
    pub message_bytes_max: usize,
    /// Templates and options are sent again after so much time.
    pub refresh: Span,
    /// Templates and options are sent again after so many messages.
    pub refresh_messages: u64,
    /// A message that is not full is sent after so much time.
    pub flush: Span,
    /// Records that wait for one collector.
    pub queue_records_max: usize,
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Active timeout as configured in the dataplane, told to collectors.
    pub active_timeout: Span,
    /// Longest idle timeout as configured in the dataplane, told to collectors.
    pub idle_timeout: Span,
    /// Where to export to.
    pub collectors: Vec<CollectorAddress>,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            domain: 1,
            domain_name: "ringfence".to_owned(),
            pen: ipfix::element::OWN_PEN_DEFAULT,
            message_bytes_max: 1400,
            refresh: Span::s(60),
            refresh_messages: 1000,
            flush: Span::s(1),
            queue_records_max: 131_072,
            when_full: WhenFull::Shed,
            active_timeout: Span::s(60),
            idle_timeout: Span::s(300),
            collectors: Vec::new(),
        }
    }
}

/// What a collector can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonalityWord {
    /// RFC 5103.
    #[default]
    Biflow,
    /// One record a direction.
    Uniflow,
}

impl From<PersonalityWord> for ipfix::Personality {
    fn from(word: PersonalityWord) -> Self {
        match word {
            PersonalityWord::Biflow => Self::Biflow,
            PersonalityWord::Uniflow => Self::Uniflow,
        }
    }
}

/// One collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorAddress {
    /// Address and port, UDP: `192.0.2.1:4739`, `[2001:db8::1]:4739`.
    pub address: SocketAddr,
    /// What it can read.
    #[serde(default)]
    pub personality: PersonalityWord,
    /// Messages a second at most, 0 without limit: for collectors that lose bursts.
    #[serde(default)]
    pub messages_per_s_max: u32,
}

impl std::str::FromStr for CollectorAddress {
    type Err = String;

    /// `ADDRESS:PORT`, optionally followed by `,uniflow` and `,RATE` messages a second.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default();
        let address = address
            .parse()
            .map_err(|_| format!("`{address}` is no ADDRESS:PORT, such as 192.0.2.1:4739"))?;
        let mut collector = Self {
            address,
            personality: PersonalityWord::Biflow,
            messages_per_s_max: 0,
        };
        for part in parts {
            match (part, part.parse()) {
                ("biflow", _) => collector.personality = PersonalityWord::Biflow,
                ("uniflow", _) => collector.personality = PersonalityWord::Uniflow,
                (_, Ok(rate)) => collector.messages_per_s_max = rate,
                _ => {
                    return Err(format!(
                        "`{part}` is not biflow, uniflow or messages a second"
                    ));
                }
            }
        }
        Ok(collector)
    }
}

impl ExportConfig {
    /// Settings of a session for a collector that can read `personality`.
    #[must_use]
    pub fn settings(&self, personality: ipfix::Personality) -> ipfix::Settings {
        ipfix::Settings {
            domain: self.domain,
            pen: self.pen,
            personality,
            message_bytes_max: self.message_bytes_max,
            refresh_ns: self.refresh.ns(),
            refresh_messages: self.refresh_messages,
        }
    }
}

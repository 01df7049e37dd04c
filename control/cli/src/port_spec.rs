//! Port names on the command line, as the dataplane's configuration writes them.

use std::fmt;
use std::str::FromStr;

/// Kinds of ports that the dataplane knows; the part before the colon. What stands behind it is
/// the dataplane's to judge.
const KINDS: &[&str] = &["af_packet", "null", "pcap", "pci", "ring", "tap", "vdev"];

/// One port: `KIND:WHAT`, for example `af_packet:eth1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec(String);

/// Inside and outside port of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSpec {
    /// Port towards the protected side.
    pub inside: PortSpec,
    /// Port towards everything else.
    pub outside: PortSpec,
}

/// Why a port or a lane on the command line is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortSpecError {
    /// No colon, or nothing before it.
    #[error("`{0}` is no port; write KIND:WHAT, for example af_packet:{0}")]
    NoKind(String),
    /// A word before the colon that is not a kind.
    #[error("port `{spec}` has the unknown kind `{kind}`; kinds are {}", KINDS.join(", "))]
    UnknownKind {
        /// The whole port.
        spec: String,
        /// The kind.
        kind: String,
    },
    /// Nothing behind the colon.
    #[error("port `{0}` names nothing behind the colon; for example af_packet:eth1")]
    NoDevice(String),
    /// A lane without exactly two ports.
    #[error("`{0}` is no lane; write INSIDE,OUTSIDE, for example af_packet:eth1,af_packet:eth2")]
    NotAPair(String),
    /// Both ports are the same.
    #[error("lane `{0}` has the same port on both sides; a lane forwards between two ports")]
    SamePort(String),
}

impl PortSpec {
    /// Whether it is a capture that comes to its end.
    pub(crate) fn is_read_once(&self) -> bool {
        self.0.starts_with("pcap:") && !self.0.split(',').any(|part| part == "infinite")
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `null` and `null,no-rx` need no colon.
fn is_plain_null(text: &str) -> bool {
    text == "null" || text.starts_with("null,")
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        if is_plain_null(text) {
            return Ok(Self(text.to_owned()));
        }
        let Some((kind, device)) = text.split_once(':').filter(|(kind, _)| !kind.is_empty()) else {
            return Err(PortSpecError::NoKind(text.to_owned()));
        };
        if !KINDS.contains(&kind) {
            return Err(PortSpecError::UnknownKind {
                spec: text.to_owned(),
                kind: kind.to_owned(),
            });
        }
        if device.is_empty() {
            return Err(PortSpecError::NoDevice(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for LaneSpec {
    type Err = PortSpecError;

    /// Splits at the one comma behind which another port begins: devices may have commas of
    /// their own (`pcap:in=a.pcap,out=b.pcap`).
    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        let starts_port = |rest: &str| {
            is_plain_null(rest)
                || rest
                    .split_once(':')
                    .is_some_and(|(kind, _)| KINDS.contains(&kind))
        };
        let mut splits = text
            .match_indices(',')
            .map(|(at, _)| (&text[..at], &text[at + 1..]))
            .filter(|(_, rest)| starts_port(rest));
        let (Some((inside, outside)), None) = (splits.next(), splits.next()) else {
            return Err(match text.split_once(',') {
                // Two parts of which the second is no port: its own message says more.
                Some((first, second)) if !second.contains(',') => first
                    .parse::<PortSpec>()
                    .and_then(|_| second.parse::<PortSpec>())
                    .err()
                    .unwrap_or_else(|| PortSpecError::NotAPair(text.to_owned())),
                _ => PortSpecError::NotAPair(text.to_owned()),
            });
        };
        if inside == outside {
            return Err(PortSpecError::SamePort(text.to_owned()));
        }
        Ok(Self {
            inside: inside.parse()?,
            outside: outside.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match text.parse::<LaneSpec>() {
            Ok(lane) => format!("{} | {}", lane.inside, lane.outside),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_lane_is_two_ports_and_devices_may_have_commas() {
        check(
            "af_packet:eth1,af_packet:eth2",
            "af_packet:eth1 | af_packet:eth2",
        );
        check("pcap:in=a,out=b,null,no-rx", "pcap:in=a,out=b | null,no-rx");
        check("null:size=64,null", "null:size=64 | null");
        check(
            "pci:0000:03:00.0,pci:0000:03:00.1",
            "pci:0000:03:00.0 | pci:0000:03:00.1",
        );
    }

    #[test]
    fn what_is_no_lane_says_what_to_write() {
        check(
            "eth1",
            "`eth1` is no lane; write INSIDE,OUTSIDE, for example af_packet:eth1,af_packet:eth2",
        );
        check(
            "af_packet:eth1,eth2",
            "`eth2` is no port; write KIND:WHAT, for example af_packet:eth2",
        );
        check(
            "af_packet:eth1,bridge:eth2",
            "port `bridge:eth2` has the unknown kind `bridge`; kinds are af_packet, null, \
             pcap, pci, ring, tap, vdev",
        );
        check(
            "tap:a,tap:a",
            "lane `tap:a,tap:a` has the same port on both sides; a lane forwards between two ports",
        );
    }
}

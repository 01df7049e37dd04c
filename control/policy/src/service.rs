//! Ports of a service: `tcp/5432`, `tcp/8000-8099`, `icmp/echo`, `icmpv6/135/0`, `proto/47`, `any`.

use core::fmt;

/// One range of one protocol, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// IP protocol, `None` for every one.
    pub proto: Option<u8>,
    /// First key: a port, or ICMP type x 256 + code, see `abi::image::service_key`.
    pub low: u16,
    /// Last key.
    pub high: u16,
}

/// Why a port was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The word before the slash is no protocol we know.
    #[error("`{text}`: unknown protocol")]
    Protocol {
        /// As written.
        text: String,
    },
    /// Not a port, or not a range of ports.
    #[error("`{text}`: not a port from 0 to 65535, nor a range of them")]
    Number {
        /// As written.
        text: String,
    },
    /// A range that ends before it begins.
    #[error("`{text}`: the range ends before it begins")]
    Backwards {
        /// As written.
        text: String,
    },
    /// Not an ICMP type.
    #[error("`{text}`: unknown icmp type")]
    IcmpType {
        /// As written.
        text: String,
        /// The nearest that is known.
        near: Option<&'static str>,
    },
    /// Not a protocol number.
    #[error("`{text}`: not a protocol number from 0 to 255")]
    ProtocolNumber {
        /// As written.
        text: String,
    },
}

impl PortError {
    /// What to write instead.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Protocol { .. } => {
                "write tcp/PORT, udp/PORT, sctp/PORT, icmp/TYPE, icmpv6/TYPE, proto/NUMBER or any"
                    .into()
            }
            Self::Number { .. } => "write tcp/5432, tcp/8000-8099 or tcp/any".into(),
            Self::Backwards { .. } => "write the lower port first".into(),
            Self::IcmpType { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::IcmpType { near: None, .. } => {
                "write icmp/echo or another type by name, icmp/8, icmp/8/0 (type and code) or icmp/any"
                    .into()
            }
            Self::ProtocolNumber { .. } => "write proto/47 for GRE, proto/50 for ESP".into(),
        }
    }
}

/// ICMP types by name (IANA "ICMP Type Numbers").
const ICMP_TYPES: [(&str, u8); 11] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("redirect", 5),
    ("echo", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp", 13),
    ("timestamp-reply", 14),
    ("extended-echo", 42),
];

/// ICMPv6 types by name (IANA "ICMPv6 type Numbers").
const ICMPV6_TYPES: [(&str, u8); 16] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo", 128),
    ("echo-reply", 129),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbor-solicitation", 135),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("mldv2-report", 143),
    ("extended-echo", 160),
];

impl Port {
    /// Every service there is.
    pub const ANY: Self = Self {
        proto: None,
        low: 0,
        high: u16::MAX,
    };

    /// Reads one entry of `ports`.
    ///
    /// # Errors
    /// [`PortError`] says what is wrong and how to mend it.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let owned = || text.to_owned();
        let (proto, rest) = match text.split_once('/') {
            Some(parts) => parts,
            None if text == "any" => return Ok(Self::ANY),
            None => return Err(PortError::Protocol { text: owned() }),
        };
        let whole = |proto| Self {
            proto: Some(proto),
            low: 0,
            high: u16::MAX,
        };
        match proto {
            "tcp" => ports(6, rest, text),
            "udp" => ports(17, rest, text),
            "sctp" => ports(132, rest, text),
            "icmp" => icmp(1, &ICMP_TYPES, rest, text),
            "icmpv6" => icmp(58, &ICMPV6_TYPES, rest, text),
            "proto" => number(rest)
                .map(whole)
                .ok_or_else(|| PortError::ProtocolNumber { text: owned() }),
            _ => Err(PortError::Protocol { text: owned() }),
        }
    }
}

/// Digits only: Rust's own parser takes a sign.
fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn ports(proto: u8, rest: &str, text: &str) -> Result<Port, PortError> {
    let refuse = || PortError::Number {
        text: text.to_owned(),
    };
    if rest == "any" {
        return Ok(Port {
            proto: Some(proto),
            low: 0,
            high: u16::MAX,
        });
    }
    let (low, high) = rest.split_once('-').unwrap_or((rest, rest));
    let low = number(low).ok_or_else(refuse)?;
    let high = number(high).ok_or_else(refuse)?;
    if high < low {
        return Err(PortError::Backwards {
            text: text.to_owned(),
        });
    }
    Ok(Port {
        proto: Some(proto),
        low,
        high,
    })
}

fn icmp(
    proto: u8,
    names: &'static [(&'static str, u8)],
    rest: &str,
    text: &str,
) -> Result<Port, PortError> {
    if rest == "any" {
        return Ok(Port {
            proto: Some(proto),
            low: 0,
            high: u16::MAX,
        });
    }
    let (kind, code) = match rest.split_once('/') {
        Some((kind, code)) => (kind, Some(code)),
        None => (rest, None),
    };
    let named = names
        .iter()
        .find(|(name, _)| *name == kind)
        .map(|(_, number)| *number);
    let unknown = || PortError::IcmpType {
        text: text.to_owned(),
        near: crate::near::nearest(kind, names.iter().map(|(name, _)| *name)),
    };
    let kind: u8 = named.or_else(|| number(kind)).ok_or_else(unknown)?;
    let (low, high) = match code {
        Some(code) => {
            let code: u8 = number(code).ok_or_else(unknown)?;
            (code, code)
        }
        None => (0, u8::MAX),
    };
    let [low, high] = [low, high].map(|code| u16::from_be_bytes([kind, code]));
    Ok(Port {
        proto: Some(proto),
        low,
        high,
    })
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.low, self.high);
        let whole = low == 0 && high == u16::MAX;
        let Some(proto) = self.proto else {
            return f.write_str("any");
        };
        let name = match proto {
            6 => "tcp",
            17 => "udp",
            132 => "sctp",
            1 => "icmp",
            58 => "icmpv6",
            _ => return write!(f, "proto/{proto}"),
        };
        let names: &[(&str, u8)] = if proto == 1 {
            &ICMP_TYPES
        } else {
            &ICMPV6_TYPES
        };
        let [kind, code] = low.to_be_bytes();
        let kind_name = names
            .iter()
            .find(|(_, number)| *number == kind)
            .map(|(name, _)| *name);
        match (proto, kind_name) {
            _ if whole => write!(f, "{name}/any"),
            (1 | 58, _) if low == high => write!(f, "{name}/{kind}/{code}"),
            (1 | 58, Some(kind_name)) => write!(f, "{name}/{kind_name}"),
            (1 | 58, None) => write!(f, "{name}/{kind}"),
            _ if low == high => write!(f, "{name}/{low}"),
            _ => write!(f, "{name}/{low}-{high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_print_as_they_read() {
        for text in [
            "tcp/5432",
            "tcp/8000-8099",
            "udp/53",
            "sctp/3868",
            "icmp/echo",
            "icmp/8/0",
            "icmp/200",
            "icmpv6/neighbor-solicitation",
            "icmpv6/135/0",
            "proto/47",
            "any",
            "tcp/any",
            "icmp/any",
        ] {
            assert_eq!(Port::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_port_is_refused_with_a_way_to_mend_it() {
        let check = |text: &str, expected: &str| {
            let error = Port::parse(text).expect_err(text);
            assert_eq!(format!("{error}; {}", error.mend()), expected);
        };
        check(
            "tcp/70000",
            "`tcp/70000`: not a port from 0 to 65535, nor a range of them; write tcp/5432, tcp/8000-8099 or tcp/any",
        );
        check(
            "tcp/90-80",
            "`tcp/90-80`: the range ends before it begins; write the lower port first",
        );
        check(
            "icmp/ehco",
            "`icmp/ehco`: unknown icmp type; did you mean `echo`?",
        );
        check(
            "proto/256",
            "`proto/256`: not a protocol number from 0 to 255; write proto/47 for GRE, proto/50 for ESP",
        );
        check(
            "http",
            "`http`: unknown protocol; write tcp/PORT, udp/PORT, sctp/PORT, icmp/TYPE, icmpv6/TYPE, proto/NUMBER or any",
        );
        check(
            "tcp/+80",
            "`tcp/+80`: not a port from 0 to 65535, nor a range of them; write tcp/5432, tcp/8000-8099 or tcp/any",
        );
    }
}

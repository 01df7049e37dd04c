//! Addresses and prefixes as people write them.

use abi::image::{PrefixRow, v6_masked};
use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address or prefix was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Neither an address nor a prefix.
    #[error("`{text}` is neither an address nor a prefix")]
    Syntax {
        /// As written.
        text: String,
    },
    /// Bits behind the length are set.
    #[error("`{text}` has host bits set")]
    HostBits {
        /// As written.
        text: String,
        /// The prefix that was probably meant.
        right: IpNet,
    },
    /// IPv4 in IPv6 clothes.
    #[error("`{text}` is an IPv4 address in IPv6 form")]
    Mapped {
        /// As written.
        text: String,
    },
}

impl PrefixError {
    /// What to write instead.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Syntax { .. } => {
                "write an address (10.0.1.10, 2001:db8::10) or a prefix (10.0.1.0/24)".into()
            }
            Self::HostBits { right, text } => {
                let host = text.split('/').next().unwrap_or(text);
                format!("write {right} for the whole prefix, or {host} for the one address")
            }
            Self::Mapped { .. } => "write it as IPv4".into(),
        }
    }
}

/// Reads an address (a prefix of full length) or a prefix.
pub(crate) fn parse(text: &str) -> Result<IpNet, PrefixError> {
    let syntax = || PrefixError::Syntax {
        text: text.to_owned(),
    };
    let net = match text.contains('/') {
        true => IpNet::from_str(text).map_err(|_| syntax())?,
        false => IpNet::from(IpAddr::from_str(text).map_err(|_| syntax())?),
    };
    if net.trunc() != net {
        return Err(PrefixError::HostBits {
            text: text.to_owned(),
            right: net.trunc(),
        });
    }
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            Err(PrefixError::Mapped {
                text: text.to_owned(),
            })
        }
        _ => Ok(net),
    }
}

/// Either family in one number space: IPv4 is `::ffff:a.b.c.d`, its length + 96.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) v4: bool,
    pub(crate) address: u128,
    pub(crate) length: u8,
}

impl Span {
    pub(crate) fn last(self) -> u128 {
        self.address | !v6_masked(u128::MAX, self.length)
    }

    pub(crate) fn row(self) -> PrefixRow {
        PrefixRow {
            address: self.address.to_be_bytes(),
            length: self.length,
            family: if self.v4 { 4 } else { 6 },
        }
    }
}

impl From<IpNet> for Span {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(v4) => Self {
                v4: true,
                address: u128::from(v4.network().to_ipv6_mapped()),
                length: v4.prefix_len() + 96,
            },
            IpNet::V6(v6) => Self {
                v4: false,
                address: u128::from(v6.network()),
                length: v6.prefix_len(),
            },
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = core::net::Ipv6Addr::from(self.address);
        let full = self.length == 128;
        match v6.to_ipv4_mapped().filter(|_| self.v4) {
            Some(v4) if full => write!(f, "{v4}"),
            None if full => write!(f, "{v6}"),
            Some(v4) => write!(f, "{v4}/{}", self.length - 96),
            None => write!(f, "{v6}/{}", self.length),
        }
    }
}

/// Addresses covered by any of many prefixes.
pub(crate) struct Union {
    /// Apart and ascending: family, first, last.
    runs: Vec<(bool, u128, u128)>,
}

impl Union {
    pub(crate) fn of(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut runs: Vec<(bool, u128, u128)> = Vec::new();
        for span in spans {
            // Prefixes nest or are apart: one that begins within the last run lies within it.
            let within = runs
                .last()
                .is_some_and(|run| run.0 == span.v4 && run.2 >= span.last());
            if !within {
                runs.push((span.v4, span.address, span.last()));
            }
        }
        Self { runs }
    }

    /// Whether any address of `span` is covered.
    pub(crate) fn touches(&self, span: Span) -> bool {
        let at = self
            .runs
            .partition_point(|run| (run.0, run.2) < (span.v4, span.address));
        self.runs
            .get(at)
            .is_some_and(|run| run.0 == span.v4 && run.1 <= span.last())
    }
}

/// The 16 bytes that images and records speak of: IPv4 is `::ffff:a.b.c.d`.
#[must_use]
pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Address space that counts as internal where `[policy] internal` does not say otherwise: private,
/// shared, link-local, loopback and multicast of both families, the broadcast address, and the
/// addresses of a host that has none yet (RFC 6890): none of them is anywhere in the internet.
#[must_use]
pub(crate) fn internal_default() -> Vec<IpNet> {
    let v4 = |a: [u8; 4], length| Ipv4Net::new(a.into(), length).ok().map(IpNet::V4);
    let v6 = |a: [u16; 8], length| Ipv6Net::new(a.into(), length).ok().map(IpNet::V6);
    [
        v4([0, 0, 0, 0], 8),
        v4([10, 0, 0, 0], 8),
        v4([172, 16, 0, 0], 12),
        v4([192, 168, 0, 0], 16),
        v4([100, 64, 0, 0], 10),
        v4([169, 254, 0, 0], 16),
        v4([127, 0, 0, 0], 8),
        v4([224, 0, 0, 0], 4),
        v4([255, 255, 255, 255], 32),
        v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        v6([0, 0, 0, 0, 0, 0, 0, 0], 128),
        v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
        v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    ]
    .into_iter()
    .flatten()
    .collect()
}

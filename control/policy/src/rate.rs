//! Rates of limit rules: `100pps`, `10Mbps`, `50cps`.

use abi::image::RateKind;
use core::fmt;

/// A rate: tokens per second, and what a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Packets, bits or new flows.
    pub kind: RateKind,
    /// Tokens per second, at least 1.
    pub per_second: u64,
}

/// `number [k|M|G] (pps|bps|cps)`, nothing between but spaces.
pub(crate) fn parse(text: &str) -> Option<Rate> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let (scale, unit) = match unit.as_bytes().first()? {
        b'k' => (1_000, &unit[1..]),
        b'M' => (1_000_000, &unit[1..]),
        b'G' => (1_000_000_000, &unit[1..]),
        _ => (1, unit),
    };
    let kind = RateKind::ALL
        .iter()
        .copied()
        .find(|kind| kind.name() == unit)?;
    let per_second = number.checked_mul(scale).filter(|rate| *rate > 0)?;
    Some(Rate { kind, per_second })
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, scale) = match self.per_second {
            n if n % 1_000_000_000 == 0 => (n / 1_000_000_000, "G"),
            n if n % 1_000_000 == 0 => (n / 1_000_000, "M"),
            n if n % 1_000 == 0 => (n / 1_000, "k"),
            n => (n, ""),
        };
        write!(f, "{number}{scale}{}", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_they_are_written() {
        for text in [
            "100pps",
            "10Mbps",
            "50cps",
            "1Gbps",
            "2kpps",
            "18446744073709551615bps",
        ] {
            assert_eq!(parse(text).expect(text).to_string(), text);
        }
        assert_eq!(parse(" 10 Mbps ").expect("spaces").per_second, 10_000_000);
    }

    #[test]
    fn what_is_not_a_rate_is_refused() {
        for text in [
            "",
            "pps",
            "0pps",
            "10",
            "10Mb",
            "10mbps",
            "1.5Mbps",
            "-1pps",
            "20000000000Gbps",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

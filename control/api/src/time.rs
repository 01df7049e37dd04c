//! Points in time: nanoseconds since the Unix epoch inside, RFC 3339 in JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A point in time. In JSON and TSV a string of RFC 3339 in UTC with nine digits of fraction, so
/// that texts sort as times do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ts(
    /// Nanoseconds since the Unix epoch.
    pub u64,
);

/// A text that is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no time: write it as 2026-01-31T12:00:00Z, as 2026-01-31 or 2026-01-31 12:00 in UTC, \
     or as nanoseconds since 1970 in digits only"
)]
pub struct TsError {
    /// What was given.
    pub text: String,
}

impl fmt::Display for Ts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(ts) => f.pad(&format!("{ts:.9}")),
            Err(_) => f.pad(&self.0.to_string()),
        }
    }
}

impl FromStr for Ts {
    type Err = TsError;

    fn from_str(text: &str) -> Result<Self, TsError> {
        let refused = || TsError {
            text: text.to_owned(),
        };
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self).map_err(|_| refused());
        }
        let ts = text
            .parse::<jiff::Timestamp>()
            .or_else(|_| in_utc(text))
            .map_err(|_| refused())?;
        u64::try_from(ts.as_nanosecond())
            .map(Self)
            .map_err(|_| refused())
    }
}

/// A date, or a date and time without a zone, as tables show them.
fn in_utc(text: &str) -> Result<jiff::Timestamp, jiff::Error> {
    let civil: jiff::civil::DateTime = text.parse()?;
    Ok(civil.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
}

impl Serialize for Ts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_written_with_nine_digits_of_fraction() {
        assert_eq!(
            Ts(1_477_674_210_000_000_005).to_string(),
            "2016-10-28T17:03:30.000000005Z"
        );
        assert_eq!(Ts(0).to_string(), "1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn what_tables_show_is_understood_as_utc() {
        for (text, full) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31 12:05", "2026-01-31T12:05:00Z"),
            ("2026-01-31 12:05:07.250", "2026-01-31T12:05:07.25Z"),
        ] {
            assert_eq!(text.parse::<Ts>(), full.parse::<Ts>(), "{text}");
        }
        for text in ["2026-13-01", "2026-01-31 25:00", "yesterday", "12:05", ""] {
            assert!(text.parse::<Ts>().is_err(), "{text}");
        }
    }

    #[test]
    fn digits_alone_are_nanoseconds() {
        assert_eq!(
            "1477674210000000005".parse(),
            Ok(Ts(1_477_674_210_000_000_005))
        );
        assert!("".parse::<Ts>().is_err());
        assert!("yesterday".parse::<Ts>().is_err());
    }

    proptest! {
        #[test]
        fn every_time_comes_back_from_its_text(ns in any::<u64>()) {
            prop_assert_eq!(Ts(ns).to_string().parse(), Ok(Ts(ns)));
        }
    }
}

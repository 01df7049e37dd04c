//! Numbers for people: counts, bytes, rates, spans of time.

use api::Ts;

/// `1234567` as `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 packet`, `2 packets`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

/// A signed difference.
#[must_use]
pub fn difference(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// `number * times / parts` with one digit after the point, rounded down; `-` of no parts.
#[must_use]
pub fn tenths(number: u128, times: u128, parts: u64) -> String {
    match (number * times * 10).checked_div(parts.into()) {
        Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}

/// Three significant digits with a unit of a thousand: `999`, `1.23 k`, `45.6 M`.
fn scaled(number: u64, steps: &[&str], base: u64) -> String {
    let mut unit = 1_u64;
    let mut step = 0;
    while number / unit >= base && step + 1 < steps.len() {
        unit = unit.saturating_mul(base);
        step += 1;
    }
    let Some(name) = steps.get(step) else {
        return number.to_string();
    };
    if step == 0 {
        return format!("{number} {name}").trim_end().to_owned();
    }
    let whole = number / unit;
    let digits = if whole >= 100 {
        0
    } else if whole >= 10 {
        1
    } else {
        2
    };
    let hundredths = u128::from(number % unit) * 100 / u128::from(unit);
    match digits {
        0 => format!("{whole} {name}"),
        1 => format!("{whole}.{} {name}", hundredths / 10),
        _ => format!("{whole}.{hundredths:02} {name}"),
    }
}

/// Bytes in units of 1024: `1.50 KiB`. Rounded down.
#[must_use]
pub fn bytes(number: u64) -> String {
    scaled(number, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 1024)
}

/// Bits a second in units of 1000: `9.41 Gbit/s`.
#[must_use]
pub fn bit_rate(bits_per_s: u64) -> String {
    scaled(
        bits_per_s,
        &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"],
        1000,
    )
}

/// Packets a second in units of 1000: `1.20 M packets/s`.
#[must_use]
pub fn packet_rate(packets_per_s: u64) -> String {
    if packets_per_s == 1 {
        return "1 packet/s".to_owned();
    }
    scaled(
        packets_per_s,
        &["packets/s", "k packets/s", "M packets/s", "G packets/s"],
        1000,
    )
}

/// A span of nanoseconds with two units at most: `850 ms`, `12 s`, `3 min 5 s`, `2 d 4 h`.
#[must_use]
pub fn span(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let two = |big: u64, big_name: &str, small: u64, small_name: &str| {
        if small == 0 {
            format!("{big} {big_name}")
        } else {
            format!("{big} {big_name} {small} {small_name}")
        }
    };
    match seconds {
        0 if ns < 1_000 => format!("{ns} ns"),
        0 if ns < 1_000_000 => format!("{} us", ns / 1_000),
        0 => format!("{} ms", ns / 1_000_000),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// Time from `then` to `now`: `12 s ago`; `-` where `then` is not known.
#[must_use]
pub fn age(then: Option<Ts>, now: Ts) -> String {
    then.map_or_else(
        || "-".to_owned(),
        |then| format!("{} ago", span(now.0.saturating_sub(then.0))),
    )
}

/// Seconds of a time in UTC: `2026-01-31 12:00:00`.
#[must_use]
pub fn clock(ts: Ts) -> String {
    let text = ts.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => text,
    }
}

/// Milliseconds of a time of day in UTC: `12:00:00.123`.
#[must_use]
pub fn clock_ms(ts: Ts) -> String {
    let text = ts.to_string();
    text.get(11..23).map_or(text.clone(), str::to_owned)
}

/// The same with its day: `2026-01-31 12:00:00.123`.
#[must_use]
pub fn day_clock_ms(ts: Ts) -> String {
    format!("{} {}", day(ts), clock_ms(ts))
}

/// Day of a time in UTC: `2026-01-31`.
#[must_use]
pub fn day(ts: Ts) -> String {
    let text = ts.to_string();
    text.get(..10).map_or(text.clone(), str::to_owned)
}

/// First twelve digits of a revision, or words that say there is none.
#[must_use]
pub fn revision(revision: &str) -> &str {
    match revision {
        "" => "none",
        long => long.get(..12).unwrap_or(long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(
            [0, 12, 999, 1_000, 1_234_567].map(count).join(" "),
            "0 12 999 1,000 1,234,567"
        );
        assert_eq!(difference(-1_500), "-1,500");
        assert_eq!(difference(i64::MIN), "-9,223,372,036,854,775,808");
        assert_eq!(
            (counted(1, "flow"), counted(0, "flow")),
            ("1 flow".into(), "0 flows".into())
        );
    }

    #[test]
    fn sizes_and_rates_have_three_digits() {
        assert_eq!(
            [0, 1023, 1024, 1536, 10_240, 123_456_789, u64::MAX]
                .map(bytes)
                .join(", "),
            "0 B, 1023 B, 1.00 KiB, 1.50 KiB, 10.0 KiB, 117 MiB, 16383 PiB"
        );
        assert_eq!(bit_rate(9_410_000_000), "9.41 Gbit/s");
        assert_eq!(packet_rate(14_880_952), "14.8 M packets/s");
        assert_eq!(
            [0, 1, 2].map(packet_rate).join(", "),
            "0 packets/s, 1 packet/s, 2 packets/s"
        );
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let spans = [
            0,
            999,
            1_000,
            850_000_000,
            12_000_000_000,
            185_000_000_000,
            187_200_000_000_000,
        ];
        assert_eq!(
            spans.map(span).join(", "),
            "0 ns, 999 ns, 1 us, 850 ms, 12 s, 3 min 5 s, 2 d 4 h"
        );
        assert_eq!(age(Some(Ts(5_000_000_000)), Ts(2_000_000_000)), "0 ns ago");
    }

    #[test]
    fn times_are_shown_in_utc() {
        let ts = Ts(1_477_674_210_123_000_005);
        assert_eq!(clock(ts), "2016-10-28 17:03:30");
        assert_eq!(clock_ms(ts), "17:03:30.123");
        assert_eq!(day_clock_ms(ts), format!("{} 17:03:30.123", day(ts)));
    }
}

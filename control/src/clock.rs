//! The only clock of this process: nanoseconds since the Unix epoch, and today's date for rules
//! that expire.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch; 0 where the machine's clock is before 1970.
#[must_use]
pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// Today, UTC.
#[must_use]
pub fn today() -> jiff::civil::Date {
    date_of(now_ns())
}

/// The day of a time, UTC.
#[must_use]
pub fn date_of(ns: u64) -> jiff::civil::Date {
    jiff::Timestamp::from_nanosecond(i128::from(ns))
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
}

/// Today in days since 1970-01-01, as policy images count.
#[must_use]
pub fn today_days() -> u32 {
    u32::try_from(now_ns() / (86_400 * 1_000_000_000)).unwrap_or(u32::MAX)
}

/// Processor time of this thread, nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

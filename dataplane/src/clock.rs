//! The only clock in the house: the time stamp counter, turned into nanoseconds since the Unix epoch.
//!
//! A worker reads it once per round and hands the time on as an argument. The main thread corrects
//! the drift against the system clock once a second through [`Drift`]; nobody else reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch by the system clock. Main thread only: may be a syscall.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the system clock"
)]
pub fn system_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Correction that the main thread adds to every worker's clock, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Drift(Arc<AtomicI64>);

impl Drift {
    fn get(&self) -> i64 {
        // Relaxed: one number, no other memory depends on it.
        self.0.load(Ordering::Relaxed)
    }

    /// Measures how far `clock` is from the system clock and corrects all its copies.
    /// Called by the main thread, about once a second.
    pub fn correct(&self, clock: &Clock) {
        if let Clock::Tsc(tsc) = clock {
            let off = i128::from(system_ns()) - i128::from(tsc.uncorrected_ns());
            self.0
                .store(i64::try_from(off).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

/// A worker's clock.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The time stamp counter.
    Tsc(TscClock),
    /// Moved by hand, or by the time stamps of a capture.
    Manual(u64),
}

impl Clock {
    /// Nanoseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub fn read(&self) -> u64 {
        match self {
            Self::Tsc(tsc) => tsc.uncorrected_ns().wrapping_add_signed(tsc.drift.get()),
            Self::Manual(now) => *now,
        }
    }
}

/// Time stamp counter against the Unix epoch.
#[derive(Clone, Debug)]
pub struct TscClock {
    ticks: fn() -> u64,
    start_ticks: u64,
    start_ns: u64,
    /// Nanoseconds per tick, 32 bits before and 32 after the point.
    ns_per_tick: u64,
    drift: Drift,
}

impl TscClock {
    /// A clock over a counter of `hz` ticks per second, set by the system clock now.
    #[must_use]
    pub fn new(ticks: fn() -> u64, hz: u64, drift: Drift) -> Self {
        let ns_per_tick = (u128::from(1_000_000_000_u64) << 32) / u128::from(hz.max(1));
        Self {
            ticks,
            start_ticks: ticks(),
            start_ns: system_ns(),
            ns_per_tick: u64::try_from(ns_per_tick).unwrap_or(u64::MAX),
            drift,
        }
    }

    #[inline]
    fn uncorrected_ns(&self) -> u64 {
        let passed = (self.ticks)().wrapping_sub(self.start_ticks);
        let ns = (u128::from(passed) * u128::from(self.ns_per_tick)) >> 32;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "64 bits of nanoseconds last 584 years"
        )]
        let ns = ns as u64;
        self.start_ns.wrapping_add(ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    static TICKS: AtomicU64 = AtomicU64::new(1000);

    #[test]
    fn ticks_become_nanoseconds_and_the_drift_is_added() {
        let drift = Drift::default();
        let clock = Clock::Tsc(TscClock::new(
            || TICKS.load(Ordering::Relaxed),
            2_000_000_000,
            drift.clone(),
        ));
        let start = clock.read();
        TICKS.fetch_add(4_000_000_000, Ordering::Relaxed);
        let passed = clock.read() - start;
        assert!(
            (1_999_999_990..=2_000_000_010).contains(&passed),
            "{passed}"
        );
        drift.0.store(-500, Ordering::Relaxed);
        assert_eq!(clock.read() - start, passed - 500);
    }
}

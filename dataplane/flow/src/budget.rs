//! How many records of their own the flows of one source may have.

/// Records a second up to a burst, as a credit of time: a record costs the time in which one may be
/// written, and no more credit is kept than a burst costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    credit_ns: u64,
    filled_ns: u64,
}

/// What a budget is filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    record_ns: u64,
    burst_ns: u64,
}

impl Pace {
    /// `rate` records a second, at least 1, and `burst` at once.
    pub(crate) const fn new(rate: u32, burst: u32) -> Self {
        let rate = if rate == 0 { 1 } else { rate as u64 };
        let record_ns = 1_000_000_000 / rate;
        Self {
            record_ns,
            burst_ns: record_ns.saturating_mul(burst as u64),
        }
    }

    /// After this long a budget is full again, whatever was taken.
    pub(crate) const fn full_after_ns(self) -> u64 {
        self.burst_ns
    }
}

impl Budget {
    pub(crate) const fn full(pace: Pace, now: u64) -> Self {
        Self {
            credit_ns: pace.burst_ns,
            filled_ns: now,
        }
    }

    /// When a record was last asked for.
    pub(crate) const fn used_ns(&self) -> u64 {
        self.filled_ns
    }

    /// Takes one record, if there is one left. A clock that steps back gives nothing.
    #[inline]
    pub(crate) const fn take(&mut self, pace: Pace, now: u64) -> bool {
        let enough = self.has(pace, now);
        if enough {
            self.credit_ns -= pace.record_ns;
        }
        enough
    }

    /// Whether there is one left. To ask twice at one time is to ask once.
    #[inline]
    pub(crate) const fn has(&mut self, pace: Pace, now: u64) -> bool {
        let gained = now.saturating_sub(self.filled_ns);
        self.filled_ns = now;
        let credit = self.credit_ns.saturating_add(gained);
        self.credit_ns = if credit < pace.burst_ns {
            credit
        } else {
            pace.burst_ns
        };
        self.credit_ns >= pace.record_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_budget_gives_its_burst_then_its_rate() {
        let pace = Pace::new(10, 5);
        let mut budget = Budget::full(pace, SECOND);
        let at_once = (0..100).filter(|_| budget.take(pace, SECOND)).count();
        let later = (0..100).filter(|_| budget.take(pace, 2 * SECOND)).count();
        assert_eq!((at_once, later), (5, 5), "ten were gained, five are kept");
        let steady = (0..300).filter(|i| budget.take(pace, 2 * SECOND + i * SECOND / 100));
        assert!((29..=31).contains(&steady.count()));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            rate in 1_u32..1000, burst in 1_u32..100, steps in prop::collection::vec(0_u64..SECOND / 10, 1..200),
        ) {
            let pace = Pace::new(rate, burst);
            let mut budget = Budget::full(pace, 0);
            let (mut now, mut taken) = (0, 0_u64);
            for step in steps {
                now += step;
                taken += u64::from(budget.take(pace, now));
            }
            prop_assert!(taken <= u64::from(burst) + now / (SECOND / u64::from(rate)));
        }
    }
}

//! Token buckets: the rate limits of rules, and of answers to rejected packets.

/// A bucket that fills at a steady rate up to its burst. One core owns it.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Tokens per second.
    rate: u64,
    /// Tokens held at most, in billionths.
    burst_nano: u128,
    /// Tokens held, in billionths: one nanosecond at `rate` adds `rate` of them.
    tokens_nano: u128,
    filled_ns: u64,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens per second.
    #[must_use]
    pub fn new(rate: u64, burst: u64) -> Self {
        let burst_nano = u128::from(burst.max(1)) * 1_000_000_000;
        Self {
            rate,
            burst_nano,
            tokens_nano: burst_nano,
            filled_ns: 0,
        }
    }

    /// Takes `count` tokens if they are there at `now`, nanoseconds on any one clock.
    /// A clock that steps back adds nothing.
    #[inline]
    pub fn take(&mut self, count: u64, now: u64) -> bool {
        let passed = now.saturating_sub(self.filled_ns);
        self.filled_ns = self.filled_ns.max(now);
        let gained = u128::from(passed) * u128::from(self.rate);
        self.tokens_nano = self.burst_nano.min(self.tokens_nano.saturating_add(gained));
        let wanted = u128::from(count) * 1_000_000_000;
        let enough = self.tokens_nano >= wanted;
        if enough {
            self.tokens_nano -= wanted;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn no_more_than_the_burst_and_the_rate_pass() {
        let mut bucket = TokenBucket::new(100, 10);
        let mut passed = 0;
        for step in 0..3000_u64 {
            passed += u64::from(bucket.take(1, SECOND + step * SECOND / 1000));
        }
        assert!(
            (309..=311).contains(&passed),
            "three seconds at 100 and a burst of 10: {passed}"
        );
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let mut bucket = TokenBucket::new(1, 1);
        assert!(bucket.take(1, 10 * SECOND));
        assert!(!bucket.take(1, 2 * SECOND));
        assert!(!bucket.take(1, 10 * SECOND));
        assert!(bucket.take(1, 11 * SECOND));
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_steps_the_rate_holds(rate in 1_u64..10_000, burst in 1_u64..100, steps in proptest::collection::vec(0_u64..50_000_000, 1..300)) {
            let mut bucket = TokenBucket::new(rate, burst);
            let (mut now, mut passed) = (SECOND, 0_u128);
            for step in &steps {
                now += step;
                passed += u128::from(bucket.take(1, now));
            }
            let most = u128::from(burst) + u128::from(now) * u128::from(rate) / u128::from(SECOND);
            proptest::prop_assert!(passed <= most);
        }
    }
}

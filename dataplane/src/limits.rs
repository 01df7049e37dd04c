//! The token buckets of the policy's limit rules, one set per core.
//!
//! A rate holds for each direction by itself: what the initiators send and what comes back have a
//! bucket of their own, or a flood of requests would take the tokens that the replies to the few
//! admitted ones need. A rule's rate is shared out evenly over the workers, so that together they
//! never pass more than the rule says; a rule whose flows all meet one core gets that core's share.

use crate::token_bucket::TokenBucket;
use abi::image::RateKind;
use acl::Limit;

/// Bits in a byte.
const BITS: u64 = 8;

/// One limit on one core.
#[derive(Clone, Debug)]
pub struct LimitBucket {
    rule_id: u64,
    kind: RateKind,
    rate: u64,
    burst: u64,
    /// From the initiator, from the responder.
    buckets: [TokenBucket; 2],
}

impl LimitBucket {
    /// The share of one of `workers` cores.
    #[must_use]
    pub fn new(limit: &Limit, workers: u64) -> Self {
        let rate = (limit.rate / workers.max(1)).max(1);
        let burst = (limit.burst / workers.max(1)).max(1);
        Self {
            rule_id: limit.rule_id,
            kind: limit.kind,
            rate,
            burst,
            buckets: [TokenBucket::new(rate, burst), TokenBucket::new(rate, burst)],
        }
    }

    /// Whether a new flow may begin at `now`.
    #[inline]
    pub fn admits_flow(&mut self, now: u64) -> bool {
        self.kind != RateKind::Flows || self.buckets[0].take(1, now)
    }

    /// Whether a packet of `ip_bytes`, forward where its sender is the initiator, may pass at `now`.
    #[inline]
    pub fn admits_packet(&mut self, is_forward: bool, ip_bytes: u32, now: u64) -> bool {
        let bucket = &mut self.buckets[usize::from(!is_forward)];
        match self.kind {
            RateKind::Packets => bucket.take(1, now),
            RateKind::Bits => bucket.take(u64::from(ip_bytes) * BITS, now),
            RateKind::Flows => true,
        }
    }
}

/// The limits of one image on one core, by limit index.
#[derive(Clone, Debug, Default)]
pub struct Limits(Vec<LimitBucket>);

impl Limits {
    /// Made by the main thread: the only allocation.
    #[must_use]
    pub fn new(limits: &[Limit], workers: u64) -> Self {
        Self(
            limits
                .iter()
                .map(|limit| LimitBucket::new(limit, workers))
                .collect(),
        )
    }

    /// The bucket of a decision's `limit_index`.
    #[inline]
    pub fn get_mut(&mut self, limit_index: u16) -> Option<&mut LimitBucket> {
        self.0.get_mut(usize::from(limit_index))
    }

    /// Takes over the tokens left in the buckets of the policy before, so that publishing a policy
    /// does not refill what its rules have used up.
    ///
    /// # Bounded work
    /// One look for each limit where the order of rules stayed; one more pass over the limits of
    /// the policy before for each that moved, of which there are at most [`MOVES_MAX`].
    pub fn inherit(&mut self, before: &Self) {
        let mut moves = 0;
        for (index, bucket) in self.0.iter_mut().enumerate() {
            let same = |old: &&LimitBucket| old.rule_id == bucket.rule_id;
            let found = before.0.get(index).filter(same).or_else(|| {
                moves += 1;
                if moves > MOVES_MAX {
                    None
                } else {
                    before.0.iter().find(same)
                }
            });
            if let Some(old) = found
                && (old.kind, old.rate, old.burst) == (bucket.kind, bucket.rate, bucket.burst)
            {
                bucket.buckets.clone_from(&old.buckets);
            }
        }
    }
}

/// Limits whose place moved that are still looked for; the rest start full.
const MOVES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(rule_id: u64, kind: RateKind, rate: u64) -> Limit {
        Limit {
            rule_id,
            rule_index: 0,
            kind,
            rate,
            burst: rate,
        }
    }

    #[test]
    fn a_rate_is_shared_out_over_the_workers() {
        let mut limits = Limits::new(&[limit(1, RateKind::Packets, 100)], 4);
        let bucket = limits.get_mut(0).unwrap();
        let passed = (0..100)
            .filter(|_| bucket.admits_packet(true, 60, SECOND))
            .count();
        assert_eq!(passed, 25);
    }

    #[test]
    fn replies_have_tokens_of_their_own() {
        let mut limits = Limits::new(&[limit(1, RateKind::Packets, 10)], 1);
        let bucket = limits.get_mut(0).unwrap();
        let requests = (0..100)
            .filter(|_| bucket.admits_packet(true, 60, SECOND))
            .count();
        let replies = (0..10)
            .filter(|_| bucket.admits_packet(false, 60, SECOND))
            .count();
        assert_eq!((requests, replies), (10, 10));
    }

    #[test]
    fn bits_are_counted_by_the_size_of_the_packet() {
        let mut limits = Limits::new(&[limit(1, RateKind::Bits, 8000)], 1);
        let bucket = limits.get_mut(0).unwrap();
        assert!(bucket.admits_packet(true, 1000, SECOND));
        assert!(!bucket.admits_packet(true, 1, SECOND));
        assert!(bucket.admits_flow(SECOND));
    }

    #[test]
    fn publishing_again_does_not_refill_a_bucket_even_where_rules_moved() {
        let mut old = Limits::new(&[limit(7, RateKind::Flows, 1)], 1);
        assert!(old.get_mut(0).unwrap().admits_flow(SECOND));
        let mut new = Limits::new(
            &[limit(3, RateKind::Flows, 1), limit(7, RateKind::Flows, 1)],
            1,
        );
        new.inherit(&old);
        assert!(
            new.get_mut(0).unwrap().admits_flow(SECOND),
            "a new rule starts full"
        );
        assert!(
            !new.get_mut(1).unwrap().admits_flow(SECOND),
            "an old one goes on"
        );
    }
}

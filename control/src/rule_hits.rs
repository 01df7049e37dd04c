//! What each rule decided since this process started.

use crate::names::ById;
use abi::FlowRecord;
use std::sync::{Mutex, PoisonError};

/// Rules that are counted; records of further ones are counted together, without a name.
pub const RULES_MAX: usize = 100_000;

/// What one rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleHits {
    /// Flow records it decided, and flows of aggregates.
    pub hits: u64,
    /// Packets in those.
    pub packets: u64,
    /// IP-layer bytes in those.
    pub bytes: u64,
    /// First packet it decided, nanoseconds since 1970.
    pub first_ns: u64,
    /// Last packet it decided.
    pub last_ns: u64,
    /// Flow records it would have decided, were everything in test enforced, and did not.
    pub pending_hits: u64,
}

/// Hits by stable rule id.
#[derive(Debug, Default)]
pub struct HitCounters {
    rules: Mutex<ById<RuleHits>>,
}

impl HitCounters {
    /// Counts a batch of records.
    pub fn count<'a>(&self, records: impl Iterator<Item = &'a FlowRecord>) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let flows = record.as_aggregate().map_or(1, |a| a.flows);
            if record.rule_id != 0 {
                on_entry(&mut rules, record.rule_id, |hits| {
                    let first = hits.hits == 0;
                    hits.hits += flows;
                    hits.packets += record.packets_fwd + record.packets_rev;
                    hits.bytes += record.bytes_fwd + record.bytes_rev;
                    let earlier = hits.first_ns.min(record.first_ns);
                    hits.first_ns = if first { record.first_ns } else { earlier };
                    hits.last_ns = hits.last_ns.max(record.last_ns);
                });
            }
            if record.pending_rule_id != 0 && record.pending_rule_id != record.rule_id {
                on_entry(&mut rules, record.pending_rule_id, |hits| {
                    hits.pending_hits += flows;
                });
            }
        }
    }

    /// What a rule decided.
    #[must_use]
    pub fn of(&self, rule_id: u64) -> RuleHits {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.get(&rule_id).copied().unwrap_or_default()
    }

    /// Every rule that decided anything.
    #[must_use]
    pub fn all(&self) -> Vec<(u64, RuleHits)> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().map(|(id, hits)| (*id, *hits)).collect()
    }
}

/// Changes the counter of a rule; id 0 stands for those beyond [`RULES_MAX`].
fn on_entry(rules: &mut ById<RuleHits>, id: u64, change: impl FnOnce(&mut RuleHits)) {
    if let Some(hits) = rules.get_mut(&id) {
        return change(hits);
    }
    let id = if rules.len() < RULES_MAX { id } else { 0 };
    change(rules.entry(id).or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enforced_and_pending_hits_are_counted_apart() {
        let mut record = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
        (record.rule_id, record.pending_rule_id) = (7, 9);
        (record.packets_fwd, record.packets_rev) = (2, 1);
        (record.bytes_fwd, record.first_ns, record.last_ns) = (300, 50, 60);
        let mut later = record;
        (later.pending_rule_id, later.first_ns, later.last_ns) = (7, 40, 90);
        let counters = HitCounters::default();
        counters.count([record, later].iter());
        let hits = counters.of(7);
        assert_eq!((hits.hits, hits.packets, hits.bytes), (2, 6, 600));
        assert_eq!(
            (hits.first_ns, hits.last_ns, hits.pending_hits),
            (40, 90, 0)
        );
        assert_eq!(
            counters.of(9),
            RuleHits {
                pending_hits: 1,
                ..RuleHits::default()
            }
        );
    }
}

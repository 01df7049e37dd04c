//! What the caller does to a live flow when its verdict changes.

use crate::cache::{Ends, FlowCache, FlowIndex, LikelyEntry};
use crate::key::{FlowKey, Side};
use crate::prefetch::prefetch_second;
use crate::record::RecordSink;
use crate::verdict::{Packed, decide, low_epoch};
use abi::record::{FlowEndReason, RecordKind};
use abi::verdict::{Action, Decision, InitiatorEvidence};

impl FlowCache {
    /// Whether the entry that a packet's hash points to holds a flow that must be judged under the policy
    /// of `epoch`; then the line of its decision is asked for. Reads the hot line only.
    #[inline]
    pub fn foresee_change(&self, likely: LikelyEntry, epoch: u64) -> bool {
        let slot = likely.0 as usize;
        let Some(hot) = self.hot.get(slot) else {
            return false;
        };
        let is_decided = hot.epoch == low_epoch(epoch) && hot.action().is_some();
        if is_decided || hot.is_free() {
            return false;
        }
        prefetch_second(&self.cold, slot);
        true
    }

    /// Takes over, for the flow in the likely entry if it has this key, a decision of the policy of
    /// `epoch` that allows it and says the same as its last one, from the same rules; says true. Else, or
    /// where it has been judged under that policy, false, and nothing has changed. It does what [`FlowCache::set_decision`] would.
    #[inline]
    pub fn reaffirm(
        &mut self,
        likely: LikelyEntry,
        key: &FlowKey,
        epoch: u64,
        decision: &Decision,
    ) -> bool {
        let slot = likely.0 as usize;
        let (Some(hot), Some(cold)) = (self.hot.get_mut(slot), self.cold.get_mut(slot)) else {
            return false;
        };
        let is_same = decision.enforced == Action::Allow
            && Packed::of(cold).0 == Packed::new(decision).0
            && cold.rule_id == decision.rule_id
            && cold.pending_rule_id == decision.pending_rule_id;
        let is_decided = hot.epoch == low_epoch(epoch) && hot.action().is_some();
        if !is_same || is_decided || hot.is_free() || !hot.key.is(key) {
            return false;
        }
        decide(hot, cold, epoch, decision);
        self.epoch = epoch;
        true
    }

    /// The ends of the flow in the likely entry, if it has this key, as far as the hot line tells them:
    /// with weakest evidence, and without type and code of ICMP.
    #[inline]
    #[must_use]
    pub fn likely_ends(&self, likely: LikelyEntry, key: &FlowKey) -> Option<Ends> {
        let hot = self.hot.get(likely.0 as usize)?;
        if !hot.key.is(key) || hot.is_free() {
            return None;
        }
        let initiator = hot.initiator();
        Some(Ends {
            tuple: key.tuple(initiator),
            initiator,
            evidence: InitiatorEvidence::FirstPacket,
            initiator_spoke: hot.has_seen(initiator),
            icmp_type: 0,
            icmp_code: 0,
        })
    }

    /// Tells what the flow has counted so far (kind update), so that no record mixes packets of two
    /// verdicts. Call before [`FlowCache::set_decision`] where the decision differs. False where
    /// the index is stale or nothing was counted.
    pub fn tell_update(&mut self, index: FlowIndex, sink: &mut impl RecordSink) -> bool {
        let Some(slot) = self.slot(index) else {
            return false;
        };
        let (hot, cold) = (&self.hot[slot], &self.cold[slot]);
        if crate::entry::packets(hot, cold, 0) + crate::entry::packets(hot, cold, 1) == 0 {
            return false;
        }
        self.tell(slot, RecordKind::Update, FlowEndReason::ActiveTimeout, sink);
        self.counters.records_update += 1;
        true
    }

    /// Makes `initiator` the initiator of a flow whose evidence is no better than its ports or its
    /// first packet, and the flow undecided: the policy has a rule for that direction only.
    pub fn turn_round(&mut self, index: FlowIndex, initiator: Side) {
        let Some(slot) = self.slot(index) else { return };
        let weak = self.cold[slot].evidence <= InitiatorEvidence::PortAsymmetry.byte();
        if weak && self.hot[slot].initiator() != initiator {
            self.turn(slot, initiator);
        }
    }

    /// Makes the flow undecided: its next packet is judged again.
    pub fn set_undecided(&mut self, index: FlowIndex) {
        if let Some(slot) = self.slot(index) {
            self.hot[slot].set_undecided();
        }
    }
}

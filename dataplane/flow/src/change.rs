//! What the caller does to a live flow when its verdict changes.

use crate::cache::{FlowCache, FlowIndex};
use crate::key::Side;
use crate::record::RecordSink;
use abi::record::{FlowEndReason, RecordKind};
use abi::verdict::InitiatorEvidence;

impl FlowCache {
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

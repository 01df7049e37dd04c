//! What was decided about a flow, kept in its entry.

use crate::cache::{FlowCache, FlowIndex};
use crate::entry::{Cold, Hot, NO_PORT};
use crate::key::Side;
use crate::record::RecordSink;
use abi::Reason;
use abi::record::{FlowEndReason, RecordKind};
use abi::verdict::{Action, Coverage, Decision, Mode, OnChange, VerdictSource};

/// The part of a decision that every packet needs, from the hot line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens to the packet.
    pub enforced: Action,
    /// Whether the pending action permits it too.
    pub pending_permits: bool,
    /// No rule speaks about the flow.
    pub uncovered: bool,
}

/// The seven enums of a decision, three bits or four each. All 0 where never judged.
#[derive(Clone, Copy)]
pub(crate) struct Packed(pub(crate) u32);

impl Packed {
    pub(crate) const fn new(d: &Decision) -> Self {
        Self(
            d.enforced as u32
                | (d.enforced_source as u32) << 4
                | (d.pending as u32) << 8
                | (d.pending_source as u32) << 12
                | (d.mode as u32) << 16
                | (d.coverage as u32) << 20
                | (d.on_change as u32) << 24,
        )
    }

    pub(crate) const fn of(cold: &Cold) -> Self {
        Self(cold.decision)
    }

    const fn nibble(self, index: u32) -> u8 {
        ((self.0 >> (4 * index)) & 0xf) as u8
    }

    pub(crate) const fn enforced(self) -> u8 {
        self.nibble(0)
    }

    pub(crate) const fn enforced_source(self) -> u8 {
        self.nibble(1)
    }

    pub(crate) const fn pending(self) -> u8 {
        self.nibble(2)
    }

    pub(crate) const fn pending_source(self) -> u8 {
        self.nibble(3)
    }

    pub(crate) const fn mode(self) -> u8 {
        self.nibble(4)
    }

    pub(crate) const fn coverage(self) -> u8 {
        self.nibble(5)
    }

    fn decision(self, cold: &Cold) -> Option<Decision> {
        Some(Decision {
            enforced: Action::from_byte(self.enforced())?,
            enforced_source: VerdictSource::from_byte(self.enforced_source())?,
            rule_id: cold.rule_id,
            pending: Action::from_byte(self.pending())?,
            pending_source: VerdictSource::from_byte(self.pending_source())?,
            pending_rule_id: cold.pending_rule_id,
            mode: Mode::from_byte(self.mode())?,
            coverage: Coverage::from_byte(self.coverage())?,
            on_change: OnChange::from_byte(self.nibble(6))?,
            limit_index: cold.limit_index,
            src_identity: cold.src_identity,
            dst_identity: cold.dst_identity,
        })
    }
}

#[inline(always)]
pub(crate) const fn low_epoch(epoch: u64) -> u16 {
    (epoch & 0xffff) as u16
}

impl FlowCache {
    /// The verdict in force for a flow under the policy of `epoch`. `None` where the flow must be
    /// judged: new, decided under another epoch, initiator turned round, or the index is stale.
    /// Reads the hot line only.
    ///
    /// The line keeps 16 bits of the epoch. They cannot come round unnoticed: each pass of
    /// [`FlowCache::sweep`] makes decisions of superseded epochs undecided.
    #[inline]
    #[must_use]
    pub fn verdict(&self, index: FlowIndex, epoch: u64) -> Option<Verdict> {
        let hot = &self.hot[self.slot(index)?];
        let enforced = hot.action()?;
        (hot.epoch == low_epoch(epoch)).then(|| Verdict {
            enforced,
            pending_permits: !hot.pending_denies(),
            uncovered: hot.is_uncovered(),
        })
    }

    /// The flow's last decision and its epoch, superseded or not. `None` before the first one.
    #[must_use]
    pub fn decision(&self, index: FlowIndex) -> Option<(u64, Decision)> {
        let cold = &self.cold[self.slot(index)?];
        Packed::of(cold)
            .decision(cold)
            .map(|decision| (cold.epoch, decision))
    }

    /// Stores what the policy of `epoch` decided. False where the index is stale.
    pub fn set_decision(&mut self, index: FlowIndex, epoch: u64, decision: &Decision) -> bool {
        let Some(slot) = self.slot(index) else {
            return false;
        };
        self.epoch = epoch;
        decide(&mut self.hot[slot], &mut self.cold[slot], epoch, decision);
        true
    }

    /// The limit that a flow with action limit draws from.
    #[must_use]
    pub fn limit_index(&self, index: FlowIndex) -> Option<u16> {
        self.slot(index).map(|slot| self.cold[slot].limit_index)
    }

    /// Says where the flow's packets leave. Records say 0xffff until told.
    #[inline]
    pub fn set_egress(&mut self, index: FlowIndex, port: u16) {
        if let Some(slot) = self.slot(index) {
            self.cold[slot].egress_port = narrow_port(port);
        }
    }

    /// Counts one packet, already accounted, as dropped.
    #[inline]
    pub fn note_drop(&mut self, index: FlowIndex, ip_bytes: u32, reason: Reason) {
        if let Some(slot) = self.slot(index) {
            let cold = &mut self.cold[slot];
            cold.dropped_packets = cold.dropped_packets.wrapping_add(1);
            cold.dropped_bytes = cold.dropped_bytes.wrapping_add(u64::from(ip_bytes));
            cold.drop_reason = reason.byte();
        }
    }

    /// Tells a denied flow at once: writes a record of kind denied the first time it is called
    /// after the flow's action became deny or reject, and says whether it did.
    pub fn tell_denied(&mut self, index: FlowIndex, sink: &mut impl RecordSink) -> bool {
        let Some(slot) = self.slot(index) else {
            return false;
        };
        let cold = &self.cold[slot];
        let permits = Action::from_byte(Packed::of(cold).enforced()).is_none_or(Action::permits);
        if permits || cold.has(Cold::DENIAL_TOLD) {
            return false;
        }
        self.tell(slot, RecordKind::Denied, FlowEndReason::ActiveTimeout, sink);
        self.cold[slot].bits |= Cold::DENIAL_TOLD;
        self.counters.records_denied += 1;
        true
    }

    /// Whether the flow's denial stands whatever its UDP or TCP packets from `side` say.
    #[must_use]
    pub fn is_denial_final(&self, index: FlowIndex, side: Side) -> bool {
        self.slot(index)
            .is_some_and(|slot| self.cold[slot].is_final(side))
    }

    /// Says that a denied flow stays denied whatever its UDP or TCP packets from `side` say: until it is
    /// decided again, [`FlowCache::block`] may drop them.
    pub fn make_denial_final(&mut self, index: FlowIndex, side: Side) {
        if let Some(slot) = self.slot(index) {
            self.cold[slot].more_bits |= Cold::FINAL_A << side as u8;
        }
    }

    /// Makes a decision of a superseded epoch undecided.
    pub(crate) fn expire_verdict(&mut self, slot: usize) {
        let hot = &mut self.hot[slot];
        if hot.epoch != low_epoch(self.epoch) && hot.action().is_some() {
            hot.set_undecided();
        }
    }
}

/// Puts what the policy of `epoch` decided into an entry.
#[inline(always)]
pub(crate) fn decide(hot: &mut Hot, cold: &mut Cold, epoch: u64, decision: &Decision) {
    hot.epoch = low_epoch(epoch);
    let uncovered = decision.coverage == Coverage::Uncovered;
    hot.set_verdict(decision.enforced, !decision.pending.permits(), uncovered);
    cold.epoch = epoch;
    cold.rule_id = decision.rule_id;
    cold.pending_rule_id = decision.pending_rule_id;
    cold.src_identity = decision.src_identity;
    cold.dst_identity = decision.dst_identity;
    cold.limit_index = decision.limit_index;
    cold.decision = Packed::new(decision).0;
    cold.more_bits &= !Cold::FINAL;
    if decision.enforced.permits() {
        cold.bits &= !Cold::DENIAL_TOLD;
    }
}

/// Ports above 254 are not kept: there are at most [`abi::counters::PORTS_MAX`].
pub(crate) fn narrow_port(port: u16) -> u8 {
    u8::try_from(port).unwrap_or(NO_PORT)
}

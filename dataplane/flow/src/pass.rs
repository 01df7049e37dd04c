//! The straight path of a packet that changes nothing about its flow: found, counted and permitted
//! in one cache line, or dropped in two.

use crate::account::{TcpSegment, follow_sequence};
use crate::cache::{FlowCache, LikelyEntry};
use crate::entry::{Cold, Gate};
use crate::facts::{KeyedPacket, TransportFacts};
use crate::verdict::Packed;
use abi::verdict::VerdictSource;

/// What [`FlowCache::pass`] has counted in flows and not yet in the cache's counters. A caller keeps
/// it over a burst and hands it to [`FlowCache::take_passed`] before it calls anything else of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets permitted.
    pub packets: u64,
    /// Of those, how many the pending verdict denies.
    pub would_deny: u64,
    /// Of those, how many no rule speaks about.
    pub uncovered: u64,
}

/// A packet that [`FlowCache::block`] has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Where its flow's denial comes from.
    pub source: VerdictSource,
    /// No rule speaks about the flow.
    pub uncovered: bool,
}

impl FlowCache {
    /// Counts a packet of a flow that the policy of the gate allows, and says true: the packet is
    /// permitted. False, and nothing has changed, wherever more is to be done than counting: the
    /// entry is another flow's, the verdict is another or of another policy, the flow has been idle
    /// for long, the packet is the first of its side or since a record, a counter overflows, or a
    /// segment may change the connection's state.
    ///
    /// It does exactly what [`FlowCache::find`], [`FlowCache::account`] and [`FlowCache::verdict`]
    /// would.
    #[inline(always)]
    pub fn pass(
        &mut self,
        gate: &Gate,
        likely: LikelyEntry,
        packet: &KeyedPacket,
        now: u64,
        passed: &mut Passed,
    ) -> bool {
        let KeyedPacket { key, side, facts } = packet;
        let (slot, side) = (likely.0 as usize, *side);
        let Some(hot) = self.hot.get_mut(slot) else {
            return false;
        };
        let Some(counts) = hot.plain_counts(side, facts.ip_bytes, now, self.idle_min_ns) else {
            return false;
        };
        if !(gate.admits(hot, side) && hot.key.is(key)) {
            return false;
        }
        if let TransportFacts::Tcp { flags, .. } = facts.transport {
            if !hot.expects(side, flags) {
                return false;
            }
            if self.options.tcp_quality
                && hot.is_established()
                && let Some(segment) = TcpSegment::of(side, &facts.transport)
            {
                follow_sequence(&mut self.cold[slot], &segment);
            }
        }
        hot.count_plain(side, counts, now);
        passed.packets += 1;
        passed.would_deny += u64::from(hot.pending_denies());
        passed.uncovered += u64::from(hot.is_uncovered());
        true
    }

    /// Counts a packet of a flow that the policy of the gate denies and that stays denied whatever the
    /// packet says ([`FlowCache::make_denial_final`]), and tells whose denial it is: the packet is
    /// dropped, and where `notes_drop`, that is counted in the flow. `None`, and nothing has changed,
    /// wherever more is to be done, as with [`FlowCache::pass`].
    ///
    /// It does exactly what [`FlowCache::find`], [`FlowCache::account`], [`FlowCache::decision`],
    /// [`FlowCache::note_drop`] and [`FlowCache::tell_denied`] would.
    #[inline]
    pub fn block(
        &mut self,
        gate: &Gate,
        likely: LikelyEntry,
        packet: &KeyedPacket,
        now: u64,
        notes_drop: bool,
    ) -> Option<Blocked> {
        let KeyedPacket { key, side, facts } = packet;
        let slot = likely.0 as usize;
        let hot = self.hot.get_mut(slot)?;
        let counts = hot.plain_counts(*side, facts.ip_bytes, now, self.idle_min_ns)?;
        if !(gate.refuses(hot, *side) && hot.key.is(key)) {
            return None;
        }
        let cold = self.cold.get_mut(slot)?;
        let is_plain = match facts.transport {
            TransportFacts::Tcp { flags, .. } => {
                let is_followed = self.options.tcp_quality && hot.is_established();
                hot.expects(*side, flags) && !is_followed
            }
            _ => true,
        };
        if !(is_plain && cold.is_final(*side) && cold.has(Cold::DENIAL_TOLD)) {
            return None;
        }
        let source = VerdictSource::from_byte(Packed::of(cold).enforced_source())?;
        hot.count_plain(*side, counts, now);
        if notes_drop {
            cold.dropped_packets = cold.dropped_packets.wrapping_add(1);
            cold.dropped_bytes = cold.dropped_bytes.wrapping_add(u64::from(facts.ip_bytes));
        }
        self.counters.packets_cached += 1;
        Some(Blocked {
            source,
            uncovered: hot.is_uncovered(),
        })
    }

    /// Takes what has passed into the cache's counters and clears it.
    #[inline]
    pub fn take_passed(&mut self, passed: &mut Passed) -> Passed {
        self.counters.packets_cached += passed.packets;
        core::mem::take(passed)
    }
}

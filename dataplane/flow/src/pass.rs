//! The straight path of a packet that changes nothing about its flow: found, counted and permitted
//! in one cache line.

use crate::account::{TcpSegment, follow_sequence};
use crate::cache::{FlowCache, LikelyEntry};
use crate::entry::Gate;
use crate::facts::{KeyedPacket, TransportFacts};

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
        let s = side.index();
        let Some(hot) = self.hot.get_mut(slot) else {
            return false;
        };
        let (packets, bytes) = (hot.packets[s], hot.bytes[s]);
        let Some(bytes) = bytes.checked_add(facts.ip_bytes) else {
            return false;
        };
        // Neither the first of its side since a record, nor an overflow.
        let only_counts = packets != 0 && packets != u16::MAX;
        // A clock that was set back looks like a long time, too.
        let is_fresh = now.wrapping_sub(hot.last_ns) < self.idle_min_ns;
        if !(only_counts && is_fresh && gate.admits(hot, side) && hot.key.is(key)) {
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
        hot.packets[s] = packets + 1;
        hot.bytes[s] = bytes;
        hot.last_ns = now;
        passed.packets += 1;
        passed.would_deny += u64::from(hot.pending_denies());
        passed.uncovered += u64::from(hot.is_uncovered());
        true
    }

    /// Takes what has passed into the cache's counters and clears it.
    #[inline]
    pub fn take_passed(&mut self, passed: &mut Passed) -> Passed {
        self.counters.packets_cached += passed.packets;
        core::mem::take(passed)
    }
}

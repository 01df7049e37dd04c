//! Judging the likely new flows of a burst together.
//!
//! Judging one flow reads four lines of the policy, each named by the one before, and in a large
//! policy most of them far away. So all packets without an entry are asked about at once, stage by
//! stage, before any is decided. Flows are opened one by one all the same: what was foreseen holds for
//! a flow only if, when its turn has come, it is still new and has the ends that were asked about.

use crate::burst::{Packet, Places};
use crate::core::Core;
use crate::exception::Condition;
use crate::port::BURST_MAX;
use abi::{Action, Decision};
use acl::{Asked, PolicyImage, Service};
use arrayvec::ArrayVec;
use flow::Ends;

/// A policy with fewer verdict rows lies in the caches nearby anyway.
const VERDICT_ROWS_MIN: u32 = 4096;
/// Fewer new flows than this gain nothing from being asked about together.
const NEW_FLOWS_MIN: u32 = 4;

/// What the policy says about the packets of a burst that have no entry.
#[derive(Debug)]
pub(crate) struct Foreseen {
    /// One bit for each packet that was asked about, by its place in the burst.
    asked: Places,
    ends: ArrayVec<Ends, BURST_MAX>,
    decisions: [Decision; BURST_MAX],
}

impl Default for Foreseen {
    fn default() -> Self {
        Self {
            asked: 0,
            ends: ArrayVec::new(),
            decisions: [Decision::without_policy(Action::Deny); BURST_MAX],
        }
    }
}

impl Foreseen {
    /// The ends of the flow that a packet would open, and what the policy in force says about them.
    #[inline]
    pub(crate) fn of(&self, packet: &Packet) -> Option<(&Ends, &Decision)> {
        let before = (1 << packet.index) - 1;
        if self.asked >> packet.index & 1 == 0 {
            return None;
        }
        let place = (self.asked & before).count_ones() as usize;
        self.ends.get(place).zip(self.decisions.get(place))
    }
}

impl Core {
    /// Asks the policy about the packets of a burst that have no entry.
    ///
    /// # Bounded work
    /// An evaluation for each packet.
    #[inline]
    pub(crate) fn foresee(
        &self,
        packets: &[Packet; BURST_MAX],
        without_entry: Places,
        foreseen: &mut Foreseen,
    ) {
        foreseen.asked = 0;
        if without_entry.count_ones() >= NEW_FLOWS_MIN
            && !self.exceptions.is_forced(Condition::NoPolicy)
            && let Some(image) = self.policy.image()
            && image.verdict_row_count() >= VERDICT_ROWS_MIN
        {
            self.ask_together(image, packets, without_entry, foreseen);
        }
    }

    #[inline(never)]
    fn ask_together(
        &self,
        image: &PolicyImage,
        packets: &[Packet; BURST_MAX],
        without_entry: Places,
        foreseen: &mut Foreseen,
    ) {
        foreseen.ends.clear();
        let mut asked: ArrayVec<Asked, BURST_MAX> = ArrayVec::new();
        let mut left = without_entry;
        while left != 0 {
            let packet = &packets[left.trailing_zeros() as usize % BURST_MAX];
            left &= left - 1;
            if !packet.asks_for_port() {
                continue;
            }
            let seen = &packet.seen;
            let ends = self.flows.ends_of_new(&seen.key, seen.side, &seen.facts);
            let tuple = &ends.tuple;
            asked.push((
                tuple.src,
                tuple.dst,
                Service::port(tuple.proto, tuple.dst_port),
            ));
            foreseen.ends.push(ends);
            foreseen.asked |= 1 << packet.index;
        }
        image.evaluate_burst(&asked, &mut foreseen.decisions);
    }
}

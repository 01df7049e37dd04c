//! Judging together the flows of a burst that are likely new, or that an older policy decided.
//!
//! Judging one flow reads four lines of the policy, each named by the one before, and in a large
//! policy most of them far away. So all such packets are asked about at once, stage by stage, before
//! any is decided. Flows are opened and judged again one by one all the same: what was foreseen holds
//! for a flow only if, when its turn has come, it has the ends that were asked about.

use crate::burst::{Packet, Places};
use crate::core::Core;
use crate::exception::Condition;
use crate::port::BURST_MAX;
use abi::{Action, Decision};
use acl::{Asked, PolicyImage, Service};
use arrayvec::ArrayVec;
use flow::{Ends, FlowCache};

/// A policy with fewer verdict rows lies in the caches nearby anyway.
const VERDICT_ROWS_MIN: u32 = 4096;
/// Fewer flows than this gain nothing from being asked about together.
const FLOWS_MIN: u32 = 4;
/// Bursts without a flow of an older policy until flows are taken to be settled under the present one.
/// One that comes later is judged alone, and makes the core look at bursts again.
const UNSETTLED_BURSTS: u32 = 32;

/// What the policy says about packets of a burst.
#[derive(Debug)]
pub(crate) struct Foreseen {
    /// One bit for each packet that was asked about, by its place in the burst.
    asked: Places,
    /// Of those, the packets that have no entry.
    new: Places,
    /// Flows that the core had opened by then.
    flows_opened: u64,
    ends: ArrayVec<Ends, BURST_MAX>,
    decisions: [Decision; BURST_MAX],
}

impl Default for Foreseen {
    fn default() -> Self {
        Self {
            asked: 0,
            new: 0,
            flows_opened: 0,
            ends: ArrayVec::new(),
            decisions: [Decision::without_policy(Action::Deny); BURST_MAX],
        }
    }
}

impl Foreseen {
    /// The packets that had no entry when the burst began.
    pub(crate) const fn without_entry(&self) -> Places {
        self.new
    }

    /// Whether no flow was opened since, so that what had no entry has none.
    #[inline]
    pub(crate) fn is_current(&self, flows: &FlowCache) -> bool {
        self.flows_opened == flows.flows_opened()
    }

    /// The ends of the flow that a packet would open, as they were when the burst began.
    #[inline]
    pub(crate) fn ends_of_new(&self, packet: &Packet) -> Option<&Ends> {
        let is_new = self.new >> packet.index & 1 == 1;
        self.of(packet).filter(|_| is_new).map(|(ends, _)| ends)
    }

    /// The ends of the flow of a packet, of which the initiator is sure to be meant, and what the policy
    /// in force says about them.
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
    /// Whether a packet's flow has no entry: it had none when the burst began, and no flow was opened
    /// since.
    #[inline]
    pub(crate) fn is_without_entry(&self, packet: &Packet, foreseen: &Foreseen) -> bool {
        foreseen.new >> packet.index & 1 == 1
            && foreseen.is_current(&self.flows)
            && packet.asks_for_port()
    }

    /// Asks the policy about the packets of a burst that have no entry, and about those whose flow an
    /// older policy decided.
    ///
    /// # Bounded work
    /// An evaluation for each packet.
    #[inline]
    pub(crate) fn foresee(
        &mut self,
        packets: &[Packet],
        without_entry: Places,
        foreseen: &mut Foreseen,
    ) {
        (foreseen.asked, foreseen.new) = (0, without_entry);
        foreseen.flows_opened = self.flows.flows_opened();
        let changed = match self.unsettled_bursts {
            0 => 0,
            _ => self.foresee_changes(packets),
        };
        if (changed | without_entry).count_ones() < FLOWS_MIN
            || self.exceptions.is_forced(Condition::NoPolicy)
        {
            return;
        }
        let Some(image) = self.policy.image() else {
            return;
        };
        let is_large = image.verdict_row_count() >= VERDICT_ROWS_MIN;
        let new = if is_large { without_entry } else { 0 };
        if changed | new != 0 {
            self.ask_together(image, packets, changed | new, foreseen);
            self.reaffirm(packets, changed, foreseen);
        }
    }

    /// Settles the flows about which the policy in force says what an older one said: their packets
    /// simply pass. What it says is the whole answer once the initiator has spoken.
    fn reaffirm(&mut self, packets: &[Packet], changed: Places, foreseen: &Foreseen) {
        let epoch = self.policy.epoch();
        let mut reaffirmed = 0;
        for packet in packets {
            if changed >> packet.index & 1 == 0 {
                continue;
            }
            if let Some((ends, decision)) = foreseen.of(packet)
                && ends.initiator_spoke
            {
                let decision = self.unless_stale(*decision, packet.now);
                let (likely, key) = (packet.likely, &packet.seen.key);
                let is_same = self.flows.reaffirm(likely, key, epoch, &decision);
                reaffirmed += u64::from(is_same);
            }
        }
        self.counters.flows_judged += reaffirmed;
        self.counters.flows_rejudged += reaffirmed;
    }

    /// Flows may stand under an older policy from now on.
    pub(crate) const fn unsettle(&mut self) {
        self.unsettled_bursts = UNSETTLED_BURSTS;
    }

    /// The packets whose flow an older policy decided; what judging it again needs is asked for.
    #[inline(never)]
    fn foresee_changes(&mut self, packets: &[Packet]) -> Places {
        let epoch = self.policy.epoch();
        let mut changed: Places = 0;
        for packet in packets {
            let is_changed = self.flows.foresee_change(packet.likely, epoch);
            changed |= Places::from(is_changed) << packet.index;
        }
        self.unsettled_bursts -= 1;
        if changed != 0 {
            self.unsettle();
        }
        changed
    }

    #[inline(never)]
    fn ask_together(
        &self,
        image: &PolicyImage,
        packets: &[Packet],
        all: Places,
        foreseen: &mut Foreseen,
    ) {
        foreseen.ends.clear();
        for packet in packets {
            if all >> packet.index & 1 == 0 || !packet.asks_for_port() {
                continue;
            }
            let seen = &packet.seen;
            let ends = if foreseen.new >> packet.index & 1 == 1 {
                self.flows.ends_of_new(&seen.key, seen.side, &seen.facts)
            } else if let Some(ends) = self.flows.likely_ends(packet.likely, &seen.key) {
                ends
            } else {
                continue;
            };
            foreseen.ends.push(ends);
            foreseen.asked |= 1 << packet.index;
        }
        image.evaluate_burst(&foreseen.ends, asked, &mut foreseen.decisions);
    }
}

/// What the policy is asked about a flow.
#[inline(always)]
fn asked(Ends { tuple, .. }: &Ends) -> Asked<'_> {
    let service = Service::port(tuple.proto, tuple.dst_port);
    (&tuple.src, &tuple.dst, service)
}

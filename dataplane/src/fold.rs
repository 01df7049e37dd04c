//! A packet of a scan that goes on: without a flow, denied, and of a source that may have no record
//! for it. All there is to do is to add it to the aggregate of its source.
//!
//! What [`Core::decide_new`] does about it, with less to ask; whatever is not plainly so goes there.

use crate::burst::{Packet, Places};
use crate::core::{Core, Ingress};
use crate::exception::Condition;
use crate::foresee::Foreseen;
use crate::judge::denial_reason;
use abi::verdict::Coverage;
use abi::{Action, Decision};
use acl::{Question, Service};
use flow::{Attempt, KeyedPacket, Side};

/// What the policy was last asked about a packet of a scan, and what it said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    epoch: u64,
    question: Question,
    decision: Decision,
}

impl Core {
    /// The packets of a burst that [`Core::folds`] is worth asking about: those without an entry, while
    /// a scan goes on.
    #[inline]
    pub(crate) fn foldable(&self, foreseen: &Foreseen) -> Places {
        let is_worth = self.flows.is_folding()
            && !self.options.truth
            && !self.exceptions.is_any_forced()
            && !self.exceptions.drops(Condition::PolicyStale);
        if is_worth {
            foreseen.without_entry()
        } else {
            0
        }
    }

    /// Folds a packet, drops it and says true; false, and nothing is done, where it is another one.
    ///
    /// # Bounded work
    /// One evaluation of the policy.
    #[inline(never)]
    pub(crate) fn folds(&mut self, packet: &Packet, foreseen: &Foreseen, ingress: Ingress) -> bool {
        let KeyedPacket { key, side, facts } = &packet.seen;
        let is_plain = packet.is_simple && !facts.is_midstream();
        if !is_plain
            || !self.is_without_entry(packet, foreseen)
            || !self.flows.folds_from(key, *side)
        {
            return false;
        }
        let initiator = self.flows.initiator_of_new(key, *side, facts);
        let decision = match foreseen.of(packet) {
            Some((_, decision)) => decision,
            None => {
                self.ask_again(packet, initiator);
                match &self.answered {
                    Some(answered) => &answered.decision,
                    None => return false,
                }
            }
        };
        if decision.enforced != Action::Deny {
            return false;
        }
        let reason = denial_reason(decision);
        let attempt = Attempt {
            key,
            sender: *side,
            facts,
            ingress_port: ingress.port,
            initiator,
            decision,
            epoch: self.policy.epoch(),
            dropped: ingress.egress.map(|_| reason),
        };
        if !self.flows.fold_again(&attempt, packet.now) {
            return false;
        }
        let is_uncovered = decision.coverage == Coverage::Uncovered;
        self.counters.flows_judged += 1;
        self.counters.flow_packets += 1;
        self.counters.uncovered_packets += u64::from(is_uncovered);
        self.count_drop(packet, reason, ingress);
        true
    }

    /// Asks the policy about a packet without a flow. A scan asks the same question again and again.
    #[inline(always)]
    fn ask_again(&mut self, packet: &Packet, initiator: Side) {
        let epoch = self.policy.epoch();
        let Some(image) = self.policy.image() else {
            self.answered = None;
            return;
        };
        let key = &packet.seen.key;
        let responder = initiator.other();
        let question = image.question(
            &key.address(initiator),
            &key.address(responder),
            &Service::port(key.proto(), key.port(responder)),
        );
        let last = self.answered.as_ref();
        if !last.is_some_and(|last| last.question == question && last.epoch == epoch) {
            self.answered = Some(Answered {
                epoch,
                question,
                decision: image.answer(question),
            });
        }
    }
}

//! Packets of a scan that goes on: without a flow, denied, and of a source that may have no record for
//! them. All there is to do is to add them to the aggregate of their source, those of a burst in
//! one go.
//!
//! What [`Core::decide_new`] does about each, with less to ask; whatever is not plainly so goes there.

use crate::burst::{Packet, Places};
use crate::core::{Core, Ingress};
use crate::exception::Condition;
use crate::foresee::Foreseen;
use crate::judge::denial_reason;
use abi::verdict::Coverage;
use abi::{Action, Decision};
use acl::{IdentityId, PolicyImage, Question, Service};
use flow::{Attempt, KeyedPacket, Run, Sender};

/// Packets of a burst that are folded together, as long as nothing but letting packets pass comes
/// between them; with what the policy says about them.
pub(crate) struct Scan {
    pub(crate) alike: Places,
    run: (Run, Decision),
}

/// What the policy was asked last, and whether what it said is what it says about the run.
type Asked = Option<(Question, bool)>;

/// What the policy was asked about the run before, and what it said: a scan that goes on asks the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    epoch: u64,
    question: Question,
    decision: Decision,
}

/// The places of a set, in their order.
fn places(mut set: Places) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let place = set.trailing_zeros() as usize;
        (set != 0).then(|| {
            set &= set - 1;
            place
        })
    })
}

impl Core {
    /// The packets of a burst that [`Core::scan_of`] is worth asking about: those without an entry,
    /// while a scan goes on.
    #[inline]
    fn foldable(&self, foreseen: &Foreseen) -> Places {
        let is_worth = foreseen.without_entry() != 0
            && self.flows.is_folding()
            && !self.options.truth
            && !self.exceptions.is_any_forced()
            && !self.exceptions.drops(Condition::PolicyStale);
        if is_worth {
            foreseen.without_entry()
        } else {
            0
        }
    }

    /// The packets of a burst that go to the aggregate of the source that was added to last.
    ///
    /// # Bounded work
    /// One evaluation of the policy for each packet.
    #[inline]
    pub(crate) fn begin_scan(
        &mut self,
        packets: &[Packet],
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Option<Scan> {
        match (self.foldable(foreseen), self.flows.folds_from()) {
            (0, _) | (_, None) => None,
            (foldable, Some(sender)) => self.scan_of(packets, foldable, sender, foreseen, ingress),
        }
    }

    #[inline(never)]
    fn scan_of(
        &mut self,
        packets: &[Packet],
        foldable: Places,
        sender: Sender,
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Option<Scan> {
        let begun = places(foldable).find_map(|place| {
            let packet = packets.get(place)?;
            let is_worth = self.begins_from(&sender, packet);
            let run = is_worth.then(|| self.begin_run(packet, foreseen, ingress));
            Some((place, run.flatten()?))
        });
        let (first, run) = begun?;
        let rest = foldable & !(1 << first) & !((1 << first) - 1);
        let alike = self.alike(packets, first, rest, &sender, &run, foreseen);
        let alike = 1 << first | alike;
        Some(Scan { alike, run })
    }

    /// Of the `rest` of the packets those that belong to the run which began with the `first`.
    #[inline]
    fn alike(
        &self,
        packets: &[Packet],
        first: usize,
        rest: Places,
        sender: &Sender,
        run: &(Run, Decision),
        foreseen: &Foreseen,
    ) -> Places {
        let (Some(image), Some(mut before)) = (self.policy.image(), packets.get(first)) else {
            return 0;
        };
        let mut identity = run.1.dst_identity;
        let mut asked = None;
        let mut alike = 0;
        for place in places(rest) {
            let Some(packet) = packets.get(place) else {
                break;
            };
            let receiver = image.identity(&packet.seen.receiver());
            let is_repeated = packet.is_simple
                && packet.now == before.now
                && packet.seen.repeats(&before.seen)
                && receiver == identity;
            let is_alike = is_repeated
                || self.begins_from(sender, packet)
                    && is_said(image, packet, run, &mut asked, foreseen);
            if is_alike {
                alike |= 1 << place;
                (before, identity) = (packet, receiver);
            }
        }
        alike
    }

    /// Whether a packet would open a flow from the sender, for all that it says itself.
    #[inline(always)]
    fn begins_from(&self, sender: &Sender, packet: &Packet) -> bool {
        let KeyedPacket { key, side, facts } = &packet.seen;
        packet.is_simple
            && !facts.is_midstream()
            && sender.is(key, *side)
            && self.flows.initiator_of_new(key, *side, facts) == *side
    }

    /// The run that a packet begins, and what the policy says about it.
    fn begin_run(
        &mut self,
        packet: &Packet,
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Option<(Run, Decision)> {
        let KeyedPacket { key, side, facts } = &packet.seen;
        let decision = match foreseen.of(packet) {
            Some((_, decision)) => *decision,
            None => self.ask_again(packet)?,
        };
        if decision.enforced != Action::Deny {
            return None;
        }
        let attempt = Attempt {
            key,
            sender: *side,
            facts,
            ingress_port: ingress.port,
            initiator: *side,
            decision: &decision,
            epoch: self.policy.epoch(),
            dropped: ingress.egress.map(|_| denial_reason(&decision)),
        };
        let run = self.flows.begin_run(&attempt, packet.now)?;
        Some((run, decision))
    }

    /// What the policy says about a packet; `None` without a policy.
    fn ask_again(&mut self, packet: &Packet) -> Option<Decision> {
        let KeyedPacket { key, side, .. } = &packet.seen;
        let image = self.policy.image()?;
        let epoch = self.policy.epoch();
        let question = question(image, packet, image.identity(&key.address(*side)));
        let answered = match self.answered {
            Some(last) if last.question == question && last.epoch == epoch => last,
            _ => Answered {
                epoch,
                question,
                decision: image.answer(question),
            },
        };
        self.answered = Some(answered);
        Some(answered.decision)
    }

    /// Folds the packets of a scan that were taken; which they were.
    #[inline]
    pub(crate) fn fold_taken(
        &mut self,
        scan: Option<&Scan>,
        taken: Places,
        packets: &[Packet],
        ingress: Ingress,
    ) -> Places {
        match scan {
            Some(scan) if taken != 0 => self.fold_places(&scan.run, taken, packets, ingress),
            _ => 0,
        }
    }

    #[inline(never)]
    fn fold_places(
        &mut self,
        (run, decision): &(Run, Decision),
        taken: Places,
        packets: &[Packet],
        ingress: Ingress,
    ) -> Places {
        let last = packets.get(taken.ilog2() as usize);
        let identity = self.policy.image().zip(last);
        let identity = identity.map_or(decision.dst_identity, |(image, last)| {
            image.identity(&last.seen.receiver())
        });
        let mut wire_bytes = 0;
        let taken_packets = places(taken)
            .filter_map(|place| packets.get(place))
            .inspect(|packet| wire_bytes += u64::from(packet.wire_bytes()))
            .map(|packet| &packet.seen);
        self.flows.fold_run(run, identity, taken_packets);
        let count = u64::from(taken.count_ones());
        let is_uncovered = decision.coverage == Coverage::Uncovered;
        self.counters.flows_judged += count;
        self.counters.flow_packets += count;
        self.counters.uncovered_packets += u64::from(is_uncovered) * count;
        // What a mirror port shows has ended here already, as in Core::count_drop.
        if ingress.egress.is_some() {
            self.counters.drops[denial_reason(decision).index()] += count;
            self.burst_bytes -= wire_bytes;
        }
        taken
    }

    /// Whether further packets of a scan may be taken after something else was done: they still have no
    /// entry, and its run goes on.
    #[inline]
    pub(crate) fn goes_on(&mut self, scan: Option<&Scan>, foreseen: &Foreseen) -> bool {
        let is_current = foreseen.is_current(&self.flows);
        scan.is_some_and(|scan| is_current && self.flows.continues(&scan.run.0))
    }
}

/// What is asked about a packet whose sender has this identity.
#[inline(always)]
fn question(image: &PolicyImage, packet: &Packet, sender: IdentityId) -> Question {
    let KeyedPacket { key, side, .. } = &packet.seen;
    let receiver = side.other();
    image.question_from(
        sender,
        &key.address(receiver),
        &Service::port(key.proto(), key.port(receiver)),
    )
}

/// Whether the policy says about a packet of the same sender what it said about its run, and it came
/// at the same time.
fn is_said(
    image: &PolicyImage,
    packet: &Packet,
    (run, said): &(Run, Decision),
    asked: &mut Asked,
    foreseen: &Foreseen,
) -> bool {
    if !run.may_take(&packet.seen, packet.now) {
        return false;
    }
    let is_said = |decision: &Decision| {
        *said
            == Decision {
                dst_identity: said.dst_identity,
                ..*decision
            }
    };
    if let Some((_, decision)) = foreseen.of(packet) {
        return is_said(decision);
    }
    let question = question(image, packet, said.src_identity);
    match asked {
        Some((last, was_said)) if *last == question => *was_said,
        _ => {
            let is_alike = is_said(&image.answer(question));
            *asked = Some((question, is_alike));
            is_alike
        }
    }
}

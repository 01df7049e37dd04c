//! From a packet, or from a flow that ends, to what an aggregate counts of it.

use crate::aggregate::{Class, Folded, SourceKey, Target, address_words, port_to};
use crate::cache::FlowCache;
use crate::entry::{Cold, bytes, packets};
use crate::facts::{KeyedPacket, PacketFacts};
use crate::key::{FlowKey, Side};
use crate::record::RecordSink;
use crate::verdict::Packed;
use abi::Reason;
use abi::record::TcpState;
use abi::verdict::{Action, Decision};

/// A flow of more packets than these tells its own record, answered or not: a SYN and its repeats
/// fold, a stream that goes one way does not.
const FOLDED_PACKETS_MAX: u64 = 4;

/// A packet that has no flow and that the policy denies.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Key of the flow that it would open.
    pub key: &'a FlowKey,
    /// The end that sent it.
    pub sender: Side,
    /// The packet.
    pub facts: &'a PacketFacts,
    /// Port where it came in.
    pub ingress_port: u16,
    /// Initiator in the decision.
    pub initiator: Side,
    /// What was decided, by the policy of `epoch`.
    pub decision: &'a Decision,
    /// Epoch of that policy.
    pub epoch: u64,
    /// Why it is dropped; `None` where it is only looked at.
    pub dropped: Option<Reason>,
}

/// Attempts of one sender, which the policy decides alike, that go to the aggregate where the one
/// before went: until something is done to the cache but letting packets pass.
pub struct Run {
    first: Folded,
    line: usize,
}

impl Run {
    /// Whether the packet can be of the run: in the same context, of the same IP version, of the same
    /// time.
    #[inline(always)]
    #[must_use]
    pub fn may_take(&self, packet: &KeyedPacket, now: u64) -> bool {
        let first = &self.first;
        packet.key.context() == first.key.class.context
            && packet.facts.ipv6 == first.is_ipv6
            && now == first.last_ns
    }
}

impl Attempt<'_> {
    /// What an aggregate counts of it.
    #[inline(always)]
    fn folded(&self, now: u64) -> Folded {
        let Attempt {
            key,
            sender,
            facts,
            decision,
            ..
        } = *self;
        let ends = [decision.src_identity, decision.dst_identity];
        let flags = facts.flags();
        let ip_bytes = u64::from(facts.ip_bytes);
        let is_dropped = u64::from(self.dropped.is_some());
        Folded {
            key: SourceKey {
                source: address_words(key.address(sender)),
                class: Class {
                    rule_id: decision.rule_id,
                    pending_rule_id: decision.pending_rule_id,
                    decision: Packed::new(decision).0,
                    context: key.context(),
                },
            },
            destination: key.address(sender.other()),
            port: port_to(key, sender.other()),
            proto: key.proto(),
            is_ipv6: facts.ipv6,
            is_refused: false,
            packets: [1, 0],
            bytes: [ip_bytes, 0],
            dropped_packets: is_dropped,
            dropped_bytes: is_dropped * ip_bytes,
            drop_reason: self.dropped.map_or(0, Reason::byte),
            flags: [flags, 0],
            first_ns: now,
            last_ns: now,
            epoch: self.epoch,
            identities: from_sender(ends, sender == self.initiator),
            ingress_port: self.ingress_port,
        }
    }
}

/// The end that a run of attempts comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender([u64; 2]);

impl Sender {
    /// Whether this end of a key is meant.
    #[inline(always)]
    #[must_use]
    pub fn is(&self, key: &FlowKey, side: Side) -> bool {
        address_words(key.address(side)) == self.0
    }
}

impl<'k> Target<'k> {
    #[inline(always)]
    fn of(packet: &'k KeyedPacket) -> Self {
        Self {
            key: &packet.key,
            receiver: packet.side.other(),
            ip_bytes: packet.facts.ip_bytes,
            flags: packet.facts.flags(),
        }
    }
}

impl FlowCache {
    /// Folds a denied packet that would open a flow into the aggregate of its sender, and says true:
    /// it is counted. False, and nothing is counted, where the sender may still have a record for it:
    /// insert the packet then.
    ///
    /// # Bounded work
    /// One bucket of sources; at most one source gives way to another.
    pub fn fold_denied(
        &mut self,
        attempt: &Attempt<'_>,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> bool {
        if self.scans.is_off() {
            return false;
        }
        self.scans.fold_denied(&attempt.folded(now), now, sink)
    }

    /// Whether any attempt has been folded of late.
    #[inline]
    #[must_use]
    pub fn is_folding(&self) -> bool {
        self.scans.has_last()
    }

    /// Who sent the attempt folded last, so that [`FlowCache::begin_run`] is worth asking.
    #[inline]
    #[must_use]
    pub fn folds_from(&self) -> Option<Sender> {
        self.scans.last_source().map(Sender)
    }

    /// A run that begins with this attempt, and has nothing in it yet; `None` unless the attempt folded
    /// last had the same sender and decision, and its sender may still have no record.
    #[inline]
    #[must_use]
    pub fn begin_run(&mut self, first: &Attempt<'_>, now: u64) -> Option<Run> {
        let (first, line) = (first.folded(now), self.scans.last());
        let run = Run { first, line };
        self.continues(&run).then_some(run)
    }

    /// Whether a run may still be added to, after other things were done to the cache.
    #[inline]
    #[must_use]
    pub fn continues(&mut self, run: &Run) -> bool {
        let first = &run.first;
        self.scans
            .goes_to(run.line, &first.key, first.epoch, first.last_ns)
    }

    /// The same as [`FlowCache::fold_denied`] for each packet of a run, in their order: all from its
    /// sender, decided as its first was but for the receiver's identity, which is the last one's here,
    /// come in by the same port, and such as [`Run::may_take`].
    ///
    /// # Bounded work
    /// One line, and a few loads a packet.
    #[inline]
    pub fn fold_run<'p>(
        &mut self,
        run: &Run,
        identity: u32,
        packets: impl Iterator<Item = &'p KeyedPacket>,
    ) {
        debug_assert!(self.continues(run), "something came between");
        let source = run.first.key.source;
        self.census.want(source, self.options.flows_max);
        let first = Folded {
            identities: [run.first.identities[0], identity],
            ..run.first
        };
        self.scans
            .add_run(run.line, &first, packets.map(Target::of));
    }

    /// Folds a permitted flow that ends without ever having been answered by more than a reset,
    /// unless it has told something already or its source may still have a record for it.
    #[inline]
    pub(crate) fn fold_unanswered(
        &mut self,
        slot: usize,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> bool {
        if self.scans.is_off() || self.hot[slot].is_established() {
            return false;
        }
        let (hot, cold) = (&self.hot[slot], &self.cold[slot]);
        let counted = packets(hot, cold, 0) + packets(hot, cold, 1);
        let is_refused = hot.has_seen_both();
        let permits = Action::from_byte(Packed::of(cold).enforced()).is_some_and(Action::permits);
        if !permits
            || cold.has(Cold::RECORDED)
            || counted > FOLDED_PACKETS_MAX
            || is_refused && hot.tcp_state() != TcpState::Reset
        {
            return false;
        }
        let sender = match (is_refused, hot.has_seen(Side::A)) {
            (true, _) => hot.initiator(),
            (false, true) => Side::A,
            (false, false) => Side::B,
        };
        let flow_key = hot.key.key();
        let key = SourceKey {
            source: address_words(flow_key.address(sender)),
            class: Class {
                rule_id: cold.rule_id,
                pending_rule_id: cold.pending_rule_id,
                decision: Packed::of(cold).0,
                context: flow_key.context(),
            },
        };
        let epoch = cold.epoch;
        let Some(line) = self.scans.over_budget(&key, epoch, now) else {
            return false;
        };
        let folded = self.unanswered(slot, sender, key, is_refused);
        self.scans.add(line, &folded, sink);
        self.counters.packets_cached -= counted;
        true
    }

    /// What a flow that ends has counted, as an aggregate counts it.
    fn unanswered(&self, slot: usize, sender: Side, source: SourceKey, is_refused: bool) -> Folded {
        let (hot, cold) = (&self.hot[slot], &self.cold[slot]);
        let key = hot.key.key();
        let (to, back) = (sender.index(), sender.other().index());
        let has_tcp_flags = hot.tcp_state() != TcpState::None;
        let flags = |side: usize| if has_tcp_flags { cold.flags[side] } else { 0 };
        Folded {
            key: source,
            destination: key.address(sender.other()),
            port: port_to(&key, sender.other()),
            proto: key.proto(),
            is_ipv6: cold.has(Cold::IPV6),
            is_refused,
            packets: [packets(hot, cold, to), packets(hot, cold, back)],
            bytes: [bytes(hot, cold, to), bytes(hot, cold, back)],
            dropped_packets: cold.dropped_packets,
            dropped_bytes: cold.dropped_bytes,
            drop_reason: cold.drop_reason,
            flags: [flags(to), flags(back)],
            first_ns: cold.first_ns,
            last_ns: hot.last_ns,
            epoch: cold.epoch,
            identities: from_sender(
                [cold.src_identity, cold.dst_identity],
                sender == hot.initiator(),
            ),
            ingress_port: crate::record::port(cold.ingress_port),
        }
    }
}

/// Identities of a decision, the sender's first.
const fn from_sender([initiator, responder]: [u32; 2], is_initiator: bool) -> [u32; 2] {
    if is_initiator {
        [initiator, responder]
    } else {
        [responder, initiator]
    }
}

//! A packet without an entry: who began its flow, room for it, its entry.

use crate::account::{Step, TcpSegment};
use crate::cache::{Admission, Ends, FlowCache, NewFlow};
use crate::context::Path;
use crate::entry::{Cold, NO_PORT, NO_SLOT};
use crate::facts::{PacketFacts, TransportFacts, proto};
use crate::hash::FlowHash;
use crate::initiator::{of_packet, of_ports};
use crate::key::{FlowKey, Side};
use crate::options::InitiatorRule;
use crate::prefetch::{prefetch, prefetch_second};
use crate::record::RecordSink;
use crate::verdict::{decide, narrow_port};
use abi::record::FlowEndReason;
use abi::verdict::{Decision, InitiatorEvidence};

/// What was decided about a flow before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Its ends, as [`FlowCache::ends_of_new`] said.
    pub ends: &'a Ends,
    /// The decision.
    pub decision: &'a Decision,
    /// Epoch of the policy that decided.
    pub epoch: u64,
    /// Port where its packets leave; `None` where they do not.
    pub egress: Option<u16>,
}

impl FlowCache {
    /// Admits and counts a packet that has no entry. If an earlier packet opened the flow in the
    /// meantime it joins that flow. Where there is no room the oldest embryonic flow gives way; its
    /// record (lack-of-resources) goes to `sink`.
    ///
    /// # Bounded work
    /// At most one flow gives way; the index moves at most one resident.
    pub fn insert(
        &mut self,
        hash: FlowHash,
        key: &FlowKey,
        side: Side,
        new: &NewFlow<'_>,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> Admission {
        if let Some(index) = self.find(hash, key)
            && self.account(index, side, new.facts, now, sink) == Step::Counted
        {
            return Admission::Joined(index);
        }
        let began = self.initiator(key, side, &new.facts.transport);
        match self.claim(hash, now, sink) {
            Some(slot) => self.open((slot, key, side), new, began, None, now),
            None => Admission::Full,
        }
    }

    /// As [`FlowCache::insert`], where the caller has just seen that there is no entry and has judged
    /// the flow: the same as an insertion, [`FlowCache::set_decision`] and [`FlowCache::set_egress`].
    ///
    /// # Bounded work
    /// At most one flow gives way; the index moves at most one resident.
    #[expect(
        clippy::too_many_arguments,
        reason = "those of insert, and what was judged"
    )]
    pub fn insert_judged(
        &mut self,
        hash: FlowHash,
        key: &FlowKey,
        side: Side,
        new: &NewFlow<'_>,
        judged: &Judged<'_>,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> Admission {
        debug_assert!(self.find(hash, key).is_none(), "the flow has an entry");
        let began = (judged.ends.initiator, judged.ends.evidence);
        match self.claim(hash, now, sink) {
            Some(slot) => self.open((slot, key, side), new, began, Some(judged), now),
            None => Admission::Full,
        }
    }

    /// Flows opened since the start. While it stays as it is, a key without an entry has none.
    #[inline]
    #[must_use]
    pub const fn flows_opened(&self) -> u64 {
        self.next_flow_id - 1
    }

    /// Takes a slot for a flow that has none and puts it into the index; `None`, and counted, where
    /// there is no room and nobody to give way.
    #[inline]
    fn claim(&mut self, hash: FlowHash, now: u64, sink: &mut impl RecordSink) -> Option<u32> {
        if self.embryonic >= self.embryonic_max || self.free == NO_SLOT {
            if self.oldest == NO_SLOT {
                self.counters.table_full += 1;
                return None;
            }
            let oldest = self.oldest as usize;
            self.end(oldest, FlowEndReason::LackOfResources, now, sink);
            self.foresee_eviction();
        }
        let slot = self.free;
        let (hot, hasher) = (&self.hot, &self.hash);
        let hash_of = |slot: u32| hasher.of(&hot[slot as usize].key.key());
        if !self.index.insert(hash, slot, hash_of) {
            self.counters.index_full += 1;
            return None;
        }
        self.free = self.cold[slot as usize].track[0];
        // The next flow to open will find its entry here.
        self.prefetch_entry_lines(self.free as usize);
        Some(slot)
    }

    /// Fills a claimed slot with a flow of one packet, and says where it is. The packet is the first
    /// of its side, and no surer about who began than `began`; so nothing else that counting it
    /// could do is due.
    #[inline(always)]
    fn open(
        &mut self,
        (slot, key, side): (u32, &FlowKey, Side),
        new: &NewFlow<'_>,
        (initiator, evidence): (Side, InitiatorEvidence),
        judged: Option<&Judged<'_>>,
        now: u64,
    ) -> Admission {
        let facts = new.facts;
        let path = self.keep_path(new.path, side, now);
        if key.context() != 0 {
            self.contexts.retain(key.context().into());
        }
        let mut cold = Cold {
            first_ns: now,
            flow_id: u64::from(self.options.worker) << 56 | self.next_flow_id,
            evidence: evidence.byte(),
            bits: if facts.ipv6 { Cold::IPV6 } else { 0 },
            track: [self.youngest, NO_SLOT],
            path,
            ingress_port: narrow_port(new.ingress_port),
            ..Cold::FREE
        };
        cold.tos[side.index()] = facts.tos;
        if let TransportFacts::Icmp { kind, code } = facts.transport {
            cold.flags[0] = u16::from_be_bytes([kind, code]);
        }
        let hot = &mut self.hot[slot as usize];
        hot.key.set_key(key);
        hot.open(initiator, side, facts.ip_bytes, now);
        if let Some(judged) = judged {
            decide(hot, &mut cold, judged.epoch, judged.decision);
            cold.egress_port = judged.egress.map_or(NO_PORT, narrow_port);
            self.epoch = judged.epoch;
        }
        self.cold[slot as usize] = cold;
        self.link_youngest(slot);
        if self.census.counts(key) {
            self.census.open(self.hash.of(key));
        }
        self.next_flow_id += 1;
        self.counters.flows += 1;
        self.counters.flows_created += 1;
        self.counters.flows_midstream += u64::from(facts.is_midstream());
        self.counters.packets_cached += 1;
        if let Some(segment) = TcpSegment::of(side, &facts.transport) {
            self.tcp(slot as usize, &segment, now);
        }
        Admission::New(self.flow_index(slot))
    }

    /// The ends of the flow that a packet without an entry would open, initiator first.
    #[inline]
    #[must_use]
    pub fn ends_of_new(&self, key: &FlowKey, sender: Side, facts: &PacketFacts) -> Ends {
        let (initiator, evidence) = self.initiator(key, sender, &facts.transport);
        let mut tuple = key.tuple(initiator);
        let (mut icmp_type, mut icmp_code) = (0, 0);
        if matches!(tuple.proto, proto::ICMP | proto::ICMPV6) {
            (tuple.src_port, tuple.dst_port) = (0, 0);
            if let TransportFacts::Icmp { kind, code } = facts.transport {
                (icmp_type, icmp_code) = (kind, code);
            }
        }
        Ends {
            tuple,
            initiator,
            evidence,
            initiator_spoke: initiator == sender,
            icmp_type,
            icmp_code,
        }
    }

    /// Initiator in [`FlowCache::ends_of_new`].
    #[inline(always)]
    #[must_use]
    pub fn initiator_of_new(&self, key: &FlowKey, sender: Side, facts: &PacketFacts) -> Side {
        self.initiator(key, sender, &facts.transport).0
    }

    /// Who opened the flow, judged by its first packet.
    #[inline(always)]
    fn initiator(
        &self,
        key: &FlowKey,
        sender: Side,
        transport: &TransportFacts,
    ) -> (Side, InitiatorEvidence) {
        if self.options.initiator == InitiatorRule::FirstSender {
            return (sender, InitiatorEvidence::FirstPacket);
        }
        if let Some(said) = of_packet(transport, key.proto(), sender) {
            return said;
        }
        if key.proto() == proto::TCP
            && let Some(listener) = self.listener(key)
        {
            return (listener.other(), InitiatorEvidence::KnownListener);
        }
        match of_ports(key) {
            Some(initiator) => (initiator, InitiatorEvidence::PortAsymmetry),
            None => (sender, InitiatorEvidence::FirstPacket),
        }
    }

    /// The one end that has been seen listening.
    #[cold]
    fn listener(&self, key: &FlowKey) -> Option<Side> {
        let known = [Side::A, Side::B].map(|side| self.listeners.knows(key, side));
        match known {
            [true, false] => Some(Side::A),
            [false, true] => Some(Side::B),
            _ => None,
        }
    }

    #[inline]
    fn keep_path(&mut self, path: &Path, sender: Side, now: u64) -> u32 {
        if path.is_plain() {
            return 0;
        }
        let Some(id) = self.paths.intern(&path.seen_from(sender).words(), now) else {
            self.counters.paths_full += 1;
            return 0;
        };
        self.paths.retain(id);
        id
    }

    #[inline]
    fn prefetch_entry_lines(&self, slot: usize) {
        prefetch(&self.hot, slot);
        prefetch(&self.cold, slot);
        prefetch_second(&self.cold, slot);
    }

    /// Who gives way once probably does so again: asks for what the next eviction needs, whose own
    /// lines have come by now, and for the lines of the one after it.
    fn foresee_eviction(&self) {
        let next = self.oldest as usize;
        if let Some(cold) = self.cold.get(next) {
            self.prefetch_end(next);
            self.prefetch_entry_lines(cold.track[1] as usize);
        }
    }
}

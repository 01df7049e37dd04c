//! The cache itself: making it, finding a flow, admitting a new one, and who gives way to whom.

use crate::ageing::Pace;
use crate::aggregate::address_words;
use crate::census::Census;
use crate::context::{ContextTags, Path};
use crate::counters::CacheCounters;
use crate::entry::{Cold, Hot, NO_SLOT};
use crate::facts::{KeyedPacket, PacketFacts, proto};
use crate::hash::{FlowHash, HashKey};
use crate::index::Index;
use crate::initiator::Listeners;
use crate::intern::Interner;
use crate::key::{FlowKey, Side, Tuple};
use crate::options::{CacheError, CacheOptions};
use crate::prefetch::{prefetch, prefetch_second};
use crate::record::RecordSink;
use crate::scan::ScanTable;
use abi::record::{FlowEndReason, TcpState};
use abi::verdict::InitiatorEvidence;
use core::ops::Range;

/// A box of `count` elements, every page written; `None` without memory.
pub(crate) fn filled<T: Copy>(count: usize, element: impl Fn(usize) -> T) -> Option<Box<[T]>> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).ok()?;
    elements.extend((0..count).map(element));
    Some(elements.into_boxed_slice())
}

/// Names a flow's entry until the flow ends. Cheap to copy and safe to keep within a burst: every
/// use checks a byte of generation, so an index whose flow has given way is noticed.
///
/// Not meant to be kept longer: the byte comes round after the entry was reused 256 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowIndex {
    slot: u32,
    generation: u8,
}

/// The entry that a flow's hash points to. Whether it is that flow's is for its key to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LikelyEntry(pub(crate) u32);

impl LikelyEntry {
    /// No entry.
    pub const NONE: Self = Self(NO_SLOT);
}

/// What a new flow is made from, beside its key.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<'a> {
    /// The packet.
    pub facts: &'a PacketFacts,
    /// Port where it came in; 0 to 254, anything above is recorded as 0xffff.
    pub ingress_port: u16,
    /// VLANs and tunnel, as this packet sees them.
    pub path: &'a Path,
}

/// What became of a packet that had no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It opened a flow, and is counted there.
    New(FlowIndex),
    /// An earlier packet of the burst had opened the flow; it is counted there.
    Joined(FlowIndex),
    /// There is no room and nobody to give way. Counted in the cache's counters, in no flow: the
    /// exception policy says what to do.
    Full,
}

/// The two ends of a flow, initiator first, as the policy judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Addresses and ports, initiator to responder; ports 0 for ICMP.
    pub tuple: Tuple,
    /// Which side of the key the initiator is: a packet of this side goes forward.
    pub initiator: Side,
    /// By what evidence.
    pub evidence: InitiatorEvidence,
    /// Whether a packet of the initiator has been counted.
    pub initiator_spoke: bool,
    /// For ICMP and ICMPv6: type of the flow's first packet.
    pub icmp_type: u8,
    /// For ICMP and ICMPv6: code of the flow's first packet.
    pub icmp_code: u8,
}

/// The flow cache of one core. See the crate's page for the order of calls.
pub struct FlowCache {
    pub(crate) hot: Box<[Hot]>,
    pub(crate) cold: Box<[Cold]>,
    pub(crate) index: Index,
    pub(crate) hash: HashKey,
    pub(crate) options: CacheOptions,
    pub(crate) idle_min_ns: u64,
    pub(crate) counters: CacheCounters,
    pub(crate) paths: Interner<6>,
    pub(crate) contexts: Interner<2>,
    pub(crate) listeners: Listeners,
    pub(crate) scans: ScanTable,
    pub(crate) census: Census,
    /// Epoch of the latest decision stored.
    pub(crate) epoch: u64,
    pub(crate) next_flow_id: u64,
    pub(crate) free: u32,
    pub(crate) embryonic_max: u32,
    pub(crate) embryonic: u32,
    pub(crate) oldest: u32,
    pub(crate) youngest: u32,
    pub(crate) hand: u32,
    pub(crate) swept_ns: Option<u64>,
    pub(crate) pace: Pace,
}

impl FlowCache {
    /// Allocates and touches everything. `seed` is random per start and keys every hash.
    ///
    /// # Errors
    /// An option out of its range, or not enough memory.
    pub fn new(options: &CacheOptions, seed: [u64; 2]) -> Result<Self, CacheError> {
        options.validate()?;
        let no_memory = CacheError::Memory {
            bytes: Self::memory_bytes(options),
        };
        let flows_max = options.flows_max as usize;
        let hash = HashKey::new(seed);
        let next_free = |i: usize| {
            u32::try_from(i + 1)
                .ok()
                .filter(|next| *next < options.flows_max)
                .unwrap_or(NO_SLOT)
        };
        let cold = filled(flows_max, |i| Cold {
            track: [next_free(i), 0],
            ..Cold::FREE
        });
        Ok(Self {
            hot: filled(flows_max, |_| Hot::FREE).ok_or(no_memory)?,
            cold: cold.ok_or(no_memory)?,
            index: Index::new(flows_max).ok_or(no_memory)?,
            paths: Interner::new(options.paths_max, hash.clone()).ok_or(no_memory)?,
            contexts: Interner::new(options.contexts_max.into(), hash.clone()).ok_or(no_memory)?,
            listeners: Listeners::new(options.listeners_max, hash.clone()).ok_or(no_memory)?,
            scans: ScanTable::new(&options.scan, hash.clone(), options.worker).ok_or(no_memory)?,
            census: Census::new(&options.scan).ok_or(no_memory)?,
            hash,
            options: *options,
            idle_min_ns: options.timeouts.idle_min_ns(),
            counters: CacheCounters::default(),
            epoch: 0,
            next_flow_id: 1,
            free: 0,
            embryonic_max: options.embryonic_max(),
            embryonic: 0,
            oldest: NO_SLOT,
            youngest: NO_SLOT,
            hand: 0,
            swept_ns: None,
            pace: Pace::default(),
        })
    }

    /// Bytes that a cache with these options allocates.
    #[must_use]
    pub const fn memory_bytes(options: &CacheOptions) -> usize {
        let flows_max = options.flows_max as usize;
        flows_max * (size_of::<Hot>() + size_of::<Cold>())
            + Index::bytes(flows_max)
            + Interner::<6>::bytes(options.paths_max)
            + Interner::<2>::bytes(options.contexts_max as u32)
            + Listeners::bytes(options.listeners_max)
            + ScanTable::bytes(&options.scan)
            + Census::bytes(&options.scan)
    }

    /// Flows the cache holds at most.
    #[must_use]
    pub const fn flows_max(&self) -> u32 {
        self.options.flows_max
    }

    /// What has been counted so far.
    #[must_use]
    pub const fn counters(&self) -> CacheCounters {
        let mut counters = self.counters;
        counters.contexts = self.contexts.count() as u64;
        counters.paths = self.paths.count() as u64;
        let scans = &self.scans.counters;
        counters.packets_cached += scans.cached;
        counters.folded_flows = scans.folded_flows;
        counters.folded_packets = scans.folded_packets;
        counters.folded_rest_packets = scans.rest_packets;
        counters.scan_sources = scans.sources;
        counters.records_aggregate = scans.records;
        counters
    }

    /// Packets counted by flows in the cache, or folded, and not yet in a record.
    #[must_use]
    pub const fn packets_cached(&self) -> u64 {
        self.counters.packets_cached + self.scans.counters.cached
    }

    /// The same number, counted anew over every entry. For tests and audits.
    ///
    /// # Unbounded
    /// Reads the whole cache.
    #[must_use]
    pub fn recount_packets(&self) -> u64 {
        let of_slot =
            |(hot, cold)| crate::entry::packets(hot, cold, 0) + crate::entry::packets(hot, cold, 1);
        let live = self
            .hot
            .iter()
            .zip(&self.cold)
            .filter(|(hot, _)| !hot.is_free());
        live.map(of_slot).sum::<u64>() + self.scans.recount()
    }

    /// The id of a VLAN stack or tunnel, for [`FlowKey::new`]; 0 for plain tags. `None` where every
    /// id is taken by live flows, or was until a minute ago: the packet can have no flow.
    pub fn intern_context(&mut self, tags: &ContextTags, now: u64) -> Option<u16> {
        if tags.is_plain() {
            return Some(0);
        }
        let id = self
            .contexts
            .intern(&tags.words(), now)
            .and_then(|id| u16::try_from(id).ok());
        if id.is_none() {
            self.counters.contexts_full += 1;
        }
        id
    }

    /// Where the tables lie that packets touch, for who wants to place them better.
    #[must_use]
    pub fn tables(&self) -> [Range<*const u8>; 3] {
        let (hot, cold) = (self.hot.as_ptr_range(), self.cold.as_ptr_range());
        [
            self.index.memory(),
            hot.start.cast()..hot.end.cast(),
            cold.start.cast()..cold.end.cast(),
        ]
    }

    /// Keyed hash of a flow key.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &FlowKey) -> FlowHash {
        self.hash.of(key)
    }

    /// What [`KeyedPacket::read_plain`](crate::KeyedPacket::read_plain) hashes with.
    #[inline]
    #[must_use]
    pub const fn hash_key(&self) -> &HashKey {
        &self.hash
    }

    /// Phase 1: asks for the index line.
    #[inline]
    pub fn prefetch_bucket(&self, hash: FlowHash) {
        self.index.prefetch(hash);
    }

    /// Whether [`FlowCache::lacks`] is worth asking.
    #[inline]
    #[must_use]
    pub const fn has_census(&self) -> bool {
        self.census.is_complete()
    }

    /// In phase 1, of a packet whose source scans: whether its flow is known to have no entry, so that
    /// the index need not be asked. False where that is not known.
    #[inline(always)]
    #[must_use]
    pub fn lacks(&self, hash: FlowHash, packet: &KeyedPacket) -> bool {
        let source = address_words(packet.key.address(packet.side));
        self.census.lacks(source, hash)
    }

    /// Phase 2: reads the index line, and asks for the line of the entry it probably names; for TCP
    /// whose sequence numbers are followed also for the line that keeps them. The entry is for
    /// [`FlowCache::pass`].
    #[inline(always)]
    #[must_use]
    pub fn prefetch_entry(&self, hash: FlowHash, proto: u8) -> LikelyEntry {
        let Some(slot) = self.index.likely(hash) else {
            return LikelyEntry::NONE;
        };
        prefetch(&self.hot, slot as usize);
        if self.options.tcp_quality && proto == crate::facts::proto::TCP {
            prefetch(&self.cold, slot as usize);
        }
        LikelyEntry(slot)
    }

    /// Phase 3: the flow with this key. Compares the whole key.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: FlowHash, key: &FlowKey) -> Option<FlowIndex> {
        let slot = self
            .index
            .find(hash, |slot| self.hot[slot as usize].key.is(key))?;
        Some(self.flow_index(slot))
    }

    /// Phase 3 as [`FlowCache::find`], beginning with the entry that phase 2 named: nearly always it
    /// is the flow's, and the index line is not read again.
    #[inline]
    #[must_use]
    pub fn find_likely(
        &self,
        likely: LikelyEntry,
        hash: FlowHash,
        key: &FlowKey,
    ) -> Option<FlowIndex> {
        match self.hot.get(likely.0 as usize) {
            // An entry keeps its key when its flow ends.
            Some(hot) if hot.key.is(key) && !hot.is_free() => Some(FlowIndex {
                slot: likely.0,
                generation: hot.key.generation(),
            }),
            _ => self.find(hash, key),
        }
    }

    #[inline]
    pub(crate) fn flow_index(&self, slot: u32) -> FlowIndex {
        FlowIndex {
            slot,
            generation: self.hot[slot as usize].key.generation(),
        }
    }

    /// The slot of an index, or `None` where its flow has ended.
    #[inline]
    pub(crate) fn slot(&self, index: FlowIndex) -> Option<usize> {
        let hot = self.hot.get(index.slot as usize)?;
        (hot.key.generation() == index.generation && !hot.is_free()).then_some(index.slot as usize)
    }

    /// Asks for the lines that [`FlowCache::end`] needs beside the hot one.
    #[inline]
    pub(crate) fn prefetch_end(&self, slot: usize) {
        prefetch_second(&self.cold, slot);
        self.prefetch_bucket(self.hash(&self.hot[slot].key.key()));
    }

    /// Ends a flow: its last record, and its entry is free.
    pub(crate) fn end(
        &mut self,
        slot: usize,
        reason: FlowEndReason,
        now: u64,
        sink: &mut impl RecordSink,
    ) {
        if !self.fold_unanswered(slot, now, sink) {
            self.tell(slot, abi::record::RecordKind::End, reason, sink);
        }
        let key = self.hot[slot].key.key();
        let hash = self.hash(&key);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "slots are below FLOWS_MAX_LIMIT"
        )]
        let number = slot as u32;
        self.index.remove(hash, number);
        if self.hot[slot].is_established() {
            self.counters.flows_established -= 1;
        } else {
            self.unlink(number);
        }
        let path = self.cold[slot].path;
        if path != 0 && self.paths.release(path, now) == 0 {
            self.paths.forget(path);
        }
        if key.context() != 0 {
            self.contexts.release(key.context().into(), now);
        }
        self.hot[slot].set_free();
        self.hot[slot].key.next_generation();
        self.cold[slot].track[0] = self.free;
        self.free = number;
        self.counters.flows -= 1;
        match reason {
            FlowEndReason::IdleTimeout => self.counters.flows_ended_idle += 1,
            FlowEndReason::EndOfFlow => self.counters.flows_ended_eof += 1,
            FlowEndReason::LackOfResources => self.counters.flows_evicted += 1,
            FlowEndReason::ForcedEnd | FlowEndReason::ActiveTimeout => {
                self.counters.flows_ended_forced += 1;
            }
        }
    }

    /// Ends a flow now, because the policy killed it. False where the index is stale.
    pub fn kill(&mut self, index: FlowIndex, now: u64, sink: &mut impl RecordSink) -> bool {
        let Some(slot) = self.slot(index) else {
            return false;
        };
        self.end(slot, FlowEndReason::ForcedEnd, now, sink);
        true
    }

    /// Moves a flow to the pool that no new flow can evict.
    pub(crate) fn promote(&mut self, slot: usize) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "slots are below FLOWS_MAX_LIMIT"
        )]
        self.unlink(slot as u32);
        self.hot[slot].set_established();
        self.counters.flows_established += 1;
        self.counters.flows_promoted += 1;
        let strong = self.cold[slot].evidence >= InitiatorEvidence::SynAck.byte();
        if strong && self.hot[slot].tcp_state() != TcpState::None {
            let responder = self.hot[slot].initiator().other();
            self.listeners
                .remember(&self.hot[slot].key.key(), responder);
        }
    }

    /// Makes a slot, whose `track` says so already, the youngest of the embryonic flows.
    pub(crate) fn link_youngest(&mut self, slot: u32) {
        match self.cold.get_mut(self.youngest as usize) {
            Some(before) => before.track[1] = slot,
            None => self.oldest = slot,
        }
        self.youngest = slot;
        self.embryonic += 1;
    }

    fn unlink(&mut self, slot: u32) {
        let [older, younger] = self.cold[slot as usize].track;
        match self.cold.get_mut(older as usize) {
            Some(before) => before.track[1] = younger,
            None => self.oldest = younger,
        }
        match self.cold.get_mut(younger as usize) {
            Some(after) => after.track[0] = older,
            None => self.youngest = older,
        }
        self.embryonic -= 1;
    }

    /// The flow's ends, initiator first. `None` where the index is stale.
    #[must_use]
    pub fn ends(&self, index: FlowIndex) -> Option<Ends> {
        let slot = self.slot(index)?;
        let (hot, cold) = (&self.hot[slot], &self.cold[slot]);
        let initiator = hot.initiator();
        let mut tuple = hot.key.key().tuple(initiator);
        let mut icmp = [0; 2];
        if matches!(tuple.proto, proto::ICMP | proto::ICMPV6) {
            (tuple.src_port, tuple.dst_port) = (0, 0);
            icmp = cold.flags[0].to_be_bytes();
        }
        let evidence = InitiatorEvidence::from_byte(cold.evidence)?;
        Some(Ends {
            tuple,
            initiator,
            evidence,
            initiator_spoke: hot.has_seen(initiator),
            icmp_type: icmp[0],
            icmp_code: icmp[1],
        })
    }

    /// State of a TCP flow; none for other protocols. `None` where the index is stale.
    #[must_use]
    pub fn tcp_state(&self, index: FlowIndex) -> Option<TcpState> {
        self.slot(index).map(|slot| self.hot[slot].tcp_state())
    }

    /// The id that all records of the flow carry. `None` where the index is stale.
    #[must_use]
    pub fn flow_id(&self, index: FlowIndex) -> Option<u64> {
        self.slot(index).map(|slot| self.cold[slot].flow_id)
    }

    /// Whether no new flow can evict this one. `None` where the index is stale.
    #[must_use]
    pub fn is_established(&self, index: FlowIndex) -> Option<bool> {
        self.slot(index).map(|slot| self.hot[slot].is_established())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::TransportFacts;

    /// Flows that all live in a few buckets, so that residents have to move; IPv4 and IPv6 are
    /// hashed in ways of their own.
    #[test]
    fn flows_whose_entries_had_to_move_are_still_found() {
        for ipv6 in [false, true] {
            let options = CacheOptions {
                flows_max: 1024,
                embryonic_max: 1024,
                ..CacheOptions::default()
            };
            let mut cache = FlowCache::new(&options, [1, 2]).unwrap();
            let new = NewFlow {
                facts: &PacketFacts {
                    ip_bytes: 46,
                    tos: 0,
                    ipv6,
                    transport: TransportFacts::Plain,
                },
                ingress_port: 0,
                path: &Path::default(),
            };
            let mut admitted = Vec::new();
            for number in 0..1_000_000_u128 {
                let prefix = if ipv6 {
                    0x2001_0db8 << 96
                } else {
                    0xffff << 32
                };
                let tuple = Tuple {
                    src: (prefix | number).to_be_bytes(),
                    dst: (prefix | 0x0a00_0001).to_be_bytes(),
                    src_port: 40_000,
                    dst_port: 53,
                    proto: proto::UDP,
                };
                let (key, side) = FlowKey::new(&tuple, 0);
                let hash = cache.hash(&key);
                if cache.index.lives_below(hash, 8) {
                    let mut told = |_: &abi::FlowRecord| {};
                    if cache.insert(hash, &key, side, &new, 1, &mut told) == Admission::Full {
                        break;
                    }
                    admitted.push(key);
                }
            }
            assert!(cache.index.moves > 0, "no entry had to move");
            for key in &admitted {
                assert!(cache.find(cache.hash(key), key).is_some(), "{key:?}");
            }
        }
    }
}

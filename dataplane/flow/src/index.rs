//! Hash to slot: 64-byte buckets of twelve (tag, slot) pairs, at most two buckets per key. Of the 13
//! bits of tag, eight are compared at once for all twelve, and the rest are kept beside the slot.
//!
//! A key's home is its primary bucket; only where that is crowded does it live in its secondary
//! one, and the primary counts how many such guests it has elsewhere. So a lookup, hit or miss,
//! reads one line in nearly every case and never more than two. With both buckets full, one of
//! the primary's twelve residents is moved to its own other bucket; there is no chain of moves.

use crate::hash::FlowHash;
use crate::prefetch::{equal_bytes, prefetch};
use core::ops::Range;

const BUCKET_SLOTS: usize = 12;
/// From this many residents on, a newcomer goes to the emptier of its two buckets.
const CROWDED: usize = 10;
/// Bits of a slot number; the rest of `slots` holds more of the tag.
const SLOT_BITS: u32 = 27;
const SLOT: u32 = (1 << SLOT_BITS) - 1;
/// Bits of the tag that stand above it.
const REST: u64 = 0x1f;
/// Flows per bucket when the cache is full: 8 of 12 slots, 8 bytes of index a flow.
pub(crate) const BUCKET_FLOWS: usize = 8;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 is a free slot, else the lowest eight bits of the hash, 0 taken as 1.
    tags: [u8; BUCKET_SLOTS],
    /// Flows whose primary bucket is this one and that live in their secondary bucket.
    guests: u16,
    unused: u16,
    /// Slot in the lower bits, the rest of the tag above.
    slots: [u32; BUCKET_SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);
const _: () = assert!(crate::options::FLOWS_MAX_LIMIT <= SLOT);
const _: () = assert!(REST == (u32::MAX >> SLOT_BITS) as u64);

/// One bit per slot.
const SLOT_BITS_MASK: u32 = (1 << BUCKET_SLOTS) - 1;

impl Bucket {
    /// The filler is not 0, so that creating the index touches every page.
    const EMPTY: Self = Self {
        tags: [0; BUCKET_SLOTS],
        guests: 0,
        unused: 0,
        slots: [u32::MAX; BUCKET_SLOTS],
    };

    /// One bit per slot whose tag is `tag`, all of them compared at once.
    #[inline(always)]
    fn matches(&self, tag: u8) -> u32 {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let ([m, n], [o, p]) = (self.guests.to_ne_bytes(), self.unused.to_ne_bytes());
        // The sixteen bytes as they lie, so that one load brings them; the last four are not tags.
        let all = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
        equal_bytes(all, tag) & SLOT_BITS_MASK
    }

    #[inline(always)]
    fn free_slot(&self) -> Option<usize> {
        let free = self.matches(0);
        (free != 0).then(|| free.trailing_zeros() as usize)
    }

    #[inline(always)]
    fn fill(&self) -> usize {
        BUCKET_SLOTS - self.matches(0).count_ones() as usize
    }

    #[inline(always)]
    fn position(&self, tag: Tag, slot: u32) -> Option<usize> {
        let mut mask = self.matches(tag.low);
        while mask != 0 {
            let i = mask.trailing_zeros() as usize;
            if self.slots[i] & SLOT == slot {
                return Some(i);
            }
            mask &= mask - 1;
        }
        None
    }

    /// The first slot with this tag.
    #[inline(always)]
    fn likely(&self, tag: Tag) -> Option<u32> {
        self.scan(tag, &|_| true)
    }

    /// The slot for which `is_it` holds, among those with this tag.
    #[inline(always)]
    fn scan(&self, tag: Tag, is_it: &impl Fn(u32) -> bool) -> Option<u32> {
        let mut mask = self.matches(tag.low);
        while mask != 0 {
            let word = self.slots[mask.trailing_zeros() as usize];
            if word >> SLOT_BITS == tag.rest && is_it(word & SLOT) {
                return Some(word & SLOT);
            }
            mask &= mask - 1;
        }
        None
    }
}

/// Where a hash may live.
#[derive(Clone, Copy)]
struct Place {
    primary: usize,
    secondary: usize,
    tag: Tag,
}

/// The lowest 13 bits of a hash. They say nothing about its primary bucket, and with up to four
/// million flows nothing about its secondary one; beyond, guests of one bucket share some of them.
#[derive(Clone, Copy)]
struct Tag {
    /// Eight bits, 0 taken as 1.
    low: u8,
    /// Five bits.
    rest: u32,
}

impl Tag {
    #[inline(always)]
    const fn of(hash: FlowHash) -> Self {
        let low = (hash.0 & 0xff) as u8;
        Self {
            low: low + (low == 0) as u8,
            rest: ((hash.0 >> 8) & REST) as u32,
        }
    }
}

/// The index of one cache.
pub(crate) struct Index {
    buckets: Box<[Bucket]>,
    /// Residents moved to their other bucket.
    #[cfg(test)]
    pub(crate) moves: u32,
}

impl Index {
    /// Buckets for `flows_max` flows.
    pub(crate) const fn bucket_count(flows_max: usize) -> usize {
        let count = flows_max.div_ceil(BUCKET_FLOWS);
        if count < 2 { 2 } else { count }
    }

    /// Bytes of an index for `flows_max` flows.
    pub(crate) const fn bytes(flows_max: usize) -> usize {
        Self::bucket_count(flows_max) * size_of::<Bucket>()
    }

    /// An index for `flows_max` flows, every page of it touched; `None` without memory.
    pub(crate) fn new(flows_max: usize) -> Option<Self> {
        crate::cache::filled(Self::bucket_count(flows_max), |_| Bucket::EMPTY).map(|buckets| Self {
            buckets,
            #[cfg(test)]
            moves: 0,
        })
    }

    /// Whether both buckets of a hash are among the first `count`.
    #[cfg(test)]
    pub(crate) fn lives_below(&self, hash: FlowHash, count: usize) -> bool {
        let place = self.place(hash);
        place.primary < count && place.secondary < count
    }

    pub(crate) fn memory(&self) -> Range<*const u8> {
        let range = self.buckets.as_ptr_range();
        range.start.cast()..range.end.cast()
    }

    #[inline(always)]
    fn primary(&self, hash: FlowHash) -> usize {
        (((hash.0 >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    fn secondary(&self, hash: FlowHash) -> usize {
        let primary = self.primary(hash);
        let secondary = (((hash.0 & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize;
        match (secondary == primary, primary) {
            (false, _) => secondary,
            (true, 0) => self.buckets.len() - 1,
            (true, _) => primary - 1,
        }
    }

    fn place(&self, hash: FlowHash) -> Place {
        Place {
            primary: self.primary(hash),
            secondary: self.secondary(hash),
            tag: Tag::of(hash),
        }
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: FlowHash) {
        prefetch(&self.buckets, self.primary(hash));
    }

    /// The likeliest slot of a hash, by tag alone.
    #[inline(always)]
    pub(crate) fn likely(&self, hash: FlowHash) -> Option<u32> {
        let bucket = &self.buckets[self.primary(hash)];
        let found = bucket.likely(Tag::of(hash));
        if found.is_some() || bucket.guests == 0 {
            return found;
        }
        self.buckets[self.secondary(hash)].likely(Tag::of(hash))
    }

    /// The slot for which `is_it` holds, among those with the tag of `hash`.
    #[inline(always)]
    pub(crate) fn find(&self, hash: FlowHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = Tag::of(hash);
        let bucket = &self.buckets[self.primary(hash)];
        let found = bucket.scan(tag, &is_it);
        if found.is_some() || bucket.guests == 0 {
            return found;
        }
        self.buckets[self.secondary(hash)].scan(tag, &is_it)
    }

    /// Puts `slot` in. `hash_of` gives the hash of a resident. False where both buckets are full
    /// and none of the primary's residents has room elsewhere; then nothing has changed.
    ///
    /// # Bounded work
    /// Two buckets, and where both are full at most twelve more.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        hash: FlowHash,
        slot: u32,
        hash_of: impl Fn(u32) -> FlowHash,
    ) -> bool {
        let primary = self.primary(hash);
        if self.buckets[primary].fill() < CROWDED {
            return self.put(primary, Tag::of(hash), slot);
        }
        self.insert_crowded(hash, slot, hash_of)
    }

    /// The same where the primary bucket is crowded.
    #[cold]
    fn insert_crowded(
        &mut self,
        hash: FlowHash,
        slot: u32,
        hash_of: impl Fn(u32) -> FlowHash,
    ) -> bool {
        let place = self.place(hash);
        let at_home = self.buckets[place.primary].fill();
        if self.buckets[place.secondary].fill() < at_home {
            return self.put_guest(place, slot);
        }
        self.put(place.primary, place.tag, slot)
            || (self.make_room(place.primary, hash_of) && self.put(place.primary, place.tag, slot))
    }

    #[inline]
    fn put(&mut self, bucket: usize, tag: Tag, slot: u32) -> bool {
        let bucket = &mut self.buckets[bucket];
        let Some(free) = bucket.free_slot() else {
            return false;
        };
        bucket.tags[free] = tag.low;
        bucket.slots[free] = slot | tag.rest << SLOT_BITS;
        true
    }

    /// Puts `slot` into its secondary bucket.
    fn put_guest(&mut self, place: Place, slot: u32) -> bool {
        let Some(guests) = self.buckets[place.primary].guests.checked_add(1) else {
            return false;
        };
        if !self.put(place.secondary, place.tag, slot) {
            return false;
        }
        self.buckets[place.primary].guests = guests;
        true
    }

    /// Moves one resident of `crowded` to its own other bucket.
    fn make_room(&mut self, crowded: usize, hash_of: impl Fn(u32) -> FlowHash) -> bool {
        for i in 0..BUCKET_SLOTS {
            let slot = self.buckets[crowded].slots[i] & SLOT;
            let place = self.place(hash_of(slot));
            let moved = if place.primary == crowded {
                self.put_guest(place, slot)
            } else if self.put(place.primary, place.tag, slot) {
                self.buckets[place.primary].guests -= 1;
                true
            } else {
                false
            };
            #[cfg(test)]
            {
                self.moves += u32::from(moved);
            }
            if moved {
                self.buckets[crowded].tags[i] = 0;
                return true;
            }
        }
        false
    }

    /// Takes `slot` out. False where it is not in.
    #[inline]
    pub(crate) fn remove(&mut self, hash: FlowHash, slot: u32) -> bool {
        let tag = Tag::of(hash);
        let primary = self.primary(hash);
        let primary = &mut self.buckets[primary];
        if let Some(i) = primary.position(tag, slot) {
            primary.tags[i] = 0;
            return true;
        }
        self.remove_guest(hash, slot)
    }

    /// Takes `slot` out of its secondary bucket.
    #[cold]
    fn remove_guest(&mut self, hash: FlowHash, slot: u32) -> bool {
        let place = self.place(hash);
        let Some(i) = self.buckets[place.secondary].position(place.tag, slot) else {
            return false;
        };
        self.buckets[place.secondary].tags[i] = 0;
        self.buckets[place.primary].guests -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKey;
    use std::collections::BTreeMap;

    /// splitmix64: hashes for tests.
    fn mix(n: u64) -> u64 {
        let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn hash_of(slot: u32) -> FlowHash {
        FlowHash(mix(slot.into()))
    }

    fn guests(index: &Index) -> u64 {
        index.buckets.iter().map(|b| u64::from(b.guests)).sum()
    }

    #[test]
    fn a_full_cache_is_always_indexed() {
        for flows_max in [1_u32, 2, 100, 1 << 17] {
            let mut index = Index::new(flows_max as usize).unwrap();
            for slot in 0..flows_max {
                assert!(
                    index.insert(hash_of(slot), slot, hash_of),
                    "slot {slot} of {flows_max}"
                );
            }
            for slot in 0..flows_max {
                assert_eq!(index.find(hash_of(slot), |s| s == slot), Some(slot));
            }
            let misled = (0..flows_max)
                .filter(|s| index.likely(hash_of(*s)) != Some(*s))
                .count();
            assert!(
                misled <= flows_max as usize / 500,
                "{misled} of {flows_max} misled"
            );
            assert_eq!(index.find(FlowHash(mix(u64::MAX / 3)), |_| false), None);
            for slot in 0..flows_max {
                assert!(index.remove(hash_of(slot), slot));
                assert!(!index.remove(hash_of(slot), slot));
                assert_eq!(index.find(hash_of(slot), |s| s == slot), None);
            }
            assert_eq!(guests(&index), 0);
        }
    }

    #[test]
    fn matching_tags_are_found_wherever_they_are() {
        for at in 0..1_u32 << BUCKET_SLOTS {
            for (tag, other) in [(1, 0), (0x80, 0x7f), (0x7f, 0xff), (0xff, 0xfe), (1, 0x81)] {
                let mut bucket = Bucket::EMPTY;
                bucket.guests = u16::from_ne_bytes([tag; 2]);
                for (i, t) in bucket.tags.iter_mut().enumerate() {
                    *t = if at >> i & 1 == 1 { tag } else { other };
                }
                assert_eq!(bucket.matches(tag), at);
            }
        }
    }

    #[test]
    fn a_key_that_shares_half_a_tag_misleads_nobody() {
        let mut index = Index::new(1000).unwrap();
        let hashes = [0x55_u64, 0x155, 0x1f55].map(|low| FlowHash(mix(9) & !0xffff | low));
        for (slot, hash) in (0..).zip(hashes) {
            assert!(index.insert(hash, slot, |s| hashes[s as usize]));
        }
        for (slot, hash) in (0..).zip(hashes) {
            assert_eq!(index.likely(hash), Some(slot));
        }
        assert_eq!(index.likely(FlowHash(hashes[0].0 ^ 0x200)), None);
    }

    #[test]
    fn one_hash_for_all_fills_two_buckets_and_is_then_refused() {
        let mut index = Index::new(1000).unwrap();
        let same = FlowHash(mix(5));
        let capacity = 2 * u32::try_from(BUCKET_SLOTS).unwrap();
        for slot in 0..capacity {
            assert!(index.insert(same, slot, |_| same), "slot {slot}");
        }
        assert!(!index.insert(same, capacity, |_| same));
        for slot in 0..capacity {
            assert_eq!(index.find(same, |s| s == slot), Some(slot));
        }
        for slot in 0..capacity {
            assert!(index.remove(same, slot));
        }
        assert_eq!(guests(&index), 0);
    }

    /// Keys as someone who aims at a bucket would choose them: consecutive hosts and ports.
    fn aimed_key(n: u32) -> crate::FlowKey {
        let [a, b, c, d] = n.to_be_bytes();
        let tuple = crate::Tuple {
            src: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, a, b, c],
            dst: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1],
            src_port: 1024 + u16::from(d),
            dst_port: 80,
            proto: crate::proto::TCP,
        };
        crate::FlowKey::new(&tuple, 0).0
    }

    #[test]
    fn keys_that_collide_under_one_seed_do_not_under_another() {
        const BUCKETS: usize = 512;
        let index = Index::new(BUCKETS * BUCKET_FLOWS).unwrap();
        assert_eq!(index.buckets.len(), BUCKETS);
        let place = |key: &HashKey, n: u32| index.primary(key.of(&aimed_key(n)));
        let known = HashKey::new([1, 2]);
        let aimed: Vec<u32> = (0..1 << 20).filter(|n| place(&known, *n) == 7).collect();
        assert!(aimed.len() > 1900, "{} keys for one bucket", aimed.len());
        for seed in 0..16 {
            let key = HashKey::new([seed, 77]);
            let mut loads = [0_u32; BUCKETS];
            for n in &aimed {
                loads[place(&key, *n)] += 1;
            }
            // Four a bucket on average; by chance a bucket has 20 once in a million tries.
            let worst = loads.iter().max().copied().unwrap();
            assert!(worst < 20, "seed {seed}: a bucket would get {worst}");
        }
    }

    #[test]
    fn even_with_the_seed_known_a_bucket_holds_no_more_and_the_others_are_found() {
        let known = HashKey::new([1, 2]);
        let hash_of = |n: u32| known.of(&aimed_key(n));
        let mut index = Index::new(1000).unwrap();
        let other = 100_000_000;
        assert!(index.insert(FlowHash(mix(9)), other, |_| FlowHash(mix(9))));
        let (primary, secondary) = (index.primary(hash_of(0)), index.secondary(hash_of(0)));
        let aimed = (0..1 << 22).filter(|n| {
            let places = (index.primary(hash_of(*n)), index.secondary(hash_of(*n)));
            places == (primary, secondary) || places == (secondary, primary)
        });
        let aimed: Vec<u32> = aimed.take(100).collect();
        assert_eq!(aimed.len(), 100);
        let kept: Vec<u32> = aimed
            .into_iter()
            .filter(|n| index.insert(hash_of(*n), *n, hash_of))
            .collect();
        assert!(kept.len() <= 2 * BUCKET_SLOTS && kept.len() >= 2 * CROWDED);
        for n in kept {
            assert_eq!(index.find(hash_of(n), |s| s == n), Some(n));
        }
        assert_eq!(index.find(FlowHash(mix(9)), |s| s == other), Some(other));
    }

    #[test]
    fn a_crowded_bucket_sends_a_resident_to_its_other_bucket() {
        // At more than 11 of 12 slots a bucket, newcomers meet two full buckets all the time.
        let mut index = Index::new(800).unwrap();
        let slots = u32::try_from(index.buckets.len() * BUCKET_SLOTS).unwrap();
        let mut inside = Vec::new();
        let mut refused = 0;
        for slot in 0..slots {
            if index.insert(hash_of(slot), slot, hash_of) {
                inside.push(slot);
            } else {
                refused += 1;
            }
            for slot in inside.iter().rev().take(50) {
                assert_eq!(index.find(hash_of(*slot), |s| s == *slot), Some(*slot));
            }
        }
        assert!(
            inside.len() > 1100,
            "{} of {slots} inside, {refused} refused",
            inside.len()
        );
        for slot in &inside {
            assert_eq!(index.find(hash_of(*slot), |s| s == *slot), Some(*slot));
        }
    }

    #[test]
    fn coming_and_going_leaves_exactly_the_present_ones() {
        let mut index = Index::new(64).unwrap();
        let mut present: BTreeMap<u32, FlowHash> = BTreeMap::new();
        let mut hashes = [FlowHash(0); 64];
        for round in 0..100_000_u64 {
            let slot = u32::try_from(mix(round) % 64).unwrap();
            if let Some(hash) = present.remove(&slot) {
                assert!(index.remove(hash, slot));
            } else {
                let hash = FlowHash(mix(round << 20));
                hashes[slot as usize] = hash;
                assert!(index.insert(hash, slot, |s| hashes[s as usize]));
                present.insert(slot, hash);
            }
            for (slot, hash) in &present {
                assert_eq!(index.find(*hash, |s| s == *slot), Some(*slot));
            }
        }
        for (slot, hash) in present {
            assert!(index.remove(hash, slot));
        }
        assert_eq!(guests(&index), 0);
    }
}

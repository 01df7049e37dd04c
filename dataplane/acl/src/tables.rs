//! The tables a core walks: aligned copies made once by `check`, and the walk itself.

use abi::image::{PAIR_BLOCK, SERVICE_PAGE, V4_CHILD, V6_EMPTY, V6_PROBES_MAX};
use abi::image::{row_slot, v6_home, v6_masked};
use abi::verdict::{Coverage, OnChange};
use abi::{Action, Decision, Mode, VerdictSource};
use core::hint::select_unpredictable;
use std::sync::Arc;

/// What happens where a lookup fails that `check` has made impossible to fail.
pub(crate) const FAIL_CLOSED: Decision = Decision {
    enforced: Action::Deny,
    enforced_source: VerdictSource::Default,
    rule_id: 0,
    pending: Action::Deny,
    pending_source: VerdictSource::Default,
    pending_rule_id: 0,
    mode: Mode::Enforce,
    coverage: Coverage::Uncovered,
    on_change: OnChange::Reevaluate,
    limit_index: 0,
    src_identity: 0,
    dst_identity: 0,
};

/// The four bytes before an IPv4 address in `::ffff:0:0/96` (RFC 4291 section 2.5.5.2), read as a number
/// that begins with its lowest byte. Those before them are 0.
const V4_MAPPED: u32 = 0xffff_0000;

/// Entries of the IPv4 root once the first two levels of the trie are flattened into one.
pub(crate) const V4_ROOT_ENTRIES: usize = 1 << 16;

/// Counts loads from the tables: nothing in production, a number in tests and benches.
pub(crate) trait LoadCount {
    fn load(&mut self);
}

impl LoadCount for () {
    #[inline(always)]
    fn load(&mut self) {}
}

impl LoadCount for u32 {
    fn load(&mut self) {
        *self += 1;
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct V6Entry {
    pub(crate) prefix: u128,
    pub(crate) identity: u32,
    pub(crate) length: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Classes {
    pub(crate) source: u32,
    pub(crate) destination: u32,
}

/// What a block of destination classes comes to for one source class: most of them mostly to the
/// same row set, which is told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairEntry {
    /// One bit for each column whose row set is another than that of most.
    pub(crate) differ: u32,
    /// The row set of most in the pair cells; behind it those of the columns that differ, ascending.
    pub(crate) first: u32,
}

impl PairEntry {
    /// Where the row set of a column stands in the pair cells; `bit` is that of the column.
    #[inline(always)]
    pub(crate) const fn cell(self, bit: u32) -> u32 {
        let before = self.differ & bit.wrapping_sub(1);
        let place = if self.differ & bit == 0 {
            0
        } else {
            before.count_ones() + 1
        };
        self.first.wrapping_add(place)
    }
}

/// A class that no service has.
pub(crate) const NO_CLASS: u32 = u32::MAX - 1;

/// One cache line, so that a set with one exception, as most sets have, is a verdict in one load.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct RowSetEntry {
    pub(crate) first: u32,
    pub(crate) default_row: u32,
    pub(crate) multiplier: u32,
    pub(crate) mask: u32,
    pub(crate) shift: u32,
    /// Class of its slot where it has only one, else [`NO_CLASS`].
    pub(crate) alone_class: u32,
    /// The verdict of that slot.
    pub(crate) alone: Decision,
}

const _: () = assert!(size_of::<RowSetEntry>() == 64);

/// Single IPv4 addresses that are not what the prefix around them is. Each stands where its hash
/// and the displacement of its bucket say, and no two at the same place: one load finds it, or finds
/// that it is not here.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// One for each bucket; a power of two of them.
    pub(crate) displacements: Arc<[u16]>,
    /// A power of two.
    pub(crate) slots: Arc<[HostSlot]>,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub(crate) struct HostSlot {
    pub(crate) address: u32,
    /// Its identity plus 1; 0 where the slot is empty.
    pub(crate) identity: u32,
}

/// Bucket of a hash among so many.
#[inline(always)]
pub(crate) const fn host_bucket(hash: u64, buckets: usize) -> usize {
    (hash >> 42) as usize & buckets.wrapping_sub(1)
}

/// Slot of a hash among so many.
#[inline(always)]
pub(crate) const fn host_slot(hash: u64, displacement: u16, slots: usize) -> usize {
    ((hash >> 20) as usize ^ displacement as usize) & slots.wrapping_sub(1)
}

/// Hash of an address. Whoever sends packets cannot crowd the table: it holds what the policy names.
#[inline(always)]
pub(crate) const fn host_hash(address: u32) -> u64 {
    (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Hosts {
    /// Identity of an address, plus 1; 0 where it is not here.
    #[inline(always)]
    pub(crate) fn find(&self, address: u32, loads: &mut impl LoadCount) -> u32 {
        let hash = host_hash(address);
        loads.load();
        let bucket = host_bucket(hash, self.displacements.len());
        let Some(displacement) = self.displacements.get(bucket) else {
            return 0;
        };
        loads.load();
        let slot = host_slot(hash, *displacement, self.slots.len());
        match self.slots.get(slot) {
            Some(slot) if slot.address == address => slot.identity,
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotEntry {
    pub(crate) service_class: u32,
    pub(crate) row: u32,
}

/// Everything an evaluation touches. Tables are shared with other images that have the same.
#[derive(Debug)]
pub(crate) struct Tables {
    /// IPv4 hosts, or none at all. Those that are here are not in the trie.
    pub(crate) v4_hosts: Hosts,
    /// The first two levels of the IPv4 trie, flattened.
    pub(crate) v4_root: Arc<[u32; V4_ROOT_ENTRIES]>,
    pub(crate) v4_nodes: Arc<[u32]>,
    pub(crate) v6: V6Tables,
    pub(crate) v6_default: u32,
    pub(crate) identities: Arc<[Classes]>,
    pub(crate) pair_stride: u32,
    pub(crate) pair_index: Arc<[PairEntry]>,
    pub(crate) pair_cells: Arc<[u32]>,
    pub(crate) row_sets: Arc<[RowSetEntry]>,
    pub(crate) row_slots: Arc<[SlotEntry]>,
    pub(crate) verdicts: Arc<[Decision]>,
    pub(crate) service_protos: Arc<[u32; SERVICE_PAGE as usize]>,
    pub(crate) service_pages: Arc<[[u32; SERVICE_PAGE as usize]]>,
    pub(crate) service_blocks: Arc<[[u16; SERVICE_PAGE as usize]]>,
}

/// Prefixes of IPv6 by length.
#[derive(Clone, Debug)]
pub(crate) struct V6Tables {
    /// Ascending.
    pub(crate) lengths: Arc<[u8]>,
    /// A power of two.
    pub(crate) slots: Arc<[V6Entry]>,
    pub(crate) mask: u32,
}

impl V6Tables {
    pub(crate) fn probe(
        &self,
        prefix: u128,
        length: u8,
        loads: &mut impl LoadCount,
    ) -> Option<u32> {
        let home = v6_home(prefix, length, self.mask);
        for step in 0..V6_PROBES_MAX {
            let slot = get(&self.slots, (home + step) & self.mask, loads)?;
            if slot.length == length && slot.prefix == prefix {
                return Some(slot.identity);
            }
            if slot.length == V6_EMPTY {
                return None;
            }
        }
        None
    }
}

/// One load. `check` has made `None` impossible; the caller fails closed all the same.
#[inline(always)]
pub(crate) fn get<T: Copy>(table: &[T], index: u32, loads: &mut impl LoadCount) -> Option<T> {
    loads.load();
    table.get(index as usize).copied()
}

/// The last four bytes of an address as a number, and something other than 0 where it
/// is no IPv4 address. By way of numbers: a pattern of bytes would be read byte by byte.
#[inline(always)]
pub(crate) fn v4_or_other(address: &[u8; 16]) -> (u32, u64) {
    let number = u128::from_le_bytes(*address);
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the number")]
    let (first, last) = (number as u64, (number >> 64) as u64);
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the half")]
    let (before_v4, v4) = (last as u32, (last >> 32) as u32);
    (v4.swap_bytes(), first | u64::from(before_v4 ^ V4_MAPPED))
}

/// The IPv4 address in a mapped one.
#[inline(always)]
pub(crate) fn v4_of(address: &[u8; 16]) -> Option<u32> {
    let (v4, other) = v4_or_other(address);
    (other == 0).then_some(v4)
}

impl Tables {
    /// Identity of an address; IPv4 is `::ffff:a.b.c.d`.
    ///
    /// # Bounded work
    /// IPv4: at most 5 loads. IPv6: at most 8 distinct lengths are tried (a binary search over at
    /// most 128), each at most [`V6_PROBES_MAX`] slots.
    #[inline(always)]
    pub(crate) fn identity(&self, address: &[u8; 16], loads: &mut impl LoadCount) -> Option<u32> {
        match v4_of(address) {
            Some(v4) => self.v4_identity(v4, loads),
            None => self.v6_identity(u128::from_be_bytes(*address), loads),
        }
    }

    #[inline(always)]
    fn v4_identity(&self, address: u32, loads: &mut impl LoadCount) -> Option<u32> {
        if let Some(identity) = self.v4_hosts.find(address, loads).checked_sub(1) {
            return Some(identity);
        }
        let mut entry = get(&*self.v4_root, address >> 16, loads)?;
        for shift in [8, 0] {
            if entry & V4_CHILD == 0 {
                break;
            }
            let node = (entry & !V4_CHILD) << 8;
            let byte = (address >> shift) & 0xff;
            entry = get(&self.v4_nodes, node | byte, loads)?;
        }
        Some(entry)
    }

    /// Binary search over prefix lengths: a hit, real or marker, names the best identity so far
    /// and says that a longer prefix may exist; a miss says that none does.
    #[inline(never)]
    fn v6_identity(&self, address: u128, loads: &mut impl LoadCount) -> Option<u32> {
        let mut best = self.v6_default;
        let (mut low, mut high) = (0, self.v6.lengths.len());
        while low < high {
            let middle = low.midpoint(high);
            let length = *self.v6.lengths.get(middle)?;
            match self.v6.probe(v6_masked(address, length), length, loads) {
                Some(identity) => {
                    best = identity;
                    low = middle + 1;
                }
                None => high = middle,
            }
        }
        Some(best)
    }

    /// Class of a service: 3 loads.
    #[inline(always)]
    pub(crate) fn service_class(
        &self,
        proto: u8,
        key: u16,
        loads: &mut impl LoadCount,
    ) -> Option<u32> {
        let [page, low] = key.to_be_bytes();
        let table = get(&*self.service_protos, u32::from(proto), loads)?;
        loads.load();
        let block = self.service_pages.get(table as usize)?[usize::from(page)];
        loads.load();
        let block = self.service_blocks.get(block as usize)?;
        Some(u32::from(block[usize::from(low)]))
    }

    /// What two identities meet in: pairs with the same number are decided alike about every service.
    pub(crate) fn cell(&self, src: u32, dst: u32) -> Option<u32> {
        let source = self.identities.get(src as usize)?.source;
        let destination = self.identities.get(dst as usize)?.destination;
        let (block, column) = (destination / PAIR_BLOCK, destination % PAIR_BLOCK);
        let entry = self
            .pair_index
            .get((source * self.pair_stride + block) as usize)?;
        self.pair_cells
            .get(entry.cell(1 << column) as usize)
            .copied()
    }

    /// Verdict row of two identities and a service, without the identities: 10 loads at most, whatever
    /// the policy.
    #[inline(always)]
    pub(crate) fn decide(
        &self,
        src: u32,
        dst: u32,
        proto: u8,
        key: u16,
        loads: &mut impl LoadCount,
    ) -> Option<&Decision> {
        let class = self.service_class(proto, key, loads)?;
        self.decide_class(src, dst, class, loads)
    }

    /// The same for a class of services: 7 loads at most.
    #[inline(always)]
    pub(crate) fn decide_class(
        &self,
        src: u32,
        dst: u32,
        class: u32,
        loads: &mut impl LoadCount,
    ) -> Option<&Decision> {
        let source = get(&self.identities, src, loads)?.source;
        let destination = get(&self.identities, dst, loads)?.destination;
        let (block, column) = (destination / PAIR_BLOCK, destination % PAIR_BLOCK);
        let entry = get(&self.pair_index, source * self.pair_stride + block, loads)?;
        let row_set = get(&self.pair_cells, entry.cell(1 << column), loads)?;
        loads.load();
        let set = self.row_sets.get(row_set as usize)?;
        let row = self.row_of(set, class, loads)?;
        loads.load();
        let other = self.verdicts.get(row as usize)?;
        // Which of the two it is nobody can guess, and a wrong guess would stop the loads behind it.
        Some(select_unpredictable(
            set.alone_class == class,
            &set.alone,
            other,
        ))
    }

    /// Verdict row of a class in a set whose only exception, if it has but one, is another.
    #[inline(always)]
    pub(crate) fn row_of(
        &self,
        set: &RowSetEntry,
        class: u32,
        loads: &mut impl LoadCount,
    ) -> Option<u32> {
        if set.mask == 0 {
            return Some(set.default_row);
        }
        let slot = set.first + row_slot(class, set.multiplier, set.shift, set.mask);
        let slot = get(&self.row_slots, slot, loads)?;
        Some(if slot.service_class == class {
            slot.row
        } else {
            set.default_row
        })
    }
}

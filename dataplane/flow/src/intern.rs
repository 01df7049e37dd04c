//! A bounded set of values that many flows share: each value is kept once and counted.

use crate::cache::filled;
use crate::entry::NO_SLOT;
use crate::hash::HashKey;

/// Longest chain walked. With a keyed hash and no more values than heads, chains this long do not
/// come by chance; a value that would make one longer is refused.
const CHAIN_MAX: usize = 64;

#[derive(Clone, Copy)]
struct Node<const N: usize> {
    words: [u64; N],
    used_ns: u64,
    refs: u32,
    /// Next in the chain, or next free.
    next: u32,
    live: bool,
}

/// Values of `N` words, each with an id from 1 on.
pub(crate) struct Interner<const N: usize> {
    nodes: Box<[Node<N>]>,
    heads: Box<[u32]>,
    hash: HashKey,
    free: u32,
    count: u32,
    hand: u32,
}

impl<const N: usize> Interner<N> {
    pub(crate) fn new(values_max: u32, hash: HashKey) -> Option<Self> {
        let nodes = filled(values_max as usize, |i| Node {
            words: [0; N],
            used_ns: 0,
            refs: 0,
            next: u32::try_from(i + 1)
                .ok()
                .filter(|n| *n < values_max)
                .unwrap_or(NO_SLOT),
            live: false,
        })?;
        let heads = filled((values_max as usize).next_power_of_two(), |_| NO_SLOT)?;
        let free = if values_max == 0 { NO_SLOT } else { 0 };
        Some(Self {
            nodes,
            heads,
            hash,
            free,
            count: 0,
            hand: 0,
        })
    }

    pub(crate) const fn bytes(values_max: u32) -> usize {
        values_max as usize * size_of::<Node<N>>()
            + (values_max as usize).next_power_of_two() * size_of::<u32>()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "masked to the number of heads"
    )]
    fn head(&self, words: &[u64; N]) -> usize {
        self.hash.hash(words) as usize & (self.heads.len() - 1)
    }

    /// The id of a value, new or known; `None` where there is no room for a new one.
    pub(crate) fn intern(&mut self, words: &[u64; N], now: u64) -> Option<u32> {
        let head = self.head(words);
        let mut at = self.heads[head];
        let mut steps = 0;
        while at != NO_SLOT {
            let node = &mut self.nodes[at as usize];
            if node.words == *words {
                node.used_ns = now;
                return Some(at + 1);
            }
            at = node.next;
            steps += 1;
            if steps == CHAIN_MAX {
                return None;
            }
        }
        let fresh = self.free;
        let next = self.heads[head];
        let node = self.nodes.get_mut(fresh as usize)?;
        self.free = node.next;
        *node = Node {
            words: *words,
            used_ns: now,
            refs: 0,
            next,
            live: true,
        };
        self.heads[head] = fresh;
        self.count += 1;
        Some(fresh + 1)
    }

    /// Values kept now.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// The value of an id.
    pub(crate) fn get(&self, id: u32) -> Option<&[u64; N]> {
        let node = self.nodes.get(id.wrapping_sub(1) as usize)?;
        node.live.then_some(&node.words)
    }

    /// One more flow has this value.
    pub(crate) fn retain(&mut self, id: u32) {
        if let Some(node) = self.nodes.get_mut(id.wrapping_sub(1) as usize) {
            node.refs += 1;
        }
    }

    /// One flow fewer has this value; how many are left.
    pub(crate) fn release(&mut self, id: u32, now: u64) -> u32 {
        let Some(node) = self.nodes.get_mut(id.wrapping_sub(1) as usize) else {
            return 0;
        };
        node.refs = node.refs.saturating_sub(1);
        node.used_ns = now;
        node.refs
    }

    /// Forgets a value that no flow has.
    pub(crate) fn forget(&mut self, id: u32) {
        let slot = id.wrapping_sub(1);
        let Some(node) = self.nodes.get(slot as usize) else {
            return;
        };
        if !node.live || node.refs != 0 {
            return;
        }
        let (words, next) = (node.words, node.next);
        let head = self.head(&words);
        if self.heads[head] == slot {
            self.heads[head] = next;
        } else {
            let mut at = self.heads[head];
            while at != NO_SLOT && self.nodes[at as usize].next != slot {
                at = self.nodes[at as usize].next;
            }
            if let Some(before) = self.nodes.get_mut(at as usize) {
                before.next = next;
            }
        }
        let node = &mut self.nodes[slot as usize];
        node.live = false;
        node.next = self.free;
        self.free = slot;
        self.count -= 1;
    }

    /// Looks at `slots_max` values and forgets those that no flow has and nobody asked for since
    /// `rest_ns` ago.
    pub(crate) fn recycle(&mut self, now: u64, rest_ns: u64, slots_max: u32) {
        for _ in 0..slots_max {
            let Some(node) = self.nodes.get(self.hand as usize) else {
                self.hand = 0;
                return;
            };
            if node.live && node.refs == 0 && now.saturating_sub(node.used_ns) > rest_ns {
                self.forget(self.hand + 1);
            }
            self.hand += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interner(values_max: u32) -> Interner<1> {
        Interner::new(values_max, HashKey::new([3, 4])).unwrap()
    }

    #[test]
    fn equal_values_share_an_id_and_full_is_refused() {
        let mut set = interner(3);
        let ids: Vec<_> = [10, 20, 30, 20, 10].map(|v| set.intern(&[v], 0)).to_vec();
        assert_eq!(ids, [Some(1), Some(2), Some(3), Some(2), Some(1)]);
        assert_eq!(set.intern(&[40], 0), None);
        assert_eq!(set.get(2), Some(&[20]));
        assert_eq!(set.get(0), None);
        assert_eq!(interner(0).intern(&[1], 0), None);
    }

    #[test]
    fn a_value_is_recycled_only_when_unused_and_rested() {
        let mut set = interner(2);
        let used = set.intern(&[1], 0).unwrap();
        set.retain(used);
        let asked = set.intern(&[2], 0).unwrap();
        set.recycle(100, 100, 8);
        assert_eq!(set.count(), 2, "not rested yet");
        set.recycle(101, 100, 8);
        set.recycle(101, 100, 8);
        assert_eq!(set.count(), 1);
        assert_eq!(set.intern(&[3], 101), Some(asked));
        assert_eq!(set.intern(&[4], 101), None);
        assert_eq!(set.release(used, 102), 0);
        set.forget(used);
        assert_eq!(set.intern(&[4], 102), Some(used));
        assert_eq!(
            set.intern(&[3], 102),
            Some(asked),
            "the chain survives the removal"
        );
    }

    #[test]
    fn many_values_come_and_go() {
        let mut set = interner(64);
        for round in 0..200_u64 {
            for value in 0..64 {
                let id = set.intern(&[round * 1000 + value], round).unwrap();
                assert_eq!(set.get(id), Some(&[round * 1000 + value]));
            }
            for id in 1..=64 {
                set.forget(id);
            }
            assert_eq!(set.count(), 0);
        }
    }
}

//! Numbers for equal things.

use super::index;
use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;

/// Gives equal things one number, in the order in which they come.
#[derive(Debug)]
pub(crate) struct Interner<K> {
    of: HashMap<K, u32, BuildHasherDefault<FoldHasher>>,
}

impl<K: Eq + core::hash::Hash> Interner<K> {
    pub(crate) fn new() -> Self {
        Self {
            of: HashMap::default(),
        }
    }

    /// The number of `key`, and whether it is new.
    pub(crate) fn number(&mut self, key: K) -> (u32, bool) {
        let next = index(self.of.len());
        let number = *self.of.entry(key).or_insert(next);
        (number, number == next)
    }

    pub(crate) fn count(&self) -> usize {
        self.of.len()
    }
}

impl<T: Clone + Eq + core::hash::Hash> Interner<Vec<T>> {
    /// The number of a list, which is copied only where it is new.
    pub(crate) fn number_of(&mut self, list: &[T]) -> (u32, bool) {
        match self.of.get(list) {
            Some(number) => (*number, false),
            None => self.number(list.to_vec()),
        }
    }
}

/// Hash of numbers and lists of numbers that this compiler made itself. Nobody chooses them to
/// collide, so that speed counts and a key does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FoldHasher(u64);

impl FoldHasher {
    fn fold(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_ne_bytes(*word));
        }
        for byte in rest {
            self.fold(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
}

//! How many different things were seen, in 264 bytes: exact while they are few, then an estimate.

/// Distinct values that are counted exactly.
pub(crate) const EXACT_MAX: usize = 64;
/// Registers of the estimate: one byte each, in the place of the exact values.
const REGISTERS: usize = EXACT_MAX * size_of::<u32>();
/// `len` of a sketch that estimates.
const ESTIMATES: u32 = u32::MAX;

/// Distinct values. Up to [`EXACT_MAX`] their hashes are kept; from then on the same bytes are the
/// registers of a HyperLogLog (Flajolet et al. 2007) with a standard error of 1.04/sqrt(256) = 6.5 %.
///
/// Values come as 32-bit hashes: two values with one hash count once, which takes 1 % off a count of
/// 86 million and less off every smaller one.
#[derive(Clone, Copy)]
pub(crate) struct Sketch {
    len: u32,
    words: [u32; EXACT_MAX],
}

impl Sketch {
    pub(crate) const EMPTY: Self = Self {
        len: 0,
        words: [0; EXACT_MAX],
    };

    /// Forgets everything. What is left in the words has no meaning.
    pub(crate) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a value by its hash.
    ///
    /// # Bounded work
    /// [`EXACT_MAX`] compares; [`REGISTERS`] writes once.
    #[inline]
    pub(crate) fn add(&mut self, hash: u32) {
        if self.len == ESTIMATES {
            self.raise(hash);
        } else {
            self.add_exact(hash);
        }
    }

    fn add_exact(&mut self, hash: u32) {
        let len = self.len as usize;
        if self.words[..len].contains(&hash) {
            return;
        }
        if let Some(place) = self.words.get_mut(len) {
            *place = hash;
            self.len += 1;
            return;
        }
        let kept = core::mem::replace(&mut self.words, [0; EXACT_MAX]);
        self.len = ESTIMATES;
        for hash in kept {
            self.raise(hash);
        }
        self.raise(hash);
    }

    /// The register of the hash's first eight bits keeps the longest run of zeros of the others.
    #[inline]
    const fn raise(&mut self, hash: u32) {
        let register = hash >> 24;
        // At most 25: the lowest bit ends the run.
        let run = (hash << 8 | 1 << 7).leading_zeros() + 1;
        let (word, shift) = ((register / 4) as usize, register % 4 * 8);
        let old = self.words[word] >> shift & 0xff;
        if run > old {
            self.words[word] = self.words[word] & !(0xff << shift) | run << shift;
        }
    }

    /// Takes over what another has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.len != ESTIMATES {
            for hash in &other.words[..other.len as usize] {
                self.add(*hash);
            }
            return;
        }
        if self.len != ESTIMATES {
            let few = core::mem::replace(self, *other);
            self.merge(&few);
            return;
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            let highest = |i: usize| mine.to_ne_bytes()[i].max(theirs.to_ne_bytes()[i]);
            *mine = u32::from_ne_bytes(core::array::from_fn(highest));
        }
    }

    /// How many different values there were.
    pub(crate) fn count(&self) -> u32 {
        if self.len != ESTIMATES {
            return self.len;
        }
        let registers = f64::from(u16::try_from(REGISTERS).unwrap_or(u16::MAX));
        let (mut sum, mut zeros) = (0.0, 0_u32);
        for register in self.words.iter().flat_map(|word| word.to_ne_bytes()) {
            sum += (-f64::from(register)).exp2();
            zeros += u32::from(register == 0);
        }
        let alpha = 0.7213 / (1.0 + 1.079 / registers);
        let raw = alpha * registers * registers / sum;
        let estimate = if raw <= 2.5 * registers && zeros > 0 {
            registers * (registers / f64::from(zeros)).ln()
        } else {
            raw
        };
        // Never below what is known for sure.
        let least = (EXACT_MAX + 1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and `as` saturates"
        )]
        let count = estimate.max(least).round() as u32;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKey;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[expect(clippy::cast_possible_truncation, reason = "half a hash is wanted")]
    fn hash(value: u64, seed: u64) -> u32 {
        HashKey::new([seed, 1]).hash(&[value, 0]) as u32
    }

    fn filled(values: impl Iterator<Item = u64>, seed: u64) -> Sketch {
        let mut sketch = Sketch::EMPTY;
        values.for_each(|value| sketch.add(hash(value, seed)));
        sketch
    }

    #[test]
    fn the_estimate_is_within_four_standard_errors_at_every_size() {
        for seed in 0..8 {
            for count in [65_u32, 100, 300, 640, 1000, 5000, 65_536, 300_000] {
                let seen = filled(0..count.into(), seed).count();
                let error = f64::from(seen) / f64::from(count) - 1.0;
                assert!(error.abs() < 0.26, "{count} counted as {seen}");
            }
        }
    }

    proptest! {
        #[test]
        fn few_are_counted_exactly_and_merging_is_seeing_both(
            some in prop::collection::vec(0_u64..200, 0..150),
            more in prop::collection::vec(0_u64..200, 0..150),
        ) {
            let mut merged = filled(some.iter().copied(), 7);
            let distinct: HashSet<_> = some.iter().collect();
            if distinct.len() <= EXACT_MAX {
                prop_assert_eq!(merged.count() as usize, distinct.len());
            } else {
                prop_assert!(merged.count() as usize > EXACT_MAX);
            }
            merged.merge(&filled(more.iter().copied(), 7));
            let both = filled(some.iter().chain(&more).copied(), 7);
            prop_assert_eq!(merged.count(), both.count());
        }
    }
}

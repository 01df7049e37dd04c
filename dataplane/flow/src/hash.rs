//! The keyed hash of every table in this room.
//!
//! Words are multiplied pairwise, 64 x 64 -> 128 bits, each pair under secrets of its own, the
//! products are folded and summed: the NH construction of UMAC (RFC 4418 section 5.2) with the folding of
//! wyhash. It is not a pseudo-random function in the sense of SipHash, and need not be: a
//! collision here lengthens a bounded probe, and never makes two flows one, because every table
//! compares the full key. What it must do is keep someone who picks addresses and ports from
//! aiming at one bucket without knowing the seed, and the secrets of each pair do that: an observer
//! sees no hash value, only packets.

use crate::key::FlowKey;

/// Secrets of one table, drawn from the seed of this start.
#[derive(Clone, Debug)]
pub struct HashKey {
    secrets: [u64; 8],
}

/// A 64-bit keyed hash of a [`FlowKey`](crate::FlowKey), good for the cache that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowHash(pub(crate) u64);

/// Both halves of the product of two words, one laid over the other.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the fold takes both halves of the product"
)]
pub const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A secret of which every bit depends on every bit of `state`: the last step of splitmix64 (Steele et
/// al. 2014), odd so that no factor is 0.
#[must_use]
pub const fn secret(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) | 1
}

impl HashKey {
    /// Secrets from a seed.
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        let mut state = seed[0];
        let secrets = core::array::from_fn(|i| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ seed[i & 1];
            secret(state)
        });
        Self { secrets }
    }

    /// Hash of a flow key. Of IPv4 only what is not the same in every such key is hashed, in one pair.
    #[inline(always)]
    pub(crate) fn of(&self, key: &FlowKey) -> FlowHash {
        FlowHash(match key.ipv4_words() {
            Some(words) => self.hash(&words),
            None => self.hash(key.words()),
        })
    }

    /// Hash of up to six words. An odd one out goes into the last step.
    #[inline(always)]
    pub(crate) fn hash<const N: usize>(&self, words: &[u64; N]) -> u64 {
        const { assert!(N <= 6, "there are secrets for three pairs") };
        let mut sum = 0_u64;
        let mut i = 0;
        while i + 1 < N {
            let product = fold(
                words[i] ^ self.secrets[i],
                words[i + 1] ^ self.secrets[i + 1],
            );
            sum = sum.rotate_left(29).wrapping_add(product);
            i += 2;
        }
        let odd = if i < N { words[i] } else { 0 };
        fold(sum ^ self.secrets[6], odd ^ self.secrets[7])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_the_key_reaches_every_part_of_the_hash() {
        reaches([
            0,
            0xffff_0a00_0001,
            0,
            0xffff_0a00_0002,
            0x0006_0000_0050_c001,
        ]);
        reaches([0x0a00_0001_0a00_0002, 0x0006_0000_0050_c001]);
    }

    fn reaches<const WORDS: usize>(base: [u64; WORDS]) {
        let key = HashKey::new([1, 2]);
        for word in 0..WORDS {
            for bit in 0..64 {
                let flips: u32 = (0..64_u64)
                    .map(|salt| {
                        let mut one = base;
                        one[1] ^= salt << 32;
                        let mut two = one;
                        two[word] ^= 1 << bit;
                        let difference = key.hash(&one) ^ key.hash(&two);
                        assert_ne!(
                            difference >> 40,
                            0,
                            "word {word} bit {bit}: bucket unchanged"
                        );
                        difference.count_ones()
                    })
                    .sum();
                let mean = f64::from(flips) / 64.0;
                assert!(
                    (24.0..40.0).contains(&mean),
                    "word {word} bit {bit}: {mean} bits flip"
                );
            }
        }
    }

    #[test]
    fn two_seeds_give_two_hashes() {
        let words = [1, 2, 3, 4, 5];
        let seeds = [[0, 0], [0, 1], [1, 0], [1, 1], [u64::MAX, 7]];
        let mut hashes: Vec<u64> = seeds.map(|s| HashKey::new(s).hash(&words)).to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), seeds.len());
    }
}

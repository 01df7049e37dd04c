//! What identifies a flow: both directions of a 5-tuple, in one canonical order, in one context.

/// Which of the key's two ends sent a packet. `A` is the end whose (address, port) is lower, read as
/// numbers that begin with their lowest byte: an order for machines, that nobody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The lower end.
    A = 0,
    /// The other end.
    B = 1,
}

impl Side {
    /// The other end.
    #[inline]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The sender of a packet that went backward, from B to A, or forward.
    #[inline(always)]
    const fn of_sender(backward: bool) -> Self {
        if backward { Self::B } else { Self::A }
    }

    /// 0 for `A`, 1 for `B`: index into per-side arrays.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A packet's addresses, protocol and ports in its own direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Sender; IPv4 is `::ffff:a.b.c.d`.
    pub src: [u8; 16],
    /// Receiver; IPv4 is `::ffff:a.b.c.d`.
    pub dst: [u8; 16],
    /// Port of the sender; 0 where the protocol has none.
    pub src_port: u16,
    /// Port of the receiver; 0 where the protocol has none.
    pub dst_port: u16,
    /// IP protocol number after the extension chain.
    pub proto: u8,
}

/// Canonical key of a flow: 40 bytes, the same for both directions.
///
/// `context` keeps flows apart that have the same tuple on two networks: 0, or the id of a VLAN
/// stack or tunnel from [`FlowCache::intern_context`](crate::FlowCache::intern_context).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Addresses of A and B (two words each), then ports, context and protocol: bits 0-7 protocol,
    /// 8-15 zero, 16-31 context, 32-47 port of A, 48-63 port of B, ports in network order.
    words: [u64; 5],
}

/// Bits of the last word that belong to the key. The rest is the entry's to use.
const KEY_BITS: u64 = !0xff00;

#[inline(always)]
const fn halves(address: u128) -> [u64; 2] {
    [
        (address & 0xffff_ffff_ffff_ffff) as u64,
        (address >> 64) as u64,
    ]
}

/// The lower half of the second word of an IPv4 address: `::ffff:0:0/96`, RFC 4291 section 2.5.5.2.
const MAPPED: u64 = 0xffff_0000;
const LOW_HALF: u64 = 0xffff_ffff;

/// An IPv4 address out of its mapped one. By way of the whole number: taking bytes out of the array
/// makes the compiler read every address byte by byte.
#[inline(always)]
const fn last_four(mapped: [u8; 16]) -> u32 {
    (u128::from_le_bytes(mapped) >> 96) as u32
}

/// Protocol, context and ports, which are in network order.
#[inline(always)]
const fn last_word(src_port: u16, dst_port: u16, backward: bool, proto: u8, context: u16) -> u64 {
    let ports = (src_port as u32 | (dst_port as u32) << 16).rotate_left((backward as u32) * 16);
    proto as u64 | (context as u64) << 16 | (ports as u64) << 32
}

#[inline(always)]
const fn joined(low: u64, high: u64) -> [u8; 16] {
    (low as u128 | ((high as u128) << 64)).to_le_bytes()
}

impl FlowKey {
    /// The key of the flow that a packet with `tuple` belongs to, and the end that sent it. Where
    /// both ends are the same (address, port) the sender is always `A`.
    #[inline(always)]
    #[must_use]
    pub const fn new(tuple: &Tuple, context: u16) -> (Self, Side) {
        let src = u128::from_le_bytes(tuple.src);
        let dst = u128::from_le_bytes(tuple.dst);
        let (src_port, dst_port) = (tuple.src_port.to_be(), tuple.dst_port.to_be());
        // One choice for each value: which end is A is as hard to predict as a coin, and so stays
        // without a branch.
        let backward = (dst < src) | ((dst == src) & (dst_port < src_port));
        let turned = (src ^ dst) & (backward as u128).wrapping_neg();
        let ([a0, a1], [b0, b1]) = (halves(src ^ turned), halves(dst ^ turned));
        let last = last_word(src_port, dst_port, backward, tuple.proto, context);
        let words = [a0, a1, b0, b1, last];
        (Self { words }, Side::of_sender(backward))
    }

    /// As [`FlowKey::new`] for a tuple of IPv4 in context 0, with less to compare.
    #[inline(always)]
    #[must_use]
    pub const fn ipv4(tuple: &Tuple) -> (Self, Side) {
        let src = last_four(tuple.src);
        let dst = last_four(tuple.dst);
        let (src_port, dst_port) = (tuple.src_port.to_be(), tuple.dst_port.to_be());
        let (from, to) = (
            (src as u64) << 16 | src_port as u64,
            (dst as u64) << 16 | dst_port as u64,
        );
        let backward = to < from;
        // Turned round by the number of bits that the choice gives: no branch.
        let ends = (src as u64 | (dst as u64) << 32).rotate_left((backward as u32) * 32);
        let (a, b) = (ends << 32 | MAPPED, ends & !LOW_HALF | MAPPED);
        let last = last_word(src_port, dst_port, backward, tuple.proto, 0);
        let words = [0, a, 0, b, last];
        (Self { words }, Side::of_sender(backward))
    }

    /// Both IPv4 addresses in one word, and the last word; none where either is not IPv4.
    #[inline(always)]
    pub(crate) const fn ipv4_words(&self) -> Option<[u64; 2]> {
        let [a0, a1, b0, b1, last] = self.words;
        // Nearly every other address says so in its first half.
        if a0 | b0 != 0 || a1 & LOW_HALF != MAPPED || b1 & LOW_HALF != MAPPED {
            return None;
        }
        Some([a1 >> 32 | b1 & !LOW_HALF, last])
    }

    /// The key of no flow.
    pub const NONE: Self = Self { words: [0; 5] };

    /// Address of an end; IPv4 is `::ffff:a.b.c.d`.
    #[inline]
    #[must_use]
    pub const fn address(&self, side: Side) -> [u8; 16] {
        match side {
            Side::A => joined(self.words[0], self.words[1]),
            Side::B => joined(self.words[2], self.words[3]),
        }
    }

    /// Port of an end, or what stands in for it (the ICMP identifier).
    #[inline]
    #[must_use]
    pub const fn port(&self, side: Side) -> u16 {
        match side {
            Side::A => u16::from_be(((self.words[4] >> 32) & 0xffff) as u16),
            Side::B => u16::from_be((self.words[4] >> 48) as u16),
        }
    }

    /// IP protocol number.
    #[inline]
    #[must_use]
    pub const fn proto(&self) -> u8 {
        (self.words[4] & 0xff) as u8
    }

    /// Context id, 0 none.
    #[inline]
    #[must_use]
    pub const fn context(&self) -> u16 {
        ((self.words[4] >> 16) & 0xffff) as u16
    }

    /// Ports, protocol and context as one number.
    #[inline(always)]
    pub(crate) const fn ports_word(&self) -> u64 {
        self.words[4]
    }

    /// The tuple of a packet that `sender` sends.
    #[must_use]
    pub const fn tuple(&self, sender: Side) -> Tuple {
        Tuple {
            src: self.address(sender),
            dst: self.address(sender.other()),
            src_port: self.port(sender),
            dst_port: self.port(sender.other()),
            proto: self.proto(),
        }
    }

    #[inline(always)]
    pub(crate) const fn words(&self) -> &[u64; 5] {
        &self.words
    }
}

/// A key with a byte of generation in the bits the key leaves free, as the hot line keeps it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct StampedKey {
    words: [u64; 5],
}

impl StampedKey {
    pub(crate) const EMPTY: Self = Self { words: [0; 5] };

    #[inline(always)]
    pub(crate) const fn generation(&self) -> u8 {
        ((self.words[4] >> 8) & 0xff) as u8
    }

    #[inline(always)]
    pub(crate) const fn key(&self) -> FlowKey {
        let [a0, a1, b0, b1, last] = self.words;
        FlowKey {
            words: [a0, a1, b0, b1, last & KEY_BITS],
        }
    }

    #[inline(always)]
    pub(crate) const fn proto(&self) -> u8 {
        (self.words[4] & 0xff) as u8
    }

    /// Puts another key in; the generation stays.
    pub(crate) const fn set_key(&mut self, key: &FlowKey) {
        let generation = self.words[4] & !KEY_BITS;
        self.words = key.words;
        self.words[4] |= generation;
    }

    /// Makes every index handed out so far stale.
    pub(crate) const fn next_generation(&mut self) {
        let next = self.generation().wrapping_add(1);
        self.words[4] = (self.words[4] & KEY_BITS) | ((next as u64) << 8);
    }

    /// Full compare, without branches between the words.
    #[inline(always)]
    pub(crate) const fn is(&self, key: &FlowKey) -> bool {
        let (mine, yours) = (&self.words, &key.words);
        let difference = (mine[0] ^ yours[0])
            | (mine[1] ^ yours[1])
            | (mine[2] ^ yours[2])
            | (mine[3] ^ yours[3])
            | ((mine[4] ^ yours[4]) & KEY_BITS);
        difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple() -> impl Strategy<Value = Tuple> {
        (
            any::<[u8; 16]>(),
            any::<[u8; 16]>(),
            any::<u16>(),
            any::<u16>(),
            any::<u8>(),
        )
            .prop_map(|(src, dst, src_port, dst_port, proto)| Tuple {
                src,
                dst,
                src_port,
                dst_port,
                proto,
            })
    }

    proptest! {
        #[test]
        fn both_directions_have_one_key_and_two_sides(t in tuple(), context: u16) {
            let back = Tuple {
                src: t.dst, dst: t.src, src_port: t.dst_port, dst_port: t.src_port, proto: t.proto,
            };
            let (key, side) = FlowKey::new(&t, context);
            let (key_back, side_back) = FlowKey::new(&back, context);
            prop_assert_eq!(key, key_back);
            prop_assert_eq!(key.tuple(side), t);
            prop_assert_eq!(key.tuple(side_back), back);
            prop_assert!(side != side_back || t == back);
            prop_assert_eq!(key.context(), context);
        }

        #[test]
        fn ipv4_keys_are_those_of_mapped_addresses(
            src: [u8; 4], dst: [u8; 4], same: bool, src_port: u16, dst_port: u16, proto: u8,
        ) {
            let dst = if same { src } else { dst };
            let mapped = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_ipv6_mapped().octets();
            let tuple = Tuple { src: mapped(src), dst: mapped(dst), src_port, dst_port, proto };
            let (key, side) = FlowKey::new(&tuple, 0);
            prop_assert_eq!((key, side), FlowKey::ipv4(&tuple));
            let [addresses, last] = key.ipv4_words().expect("IPv4");
            let four = |side| key.address(side)[12..].to_vec();
            let both = [four(Side::A), four(Side::B)].concat();
            prop_assert_eq!((addresses.to_le_bytes().to_vec(), last), (both, key.words()[4]));
        }

        #[test]
        fn a_stamp_never_changes_whose_key_it_is(t in tuple(), context: u16, turns in 0_u16..600) {
            let (key, _) = FlowKey::new(&t, context);
            let mut stamped = StampedKey::EMPTY;
            for _ in 0..turns {
                stamped.next_generation();
            }
            stamped.set_key(&key);
            prop_assert_eq!(u16::from(stamped.generation()), turns % 256);
            prop_assert!(stamped.is(&key));
            prop_assert_eq!(stamped.key(), key);
            let (other, _) = FlowKey::new(&t, context.wrapping_add(1));
            prop_assert!(!stamped.is(&other));
        }
    }

    #[test]
    fn equal_ends_have_one_side() {
        let t = Tuple {
            src: [7; 16],
            dst: [7; 16],
            src_port: 9,
            dst_port: 9,
            proto: 17,
        };
        assert_eq!(FlowKey::new(&t, 0).1, Side::A);
    }
}

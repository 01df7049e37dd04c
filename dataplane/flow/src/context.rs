//! What surrounds a flow's header: VLAN tags and tunnel, as part of its key or as part of its record.

use crate::key::Side;
use abi::record::TunnelKind;

/// A VLAN stack, outermost first: at most four tags are kept, all are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanTags {
    /// Tags on the wire.
    pub count: u8,
    /// VLAN id in the lower 12 bits; bit 12 is set for an 802.1ad service tag.
    pub tags: [u16; 4],
}

/// What keeps equal tuples apart, where [`KeyOptions`](crate::KeyOptions) ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextTags {
    /// The VLAN stack.
    pub vlans: VlanTags,
    /// 0 without a tunnel, else any number that tells tunnel kinds apart.
    pub tunnel_kind: u8,
    /// VNI, TEID or key.
    pub tunnel_id: u32,
}

impl ContextTags {
    /// Nothing to keep apart: the context is 0.
    #[inline]
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.vlans.count == 0 && self.tunnel_kind == 0
    }

    pub(crate) const fn words(&self) -> [u64; 2] {
        let last = self.tunnel_id as u64
            | (self.tunnel_kind as u64) << 32
            | (self.vlans.count as u64) << 40;
        [vlan_word(self.vlans.tags), last]
    }
}

/// How the first packet of a flow came: what its records tell of VLANs and tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// VLAN stack before the first IP header.
    pub vlans: VlanTags,
    /// Innermost tunnel.
    pub tunnel_kind: TunnelKind,
    /// VNI, TEID or key of that tunnel.
    pub tunnel_id: u32,
    /// Source of the outermost IP header where there is a tunnel, else zero.
    pub outer_src: [u8; 16],
    /// Destination of the outermost IP header where there is a tunnel, else zero.
    pub outer_dst: [u8; 16],
}

impl Default for Path {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl Path {
    /// Neither VLAN nor tunnel.
    pub const PLAIN: Self = Self {
        vlans: VlanTags {
            count: 0,
            tags: [0; 4],
        },
        tunnel_kind: TunnelKind::None,
        tunnel_id: 0,
        outer_src: [0; 16],
        outer_dst: [0; 16],
    };

    /// Neither VLAN nor tunnel.
    #[inline]
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.vlans.count == 0 && matches!(self.tunnel_kind, TunnelKind::None)
    }

    /// The same path for packets of the other direction.
    #[must_use]
    pub const fn turned(self) -> Self {
        Self {
            outer_src: self.outer_dst,
            outer_dst: self.outer_src,
            ..self
        }
    }

    /// As packets of side `sender` see it, from as side A sees it, and back.
    pub(crate) const fn seen_from(self, sender: Side) -> Self {
        match sender {
            Side::A => self,
            Side::B => self.turned(),
        }
    }

    pub(crate) fn words(&self) -> [u64; 6] {
        let [src, dst] = [self.outer_src, self.outer_dst].map(u128::from_ne_bytes);
        let last = u64::from(self.tunnel_id)
            | u64::from(self.tunnel_kind.byte()) << 32
            | u64::from(self.vlans.count) << 40;
        [
            low(src),
            low(src >> 64),
            low(dst),
            low(dst >> 64),
            vlan_word(self.vlans.tags),
            last,
        ]
    }

    pub(crate) fn from_words(words: &[u64; 6]) -> Self {
        let [s0, s1, d0, d1, vlans, last] = *words;
        let address =
            |low: u64, high: u64| (u128::from(low) | u128::from(high) << 64).to_ne_bytes();
        Self {
            vlans: VlanTags {
                count: ((last >> 40) & 0xff) as u8,
                tags: core::array::from_fn(|i| ((vlans >> (16 * i)) & 0xffff) as u16),
            },
            tunnel_kind: TunnelKind::from_byte(((last >> 32) & 0xff) as u8)
                .unwrap_or(TunnelKind::Other),
            tunnel_id: (last & 0xffff_ffff) as u32,
            outer_src: address(s0, s1),
            outer_dst: address(d0, d1),
        }
    }
}

const fn low(word: u128) -> u64 {
    (word & 0xffff_ffff_ffff_ffff) as u64
}

const fn vlan_word(tags: [u16; 4]) -> u64 {
    tags[0] as u64 | (tags[1] as u64) << 16 | (tags[2] as u64) << 32 | (tags[3] as u64) << 48
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_its_words() {
        let path = Path {
            vlans: VlanTags {
                count: 5,
                tags: [1, 0x1fff, 3, 4],
            },
            tunnel_kind: TunnelKind::GtpU,
            tunnel_id: u32::MAX,
            outer_src: core::array::from_fn(|i| u8::try_from(i).unwrap()),
            outer_dst: [0xfe; 16],
        };
        assert_eq!(Path::from_words(&path.words()), path);
        assert_eq!(Path::from_words(&Path::default().words()), Path::default());
        assert_eq!(path.turned().turned(), path);
    }

    #[test]
    fn service_and_customer_tag_are_two_contexts() {
        let stack = |tag| ContextTags {
            vlans: VlanTags {
                count: 1,
                tags: [tag, 0, 0, 0],
            },
            ..ContextTags::default()
        };
        assert_ne!(stack(100).words(), stack(100 | 1 << 12).words());
        assert!(!stack(0).is_plain(), "a priority tag is a tag");
    }
}

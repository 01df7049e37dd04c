//! How many flows a capture can have, before the dataplane has seen it: so many that a cache with room
//! for them never has to make room, and not a hundred times more, all of which would have to be filled
//! and swept.
//!
//! Frames of plain TCP and UDP are told apart by their ends; every other frame (tunnels, VLAN tags,
//! fragments, anything else) counts as a flow of its own. The ends go into a table of bits by a keyed
//! hash, and the bits that are set tell how many there were (linear counting: Whang, Vander-Zanden and
//! Taylor, ACM TODS 15(2), 1990). With this many bits the error is below a thousandth from 10,000 ends
//! on, far within the quarter that is added.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::ethernet::{HEADER_BYTES, LINK_HEADER_BYTES_MAX, LINK_TYPE_ETHERNET, ethernet};

/// First bytes of a frame that are looked at: Ethernet, IPv6, ports.
const FIRST_BYTES: usize = 58;
/// First bytes of a frame of any link that tell as much.
pub(super) const LINK_FIRST_BYTES: usize = FIRST_BYTES - HEADER_BYTES + LINK_HEADER_BYTES_MAX;
/// Bits of the table, 512 KiB: it stays in a cache.
const BITS: usize = 1 << 22;
/// Bits that may be set before nothing can be told any more.
const BITS_SET_MAX: usize = BITS / 50 * 49;
/// Room for two ends on one bit, where a quarter of a few is none.
const SPARE: u64 = 8;
/// UDP ports of tunnels, whose inner flows count: L2TP, GTP, Teredo, LISP, GRE, VXLAN, AYIYA, CAPWAP, GENEVE, MPLS.
const TUNNEL_PORTS: [u16; 12] = [
    1701, 2123, 2152, 3544, 4341, 4754, 4789, 4790, 5072, 5247, 6081, 6635,
];

/// What was seen of a capture's frames.
#[derive(Debug)]
pub(super) struct Distinct {
    bits: Vec<u64>,
    bits_set: usize,
    frames: u64,
    /// Frames that are not plain TCP or UDP.
    other: u64,
    seed: [u64; 2],
}

impl Distinct {
    pub(super) fn new() -> Self {
        // Random, so that no capture can be made whose ends collide.
        let seed = || RandomState::new().build_hasher().finish();
        Self {
            bits: vec![0; BITS / 64],
            bits_set: 0,
            frames: 0,
            other: 0,
            seed: [seed(), seed()],
        }
    }

    /// Looks at the first bytes of a frame of that link, of which so many are in the capture.
    pub(super) fn add_frame(&mut self, link_type: u16, first: &[u8], captured: u32) {
        let (mut frame, mut at, mut rest) = ([0; FIRST_BYTES], 0, first);
        if link_type != LINK_TYPE_ETHERNET {
            let ethernet = ethernet(link_type, first, captured);
            frame[..HEADER_BYTES].copy_from_slice(&ethernet.header);
            (at, rest) = (HEADER_BYTES, &first[ethernet.skipped..]);
        }
        let bytes = rest.len().min(FIRST_BYTES - at);
        frame[at..at + bytes].copy_from_slice(&rest[..bytes]);
        self.add(&frame, at + bytes);
    }

    /// Looks at the first bytes of an Ethernet frame, of which so many are in the capture.
    fn add(&mut self, frame: &[u8; FIRST_BYTES], bytes: usize) {
        self.frames += 1;
        let Some(ends) = self.ends(frame, bytes) else {
            self.other += 1;
            return;
        };
        let bit = usize::try_from(ends).unwrap_or(0) % BITS;
        let (word, mask) = (&mut self.bits[bit / 64], 1 << (bit % 64));
        self.bits_set += usize::from(*word & mask == 0);
        *word |= mask;
    }

    /// Flows that the capture has at most, and a quarter.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to four times the bits of the table"
    )]
    pub(super) fn flows(&self) -> u64 {
        if self.bits_set > BITS_SET_MAX {
            return self.frames;
        }
        let free = 1.0 - self.bits_set as f64 / BITS as f64;
        let ends = (-(BITS as f64) * free.ln()).ceil() as u64;
        (ends + ends / 4 + SPARE + self.other).min(self.frames)
    }

    /// Frames that may be fragments.
    pub(super) const fn fragments(&self) -> u64 {
        self.other
    }

    /// A hash of the ends, the same in both directions; none where the frame is not plain.
    fn ends(&self, frame: &[u8; FIRST_BYTES], bytes: usize) -> Option<u64> {
        // Not a fragment: neither an offset nor more of them.
        let is_v4 =
            [frame[12], frame[13], frame[14]] == [8, 0, 0x45] && u16_at(frame, 20) & 0x3fff == 0;
        let is_v6 = [frame[12], frame[13], frame[14] >> 4] == [0x86, 0xdd, 6];
        let (proto, ports, src, dst) = if is_v4 {
            let (src, dst) = (u32_at(frame, 26), u32_at(frame, 30));
            (frame[23], 34, u64::from(src), u64::from(dst))
        } else if is_v6 {
            let src = self.fold(u64_at(frame, 22), u64_at(frame, 30));
            (
                frame[20],
                54,
                src,
                self.fold(u64_at(frame, 38), u64_at(frame, 46)),
            )
        } else {
            return None;
        };
        let (sport, dport) = (u16_at(frame, ports), u16_at(frame, ports + 2));
        let may_tunnel = || {
            TUNNEL_PORTS
                .iter()
                .any(|port| *port == sport || *port == dport)
        };
        let is_plain = proto == 6 || proto == 17 && !may_tunnel();
        if bytes < ports + 4 || !is_plain {
            return None;
        }
        let src = src.rotate_left(16) ^ u64::from(sport);
        let dst = dst.rotate_left(16) ^ u64::from(dport);
        let family = u64::from(proto) << 56 | (ports as u64) << 48;
        Some(self.fold(src.min(dst), src.max(dst) ^ family))
    }

    /// Both halves of a product: every bit reaches every other.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn fold(&self, one: u64, other: u64) -> u64 {
        let [first, second] = self.seed;
        let product = u128::from(one ^ first) * u128::from(other ^ second);
        (product as u64) ^ (product >> 64) as u64
    }
}

fn at<const BYTES: usize>(frame: &[u8; FIRST_BYTES], at: usize) -> [u8; BYTES] {
    let found = frame.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or([0; BYTES])
}

fn u16_at(frame: &[u8; FIRST_BYTES], offset: usize) -> u16 {
    u16::from_be_bytes(at(frame, offset))
}

fn u32_at(frame: &[u8; FIRST_BYTES], offset: usize) -> u32 {
    u32::from_be_bytes(at(frame, offset))
}

fn u64_at(frame: &[u8; FIRST_BYTES], offset: usize) -> u64 {
    u64::from_be_bytes(at(frame, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// A frame of UDP over IPv4 from one of so many ends to another, either way.
    fn frame(ends: (u32, u16, u32, u16), ip: usize) -> Vec<u8> {
        let (src, sport, dst, dport) = ends;
        let mut frame = vec![0; 12];
        if ip == 4 {
            frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 17, 64]);
        }
        for address in [src, dst] {
            frame.resize(frame.len() + if ip == 4 { 0 } else { 12 }, 0);
            frame.extend(address.to_be_bytes());
        }
        frame.extend(sport.to_be_bytes());
        frame.extend(dport.to_be_bytes());
        frame.resize(60, 0);
        frame
    }

    fn of(frames: impl IntoIterator<Item = Vec<u8>>) -> Distinct {
        let mut distinct = Distinct::new();
        for frame in frames {
            let (mut first, bytes) = ([0; FIRST_BYTES], frame.len().min(FIRST_BYTES));
            first[..bytes].copy_from_slice(&frame[..bytes]);
            distinct.add(&first, bytes);
        }
        distinct
    }

    proptest! {
        #[test]
        fn there_is_room_for_every_flow_and_not_for_many_more(
            ends in prop::collection::vec((0_u32..30, 0_u16..3, 0_u32..3, 5_000_u16..5_003), 0..2_000),
            ip in prop::sample::select(vec![4, 6]),
        ) {
            let both = ends.iter().map(|(a, p, b, q)| ((*a, *p), (*b, *q)));
            let flows: HashSet<_> = both.map(|(a, b)| (a.min(b), a.max(b))).collect();
            let frames = ends.len() as u64;
            let turned = |at: usize, (a, p, b, q)| if at.is_multiple_of(2) { (a, p, b, q) } else { (b, q, a, p) };
            let distinct = of(ends.into_iter().enumerate().map(|(at, ends)| frame(turned(at, ends), ip)));
            let least = flows.len() as u64;
            prop_assert!(distinct.flows() >= least.min(frames), "{} of {least}", distinct.flows());
            prop_assert!(distinct.flows() <= least + least / 3 + 2 * SPARE, "{} of {least}", distinct.flows());
        }
    }

    #[test]
    fn a_hundred_thousand_flows_are_told_within_their_quarter() {
        let distinct = of((0..200_000).map(|n| frame((n % 100_000, 7, 1 << 30, 53), 4)));
        assert!(
            (110_000..140_000).contains(&distinct.flows()),
            "{}",
            distinct.flows()
        );
        assert_eq!(distinct.fragments(), 0);
    }

    #[test]
    fn frames_that_are_not_plain_count_one_by_one() {
        let plain = frame((1, 2, 3, 4), 4);
        let with = |place: usize, byte| {
            let mut frame = plain.clone();
            frame[place] = byte;
            frame
        };
        let vlan = with(12, 0x81);
        let options = with(14, 0x46);
        let fragment = with(21, 1);
        let icmp = with(23, 1);
        let vxlan = frame((1, 50_000, 3, 4789), 4);
        let cut = plain[..20].to_vec();
        for odd in [vlan, options, fragment, icmp, vxlan, cut] {
            assert_eq!(of(vec![odd.clone(); 10]).flows(), 10, "{odd:02x?}");
        }
        assert_eq!(of(vec![plain; 100]).flows(), 1 + SPARE + 1);
    }
}

//! Which worker of a lane owns the flow of a frame.
//!
//! By the addresses alone, in either order: so both directions of a flow, all fragments of a datagram,
//! and an ICMP error with the flow it quotes meet at the same worker. The price is that all traffic
//! between two hosts is one worker's. The hash is keyed with a seed of this start, so that nobody can
//! pick addresses that meet at one worker.

use crate::config::{Config, Key};
use crate::core::core_options;
use crate::port::Frame;
use flow::{KeyOptions, classify, fold, quoted_tuple, secret};
use packet::{Headers, ParseOptions, Plain, parse};

/// Shares that hashes are dealt into, each some worker's.
const SHARES: usize = 256;
/// Tenths of the cost of judging a frame that it costs to receive it and to hand it over. Measured with
/// frames in VXLAN (`ringfence-perf bench --only steered`): 2 to 4 carry the same, 0 and 5 less.
const STEERING_TENTHS: usize = 3;
/// What splitmix64 goes on by: a small number, as a test may give, is far from 0 then.
const SPLITMIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes of a VLAN tag.
const TAG_BYTES: usize = 4;

/// What the owner of a frame is decided by: the same for all frames of a lane.
#[derive(Clone, Debug)]
pub struct Steering {
    secrets: [u64; 4],
    /// Place in the lane's list of workers, by share.
    shares: [u8; SHARES],
    parse: ParseOptions,
    key: KeyOptions,
    /// Flows are keyed by what is in a tunnel.
    enters_tunnels: bool,
    headers: Box<Headers>,
}

type Address = [u8; 16];

/// Shares that the receiver keeps, so that it is as busy as each of the others: to receive a frame and
/// hand it over costs it [`STEERING_TENTHS`] of what judging it costs. That is 35 % of a lane of two
/// workers, 13 % of three, 2 % of four, and none from five on.
const fn own_shares(workers: usize) -> usize {
    let spent = STEERING_TENTHS * (workers - 1);
    SHARES * 10_usize.saturating_sub(spent) / (10 * workers)
}

impl Steering {
    /// Deals to `workers`, at most 256 and at least one, with the secrets of this start.
    #[must_use]
    pub fn new(config: &Config, workers: usize, secrets: [u64; 4]) -> Self {
        let workers = workers.clamp(1, SHARES);
        let options = core_options(config);
        let own = own_shares(workers);
        let others = (workers - 1).max(1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the number of workers"
        )]
        let shares = std::array::from_fn(|share| match share.checked_sub(own) {
            None => 0,
            Some(further) => (1 + further * others / (SHARES - own)) as u8,
        });
        Self {
            secrets: secrets.map(|drawn| secret(drawn.wrapping_add(SPLITMIX_STEP))),
            shares,
            // Those of every core: what they call a flow is dealt as one.
            parse: options.parse,
            key: options.key,
            enters_tunnels: config.flow.key == Key::Inner && config.flow.tunnel_depth_max > 0,
            headers: Box::default(),
        }
    }

    /// The place of the owner in the lane's list of workers; the receiver's, 0, for what has no
    /// addresses.
    ///
    /// # Bounded work
    /// The frame's headers are read, straight where it is plain.
    #[inline]
    pub fn owner<F: Frame>(&mut self, frame: &F) -> usize {
        let bytes = frame.bytes();
        let pair = plain_pair(bytes)
            .or_else(|| vxlan_pair(bytes).filter(|_| self.enters_tunnels))
            .or_else(|| self.parsed_pair(frame));
        pair.map_or(0, |(src, dst)| self.owner_of(&src, &dst))
    }

    /// The same for two addresses.
    #[inline]
    fn owner_of(&self, one: &Address, other: &Address) -> usize {
        let both = self.mix(one).wrapping_add(self.mix(other));
        let hash = fold(both ^ self.secrets[2], self.secrets[3]);
        let share = (hash >> 32) as usize % SHARES;
        usize::from(self.shares[share])
    }

    #[inline]
    fn mix(&self, address: &Address) -> u64 {
        let words = u128::from_ne_bytes(*address);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves of the address"
        )]
        let (low, high) = (words as u64, (words >> 64) as u64);
        fold(low ^ self.secrets[0], high ^ self.secrets[1])
    }

    /// Reads any other frame by way of its headers.
    #[cold]
    fn parsed_pair<F: Frame>(&mut self, frame: &F) -> Option<(Address, Address)> {
        parse(
            frame.bytes(),
            frame.wire_bytes(),
            &self.parse,
            &mut self.headers,
        );
        if let Some(quoted) = &self.headers.quoted {
            let tuple = quoted_tuple(quoted);
            return Some((tuple.src, tuple.dst));
        }
        let tuple = classify(&self.headers, &self.key)?.tuple;
        Some((tuple.src, tuple.dst))
    }
}

/// The addresses of a frame whose IP header is where it nearly always is, VLAN tags or not.
#[inline(always)]
fn plain_pair(frame: &[u8]) -> Option<(Address, Address)> {
    let mut rest = frame;
    while let (Some([0x81, 0x00] | [0x88, 0xa8]), Some(behind)) =
        (rest.get(12..14), rest.get(TAG_BYTES..))
    {
        // What follows a tag looks like the end of an Ethernet header without it.
        if frame.len() - behind.len() > 2 * TAG_BYTES {
            return None;
        }
        rest = behind;
    }
    let plain = Plain::ipv4(rest).or_else(|| Plain::ipv6(rest))?;
    let is_plain = plain.udp().is_some() || plain.tcp().is_some();
    is_plain.then_some((plain.ip.src, plain.ip.dst))
}

/// The inner addresses of a plain frame in VXLAN (RFC 7348), which is what overlays are made of: reading
/// all headers takes ten times as long.
#[inline]
fn vxlan_pair(frame: &[u8]) -> Option<(Address, Address)> {
    const UDP: u8 = 17;
    const VXLAN: u16 = 4789;
    /// No port from here on announces a tunnel, so that the destination alone decides.
    const SOURCE_MIN: u16 = 8192;
    let outer = Plain::ipv4(frame).or_else(|| Plain::ipv6(frame))?.ip;
    let end = (outer.l3_offset + outer.ip_bytes) as usize;
    let datagram = frame.get(outer.l4_offset as usize..end)?;
    let (head, inner) = datagram.split_first_chunk::<16>()?;
    let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let is_vxlan = outer.protocol == UDP
        && field(0) >= SOURCE_MIN
        && field(2) == VXLAN
        && usize::from(field(4)) == datagram.len();
    is_vxlan.then(|| plain_pair(inner)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::MemoryFrame;

    fn steering(workers: usize) -> Steering {
        Steering::new(&Config::default(), workers, [3, 5, 7, 11])
    }

    /// UDP between two hosts, port 53.
    fn frame(src: [u8; 4], dst: [u8; 4]) -> MemoryFrame {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
        frame.extend(src.into_iter().chain(dst));
        frame.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
        MemoryFrame::new(frame)
    }

    #[test]
    fn both_directions_have_one_owner_and_the_receiver_owns_less_than_the_others() {
        for (workers, receivers) in [(1, 65_536), (2, 22_784), (3, 8_704), (4, 1_536), (7, 0)] {
            let mut steering = steering(workers);
            let mut owned = vec![0; workers];
            for host in 0..=u16::MAX {
                let [high, low] = host.to_be_bytes();
                let (one, other) = ([10, 1, high, low], [10, 2, 0, 1]);
                let owner = steering.owner(&frame(one, other));
                assert_eq!(owner, steering.owner(&frame(other, one)));
                owned[owner] += 1;
            }
            let fair = (65_536 - receivers) / (workers - 1).max(1);
            let fair = |place| if place == 0 { receivers } else { fair };
            let is_fair =
                |(place, owned): (usize, &usize)| fair(place).abs_diff(*owned) <= fair(place) / 10;
            assert!(
                owned.iter().enumerate().all(is_fair),
                "{workers}: {owned:?}"
            );
        }
    }

    #[test]
    fn another_seed_gives_other_owners() {
        let (mut one, mut other) = (
            steering(2),
            Steering::new(&Config::default(), 2, [9, 5, 7, 11]),
        );
        let moved = (0..=255)
            .map(|host| frame([10, 0, 0, host], [10, 0, 1, 1]))
            .filter(|frame| one.owner(frame) != other.owner(frame))
            .count();
        assert!((64..192).contains(&moved), "{moved} of 256");
    }

    #[test]
    fn what_has_no_addresses_is_the_receivers() {
        let mut steering = steering(2);
        for bytes in [vec![], vec![0; 13], vec![0xff; 60]] {
            assert_eq!(steering.owner(&MemoryFrame::new(bytes)), 0);
        }
    }

    fn vxlan(inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(16 + inner.len()).expect("short");
        let mut frame = vec![2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4, 8, 0, 0x45, 0];
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        frame.extend([0xc0, 0, 0x12, 0xb5]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 8, 0, 0, 0, 0, 0, 42, 0]);
        frame.extend(inner);
        frame
    }

    #[test]
    fn a_frame_in_vxlan_is_read_straight() {
        let inner = frame([10, 0, 0, 1], [10, 0, 0, 2]).bytes;
        assert_eq!(vxlan_pair(&vxlan(&inner)), plain_pair(&inner));
        assert!(plain_pair(&inner).is_some());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

        /// Reading all headers is the obvious twin.
        #[test]
        fn what_is_read_straight_is_what_the_headers_say(
            in_vxlan: bool,
            changes in proptest::collection::vec((12_usize..100, 0_u8..=255), 0..4),
            cut in 40_usize..120,
        ) {
            let inner = frame([10, 0, 0, 1], [10, 0, 0, 2]).bytes;
            let mut bytes = if in_vxlan { vxlan(&inner) } else { inner };
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(cut);
            let straight = plain_pair(&bytes).or_else(|| vxlan_pair(&bytes));
            let parsed = steering(2).parsed_pair(&MemoryFrame::new(bytes));
            if let (Some(straight), Some(parsed)) = (straight, parsed) {
                proptest::prop_assert_eq!(straight, parsed);
            }
        }
    }
}

//! Who opened a flow, and by what evidence.

use crate::cache::filled;
use crate::facts::{TcpFlags, TransportFacts, proto};
use crate::hash::HashKey;
use crate::key::{FlowKey, Side};
use abi::verdict::InitiatorEvidence;

/// Ports below belong to services (RFC 6335 section 6: system ports).
const SYSTEM_PORTS: u16 = 1024;
/// Ports from here on are picked by clients (Linux `ip_local_port_range`; RFC 6335 says 49152).
const EPHEMERAL_PORTS: u16 = 32_768;

/// What one packet itself says: who initiated, and how surely. `None` where it says nothing.
#[inline]
pub(crate) const fn of_packet(
    transport: &TransportFacts,
    proto: u8,
    sender: Side,
) -> Option<(Side, InitiatorEvidence)> {
    match *transport {
        TransportFacts::Tcp { flags, .. } if flags & TcpFlags::SYN != 0 => {
            if flags & TcpFlags::ACK == 0 {
                Some((sender, InitiatorEvidence::Syn))
            } else {
                Some((sender.other(), InitiatorEvidence::SynAck))
            }
        }
        TransportFacts::Icmp { kind, .. } => match (proto, kind) {
            // Echo, timestamp, information, mask (RFC 792, RFC 950); ICMPv6 echo (RFC 4443).
            (proto::ICMP, 8 | 13 | 15 | 17) | (proto::ICMPV6, 128) => {
                Some((sender, InitiatorEvidence::Request))
            }
            (proto::ICMP, 0 | 14 | 16 | 18) | (proto::ICMPV6, 129) => {
                Some((sender.other(), InitiatorEvidence::Request))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What the ports say: the end whose port is the lower kind is the responder.
pub(crate) const fn of_ports(key: &FlowKey) -> Option<Side> {
    if !matches!(
        key.proto(),
        proto::TCP | proto::UDP | proto::UDP_LITE | 33 | 132
    ) {
        return None;
    }
    let (a, b) = (rank(key.port(Side::A)), rank(key.port(Side::B)));
    if a == b {
        None
    } else if a > b {
        Some(Side::A)
    } else {
        Some(Side::B)
    }
}

const fn rank(port: u16) -> u8 {
    if port < SYSTEM_PORTS {
        0
    } else if port < EPHEMERAL_PORTS {
        1
    } else {
        2
    }
}

const WAYS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Listener {
    /// Address in two words, then port and protocol; protocol 0 is an empty place.
    words: [u64; 3],
}

/// Ends that were seen answering, with strong evidence: (address, port, protocol).
pub(crate) struct Listeners {
    sets: Box<[[Listener; WAYS]]>,
    hash: HashKey,
    turn: usize,
}

impl Listeners {
    pub(crate) fn new(listeners_max: u32, hash: HashKey) -> Option<Self> {
        let sets = filled(Self::set_count(listeners_max), |_| {
            [Listener { words: [0; 3] }; WAYS]
        })?;
        Some(Self {
            sets,
            hash,
            turn: 0,
        })
    }

    const fn set_count(listeners_max: u32) -> usize {
        (listeners_max as usize).div_ceil(WAYS)
    }

    pub(crate) const fn bytes(listeners_max: u32) -> usize {
        Self::set_count(listeners_max) * size_of::<[Listener; WAYS]>()
    }

    fn words(key: &FlowKey, side: Side) -> [u64; 3] {
        let words = key.words();
        let [low, high] = if side == Side::A {
            [words[0], words[1]]
        } else {
            [words[2], words[3]]
        };
        [
            low,
            high,
            u64::from(key.port(side)) << 8 | u64::from(key.proto()),
        ]
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "scaled below the number of sets"
    )]
    fn set_index(&self, words: &[u64; 3]) -> usize {
        let count = self.sets.len() as u128;
        ((u128::from(self.hash.hash(words)) * count) >> 64) as usize
    }

    /// Whether an end of `key` has been seen listening.
    pub(crate) fn knows(&self, key: &FlowKey, side: Side) -> bool {
        let words = Self::words(key, side);
        let set = self.set_index(&words);
        self.sets
            .get(set)
            .is_some_and(|set| set.contains(&Listener { words }))
    }

    /// Remembers an end of `key`; where its set is full another is forgotten, in turn.
    pub(crate) fn remember(&mut self, key: &FlowKey, side: Side) {
        let words = Self::words(key, side);
        let index = self.set_index(&words);
        let Some(set) = self.sets.get_mut(index) else {
            return;
        };
        if set.contains(&Listener { words }) {
            return;
        }
        let way = set
            .iter()
            .position(|l| l.words[2] & 0xff == 0)
            .unwrap_or_else(|| {
                self.turn = self.turn.wrapping_add(1);
                self.turn % WAYS
            });
        set[way] = Listener { words };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tuple;

    fn key(src_port: u16, dst_port: u16, proto: u8) -> FlowKey {
        FlowKey::new(
            &Tuple {
                src: [1; 16],
                dst: [2; 16],
                src_port,
                dst_port,
                proto,
            },
            0,
        )
        .0
    }

    #[test]
    fn the_lower_kind_of_port_answers() {
        assert_eq!(of_ports(&key(40_000, 80, proto::TCP)), Some(Side::A));
        assert_eq!(of_ports(&key(53, 40_000, proto::UDP)), Some(Side::B));
        assert_eq!(of_ports(&key(5000, 8080, proto::TCP)), None);
        assert_eq!(of_ports(&key(40_000, 8080, proto::TCP)), Some(Side::A));
        assert_eq!(of_ports(&key(40_000, 80, proto::ICMP)), None);
    }

    #[test]
    fn listeners_are_remembered_up_to_their_limit() {
        let mut listeners = Listeners::new(8, HashKey::new([1, 1])).unwrap();
        let keys: Vec<_> = (1..=100).map(|p| key(p, 60_000, proto::TCP)).collect();
        for key in &keys {
            listeners.remember(key, Side::A);
            listeners.remember(key, Side::A);
            assert!(listeners.knows(key, Side::A));
            assert!(!listeners.knows(key, Side::B));
        }
        let known = keys.iter().filter(|k| listeners.knows(k, Side::A)).count();
        assert_eq!(known, 8);
        let mut none = Listeners::new(0, HashKey::new([1, 1])).unwrap();
        none.remember(&keys[0], Side::A);
        assert!(!none.knows(&keys[0], Side::A));
    }
}

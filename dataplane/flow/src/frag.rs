//! Which datagram a later fragment belongs to: its ports, so that it finds its datagram's flow.
//!
//! The table keeps ports, not flow indices: a later fragment gets its datagram's ports, then takes
//! the ordinary way through the cache and meets its flow and its verdict there. If the flow has
//! given way in between nothing dangles.

use crate::cache::filled;
use crate::entry::NO_SLOT;
use crate::hash::HashKey;
use crate::options::CacheError;

/// Longest chain walked; see the interner for why it is not met.
const CHAIN_MAX: usize = 64;

/// Identifies a fragmented datagram: RFC 791 section 3.2, RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    words: [u64; 5],
}

impl FragmentKey {
    /// Source, destination, protocol, identification, and context as in the flow key.
    #[must_use]
    pub fn new(src: [u8; 16], dst: [u8; 16], proto: u8, id: u32, context: u16) -> Self {
        let [s, d] = [src, dst].map(u128::from_ne_bytes);
        let low = |word: u128| (word & 0xffff_ffff_ffff_ffff) as u64;
        let last = u64::from(proto) | u64::from(context) << 16 | u64::from(id) << 32;
        Self {
            words: [low(s), low(s >> 64), low(d), low(d >> 64), last],
        }
    }

    /// The same datagram in another context.
    #[must_use]
    pub fn in_context(mut self, context: u16) -> Self {
        self.words[4] = (self.words[4] & !0xffff_0000) | u64::from(context) << 16;
        self
    }
}

/// Which part of its datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentPart {
    /// Offset 0: it has the ports. Give them to [`FragmentTable::remember`].
    First,
    /// Any other: ask [`FragmentTable::inherit`].
    Later,
}

/// Ports of a datagram in its own direction, or what stands in for them in the flow key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

/// What to do with one more datagram when the table is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FragmentFull {
    /// Not remembered, counted; its later fragments are unknown (the default: no flood of
    /// fragments pushes out an honest datagram).
    #[default]
    Refuse,
    /// The oldest datagram is forgotten, counted.
    OldestOut,
}

/// How a fragment table is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentOptions {
    /// Datagrams remembered at one time. Default 65 536.
    pub datagrams_max: u32,
    /// How long a datagram is remembered, nanoseconds. Default 30 s.
    pub timeout_ns: u64,
    /// What to do beyond `datagrams_max`.
    pub full: FragmentFull,
}

impl Default for FragmentOptions {
    fn default() -> Self {
        Self {
            datagrams_max: 65_536,
            timeout_ns: 30_000_000_000,
            full: FragmentFull::Refuse,
        }
    }
}

/// What became of a first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Datagram {
    /// Its ports are remembered.
    Remembered,
    /// There was no room: the exception policy says what to do.
    Full,
}

#[derive(Clone, Copy)]
struct Node {
    words: [u64; 5],
    since_ns: u64,
    ports: Ports,
    next: u32,
}

/// The datagrams of one core whose fragments are under way.
///
/// Nodes are taken in turn, so the oldest is always at the tail of the ring, and forgetting it
/// costs one walk of a short chain.
pub struct FragmentTable {
    nodes: Box<[Node]>,
    heads: Box<[u32]>,
    hash: HashKey,
    options: FragmentOptions,
    oldest: u32,
    count: u32,
    /// Later fragments that got their datagram's ports.
    pub inherited: u64,
    /// Later fragments whose datagram was not known.
    pub unknown: u64,
    /// Datagrams refused, or older ones forgotten before their time, because the table was full.
    pub full: u64,
}

impl FragmentTable {
    /// Allocates and touches everything.
    ///
    /// # Errors
    /// Not enough memory, or more than [`FLOWS_MAX_LIMIT`](crate::FLOWS_MAX_LIMIT) datagrams.
    pub fn new(options: &FragmentOptions, seed: [u64; 2]) -> Result<Self, CacheError> {
        let value = options.datagrams_max;
        if value > crate::FLOWS_MAX_LIMIT {
            return Err(CacheError::TableMax {
                name: "datagrams_max",
                value,
                max: crate::options::FLOWS_MAX_LIMIT,
            });
        }
        let heads = (value as usize).next_power_of_two();
        let bytes = value as usize * size_of::<Node>() + heads * size_of::<u32>();
        let no_memory = CacheError::Memory { bytes };
        let empty = Node {
            words: [0; 5],
            since_ns: 0,
            ports: Ports { src: 0, dst: 0 },
            next: NO_SLOT,
        };
        Ok(Self {
            nodes: filled(value as usize, |_| empty).ok_or(no_memory)?,
            heads: filled(heads, |_| NO_SLOT).ok_or(no_memory)?,
            hash: HashKey::new(seed),
            options: *options,
            oldest: 0,
            count: 0,
            inherited: 0,
            unknown: 0,
            full: 0,
        })
    }

    /// Datagrams remembered now, expired or not.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Remembers the ports of a datagram whose first fragment this is. A datagram that is known
    /// already gets the new ports and time (its identification has been used again) and keeps its
    /// place in the ring, where it may hold up the expiry of younger ones by one timeout.
    ///
    /// # Bounded work
    /// Two expired datagrams are forgotten at most.
    pub fn remember(&mut self, key: &FragmentKey, ports: Ports, now: u64) -> Datagram {
        for _ in 0..2 {
            if self.count != 0 && self.is_expired(self.oldest, now) {
                self.forget_oldest();
            }
        }
        if let Some(at) = self.position(key) {
            self.nodes[at].ports = ports;
            self.nodes[at].since_ns = now;
            return Datagram::Remembered;
        }
        if self.count == self.options.datagrams_max {
            self.full += 1;
            if self.options.full == FragmentFull::Refuse || self.count == 0 {
                return Datagram::Full;
            }
            self.forget_oldest();
        }
        let head = self.head(key);
        let place = (u64::from(self.oldest) + u64::from(self.count)) % self.nodes.len() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "below datagrams_max")]
        let place = place as u32;
        let node = Node {
            words: key.words,
            since_ns: now,
            ports,
            next: self.heads[head],
        };
        self.nodes[place as usize] = node;
        self.heads[head] = place;
        self.count += 1;
        Datagram::Remembered
    }

    /// The ports of the datagram that a later fragment belongs to.
    #[must_use]
    pub fn inherit(&mut self, key: &FragmentKey, now: u64) -> Option<Ports> {
        let ports = self
            .position(key)
            .filter(|at| now.saturating_sub(self.nodes[*at].since_ns) < self.options.timeout_ns)
            .map(|at| self.nodes[at].ports);
        match ports {
            Some(_) => self.inherited += 1,
            None => self.unknown += 1,
        }
        ports
    }

    fn is_expired(&self, slot: u32, now: u64) -> bool {
        now.saturating_sub(self.nodes[slot as usize].since_ns) >= self.options.timeout_ns
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "masked to the number of heads"
    )]
    fn head(&self, key: &FragmentKey) -> usize {
        self.hash.hash(&key.words) as usize & (self.heads.len() - 1)
    }

    fn position(&self, key: &FragmentKey) -> Option<usize> {
        let mut at = self.heads[self.head(key)];
        for _ in 0..CHAIN_MAX {
            let node = self.nodes.get(at as usize)?;
            if node.words == key.words {
                return Some(at as usize);
            }
            at = node.next;
        }
        None
    }

    fn forget_oldest(&mut self) {
        let slot = self.oldest;
        let Node { words, next, .. } = self.nodes[slot as usize];
        let head = self.head(&FragmentKey { words });
        if self.heads[head] == slot {
            self.heads[head] = next;
        } else {
            let mut at = self.heads[head];
            while let Some(node) = self.nodes.get_mut(at as usize) {
                if node.next == slot {
                    node.next = next;
                    break;
                }
                at = node.next;
            }
        }
        self.oldest = if slot + 1 == self.options.datagrams_max {
            0
        } else {
            slot + 1
        };
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn key(id: u32) -> FragmentKey {
        FragmentKey::new([1; 16], [2; 16], 17, id, 0)
    }

    fn ports(src: u16) -> Ports {
        Ports { src, dst: 53 }
    }

    fn table(datagrams_max: u32, full: FragmentFull) -> FragmentTable {
        let options = FragmentOptions {
            datagrams_max,
            timeout_ns: 30 * SECOND,
            full,
        };
        FragmentTable::new(&options, [5, 6]).unwrap()
    }

    #[test]
    fn later_fragment_gets_its_datagrams_ports_until_the_timeout() {
        let mut table = table(4, FragmentFull::Refuse);
        assert_eq!(table.inherit(&key(1), 0), None);
        assert_eq!(table.remember(&key(1), ports(7), 0), Datagram::Remembered);
        assert_eq!(table.inherit(&key(1), 30 * SECOND - 1), Some(ports(7)));
        assert_eq!(table.inherit(&key(1).in_context(9), 1), None);
        assert_eq!(table.inherit(&key(1), 30 * SECOND), None);
        assert_eq!(
            table.remember(&key(1), ports(8), SECOND),
            Datagram::Remembered
        );
        assert_eq!(
            table.inherit(&key(1), 0),
            Some(ports(8)),
            "the id was used again"
        );
        assert_eq!((table.inherited, table.unknown, table.full), (2, 3, 0));
    }

    #[test]
    fn full_table_refuses_until_the_oldest_expires() {
        let mut table = table(2, FragmentFull::Refuse);
        assert_eq!(table.remember(&key(1), ports(1), 0), Datagram::Remembered);
        assert_eq!(
            table.remember(&key(2), ports(2), SECOND),
            Datagram::Remembered
        );
        assert_eq!(
            table.remember(&key(3), ports(3), 2 * SECOND),
            Datagram::Full
        );
        assert_eq!(table.full, 1);
        assert_eq!(
            table.remember(&key(3), ports(3), 30 * SECOND),
            Datagram::Remembered
        );
        assert_eq!(table.inherit(&key(2), 30 * SECOND), Some(ports(2)));
        assert_eq!(table.inherit(&key(1), 30 * SECOND), None);
        let mut none = self::table(0, FragmentFull::OldestOut);
        assert_eq!(none.remember(&key(1), ports(1), 0), Datagram::Full);
    }

    #[test]
    fn oldest_out_keeps_exactly_the_youngest() {
        let mut table = table(8, FragmentFull::OldestOut);
        for id in 0..1000_u32 {
            let port = u16::try_from(id).unwrap();
            assert_eq!(
                table.remember(&key(id), ports(port), 0),
                Datagram::Remembered
            );
            for known in id.saturating_sub(7)..=id {
                let port = u16::try_from(known).unwrap();
                assert_eq!(table.inherit(&key(known), 0), Some(ports(port)));
            }
            if id >= 8 {
                assert_eq!(table.inherit(&key(id - 8), 0), None);
            }
        }
        assert_eq!((table.count(), table.full), (8, 992));
    }
}

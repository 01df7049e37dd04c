//! The host table: a perfect hash, so that no look-up goes on to a second slot (hash and displace,
//! Belazzougui et al., ESA 2009, with the displacement by exclusive or).

use crate::tables::{HostSlot, Hosts, host_bucket, host_hash, host_slot};

/// Hosts of a bucket, on average at most.
const BUCKET_HOSTS: usize = 4;
/// Hosts of a bucket that is placed, at most.
const BUCKET_HOSTS_MAX: usize = 32;
/// Displacements tried for one bucket.
const TRIES: u16 = 4096;

/// A table of these addresses and identities; none comes twice. A bucket for which no displacement
/// is found is left out.
///
/// # Unbounded
/// Work grows with the hosts.
pub(super) fn table(hosts: Vec<(u32, u32)>) -> Hosts {
    // At most four slots in five are taken.
    let slots = (hosts.len() + hosts.len().div_ceil(4)).next_power_of_two();
    let buckets = (slots / BUCKET_HOSTS).max(1);
    let mut table = Placed {
        displacements: vec![0; buckets],
        slots: vec![HostSlot::default(); slots],
    };
    let mut keys: Vec<Key> = hosts
        .into_iter()
        .map(|(address, identity)| {
            let hash = host_hash(address);
            let slot = HostSlot {
                address,
                identity: identity + 1,
            };
            (host_bucket(hash, buckets), hash, slot)
        })
        .collect();
    keys.sort_unstable_by_key(|(bucket, _, slot)| (*bucket, slot.address));
    let mut buckets: Vec<&[Key]> = keys.chunk_by(|one, other| one.0 == other.0).collect();
    // The fullest first, while there is room to choose from.
    buckets.sort_by_key(|keys| core::cmp::Reverse(keys.len()));
    for keys in buckets {
        table.place(keys);
    }
    Hosts {
        displacements: table.displacements.into(),
        slots: table.slots.into(),
    }
}

/// Bucket, hash, what goes into the slot.
type Key = (usize, u64, HostSlot);

/// The table while it is filled.
struct Placed {
    displacements: Vec<u16>,
    slots: Vec<HostSlot>,
}

impl Placed {
    /// Places the keys of one bucket where the first displacement says that leaves them all free slots.
    fn place(&mut self, keys: &[Key]) {
        let count = self.slots.len();
        let home = |hash: u64| host_slot(hash, 0, count);
        let is_apart = |(at, (_, hash, _)): (usize, &Key)| {
            let mut before = keys.iter().take(at);
            before.all(|(_, other, _)| home(*hash) != home(*other))
        };
        if keys.len() > BUCKET_HOSTS_MAX || !keys.iter().enumerate().all(is_apart) {
            return;
        }
        let fits = |displacement: &u16| {
            keys.iter().all(|(_, hash, _)| {
                let slot = self.slots.get(host_slot(*hash, *displacement, count));
                slot.is_some_and(|slot| slot.identity == 0)
            })
        };
        let (Some(displacement), Some((bucket, ..))) = ((0..TRIES).find(fits), keys.first()) else {
            return;
        };
        if let Some(own) = self.displacements.get_mut(*bucket) {
            *own = displacement;
        }
        for (_, hash, key) in keys {
            if let Some(slot) = self.slots.get_mut(host_slot(*hash, displacement, count)) {
                *slot = *key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 100, 10_000] {
            let address = |n: u32| 0x0a00_0000 | (n.wrapping_mul(0x009e_3779) & 0x00ff_ffff);
            let hosts: Vec<_> = (0..count).map(|n| (address(n), n)).collect();
            let table = table(hosts.clone());
            let is_found =
                |(host, identity): &&(u32, u32)| table.find(*host, &mut ()) == identity + 1;
            let found = hosts.iter().filter(is_found).count();
            assert!(found * 1000 >= hosts.len() * 995, "{found} of {count}");
            for n in count..count + 10_000 {
                assert_eq!(table.find(address(n), &mut ()), 0);
            }
            assert_eq!(table.find(0, &mut ()), 0);
        }
    }

    #[test]
    fn hosts_that_crowd_one_bucket_are_left_out_or_found() {
        let crowd = (0..u32::MAX)
            .filter(|n| host_hash(*n) >> 42 & 0xff == 7)
            .take(200);
        let hosts: Vec<_> = crowd.map(|n| (n, n % 9)).collect();
        let table = table(hosts.clone());
        for (host, identity) in hosts {
            let found = table.find(host, &mut ());
            assert!(found == 0 || found == identity + 1);
        }
    }
}

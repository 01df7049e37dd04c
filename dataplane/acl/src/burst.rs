//! Many keys at once, stage by stage: the loads of one stage do not wait for each other, so the
//! lines that a large policy has to fetch from far away come together instead of one after another.

use crate::tables::{FAIL_CLOSED, Tables, get, v4_of};
use crate::{PolicyImage, Service};
use abi::Decision;
use abi::image::{PAIR_BLOCK, V4_CHILD, row_slot};

/// Keys that go through the stages together; more are taken in portions of this.
pub const BURST_KEYS: usize = 32;

/// What is asked about one flow: initiator, responder (IPv4 is `::ffff:a.b.c.d`), service.
pub type Asked = ([u8; 16], [u8; 16], Service);

/// One value for each key of a portion.
type Lane = [u32; BURST_KEYS];

impl PolicyImage {
    /// Decides about each of `asked` as [`PolicyImage::evaluate`] does, into the place of the same
    /// index in `decisions`. Where the two differ in length, as many as the shorter has.
    ///
    /// # Bounded work
    /// That of [`PolicyImage::evaluate`], for each key.
    pub fn evaluate_burst(&self, asked: &[Asked], decisions: &mut [Decision]) {
        let portions = asked.chunks(BURST_KEYS);
        for (asked, decisions) in portions.zip(decisions.chunks_mut(BURST_KEYS)) {
            self.tables.evaluate_portion(asked, decisions);
        }
    }
}

impl Tables {
    /// What is out of range reads as 0 on the way and as fail-closed at the end; `check` has made
    /// it impossible.
    fn evaluate_portion(&self, asked: &[Asked], decisions: &mut [Decision]) {
        let sources = self.identities_of(asked.iter().map(|(src, _, _)| src));
        let destinations = self.identities_of(asked.iter().map(|(_, dst, _)| dst));
        let rows = self.rows(asked, &sources, &destinations);
        for (place, decision) in decisions.iter_mut().enumerate().take(BURST_KEYS) {
            *decision = match get(&self.verdicts, rows[place], &mut ()) {
                Some(found) => Decision {
                    src_identity: sources[place],
                    dst_identity: destinations[place],
                    ..found
                },
                None => FAIL_CLOSED,
            };
        }
    }

    /// Identities of addresses, level by level of the IPv4 trie.
    fn identities_of<'a>(&self, addresses: impl Iterator<Item = &'a [u8; 16]>) -> Lane {
        let (mut entries, mut four) = ([0; BURST_KEYS], [0; BURST_KEYS]);
        let mut count = 0;
        for (place, address) in addresses.enumerate().take(BURST_KEYS) {
            entries[place] = match v4_of(address) {
                Some(v4) => {
                    four[place] = v4;
                    get(&self.v4_root, v4 >> 16, &mut ()).unwrap_or(0)
                }
                None => self.identity(address, &mut ()).unwrap_or(0),
            };
            count = place + 1;
        }
        for shift in [8, 0] {
            for (entry, v4) in entries.iter_mut().zip(four).take(count) {
                if *entry & V4_CHILD != 0 {
                    let node = (*entry & !V4_CHILD) << 8;
                    let byte = (v4 >> shift) & 0xff;
                    *entry = get(&self.v4_nodes, node | byte, &mut ()).unwrap_or(0);
                }
            }
        }
        entries
    }

    /// Verdict rows of the keys' identities and services; a row that does not exist where there is
    /// none.
    fn rows(&self, asked: &[Asked], sources: &Lane, destinations: &Lane) -> Lane {
        let (mut at, mut columns, mut services) =
            ([0; BURST_KEYS], [0; BURST_KEYS], [0; BURST_KEYS]);
        for (place, (_, _, service)) in asked.iter().enumerate().take(BURST_KEYS) {
            let source = get(&self.identities, sources[place], &mut ()).map_or(0, |c| c.source);
            let destination =
                get(&self.identities, destinations[place], &mut ()).map_or(0, |c| c.destination);
            at[place] = source * self.pair_stride + destination / PAIR_BLOCK;
            columns[place] = destination % PAIR_BLOCK;
            let class = self.service_class(service.proto, service.key(), &mut ());
            services[place] = class.unwrap_or(0);
        }
        let count = asked.len().min(BURST_KEYS);
        for (at, column) in at.iter_mut().zip(columns).take(count) {
            *at = get(&self.pair_index, *at, &mut ()).unwrap_or(0) * PAIR_BLOCK + column;
        }
        for at in at.iter_mut().take(count) {
            *at = get(&self.pair_blocks, *at, &mut ()).unwrap_or(0);
        }
        let mut rows = [u32::MAX; BURST_KEYS];
        for ((row, set), class) in rows.iter_mut().zip(at).zip(services).take(count) {
            let Some(set) = get(&self.row_sets, set, &mut ()) else {
                continue;
            };
            let slot = if set.mask == 0 {
                Some(set.alone)
            } else {
                let slot = set.first + row_slot(class, set.multiplier, set.shift, set.mask);
                get(&self.row_slots, slot, &mut ())
            };
            let own = slot.filter(|slot| slot.service_class == class);
            *row = own.map_or(set.default_row, |slot| slot.row);
        }
        rows
    }
}

//! Many keys at once, stage by stage: the loads of one stage do not wait for each other, so the
//! lines that a large policy has to fetch from far away come together instead of one after another.

use crate::tables::{FAIL_CLOSED, PairEntry, Tables, get, v4_of, v4_or_other};
use crate::{PolicyImage, Service};
use abi::Decision;
use abi::image::{PAIR_BLOCK, V4_CHILD};
use core::hint::select_unpredictable;

/// Keys that go through the stages together; more are taken in portions of this.
pub const BURST_KEYS: usize = 32;

/// What is asked about one flow: initiator, responder (IPv4 is `::ffff:a.b.c.d`), service.
pub type Asked<'a> = (&'a [u8; 16], &'a [u8; 16], Service);

/// One value for each key of a portion.
type Lane = [u32; BURST_KEYS];

impl PolicyImage {
    /// Decides about each of `flows` as [`PolicyImage::evaluate`] does, into the place of the same
    /// index in `decisions`; `ask` tells what is asked about one. Where the two differ in length, as many
    /// as the shorter has.
    ///
    /// # Bounded work
    /// That of [`PolicyImage::evaluate`], for each flow.
    #[inline]
    pub fn evaluate_burst<'a, T>(
        &self,
        flows: &'a [T],
        ask: impl Fn(&'a T) -> Asked<'a> + Copy,
        decisions: &mut [Decision],
    ) {
        let portions = flows.chunks(BURST_KEYS);
        for (flows, decisions) in portions.zip(decisions.chunks_mut(BURST_KEYS)) {
            self.tables.evaluate_portion(flows, ask, decisions);
        }
    }
}

impl Tables {
    /// What is out of range reads as 0 on the way and as fail-closed at the end; `check` has made
    /// it impossible.
    #[inline]
    fn evaluate_portion<'a, T>(
        &self,
        flows: &'a [T],
        ask: impl Fn(&'a T) -> Asked<'a> + Copy,
        decisions: &mut [Decision],
    ) {
        let count = flows.len().min(decisions.len()).min(BURST_KEYS);
        let flows = &flows[..count];
        let sources = self.identities_of(flows, |flow| ask(flow).0);
        let destinations = self.identities_of(flows, |flow| ask(flow).1);
        let (sets, classes) = self.row_sets_of(flows, |flow| ask(flow).2, &sources, &destinations);
        let ends = sources[..count].iter().zip(&destinations[..count]);
        let places = sets[..count].iter().zip(&classes[..count]).zip(ends);
        for (decision, ((set, class), (src, dst))) in decisions.iter_mut().zip(places) {
            *decision = *self.verdict(*set, *class);
            (decision.src_identity, decision.dst_identity) = (*src, *dst);
        }
    }

    /// Identities of one end: hosts first, then level by level of the IPv4 trie.
    #[inline(always)]
    fn identities_of<'a, T>(&self, flows: &'a [T], end: impl Fn(&'a T) -> &'a [u8; 16]) -> Lane {
        let (mut entries, mut v4) = ([0; BURST_KEYS], [0; BURST_KEYS]);
        let mut others = 0;
        for (v4, flow) in v4.iter_mut().zip(flows) {
            let other;
            (*v4, other) = v4_or_other(end(flow));
            others |= other;
        }
        let mut children = 0;
        let entries_asked = &mut entries[..flows.len()];
        let v4 = &v4[..flows.len()];
        for (entry, v4) in entries_asked.iter_mut().zip(v4) {
            let around = get(&*self.v4_root, v4 >> 16, &mut ()).unwrap_or(0);
            let host = self.v4_hosts.find(*v4, &mut ());
            *entry = select_unpredictable(host == 0, around, host.wrapping_sub(1));
            children |= *entry;
        }
        if children & V4_CHILD != 0 {
            self.descend(entries_asked, v4);
        }
        if others != 0 {
            for (entry, flow) in entries_asked.iter_mut().zip(flows) {
                if v4_of(end(flow)).is_none() {
                    *entry = self.identity(end(flow), &mut ()).unwrap_or(0);
                }
            }
        }
        entries
    }

    /// From entries of the IPv4 root to identities.
    fn descend(&self, entries: &mut [u32], v4: &[u32]) {
        for shift in [8, 0] {
            for (entry, v4) in entries.iter_mut().zip(v4) {
                if *entry & V4_CHILD != 0 {
                    let node = (*entry & !V4_CHILD) << 8;
                    let byte = (v4 >> shift) & 0xff;
                    *entry = get(&self.v4_nodes, node | byte, &mut ()).unwrap_or(0);
                }
            }
        }
    }

    /// Row sets of the keys' identities, and classes of their services.
    #[inline(always)]
    fn row_sets_of<'a, T>(
        &self,
        flows: &'a [T],
        service: impl Fn(&'a T) -> Service,
        sources: &Lane,
        destinations: &Lane,
    ) -> (Lane, Lane) {
        let (mut at, mut bits, mut classes) = ([0; BURST_KEYS], [0; BURST_KEYS], [0; BURST_KEYS]);
        let ends = sources.iter().zip(destinations);
        let places = at.iter_mut().zip(&mut bits).zip(&mut classes);
        for ((((at, bit), class), (source, destination)), flow) in places.zip(ends).zip(flows) {
            let service = service(flow);
            let source = get(&self.identities, *source, &mut ()).map_or(0, |c| c.source);
            let destination =
                get(&self.identities, *destination, &mut ()).map_or(0, |c| c.destination);
            *at = source
                .wrapping_mul(self.pair_stride)
                .wrapping_add(destination / PAIR_BLOCK);
            *bit = 1 << (destination % PAIR_BLOCK);
            let found = self.service_class(service.proto, service.key(), &mut ());
            *class = found.unwrap_or(0);
        }
        let at_asked = &mut at[..flows.len()];
        let none = PairEntry {
            differ: 0,
            first: 0,
        };
        let mut entries = [none; BURST_KEYS];
        for (entry, at) in entries.iter_mut().zip(&*at_asked) {
            *entry = get(&self.pair_index, *at, &mut ()).unwrap_or(none);
        }
        // Apart from the loads, so that many are counted at once.
        for ((at, entry), bit) in at_asked.iter_mut().zip(&entries).zip(&bits) {
            *at = entry.cell(*bit);
        }
        for at in at_asked {
            *at = get(&self.pair_cells, *at, &mut ()).unwrap_or(0);
        }
        (at, classes)
    }

    /// The verdict of a class of services in a row set.
    #[inline(always)]
    fn verdict(&self, set: u32, class: u32) -> &Decision {
        let Some(set) = self.row_sets.get(set as usize) else {
            return &FAIL_CLOSED;
        };
        let row = self.row_of(set, class, &mut ()).unwrap_or(u32::MAX);
        let other = self.verdicts.get(row as usize).unwrap_or(&FAIL_CLOSED);
        // Which of the two it is nobody can guess, and a wrong guess would stop the loads behind it.
        select_unpredictable(set.alone_class == class, &set.alone, other)
    }
}

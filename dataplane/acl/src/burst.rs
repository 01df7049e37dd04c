//! Many keys at once, stage by stage: the loads of one stage do not wait for each other, so the
//! lines that a large policy has to fetch from far away come together instead of one after another.

use crate::tables::{FAIL_CLOSED, PairEntry, Tables, get, service_number, v4_of, v4_or_other};
use crate::{PolicyImage, Service};
use abi::Decision;
use abi::image::{PAIR_BLOCK, V4_CHILD};
use core::hint::select_unpredictable;

/// Keys that go through the stages together; more are taken in portions of this.
pub const BURST_KEYS: usize = 32;

/// What is asked about one flow: initiator, responder (IPv4 is `::ffff:a.b.c.d`), service.
pub type Asked<'a> = (&'a [u8; 16], &'a [u8; 16], Service);

/// Where one flow of a portion stands on its way from addresses to a verdict. All of it in one place, so
/// that a stage goes over one array.
#[derive(Clone, Copy)]
struct Walk {
    /// Initiator and responder, where they are IPv4 addresses.
    v4: [u32; 2],
    /// Entries of the IPv4 trie, then identities.
    src: u32,
    dst: u32,
    /// Protocol and key, then class.
    service: u32,
    /// Place of the pair entry, then of the row set.
    at: u32,
    /// Class of the responder.
    destination: u32,
    pair: PairEntry,
}

const NO_PAIR: PairEntry = PairEntry {
    differ: 0,
    first: 0,
};

const START: Walk = Walk {
    v4: [0; 2],
    src: 0,
    dst: 0,
    service: 0,
    at: 0,
    destination: 0,
    pair: NO_PAIR,
};

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
        let (mut flows, mut decisions) = (flows, decisions);
        while let (false, false) = (flows.is_empty(), decisions.is_empty()) {
            let count = flows.len().min(decisions.len()).min(BURST_KEYS);
            let (own, own_decisions);
            (own, flows) = flows.split_at(count);
            (own_decisions, decisions) = decisions.split_at_mut(count);
            self.tables.evaluate_portion(own, ask, own_decisions);
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
        let mut walks = [START; BURST_KEYS];
        let mut others = 0;
        for (walk, flow) in walks.iter_mut().zip(flows) {
            let (src, dst, service) = ask(flow);
            let (src, src_other) = v4_or_other(src);
            let (dst, dst_other) = v4_or_other(dst);
            others |= src_other | dst_other;
            walk.v4 = [src, dst];
            walk.service = service_number(service.proto, service.key());
        }
        let walks = &mut walks[..flows.len().min(BURST_KEYS)];
        self.find_v4_identities(walks);
        if others != 0 {
            self.find_others(flows, ask, walks);
        }
        self.finish(walks, decisions);
    }

    /// Identities of the ends that are no IPv4 addresses.
    #[inline(never)]
    fn find_others<'a, T>(
        &self,
        flows: &'a [T],
        ask: impl Fn(&'a T) -> Asked<'a>,
        walks: &mut [Walk],
    ) {
        let other = |address: &[u8; 16]| match v4_of(address) {
            Some(_) => None,
            None => Some(self.identity(address, &mut ()).unwrap_or(0)),
        };
        for (walk, flow) in walks.iter_mut().zip(flows) {
            let (src, dst, _) = ask(flow);
            walk.src = other(src).unwrap_or(walk.src);
            walk.dst = other(dst).unwrap_or(walk.dst);
        }
    }

    // Each stage is a function of its own, so that what it uses stays in registers.

    /// Identities of IPv4 addresses: hosts and the first level of the trie, then what is below.
    #[inline(never)]
    fn find_v4_identities(&self, walks: &mut [Walk]) {
        let mut entries = 0;
        for walk in &mut *walks {
            let [src, dst] = walk.v4;
            walk.src = self.v4_entry(src);
            walk.dst = self.v4_entry(dst);
            entries |= walk.src | walk.dst;
        }
        if entries & V4_CHILD != 0 {
            self.descend(walks);
        }
    }

    /// Identity of a host, or what the first level of the trie says.
    #[inline(always)]
    fn v4_entry(&self, v4: u32) -> u32 {
        let around = get(&*self.v4_root, v4 >> 16, &mut ()).unwrap_or(0);
        match self.v4_hosts.slot(v4, &mut ()) {
            Some(slot) => select_unpredictable(slot.address == v4, slot.entry, around),
            None => around,
        }
    }

    /// From entries of the IPv4 root to identities.
    #[inline(never)]
    fn descend(&self, walks: &mut [Walk]) {
        let below = |entry: u32, v4: u32, shift: u32| {
            if entry & V4_CHILD == 0 {
                return entry;
            }
            let node = (entry & !V4_CHILD) << 8;
            let byte = (v4 >> shift) & 0xff;
            get(&self.v4_nodes, node | byte, &mut ()).unwrap_or(0)
        };
        for shift in [8, 0] {
            for walk in &mut *walks {
                let [src, dst] = walk.v4;
                walk.src = below(walk.src, src, shift);
                walk.dst = below(walk.dst, dst, shift);
            }
        }
    }

    /// From identities and services to decisions.
    #[inline(never)]
    fn finish(&self, walks: &mut [Walk], decisions: &mut [Decision]) {
        self.find_classes(walks);
        self.find_row_sets(walks);
        self.find_verdicts(walks, decisions);
    }

    /// Where the pair entries stand, and classes of the services.
    #[inline(never)]
    fn find_classes(&self, walks: &mut [Walk]) {
        for walk in walks {
            let source_row = get(&self.identities, walk.src, &mut ()).map_or(0, |c| c.source_row);
            let destination = get(&self.identities, walk.dst, &mut ()).map_or(0, |c| c.destination);
            walk.at = source_row.wrapping_add(destination / PAIR_BLOCK);
            walk.destination = destination;
            walk.service = self.class_of(walk.service, &mut ()).unwrap_or(0);
        }
    }

    /// Row sets of the pairs. Most of these loads wait for a line from far away, one of the first kind and
    /// one of the second: nothing else is done between them, so that many are under way.
    #[inline(never)]
    fn find_row_sets(&self, walks: &mut [Walk]) {
        for walk in &mut *walks {
            walk.pair = get(&self.pair_index, walk.at, &mut ()).unwrap_or(NO_PAIR);
        }
        for walk in walks {
            let cell = walk.pair.cell(walk.destination % PAIR_BLOCK);
            walk.at = get(&self.pair_cells, cell, &mut ()).unwrap_or(0);
        }
    }

    #[inline(never)]
    fn find_verdicts(&self, walks: &[Walk], decisions: &mut [Decision]) {
        for (decision, walk) in decisions.iter_mut().zip(walks) {
            *decision = *self.verdict(walk.at, walk.service);
            (decision.src_identity, decision.dst_identity) = (walk.src, walk.dst);
        }
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

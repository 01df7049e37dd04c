//! Hops between hosts: what can be reached in one, and from there.

use super::Reach;
use super::ends::Seat;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A set of kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            words: vec![0; count.div_ceil(64)],
        }
    }

    pub(crate) fn of(count: usize, kinds: impl IntoIterator<Item = u32>) -> Self {
        let mut bits = Self::new(count);
        kinds.into_iter().for_each(|kind| bits.set(kind));
        bits
    }

    pub(crate) fn set(&mut self, kind: u32) {
        self.words[kind as usize / 64] |= 1 << (kind % 64);
    }

    pub(crate) fn clear(&mut self, kind: u32) {
        self.words[kind as usize / 64] &= !(1 << (kind % 64));
    }

    pub(crate) fn has(&self, kind: u32) -> bool {
        self.words[kind as usize / 64] & (1 << (kind % 64)) != 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (own, more) in self.words.iter_mut().zip(&other.words) {
            *own |= more;
        }
    }

    pub(crate) fn remove(&mut self, other: &Self) {
        for (own, less) in self.words.iter_mut().zip(&other.words) {
            *own &= !less;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.words).flat_map(|(at, word)| {
            let rest =
                core::iter::successors(Some(*word), |left| Some(left & left.wrapping_sub(1)));
            rest.take_while(|left| *left != 0)
                .map(move |left| at * 64 + left.trailing_zeros())
        })
    }
}

/// Kinds that one kind of host can open a connection to.
#[derive(Debug)]
pub(crate) struct Row {
    /// For any service that counts.
    pub(crate) open: Bits,
    /// For one by which a path goes on.
    pub(crate) carries: Bits,
}

/// Hops under one policy, for all services or for some.
pub(crate) struct Walk<'r, 'c> {
    pub(crate) reach: &'r mut Reach<'c>,
    /// Classes that count, where not all do.
    counting: Option<Vec<bool>>,
    rows: Vec<Option<Rc<Row>>>,
    /// Whether an outcome opens, and carries a path on.
    flags: Vec<Option<(bool, bool)>>,
}

/// What a search is for.
pub(crate) struct Quest<'q> {
    pub(crate) from: &'q Bits,
    pub(crate) to: &'q Bits,
    /// Kinds that begin no path and carry none on.
    pub(crate) without: &'q Bits,
    pub(crate) hops: i64,
    /// The end of a path must be another host than its beginning.
    pub(crate) others_only: bool,
}

/// A kind as it was reached.
struct Label {
    kind: u32,
    before: Option<usize>,
    source: u32,
}

impl<'r, 'c> Walk<'r, 'c> {
    /// `counting`: classes of services that hops may use, none for all.
    pub(crate) fn new(reach: &'r mut Reach<'c>, counting: Option<Vec<bool>>) -> Self {
        let rows = vec![None; reach.ends.kinds.len()];
        Self {
            reach,
            counting,
            rows,
            flags: Vec::new(),
        }
    }

    pub(crate) fn kinds(&self) -> usize {
        self.reach.ends.kinds.len()
    }

    /// Whether a class of services counts, for the last hop of a path or for one before it.
    pub(crate) fn counts(&self, class: u32, last: bool) -> bool {
        let counting = self.counting.as_ref();
        counting.is_none_or(|counting| counting[class as usize])
            && (last || self.reach.services.carries(class))
    }

    fn outcome_flags(&mut self, number: u32) -> (bool, bool) {
        let at = number as usize;
        if self.flags.len() <= at {
            self.flags
                .resize(self.reach.outcome_count().max(at + 1), None);
        }
        if let Some(flags) = self.flags[at] {
            return flags;
        }
        let open = &self.reach.outcome(number).open;
        let any = |last| open.iter().any(|class| self.counts(*class, last));
        let flags = (any(true), any(false));
        self.flags[at] = Some(flags);
        flags
    }

    /// Where one kind of host can go. A host does not go to itself.
    pub(crate) fn row(&mut self, kind: u32) -> Rc<Row> {
        if let Some(row) = &self.rows[kind as usize] {
            return Rc::clone(row);
        }
        let mut row = Row {
            open: Bits::new(self.kinds()),
            carries: Bits::new(self.kinds()),
        };
        for seat in self.reach.kind(kind).seats.clone() {
            let others: Vec<Seat> = self.reach.ends.seats(seat.v4).collect();
            for other in others {
                let number = self.reach.outcome_number(seat.identity, other.identity);
                let (open, carries) = self.outcome_flags(number);
                for reached in self.reach.ends.at(other) {
                    if open {
                        row.open.set(*reached);
                    }
                    if carries {
                        row.carries.set(*reached);
                    }
                }
            }
        }
        if self.reach.kind(kind).hosts < 2 {
            row.open.clear(kind);
            row.carries.clear(kind);
        }
        let row = Rc::new(row);
        self.rows[kind as usize] = Some(Rc::clone(&row));
        row
    }

    /// The shortest path to each kind of `to` that can be reached, as kinds from its beginning.
    ///
    /// A kind keeps one label, or the first two of different sources where a path must end at
    /// another host than it began: one of the two is always another.
    pub(crate) fn search(&mut self, quest: &Quest<'_>) -> BTreeMap<u32, Vec<u32>> {
        let mut labels: Vec<Label> = Vec::new();
        let mut sources: Vec<[Option<u32>; 2]> = vec![[None; 2]; self.kinds()];
        let mut found = BTreeMap::new();
        for kind in quest.from.iter().filter(|kind| !quest.without.has(*kind)) {
            sources[kind as usize][0] = Some(kind);
            labels.push(Label {
                kind,
                before: None,
                source: kind,
            });
        }
        let mut begin = 0;
        for hop in 1..=quest.hops {
            let end = labels.len();
            for at in begin..end {
                let (kind, source) = (labels[at].kind, labels[at].source);
                let row = self.row(kind);
                for target in row.open.iter().filter(|kind| quest.to.has(*kind)) {
                    let another = source != target || self.reach.kind(target).hosts >= 2;
                    if another || !quest.others_only {
                        found
                            .entry(target)
                            .or_insert_with(|| path(&labels, at, target));
                    }
                }
                if hop == quest.hops {
                    continue;
                }
                for next in row.carries.iter().filter(|kind| !quest.without.has(*kind)) {
                    if admit(&mut sources[next as usize], source, quest.others_only) {
                        labels.push(Label {
                            kind: next,
                            before: Some(at),
                            source,
                        });
                    }
                }
            }
            begin = end;
        }
        found
    }

    /// Kinds that can be reached from `from` in each number of hops up to `hops`, by services that
    /// carry a path on: an element holds what its hop is the first to reach.
    pub(crate) fn spread(&mut self, from: &Bits, hops: usize) -> Vec<Bits> {
        let mut seen = Bits::new(self.kinds());
        let mut front = from.clone();
        let mut rings = Vec::with_capacity(hops);
        // A kind is walked once; one that the segment holds is reached where another of it is.
        let mut walked = Bits::new(self.kinds());
        for _ in 0..hops {
            let mut reached = Bits::new(self.kinds());
            walked.add(&front);
            for kind in front.iter() {
                reached.add(&self.row(kind).carries);
            }
            reached.remove(&seen);
            seen.add(&reached);
            front = reached.clone();
            front.remove(&walked);
            rings.push(reached);
        }
        rings
    }
}

/// Whether a kind takes one more label.
fn admit(held: &mut [Option<u32>; 2], source: u32, two: bool) -> bool {
    match held {
        [None, _] => held[0] = Some(source),
        [Some(first), None] if two && *first != source => held[1] = Some(source),
        _ => return false,
    }
    true
}

fn path(labels: &[Label], last: usize, target: u32) -> Vec<u32> {
    let before = |at: &usize| labels[*at].before;
    let mut kinds: Vec<u32> = core::iter::successors(Some(last), before)
        .map(|at| labels[at].kind)
        .collect();
    kinds.reverse();
    kinds.push(target);
    kinds
}

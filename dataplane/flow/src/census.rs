//! The flows of one address, counted out beforehand, so that packets of a scan need not be looked for.
//!
//! Every packet of a scan is looked for in vain, in a line of the index that lies far away. While a scan
//! goes on, the hand of the sweep marks the flows that have its source at an end, by their hash, and
//! every flow of it that is opened is marked, too. Once the hand has come round, a flow without a mark
//! does not exist. Marks of flows that ended are gone when it has come round again.

use crate::cache::filled;
use crate::hash::FlowHash;
use crate::key::FlowKey;
use crate::options::ScanOptions;

/// Marks, one bit each. A scanner's flows that are told one by one, and live on until they are idle,
/// are some thousands: one packet in twenty is then looked for all the same.
const MARKS: usize = 1 << 16;
const WORDS: usize = MARKS / 64;

/// Marks by bits of the hash that neither a bucket nor a tag is made of alone.
#[inline(always)]
const fn place(hash: FlowHash) -> (usize, u64) {
    let mark = (hash.0 >> 24) as usize % MARKS;
    (mark / 64, 1 << (mark % 64))
}

pub(crate) struct Census {
    /// Whose flows are marked; no address where there is no census.
    source: [u64; 2],
    /// All of them.
    marks: Box<[u64]>,
    /// Those that the hand has met on its present way round, and those opened since it began.
    next: Box<[u64]>,
    /// Entries until it has come round.
    left: u32,
    is_on: bool,
    is_complete: bool,
    /// The source has been scanning since the hand began.
    is_wanted: bool,
}

impl Census {
    /// Allocates and touches everything; `None` without memory. No marks where nothing is ever folded.
    pub(crate) fn new(options: &ScanOptions) -> Option<Self> {
        let words = Self::words(options);
        Some(Self {
            source: [0; 2],
            marks: filled(words, |_| 0)?,
            next: filled(words, |_| 0)?,
            left: 0,
            is_on: false,
            is_complete: false,
            is_wanted: false,
        })
    }

    const fn words(options: &ScanOptions) -> usize {
        match options.sources_max {
            0 => 0,
            _ => WORDS,
        }
    }

    pub(crate) const fn bytes(options: &ScanOptions) -> usize {
        2 * Self::words(options) * size_of::<u64>()
    }

    /// A source scans. Where it is another one than that of the census, that one's comes first, as long
    /// as it goes on.
    #[inline]
    pub(crate) fn want(&mut self, source: [u64; 2], entries: u32) {
        if self.is_on {
            self.is_wanted |= self.source == source;
        } else {
            self.begin(source, entries);
        }
    }

    #[cold]
    fn begin(&mut self, source: [u64; 2], entries: u32) {
        self.source = source;
        self.next.fill(0);
        self.left = entries;
        (self.is_on, self.is_complete, self.is_wanted) = (true, false, true);
    }

    #[inline(always)]
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    #[inline(always)]
    pub(crate) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether the flow with this key is one of those to be marked.
    #[inline(always)]
    pub(crate) fn counts(&self, key: &FlowKey) -> bool {
        let [a0, a1, b0, b1, _] = *key.words();
        self.is_on && ([a0, a1] == self.source || [b0, b1] == self.source)
    }

    /// The hand has met a flow that counts.
    #[inline]
    pub(crate) fn meet(&mut self, hash: FlowHash) {
        let (word, bit) = place(hash);
        self.next[word] |= bit;
    }

    /// A flow that counts is opened.
    #[inline]
    pub(crate) fn open(&mut self, hash: FlowHash) {
        let (word, bit) = place(hash);
        self.next[word] |= bit;
        self.marks[word] |= bit;
    }

    /// Whether there is no flow with this hash and an end at this address. Only a complete census knows.
    #[inline(always)]
    pub(crate) fn lacks(&self, source: [u64; 2], hash: FlowHash) -> bool {
        let (word, bit) = place(hash);
        self.is_complete && source == self.source && self.marks[word] & bit == 0
    }

    /// The hand has gone over so many of all `entries`. Where it has come round the census is complete,
    /// and the next one begins, unless nobody wants it any more.
    pub(crate) fn went(&mut self, due: u32, entries: u32) {
        if !self.is_on {
            return;
        }
        self.left = self.left.saturating_sub(due);
        if self.left > 0 {
            return;
        }
        core::mem::swap(&mut self.marks, &mut self.next);
        self.next.fill(0);
        self.left = entries;
        self.is_complete = self.is_wanted;
        self.is_on = self.is_wanted;
        self.is_wanted = false;
    }
}

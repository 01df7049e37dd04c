//! Who opens flows that nobody answers or nobody may open, and how fast.
//!
//! Each source has a budget of flow records. Within it everything is told flow by flow. Beyond it
//! its flows are folded into an aggregate: an exact sum of them, told at intervals. So a scan can
//! neither fill the ring nor hide.
//!
//! ```text
//!  source, decision ─hash─► bucket: 8 tags, votes ──► line: budget, aggregate
//!                              │ full of busy sources
//!                              └──────────────────────► rest: one aggregate per decision, of all
//!                                                       sources that found no line
//! ```

use crate::aggregate::{Aggregate, Folded, SourceKey, Target};
use crate::budget::{Budget, Pace};
use crate::cache::filled;
use crate::hash::HashKey;
use crate::options::{ScanOptions, Timeouts};
use crate::prefetch::prefetch;
use crate::record::RecordSink;
use crate::sketch::Sketch;
use abi::record::FlowEndReason;

/// Lines of one bucket.
const WAYS: usize = 8;
/// Aggregates for sources without a line: one for each decision, and the last for all further ones.
const RESTS: usize = 8;
/// What a new line can lose before it gives way: a flood of sources then takes a new line for one
/// packet in eight, and a source that sends more than the others stays.
const VOTES_NEW: u8 = 7;
/// A line that gives way with no more flows than these, none of them told, goes to the rest without
/// a record of its own: a flood of sources cannot fill the ring this way either.
const MERGED_FLOWS_MAX: u64 = 64;
/// A line rests at least this long before it is free.
const IDLE_MIN_NS: u64 = 10_000_000_000;
/// Lines that one call of the sweep looks at, at most.
const LINES_PER_SWEEP: u64 = 64;
/// Free in a bucket's tags.
const NO_TAG: u16 = 0;
/// Set in the ids of aggregates, so that they are none of a flow.
const AGGREGATE_ID: u64 = 1 << 55;

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Bucket {
    tags: [u16; WAYS],
    votes: [u8; WAYS],
    /// The line that loses the next vote.
    hand: u8,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    key: SourceKey,
    budget: Budget,
    in_use: bool,
    aggregate: Aggregate,
}

/// What the table counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanCounters {
    pub(crate) folded_flows: u64,
    pub(crate) folded_packets: u64,
    pub(crate) rest_packets: u64,
    pub(crate) sources: u64,
    pub(crate) records: u64,
    /// Packets folded and not yet in a record.
    pub(crate) cached: u64,
}

/// The sources of one core. Without a line for anybody nothing is ever folded.
pub(crate) struct ScanTable {
    buckets: Box<[Bucket]>,
    /// One for each way of each bucket, then the rests.
    lines: Box<[Line]>,
    /// Distinct sources of the rests.
    rest_sources: [Sketch; RESTS],
    hash: HashKey,
    pace: Pace,
    core_pace: Pace,
    core_budget: Budget,
    next_id: u64,
    hand: usize,
    /// The line that an attempt was added to last; none where there was none.
    last: usize,
    worker: u8,
    pub(crate) counters: ScanCounters,
}

#[expect(clippy::cast_possible_truncation, reason = "half a hash is wanted")]
const fn half(hash: u64) -> u32 {
    hash as u32
}

impl ScanTable {
    /// Allocates and touches everything; `None` without memory.
    pub(crate) fn new(options: &ScanOptions, hash: HashKey, worker: u8) -> Option<Self> {
        let buckets = Self::bucket_count(options);
        let core_pace = Pace::new(options.core_records_per_second, options.core_burst);
        let line = Line {
            key: SourceKey::FREE,
            budget: Budget::full(core_pace, 0),
            in_use: false,
            aggregate: Aggregate::NONE,
        };
        let lines = if buckets == 0 {
            0
        } else {
            buckets * WAYS + RESTS
        };
        Some(Self {
            buckets: filled(buckets, |_| Bucket {
                tags: [NO_TAG; WAYS],
                votes: [0; WAYS],
                hand: 0,
            })?,
            lines: filled(lines, |_| line)?,
            rest_sources: [Sketch::EMPTY; RESTS],
            hash,
            pace: Pace::new(options.records_per_second, options.burst),
            core_pace,
            core_budget: Budget::full(core_pace, 0),
            next_id: 1,
            hand: 0,
            last: usize::MAX,
            worker,
            counters: ScanCounters::default(),
        })
    }

    const fn bucket_count(options: &ScanOptions) -> usize {
        match options.sources_max as usize {
            0 => 0,
            sources => sources.div_ceil(WAYS).next_power_of_two(),
        }
    }

    /// Bytes that a table with these options allocates.
    pub(crate) const fn bytes(options: &ScanOptions) -> usize {
        let buckets = Self::bucket_count(options);
        let rests = if buckets == 0 { 0 } else { RESTS };
        buckets * size_of::<Bucket>() + (buckets * WAYS + rests) * size_of::<Line>()
    }

    #[inline(always)]
    pub(crate) const fn is_off(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Folds an attempt that the policy denies, unless its source may have a record for it: then
    /// false, and nothing is counted.
    ///
    /// # Bounded work
    /// One bucket; at most one line gives way.
    pub(crate) fn fold_denied(
        &mut self,
        folded: &Folded,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> bool {
        let line = self.line(&folded.key, folded.epoch, now, sink);
        match line {
            Some(line)
                if self.lines[line].budget.take(self.pace, now)
                    && self.core_budget.take(self.core_pace, now) =>
            {
                return false;
            }
            Some(line) => {
                self.last = line;
                self.add(line, folded, sink);
            }
            None => self.add_to_rest(folded, now, sink),
        }
        true
    }

    /// Whether the attempt added last is still remembered.
    #[inline(always)]
    pub(crate) fn has_last(&self) -> bool {
        self.lines.get(self.last).is_some_and(|line| line.in_use)
    }

    /// Source of the attempt added last.
    #[inline(always)]
    pub(crate) fn last_source(&self) -> Option<[u64; 2]> {
        let last = self.lines.get(self.last).filter(|line| line.in_use);
        last.map(|line| line.key.source)
    }

    /// The line that the attempt added last went to.
    #[inline(always)]
    pub(crate) const fn last(&self) -> usize {
        self.last
    }

    /// Whether an attempt with this key goes to this line: the line is its source's and of the same
    /// policy, and the source may still have no record.
    #[inline]
    pub(crate) fn goes_to(&mut self, line: usize, key: &SourceKey, epoch: u64, now: u64) -> bool {
        let pace = self.pace;
        self.lines.get_mut(line).is_some_and(|line| {
            let is_same = line.in_use && line.key == *key && line.aggregate.epoch == epoch;
            is_same && !line.budget.has(pace, now)
        })
    }

    /// Adds attempts to the line that they go to: as many votes as attempts, and each as
    /// [`ScanTable::add`] would add it.
    pub(crate) fn add_run<'k>(
        &mut self,
        line: usize,
        first: &Folded,
        attempts: impl Iterator<Item = Target<'k>>,
    ) {
        let (number, way) = (line / WAYS, line % WAYS);
        let hash = &self.hash;
        let of_destination = |destination: &[u64; 2]| half(hash.hash(destination));
        let of_port = |port: u32| half(hash.hash(&[u64::from(port), 1]));
        let (Some(line), Some(bucket)) = (self.lines.get_mut(line), self.buckets.get_mut(number))
        else {
            return;
        };
        let added = line
            .aggregate
            .add_run(first, attempts, of_destination, of_port);
        let votes = u8::try_from(added).unwrap_or(u8::MAX);
        bucket.votes[way] = bucket.votes[way].saturating_add(votes);
        self.counters.folded_flows += added;
        self.counters.folded_packets += added;
        self.counters.cached += added;
    }

    /// The line to fold a permitted flow into that ended unanswered; `None` where its source may have
    /// a record for it, or has no line.
    ///
    /// # Bounded work
    /// One bucket.
    #[inline]
    pub(crate) fn over_budget(&mut self, key: &SourceKey, epoch: u64, now: u64) -> Option<usize> {
        let (number, tag) = self.place(key);
        let line = match self.find(number, tag, key) {
            Some(line) => line,
            None => {
                let bucket = self.buckets.get(number)?;
                let way = bucket.tags.iter().position(|tag| *tag == NO_TAG)?;
                self.take(number, way, tag, key, epoch, now)
            }
        };
        (!self.lines[line].budget.take(self.pace, now)).then_some(line)
    }

    /// Number of the bucket of a source, and its tag there.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "parts of a hash are wanted"
    )]
    fn place(&self, key: &SourceKey) -> (usize, u16) {
        let hash = self.hash.hash(&key.words());
        let number = (hash >> 32) as usize & self.buckets.len().wrapping_sub(1);
        (number, hash as u16 | 1)
    }

    #[inline(always)]
    fn find(&mut self, number: usize, tag: u16, key: &SourceKey) -> Option<usize> {
        let bucket = self.buckets.get_mut(number)?;
        for way in 0..WAYS {
            let line = number * WAYS + way;
            if bucket.tags[way] == tag && self.lines[line].key == *key {
                bucket.votes[way] = bucket.votes[way].saturating_add(1);
                return Some(line);
            }
        }
        None
    }

    /// The line of a denied source; one is taken for it where there is none.
    fn line(
        &mut self,
        key: &SourceKey,
        epoch: u64,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> Option<usize> {
        let (number, tag) = self.place(key);
        if let Some(line) = self.find(number, tag, key) {
            return Some(line);
        }
        let tags = &self.buckets.get(number)?.tags;
        let way = match tags.iter().position(|tag| *tag == NO_TAG) {
            Some(way) => way,
            None => self.vote(number, now, sink)?,
        };
        Some(self.take(number, way, tag, key, epoch, now))
    }

    #[cold]
    fn take(
        &mut self,
        number: usize,
        way: usize,
        tag: u16,
        key: &SourceKey,
        epoch: u64,
        now: u64,
    ) -> usize {
        let bucket = &mut self.buckets[number];
        (bucket.tags[way], bucket.votes[way]) = (tag, VOTES_NEW);
        let line = number * WAYS + way;
        self.open(line, key, epoch, now);
        line
    }

    /// One vote against one line of a full bucket; its way, free now, where it had none left.
    fn vote(&mut self, number: usize, now: u64, sink: &mut impl RecordSink) -> Option<usize> {
        let bucket = &mut self.buckets[number];
        let way = usize::from(bucket.hand) % WAYS;
        bucket.hand = bucket.hand.wrapping_add(1);
        if let Some(left) = bucket.votes[way].checked_sub(1) {
            bucket.votes[way] = left;
            return None;
        }
        let line = number * WAYS + way;
        if !self.merge_into_rest(line, now) {
            self.tell(line, FlowEndReason::LackOfResources, sink);
        }
        self.free(line);
        Some(way)
    }

    fn open(&mut self, line: usize, key: &SourceKey, epoch: u64, now: u64) {
        let id = u64::from(self.worker) << 56 | AGGREGATE_ID | self.next_id;
        self.next_id += 1;
        let line = &mut self.lines[line];
        line.key = *key;
        line.budget = Budget::full(self.pace, now);
        line.in_use = true;
        line.aggregate.begin(id, epoch, now);
        self.counters.sources += 1;
    }

    /// Frees a line that has nothing left to tell.
    fn free(&mut self, line: usize) {
        debug_assert!(self.lines[line].aggregate.packets() == 0);
        self.lines[line].in_use = false;
        self.counters.sources -= 1;
        if let Some(bucket) = self.buckets.get_mut(line / WAYS) {
            bucket.tags[line % WAYS] = NO_TAG;
        }
    }

    /// Adds a flow to a line. What another policy decided is told first.
    #[inline]
    pub(crate) fn add(&mut self, line: usize, folded: &Folded, sink: &mut impl RecordSink) {
        if self.lines[line].aggregate.epoch != folded.epoch {
            self.tell(line, FlowEndReason::ActiveTimeout, sink);
            self.lines[line].aggregate.epoch = folded.epoch;
        }
        let hash = &self.hash;
        let destination = half(hash.hash(&crate::aggregate::address_words(folded.destination)));
        let of_port = |port: u32| half(hash.hash(&[u64::from(port), 1]));
        let Some(line) = self.lines.get_mut(line) else {
            return;
        };
        line.aggregate.add(folded, destination, of_port);
        let packets = folded.packets[0] + folded.packets[1];
        self.counters.folded_flows += 1;
        self.counters.folded_packets += packets;
        self.counters.cached += packets;
    }

    #[cold]
    fn add_to_rest(&mut self, folded: &Folded, now: u64, sink: &mut impl RecordSink) {
        let rest = self.rest(&folded.key, folded.epoch, now);
        self.rest_sources[rest].add(self.source_hash(&folded.key));
        self.add(self.rest_line(rest), folded, sink);
        self.counters.rest_packets += folded.packets[0] + folded.packets[1];
    }

    /// False where the line has too much to tell, has told some of it, or belongs to another policy
    /// than the rest.
    fn merge_into_rest(&mut self, line: usize, now: u64) -> bool {
        let Aggregate { epoch, is_told, .. } = self.lines[line].aggregate;
        let flows = self.lines[line].aggregate.flows();
        if flows == 0 {
            return true;
        }
        if flows > MERGED_FLOWS_MAX || is_told {
            return false;
        }
        let Line { key, aggregate, .. } = self.lines[line];
        let rest = self.rest(&key, epoch, now);
        let to = self.rest_line(rest);
        if self.lines[to].aggregate.epoch != epoch {
            return false;
        }
        self.rest_sources[rest].add(self.source_hash(&key));
        self.lines[to].aggregate.merge(&aggregate);
        self.counters.rest_packets += aggregate.packets();
        self.lines[line].aggregate.begin(0, 0, now);
        true
    }

    fn source_hash(&self, key: &SourceKey) -> u32 {
        half(self.hash.hash(&key.source))
    }

    const fn rest_line(&self, rest: usize) -> usize {
        self.buckets.len() * WAYS + rest
    }

    /// The rest for a decision: its own, or a free one, or the one for all further decisions.
    fn rest(&mut self, key: &SourceKey, epoch: u64, now: u64) -> usize {
        let first = self.rest_line(0);
        let rests = &self.lines[first..first + RESTS - 1];
        let own = rests
            .iter()
            .position(|line| line.in_use && line.key.class == key.class);
        if let Some(rest) = own {
            return rest;
        }
        let free = rests.iter().position(|line| !line.in_use);
        let rest = free.unwrap_or(RESTS - 1);
        if !self.lines[first + rest].in_use {
            let mut of_all = SourceKey {
                source: [0; 2],
                ..*key
            };
            if free.is_none() {
                (of_all.class.rule_id, of_all.class.pending_rule_id) = (0, 0);
            }
            self.rest_sources[rest].clear();
            self.open(first + rest, &of_all, epoch, now);
        }
        rest
    }

    /// Tells what a line has counted since its previous record, if anything.
    fn tell(&mut self, line: usize, reason: FlowEndReason, sink: &mut impl RecordSink) {
        let rest = line.checked_sub(self.rest_line(0));
        let Line { key, aggregate, .. } = &mut self.lines[line];
        if aggregate.flows() == 0 {
            return;
        }
        self.counters.cached -= aggregate.packets();
        self.counters.records += 1;
        let sources = rest
            .and_then(|rest| self.rest_sources.get(rest))
            .map_or(1, Sketch::count);
        let record = aggregate.tell(key, sources, reason, self.worker);
        sink.record(&record.to_record());
    }

    /// The hand goes over some of the lines: idle ones are told and free, others are told when their
    /// record is due. `due` of `all` is the share of a whole pass.
    ///
    /// # Bounded work
    /// [`LINES_PER_SWEEP`] lines.
    pub(crate) fn sweep(
        &mut self,
        now: u64,
        (due, all): (u32, u32),
        timeouts: &Timeouts,
        sink: &mut impl RecordSink,
    ) {
        let lines = self.lines.len();
        if self.counters.sources == 0 || lines == 0 {
            return;
        }
        let share = (lines as u64 * u64::from(due)).div_ceil(u64::from(all.max(1)));
        for _ in 0..share.clamp(1, LINES_PER_SWEEP) {
            prefetch(&self.lines, self.hand + 2);
            if self.lines[self.hand].in_use {
                self.visit(self.hand, now, timeouts, sink);
            }
            self.hand = (self.hand + 1) % lines;
        }
    }

    fn visit(&mut self, line: usize, now: u64, timeouts: &Timeouts, sink: &mut impl RecordSink) {
        let aggregate = &self.lines[line].aggregate;
        let used_ns = aggregate.last_ns.max(self.lines[line].budget.used_ns());
        if now.saturating_sub(used_ns) >= self.pace.full_after_ns().max(IDLE_MIN_NS) {
            // Its budget is full again: nothing is lost with the line.
            self.tell(line, FlowEndReason::IdleTimeout, sink);
            self.free(line);
            return;
        }
        let after = timeouts.record_after_ns(aggregate.is_told);
        let age_ns = now.saturating_sub(aggregate.first_ns);
        if aggregate.flows() > 0 && after != Timeouts::NEVER && age_ns >= after {
            self.tell(line, FlowEndReason::ActiveTimeout, sink);
        }
    }

    /// Tells and frees every line, looking at no more than `lines_max`. True once all are free.
    pub(crate) fn flush(&mut self, lines_max: u32, sink: &mut impl RecordSink) -> bool {
        for _ in 0..lines_max {
            if self.counters.sources == 0 {
                break;
            }
            if self.lines[self.hand].in_use {
                self.tell(self.hand, FlowEndReason::ForcedEnd, sink);
                self.free(self.hand);
            }
            self.hand = (self.hand + 1) % self.lines.len();
        }
        self.counters.sources == 0
    }

    /// Packets folded and not yet told, counted anew over every line.
    pub(crate) fn recount(&self) -> u64 {
        let live = self.lines.iter().filter(|line| line.in_use);
        live.map(|line| line.aggregate.packets()).sum()
    }
}

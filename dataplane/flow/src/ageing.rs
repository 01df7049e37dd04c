//! Time passing: idle and active timeouts, the paced sweep, the flush at the end.

use crate::cache::FlowCache;
use crate::context::Path;
use crate::entry::{Cold, Hot, packets};
use crate::options::Timeouts;
use crate::prefetch::prefetch;
use crate::record::{Occasion, RecordSink, build};
use abi::record::{FlowEndReason, RecordKind, TcpState};

/// How many entries ahead of the hand the sweep asks for an entry's line.
const SWEEP_AHEAD: usize = 48;
/// How many ahead that line has come, and the sweep asks for the lines that its visit will need.
const FORESIGHT: usize = 16;
/// Fewer entries than these are not worth a look.
const SWEEP_SLOTS_MIN: u64 = 8;
/// Entries after which the sweep asks whether to go on at the same pace.
const STRETCH_SLOTS: u32 = 4096;
/// One new flow to these many entries looked at is worth the brisk pace for a whole pass.
const BRISK_SHARE: u32 = 64;
/// A last packet this far in the future means that the clock was set back since; the sweep then
/// takes the flow's idle time from now on.
const CLOCK_STEP_NS: u64 = 10_000_000_000;
/// A context that no flow has is forgotten after this long: longer than a fragment table
/// keeps the keys it is part of.
const CONTEXT_REST_NS: u64 = 60_000_000_000;
/// Contexts looked at in one call of the sweep at most.
const CONTEXTS_PER_SWEEP: u64 = 256;

/// How fast the hand goes. A look at an entry that lies far away costs as much as half a packet, and
/// where no flow begins, nobody waits for an entry that is over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Entries still to be looked at briskly.
    brisk_slots: u32,
    /// Entries of this stretch.
    looked: u32,
    /// Flows created until this stretch began.
    created: u64,
}

impl Pace {
    /// `due` more of all entries were looked at, and `created` flows have begun so far.
    fn went(&mut self, due: u32, created: u64, flows_max: u32) {
        self.brisk_slots = self.brisk_slots.saturating_sub(due);
        self.looked += due;
        if self.looked < STRETCH_SLOTS.min(flows_max) {
            return;
        }
        if created - self.created > u64::from(self.looked / BRISK_SHARE) {
            self.brisk_slots = flows_max;
        }
        (self.looked, self.created) = (0, created);
    }
}

impl FlowCache {
    /// The hand goes over the entries, as many as the time since the last call asks for: a whole
    /// pass per `sweep_period_ns`, or per `sweep_quiet_period_ns` while hardly any flow begins, at most
    /// `slots_max` in one call and one pass in arrears. Ends idle flows, tells long ones, makes
    /// superseded verdicts undecided. Returns the entries looked at.
    ///
    /// # Bounded work
    /// `slots_max` entries.
    pub fn sweep(&mut self, now: u64, slots_max: u32, sink: &mut impl RecordSink) -> u32 {
        let due = self.sweep_due(now, slots_max);
        if due == 0 {
            return 0;
        }
        let is_counting = self.census.is_on();
        for _ in 0..due {
            let slot = self.hand as usize;
            prefetch(&self.hot, slot + SWEEP_AHEAD);
            self.foresee_visit(slot + FORESIGHT, now);
            if !self.hot[slot].is_free() {
                if is_counting {
                    self.count_out(slot);
                }
                self.visit(slot, now, sink);
            }
            self.hand += 1;
            if self.hand == self.options.flows_max {
                self.hand = 0;
            }
        }
        let (created, all) = (self.counters.flows_created, self.options.flows_max);
        self.pace.went(due, created, all);
        self.census.went(due, all);
        self.contexts
            .recycle(now, CONTEXT_REST_NS, self.contexts_due(due));
        let share = (due, self.options.flows_max);
        self.scans.sweep(now, share, &self.options.timeouts, sink);
        self.counters.slots_swept += u64::from(due);
        due
    }

    /// Marks a flow of the source of a scan.
    #[inline(always)]
    fn count_out(&mut self, slot: usize) {
        let key = self.hot[slot].key.key();
        if self.census.counts(&key) {
            self.census.meet(self.hash.of(&key));
        }
    }

    /// The same share of the contexts as `due` is of the entries.
    fn contexts_due(&self, due: u32) -> u32 {
        let all = u64::from(self.options.contexts_max) * u64::from(due);
        let share = all / u64::from(self.options.flows_max);
        u32::try_from(share.clamp(1, CONTEXTS_PER_SWEEP)).unwrap_or(1)
    }

    /// Entries due, and the clock of the sweep moved by just as many. Nothing is due before some
    /// entries are, so that most calls are one multiplication.
    #[inline]
    fn sweep_due(&mut self, now: u64, slots_max: u32) -> u32 {
        let period = match self.pace.brisk_slots {
            0 => self.options.sweep_quiet_period_ns,
            _ => self.options.sweep_period_ns,
        };
        let capacity = u64::from(self.options.flows_max);
        let Some(since) = self.swept_ns.filter(|since| *since <= now) else {
            // The first call, or the clock stepped backwards.
            self.swept_ns = Some(now);
            return 0;
        };
        let since = since.max(now.saturating_sub(period));
        // At most a period and FLOWS_MAX_LIMIT: 37 and 27 bits.
        let share = (now - since) * capacity;
        if share < period * SWEEP_SLOTS_MIN.min(capacity) {
            return 0;
        }
        let due = (share / period).min(slots_max.into());
        // Rounded up, so that no entry is due twice for the same time.
        let used = (due * period).div_ceil(capacity).min(now - since);
        self.swept_ns = Some(since + used);
        u32::try_from(due).unwrap_or(slots_max)
    }

    /// Asks for the lines that a visit of an entry will need beside its own: of a flow with packets to
    /// tell the first cold one, of a flow that is over also the second and its place in the index.
    #[inline(always)]
    fn foresee_visit(&self, slot: usize, now: u64) {
        let Some(hot) = self.hot.get(slot) else {
            return;
        };
        if hot.is_free() {
            return;
        }
        prefetch(&self.cold, slot);
        if now.saturating_sub(hot.last_ns) >= self.idle_min_ns
            && self.idle_reason(hot, now).is_some()
        {
            self.prefetch_end(slot);
        }
    }

    /// Looks at one entry that holds a flow. Reads the first cold line only, and only of flows that
    /// have had packets since their last record.
    #[inline]
    fn visit(&mut self, slot: usize, now: u64, sink: &mut impl RecordSink) {
        let hot = &mut self.hot[slot];
        if now.saturating_sub(hot.last_ns) >= self.idle_min_ns {
            let hot = *hot;
            if let Some(reason) = self.idle_reason(&hot, now) {
                self.end(slot, reason, now, sink);
                return;
            }
        } else if hot.last_ns.saturating_sub(now) > CLOCK_STEP_NS
            && self.idle_min_ns != Timeouts::NEVER
        {
            hot.last_ns = now;
        }
        let timeouts = &self.options.timeouts;
        let soonest_ns = timeouts.record_after_ns(false);
        if self.hot[slot].packets != [0; 2] && soonest_ns != Timeouts::NEVER {
            let cold = &self.cold[slot];
            let age_ns = now.saturating_sub(cold.first_ns);
            if age_ns >= soonest_ns && age_ns >= timeouts.record_after_ns(cold.has(Cold::RECORDED))
            {
                self.tell(slot, RecordKind::Update, FlowEndReason::ActiveTimeout, sink);
                self.counters.records_update += 1;
            }
        }
        self.expire_verdict(slot);
    }

    /// Why the flow is over by now, if its idle timeout has passed.
    #[inline]
    pub(crate) const fn idle_reason(&self, hot: &Hot, now: u64) -> Option<FlowEndReason> {
        let timeout = self.idle_timeout_ns(hot);
        if timeout == Timeouts::NEVER || now.saturating_sub(hot.last_ns) < timeout {
            return None;
        }
        match hot.tcp_state() {
            TcpState::Closed | TcpState::Reset => Some(FlowEndReason::EndOfFlow),
            _ => Some(FlowEndReason::IdleTimeout),
        }
    }

    /// Writes a record and starts the next one's counters at 0.
    pub(crate) fn tell(
        &mut self,
        slot: usize,
        kind: RecordKind,
        reason: FlowEndReason,
        sink: &mut impl RecordSink,
    ) {
        let (hot, cold) = (&mut self.hot[slot], &mut self.cold[slot]);
        let kept = (cold.path != 0).then(|| self.paths.get(cold.path));
        let path = kept.flatten().map(Path::from_words);
        let occasion = Occasion {
            kind,
            reason,
            worker: self.options.worker,
        };
        sink.record(&build(hot, cold, path.as_ref(), occasion));
        self.counters.packets_cached -= packets(hot, cold, 0) + packets(hot, cold, 1);
        hot.packets = [0; 2];
        hot.bytes = [0; 2];
        cold.packets_carry = [0; 2];
        cold.bytes_carry = [0; 2];
        cold.retransmits = [0; 2];
        cold.dropped_packets = 0;
        cold.dropped_bytes = 0;
        // An end without a further packet tells the time of the last one.
        cold.first_ns = hot.last_ns;
        cold.bits |= Cold::RECORDED;
    }

    /// Ends flows one by one, whatever their state (reason forced-end), then aggregates, looking at no
    /// more than `slots_max` entries. True once the cache is empty: call again until then.
    pub fn flush(&mut self, now: u64, slots_max: u32, sink: &mut impl RecordSink) -> bool {
        for _ in 0..slots_max {
            if self.counters.flows == 0 {
                // Last, because flows that end unanswered are folded.
                return self.scans.flush(slots_max, sink);
            }
            let slot = self.hand as usize;
            if !self.hot[slot].is_free() {
                let reason = match self.hot[slot].tcp_state() {
                    TcpState::Closed | TcpState::Reset => FlowEndReason::EndOfFlow,
                    _ => FlowEndReason::ForcedEnd,
                };
                self.end(slot, reason, now, sink);
            }
            self.hand = (self.hand + 1) % self.options.flows_max;
        }
        false
    }
}

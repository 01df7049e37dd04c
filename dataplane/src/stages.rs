//! How many cycles each stage of the loop takes, in one round of so many.
//!
//! A round decides once, at its beginning, whether it is measured; the loop is compiled for both
//! answers, so that one that is not measured reads no counter and asks no more. In a measured round
//! every cycle from its beginning to its end belongs to exactly one [`Stage`].

use abi::counters::STAGES_MAX;
use abi::{CoreCounters, Stage};

/// The stop watch of one core.
#[derive(Clone, Debug)]
pub struct StageWatch {
    cycles: fn() -> u64,
    /// 0: no round is measured.
    every_rounds: u32,
    /// Rounds until the next that is measured, that one included.
    rounds_left: u64,
    is_running: bool,
    /// When the stage at hand began.
    began: u64,
    /// Cycles of the stage at hand that have been given to another.
    given: u64,
    lap_cycles: [u64; STAGES_MAX],
    lap_packets: [u64; STAGES_MAX],
}

impl StageWatch {
    /// Measures one round in `every_rounds` by a counter of cycles; none where that is 0.
    #[must_use]
    pub fn new(cycles: fn() -> u64, every_rounds: u32) -> Self {
        Self {
            cycles,
            every_rounds,
            rounds_left: Self::rounds(every_rounds),
            is_running: false,
            began: 0,
            given: 0,
            lap_cycles: [0; STAGES_MAX],
            lap_packets: [0; STAGES_MAX],
        }
    }

    /// Measures nothing.
    #[must_use]
    pub fn off() -> Self {
        Self::new(|| 0, 0)
    }

    /// Longer than any process lives where no round is measured.
    const fn rounds(every: u32) -> u64 {
        if every == 0 { u64::MAX } else { every as u64 }
    }

    /// Whether the round that begins is measured. Asked once a round.
    #[inline]
    pub(crate) fn begin_round(&mut self) -> bool {
        self.rounds_left -= 1;
        self.rounds_left == 0 && self.start()
    }

    #[cold]
    fn start(&mut self) -> bool {
        self.rounds_left = Self::rounds(self.every_rounds);
        self.lap_cycles = [0; STAGES_MAX];
        self.lap_packets = [0; STAGES_MAX];
        self.is_running = true;
        self.given = 0;
        self.began = (self.cycles)();
        true
    }

    /// Whether this round is measured: for what happens to few packets. The loop itself knows.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// All cycles since the last lap were this stage's, but for those given to another.
    pub(crate) fn lap(&mut self, stage: Stage, packets: usize) {
        let now = (self.cycles)();
        self.add(
            stage,
            now.wrapping_sub(self.began) - self.given,
            packets as u64,
        );
        self.given = 0;
        self.began = now;
    }

    /// The counter now, to give what follows to a stage within the one at hand.
    pub(crate) fn now(&self) -> u64 {
        (self.cycles)()
    }

    /// The cycles since `from` were another stage's, for one packet.
    pub(crate) fn give(&mut self, stage: Stage, from: u64) {
        let cycles = (self.cycles)().wrapping_sub(from);
        self.given += cycles;
        self.add(stage, cycles, 1);
    }

    fn add(&mut self, stage: Stage, cycles: u64, packets: u64) {
        self.lap_cycles[stage.index()] += cycles;
        self.lap_packets[stage.index()] += packets;
    }

    /// Ends the round with the export. An empty one is forgotten: what polling nothing costs is no
    /// packet's.
    pub(crate) fn end_round(&mut self, counters: &mut CoreCounters) {
        let received = self.lap_packets[Stage::Receive.index()];
        self.lap(Stage::Export, 0);
        self.is_running = false;
        if received == 0 {
            return;
        }
        // These two are for all packets of the round together.
        self.lap_packets[Stage::Sweep.index()] = received;
        self.lap_packets[Stage::Export.index()] = received;
        counters.stage_rounds += 1;
        for (sum, lap) in counters.stage_cycles.iter_mut().zip(&self.lap_cycles) {
            *sum += lap;
        }
        for (sum, lap) in counters.stage_packets.iter_mut().zip(&self.lap_packets) {
            *sum += lap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static CYCLES: Cell<u64> = const { Cell::new(0) };
    }

    fn cycles() -> u64 {
        CYCLES.get()
    }

    fn pass(cycles: u64) {
        CYCLES.set(CYCLES.get() + cycles);
    }

    #[test]
    fn one_round_in_so_many_is_measured() {
        let mut watch = StageWatch::new(cycles, 3);
        let mut counters = CoreCounters::new();
        let measured: Vec<bool> = (0..7)
            .map(|_| {
                let is_measured = watch.begin_round();
                if is_measured {
                    watch.lap(Stage::Receive, 1);
                    watch.end_round(&mut counters);
                }
                is_measured
            })
            .collect();
        assert_eq!(measured, [false, false, true, false, false, true, false]);
        assert_eq!(counters.stage_rounds, 2);
        let mut off = StageWatch::off();
        assert!((0..100_000).all(|_| !off.begin_round()));
    }

    #[test]
    fn every_cycle_belongs_to_one_stage() {
        let mut watch = StageWatch::new(cycles, 1);
        let mut counters = CoreCounters::new();
        assert!(watch.begin_round());
        pass(5);
        watch.lap(Stage::Receive, 2);
        pass(10);
        let from = watch.now();
        pass(100);
        watch.give(Stage::Classify, from);
        pass(20);
        watch.lap(Stage::Decide, 2);
        pass(3);
        watch.lap(Stage::Sweep, 0);
        pass(4);
        watch.end_round(&mut counters);
        let of = |stage: Stage| {
            let index = stage.index();
            (counters.stage_cycles[index], counters.stage_packets[index])
        };
        assert_eq!(of(Stage::Receive), (5, 2));
        assert_eq!(of(Stage::Classify), (100, 1));
        assert_eq!(of(Stage::Decide), (30, 2));
        assert_eq!(of(Stage::Sweep), (3, 2));
        assert_eq!(of(Stage::Export), (4, 2));
        assert_eq!(counters.stage_cycles.iter().sum::<u64>(), 142);
        assert!(!watch.is_running());
    }

    #[test]
    fn a_round_without_a_packet_is_not_counted() {
        let mut watch = StageWatch::new(cycles, 1);
        let mut counters = CoreCounters::new();
        assert!(watch.begin_round());
        pass(50);
        watch.lap(Stage::Receive, 0);
        watch.end_round(&mut counters);
        assert_eq!(counters, CoreCounters::new());
    }
}

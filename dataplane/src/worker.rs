//! The main loop of one core.

use crate::answer::{Answer, To};
use crate::clock::Clock;
use crate::core::{AnswerTo, Core, Ingress};
use crate::idle::Backoff;
use crate::port::{BURST_MAX, Burst, Frame, Port};
use crate::steered_lane::SteeredLane;
use abi::{Reason, Stage};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a core that waits for its first policy sleeps between two looks.
const POLICY_WAIT: Duration = Duration::from_millis(1);

/// A bump in the wire: what enters one port leaves the other.
#[derive(Debug)]
pub struct InlineLane<P> {
    inside: P,
    inside_index: u16,
    outside: P,
    outside_index: u16,
}

/// A receive-only port.
#[derive(Debug)]
pub struct MirrorLane<P> {
    port: P,
    index: u16,
    finished: bool,
}

/// One lane with its queues.
pub enum LaneOf<P: Port> {
    /// A port pair.
    Inline(InlineLane<P>),
    /// A mirror port.
    Mirror(MirrorLane<P>),
    /// Either, with other workers.
    Steered(Box<SteeredLane<P>>),
}

impl<P> InlineLane<P> {
    /// A lane of two ports with their indexes in the stats segment.
    #[must_use]
    pub const fn new(inside: P, inside_index: u16, outside: P, outside_index: u16) -> Self {
        Self {
            inside,
            inside_index,
            outside,
            outside_index,
        }
    }

    /// Indexes of the inside and the outside port.
    pub(crate) const fn indexes(&self) -> [u16; 2] {
        [self.inside_index, self.outside_index]
    }

    /// The inside and the outside port.
    pub(crate) const fn ports(&mut self) -> (&mut P, &mut P) {
        (&mut self.inside, &mut self.outside)
    }
}

impl<P> MirrorLane<P> {
    /// A mirror port with its index in the stats segment.
    #[must_use]
    pub const fn new(port: P, index: u16) -> Self {
        Self {
            port,
            index,
            finished: false,
        }
    }

    /// Index of the port.
    pub(crate) const fn index(&self) -> u16 {
        self.index
    }

    /// Whether a finite source has come to its end.
    pub(crate) const fn is_finished(&self) -> bool {
        self.finished
    }
}

/// One polling core: its lanes, and everything a burst needs.
pub struct Worker<P: Port> {
    core: Core,
    lanes: Vec<LaneOf<P>>,
    clock: Clock,
    backoff: Backoff,
    bench: Bench<P::Burst>,
}

/// What a burst is worked on with; the same for every lane.
#[derive(Debug)]
pub(crate) struct Bench<B> {
    pub(crate) received: B,
    answers: B,
    answer: Answer,
    pub(crate) tx_attempts_max: u32,
}

impl<P: Port> Worker<P> {
    /// A worker that polls `lanes`.
    #[must_use]
    pub fn new(
        core: Core,
        lanes: Vec<LaneOf<P>>,
        clock: Clock,
        backoff: Backoff,
        tx_attempts_max: u32,
    ) -> Self {
        let bench = Bench {
            received: P::Burst::default(),
            answers: P::Burst::default(),
            answer: Answer::default(),
            tx_attempts_max,
        };
        Self {
            core,
            lanes,
            clock,
            backoff,
            bench,
        }
    }

    /// Polls until `stop`, or until every source has come to its end. Then every flow is told.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && !self.is_finished() {
            self.round();
        }
        self.drain();
        self.core.finish(self.clock.read());
    }

    /// Ends what is shared with other workers: nothing is dealt any more, and what they dealt is
    /// judged or sent. Every worker comes here within a round of the others.
    fn drain(&mut self) {
        for lane in &mut self.lanes {
            if let LaneOf::Steered(lane) = lane {
                lane.close();
            }
        }
        let mut is_drained = false;
        while !is_drained {
            let now = self.clock.read();
            is_drained = true;
            for lane in &mut self.lanes {
                if let LaneOf::Steered(lane) = lane {
                    is_drained &= lane.drain(&mut self.core, &mut self.bench, now);
                }
            }
        }
    }

    /// Waits, without polling a port, until a policy has been adopted.
    #[expect(
        clippy::disallowed_methods,
        reason = "no port is polled yet; only an offline run waits"
    )]
    pub fn wait_for_policy(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && !self.core.adopt(self.clock.read()) {
            std::thread::sleep(POLICY_WAIT);
        }
    }

    /// One round of the loop. Each call below does a bounded amount of work.
    #[inline]
    pub fn round(&mut self) {
        if self.core.stages.begin_round() {
            self.round_in::<true>();
        } else {
            self.round_in::<false>();
        }
    }

    #[inline(always)]
    fn round_in<const MEASURED: bool>(&mut self) {
        let now = self.clock.read(); // the only clock read of this round
        self.core.adopt(now); // no packet in hand: safe to change policy
        let mut received = false;
        for lane in &mut self.lanes {
            received |= match lane {
                LaneOf::Inline(lane) => lane.poll::<MEASURED>(&mut self.core, &mut self.bench, now),
                LaneOf::Mirror(lane) => lane.poll::<MEASURED>(&mut self.core, &mut self.bench, now),
                LaneOf::Steered(lane) => {
                    lane.poll::<MEASURED>(&mut self.core, &mut self.bench, now)
                }
            };
        }
        self.core.sweep(now);
        self.core.lap::<MEASURED>(Stage::Sweep, 0);
        let waited = self.backoff.round(received);
        self.core.end_round(now, received, waited);
    }

    /// What the core keeps: for tests and benches.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// As [`Worker::core`], to set it up before it polls.
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Commits the core's counters now, ahead of the interval.
    pub fn commit(&mut self, now: u64) {
        self.core.commit(now);
    }

    /// As [`Worker::core`], to move the clock of a test.
    pub fn clock_mut(&mut self) -> &mut Clock {
        &mut self.clock
    }

    fn is_finished(&self) -> bool {
        self.lanes.iter().all(|lane| match lane {
            LaneOf::Inline(_) => false,
            LaneOf::Mirror(lane) => lane.finished,
            LaneOf::Steered(lane) => lane.is_finished(),
        })
    }
}

impl<P: Port> InlineLane<P> {
    /// How packets come in: from inside, and from outside.
    #[inline(always)]
    pub(crate) fn ingresses(&self) -> [Ingress; 2] {
        let outward = Ingress::inline(
            self.inside_index,
            self.outside_index,
            self.outside.frame_bytes_max(),
        );
        let inward = Ingress::inline(
            self.outside_index,
            self.inside_index,
            self.inside.frame_bytes_max(),
        );
        [outward, inward]
    }

    fn poll<const MEASURED: bool>(
        &mut self,
        core: &mut Core,
        bench: &mut Bench<P::Burst>,
        now: u64,
    ) -> bool {
        let [outward, inward] = self.ingresses();
        let (inside, outside) = self.ports();
        let out = pass::<P, MEASURED>(inside, outside, outward, core, bench, now);
        let back = pass::<P, MEASURED>(outside, inside, inward, core, bench, now);
        out | back
    }
}

impl<P: Port> MirrorLane<P> {
    /// Receives a burst; how many frames came.
    #[inline(always)]
    pub(crate) fn receive(&mut self, burst: &mut P::Burst) -> usize {
        self.port.rx_burst(burst);
        let received = burst.frames().len();
        if received == 0 {
            self.finished = self.port.is_finished();
        }
        received
    }

    /// Asks the source whether it has come to its end.
    pub(crate) fn is_source_finished(&mut self) -> bool {
        self.port.is_finished()
    }

    pub(crate) fn poll<const MEASURED: bool>(
        &mut self,
        core: &mut Core,
        bench: &mut Bench<P::Burst>,
        now: u64,
    ) -> bool {
        if self.finished {
            return false;
        }
        let received = self.receive(&mut bench.received);
        core.lap::<MEASURED>(Stage::Receive, received);
        if received == 0 {
            return false;
        }
        let ingress = Ingress::mirror(self.index);
        core.process_in::<_, MEASURED>(bench.received.frames(), ingress, now);
        bench.received.clear();
        core.lap::<MEASURED>(Stage::Transmit, 0);
        true
    }
}

/// Takes one burst from `from` to `to`: received = sent + dropped by reason, always.
#[inline]
pub(crate) fn pass<P: Port, const MEASURED: bool>(
    from: &mut P,
    to: &mut P,
    ingress: Ingress,
    core: &mut Core,
    bench: &mut Bench<P::Burst>,
    now: u64,
) -> bool {
    from.rx_burst(&mut bench.received);
    core.lap::<MEASURED>(Stage::Receive, bench.received.frames().len());
    if bench.received.frames().is_empty() {
        return false;
    }
    carry::<P, MEASURED>(from, to, ingress, core, bench, now);
    true
}

/// Judges the burst that was received and sends what goes on.
#[inline(always)]
pub(crate) fn carry<P: Port, const MEASURED: bool>(
    from: &mut P,
    to: &mut P,
    ingress: Ingress,
    core: &mut Core,
    bench: &mut Bench<P::Burst>,
    now: u64,
) {
    core.process_in::<_, MEASURED>(bench.received.frames(), ingress, now);
    if core.has_answers() {
        send_answers(from, to, core, bench, now);
    }
    if core.has_drops() {
        bench.received.retain(|index| core.forwards(index));
    }
    let going = bench.received.frames().len();
    send(to, core, bench);
    core.lap::<MEASURED>(Stage::Transmit, going);
}

/// Sends what is left of the burst; what the queue does not take after some attempts is dropped.
#[inline]
fn send<P: Port>(to: &mut P, core: &mut Core, bench: &mut Bench<P::Burst>) {
    let burst = &mut bench.received;
    let offered = burst.frames().len();
    if offered == 0 {
        return;
    }
    for _ in 0..bench.tx_attempts_max {
        to.tx_burst(burst);
        if burst.frames().is_empty() {
            break;
        }
    }
    let bytes = core.forwarded_bytes();
    let left = burst.frames().len();
    let left_bytes: u64 = burst
        .frames()
        .iter()
        .map(|frame| u64::from(frame.wire_bytes()))
        .sum();
    let counters = core.counters_mut();
    counters.tx_packets += (offered - left) as u64;
    counters.tx_bytes += bytes - left_bytes;
    if left > 0 {
        counters.drops[Reason::TransmitFull.index()] += left as u64;
        burst.clear();
    }
}

/// Makes and sends the answers that this burst's rejected packets get, rate limited.
#[cold]
fn send_answers<P: Port>(
    from: &mut P,
    to: &mut P,
    core: &mut Core,
    bench: &mut Bench<P::Burst>,
    now: u64,
) {
    for slot in 0..BURST_MAX {
        let Some(AnswerTo { packet, both_ends }) = core.answer(slot) else {
            break;
        };
        let Some(frame) = bench.received.frames().get(packet) else {
            break;
        };
        let directions: &[To] = if both_ends {
            &[To::Sender, To::Receiver]
        } else {
            &[To::Sender]
        };
        for &direction in directions {
            let Some(headers) = core.headers(packet) else {
                break;
            };
            let bytes = match (direction, headers.transport) {
                (_, packet::Transport::Tcp(tcp)) => {
                    bench.answer.reset(frame.bytes(), headers, tcp, direction)
                }
                (To::Sender, _) => bench.answer.reject(frame.bytes(), headers),
                (To::Receiver, _) => None,
            };
            let Some(bytes) = bytes else { continue };
            if !core.may_answer(now) {
                continue;
            }
            let port = if direction == To::Sender {
                &mut *from
            } else {
                &mut *to
            };
            let sent = port
                .build(bytes)
                .is_some_and(|answer| send_one(port, &mut bench.answers, answer));
            let counters = core.counters_mut();
            if sent {
                counters.generated_packets += 1;
            } else {
                counters.answers_suppressed += 1;
            }
        }
    }
}

fn send_one<P: Port>(
    port: &mut P,
    burst: &mut P::Burst,
    frame: <P::Burst as Burst>::Frame,
) -> bool {
    if burst.push(frame).is_err() {
        return false;
    }
    port.tx_burst(burst);
    let sent = burst.frames().is_empty();
    burst.clear();
    sent
}

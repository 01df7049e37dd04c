//! A lane of several workers: the first receives, and every one judges the flows it owns.
//!
//! ```text
//! receiver: rx ─► owner of each frame (steer.rs) ─► own share: as any lane
//!                                                └► ring ─► owner: as any lane, but from the ring
//! ```
//!
//! Where the device has a transmit queue for each worker, an owner sends by its own; else its judged
//! frames come back by a ring and the receiver sends them. Either way frames of one flow take one path
//! and stay in order. A lane of one worker is none of this.

use crate::core::{Core, Ingress};
use crate::exception::Condition;
use crate::handover::{
    FrameMaker, HandedPort, HandoverReceiver, HandoverSender, TransmitQueue, WayOut, ring,
};
use crate::port::{BURST_MAX, Burst, Frame, Port};
use crate::steer::Steering;
use crate::worker::{Bench, InlineLane, MirrorLane, carry, pass};
use abi::{CoreCounters, Reason, Stage};

/// Frames ahead of the one being dealt whose bytes are asked for.
const PREFETCH_AHEAD: usize = 4;

/// What an owner has of a port that another worker receives from.
pub struct OwnerPort<B: Burst> {
    /// Its own transmit queue; without one the receiver sends for it.
    pub queue: Option<Box<dyn TransmitQueue<B>>>,
    /// Makes its answers.
    pub maker: Box<dyn FrameMaker<B::Frame>>,
    /// Longest frame the port can send.
    pub frame_bytes_max: u32,
}

/// A lane of several workers, as one of them has it.
pub struct SteeredLane<P: Port>(Part<P>);

#[expect(
    clippy::large_enum_variant,
    reason = "one a lane and worker, in a box of its own"
)]
enum Part<P: Port> {
    Receiving(Receiving<P>),
    Owning(Owning<P::Burst>),
}

type FrameOf<P> = <<P as Port>::Burst as Burst>::Frame;
type Senders<P> = Vec<HandoverSender<FrameOf<P>>>;
type Receivers<P> = Vec<HandoverReceiver<FrameOf<P>>>;

struct Receiving<P: Port> {
    lane: Lane<P>,
    steering: Steering,
    /// To the owners, in order: what came from inside (or the mirror port), and from outside.
    hands: [Senders<P>; 2],
    /// From owners without a transmit queue: what goes inside, and outside.
    back: [Receivers<P>; 2],
    spare: P::Burst,
}

struct Owning<B: Burst>(Lane<HandedPort<B>>);

enum Lane<P> {
    Inline(InlineLane<P>),
    Mirror(MirrorLane<P>),
}

/// Spreads a port pair over its receiver and `owners`, each with its end of the inside and of the
/// outside port; the lane as the receiver has it, then as each owner.
#[must_use]
pub fn spread_inline<P: Port>(
    lane: InlineLane<P>,
    owners: Vec<[OwnerPort<P::Burst>; 2]>,
    steering: Steering,
    ring_packets: usize,
) -> (SteeredLane<P>, Vec<SteeredLane<P>>) {
    let (mut hands, mut back) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let indexes = lane.indexes();
    let owning = owners.into_iter().map(|ports| {
        let mut side = 0;
        let [inside, outside] = ports.map(|port| {
            let (hand, from) = ring(ring_packets);
            hands[side].push(hand);
            let out = port.queue.map_or_else(
                || {
                    let (sender, receiver) = ring(ring_packets);
                    back[side].push(receiver);
                    WayOut::Return(sender)
                },
                WayOut::Queue,
            );
            side += 1;
            HandedPort::new(from, out, Some(port.maker), port.frame_bytes_max)
        });
        let lane = InlineLane::new(inside, indexes[0], outside, indexes[1]);
        SteeredLane(Part::Owning(Owning(Lane::Inline(lane))))
    });
    let owning = owning.collect();
    let receiving = Receiving {
        lane: Lane::Inline(lane),
        steering,
        hands,
        back,
        spare: P::Burst::default(),
    };
    (SteeredLane(Part::Receiving(receiving)), owning)
}

/// As [`spread_inline`], for a mirror port: nothing is sent.
#[must_use]
pub fn spread_mirror<P: Port>(
    lane: MirrorLane<P>,
    owners: usize,
    steering: Steering,
    ring_packets: usize,
) -> (SteeredLane<P>, Vec<SteeredLane<P>>) {
    let index = lane.index();
    let (mut hands, mut owning) = (Vec::new(), Vec::new());
    for _ in 0..owners {
        let (hand, from) = ring(ring_packets);
        hands.push(hand);
        let port = HandedPort::new(from, WayOut::Nowhere, None, u32::MAX);
        let lane = Lane::Mirror(MirrorLane::new(port, index));
        owning.push(SteeredLane(Part::Owning(Owning(lane))));
    }
    let receiving = Receiving {
        lane: Lane::Mirror(lane),
        steering,
        hands: [hands, Vec::new()],
        back: [Vec::new(), Vec::new()],
        spare: P::Burst::default(),
    };
    (SteeredLane(Part::Receiving(receiving)), owning)
}

impl<P: Port> SteeredLane<P> {
    /// One burst of each source; whether anything came.
    pub(crate) fn poll<const MEASURED: bool>(
        &mut self,
        core: &mut Core,
        bench: &mut Bench<P::Burst>,
        now: u64,
    ) -> bool {
        match &mut self.0 {
            Part::Receiving(lane) => lane.poll::<MEASURED>(core, bench, now),
            Part::Owning(lane) => lane.poll::<MEASURED>(core, bench, now),
        }
    }

    /// Whether a finite source has come to its end and all of it has been dealt and judged.
    pub(crate) fn is_finished(&self) -> bool {
        match &self.0 {
            Part::Receiving(Receiving { lane, .. }) => lane.is_finished(),
            Part::Owning(Owning(lane)) => lane.is_finished(),
        }
    }

    /// Polling has stopped: nothing is dealt any more.
    pub(crate) fn close(&mut self) {
        if let Part::Receiving(lane) = &mut self.0 {
            lane.close();
        }
    }

    /// After [`SteeredLane::close`]: works on what is still in rings to this worker. Whether the
    /// other workers are done and nothing is left.
    pub(crate) fn drain(&mut self, core: &mut Core, bench: &mut Bench<P::Burst>, now: u64) -> bool {
        match &mut self.0 {
            Part::Receiving(lane) => {
                lane.send_returned::<false>(core, bench.tx_attempts_max);
                lane.back
                    .iter()
                    .flatten()
                    .all(HandoverReceiver::is_finished)
            }
            Part::Owning(lane) => {
                lane.poll::<false>(core, bench, now);
                lane.close_when_finished()
            }
        }
    }
}

impl<P: Port> Lane<P> {
    fn is_finished(&self) -> bool {
        matches!(self, Self::Mirror(lane) if lane.is_finished())
    }
}

impl<P: Port> Receiving<P> {
    fn poll<const MEASURED: bool>(
        &mut self,
        core: &mut Core,
        bench: &mut Bench<P::Burst>,
        now: u64,
    ) -> bool {
        let Self {
            lane,
            steering,
            hands: [from_inside, from_outside],
            spare,
            ..
        } = self;
        match lane {
            Lane::Inline(lane) => {
                let [outward, inward] = lane.ingresses();
                let (inside, outside) = lane.ports();
                let mut deal = |from: &mut P, to: &mut P, ingress, hands: &mut Senders<P>| {
                    from.rx_burst(&mut bench.received);
                    let received = bench.received.frames().len();
                    core.lap::<MEASURED>(Stage::Receive, received);
                    if received == 0 {
                        return false;
                    }
                    let attempts = bench.tx_attempts_max;
                    spread(&mut bench.received, steering, hands, core);
                    overflow(hands, Some((to, spare, attempts)), ingress, core);
                    core.lap::<MEASURED>(Stage::Steer, received);
                    if !bench.received.frames().is_empty() {
                        carry::<P, MEASURED>(from, to, ingress, core, bench, now);
                    }
                    true
                };
                let out = deal(inside, outside, outward, from_inside);
                let back = deal(outside, inside, inward, from_outside);
                let returned = self.send_returned::<MEASURED>(core, bench.tx_attempts_max);
                out | back | returned
            }
            Lane::Mirror(lane) => {
                let received = lane.receive(&mut bench.received);
                core.lap::<MEASURED>(Stage::Receive, received);
                if received > 0 {
                    let ingress = Ingress::mirror(lane.index());
                    spread(&mut bench.received, steering, from_inside, core);
                    overflow::<P>(from_inside, None, ingress, core);
                    core.lap::<MEASURED>(Stage::Steer, received);
                    core.process_in::<_, MEASURED>(bench.received.frames(), ingress, now);
                    bench.received.clear();
                    core.lap::<MEASURED>(Stage::Transmit, 0);
                } else if lane.is_finished() {
                    self.close();
                }
                received > 0
            }
        }
    }

    fn close(&mut self) {
        self.hands = [Vec::new(), Vec::new()];
    }

    /// Sends what owners without a transmit queue have judged.
    fn send_returned<const MEASURED: bool>(&mut self, core: &mut Core, attempts: u32) -> bool {
        let Lane::Inline(lane) = &mut self.lane else {
            return false;
        };
        let (inside, outside) = lane.ports();
        let mut any = false;
        for (rings, to) in self.back.iter_mut().zip([inside, outside]) {
            for ring in rings {
                ring.take(&mut self.spare);
                let taken = self.spare.frames().len();
                if taken > 0 {
                    core.counters_mut().returned_in_packets += taken as u64;
                    core.lap::<MEASURED>(Stage::Steer, 0);
                    send_all(&mut self.spare, to, attempts, core.counters_mut());
                    core.lap::<MEASURED>(Stage::Transmit, taken);
                    any = true;
                }
            }
        }
        any
    }
}

/// Leaves the receiver's own frames in the burst and moves the others into the rings of their
/// owners; what a ring does not take stays with its sender for [`overflow`].
#[inline]
fn spread<B: Burst>(
    burst: &mut B,
    steering: &mut Steering,
    hands: &mut [HandoverSender<B::Frame>],
    core: &mut Core,
) {
    let mut owners = [0; BURST_MAX];
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    let frames = burst.frames();
    for frame in frames.iter().take(PREFETCH_AHEAD) {
        frame.prefetch();
    }
    for ((index, frame), owner) in frames.iter().enumerate().zip(&mut owners) {
        if let Some(ahead) = frames.get(index + PREFETCH_AHEAD) {
            ahead.prefetch();
        }
        *owner = steering.owner(frame);
        let is_foreign = *owner > 0;
        packets += u64::from(is_foreign);
        bytes += u64::from(frame.wire_bytes()) * u64::from(is_foreign);
    }
    if packets == 0 {
        return;
    }
    let mut owner = owners.iter();
    burst.deal(|frame| {
        let place = owner.next().and_then(|owner| owner.checked_sub(1));
        match place.and_then(|place| hands.get_mut(place)) {
            Some(hand) => hand.stage(frame),
            None => Some(frame),
        }
    });
    let is_forced = core.exceptions.is_forced(Condition::ResteerRingFull);
    let counters = core.counters_mut();
    counters.rx_packets += packets;
    counters.rx_bytes += bytes;
    if !is_forced {
        for hand in hands {
            counters.steered_out_packets += hand.flush() as u64;
        }
    }
}

/// What found its ring full follows the exception policy: dropped, or sent unjudged.
#[inline]
fn overflow<P: Port>(
    hands: &mut Senders<P>,
    mut to: Option<(&mut P, &mut P::Burst, u32)>,
    ingress: Ingress,
    core: &mut Core,
) {
    for hand in hands {
        let left = hand.left_over();
        if left.is_empty() {
            continue;
        }
        let packets = left.len() as u64;
        let drops = core.exceptions.drops(Condition::ResteerRingFull);
        let counters = core.counters_mut();
        counters.resteer_ring_full += packets;
        counters.unflowed_packets += packets;
        match &mut to {
            // What a mirror port shows has ended here already.
            None => counters.mirror_packets += packets,
            Some(_) if drops => counters.drops[Reason::ResteerFull.index()] += packets,
            Some((to, spare, attempts)) => {
                for frame in left.drain(..) {
                    if frame.wire_bytes() > ingress.frame_bytes_max {
                        counters.drops[Reason::FrameTooLong.index()] += 1;
                    } else {
                        // At most a burst was left over.
                        let _ = spare.push(frame);
                    }
                }
                send_all(*spare, *to, *attempts, counters);
            }
        }
        left.clear();
    }
}

/// Sends a burst as it is; what the queue does not take after some attempts is dropped.
fn send_all<P: Port>(burst: &mut P::Burst, to: &mut P, attempts: u32, counters: &mut CoreCounters) {
    let sum = |burst: &P::Burst| -> u64 {
        let frames = burst.frames().iter();
        frames.map(|frame| u64::from(frame.wire_bytes())).sum()
    };
    let (offered, bytes) = (burst.frames().len() as u64, sum(burst));
    for _ in 0..attempts {
        if burst.frames().is_empty() {
            break;
        }
        to.tx_burst(burst);
    }
    let left = burst.frames().len() as u64;
    counters.tx_packets += offered - left;
    counters.tx_bytes += bytes - sum(burst);
    counters.drops[Reason::TransmitFull.index()] += left;
    burst.clear();
}

impl<B: Burst> Owning<B> {
    fn poll<const MEASURED: bool>(
        &mut self,
        core: &mut Core,
        bench: &mut Bench<B>,
        now: u64,
    ) -> bool {
        match &mut self.0 {
            Lane::Inline(lane) => {
                let [outward, inward] = lane.ingresses();
                let (inside, outside) = lane.ports();
                let out = own::<B, MEASURED>(inside, outside, outward, core, bench, now);
                let back = own::<B, MEASURED>(outside, inside, inward, core, bench, now);
                out | back
            }
            Lane::Mirror(lane) => {
                let before = Marks::of(core.counters());
                let taken = lane.poll::<MEASURED>(core, bench, now);
                before.count_taken(core.counters_mut());
                taken
            }
        }
    }

    /// When the receiver is gone and nothing is left, this worker gives nothing back any more.
    fn close_when_finished(&mut self) -> bool {
        match &mut self.0 {
            Lane::Inline(lane) => {
                let (inside, outside) = lane.ports();
                let is_finished = inside.is_finished() && outside.is_finished();
                if is_finished {
                    inside.close();
                    outside.close();
                }
                is_finished
            }
            Lane::Mirror(lane) => lane.is_source_finished(),
        }
    }
}

/// As [`pass`], and counts for what they are the packets that came from another worker, and those that
/// go back to it.
fn own<B: Burst, const MEASURED: bool>(
    from: &mut HandedPort<B>,
    to: &mut HandedPort<B>,
    ingress: Ingress,
    core: &mut Core,
    bench: &mut Bench<B>,
    now: u64,
) -> bool {
    let before = Marks::of(core.counters());
    let returned = from.returned_packets() + to.returned_packets();
    if !pass::<_, MEASURED>(from, to, ingress, core, bench, now) {
        return false;
    }
    let returned = from.returned_packets() + to.returned_packets() - returned;
    let counters = core.counters_mut();
    before.count_taken(counters);
    let mut answers = returned;
    if to.returns() {
        answers -= counters.tx_packets - before.tx_packets;
        (counters.tx_packets, counters.tx_bytes) = (before.tx_packets, before.tx_bytes);
    }
    counters.returned_out_packets += returned;
    counters.returned_answers += answers;
    true
}

/// Counters before a burst.
struct Marks {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
}

impl Marks {
    fn of(counters: &CoreCounters) -> Self {
        Self {
            rx_packets: counters.rx_packets,
            rx_bytes: counters.rx_bytes,
            tx_packets: counters.tx_packets,
            tx_bytes: counters.tx_bytes,
        }
    }

    /// What was counted as received since has come from another worker, which counts it.
    fn count_taken(&self, counters: &mut CoreCounters) {
        counters.steered_in_packets += counters.rx_packets - self.rx_packets;
        (counters.rx_packets, counters.rx_bytes) = (self.rx_packets, self.rx_bytes);
    }
}

//! Rings that carry frames from one worker to another, and the port at their end.
//!
//! ```text
//!  receiver ── rx queue ──► deal ──► own share ─────────────────────────► tx queue
//!                            │                                              ▲
//!                            └──ring──► owner: judge ──► own tx queue       │
//!                                                   └──return ring──────────┘
//! ```
//!
//! One ring has one worker at either end: single producer, single consumer, a burst at a time, no lock
//! (`rtrb`). What is left in a ring goes back to its pool with the ring. The producer's end is dropped
//! when nothing comes any more; the consumer sees that, takes what is left, and has finished.

use crate::port::{BURST_MAX, Burst, Frame, Port};
use arrayvec::ArrayVec;
use rtrb::chunks::ChunkError;

/// A transmit queue of a port whose receive queue is another worker's.
pub trait TransmitQueue<B>: Send {
    /// As [`Port::tx_burst`].
    fn tx_burst(&mut self, burst: &mut B);
}

/// Makes frames for answers.
pub trait FrameMaker<F>: Send {
    /// As [`Port::build`].
    fn build(&mut self, bytes: &[u8]) -> Option<F>;
}

/// The end of a ring that gives.
#[derive(Debug)]
pub struct HandoverSender<F> {
    ring: rtrb::Producer<F>,
    /// Frames of the burst at hand, then those that found no room.
    staged: ArrayVec<F, BURST_MAX>,
}

/// The end of a ring that takes.
#[derive(Debug)]
pub struct HandoverReceiver<F> {
    ring: rtrb::Consumer<F>,
}

/// A ring of so many packets, and its ends.
#[must_use]
pub fn ring<F>(packets: usize) -> (HandoverSender<F>, HandoverReceiver<F>) {
    let (producer, consumer) = rtrb::RingBuffer::new(packets);
    let sender = HandoverSender {
        ring: producer,
        staged: ArrayVec::new(),
    };
    (sender, HandoverReceiver { ring: consumer })
}

impl<F> HandoverSender<F> {
    /// Keeps a frame for the next [`HandoverSender::flush`]; gives it back where a whole burst waits.
    #[inline]
    pub(crate) fn stage(&mut self, frame: F) -> Option<F> {
        self.staged.try_push(frame).err().map(|full| full.element())
    }

    /// Moves the staged frames into the ring, in order, as far as there is room; how many.
    ///
    /// # Bounded work
    /// At most [`BURST_MAX`] frames.
    #[inline]
    pub(crate) fn flush(&mut self) -> usize {
        let room = match self.ring.write_chunk_uninit(self.staged.len()) {
            Ok(chunk) => return chunk.fill_from_iter(self.staged.drain(..)),
            Err(ChunkError::TooFewSlots(room)) => room,
        };
        match self.ring.write_chunk_uninit(room) {
            Ok(chunk) => chunk.fill_from_iter(self.staged.drain(..room)),
            Err(_) => 0,
        }
    }

    /// The frames that found no room.
    pub(crate) fn left_over(&mut self) -> &mut ArrayVec<F, BURST_MAX> {
        &mut self.staged
    }
}

impl<F> HandoverReceiver<F> {
    /// Takes what has come into `burst`, which is empty.
    ///
    /// # Bounded work
    /// At most [`BURST_MAX`] frames.
    #[inline]
    pub(crate) fn take<B: Burst<Frame = F>>(&mut self, burst: &mut B) {
        let count = self.ring.slots().min(BURST_MAX);
        if let Ok(chunk) = self.ring.read_chunk(count) {
            for frame in chunk {
                // The burst has room for as many as a burst has.
                let _ = burst.push(frame);
            }
        }
    }

    /// Whether the other end is gone and nothing is left.
    pub(crate) fn is_finished(&self) -> bool {
        // In this order: what was given before the other end went is seen after it is seen to be gone.
        self.ring.is_abandoned() && self.ring.slots() == 0
    }
}

/// How judged frames leave a worker that does not receive.
pub enum WayOut<B: Burst> {
    /// By a transmit queue of its own.
    Queue(Box<dyn TransmitQueue<B>>),
    /// By the worker that receives for the port.
    Return(HandoverSender<B::Frame>),
    /// A mirror port: not at all, or no longer.
    Nowhere,
}

/// A port as a worker sees it that owns a share of its flows and does not receive from it.
pub struct HandedPort<B: Burst> {
    from: HandoverReceiver<B::Frame>,
    out: WayOut<B>,
    maker: Option<Box<dyn FrameMaker<B::Frame>>>,
    frame_bytes_max: u32,
    returned_packets: u64,
}

impl<B: Burst> HandedPort<B> {
    /// Receives from a ring and sends by `out` frames of up to `frame_bytes_max` bytes.
    #[must_use]
    pub fn new(
        from: HandoverReceiver<B::Frame>,
        out: WayOut<B>,
        maker: Option<Box<dyn FrameMaker<B::Frame>>>,
        frame_bytes_max: u32,
    ) -> Self {
        Self {
            from,
            out,
            maker,
            frame_bytes_max,
            returned_packets: 0,
        }
    }

    /// Whether what it sends goes by way of the worker that receives.
    pub(crate) fn returns(&self) -> bool {
        matches!(self.out, WayOut::Return(_))
    }

    /// Packets that went that way, answers among them.
    pub(crate) fn returned_packets(&self) -> u64 {
        self.returned_packets
    }

    /// Sends nothing any more.
    pub(crate) fn close(&mut self) {
        self.out = WayOut::Nowhere;
    }
}

impl<B: Burst> Port for HandedPort<B> {
    type Burst = B;

    #[inline]
    fn rx_burst(&mut self, burst: &mut B) {
        self.from.take(burst);
        for frame in burst.frames() {
            frame.prefetch_buffer();
        }
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut B) {
        match &mut self.out {
            WayOut::Queue(queue) => queue.tx_burst(burst),
            WayOut::Return(ring) => {
                burst.deal(|frame| ring.stage(frame));
                self.returned_packets += ring.flush() as u64;
                for frame in ring.left_over().drain(..) {
                    // They came out of this burst.
                    let _ = burst.push(frame);
                }
            }
            WayOut::Nowhere => {}
        }
    }

    fn build(&mut self, bytes: &[u8]) -> Option<B::Frame> {
        self.maker.as_mut()?.build(bytes)
    }

    fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    /// The port of a finite source ends when its receiver has ended.
    fn is_finished(&mut self) -> bool {
        self.from.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(
        numbers: impl IntoIterator<Item = u8>,
    ) -> ArrayVec<crate::port::MemoryFrame, BURST_MAX> {
        numbers
            .into_iter()
            .map(|number| crate::port::MemoryFrame::new(vec![number]))
            .collect()
    }

    fn numbers(burst: &ArrayVec<crate::port::MemoryFrame, BURST_MAX>) -> Vec<u8> {
        burst.iter().map(|frame| frame.bytes[0]).collect()
    }

    #[test]
    fn frames_keep_their_order_and_what_finds_no_room_stays_with_the_sender() {
        let (mut sender, mut receiver) = ring(5);
        for frame in burst(0..8) {
            assert_eq!(sender.stage(frame), None);
        }
        assert_eq!(sender.flush(), 5);
        assert_eq!(numbers(sender.left_over()), [5, 6, 7]);
        let mut taken = ArrayVec::new();
        receiver.take(&mut taken);
        assert_eq!(numbers(&taken), [0, 1, 2, 3, 4]);
        assert_eq!(sender.flush(), 3);
        taken.clear();
        receiver.take(&mut taken);
        assert_eq!(numbers(&taken), [5, 6, 7]);
    }

    #[test]
    fn a_ring_has_finished_when_its_sender_is_gone_and_it_is_empty() {
        let (mut sender, mut receiver) = ring(8);
        assert!(!receiver.is_finished());
        assert_eq!(sender.stage(burst([1]).remove(0)), None);
        assert_eq!(sender.flush(), 1);
        drop(sender);
        assert!(!receiver.is_finished());
        receiver.take(&mut ArrayVec::new());
        assert!(receiver.is_finished());
    }

    #[test]
    fn a_full_way_back_leaves_the_frames_in_the_burst() {
        let ((_, from), (back, mut returned)) = (ring(4), ring(3));
        let mut port = HandedPort::new(from, WayOut::Return(back), None, 1600);
        let mut sent = burst(0..5);
        port.tx_burst(&mut sent);
        assert_eq!((numbers(&sent), port.returned_packets()), (vec![3, 4], 3));
        let mut taken = ArrayVec::new();
        returned.take(&mut taken);
        assert_eq!(numbers(&taken), [0, 1, 2]);
        port.tx_burst(&mut sent);
        assert!(sent.is_empty());
    }
}

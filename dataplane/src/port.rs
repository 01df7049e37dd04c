//! Where packets come from and go to: the trait, the DPDK ports, and a port in memory for tests and
//! benches.

/// Packets in one burst at most.
pub const BURST_MAX: usize = 64;

/// Frames that travel together, at most [`BURST_MAX`]; dropping it gives all buffers back.
pub trait Burst: Default {
    /// What it holds.
    type Frame: Frame;

    /// The frames, in order of arrival.
    fn frames(&self) -> &[Self::Frame];

    /// Adds a frame at the end.
    ///
    /// # Errors
    /// The frame, where there is no room.
    fn push(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Keeps the frames whose index `keep` accepts, in order, and gives the other buffers back.
    fn retain(&mut self, keep: impl FnMut(usize) -> bool);

    /// Gives out every frame, in order, and keeps those that `deal` gives back.
    fn deal(&mut self, deal: impl FnMut(Self::Frame) -> Option<Self::Frame>);

    /// Gives all buffers back.
    fn clear(&mut self);
}

/// One frame and the buffer it lives in. Dropping it gives the buffer back.
pub trait Frame {
    /// The first contiguous bytes of the frame; all of it unless it has several segments.
    fn bytes(&self) -> &[u8];

    /// Length on the wire in bytes, without FCS.
    fn wire_bytes(&self) -> u32;

    /// When the frame was captured, nanoseconds since the Unix epoch, where the port knows.
    fn captured_ns(&self) -> Option<u64>;

    /// Asks the cache for what [`Frame::bytes`] will read.
    fn prefetch(&self) {}

    /// Asks the cache for what [`Frame::prefetch`] reads, where the frame comes from another core.
    fn prefetch_buffer(&self) {}
}

/// A port as one worker sees it: its receive queue and its transmit queue.
pub trait Port {
    /// What the port receives and sends.
    type Burst: Burst;

    /// Fills `burst`, which is empty, with what has arrived; possibly nothing.
    ///
    /// # Bounded work
    /// At most [`BURST_MAX`] frames.
    fn rx_burst(&mut self, burst: &mut Self::Burst);

    /// Sends frames from the front of `burst` and leaves there what the queue had no room for.
    fn tx_burst(&mut self, burst: &mut Self::Burst);

    /// A new frame with these bytes for an answer, or `None` where no buffer is free or the frame
    /// does not fit into one.
    fn build(&mut self, bytes: &[u8]) -> Option<<Self::Burst as Burst>::Frame>;

    /// Longest frame the port can send, bytes without FCS.
    fn frame_bytes_max(&self) -> u32;

    /// Whether a finite source has come to its end. Asked after an empty burst. Always `false` for
    /// a wire.
    fn is_finished(&mut self) -> bool {
        false
    }
}

pub use memory::{MemoryFrame, MemoryPort, Wire};

/// A port whose wire is a queue in memory.
mod memory {
    use super::{BURST_MAX, Burst, Frame, Port};
    use arrayvec::ArrayVec;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// A frame in memory.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MemoryFrame {
        /// The frame from its Ethernet header on.
        pub bytes: Vec<u8>,
        /// Length on the wire; more than `bytes` has where a capture was cut.
        pub wire_bytes: u32,
        /// Time stamp of a capture.
        pub captured_ns: Option<u64>,
    }

    impl MemoryFrame {
        /// A whole frame without a time stamp.
        #[must_use]
        pub fn new(bytes: Vec<u8>) -> Self {
            let wire_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            Self {
                bytes,
                wire_bytes,
                captured_ns: None,
            }
        }
    }

    impl Frame for MemoryFrame {
        fn bytes(&self) -> &[u8] {
            &self.bytes
        }

        fn wire_bytes(&self) -> u32 {
            self.wire_bytes
        }

        fn captured_ns(&self) -> Option<u64> {
            self.captured_ns
        }
    }

    impl Burst for ArrayVec<MemoryFrame, BURST_MAX> {
        type Frame = MemoryFrame;

        fn frames(&self) -> &[MemoryFrame] {
            self
        }

        fn push(&mut self, frame: MemoryFrame) -> Result<(), MemoryFrame> {
            self.try_push(frame).map_err(|full| full.element())
        }

        fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
            let mut index = 0;
            ArrayVec::retain(self, |_| {
                index += 1;
                keep(index - 1)
            });
        }

        fn deal(&mut self, deal: impl FnMut(MemoryFrame) -> Option<MemoryFrame>) {
            *self = std::mem::take(self).into_iter().filter_map(deal).collect();
        }

        fn clear(&mut self) {
            ArrayVec::clear(self);
        }
    }

    /// The wire of a [`MemoryPort`].
    #[derive(Debug, Default)]
    pub struct Wire {
        /// Frames that will be received, first in first out.
        pub arriving: VecDeque<MemoryFrame>,
        /// Frames that were sent, in order.
        pub sent: Vec<MemoryFrame>,
        /// Frames that the transmit queue still takes; `None` has no limit.
        pub tx_room: Option<usize>,
        /// Frames that the receive queue holds; `None` has no limit.
        pub rx_room: Option<usize>,
        /// Frames that arrived while it was full, as a device counts them.
        pub rx_missed: u64,
        /// Whether an empty queue means the end of a finite source.
        pub finite: bool,
    }

    impl Wire {
        /// A frame comes in, or is missed where the receive queue is full.
        pub fn arrive(&mut self, frame: MemoryFrame) {
            if self.rx_room.is_some_and(|room| self.arriving.len() >= room) {
                self.rx_missed += 1;
            } else {
                self.arriving.push_back(frame);
            }
        }
    }

    /// A transmit queue of its own for another worker.
    impl crate::handover::TransmitQueue<ArrayVec<MemoryFrame, BURST_MAX>> for MemoryPort {
        fn tx_burst(&mut self, burst: &mut ArrayVec<MemoryFrame, BURST_MAX>) {
            Port::tx_burst(self, burst);
        }
    }

    impl crate::handover::FrameMaker<MemoryFrame> for MemoryPort {
        fn build(&mut self, bytes: &[u8]) -> Option<MemoryFrame> {
            Port::build(self, bytes)
        }
    }

    /// A port in memory. It allocates and locks, so it serves tests and never a polling core.
    #[derive(Clone, Debug)]
    pub struct MemoryPort {
        wire: Arc<Mutex<Wire>>,
        frame_bytes_max: u32,
    }

    impl Default for MemoryPort {
        fn default() -> Self {
            Self::new(65_535)
        }
    }

    impl MemoryPort {
        /// A port that sends frames of up to `frame_bytes_max` bytes.
        #[must_use]
        pub fn new(frame_bytes_max: u32) -> Self {
            Self {
                wire: Arc::default(),
                frame_bytes_max,
            }
        }

        /// The other end of the wire. Clones of a port share it.
        pub fn wire(&self) -> MutexGuard<'_, Wire> {
            self.wire.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Port for MemoryPort {
        type Burst = ArrayVec<MemoryFrame, BURST_MAX>;

        fn rx_burst(&mut self, burst: &mut Self::Burst) {
            let mut wire = self.wire();
            while !burst.is_full() {
                let Some(frame) = wire.arriving.pop_front() else {
                    return;
                };
                burst.push(frame);
            }
        }

        fn tx_burst(&mut self, burst: &mut Self::Burst) {
            let mut wire = self.wire();
            let room = wire.tx_room.unwrap_or(usize::MAX).min(burst.len());
            wire.sent.extend(burst.drain(..room));
            if let Some(left) = &mut wire.tx_room {
                *left -= room;
            }
        }

        fn build(&mut self, bytes: &[u8]) -> Option<MemoryFrame> {
            Some(MemoryFrame::new(bytes.to_vec()))
        }

        fn frame_bytes_max(&self) -> u32 {
            self.frame_bytes_max
        }

        fn is_finished(&mut self) -> bool {
            let wire = self.wire();
            wire.finite && wire.arriving.is_empty()
        }
    }
}

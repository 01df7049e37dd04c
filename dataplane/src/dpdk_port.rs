//! Ports of libdpdk behind [`Port`].

use crate::handover::{FrameMaker, TransmitQueue};
use crate::port::{BURST_MAX, Burst, Frame, Port};
use dpdk::{Mbuf, Mempool, RxQueue, TxQueue};

impl Frame for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        Self::bytes(self)
    }

    #[inline]
    fn wire_bytes(&self) -> u32 {
        self.wire_len()
    }

    #[inline]
    fn captured_ns(&self) -> Option<u64> {
        self.timestamp()
    }

    #[inline]
    fn prefetch(&self) {
        self.prefetch_bytes();
    }

    #[inline]
    fn prefetch_buffer(&self) {
        Self::prefetch(self);
    }
}

impl Burst for dpdk::Burst<BURST_MAX> {
    type Frame = Mbuf;

    #[inline]
    fn frames(&self) -> &[Mbuf] {
        self
    }

    #[inline]
    fn push(&mut self, frame: Mbuf) -> Result<(), Mbuf> {
        Self::push(self, frame)
    }

    #[inline]
    fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        Self::retain(self, |index, _| keep(index));
    }

    #[inline]
    fn deal(&mut self, deal: impl FnMut(Mbuf) -> Option<Mbuf>) {
        Self::deal(self, deal);
    }

    #[inline]
    fn clear(&mut self) {
        Self::clear(self);
    }
}

/// A transmit queue of a port that another worker receives from.
pub struct DpdkTransmit(pub TxQueue);

impl TransmitQueue<dpdk::Burst<BURST_MAX>> for DpdkTransmit {
    fn tx_burst(&mut self, burst: &mut dpdk::Burst<BURST_MAX>) {
        self.0.tx_burst(burst);
    }
}

/// Makes answers in buffers of a pool.
pub struct DpdkMaker(pub Mempool);

impl FrameMaker<Mbuf> for DpdkMaker {
    fn build(&mut self, bytes: &[u8]) -> Option<Mbuf> {
        build(&self.0, bytes)
    }
}

fn build(pool: &Mempool, bytes: &[u8]) -> Option<Mbuf> {
    let mut mbuf = pool.alloc()?;
    mbuf.append(bytes.len())?.copy_from_slice(bytes);
    Some(mbuf)
}

/// One receive and one transmit queue of a port of libdpdk.
pub struct DpdkPort {
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
    frame_bytes_max: u32,
    /// Set for finite captures; buffers that were missing when it was last asked.
    finite: Option<u64>,
}

impl DpdkPort {
    /// A port that sends frames of up to `frame_bytes_max` bytes, `finite` where its source ends.
    #[must_use]
    pub fn new(
        rx: RxQueue,
        tx: TxQueue,
        pool: Mempool,
        frame_bytes_max: u32,
        finite: bool,
    ) -> Self {
        Self {
            rx,
            tx,
            pool,
            frame_bytes_max,
            finite: finite.then_some(0),
        }
    }
}

impl Port for DpdkPort {
    type Burst = dpdk::Burst<BURST_MAX>;

    #[inline]
    fn rx_burst(&mut self, burst: &mut Self::Burst) {
        self.rx.rx_burst(burst);
    }

    #[inline]
    fn tx_burst(&mut self, burst: &mut Self::Burst) {
        self.tx.tx_burst(burst);
    }

    fn build(&mut self, bytes: &[u8]) -> Option<Mbuf> {
        build(&self.pool, bytes)
    }

    #[inline]
    fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    /// An empty burst of a capture means its end, unless a buffer was missing.
    fn is_finished(&mut self) -> bool {
        let Some(missing_before) = &mut self.finite else {
            return false;
        };
        let missing = self.rx.port_stats().no_mbuf;
        let finished = missing == *missing_before;
        *missing_before = missing;
        finished
    }
}

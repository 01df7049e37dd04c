//! The two ends of a port that a polling core holds.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::burst::Burst;
use crate::eal::{Eal, RegisterError, ThreadRegistration};
use crate::port::{Open, PortStats};

/// Which port of the process, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u16);

/// Which queue of a port, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(pub u16);

impl fmt::Display for PortIndex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for QueueIndex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// May move to another thread, never be shared: libdpdk's queues take one caller at a time.
type OneThreadAtATime = PhantomData<Cell<()>>;

/// A receive queue: one owner, one thread at a time.
pub struct RxQueue {
    port: Arc<Open>,
    port_index: u16,
    queue_index: u16,
    /// What the driver's timestamps are multiplied by to be nanoseconds; 1 for nothing to do.
    timestamp_factor: u64,
    one_thread: OneThreadAtATime,
}

impl RxQueue {
    pub(crate) fn new(port: Arc<Open>, queue_index: u16, timestamp_factor: u64) -> RxQueue {
        let port_index = port.index.0;
        RxQueue {
            port,
            port_index,
            queue_index,
            timestamp_factor,
            one_thread: PhantomData,
        }
    }

    /// Receives frames into what room the burst has, behind those in it; how many came.
    ///
    /// # Bounded work
    /// One call of the driver; at most as many frames as the burst has room for.
    #[inline]
    pub fn rx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let before = burst.len();
        // SAFETY: the port is started and its queue set up for as long as this owner lives, which
        // alone calls it; the burst has room for `room` pointers at its end, and the driver fills
        // the first `count` of them with mbufs that are ours alone.
        let count = unsafe {
            let end = burst.slots().add(before);
            let (port, queue) = (self.port_index, self.queue_index);
            let count = dpdk_sys::shim_rx_burst(port, queue, end, burst.room());
            burst.grow(count);
            count
        };
        if self.timestamp_factor != 1 {
            for mbuf in burst.iter_mut().skip(before) {
                mbuf.scale_timestamp(self.timestamp_factor);
            }
        }
        usize::from(count)
    }

    /// Counters of the whole port; some drivers ask the device or the kernel for them, so not in
    /// every round. A finite capture has ended when a burst comes back empty and
    /// [`no_mbuf`](PortStats::no_mbuf) has not grown.
    #[must_use]
    pub fn port_stats(&self) -> PortStats {
        self.port.stats()
    }

    /// The port it belongs to.
    #[must_use]
    pub fn port_index(&self) -> PortIndex {
        self.port.index
    }

    /// Its number within the port.
    #[must_use]
    pub fn queue_index(&self) -> QueueIndex {
        QueueIndex(self.queue_index)
    }

    /// As [`Eal::register_thread`], for a polling thread that was given its queues only.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register_thread(&self) -> Result<ThreadRegistration, RegisterError> {
        self.eal().register_thread()
    }

    fn eal(&self) -> &Eal {
        &self.port.eal
    }
}

/// A transmit queue: one owner, one thread at a time.
pub struct TxQueue {
    port: Arc<Open>,
    port_index: u16,
    queue_index: u16,
    one_thread: OneThreadAtATime,
}

impl TxQueue {
    pub(crate) fn new(port: Arc<Open>, queue_index: u16) -> TxQueue {
        let port_index = port.index.0;
        TxQueue {
            port,
            port_index,
            queue_index,
            one_thread: PhantomData,
        }
    }

    /// Sends the frames of the burst from the front; how many the device took. What it did not
    /// take stays in the burst, in order, for the caller to count and drop or to send again.
    ///
    /// # Bounded work
    /// One call of the driver.
    #[inline]
    pub fn tx_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let (port, queue) = (self.port_index, self.queue_index);
        // SAFETY: the port is started and its queue set up for as long as this owner lives, which
        // alone calls it; the first `len` slots hold mbufs that are ours, and the first `count`
        // of them are the driver's afterwards.
        let count = unsafe { dpdk_sys::shim_tx_burst(port, queue, burst.slots(), burst.len_u16()) };
        let count = usize::from(count);
        burst.remove_front(count);
        count
    }

    /// The port it belongs to.
    #[must_use]
    pub fn port_index(&self) -> PortIndex {
        self.port.index
    }

    /// Its number within the port.
    #[must_use]
    pub fn queue_index(&self) -> QueueIndex {
        QueueIndex(self.queue_index)
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RxQueue({}.{})", self.port_index, self.queue_index)
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TxQueue({}.{})", self.port_index, self.queue_index)
    }
}

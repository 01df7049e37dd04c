//! Two ports of this process joined like by a patch cable: what one sends, the other receives.

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys::{rte_mbuf, rte_ring};

use crate::eal::Control;
use crate::errno::Errno;

/// Frames that each direction of a cable holds before its sender keeps what it has.
const CABLE_MBUFS: u32 = 4096;

/// A ring for each direction. Freed with the second of its ports; what is in it then goes back
/// to its pools.
pub(crate) struct Cable {
    name: String,
    forward: NonNull<rte_ring>,
    backward: NonNull<rte_ring>,
    /// Whether the first port took its end.
    first_end_taken: AtomicBool,
}

// SAFETY: the rings are reached through their ports, one thread at each end (`RxQueue` and
// `TxQueue` have one owner), and drained only when both ports are gone.
unsafe impl Send for Cable {}
// SAFETY: as above.
unsafe impl Sync for Cable {}

impl Cable {
    /// The end of the cable `name` that is still free, or the first end of a new one: a port.
    /// Called under the control lock.
    pub(crate) fn plug_in(control: &mut Control, name: &str) -> Result<(u16, Arc<Cable>), Errno> {
        let waiting = control.cables.iter().position(|cable| cable.name == name);
        let cable = match waiting {
            Some(index) => control.cables.swap_remove(index),
            None => Arc::new(Cable::new(name, control.devices_made)?),
        };
        let (port, second) = cable.make_port(control.devices_made)?;
        control.devices_made += 1;
        if !second {
            control.cables.push(Arc::clone(&cable));
        }
        Ok((port, cable))
    }

    fn new(name: &str, serial: u32) -> Result<Cable, Errno> {
        let forward = make_ring(&format!("cable{serial}f"))?;
        let backward = match make_ring(&format!("cable{serial}b")) {
            Ok(ring) => ring,
            Err(errno) => {
                // SAFETY: made above, empty, and nobody else has it.
                unsafe { dpdk_sys::rte_ring_free(forward.as_ptr()) };
                return Err(errno);
            }
        };
        let first_end_taken = AtomicBool::new(false);
        Ok(Cable {
            name: name.to_owned(),
            forward,
            backward,
            first_end_taken,
        })
    }

    /// The port of the free end, and whether it is the second one.
    fn make_port(&self, serial: u32) -> Result<(u16, bool), Errno> {
        let device = CString::new(format!("cable{serial}")).unwrap_or_default();
        // Relaxed: calls are one at a time, under the control lock.
        let second = self.first_end_taken.load(Ordering::Relaxed);
        let (mut rx, mut tx) = (self.backward.as_ptr(), self.forward.as_ptr());
        if second {
            std::mem::swap(&mut rx, &mut tx);
        }
        // SAFETY: arrays of one ring each, which outlive the port: the port's owner holds `self`.
        let port =
            unsafe { dpdk_sys::rte_eth_from_rings(device.as_ptr(), &rx, 1, &tx, 1, u32::MAX) };
        let port = u16::try_from(port).map_err(|_| Errno::last())?;
        self.first_end_taken.store(true, Ordering::Relaxed);
        Ok((port, second))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for ring in [self.forward, self.backward] {
            loop {
                let mut mbufs: [*mut rte_mbuf; 32] = [ptr::null_mut(); 32];
                // SAFETY: both ports are closed, so this is the only user of the ring, and what
                // it holds are mbufs that their senders gave away.
                unsafe {
                    let objects = mbufs.as_mut_ptr().cast();
                    let count = dpdk_sys::shim_ring_dequeue_burst(ring.as_ptr(), objects, 32);
                    if count == 0 {
                        break;
                    }
                    dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), count);
                }
            }
            // SAFETY: empty, and nobody else has it.
            unsafe { dpdk_sys::rte_ring_free(ring.as_ptr()) };
        }
    }
}

fn make_ring(name: &str) -> Result<NonNull<rte_ring>, Errno> {
    let name = CString::new(name).unwrap_or_default();
    let flags = dpdk_sys::SHIM_RING_SP_ENQ | dpdk_sys::SHIM_RING_SC_DEQ;
    // SAFETY: EAL has started; the name outlives the call, which copies it.
    let ring = unsafe { dpdk_sys::rte_ring_create(name.as_ptr(), CABLE_MBUFS, -1, flags) };
    NonNull::new(ring).ok_or_else(Errno::last)
}

//! One frame in memory that a device can read: an owner of `struct rte_mbuf`.

use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use dpdk_sys::rte_mbuf;

/// Byte offset of the rx timestamp in every mbuf, negative until [`register_timestamps`].
static TIMESTAMP_OFFSET: AtomicI32 = AtomicI32::new(-1);
/// The bit of `ol_flags` which says that the timestamp of this mbuf is set.
static TIMESTAMP_FLAG: AtomicU64 = AtomicU64::new(0);

/// Reserves the rx timestamp field in every mbuf; called once, when EAL has started.
pub(crate) fn register_timestamps() -> Result<(), crate::Errno> {
    let (mut offset, mut flag) = (-1, 0);
    // SAFETY: EAL has started; both pointers are to live integers.
    let status = unsafe { dpdk_sys::rte_mbuf_dyn_rx_timestamp_register(&mut offset, &mut flag) };
    if status != 0 {
        return Err(crate::Errno::last());
    }
    // Relaxed: no other memory is published by these two; threads that see the old values read
    // no timestamp, and every thread that polls is started after this.
    TIMESTAMP_FLAG.store(flag, Ordering::Relaxed);
    TIMESTAMP_OFFSET.store(offset, Ordering::Relaxed);
    Ok(())
}

/// A frame, owned: dropping it returns it and all of its segments to their pool, once.
///
/// Not `Clone`. A frame has one or more segments; only the first is reached through
/// [`bytes`](Mbuf::bytes), and its headers are there in every driver that we know of.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: the owner is the only handle on the mbuf, and mempools take returns from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `pointer` is a valid mbuf, reference count 1, that nothing else owns.
    pub(crate) unsafe fn from_raw(pointer: NonNull<rte_mbuf>) -> Mbuf {
        Mbuf(pointer)
    }

    #[inline]
    fn raw(&self) -> *mut rte_mbuf {
        self.0.as_ptr()
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: the owner's mbuf is valid, and data_off lies within the buffer.
        unsafe {
            (*self.raw())
                .buf_addr
                .cast::<u8>()
                .add(usize::from((*self.raw()).data_off))
        }
    }

    /// The bytes of the first segment, from the Ethernet header on.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: data_len bytes from data() are in the buffer, and `&self` keeps writers away.
        unsafe { slice::from_raw_parts(self.data(), usize::from((*self.raw()).data_len)) }
    }

    /// The bytes of the first segment, for rewriting in place.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes this the only access.
        unsafe { slice::from_raw_parts_mut(self.data(), usize::from((*self.raw()).data_len)) }
    }

    /// Bytes of the whole frame, all segments, without the frame check sequence.
    #[inline]
    #[must_use]
    pub fn wire_len(&self) -> u32 {
        // SAFETY: the owner's mbuf is valid.
        unsafe { (*self.raw()).pkt_len }
    }

    /// How many buffers hold the frame; 1 but for frames longer than a buffer of the pool.
    #[inline]
    #[must_use]
    pub fn segment_count(&self) -> u16 {
        // SAFETY: the owner's mbuf is valid.
        unsafe { (*self.raw()).nb_segs }
    }

    /// The bytes of every segment in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = self.raw();
        std::iter::from_fn(move || {
            if next.is_null() {
                return None;
            }
            // SAFETY: segments of a frame are valid mbufs linked by `next` up to null, and live
            // as long as the owner, which is borrowed.
            let (segment, bytes) = unsafe {
                let data = (*next)
                    .buf_addr
                    .cast::<u8>()
                    .add(usize::from((*next).data_off));
                (
                    (*next).next,
                    slice::from_raw_parts(data, usize::from((*next).data_len)),
                )
            };
            next = segment;
            Some(bytes)
        })
    }

    /// When the frame was received, where its port gives it: nanoseconds since 1970 for a capture
    /// file, the device's own clock for hardware (see [`PortConfig::rx_timestamps`]).
    ///
    /// [`PortConfig::rx_timestamps`]: crate::PortConfig::rx_timestamps
    #[inline]
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.timestamp_field().map(|field| {
            // SAFETY: the field is within the mbuf and aligned for its 8 bytes.
            unsafe { *field }
        })
    }

    /// Multiplies a timestamp that is there, to bring a driver's unit to nanoseconds.
    #[inline]
    pub(crate) fn scale_timestamp(&mut self, factor: u64) {
        if let Some(field) = self.timestamp_field() {
            // SAFETY: as in `timestamp`; `&mut self` makes this the only access.
            unsafe { *field = (*field).wrapping_mul(factor) };
        }
    }

    #[inline]
    fn timestamp_field(&self) -> Option<*mut u64> {
        // SAFETY: the owner's mbuf is valid.
        let flags = unsafe { (*self.raw()).ol_flags };
        if flags & TIMESTAMP_FLAG.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let offset = usize::try_from(TIMESTAMP_OFFSET.load(Ordering::Relaxed)).ok()?;
        // SAFETY: libdpdk reserved 8 aligned bytes at this offset of every mbuf.
        Some(unsafe { self.raw().cast::<u8>().add(offset).cast::<u64>() })
    }

    /// The hash that the device computed over addresses and ports, where it did.
    #[inline]
    #[must_use]
    pub fn rss_hash(&self) -> Option<u32> {
        // SAFETY: the owner's mbuf is valid; the flag says that `rss` is the live union member.
        unsafe {
            let present = (*self.raw()).ol_flags & dpdk_sys::SHIM_MBUF_RSS_HASH != 0;
            present.then(|| (*self.raw()).__bindgen_anon_2.hash.rss)
        }
    }

    /// Bytes that [`append`](Mbuf::append) can still take.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        // SAFETY: the owner's mbuf is valid.
        let (size, offset, length) = unsafe {
            (
                (*self.raw()).buf_len,
                (*self.raw()).data_off,
                (*self.raw()).data_len,
            )
        };
        usize::from(size).saturating_sub(usize::from(offset) + usize::from(length))
    }

    /// Lengthens a frame of one segment by `count` zero bytes and gives them out to be written;
    /// `None`, and nothing changed, where they do not fit.
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        if self.segment_count() != 1 || count > self.tailroom() {
            return None;
        }
        let added = u16::try_from(count).ok()?;
        let length = usize::from(self.data_len());
        // SAFETY: data_len + count bytes are within the buffer, checked above; the new ones are
        // written before a slice of them exists.
        unsafe {
            let start = self.data().add(length);
            start.write_bytes(0, count);
            (*self.raw()).data_len += added;
            (*self.raw()).pkt_len += u32::from(added);
            Some(slice::from_raw_parts_mut(start, count))
        }
    }

    /// Shortens a frame of one segment to `length` bytes; longer than it is changes nothing.
    pub fn truncate(&mut self, length: usize) {
        let Ok(length) = u16::try_from(length) else {
            return;
        };
        if self.segment_count() == 1 && length < self.data_len() {
            // SAFETY: the owner's mbuf is valid; a shorter length stays within the buffer.
            unsafe {
                (*self.raw()).data_len = length;
                (*self.raw()).pkt_len = u32::from(length);
            }
        }
    }

    #[inline]
    fn data_len(&self) -> u16 {
        // SAFETY: the owner's mbuf is valid.
        unsafe { (*self.raw()).data_len }
    }

    /// Asks for the cache line of the mbuf that [`bytes`](Mbuf::bytes) reads.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.raw().cast::<u8>());
    }

    /// Asks for the first cache line of the frame; reads the mbuf, so prefetch that before.
    #[inline]
    pub fn prefetch_bytes(&self) {
        prefetch(self.data());
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        let mut pointer = self.raw();
        // SAFETY: the owner returns its mbuf exactly once, here.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(&mut pointer, 1) };
    }
}

impl std::fmt::Debug for Mbuf {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Mbuf")
            .field("wire_len", &self.wire_len())
            .field("segments", &self.segment_count())
            .finish_non_exhaustive()
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on the cache, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

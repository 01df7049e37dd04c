//! A handful of frames that travel together: received, judged and sent in one call each.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::{ptr, slice};

use dpdk_sys::rte_mbuf;

use crate::mbuf::Mbuf;

/// Frames in a burst unless a caller says otherwise; what drivers are tuned for.
pub const BURST_MBUFS_MAX: usize = 32;

/// At most `N` owned frames in a row, without allocation; reads as a slice of [`Mbuf`].
///
/// Dropping it, or [`clear`](Burst::clear), returns all of them to their pools in one call.
pub struct Burst<const N: usize = BURST_MBUFS_MAX> {
    /// The first `len` are owned frames.
    mbufs: [MaybeUninit<Mbuf>; N],
    len: usize,
}

impl<const N: usize> Burst<N> {
    const CAPACITY_FITS: () = assert!(N > 0 && N <= u16::MAX as usize, "drivers count in u16");

    /// A burst with nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::CAPACITY_FITS;
        Burst {
            mbufs: [const { MaybeUninit::uninit() }; N],
            len: 0,
        }
    }

    /// How many frames it can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Whether another frame does not fit.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len == N
    }

    /// Adds a frame at the end, or hands it back where the burst is full.
    ///
    /// # Errors
    /// The frame itself, when the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.mbufs.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes the last frame out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot held a frame, and `len` no longer counts it.
        Some(unsafe { self.mbufs.get_unchecked(self.len).assume_init_read() })
    }

    /// Moves all frames to the end of `other` as far as they fit; the rest stays, in order.
    pub fn append(&mut self, other: &mut Burst<N>) {
        let moved = other.len.min(N - self.len);
        // SAFETY: `moved` frames are in `other` and fit behind ours; the two arrays are apart.
        unsafe { ptr::copy_nonoverlapping(other.slots(), self.slots().add(self.len), moved) };
        self.len += moved;
        other.remove_front(moved);
    }

    /// Keeps the frames for which `keep` says so, in order, and frees the others in one call.
    /// `keep` gets the index that the frame had before.
    #[inline]
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &mut Mbuf) -> bool) {
        let mut dropped = Burst::<N>::new();
        let mut kept = 0;
        let count = std::mem::take(&mut self.len);
        for index in 0..count {
            // SAFETY: `index` is below the former `len`; each slot is read once, and `self` owns
            // none of them any more. A panic in `keep` leaks what is left, frees nothing twice.
            let mut mbuf = unsafe { self.mbufs.get_unchecked(index).assume_init_read() };
            if keep(index, &mut mbuf) {
                // SAFETY: `kept <= index`, a slot that has been read.
                unsafe { self.mbufs.get_unchecked_mut(kept) }.write(mbuf);
                kept += 1;
            } else {
                // SAFETY: `dropped` has room for every frame of a burst of the same capacity.
                unsafe { dropped.push_unchecked(mbuf) };
            }
        }
        self.len = kept;
    }

    /// Gives out every frame, in order, and keeps those that `deal` gives back.
    #[inline]
    pub fn deal(&mut self, mut deal: impl FnMut(Mbuf) -> Option<Mbuf>) {
        let mut kept = 0;
        let count = std::mem::take(&mut self.len);
        for index in 0..count {
            // SAFETY: `index` is below the former `len`; each slot is read once, and `self` owns
            // none of them any more. A panic in `deal` leaks what is left, frees nothing twice.
            let mbuf = unsafe { self.mbufs.get_unchecked(index).assume_init_read() };
            if let Some(mbuf) = deal(mbuf) {
                // SAFETY: `kept <= index`, a slot that has been read.
                unsafe { self.mbufs.get_unchecked_mut(kept) }.write(mbuf);
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// Frees all frames in one call.
    #[inline]
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Frees the frames behind the first `len` in one call.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let count = self.len - len;
        self.len = len;
        // SAFETY: these `count` frames were ours, `len` no longer counts them, and they are
        // returned once. `count <= N <= u16::MAX`.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(self.slots().add(len), narrow(count).into()) };
    }

    /// The frames as the C side sees them: an array of pointers.
    #[inline]
    pub(crate) fn slots(&mut self) -> *mut *mut rte_mbuf {
        // `Mbuf` is a transparent wrapper of a pointer to rte_mbuf.
        self.mbufs.as_mut_ptr().cast()
    }

    /// How many more frames fit, as drivers count.
    #[inline]
    pub(crate) fn room(&self) -> u16 {
        narrow(N - self.len)
    }

    #[inline]
    pub(crate) fn len_u16(&self) -> u16 {
        narrow(self.len)
    }

    /// # Safety
    /// `count` slots from the end of the burst now hold frames that nothing else owns.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: u16) {
        self.len += usize::from(count);
    }

    /// Forgets the first `count` frames, whose owner is now somebody else, and moves up the rest.
    #[inline]
    pub(crate) fn remove_front(&mut self, count: usize) {
        let left = self.len.saturating_sub(count);
        if left > 0 && count > 0 {
            // SAFETY: both ranges lie within the `len` frames of the array.
            unsafe { ptr::copy(self.slots().add(count), self.slots(), left) };
        }
        self.len = left;
    }

    /// # Safety
    /// The burst is not full.
    #[inline]
    unsafe fn push_unchecked(&mut self, mbuf: Mbuf) {
        // SAFETY: the caller says that `len < N`.
        unsafe { self.mbufs.get_unchecked_mut(self.len) }.write(mbuf);
        self.len += 1;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "N <= u16::MAX, asserted in Burst::new"
)]
const fn narrow(count: usize) -> u16 {
    count as u16
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Burst<N> {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` slots hold frames.
        unsafe { slice::from_raw_parts(self.mbufs.as_ptr().cast(), self.len) }
    }
}

impl<const N: usize> DerefMut for Burst<N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` slots hold frames.
        unsafe { slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().cast(), self.len) }
    }
}

impl<const N: usize> Drop for Burst<N> {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl<const N: usize> std::fmt::Debug for Burst<N> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

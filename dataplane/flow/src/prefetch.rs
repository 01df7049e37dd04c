//! The one address of unsafe code in this room: telling the processor which line comes next.
#![allow(
    unsafe_code,
    reason = "a prefetch takes a raw pointer; nothing is read through it"
)]

/// Asks for the cache line at the start of `slice[index]`. Does nothing where there is no such
/// element, and nothing on processors other than x86-64.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = slice.get(index) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer comes from a live reference, and a prefetch neither reads nor
        // faults; SSE, which it needs, is part of the x86-64 baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(element).cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}

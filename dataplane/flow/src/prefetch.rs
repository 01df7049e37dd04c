//! The one address of unsafe code in this room: telling the processor which line comes next, and
//! comparing the sixteen bytes of a line's head at once.
#![allow(
    unsafe_code,
    reason = "a prefetch takes a raw pointer, through which nothing is read; a vector compare asks for SSE2"
)]

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

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

/// As [`prefetch`], for the second line of an element of two.
#[inline(always)]
pub(crate) fn prefetch_second<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = slice.get(index) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const { assert!(size_of::<T>() == 2 * LINE_BYTES) };
        let first = core::ptr::from_ref(element).cast::<i8>();
        // SAFETY: as above; the pointer stays within the element, which is two lines long.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first.add(LINE_BYTES)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}

/// One bit per byte of `bytes` that is `wanted`, the first byte lowest.
///
/// Without a branch: which slot a flow lives in is as hard to predict as a die, and a guess gone
/// wrong here would be noticed only when the line has come from memory.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves are taken one by one"
)]
pub(crate) fn equal_bytes(bytes: [u8; 16], wanted: u8) -> u32 {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let all = u128::from_le_bytes(bytes);
    let (low, high) = (all as u64, (all >> 64) as u64);
    // SAFETY: SSE2, which these need, is part of the x86-64 baseline; they touch no memory.
    let mask = unsafe {
        let all = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
        let wanted = _mm_set1_epi8(wanted.cast_signed());
        _mm_movemask_epi8(_mm_cmpeq_epi8(all, wanted))
    };
    mask.cast_unsigned()
}

/// One bit per byte of `bytes` that is `wanted`, the first byte lowest.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves are taken one by one"
)]
pub(crate) fn equal_bytes(bytes: [u8; 16], wanted: u8) -> u32 {
    const BYTES_01: u64 = 0x0101_0101_0101_0101;
    const BYTES_7F: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let zeroes = |word: u64| {
        // No carry leaves a byte here, so the answer is exact for every byte.
        let nonzero = ((word & BYTES_7F) + BYTES_7F) | word;
        let ones = !nonzero >> 7 & BYTES_01;
        // The product gathers the eight low bits in the top byte.
        (ones.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    let all = u128::from_le_bytes(bytes);
    let wanted = u64::from(wanted) * BYTES_01;
    zeroes(all as u64 ^ wanted) | zeroes((all >> 64) as u64 ^ wanted) << 8
}

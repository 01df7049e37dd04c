//! Huge pages for memory that is not DPDK's own: the flow tables.

use core::ops::Range;
use std::io;

/// Bytes of a transparent huge page, on x86-64 and on aarch64 with pages of 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Moves what lies in `memory` into transparent huge pages, so that a look-up in a table of many
/// megabytes needs no walk of page tables as well. Gives the bytes moved: the whole huge pages in
/// it. The contents do not change. Takes about a second for 2 GiB.
///
/// # Errors
/// The kernel's reason: `EINVAL` where it cannot (before Linux 6.1, or switched off), `ENOMEM` or
/// `EAGAIN` where no huge page is free now. Nothing is lost but speed.
pub fn move_to_huge_pages(memory: &Range<*const u8>) -> io::Result<usize> {
    let start = memory.start.addr().next_multiple_of(HUGE_PAGE_BYTES);
    let end = memory.end.addr() / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    let bytes = end.saturating_sub(start);
    if bytes == 0 {
        return Ok(0);
    }
    // The first says that huge pages are wanted here, the second that they are wanted now.
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
        let address = memory.start.with_addr(start).cast_mut().cast();
        // SAFETY: neither advice changes what any address holds, and an address that is not mapped
        // is refused with ENOMEM.
        if unsafe { libc::madvise(address, bytes, advice) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_stay_and_only_whole_huge_pages_move() {
        let memory: Vec<u32> = (0..3 << 20).collect();
        let range = memory.as_ptr_range();
        // A kernel that cannot says so, and nothing changes either.
        if let Ok(bytes) = move_to_huge_pages(&(range.start.cast()..range.end.cast())) {
            assert!((8 << 20..=12 << 20).contains(&bytes), "{bytes}");
            assert_eq!(bytes % HUGE_PAGE_BYTES, 0);
        }
        assert!((0..3 << 20).eq(memory));
        let small = [0_u8; 100];
        assert_eq!(move_to_huge_pages(&small.as_ptr_range()).unwrap(), 0);
    }
}

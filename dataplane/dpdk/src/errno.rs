//! The error numbers of libdpdk, which are those of the C library and a few of its own.

use std::ffi::CStr;
use std::fmt;

/// A positive error number, shown as libdpdk's own sentence for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    pub(crate) const PERMITTED_NOT: Errno = Errno(1);
    pub(crate) const ACCESS: Errno = Errno(13);

    /// The number that the last failing call of this thread left in `rte_errno`.
    pub(crate) fn last() -> Errno {
        // SAFETY: reads a thread-local integer.
        Errno(unsafe { dpdk_sys::shim_errno() })
    }

    /// From the `-errno` that most of libdpdk returns; a bare `-1` is looked up in `rte_errno`.
    pub(crate) fn from_return(value: i32) -> Errno {
        if value == -1 {
            Errno::last()
        } else {
            Errno(value.wrapping_neg())
        }
    }

    /// The number, positive, as in `errno.h`.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    pub(crate) fn is_permission(self) -> bool {
        self == Errno::PERMITTED_NOT || self == Errno::ACCESS
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror returns a pointer to a string that is static or lives in a buffer
        // of this thread until its next call; it is read before this function returns.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(out, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Errno({}: {self})", self.0)
    }
}

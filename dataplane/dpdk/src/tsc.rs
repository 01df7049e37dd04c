//! The time stamp counter: the only clock that a polling core reads.

/// The time stamp counter of this core, in cycles of [`tsc_hz`].
#[inline]
#[must_use]
pub fn rdtsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `rdtsc` exists on every x86-64 and has no effect but its result.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads the counter register of this architecture.
    unsafe {
        dpdk_sys::shim_rdtsc()
    }
}

/// Cycles of [`rdtsc`] in a second, as EAL measured it when it started; 0 before that.
#[must_use]
pub fn tsc_hz() -> u64 {
    // SAFETY: reads an integer that EAL wrote once.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}

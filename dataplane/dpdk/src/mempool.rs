//! The buffers that frames live in, all taken when the pool is made.

use std::ffi::CString;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{rte_mbuf, rte_mempool};

use crate::burst::Burst;
use crate::eal::{Eal, capture_log};
use crate::errno::Errno;
use crate::mbuf::Mbuf;

/// Room that DPDK keeps in front of each frame.
const HEADROOM_BYTES: u16 = dpdk_sys::SHIM_MBUF_HEADROOM;
/// libdpdk's limit of [`PoolOptions::cache_mbufs`].
const CACHE_MBUFS_MAX: u32 = 512;

/// What a pool holds.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Unique in the process, at most 26 bytes.
    pub name: String,
    /// Buffers in the pool. Powers of two less one use memory best.
    pub mbufs: u32,
    /// Buffers that each registered thread keeps at hand, at most 512 and two thirds of `mbufs`.
    pub cache_mbufs: u32,
    /// Bytes of a frame that one buffer holds; longer frames take several. libdpdk's headroom
    /// (128 bytes) is added to this.
    pub data_room_bytes: u16,
    /// NUMA node of the memory; `None` for any.
    pub numa_node: Option<u16>,
}

impl PoolOptions {
    /// The default: 8191 buffers of 2048 bytes, 256 in each cache, about 20 MiB.
    #[must_use]
    pub fn named(name: &str) -> PoolOptions {
        PoolOptions {
            name: name.to_owned(),
            mbufs: 8191,
            cache_mbufs: 256,
            data_room_bytes: 2048,
            numa_node: None,
        }
    }

    /// Bytes of memory that the pool takes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        // 64 bytes of mempool header and 128 of mbuf before each buffer, all in cache lines.
        let buffer = u64::from(self.data_room_bytes) + u64::from(HEADROOM_BYTES) + 64 + 128;
        u64::from(self.mbufs) * (buffer.next_multiple_of(64) + 8)
    }
}

/// Why a pool was not made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The cache is larger than libdpdk takes.
    #[error(
        "pool `{name}`: a cache of {cache_mbufs} mbufs does not go with {mbufs} mbufs: at most \
         512, and two thirds of the pool"
    )]
    CacheTooLarge {
        /// The pool.
        name: String,
        /// The cache asked for.
        cache_mbufs: u32,
        /// The size asked for.
        mbufs: u32,
    },
    /// Headroom and data room together do not fit in 16 bits.
    #[error("pool `{name}`: data room of {data_room_bytes} bytes is more than 65407")]
    DataRoomTooLarge {
        /// The pool.
        name: String,
        /// The data room asked for.
        data_room_bytes: u16,
    },
    /// libdpdk refused.
    #[error(
        "pool `{name}` of {mbufs} mbufs needs about {memory_mb} MiB: {errno}; give more memory \
         (hugepages: `./hugepage-setup reserve`) or ask for fewer mbufs; dpdk says: {log}"
    )]
    Refused {
        /// The pool.
        name: String,
        /// The size asked for.
        mbufs: u32,
        /// MiB that it takes.
        memory_mb: u64,
        /// What libdpdk answered.
        errno: Errno,
        /// libdpdk's own words.
        log: String,
    },
    /// The name holds a NUL byte.
    #[error("pool name holds a NUL byte")]
    NulByte,
}

/// A pool of mbufs. Cheap to clone; freed once, when the last clone and the last port that
/// receives into it are gone and its last mbuf is back.
#[derive(Clone)]
pub struct Mempool {
    inner: Arc<Inner>,
}

struct Inner {
    pool: NonNull<rte_mempool>,
    data_room_bytes: u16,
    eal: Eal,
}

// SAFETY: libdpdk's mempools take calls from all threads at once.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Takes memory for a pool.
    ///
    /// # Errors
    /// [`PoolError`]: limits, and what libdpdk says when memory is short or the name is taken.
    pub fn create(eal: &Eal, options: &PoolOptions) -> Result<Mempool, PoolError> {
        let PoolOptions {
            ref name,
            mbufs,
            cache_mbufs,
            data_room_bytes,
            numa_node,
        } = *options;
        if cache_mbufs > CACHE_MBUFS_MAX || u64::from(cache_mbufs) * 3 > u64::from(mbufs) * 2 {
            return Err(PoolError::CacheTooLarge {
                name: name.clone(),
                cache_mbufs,
                mbufs,
            });
        }
        let Some(buffer_bytes) = data_room_bytes.checked_add(HEADROOM_BYTES) else {
            return Err(PoolError::DataRoomTooLarge {
                name: name.clone(),
                data_room_bytes,
            });
        };
        let c_name = CString::new(name.as_str()).map_err(|_| PoolError::NulByte)?;
        let socket = numa_node.map_or(-1, i32::from);
        let control = eal.control();
        let (pool, log) = capture_log(|| {
            // SAFETY: EAL has started; the name outlives the call, which copies it.
            let pool = unsafe {
                dpdk_sys::rte_pktmbuf_pool_create(
                    c_name.as_ptr(),
                    mbufs,
                    cache_mbufs,
                    0,
                    buffer_bytes,
                    socket,
                )
            };
            NonNull::new(pool).ok_or_else(Errno::last)
        });
        drop(control);
        let pool = pool.map_err(|errno| PoolError::Refused {
            name: name.clone(),
            mbufs,
            memory_mb: options.memory_bytes() >> 20,
            errno,
            log,
        })?;
        Ok(Mempool {
            inner: Arc::new(Inner {
                pool,
                data_room_bytes,
                eal: eal.clone(),
            }),
        })
    }

    /// An empty frame (length 0, one segment), `None` where the pool is exhausted.
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut pointer: *mut rte_mbuf = std::ptr::null_mut();
        // SAFETY: room for one pointer; the pool is valid as long as its owner.
        let status = unsafe { dpdk_sys::shim_mbuf_alloc_bulk(self.raw(), &mut pointer, 1) };
        let pointer = NonNull::new(pointer).filter(|_| status == 0)?;
        // SAFETY: just taken from the pool, ours alone.
        Some(unsafe { Mbuf::from_raw(pointer) })
    }

    /// Adds `count` empty frames to the burst; `false`, and nothing added, where the burst has
    /// no room for them or the pool has not as many.
    #[inline]
    pub fn alloc_bulk<const N: usize>(&self, burst: &mut Burst<N>, count: u16) -> bool {
        if count > burst.room() {
            return false;
        }
        // SAFETY: the burst has room for `count` pointers at its end; on success they are mbufs
        // just taken from the pool, ours alone.
        unsafe {
            let end = burst.slots().add(burst.len());
            let taken = dpdk_sys::shim_mbuf_alloc_bulk(self.raw(), end, u32::from(count)) == 0;
            if taken {
                burst.grow(count);
            }
            taken
        }
    }

    /// Mbufs in the pool and in the caches of threads; exact while no thread allocates or frees.
    #[must_use]
    pub fn available_count(&self) -> u32 {
        // SAFETY: the pool is valid as long as its owner.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw()) }
    }

    /// Mbufs that frames, devices and queues hold.
    #[must_use]
    pub fn in_use_count(&self) -> u32 {
        // SAFETY: the pool is valid as long as its owner.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw()) }
    }

    /// Bytes of a frame that one of its buffers holds.
    #[must_use]
    pub fn data_room_bytes(&self) -> u16 {
        self.inner.data_room_bytes
    }

    pub(crate) fn raw(&self) -> *mut rte_mempool {
        self.inner.pool.as_ptr()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.eal.retire_pool(self.pool);
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Mempool")
            .field("available", &self.available_count())
            .field("in_use", &self.in_use_count())
            .finish_non_exhaustive()
    }
}

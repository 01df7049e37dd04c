//! The stats segment: counters of each core, counters of each port, and the facts of the process,
//! each behind its own sequence lock.
//!
//! The dataplane writes, control reads; control's mapping is read-only. Nobody waits: a commit is
//! one copy of plain words, a read is retried at most [`READ_TRIES_MAX`] times and then says why it
//! has no consistent copy.
//!
//! # The lock, as a state table
//!
//! | who | change | why |
//! |---|---|---|
//! | writer | `sequence` even -> odd (Relaxed), then a Release fence | who sees a word written from here on also sees the odd number |
//! | writer | words, Relaxed | atomics, so that a race with a reader is defined; they cost what plain stores cost |
//! | writer | `sequence` odd -> next even (Release) | who sees the even number sees all the words |
//! | reader | `sequence` (Acquire), words (Relaxed), Acquire fence, `sequence` again (Relaxed) | twice the same even number: no writer was inside, the copy is whole |
//!
//! Prohibited: two writers of one block (a region hands out each writer once); a reader that waits
//! for the writer. A writer that dies inside leaves an odd number for ever: the reader says
//! [`StatsError::WriterInside`] and the caller keeps its last copy.

use crate::ABI_EPOCH;
use crate::counters::{CoreCounters, PORTS_MAX, PortCounters, WORKERS_MAX};
use crate::sync::{AtomicU64, Ordering, fence, wait_a_little};
use core::any::Any;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::sync::Arc;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Times a reader tries before it says that it has no consistent copy (about 100 microseconds).
pub const READ_TRIES_MAX: u32 = if cfg!(loom) { 1 } else { 1_000 };

/// Lanes told in [`ProcessFacts`].
pub const LANES_MAX: usize = 32;
/// Bytes of a short name in [`ProcessFacts`], zero padded UTF-8.
pub const SHORT_NAME_BYTES: usize = 32;
/// In [`LaneFacts::outside_port`] where the lane is a mirror port.
pub const NO_PORT: u32 = u32::MAX;

/// Why a reader has no consistent copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// The writer began a commit and did not end it: it died there, or has no processor.
    #[error(
        "the dataplane began to write these counters (sequence {sequence}) and did not finish in \
         {tries} tries; if it is not running, restart it"
    )]
    WriterInside {
        /// The odd sequence number that did not move.
        sequence: u64,
        /// Reads tried.
        tries: u32,
    },
    /// The writer committed during every try.
    #[error("these counters changed during each of {tries} tries to read them; read again")]
    WriterBusy {
        /// Reads tried.
        tries: u32,
    },
}

/// A block of the stats segment: a sequence number on its own cache line, then the words.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Block<const WORDS: usize> {
    pub(crate) sequence: AtomicU64,
    reserved: [u64; 7],
    pub(crate) words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Block<WORDS> {
    /// A block of zeros that nobody has written.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            reserved: [0; 7],
            words: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Writes all words. Bounded: one copy. Only one thread may call this on one block; if two do,
    /// readers may get a mixed copy, nothing worse.
    #[inline]
    pub fn write(&self, words: &[u64; WORDS]) {
        let odd = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(odd, Ordering::Relaxed);
        // Load-bearing: pairs with the Acquire fence in `read`; without it a reader could take new
        // words under the old even number.
        fence(Ordering::Release);
        for (slot, word) in self.words.iter().zip(words) {
            slot.store(*word, Ordering::Relaxed);
        }
        // Release, load-bearing: pairs with the Acquire load in `read`; without it a reader could
        // take old words under the new even number.
        self.sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// Copies all words out, consistently.
    ///
    /// # Errors
    /// [`StatsError`] after [`READ_TRIES_MAX`] tries.
    pub fn read(&self, words: &mut [u64; WORDS]) -> Result<(), StatsError> {
        let mut first_odd = None;
        let mut moved = false;
        for _ in 0..READ_TRIES_MAX {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 1 {
                moved |= *first_odd.get_or_insert(before) != before;
                wait_a_little();
                continue;
            }
            for (word, slot) in words.iter_mut().zip(&self.words) {
                *word = slot.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) == before {
                return Ok(());
            }
            moved = true;
        }
        match first_odd {
            Some(sequence) if !moved => Err(StatsError::WriterInside {
                sequence,
                tries: READ_TRIES_MAX,
            }),
            _ => Err(StatsError::WriterBusy {
                tries: READ_TRIES_MAX,
            }),
        }
    }
}

impl<const WORDS: usize> Default for Block<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// A short name as the segment keeps it: UTF-8, zero padded, cut at a character where too long.
#[must_use]
pub fn padded_name<const BYTES: usize>(name: &str) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut end = name.len().min(BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    bytes
}

/// The name back from its padded bytes; bytes that are not UTF-8 come as replacement characters.
#[must_use]
pub fn name_of(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

crate::byte_enum! {
    /// Where the dataplane process stands in its life.
    pub enum RunState {
        /// Memory is there, ports are not.
        Starting = 1 => "starting",
        /// Cores poll.
        Running = 2 => "running",
        /// Cores are stopping; flows are being told with end reason forced-end.
        Stopping = 3 => "stopping",
        /// Stopped in order; the region stays for whoever still reads it.
        Stopped = 4 => "stopped",
    }
}

crate::byte_enum! {
    /// What a lane is.
    pub enum LaneKind {
        /// A port pair: what enters one leaves the other.
        Inline = 1 => "inline",
        /// One port, receive only.
        Mirror = 2 => "mirror",
    }
}

/// One lane, as configured.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LaneFacts {
    /// Name as configured, zero padded UTF-8.
    pub name: [u8; SHORT_NAME_BYTES],
    /// [`LaneKind`].
    pub kind: u32,
    /// Index of the inside port, or of the mirror port.
    pub inside_port: u32,
    /// Index of the outside port, [`NO_PORT`] for a mirror.
    pub outside_port: u32,
    /// Workers that serve the lane, one bit each.
    pub workers_mask: u32,
}

/// What `status` tells about the dataplane process. Written by its main thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ProcessFacts {
    /// Process id.
    pub process_id: u64,
    /// Nanoseconds since the Unix epoch when the process started.
    pub started_ns: u64,
    /// Nanoseconds since the Unix epoch when the main thread last wrote this block.
    pub heartbeat_ns: u64,
    /// Unique per start of the dataplane; the same as in the region header and in `Hello`.
    pub boot_id: [u8; 16],
    /// [`ABI_EPOCH`] of the dataplane.
    pub abi_epoch: u32,
    /// [`RunState`].
    pub state: u32,
    /// Workers, each with a core block and a ring.
    pub workers: u32,
    /// Ports, each with a port block.
    pub ports: u32,
    /// Lanes used of `lane`.
    pub lanes: u32,
    /// Records that each ring can hold.
    pub ring_records: u32,
    /// Ring cursors of the consumer that the dataplane refused, over all workers.
    pub consumer_faults: u64,
    /// Package version of the dataplane, zero padded UTF-8.
    pub package_version: [u8; SHORT_NAME_BYTES],
    /// Idle back-off as configured: none, pause or sleep. Zero padded UTF-8.
    pub idle: [u8; SHORT_NAME_BYTES],
    /// Processor (Linux CPU number) that each worker is pinned to; `u16::MAX` not pinned.
    pub worker_cpus: [u16; WORKERS_MAX],
    /// Lanes, the first `lanes` of them used.
    pub lane: [LaneFacts; LANES_MAX],
    /// Cycles of the time stamp counter in a second, in which stages are counted.
    pub tsc_hz: u64,
}

impl ProcessFacts {
    /// Zero, but for the ABI epoch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            abi_epoch: ABI_EPOCH,
            ..Self::new_zeroed()
        }
    }
}

impl Default for ProcessFacts {
    fn default() -> Self {
        Self::new()
    }
}

const CORE_WORDS: usize = size_of::<CoreCounters>() / 8;
const PORT_WORDS: usize = size_of::<PortCounters>() / 8;
const FACTS_WORDS: usize = size_of::<ProcessFacts>() / 8;

/// Counters of one core in the segment.
pub type CoreBlock = Block<CORE_WORDS>;
/// Counters of one port in the segment.
pub type PortBlock = Block<PORT_WORDS>;
/// Facts of the process in the segment.
pub type FactsBlock = Block<FACTS_WORDS>;

const _: () = {
    assert!(size_of::<ProcessFacts>().is_multiple_of(8) && size_of::<LaneFacts>() == 48);
    assert!(PORTS_MAX <= u32::MAX as usize && LANES_MAX <= PORTS_MAX);
};
#[cfg(not(loom))]
const _: () = {
    assert!(core::mem::offset_of!(CoreBlock, sequence) == 0);
    assert!(core::mem::offset_of!(CoreBlock, words) == 64);
    assert!(core::mem::offset_of!(PortBlock, words) == 64);
    assert!(core::mem::offset_of!(FactsBlock, words) == 64);
};

/// What a block of the segment can hold.
pub trait Stat: Copy + private::Sealed {
    #[doc(hidden)]
    type Block: private::Words<Self>;
}

mod private {
    pub trait Sealed {}
    pub trait Words<T> {
        fn put(&self, value: &T);
        fn get(&self) -> Result<T, super::StatsError>;
    }
}

macro_rules! stat {
    ($value:ty, $words:expr) => {
        impl private::Sealed for $value {}
        impl Stat for $value {
            type Block = Block<{ $words }>;
        }
        impl private::Words<$value> for Block<{ $words }> {
            #[inline]
            fn put(&self, value: &$value) {
                let words: &[u64; $words] = zerocopy::transmute_ref!(value);
                self.write(words);
            }

            fn get(&self) -> Result<$value, StatsError> {
                let mut words = [0; $words];
                self.read(&mut words)?;
                Ok(zerocopy::transmute!(words))
            }
        }
    };
}
stat!(CoreCounters, CORE_WORDS);
stat!(PortCounters, PORT_WORDS);
stat!(ProcessFacts, FACTS_WORDS);

/// A block and what keeps its memory mapped.
pub(crate) struct BlockPlace<T: Stat> {
    block: NonNull<T::Block>,
    _owner: Arc<dyn Any + Send + Sync>,
    _value: PhantomData<T>,
}

// SAFETY: the pointer leads to atomics only, in memory that `_owner` keeps alive.
unsafe impl<T: Stat> Send for BlockPlace<T> {}

impl<T: Stat> BlockPlace<T> {
    /// # Safety
    /// `block` must be aligned, must lie in memory that `owner` keeps mapped, and that memory must
    /// be initialised (any bytes will do) and only ever be reached as atomics.
    #[cfg_attr(
        loom,
        expect(dead_code, reason = "only a region makes these; loom has none")
    )]
    pub(crate) unsafe fn new(block: NonNull<T::Block>, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            block,
            _owner: owner,
            _value: PhantomData,
        }
    }

    pub(crate) fn block(&self) -> &T::Block {
        // SAFETY: `new`'s caller promised alignment, lifetime and atomics only.
        unsafe { self.block.as_ref() }
    }
}

/// The dataplane's end of a block. One per block.
pub struct StatWriter<T: Stat>(pub(crate) BlockPlace<T>);

impl<T: Stat> StatWriter<T> {
    /// Makes `value` the one that readers get. One copy; never waits, allocates or fails.
    #[inline]
    pub fn commit(&mut self, value: &T) {
        private::Words::put(self.0.block(), value);
    }
}

impl<T: Stat> core::fmt::Debug for StatWriter<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "StatWriter<{}>", core::any::type_name::<T>())
    }
}

/// Commits the counters of one core.
pub type CoreWriter = StatWriter<CoreCounters>;
/// Commits the counters of one port.
pub type PortWriter = StatWriter<PortCounters>;
/// Commits the facts of the process.
pub type FactsWriter = StatWriter<ProcessFacts>;

/// Reads a block once, consistently.
#[cfg_attr(
    loom,
    expect(dead_code, reason = "only a region calls this; loom has none")
)]
pub(crate) fn read_block<T: Stat>(block: &T::Block) -> Result<T, StatsError> {
    private::Words::get(block)
}

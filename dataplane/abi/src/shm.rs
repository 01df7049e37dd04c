//! The shared region: one memfd with a header, the stats segment and one record ring per worker.
//!
//! The dataplane creates it ([`Region::create`]) and hands the descriptor to control over their
//! Unix socket; control opens it ([`Region::open`]), which checks the seals, the size and every
//! number of the header before any of them is used. Nothing here takes a path, and the only system
//! calls are those that make, size, seal and map the memory.
//!
//! # Who may write what
//!
//! | part | dataplane | control |
//! |---|---|---|
//! | header, stats, producer blocks, slots | read, write | read only (a write is a SIGSEGV of control) |
//! | consumer blocks | read | read, write |
//!
//! The size is sealed, so that no process can shrink the file under the other's feet (SIGBUS).
//! The dataplane trusts nothing that it reads back: its sizes and cursors are its own.

use crate::counters::{CoreCounters, PORTS_MAX, PortCounters, WORKERS_MAX};
use crate::header::{CORE_BLOCK_BYTES, PORT_BLOCK_BYTES, RING_BLOCK_BYTES, check, plan, validate};
use crate::record::RECORD_BYTES;
use crate::ring::{Consumer, ConsumerBlock, ConsumerError, Producer, RingMemory, Slot};
use crate::stats::{
    BlockPlace, CoreBlock, CoreWriter, FactsBlock, FactsWriter, PortBlock, PortWriter,
    ProcessFacts, Stat, StatWriter, StatsError, read_block,
};
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

pub use crate::header::{
    REGION_ALIGN_BYTES, REGION_MAGIC, RegionError, RegionHeader, RegionOptions,
};

/// Seals that control demands.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Mapped memory, unmapped when the last user has gone.
#[derive(Debug)]
struct Mapping {
    base: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: a mapping is not tied to a thread; what lies in it is reached as atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `bytes` are exactly what mmap returned, and every pointer into the
        // mapping is held beside an `Arc` of it, so none is left.
        // A failure would leave the memory mapped, which is harmless.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr(), self.bytes) };
    }
}

impl Mapping {
    /// Maps a part of `fd`; `offset` and `bytes` are inside the file and `offset` is page aligned.
    fn of(fd: BorrowedFd<'_>, offset: u64, bytes: u64, prot: ProtFlags) -> Result<Self, Errno> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::OVERFLOW)?;
        let flags = MapFlags::SHARED
            | if prot.contains(ProtFlags::WRITE) {
                MapFlags::POPULATE
            } else {
                MapFlags::empty()
            };
        // SAFETY: a null hint lets the kernel choose a free range, so no memory in use is replaced.
        let base =
            unsafe { rustix::mm::mmap(core::ptr::null_mut(), bytes, prot, flags, fd, offset) }?;
        Self::at(base, bytes)
    }

    fn anonymous(bytes: u64) -> Result<Self, Errno> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::OVERFLOW)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint lets the kernel choose a free range, so no memory in use is replaced.
        let base = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), bytes, prot, MapFlags::SHARED)
        }?;
        Self::at(base, bytes)
    }

    fn at(base: *mut c_void, bytes: usize) -> Result<Self, Errno> {
        NonNull::new(base)
            .map(|base| Self { base, bytes })
            .ok_or(Errno::FAULT)
    }

    /// The place of a `T` at `offset`. `None` where it would not lie inside, or not aligned.
    fn place<T>(&self, offset: u64, count: u64) -> Option<NonNull<T>> {
        let start = usize::try_from(offset).ok()?;
        let bytes = usize::try_from(count).ok()?.checked_mul(size_of::<T>())?;
        if start.checked_add(bytes)? > self.bytes || !start.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: `start` lies inside the mapping, checked above. The base is page aligned, so the
        // result is aligned for T.
        Some(unsafe { self.base.byte_add(start).cast() })
    }
}

/// The dataplane's hold on the region: hands out each producer and each writer once.
#[derive(Debug)]
pub struct Region {
    view: RegionView,
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    facts: AtomicBool,
    producers: [AtomicBool; WORKERS_MAX],
    cores: [AtomicBool; WORKERS_MAX],
    ports: [AtomicBool; PORTS_MAX],
}

impl Region {
    /// Makes a region in a new memfd, with its memory reserved and touched so that no polling core
    /// meets a page fault, and its size sealed. The descriptor is for control; it may be cloned and
    /// sent as often as a control process comes.
    ///
    /// # Errors
    /// [`RegionError::Option`], [`RegionError::NotAPowerOfTwo`] or [`RegionError::Memory`].
    pub fn create(options: RegionOptions) -> Result<(Self, OwnedFd), RegionError> {
        validate(&options)?;
        let header = plan(&options);
        let bytes = header.region_bytes;
        let failed = |step| move |errno| RegionError::Memory { bytes, step, errno };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd =
            rustix::fs::memfd_create(c"ringfence-region", flags).map_err(failed("memfd_create"))?;
        rustix::fs::ftruncate(&fd, bytes).map_err(failed("ftruncate"))?;
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes)
            .map_err(failed("fallocate"))?;
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(failed("fcntl F_ADD_SEALS"))?;
        let map = Mapping::of(fd.as_fd(), 0, bytes, ProtFlags::READ | ProtFlags::WRITE)
            .map_err(failed("mmap"))?;
        Ok((Self::on(map, header)?, fd))
    }

    /// The same on memory that no other process can reach, for tests and benches.
    ///
    /// # Errors
    /// As [`Region::create`].
    pub fn anonymous(options: RegionOptions) -> Result<Self, RegionError> {
        validate(&options)?;
        let header = plan(&options);
        let bytes = header.region_bytes;
        let map = Mapping::anonymous(bytes).map_err(|errno| RegionError::Memory {
            bytes,
            step: "mmap",
            errno,
        })?;
        Self::on(map, header)
    }

    /// Opens a region that another process made: control's side. Checks seals, size, magic, abi
    /// epoch and every size and offset before anything of it is used.
    ///
    /// # Errors
    /// Every variant of [`RegionError`] but `Option` for its own options; each sentence says which
    /// side carries what and what to do.
    pub fn open(fd: OwnedFd) -> Result<RegionView, RegionError> {
        let failed = |step| move |errno| RegionError::Descriptor { step, errno };
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(failed("fcntl F_GET_SEALS"))?;
        if !seals.contains(SEALS) {
            return Err(RegionError::NotSealed {
                found: seals.bits(),
                needed: SEALS.bits(),
            });
        }
        let file_bytes = rustix::fs::fstat(&fd).map_err(failed("fstat"))?.st_size;
        let file_bytes = u64::try_from(file_bytes).unwrap_or(0);
        let mut header = RegionHeader::new_zeroed();
        let read = rustix::io::pread(&fd, header.as_mut_bytes(), 0).map_err(failed("pread"))?;
        if read < size_of::<RegionHeader>() {
            return Err(RegionError::Magic {
                found: header.magic,
            });
        }
        check(&header, file_bytes)?;
        let all = Mapping::of(fd.as_fd(), 0, header.region_bytes, ProtFlags::READ)
            .map_err(failed("mmap"))?;
        let consumers = Mapping::of(
            fd.as_fd(),
            header.consumers_offset,
            header.slots_offset - header.consumers_offset,
            ProtFlags::READ | ProtFlags::WRITE,
        )
        .map_err(failed("mmap of the consumer blocks"))?;
        let maps = Maps {
            all,
            consumers: Some(consumers),
        };
        Ok(RegionView {
            header,
            maps: Arc::new(maps),
        })
    }

    fn on(all: Mapping, header: RegionHeader) -> Result<Self, RegionError> {
        let place = all.place::<RegionHeader>(0, 1).ok_or(RegionError::Memory {
            bytes: header.region_bytes,
            step: "mmap",
            errno: Errno::FAULT,
        })?;
        // SAFETY: the place is inside the mapping, aligned and writable, and no other process or
        // thread knows this memory yet.
        unsafe { place.write(header) };
        let free = || AtomicBool::new(false);
        let taken = Taken {
            facts: free(),
            producers: core::array::from_fn(|_| free()),
            cores: core::array::from_fn(|_| free()),
            ports: core::array::from_fn(|_| free()),
        };
        let maps = Arc::new(Maps {
            all,
            consumers: None,
        });
        Ok(Self {
            view: RegionView { header, maps },
            taken: Arc::new(taken),
        })
    }

    /// The producer of a worker's ring. Each can be taken once.
    ///
    /// # Errors
    /// [`RegionError::Taken`].
    pub fn producer(&self, worker: u32) -> Result<Producer, RegionError> {
        let memory = self.view.ring(worker);
        let (taken, count) = (&self.taken.producers, self.view.header.workers);
        Ok(Producer::new(take(
            "the producer of worker",
            worker,
            count,
            taken,
            memory,
        )?))
    }

    /// The writer of a worker's counters. Each can be taken once.
    ///
    /// # Errors
    /// [`RegionError::Taken`].
    pub fn core_writer(&self, worker: u32) -> Result<CoreWriter, RegionError> {
        let (taken, count) = (&self.taken.cores, self.view.header.workers);
        let place = self.view.writer_place(self.view.core_block(worker));
        take("the counters of worker", worker, count, taken, place).map(StatWriter)
    }

    /// The writer of a port's counters. Each can be taken once.
    ///
    /// # Errors
    /// [`RegionError::Taken`].
    pub fn port_writer(&self, port: u32) -> Result<PortWriter, RegionError> {
        let (taken, count) = (&self.taken.ports, self.view.header.ports);
        let place = self.view.writer_place(self.view.port_block(port));
        take("the counters of port", port, count, taken, place).map(StatWriter)
    }

    /// The writer of the process's facts. It can be taken once.
    ///
    /// # Errors
    /// [`RegionError::Taken`].
    pub fn facts_writer(&self) -> Result<FactsWriter, RegionError> {
        let place = self
            .view
            .writer_place::<ProcessFacts>(self.view.facts_block());
        let taken = core::slice::from_ref(&self.taken.facts);
        take("the facts writer", 0, 1, taken, place).map(StatWriter)
    }

    /// The reader's side of the same memory, for the dataplane's own reports and for tests.
    #[must_use]
    pub fn view(&self) -> RegionView {
        self.view.clone()
    }
}

fn take<T>(
    what: &'static str,
    index: u32,
    count: u32,
    taken: &[AtomicBool],
    value: Option<T>,
) -> Result<T, RegionError> {
    let flag = usize::try_from(index).ok().and_then(|i| taken.get(i));
    match (flag, value) {
        (Some(flag), Some(value)) if !flag.swap(true, Ordering::Relaxed) => Ok(value),
        _ => Err(RegionError::Taken { what, index, count }),
    }
}

#[derive(Debug)]
struct Maps {
    /// The whole region.
    all: Mapping,
    /// The consumer blocks again, writable, where `all` is read only.
    consumers: Option<Mapping>,
}

/// Control's hold on the region: consistent copies of the counters, and consumers of the rings.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegionView {
    header: RegionHeader,
    maps: Arc<Maps>,
}

impl RegionView {
    /// The header, as checked when the region was opened.
    #[must_use]
    pub fn header(&self) -> &RegionHeader {
        &self.header
    }

    /// Workers: core blocks and rings.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.header.workers
    }

    /// Port blocks.
    #[must_use]
    pub fn ports(&self) -> u32 {
        self.header.ports
    }

    /// Takes the consumer's seat of a worker's ring; whoever held it is superseded.
    ///
    /// `None` where there is no such worker.
    ///
    /// # Errors
    /// [`ConsumerError::Contended`] where another process keeps moving the cursor.
    pub fn attach(&self, worker: u32, process_id: u32) -> Option<Result<Consumer, ConsumerError>> {
        self.ring(worker)
            .map(|memory| Consumer::attach(memory, process_id))
    }

    /// Counters of a core; `None` where there is no such worker.
    ///
    /// # Errors
    /// [`StatsError`] where no consistent copy could be had; keep the last one.
    pub fn core(&self, worker: u32) -> Option<Result<CoreCounters, StatsError>> {
        self.core_block(worker)
            .map(|place| self.read_at::<CoreCounters>(place))
    }

    /// Counters of a port; `None` where there is no such port.
    ///
    /// # Errors
    /// As [`RegionView::core`].
    pub fn port(&self, port: u32) -> Option<Result<PortCounters, StatsError>> {
        self.port_block(port)
            .map(|place| self.read_at::<PortCounters>(place))
    }

    /// Facts of the dataplane process.
    ///
    /// # Errors
    /// As [`RegionView::core`].
    pub fn facts(&self) -> Result<ProcessFacts, StatsError> {
        match self.facts_block() {
            Some(place) => self.read_at::<ProcessFacts>(place),
            // The facts block of a checked header always lies inside; zero facts are the truth of
            // a block that nobody wrote.
            None => Ok(ProcessFacts::new_zeroed()),
        }
    }

    fn read_at<T: Stat>(&self, place: NonNull<T::Block>) -> Result<T, StatsError> {
        // SAFETY: `place` lies aligned inside the mapping that `self.maps` keeps, and blocks are
        // made of atomics, which any initialised bytes are valid for.
        read_block::<T>(unsafe { place.as_ref() })
    }

    fn writer_place<T: Stat>(&self, place: Option<NonNull<T::Block>>) -> Option<BlockPlace<T>> {
        let owner = Arc::clone(&self.maps);
        // SAFETY: `place` lies aligned inside the mapping that `owner` keeps; the memory is mapped
        // zeroed and reached as atomics only. Only `Region`, whose mapping is writable, calls this.
        place.map(|block| unsafe { BlockPlace::new(block, owner) })
    }

    fn facts_block(&self) -> Option<NonNull<FactsBlock>> {
        self.maps.all.place(self.header.facts_offset, 1)
    }

    fn core_block(&self, worker: u32) -> Option<NonNull<CoreBlock>> {
        let within = worker < self.header.workers;
        let offset = self.header.cores_offset + u64::from(worker) * u64::from(CORE_BLOCK_BYTES);
        within.then(|| self.maps.all.place(offset, 1)).flatten()
    }

    fn port_block(&self, port: u32) -> Option<NonNull<PortBlock>> {
        let within = port < self.header.ports;
        let offset = self.header.ports_offset + u64::from(port) * u64::from(PORT_BLOCK_BYTES);
        within.then(|| self.maps.all.place(offset, 1)).flatten()
    }

    fn ring(&self, worker: u32) -> Option<RingMemory> {
        let header = &self.header;
        if worker >= header.workers {
            return None;
        }
        let (index, capacity) = (u64::from(worker), u64::from(header.ring_records));
        let block = index * u64::from(RING_BLOCK_BYTES);
        let consumer = match &self.maps.consumers {
            Some(writable) => writable.place::<ConsumerBlock>(block, 1),
            None => self.maps.all.place(header.consumers_offset + block, 1),
        };
        let slots = header.slots_offset + index * capacity * RECORD_BYTES as u64;
        Some(RingMemory {
            producer: self.maps.all.place(header.producers_offset + block, 1)?,
            consumer: consumer?,
            slots: self.maps.all.place::<Slot>(slots, capacity)?,
            capacity,
            _owner: Arc::clone(&self.maps) as _,
        })
    }
}

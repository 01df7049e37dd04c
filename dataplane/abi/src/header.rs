//! The region's header: where everything lies, computed once by this build, and what is refused.
//!
//! Called by `shm` on both sides. The dataplane writes what [`plan`] computes; control computes the
//! same from the three sizes chosen at run time and accepts nothing else, so no offset that came
//! from another process is ever used unchecked.

use crate::ABI_EPOCH;
use crate::counters::{PORTS_MAX, WORKERS_MAX};
use crate::record::{FlowRecord, RECORD_BYTES};
use crate::ring::{
    ConsumerBlock, ProducerBlock, RING_RECORDS_DEFAULT, RING_RECORDS_MAX, RING_RECORDS_MIN,
};
use crate::stats::{CoreBlock, FactsBlock, PortBlock};
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes of a region: `RNGFENCE` in memory order.
pub const REGION_MAGIC: u64 = u64::from_ne_bytes(*b"RNGFENCE");
/// Alignment of every part of the region in bytes: the largest page of the machines we run on, so
/// that each part can be mapped by itself.
pub const REGION_ALIGN_BYTES: u64 = 65_536;

/// First bytes of the region. Native byte order; offsets in bytes from the start of the region.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct RegionHeader {
    /// [`REGION_MAGIC`].
    pub magic: u64,
    /// [`ABI_EPOCH`] of the dataplane. This field and `magic` never move.
    pub abi_epoch: u32,
    /// Bytes of this header.
    pub header_bytes: u32,
    /// Bytes of the whole region.
    pub region_bytes: u64,
    /// Unique per start of the dataplane.
    pub boot_id: [u8; 16],
    /// Workers: core blocks and rings.
    pub workers: u32,
    /// Port blocks.
    pub ports: u32,
    /// Records that each ring can hold, a power of two.
    pub ring_records: u32,
    /// Bytes of a record.
    pub record_bytes: u32,
    /// Bytes of a [`FactsBlock`].
    pub facts_block_bytes: u32,
    /// Bytes of a [`CoreBlock`].
    pub core_block_bytes: u32,
    /// Bytes of a [`PortBlock`].
    pub port_block_bytes: u32,
    /// Bytes of a [`ProducerBlock`] and of a [`ConsumerBlock`].
    pub ring_block_bytes: u32,
    /// The facts block.
    pub facts_offset: u64,
    /// Core blocks, one per worker.
    pub cores_offset: u64,
    /// Port blocks, one per port.
    pub ports_offset: u64,
    /// Producer blocks, one per worker.
    pub producers_offset: u64,
    /// Consumer blocks, one per worker; the only part that control writes.
    pub consumers_offset: u64,
    /// Slots, `ring_records` of them per worker, worker after worker.
    pub slots_offset: u64,
    /// Zero.
    pub reserved: u64,
}

const FACTS_BLOCK_BYTES: u32 = bytes_of::<FactsBlock>();
pub(crate) const CORE_BLOCK_BYTES: u32 = bytes_of::<CoreBlock>();
pub(crate) const PORT_BLOCK_BYTES: u32 = bytes_of::<PortBlock>();
pub(crate) const RING_BLOCK_BYTES: u32 = bytes_of::<ProducerBlock>();
const HEADER_BYTES: u32 = bytes_of::<RegionHeader>();
const SLOT_BYTES: u32 = bytes_of::<FlowRecord>();
const WORKERS_LIMIT: u32 = narrow(WORKERS_MAX);
const PORTS_LIMIT: u32 = narrow(PORTS_MAX);

const fn bytes_of<T>() -> u32 {
    narrow(size_of::<T>())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the assertion keeps it small"
)]
const fn narrow(count: usize) -> u32 {
    assert!(count <= 65_536);
    count as u32
}

const _: () = {
    assert!(size_of::<RegionHeader>() == 128);
    assert!(core::mem::offset_of!(RegionHeader, magic) == 0);
    assert!(core::mem::offset_of!(RegionHeader, abi_epoch) == 8);
    assert!(size_of::<ProducerBlock>() == size_of::<ConsumerBlock>());
};

/// What a region is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionOptions {
    /// Workers, 1 to [`WORKERS_MAX`].
    pub workers: u32,
    /// Ports, 0 to [`PORTS_MAX`].
    pub ports: u32,
    /// Records per ring: a power of two from [`RING_RECORDS_MIN`] to [`RING_RECORDS_MAX`].
    pub ring_records: u32,
    /// Unique per start of the dataplane.
    pub boot_id: [u8; 16],
}

impl RegionOptions {
    /// One ring of the default size per worker.
    #[must_use]
    pub const fn new(workers: u32, ports: u32, boot_id: [u8; 16]) -> Self {
        Self {
            workers,
            ports,
            ring_records: RING_RECORDS_DEFAULT,
            boot_id,
        }
    }
}

/// Why a region could not be made or was refused.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A number of [`RegionOptions`] outside its limits.
    #[error("{what} is {value}, allowed are {min} to {max}")]
    Option {
        /// What was asked for.
        what: &'static str,
        /// Value asked for.
        value: u32,
        /// Least allowed.
        min: u32,
        /// Most allowed.
        max: u32,
    },
    /// The ring size is not a power of two.
    #[error("ring_records is {value}, which is not a power of two; use {next}")]
    NotAPowerOfTwo {
        /// Value asked for.
        value: u32,
        /// The next power of two.
        next: u32,
    },
    /// The memory could not be had.
    #[error(
        "cannot reserve {bytes} bytes of shared memory ({step}: {errno}); free memory, or configure \
         smaller rings or fewer workers"
    )]
    Memory {
        /// Bytes of the region.
        bytes: u64,
        /// System call that failed.
        step: &'static str,
        /// What it answered.
        errno: Errno,
    },
    /// The received descriptor cannot be examined or mapped.
    #[error("cannot use the received descriptor as a region ({step}: {errno})")]
    Descriptor {
        /// System call that failed.
        step: &'static str,
        /// What it answered.
        errno: Errno,
    },
    /// The size of the received memory is not sealed.
    #[error(
        "the received memory is not sealed against resizing (seals {found:#x}, needed {needed:#x}); \
         it was not made by a ringfence dataplane"
    )]
    NotSealed {
        /// Seals found.
        found: u32,
        /// Seals needed.
        needed: u32,
    },
    /// Not a region.
    #[error(
        "the received memory begins with {found:#018x}, not with a region's magic {REGION_MAGIC:#018x}"
    )]
    Magic {
        /// First eight bytes.
        found: u64,
    },
    /// The dataplane speaks another contract.
    #[error(
        "the dataplane's region has abi epoch {theirs}, this control process has {ours}; restart \
         both processes from one release"
    )]
    Epoch {
        /// Epoch in the region.
        theirs: u32,
        /// [`ABI_EPOCH`].
        ours: u32,
    },
    /// A number of the header contradicts this build although the epoch is the same.
    #[error(
        "the region's {field} is {found}, this build expects {expected} (both carry abi epoch \
         {ABI_EPOCH}); restart both processes from one release"
    )]
    Header {
        /// Field of [`RegionHeader`].
        field: &'static str,
        /// Value found.
        found: u64,
        /// Value expected.
        expected: u64,
    },
    /// A writer or producer was asked for twice, or the index does not exist.
    #[error(
        "{what} {index} is not there to be taken: it was taken before, or there are only {count}"
    )]
    Taken {
        /// What was asked for.
        what: &'static str,
        /// Its index.
        index: u32,
        /// How many there are.
        count: u32,
    },
}

/// Where everything lies: the header as this build computes it from the sizes.
pub(crate) fn plan(options: &RegionOptions) -> RegionHeader {
    let mut end = 0;
    let mut part = |bytes: u64| {
        let offset = end;
        end = (offset + bytes).next_multiple_of(REGION_ALIGN_BYTES);
        offset
    };
    let (workers, ports) = (u64::from(options.workers), u64::from(options.ports));
    let _header = part(u64::from(HEADER_BYTES));
    let facts_offset = part(u64::from(FACTS_BLOCK_BYTES));
    let cores_offset = part(u64::from(CORE_BLOCK_BYTES) * workers);
    let ports_offset = part(u64::from(PORT_BLOCK_BYTES) * ports);
    let producers_offset = part(u64::from(RING_BLOCK_BYTES) * workers);
    let consumers_offset = part(u64::from(RING_BLOCK_BYTES) * workers);
    let slots_offset = part(u64::from(options.ring_records) * RECORD_BYTES as u64 * workers);
    RegionHeader {
        magic: REGION_MAGIC,
        abi_epoch: ABI_EPOCH,
        header_bytes: HEADER_BYTES,
        region_bytes: end,
        boot_id: options.boot_id,
        workers: options.workers,
        ports: options.ports,
        ring_records: options.ring_records,
        record_bytes: SLOT_BYTES,
        facts_block_bytes: FACTS_BLOCK_BYTES,
        core_block_bytes: CORE_BLOCK_BYTES,
        port_block_bytes: PORT_BLOCK_BYTES,
        ring_block_bytes: RING_BLOCK_BYTES,
        facts_offset,
        cores_offset,
        ports_offset,
        producers_offset,
        consumers_offset,
        slots_offset,
        reserved: 0,
    }
}

pub(crate) fn validate(options: &RegionOptions) -> Result<(), RegionError> {
    let checks = [
        ("workers", options.workers, 1, WORKERS_LIMIT),
        ("ports", options.ports, 0, PORTS_LIMIT),
        (
            "ring_records",
            options.ring_records,
            RING_RECORDS_MIN,
            RING_RECORDS_MAX,
        ),
    ];
    for (what, value, min, max) in checks {
        if value < min || value > max {
            return Err(RegionError::Option {
                what,
                value,
                min,
                max,
            });
        }
    }
    if !options.ring_records.is_power_of_two() {
        let (value, next) = (
            options.ring_records,
            options.ring_records.next_power_of_two(),
        );
        return Err(RegionError::NotAPowerOfTwo { value, next });
    }
    Ok(())
}

/// Checks a header that came from elsewhere. Everything but the sizes chosen at run time must be
/// exactly what this build would have written for those sizes.
pub(crate) fn check(header: &RegionHeader, file_bytes: u64) -> Result<(), RegionError> {
    if header.magic != REGION_MAGIC {
        return Err(RegionError::Magic {
            found: header.magic,
        });
    }
    if header.abi_epoch != ABI_EPOCH {
        return Err(RegionError::Epoch {
            theirs: header.abi_epoch,
            ours: ABI_EPOCH,
        });
    }
    let options = RegionOptions {
        workers: header.workers,
        ports: header.ports,
        ring_records: header.ring_records,
        boot_id: header.boot_id,
    };
    validate(&options)?;
    check_plan(header, &plan(&options), file_bytes)
}

/// Checks every size and offset against what this build would have written.
fn check_plan(
    header: &RegionHeader,
    ours: &RegionHeader,
    file_bytes: u64,
) -> Result<(), RegionError> {
    let same = |field, found: u64, expected: u64| {
        if found == expected {
            Ok(())
        } else {
            Err(RegionError::Header {
                field,
                found,
                expected,
            })
        }
    };
    let same32 = |field, found: u32, expected: u32| same(field, found.into(), expected.into());
    same32("header_bytes", header.header_bytes, ours.header_bytes)?;
    same32("record_bytes", header.record_bytes, ours.record_bytes)?;
    same32(
        "facts_block_bytes",
        header.facts_block_bytes,
        ours.facts_block_bytes,
    )?;
    same32(
        "core_block_bytes",
        header.core_block_bytes,
        ours.core_block_bytes,
    )?;
    same32(
        "port_block_bytes",
        header.port_block_bytes,
        ours.port_block_bytes,
    )?;
    same32(
        "ring_block_bytes",
        header.ring_block_bytes,
        ours.ring_block_bytes,
    )?;
    same("facts_offset", header.facts_offset, ours.facts_offset)?;
    same("cores_offset", header.cores_offset, ours.cores_offset)?;
    same("ports_offset", header.ports_offset, ours.ports_offset)?;
    same(
        "producers_offset",
        header.producers_offset,
        ours.producers_offset,
    )?;
    same(
        "consumers_offset",
        header.consumers_offset,
        ours.consumers_offset,
    )?;
    same("slots_offset", header.slots_offset, ours.slots_offset)?;
    same("reserved", header.reserved, ours.reserved)?;
    same("region_bytes", header.region_bytes, ours.region_bytes)?;
    same("region_bytes", header.region_bytes, file_bytes)
}

//! Checks every offset, index and value of an image once, before any core sees it.
//!
//! Control checks an image when it writes one, the dataplane when it reads one, by this same code.

mod hosts;
mod hot;
mod raw;
mod v4;

use crate::error::ImageError;
use crate::image::{self, PolicyImage};
use abi::image::{
    ALIGN_BYTES, Header, IMAGE_BYTES_MAX, IMAGE_FORMAT, MAGIC, PAIR_BLOCK, SECTION_COUNT,
    SECTIONS_OFFSET, Section, SectionEntry, checksum,
};
use core::ops::Range;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The image's sections while they are being checked.
pub(crate) struct Sections<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    ranges: Vec<Range<usize>>,
}

impl<'a> Sections<'a> {
    fn rows<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        section: Section,
    ) -> &'a [T] {
        image::rows(self.bytes, &self.ranges, section)
    }

    fn count(&self, section: Section) -> usize {
        self.rows_bytes(section) / section.row_bytes()
    }

    fn rows_bytes(&self, section: Section) -> usize {
        self.ranges
            .get(usize::from(section.byte() - 1))
            .map_or(0, ExactSizeIterator::len)
    }
}

/// One row under check: where it is, so that an error can say so.
#[derive(Clone, Copy)]
pub(crate) struct At {
    section: Section,
    row: usize,
}

impl At {
    fn refuse(self, field: &'static str, value: impl Into<u64>) -> ImageError {
        ImageError::Row {
            section: self.section,
            row: self.row,
            field,
            value: value.into(),
        }
    }

    /// `value < limit`.
    fn below(self, field: &'static str, value: u32, limit: usize) -> Result<(), ImageError> {
        self.when((value as usize) < limit, field, value)
    }

    /// `first .. first + count` lies within `limit` rows.
    fn within(
        self,
        field: &'static str,
        first: U32,
        count: U32,
        limit: usize,
    ) -> Result<(), ImageError> {
        self.when(image::span(first, count).end <= limit, field, first.get())
    }

    fn when(
        self,
        holds: bool,
        field: &'static str,
        value: impl Into<u64>,
    ) -> Result<(), ImageError> {
        if holds {
            Ok(())
        } else {
            Err(self.refuse(field, value))
        }
    }

    /// The enum value of a byte.
    fn byte<T>(self, field: &'static str, value: u8, found: Option<T>) -> Result<T, ImageError> {
        found.ok_or_else(|| self.refuse(field, value))
    }
}

/// Numbered rows of a section.
fn numbered<T>(section: Section, rows: &[T]) -> impl Iterator<Item = (At, &T)> {
    rows.iter()
        .enumerate()
        .map(move |(row, value)| (At { section, row }, value))
}

impl PolicyImage {
    /// Checks everything and copies what cores walk into aligned tables.
    ///
    /// # Errors
    /// [`ImageError`] names the first thing that cannot be. The caller keeps the policy it has.
    ///
    /// # Unbounded
    /// Work grows with the image. Main thread or control only, never a polling core.
    pub fn check(bytes: impl Into<Box<[u8]>>) -> Result<Self, ImageError> {
        let bytes = bytes.into();
        let header = *frame(&bytes)?;
        let ranges = section_table(&bytes)?;
        let sections = Sections {
            bytes: &bytes,
            header: &header,
            ranges,
        };
        classes(&sections)?;
        let rules_by_id = raw::check(&sections)?;
        let tables = hot::check(&sections)?;
        let ranges = sections.ranges;
        Ok(Self {
            header,
            ranges,
            tables,
            rules_by_id,
            bytes,
        })
    }
}

/// Header and checksum.
fn frame(bytes: &[u8]) -> Result<&Header, ImageError> {
    let size = ImageError::Size { bytes: bytes.len() };
    if bytes.len() > IMAGE_BYTES_MAX || !bytes.len().is_multiple_of(ALIGN_BYTES) {
        return Err(size);
    }
    let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
        return Err(size);
    };
    if header.magic != MAGIC {
        return Err(ImageError::Magic);
    }
    let (abi_epoch, format) = (header.abi_epoch.get(), header.image_format.get());
    if abi_epoch != abi::ABI_EPOCH {
        return Err(ImageError::AbiEpoch {
            found: abi_epoch,
            ours: abi::ABI_EPOCH,
        });
    }
    if format != IMAGE_FORMAT {
        return Err(ImageError::Format { found: format });
    }
    if header.total_bytes.get() != bytes.len() as u64 {
        return Err(ImageError::Length {
            stated: header.total_bytes.get(),
            bytes: bytes.len(),
        });
    }
    let (found, computed) = (header.checksum.get(), checksum(bytes));
    if found != computed {
        return Err(ImageError::Checksum { found, computed });
    }
    if header.epoch.get() == 0 {
        return Err(ImageError::EpochZero);
    }
    if header.section_count.get() as usize != SECTION_COUNT {
        let value = u64::from(header.section_count.get());
        return Err(ImageError::Header {
            field: "section_count",
            value,
        });
    }
    if header.reserved != [0; 24] {
        return Err(ImageError::Header {
            field: "reserved",
            value: 1,
        });
    }
    Ok(header)
}

/// Ranges of the sections. Each begins where the one before it ends, so that none can overlap.
fn section_table(bytes: &[u8]) -> Result<Vec<Range<usize>>, ImageError> {
    let table = bytes
        .get(size_of::<Header>()..SECTIONS_OFFSET)
        .unwrap_or(&[]);
    let entries = <[SectionEntry]>::ref_from_bytes(table)
        .map_err(|_| ImageError::Size { bytes: bytes.len() })?;
    let mut ranges = Vec::with_capacity(SECTION_COUNT);
    let mut offset = SECTIONS_OFFSET;
    for (section, entry) in Section::ALL.iter().zip(entries) {
        let refuse = ImageError::SectionTable { section: *section };
        let row_bytes = section.row_bytes();
        if entry.section.get() != u32::from(section.byte())
            || entry.row_bytes.get() as usize != row_bytes
            || entry.offset.get() != offset as u64
        {
            return Err(refuse);
        }
        let end = usize::try_from(entry.count.get())
            .ok()
            .and_then(|count| count.checked_mul(row_bytes))
            .and_then(|size| offset.checked_add(size))
            .filter(|end| *end <= bytes.len());
        let Some(end) = end else { return Err(refuse) };
        let padded = end.next_multiple_of(ALIGN_BYTES);
        if bytes
            .get(end..padded)
            .is_none_or(|padding| padding.iter().any(|byte| *byte != 0))
        {
            return Err(refuse);
        }
        ranges.push(offset..end);
        offset = padded;
    }
    if offset != bytes.len() {
        return Err(ImageError::SectionTable {
            section: Section::Strings,
        });
    }
    Ok(ranges)
}

/// The header's class counts agree with each other and with the pair index.
fn classes(sections: &Sections<'_>) -> Result<(), ImageError> {
    let header = sections.header;
    let (sources, destinations) = (
        header.source_classes.get(),
        header.destination_classes.get(),
    );
    let stride = header.pair_stride.get();
    for (field, value) in [
        ("source_classes", sources),
        ("destination_classes", destinations),
        ("service_classes", header.service_classes.get()),
    ] {
        if value == 0 {
            return Err(ImageError::Header { field, value: 0 });
        }
    }
    if stride != destinations.div_ceil(PAIR_BLOCK) {
        return Err(ImageError::Header {
            field: "pair_stride",
            value: u64::from(stride),
        });
    }
    let pairs = sections.count(Section::PairIndex);
    if u64::from(sources) * u64::from(stride) != pairs as u64 {
        return Err(ImageError::SectionCount {
            section: Section::PairIndex,
            count: pairs,
        });
    }
    Ok(())
}

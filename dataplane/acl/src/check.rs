//! Checks every offset, index and value of an image once, before any core sees it.
//!
//! Control checks an image when it writes one, the dataplane when it reads one, by this same code.

mod change;
mod hosts;
mod hot;
mod raw;
mod sections;
mod v4;

use crate::error::ImageError;
use crate::image::{Part, PolicyImage, RuleIndex};
use crate::tables::Tables;
use abi::image::{
    ALIGN_BYTES, Header, IMAGE_BYTES_MAX, IMAGE_FORMAT, MAGIC, PAIR_BLOCK, SECTION_COUNT,
    SECTIONS_OFFSET, Section, SectionEntry, checksum, section_checksum,
};
use core::ops::Range;
use sections::Sections;
use std::sync::Arc;
use zerocopy::FromBytes;

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
        let header = *frame(&bytes, bytes.len())?;
        let ranges = section_ranges(&bytes, &header)?;
        whole_sections(&bytes, &ranges)?;
        let front = bytes.get(..SECTIONS_OFFSET).unwrap_or(&[]).into();
        let bytes = Arc::new(bytes);
        let part = |range: &Range<usize>| Part::of(&bytes, range.clone());
        let parts: Vec<Part> = ranges.iter().map(part).collect();
        let (tables, rules_by_id) = build(&Sections::unknown(&header, &parts))?;
        Ok(Self {
            front,
            header,
            parts,
            tables,
            rules_by_id,
        })
    }

    fn section_table(&self) -> &[SectionEntry] {
        section_table(&self.front)
    }
}

/// Checks what stands in the sections and makes what is walked: the tables, and the rules by id.
fn build(sections: &Sections<'_>) -> Result<(Tables, Arc<[RuleIndex]>), ImageError> {
    classes(sections)?;
    let rules_by_id = raw::check(sections)?;
    Ok((hot::check(sections)?, rules_by_id))
}

/// The header of an image of `length` bytes, and the checksum of its front.
fn frame(front: &[u8], length: usize) -> Result<&Header, ImageError> {
    let size = ImageError::Size { bytes: length };
    if length > IMAGE_BYTES_MAX || !length.is_multiple_of(ALIGN_BYTES) {
        return Err(size);
    }
    let Ok((header, _)) = Header::ref_from_prefix(front) else {
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
    if header.total_bytes.get() != length as u64 {
        return Err(ImageError::Length {
            stated: header.total_bytes.get(),
            bytes: length,
        });
    }
    let (found, computed) = (header.checksum.get(), checksum(front));
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

/// The section table behind a header; empty where it is cut.
fn section_table(front: &[u8]) -> &[SectionEntry] {
    front
        .get(size_of::<Header>()..SECTIONS_OFFSET)
        .and_then(|table| <[SectionEntry]>::ref_from_bytes(table).ok())
        .unwrap_or(&[])
}

/// Ranges of the sections, without the zeros behind them. Each begins where the one before it ends,
/// so that none can overlap, and the last ends with the image.
fn section_ranges(front: &[u8], header: &Header) -> Result<Vec<Range<usize>>, ImageError> {
    let entries = section_table(front);
    let total = usize::try_from(header.total_bytes.get()).unwrap_or(0);
    if entries.len() != SECTION_COUNT {
        return Err(ImageError::Size { bytes: total });
    }
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
            .filter(|end| *end <= total);
        let Some(end) = end else { return Err(refuse) };
        ranges.push(offset..end);
        offset = end.next_multiple_of(ALIGN_BYTES);
    }
    if offset != total {
        return Err(ImageError::SectionTable {
            section: Section::Strings,
        });
    }
    Ok(ranges)
}

/// Every section has its checksum, and zeros behind it.
fn whole_sections(bytes: &[u8], ranges: &[Range<usize>]) -> Result<(), ImageError> {
    let entries = section_table(bytes);
    for ((section, entry), range) in Section::ALL.iter().zip(entries).zip(ranges) {
        let section = *section;
        let rows = bytes.get(range.clone()).unwrap_or(&[]);
        let (found, computed) = (entry.checksum.get(), section_checksum(rows));
        if found != computed {
            return Err(ImageError::SectionChecksum {
                section,
                found,
                computed,
            });
        }
        let padded = range.end.next_multiple_of(ALIGN_BYTES);
        let padding = bytes.get(range.end..padded);
        if padding.is_none_or(|padding| padding.iter().any(|byte| *byte != 0)) {
            return Err(ImageError::SectionTable { section });
        }
    }
    Ok(())
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

//! Puts an image together: sections in, sealed bytes out.

use super::{
    ALIGN_BYTES, CHECKSUM_OFFSET, Header, IMAGE_BYTES_MAX, IMAGE_FORMAT, MAGIC, PAIR_BLOCK,
    SECTION_COUNT, SECTIONS_OFFSET, Section, SectionEntry, checksum, section_checksum,
};
use crate::ABI_EPOCH;
use std::borrow::Cow;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

/// What the writer cannot seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The image would be larger than any reader accepts.
    #[error(
        "the policy image would be {bytes} bytes, the limit is {IMAGE_BYTES_MAX}: use fewer segments, rules or workloads"
    )]
    TooLarge {
        /// Bytes it would have.
        bytes: usize,
    },
}

/// Puts sections together and seals them with header, section table and checksum.
#[derive(Debug)]
pub struct ImageWriter<'a> {
    sections: [Cow<'a, [u8]>; SECTION_COUNT],
}

/// The header's fields that the writer does not know by itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Policy epoch, not 0.
    pub epoch: u64,
    /// SHA-256 of the policy text.
    pub revision: [u8; 32],
    /// Source classes.
    pub source_classes: u32,
    /// Destination classes.
    pub destination_classes: u32,
    /// Service classes.
    pub service_classes: u32,
    /// Identity of an IPv6 address that no prefix covers.
    pub v6_default_identity: u32,
    /// Day of compilation, days since 1970-01-01.
    pub compiled_day: u32,
    /// First later day on which a rule expires, [`NONE`] if none does.
    pub next_expiry_day: u32,
}

impl<'a> ImageWriter<'a> {
    /// No section has rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sections: [const { Cow::Borrowed(&[]) }; SECTION_COUNT],
        }
    }

    /// Sets the rows of a section; they are copied. Unaligned rows only, so that no native-endian
    /// integer slips in.
    ///
    /// # Panics
    /// Never in a release build; a debug build asserts that the rows are those of the section.
    pub fn put<T: IntoBytes + Immutable + Unaligned>(
        &mut self,
        section: Section,
        rows: &[T],
    ) -> &mut Self {
        debug_assert_eq!(size_of::<T>(), section.row_bytes(), "rows of {section}");
        if let Some(bytes) = self.sections.get_mut(usize::from(section.byte() - 1)) {
            *bytes = Cow::Owned(rows.as_bytes().to_vec());
        }
        self
    }

    /// As [`Self::put`], for rows that stay where they are until the image is sealed.
    ///
    /// # Panics
    /// As [`Self::put`].
    pub fn lend<T: IntoBytes + Immutable + Unaligned>(
        &mut self,
        section: Section,
        rows: &'a [T],
    ) -> &mut Self {
        debug_assert_eq!(size_of::<T>(), section.row_bytes(), "rows of {section}");
        if let Some(bytes) = self.sections.get_mut(usize::from(section.byte() - 1)) {
            *bytes = Cow::Borrowed(rows.as_bytes());
        }
        self
    }

    /// The bytes of the image.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] above [`IMAGE_BYTES_MAX`].
    pub fn seal(&self, facts: &Facts) -> Result<Vec<u8>, SealError> {
        let bodies: usize = self
            .sections
            .iter()
            .map(|s| s.len().next_multiple_of(ALIGN_BYTES))
            .sum();
        let total = SECTIONS_OFFSET + bodies;
        if total > IMAGE_BYTES_MAX {
            return Err(SealError::TooLarge { bytes: total });
        }
        let mut image = Vec::with_capacity(total);
        image.extend_from_slice(header(facts, total).as_bytes());
        let mut offset = SECTIONS_OFFSET;
        for (section, body) in Section::ALL.iter().zip(&self.sections) {
            let entry = SectionEntry {
                section: U32::new(u32::from(section.byte())),
                row_bytes: U32::new(u32::try_from(section.row_bytes()).unwrap_or(0)),
                offset: U64::new(offset as u64),
                count: U64::new((body.len() / section.row_bytes()) as u64),
                checksum: U64::new(0),
            };
            image.extend_from_slice(entry.as_bytes());
            offset += body.len().next_multiple_of(ALIGN_BYTES);
        }
        for body in &self.sections {
            image.extend_from_slice(body);
            image.resize(image.len().next_multiple_of(ALIGN_BYTES), 0);
        }
        reseal(&mut image);
        Ok(image)
    }
}

impl Default for ImageWriter<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes the right checksums into an image: those of the sections that its table finds, and that of
/// the front. Of the front alone, the sections' stay. Bytes shorter than a header stay as they are.
pub fn reseal(image: &mut [u8]) {
    if let Some((front, sections)) = image.split_at_mut_checked(SECTIONS_OFFSET)
        && let Some(table) = front.get_mut(size_of::<Header>()..)
        && let Ok(entries) = <[SectionEntry]>::mut_from_bytes(table)
    {
        for (section, entry) in Section::ALL.iter().zip(entries) {
            let number = |number: U64| usize::try_from(number.get()).ok();
            let rows = number(entry.offset)
                .and_then(|offset| offset.checked_sub(SECTIONS_OFFSET))
                .zip(number(entry.count))
                .and_then(|(first, count)| {
                    let bytes = count.checked_mul(section.row_bytes())?;
                    sections.get(first..first.checked_add(bytes)?)
                });
            if let Some(rows) = rows.filter(|_| !sections.is_empty()) {
                entry.checksum.set(section_checksum(rows));
            }
        }
    }
    let sum = checksum(image).to_le_bytes();
    if let Some(field) = image.get_mut(CHECKSUM_OFFSET..CHECKSUM_OFFSET + 8) {
        field.copy_from_slice(&sum);
    }
}

fn header(facts: &Facts, total_bytes: usize) -> Header {
    Header {
        magic: MAGIC,
        abi_epoch: U32::new(ABI_EPOCH),
        image_format: U32::new(IMAGE_FORMAT),
        epoch: U64::new(facts.epoch),
        total_bytes: U64::new(total_bytes as u64),
        checksum: U64::new(0),
        revision: facts.revision,
        section_count: U32::new(u32::from(Section::Strings.byte())),
        source_classes: U32::new(facts.source_classes),
        destination_classes: U32::new(facts.destination_classes),
        pair_stride: U32::new(facts.destination_classes.div_ceil(PAIR_BLOCK)),
        service_classes: U32::new(facts.service_classes),
        v6_default_identity: U32::new(facts.v6_default_identity),
        compiled_day: U32::new(facts.compiled_day),
        next_expiry_day: U32::new(facts.next_expiry_day),
        reserved: [0; 24],
    }
}

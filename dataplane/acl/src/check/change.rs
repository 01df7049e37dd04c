//! Lays a change over the image it was made of.

use super::sections::{Changed, Sections};
use super::{build, frame, section_ranges};
use crate::error::ImageError;
use crate::image::{Part, PolicyImage};
use abi::image::change::{Change, Laid};
use abi::image::{Header, Section, section_checksum};

impl PolicyImage {
    /// Makes a new image of this one and a change of it. Sections that did not change are shared, and
    /// what was found about them holds; the others are checked as [`PolicyImage::check`] does, row by
    /// row where only rows changed. What comes out is what [`PolicyImage::check`] makes of the whole.
    ///
    /// # Errors
    /// [`ImageError`]; [`ImageError::Base`] where the change is one of another image. The caller
    /// keeps the policy it has.
    ///
    /// # Unbounded
    /// As [`PolicyImage::check`].
    pub fn check_change(&self, change: &[u8]) -> Result<Self, ImageError> {
        let change = Change::read(change).ok_or(ImageError::Change)?;
        let (base_epoch, base_checksum) = (
            change.header.base_epoch.get(),
            change.header.base_checksum.get(),
        );
        if (base_epoch, base_checksum) != (self.epoch(), self.header.checksum.get()) {
            return Err(ImageError::Base {
                base_epoch,
                base_checksum,
            });
        }
        let total = change.image_header().map_or(0, |h| h.total_bytes.get());
        let header = *frame(change.front, usize::try_from(total).unwrap_or(0))?;
        let (parts, changed) = self.lay(&change, &header)?;
        let sections = Sections {
            header: &header,
            parts: &parts,
            changed,
            // What rows were asked about the header's numbers holds only for the same numbers.
            base: Some(self).filter(|base| numbers(&base.header) == numbers(&header)),
        };
        let (tables, rules_by_id) = build(&sections)?;
        Ok(Self {
            front: change.front.into(),
            header,
            parts,
            tables,
            rules_by_id,
        })
    }

    /// The sections of the new image, each with its checksum.
    fn lay(
        &self,
        change: &Change<'_>,
        header: &Header,
    ) -> Result<(Vec<Part>, Vec<Changed>), ImageError> {
        let ranges = section_ranges(change.front, header)?;
        let entries = change.section_table().unwrap_or(&[]);
        let mut pieces = change.pieces.as_slice();
        let mut parts = Vec::with_capacity(ranges.len());
        let mut changed = Vec::with_capacity(ranges.len());
        let bases = self.parts.iter().zip(self.section_table());
        for (((range, entry), (base, base_entry)), section) in
            ranges.iter().zip(entries).zip(bases).zip(Section::ALL)
        {
            let own = pieces.partition_point(|piece| piece.section <= *section);
            let laid;
            (laid, pieces) = pieces.split_at_checked(own).unwrap_or((pieces, &[]));
            let found = entry.checksum.get();
            let (part, how, computed) = if laid.is_empty() && range.len() == base.len() {
                (base.clone(), Changed::No, base_entry.checksum.get())
            } else {
                let rows = laid_over(base, laid, range.len());
                let rows = rows.ok_or(ImageError::Pieces { section: *section })?;
                let computed = section_checksum(&rows);
                (
                    Part::alone(rows),
                    how(*section, base, laid, range.len()),
                    computed,
                )
            };
            if found != computed {
                return Err(ImageError::SectionChecksum {
                    section: *section,
                    found,
                    computed,
                });
            }
            parts.push(part);
            changed.push(how);
        }
        Ok((parts, changed))
    }
}

/// Numbers of the header that rows are checked against.
fn numbers(header: &Header) -> [u32; 5] {
    [
        header.source_classes,
        header.destination_classes,
        header.pair_stride,
        header.service_classes,
        header.v6_default_identity,
    ]
    .map(|number| number.get())
}

/// The bytes of a section: those of the base with pieces laid over them, or one piece.
fn laid_over(base: &[u8], pieces: &[Laid<'_>], length: usize) -> Option<Vec<u8>> {
    if base.len() == length {
        let mut bytes = base.to_vec();
        for piece in pieces {
            let end = piece.offset.checked_add(piece.bytes.len())?;
            bytes
                .get_mut(piece.offset..end)?
                .copy_from_slice(piece.bytes);
        }
        return Some(bytes);
    }
    match pieces {
        [] if length == 0 => Some(Vec::new()),
        [piece] if piece.offset == 0 && piece.bytes.len() == length => Some(piece.bytes.to_vec()),
        _ => None,
    }
}

/// Which rows pieces touch.
fn how(section: Section, base: &[u8], pieces: &[Laid<'_>], length: usize) -> Changed {
    if base.len() != length {
        return Changed::All;
    }
    let row = section.row_bytes();
    let rows =
        |piece: &Laid<'_>| piece.offset / row..(piece.offset + piece.bytes.len()).div_ceil(row);
    Changed::Rows(pieces.iter().map(rows).collect())
}

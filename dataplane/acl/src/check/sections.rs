//! The sections of an image while it is being checked, and what of them has been checked before.

use crate::error::ImageError;
use crate::image::{self, Part, PolicyImage};
use abi::image::{Header, Section};
use core::ops::Range;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// How the rows of a section stand to those of the base.
#[derive(Clone, Debug)]
pub(super) enum Changed {
    /// They are the same.
    No,
    /// There are as many, and those outside these ranges are the same.
    Rows(Vec<Range<usize>>),
    /// Nothing is known: there is no base, or it has another number of them.
    All,
}

/// The image's sections, and the image they were made of, if that has been checked.
pub(crate) struct Sections<'a> {
    pub(super) header: &'a Header,
    pub(super) parts: &'a [Part],
    pub(super) changed: Vec<Changed>,
    pub(super) base: Option<&'a PolicyImage>,
}

impl<'a> Sections<'a> {
    /// Of an image of which nothing has been checked before.
    pub(super) fn unknown(header: &'a Header, parts: &'a [Part]) -> Self {
        Self {
            header,
            parts,
            changed: vec![Changed::All; parts.len()],
            base: None,
        }
    }

    pub(super) fn rows<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        section: Section,
    ) -> &'a [T] {
        image::rows(self.parts, section)
    }

    pub(super) fn count(&self, section: Section) -> usize {
        image::part(self.parts, section).len() / section.row_bytes()
    }

    /// The base, where it has the same rows in `same` and as many in `as_many`: what was found about
    /// these holds again.
    pub(super) fn kept(&self, same: &[Section], as_many: &[Section]) -> Option<&'a PolicyImage> {
        let is_same = |section: &Section| matches!(self.changed(*section), Changed::No);
        let is_as_many = |section: &Section| !matches!(self.changed(*section), Changed::All);
        let holds = same.iter().all(is_same) && as_many.iter().all(is_as_many);
        self.base.filter(|_| holds)
    }

    /// The rows of a section that have to be asked, where the answer depends on the row, on the rows
    /// of `same` and on how many there are in `as_many`.
    pub(super) fn asked<T: FromBytes + KnownLayout + Immutable + Unaligned + 'a>(
        &self,
        section: Section,
        same: &[Section],
        as_many: &[Section],
    ) -> impl Iterator<Item = (At, &'a T)> + use<'a, T> {
        let rows = self.rows::<T>(section);
        let ranges = match (self.kept(same, as_many), self.changed(section)) {
            (Some(_), Changed::No) => Vec::new(),
            (Some(_), Changed::Rows(ranges)) => ranges.clone(),
            _ => core::iter::once(0..rows.len()).collect(),
        };
        ranges.into_iter().flat_map(move |range| {
            let first = range.start;
            let rows = rows.get(range).unwrap_or(&[]);
            let at = move |row| At { section, row };
            (first..)
                .zip(rows)
                .map(move |(row, value)| (at(row), value))
        })
    }

    /// For each row of a section whether it may be another than in the base.
    pub(super) fn is_changed(&self, section: Section) -> Vec<bool> {
        let all = matches!(self.changed(section), Changed::All);
        let mut changed = vec![all; self.count(section)];
        if let Changed::Rows(ranges) = self.changed(section) {
            for range in ranges {
                changed
                    .get_mut(range.clone())
                    .unwrap_or_default()
                    .fill(true);
            }
        }
        changed
    }

    fn changed(&self, section: Section) -> &Changed {
        let changed = self.changed.get(usize::from(section.byte() - 1));
        changed.unwrap_or(&Changed::All)
    }
}

/// One row under check: where it is, so that an error can say so.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(super) section: Section,
    pub(super) row: usize,
}

impl At {
    pub(super) fn refuse(self, field: &'static str, value: impl Into<u64>) -> ImageError {
        ImageError::Row {
            section: self.section,
            row: self.row,
            field,
            value: value.into(),
        }
    }

    /// `value < limit`.
    pub(super) fn below(
        self,
        field: &'static str,
        value: u32,
        limit: usize,
    ) -> Result<(), ImageError> {
        self.when((value as usize) < limit, field, value)
    }

    /// `first .. first + count` lies within `limit` rows.
    pub(super) fn within(
        self,
        field: &'static str,
        first: U32,
        count: U32,
        limit: usize,
    ) -> Result<(), ImageError> {
        self.when(image::span(first, count).end <= limit, field, first.get())
    }

    pub(super) fn when(
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
    pub(super) fn byte<T>(
        self,
        field: &'static str,
        value: u8,
        found: Option<T>,
    ) -> Result<T, ImageError> {
        found.ok_or_else(|| self.refuse(field, value))
    }
}

/// Numbered rows of a section.
pub(super) fn numbered<T>(section: Section, rows: &[T]) -> impl Iterator<Item = (At, &T)> {
    rows.iter()
        .enumerate()
        .map(move |(row, value)| (At { section, row }, value))
}

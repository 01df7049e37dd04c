//! What an image has that another has not: what is sent where the receiver holds the other.
//!
//! A [`ChangeHeader`] names the base. The front of the new image follows, whole, and then pieces: a
//! [`Piece`] and its bytes each, ascending by section and place. A section without a piece is that
//! of the base. One that is as long as in the base is that of the base with its pieces laid over
//! it. One of another length is one piece, or none where it is empty.
//!
//! The sender compares byte by byte: that a section is left out never rests on a checksum.

use super::{Header, SECTIONS_OFFSET, Section, SectionEntry};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Which image the change is to be laid over: that one and no other.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct ChangeHeader {
    /// Its policy epoch.
    pub base_epoch: U64,
    /// Its [`checksum`](super::checksum).
    pub base_checksum: U64,
}

/// Where bytes of a section are others than in the base.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct Piece {
    /// [`Section`].
    pub section: U32,
    /// First of them, from the section's first byte.
    pub offset: U32,
    /// How many, never 0.
    pub bytes: U32,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<ChangeHeader>() == 16 && size_of::<Piece>() == 16);

/// Bytes before the first piece.
pub const PIECES_OFFSET: usize = size_of::<ChangeHeader>() + SECTIONS_OFFSET;
/// Bytes that are compared as one where a row is shorter.
const BLOCK_BYTES: usize = 16;
/// Blocks that are compared at a time before each is.
const BLOCKS_AT_ONCE: usize = 64;

/// Puts a change together.
#[derive(Debug)]
pub struct ChangeWriter {
    bytes: Vec<u8>,
}

impl ChangeWriter {
    /// A change of the image with the header `base` to the one with the front `front`.
    #[must_use]
    pub fn new(base: &Header, front: &[u8]) -> Self {
        let header = ChangeHeader {
            base_epoch: base.epoch,
            base_checksum: base.checksum,
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(front);
        Self { bytes }
    }

    /// Takes in what a section has that the base's has not. Sections come in their order.
    pub fn compare(&mut self, section: Section, base: &[u8], new: &[u8]) {
        if base.len() != new.len() {
            return self.piece(section, 0, new);
        }
        let block = match section.row_bytes() {
            row if row >= BLOCK_BYTES => row,
            _ => BLOCK_BYTES,
        };
        let at_once = block * BLOCKS_AT_ONCE;
        let mut run = 0..0;
        for (first, (old, now)) in base.chunks(at_once).zip(new.chunks(at_once)).enumerate() {
            if old == now {
                continue;
            }
            let blocks = old.chunks(block).zip(now.chunks(block)).enumerate();
            for (at, (_, now)) in blocks.filter(|(_, (old, now))| old != now) {
                let start = first * at_once + at * block;
                if run.end != start {
                    self.piece(section, run.start, new.get(run.clone()).unwrap_or(&[]));
                    run.start = start;
                }
                run.end = start + now.len();
            }
        }
        self.piece(section, run.start, new.get(run.clone()).unwrap_or(&[]));
    }

    /// Sections are far below 4 GiB, as images are.
    fn piece(&mut self, section: Section, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let number = |number: usize| U32::new(u32::try_from(number).unwrap_or(u32::MAX));
        let piece = Piece {
            section: U32::new(u32::from(section.byte())),
            offset: number(offset),
            bytes: number(bytes.len()),
            reserved: U32::ZERO,
        };
        self.bytes.extend_from_slice(piece.as_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes of the change.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes of a section that are others than in the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laid<'a> {
    /// Section.
    pub section: Section,
    /// First of them, from the section's first byte.
    pub offset: usize,
    /// What they are now, at least one.
    pub bytes: &'a [u8],
}

/// A change as it was received. Its pieces ascend and do not meet; whether they fit their sections,
/// whoever lays them over a base has to ask.
#[derive(Debug)]
pub struct Change<'a> {
    /// Which image it is to be laid over.
    pub header: &'a ChangeHeader,
    /// Header and section table of the new image.
    pub front: &'a [u8],
    /// All pieces, in order.
    pub pieces: Vec<Laid<'a>>,
}

impl<'a> Change<'a> {
    /// Takes a change apart; `None` where it is none.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = ChangeHeader::ref_from_prefix(bytes).ok()?;
        let (front, mut rest) = rest.split_at_checked(SECTIONS_OFFSET)?;
        let mut pieces: Vec<Laid<'a>> = Vec::new();
        while !rest.is_empty() {
            let (piece, behind) = Piece::ref_from_prefix(rest).ok()?;
            let section = u8::try_from(piece.section.get()).ok();
            let reserved = piece.reserved.get();
            let bytes;
            (bytes, rest) = behind.split_at_checked(piece.bytes.get() as usize)?;
            let piece = Laid {
                section: section.and_then(Section::from_byte)?,
                offset: piece.offset.get() as usize,
                bytes,
            };
            let follows = pieces.last().is_none_or(|last| {
                let end = last.offset + last.bytes.len();
                (last.section, end) <= (piece.section, piece.offset)
            });
            if !follows || bytes.is_empty() || reserved != 0 {
                return None;
            }
            pieces.push(piece);
        }
        Some(Self {
            header,
            front,
            pieces,
        })
    }

    /// The header of the new image.
    #[must_use]
    pub fn image_header(&self) -> Option<&'a Header> {
        Header::ref_from_prefix(self.front)
            .ok()
            .map(|(header, _)| header)
    }

    /// The section table of the new image.
    #[must_use]
    pub fn section_table(&self) -> Option<&'a [SectionEntry]> {
        let table = self.front.get(size_of::<Header>()..)?;
        <[SectionEntry]>::ref_from_bytes(table).ok()
    }
}

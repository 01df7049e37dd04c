//! The policy image: what control compiles and publishes, and what a core evaluates.
//!
//! One contiguous run of bytes: a header, a section table, and the sections in the order of
//! [`Section::ALL`], each at a multiple of 8 with zero padding, so that an image has exactly one
//! form. Integers are little-endian. `LAYOUT-IMAGE.md` beside this crate has the byte rulers.
//!
//! This module holds the layout, the checksum, the few addressing functions that writer and reader
//! must share, and the writer that seals the bytes. `policy` decides what goes in, `acl` checks
//! every offset and evaluates.

pub mod change;
mod writer;

pub use writer::{Facts, ImageWriter, SealError, reseal};

use crate::byte_enum;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of every image.
pub const MAGIC: [u8; 8] = *b"RFPOLICY";
/// Number of the image's layout. Raised with every change below; any other is refused.
pub const IMAGE_FORMAT: u32 = 3;
/// Largest image, bytes. Writer and reader both refuse a larger one.
pub const IMAGE_BYTES_MAX: usize = 512 << 20;
/// Sections and rows begin at a multiple of this many bytes.
pub const ALIGN_BYTES: usize = 8;
/// An index that points nowhere: no rule, no limit, no service class in a slot.
pub const NONE: u32 = u32::MAX;
/// Set in an IPv4 trie entry that names a child node; clear where it names an identity.
pub const V4_CHILD: u32 = 1 << 31;
/// Entries of one IPv4 trie node, one address byte each.
pub const V4_NODE_ENTRIES: usize = 256;
/// Slots looked at for one IPv6 prefix length, at most.
pub const V6_PROBES_MAX: u32 = 8;
/// Length that marks an empty IPv6 slot.
pub const V6_EMPTY: u8 = 0xff;
/// Destination classes in one block of the pair table.
pub const PAIR_BLOCK: u32 = 16;
/// Entries of one service page (the high byte of the key) and of one service block (its low byte).
pub const SERVICE_PAGE: u32 = 256;
/// Index of the segment `any` in every image.
pub const SEGMENT_ANY: u32 = 0;
/// Index of the segment `internet`: neither internal nor a workload's.
pub const SEGMENT_INTERNET: u32 = 1;
/// Index of the segment `unmanaged`: internal and no workload's.
pub const SEGMENT_UNMANAGED: u32 = 2;
/// Names of the segments that are in every image, by index.
pub const BUILT_IN_SEGMENTS: [&str; 3] = ["any", "internet", "unmanaged"];
/// Bit of [`RuleRow::flags`]: the rule's date has passed, it matches nothing.
pub const RULE_EXPIRED: u32 = 1;
/// Candidate revisions whose verdicts have room in a verdict row.
pub const CANDIDATES_MAX: usize = 3;

byte_enum! {
    /// Where a rule stands. The lower code is asked first; the first with a match decides.
    pub enum Tier {
        /// What nobody below may undo.
        Guardrail = 1 => "guardrail",
        /// What an application's owner writes; the default.
        Application = 2 => "application",
        /// What holds where nobody said anything.
        Baseline = 3 => "baseline",
    }
}

byte_enum! {
    /// A rule's own mode, where it has one.
    pub enum RuleMode {
        /// The modes of the ends decide.
        Inherit = 0 => "inherit",
        /// Never takes effect, always counted.
        Test = 2 => "test",
        /// Takes effect whatever the modes of the ends.
        Enforce = 3 => "enforce",
    }
}

byte_enum! {
    /// What the token bucket of a limit rule counts.
    pub enum RateKind {
        /// Packets per second, `pps`.
        Packets = 1 => "pps",
        /// Bits per second of IP-layer bytes, `bps`.
        Bits = 2 => "bps",
        /// New flows per second, `cps`.
        Flows = 3 => "cps",
    }
}

byte_enum! {
    /// The sections of an image, in the order in which they stand.
    pub enum Section {
        /// `u32` x 256 per node: IPv4 trie, one address byte a level. Node 0 is the root.
        V4Nodes = 1 => "v4-nodes",
        /// `u8`: the distinct IPv6 prefix lengths, ascending, 1 to 128.
        V6Lengths = 2 => "v6-lengths",
        /// [`V6Slot`]: open-addressed table of prefixes and markers; a power of two of them.
        V6Slots = 3 => "v6-slots",
        /// [`IdentityRow`].
        Identities = 4 => "identities",
        /// `u32`: source class x pair stride + destination class / 64 -> pair block.
        PairIndex = 5 => "pair-index",
        /// `u32` x 64 per block: row set of a pair of classes.
        PairBlocks = 6 => "pair-blocks",
        /// [`RowSet`].
        RowSets = 7 => "row-sets",
        /// [`RowSlot`]: the row sets' exceptions from their default row.
        RowSlots = 8 => "row-slots",
        /// [`VerdictRow`].
        Verdicts = 9 => "verdicts",
        /// `u32` x 256: protocol number -> service table.
        ServiceProtos = 10 => "service-protos",
        /// `u32` x 256 per table: high byte of the key -> service block.
        ServicePages = 11 => "service-pages",
        /// `u16` x 256 per block: low byte of the key -> service class.
        ServiceBlocks = 12 => "service-blocks",
        /// [`RuleRow`], in no particular order.
        Rules = 13 => "rules",
        /// `u32`: pool of index lists (segments of rules and identities, services of rules).
        Lists = 14 => "lists",
        /// [`SegmentRow`]; the first three are [`BUILT_IN_SEGMENTS`].
        Segments = 15 => "segments",
        /// [`WorkloadRow`].
        Workloads = 16 => "workloads",
        /// [`PrefixRow`]: pool of prefixes (segments', workloads').
        Prefixes = 17 => "prefixes",
        /// [`PrefixRow`]: the internal address space.
        Internal = 18 => "internal",
        /// [`ServiceRow`].
        Services = 19 => "services",
        /// [`PortRow`]: pool of the services' ports.
        Ports = 20 => "ports",
        /// [`LimitRow`].
        Limits = 21 => "limits",
        /// UTF-8, names one after the other.
        Strings = 22 => "strings",
    }
}

impl Section {
    /// Bytes of one row.
    #[must_use]
    pub const fn row_bytes(self) -> usize {
        match self {
            Self::V6Lengths | Self::Strings => 1,
            Self::ServiceBlocks => 2,
            Self::V4Nodes
            | Self::PairIndex
            | Self::PairBlocks
            | Self::ServiceProtos
            | Self::ServicePages
            | Self::Lists => 4,
            Self::V6Slots => size_of::<V6Slot>(),
            Self::Identities => size_of::<IdentityRow>(),
            Self::RowSets => size_of::<RowSet>(),
            Self::RowSlots => size_of::<RowSlot>(),
            Self::Verdicts => size_of::<VerdictRow>(),
            Self::Rules => size_of::<RuleRow>(),
            Self::Segments => size_of::<SegmentRow>(),
            Self::Workloads => size_of::<WorkloadRow>(),
            Self::Prefixes | Self::Internal => size_of::<PrefixRow>(),
            Self::Services => size_of::<ServiceRow>(),
            Self::Ports => size_of::<PortRow>(),
            Self::Limits => size_of::<LimitRow>(),
        }
    }
}

/// Sections of an image: all of them, always.
pub const SECTION_COUNT: usize = Section::ALL.len();
/// Where the first section begins, bytes: behind the header and the section table, the *front* of
/// the image.
pub const SECTIONS_OFFSET: usize = size_of::<Header>() + SECTION_COUNT * size_of::<SectionEntry>();

macro_rules! rows {
    ($($(#[$meta:meta])* pub struct $name:ident = $bytes:literal { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)+ })+) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)+ }

        const _: () = assert!(size_of::<$name>() == $bytes);
    )+};
}

rows! {
    /// The header: the first 128 bytes.
    pub struct Header = 128 {
        /// [`MAGIC`].
        magic: [u8; 8],
        /// [`ABI_EPOCH`](crate::ABI_EPOCH) of the writer.
        abi_epoch: U32,
        /// [`IMAGE_FORMAT`] of the writer.
        image_format: U32,
        /// Policy epoch: rises with every publication, never 0.
        epoch: U64,
        /// Bytes of the whole image.
        total_bytes: U64,
        /// [`checksum`] of the front but these 8 bytes, and with it of the whole image.
        checksum: U64,
        /// SHA-256 of the policy text.
        revision: [u8; 32],
        /// [`SECTION_COUNT`].
        section_count: U32,
        /// Source classes: rows of the pair index.
        source_classes: U32,
        /// Destination classes.
        destination_classes: U32,
        /// Pair blocks of one source class: destination classes / 64, rounded up.
        pair_stride: U32,
        /// Service classes.
        service_classes: U32,
        /// Identity of an IPv6 address that no prefix covers.
        v6_default_identity: U32,
        /// Day on which rules were judged expired or not, days since 1970-01-01.
        compiled_day: U32,
        /// First later day on which a rule expires, days since 1970-01-01; [`NONE`] if none does.
        next_expiry_day: U32,
        /// Zero.
        reserved: [u8; 24],
    }

    /// Where one section is.
    pub struct SectionEntry = 32 {
        /// [`Section`].
        section: U32,
        /// Bytes of one row.
        row_bytes: U32,
        /// From the first byte of the image, a multiple of 8.
        offset: U64,
        /// Rows.
        count: U64,
        /// [`section_checksum`] of the rows.
        checksum: U64,
    }

    /// One IPv6 prefix, or a marker that a longer one exists.
    pub struct V6Slot = 24 {
        /// Network order, the bits behind `length` are zero.
        prefix: [u8; 16],
        /// Identity of the longest prefix that covers `prefix`/`length`.
        identity: U32,
        /// 1 to 128, [`V6_EMPTY`] where the slot is empty.
        length: u8,
        /// Zero.
        reserved: [u8; 3],
    }

    /// A set of segments, and the classes it belongs to.
    pub struct IdentityRow = 24 {
        /// Row of the pair table where this identity initiates.
        source_class: U32,
        /// Column of the pair table where it responds.
        destination_class: U32,
        /// Segments, ascending: first entry in [`Section::Lists`].
        segments_first: U32,
        /// How many.
        segments_count: U32,
        /// [`Mode`](crate::Mode): the strictest of its segments, observe if none.
        mode: u8,
        /// Zero.
        reserved: [u8; 7],
    }

    /// Service class -> verdict row, for one kind of pair.
    ///
    /// `index = first + ((class * multiplier) >> shift & mask)`; the slot counts where it names
    /// the class, else `default_row` does.
    pub struct RowSet = 20 {
        /// First slot in [`Section::RowSlots`].
        first: U32,
        /// Verdict row of every class without a slot.
        default_row: U32,
        /// Chosen so that no two classes of this set meet. Wrapping product.
        multiplier: U32,
        /// Slots - 1; slots are a power of two.
        mask: U32,
        /// Bits, 0 to 31.
        shift: U32,
    }

    /// One exception of a row set.
    pub struct RowSlot = 8 {
        /// [`NONE`] where empty.
        service_class: U32,
        /// Verdict row.
        row: U32,
    }

    /// The verdict of one candidate revision.
    pub struct CandidateVerdict = 8 {
        /// Rule in the candidate.
        rule_index: U32,
        /// [`Action`](crate::Action), 0 where the row has no such candidate.
        action: u8,
        /// [`VerdictSource`](crate::VerdictSource), 0 where the row has no such candidate.
        source: u8,
        /// Zero.
        reserved: [u8; 2],
    }

    /// One whole decision. 64 bytes, one cache line.
    pub struct VerdictRow = 64 {
        /// Stable id of the enforced rule, 0 none.
        rule_id: U64,
        /// Stable id of the pending rule, 0 none.
        pending_rule_id: U64,
        /// Enforced rule, [`NONE`] where the default decided.
        rule_index: U32,
        /// Pending rule, [`NONE`] where the default decided.
        pending_rule_index: U32,
        /// [`Action`](crate::Action).
        enforced: u8,
        /// [`VerdictSource`](crate::VerdictSource): rule or default.
        enforced_source: u8,
        /// [`Action`](crate::Action).
        pending: u8,
        /// [`VerdictSource`](crate::VerdictSource): rule or default.
        pending_source: u8,
        /// [`Mode`](crate::Mode) of the stricter end.
        mode: u8,
        /// [`Coverage`](crate::verdict::Coverage).
        coverage: u8,
        /// [`OnChange`](crate::verdict::OnChange) of the enforced rule.
        on_change: u8,
        /// Candidates in use; this release writes 0.
        candidate_count: u8,
        /// Limit of the enforced rule, [`NONE`] where it does not limit.
        limit_index: U32,
        /// Verdicts of candidate revisions.
        candidates: [CandidateVerdict; CANDIDATES_MAX],
        /// Zero.
        reserved: [u8; 4],
    }

    /// One rule in raw form: what the linear oracle and explain read.
    pub struct RuleRow = 56 {
        /// [`rule_id`] of the name; unique and never 0.
        id: U64,
        /// Name: first byte in [`Section::Strings`].
        name_first: U32,
        /// Bytes of the name.
        name_bytes: U32,
        /// Initiator's segments: first entry in [`Section::Lists`]. Never empty.
        from_first: U32,
        /// How many.
        from_count: U32,
        /// Responder's segments. Never empty.
        to_first: U32,
        /// How many.
        to_count: U32,
        /// Services.
        services_first: U32,
        /// How many; 0 means any.
        services_count: U32,
        /// Index in [`Section::Limits`], [`NONE`] where the action is not limit.
        limit_index: U32,
        /// [`Tier`].
        tier: u8,
        /// [`Action`](crate::Action).
        action: u8,
        /// [`RuleMode`].
        mode: u8,
        /// [`OnChange`](crate::verdict::OnChange).
        on_change: u8,
        /// [`RULE_EXPIRED`].
        flags: U32,
        /// Zero.
        reserved: U32,
    }

    /// One segment in raw form.
    pub struct SegmentRow = 20 {
        /// Name: first byte in [`Section::Strings`].
        name_first: U32,
        /// Bytes of the name.
        name_bytes: U32,
        /// Prefixes: first row in [`Section::Prefixes`]. The built-in segments have none.
        prefixes_first: U32,
        /// How many.
        prefixes_count: U32,
        /// [`Mode`](crate::Mode); 0 for the built-in segments, which have none.
        mode: u8,
        /// Zero.
        reserved: [u8; 3],
    }

    /// One workload: a name and its addresses.
    pub struct WorkloadRow = 16 {
        /// Name: first byte in [`Section::Strings`].
        name_first: U32,
        /// Bytes of the name.
        name_bytes: U32,
        /// Addresses: first row in [`Section::Prefixes`].
        prefixes_first: U32,
        /// How many.
        prefixes_count: U32,
    }

    /// One prefix. IPv4 is `::ffff:a.b.c.d` with its own length + 96.
    pub struct PrefixRow = 18 {
        /// Network order, the bits behind `length` are zero.
        address: [u8; 16],
        /// 0 to 128.
        length: u8,
        /// 4 or 6; an IPv6 prefix never covers an IPv4 address.
        family: u8,
    }

    /// One service: a name and its ports.
    pub struct ServiceRow = 16 {
        /// Name: first byte in [`Section::Strings`].
        name_first: U32,
        /// Bytes of the name.
        name_bytes: U32,
        /// Ports: first row in [`Section::Ports`].
        ports_first: U32,
        /// How many.
        ports_count: U32,
    }

    /// One range of [`service_key`]s of one protocol, or everything.
    pub struct PortRow = 8 {
        /// 1: every protocol, the other fields do not count.
        any: u8,
        /// IP protocol number.
        proto: u8,
        /// First key of the range.
        low: U16,
        /// Last key of the range.
        high: U16,
        /// Zero.
        reserved: U16,
    }

    /// One token bucket.
    pub struct LimitRow = 32 {
        /// Stable id of the rule it belongs to.
        rule_id: U64,
        /// Tokens per second: packets, bits or flows.
        rate: U64,
        /// Depth of the bucket, tokens. Never 0.
        burst: U64,
        /// Rule it belongs to.
        rule_index: U32,
        /// [`RateKind`].
        kind: u8,
        /// Zero.
        reserved: [u8; 3],
    }
}

/// Offset of [`Header::checksum`].
const CHECKSUM_OFFSET: usize = 32;

/// Checksum of an image: every byte of its front but the checksum's own eight. The checksums of the
/// sections stand in the front, so that an image has this checksum only with these very sections.
///
/// 64 bits, not keyed: it finds damage, it does not authenticate (the socket's permissions do).
/// Each step is a bijection of the state, so that any change confined to one aligned 8-byte word
/// is found for certain, and any other but for 1 in 2^64. `image` shorter than a header gives 0.
#[must_use]
pub fn checksum(image: &[u8]) -> u64 {
    let front = image.get(..SECTIONS_OFFSET).unwrap_or(image);
    match (
        front.get(..CHECKSUM_OFFSET),
        front.get(CHECKSUM_OFFSET + 8..),
    ) {
        (Some(head), Some(tail)) => hash64(head) ^ mix(hash64(tail)),
        _ => 0,
    }
}

/// Checksum of the rows of a section, without the zeros behind them.
#[must_use]
pub fn section_checksum(rows: &[u8]) -> u64 {
    hash64(rows)
}

/// One bijective step.
const fn mix(x: u64) -> u64 {
    (x.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(29)
}

/// Four independent lanes of 8-byte words, so that the multiplier's latency is hidden.
fn hash64(bytes: &[u8]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = mix(*lane ^ u64::from_le_bytes(*word));
        }
    }
    for (lane, word) in lanes.iter_mut().zip(rest.chunks(8)) {
        let mut last = [0_u8; 8];
        for (to, from) in last.iter_mut().zip(word) {
            *to = *from;
        }
        *lane = mix(*lane ^ u64::from_le_bytes(last));
    }
    lanes
        .iter()
        .fold(bytes.len() as u64, |hash, lane| mix(hash ^ lane))
}

/// Stable id of a rule: FNV-1a 64 of its name, never 0. The same name has the same id in every
/// revision, on every appliance.
#[must_use]
pub fn rule_id(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    if hash == 0 { 1 } else { hash }
}

/// The 16 bits that a service is looked up by within its protocol: the responder's port for TCP,
/// UDP and SCTP, type and code for ICMP and ICMPv6, 0 for every other.
#[must_use]
pub const fn service_key(proto: u8, dport: u16, icmp_type: u8, icmp_code: u8) -> u16 {
    match proto {
        6 | 17 | 132 => dport,
        1 | 58 => u16::from_be_bytes([icmp_type, icmp_code]),
        _ => 0,
    }
}

/// Home slot of an IPv6 prefix in a table of `mask + 1` slots.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the prefix is taken in two halves"
)]
pub const fn v6_home(prefix: u128, length: u8, mask: u32) -> u32 {
    let a = (prefix >> 64) as u64;
    let b = prefix as u64;
    let hash = mix(mix(a ^ (length as u64)) ^ b) ^ (a >> 17);
    ((hash.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32) as u32) & mask
}

/// `address` with the bits behind `length` cleared. Lengths above 128 count as 128.
#[must_use]
pub const fn v6_masked(address: u128, length: u8) -> u128 {
    match length {
        0 => 0,
        128.. => address,
        _ => address & (u128::MAX << (128 - length)),
    }
}

/// Slot of a service class within a row set, 0 to `mask`.
#[must_use]
pub const fn row_slot(service_class: u32, multiplier: u32, shift: u32, mask: u32) -> u32 {
    (service_class.wrapping_mul(multiplier) >> (shift & 31)) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader compares: the front's checksum, and that of the only section with rows.
    fn sums(image: &[u8]) -> (u64, u64) {
        let rows = image.get(SECTIONS_OFFSET..).unwrap_or(&[]);
        (checksum(image), section_checksum(rows))
    }

    #[test]
    fn a_checksum_changes_with_every_single_byte() {
        let mut image = ImageWriter::new()
            .put(
                Section::Strings,
                b"some names that make a body of more than one block of words",
            )
            .seal(&Facts {
                epoch: 1,
                revision: [7; 32],
                source_classes: 1,
                destination_classes: 1,
                service_classes: 1,
                v6_default_identity: 0,
                compiled_day: 0,
                next_expiry_day: NONE,
            })
            .expect("a small image");
        let sum = sums(&image);
        for at in (0..image.len()).filter(|at| !(32..40).contains(at)) {
            for bit in 0..8 {
                image[at] ^= 1 << bit;
                assert_ne!(sums(&image), sum, "byte {at} bit {bit}");
                image[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn masking_clears_only_the_bits_behind_the_length() {
        for length in 0..=128_u8 {
            let masked = v6_masked(u128::MAX, length);
            assert_eq!(masked.count_ones(), u32::from(length));
            assert_eq!(masked.leading_ones(), u32::from(length));
        }
    }
}

//! Why an image is refused.

use abi::image::{IMAGE_BYTES_MAX, IMAGE_FORMAT, Section};

/// Why a policy image was refused. The policy in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Shorter than a header, longer than the limit, or not a whole number of 8-byte words.
    #[error("policy image of {bytes} bytes: not between 128 and {IMAGE_BYTES_MAX} in steps of 8")]
    Size {
        /// Bytes received.
        bytes: usize,
    },
    /// The first eight bytes are not those of a policy image.
    #[error("not a policy image: it does not begin with RFPOLICY")]
    Magic,
    /// Written for another contract.
    #[error(
        "policy image for abi epoch {found}, this dataplane has {ours}: install the same release on both processes"
    )]
    AbiEpoch {
        /// In the image.
        found: u32,
        /// In this build.
        ours: u32,
    },
    /// Another layout.
    #[error(
        "policy image of format {found}, this dataplane reads {IMAGE_FORMAT}: install the same release on both processes"
    )]
    Format {
        /// In the image.
        found: u32,
    },
    /// Cut short, or followed by something.
    #[error("policy image says {stated} bytes and has {bytes}: it was cut or extended on the way")]
    Length {
        /// In the header.
        stated: u64,
        /// Received.
        bytes: usize,
    },
    /// Damaged.
    #[error(
        "policy image is damaged: checksum {found:#018x}, its bytes give {computed:#018x}; publish it again"
    )]
    Checksum {
        /// In the header.
        found: u64,
        /// Of the bytes.
        computed: u64,
    },
    /// A section is damaged.
    #[error(
        "policy image is damaged: section {section} has checksum {found:#018x}, its rows give {computed:#018x}; publish it again"
    )]
    SectionChecksum {
        /// Section.
        section: Section,
        /// In the section table.
        found: u64,
        /// Of the rows.
        computed: u64,
    },
    /// The bytes are no change of an image.
    #[error("change of a policy image is cut or out of order: publish the whole image")]
    Change,
    /// A change of another image than the one that is here.
    #[error(
        "change of the policy image of epoch {base_epoch} and checksum {base_checksum:#018x}, which is not the one in force: publish the whole image"
    )]
    Base {
        /// Epoch of the image that was changed.
        base_epoch: u64,
        /// Its checksum.
        base_checksum: u64,
    },
    /// Pieces that do not fit the section.
    #[error(
        "change of a policy image: what it says of section {section} does not fit; publish the whole image"
    )]
    Pieces {
        /// Section.
        section: Section,
    },
    /// Epoch 0 means "no policy" everywhere.
    #[error("policy image has epoch 0, which means no policy")]
    EpochZero,
    /// A header field outside its range.
    #[error("policy image header: {field} is {value}, which cannot be")]
    Header {
        /// Name in the layout.
        field: &'static str,
        /// Value.
        value: u64,
    },
    /// A row of the section table is not where the layout puts it.
    #[error("policy image: section {section} is not laid out as its format says")]
    SectionTable {
        /// Section.
        section: Section,
    },
    /// A section has a number of rows that its tables cannot have.
    #[error("policy image: section {section} has {count} rows, which cannot be")]
    SectionCount {
        /// Section.
        section: Section,
        /// Rows.
        count: usize,
    },
    /// An index or value of a row is out of range.
    #[error("policy image: section {section}, row {row}: {field} is {value}, which cannot be")]
    Row {
        /// Section.
        section: Section,
        /// Row, 0-based.
        row: usize,
        /// Name in the layout.
        field: &'static str,
        /// Value.
        value: u64,
    },
    /// Names are not UTF-8.
    #[error("policy image: names are not UTF-8")]
    Strings,
}

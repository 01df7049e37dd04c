//! IEEE 802.11 data frames, as access points put them into tunnels.

use crate::bytes::Bytes;
use crate::parse::Next;

/// In which order the two bytes of the frame control field stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameControl {
    /// Type first, as in the air.
    InOrder,
    /// Flags first, as access points send it in CAPWAP.
    Swapped,
}

/// Steps over the header of a data frame (IEEE 802.11 section 9.3.2) to its LLC. Nothing for other
/// frames, for frames without a body, for fragments, and for encrypted ones.
pub(super) fn data_frame(bytes: &mut Bytes<'_>, order: FrameControl) -> Option<Next> {
    const BOTH_SYSTEMS: u8 = 0x03;
    const PROTECTED: u8 = 0x40;
    const MORE_FRAGMENTS: u8 = 0x04;
    const ORDER: u8 = 0x80;
    const QOS: u8 = 0x80;
    const NO_BODY: u8 = 0x40;
    const AGGREGATED: u8 = 0x80;
    let [first, second] = *bytes.peek::<2>()?;
    let (kind, flags) = match order {
        FrameControl::InOrder => (first, second),
        FrameControl::Swapped => (second, first),
    };
    let is_data = kind & 0x0c == 0x08;
    if !is_data || kind & NO_BODY != 0 || flags & (PROTECTED | MORE_FRAGMENTS) != 0 {
        return None;
    }
    let mut header_bytes = 24;
    if flags & BOTH_SYSTEMS == BOTH_SYSTEMS {
        header_bytes += 6;
    }
    if kind & QOS != 0 {
        let aggregated = bytes.byte(header_bytes)? & AGGREGATED != 0;
        header_bytes += if flags & ORDER != 0 { 6 } else { 2 };
        // Of an aggregate the first frame is read: two addresses and a length stand before it.
        header_bytes += if aggregated { 14 } else { 0 };
    }
    bytes.skip(header_bytes)?;
    Some(Next::Llc)
}

//! CAPWAP data, RFC 5415 section 4, and the IEEE 802.11 data frames it carries.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};

/// A header of `HLEN` words; then Ethernet, or IEEE 802.11 with its frame control bytes swapped.
/// DTLS, keep-alives and fragments are not read.
pub(super) fn capwap(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const NATIVE: u8 = 0x01;
    const FRAGMENT: u8 = 0x80;
    const KEEP_ALIVE: u8 = 0x08;
    const BINDING_80211: u8 = 1;
    let Some([preamble, length, binding, flags, ..]) = bytes.peek::<8>() else {
        return Next::Done;
    };
    if *preamble != 0 || flags & (FRAGMENT | KEEP_ALIVE) != 0 {
        return Next::Done;
    }
    let words = usize::from(length >> 3);
    if words < 2 || bytes.skip(words * 4).is_none() {
        return Next::Done;
    }
    walk.cross(TunnelKind::Capwap, 0);
    if binding & NATIVE == 0 {
        return Next::Ethernet;
    }
    if (binding >> 1) & 0x1f != BINDING_80211 {
        return Next::Done;
    }
    wireless(bytes).unwrap_or(Next::Done)
}

/// An IEEE 802.11 data frame, section 9.3.2, whose frame control has its bytes swapped: header,
/// then LLC. Nothing for other frames and for encrypted ones.
fn wireless(bytes: &mut Bytes<'_>) -> Option<Next> {
    const BOTH_SYSTEMS: u8 = 0x03;
    const PROTECTED: u8 = 0x40;
    const ORDER: u8 = 0x80;
    const QOS: u8 = 0x80;
    const NO_BODY: u8 = 0x40;
    let [flags, kind] = *bytes.peek::<2>()?;
    let is_data = kind & 0x0c == 0x08;
    if !is_data || kind & NO_BODY != 0 || flags & PROTECTED != 0 {
        return None;
    }
    let mut header_bytes = 24;
    if flags & BOTH_SYSTEMS == BOTH_SYSTEMS {
        header_bytes += 6;
    }
    if kind & QOS != 0 {
        header_bytes += if flags & ORDER != 0 { 6 } else { 2 };
    }
    bytes.skip(header_bytes)?;
    Some(Next::Llc)
}

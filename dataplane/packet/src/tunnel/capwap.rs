//! CAPWAP data, RFC 5415 section 4.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};

use super::wireless;

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
    wireless::data_frame(bytes, wireless::FrameControl::Swapped).unwrap_or(Next::Done)
}

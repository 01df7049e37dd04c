//! Geneve, RFC 8926.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};

/// Version and option length, flags, protocol type, network identifier; options; then the payload
/// of an ethertype.
pub(super) fn geneve(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([lengths, _, p0, p1, v0, v1, v2, _]) = bytes.take::<8>() else {
        return Next::Done;
    };
    if lengths >> 6 != 0 || bytes.skip(usize::from(lengths & 0x3f) * 4).is_none() {
        return Next::Done;
    }
    walk.cross(TunnelKind::Geneve, u32::from_be_bytes([0, *v0, *v1, *v2]));
    Next::EtherType(u16::from_be_bytes([*p0, *p1]))
}

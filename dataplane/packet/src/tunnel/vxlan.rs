//! VXLAN, RFC 7348, and its generic protocol extension.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::link;
use crate::parse::{Next, Walk};

/// Flags, reserved or policy, 24 bits of network identifier, reserved; then Ethernet.
pub(super) fn vxlan(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([_, _, _, _, v0, v1, v2, _]) = bytes.take::<8>() else {
        return Next::Done;
    };
    walk.cross(TunnelKind::Vxlan, u32::from_be_bytes([0, *v0, *v1, *v2]));
    Next::Ethernet
}

/// The same, with a next protocol in the fourth byte.
pub(super) fn vxlan_gpe(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([_, _, _, next, v0, v1, v2, _]) = bytes.take::<8>() else {
        return Next::Done;
    };
    walk.cross(TunnelKind::VxlanGpe, u32::from_be_bytes([0, *v0, *v1, *v2]));
    link::next_protocol(walk, *next)
}

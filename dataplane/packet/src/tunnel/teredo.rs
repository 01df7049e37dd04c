//! Teredo, RFC 4380.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};

/// An IPv6 packet behind an optional authentication and an optional origin indication,
/// RFC 4380 section 5.1.1.
pub(super) fn teredo(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const NONCE_AND_CONFIRMATION_BYTES: usize = 9;
    if let Some([0, 1, client, value]) = bytes.peek::<4>() {
        let rest = usize::from(*client) + usize::from(*value) + NONCE_AND_CONFIRMATION_BYTES;
        if bytes.skip(4 + rest).is_none() {
            return Next::Done;
        }
    }
    if bytes.peek::<2>() == Some(&[0, 0]) && bytes.skip(8).is_none() {
        return Next::Done;
    }
    walk.cross(TunnelKind::Teredo, 0);
    Next::Ipv6
}

//! PPPoE sessions, RFC 2516, and PPP, RFC 1661.

use crate::bytes::Bytes;
use crate::headers::NonIp;
use crate::parse::{Next, Walk};

/// A PPPoE session header: version and type, code, session, length.
pub(crate) fn pppoe(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([_, code, _, _, l0, l1]) = bytes.take::<6>() else {
        return walk.link_truncated();
    };
    if walk.depth == 0 {
        walk.headers.link.pppoe = true;
    }
    if *code != 0 {
        return walk.not_ip(NonIp::Ppp);
    }
    bytes.limit(usize::from(u16::from_be_bytes([*l0, *l1])));
    Next::Ppp
}

/// The PPP protocol field, behind HDLC's address and control bytes where they are present. It has
/// one byte where it was compressed (its low bit is set, RFC 1661 section 2).
pub(crate) fn ppp(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    if bytes.peek::<2>() == Some(&[0xff, 0x03]) {
        let _ = bytes.skip(2);
    }
    let Some(first) = bytes.byte(0) else {
        return walk.link_truncated();
    };
    let protocol = if first & 1 == 1 {
        let _ = bytes.skip(1);
        u16::from(first)
    } else {
        let Some(raw) = bytes.take::<2>() else {
            return walk.link_truncated();
        };
        u16::from_be_bytes(*raw)
    };
    match protocol {
        0x0021 => Next::Ipv4,
        0x0057 => Next::Ipv6,
        0x0281 | 0x0283 => Next::Mpls,
        _ => walk.not_ip(NonIp::Ppp),
    }
}

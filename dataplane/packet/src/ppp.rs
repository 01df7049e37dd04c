//! PPPoE sessions, RFC 2516, and PPP, RFC 1661.

use crate::bytes::Bytes;
use crate::headers::NonIp;
use crate::parse::{Next, Walk};

const BRIDGING: u16 = 0x0031;
const MULTILINK: u16 = 0x003d;

/// A PPPoE session header: version and type, code, session, length.
pub(crate) fn pppoe(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([_, _, _, _, l0, l1]) = bytes.take::<6>() else {
        return walk.link_truncated();
    };
    if walk.depth == 0 {
        walk.headers.link.pppoe = true;
    }
    bytes.limit(usize::from(u16::from_be_bytes([*l0, *l1])));
    protocol(walk, bytes)
}

/// PPP as on a serial line: the protocol field may stand behind HDLC's address and control bytes.
pub(crate) fn ppp(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    if bytes.peek::<2>() == Some(&[0xff, 0x03]) {
        let _ = bytes.skip(2);
    }
    protocol(walk, bytes)
}

/// The protocol field, and what it announces.
fn protocol(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let mut field = protocol_field(bytes);
    if field == Some(MULTILINK) {
        field = multilink(bytes);
    }
    match field {
        Some(0x0021) => Next::Ipv4,
        Some(0x0057) => Next::Ipv6,
        Some(0x0281 | 0x0283) => Next::Mpls,
        Some(BRIDGING) => bridging(walk, bytes),
        Some(_) => walk.not_ip(NonIp::Ppp),
        None => walk.link_truncated(),
    }
}

/// RFC 1661 section 2: two bytes, or one where it was compressed; then its low bit is set.
fn protocol_field(bytes: &mut Bytes<'_>) -> Option<u16> {
    let first = bytes.byte(0)?;
    if first & 1 == 1 {
        bytes.skip(1)?;
        return Some(u16::from(first));
    }
    bytes.take::<2>().map(|raw| u16::from_be_bytes(*raw))
}

/// RFC 1990 section 3: a sequence number, then, if this is the whole packet, its protocol field.
/// Of a fragment nothing is read.
fn multilink(bytes: &mut Bytes<'_>) -> Option<u16> {
    const BEGIN_AND_END: u8 = 0xc0;
    let [flags, ..] = *bytes.take::<4>()?;
    if flags & BEGIN_AND_END != BEGIN_AND_END {
        return Some(MULTILINK);
    }
    protocol_field(bytes)
}

/// RFC 3518 section 4.2: flags and padding count, MAC type, LAN identifier where flagged; then,
/// for MAC type 1, Ethernet.
fn bridging(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const LAN_ID: u8 = 0x40;
    const ETHERNET: u8 = 1;
    let Some([flags, kind]) = bytes.take::<2>() else {
        return walk.link_truncated();
    };
    if flags & LAN_ID != 0 && bytes.skip(4).is_none() {
        return walk.link_truncated();
    }
    if *kind == ETHERNET {
        Next::Ethernet
    } else {
        walk.not_ip(NonIp::Ppp)
    }
}

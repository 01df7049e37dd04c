//! GTP-U, 3GPP TS 29.281.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};

/// Extension headers read in one GTP-U header; more is no tunnel.
const EXTENSION_HEADERS_MAX: u8 = 16;
const USER_PACKET: u8 = 255;

/// A user packet of version 1 (TS 29.281 section 5): flags, message type, length, tunnel endpoint;
/// sequence number, N-PDU number and next extension where any of the three is flagged. Or of
/// version 0 (GSM 09.60 section 6): twenty bytes without options.
pub(super) fn gtp(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const VERSION_0: u8 = 0x10;
    const VERSION_1: u8 = 0x30;
    let Some([flags, message, l0, l1, t0, t1, t2, t3]) = bytes.take::<8>() else {
        return Next::Done;
    };
    if *message != USER_PACKET {
        return Next::Done;
    }
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    match flags & 0xf0 {
        VERSION_1 => {
            bytes.limit(length);
            if flags & 0x07 != 0 && optional_part(*flags, bytes).is_none() {
                return Next::Done;
            }
            walk.cross(TunnelKind::Gtpu, u32::from_be_bytes([*t0, *t1, *t2, *t3]));
        }
        VERSION_0 => {
            if bytes.skip(12).is_none() {
                return Next::Done;
            }
            bytes.limit(length);
            walk.cross(TunnelKind::Gtpu, u32::from(u16::from_be_bytes([*t2, *t3])));
        }
        _ => return Next::Done,
    }
    // Nothing says what the packet is: IP, or in a 5G Ethernet session an Ethernet frame.
    match bytes.byte(0) {
        Some(0x45..=0x4e) => Next::Ipv4,
        // As an Ethernet address this is as likely; a total length that fits decides.
        Some(0x4f) if bytes.u16(2).map(usize::from) == Some(bytes.claimed()) => Next::Ipv4,
        Some(0x60..=0x6f) => Next::Ipv6,
        _ => Next::Ethernet,
    }
}

/// Section 5.2: each extension header says its length in units of four bytes and, in its last
/// byte, what follows.
fn optional_part(flags: u8, bytes: &mut Bytes<'_>) -> Option<()> {
    const EXTENSION: u8 = 0x04;
    let [_, _, _, mut next] = *bytes.take::<4>()?;
    if flags & EXTENSION == 0 {
        return Some(());
    }
    for _ in 0..EXTENSION_HEADERS_MAX {
        if next == 0 {
            return Some(());
        }
        let length = usize::from(bytes.byte(0)?) * 4;
        next = bytes.byte(length.checked_sub(1)?)?;
        bytes.skip(length)?;
    }
    None
}

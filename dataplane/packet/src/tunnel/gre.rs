//! GRE, RFC 2784 and RFC 2890, its routed and enhanced forms (RFC 1701, RFC 2637), and ERSPAN.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::link;
use crate::parse::{Next, Walk};

/// Source route entries read in one header (RFC 1701); more is no tunnel.
const SOURCE_ROUTES_MAX: u8 = 16;
const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACKNOWLEDGMENT: u16 = 0x0080;

const PPP: u16 = 0x880b;
const WCCP: u16 = 0x883e;
const ERSPAN: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
const CISCO_METADATA: u16 = 0x8909;
const ETHERNET_2: u16 = 0x6400;

/// The GRE header at the cursor.
pub(super) fn gre(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let (flags, protocol, id) = match header(bytes) {
        Some(read) => read,
        None => return walk.link_truncated(),
    };
    let kind = match protocol {
        PPP => TunnelKind::Pptp,
        link::ETHERNET | ETHERNET_2 => TunnelKind::Nvgre,
        _ => TunnelKind::Gre,
    };
    walk.cross(kind, if protocol == PPP { id & 0xffff } else { id });
    if bytes.claimed() == 0 {
        return Next::Done;
    }
    if protocol == ERSPAN && flags & SEQUENCE == 0 {
        // ERSPAN type I has no header of its own and does not number its packets.
        walk.cross(TunnelKind::Erspan, 0);
        return Next::Ethernet;
    }
    Next::GreProtocol(protocol)
}

/// Flags, protocol type and key. The fields in between are there as flagged.
fn header(bytes: &mut Bytes<'_>) -> Option<(u16, u16, u32)> {
    let [f0, f1, p0, p1] = *bytes.take::<4>()?;
    let flags = u16::from_be_bytes([f0, f1]);
    let protocol = u16::from_be_bytes([p0, p1]);
    let mut id = 0;
    if flags & (CHECKSUM | ROUTING) != 0 {
        bytes.skip(4)?;
    }
    if flags & KEY != 0 {
        id = u32::from_be_bytes(*bytes.take::<4>()?);
    }
    if flags & SEQUENCE != 0 {
        bytes.skip(4)?;
    }
    if flags & ACKNOWLEDGMENT != 0 && protocol == PPP {
        bytes.skip(4)?;
    }
    if flags & ROUTING != 0 {
        source_routes(bytes)?;
    }
    Some((flags, protocol, id))
}

/// RFC 1701: entries of family, offset, length and data, up to an empty one.
fn source_routes(bytes: &mut Bytes<'_>) -> Option<()> {
    for _ in 0..SOURCE_ROUTES_MAX {
        let [a0, a1, _, length] = *bytes.take::<4>()?;
        if [a0, a1, length] == [0, 0, 0] {
            return Some(());
        }
        bytes.skip(usize::from(length))?;
    }
    None
}

/// What a GRE protocol type announces: mostly ethertypes.
pub(crate) fn gre_protocol(walk: &mut Walk<'_>, protocol: u16, bytes: &mut Bytes<'_>) -> Next {
    match protocol {
        PPP => Next::Ppp,
        ETHERNET_2 => Next::Ethernet,
        // Version 2 of the cache protocol puts four bytes before the packet.
        WCCP => match bytes.byte(0).map(|first| first >> 4) {
            Some(4) => Next::Ipv4,
            _ => link::after(walk, bytes, 4, Next::Ipv4),
        },
        CISCO_METADATA => cisco_metadata(walk, bytes),
        ERSPAN => erspan_ii(walk, bytes),
        ERSPAN_III => erspan_iii(walk, bytes),
        _ => Next::EtherType(protocol),
    }
}

/// Cisco's security group tag: in GRE, the type of the payload stands before the tag.
fn cisco_metadata(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([p0, p1, ..]) = bytes.take::<8>() else {
        return walk.link_truncated();
    };
    Next::EtherType(u16::from_be_bytes([*p0, *p1]))
}

/// ERSPAN type II (draft-foschiano-erspan-03 section 4.2): eight bytes, then Ethernet.
fn erspan_ii(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([_, _, s0, s1, ..]) = bytes.take::<8>() else {
        return walk.link_truncated();
    };
    walk.cross(
        TunnelKind::Erspan,
        u32::from(u16::from_be_bytes([*s0, *s1]) & 0x03ff),
    );
    Next::Ethernet
}

/// ERSPAN type III (section 4.3): twelve bytes, eight more where flagged, then the frame.
fn erspan_iii(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const FRAME_TYPE_IP: u8 = 2;
    let Some([_, _, s0, s1, _, _, _, _, _, _, t0, t1]) = bytes.take::<12>() else {
        return walk.link_truncated();
    };
    walk.cross(
        TunnelKind::Erspan,
        u32::from(u16::from_be_bytes([*s0, *s1]) & 0x03ff),
    );
    if t1 & 1 != 0 && bytes.skip(8).is_none() {
        return walk.link_truncated();
    }
    if (t0 >> 2) & 0x1f == FRAME_TYPE_IP {
        Next::Ip
    } else {
        Next::Ethernet
    }
}

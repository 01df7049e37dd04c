//! GRE, RFC 2784 and RFC 2890, its routed and enhanced forms (RFC 1701, RFC 2637), and ERSPAN.

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::link;
use crate::parse::{Next, Walk};

use super::wireless;

/// Source route entries read in one header (RFC 1701); more is no tunnel.
const SOURCE_ROUTES_MAX: u8 = 16;
const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const ACKNOWLEDGMENT: u16 = 0x0080;
const VERSION: u16 = 0x0007;
/// RFC 2637: the version that has acknowledgments.
const ENHANCED: u16 = 1;

const PPP: u16 = 0x880b;
const WCCP: u16 = 0x883e;
const ERSPAN: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
const CISCO_METADATA: u16 = 0x8909;
const ETHERNET_2: u16 = 0x6400;
/// Access points tunnel IEEE 802.11 frames with these types, the low nibble always 0.
const WIRELESS_MIN: u16 = 0x8200;
const WIRELESS_MAX: u16 = 0x8370;

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
    if flags & ACKNOWLEDGMENT != 0 && flags & VERSION == ENHANCED {
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

/// What a GRE protocol type announces. Link layers that GRE has no use for are not followed.
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
        ERSPAN | ERSPAN_III => erspan(walk, bytes),
        WIRELESS_MIN..=WIRELESS_MAX if protocol & 0x0f == 0 => {
            wireless::data_frame(bytes, wireless::FrameControl::InOrder).unwrap_or(Next::Done)
        }
        link::IPV4
        | link::IPV6
        | link::ETHERNET
        | link::MPLS
        | link::MPLS_MULTICAST
        | link::NSH => Next::EtherType(protocol),
        _ => Next::Done,
    }
}

/// Cisco's security group tag: in GRE, the type of the payload stands before the tag.
fn cisco_metadata(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([p0, p1, ..]) = bytes.take::<8>() else {
        return walk.link_truncated();
    };
    Next::EtherType(u16::from_be_bytes([*p0, *p1]))
}

/// ERSPAN (draft-foschiano-erspan-03 section 4): the first nibble of its header tells type II,
/// eight bytes, from type III, twelve and eight more where flagged. A mirrored Ethernet frame
/// follows; other frame types of type III are not read.
fn erspan(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const TYPE_II: u8 = 1;
    const TYPE_III: u8 = 2;
    const FRAME_TYPE: u8 = 0x7c;
    const SUBHEADER: u8 = 0x01;
    let Some([first, _, s0, s1, ..]) = bytes.peek::<8>() else {
        return walk.link_truncated();
    };
    walk.cross(
        TunnelKind::Erspan,
        u32::from(u16::from_be_bytes([*s0, *s1]) & 0x03ff),
    );
    match first >> 4 {
        TYPE_II => link::after(walk, bytes, 8, Next::Ethernet),
        TYPE_III => {
            let (Some(frame_type), Some(flags)) = (bytes.byte(10), bytes.byte(11)) else {
                return walk.link_truncated();
            };
            if frame_type & FRAME_TYPE != 0 {
                return Next::Done;
            }
            let size = if flags & SUBHEADER == 0 { 12 } else { 20 };
            link::after(walk, bytes, size, Next::Ethernet)
        }
        _ => Next::Done,
    }
}

//! IPv4, RFC 791.

use crate::bytes::{Bytes, as_u32};
use crate::parse::{Next, Walk};
use crate::{Fragment, IpHeader, Malformed, Transport, transport};

/// An IPv4 address as an IPv4-mapped IPv6 address, RFC 4291 section 2.5.5.2.
#[inline]
pub(crate) const fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Reads the header at the cursor, and the transport header after it.
pub(crate) fn ipv4(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some(raw) = bytes.peek::<20>() else {
        return walk.unreadable_ip(Malformed::Ipv4Truncated);
    };
    if raw[0] >> 4 != 4 {
        return walk.unreadable_ip(Malformed::IpVersion);
    }
    let header_bytes = usize::from(raw[0] & 0x0f) * 4;
    if header_bytes < 20 {
        return walk.unreadable_ip(Malformed::Ipv4HeaderLength);
    }
    let mut total = usize::from(u16::from_be_bytes([raw[2], raw[3]]));
    if total == 0 {
        // Segmentation offload: the length was left to the network card.
        total = bytes.claimed();
    }
    if total < header_bytes {
        return walk.unreadable_ip(Malformed::Ipv4TotalLength);
    }
    if !walk.may_descend() {
        return Next::Done;
    }
    if total > bytes.claimed() && !walk.partial {
        walk.headers.damage(Malformed::Ipv4TotalBeyondFrame);
    }
    let fragment_field = u16::from_be_bytes([raw[6], raw[7]]);
    let fragment = Fragment {
        id: u32::from(u16::from_be_bytes([raw[4], raw[5]])),
        offset: (fragment_field & 0x1fff) << 3,
        more: fragment_field & 0x2000 != 0,
        is_fragment: fragment_field & 0x3fff != 0,
    };
    let header = IpHeader {
        src: mapped([raw[12], raw[13], raw[14], raw[15]]),
        dst: mapped([raw[16], raw[17], raw[18], raw[19]]),
        ip_bytes: as_u32(total),
        l3_offset: as_u32(bytes.offset()),
        l4_offset: as_u32(bytes.offset() + header_bytes),
        fragment,
        src_port: 0,
        dst_port: 0,
        protocol: raw[9],
        version: 4,
        ttl: raw[8],
        tos: raw[1],
        has_ports: false,
    };
    bytes.limit(total);
    if bytes.skip(header_bytes).is_none() {
        // The options are cut short, the addresses are not.
        walk.headers.damage(Malformed::Ipv4Truncated);
        walk.commit(header, Transport::None);
        return Next::Done;
    }
    transport::finish(walk, header, bytes)
}

//! IPv4, RFC 791.

use crate::bytes::{Bytes, as_u32};
use crate::parse::{Next, Walk};
use crate::{Fragment, IpHeader, Malformed, Transport, transport};

/// Bytes of a header without options.
const HEADER_BYTES: usize = 20;

/// An IPv4 address as an IPv4-mapped IPv6 address, RFC 4291 section 2.5.5.2.
#[inline(always)]
pub(crate) const fn mapped(address: [u8; 4]) -> [u8; 16] {
    // As one number, so that whoever takes it apart again finds constants and 32 bits.
    ((u32::from_le_bytes(address) as u128) << 96 | 0xffff << 80).to_le_bytes()
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
    } else if total < header_bytes {
        return walk.unreadable_ip(Malformed::Ipv4TotalLength);
    }
    let mut route_end = None;
    if header_bytes > HEADER_BYTES {
        match source_route(bytes, header_bytes) {
            Ok(found) => route_end = found,
            Err(OptionTruncated) => return walk.unreadable_ip(Malformed::Ipv4Truncated),
        }
    }
    if !walk.may_descend() {
        return Next::Done;
    }
    let excess = total.saturating_sub(bytes.claimed());
    if walk.refuses_length(Malformed::Ipv4TotalBeyondFrame, excess) {
        return Next::Done;
    }
    if route_end.is_some() {
        walk.headers.damage(Malformed::Ipv4SourceRoute);
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
        dst: mapped(route_end.unwrap_or([raw[16], raw[17], raw[18], raw[19]])),
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

/// An option that runs out of the captured packet before the destination is known.
struct OptionTruncated;

/// The end of a source route that is not used up: where the packet is really going. RFC 791
/// section 3.1 puts the next hop into the destination field, and the last address of the option
/// is the destination. Such a packet is also reported as damaged, because a host that ignores the
/// option takes it for its own (RFC 7126 sections 4.3 and 4.4 have it dropped).
///
/// # Bounded work
/// 40 bytes of options at most, and every option has one or more.
fn source_route(
    bytes: &Bytes<'_>,
    header_bytes: usize,
) -> Result<Option<[u8; 4]>, OptionTruncated> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    const POINTER_MIN: u8 = 4;
    let mut at = HEADER_BYTES;
    while at < header_bytes {
        let kind = bytes.byte(at).ok_or(OptionTruncated)?;
        if kind == END {
            return Ok(None);
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let length = bytes.byte(at + 1).ok_or(OptionTruncated)?;
        if length < 2 || at + usize::from(length) > header_bytes {
            return Ok(None);
        }
        if matches!(kind, LOOSE | STRICT) && length >= 7 && length % 4 == 3 {
            let pointer = bytes.byte(at + 2).ok_or(OptionTruncated)?;
            if !(POINTER_MIN..=length).contains(&pointer) || pointer % 4 != 0 {
                return Ok(None);
            }
            let last = bytes
                .u32(at + usize::from(length) - 4)
                .ok_or(OptionTruncated)?;
            return Ok(Some(last.to_be_bytes()));
        }
        at += usize::from(length);
    }
    Ok(None)
}

//! The packet quoted in an ICMP or ICMPv6 error, RFC 792 and RFC 4443 section 3.

use crate::bytes::Bytes;
use crate::headers::Quoted;
use crate::{ipv4, ipv6, transport};

/// Reads the flow of the packet at the cursor. A quotation may end anywhere, so lengths in it are
/// not judged; without both addresses there is none.
pub(crate) fn quoted(bytes: &mut Bytes<'_>, extension_headers_max: u8) -> Option<Quoted> {
    let (mut quoted, ports_follow) = match bytes.byte(0)? >> 4 {
        4 => quoted_ipv4(bytes)?,
        6 => quoted_ipv6(bytes, extension_headers_max)?,
        _ => return None,
    };
    if ports_follow
        && transport::has_ports(quoted.protocol)
        && let (Some(src), Some(dst)) = (bytes.u16(0), bytes.u16(2))
    {
        quoted.src_port = src;
        quoted.dst_port = dst;
        quoted.has_ports = true;
    }
    Some(quoted)
}

/// The addresses, and whether the start of the payload follows.
fn quoted_ipv4(bytes: &mut Bytes<'_>) -> Option<(Quoted, bool)> {
    let raw = bytes.peek::<20>()?;
    let header_bytes = usize::from(raw[0] & 0x0f) * 4;
    if header_bytes < 20 {
        return None;
    }
    let later_fragment = u16::from_be_bytes([raw[6], raw[7]]) & 0x1fff != 0;
    let quoted = Quoted {
        src: ipv4::mapped([raw[12], raw[13], raw[14], raw[15]]),
        dst: ipv4::mapped([raw[16], raw[17], raw[18], raw[19]]),
        src_port: 0,
        dst_port: 0,
        protocol: raw[9],
        version: 4,
        has_ports: false,
    };
    let whole = bytes.skip(header_bytes).is_some();
    Some((quoted, whole && !later_fragment))
}

fn quoted_ipv6(bytes: &mut Bytes<'_>, extension_headers_max: u8) -> Option<(Quoted, bool)> {
    let raw = bytes.take::<40>()?;
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&raw[8..24]);
    dst.copy_from_slice(&raw[24..40]);
    let chain = ipv6::extension_chain(raw[6], extension_headers_max, bytes);
    let quoted = Quoted {
        src,
        dst,
        src_port: 0,
        dst_port: 0,
        protocol: chain.protocol,
        version: 6,
        has_ports: false,
    };
    Some((quoted, chain.damage.is_none() && chain.fragment.offset == 0))
}

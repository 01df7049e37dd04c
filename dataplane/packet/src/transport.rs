//! TCP, UDP, UDP-Lite, SCTP, DCCP, ICMP and ICMPv6: ports and the fields that flow state needs.

use crate::bytes::{Bytes, as_u32};
use crate::parse::{Next, Walk};
use crate::{Icmp, IpHeader, Malformed, Sctp, Tcp, Transport, quoted};

/// The nine flag bits, which [`Tcp::flags`] keeps.
const TCP_FLAGS: u16 = 0x1ff;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const DCCP: u8 = 33;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
pub(crate) const UDP_LITE: u8 = 136;

/// Whether the first four bytes of this protocol's header are two ports.
#[inline]
pub(crate) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE)
}

/// Completes an IP header with what follows it, and makes it the innermost header so far.
pub(crate) fn finish(walk: &mut Walk<'_>, mut header: IpHeader, bytes: &mut Bytes<'_>) -> Next {
    if header.is_later_fragment() {
        walk.commit(header, Transport::None);
        return Next::Done;
    }
    let protocol = header.protocol;
    if has_ports(protocol) {
        if let Some((src, dst)) = ports(protocol, bytes) {
            header.src_port = src;
            header.dst_port = dst;
            header.has_ports = true;
        }
        let read = match protocol {
            TCP => tcp(bytes),
            UDP => udp(&header, bytes),
            UDP_LITE => udp_lite(bytes),
            SCTP => sctp(bytes),
            _ => dccp(bytes),
        };
        let transport = read.unwrap_or_else(|cause| {
            if !cut_by_fragment_or_capture(walk, &header, bytes) {
                walk.headers.damage(cause);
            }
            Transport::None
        });
        let (src, dst) = (header.src_port, header.dst_port);
        walk.commit(header, transport);
        if protocol == UDP && udp_payload(bytes).is_some() {
            return Next::UdpPayload(src, dst);
        }
        return Next::Done;
    }
    if protocol == ICMP || protocol == ICMPV6 {
        icmp(walk, header, bytes);
        return Next::Done;
    }
    walk.commit(header, Transport::None);
    Next::Protocol(protocol)
}

/// The ports at the cursor. Of SCTP the whole common header must be there, because nothing of a
/// packet without it is valid; the others quote enough with eight bytes (RFC 792) or fewer.
fn ports(protocol: u8, bytes: &Bytes<'_>) -> Option<(u16, u16)> {
    const SCTP_HEADER_BYTES: usize = 12;
    if protocol == SCTP && bytes.captured() < SCTP_HEADER_BYTES {
        return None;
    }
    Some((bytes.u16(0)?, bytes.u16(2)?))
}

/// Steps over a UDP header to as much payload as its length says; nothing if it says less than the
/// header.
fn udp_payload(bytes: &mut Bytes<'_>) -> Option<()> {
    let [_, _, _, _, l0, l1, _, _] = *bytes.take::<8>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if !is_jumbogram(length, bytes.claimed()) {
        bytes.limit(length.checked_sub(8)?);
    }
    Some(())
}

/// RFC 2675 section 4: a UDP length of 0 stands for one that 16 bits do not hold.
fn is_jumbogram(length: usize, claimed: usize) -> bool {
    length == 0 && claimed > usize::from(u16::MAX) - 8
}

/// A header that does not fit may lie in a later fragment or beyond the snap length: no damage.
fn cut_by_fragment_or_capture(walk: &Walk<'_>, header: &IpHeader, bytes: &Bytes<'_>) -> bool {
    walk.partial || header.fragment.more || bytes.captured() < bytes.claimed()
}

/// The fields of a TCP header before an IP payload of `payload_bytes` that starts with it; nothing
/// if the header length is impossible.
#[inline]
pub(crate) fn tcp_fields(raw: &[u8; 20], payload_bytes: u32) -> Option<Tcp> {
    let header_bytes = (raw[12] >> 4) * 4;
    if header_bytes < 20 || u32::from(header_bytes) > payload_bytes {
        return None;
    }
    Some(Tcp {
        seq: u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]),
        ack: u32::from_be_bytes([raw[8], raw[9], raw[10], raw[11]]),
        payload_bytes: payload_bytes - u32::from(header_bytes),
        flags: u16::from_be_bytes([raw[12], raw[13]]) & TCP_FLAGS,
        window: u16::from_be_bytes([raw[14], raw[15]]),
        header_bytes,
    })
}

fn tcp(bytes: &Bytes<'_>) -> Result<Transport, Malformed> {
    let raw = bytes.peek::<20>().ok_or(Malformed::TransportTruncated)?;
    tcp_fields(raw, as_u32(bytes.claimed()))
        .map(Transport::Tcp)
        .ok_or(Malformed::TcpHeaderLength)
}

fn udp(header: &IpHeader, bytes: &Bytes<'_>) -> Result<Transport, Malformed> {
    let raw = bytes.peek::<8>().ok_or(Malformed::TransportTruncated)?;
    let length = usize::from(u16::from_be_bytes([raw[4], raw[5]]));
    // A first fragment holds less than the length.
    let beyond = length > bytes.claimed() && !header.fragment.more;
    if (length < 8 && !is_jumbogram(length, bytes.claimed())) || beyond {
        return Err(Malformed::UdpLength);
    }
    Ok(Transport::Udp {
        payload_bytes: as_u32(bytes.claimed()) - 8,
    })
}

fn udp_lite(bytes: &Bytes<'_>) -> Result<Transport, Malformed> {
    bytes.peek::<8>().ok_or(Malformed::TransportTruncated)?;
    Ok(Transport::UdpLite {
        payload_bytes: as_u32(bytes.claimed()) - 8,
    })
}

fn sctp(bytes: &Bytes<'_>) -> Result<Transport, Malformed> {
    let raw = bytes.peek::<12>().ok_or(Malformed::TransportTruncated)?;
    Ok(Transport::Sctp(Sctp {
        verification_tag: u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]),
        first_chunk: bytes.byte(12).unwrap_or(u8::MAX),
    }))
}

fn dccp(bytes: &Bytes<'_>) -> Result<Transport, Malformed> {
    bytes.peek::<12>().ok_or(Malformed::TransportTruncated)?;
    Ok(Transport::Dccp)
}

/// Reads the ICMP or ICMPv6 header and the packet an error quotes.
fn icmp(walk: &mut Walk<'_>, header: IpHeader, bytes: &mut Bytes<'_>) {
    let version6 = header.protocol == ICMPV6;
    let Some([kind, code, ..]) = bytes.peek::<4>() else {
        if !cut_by_fragment_or_capture(walk, &header, bytes) {
            walk.headers.damage(Malformed::IcmpTruncated);
        }
        walk.commit(header, Transport::None);
        return;
    };
    let (has_id, is_error) = if version6 {
        (matches!(kind, 128 | 129), matches!(kind, 1..=4))
    } else {
        (
            matches!(kind, 0 | 8 | 13..=18),
            matches!(kind, 3 | 4 | 5 | 11 | 12),
        )
    };
    let id = if has_id { bytes.u16(4).unwrap_or(0) } else { 0 };
    let message = Icmp {
        id,
        kind: *kind,
        code: *code,
    };
    let transport = if version6 {
        Transport::Icmpv6(message)
    } else {
        Transport::Icmp(message)
    };
    walk.commit(header, transport);
    if is_error && bytes.skip(8).is_some() {
        walk.headers.quoted = quoted::quoted(bytes, walk.options.extension_headers_max);
    }
}

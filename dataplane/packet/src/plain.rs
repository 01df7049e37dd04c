//! The straight path: untagged Ethernet, IPv4 without options or IPv6 without extension headers, a
//! whole packet, TCP or UDP that is no tunnel. It answers only for frames of which every length is
//! sound, and for those exactly as `general` would; for all others it says no.
//!
//! Its functions are always inlined: returning headers through memory costs a third of the time.

use crate::headers::{Headers, Transport};
use crate::{Fragment, IpHeader, ipv4, link, transport, tunnel};

const ETHERNET_BYTES: usize = 14;

/// Says whether the frame was a plain one, and then `headers` are complete. If not, what was
/// written is written again by `general`.
#[inline(always)]
pub(crate) fn plain(frame: &[u8], headers: &mut Headers) -> bool {
    let Some((ethernet, rest)) = frame.split_first_chunk::<ETHERNET_BYTES>() else {
        return false;
    };
    match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        link::IPV4 => plain_ipv4(ethernet, rest, headers),
        link::IPV6 => plain_ipv6(ethernet, rest, headers),
        _ => false,
    }
}

#[inline(always)]
fn plain_ipv4(ethernet: &[u8; ETHERNET_BYTES], rest: &[u8], headers: &mut Headers) -> bool {
    const MORE_OR_OFFSET: u16 = 0x3fff;
    let Some((ip, after)) = rest.split_first_chunk::<20>() else {
        return false;
    };
    let total = u16::from_be_bytes([ip[2], ip[3]]);
    let fragment_field = u16::from_be_bytes([ip[6], ip[7]]);
    let too_long = usize::from(total) > rest.len();
    if ip[0] != 0x45 || fragment_field & MORE_OR_OFFSET != 0 || total < 20 || too_long {
        return false;
    }
    let Some(read) = plain_transport(ip[9], after, u32::from(total) - 20) else {
        return false;
    };
    let header = IpHeader {
        src: ipv4::mapped([ip[12], ip[13], ip[14], ip[15]]),
        dst: ipv4::mapped([ip[16], ip[17], ip[18], ip[19]]),
        ip_bytes: u32::from(total),
        l3_offset: 14,
        l4_offset: 34,
        fragment: Fragment {
            id: u32::from(u16::from_be_bytes([ip[4], ip[5]])),
            offset: 0,
            more: false,
            is_fragment: false,
        },
        src_port: read.src_port,
        dst_port: read.dst_port,
        protocol: ip[9],
        version: 4,
        ttl: ip[8],
        tos: ip[1],
        has_ports: true,
    };
    fill(headers, ethernet, link::IPV4, header, read.transport);
    true
}

#[inline(always)]
fn plain_ipv6(ethernet: &[u8; ETHERNET_BYTES], rest: &[u8], headers: &mut Headers) -> bool {
    let Some((ip, after)) = rest.split_first_chunk::<40>() else {
        return false;
    };
    let payload = u16::from_be_bytes([ip[4], ip[5]]);
    if ip[0] >> 4 != 6 || usize::from(payload) > after.len() {
        return false;
    }
    let Some(read) = plain_transport(ip[6], after, u32::from(payload)) else {
        return false;
    };
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&ip[8..24]);
    dst.copy_from_slice(&ip[24..40]);
    let header = IpHeader {
        src,
        dst,
        ip_bytes: u32::from(payload) + 40,
        l3_offset: 14,
        l4_offset: 54,
        fragment: Fragment {
            id: 0,
            offset: 0,
            more: false,
            is_fragment: false,
        },
        src_port: read.src_port,
        dst_port: read.dst_port,
        protocol: ip[6],
        version: 6,
        ttl: ip[7],
        tos: (ip[0] << 4) | (ip[1] >> 4),
        has_ports: true,
    };
    fill(headers, ethernet, link::IPV6, header, read.transport);
    true
}

/// Ports and transport header of a plain packet.
struct Read {
    src_port: u16,
    dst_port: u16,
    transport: Transport,
}

/// TCP or UDP in the first `payload_bytes` of `bytes`, which holds as many.
#[inline(always)]
fn plain_transport(protocol: u8, bytes: &[u8], payload_bytes: u32) -> Option<Read> {
    if protocol == transport::TCP {
        let raw = bytes.first_chunk::<20>()?;
        return Some(Read {
            src_port: u16::from_be_bytes([raw[0], raw[1]]),
            dst_port: u16::from_be_bytes([raw[2], raw[3]]),
            transport: Transport::Tcp(transport::tcp_fields(raw, payload_bytes)?),
        });
    }
    if protocol != transport::UDP || payload_bytes < 8 {
        return None;
    }
    let raw = bytes.first_chunk::<8>()?;
    let src_port = u16::from_be_bytes([raw[0], raw[1]]);
    let dst_port = u16::from_be_bytes([raw[2], raw[3]]);
    let length = u32::from(u16::from_be_bytes([raw[4], raw[5]]));
    let is_tunnel = tunnel::is_tunnel_port(src_port) || tunnel::is_tunnel_port(dst_port);
    if length < 8 || length > payload_bytes || is_tunnel {
        return None;
    }
    let transport = Transport::Udp {
        payload_bytes: payload_bytes - 8,
    };
    Some(Read {
        src_port,
        dst_port,
        transport,
    })
}

#[inline(always)]
fn fill(
    headers: &mut Headers,
    ethernet: &[u8; ETHERNET_BYTES],
    ethertype: u16,
    header: IpHeader,
    transport: Transport,
) {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *ethernet;
    let link = &mut headers.link;
    link.destination = [d0, d1, d2, d3, d4, d5];
    link.source = [s0, s1, s2, s3, s4, s5];
    link.ethertype = ethertype;
    link.non_ip = None;
    link.mpls_label_count = 0;
    link.pppoe = false;
    link.vlan_count = 0;
    headers.outer = Some(header);
    headers.inner = None;
    headers.tunnel = None;
    headers.transport = transport;
    headers.quoted = None;
    headers.malformed = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::general;
    use crate::{Malformed, ParseOptions};
    use proptest::prelude::*;

    /// A frame that the straight path takes: IP of `version` with TCP or UDP.
    fn frame(version: u8, protocol: u8, payload_bytes: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let transport = 20 + payload_bytes;
        if version == 4 {
            frame.extend([
                8,
                0,
                0x45,
                0,
                0,
                transport + 20,
                0,
                7,
                0x40,
                0,
                64,
                protocol,
                0,
                0,
            ]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, transport, protocol, 64]);
            frame.extend([0x20; 32]);
        }
        frame.extend([0x9c, 0x40, 0x01, 0xbb, 0, transport, 0, 0]);
        frame.extend([0, 0, 0, 0, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
        frame.extend(vec![0; usize::from(payload_bytes)]);
        frame
    }

    #[test]
    fn the_straight_path_takes_tcp_and_udp_of_both_versions() {
        for version in [4, 6] {
            for protocol in [6, 17] {
                assert!(plain(&frame(version, protocol, 10), &mut Headers::new()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// `general` is the obvious twin: where the straight path answers, both agree.
        #[test]
        fn the_straight_path_reads_what_the_general_one_reads(
            version in prop::sample::select(vec![4_u8, 6]),
            protocol in prop::sample::select(vec![6_u8, 17]),
            payload_bytes in 0_u8..40,
            changes in prop::collection::vec((12_usize..74, any::<u8>()), 0..3),
            cut in 0_usize..130,
            more in 0_u32..20,
        ) {
            let mut frame = frame(version, protocol, payload_bytes);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(cut.max(30));
            let wire_len = u32::try_from(frame.len()).unwrap_or(0) + more;
            let (mut fast, mut slow) = (Headers::new(), Headers::new());
            // Leftovers of another frame must not shine through.
            fast.malformed = Some(Malformed::IpVersion);
            fast.transport = Transport::Dccp;
            fast.link.pppoe = true;
            if plain(&frame, &mut fast) {
                general(&frame, wire_len, &ParseOptions::default(), &mut slow);
                prop_assert_eq!(fast, slow);
            }
        }
    }
}

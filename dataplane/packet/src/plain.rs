//! The straight path: untagged Ethernet, IPv4 without options or IPv6 without extension headers, a
//! whole packet, TCP or UDP that is no tunnel. It answers only for frames of which every length is
//! sound, and for those exactly as `general` would; for all others it says no.
//!
//! Its functions are always inlined: returning headers through memory costs a third of the time,
//! and a caller that needs only some fields pays only for those.

use crate::headers::{Headers, Tcp, Transport};
use crate::{Fragment, IpHeader, ipv4, link, transport, tunnel};

const ETHERNET_BYTES: usize = 14;

/// The IP header of a frame that may be plain, and what it carries. It is plain once
/// [`Plain::tcp`] or [`Plain::udp`] answers; until then the header means nothing. Its ports are 0,
/// `has_ports` false: the transport header says them.
///
/// A plain frame is untagged Ethernet with a whole IPv4 packet without options, or a whole IPv6
/// packet without extension headers, that carries TCP or UDP to ports of no tunnel; nothing in it
/// is malformed. [`parse`](crate::parse) reads the same headers from it.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'f> {
    /// The IP header, without ports.
    pub ip: IpHeader,
    after: &'f [u8],
    payload_bytes: u32,
}

/// Source and destination port.
pub type PortPair = (u16, u16);

impl<'f> Plain<'f> {
    /// Reads an IPv4 header. `None` for frames that cannot be plain, or are not IPv4.
    #[inline(always)]
    #[must_use]
    pub fn ipv4(frame: &'f [u8]) -> Option<Self> {
        /// As it stands in the frame.
        const MORE_OR_OFFSET: u16 = u16::from_ne_bytes([0x3f, 0xff]);
        // One check for all that UDP needs.
        if frame.len() < ETHERNET_BYTES + 20 + 8 {
            return None;
        }
        let (ethernet, rest) = frame.split_first_chunk::<ETHERNET_BYTES>()?;
        let (head, after) = rest.split_first_chunk::<20>()?;
        let [
            version,
            tos,
            total0,
            total1,
            id0,
            id1,
            f0,
            f1,
            ttl,
            protocol,
            ..,
        ] = *head;
        if ethertype(ethernet) != link::IPV4 || version != 0x45 {
            return None;
        }
        // A total length below the header's wraps round to more than any frame has.
        let ip_bytes = u32::from(u16::from_be_bytes([total0, total1]));
        let payload_bytes = ip_bytes.wrapping_sub(20);
        let is_fragment = u16::from_ne_bytes([f0, f1]) & MORE_OR_OFFSET != 0;
        if is_fragment || payload_bytes as usize > after.len() {
            return None;
        }
        let addresses = head.last_chunk::<8>()?;
        let ip = IpHeader {
            src: ipv4::mapped(*addresses.first_chunk()?),
            dst: ipv4::mapped(*addresses.last_chunk()?),
            ip_bytes,
            l3_offset: 14,
            l4_offset: 34,
            fragment: Fragment {
                id: u32::from(u16::from_be_bytes([id0, id1])),
                offset: 0,
                more: false,
                is_fragment: false,
            },
            src_port: 0,
            dst_port: 0,
            protocol,
            version: 4,
            ttl,
            tos,
            has_ports: false,
        };
        Some(Self {
            ip,
            after,
            payload_bytes,
        })
    }

    /// Reads an IPv6 header. `None` for frames that cannot be plain, or are not IPv6.
    #[inline(always)]
    #[must_use]
    pub fn ipv6(frame: &'f [u8]) -> Option<Self> {
        // One check for all that UDP needs.
        if frame.len() < ETHERNET_BYTES + 40 + 8 {
            return None;
        }
        let (ethernet, rest) = frame.split_first_chunk::<ETHERNET_BYTES>()?;
        let (ip, after) = rest.split_first_chunk::<40>()?;
        let payload = u16::from_be_bytes([ip[4], ip[5]]);
        let too_long = usize::from(payload) > after.len();
        if ethertype(ethernet) != link::IPV6 || ip[0] >> 4 != 6 || too_long {
            return None;
        }
        let ip = IpHeader {
            src: *ip[8..].first_chunk()?,
            dst: *ip[24..].first_chunk()?,
            ip_bytes: u32::from(payload) + 40,
            l3_offset: 14,
            l4_offset: 54,
            fragment: Fragment {
                id: 0,
                offset: 0,
                more: false,
                is_fragment: false,
            },
            src_port: 0,
            dst_port: 0,
            protocol: ip[6],
            version: 6,
            ttl: ip[7],
            tos: (ip[0] << 4) | (ip[1] >> 4),
            has_ports: false,
        };
        Some(Self {
            ip,
            after,
            payload_bytes: u32::from(payload),
        })
    }

    /// Reads the ports where it carries UDP that is no tunnel.
    #[inline(always)]
    #[must_use]
    pub fn udp(&self) -> Option<PortPair> {
        if self.ip.protocol != transport::UDP {
            return None;
        }
        let raw = self.after.first_chunk::<8>()?;
        let [s0, s1, d0, d1, length0, length1, _, _] = *raw;
        let length = u32::from(u16::from_be_bytes([length0, length1]));
        let is_sound = length >= 8 && length <= self.payload_bytes;
        // Compared as they stand in the frame.
        let is_tunnel = tunnel::is_tunnel_port(u16::from_ne_bytes([s0, s1]))
            | tunnel::is_tunnel_port(u16::from_ne_bytes([d0, d1]));
        (is_sound && !is_tunnel).then_some(port_pair([s0, s1, d0, d1]))
    }

    /// Reads ports and header where it carries TCP.
    #[inline(always)]
    #[must_use]
    pub fn tcp(&self) -> Option<(PortPair, Tcp)> {
        if self.ip.protocol != transport::TCP {
            return None;
        }
        let raw = self.after.first_chunk::<20>()?;
        let tcp = transport::tcp_fields(raw, self.payload_bytes)?;
        Some((port_pair([raw[0], raw[1], raw[2], raw[3]]), tcp))
    }
}

#[inline(always)]
const fn port_pair([s0, s1, d0, d1]: [u8; 4]) -> PortPair {
    (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))
}

#[inline(always)]
const fn ethertype(ethernet: &[u8; ETHERNET_BYTES]) -> u16 {
    u16::from_be_bytes([ethernet[12], ethernet[13]])
}

/// Says whether the frame was a plain one, and then `headers` are complete. If not, they are as
/// they were.
#[inline(always)]
pub(crate) fn fill_plain(frame: &[u8], headers: &mut Headers) -> bool {
    let Some(ethernet) = frame.first_chunk() else {
        return false;
    };
    let Some(plain) = Plain::ipv4(frame).or_else(|| Plain::ipv6(frame)) else {
        return false;
    };
    let (ports, transport) = if let Some((ports, tcp)) = plain.tcp() {
        (ports, Transport::Tcp(tcp))
    } else if let Some(ports) = plain.udp() {
        let payload_bytes = plain.payload_bytes - 8;
        (ports, Transport::Udp { payload_bytes })
    } else {
        return false;
    };
    let mut ip = plain.ip;
    (ip.src_port, ip.dst_port) = ports;
    ip.has_ports = true;
    fill(headers, ethernet, ip, transport);
    true
}

#[inline(always)]
fn fill(
    headers: &mut Headers,
    ethernet: &[u8; ETHERNET_BYTES],
    header: IpHeader,
    transport: Transport,
) {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    let link = &mut headers.link;
    link.destination = [d0, d1, d2, d3, d4, d5];
    link.source = [s0, s1, s2, s3, s4, s5];
    link.ethertype = u16::from_be_bytes([t0, t1]);
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
                assert!(fill_plain(
                    &frame(version, protocol, 10),
                    &mut Headers::new()
                ));
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
            if fill_plain(&frame, &mut fast) {
                general(&frame, wire_len, &ParseOptions::default(), &mut slow);
                prop_assert_eq!(fast, slow);
            }
        }
    }
}

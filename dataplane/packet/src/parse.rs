//! From the first byte of a frame to its innermost transport header.

use crate::bytes::Bytes;
use crate::headers::{Headers, NonIp, Tcp, Transport, Tunnel, TunnelKind};
use crate::{Fragment, IpHeader, LAYERS_MAX, Malformed, ParseOptions};
use crate::{ipv4, ipv6, link, mpls, ppp, transport, tunnel};

/// What the bytes at the cursor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An Ethernet header.
    Ethernet,
    /// The payload of this ethertype.
    EtherType(u16),
    /// LLC, IEEE 802.2.
    Llc,
    /// An MPLS label stack.
    Mpls,
    /// An IP header, of the version that its first four bits say.
    Ip,
    /// An IPv4 header.
    Ipv4,
    /// An IPv6 header.
    Ipv6,
    /// A PPP protocol field.
    Ppp,
    /// What a GRE protocol type announces.
    GreProtocol(u16),
    /// A network service header.
    Nsh,
    /// Payload of this IP protocol, and no new IP header before it.
    Protocol(u8),
    /// Payload of a UDP datagram between these ports.
    UdpPayload(u16, u16),
    /// Nothing more to read.
    Done,
}

/// A tunnel header that was crossed and waits for the IP header it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    pub(crate) kind: TunnelKind,
    pub(crate) id: u32,
}

/// One frame being read.
pub(crate) struct Walk<'h> {
    pub(crate) headers: &'h mut Headers,
    pub(crate) options: ParseOptions,
    /// IP headers read so far.
    pub(crate) depth: u8,
    /// The tunnel crossed since the last IP header.
    pub(crate) crossing: Option<Crossing>,
    /// Only a UDP port number says that what is read now is a tunnel.
    pub(crate) guessed: bool,
    /// A header read so far is of a first fragment: the rest of what it carries is elsewhere.
    pub(crate) partial: bool,
}

/// Reads one Ethernet frame into `headers`.
///
/// `frame` holds the captured bytes, `wire_len` the length of the frame on the wire in bytes; it
/// is larger than `frame` where a snap length cut the frame, and is raised to it where smaller.
/// Never fails: what could not be read is absent, and [`Headers::malformed`] says why.
///
/// # Bounded work
/// At most [`LAYERS_MAX`] headers, with bounded chains in each; no allocation, no panic.
#[inline]
pub fn parse(frame: &[u8], wire_len: u32, options: &ParseOptions, headers: &mut Headers) {
    if plain(frame, headers) {
        return;
    }
    general(frame, wire_len, options, headers);
}

/// The straight path: Ethernet, IPv4 of 20 bytes, whole packet, TCP or UDP that is no tunnel.
/// Says whether the frame was such a one; if not, nothing was written that `general` does not
/// write again.
#[inline]
fn plain(frame: &[u8], headers: &mut Headers) -> bool {
    let Some(start) = frame.first_chunk::<42>() else {
        return false;
    };
    let [
        d0,
        d1,
        d2,
        d3,
        d4,
        d5,
        s0,
        s1,
        s2,
        s3,
        s4,
        s5,
        0x08,
        0x00, //
        0x45,
        tos,
        t0,
        t1,
        i0,
        i1,
        f0,
        f1,
        ttl,
        protocol,
        _,
        _, //
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        b2,
        b3,
        p0,
        p1,
        q0,
        q1,
        u0,
        u1,
        _,
        _,
    ] = *start
    else {
        return false;
    };
    let total = u16::from_be_bytes([t0, t1]);
    let (src_port, dst_port) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([q0, q1]));
    let fragment_field = u16::from_be_bytes([f0, f1]);
    if fragment_field & 0x3fff != 0 || usize::from(total) + 14 > frame.len() {
        return false;
    }
    let transport = match protocol {
        6 => {
            let Some((_, tcp)) = frame.split_first_chunk::<34>() else {
                return false;
            };
            let Some(tcp) = tcp.first_chunk::<20>() else {
                return false;
            };
            match transport::tcp_fields(tcp, u32::from(total).wrapping_sub(20)) {
                Some(tcp) if total >= 40 => Transport::Tcp(tcp),
                _ => return false,
            }
        }
        17 => {
            let length = u16::from_be_bytes([u0, u1]);
            if total < 28 || length < 8 || length > total - 20 {
                return false;
            }
            if tunnel::is_tunnel_port(src_port) || tunnel::is_tunnel_port(dst_port) {
                return false;
            }
            Transport::Udp {
                payload_bytes: u32::from(total) - 28,
            }
        }
        _ => return false,
    };
    let link = &mut headers.link;
    link.destination = [d0, d1, d2, d3, d4, d5];
    link.source = [s0, s1, s2, s3, s4, s5];
    link.ethertype = 0x0800;
    link.non_ip = None;
    link.mpls_label_count = 0;
    link.pppoe = false;
    link.vlan_count = 0;
    headers.outer = Some(IpHeader {
        src: ipv4::mapped([a0, a1, a2, a3]),
        dst: ipv4::mapped([b0, b1, b2, b3]),
        ip_bytes: u32::from(total),
        l3_offset: 14,
        l4_offset: 34,
        fragment: Fragment {
            id: u32::from(u16::from_be_bytes([i0, i1])),
            offset: 0,
            more: false,
            is_fragment: false,
        },
        src_port,
        dst_port,
        protocol,
        version: 4,
        ttl,
        tos,
        has_ports: true,
    });
    headers.inner = None;
    headers.tunnel = None;
    headers.transport = transport;
    headers.quoted = None;
    headers.malformed = None;
    true
}

/// Everything else, header by header.
fn general(frame: &[u8], wire_len: u32, options: &ParseOptions, headers: &mut Headers) {
    headers.link.ethertype = 0;
    headers.link.non_ip = None;
    headers.link.mpls_label_count = 0;
    headers.link.pppoe = false;
    headers.link.vlan_count = 0;
    headers.outer = None;
    headers.inner = None;
    headers.tunnel = None;
    headers.transport = Transport::None;
    headers.quoted = None;
    headers.malformed = None;
    let mut bytes = Bytes::new(frame, usize::try_from(wire_len).unwrap_or(usize::MAX));
    let mut walk = Walk {
        headers,
        options: *options,
        depth: 0,
        crossing: None,
        guessed: false,
        partial: false,
    };
    link::addresses(&mut walk, &bytes);
    let mut next = Next::Ethernet;
    for _ in 0..LAYERS_MAX {
        next = walk.step(next, &mut bytes);
        if next == Next::Done {
            return;
        }
    }
    walk.damage_here(Malformed::TooManyLayers);
}

impl Walk<'_> {
    /// Reads one header and says what comes after it.
    fn step(&mut self, next: Next, bytes: &mut Bytes<'_>) -> Next {
        match next {
            Next::Ethernet => link::ethernet(self, bytes),
            Next::EtherType(ethertype) => link::ethertype(self, ethertype, bytes),
            Next::Llc => link::llc(self, bytes),
            Next::Mpls => mpls::mpls(self, bytes),
            Next::Ip => self.ip(bytes),
            Next::Ipv4 => ipv4::ipv4(self, bytes),
            Next::Ipv6 => ipv6::ipv6(self, bytes),
            Next::Ppp => ppp::ppp(self, bytes),
            Next::GreProtocol(protocol) => tunnel::gre_protocol(self, protocol, bytes),
            Next::Nsh => link::nsh(self, bytes),
            Next::Protocol(protocol) => tunnel::ip_protocol(self, protocol, bytes),
            Next::UdpPayload(src, dst) => tunnel::udp_payload(self, src, dst, bytes),
            Next::Done => Next::Done,
        }
    }

    /// An IP header whose version only its first four bits tell.
    fn ip(&mut self, bytes: &mut Bytes<'_>) -> Next {
        match bytes.byte(0).map(|first| first >> 4) {
            Some(4) => ipv4::ipv4(self, bytes),
            Some(6) => ipv6::ipv6(self, bytes),
            Some(_) => self.unreadable_ip(Malformed::IpVersion),
            None => self.unreadable_ip(Malformed::Ipv4Truncated),
        }
    }

    /// The IP header announced is not one: the frame stays what the headers before made of it.
    pub(crate) fn unreadable_ip(&mut self, cause: Malformed) -> Next {
        if self.depth == 0 {
            self.headers.link.non_ip = Some(NonIp::BrokenIp);
        }
        self.damage_here(cause);
        Next::Done
    }

    /// The frame is not IP (so far as its link layer goes).
    pub(crate) fn not_ip(&mut self, kind: NonIp) -> Next {
        if self.depth == 0 {
            self.headers.link.non_ip = Some(kind);
        }
        Next::Done
    }

    /// The frame ends inside a header between two IP headers or before the first.
    pub(crate) fn link_truncated(&mut self) -> Next {
        self.damage_here(Malformed::LinkTruncated);
        self.not_ip(NonIp::Other)
    }

    /// Notes damage, unless it lies in what only a UDP port number suggests to be a tunnel: any
    /// application may use that port, so that is no damage of the frame.
    pub(crate) fn damage_here(&mut self, cause: Malformed) {
        if !self.guessed && !self.partial {
            self.headers.damage(cause);
        }
    }

    /// The IP header claims more bytes than the frame has. Inside a first fragment that is to be
    /// expected; of a tunnel that only a port number suggests, it says that there is none; of any
    /// other header it is damage, and the header still stands.
    pub(crate) fn refuses_length(&mut self, cause: Malformed) -> bool {
        if self.partial {
            return false;
        }
        if !self.guessed {
            self.headers.damage(cause);
        }
        self.guessed
    }

    /// A tunnel header was crossed. A second one before the next IP header (Ethernet in GRE in
    /// NSH ...) replaces the kind.
    pub(crate) fn cross(&mut self, kind: TunnelKind, id: u32) {
        self.crossing = Some(Crossing { kind, id });
    }

    /// Whether the depth limit allows one more IP header; notes the damage if not.
    pub(crate) fn may_descend(&mut self) -> bool {
        if self.depth <= self.options.tunnel_depth_max {
            return true;
        }
        if self.options.tunnel_depth_max > 0 {
            self.headers.damage(Malformed::TunnelTooDeep);
        }
        false
    }

    /// An IP header and what follows it were read: it is the innermost one so far.
    pub(crate) fn commit(&mut self, header: IpHeader, transport: Transport) {
        self.headers.transport = transport;
        self.headers.quoted = None;
        if self.depth == 0 {
            self.headers.outer = Some(header);
        } else {
            let crossing = self.crossing.unwrap_or(Crossing {
                kind: TunnelKind::IpInIp,
                id: 0,
            });
            self.headers.inner = Some(header);
            self.headers.tunnel = Some(Tunnel {
                kind: crossing.kind,
                id: crossing.id,
                depth: self.depth,
            });
        }
        self.crossing = None;
        self.guessed = false;
        self.partial |= header.fragment.more;
        self.depth = self.depth.saturating_add(1);
    }
}

/// The TCP flags that [`Tcp::flags`] keeps.
pub(crate) const TCP_FLAGS: u16 = 0x1ff;
const _: () = assert!(Tcp::FIN | Tcp::URG <= TCP_FLAGS);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A 64-byte-class frame with TCP or UDP that the straight path may take.
    fn plain_frame(protocol: u8, payload_bytes: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        let total = 40 + payload_bytes;
        frame.extend([0x45, 0, 0, total, 0, 7, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([
            10,
            0,
            0,
            1,
            10,
            0,
            0,
            2,
            0x9c,
            0x40,
            0x01,
            0xbb,
            0,
            total - 20,
            0,
            0,
        ]);
        frame.extend([0, 0, 0, 0, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
        frame.resize(14 + usize::from(total), 0);
        frame
    }

    #[test]
    fn the_straight_path_takes_plain_tcp_and_udp() {
        for protocol in [6, 17] {
            assert!(plain(&plain_frame(protocol, 10), &mut Headers::new()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// `general` is the plain twin of `plain`: where the straight path answers, both agree.
        #[test]
        fn the_straight_path_reads_what_the_general_one_reads(
            protocol in prop::sample::select(vec![6_u8, 17]),
            payload_bytes in 0_u8..40,
            changes in prop::collection::vec((12_usize..54, any::<u8>()), 0..3),
            cut in 0_usize..110,
            more in 0_u32..20,
        ) {
            let mut frame = plain_frame(protocol, payload_bytes);
            for (at, value) in changes {
                frame[at] = value;
            }
            frame.truncate(cut.max(30));
            let wire_len = u32::try_from(frame.len()).unwrap_or(0) + more;
            let (mut fast, mut slow) = (Headers::new(), Headers::new());
            // Leftovers of another frame must not shine through.
            fast.malformed = Some(Malformed::IpVersion);
            fast.transport = Transport::Dccp;
            if plain(&frame, &mut fast) {
                general(&frame, wire_len, &ParseOptions::default(), &mut slow);
                prop_assert_eq!(fast.outer, slow.outer);
                prop_assert_eq!(fast.transport, slow.transport);
                prop_assert_eq!(fast.malformed, slow.malformed);
                prop_assert_eq!(fast.inner, slow.inner);
                prop_assert_eq!(fast.tunnel, slow.tunnel);
                prop_assert_eq!(fast.quoted, slow.quoted);
                prop_assert_eq!(fast.link, slow.link);
            }
        }
    }
}

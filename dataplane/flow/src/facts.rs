//! The one place that knows `packet`: headers to the small types that this room works with.

use crate::context::{ContextTags, Path, VlanTags};
use crate::frag::{FragmentKey, FragmentPart};
use crate::hash::{FlowHash, HashKey};
use crate::key::{FlowKey, Side, Tuple};
use abi::record::TunnelKind;
use packet::{Headers, IpHeader, KeyHeader, Quoted, Transport, VlanKind};

/// TCP flag bits, RFC 9293 section 3.1.
pub use packet::Tcp as TcpFlags;

/// IP protocol numbers that have rules of their own.
pub mod proto {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// RFC 3828.
    pub const UDP_LITE: u8 = 136;
}

/// What goes into the key of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KeyOptions {
    /// Which IP header of a tunnelled frame. Default the innermost.
    pub header: KeyHeader,
    /// Whether the VLAN stack is part of the key. Default false.
    pub vlan: bool,
    /// Whether kind and id of the innermost tunnel are part of the key. Default false.
    pub tunnel: bool,
    /// What stands in for the ports of ICMP. Default paired.
    pub icmp: IcmpKey,
}

/// What stands in for the ports of ICMP and ICMPv6 in a key. Records say 0 in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IcmpKey {
    /// The identifier of queries, so that each run of ping is a flow of its own.
    #[default]
    Paired,
    /// Nothing: all ICMP between two addresses is one flow.
    Merged,
}

/// What a flow needs to know of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFacts {
    /// IP-layer bytes as the header claims.
    pub ip_bytes: u32,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IPv6 on the wire.
    pub ipv6: bool,
    /// The transport header.
    pub transport: TransportFacts,
}

/// What a flow needs to know of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportFacts {
    /// Nothing beyond the ports: UDP, other protocols, later fragments.
    Plain,
    /// RFC 9293 section 3.1.
    Tcp {
        /// 9 bits, FIN lowest.
        flags: u16,
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// Bytes after the TCP header.
        payload_bytes: u32,
    },
    /// RFC 792, RFC 4443.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

impl PacketFacts {
    /// Flags of TCP, 0 of all else.
    #[inline]
    pub(crate) const fn flags(&self) -> u16 {
        match self.transport {
            TransportFacts::Tcp { flags, .. } => flags,
            _ => 0,
        }
    }

    /// Whether the packet, were it the first of a flow, would lie in the middle of a TCP
    /// connection. The midstream policy is the caller's: ask before inserting.
    #[inline]
    #[must_use]
    pub const fn is_midstream(&self) -> bool {
        matches!(self.transport, TransportFacts::Tcp { flags, .. } if flags & TcpFlags::SYN == 0)
    }
}

/// One packet as the cache sees it. `None` of [`classify`] is a packet without a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// Addresses, protocol and ports in the packet's direction. A later fragment has ports 0 until
    /// its datagram's ports are put in, see [`FragmentTable`](crate::FragmentTable).
    pub tuple: Tuple,
    /// The context that the options ask for; plain where they ask for none.
    pub tags: ContextTags,
    /// What the flow counts.
    pub facts: PacketFacts,
    /// Set for every fragment of a datagram: say first and later ones.
    pub fragment: Option<(FragmentKey, FragmentPart)>,
}

/// What the cache needs of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedPacket {
    /// Key of its flow.
    pub key: FlowKey,
    /// Which end of the key sent it.
    pub side: Side,
    /// What the flow counts.
    pub facts: PacketFacts,
}

impl KeyedPacket {
    /// Of no packet.
    pub const NONE: Self = Self {
        key: FlowKey::NONE,
        side: Side::A,
        facts: PacketFacts {
            ip_bytes: 0,
            tos: 0,
            ipv6: false,
            transport: TransportFacts::Plain,
        },
    };

    /// Address of the end that it goes to; IPv4 is `::ffff:a.b.c.d`.
    #[inline(always)]
    #[must_use]
    pub const fn receiver(&self) -> [u8; 16] {
        self.key.address(self.side.other())
    }

    /// Whether it says what `other` says but for the address of its receiver, its length and place in a
    /// stream.
    #[inline(always)]
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        let is_same = match (self.facts.transport, other.facts.transport) {
            (TransportFacts::Plain, TransportFacts::Plain) => true,
            (TransportFacts::Tcp { flags: one, .. }, TransportFacts::Tcp { flags: two, .. }) => {
                one == two
            }
            _ => false,
        };
        is_same
            && self.side == other.side
            && self.facts.ipv6 == other.facts.ipv6
            && self.key.ports_word() == other.key.ports_word()
            && self.key.address(self.side) == other.key.address(self.side)
    }

    /// Takes a plain frame (see [`packet::Plain`]), without headers in between: what [`classify`]
    /// says of such a frame whatever the options are, in context 0, and the hash of its key. `None`
    /// for every other frame, and then what is here means nothing.
    #[inline(always)]
    #[must_use]
    pub fn read_plain(&mut self, frame: &[u8], hash_key: &HashKey) -> Option<FlowHash> {
        // One arm for each version: what is constant for it is folded into it.
        if let Some(plain) = packet::Plain::ipv4(frame) {
            self.read_transport(&plain, hash_key)
        } else if let Some(plain) = packet::Plain::ipv6(frame) {
            self.read_transport(&plain, hash_key)
        } else {
            None
        }
    }

    /// As [`KeyedPacket::read_plain`], for a frame that is plain behind one or two VLAN tags, where
    /// tags are not part of the key.
    #[inline(never)]
    #[must_use]
    pub fn read_tagged(&mut self, frame: &[u8], hash_key: &HashKey) -> Option<FlowHash> {
        const TAG_BYTES: usize = 4;
        let mut rest = frame;
        for _ in 0..2 {
            // What follows a tag looks like the end of an Ethernet header without it.
            match (rest.get(12..14), rest.get(TAG_BYTES..)) {
                (Some([0x81, 0x00] | [0x88, 0xa8]), Some(behind)) => rest = behind,
                _ => break,
            }
        }
        if rest.len() == frame.len() {
            return None;
        }
        self.read_plain(rest, hash_key)
    }

    #[inline(always)]
    fn read_transport(
        &mut self,
        plain: &packet::Plain<'_>,
        hash_key: &HashKey,
    ) -> Option<FlowHash> {
        if let Some(ports) = plain.udp() {
            self.facts.transport = TransportFacts::Plain;
            Some(self.fill(&plain.ip, ports, proto::UDP, hash_key))
        } else if let Some((ports, tcp)) = plain.tcp() {
            (self.facts.transport, _) = transport_facts(Transport::Tcp(tcp));
            Some(self.fill(&plain.ip, ports, proto::TCP, hash_key))
        } else {
            None
        }
    }

    #[inline(always)]
    fn fill(
        &mut self,
        ip: &IpHeader,
        ports: packet::PortPair,
        proto: u8,
        hash_key: &HashKey,
    ) -> FlowHash {
        let tuple = Tuple {
            src: ip.src,
            dst: ip.dst,
            src_port: ports.0,
            dst_port: ports.1,
            proto,
        };
        let (key, side) = match ip.version {
            4 => FlowKey::ipv4(&tuple),
            _ => FlowKey::new(&tuple, 0),
        };
        (self.key, self.side) = (key, side);
        self.facts.ip_bytes = ip.ip_bytes;
        self.facts.tos = ip.tos;
        self.facts.ipv6 = ip.version == 6;
        hash_key.of(&key)
    }
}

/// Reads one frame's headers. `None` where the frame has no readable IP header. The context in the
/// fragment's key is 0: set it as in the flow key.
#[inline]
#[must_use]
pub fn classify(headers: &Headers, options: &KeyOptions) -> Option<Classified> {
    let ip = headers.classified(options.header)?;
    let (transport, icmp_id) = transport_facts(headers.classified_transport(options.header));
    let (src_port, dst_port) = match options.icmp {
        IcmpKey::Paired if icmp_id != 0 => (icmp_id, icmp_id),
        _ => (ip.src_port, ip.dst_port),
    };
    let tuple = Tuple {
        src: ip.src,
        dst: ip.dst,
        src_port,
        dst_port,
        proto: ip.protocol,
    };
    Some(Classified {
        tuple,
        tags: tags(headers, options),
        facts: PacketFacts {
            ip_bytes: ip.ip_bytes,
            tos: ip.tos,
            ipv6: ip.version == 6,
            transport,
        },
        fragment: fragment(ip),
    })
}

#[inline(always)]
fn transport_facts(transport: Transport) -> (TransportFacts, u16) {
    match transport {
        Transport::Tcp(tcp) => (
            TransportFacts::Tcp {
                flags: tcp.flags,
                seq: tcp.seq,
                ack: tcp.ack,
                payload_bytes: tcp.payload_bytes,
            },
            0,
        ),
        Transport::Icmp(icmp) | Transport::Icmpv6(icmp) => (
            TransportFacts::Icmp {
                kind: icmp.kind,
                code: icmp.code,
            },
            icmp.id,
        ),
        _ => (TransportFacts::Plain, 0),
    }
}

fn fragment(ip: &IpHeader) -> Option<(FragmentKey, FragmentPart)> {
    if !ip.fragment.is_fragment {
        return None;
    }
    let part = if ip.is_later_fragment() {
        FragmentPart::Later
    } else {
        FragmentPart::First
    };
    Some((
        FragmentKey::new(ip.src, ip.dst, ip.protocol, ip.fragment.id, 0),
        part,
    ))
}

#[inline]
fn tags(headers: &Headers, options: &KeyOptions) -> ContextTags {
    let mut tags = ContextTags::default();
    if options.vlan {
        tags.vlans = vlan_tags(headers);
    }
    if let (true, KeyHeader::Inner, Some(tunnel)) = (options.tunnel, options.header, headers.tunnel)
    {
        tags.tunnel_kind = tunnel.kind as u8 + 1;
        tags.tunnel_id = tunnel.id;
    }
    tags
}

fn vlan_tags(headers: &Headers) -> VlanTags {
    let mut tags = VlanTags {
        count: headers.link.vlan_count(),
        ..VlanTags::default()
    };
    for (to, from) in tags.tags.iter_mut().zip(headers.link.vlans()) {
        *to = (from.id & 0xfff) | u16::from(from.kind == VlanKind::Service) << 12;
    }
    tags
}

/// How the frame came: what a record tells of VLANs and tunnel. Needed for a flow's first packet.
#[must_use]
pub fn path(headers: &Headers, options: &KeyOptions) -> Path {
    let mut path = Path {
        vlans: vlan_tags(headers),
        ..Path::default()
    };
    if let (KeyHeader::Inner, Some(tunnel), Some(outer)) =
        (options.header, headers.tunnel, headers.outer)
    {
        path.tunnel_kind = tunnel_kind(tunnel.kind);
        path.tunnel_id = tunnel.id;
        path.outer_src = outer.src;
        path.outer_dst = outer.dst;
    }
    path
}

const fn tunnel_kind(kind: packet::TunnelKind) -> TunnelKind {
    use packet::TunnelKind as Read;
    match kind {
        Read::IpInIp => TunnelKind::IpInIp,
        Read::Gre | Read::Pptp | Read::Nvgre | Read::Erspan => TunnelKind::Gre,
        Read::Vxlan | Read::VxlanGpe => TunnelKind::Vxlan,
        Read::Geneve => TunnelKind::Geneve,
        Read::Gtpu => TunnelKind::GtpU,
        _ => TunnelKind::Other,
    }
}

/// The tuple of the packet that an ICMP error quotes, to find the flow it belongs to. The quoted
/// packet went the other way: its key's side is its own sender's. The identifier of a quoted ICMP
/// query is not known, so such an error finds its flow only under [`IcmpKey::Merged`].
#[must_use]
pub const fn quoted_tuple(quoted: &Quoted) -> Tuple {
    Tuple {
        src: quoted.src,
        dst: quoted.dst,
        src_port: quoted.src_port,
        dst_port: quoted.dst_port,
        proto: quoted.protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{FlowKey, Side};
    use packet::{ParseOptions, parse};
    use proptest::prelude::*;

    fn read(frame: &[u8]) -> Headers {
        let mut headers = Headers::new();
        let wire_len = u32::try_from(frame.len()).unwrap();
        parse(frame, wire_len, &ParseOptions::default(), &mut headers);
        headers
    }

    /// RFC 8200, without extension headers.
    fn ipv6_packet(proto: u8, src: u8, dst: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap();
        let mut packet = vec![0x61, 0x20, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([proto, 64]);
        for host in [src, dst] {
            packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        packet.extend(payload);
        packet
    }

    fn ethernet6(tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
        let mut frame = ethernet(tags, payload);
        let at = 12 + 4 * tags.len();
        frame[at..at + 2].copy_from_slice(&[0x86, 0xdd]);
        frame
    }

    fn ethernet(tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (kind, id) in tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        frame.extend([0x08, 0x00]);
        frame.extend(payload);
        frame
    }

    /// RFC 791, without a checksum: nobody here verifies it.
    fn ipv4(proto: u8, src: u8, dst: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0x10];
        packet.extend(length.to_be_bytes());
        packet.extend([0x12, 0x34]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, proto, 0, 0, 10, 0, 0, src, 10, 0, 0, dst]);
        packet.extend(payload);
        packet
    }

    fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let words = [src, dst, length, 0];
        let mut datagram: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        datagram.extend(payload);
        datagram
    }

    #[test]
    fn tcp_segment_is_read_with_its_numbers() {
        let mut segment: Vec<u8> = [40_000_u16, 443]
            .iter()
            .flat_map(|p| p.to_be_bytes())
            .collect();
        segment.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        segment.extend([1, 2, 3]);
        let headers = read(&ethernet(&[], &ipv4(6, 1, 2, 0, &segment)));
        let c = classify(&headers, &KeyOptions::default()).unwrap();
        assert_eq!(
            (c.tuple.src_port, c.tuple.dst_port, c.tuple.proto),
            (40_000, 443, 6)
        );
        assert_eq!(
            c.facts.transport,
            TransportFacts::Tcp {
                flags: TcpFlags::ACK | TcpFlags::PSH,
                seq: 7,
                ack: 9,
                payload_bytes: 3,
            }
        );
        assert_eq!(
            (c.facts.ip_bytes, c.facts.tos, c.facts.ipv6),
            (43, 0x10, false)
        );
        assert!(c.facts.is_midstream() && c.tags.is_plain() && c.fragment.is_none());
        assert!(path(&headers, &KeyOptions::default()).is_plain());
    }

    #[test]
    fn vlan_stack_is_in_the_path_always_and_in_the_key_where_asked() {
        let frame = ethernet(
            &[(0x88a8, 0x6064), (0x8100, 200)],
            &ipv4(17, 1, 2, 0, &udp(1, 2, &[])),
        );
        let headers = read(&frame);
        let options = KeyOptions {
            vlan: true,
            ..KeyOptions::default()
        };
        let expected = VlanTags {
            count: 2,
            tags: [0x1064, 200, 0, 0],
        };
        assert_eq!(classify(&headers, &options).unwrap().tags.vlans, expected);
        assert!(
            classify(&headers, &KeyOptions::default())
                .unwrap()
                .tags
                .is_plain()
        );
        assert_eq!(path(&headers, &KeyOptions::default()).vlans, expected);
    }

    #[test]
    fn tunnelled_frame_is_keyed_by_the_header_that_is_asked_for() {
        let inner = ipv4(17, 5, 6, 0, &udp(53, 5353, &[]));
        let mut vxlan = vec![8, 0, 0, 0, 0, 0, 77, 0];
        vxlan.extend(ethernet(&[], &inner));
        let headers = read(&ethernet(
            &[],
            &ipv4(17, 1, 2, 0, &udp(50_000, 4789, &vxlan)),
        ));
        let inner = KeyOptions {
            tunnel: true,
            ..KeyOptions::default()
        };
        let c = classify(&headers, &inner).unwrap();
        assert_eq!((c.tuple.src[15], c.tuple.src_port), (5, 53));
        assert_eq!(c.tags.tunnel_id, 77);
        let way = path(&headers, &inner);
        assert_eq!((way.tunnel_kind, way.tunnel_id), (TunnelKind::Vxlan, 77));
        assert_eq!((way.outer_src[15], way.outer_dst[15]), (1, 2));
        let outer = KeyOptions {
            header: KeyHeader::Outer,
            ..inner
        };
        let c = classify(&headers, &outer).unwrap();
        assert_eq!((c.tuple.src[15], c.tuple.dst_port), (1, 4789));
        assert!(c.tags.is_plain() && path(&headers, &outer).is_plain());
    }

    #[test]
    fn ping_is_keyed_by_its_identifier_where_paired_and_by_nothing_where_merged() {
        let echo = |kind| ethernet(&[], &ipv4(1, 1, 2, 0, &[kind, 0, 0, 0, 0xab, 0xcd, 0, 1]));
        let c = classify(&read(&echo(8)), &KeyOptions::default()).unwrap();
        assert_eq!((c.tuple.src_port, c.tuple.dst_port), (0xabcd, 0xabcd));
        assert_eq!(c.facts.transport, TransportFacts::Icmp { kind: 8, code: 0 });
        let merged = KeyOptions {
            icmp: IcmpKey::Merged,
            ..KeyOptions::default()
        };
        let c = classify(&read(&echo(0)), &merged).unwrap();
        assert_eq!((c.tuple.src_port, c.tuple.dst_port), (0, 0));
    }

    #[test]
    fn fragments_of_one_datagram_have_one_key_and_say_which_part_they_are() {
        let first = read(&ethernet(
            &[],
            &ipv4(17, 1, 2, 0x2000, &udp(53, 5353, &[0; 16])),
        ));
        let later = read(&ethernet(&[], &ipv4(17, 1, 2, 0x0003, &[0; 24])));
        let [first, later] = [first, later].map(|h| classify(&h, &KeyOptions::default()).unwrap());
        let (key, part) = first.fragment.unwrap();
        assert_eq!(part, FragmentPart::First);
        assert_eq!(later.fragment, Some((key, FragmentPart::Later)));
        assert_eq!((first.tuple.src_port, later.tuple.src_port), (53, 0));
        assert_eq!(later.facts.transport, TransportFacts::Plain);
    }

    #[test]
    fn quoted_packet_leads_to_the_flow_that_sent_it() {
        let sent = ipv4(17, 1, 2, 0, &udp(40_000, 53, &[]));
        let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
        error.extend(&sent);
        let headers = read(&ethernet(&[], &ipv4(1, 2, 1, 0, &error)));
        let quoted = quoted_tuple(&headers.quoted.unwrap());
        let c = classify(&read(&ethernet(&[], &sent)), &KeyOptions::default()).unwrap();
        assert_eq!(FlowKey::new(&quoted, 0), FlowKey::new(&c.tuple, 0));
        assert_eq!(FlowKey::new(&quoted, 0).1, Side::A);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// [`parse`] and [`classify`] are the obvious twin of the straight path.
        #[test]
        fn a_plain_frame_is_read_as_its_headers_say(
            ipv6: bool,
            tags in prop::collection::vec(prop::sample::select(vec![0x8100_u16, 0x88a8, 0x9100]), 0..3),
            tcp: bool,
            payload_bytes in 0_usize..20,
            ports in prop::sample::select(vec![(40_000, 53), (53, 40_000), (7, 7), (4789, 9), (9, 6081)]),
            changes in prop::collection::vec((12_usize..70, any::<u8>()), 0..3),
            more in 0_usize..20,
            cut in 30_usize..120,
        ) {
            let tags: Vec<_> = tags.into_iter().map(|kind| (kind, 5)).collect();
            let datagram = udp(ports.0, ports.1, &vec![0x50; payload_bytes + 12]);
            let proto = if tcp { 6 } else { 17 };
            let mut frame = if ipv6 {
                ethernet6(&tags, &ipv6_packet(proto, 1, 2, &datagram))
            } else {
                ethernet(&tags, &ipv4(proto, 1, 2, 0, &datagram))
            };
            frame.extend(vec![0; more]);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(cut);
            // What an earlier packet left must not shine through.
            let mut packet = KeyedPacket::NONE;
            packet.facts.ipv6 = !ipv6;
            packet.facts.tos = 0xff;
            packet.facts.transport = TransportFacts::Icmp { kind: 8, code: 1 };
            let hash_key = HashKey::new([1, 2]);
            let read = packet.read_plain(&frame, &hash_key);
            if let Some(hash) = read.or_else(|| packet.read_tagged(&frame, &hash_key)) {
                let mut headers = Headers::new();
                let wire_len = u32::try_from(frame.len() + more).unwrap();
                parse(&frame, wire_len, &ParseOptions::default(), &mut headers);
                prop_assert_eq!(headers.malformed, None);
                for header in [KeyHeader::Inner, KeyHeader::Outer] {
                    let options = KeyOptions { header, ..KeyOptions::default() };
                    let classified = classify(&headers, &options).unwrap();
                    let (key, side) = FlowKey::new(&classified.tuple, 0);
                    let facts = classified.facts;
                    prop_assert_eq!(packet, KeyedPacket { key, side, facts });
                    prop_assert_eq!(hash, hash_key.of(&key));
                    prop_assert_eq!(classified.fragment, None);
                }
            }
        }
    }

    #[test]
    fn tcp_and_udp_are_plain_with_and_without_tags() {
        let hash_key = HashKey::new([1, 2]);
        let segment = [
            0x9c, 0x40, 1, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
        ];
        for packet in [
            ipv4(17, 1, 2, 0, &udp(40_000, 53, &[])),
            ipv4(6, 1, 2, 0, &segment),
        ] {
            let mut plain = KeyedPacket::NONE;
            assert!(
                plain
                    .read_plain(&ethernet(&[], &packet), &hash_key)
                    .is_some()
            );
            for tags in [&[(0x8100, 7)][..], &[(0x88a8, 7), (0x8100, 8)]] {
                let mut tagged = KeyedPacket::NONE;
                let frame = ethernet(tags, &packet);
                assert!(tagged.read_plain(&frame, &hash_key).is_none());
                assert!(tagged.read_tagged(&frame, &hash_key).is_some());
                assert_eq!(tagged, plain);
            }
            assert!(
                plain
                    .read_tagged(&ethernet(&[], &packet), &hash_key)
                    .is_none()
            );
        }
        for packet in [
            ipv6_packet(17, 1, 2, &udp(40_000, 53, &[])),
            ipv6_packet(6, 1, 2, &segment),
        ] {
            let mut plain = KeyedPacket::NONE;
            let read = plain.read_plain(&ethernet6(&[], &packet), &hash_key);
            assert!(read.is_some() && plain.facts.ipv6);
            let tagged = ethernet6(&[(0x8100, 7)], &packet);
            assert!(plain.read_tagged(&tagged, &hash_key).is_some());
        }
        let tunnel = ipv4(17, 1, 2, 0, &udp(40_000, 4789, &[0; 60]));
        let read = { KeyedPacket::NONE }.read_plain(&ethernet(&[], &tunnel), &hash_key);
        assert!(read.is_none());
    }

    #[test]
    fn frame_without_ip_has_no_flow() {
        assert_eq!(classify(&read(&[0; 60]), &KeyOptions::default()), None);
    }
}

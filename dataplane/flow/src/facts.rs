//! The one place that knows `packet`: headers to the small types that this room works with.

use crate::context::{ContextTags, Path, VlanTags};
use crate::frag::{FragmentKey, FragmentPart};
use crate::key::Tuple;
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

/// Reads one frame's headers. `None` where the frame has no readable IP header. The context in the
/// fragment's key is 0: set it as in the flow key.
#[inline]
#[must_use]
pub fn classify(headers: &Headers, options: &KeyOptions) -> Option<Classified> {
    let ip = headers.classified(options.header)?;
    let transport = headers.classified_transport(options.header);
    let (facts, icmp_id) = transport_facts(transport);
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
            transport: facts,
        },
        fragment: fragment(ip),
    })
}

#[inline]
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

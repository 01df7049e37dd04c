//! What was read from a frame.

use crate::Malformed;

/// VLAN tags kept in [`Link`]. Further tags are crossed and counted, not kept.
pub const VLAN_TAGS_MAX: usize = 4;

/// Everything read from one frame. The caller keeps one and hands it to
/// [`parse`](crate::parse) again for each frame; what a frame does not have is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// What lies before the first IP header.
    pub link: Link,
    /// The first IP header. `None` for frames that are not IP, or whose IP header is unreadable.
    pub outer: Option<IpHeader>,
    /// The innermost IP header, where tunnels were crossed. `None` in a frame with one IP header.
    pub inner: Option<IpHeader>,
    /// The innermost tunnel crossed. Present exactly when `inner` is.
    pub tunnel: Option<Tunnel>,
    /// The transport header of the innermost IP header.
    pub transport: Transport,
    /// The flow quoted by an ICMP or ICMPv6 error that is the innermost packet.
    pub quoted: Option<Quoted>,
    /// The first thing found wrong with the frame. Headers before the damage are still there.
    pub malformed: Option<Malformed>,
}

/// Which IP header of a tunnelled frame keys its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// The first IP header of the frame.
    Outer,
    /// The innermost IP header within the tunnel depth; the only one where there is no tunnel.
    #[default]
    Inner,
}

impl Headers {
    /// Headers of no frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            link: Link::new(),
            outer: None,
            inner: None,
            tunnel: None,
            transport: Transport::None,
            quoted: None,
            malformed: None,
        }
    }

    /// The IP header that keys the flow, or `None` where the frame has no readable IP header.
    #[inline]
    #[must_use]
    pub const fn classified(&self, key: KeyHeader) -> Option<&IpHeader> {
        match (key, &self.inner, &self.outer) {
            (KeyHeader::Inner, Some(inner), _) => Some(inner),
            (_, _, Some(outer)) => Some(outer),
            (_, _, None) => None,
        }
    }

    /// The transport header that belongs to [`Headers::classified`]. The outer header of a
    /// tunnelled frame has none that is kept: its ports are in the header, its payload is a tunnel.
    #[inline]
    #[must_use]
    pub const fn classified_transport(&self, key: KeyHeader) -> Transport {
        match (key, &self.inner) {
            (KeyHeader::Outer, Some(_)) => Transport::None,
            _ => self.transport,
        }
    }

    /// Notes the first cause of damage; later ones do not replace it.
    #[inline]
    pub(crate) fn damage(&mut self, cause: Malformed) {
        if self.malformed.is_none() {
            self.malformed = Some(cause);
        }
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

/// What lies before the first IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC address of the outermost Ethernet header.
    pub destination: [u8; 6],
    /// Source MAC address of the outermost Ethernet header.
    pub source: [u8; 6],
    /// Ethertype of what follows the link layer: 0x0800, 0x86dd, 0x0806, ... The 802.3 length
    /// (below 0x0600) for a frame that carries LLC other than SNAP.
    pub ethertype: u16,
    /// What the frame carries where it does not carry IP.
    pub non_ip: Option<NonIp>,
    /// Labels of all MPLS stacks before the first IP header.
    pub mpls_label_count: u8,
    /// The bottom label of the last MPLS stack; meaningful if `mpls_label_count` is not 0.
    pub mpls_label: u32,
    /// Whether a PPPoE session header was crossed.
    pub pppoe: bool,
    pub(crate) vlan_count: u8,
    pub(crate) vlans: [Vlan; VLAN_TAGS_MAX],
}

impl Link {
    const fn new() -> Self {
        Self {
            destination: [0; 6],
            source: [0; 6],
            ethertype: 0,
            non_ip: None,
            mpls_label_count: 0,
            mpls_label: 0,
            pppoe: false,
            vlan_count: 0,
            vlans: [Vlan {
                id: 0,
                priority: 0,
                kind: VlanKind::Customer,
            }; VLAN_TAGS_MAX],
        }
    }

    /// VLAN tags before the first IP header, outermost first; at most [`VLAN_TAGS_MAX`].
    #[inline]
    #[must_use]
    pub fn vlans(&self) -> &[Vlan] {
        self.vlans
            .get(..usize::from(self.vlan_count))
            .unwrap_or(&self.vlans)
    }

    /// VLAN tags before the first IP header, kept or not.
    #[inline]
    #[must_use]
    pub const fn vlan_count(&self) -> u8 {
        self.vlan_count
    }

    #[inline]
    pub(crate) fn push_vlan(&mut self, vlan: Vlan) {
        if let Some(slot) = self.vlans.get_mut(usize::from(self.vlan_count)) {
            *slot = vlan;
        }
        self.vlan_count = self.vlan_count.saturating_add(1);
    }
}

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN identifier, 0 to 4095. 0 is a priority tag.
    pub id: u16,
    /// Priority code point, 0 to 7.
    pub priority: u8,
    /// Which kind of tag it is.
    pub kind: VlanKind,
}

/// Which kind of VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanKind {
    /// IEEE 802.1Q C-TAG: tag protocol 0x8100, or 0x9100 and 0x9200 of older QinQ.
    Customer,
    /// IEEE 802.1ad S-TAG: tag protocol 0x88a8.
    Service,
}

/// What a frame carries that does not carry IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NonIp {
    /// Address resolution, RFC 826, and RARP, RFC 903.
    Arp,
    /// Link layer discovery, IEEE 802.1AB.
    Lldp,
    /// Spanning tree of any kind, IEEE 802.1Q; over LLC.
    Stp,
    /// Link aggregation and the other slow protocols, IEEE 802.3 annex 57A.
    Lacp,
    /// MACsec whose payload is encrypted, IEEE 802.1AE.
    Macsec,
    /// PPPoE discovery, or a PPP protocol that is not IP.
    Ppp,
    /// LLC or SNAP that carries neither IP nor spanning tree (CDP, IS-IS, ...).
    Llc,
    /// MPLS whose payload is not recognized as IP or Ethernet.
    Mpls,
    /// Announced as IP, but its header is unreadable; `Headers::malformed` says why.
    BrokenIp,
    /// Any other ethertype.
    Other,
}

/// One IPv4 or IPv6 header, and the ports after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address. An IPv4 address is mapped: `::ffff:a.b.c.d`.
    pub src: [u8; 16],
    /// Destination address. An IPv4 address is mapped: `::ffff:a.b.c.d`. Of a source-routed IPv4
    /// packet the end of the route; see [`Malformed::Ipv4SourceRoute`].
    pub dst: [u8; 16],
    /// Bytes of the IP packet as its header claims: IPv4 total length; IPv6 payload length, or
    /// jumbo payload length, plus 40. An IPv4 total length of 0 (segmentation offload) counts as
    /// the rest of the frame on the wire.
    pub ip_bytes: u32,
    /// Where the IP header starts, bytes from the start of the frame.
    pub l3_offset: u32,
    /// Where what follows the IP header and its extension headers starts, bytes from the start of
    /// the frame. May lie beyond the captured bytes of a damaged frame.
    pub l4_offset: u32,
    /// Fragmentation.
    pub fragment: Fragment,
    /// Source port in host order; 0 where `has_ports` is false.
    pub src_port: u16,
    /// Destination port in host order; 0 where `has_ports` is false.
    pub dst_port: u16,
    /// IPv4 protocol, or the next header after the IPv6 extension chain. AH, ESP, IPComp, Mobility
    /// and No-Next-Header end the chain and are the protocol.
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// IPv4 type of service or IPv6 traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// Whether ports were read: TCP, UDP, UDP-Lite, SCTP or DCCP, not a later fragment, in the frame.
    pub has_ports: bool,
}

impl IpHeader {
    /// Whether this is a fragment that does not carry the start of the packet.
    #[inline]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment.offset != 0
    }
}

/// Fragmentation of one IP header: RFC 791 section 3.1, RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Identification: 16 bits in IPv4 (read always), 32 in IPv6 (0 without a fragment header).
    pub id: u32,
    /// Where this fragment starts in the original payload, in bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Whether this is a fragment: offset or `more` set, or an IPv6 fragment header present
    /// (an atomic fragment has neither, RFC 6946).
    pub is_fragment: bool,
}

/// The innermost tunnel crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Which encapsulation.
    pub kind: TunnelKind,
    /// VNI, TEID, GRE key, L2TP tunnel and session, outermost label; 0 where the kind has none.
    pub id: u32,
    /// IP headers from the outermost to the innermost, less one. At least 1.
    pub depth: u8,
}

/// Which encapsulation carries an inner IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TunnelKind {
    /// IPv4 or IPv6 directly in IPv4 or IPv6: RFC 2003, RFC 2473, RFC 4213.
    IpInIp,
    /// GRE with an IP payload, RFC 2784 and RFC 2890. Id: key.
    Gre,
    /// Enhanced GRE with PPP, RFC 2637. Id: call id.
    Pptp,
    /// GRE with an Ethernet payload, RFC 7637 (NVGRE). Id: key (virtual subnet and flow id).
    Nvgre,
    /// ERSPAN type I, II or III over GRE. Id: session id.
    Erspan,
    /// MPLS in GRE, in UDP (RFC 7510) or in IP (RFC 4023). Id: bottom label.
    Mpls,
    /// VXLAN, RFC 7348. Id: VNI.
    Vxlan,
    /// VXLAN-GPE. Id: VNI.
    VxlanGpe,
    /// Geneve, RFC 8926. Id: VNI.
    Geneve,
    /// GTP-U, 3GPP TS 29.281. Id: TEID.
    Gtpu,
    /// Teredo, RFC 4380.
    Teredo,
    /// L2TPv2 data, RFC 2661. Id: tunnel id in the upper, session id in the lower 16 bits.
    L2tp,
    /// LISP data, RFC 9300. Id: instance id where flagged.
    Lisp,
    /// CAPWAP data, RFC 5415.
    Capwap,
    /// AYIYA.
    Ayiya,
    /// Network service header inside another tunnel, RFC 8300. Id: service path.
    Nsh,
    /// Ethernet directly in IP: protocol 143 (SRv6, RFC 8986) or EtherIP, RFC 3378.
    Ethernet,
    /// IP behind an IPsec authentication header in tunnel mode, RFC 4302. Id: SPI.
    Ah,
    /// IP directly in UDP.
    IpInUdp,
}

/// The transport header of the innermost IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Not read: another protocol, a later fragment, or cut short.
    #[default]
    None,
    /// RFC 9293.
    Tcp(Tcp),
    /// RFC 768. Payload in bytes as the headers claim.
    Udp {
        /// Bytes after the UDP header as the IP header claims.
        payload_bytes: u32,
    },
    /// RFC 3828.
    UdpLite {
        /// Bytes after the UDP-Lite header as the IP header claims.
        payload_bytes: u32,
    },
    /// RFC 9260.
    Sctp(Sctp),
    /// RFC 4340; ports only.
    Dccp,
    /// RFC 792.
    Icmp(Icmp),
    /// RFC 4443.
    Icmpv6(Icmp),
}

/// RFC 9293 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; meaningful with the ACK flag.
    pub ack: u32,
    /// Bytes after the TCP header as the IP header claims.
    pub payload_bytes: u32,
    /// AE/NS, CWR, ECE, URG, ACK, PSH, RST, SYN, FIN: 9 bits, FIN lowest.
    pub flags: u16,
    /// Window, unscaled.
    pub window: u16,
    /// Bytes of the TCP header with options, 20 to 60.
    pub header_bytes: u8,
}

impl Tcp {
    /// No more data from the sender.
    pub const FIN: u16 = 0x001;
    /// Synchronize sequence numbers.
    pub const SYN: u16 = 0x002;
    /// Reset.
    pub const RST: u16 = 0x004;
    /// Push.
    pub const PSH: u16 = 0x008;
    /// The acknowledgment field is significant.
    pub const ACK: u16 = 0x010;
    /// The urgent pointer is significant.
    pub const URG: u16 = 0x020;
}

/// RFC 9260 section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sctp {
    /// Verification tag; 0 in a packet with INIT.
    pub verification_tag: u32,
    /// Type of the first chunk: 0 DATA, 1 INIT, 6 ABORT, 14 SHUTDOWN COMPLETE. 255 where unreadable.
    pub first_chunk: u8,
}

/// RFC 792 and RFC 4443.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Identifier of an echo, timestamp, mask or information message, request or reply; else 0.
    pub id: u16,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
}

/// The packet quoted in an ICMP or ICMPv6 error: as it was when it was sent, so that its source is
/// usually the destination of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Source address; IPv4 is mapped.
    pub src: [u8; 16],
    /// Destination address; IPv4 is mapped.
    pub dst: [u8; 16],
    /// Source port; 0 where `has_ports` is false.
    pub src_port: u16,
    /// Destination port; 0 where `has_ports` is false.
    pub dst_port: u16,
    /// Protocol after the extension chain.
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// Whether ports were read.
    pub has_ports: bool,
}

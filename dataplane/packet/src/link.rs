//! Ethernet and what may stand between it and IP: 802.3 with LLC, VLAN tags, provider bridging,
//! port extension tags, MACsec without encryption, FabricPath, TRILL, time stamps.

use crate::bytes::Bytes;
use crate::headers::{NonIp, Vlan, VlanKind};
use crate::parse::{Next, Walk};
use crate::{Malformed, TunnelKind};

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ETHERNET: u16 = 0x6558;
pub(crate) const MPLS: u16 = 0x8847;
pub(crate) const MPLS_MULTICAST: u16 = 0x8848;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const TRILL: u16 = 0x22f3;
const VLAN: u16 = 0x8100;
const SLOW: u16 = 0x8809;
const PPPOE_DISCOVERY: u16 = 0x8863;
const PPPOE: u16 = 0x8864;
const LLC: u16 = 0x8870;
const SERVICE_VLAN: u16 = 0x88a8;
const LLDP: u16 = 0x88cc;
const MACSEC: u16 = 0x88e5;
const BACKBONE: u16 = 0x88e7;
const FABRIC_PATH: u16 = 0x8903;
const CISCO_METADATA: u16 = 0x8909;
const VNTAG: u16 = 0x8926;
const HSR: u16 = 0x892f;
const ETAG: u16 = 0x893f;
pub(crate) const NSH: u16 = 0x894f;
const TIMESTAMP: u16 = 0xd28b;
const OLD_QINQ: u16 = 0x9100;
const OLD_QINQ_2: u16 = 0x9200;
const REDUNDANCY: u16 = 0xf1c1;

/// Longest 802.3 length; larger type fields up to 0x05ff mean nothing.
const LENGTH_MAX: u16 = 1500;
const ETHERTYPE_MIN: u16 = 0x0600;

/// Keeps the addresses of the outermost Ethernet header.
pub(crate) fn addresses(walk: &mut Walk<'_>, bytes: &Bytes<'_>) {
    let link = &mut walk.headers.link;
    if let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = bytes.peek::<12>() {
        link.destination = [*d0, *d1, *d2, *d3, *d4, *d5];
        link.source = [*s0, *s1, *s2, *s3, *s4, *s5];
    } else {
        link.destination = [0; 6];
        link.source = [0; 6];
    }
}

/// Two addresses and a type or length.
pub(crate) fn ethernet(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some(raw) = bytes.take::<14>() else {
        walk.damage_here(Malformed::EthernetTruncated);
        return walk.not_ip(NonIp::Other);
    };
    let value = u16::from_be_bytes([raw[12], raw[13]]);
    if value <= LENGTH_MAX && matches!(raw, [0x01 | 0x03, 0x00, 0x0c, 0x00, 0x00, ..]) {
        return inter_switch_link(walk, bytes);
    }
    type_or_length(walk, value, bytes)
}

/// Cisco's ISL, which looks like an 802.3 frame to a group address: SNAP, VLAN, index, reserved;
/// then the frame and its check sequence. The length, which was read, counts from the addresses on.
fn inter_switch_link(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    after(walk, bytes, 12, Next::Ethernet)
}

/// The field after the addresses or after a tag: an ethertype, or the length of what follows.
pub(crate) fn type_or_length(walk: &mut Walk<'_>, value: u16, bytes: &mut Bytes<'_>) -> Next {
    if value >= ETHERTYPE_MIN {
        return Next::EtherType(value);
    }
    if walk.depth == 0 {
        walk.headers.link.ethertype = value;
    }
    // 0xffff where LLC would be is Novell's raw 802.3.
    if value == 0 || value > LENGTH_MAX || bytes.u16(0) == Some(0xffff) {
        return walk.not_ip(NonIp::Other);
    }
    bytes.limit(usize::from(value));
    Next::Llc
}

/// The payload of an ethertype.
pub(crate) fn ethertype(walk: &mut Walk<'_>, ethertype: u16, bytes: &mut Bytes<'_>) -> Next {
    if walk.depth == 0 {
        walk.headers.link.ethertype = ethertype;
    }
    match ethertype {
        IPV4 => Next::Ipv4,
        IPV6 => Next::Ipv6,
        VLAN | OLD_QINQ | OLD_QINQ_2 => vlan(walk, VlanKind::Customer, bytes),
        SERVICE_VLAN => vlan(walk, VlanKind::Service, bytes),
        MPLS | MPLS_MULTICAST => Next::Mpls,
        PPPOE => crate::ppp::pppoe(walk, bytes),
        ETHERNET => Next::Ethernet,
        LLC => Next::Llc,
        NSH => Next::Nsh,
        // The service instance tag and the customer's addresses, then the customer's type field.
        BACKBONE => tag::<16>(walk, bytes),
        VNTAG | HSR | REDUNDANCY => tag::<4>(walk, bytes),
        ETAG | CISCO_METADATA => tag::<6>(walk, bytes),
        MACSEC => macsec(walk, bytes),
        // The ethertype is the middle of FabricPath's own header: its tag follows, then Ethernet.
        FABRIC_PATH => after(walk, bytes, 2, Next::Ethernet),
        TRILL => trill(walk, bytes),
        TIMESTAMP => timestamp(walk, bytes),
        ARP | RARP => walk.not_ip(NonIp::Arp),
        LLDP => walk.not_ip(NonIp::Lldp),
        SLOW => walk.not_ip(NonIp::Lacp),
        PPPOE_DISCOVERY => walk.not_ip(NonIp::Ppp),
        _ => walk.not_ip(NonIp::Other),
    }
}

/// IEEE 802.1Q: tag control information, then a type field.
fn vlan(walk: &mut Walk<'_>, kind: VlanKind, bytes: &mut Bytes<'_>) -> Next {
    let Some([t0, t1, e0, e1]) = bytes.take::<4>() else {
        return walk.link_truncated();
    };
    if walk.depth == 0 {
        let control = u16::from_be_bytes([*t0, *t1]);
        walk.headers.link.push_vlan(Vlan {
            id: control & 0x0fff,
            priority: *t0 >> 5,
            kind,
        });
    }
    type_or_length(walk, u16::from_be_bytes([*e0, *e1]), bytes)
}

/// A tag of `N` bytes that need no reading, then a type field.
fn tag<const N: usize>(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let (Some(_), Some([e0, e1])) = (bytes.take::<N>(), bytes.take::<2>()) else {
        return walk.link_truncated();
    };
    type_or_length(walk, u16::from_be_bytes([*e0, *e1]), bytes)
}

/// Steps over `count` bytes that need no reading.
pub(crate) fn after(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>, count: usize, next: Next) -> Next {
    match bytes.skip(count) {
        Some(()) => next,
        None => walk.link_truncated(),
    }
}

/// IEEE 802.1AE section 9: readable where the frame is only authenticated. The check value stays
/// behind the packet like padding.
fn macsec(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const VERSION: u8 = 0x80;
    const EXPLICIT_CHANNEL: u8 = 0x20;
    const ENCRYPTED_OR_CHANGED: u8 = 0x0c;
    let Some([control, ..]) = bytes.take::<6>() else {
        return walk.link_truncated();
    };
    if control & (VERSION | ENCRYPTED_OR_CHANGED) != 0 {
        return walk.not_ip(NonIp::Macsec);
    }
    if control & EXPLICIT_CHANNEL != 0 && bytes.skip(8).is_none() {
        return walk.link_truncated();
    }
    tag::<0>(walk, bytes)
}

/// RFC 6325 section 3: six bytes and options, then the customer's Ethernet frame.
fn trill(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([v0, v1, ..]) = bytes.take::<6>() else {
        return walk.link_truncated();
    };
    let option_words = (u16::from_be_bytes([*v0, *v1]) >> 6) & 0x1f;
    after(walk, bytes, usize::from(option_words) * 4, Next::Ethernet)
}

/// Arista's time stamp, which mirror ports insert: subtype, version, time of eight or six bytes.
fn timestamp(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([s0, s1, v0, v1]) = bytes.take::<4>() else {
        return walk.link_truncated();
    };
    match ([*s0, *s1], *v0, *v1) {
        ([0, 1], 0 | 1, 0x10) => tag::<8>(walk, bytes),
        ([0, 1], 0 | 1, 0x20) => tag::<6>(walk, bytes),
        _ => walk.not_ip(NonIp::Other),
    }
}

/// IEEE 802.2, and SNAP where it says so.
pub(crate) fn llc(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const UNNUMBERED_INFORMATION: u8 = 0x03;
    const SAP_IP: u8 = 0x06;
    const SAP_SPANNING_TREE: u8 = 0x42;
    const SAP_SNAP: u8 = 0xaa;
    let Some([destination, source, control]) = bytes.take::<3>() else {
        return walk.link_truncated();
    };
    match (*destination, *control) {
        (SAP_IP, UNNUMBERED_INFORMATION) => Next::Ipv4,
        (SAP_SPANNING_TREE, _) => walk.not_ip(NonIp::Stp),
        (SAP_SNAP, UNNUMBERED_INFORMATION) if source & !1 == SAP_SNAP => snap(walk, bytes),
        _ => walk.not_ip(NonIp::Llc),
    }
}

/// RFC 1042 and IEEE 802a: an organization, then a protocol of that organization.
fn snap(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([o0, o1, o2, p0, p1]) = bytes.take::<5>() else {
        return walk.link_truncated();
    };
    let protocol = u16::from_be_bytes([*p0, *p1]);
    match ([*o0, *o1, *o2], protocol) {
        ([0, 0, 0] | [0, 0, 0xf8], _) => Next::EtherType(protocol),
        // RFC 2684 section 5.2, bridged Ethernet with and without its check sequence: two bytes of
        // padding, then the frame.
        ([0, 0x80, 0xc2], 0x0001 | 0x0007) => after(walk, bytes, 2, Next::Ethernet),
        ([0, 0x80, 0xc2], 0x000e) | ([0, 0, 0x0c], 0x010b) => walk.not_ip(NonIp::Stp),
        _ => walk.not_ip(NonIp::Llc),
    }
}

/// Whether a type field is one that this room reads further or knows not to be IP. Tells Ethernet
/// from other bytes where nothing announces it.
pub(crate) const fn is_known_type(value: u16) -> bool {
    matches!(
        value,
        IPV4 | IPV6
            | ARP
            | VLAN
            | SERVICE_VLAN
            | OLD_QINQ
            | MPLS
            | MPLS_MULTICAST
            | PPPOE
            | PPPOE_DISCOVERY
            | LLDP
            | SLOW
            | MACSEC
            | BACKBONE
    )
}

/// RFC 8300 section 2.2: the base header says how long it is and what follows. With metadata of
/// type 1 it always has 24 bytes.
pub(crate) fn nsh(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([b0, b1, metadata, next, p0, p1, p2, _]) = bytes.peek::<8>() else {
        return walk.link_truncated();
    };
    let words = match metadata & 0x0f {
        1 => 6,
        _ => u16::from_be_bytes([*b0, *b1]) & 0x3f,
    };
    if words < 2 || bytes.skip(usize::from(words) * 4).is_none() {
        return walk.link_truncated();
    }
    if walk.depth > 0 {
        walk.cross(TunnelKind::Nsh, u32::from_be_bytes([0, *p0, *p1, *p2]));
    }
    next_protocol(walk, *next)
}

/// The next-protocol numbers that NSH and VXLAN-GPE share.
pub(crate) fn next_protocol(walk: &mut Walk<'_>, next: u8) -> Next {
    match next {
        1 => Next::Ipv4,
        2 => Next::Ipv6,
        3 => Next::Ethernet,
        4 => Next::Nsh,
        5 => Next::Mpls,
        _ => walk.not_ip(NonIp::Other),
    }
}

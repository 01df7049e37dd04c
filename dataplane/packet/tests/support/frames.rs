//! Builders of well-formed frames, and a corpus with one frame or more per protocol.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const INNER_SRC: [u8; 4] = [192, 168, 0, 1];
pub const INNER_DST: [u8; 4] = [192, 168, 0, 2];

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// An Ethernet frame; `kind` is the type or length.
pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[
        &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
        &kind.to_be_bytes(),
        payload,
    ])
}

/// A tag: control information, then the type of what follows.
pub fn tag(control: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&control.to_be_bytes(), &kind.to_be_bytes(), payload])
}

pub fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with([10, 0, 0, 1], [10, 0, 0, 2], protocol, 0, &[], payload)
}

/// An IPv4 packet with a fragment field and options (a multiple of four bytes).
pub fn ipv4_with(
    src: [u8; 4],
    dst: [u8; 4],
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let total = (header_bytes + payload.len()) as u16;
    let ihl = 0x40 | (header_bytes / 4) as u8;
    let start = [ihl, 0xb8, (total >> 8) as u8, total as u8, 0x12, 0x34];
    let rest = [(fragment >> 8) as u8, fragment as u8, 64, protocol, 0, 0];
    join(&[&start, &rest, &src, &dst, options, payload])
}

pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_length(next, payload.len() as u16, payload)
}

/// An IPv6 packet whose payload length field says something of its own.
pub fn ipv6_length(next: u8, length: u16, payload: &[u8]) -> Vec<u8> {
    let src = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets();
    let dst = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).octets();
    let start = [
        0x6b,
        0x80,
        0,
        0,
        (length >> 8) as u8,
        length as u8,
        next,
        63,
    ];
    join(&[&start, &src, &dst, payload])
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let ports = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    join(&[&ports, &length.to_be_bytes(), &[0, 0], payload])
}

pub fn tcp(src: u16, dst: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let ports = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    let start = [0, 0, 0, 7, 0, 0, 0, 9];
    join(&[
        &ports,
        &start,
        &(0x5000 | flags).to_be_bytes(),
        &[0x20, 0, 0, 0, 0, 0],
        payload,
    ])
}

pub fn sctp(src: u16, dst: u16) -> Vec<u8> {
    let ports = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    join(&[&ports, &[0, 0, 0, 5, 0, 0, 0, 0, 1, 0, 0, 4]])
}

/// The packet inside every tunnel of the corpus: UDP 40000 to 9999.
pub fn inner() -> Vec<u8> {
    ipv4_with(
        INNER_SRC,
        INNER_DST,
        17,
        0,
        &[],
        &udp(40000, 9999, b"hello"),
    )
}

pub fn inner_ethernet() -> Vec<u8> {
    ethernet(0x0800, &inner())
}

pub fn inner_ipv6() -> Vec<u8> {
    ipv6(17, &udp(40000, 9999, b"hello"))
}

/// An outer IPv4 packet with UDP to a tunnel's port.
pub fn in_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(17, &udp(50000, port, payload)))
}

pub fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(protocol, payload))
}

pub fn in_gre(protocol: u16, flags: u16, fields: &[u8], payload: &[u8]) -> Vec<u8> {
    in_ipv4(
        47,
        &join(&[
            &flags.to_be_bytes(),
            &protocol.to_be_bytes(),
            fields,
            payload,
        ]),
    )
}

pub fn mpls(label: u32, bottom: bool, payload: &[u8]) -> Vec<u8> {
    let entry = (label << 12) | if bottom { 0x100 } else { 0 } | 64;
    join(&[&entry.to_be_bytes(), payload])
}

/// Next header, then a length of eight bytes filled by PadN.
pub fn options_header(next: u8, payload: &[u8]) -> Vec<u8> {
    join(&[&[next, 0, 1, 4, 0, 0, 0, 0], payload])
}

pub fn icmp_error(quoted: &[u8]) -> Vec<u8> {
    join(&[&[3, 3, 0, 0, 0, 0, 0, 0], quoted])
}

const PPP_IP: [u8; 4] = [0xff, 0x03, 0x00, 0x21];
const VNI_5: [u8; 8] = [8, 0, 0, 0, 0, 0, 5, 0];

/// A frame and what it is called.
type Named = (&'static str, Vec<u8>);

/// Frames that carry no tunnel, by name.
pub fn plain_corpus() -> Vec<Named> {
    [ipv4_corpus(), ipv6_corpus(), tag_corpus(), link_corpus()].concat()
}

fn ipv4_corpus() -> Vec<Named> {
    let of = |protocol: u8, payload: &[u8]| ethernet(0x0800, &ipv4(protocol, payload));
    let with = |fragment: u16, options: &[u8]| {
        let payload = udp(40000, 53, b"hi");
        ethernet(
            0x0800,
            &ipv4_with([1; 4], [2; 4], 17, fragment, options, &payload),
        )
    };
    vec![
        ("tcp", of(6, &tcp(40000, 443, 0x002, b""))),
        ("udp", of(17, &udp(40000, 53, b"hi"))),
        ("udp lite", of(136, &udp(40000, 53, b"hi"))),
        ("sctp", of(132, &sctp(40000, 36412))),
        (
            "dccp",
            of(33, &[0x9c, 0x40, 0x13, 0x89, 3, 0, 0, 0, 0, 0, 0, 1]),
        ),
        ("icmp echo", of(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1])),
        ("icmp error", of(1, &icmp_error(&inner()))),
        ("esp", of(50, &[0; 24])),
        ("options", with(0, &[7, 7, 4, 0, 0, 0, 0, 0])),
        ("first fragment", with(0x2000, &[])),
        ("later fragment", with(0x0010, &[])),
    ]
}

fn ipv6_corpus() -> Vec<Named> {
    let of = |next: u8, payload: &[u8]| ethernet(0x86dd, &ipv6(next, payload));
    let payload = udp(40000, 53, b"hi");
    let fragment = |field: u8| of(44, &join(&[&[17, 0, 0, field, 0, 0, 0, 9], &payload]));
    let error = join(&[&[1, 4, 0, 0, 0, 0, 0, 0], &inner_ipv6()]);
    let one = options_header(17, &payload);
    vec![
        ("ipv6 tcp", of(6, &tcp(40000, 443, 0x010, b"x"))),
        ("icmpv6 echo", of(58, &[128, 0, 0, 0, 0x12, 0x34, 0, 1])),
        ("icmpv6 error", of(58, &error)),
        ("ipv6 hop by hop", of(0, &one)),
        ("ipv6 chain", of(0, &options_header(60, &one))),
        ("ipv6 first fragment", fragment(1)),
        ("ipv6 atomic fragment", fragment(0)),
        ("ipv6 later fragment", fragment(0x80)),
    ]
}

/// The packet that the frames of [`tag_corpus`] and [`link_corpus`] carry: TCP 40000 to 443.
fn carried() -> Vec<u8> {
    ipv4(6, &tcp(40000, 443, 0x002, b""))
}

fn tag_corpus() -> Vec<Named> {
    let packet = carried();
    let frame = ethernet(0x0800, &packet);
    let inner_tag = tag(30, 0x0800, &packet);
    let before = |start: &[u8]| join(&[start, &[8, 0], &packet]);
    vec![
        ("vlan", ethernet(0x8100, &tag(0x600a, 0x0800, &packet))),
        ("qinq", ethernet(0x88a8, &tag(20, 0x8100, &inner_tag))),
        ("old qinq", ethernet(0x9100, &tag(20, 0x8100, &inner_tag))),
        (
            "backbone",
            ethernet(0x88e7, &join(&[&[0, 0, 0, 1], &frame])),
        ),
        ("e-tag", ethernet(0x893f, &before(&[0; 6]))),
        ("vn-tag", ethernet(0x8926, &before(&[0; 4]))),
        ("hsr", ethernet(0x892f, &before(&[0, 0x34, 0, 1]))),
        ("redundancy tag", ethernet(0xf1c1, &before(&[0, 0, 0, 1]))),
        (
            "security group tag",
            ethernet(0x8909, &before(&[1, 1, 0, 1, 0, 5])),
        ),
        (
            "time stamp",
            ethernet(0xd28b, &before(&[0, 1, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0])),
        ),
        (
            "macsec",
            ethernet(0x88e5, &join(&[&before(&[0, 0, 0, 0, 0, 1]), &[9; 16]])),
        ),
    ]
}

fn link_corpus() -> Vec<Named> {
    let packet = carried();
    let frame = ethernet(0x0800, &packet);
    let with = |start: &[u8], rest: &[u8]| join(&[start, rest]);
    let snap = with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet);
    let bridged = with(&[0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 7, 0, 0], &frame);
    let pppoe = with(
        &[0x11, 0, 0, 1, 0, packet.len() as u8 + 2, 0, 0x21],
        &packet,
    );
    let mut isl = ethernet(
        90,
        &with(&[0xaa, 0xaa, 3, 0, 0, 12, 0, 10, 0, 0, 0, 0], &frame),
    );
    isl[..6].copy_from_slice(&[1, 0, 12, 0, 0, 0]);
    vec![
        ("snap", ethernet(snap.len() as u16, &snap)),
        ("snap bridged", ethernet(bridged.len() as u16, &bridged)),
        (
            "llc ip",
            ethernet(packet.len() as u16 + 3, &with(&[6, 6, 3], &packet)),
        ),
        ("isl", isl),
        ("fabric path", ethernet(0x8903, &with(&[0, 5], &frame))),
        (
            "trill",
            ethernet(0x22f3, &with(&[0, 5, 0, 1, 0, 2], &frame)),
        ),
        (
            "nsh",
            ethernet(0x894f, &with(&[0x0f, 0xc2, 2, 1, 0, 0, 1, 255], &packet)),
        ),
        (
            "mpls",
            ethernet(0x8847, &mpls(16, false, &mpls(17, true, &packet))),
        ),
        (
            "mpls channel",
            ethernet(0x8847, &mpls(13, true, &with(&[16, 0, 0, 0x21], &packet))),
        ),
        ("mpls ethernet", ethernet(0x8847, &mpls(17, true, &frame))),
        (
            "mpls control word",
            ethernet(0x8847, &mpls(17, true, &with(&[0; 4], &frame))),
        ),
        ("pppoe", ethernet(0x8864, &pppoe)),
        ("arp", ethernet(0x0806, &[0; 28])),
    ]
}

/// Frames whose innermost packet is [`inner`] in one tunnel, by name.
pub fn tunnel_corpus() -> Vec<Named> {
    [
        ip_tunnel_corpus(),
        gre_corpus(),
        udp_tunnel_corpus(),
        access_corpus(),
    ]
    .concat()
}

fn ip_tunnel_corpus() -> Vec<Named> {
    let (packet, frame) = (inner(), inner_ethernet());
    let auth = [
        4, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let segments = join(&[&[143, 2, 4, 0, 0, 0, 0, 0], &[1; 16], &frame]);
    vec![
        ("ipip", in_ipv4(4, &packet)),
        ("ipip in ipv6", ethernet(0x86dd, &ipv6(4, &packet))),
        ("ah tunnel", in_ipv4(51, &join(&[&auth, &packet]))),
        ("etherip", in_ipv4(97, &join(&[&[0x30, 0], &frame]))),
        ("srv6 ethernet", ethernet(0x86dd, &ipv6(43, &segments))),
        ("mpls in ip", in_ipv4(137, &mpls(17, true, &packet))),
    ]
}

fn gre_corpus() -> Vec<Named> {
    let (packet, frame) = (inner(), inner_ethernet());
    let with = |start: &[u8], rest: &[u8]| join(&[start, rest]);
    let all_fields = [0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1];
    let enhanced = [0, 37, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1];
    let type_ii = with(&[0x10, 5, 0, 7, 0, 0, 0, 0], &frame);
    let type_iii = with(&[0x20, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], &frame);
    vec![
        ("gre", in_gre(0x0800, 0, &[], &packet)),
        (
            "gre all fields",
            in_gre(0x0800, 0xb000, &all_fields, &packet),
        ),
        ("gre mpls", in_gre(0x8847, 0, &[], &mpls(17, true, &packet))),
        (
            "gre security group tag",
            in_gre(0x8909, 0, &[8, 0, 1, 1, 0, 1, 0, 5], &packet),
        ),
        ("gre cache protocol", in_gre(0x883e, 0, &[0; 4], &packet)),
        (
            "gre wireless",
            in_gre(0x8200, 0, &[], &wireless([8, 1], &packet)),
        ),
        (
            "pptp",
            in_gre(0x880b, 0x3081, &enhanced, &with(&PPP_IP, &packet)),
        ),
        ("nvgre", in_gre(0x6558, 0x2000, &[0, 0, 1, 2], &frame)),
        ("erspan i", in_gre(0x88be, 0, &[], &frame)),
        ("erspan ii", in_gre(0x88be, 0x1000, &[0; 4], &type_ii)),
        ("erspan iii", in_gre(0x22eb, 0x1000, &[0; 4], &type_iii)),
    ]
}

/// An IEEE 802.11 data frame with its control bytes as given.
fn wireless(control: [u8; 2], packet: &[u8]) -> Vec<u8> {
    join(&[&control, &[0; 22], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], packet])
}

fn udp_tunnel_corpus() -> Vec<Named> {
    let (packet, frame) = (inner(), inner_ethernet());
    let with = |start: &[u8], rest: &[u8]| join(&[start, rest]);
    let nsh = with(&[0x0f, 0xc2, 2, 1, 0, 0, 1, 255], &packet);
    vec![
        ("vxlan", in_udp(4789, &with(&VNI_5, &frame))),
        (
            "vxlan gpe ip",
            in_udp(4790, &with(&[12, 0, 0, 1, 0, 0, 5, 0], &packet)),
        ),
        (
            "vxlan gpe nsh",
            in_udp(4790, &with(&[12, 0, 0, 4, 0, 0, 5, 0], &nsh)),
        ),
        (
            "geneve",
            in_udp(
                6081,
                &with(&[1, 0, 0x65, 0x58, 0, 0, 5, 0, 0, 1, 0, 0], &frame),
            ),
        ),
        ("mpls over udp", in_udp(6635, &mpls(17, true, &packet))),
        ("gre over udp", in_udp(4754, &with(&[0, 0, 8, 0], &packet))),
        (
            "lisp",
            in_udp(4341, &with(&[8, 0, 0, 0, 0, 0, 5, 0], &packet)),
        ),
        (
            "ayiya",
            in_udp(
                5072,
                &join(&[&[0x44, 0x52, 0x11, 4, 0, 0, 0, 1], &[1; 36], &packet]),
            ),
        ),
    ]
}

fn access_corpus() -> Vec<Named> {
    let (packet, frame) = (inner(), inner_ethernet());
    let with = |start: &[u8], rest: &[u8]| join(&[start, rest]);
    let gtp = |flags: u8, optional: &[u8], carried: &[u8]| {
        let length = (carried.len() + optional.len()) as u8;
        join(&[&[flags, 255, 0, length, 0, 0, 0, 77], optional, carried])
    };
    let version_0 = gtp(0x10, &[0; 12], &packet);
    let radio = wireless([1, 8], &packet);
    vec![
        ("gtp", in_udp(2152, &gtp(0x30, &[], &packet))),
        (
            "gtp extension",
            in_udp(2152, &gtp(0x34, &[0, 0, 0, 0x85, 1, 0, 9, 0], &packet)),
        ),
        ("gtp ethernet", in_udp(2152, &gtp(0x30, &[], &frame))),
        ("gtp version 0", in_udp(2152, &version_0)),
        (
            "l2tp",
            in_udp(1701, &join(&[&[0, 2, 0, 1, 0, 2], &PPP_IP, &packet])),
        ),
        (
            "capwap ethernet",
            in_udp(5247, &with(&[0, 0x10, 0, 0, 0, 0, 0, 0], &frame)),
        ),
        (
            "capwap wireless",
            in_udp(5247, &with(&[0, 0x10, 3, 0, 0, 0, 0, 0], &radio)),
        ),
    ]
}

/// Every frame of both, and tunnels whose inner packet is IPv6.
pub fn corpus() -> Vec<Named> {
    let mut all = plain_corpus();
    all.extend(tunnel_corpus());
    all.push(("6in4", in_ipv4(41, &inner_ipv6())));
    all.push(("teredo", in_udp(3544, &inner_ipv6())));
    let origin = join(&[&[0, 1, 0, 0], &[1; 9], &[0, 0], &[1; 6], &inner_ipv6()]);
    all.push(("teredo indications", in_udp(3544, &origin)));
    all
}

/// An IPv4 address as headers keep it.
pub fn mapped(address: [u8; 4]) -> [u8; 16] {
    Ipv4Addr::from(address).to_ipv6_mapped().octets()
}

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

/// Frames that carry no tunnel, by name.
pub fn plain_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let packet = ipv4(6, &tcp(40000, 443, 0x002, b""));
    let snap = join(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet]);
    let pppoe = join(&[
        &[0x11, 0, 0, 1, 0, packet.len() as u8 + 2, 0, 0x21],
        &packet,
    ]);
    let option = [7, 7, 4, 0, 0, 0, 0, 0];
    let udp6 = udp(40000, 53, b"hi");
    let fragment6 = |field: u8| join(&[&[17, 0, 0, field, 0, 0, 0, 9], &udp6]);
    vec![
        ("tcp", ethernet(0x0800, &packet)),
        ("udp", ethernet(0x0800, &ipv4(17, &udp(40000, 53, b"hi")))),
        (
            "udp lite",
            ethernet(0x0800, &ipv4(136, &udp(40000, 53, b"hi"))),
        ),
        ("sctp", ethernet(0x0800, &ipv4(132, &sctp(40000, 36412)))),
        (
            "dccp",
            ethernet(
                0x0800,
                &ipv4(33, &[0x9c, 0x40, 0x13, 0x89, 3, 0, 0, 0, 0, 0, 0, 1]),
            ),
        ),
        (
            "icmp echo",
            ethernet(0x0800, &ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1])),
        ),
        (
            "icmp error",
            ethernet(0x0800, &ipv4(1, &icmp_error(&inner()))),
        ),
        (
            "icmpv6 echo",
            ethernet(0x86dd, &ipv6(58, &[128, 0, 0, 0, 0x12, 0x34, 0, 1])),
        ),
        (
            "icmpv6 error",
            ethernet(
                0x86dd,
                &ipv6(58, &join(&[&[1, 4, 0, 0, 0, 0, 0, 0], &inner_ipv6()])),
            ),
        ),
        ("esp", ethernet(0x0800, &ipv4(50, &[0; 24]))),
        (
            "options",
            ethernet(0x0800, &ipv4_with([1; 4], [2; 4], 17, 0, &option, &udp6)),
        ),
        (
            "first fragment",
            ethernet(0x0800, &ipv4_with([1; 4], [2; 4], 17, 0x2000, &[], &udp6)),
        ),
        (
            "later fragment",
            ethernet(0x0800, &ipv4_with([1; 4], [2; 4], 17, 0x0010, &[], &udp6)),
        ),
        (
            "ipv6 tcp",
            ethernet(0x86dd, &ipv6(6, &tcp(40000, 443, 0x010, b"x"))),
        ),
        (
            "ipv6 hop by hop",
            ethernet(0x86dd, &ipv6(0, &options_header(17, &udp6))),
        ),
        (
            "ipv6 chain",
            ethernet(
                0x86dd,
                &ipv6(0, &options_header(60, &options_header(17, &udp6))),
            ),
        ),
        (
            "ipv6 first fragment",
            ethernet(0x86dd, &ipv6(44, &fragment6(1))),
        ),
        (
            "ipv6 atomic fragment",
            ethernet(0x86dd, &ipv6(44, &fragment6(0))),
        ),
        (
            "ipv6 later fragment",
            ethernet(0x86dd, &ipv6(44, &fragment6(0x80))),
        ),
        ("vlan", ethernet(0x8100, &tag(0x600a, 0x0800, &packet))),
        (
            "qinq",
            ethernet(0x88a8, &tag(20, 0x8100, &tag(30, 0x0800, &packet))),
        ),
        (
            "old qinq",
            ethernet(0x9100, &tag(20, 0x8100, &tag(30, 0x0800, &packet))),
        ),
        ("snap", ethernet(snap.len() as u16, &snap)),
        (
            "llc ip",
            ethernet(packet.len() as u16 + 3, &join(&[&[6, 6, 3], &packet])),
        ),
        (
            "backbone",
            ethernet(0x88e7, &join(&[&[0, 0, 0, 1], &ethernet(0x0800, &packet)])),
        ),
        (
            "e-tag",
            ethernet(0x893f, &join(&[&[0; 6], &[8, 0], &packet])),
        ),
        (
            "vn-tag",
            ethernet(0x8926, &join(&[&[0; 4], &[8, 0], &packet])),
        ),
        (
            "security group tag",
            ethernet(0x8909, &join(&[&[1, 1, 0, 1, 0, 5, 8, 0], &packet])),
        ),
        (
            "fabric path",
            ethernet(0x8903, &join(&[&[0, 5], &ethernet(0x0800, &packet)])),
        ),
        (
            "trill",
            ethernet(
                0x22f3,
                &join(&[&[0, 5, 0, 1, 0, 2], &ethernet(0x0800, &packet)]),
            ),
        ),
        (
            "macsec",
            ethernet(
                0x88e5,
                &join(&[&[0, 0, 0, 0, 0, 1, 8, 0], &packet, &[9; 16]]),
            ),
        ),
        (
            "nsh",
            ethernet(0x894f, &join(&[&[0x0f, 0xc2, 2, 1, 0, 0, 1, 255], &packet])),
        ),
        (
            "mpls",
            ethernet(0x8847, &mpls(16, false, &mpls(17, true, &packet))),
        ),
        (
            "mpls ethernet",
            ethernet(0x8847, &mpls(17, true, &ethernet(0x0800, &packet))),
        ),
        (
            "mpls control word",
            ethernet(
                0x8847,
                &mpls(17, true, &join(&[&[0; 4], &ethernet(0x0800, &packet)])),
            ),
        ),
        ("pppoe", ethernet(0x8864, &pppoe)),
        ("arp", ethernet(0x0806, &[0; 28])),
    ]
}

/// Frames whose innermost packet is [`inner`] in one tunnel, by name.
pub fn tunnel_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let (packet, frame) = (inner(), inner_ethernet());
    let with = |start: &[u8], rest: &[u8]| join(&[start, rest]);
    let auth = [
        4, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let gtp = |flags: u8, optional: &[u8]| {
        let length = (packet.len() + optional.len()) as u8;
        join(&[&[flags, 255, 0, length, 0, 0, 0, 77], optional, &packet])
    };
    let ppp = with(&PPP_IP, &packet);
    let wireless = join(&[&[1, 8], &[0; 22], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet]);
    let segments = join(&[&[143, 2, 4, 0, 0, 0, 0, 0], &[1; 16], &frame]);
    vec![
        ("ipip", in_ipv4(4, &packet)),
        ("ipip in ipv6", ethernet(0x86dd, &ipv6(4, &packet))),
        ("ah tunnel", in_ipv4(51, &with(&auth, &packet))),
        ("etherip", in_ipv4(97, &with(&[0x30, 0], &frame))),
        ("srv6 ethernet", ethernet(0x86dd, &ipv6(43, &segments))),
        ("mpls in ip", in_ipv4(137, &mpls(17, true, &packet))),
        ("gre", in_gre(0x0800, 0, &[], &packet)),
        (
            "gre all fields",
            in_gre(
                0x0800,
                0xb000,
                &[0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1],
                &packet,
            ),
        ),
        ("gre mpls", in_gre(0x8847, 0, &[], &mpls(17, true, &packet))),
        (
            "pptp",
            in_gre(0x880b, 0x3081, &[0, 37, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1], &ppp),
        ),
        ("nvgre", in_gre(0x6558, 0x2000, &[0, 0, 1, 2], &frame)),
        ("erspan i", in_gre(0x88be, 0, &[], &frame)),
        (
            "erspan ii",
            in_gre(
                0x88be,
                0x1000,
                &[0; 4],
                &with(&[0x10, 5, 0, 7, 0, 0, 0, 0], &frame),
            ),
        ),
        (
            "erspan iii",
            in_gre(
                0x22eb,
                0x1000,
                &[0; 4],
                &with(&[0x20, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], &frame),
            ),
        ),
        ("vxlan", in_udp(4789, &with(&VNI_5, &frame))),
        (
            "vxlan gpe ip",
            in_udp(4790, &with(&[12, 0, 0, 1, 0, 0, 5, 0], &packet)),
        ),
        (
            "vxlan gpe nsh",
            in_udp(
                4790,
                &join(&[
                    &[12, 0, 0, 4, 0, 0, 5, 0],
                    &[0x0f, 0xc2, 2, 1, 0, 0, 1, 255],
                    &packet,
                ]),
            ),
        ),
        (
            "geneve",
            in_udp(
                6081,
                &join(&[&[1, 0, 0x65, 0x58, 0, 0, 5, 0], &[0, 1, 0, 0], &frame]),
            ),
        ),
        ("gtp", in_udp(2152, &gtp(0x30, &[]))),
        (
            "gtp extension",
            in_udp(2152, &gtp(0x34, &[0, 0, 0, 0x85, 1, 0, 9, 0])),
        ),
        ("mpls over udp", in_udp(6635, &mpls(17, true, &packet))),
        ("gre over udp", in_udp(4754, &with(&[0, 0, 8, 0], &packet))),
        ("l2tp", in_udp(1701, &with(&[0, 2, 0, 1, 0, 2], &ppp))),
        (
            "lisp",
            in_udp(4341, &with(&[8, 0, 0, 0, 0, 0, 5, 0], &packet)),
        ),
        (
            "capwap ethernet",
            in_udp(5247, &with(&[0, 0x10, 0, 0, 0, 0, 0, 0], &frame)),
        ),
        (
            "capwap wireless",
            in_udp(5247, &with(&[0, 0x10, 3, 0, 0, 0, 0, 0], &wireless)),
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

/// Every frame of both, and tunnels whose inner packet is IPv6.
pub fn corpus() -> Vec<(&'static str, Vec<u8>)> {
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

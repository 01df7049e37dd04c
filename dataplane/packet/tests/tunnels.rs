//! Bytes in, fields out: frames with an IP header inside another.
#![allow(
    clippy::cast_possible_truncation,
    reason = "frames of the tests are short"
)]

mod support;

use packet::{Headers, KeyHeader, Malformed, ParseOptions, Transport, Tunnel, TunnelKind, parse};
use support::frames::{
    self, INNER_DST, INNER_SRC, ethernet, in_ipv4, in_udp, inner, inner_ethernet, ipv4, mapped, udp,
};

fn read_with(frame: &[u8], options: ParseOptions) -> Headers {
    let mut headers = Headers::new();
    parse(frame, frame.len() as u32, &options, &mut headers);
    headers
}

fn read(frame: &[u8]) -> Headers {
    read_with(frame, ParseOptions::default())
}

#[test]
fn every_tunnel_gives_its_inner_flow_and_keeps_the_outer_one() {
    for (name, frame) in frames::tunnel_corpus() {
        let headers = read(&frame);
        let inner = headers
            .inner
            .unwrap_or_else(|| panic!("{name}: no inner header"));
        let outer = headers
            .outer
            .unwrap_or_else(|| panic!("{name}: no outer header"));
        assert_eq!(
            (inner.src, inner.dst),
            (mapped(INNER_SRC), mapped(INNER_DST)),
            "{name}"
        );
        assert_eq!(
            (inner.src_port, inner.dst_port, inner.ip_bytes),
            (40000, 9999, 33),
            "{name}"
        );
        assert_eq!(
            headers.transport,
            Transport::Udp { payload_bytes: 5 },
            "{name}"
        );
        assert_ne!(outer.src, inner.src, "{name}");
        assert_eq!(outer.l3_offset, 14, "{name}");
        let at = inner.l3_offset as usize;
        assert_eq!(frame[at..at + 33], frames::inner(), "{name}");
        assert_eq!(headers.tunnel.expect(name).depth, 1, "{name}");
        assert_eq!(headers.classified(KeyHeader::Inner), Some(&inner), "{name}");
        assert_eq!(headers.classified(KeyHeader::Outer), Some(&outer), "{name}");
        assert_eq!(
            headers.classified_transport(KeyHeader::Outer),
            Transport::None,
            "{name}"
        );
        assert_eq!(headers.malformed, None, "{name}");
    }
}

#[test]
fn every_tunnel_tells_its_kind_and_id() {
    let expected = [
        ("ipip", TunnelKind::IpInIp, 0),
        ("ah tunnel", TunnelKind::Ah, 7),
        ("etherip", TunnelKind::Ethernet, 0),
        ("srv6 ethernet", TunnelKind::Ethernet, 0),
        ("mpls in ip", TunnelKind::Mpls, 17),
        ("gre all fields", TunnelKind::Gre, 6),
        ("pptp", TunnelKind::Pptp, 9),
        ("nvgre", TunnelKind::Nvgre, 0x102),
        ("erspan i", TunnelKind::Erspan, 0),
        ("erspan ii", TunnelKind::Erspan, 7),
        ("erspan iii", TunnelKind::Erspan, 7),
        ("vxlan", TunnelKind::Vxlan, 5),
        ("vxlan gpe ip", TunnelKind::VxlanGpe, 5),
        ("vxlan gpe nsh", TunnelKind::Nsh, 1),
        ("geneve", TunnelKind::Geneve, 5),
        ("gtp extension", TunnelKind::Gtpu, 77),
        ("mpls over udp", TunnelKind::Mpls, 17),
        ("gre over udp", TunnelKind::Gre, 0),
        ("l2tp", TunnelKind::L2tp, 0x0001_0002),
        ("lisp", TunnelKind::Lisp, 5),
        ("capwap wireless", TunnelKind::Capwap, 0),
        ("ayiya", TunnelKind::Ayiya, 0),
    ];
    let corpus = frames::tunnel_corpus();
    for (name, kind, id) in expected {
        let frame = &corpus
            .iter()
            .find(|(known, _)| *known == name)
            .expect(name)
            .1;
        assert_eq!(
            read(frame).tunnel,
            Some(Tunnel { kind, id, depth: 1 }),
            "{name}"
        );
    }
}

#[test]
fn teredo_and_6in4_give_an_inner_ipv6_flow() {
    for name in ["6in4", "teredo", "teredo indications"] {
        let corpus = frames::corpus();
        let headers = read(
            &corpus
                .iter()
                .find(|(known, _)| *known == name)
                .expect(name)
                .1,
        );
        let inner = headers
            .inner
            .unwrap_or_else(|| panic!("{name}: no inner header"));
        assert_eq!(
            (inner.version, inner.dst_port, inner.ip_bytes),
            (6, 9999, 53),
            "{name}"
        );
    }
}

#[test]
fn port_without_a_well_formed_tunnel_is_plain_udp_and_no_damage() {
    let ports = [
        1701, 2123, 2152, 3544, 4341, 4754, 4789, 4790, 5072, 5247, 6081, 6635,
    ];
    let payloads: [&[u8]; 6] = [
        b"",
        b"\x00",
        &[0xff; 64],
        &[0x45; 40],
        &[0x60; 80],
        b"GET / HTTP/1.1 and more text",
    ];
    for port in ports {
        for payload in payloads {
            let headers = read(&in_udp(port, payload));
            let outer = headers.outer.expect("an IP header");
            assert_eq!(
                (headers.inner, headers.tunnel),
                (None, None),
                "{port} {payload:x?}"
            );
            assert_eq!(
                (outer.dst_port, headers.malformed),
                (port, None),
                "{port} {payload:x?}"
            );
            let payload_bytes = payload.len() as u32;
            assert_eq!(headers.transport, Transport::Udp { payload_bytes });
        }
    }
}

#[test]
fn announced_tunnel_without_its_packet_is_damage() {
    for frame in [
        in_ipv4(4, &[0x45; 10]),
        in_ipv4(41, &[0x60; 39]),
        in_ipv4(47, &[0, 0]),
    ] {
        let headers = read(&frame);
        assert!(headers.outer.is_some() && headers.inner.is_none());
        assert!(headers.malformed.is_some());
    }
}

#[test]
fn depth_limit_classifies_by_the_deepest_header_within_it() {
    let mut packet = inner();
    for depth in (1..=6).rev() {
        packet = frames::ipv4_with([10, 0, 0, depth], [10, 1, 0, depth], 4, 0, &[], &packet);
    }
    let frame = ethernet(0x0800, &packet);
    let headers = read(&frame);
    assert_eq!(
        headers.inner.expect("an inner header").src,
        mapped([10, 0, 0, 5])
    );
    assert_eq!(headers.tunnel.expect("a tunnel").depth, 4);
    assert_eq!(headers.malformed, Some(Malformed::TunnelTooDeep));
    let headers = read_with(
        &frame,
        ParseOptions {
            tunnel_depth_max: 6,
            ..ParseOptions::default()
        },
    );
    assert_eq!(
        headers.inner.expect("an inner header").src,
        mapped(INNER_SRC)
    );
    assert_eq!(
        (headers.tunnel.expect("a tunnel").depth, headers.malformed),
        (6, None)
    );
}

#[test]
fn tunnels_can_be_switched_off() {
    let options = ParseOptions {
        tunnel_depth_max: 0,
        ..ParseOptions::default()
    };
    for (name, frame) in frames::tunnel_corpus() {
        let headers = read_with(&frame, options);
        assert!(headers.outer.is_some() && headers.inner.is_none(), "{name}");
        assert_eq!(headers.malformed, None, "{name}");
    }
}

#[test]
fn vlan_tags_inside_a_tunnel_are_not_tags_of_the_link() {
    let tagged = ethernet(0x8100, &frames::tag(7, 0x0800, &inner()));
    let headers = read(&in_udp(
        4789,
        &[&[8, 0, 0, 0, 0, 0, 5, 0][..], &tagged].concat(),
    ));
    assert!(headers.inner.is_some());
    assert_eq!(
        (headers.link.vlan_count(), headers.link.ethertype),
        (0, 0x0800)
    );
}

#[test]
fn first_fragment_of_a_tunnel_shows_its_inner_flow_without_damage() {
    let segment = frames::tcp(40000, 443, 0x10, &[0; 100]);
    let carried = frames::ipv4_with(INNER_SRC, INNER_DST, 6, 0, &[], &segment);
    let outer_payload = &carried[..64];
    let frame = frames::ipv4_with([1; 4], [2; 4], 4, 0x2000, &[], outer_payload);
    let headers = read(&ethernet(0x0800, &frame));
    assert_eq!(headers.inner.expect("an inner header").dst_port, 443);
    assert_eq!(headers.malformed, None);
}

#[test]
fn nested_tunnels_keep_the_first_and_the_last_header() {
    let vxlan = |payload: &[u8]| [&[8, 0, 0, 0, 0, 0, 5, 0][..], payload].concat();
    let middle = ethernet(
        0x0800,
        &ipv4(17, &udp(50000, 4789, &vxlan(&inner_ethernet()))),
    );
    let headers = read(&in_udp(4789, &vxlan(&middle)));
    assert_eq!(headers.outer.expect("an outer header").l3_offset, 14);
    assert_eq!(
        headers.inner.expect("an inner header").dst,
        mapped(INNER_DST)
    );
    assert_eq!(headers.tunnel.expect("a tunnel").depth, 2);
}

//! Bytes in, fields out: frames without a tunnel.
#![allow(
    clippy::cast_possible_truncation,
    reason = "frames of the tests are short"
)]

mod support;

use packet::{
    Fragment, Headers, Icmp, IpHeader, KeyHeader, NonIp, ParseOptions, Sctp, Tcp, Transport,
    VlanKind, parse,
};
use support::frames::{self, ethernet, inner, ipv4, ipv4_with, ipv6, mapped, tag, tcp, udp};

fn read(frame: &[u8]) -> Headers {
    let mut headers = Headers::new();
    parse(
        frame,
        frame.len() as u32,
        &ParseOptions::default(),
        &mut headers,
    );
    headers
}

fn corpus_frame(name: &str) -> Vec<u8> {
    let found = frames::plain_corpus()
        .into_iter()
        .find(|(known, _)| *known == name);
    found.expect("a frame of the corpus").1
}

fn outer(headers: &Headers) -> IpHeader {
    *headers.classified(KeyHeader::Outer).expect("an IP header")
}

#[test]
fn tcp_segment_gives_every_field_of_its_headers() {
    let frame = ethernet(0x0800, &ipv4(6, &tcp(40000, 443, 0x112, b"hello")));
    let headers = read(&frame);
    assert_eq!(headers.link.destination, [2, 0, 0, 0, 0, 1]);
    assert_eq!(headers.link.source, [2, 0, 0, 0, 0, 2]);
    assert_eq!(headers.link.ethertype, 0x0800);
    let expected = IpHeader {
        src: mapped([10, 0, 0, 1]),
        dst: mapped([10, 0, 0, 2]),
        ip_bytes: 45,
        l3_offset: 14,
        l4_offset: 34,
        fragment: Fragment {
            id: 0x1234,
            offset: 0,
            more: false,
            is_fragment: false,
        },
        src_port: 40000,
        dst_port: 443,
        protocol: 6,
        version: 4,
        ttl: 64,
        tos: 0xb8,
        has_ports: true,
    };
    assert_eq!(headers.outer, Some(expected));
    assert_eq!(
        (headers.inner, headers.tunnel, headers.quoted),
        (None, None, None)
    );
    assert_eq!(
        headers.transport,
        Transport::Tcp(Tcp {
            seq: 7,
            ack: 9,
            payload_bytes: 5,
            flags: 0x112,
            window: 0x2000,
            header_bytes: 20
        })
    );
    assert_eq!(headers.malformed, None);
}

#[test]
fn ethernet_padding_is_no_payload() {
    let mut frame = ethernet(0x0800, &ipv4(6, &tcp(1, 2, 0x10, b"")));
    frame.resize(60, 0);
    let headers = read(&frame);
    assert_eq!(outer(&headers).ip_bytes, 40);
    assert!(matches!(
        headers.transport,
        Transport::Tcp(Tcp {
            payload_bytes: 0,
            ..
        })
    ));
}

#[test]
fn ipv6_packet_gives_traffic_class_and_ports() {
    let headers = read(&ethernet(0x86dd, &ipv6(17, &udp(5353, 5353, b"hello"))));
    let header = outer(&headers);
    assert_eq!(
        (header.version, header.tos, header.ttl, header.ip_bytes),
        (6, 0xb8, 63, 53)
    );
    assert_eq!(
        (header.src_port, header.dst_port, header.l4_offset),
        (5353, 5353, 54)
    );
    assert_eq!(headers.transport, Transport::Udp { payload_bytes: 5 });
}

#[test]
fn every_encapsulation_before_ip_is_crossed() {
    let encapsulated = [
        "vlan",
        "qinq",
        "old qinq",
        "backbone",
        "e-tag",
        "vn-tag",
        "hsr",
        "redundancy tag",
        "security group tag",
        "time stamp",
        "macsec",
        "snap",
        "snap bridged",
        "llc ip",
        "isl",
        "fabric path",
        "trill",
        "nsh",
        "mpls",
        "mpls channel",
        "mpls ethernet",
        "mpls control word",
        "pppoe",
    ];
    for name in encapsulated {
        let headers = read(&corpus_frame(name));
        let header = headers
            .outer
            .unwrap_or_else(|| panic!("{name}: no IP header"));
        assert_eq!((header.src_port, header.dst_port), (40000, 443), "{name}");
        assert_eq!((headers.inner, headers.malformed), (None, None), "{name}");
        assert_eq!(headers.link.non_ip, None, "{name}");
    }
}

#[test]
fn vlan_tags_are_kept_outermost_first() {
    let headers = read(&corpus_frame("qinq"));
    let tags: Vec<_> = headers
        .link
        .vlans()
        .iter()
        .map(|tag| (tag.kind, tag.id))
        .collect();
    assert_eq!(tags, [(VlanKind::Service, 20), (VlanKind::Customer, 30)]);
    let headers = read(&corpus_frame("vlan"));
    assert_eq!(
        (headers.link.vlans()[0].id, headers.link.vlans()[0].priority),
        (10, 3)
    );
}

#[test]
fn tags_beyond_the_fourth_are_counted_and_not_kept() {
    let mut payload = ipv4(17, &udp(1, 2, b""));
    let mut kind = 0x0800;
    for id in (1..=6).rev() {
        payload = tag(id, kind, &payload);
        kind = 0x8100;
    }
    let headers = read(&ethernet(0x8100, &payload));
    let ids: Vec<u16> = headers.link.vlans().iter().map(|tag| tag.id).collect();
    assert_eq!((ids, headers.link.vlan_count()), (vec![1, 2, 3, 4], 6));
    assert!(headers.outer.is_some());
}

#[test]
fn labels_and_pppoe_are_told() {
    let headers = read(&corpus_frame("mpls"));
    assert_eq!(
        (headers.link.mpls_label_count, headers.link.mpls_label),
        (2, 17)
    );
    assert!(read(&corpus_frame("pppoe")).link.pppoe);
    assert!(!read(&corpus_frame("tcp")).link.pppoe);
}

#[test]
fn frames_that_are_not_ip_say_what_they_are() {
    let stp = ethernet(38, &[&[0x42, 0x42, 3][..], &[0; 35]].concat());
    let cdp = ethernet(
        30,
        &[&[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0][..], &[0; 22]].concat(),
    );
    let macsec = ethernet(0x88e5, &[0x2c; 40]);
    let cases = [
        (ethernet(0x0806, &[0; 28]), NonIp::Arp),
        (ethernet(0x88cc, &[0; 28]), NonIp::Lldp),
        (ethernet(0x8809, &[0; 28]), NonIp::Lacp),
        (ethernet(0x8863, &[0; 28]), NonIp::Ppp),
        (ethernet(0x1234, &[0; 28]), NonIp::Other),
        (stp, NonIp::Stp),
        (cdp, NonIp::Llc),
        (macsec, NonIp::Macsec),
    ];
    for (frame, kind) in cases {
        let headers = read(&frame);
        assert_eq!((headers.link.non_ip, headers.outer), (Some(kind), None));
        assert_eq!(headers.malformed, None, "{kind:?}");
    }
}

#[test]
fn transports_other_than_tcp_give_ports_and_what_flows_need() {
    let headers = read(&corpus_frame("sctp"));
    assert_eq!(
        (outer(&headers).src_port, outer(&headers).dst_port),
        (40000, 36412)
    );
    assert_eq!(
        headers.transport,
        Transport::Sctp(Sctp {
            verification_tag: 5,
            first_chunk: 1
        })
    );
    let headers = read(&corpus_frame("dccp"));
    assert_eq!(
        (outer(&headers).dst_port, headers.transport),
        (5001, Transport::Dccp)
    );
    let headers = read(&corpus_frame("udp lite"));
    assert_eq!(headers.transport, Transport::UdpLite { payload_bytes: 2 });
}

#[test]
fn echo_has_an_identifier_and_no_ports() {
    for (name, version6) in [("icmp echo", false), ("icmpv6 echo", true)] {
        let headers = read(&corpus_frame(name));
        assert!(!outer(&headers).has_ports, "{name}");
        let kind = if version6 { 128 } else { 8 };
        let echo = Icmp {
            id: 0x1234,
            kind,
            code: 0,
        };
        let expected = if version6 {
            Transport::Icmpv6(echo)
        } else {
            Transport::Icmp(echo)
        };
        assert_eq!(
            (headers.transport, headers.quoted),
            (expected, None),
            "{name}"
        );
    }
}

#[test]
fn error_quotes_the_flow_it_is_about() {
    for name in ["icmp error", "icmpv6 error"] {
        let quoted = read(&corpus_frame(name)).quoted.expect("a quoted flow");
        assert_eq!(
            (quoted.src_port, quoted.dst_port, quoted.protocol),
            (40000, 9999, 17),
            "{name}"
        );
    }
    let quoted = read(&corpus_frame("icmp error"))
        .quoted
        .expect("a quoted flow");
    assert_eq!(
        (quoted.src, quoted.dst),
        (mapped([192, 168, 0, 1]), mapped([192, 168, 0, 2]))
    );
}

#[test]
fn error_that_quotes_eight_bytes_of_tcp_still_names_its_ports() {
    let original = ipv4(6, &tcp(40000, 443, 0x002, b"a long request"));
    let headers = read(&ethernet(
        0x0800,
        &ipv4(1, &frames::icmp_error(&original[..28])),
    ));
    let quoted = headers.quoted.expect("a quoted flow");
    assert_eq!(
        (quoted.src_port, quoted.dst_port, quoted.has_ports),
        (40000, 443, true)
    );
}

#[test]
fn later_fragment_has_no_ports() {
    for (name, offset, id) in [
        ("later fragment", 128, 0x1234),
        ("ipv6 later fragment", 128, 9),
    ] {
        let headers = read(&corpus_frame(name));
        let header = outer(&headers);
        let expected = Fragment {
            id,
            offset,
            more: false,
            is_fragment: true,
        };
        assert_eq!((header.fragment, header.protocol), (expected, 17), "{name}");
        assert!(!header.has_ports && header.is_later_fragment(), "{name}");
        assert_eq!(
            (headers.transport, headers.malformed),
            (Transport::None, None),
            "{name}"
        );
    }
}

#[test]
fn first_and_atomic_fragments_have_ports() {
    for (name, more) in [
        ("first fragment", true),
        ("ipv6 first fragment", true),
        ("ipv6 atomic fragment", false),
    ] {
        let header = outer(&read(&corpus_frame(name)));
        assert!(header.fragment.is_fragment && header.has_ports, "{name}");
        assert_eq!(
            (header.fragment.offset, header.fragment.more),
            (0, more),
            "{name}"
        );
        assert_eq!(header.dst_port, 53, "{name}");
    }
}

#[test]
fn extension_chain_is_crossed_to_its_protocol() {
    for (name, l4_offset) in [("ipv6 hop by hop", 62), ("ipv6 chain", 70)] {
        let header = outer(&read(&corpus_frame(name)));
        assert_eq!((header.protocol, header.dst_port), (17, 53), "{name}");
        assert_eq!(header.l4_offset, l4_offset, "{name}");
    }
}

#[test]
fn chain_of_eighty_headers_is_read_and_a_longer_one_than_allowed_is_damage() {
    let mut payload = udp(1, 2, b"");
    let mut next = 17;
    for _ in 0..80 {
        payload = frames::options_header(next, &payload);
        next = 60;
    }
    let frame = ethernet(0x86dd, &ipv6(60, &payload));
    assert_eq!(outer(&read(&frame)).dst_port, 2);
    let options = ParseOptions {
        extension_headers_max: 79,
        ..ParseOptions::default()
    };
    let mut headers = Headers::new();
    parse(&frame, frame.len() as u32, &options, &mut headers);
    assert_eq!(
        (outer(&headers).protocol, outer(&headers).has_ports),
        (60, false)
    );
    assert_eq!(
        headers.malformed,
        Some(packet::Malformed::ExtensionChainTooLong)
    );
}

#[test]
fn protocols_that_end_the_chain_are_the_protocol() {
    for protocol in [50, 51, 59, 108, 135, 139] {
        let headers = read(&ethernet(0x86dd, &ipv6(protocol, &[0; 32])));
        assert_eq!(
            (outer(&headers).protocol, outer(&headers).has_ports),
            (protocol, false)
        );
    }
}

#[test]
fn jumbo_payload_length_counts_where_the_length_field_is_zero() {
    let jumbo = [17, 0, 0xc2, 4, 0, 1, 0x11, 0x70];
    let payload = [&jumbo[..], &udp(1, 2, &[0; 100])].concat();
    let frame = ethernet(0x86dd, &frames::ipv6_length(0, 0, &payload));
    let mut headers = Headers::new();
    parse(&frame, 80_014, &ParseOptions::default(), &mut headers);
    assert_eq!(
        (outer(&headers).ip_bytes, outer(&headers).dst_port),
        (70_040, 2)
    );
    assert_eq!(headers.malformed, None);
}

#[test]
fn source_routed_packet_goes_to_the_end_of_its_route_and_is_reported() {
    let route = [131, 11, 4, 1, 1, 1, 1, 2, 2, 2, 2, 0];
    let frame = ipv4_with([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, &route, &udp(1, 2, b""));
    let headers = read(&ethernet(0x0800, &frame));
    assert_eq!(outer(&headers).dst, mapped([2, 2, 2, 2]));
    assert_eq!(headers.malformed, Some(packet::Malformed::Ipv4SourceRoute));
    let mut used_up = frame;
    used_up[22] = 12;
    let headers = read(&ethernet(0x0800, &used_up));
    assert_eq!(
        (outer(&headers).dst, headers.malformed),
        (mapped([10, 0, 0, 2]), None)
    );
}

#[test]
fn headers_of_the_frame_before_are_gone() {
    let mut headers = Headers::new();
    let options = ParseOptions::default();
    for (_, frame) in frames::corpus() {
        parse(&frame, frame.len() as u32, &options, &mut headers);
    }
    let last = ethernet(0x0800, &inner());
    parse(&last, last.len() as u32, &options, &mut headers);
    let fresh = read(&last);
    assert_eq!(
        (headers.outer, headers.inner, headers.tunnel),
        (fresh.outer, None, None)
    );
    assert_eq!((headers.transport, headers.quoted), (fresh.transport, None));
    assert_eq!((headers.malformed, headers.link.vlans()), (None, &[][..]));
    assert_eq!(
        (headers.link.mpls_label_count, headers.link.pppoe),
        (0, false)
    );
}

#[test]
fn ppp_is_read_compressed_bridged_and_in_one_piece_of_multilink() {
    let packet = ipv4(6, &tcp(40000, 443, 0x002, b""));
    let bridged = ethernet(0x0800, &packet);
    let cases: [(&[u8], &[u8], bool); 6] = [
        (&[0x21], &packet, true),
        (&[0, 0x31, 0, 1], &bridged, true),
        (&[0, 0x31, 0x40, 1, 0, 0, 0, 7], &bridged, true),
        (&[0, 0x3d, 0xc0, 0, 0, 1, 0, 0x21], &packet, true),
        (&[0, 0x3d, 0x80, 0, 0, 1, 0, 0x21], &packet, false),
        (&[0xc0, 0x21], &packet, false),
    ];
    for (start, carried, is_ip) in cases {
        let length = (start.len() + carried.len()) as u8;
        let session = [&[0x11, 0, 0, 1, 0, length][..], start, carried].concat();
        let headers = read(&ethernet(0x8864, &session));
        assert_eq!(headers.outer.is_some(), is_ip, "{start:x?}");
        assert_eq!(
            headers.link.non_ip,
            (!is_ip).then_some(NonIp::Ppp),
            "{start:x?}"
        );
        assert_eq!(
            (headers.link.pppoe, headers.malformed),
            (true, None),
            "{start:x?}"
        );
    }
}

#[test]
fn pseudowire_with_a_vlan_tag_keeps_its_tag() {
    let tagged = ethernet(
        0x8100,
        &tag(7, 0x0800, &ipv4(6, &tcp(40000, 443, 0x002, b""))),
    );
    for control_word in [&[][..], &[0; 4]] {
        let frame = frames::mpls(17, true, &[control_word, &tagged].concat());
        let headers = read(&ethernet(0x8847, &frame));
        assert_eq!(headers.link.vlans().len(), 1, "{control_word:?}");
        assert_eq!(outer(&headers).dst_port, 443, "{control_word:?}");
    }
}

#[test]
fn zero_total_length_of_segmentation_offload_counts_the_rest_of_the_frame() {
    let mut packet = ipv4(6, &tcp(40000, 443, 0x010, &[0; 100]));
    packet[2..4].copy_from_slice(&[0, 0]);
    let headers = read(&ethernet(0x0800, &packet));
    assert_eq!(
        (outer(&headers).ip_bytes, outer(&headers).dst_port),
        (140, 443)
    );
    assert_eq!(headers.malformed, None);
}

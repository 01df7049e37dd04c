//! What is damaged is told, and what can still be read is read. No frame whatever panics.
#![allow(
    clippy::cast_possible_truncation,
    reason = "frames of the tests are short"
)]

mod support;

use packet::{Headers, IpHeader, KeyHeader, Malformed, NonIp, ParseOptions, Transport, parse};
use proptest::prelude::*;
use support::frames::{self, ethernet, in_udp, ipv4, ipv6, mpls, sctp, tcp, udp};

fn read(frame: &[u8], wire_len: usize) -> Headers {
    let mut headers = Headers::new();
    parse(
        frame,
        wire_len as u32,
        &ParseOptions::default(),
        &mut headers,
    );
    headers
}

/// What must hold of the headers of any frame, damaged or not.
fn check_sane(frame: &[u8], headers: &Headers) {
    assert_eq!(headers.inner.is_some(), headers.tunnel.is_some());
    assert!(headers.outer.is_some() || headers.inner.is_none());
    assert_eq!(headers.outer.is_none(), headers.link.non_ip.is_some());
    for header in [headers.outer, headers.inner].into_iter().flatten() {
        let header_bytes = if header.version == 4 { 20 } else { 40 };
        assert!(header.l3_offset as usize + header_bytes <= frame.len());
        assert!(header.l4_offset > header.l3_offset);
        if header.has_ports {
            let at = header.l4_offset as usize;
            let ports = [header.src_port.to_be_bytes(), header.dst_port.to_be_bytes()].concat();
            assert_eq!(frame.get(at..at + 4), Some(&ports[..]));
            assert!(!header.is_later_fragment());
        } else {
            assert_eq!((header.src_port, header.dst_port), (0, 0));
        }
    }
    if let (Some(outer), Some(inner)) = (headers.outer, headers.inner) {
        assert!(inner.l3_offset >= outer.l4_offset);
    }
    if headers.transport != Transport::None {
        let header = headers.classified(KeyHeader::Inner).expect("an IP header");
        assert!((header.l4_offset as usize) < frame.len());
    }
}

fn same_flow(cut: &IpHeader, whole: &IpHeader) {
    assert_eq!(
        (cut.src, cut.dst, cut.l3_offset),
        (whole.src, whole.dst, whole.l3_offset)
    );
    if cut.has_ports {
        assert_eq!(
            (cut.src_port, cut.dst_port),
            (whole.src_port, whole.dst_port)
        );
        assert_eq!(cut.protocol, whole.protocol);
    }
}

#[test]
fn frame_cut_at_any_length_never_tells_what_is_not_there() {
    for (name, frame) in frames::corpus() {
        let whole = read(&frame, frame.len());
        check_sane(&frame, &whole);
        for length in 0..frame.len() {
            for wire_len in [length, frame.len()] {
                let cut = read(&frame[..length], wire_len);
                check_sane(&frame[..length], &cut);
                if let (Some(cut), Some(whole)) = (&cut.outer, &whole.outer) {
                    same_flow(cut, whole);
                }
                if let (Some(cut), Some(whole)) = (&cut.inner, &whole.inner) {
                    same_flow(cut, whole);
                }
                let grew = cut.outer.is_some() && whole.outer.is_none();
                assert!(
                    !grew,
                    "{name} cut to {length} has an IP header that the whole has not"
                );
            }
        }
    }
}

#[test]
fn snap_length_alone_is_no_damage_once_the_ip_header_is_captured() {
    for (name, frame) in frames::corpus() {
        let Some(outer) = read(&frame, frame.len()).outer else {
            continue;
        };
        let chain = outer.version == 6 && outer.l4_offset > outer.l3_offset + 40;
        if chain || read(&frame, frame.len()).inner.is_some() {
            continue;
        }
        for length in outer.l4_offset as usize..frame.len() {
            assert_eq!(
                read(&frame[..length], frame.len()).malformed,
                None,
                "{name} {length}"
            );
        }
    }
}

#[test]
fn each_cause_of_damage_is_named() {
    let packet = ipv4(17, &udp(1, 2, b"hello"));
    let with = |at: usize, value: u8| {
        let mut changed = packet.clone();
        changed[at] = value;
        ethernet(0x0800, &changed)
    };
    let tcp_offset = |words: u8| {
        let mut frame = ethernet(0x0800, &ipv4(6, &tcp(1, 2, 0, b"")));
        frame[46] = words << 4;
        frame
    };
    let mut six = ipv6(17, &udp(1, 2, b"hello"));
    six[5] = 200;
    let cases = [
        (vec![1, 2, 3], Malformed::EthernetTruncated),
        (ethernet(0x8100, &[0]), Malformed::LinkTruncated),
        (
            ethernet(0x8847, &mpls(1, false, &[]).repeat(200)),
            Malformed::MplsStackTooLong,
        ),
        (ethernet(0x6558, &[]).repeat(200), Malformed::TooManyLayers),
        (with(0, 0x55), Malformed::IpVersion),
        (ethernet(0x0800, &packet[..19]), Malformed::Ipv4Truncated),
        (with(0, 0x44), Malformed::Ipv4HeaderLength),
        (with(3, 19), Malformed::Ipv4TotalLength),
        (with(3, 200), Malformed::Ipv4TotalBeyondFrame),
        (ethernet(0x86dd, &six[..39]), Malformed::Ipv6Truncated),
        (ethernet(0x86dd, &six), Malformed::Ipv6PayloadBeyondFrame),
        (
            ethernet(0x86dd, &ipv6(0, &[17, 9, 0, 0])),
            Malformed::Ipv6ExtensionTruncated,
        ),
        (
            ethernet(0x0800, &ipv4(6, &[0; 19])),
            Malformed::TransportTruncated,
        ),
        (tcp_offset(4), Malformed::TcpHeaderLength),
        (tcp_offset(15), Malformed::TcpHeaderLength),
        (with(25, 7), Malformed::UdpLength),
        (with(25, 14), Malformed::UdpLength),
        (
            ethernet(0x0800, &ipv4(1, &[8, 0, 0])),
            Malformed::IcmpTruncated,
        ),
    ];
    for (frame, cause) in cases {
        assert_eq!(read(&frame, frame.len()).malformed, Some(cause));
        assert!(!cause.sentence().is_empty());
        assert_eq!(Malformed::ALL[cause.index()], cause);
    }
}

#[test]
fn damaged_transport_leaves_the_addresses_and_readable_ports() {
    let tiny = ethernet(0x0800, &ipv4(6, &[0, 80, 1, 0]));
    let header = read(&tiny, tiny.len()).outer.expect("an IP header");
    assert_eq!(
        (header.src_port, header.dst_port, header.has_ports),
        (80, 256, true)
    );
    let none = ethernet(0x0800, &ipv4(6, &[0, 80, 1]));
    let header = read(&none, none.len()).outer.expect("an IP header");
    assert_eq!(
        (header.src_port, header.has_ports, header.protocol),
        (0, false, 6)
    );
    let short = ethernet(0x0800, &ipv4(132, &sctp(1, 2)[..11]));
    assert!(
        !read(&short, short.len())
            .outer
            .expect("an IP header")
            .has_ports
    );
}

#[test]
fn ports_are_never_read_from_ethernet_padding() {
    let mut frame = ethernet(0x0800, &ipv4(17, &[]));
    frame.extend_from_slice(&[0, 1, 0, 2, 0, 8, 0, 0, 0, 0]);
    let headers = read(&frame, frame.len());
    assert!(!headers.outer.expect("an IP header").has_ports);
    assert_eq!(headers.malformed, Some(Malformed::TransportTruncated));
}

#[test]
fn unreadable_ip_header_is_not_an_ip_frame() {
    let frame = ethernet(0x0800, &[0x45; 12]);
    let headers = read(&frame, frame.len());
    assert_eq!(
        (headers.link.non_ip, headers.outer),
        (Some(NonIp::BrokenIp), None)
    );
}

#[test]
fn tunnel_in_a_bad_udp_length_is_not_believed() {
    let mut frame = in_udp(
        4789,
        &[&[8, 0, 0, 0, 0, 0, 5, 0][..], &frames::inner_ethernet()].concat(),
    );
    frame[39] = 20;
    let headers = read(&frame, frame.len());
    assert!(headers.outer.is_some() && headers.inner.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_bytes_are_read_without_panic(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        more in 0_u32..100,
    ) {
        let headers = read(&frame, frame.len() + more as usize);
        check_sane(&frame, &headers);
    }

    #[test]
    fn well_formed_frames_with_bytes_changed_are_read_without_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let corpus = frames::corpus();
        let mut frame = corpus[which.index(corpus.len())].1.clone();
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        let wire_len = frame.len();
        if !keep {
            frame.truncate(cut.index(wire_len + 1));
        }
        for tunnel_depth_max in [0, 1, 4, u8::MAX] {
            for extension_headers_max in [0, 1, 128, u8::MAX] {
                let options = ParseOptions { tunnel_depth_max, extension_headers_max };
                let mut headers = Headers::new();
                parse(&frame, wire_len as u32, &options, &mut headers);
                check_sane(&frame, &headers);
            }
        }
    }
}

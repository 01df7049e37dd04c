//! Frames, built by hand.

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End(pub(crate) [u8; 4], pub(crate) u16);

pub(crate) const WEB: [u8; 4] = [10, 0, 1, 10];
pub(crate) const DB: [u8; 4] = [10, 0, 2, 20];
pub(crate) const CLIENT: [u8; 4] = [10, 0, 9, 5];

pub(crate) const SYN: u8 = 0x02;
pub(crate) const SYN_ACK: u8 = 0x12;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const FIN_ACK: u8 = 0x11;

/// Ethernet and IPv4 around `payload`; `fragment` is the field of flags and offset.
pub(crate) fn ipv4(
    proto: u8,
    src: [u8; 4],
    dst: [u8; 4],
    id: u16,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, dst[3], 2, 0, 0, 0, 0, src[3], 8, 0, 0x45, 0];
    frame.extend(
        u16::try_from(20 + payload.len())
            .expect("a short payload")
            .to_be_bytes(),
    );
    frame.extend(id.to_be_bytes());
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, proto, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    frame.extend(payload);
    frame
}

pub(crate) fn tcp(from: End, to: End, flags: u8, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(77_u32.to_be_bytes());
    segment.extend([0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    ipv4(6, from.0, to.0, 1, 0x4000, &segment)
}

pub(crate) fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    ipv4(17, from.0, to.0, 1, 0, &udp_datagram(from.1, to.1, payload))
}

pub(crate) fn udp_datagram(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(from.to_be_bytes());
    datagram.extend(to.to_be_bytes());
    datagram.extend(
        u16::try_from(8 + payload.len())
            .expect("a short payload")
            .to_be_bytes(),
    );
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// UDP between two hosts of a documentation prefix (RFC 3849).
pub(crate) fn udp6(from: (u8, u16), to: (u8, u16), payload: &[u8]) -> Vec<u8> {
    let datagram = udp_datagram(from.1, to.1, payload);
    let length = u16::try_from(datagram.len()).expect("a short payload");
    let mut frame = vec![
        2, 0, 0, 0, 0, to.0, 2, 0, 0, 0, 0, from.0, 0x86, 0xdd, 0x60, 0, 0, 0,
    ];
    frame.extend(length.to_be_bytes());
    frame.extend([17, 64]);
    for host in [from.0, to.0] {
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    frame.extend(datagram);
    frame
}

/// The frame behind a VLAN tag.
pub(crate) fn tagged(mut frame: Vec<u8>, id: u8) -> Vec<u8> {
    if frame.len() >= 12 {
        frame.splice(12..12, [0x81, 0, 0, id]);
    }
    frame
}

pub(crate) fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([0; 20]);
    frame
}

/// ICMPv6 of a type between two link-local addresses.
pub(crate) fn icmpv6(kind: u8) -> Vec<u8> {
    let mut frame = vec![
        0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255,
    ];
    frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2]);
    frame.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend([0; 16]);
    frame
}

/// ICMP port unreachable from `from` to the sender of `quoted`, an Ethernet frame.
pub(crate) fn port_unreachable(from: [u8; 4], to: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend(&quoted[14..14 + 28]);
    ipv4(1, from, to, 9, 0, &error)
}

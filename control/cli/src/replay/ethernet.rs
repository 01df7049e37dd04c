//! Frames of other links as Ethernet frames: what lies under the link's own header is put under an
//! Ethernet header with the same ethertype, so that the dataplane, which reads Ethernet, reads them.
//!
//! Link types are those of the registry at tcpdump.org/linktypes.html.

/// LINKTYPE_ETHERNET.
pub(super) const LINK_TYPE_ETHERNET: u16 = 1;
/// The longest header of a link that is taken off, that of SLL2.
pub(super) const LINK_HEADER_BYTES_MAX: usize = 20;
/// Two addresses and an ethertype.
pub(super) const HEADER_BYTES: usize = 14;
/// IEEE 802, local experimental: what has no ethertype, or is cut within the link's header.
const NO_ETHERTYPE: u16 = 0x88b5;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const MPLS: u16 = 0x8847;
const PPPOE_SESSION: u16 = 0x8864;
/// Linux' protocol of a frame that begins with an LLC header.
const COOKED_LLC: u16 = 4;
/// Smaller numbers in the place of an ethertype are Linux' own, or lengths.
const ETHERTYPE_MIN: u16 = 0x0600;

/// How a frame of another link becomes an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ethernet {
    /// What comes first.
    pub(super) header: [u8; HEADER_BYTES],
    /// Bytes of the link's own header, which goes.
    pub(super) skipped: usize,
}

impl Ethernet {
    /// The length of the whole frame, where the link's was `bytes`.
    pub(super) fn bytes(self, bytes: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "20 at most")]
        let skipped = self.skipped as u32;
        bytes
            .saturating_sub(skipped)
            .saturating_add(HEADER_BYTES as u32)
    }
}

/// Whether frames of this link type can be replayed: as they are, or by [`ethernet`].
pub(super) fn is_replayed(link_type: u16) -> bool {
    matches!(
        link_type,
        LINK_TYPE_ETHERNET | 0 | 9 | 12 | 14 | 50 | 51 | 101 | 104 | 108 | 113 | 228 | 229 | 276
    )
}

/// The Ethernet header of a frame of another link, of which `bytes` are there. A frame that ends
/// within the link's header is taken whole, under an ethertype that says nothing.
pub(super) fn ethernet(link_type: u16, frame: &[u8], bytes: u32) -> Ethernet {
    let found = match link_type {
        // BSD loopback: a number of an address family, in the order of the machine or of the network.
        0 | 108 => field(frame, 0).map(|[a, b, c, d]: [u8; 4]| {
            let family = [
                u32::from_le_bytes([a, b, c, d]),
                u32::from_be_bytes([a, b, c, d]),
            ];
            (family_ethertype(family[0].min(family[1])), 4)
        }),
        12 | 14 | 101 | 228 | 229 => Some((version_ethertype(frame), 0)),
        9 | 50 => ppp(frame),
        51 => Some((PPPOE_SESSION, 0)),
        104 => field(frame, 2).map(|kind| (known(u16::from_be_bytes(kind)), 4)),
        113 => cooked(frame, 14, 16, bytes),
        276 => cooked(frame, 0, 20, bytes),
        _ => None,
    };
    let (ethertype, skipped) = found
        .filter(|(_, skipped)| *skipped <= frame.len())
        .unwrap_or((NO_ETHERTYPE, 0));
    let mut header = [0; HEADER_BYTES];
    let source = match link_type {
        113 => field(frame, 6),
        276 => field(frame, 12),
        _ => None,
    };
    header[6..12].copy_from_slice(&source.unwrap_or([0; 6]));
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    Ethernet { header, skipped }
}

/// Linux' cooked headers: the protocol `at` its place in a header of `length` bytes.
fn cooked(frame: &[u8], at: usize, length: u16, bytes: u32) -> Option<(u16, usize)> {
    let protocol = u16::from_be_bytes(field(frame, at)?);
    let under = bytes.saturating_sub(u32::from(length));
    let ethertype = match (protocol, u16::try_from(under)) {
        // 802.3 has the length there.
        (COOKED_LLC, Ok(under)) if under < ETHERTYPE_MIN => under,
        _ => known(protocol),
    };
    Some((ethertype, usize::from(length)))
}

/// RFC 1661 section 2, behind the two bytes of RFC 1662 where they are.
fn ppp(frame: &[u8]) -> Option<(u16, usize)> {
    let at = if frame.starts_with(&[0xff, 0x03]) {
        2
    } else {
        0
    };
    let ethertype = match u16::from_be_bytes(field(frame, at)?) {
        0x0021 => IPV4,
        0x0057 => IPV6,
        0x0281 => MPLS,
        _ => NO_ETHERTYPE,
    };
    Some((ethertype, at + 2))
}

/// AF_INET is 2 everywhere, AF_INET6 is not the same on Linux, NetBSD, FreeBSD and macOS.
fn family_ethertype(family: u32) -> u16 {
    match family {
        2 => IPV4,
        10 | 24 | 28 | 30 => IPV6,
        _ => NO_ETHERTYPE,
    }
}

fn version_ethertype(frame: &[u8]) -> u16 {
    match frame.first().map(|first| first >> 4) {
        Some(4) => IPV4,
        Some(6) => IPV6,
        _ => NO_ETHERTYPE,
    }
}

fn known(ethertype: u16) -> u16 {
    if ethertype < ETHERTYPE_MIN {
        NO_ETHERTYPE
    } else {
        ethertype
    }
}

fn field<const BYTES: usize>(frame: &[u8], at: usize) -> Option<[u8; BYTES]> {
    frame.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethertype and bytes taken off.
    fn check(link_type: u16, frame: &[u8], expected: (u16, usize)) {
        let bytes = u32::try_from(frame.len()).unwrap();
        let found = ethernet(link_type, frame, bytes);
        let ethertype = u16::from_be_bytes([found.header[12], found.header[13]]);
        assert_eq!(
            (ethertype, found.skipped),
            expected,
            "{link_type}: {frame:02x?}"
        );
    }

    fn cooked_frame(protocol: [u8; 2], under: usize) -> Vec<u8> {
        let head = [
            0,
            0,
            0,
            1,
            0,
            6,
            2,
            0,
            0,
            0,
            0,
            1,
            0,
            0,
            protocol[0],
            protocol[1],
        ];
        [&head[..], &vec![0; under]].concat()
    }

    #[test]
    fn each_link_gives_the_ethertype_of_what_is_under_its_header() {
        check(0, &[2, 0, 0, 0, 0x45], (IPV4, 4));
        check(0, &[0, 0, 0, 2, 0x45], (IPV4, 4));
        check(0, &[30, 0, 0, 0, 0x60], (IPV6, 4));
        check(108, &[0, 0, 0, 24, 0x60], (IPV6, 4));
        check(0, &[7, 0, 0, 0, 0x45], (NO_ETHERTYPE, 4));
        check(12, &[0x45, 0], (IPV4, 0));
        check(101, &[0x60, 0], (IPV6, 0));
        check(228, &[0x15, 0], (NO_ETHERTYPE, 0));
        check(9, &[0x00, 0x21, 0x45], (IPV4, 2));
        check(50, &[0xff, 0x03, 0x00, 0x57, 0x60], (IPV6, 4));
        check(51, &[0x11, 0, 0, 1, 0, 2, 0, 0x21], (PPPOE_SESSION, 0));
        check(104, &[0x0f, 0, 0x08, 0, 0x45], (IPV4, 4));
        check(113, &cooked_frame([0x86, 0xdd], 40), (IPV6, 16));
        check(113, &cooked_frame([0, 4], 38), (38, 16));
        check(113, &cooked_frame([0, 4], 9_000), (NO_ETHERTYPE, 16));
        check(276, &[&[8, 0][..], &[0; 18], &[0x45]].concat(), (IPV4, 20));
    }

    #[test]
    fn the_address_of_a_cooked_header_is_the_source() {
        let found = ethernet(113, &cooked_frame([8, 0], 20), 36);
        assert_eq!(found.header[6..12], [2, 0, 0, 0, 0, 1]);
        assert_eq!(found.bytes(36), 34);
    }

    #[test]
    fn a_frame_cut_within_its_links_header_stays_a_frame() {
        for link_type in (0..300).filter(|link_type| is_replayed(*link_type)) {
            for length in 0..32 {
                let found = ethernet(link_type, &vec![8; length], 1_000);
                assert!(found.skipped <= length, "{link_type}, {length}");
            }
        }
        check(113, &[0; 15], (NO_ETHERTYPE, 0));
        check(276, &[8, 0, 0], (NO_ETHERTYPE, 0));
        check(101, &[], (NO_ETHERTYPE, 0));
    }
}

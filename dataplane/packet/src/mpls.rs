//! MPLS label stacks, RFC 3032, and what lies under them, which no field says.

use crate::bytes::Bytes;
use crate::headers::{NonIp, TunnelKind};
use crate::parse::{Next, Walk};
use crate::{MPLS_LABELS_MAX, Malformed, link};

/// The label under which an associated channel follows, RFC 5586.
const GENERIC_CHANNEL: u32 = 13;

/// The label of a maintenance packet, RFC 3429; never followed by IP or Ethernet.
const OAM_ALERT: u32 = 14;

/// Reads labels to the bottom of the stack, then looks at the payload (RFC 4928, RFC 4385): first
/// nibble 4 and 6 are IP, 1 is an associated channel, 0 a control word or an Ethernet address.
///
/// # Bounded work
/// At most [`MPLS_LABELS_MAX`] labels.
pub(crate) fn mpls(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    for _ in 0..MPLS_LABELS_MAX {
        let Some(raw) = bytes.take::<4>() else {
            walk.damage_here(Malformed::LinkTruncated);
            return walk.not_ip(NonIp::Mpls);
        };
        let entry = u32::from_be_bytes(*raw);
        let label = entry >> 12;
        if walk.depth == 0 {
            let link = &mut walk.headers.link;
            link.mpls_label_count = link.mpls_label_count.saturating_add(1);
            link.mpls_label = label;
        }
        if entry & 0x100 != 0 {
            if walk.depth > 0 {
                walk.cross(TunnelKind::Mpls, label);
            }
            return match label {
                GENERIC_CHANNEL => associated_channel(walk, bytes),
                OAM_ALERT => walk.not_ip(NonIp::Mpls),
                _ => payload(walk, bytes),
            };
        }
    }
    walk.damage_here(Malformed::MplsStackTooLong);
    walk.not_ip(NonIp::Mpls)
}

fn payload(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    match bytes.byte(0).map(|first| first >> 4) {
        Some(4) => Next::Ipv4,
        Some(6) => Next::Ipv6,
        Some(1) => associated_channel(walk, bytes),
        Some(0) => pseudowire(walk, bytes),
        _ => walk.not_ip(NonIp::Mpls),
    }
}

/// RFC 4385 section 5: four bytes whose last two say what follows.
fn associated_channel(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    match bytes.take::<4>() {
        Some([_, _, 0x00, 0x21]) => Next::Ipv4,
        Some([_, _, 0x00, 0x57]) => Next::Ipv6,
        _ => walk.not_ip(NonIp::Mpls),
    }
}

/// Ethernet over MPLS, RFC 4448: with a control word of four bytes, or without and with a
/// destination address that begins with a zero nibble. The reading whose type field goes with what
/// follows it is taken. Where both do it is the one without, because a VLAN tag then puts a second
/// known type where the other reading looks for one.
fn pseudowire(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const CONTROL_WORD_BYTES: usize = 4;
    if looks_like_ethernet(bytes, 0) {
        return Next::Ethernet;
    }
    if looks_like_ethernet(bytes, CONTROL_WORD_BYTES) {
        return link::after(walk, bytes, CONTROL_WORD_BYTES, Next::Ethernet);
    }
    walk.not_ip(NonIp::Mpls)
}

/// Whether an Ethernet header `at` bytes ahead has a known type, and IP behind it its version.
fn looks_like_ethernet(bytes: &Bytes<'_>, at: usize) -> bool {
    const TYPE_AT: usize = 12;
    let version = bytes.byte(at + TYPE_AT + 2).map(|first| first >> 4);
    match bytes.u16(at + TYPE_AT) {
        Some(link::IPV4) => version == Some(4),
        Some(link::IPV6) => version == Some(6),
        Some(kind) => link::is_known_type(kind),
        None => false,
    }
}

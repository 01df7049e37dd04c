//! IPv6 and its extension headers, RFC 8200 and RFC 2675.

use crate::bytes::{Bytes, as_u32};
use crate::parse::{Next, Walk};
use crate::{Fragment, IpHeader, Malformed, transport};

const HEADER_BYTES: u32 = 40;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const SHIM6: u8 = 140;
const OPTION_JUMBO: u8 = 0xc2;

/// Where an extension chain ended.
pub(crate) struct Chain {
    /// The protocol after it.
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
    /// Why the chain could not be read to its end; what follows it is unknown then.
    pub(crate) damage: Option<Malformed>,
}

/// Reads the header at the cursor, its extension chain, and the transport header after it.
pub(crate) fn ipv6(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some(raw) = bytes.peek::<40>() else {
        return walk.unreadable_ip(Malformed::Ipv6Truncated);
    };
    if raw[0] >> 4 != 6 {
        return walk.unreadable_ip(Malformed::IpVersion);
    }
    if !walk.may_descend() {
        return Next::Done;
    }
    let l3_offset = as_u32(bytes.offset());
    let mut payload = u32::from(u16::from_be_bytes([raw[4], raw[5]]));
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&raw[8..24]);
    dst.copy_from_slice(&raw[24..40]);
    let _ = bytes.skip(40);
    if payload == 0 && raw[6] == HOP_BY_HOP {
        payload = jumbo_payload(bytes);
    }
    let payload_bytes = usize::try_from(payload).unwrap_or(usize::MAX);
    let excess = payload_bytes.saturating_sub(bytes.claimed());
    if walk.refuses_length(Malformed::Ipv6PayloadBeyondFrame, excess) {
        return Next::Done;
    }
    bytes.limit(payload_bytes);
    let chain = extension_chain(raw[6], walk.options.extension_headers_max, bytes);
    let header = IpHeader {
        src,
        dst,
        ip_bytes: payload.saturating_add(HEADER_BYTES),
        l3_offset,
        l4_offset: as_u32(bytes.offset()),
        fragment: chain.fragment,
        src_port: 0,
        dst_port: 0,
        protocol: chain.protocol,
        version: 6,
        ttl: raw[7],
        tos: (raw[0] << 4) | (raw[1] >> 4),
        has_ports: false,
    };
    if let Some(cause) = chain.damage {
        walk.headers.damage(cause);
        walk.commit(header, crate::Transport::None);
        return Next::Done;
    }
    transport::finish(walk, header, bytes)
}

/// The payload length in the jumbo option of the hop-by-hop header at the cursor, RFC 2675; 0 where
/// there is none that may stand for a payload length field of 0.
fn jumbo_payload(bytes: &Bytes<'_>) -> u32 {
    const JUMBO_MIN: u32 = 65_536;
    let jumbo = match bytes.byte(1) {
        Some(length) => options(bytes, header_bytes(length)).unwrap_or(None),
        None => None,
    };
    jumbo.filter(|bytes| *bytes >= JUMBO_MIN).unwrap_or(0)
}

/// Bytes of an extension header whose length field says `length`, RFC 8200 section 4.3.
fn header_bytes(length: u8) -> usize {
    (usize::from(length) + 1) * 8
}

/// Whether a header of this number is crossed on the way to the protocol. A HIP header (139, RFC
/// 7401) is not: nothing follows one. Of shim6 only the payload header is, see `extension`.
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS
    )
}

/// Reads extension headers until one that is none, or a later fragment. The cursor is left at what
/// follows the last header read.
///
/// # Bounded work
/// At most `headers_max` headers.
pub(crate) fn extension_chain(first: u8, headers_max: u8, bytes: &mut Bytes<'_>) -> Chain {
    let mut chain = Chain {
        protocol: first,
        fragment: Fragment::default(),
        damage: None,
    };
    for _ in 0..headers_max {
        let shim = chain.protocol == SHIM6 && bytes.byte(2).is_some_and(|flags| flags & 0x80 != 0);
        if !is_extension(chain.protocol) && !shim {
            return chain;
        }
        let read = match chain.protocol {
            FRAGMENT => fragment(&mut chain, bytes),
            kind => extension(kind, &mut chain, bytes),
        };
        if read.is_none() {
            chain.damage = Some(Malformed::Ipv6ExtensionTruncated);
            return chain;
        }
        if chain.fragment.offset != 0 {
            return chain;
        }
    }
    if is_extension(chain.protocol) {
        chain.damage = Some(Malformed::ExtensionChainTooLong);
    }
    chain
}

/// One header of next header, length and content. What it announces is known even where the rest
/// of it is cut short.
fn extension(kind: u8, chain: &mut Chain, bytes: &mut Bytes<'_>) -> Option<()> {
    let next = bytes.byte(0)?;
    if kind == ROUTING {
        chain.protocol = next;
    }
    let size = header_bytes(bytes.byte(1)?);
    chain.protocol = next;
    match kind {
        HOP_BY_HOP | DESTINATION_OPTIONS => {
            options(bytes, size).ok()?;
        }
        ROUTING => segments(bytes)?,
        _ => {}
    }
    bytes.skip(size)
}

/// RFC 8200 section 4.5.
fn fragment(chain: &mut Chain, bytes: &mut Bytes<'_>) -> Option<()> {
    let raw = bytes.take::<8>()?;
    let field = u16::from_be_bytes([raw[2], raw[3]]);
    chain.protocol = raw[0];
    chain.fragment = Fragment {
        id: u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]),
        offset: field & 0xfff8,
        more: field & 1 != 0,
        is_fragment: true,
    };
    Some(())
}

/// RFC 8754 section 2: a segment routing header must hold the segments up to its last entry.
fn segments(bytes: &Bytes<'_>) -> Option<()> {
    const SEGMENT_ROUTING: u8 = 4;
    if bytes.byte(2)? != SEGMENT_ROUTING {
        return Some(());
    }
    let last = usize::from(bytes.byte(4)?);
    (8 + (last + 1) * 16 <= bytes.captured()).then_some(())
}

/// An option that runs out of the captured packet.
struct OptionTruncated;

/// Walks the options of a hop-by-hop or destination options header of `header_bytes`; answers the
/// value of the first jumbo payload option (RFC 2675 section 2) if there is one.
///
/// # Bounded work
/// A header has at most 2048 bytes and every option one or more.
fn options(header: &Bytes<'_>, header_bytes: usize) -> Result<Option<u32>, OptionTruncated> {
    let (mut at, mut jumbo) = (2, None);
    while at < header_bytes {
        let kind = header.byte(at).ok_or(OptionTruncated)?;
        if kind == 0 {
            at += 1;
            continue;
        }
        let length = header.byte(at + 1).ok_or(OptionTruncated)?;
        if kind == OPTION_JUMBO && length == 4 && jumbo.is_none() {
            jumbo = header.u32(at + 2);
        }
        at += 2 + usize::from(length);
        if at > header.captured() {
            return Err(OptionTruncated);
        }
    }
    Ok(jumbo)
}

//! IPv6 and its extension headers, RFC 8200 and RFC 2675.

use crate::bytes::{Bytes, as_u32};
use crate::parse::{Next, Walk};
use crate::{Fragment, IpHeader, Malformed, transport};

const HEADER_BYTES: u32 = 40;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
const OPTION_JUMBO: u8 = 0xc2;

/// Where an extension chain ended.
pub(crate) struct Chain {
    /// The protocol after it.
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
    /// The jumbo payload length option of a hop-by-hop header.
    pub(crate) jumbo_bytes: Option<u32>,
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
    let payload = u16::from_be_bytes([raw[4], raw[5]]);
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&raw[8..24]);
    dst.copy_from_slice(&raw[24..40]);
    let _ = bytes.skip(40);
    if usize::from(payload) > bytes.claimed() && !walk.partial {
        walk.headers.damage(Malformed::Ipv6PayloadBeyondFrame);
    }
    if payload != 0 {
        bytes.limit(usize::from(payload));
    }
    let chain = extension_chain(raw[6], walk.options.extension_headers_max, bytes);
    let mut ip_bytes = u32::from(payload) + HEADER_BYTES;
    if let (0, Some(jumbo)) = (payload, chain.jumbo_bytes) {
        ip_bytes = jumbo.saturating_add(HEADER_BYTES);
    }
    let header = IpHeader {
        src,
        dst,
        ip_bytes,
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

/// Reads extension headers until one that is none, or a later fragment. The cursor is left at what
/// follows the last header read.
///
/// # Bounded work
/// At most `headers_max` headers.
pub(crate) fn extension_chain(first: u8, headers_max: u8, bytes: &mut Bytes<'_>) -> Chain {
    let mut chain = Chain {
        protocol: first,
        fragment: Fragment::default(),
        jumbo_bytes: None,
        damage: None,
    };
    for _ in 0..headers_max {
        match chain.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | HIP | SHIM6 => {
                let kind = chain.protocol;
                let Some([next, length]) = bytes.peek::<2>() else {
                    return chain.damaged(Malformed::Ipv6ExtensionTruncated);
                };
                let (header, header_bytes) = (*bytes, (usize::from(*length) + 1) * 8);
                chain.protocol = *next;
                if matches!(kind, HOP_BY_HOP | DESTINATION_OPTIONS) {
                    let Ok(jumbo) = options(&header, header_bytes) else {
                        return chain.damaged(Malformed::Ipv6ExtensionTruncated);
                    };
                    if kind == HOP_BY_HOP {
                        chain.jumbo_bytes = chain.jumbo_bytes.or(jumbo);
                    }
                }
                if bytes.skip(header_bytes).is_none() {
                    return chain.damaged(Malformed::Ipv6ExtensionTruncated);
                }
            }
            FRAGMENT => {
                let Some(raw) = bytes.take::<8>() else {
                    return chain.damaged(Malformed::Ipv6ExtensionTruncated);
                };
                let field = u16::from_be_bytes([raw[2], raw[3]]);
                chain.protocol = raw[0];
                chain.fragment = Fragment {
                    id: u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]),
                    offset: field & 0xfff8,
                    more: field & 1 != 0,
                    is_fragment: true,
                };
                if chain.fragment.offset != 0 {
                    return chain;
                }
            }
            _ => return chain,
        }
    }
    match chain.protocol {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | HIP | SHIM6 | FRAGMENT => {
            chain.damaged(Malformed::ExtensionChainTooLong)
        }
        _ => chain,
    }
}

impl Chain {
    fn damaged(mut self, cause: Malformed) -> Self {
        self.damage = Some(cause);
        self
    }
}

/// An option that runs out of the captured packet.
struct OptionTruncated;

/// Walks the options of a hop-by-hop or destination options header of `header_bytes`; answers the
/// jumbo payload length (RFC 2675 section 2) if there is one.
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

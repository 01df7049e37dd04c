//! From an outer packet to the IP header inside it.
//!
//! IP protocols that announce a tunnel, and UDP ports that by assignment carry one. A port number
//! is only a hint: the inner header must be one, or the frame stays what its outer header says.

mod capwap;
mod geneve;
mod gre;
mod gtp;
mod l2tp;
mod teredo;
mod vxlan;
mod wireless;

use crate::bytes::Bytes;
use crate::headers::TunnelKind;
use crate::parse::{Next, Walk};
use crate::{ipv6, link};

pub(crate) use gre::gre_protocol;

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const AH: u8 = 51;
const ETHERIP: u8 = 97;
const MPLS_IN_IP: u8 = 137;
const ETHERNET: u8 = 143;

const PORT_L2TP: u16 = 1701;
const PORT_GTP_CONTROL: u16 = 2123;
const PORT_GTP: u16 = 2152;
const PORT_TEREDO: u16 = 3544;
const PORT_LISP: u16 = 4341;
const PORT_GRE: u16 = 4754;
const PORT_VXLAN: u16 = 4789;
const PORT_VXLAN_GPE: u16 = 4790;
const PORT_AYIYA: u16 = 5072;
const PORT_CAPWAP: u16 = 5247;
const PORT_GENEVE: u16 = 6081;
const PORT_MPLS: u16 = 6635;

const PORTS: [u16; 12] = [
    PORT_L2TP,
    PORT_GTP_CONTROL,
    PORT_GTP,
    PORT_TEREDO,
    PORT_LISP,
    PORT_GRE,
    PORT_VXLAN,
    PORT_VXLAN_GPE,
    PORT_AYIYA,
    PORT_CAPWAP,
    PORT_GENEVE,
    PORT_MPLS,
];

/// A port as it stands in a frame, taken as a number of this machine.
pub(crate) const fn raw_port(port: u16) -> u16 {
    u16::from_ne_bytes(port.to_be_bytes())
}

/// Spreads the ports over [`PORT_TABLE`], each to a place of its own.
const PORT_SPREAD: u16 = spread();
/// Every raw port at the place that [`port_place`] gives it; elsewhere one whose place is another.
const PORT_TABLE: [u16; 32] = match table(PORT_SPREAD) {
    Some(table) => table,
    None => panic!("two ports have one place"),
};

#[inline(always)]
const fn port_place(raw: u16, spread: u16) -> usize {
    (raw.wrapping_mul(spread) >> 11) as usize
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, where a panic is a build error"
)]
const fn table(spread: u16) -> Option<[u16; 32]> {
    let filler = raw_port(PORTS[0]);
    let mut table = [filler; 32];
    let mut i = 1;
    while i < PORTS.len() {
        let port = raw_port(PORTS[i]);
        let place = port_place(port, spread);
        if table[place] != filler || place == port_place(filler, spread) {
            return None;
        }
        table[place] = port;
        i += 1;
    }
    Some(table)
}

const fn spread() -> u16 {
    let mut spread = 1;
    while table(spread).is_none() {
        spread += 2;
    }
    spread
}

/// Whether UDP on this port, read by [`raw_port`], may carry a tunnel. One load: every UDP packet
/// asks twice.
#[inline(always)]
pub(crate) fn is_tunnel_port(raw: u16) -> bool {
    PORT_TABLE.get(port_place(raw, PORT_SPREAD)) == Some(&raw)
}

/// The payload of an IP packet whose protocol has no ports.
pub(crate) fn ip_protocol(walk: &mut Walk<'_>, protocol: u8, bytes: &mut Bytes<'_>) -> Next {
    match protocol {
        IPIP => Next::Ipv4,
        IPV6 => Next::Ipv6,
        GRE => gre::gre(walk, bytes),
        AH => authentication(walk, bytes),
        MPLS_IN_IP => Next::Mpls,
        ETHERNET => {
            walk.cross(TunnelKind::Ethernet, 0);
            Next::Ethernet
        }
        // RFC 3378: a version nibble of 3, then Ethernet.
        ETHERIP => {
            walk.cross(TunnelKind::Ethernet, 0);
            link::after(walk, bytes, 2, Next::Ethernet)
        }
        _ => Next::Done,
    }
}

/// RFC 4302: the authentication header is the protocol of its flow, but in tunnel mode a whole IP
/// packet follows it, in the clear.
fn authentication(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    let Some([next, words, _, _, s0, s1, s2, s3]) = bytes.peek::<8>() else {
        return Next::Done;
    };
    if bytes.skip((usize::from(*words) + 2) * 4).is_none() {
        return Next::Done;
    }
    walk.cross(TunnelKind::Ah, u32::from_be_bytes([*s0, *s1, *s2, *s3]));
    let chain = ipv6::extension_chain(*next, walk.options.extension_headers_max, bytes);
    match chain.protocol {
        _ if chain.damage.is_some() || chain.fragment.offset != 0 => Next::Done,
        IPIP => Next::Ipv4,
        IPV6 => Next::Ipv6,
        AH | GRE | MPLS_IN_IP | ETHERNET | ETHERIP => Next::Protocol(chain.protocol),
        _ => Next::Done,
    }
}

/// A UDP payload: a tunnel if one of the ports says so, the lower one asked first.
pub(crate) fn udp_payload(
    walk: &mut Walk<'_>,
    src_port: u16,
    dst_port: u16,
    bytes: &mut Bytes<'_>,
) -> Next {
    walk.guessed = true;
    for port in [src_port.min(dst_port), src_port.max(dst_port)] {
        let mut payload = *bytes;
        let next = by_port(walk, port, &mut payload);
        if next != Next::Done {
            *bytes = payload;
            return next;
        }
    }
    Next::Done
}

fn by_port(walk: &mut Walk<'_>, port: u16, bytes: &mut Bytes<'_>) -> Next {
    match port {
        PORT_VXLAN => vxlan::vxlan(walk, bytes),
        PORT_VXLAN_GPE => vxlan::vxlan_gpe(walk, bytes),
        PORT_GENEVE => geneve::geneve(walk, bytes),
        PORT_GTP | PORT_GTP_CONTROL => gtp::gtp(walk, bytes),
        PORT_TEREDO => teredo::teredo(walk, bytes),
        PORT_MPLS => Next::Mpls,
        PORT_GRE => gre::gre(walk, bytes),
        PORT_L2TP => l2tp::l2tp(walk, bytes),
        PORT_LISP => lisp(walk, bytes),
        PORT_CAPWAP => capwap::capwap(walk, bytes),
        PORT_AYIYA => ayiya(walk, bytes),
        _ => Next::Done,
    }
}

/// RFC 9300 section 5.3: flags, nonce, then instance id and locator status; then IP.
fn lisp(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const INSTANCE: u8 = 0x08;
    let Some([flags, _, _, _, i0, i1, i2, _]) = bytes.take::<8>() else {
        return Next::Done;
    };
    let instance = u32::from_be_bytes([0, *i0, *i1, *i2]);
    walk.cross(
        TunnelKind::Lisp,
        if flags & INSTANCE == 0 { 0 } else { instance },
    );
    Next::Ip
}

/// AYIYA (draft-massar-v6ops-ayiya-02 section 3): sizes of identity and signature, operation, next
/// header, epoch; identity; signature; then the packet, if the operation is to forward it.
fn ayiya(walk: &mut Walk<'_>, bytes: &mut Bytes<'_>) -> Next {
    const FORWARD: u8 = 1;
    let Some([identity, signature, operation, next, ..]) = bytes.take::<8>() else {
        return Next::Done;
    };
    let identity_bytes = 1_usize << (identity >> 4);
    let signature_bytes = usize::from(signature >> 4) * 4;
    if operation & 0x0f != FORWARD || bytes.skip(identity_bytes + signature_bytes).is_none() {
        return Next::Done;
    }
    walk.cross(TunnelKind::Ayiya, 0);
    match *next {
        IPIP => Next::Ipv4,
        IPV6 => Next::Ipv6,
        _ => Next::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_the_ports_and_no_others() {
        for port in 0..=u16::MAX {
            assert_eq!(
                is_tunnel_port(raw_port(port)),
                PORTS.contains(&port),
                "{port}"
            );
        }
    }
}

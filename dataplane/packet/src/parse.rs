//! From the first byte of a frame to its innermost transport header.

use crate::bytes::Bytes;
use crate::headers::{Headers, NonIp, Transport, Tunnel, TunnelKind};
use crate::{IpHeader, LAYERS_MAX, Malformed, ParseOptions};
use crate::{ipv4, ipv6, link, mpls, plain, ppp, tunnel};

/// What the bytes at the cursor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// An Ethernet header.
    Ethernet,
    /// The payload of this ethertype.
    EtherType(u16),
    /// LLC, IEEE 802.2.
    Llc,
    /// An MPLS label stack.
    Mpls,
    /// An IP header, of the version that its first four bits say.
    Ip,
    /// An IPv4 header.
    Ipv4,
    /// An IPv6 header.
    Ipv6,
    /// A PPP protocol field.
    Ppp,
    /// What a GRE protocol type announces.
    GreProtocol(u16),
    /// A network service header.
    Nsh,
    /// Payload of this IP protocol, and no new IP header before it.
    Protocol(u8),
    /// Payload of a UDP datagram between these ports.
    UdpPayload(u16, u16),
    /// Nothing more to read.
    Done,
}

/// A tunnel header that was crossed and waits for the IP header it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    pub(crate) kind: TunnelKind,
    pub(crate) id: u32,
}

/// One frame being read.
pub(crate) struct Walk<'h> {
    pub(crate) headers: &'h mut Headers,
    pub(crate) options: ParseOptions,
    /// IP headers read so far.
    pub(crate) depth: u8,
    /// The tunnel crossed since the last IP header.
    pub(crate) crossing: Option<Crossing>,
    /// Only a UDP port number says that what is read now is a tunnel.
    pub(crate) guessed: bool,
    /// A header read so far is of a first fragment: the rest of what it carries is elsewhere.
    pub(crate) partial: bool,
    /// Bytes that the headers read so far claim beyond the end of the frame.
    pub(crate) missing: usize,
}

/// Reads one Ethernet frame into `headers`.
///
/// `frame` holds the captured bytes, `wire_len` the length of the frame on the wire in bytes; it
/// is larger than `frame` where a snap length cut the frame, and is raised to it where smaller.
/// Never fails: what could not be read is absent, and [`Headers::malformed`] says why.
///
/// # Bounded work
/// At most [`LAYERS_MAX`] headers, with bounded chains in each; no allocation, no panic.
#[inline]
pub fn parse(frame: &[u8], wire_len: u32, options: &ParseOptions, headers: &mut Headers) {
    if plain::fill_plain(frame, headers) {
        return;
    }
    general(frame, wire_len, options, headers);
}

/// Any frame, header by header.
pub(crate) fn general(frame: &[u8], wire_len: u32, options: &ParseOptions, headers: &mut Headers) {
    headers.link.ethertype = 0;
    headers.link.non_ip = None;
    headers.link.mpls_label_count = 0;
    headers.link.pppoe = false;
    headers.link.vlan_count = 0;
    headers.outer = None;
    headers.inner = None;
    headers.tunnel = None;
    headers.transport = Transport::None;
    headers.quoted = None;
    headers.malformed = None;
    let mut bytes = Bytes::new(frame, usize::try_from(wire_len).unwrap_or(usize::MAX));
    let mut walk = Walk {
        headers,
        options: *options,
        depth: 0,
        crossing: None,
        guessed: false,
        partial: false,
        missing: 0,
    };
    link::addresses(&mut walk, &bytes);
    let mut next = Next::Ethernet;
    for _ in 0..LAYERS_MAX {
        next = walk.step(next, &mut bytes);
        if next == Next::Done {
            return;
        }
    }
    walk.damage_here(Malformed::TooManyLayers);
}

impl Walk<'_> {
    /// Reads one header and says what comes after it.
    fn step(&mut self, next: Next, bytes: &mut Bytes<'_>) -> Next {
        match next {
            Next::Ethernet => link::ethernet(self, bytes),
            Next::EtherType(ethertype) => link::ethertype(self, ethertype, bytes),
            Next::Llc => link::llc(self, bytes),
            Next::Mpls => mpls::mpls(self, bytes),
            Next::Ip => self.ip(bytes),
            Next::Ipv4 => ipv4::ipv4(self, bytes),
            Next::Ipv6 => ipv6::ipv6(self, bytes),
            Next::Ppp => ppp::ppp(self, bytes),
            Next::GreProtocol(protocol) => tunnel::gre_protocol(self, protocol, bytes),
            Next::Nsh => link::nsh(self, bytes),
            Next::Protocol(protocol) => tunnel::ip_protocol(self, protocol, bytes),
            Next::UdpPayload(src, dst) => tunnel::udp_payload(self, src, dst, bytes),
            Next::Done => Next::Done,
        }
    }

    /// An IP header whose version only its first four bits tell.
    fn ip(&mut self, bytes: &mut Bytes<'_>) -> Next {
        match bytes.byte(0).map(|first| first >> 4) {
            Some(4) => ipv4::ipv4(self, bytes),
            Some(6) => ipv6::ipv6(self, bytes),
            Some(_) => self.unreadable_ip(Malformed::IpVersion),
            None => self.unreadable_ip(Malformed::Ipv4Truncated),
        }
    }

    /// The IP header announced is not one: the frame stays what the headers before made of it.
    pub(crate) fn unreadable_ip(&mut self, cause: Malformed) -> Next {
        if self.depth == 0 {
            self.headers.link.non_ip = Some(NonIp::BrokenIp);
        }
        self.damage_here(cause);
        Next::Done
    }

    /// The frame is not IP (so far as its link layer goes).
    pub(crate) fn not_ip(&mut self, kind: NonIp) -> Next {
        if self.depth == 0 {
            self.headers.link.non_ip = Some(kind);
        }
        Next::Done
    }

    /// The frame ends inside a header between two IP headers or before the first.
    pub(crate) fn link_truncated(&mut self) -> Next {
        self.damage_here(Malformed::LinkTruncated);
        self.not_ip(NonIp::Other)
    }

    /// Notes damage, unless it lies in what only a UDP port number suggests to be a tunnel: any
    /// application may use that port, so that is no damage of the frame.
    pub(crate) fn damage_here(&mut self, cause: Malformed) {
        if !self.guessed && !self.partial {
            self.headers.damage(cause);
        }
    }

    /// The IP header claims `excess` bytes more than the frame has. Inside a first fragment, or
    /// inside a packet that is itself cut short by as much, that is to be expected. Of a tunnel that
    /// only a port number suggests, it says that there is none. Of any other header it is damage,
    /// and the header still stands.
    pub(crate) fn refuses_length(&mut self, cause: Malformed, excess: usize) -> bool {
        if self.partial || excess <= self.missing {
            return false;
        }
        if !self.guessed {
            self.missing = excess;
            self.headers.damage(cause);
        }
        self.guessed
    }

    /// A tunnel header was crossed. A second one before the next IP header (Ethernet in GRE in
    /// NSH ...) replaces the kind.
    pub(crate) fn cross(&mut self, kind: TunnelKind, id: u32) {
        self.crossing = Some(Crossing { kind, id });
    }

    /// Whether the depth limit allows one more IP header; notes the damage if not.
    pub(crate) fn may_descend(&mut self) -> bool {
        if self.depth <= self.options.tunnel_depth_max {
            return true;
        }
        if self.options.tunnel_depth_max > 0 {
            self.headers.damage(Malformed::TunnelTooDeep);
        }
        false
    }

    /// An IP header and what follows it were read: it is the innermost one so far.
    pub(crate) fn commit(&mut self, header: IpHeader, transport: Transport) {
        self.headers.transport = transport;
        self.headers.quoted = None;
        if self.depth == 0 {
            self.headers.outer = Some(header);
        } else {
            let crossing = self.crossing.unwrap_or(Crossing {
                kind: TunnelKind::IpInIp,
                id: 0,
            });
            self.headers.inner = Some(header);
            self.headers.tunnel = Some(Tunnel {
                kind: crossing.kind,
                id: crossing.id,
                depth: self.depth,
            });
        }
        self.crossing = None;
        self.guessed = false;
        self.partial |= header.fragment.more;
        self.depth = self.depth.saturating_add(1);
    }
}

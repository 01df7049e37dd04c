//! What an edge is: two ends and a service, in the names that a baseline can be kept by.

use api::flow::{Flow, special_address};
use api::history::Conversation;
use api::watch::{EdgeOutcome, WatchEnd};
use api::words::{Action, InitiatorEvidence};
use policy::Port;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// IP protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Ports from here on are handed out as they come (Linux from 32768, others from 49152: RFC 6335 section 6), so that
/// each would be a new edge: they are one service of their protocol.
pub const HANDED_OUT_PORT_MIN: u16 = 32_768;
/// Packets that the initiator must have sent for an unanswered flow over UDP to be an edge: what speaks one way, such
/// as syslog, does so on purpose.
const ONE_WAY_PACKETS_MIN: u64 = 10;
/// FIN and RST of TCP, RFC 9293 section 3.1.
const SYN: u16 = 2;
const RST: u16 = 4;
/// The built-in segment of addresses that are not internal.
const INTERNET: &str = "internet";

/// An end as the baseline keeps it: by name, so that a workload keeps its edges wherever it moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndKey {
    /// A workload of the policy.
    Workload(Arc<str>),
    /// An internal address that no workload has.
    Address(IpAddr),
    /// Any address that is not internal.
    Internet,
}

impl EndKey {
    /// Of an address with these names.
    #[must_use]
    pub fn of(address: IpAddr, name: Option<&Arc<str>>, segments: &[Arc<str>]) -> Self {
        match name {
            Some(name) => Self::Workload(Arc::clone(name)),
            None if is_of_internet(address, segments) => Self::Internet,
            None => Self::Address(address),
        }
    }
}

impl fmt::Display for EndKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => f.pad(name),
            Self::Address(address) => address.fmt(f),
            Self::Internet => f.pad(INTERNET),
        }
    }
}

/// By the policy's own word where it has one, else by RFC 1918, RFC 6598 and RFC 4193.
fn is_of_internet(address: IpAddr, segments: &[Arc<str>]) -> bool {
    if !segments.is_empty() {
        return segments.iter().any(|segment| &**segment == INTERNET);
    }
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private() || v4.is_link_local() || (a == 100 && (64..128).contains(&b)))
        }
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

/// An edge as the baseline keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeKey {
    /// Initiator.
    pub src: EndKey,
    /// Responder.
    pub dst: EndKey,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the responder, type * 256 of ICMP; [`HANDED_OUT_PORT_MIN`] for all ports from there on.
    pub port: u16,
}

impl EdgeKey {
    /// `tcp/22`, `tcp/high`.
    #[must_use]
    pub fn service(&self) -> String {
        let word = api::label::service_word(self.proto, self.port);
        match (self.port, word.split_once('/')) {
            (HANDED_OUT_PORT_MIN, Some((proto, _))) if has_ports(self.proto) => {
                format!("{proto}/high")
            }
            _ => word,
        }
    }
}

const fn has_ports(proto: u8) -> bool {
    matches!(proto, TCP | UDP | SCTP)
}

/// One attempt of one end at another, out of a flow record or a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its edge.
    pub key: EdgeKey,
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// Port of the responder as it was.
    pub port: u16,
    /// First packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Last packet.
    pub last_ns: u64,
    /// What became of it.
    pub outcome: EdgeOutcome,
}

/// Which services administer hosts.
#[derive(Clone, Debug, Default)]
pub struct AdminServices(Vec<Port>);

impl AdminServices {
    /// Of texts that configuration has checked; what is none is left out.
    #[must_use]
    pub fn new(services: &[String]) -> Self {
        Self(
            services
                .iter()
                .filter_map(|s| Port::parse(s).ok())
                .collect(),
        )
    }

    /// Whether a service is one of them.
    #[must_use]
    pub fn contain(&self, proto: u8, port: u16) -> bool {
        let fits =
            |p: &Port| p.proto.is_none_or(|of| of == proto) && p.low <= port && port <= p.high;
        has_ports(proto) && self.0.iter().any(fits)
    }

    /// The port as the baseline keeps it.
    fn port_kept(&self, proto: u8, port: u16, is_named: bool) -> u16 {
        let is_own = is_named || !has_ports(proto) || self.contain(proto, port);
        if is_own {
            port
        } else {
            port.min(HANDED_OUT_PORT_MIN)
        }
    }

    /// The attempt that a flow record tells; none where it is no edge: an end that no host keeps, several flows told
    /// together, a packet to everybody.
    #[must_use]
    pub fn attempt_of(&self, flow: &Flow) -> Option<Attempt> {
        let is_edge = flow.aggregate.is_none()
            && is_host(flow.src)
            && is_host(flow.dst)
            && !is_to_everybody(flow.dst, flow.proto, flow.pkts_rev);
        let port = flow.icmp_type.map_or(flow.dport, |t| u16::from(t) << 8);
        is_edge.then(|| Attempt {
            key: EdgeKey {
                src: EndKey::of(flow.src, flow.src_name.as_ref(), &flow.src_segments),
                dst: EndKey::of(flow.dst, flow.dst_name.as_ref(), &flow.dst_segments),
                proto: flow.proto,
                port: self.port_kept(flow.proto, port, flow.service.is_some()),
            },
            src: flow.src,
            dst: flow.dst,
            port,
            first_ns: flow.first_ns,
            last_ns: flow.last_ns,
            outcome: outcome(flow),
        })
    }

    /// The same of a conversation of history, which does not keep flags: an answer is an answer.
    #[must_use]
    pub fn attempt_of_conversation(&self, c: &Conversation) -> Option<Attempt> {
        let is_edge = !c.folded
            && is_host(c.src)
            && is_host(c.dst)
            && !is_to_everybody(c.dst, c.proto, c.sums.pkts_rev);
        let is_icmp = matches!(c.proto, ICMP | ICMPV6);
        let port = if is_icmp { c.port & 0xff00 } else { c.port };
        let outcome = match (c.verdict.permits(), c.sums.pkts_rev) {
            (false, _) => EdgeOutcome::Denied,
            (true, 0) if !is_one_way(c.proto, c.sums.pkts_fwd) => EdgeOutcome::Unanswered,
            (true, _) => EdgeOutcome::Answered,
        };
        is_edge.then(|| Attempt {
            key: EdgeKey {
                src: EndKey::of(c.src, c.src_name.as_ref(), &c.src_segments),
                dst: EndKey::of(c.dst, c.dst_name.as_ref(), &c.dst_segments),
                proto: c.proto,
                port: self.port_kept(c.proto, port, c.service.is_some()),
            },
            src: c.src,
            dst: c.dst,
            port,
            first_ns: c.first_ts.0,
            last_ns: c.last_ts.0,
            outcome,
        })
    }

    /// The edge of which a record may be the answering half, where nothing proves who began.
    #[must_use]
    pub fn reversed(&self, flow: &Flow, key: &EdgeKey) -> Option<EdgeKey> {
        (is_guessed(flow.initiator_evidence) && has_ports(flow.proto)).then(|| EdgeKey {
            src: key.dst.clone(),
            dst: key.src.clone(),
            proto: flow.proto,
            port: self.port_kept(flow.proto, flow.sport, false),
        })
    }
}

/// Whether who began is a guess.
#[must_use]
pub const fn is_guessed(evidence: InitiatorEvidence) -> bool {
    matches!(
        evidence,
        InitiatorEvidence::FirstPacket | InitiatorEvidence::PortAsymmetry
    )
}

fn is_host(address: IpAddr) -> bool {
    special_address(address).is_none()
}

/// A datagram to the last address of what is most likely a subnet: nobody's mask is known here, but whoever answers is
/// a host.
fn is_to_everybody(dst: IpAddr, proto: u8, answers: u64) -> bool {
    match dst {
        IpAddr::V4(v4) => proto != TCP && answers == 0 && v4.octets()[3] == 255,
        IpAddr::V6(_) => false,
    }
}

const fn is_one_way(proto: u8, packets: u64) -> bool {
    proto == UDP && packets >= ONE_WAY_PACKETS_MIN
}

/// What became of the attempt that a record tells.
#[must_use]
pub fn outcome(flow: &Flow) -> EdgeOutcome {
    let was_reset = flow.tcp_flags_rev & RST != 0 && flow.tcp_flags_rev & SYN == 0;
    let said_nothing = flow.bytes_rev <= 60 * flow.pkts_rev;
    if !flow.verdict.permits() {
        EdgeOutcome::Denied
    } else if flow.pkts_rev == 0 && !is_one_way(flow.proto, flow.pkts_fwd) {
        EdgeOutcome::Unanswered
    } else if flow.proto == TCP && was_reset && said_nothing {
        EdgeOutcome::Refused
    } else {
        EdgeOutcome::Answered
    }
}

/// An end as findings tell it.
#[must_use]
pub fn ends(flow: &Flow) -> [WatchEnd; 2] {
    let end = |address, name: &Option<Arc<str>>, segments: &Arc<[Arc<str>]>| WatchEnd {
        address,
        name: name.clone(),
        segments: Arc::clone(segments),
    };
    [
        end(flow.src, &flow.src_name, &flow.src_segments),
        end(flow.dst, &flow.dst_name, &flow.dst_segments),
    ]
}

/// The technique that reaching a host over a service is, by MITRE ATT&CK.
#[must_use]
pub const fn technique(proto: u8, port: u16) -> Option<&'static str> {
    match (proto, port) {
        (TCP | UDP, 3389) => Some("T1021.001"),
        (TCP, 139 | 445) => Some("T1021.002"),
        (TCP, 135) => Some("T1021.003"),
        (TCP, 22) => Some("T1021.004"),
        (TCP, 5900) => Some("T1021.005"),
        (TCP, 5985 | 5986) => Some("T1021.006"),
        (TCP, 23) => Some("T1021"),
        _ => None,
    }
}

/// Whether a flow was let pass because a rule says so.
#[must_use]
pub fn is_allowed_by_rule(flow: &Flow) -> bool {
    flow.rule.is_some() && flow.verdict == Action::Allow
}

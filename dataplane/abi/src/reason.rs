//! The one table of drop reasons: a row is a code, a counter and the sentence shown to people.

use crate::byte_enum;

/// Rows reserved for reasons in the stats segment. [`Reason`] codes stay below it.
pub const REASONS_MAX: usize = 64;

byte_enum! {
    /// Why a packet was not forwarded. 0 is kept free for "not dropped".
    pub enum Reason {
        /// A rule with action deny.
        DeniedByRule = 1 => "denied-by-rule",
        /// No rule matched and an end enforces.
        DeniedByDefault = 2 => "denied-by-default",
        /// A rule with action reject.
        RejectedByRule = 3 => "rejected-by-rule",
        /// The token bucket of a limit rule was empty.
        Limited = 4 => "limited",
        /// The flow was killed because the policy changed (`on_change = "kill"`).
        KilledOnChange = 5 => "killed-on-change",
        /// No policy has been adopted and the exception policy drops.
        NoPolicy = 6 => "no-policy",
        /// The policy is older than allowed and the exception policy drops.
        PolicyStale = 7 => "policy-stale",
        /// The flow cache is full and the exception policy drops.
        FlowTableFull = 8 => "flow-table-full",
        /// The fragment table is full and the exception policy drops.
        FragmentTableFull = 9 => "fragment-table-full",
        /// A non-first fragment whose first fragment is not known.
        FragmentUnknown = 10 => "fragment-unknown",
        /// A TCP packet in the middle of an unknown flow, and the midstream policy drops.
        Midstream = 11 => "midstream",
        /// Not IP, and the pass table drops its kind.
        NonIp = 12 => "non-ip",
        /// The transmit queue had no room.
        TransmitFull = 13 => "transmit-full",
        /// The re-steer ring had no room.
        ResteerFull = 14 => "resteer-full",
        /// The other port of the lane is down.
        PortDown = 15 => "port-down",
        /// The frame is longer than the other port can send.
        FrameTooLong = 16 => "frame-too-long",
        /// The frame ends inside its link layer header.
        MalformedLink = 24 => "malformed-link",
        /// IPv4 version, header length or total length contradict the frame.
        MalformedIpv4 = 25 => "malformed-ipv4",
        /// IPv6 version or payload length contradict the frame.
        MalformedIpv6 = 26 => "malformed-ipv6",
        /// The IPv6 extension chain is longer than the limit, cut, or out of order.
        MalformedExtension = 27 => "malformed-extension",
        /// A fragment overlaps the transport header, is too small, or reaches beyond 65,535 bytes.
        MalformedFragment = 28 => "malformed-fragment",
        /// The TCP header is cut or its length contradicts the packet.
        MalformedTcp = 29 => "malformed-tcp",
        /// The UDP or UDP-Lite header is cut or its length contradicts the packet.
        MalformedUdp = 30 => "malformed-udp",
        /// The SCTP, DCCP or other transport header is cut.
        MalformedTransport = 31 => "malformed-transport",
        /// The ICMP or ICMPv6 header is cut.
        MalformedIcmp = 32 => "malformed-icmp",
        /// A tunnel header is cut or contradicts itself.
        MalformedTunnel = 33 => "malformed-tunnel",
        /// More tunnels inside one another than the configured depth.
        TunnelTooDeep = 34 => "tunnel-too-deep",
    }
}

impl Reason {
    /// The sentence shown to the operator.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::DeniedByRule => "a rule with action deny matched",
            Self::DeniedByDefault => "no rule allows it and one of its ends is in enforce",
            Self::RejectedByRule => "a rule with action reject matched; the sender was answered",
            Self::Limited => "the limit of a rule was reached",
            Self::KilledOnChange => "the policy changed and its rule says on_change = \"kill\"",
            Self::NoPolicy => "no policy has been adopted and the exception policy says drop",
            Self::PolicyStale => "the policy is too old and the exception policy says drop",
            Self::FlowTableFull => "the flow cache is full and the exception policy says drop",
            Self::FragmentTableFull => {
                "the fragment table is full and the exception policy says drop"
            }
            Self::FragmentUnknown => "a fragment came without the first fragment of its datagram",
            Self::Midstream => "TCP in the middle of an unknown flow, and midstream is strict",
            Self::NonIp => "not IP, and the pass table drops this kind",
            Self::TransmitFull => "the transmit queue was full",
            Self::ResteerFull => "the ring to the core that owns the flow was full",
            Self::PortDown => "the port on the other side of the lane is down",
            Self::FrameTooLong => "the frame is longer than the other port can send",
            Self::MalformedLink => "the frame ends inside its link layer header",
            Self::MalformedIpv4 => "the IPv4 header contradicts the frame",
            Self::MalformedIpv6 => "the IPv6 header contradicts the frame",
            Self::MalformedExtension => "the IPv6 extension chain is too long or cut",
            Self::MalformedFragment => "the fragment is too small, overlaps or reaches too far",
            Self::MalformedTcp => "the TCP header is cut or contradicts the packet",
            Self::MalformedUdp => "the UDP header is cut or contradicts the packet",
            Self::MalformedTransport => "the transport header is cut",
            Self::MalformedIcmp => "the ICMP header is cut",
            Self::MalformedTunnel => "a tunnel header is cut or contradicts itself",
            Self::TunnelTooDeep => "more tunnels inside one another than configured",
        }
    }

    /// Index of the reason's counter in the stats segment.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_name_of_its_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(
            Reason::ALL
                .iter()
                .all(|r| r.index() < REASONS_MAX && r.index() > 0)
        );
    }
}

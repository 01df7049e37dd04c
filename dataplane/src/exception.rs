//! The exception policy: one table of conditions, each row allow or drop.

use crate::config::{Exceptions, ForcedCondition, Pass, PassTable};
use abi::Reason;
use packet::{Malformed, NonIp};
use std::time::Duration;

/// A condition in which the policy alone cannot say what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No policy has been adopted.
    NoPolicy,
    /// The policy is too old.
    PolicyStale,
    /// The flow cache has no room.
    FlowTableFull,
    /// The fragment table has no room.
    FragmentTableFull,
    /// A fragment without its first.
    FragmentUnknown,
    /// TCP in the middle of an unknown flow.
    Midstream,
    /// Headers that contradict themselves or the frame.
    Malformed,
    /// The ring to the worker that owns the flow has no room.
    ResteerRingFull,
}

/// The rows, the pass table, and the test switches.
#[derive(Clone, Debug)]
pub struct ExceptionTable {
    rows: Exceptions,
    pass: PassTable,
    stale_after_ns: u64,
}

impl ExceptionTable {
    /// The table of a configuration.
    #[must_use]
    pub fn new(rows: &Exceptions, pass: &PassTable) -> Self {
        let after = rows.policy_stale_after;
        let stale_after_ns = if after == Duration::ZERO {
            u64::MAX
        } else {
            u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)
        };
        Self {
            rows: rows.clone(),
            pass: pass.clone(),
            stale_after_ns,
        }
    }

    /// Whether a test switch forces the condition.
    #[inline]
    #[must_use]
    pub fn is_forced(&self, condition: Condition) -> bool {
        !self.rows.force.is_empty() && self.rows.force.iter().any(|forced| is(*forced, condition))
    }

    /// Whether a test switch forces any condition.
    #[inline]
    #[must_use]
    pub fn is_any_forced(&self) -> bool {
        !self.rows.force.is_empty()
    }

    /// Whether a policy adopted at `adopted_ns` is too old at `now`.
    #[inline]
    #[must_use]
    pub fn is_stale(&self, adopted_ns: u64, now: u64) -> bool {
        now.saturating_sub(adopted_ns) > self.stale_after_ns
            || self.is_forced(Condition::PolicyStale)
    }

    /// Whether the row says drop.
    #[inline]
    #[must_use]
    pub fn drops(&self, condition: Condition) -> bool {
        let row = match condition {
            Condition::NoPolicy => self.rows.no_policy,
            Condition::PolicyStale => self.rows.policy_stale,
            Condition::FlowTableFull => self.rows.flow_table_full,
            Condition::FragmentTableFull => self.rows.fragment_table_full,
            Condition::FragmentUnknown => self.rows.fragment_unknown,
            Condition::Midstream => self.rows.midstream,
            Condition::Malformed => self.rows.malformed,
            Condition::ResteerRingFull => self.rows.resteer_ring_full,
        };
        row == Pass::Drop
    }

    /// Whether the pass table drops a frame that carries no IP.
    #[must_use]
    pub fn drops_non_ip(&self, kind: NonIp) -> bool {
        let row = match kind {
            NonIp::Arp => self.pass.arp,
            NonIp::Lldp => self.pass.lldp,
            NonIp::Stp => self.pass.stp,
            NonIp::Lacp => self.pass.lacp,
            NonIp::Macsec => self.pass.macsec,
            NonIp::BrokenIp => self.rows.malformed,
            NonIp::Ppp | NonIp::Llc | NonIp::Mpls | NonIp::Other => self.pass.other,
        };
        row == Pass::Drop
    }

    /// Whether neighbour discovery passes whatever the policy says.
    #[inline]
    #[must_use]
    pub fn passes_neighbor_discovery(&self) -> bool {
        self.pass.neighbor_discovery == Pass::Allow
    }
}

const fn is(forced: ForcedCondition, condition: Condition) -> bool {
    matches!(
        (forced, condition),
        (ForcedCondition::NoPolicy, Condition::NoPolicy)
            | (ForcedCondition::PolicyStale, Condition::PolicyStale)
            | (ForcedCondition::FlowTableFull, Condition::FlowTableFull)
            | (
                ForcedCondition::FragmentTableFull,
                Condition::FragmentTableFull
            )
            | (ForcedCondition::Midstream, Condition::Midstream)
            | (ForcedCondition::Malformed, Condition::Malformed)
            | (ForcedCondition::ResteerRingFull, Condition::ResteerRingFull)
    )
}

/// The row of the reason table for a frame that could not be read in full.
#[must_use]
pub const fn malformed_reason(cause: Malformed) -> Reason {
    match cause {
        Malformed::EthernetTruncated
        | Malformed::LinkTruncated
        | Malformed::MplsStackTooLong
        | Malformed::TooManyLayers => Reason::MalformedLink,
        Malformed::IpVersion
        | Malformed::Ipv4Truncated
        | Malformed::Ipv4HeaderLength
        | Malformed::Ipv4TotalLength
        | Malformed::Ipv4TotalBeyondFrame
        | Malformed::Ipv4SourceRoute => Reason::MalformedIpv4,
        Malformed::Ipv6Truncated | Malformed::Ipv6PayloadBeyondFrame => Reason::MalformedIpv6,
        Malformed::Ipv6ExtensionTruncated | Malformed::ExtensionChainTooLong => {
            Reason::MalformedExtension
        }
        Malformed::TransportTruncated => Reason::MalformedTransport,
        Malformed::TcpHeaderLength => Reason::MalformedTcp,
        Malformed::UdpLength => Reason::MalformedUdp,
        Malformed::IcmpTruncated => Reason::MalformedIcmp,
        Malformed::TunnelTooDeep => Reason::TunnelTooDeep,
    }
}

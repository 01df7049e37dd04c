//! Evaluates a policy image: address to identity to verdict.
//!
//! The dataplane's main thread calls [`PolicyImage::check`] once per published image; its cores
//! call [`PolicyImage::evaluate`] on the first packet of a flow and when the epoch has moved;
//! control calls the same code to explain. After `check` nothing here can go out of bounds, panic,
//! allocate or take a number of steps that depends on the number of rules. [`mod@reference`] is the
//! obvious twin that evaluates the same image rule by rule.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod burst;
mod check;
mod error;
mod explain;
mod image;
pub mod reference;
mod tables;

pub use burst::{Asked, BURST_KEYS};
pub use error::ImageError;
pub use explain::{End, Explanation, RuleMatch, Standing};
pub use image::{
    IdentityId, Limit, PolicyImage, PortRange, Prefix, Question, Rule, RuleIndex, Segment,
    SegmentIndex, ServiceEntry, Workload,
};

/// What a packet asks of the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// IP protocol number after the extension chain.
    pub proto: u8,
    /// Port of the responder, 0 where the protocol has none.
    pub dport: u16,
    /// ICMP or ICMPv6 type, 0 for every other protocol.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code, 0 for every other protocol.
    pub icmp_code: u8,
}

impl Service {
    /// TCP, UDP or SCTP to a port.
    #[must_use]
    pub const fn port(proto: u8, dport: u16) -> Self {
        Self {
            proto,
            dport,
            icmp_type: 0,
            icmp_code: 0,
        }
    }

    /// ICMP (1) or ICMPv6 (58) of a type and code.
    #[must_use]
    pub const fn icmp(proto: u8, icmp_type: u8, icmp_code: u8) -> Self {
        Self {
            proto,
            dport: 0,
            icmp_type,
            icmp_code,
        }
    }

    /// The 16 bits that the image's tables are keyed by.
    #[must_use]
    pub const fn key(&self) -> u16 {
        abi::image::service_key(self.proto, self.dport, self.icmp_type, self.icmp_code)
    }
}

//! Frames to headers: what a flow processor needs to know of one Ethernet frame.
//!
//! The workers of the dataplane call [`parse`] once per frame and read the answer from a
//! [`Headers`] that they reuse. The room never allocates, panics, reads a clock, or keeps anything
//! from one frame to the next; the work per frame is bounded by the limits in [`ParseOptions`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod bytes;
mod headers;
mod ipv4;
mod ipv6;
mod link;
mod malformed;
mod mpls;
mod options;
mod parse;
mod plain;
mod ppp;
mod quoted;
mod transport;
mod tunnel;

pub use headers::{
    Fragment, Headers, Icmp, IpHeader, KeyHeader, Link, NonIp, Quoted, Sctp, Tcp, Transport,
    Tunnel, TunnelKind, VLAN_TAGS_MAX, Vlan, VlanKind,
};
pub use malformed::Malformed;
pub use options::{
    EXTENSION_HEADERS_MAX, LAYERS_MAX, MPLS_LABELS_MAX, ParseOptions, TUNNEL_DEPTH_MAX,
};
pub use parse::parse;
pub use plain::{Plain, PortPair};

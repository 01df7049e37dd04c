//! The peers: what a user would pick instead, on the same source and the same cores.

mod ovs;
mod testpmd;

use crate::generator::Counts;
use crate::traffic::Traffic;
use std::path::Path;

/// What the subject is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// testpmd: receives and frees.
    Rxonly,
    /// testpmd: receives and sends.
    Io,
    /// testpmd: swaps the MAC addresses, so that it touches the frame.
    #[value(alias = "testpmd")]
    Macswap,
    /// testpmd: swaps addresses and ports, so that it parses the frame.
    #[value(name = "5tswap")]
    #[serde(rename = "5tswap")]
    FiveTupleSwap,
    /// OVS-DPDK: conntrack, and as many rules for new connections.
    Ovs,
    /// The subject alone.
    None,
}

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rxonly => "rxonly",
            Self::Io => "io",
            Self::Macswap => "macswap",
            Self::FiveTupleSwap => "5tswap",
            Self::Ovs => "ovs",
            Self::None => "none",
        }
    }
}

/// How a peer runs.
pub(crate) struct Setup<'a> {
    /// The capture, where that is the source.
    pub(crate) capture: &'a Path,
    /// What the frames are.
    pub(crate) traffic: &'a Traffic,
    /// CPUs of the polling cores; each has a source of its own.
    pub(crate) cores: &'a [usize],
    /// Rules of the policy that the subject has; for a peer that can judge.
    pub(crate) rules: u32,
    /// Seconds that are measured.
    pub(crate) seconds: u32,
}

/// What one run of a peer gave.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Measured {
    /// Packets received per second, of all cores: the median of the readings.
    pub(crate) rate: f64,
    /// Every reading.
    pub(crate) readings: Vec<f64>,
    /// Packets forwarded, of those received, 0 to 1, where the peer tells it.
    pub(crate) forwarded: Option<f64>,
    /// Frames that the generator wrote.
    pub(crate) generated: Option<Counts>,
    /// What the peer says of itself, such as its connections.
    pub(crate) said: Vec<String>,
}

/// Runs a peer; `None` where there is none.
///
/// # Errors
/// A sentence: it is not installed, did not start, or told no rate.
pub(crate) fn run(peer: Peer, setup: &Setup<'_>) -> Result<Option<Measured>, String> {
    match peer {
        Peer::None => Ok(None),
        Peer::Ovs => ovs::run(setup).map(Some),
        Peer::Rxonly | Peer::Io | Peer::Macswap | Peer::FiveTupleSwap => {
            testpmd::run(peer.name(), setup).map(Some)
        }
    }
}

/// Mbufs of the pool of a peer, as the dataplane sizes its own: what is spare, what the captures
/// need, what two ports of each lane hold.
fn pool_mbufs(setup: &Setup<'_>) -> u32 {
    let lanes = setup.cores.len() as u32;
    crate::SPARE_MBUFS + lanes * (setup.traffic.preloaded_frames() + 2 * 2048)
}

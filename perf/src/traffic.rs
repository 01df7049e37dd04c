//! What the frames look like and how many there are, the same for subject and peer, whichever source
//! writes them. `generator.c` holds the same mapping from a flow's number to its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Clients: a flow's number counts through 10.0.0.0/12 first, then through ports.
pub(crate) const CLIENTS: u64 = 1 << 20;
/// 10.0.0.0, the first client.
pub(crate) const CLIENT_BASE: u32 = 0x0a00_0000;
/// 10.240.0.0, the first of the servers.
pub(crate) const SERVER_BASE: u32 = 0x0af0_0000;
/// Servers.
pub(crate) const SERVERS: u64 = 16;
/// 10.15.255.254, from which a scan comes; no flow below 1,048,574 is its own.
pub(crate) const SCANNER: u32 = 0x0a0f_fffe;
/// Port of the servers that established flows use.
pub(crate) const PORT_ESTABLISHED: u16 = 5000;
/// Frames that a capture may hold, so that its mbufs fit into 2 GiB beside everything else.
const CAPTURE_FRAMES_MAX: u64 = 2_000_000;

/// Sizes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub(crate) enum Frame {
    /// 64 bytes with the FCS, which for UDP over IPv6 is 66.
    #[value(name = "64")]
    #[serde(rename = "64")]
    Small,
    /// 64, 594 and 1518 bytes as 7:4:1.
    #[serde(rename = "imix")]
    Imix,
}

/// The order of sizes in twelve frames: indexes of [`Frame::IMIX_BYTES`].
const IMIX_ORDER: [usize; 12] = [0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 2];

impl Frame {
    /// Without FCS.
    const IMIX_BYTES: [u16; 3] = [60, 590, 1514];

    /// Bytes without FCS of the frame at `position` of a source.
    pub(crate) fn bytes_at(self, position: u64) -> u16 {
        match self {
            Self::Small => Self::IMIX_BYTES[0],
            Self::Imix => Self::IMIX_BYTES[IMIX_ORDER[(position % 12) as usize]],
        }
    }
}

/// IP version of the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub(crate) enum Family {
    /// IPv4.
    #[value(name = "4")]
    #[serde(rename = "4")]
    Ipv4,
    /// IPv6.
    #[value(name = "6")]
    #[serde(rename = "6")]
    Ipv6,
}

impl Family {
    /// `4` or `6`.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 6,
        }
    }
}

/// Where the frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// `net_pcap` with `infinite_rx`: a file of one frame per flow and direction.
    Pcap,
    /// `generator.c` on a `net_null` port: frames written in place.
    Generator,
    /// A `net_null` port alone: mbufs without a frame in them, to tell what the generator costs.
    #[value(skip)]
    Bare,
}

/// The traffic of a cell.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Traffic {
    /// Established flows of each source.
    pub(crate) flows: u64,
    /// Replies are there too.
    pub(crate) both_directions: bool,
    /// Of a hundred frames, so many are the first of a new flow.
    pub(crate) new_flow_percent: u8,
    /// Single-packet flows a second of a scan beside everything else.
    pub(crate) scan_per_second: u64,
    /// IP version.
    pub(crate) family: Family,
    /// Frame sizes.
    pub(crate) frame: Frame,
    /// Everything inside one VXLAN tunnel.
    pub(crate) vxlan: bool,
    /// Where the frames come from.
    pub(crate) source: Source,
}

impl Traffic {
    /// `flows` established flows over IPv4 in 64-byte frames, from the source that can hold them.
    pub(crate) fn established(flows: u64, both_directions: bool) -> Self {
        Self {
            flows,
            both_directions,
            new_flow_percent: 0,
            scan_per_second: 0,
            family: Family::Ipv4,
            frame: Frame::Small,
            vxlan: false,
            source: Source::Pcap,
        }
        .with_source(None)
    }

    /// The source asked for, else a capture where it can hold everything, else the generator.
    pub(crate) fn with_source(mut self, source: Option<Source>) -> Self {
        let pcap = if self.needs_generator().is_none() {
            Source::Pcap
        } else {
            Source::Generator
        };
        self.source = source.unwrap_or(pcap);
        self
    }

    /// Why a capture cannot be the source.
    pub(crate) fn needs_generator(&self) -> Option<&'static str> {
        match self {
            _ if self.new_flow_percent > 0 => Some("a file loops, and has no new flows"),
            _ if self.scan_per_second > 0 => Some("a file has no pace for a scan"),
            _ if self.vxlan => Some("only the generator writes tunnels"),
            _ if self.frames() > CAPTURE_FRAMES_MAX => {
                Some("no mbuf pool here holds so many frames")
            }
            _ => None,
        }
    }

    /// Whether the traffic can be made as asked.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.flows == 0 || self.flows > CLIENTS * 25_000 {
            return Err(format!(
                "{} flows: ask for 1 to {}",
                self.flows,
                CLIENTS * 25_000
            ));
        }
        if self.new_flow_percent > 100 {
            return Err("--new-flow-percent is at most 100".into());
        }
        match (self.source, self.needs_generator()) {
            (Source::Pcap, Some(why)) => Err(format!("--source pcap does not do here: {why}")),
            _ => Ok(()),
        }
    }

    /// Frames that a capture of it has.
    pub(crate) fn frames(&self) -> u64 {
        self.flows * if self.both_directions { 2 } else { 1 }
    }

    /// Bytes of an mbuf of the pools, headroom included, for subject and peer alike.
    pub(crate) fn mbuf_bytes(&self) -> u32 {
        match self.frame {
            Frame::Small => 384,
            Frame::Imix => 2048,
        }
    }

    /// Frames that the pool holds for one source.
    pub(crate) fn preloaded_frames(&self) -> u32 {
        match self.source {
            Source::Pcap => self.frames() as u32,
            Source::Generator | Source::Bare => 0,
        }
    }
}

/// The ends of an established flow: the client with its port, the server with its.
pub(crate) fn ends(flow: u64, family: Family) -> ((IpAddr, u16), (IpAddr, u16)) {
    let client = CLIENT_BASE | (flow % CLIENTS) as u32;
    let server = SERVER_BASE | ((flow >> 3) % SERVERS) as u32;
    let port = 40_000 + (flow / CLIENTS) as u16;
    (
        (address(client, family), port),
        (address(server, family), PORT_ESTABLISHED),
    )
}

/// An address of the plan: IPv4, or the same 32 bits under fd00::/96.
pub(crate) fn address(bits: u32, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(bits).into(),
        Family::Ipv6 => Ipv6Addr::from((0xfd << 120) | u128::from(bits)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_flow_has_ends_of_its_own() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let near = (0..5_000).chain(CLIENTS - 100..CLIENTS + 100);
            let all: HashSet<_> = near.clone().map(|flow| ends(flow, family)).collect();
            assert_eq!(all.len(), near.count());
        }
    }

    #[test]
    fn the_source_is_the_one_that_can_hold_the_traffic() {
        assert_eq!(Traffic::established(1_000_000, true).source, Source::Pcap);
        let large = Traffic::established(10_000_000, false);
        assert_eq!(large.source, Source::Generator);
        assert!(large.with_source(Some(Source::Pcap)).check().is_err());
        let new = Traffic {
            new_flow_percent: 1,
            ..Traffic::established(10, false)
        };
        assert_eq!(new.with_source(None).source, Source::Generator);
    }

    #[test]
    fn twelve_frames_of_the_mix_are_seven_four_and_one() {
        let mut sizes: Vec<_> = (0..12).map(|at| Frame::Imix.bytes_at(at)).collect();
        sizes.sort_unstable();
        assert_eq!(sizes[6..8], [60, 590]);
        assert_eq!(sizes[10..], [590, 1514]);
    }
}

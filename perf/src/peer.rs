//! The peer: `dpdk-testpmd` on the same source, one polling core.

use std::path::Path;
use std::process::{Command, Stdio};

/// What testpmd does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// Receives and frees.
    Rxonly,
    /// Receives and sends.
    Io,
    /// Swaps the MAC addresses: touches the frame.
    Macswap,
    /// Swaps addresses and ports: parses the frame.
    #[value(name = "5tswap")]
    #[serde(rename = "5tswap")]
    FiveTupleSwap,
}

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rxonly => "rxonly",
            Self::Io => "io",
            Self::Macswap => "macswap",
            Self::FiveTupleSwap => "5tswap",
        }
    }
}

/// Runs testpmd for `seconds` on `core` and returns packets received per second, the median of
/// its own readings after the first.
///
/// # Errors
/// A sentence: testpmd is not installed, did not start, or printed no rate.
pub(crate) fn run(
    peer: Peer,
    capture: &Path,
    frames: u32,
    core: usize,
    seconds: u32,
) -> Result<f64, String> {
    let main = usize::from(core == 0);
    let output = Command::new("timeout")
        .args([
            "-s",
            "INT",
            "-k",
            "5",
            &(seconds + 4).to_string(),
            "dpdk-testpmd",
        ])
        .args([
            "-l",
            &format!("{main},{core}"),
            "--main-lcore",
            &main.to_string(),
            "--no-pci",
        ])
        .args([
            "--file-prefix",
            &format!("ringfence-perf-{}", std::process::id()),
            "--in-memory",
            "--no-telemetry",
        ])
        .args([
            "--vdev",
            &format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display()),
        ])
        .args(["--vdev", "net_null0,no-rx=1", "--"])
        .args([
            &format!("--forward-mode={}", peer.name()),
            "--stats-period=1",
            "--nb-cores=1",
        ])
        .args([
            "--auto-start",
            "--no-flush-rx",
            &format!("--mbuf-size={}", crate::MBUF_BYTES),
        ])
        .arg(format!("--total-num-mbufs={}", crate::pool_mbufs(frames)))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("dpdk-testpmd did not start ({error}); install it with `apt-get install dpdk`")
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut rates: Vec<f64> = received_rates(&text);
    if rates.len() < 3 {
        let last = String::from_utf8_lossy(&output.stderr);
        let last = last
            .lines()
            .last()
            .unwrap_or("nothing on stderr")
            .to_owned();
        return Err(format!(
            "dpdk-testpmd printed {} rates, at least 3 are needed; it said: {last}",
            rates.len()
        ));
    }
    rates.drain(..1);
    Ok(crate::median(&mut rates))
}

/// The rates of the port that receives: of each pair of `Rx-pps:` the larger.
fn received_rates(text: &str) -> Vec<f64> {
    let all: Vec<f64> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Rx-pps:"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    all.chunks_exact(2)
        .map(|pair| pair[0].max(pair[1]))
        .filter(|rate| *rate > 0.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_the_receiving_port_is_read() {
        let text = "  Rx-pps:       0   Rx-bps: 0\n  Tx-pps: 9\n Rx-pps:  0  Rx-bps: 0\n\
                    Rx-pps:     21000000          Rx-bps:  1\n Rx-pps:            0  Rx-bps: 0\n";
        assert_eq!(received_rates(text), [21_000_000.0]);
    }
}

//! Frames to run on: a capture with one 60-byte frame (64 with FCS) for each of N flows, the same
//! file for the subject and for its peer.

use std::io::{BufWriter, Write};
use std::path::Path;

/// Bytes of one generated frame, without the FCS that a wire adds: 64 with it.
const FRAME_BYTES: usize = 60;

/// What the frames look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// UDP over IPv4.
    Ipv4,
}

/// Writes a capture of `flows` frames, each of another flow, in an order that no cache likes.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_capture(path: &Path, flows: u32, family: Family) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    // pcap file header: magic (microseconds), 2.4, zone, accuracy, snap length, Ethernet.
    out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    out.write_all(&65_535_u32.to_le_bytes())?;
    out.write_all(&1_u32.to_le_bytes())?;
    let captured = (FRAME_BYTES as u32).to_le_bytes();
    for position in 0..flows {
        let flow = scattered(position, flows);
        let micros = u64::from(position);
        out.write_all(&((micros / 1_000_000) as u32).to_le_bytes())?;
        out.write_all(&((micros % 1_000_000) as u32).to_le_bytes())?;
        out.write_all(&captured)?;
        out.write_all(&captured)?;
        match family {
            Family::Ipv4 => out.write_all(&ipv4_udp(flow))?,
        }
    }
    out.flush()
}

/// A permutation of `0..count`: multiplies by a number prime to it.
fn scattered(position: u32, count: u32) -> u32 {
    let mut step = 2_654_435_761_u64 % u64::from(count.max(1));
    while greatest_common_divisor(step, u64::from(count)) != 1 {
        step += 1;
    }
    ((u64::from(position) * step) % u64::from(count)) as u32
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

fn ipv4_udp(flow: u32) -> [u8; FRAME_BYTES] {
    let mut frame = [0_u8; FRAME_BYTES];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let ip_bytes = (FRAME_BYTES - 14) as u16;
    frame[14..16].copy_from_slice(&[0x45, 0]);
    frame[16..18].copy_from_slice(&ip_bytes.to_be_bytes());
    frame[20..22].copy_from_slice(&[0x40, 0]);
    frame[22..24].copy_from_slice(&[64, 17]);
    // 10.0.0.0/8 clients, 16 servers.
    frame[26..30].copy_from_slice(&(0x0a00_0000 | (flow & 0x000f_ffff)).to_be_bytes());
    frame[30..34].copy_from_slice(&(0x0af0_0000 | (flow % 16)).to_be_bytes());
    let sum: u32 = frame[14..34]
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    frame[34..36].copy_from_slice(&(20_000 + (flow >> 20) as u16).to_be_bytes());
    frame[36..38].copy_from_slice(&5000_u16.to_be_bytes());
    frame[38..40].copy_from_slice(&(ip_bytes - 20).to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_frame_is_a_flow_of_its_own() {
        let frames: HashSet<_> = (0..5000).map(|p| ipv4_udp(scattered(p, 5000))).collect();
        assert_eq!(frames.len(), 5000);
    }
}

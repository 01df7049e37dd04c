//! A capture with one frame for each flow, or one each way, the same file for subject and peer.

use crate::traffic::{Traffic, ends};
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;

/// Smallest frame of UDP over IPv6: Ethernet, IPv6, UDP.
const IPV6_UDP_BYTES: usize = 14 + 40 + 8;

/// Writes the capture. Flows come in an order that no cache likes; the first frame of a flow goes
/// before its reply, and half of the flows stand between the two.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_capture(path: &Path, traffic: &Traffic) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    // pcap file header: magic (microseconds), 2.4, zone, accuracy, snap length, Ethernet.
    out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    out.write_all(&65_535_u32.to_le_bytes())?;
    out.write_all(&1_u32.to_le_bytes())?;
    for (position, (flow, is_reply)) in (0_u64..).zip(order(traffic)) {
        let frame = frame(traffic, position, flow, is_reply);
        let bytes = (frame.len() as u32).to_le_bytes();
        out.write_all(&((position / 1_000_000) as u32).to_le_bytes())?;
        out.write_all(&((position % 1_000_000) as u32).to_le_bytes())?;
        out.write_all(&bytes)?;
        out.write_all(&bytes)?;
        out.write_all(&frame)?;
    }
    out.flush()
}

/// Flows of the frames of a capture, and whether each is a reply.
fn order(traffic: &Traffic) -> impl Iterator<Item = (u64, bool)> {
    let (count, both) = (traffic.flows, traffic.both_directions);
    let step = step(count);
    let flow =
        move |position: u64| ((u128::from(position) * u128::from(step)) % u128::from(count)) as u64;
    let lag = count.div_ceil(2);
    let beats = if both { count + lag } else { count };
    (0..beats).flat_map(move |beat| {
        let forward = (beat < count).then(|| (flow(beat), false));
        let reply = (both && beat >= lag).then(|| (flow(beat - lag), true));
        forward.into_iter().chain(reply)
    })
}

/// A step prime to `count`: its multiples are a permutation.
fn step(count: u64) -> u64 {
    let mut step = 2_654_435_761 % count.max(1);
    while greatest_common_divisor(step, count) != 1 {
        step += 1;
    }
    step
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// One frame of UDP, with right checksums (none for UDP over IPv4, which may leave it out).
fn frame(traffic: &Traffic, position: u64, flow: u64, is_reply: bool) -> Vec<u8> {
    let (client, server) = ends(flow, traffic.family);
    let (src, dst) = if is_reply {
        (server, client)
    } else {
        (client, server)
    };
    let bytes = usize::from(traffic.frame.bytes_at(position));
    match (src.0, dst.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut frame = ethernet(0x0800, bytes);
            ipv4(&mut frame[14..34], from.octets(), to.octets(), bytes - 14);
            udp(&mut frame[34..], src.1, dst.1);
            frame
        }
        (from, to) => {
            let mut frame = ethernet(0x86dd, bytes.max(IPV6_UDP_BYTES));
            let payload = (frame.len() - 54) as u16;
            frame[14] = 0x60;
            frame[18..20].copy_from_slice(&payload.to_be_bytes());
            frame[20..22].copy_from_slice(&[17, 64]);
            frame[22..38].copy_from_slice(&sixteen(from));
            frame[38..54].copy_from_slice(&sixteen(to));
            udp(&mut frame[54..], src.1, dst.1);
            // The pseudo header of RFC 8200 section 8.1: addresses, length, next header.
            let rest = u32::from(payload) + 17;
            let checksum = match internet_checksum(&frame[22..], rest) {
                0 => 0xffff,
                sum => sum,
            };
            frame[60..62].copy_from_slice(&checksum.to_be_bytes());
            frame
        }
    }
}

fn ethernet(ether_type: u16, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
    frame
}

fn ipv4(header: &mut [u8], from: [u8; 4], to: [u8; 4], ip_bytes: usize) {
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(ip_bytes as u16).to_be_bytes());
    header[6] = 0x40;
    header[8..10].copy_from_slice(&[64, 17]);
    header[12..16].copy_from_slice(&from);
    header[16..20].copy_from_slice(&to);
    let checksum = internet_checksum(header, 0);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn udp(datagram: &mut [u8], from: u16, to: u16) {
    let bytes = datagram.len() as u16;
    datagram[..2].copy_from_slice(&from.to_be_bytes());
    datagram[2..4].copy_from_slice(&to.to_be_bytes());
    datagram[4..6].copy_from_slice(&bytes.to_be_bytes());
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// RFC 1071, over `bytes` and what is already summed.
fn internet_checksum(bytes: &[u8], begun: u32) -> u16 {
    let words = bytes.chunks(2);
    let mut sum: u32 = begun
        + words
            .map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)))
            .sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Family, Frame};
    use std::collections::HashSet;

    #[test]
    fn every_frame_is_a_flow_of_its_own() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let traffic = Traffic {
                family,
                ..Traffic::established(5000, false)
            };
            let frames = order(&traffic).map(|(flow, reply)| frame(&traffic, 0, flow, reply));
            assert_eq!(frames.collect::<HashSet<_>>().len(), 5000);
        }
    }

    #[test]
    fn replies_follow_their_flow_and_never_stand_beside_it() {
        for flows in [1, 2, 7, 1000] {
            let traffic = Traffic::established(flows, true);
            let order: Vec<_> = order(&traffic).collect();
            assert_eq!(order.len() as u64, 2 * flows);
            assert_eq!(order.iter().collect::<HashSet<_>>().len() as u64, 2 * flows);
            for (at, (flow, is_reply)) in order.iter().enumerate() {
                let first = order.iter().position(|seen| seen == &(*flow, false));
                assert!(!is_reply || first.is_some_and(|first| first < at));
                assert!(flows < 8 || !is_reply || first.is_some_and(|first| first + 2 < at));
            }
        }
    }

    #[test]
    fn checksums_are_right() {
        let traffic = Traffic::established(10, true);
        let four = frame(&traffic, 0, 7, true);
        assert_eq!(internet_checksum(&four[14..34], 0), 0);
        let traffic = Traffic {
            family: Family::Ipv6,
            frame: Frame::Imix,
            ..traffic
        };
        for position in [0, 2, 11] {
            let six = frame(&traffic, position, 7, false);
            let length = u32::from(six[18]) << 8 | u32::from(six[19]);
            assert_eq!(internet_checksum(&six[22..], length + 17), 0);
        }
    }
}

//! Nanoseconds that the receiver of a lane of several workers spends to say whose a frame is.
//!
//! `cargo run --release -p ringfence-dataplane --example steer_path [KIND]`, pinned to one core. Under
//! `valgrind --tool=callgrind --toggle-collect='*owners_of*'` the instructions divided by the packets
//! are the figure that no other load disturbs.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::expect_used,
    reason = "a benchmark reads the clock, prints, and may fail"
)]

use dataplane::config::Config;
use dataplane::port::{BURST_MAX, MemoryFrame};
use dataplane::steer::Steering;
use std::time::Instant;

const BURSTS: usize = 4096;
const PIECES: usize = 200;
const KINDS: [&str; 4] = ["udp", "vlan", "udp6", "vxlan"];

fn ipv4(protocol: u8, flow: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    let length = u16::try_from(20 + payload.len()).expect("short");
    frame.extend(length.to_be_bytes());
    frame.extend([
        0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, flow, 10, 240, 0, 1,
    ]);
    frame.extend(payload);
    frame
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x4e, 0x20];
    datagram.extend(port.to_be_bytes());
    let length = u16::try_from(8 + payload.len()).expect("short");
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn frame(kind: &str, flow: u8) -> MemoryFrame {
    let plain = ipv4(17, flow, &udp(5000, &[0; 18]));
    MemoryFrame::new(match kind {
        "vlan" => {
            let mut tagged = plain;
            tagged.splice(12..12, [0x81, 0, 0, 7]);
            tagged
        }
        "udp6" => {
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
            frame.extend([0x60, 0, 0, 0, 0, 26, 17, 64]);
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, flow]);
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
            frame.extend(udp(5000, &[0; 18]));
            frame
        }
        "vxlan" => {
            let mut payload = vec![8, 0, 0, 0, 0, 0, 42, 0];
            payload.extend(plain);
            ipv4(17, 1, &udp(4789, &payload))
        }
        _ => plain,
    })
}

#[inline(never)]
fn owners_of(steering: &mut Steering, frames: &[MemoryFrame]) -> usize {
    frames.iter().map(|frame| steering.owner(frame)).sum()
}

fn main() {
    let only = std::env::args().find(|argument| KINDS.contains(&argument.as_str()));
    for kind in KINDS {
        if only.as_deref().is_some_and(|only| only != kind) {
            continue;
        }
        let mut steering = Steering::new(&Config::default(), 2, [1, 2, 3, 4]);
        let frames: Vec<_> = (0..BURST_MAX)
            .map(|flow| frame(kind, u8::try_from(flow).expect("few")))
            .collect();
        let mut foreign = 0;
        let mut pieces: Vec<f64> = (0..PIECES)
            .map(|_| {
                let began = Instant::now();
                for _ in 0..BURSTS / PIECES.min(BURSTS) {
                    foreign += owners_of(&mut steering, std::hint::black_box(&frames));
                }
                let packets = (BURSTS / PIECES * BURST_MAX) as f64;
                began.elapsed().as_nanos() as f64 / packets
            })
            .collect();
        pieces.sort_by(f64::total_cmp);
        let packets = BURSTS / PIECES * PIECES * BURST_MAX;
        println!(
            "{kind:>5}  best tenth {:5.1}  median {:5.1} ns/packet  {packets} packets, {foreign} another worker's",
            pieces[PIECES / 10],
            pieces[PIECES / 2]
        );
    }
}

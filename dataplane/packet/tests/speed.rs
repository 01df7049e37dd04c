//! How long one frame takes. Not a pass or fail: run it in release and read the numbers,
//! `cargo test --release -p ringfence-packet --test speed -- --ignored --nocapture`.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "it measures and prints"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "frames of the tests are short"
)]

mod support;

use std::hint::black_box;
use std::time::Instant;

use packet::{Headers, ParseOptions, parse};
use support::frames::{self, ethernet, ipv4, ipv6, tcp, udp};

/// Short batches, of which the best counts: on a shared machine some run undisturbed.
const ROUNDS: u32 = 20_000;
const BATCHES: u32 = 1_000;

fn nanoseconds_per_frame(frame: &[u8]) -> f64 {
    let options = ParseOptions::default();
    let mut headers = Headers::new();
    let wire_len = frame.len() as u32;
    let mut best = f64::MAX;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            parse(
                black_box(frame),
                wire_len,
                black_box(&options),
                &mut headers,
            );
            black_box(&headers);
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
    }
    best
}

#[test]
#[ignore = "a measurement"]
fn time_per_frame() {
    println!("Headers: {} bytes", size_of::<Headers>());
    let short = [0; 6];
    let cases = [
        (
            "ipv4 tcp",
            ethernet(0x0800, &ipv4(6, &tcp(40000, 443, 0x10, &short))),
        ),
        (
            "ipv4 udp",
            ethernet(0x0800, &ipv4(17, &udp(40000, 53, &[0; 18]))),
        ),
        (
            "ipv6 tcp",
            ethernet(0x86dd, &ipv6(6, &tcp(40000, 443, 0x10, &short))),
        ),
        (
            "ipv6 udp",
            ethernet(0x86dd, &ipv6(17, &udp(40000, 53, &short))),
        ),
    ];
    let rest = frames::corpus().into_iter().filter(|(name, _)| {
        [
            "icmp echo",
            "vlan",
            "qinq",
            "mpls",
            "ipip",
            "gre",
            "vxlan",
            "geneve",
            "gtp",
        ]
        .contains(name)
    });
    for (name, frame) in cases.into_iter().chain(rest) {
        println!(
            "{name:12} {:4} bytes {:6.1} ns",
            frame.len(),
            nanoseconds_per_frame(&frame)
        );
    }
}

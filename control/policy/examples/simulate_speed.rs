//! How many conversations a second a simulation takes, and how that grows with the number of edges.
//!
//! `cargo run --release -p ringfence-policy --example simulate_speed [CONVERSATIONS]`

#![expect(clippy::unwrap_used, reason = "an example may panic")]

use abi::verdict::InitiatorEvidence;
use abi::{Action, VerdictSource};
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr};
use policy::simulate::{Before, Listing, NameThen, Observed, Simulation, Sums, Verdict};
use std::sync::Arc;
use std::time::Instant;

/// Conversations where the command line says nothing.
const CONVERSATIONS: u64 = 100_000_000;
/// Conversations of one edge that come one after the other: history keeps them by hour and ends, and most that speak at
/// all in an hour speak more than once.
const IN_A_ROW: u64 = 3;
/// Segments of the draft, each a /24 that asks the next one.
const SEGMENTS: u32 = 200;

fn draft() -> String {
    let mut text = String::from("[policy]\nname = \"speed\"\n");
    for number in 0..SEGMENTS {
        writeln!(
            text,
            "[[segment]]\nname = \"s{number}\"\naddresses = [\"10.{number}.0.0/16\"]\nmode = \"enforce\""
        )
        .unwrap();
        let next = (number + 1) % SEGMENTS;
        writeln!(
            text,
            "[[rule]]\nname = \"r{number}\"\nfrom = [\"s{number}\"]\nto = [\"s{next}\"]\naction = \"allow\""
        )
        .unwrap();
    }
    text
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// An address within the draft's segments.
fn address(number: u64) -> IpAddr {
    let [a, b, c, ..] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, a % 200, b % 4, c % 64))
}

fn main() {
    let wanted = std::env::args().nth(1).map(|text| text.parse().unwrap());
    let conversations: u64 = wanted.unwrap_or(CONVERSATIONS);
    let today = jiff::civil::date(2026, 11, 23);
    let valid = policy::load(&draft(), "speed.toml", today).unwrap();
    let compiled = policy::compile(&valid, 1, today).unwrap();
    let verdict = Verdict {
        action: Action::Allow,
        source: VerdictSource::Rule,
        rule: Some(Arc::from("old")),
    };
    let before = Before {
        enforced: verdict.clone(),
        pending: verdict,
    };
    let name: Arc<str> = Arc::from("host");
    println!("order       edges       conversations  seconds  conversations/s  newly denied");
    let cells = [10_000_u64, 100_000, 1_000_000]
        .into_iter()
        .flat_map(|edges| [("by ends", edges, IN_A_ROW), ("any", edges, 1)]);
    for (order, edges, in_a_row) in cells {
        let mut simulation = Simulation::new(&valid, &compiled, mix(edges));
        let began = Instant::now();
        for at in 0..conversations {
            let edge = mix(mix(at / in_a_row) % edges);
            simulation.push(&Observed {
                src: address(edge),
                dst: address(mix(edge)),
                src_then: NameThen::Named(&name),
                dst_then: NameThen::Unnamed,
                proto: 6,
                port: 443,
                evidence: InitiatorEvidence::Syn,
                folded: false,
                before: &before,
                sums: Sums {
                    flows: 1,
                    pkts_fwd: 10,
                    pkts_rev: 8,
                    bytes: 9_000,
                },
                first_ns: at,
                last_ns: at + 1,
            });
        }
        let outcome = simulation.finish(&Listing {
            unchanged: false,
            limit: Some(50),
        });
        let seconds = began.elapsed().as_secs_f64();
        let rate = conversations as f64 / seconds;
        println!(
            "{order:<10}  {:<10}  {conversations:>13}  {seconds:>7.1}  {rate:>15.0}  {:>12}",
            outcome.edge_count, outcome.enforced.newly_denied.flows
        );
    }
}

//! Nanoseconds a packet through one core, without ports: read, looked up, counted, judged.
//!
//! `cargo run --release -p ringfence-dataplane --example packet_path [FLOWS ...]`, pinned to one
//! core. Each figure is the best tenth of the pieces and their median; under `valgrind
//! --tool=callgrind` the instructions of `Core::process` divided by the packets are the figure that no
//! other load disturbs.
//!
//! Two kinds have no live flows. `new`: every packet opens a flow of a source of its own, permitted,
//! which ends unanswered; entry, ageing and record are included, and the ring is emptied between
//! pieces. `scan`: every packet is denied and comes from one source, which is folded. For these the
//! number given is the size of the flow cache.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::expect_used,
    reason = "a benchmark reads the clock, prints, and may fail"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of the benchmark are small"
)]

use abi::shm::{Region, RegionOptions};
use dataplane::adopt::Publisher;
use dataplane::config::{Config, LaneConfig, Pass};
use dataplane::core::{Core, Ingress};
use dataplane::export::RecordSink;
use dataplane::port::{BURST_MAX, Frame};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bursts timed together.
const PIECE: usize = 64;
/// Pieces timed.
const PIECES: usize = 3000;
const KINDS: [&str; 4] = ["udp", "tcp", "udp6", "vlan"];
/// Kinds in which no packet finds a flow.
const NEW_KINDS: [&str; 2] = ["new", "scan"];
/// What a burst takes at four million packets a second, nanoseconds.
const NEW_BURST_NS: u64 = 16_000;
/// Time of the first packet.
const START: u64 = 1_700_000_000_000_000_000;

/// A frame in static memory.
struct Still(Vec<u8>);

impl Frame for Still {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn wire_bytes(&self) -> u32 {
        self.0.len() as u32
    }

    fn captured_ns(&self) -> Option<u64> {
        None
    }
}

/// The last byte of the other end's address is such that it is now the lower, now the upper end.
fn frame(kind: &str, flow: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if kind == "vlan" {
        frame.extend([0x81, 0, 0, 7]);
    }
    let protocol = if kind == "tcp" { 6 } else { 17 };
    if kind == "udp6" {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, protocol, 64]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(flow.to_be_bytes());
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    } else {
        frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend((0x0a00_0000 + flow).to_be_bytes());
        frame.extend([10, 240, 0, 0x80]);
    }
    frame.extend([0x4e, 0x20, 0x13, 0x88, 0, 26, 0, 0]);
    frame.extend([0, 0, 0, 0, 0x50, 0x10, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame
}

/// Makes the frame one of this flow: the last four bytes of the source address.
fn set_flow(kind: &str, frame: &mut [u8], flow: u32) {
    let at = match kind {
        "vlan" => 30,
        "udp6" => 34,
        _ => 26,
    };
    if let Some(bytes) = frame.get_mut(at..at + 4) {
        bytes.copy_from_slice(&(0x0a00_0000 + flow).to_be_bytes());
    }
}

fn core(kind: &str, flows: u32) -> (Core, Region) {
    let lane = LaneConfig {
        mirror: Some("memory".into()),
        ..LaneConfig::default()
    };
    let mut config = Config {
        lanes: vec![lane],
        ..Config::default()
    };
    config.flow.flows_max = flows.next_power_of_two() as usize;
    if kind == "scan" {
        config.exception.no_policy = Pass::Drop;
    }
    if NEW_KINDS.contains(&kind) {
        // Flows end by their timeout where the cache holds a second of them, else by eviction.
        config.flow.idle_udp_single = Duration::from_millis(100);
    }
    let config = config.validate().expect("a valid configuration");
    let region = Region::anonymous(RegionOptions::new(1, 2, [7; 16])).expect("a region");
    let (_, mut subscribers) = Publisher::new(1);
    let producer = region.producer(0).expect("a producer");
    let sink = RecordSink::new(producer, Arc::default(), false);
    let writer = region.core_writer(0).expect("a writer");
    let core = Core::new(&config, 0, subscribers.remove(0), sink, writer).expect("a core");
    (core, region)
}

fn measure(kind: &str, flows: u32) {
    let flows = flows.next_power_of_two().max(1024);
    let (mut core, _region) = core(kind, flows);
    // As a device would: the frames of a burst are written before it is received.
    let mut frames: Vec<Still> = (0..BURST_MAX).map(|_| Still(frame(kind, 0))).collect();
    let ingress = Ingress::inline(0, 1, 1600);
    // Odd, and flows is rounded up to a power of two: every flow has its turn.
    let (mut now, mut flow, step) = (START, 0, 40_503 % flows);
    let mut run = |count: usize| {
        let began = Instant::now();
        for _ in 0..count {
            for frame in &mut frames {
                // Out of order, so that entries do not lie in the order of their use.
                flow += step;
                while flow >= flows {
                    flow -= flows;
                }
                set_flow(kind, &mut frame.0, flow);
            }
            now += 1000;
            core.process(&frames, ingress, now);
        }
        began.elapsed().as_nanos() as f64 / (count * BURST_MAX) as f64
    };
    run(2 * flows as usize / BURST_MAX);
    let mut pieces: Vec<f64> = (0..PIECES).map(|_| run(PIECE)).collect();
    pieces.sort_by(f64::total_cmp);
    let (best, median) = (pieces[PIECES / 10], pieces[PIECES / 2]);
    let counters = core.counters();
    assert_eq!(counters.permitted_packets, counters.rx_packets);
    println!("{kind:>5} {flows:>8} flows  best tenth {best:5.1}  median {median:5.1} ns/packet");
}

/// As [`measure`], where every packet would open a flow.
fn measure_new(kind: &str, flows: u32) {
    let (mut core, region) = core(kind, flows);
    let mut consumer = region
        .view()
        .attach(0, 1)
        .expect("worker 0")
        .expect("a seat");
    let mut batch = vec![zerocopy::FromZeros::new_zeroed(); 4096];
    let mut frames: Vec<Still> = (0..BURST_MAX).map(|_| Still(frame("udp", 0))).collect();
    let ingress = Ingress::inline(0, 1, 1600);
    let (mut now, mut flow) = (START, 0_u32);
    let mut run = |count: usize, core: &mut Core| {
        let began = Instant::now();
        for _ in 0..count {
            for frame in &mut frames {
                flow = flow.wrapping_add(1);
                if kind == "new" {
                    set_flow("udp", &mut frame.0, flow);
                } else if let Some(bytes) = frame.0.get_mut(30..34) {
                    bytes.copy_from_slice(&flow.to_be_bytes());
                }
            }
            now += NEW_BURST_NS;
            core.process(&frames, ingress, now);
            core.sweep(now);
        }
        core.end_round(now, true, false);
        let spent = began.elapsed().as_nanos() as f64 / (count * BURST_MAX) as f64;
        while consumer.read(&mut batch).expect("the only consumer") > 0 {
            consumer.release().expect("the only consumer");
        }
        spent
    };
    // As long as it takes to fill the cache, or for its flows to time out.
    for _ in 0..2 * flows as usize / BURST_MAX / PIECE {
        run(PIECE, &mut core);
    }
    let mut pieces: Vec<f64> = (0..PIECES).map(|_| run(PIECE, &mut core)).collect();
    pieces.sort_by(f64::total_cmp);
    let (best, median) = (pieces[PIECES / 10], pieces[PIECES / 2]);
    core.commit(now);
    let c = core.counters();
    assert_eq!(c.shed_records, 0, "the ring was emptied in time");
    println!(
        "{kind:>5} {flows:>8} flows  best tenth {best:5.1}  median {median:5.1} ns/packet  records {} evicted {} timed out {} folded {}",
        c.records, c.flows_evicted, c.flows_ended_idle, c.folded_flows
    );
}

fn main() {
    // Names a kind first to measure only that one.
    let is_kind = |a: &String| KINDS.contains(&a.as_str()) || NEW_KINDS.contains(&a.as_str());
    let only = std::env::args().find(is_kind);
    let mut flows: Vec<u32> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if flows.is_empty() {
        flows = vec![1024, 131_072];
    }
    for flows in flows {
        for kind in KINDS {
            if only.as_ref().is_none_or(|only| only == kind) {
                measure(kind, flows);
            }
        }
        for kind in NEW_KINDS {
            if only.as_ref().is_none_or(|only| only == kind) {
                measure_new(kind, flows);
            }
        }
    }
}

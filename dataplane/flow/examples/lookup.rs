//! Nanoseconds a packet: hash, look up and account in bursts of 32, for growing numbers of flows.
//!
//! `cargo run --release -p ringfence-flow --example lookup [FLOWS ...]`, pinned to one core.
//!
//! Flows are picked at random. Time is taken over pieces of 64 bursts, much shorter than a time
//! slice, so that what else runs on the machine spoils few of them; each figure is the best tenth
//! of the pieces and their median. `find` is hash, both prefetches and the compare; the others
//! also account and read the verdict. `data` is TCP with payload, whose sequence numbers are
//! followed where `tcp_quality` is on.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and prints"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of the benchmark are small"
)]

use abi::record::FlowRecord;
use flow::{
    Admission, CacheOptions, FlowCache, FlowHash, FlowIndex, FlowKey, NewFlow, PacketFacts, Path,
    SWEEP_PERIOD_NS, Side, Step, TcpFlags, TransportFacts, Tuple, proto,
};
use std::hint::black_box;
use std::time::Instant;

const BURST: usize = 32;
/// Packets timed together.
const PIECE: usize = 64 * BURST;
/// Pieces timed, each with flows of its own.
const PIECES: usize = 3000;

/// splitmix64.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn address(host: u64) -> [u8; 16] {
    let mut address = [0; 16];
    address[10..12].fill(0xff);
    address[12..].copy_from_slice(&(0x0a00_0000 + host as u32).to_be_bytes());
    address
}

fn tuple(n: u64, proto: u8) -> Tuple {
    let src_port = 32_768 + (n >> 16) as u16;
    Tuple {
        src: address(n & 0xffff),
        dst: address(1 << 20),
        src_port,
        dst_port: 443,
        proto,
    }
}

fn back(t: Tuple) -> Tuple {
    Tuple {
        src: t.dst,
        dst: t.src,
        src_port: t.dst_port,
        dst_port: t.src_port,
        ..t
    }
}

fn tcp(flags: u16, seq: u32, payload_bytes: u32) -> PacketFacts {
    let transport = TransportFacts::Tcp {
        flags,
        seq,
        ack: 1,
        payload_bytes,
    };
    PacketFacts {
        ip_bytes: 40 + payload_bytes,
        tos: 0,
        ipv6: false,
        transport,
    }
}

fn plain() -> PacketFacts {
    PacketFacts {
        ip_bytes: 64,
        tos: 0,
        ipv6: false,
        transport: TransportFacts::Plain,
    }
}

/// A cache with `flows` established flows, and how long one new flow took, nanoseconds.
fn fill(flows: u64, proto: u8, quality: bool) -> (FlowCache, (f64, f64)) {
    let options = CacheOptions {
        flows_max: u32::try_from(flows).expect("flows fit u32"),
        tcp_quality: quality,
        ..CacheOptions::default()
    };
    let mut cache = FlowCache::new(&options, [mix(1), mix(2)]).expect("memory");
    let path = Path::default();
    let mut sink = |_: &FlowRecord| panic!("nothing ends here");
    let steps: &[(bool, u16)] = if proto == proto::TCP {
        &[
            (true, TcpFlags::SYN),
            (false, TcpFlags::SYN | TcpFlags::ACK),
            (true, TcpFlags::ACK | TcpFlags::PSH),
        ]
    } else {
        &[(true, 0), (false, 0)]
    };
    let mut pieces = Vec::new();
    let mut spent = 0;
    for n in 0..flows {
        for (i, (forward, flags)) in steps.iter().enumerate() {
            let t = tuple(n, proto);
            let facts = if proto == proto::TCP {
                tcp(*flags, 0, 0)
            } else {
                plain()
            };
            let new = NewFlow {
                facts: &facts,
                ingress_port: 0,
                path: &path,
            };
            let (key, side) = FlowKey::new(&if *forward { t } else { back(t) }, 0);
            let start = Instant::now();
            let hash = cache.hash(&key);
            let admission = cache.insert(hash, &key, side, &new, 1, &mut sink);
            if i == 0 {
                spent += start.elapsed().as_nanos();
            }
            if i == 0 && n % 100 == 99 {
                pieces.push(spent as f64 / 100.0);
                spent = 0;
            }
            assert!(admission != Admission::Full, "no room at {n}");
        }
    }
    assert_eq!(cache.counters().flows_established, flows);
    (cache, sorted(pieces))
}

struct Lanes {
    keys: Vec<(FlowKey, Side)>,
    hashes: [FlowHash; BURST],
    found: [Option<FlowIndex>; BURST],
}

fn burst(cache: &mut FlowCache, lanes: &mut Lanes, at: usize, facts: &PacketFacts, count: bool) {
    let keys = &lanes.keys[at..at + BURST];
    for (hash, (key, _)) in lanes.hashes.iter_mut().zip(keys) {
        *hash = cache.hash(key);
        cache.prefetch_bucket(*hash);
    }
    for (hash, (key, _)) in lanes.hashes.iter().zip(keys) {
        let _ = cache.prefetch_entry(*hash, key.proto());
    }
    for (i, (key, _)) in keys.iter().enumerate() {
        lanes.found[i] = cache.find(lanes.hashes[i], key);
    }
    if !count {
        return;
    }
    let mut sink = |_: &FlowRecord| panic!("nothing ends here");
    for (index, (_, side)) in lanes.found.iter().zip(keys) {
        let index = index.expect("every flow is in the cache");
        let step = cache.account(index, *side, facts, 2, &mut sink);
        assert!(step == Step::Counted);
        black_box(cache.verdict(index, 0));
    }
}

/// Best tenth and median.
fn sorted(mut pieces: Vec<f64>) -> (f64, f64) {
    pieces.sort_by(f64::total_cmp);
    (pieces[pieces.len() / 10], pieces[pieces.len() / 2])
}

fn measure(
    cache: &mut FlowCache,
    flows: u64,
    proto: u8,
    facts: &PacketFacts,
    count: bool,
) -> (f64, f64) {
    let pick = |i: usize| FlowKey::new(&tuple(mix(i as u64) % flows, proto), 0);
    let mut lanes = Lanes {
        keys: vec![pick(0); PIECE],
        hashes: [FlowHash::default(); BURST],
        found: [None; BURST],
    };
    let mut piece = |number: usize| {
        for (i, key) in lanes.keys.iter_mut().enumerate() {
            *key = pick(number * PIECE + i);
        }
        let start = Instant::now();
        for at in (0..PIECE).step_by(BURST) {
            burst(cache, &mut lanes, at, facts, count);
            black_box(&lanes.found);
        }
        start.elapsed().as_nanos() as f64 / PIECE as f64
    };
    sorted((0..PIECES).map(&mut piece).collect())
}

/// Twenty passes of the sweep over a full cache in which nothing times out, nanoseconds an entry.
fn sweep(cache: &mut FlowCache) -> (f64, f64) {
    let mut sink = |_: &FlowRecord| panic!("nothing ends here");
    let mut pieces = Vec::new();
    for pass in 1..=20 {
        loop {
            let start = Instant::now();
            let slots = cache.sweep(pass * SWEEP_PERIOD_NS, 1000, &mut sink);
            if slots == 0 {
                break;
            }
            pieces.push(start.elapsed().as_nanos() as f64 / f64::from(slots));
        }
    }
    sorted(pieces)
}

/// A flood of one-packet flows into a cache of `flows`, each evicting the oldest embryonic one.
fn flood(flows: u64) -> (f64, f64) {
    let options = CacheOptions {
        flows_max: u32::try_from(flows).expect("flows fit u32"),
        ..CacheOptions::default()
    };
    let mut cache = FlowCache::new(&options, [mix(1), mix(2)]).expect("memory");
    let mut records = 0_u64;
    let mut sink = |record: &FlowRecord| records += black_box(record).packets_fwd;
    let facts = plain();
    let new = NewFlow {
        facts: &facts,
        ingress_port: 0,
        path: &Path::default(),
    };
    let mut keys = vec![FlowKey::new(&tuple(0, proto::UDP), 0); PIECE];
    let mut pieces = Vec::new();
    for number in 0..(flows as usize / PIECE).max(100) {
        for (i, key) in keys.iter_mut().enumerate() {
            *key = FlowKey::new(&tuple((number * PIECE + i) as u64, proto::UDP), 0);
        }
        let start = Instant::now();
        for burst in keys.chunks(BURST) {
            for (key, _) in burst {
                cache.prefetch_bucket(cache.hash(key));
            }
            for (key, side) in burst {
                let admission = cache.insert(cache.hash(key), key, *side, &new, 1, &mut sink);
                assert!(admission != Admission::Full, "the oldest gives way");
            }
        }
        if cache.counters().flows_evicted > PIECE as u64 {
            pieces.push(start.elapsed().as_nanos() as f64 / PIECE as f64);
        }
    }
    black_box(records);
    sorted(pieces)
}

fn main() {
    let asked: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let sizes = if asked.is_empty() {
        vec![1000, 100_000, 1_000_000, 10_000_000]
    } else {
        asked
    };
    let data = tcp(TcpFlags::ACK | TcpFlags::PSH, 0, 10);
    let ack = tcp(TcpFlags::ACK, 0, 0);
    println!("nanoseconds a packet in bursts of {BURST}: best tenth / median of the pieces");
    let print = |flows: u64, what: &str, (best, median): (f64, f64)| {
        println!("{flows:>10} flows  {what:<28} {best:>6.1} / {median:.1}");
    };
    for flows in sizes {
        let (mut cache, opened) = fill(flows, proto::UDP, false);
        print(flows, "new flow (first packet)", opened);
        print(flows, "new flow that evicts one", flood(flows));
        print(
            flows,
            "find",
            measure(&mut cache, flows, proto::UDP, &plain(), false),
        );
        print(
            flows,
            "udp",
            measure(&mut cache, flows, proto::UDP, &plain(), true),
        );
        print(flows, "sweep, an entry", sweep(&mut cache));
        drop(cache);
        for (quality, name) in [(true, "with tcp_quality"), (false, "without")] {
            let (mut cache, _) = fill(flows, proto::TCP, quality);
            for (facts, kind) in [(&ack, "ack"), (&data, "data")] {
                let time = measure(&mut cache, flows, proto::TCP, facts, true);
                print(flows, &format!("tcp {kind} {name}"), time);
            }
        }
    }
}

//! Flow lookup alone: bursts of 32 keys that are all in the cache, beside rte_hash's bulk lookup.
//!
//! Both sides look the same keys up in the same order, with the same pages under their tables; both
//! keep the keys in one array in the order of their use.

use crate::micro::peer_program as program;
use crate::rows::{Check, Effort, Outcome};
use flow::{
    Admission, CacheOptions, FlowCache, FlowHash, FlowKey, LikelyEntry, NewFlow, PacketFacts, Path,
    Side, TransportFacts, Tuple, proto,
};
use std::hint::black_box;
use std::path::Path as FilePath;
use std::process::Command;
use std::time::Instant;

/// Keys looked up together.
const BURST: usize = 32;
/// Keys drawn; the same ones again and again, many more than any cache holds.
const KEYS: usize = 1 << 22;
/// Keys timed together: much shorter than a time slice, so that what else runs on the machine spoils
/// few of the pieces, of which the median is told.
const PIECE: usize = 64 * BURST;
/// Rate of Cuckoo++ with ten million entries, lookups a second, as its authors published it
/// (ANCS 2018); of another machine, so it is told and not judged.
const PUBLISHED: f64 = 37e6;
/// Flows of the row.
const ROW_FLOWS: u32 = 10_000_000;
/// Memory of rte_hash for so many entries, MiB.
const PEER_MEMORY_MB: u32 = 1400;
/// Hugepages of 2 MiB that either side needs for so many.
const HUGEPAGES: u64 = 1000;
/// Seconds until the larger of the two tables is filled and has been looked up in.
const LIMIT_S: u32 = 300;

/// Options of `ringfence-perf lookup`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Flows in the cache.
    #[arg(long, default_value_t = 10_000_000)]
    flows: u32,
    /// Seconds of looking up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Looks up and prints: lookups a second, hits, lookups.
///
/// # Errors
/// A sentence: no memory, or a flow found no room.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let cache = filled(options.flows)?;
    let keys: Vec<FlowKey> = (0..KEYS as u64)
        .map(|n| key_of((mix(n) % u64::from(options.flows)) as u32).0)
        .collect();
    let (mut hits, mut pieces) = (0_u64, Vec::new());
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < options.seconds {
        for piece in keys.chunks_exact(PIECE) {
            let start = Instant::now();
            let found: u32 = piece
                .chunks_exact(BURST)
                .map(|burst| find(&cache, burst))
                .sum();
            pieces.push(PIECE as f64 / start.elapsed().as_secs_f64());
            hits += u64::from(found);
        }
    }
    let lookups = pieces.len() * PIECE;
    println!(
        "{:.0} {hits} {lookups} {} {}",
        crate::median(&mut pieces),
        options.flows,
        hugepages_kib()
    );
    Ok(())
}

/// Hugepages that this process has, KiB.
pub(crate) fn hugepages_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Hugetlb:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Ours beside rte_hash, in turn, on the same core with the same kind of pages.
///
/// # Errors
/// A sentence: the peer does not compile, or a run failed.
pub(crate) fn row(effort: &Effort) -> Result<Outcome, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let source = program::source("rte_hash/lookup.c");
    let peer = program::compile(&source, &["-lrte_hash", "-lrte_eal"], dir.path())?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let huge = program::hugepages_free() >= HUGEPAGES;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut all_hit, mut same_pages) = (true, true);
    for _ in 0..effort.runs {
        let our = program::numbers(&mut subject(&own, effort, huge), 5)?;
        let their = program::numbers(&mut other(&peer, effort, huge), 4)?;
        all_hit &= our[1] == our[2] && their[1] == their[2];
        same_pages &= (our[4] > 0.0) == huge;
        ours.push(our[0]);
        theirs.push(their[0]);
        ratios.push(our[0] / their[0]);
    }
    let (our, their) = (
        crate::median(&mut ours.clone()),
        crate::median(&mut theirs.clone()),
    );
    ratios.sort_by(f64::total_cmp);
    let spread = (
        *ratios.first().unwrap_or(&0.0),
        *ratios.last().unwrap_or(&0.0),
    );
    let pages = if huge {
        "hugepages of 2 MiB"
    } else {
        "pages of 4 KiB"
    };
    Ok(Outcome {
        value: our / their,
        spread,
        samples: [
            ("subject_lookups".into(), ours),
            ("peer_lookups".into(), theirs),
        ]
        .into(),
        checks: vec![
            Check {
                what: "every key looked up was found, on both sides".into(),
                holds: all_hit,
            },
            Check {
                what: format!("both tables lie in {pages}"),
                holds: same_pages,
            },
        ],
        told: format!(
            "{:.1} M/s, rte_hash {:.1} M/s, both in {pages}; {:.2} of Cuckoo++ as published",
            our / 1e6,
            their / 1e6,
            our / PUBLISHED
        ),
        command: format!(
            "ringfence-perf lookup --flows {ROW_FLOWS} --seconds {}",
            effort.seconds
        ),
        ..Outcome::default()
    })
}

/// Our side: this very program.
fn subject(own: &FilePath, effort: &Effort, huge: bool) -> Command {
    let mut command = program::pinned(effort.core, LIMIT_S, own);
    command.args(["lookup", "--flows", &ROW_FLOWS.to_string()]);
    command.args(["--seconds", &effort.seconds.to_string()]);
    if huge {
        // The C library's allocator then takes hugepages for what it maps.
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=2");
    }
    command
}

/// The peer; the last word before libdpdk's arguments is the name of the program.
fn other(peer: &FilePath, effort: &Effort, huge: bool) -> Command {
    let mut command = program::pinned(effort.core, LIMIT_S, peer);
    command.args([
        &ROW_FLOWS.to_string(),
        &effort.seconds.to_string(),
        "lookup",
    ]);
    command.args(program::eal_arguments(effort.core, PEER_MEMORY_MB, huge));
    command
}

/// One burst as the dataplane looks it up: index lines, entry lines, whole keys.
#[inline(never)]
fn find(cache: &FlowCache, burst: &[FlowKey]) -> u32 {
    let mut hashes = [FlowHash::default(); BURST];
    for (hash, key) in hashes.iter_mut().zip(burst) {
        *hash = cache.hash(key);
        cache.prefetch_bucket(*hash);
    }
    let mut entries = [LikelyEntry::NONE; BURST];
    for ((entry, hash), key) in entries.iter_mut().zip(&hashes).zip(burst) {
        *entry = cache.prefetch_entry(*hash, key.proto());
    }
    let mut found = 0;
    for ((entry, hash), key) in entries.iter().zip(&hashes).zip(burst) {
        found += u32::from(black_box(cache.find_likely(*entry, *hash, key)).is_some());
    }
    found
}

fn filled(flows: u32) -> Result<FlowCache, String> {
    let options = CacheOptions {
        flows_max: flows,
        embryonic_max: flows,
        ..CacheOptions::default()
    };
    let mut cache = FlowCache::new(&options, [1, 2]).map_err(|error| error.to_string())?;
    let facts = PacketFacts {
        ip_bytes: 46,
        tos: 0,
        ipv6: false,
        transport: TransportFacts::Plain,
    };
    let new = NewFlow {
        facts: &facts,
        ingress_port: 0,
        path: &Path::default(),
    };
    let mut told = |_: &abi::FlowRecord| {};
    for flow in 0..flows {
        let (key, side) = key_of(flow);
        let hash = cache.hash(&key);
        if !matches!(
            cache.insert(hash, &key, side, &new, 1, &mut told),
            Admission::New(_)
        ) {
            return Err(format!("flow {flow} of {flows} found no room"));
        }
    }
    Ok(cache)
}

/// UDP over IPv4 from 2^16 clients, the client's port telling the rest; as in
/// `peers/rte_hash/lookup.c`.
fn key_of(flow: u32) -> (FlowKey, Side) {
    let mapped = |v4: u32| (0xffff_0000_0000_u128 | u128::from(v4)).to_be_bytes();
    let tuple = Tuple {
        src: mapped(0x0a00_0000 + (flow & 0xffff)),
        dst: mapped(0x0af0_0001),
        src_port: 32_768 + (flow >> 16) as u16,
        dst_port: 443,
        proto: proto::UDP,
    };
    FlowKey::new(&tuple, 0)
}

/// splitmix64 (Steele et al. 2014).
pub(crate) const fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

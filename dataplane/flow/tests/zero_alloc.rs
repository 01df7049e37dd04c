//! After `new`, nothing in this room allocates: a counting allocator watches every call.

use abi::Reason;
use abi::record::{FlowRecord, TunnelKind};
use abi::verdict::{Action, Decision};
use flow::{
    Admission, CacheOptions, ContextTags, FlowCache, FlowKey, FragmentFull, FragmentKey,
    FragmentOptions, FragmentTable, Gate, KeyedPacket, NewFlow, PacketFacts, Passed, Path, Ports,
    Step, TcpFlags, TransportFacts, Tuple, VlanTags, proto,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations and reallocations of this thread; the test harness has threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

struct Counting;

#[expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one only counts"
)]
// SAFETY: every call is handed on unchanged to the system allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's layout, unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

const SECOND: u64 = 1_000_000_000;

fn tuple(n: u64) -> Tuple {
    let mut src = [0; 16];
    src[8..].copy_from_slice(&(n % 5000).to_be_bytes());
    let proto = if n.is_multiple_of(3) {
        proto::UDP
    } else {
        proto::TCP
    };
    Tuple {
        src,
        dst: [9; 16],
        src_port: 40_000,
        dst_port: 443,
        proto,
    }
}

fn facts(n: u64, tuple: &Tuple) -> PacketFacts {
    const FLAGS: [u16; 4] = [TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST];
    let flags = FLAGS[(n / 7 % 4) as usize];
    let transport = match tuple.proto {
        proto::TCP => TransportFacts::Tcp {
            flags,
            seq: 1,
            ack: 1,
            payload_bytes: 9,
        },
        _ => TransportFacts::Plain,
    };
    PacketFacts {
        ip_bytes: 100,
        tos: 0,
        ipv6: true,
        transport,
    }
}

/// Packets, decisions, drops, evictions, sweeps, contexts, paths and fragments; how many records.
fn run(cache: &mut FlowCache, fragments: &mut FragmentTable) -> u64 {
    let mut records = 0_u64;
    let mut sink = |_: &FlowRecord| records += 1;
    for n in 0..100_000_u64 {
        let now = n * SECOND / 500;
        let vlans = VlanTags {
            count: 1,
            tags: [(n % 3000) as u16, 0, 0, 0],
        };
        let tags = ContextTags {
            vlans,
            ..ContextTags::default()
        };
        let path = Path {
            vlans,
            tunnel_kind: TunnelKind::Gre,
            ..Path::default()
        };
        let Some(context) = cache.intern_context(&tags, now) else {
            continue;
        };
        let tuple = tuple(n);
        let (key, side) = FlowKey::new(&tuple, context * u16::from(n % 100 == 0));
        let facts = facts(n, &tuple);
        let hash = cache.hash(&key);
        cache.prefetch_bucket(hash);
        let likely = cache.prefetch_entry(hash, key.proto());
        let packet = KeyedPacket { key, side, facts };
        let mut passed = Passed::default();
        let gate = Gate::new(n / 1000);
        if cache.pass(&gate, likely, &packet, now, &mut passed) {
            cache.take_passed(&mut passed);
            continue;
        }
        let hit = cache
            .find(hash, &key)
            .filter(|index| cache.account(*index, side, &facts, now, &mut sink) == Step::Counted);
        let new = NewFlow {
            facts: &facts,
            ingress_port: 0,
            path: &path,
        };
        let index = hit.or_else(
            || match cache.insert(hash, &key, side, &new, now, &mut sink) {
                Admission::New(index) | Admission::Joined(index) => Some(index),
                Admission::Full => None,
            },
        );
        if let Some(index) = index {
            if cache.verdict(index, n / 1000).is_none() {
                let action = if n.is_multiple_of(2) {
                    Action::Allow
                } else {
                    Action::Deny
                };
                cache.set_decision(index, n / 1000, &Decision::without_policy(action));
            }
            cache.note_drop(index, 100, Reason::DeniedByRule);
            cache.tell_denied(index, &mut sink);
        }
        cache.sweep(now, 256, &mut sink);
        let id = (n % 50_000) as u32;
        let datagram = FragmentKey::new(tuple.src, tuple.dst, tuple.proto, id, 0);
        let _ = fragments.remember(&datagram, Ports { src: 1, dst: 2 }, now);
        let _ = fragments.inherit(&datagram, now);
    }
    while !cache.flush(0, 64, &mut sink) {}
    records
}

#[test]
fn nothing_allocates_after_the_start() {
    let options = CacheOptions {
        flows_max: 1024,
        contexts_max: 256,
        tcp_quality: true,
        ..CacheOptions::default()
    };
    let mut cache = FlowCache::new(&options, [1, 2]).unwrap();
    let full = FragmentOptions {
        datagrams_max: 1000,
        full: FragmentFull::OldestOut,
        ..FragmentOptions::default()
    };
    let mut fragments = FragmentTable::new(&full, [1, 2]).unwrap();
    let before = ALLOCATIONS.get();
    let records = run(&mut cache, &mut fragments);
    let after = ALLOCATIONS.get();
    assert_eq!(after - before, 0, "allocations after the start");
    let counters = cache.counters();
    assert!(records > 10_000 && counters.flows_evicted > 1000 && counters.contexts_full > 0);
    assert!(before > 0, "the counting allocator is in place");
}

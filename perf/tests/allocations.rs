//! A polling core allocates nothing: not for packets of known flows, not for new flows, not for
//! denied ones, not for records, not when a policy is adopted.
//!
//! Real ports of libdpdk (net_pcap repeating a capture, net_null), the real worker, a global
//! allocator that counts.

use abi::shm::{Region, RegionOptions};
use dataplane::adopt::Publisher;
use dataplane::clock::{Clock, Drift, TscClock};
use dataplane::config::{Config, Hugepages, Idle, LaneConfig};
use dataplane::core::Core;
use dataplane::export::RecordSink;
use dataplane::idle::Backoff;
use dataplane::start::Plan;
use dataplane::worker::Worker;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

struct Counting;

thread_local! {
    /// Of this thread, which polls; the test harness and libdpdk have threads of their own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[expect(
    unsafe_code,
    reason = "an allocator that counts can be written in no other way"
)]
// SAFETY: every call goes to the system's allocator unchanged; only a number is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A capture of TCP SYNs and UDP from many sources to a few ports, some malformed, some not IP.
fn capture() -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(65_535_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in 0..4000_u16 {
        let [high, low] = number.to_be_bytes();
        let mut frame = vec![
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64,
        ];
        frame.extend([
            if number % 2 == 0 { 6 } else { 17 },
            0,
            0,
            10,
            0,
            high,
            low,
            10,
            0,
            1,
            10,
        ]);
        frame.extend([0x9c, 0x40, 0, if number % 3 == 0 { 22 } else { 80 }]);
        frame.extend([
            0, 26, 0, 1, 0, 0, 0, 1, 0x50, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        if number % 50 == 0 {
            frame[12..14].copy_from_slice(&[8, 6]);
        }
        if number % 70 == 0 {
            frame[14] = 0x43;
        }
        let bytes = u32::try_from(frame.len()).expect("short");
        file.extend([0; 8]);
        file.extend(bytes.to_le_bytes());
        file.extend(bytes.to_le_bytes());
        file.extend(frame);
    }
    file
}

const POLICY: &str = r#"
[[segment]]
name = "servers"
addresses = ["10.0.1.0/24"]
mode = "enforce"
[[service]]
name = "http"
ports = ["tcp/80", "udp/80"]
[[service]]
name = "ssh"
ports = ["tcp/22"]
[[rule]]
name = "http"
from = ["any"]
to = ["servers"]
services = ["http"]
action = "allow"
[[rule]]
name = "ssh"
from = ["any"]
to = ["servers"]
services = ["ssh"]
action = "reject"
"#;

fn image(epoch: u64) -> Arc<acl::PolicyImage> {
    let today = jiff::civil::date(2026, 1, 1);
    let valid = policy::load(POLICY, "allocations.toml", today).expect("a valid policy");
    let compiled = policy::compile(&valid, epoch, today).expect("compiled");
    Arc::new(acl::PolicyImage::check(compiled.image.bytes()).expect("a good image"))
}

#[test]
fn a_polling_core_allocates_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("frames.pcap");
    std::fs::write(&path, capture()).expect("written");
    let mut config = Config::default();
    config.memory.hugepages = Hugepages::Never;
    config.eal.file_prefix = format!("ringfence-alloc-{}", std::process::id());
    // Fewer flows than sources: new flows push out old ones all the time, each with a record.
    config.flow.flows_max = 1024;
    config.lanes = vec![LaneConfig {
        inside: Some(format!("pcap:in={},infinite", path.display())),
        outside: Some("null:no-rx".into()),
        ..LaneConfig::default()
    }];
    let config = config.validate().expect("valid");
    let mut started = Plan::new(&config)
        .expect("a plan")
        .start(&config)
        .expect("started");
    let region = Region::anonymous(RegionOptions::new(1, 2, [1; 16])).expect("a region");
    let view = region.view();
    let mut consumer = view.attach(0, 1).expect("worker 0").expect("a consumer");
    let (publisher, mut subscribers) = Publisher::new(1);
    let sink = RecordSink::new(
        region.producer(0).expect("a producer"),
        Arc::default(),
        false,
    );
    let writer = region.core_writer(0).expect("a writer");
    let core = Core::new(&config, 0, subscribers.remove(0), sink, writer).expect("a core");
    let clock = Clock::Tsc(TscClock::new(dpdk::rdtsc, dpdk::tsc_hz(), Drift::default()));
    let mut worker = Worker::new(
        core,
        started.lanes.remove(0),
        clock,
        Backoff::new(Idle::None),
        4,
    );
    let mut batch = vec![zerocopy::FromZeros::new_zeroed(); 256];
    let mut rounds = |worker: &mut Worker<_>, count: usize| {
        let before = ALLOCATIONS.get();
        for _ in 0..count {
            worker.round();
            while consumer.read(&mut batch).expect("the only consumer") > 0 {
                consumer.release().expect("the only consumer");
            }
        }
        ALLOCATIONS.get() - before
    };
    rounds(&mut worker, 1000);
    assert_eq!(rounds(&mut worker, 20_000), 0, "without a policy");
    publisher.publish(&image(1)).expect("published");
    assert_eq!(
        rounds(&mut worker, 20_000),
        0,
        "adopting a policy, denying, rejecting"
    );
    let second = image(2);
    publisher.publish(&second).expect("published");
    assert_eq!(
        rounds(&mut worker, 20_000),
        0,
        "adopting another; the main thread frees the old one"
    );
    let counters = *worker.core().counters();
    assert!(
        counters.rx_packets > 1_000_000 && counters.policies_adopted == 2,
        "it did work: {counters:?}"
    );
    assert!(
        counters.generated_packets > 0 && counters.dropped_packets() > 0 && counters.records > 0,
        "{counters:?}"
    );
}

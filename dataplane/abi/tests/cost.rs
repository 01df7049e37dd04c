//! What the contract costs, in nanoseconds. Numbers, not promises: run by hand with
//! `cargo test -p ringfence-abi --release --test cost -- --ignored --nocapture --test-threads=1`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "it measures, so it reads a clock, and it prints what it measured"
)]

use abi::ring::HeapRing;
use abi::{CoreCounters, FlowRecord, Region, RegionOptions};
use std::hint::black_box;
use std::time::{Duration, Instant};
use zerocopy::FromZeros;

const BATCH: usize = 32;
const ROUNDS: usize = 41;

/// Nanoseconds per item of the quickest of `ROUNDS` runs: the one that other processes disturbed
/// least.
fn least(mut run: impl FnMut() -> Duration, items: usize) -> f64 {
    let quickest = (0..ROUNDS).map(|_| run()).min().unwrap_or_default();
    quickest.as_secs_f64() * 1e9 / items as f64
}

/// The same records copied into the same number of slots, and those read back as a consumer would
/// (untimed, so that the caches are as cold), without any ring.
fn copy_ns(records: usize, source: &[FlowRecord]) -> f64 {
    let mut slots = vec![FlowRecord::new_zeroed(); records];
    let mut batch = vec![FlowRecord::new_zeroed(); records];
    let run = || {
        let start = Instant::now();
        for (slot, record) in slots.iter_mut().zip(source.iter().cycle()) {
            *slot = *black_box(record);
        }
        black_box(&mut slots);
        let elapsed = start.elapsed();
        batch.copy_from_slice(&slots);
        black_box(&mut batch);
        elapsed
    };
    least(run, records)
}

fn push_ns(records: usize, source: &[FlowRecord]) -> f64 {
    let (mut producer, ring) = HeapRing::new(u32::try_from(records).expect("a ring size"));
    let mut consumer = ring.attach(1).expect("alone");
    let mut batch = vec![FlowRecord::new_zeroed(); records];
    let run = || {
        let start = Instant::now();
        for _ in 0..records / BATCH {
            for record in source {
                producer
                    .push(black_box(record))
                    .expect("drained each round");
            }
            producer.publish();
        }
        let elapsed = start.elapsed();
        assert_eq!(consumer.read(&mut batch), Ok(records));
        consumer.release().expect("alone");
        elapsed
    };
    least(run, records)
}

#[test]
#[ignore = "measures; run by hand in release"]
fn pushing_and_publishing_32_records() {
    let source = vec![FlowRecord::new_zeroed(); BATCH];
    for records in [1 << 10, 1 << 16] {
        let (copy, push) = (copy_ns(records, &source), push_ns(records, &source));
        println!("{records:6} slots: copy {copy:.1} ns, push+publish {push:.1} ns per record");
        assert!(push < copy + 100.0, "pushing costs far more than copying");
    }
}

#[test]
#[ignore = "measures; run by hand in release"]
fn reading_and_releasing_64_records() {
    const RECORDS: usize = 1 << 16;
    let (mut producer, ring) = HeapRing::new(1 << 16);
    let mut consumer = ring.attach(1).expect("alone");
    let mut batch = [FlowRecord::new_zeroed(); 64];
    let run = || {
        for _ in 0..RECORDS {
            producer.push(&batch[0]).expect("drained each round");
        }
        producer.publish();
        let start = Instant::now();
        while consumer.read(&mut batch).expect("alone") > 0 {
            consumer.release().expect("alone");
        }
        start.elapsed()
    };
    println!("read+release {:.1} ns per record", least(run, RECORDS));
}

#[test]
#[ignore = "measures; run by hand in release"]
fn committing_the_counters_of_a_core() {
    let region = Region::anonymous(RegionOptions::new(1, 0, [0; 16])).expect("memory");
    let (mut writer, view) = (region.core_writer(0).expect("not taken"), region.view());
    let counters = CoreCounters::new();
    let timed = |repeat: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..1_000).for_each(|_| repeat());
        start.elapsed()
    };
    let commit = least(|| timed(&mut || writer.commit(black_box(&counters))), 1_000);
    let read = least(
        || {
            timed(&mut || {
                let _ = black_box(view.core(0));
            })
        },
        1_000,
    );
    let bytes = size_of::<CoreCounters>();
    println!("{bytes} bytes: commit {commit:.0} ns, read {read:.0} ns");
}

//! Model checks: loom tries every interleaving and every value that the memory model lets a load
//! return, on rings and blocks small enough for that.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ringfence-abi --release --test loom_ring`; without
//! the flag this file is empty. Which weakened orderings these models catch is told in `README.md`.
//!
//! Loom remembers only the last access to a word when it looks for an order to try next, so a
//! thread's own load can hide another's. Models with two threads are small enough not to suffer
//! from it; that is why the race of a takeover is modelled in two threads and again in three.
#![expect(
    unexpected_cfgs,
    reason = "cfg(loom) is how the model checker is switched on"
)]
#![cfg(loom)]

use abi::FlowRecord;
use abi::ring::{Consumer, ConsumerError, HeapRing, Producer};
use abi::stats::{Block, StatsError};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use zerocopy::FromZeros;

const READER: u32 = 1;

/// Both words that the model's slots carry hold the same number, so that a mixed record shows.
fn record(number: u64) -> FlowRecord {
    FlowRecord {
        first_ns: number,
        last_ns: number,
        ..FlowRecord::new_zeroed()
    }
}

fn number_of(record: &FlowRecord) -> u64 {
    assert_eq!(record.first_ns, record.last_ns, "a record is mixed of two");
    record.first_ns
}

/// A plain cell beside each slot of the ring. Whoever uses a slot touches its cell, and loom
/// demands that all touches are ordered by happens-before: slots could be plain memory.
#[derive(Clone)]
struct Cells(Arc<[UnsafeCell<()>; 2]>);

impl Cells {
    fn new() -> Self {
        Self(Arc::new([UnsafeCell::new(()), UnsafeCell::new(())]))
    }

    fn write(&self, cursor: u64) {
        self.0[usize::from(cursor % 2 == 1)].with_mut(|_| ());
    }

    fn read(&self, cursor: u64) {
        self.0[usize::from(cursor % 2 == 1)].with(|_| ());
    }
}

/// Pushes 1..=count, publishing after each `batch`, and returns what the ring took.
fn produce(producer: &mut Producer, cells: &Cells, count: u64, batch: u64) -> Vec<u64> {
    let mut taken = Vec::new();
    for number in 1..=count {
        if producer.push(&record(number)).is_ok() {
            cells.write(producer.published() + producer.unpublished() - 1);
            taken.push(number);
        }
        if number % batch == 0 {
            producer.publish();
        }
    }
    producer.publish();
    assert_eq!(
        producer.consumer_faults(),
        0,
        "an honest consumer was refused"
    );
    taken
}

/// Reads and releases once; records that were read but not released are not in the answer.
fn consume(consumer: &mut Consumer, cells: Option<&Cells>) -> Result<Vec<u64>, ConsumerError> {
    let mut batch = [FlowRecord::new_zeroed(); 2];
    let before = consumer.cursor();
    let count = consumer.read(&mut batch)?;
    if let Some(cells) = cells {
        (before..consumer.cursor()).for_each(|cursor| cells.read(cursor));
    }
    let numbers = batch[..count].iter().map(number_of).collect();
    consumer.release()?;
    Ok(numbers)
}

fn drain(consumer: &mut Consumer) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let numbers = consume(consumer, None).expect("nobody else is attached");
        if numbers.is_empty() {
            return all;
        }
        all.extend(numbers);
    }
}

#[test]
fn every_record_that_the_ring_took_is_read_once_whole_and_in_order() {
    loom::model(|| {
        let (mut producer, ring) = HeapRing::new(2);
        let mut consumer = ring.attach(READER).expect("nobody else is attached");
        let cells = Cells::new();
        let cells_of_producer = cells.clone();
        let writing = thread::spawn(move || produce(&mut producer, &cells_of_producer, 4, 1));
        let mut read = Vec::new();
        for _ in 0..2 {
            read.extend(consume(&mut consumer, Some(&cells)).expect("nobody else is attached"));
        }
        let taken = writing.join().expect("the producer ends");
        read.extend(drain(&mut consumer));
        assert_eq!(read, taken);
    });
}

#[test]
fn a_batch_becomes_visible_whole() {
    loom::model(|| {
        let (mut producer, ring) = HeapRing::new(2);
        let mut consumer = ring.attach(READER).expect("nobody else is attached");
        let cells = Cells::new();
        let cells_of_producer = cells.clone();
        let writing = thread::spawn(move || produce(&mut producer, &cells_of_producer, 2, 2));
        let read = consume(&mut consumer, Some(&cells)).expect("nobody else is attached");
        assert!(read.is_empty() || read == [1, 2]);
        assert_eq!(writing.join().expect("the producer ends"), [1, 2]);
    });
}

/// The older consumer is alive, slow, and does not know that it was superseded, while the ring goes
/// round over the very slots that it copies. Producer and newer consumer share a thread, so that
/// the model reaches the moment in which an old and a new word lie side by side.
#[test]
fn a_superseded_consumer_never_keeps_a_mixed_record() {
    loom::model(|| {
        let (mut producer, ring) = HeapRing::new(2);
        let mut older = ring.attach(READER).expect("nobody else is attached");
        assert_eq!(produce(&mut producer, &Cells::new(), 2, 2), [1, 2]);
        let reading = thread::spawn(move || consume(&mut older, None));

        let mut newer = ring
            .attach(READER + 1)
            .expect("the older moves at most once");
        assert!(!newer.resumed_after_fault(), "an honest ring looked broken");
        let mut released = drain(&mut newer);
        producer.push(&record(3)).expect("all was released");
        producer.publish();
        released.extend(drain(&mut newer));

        match reading.join().expect("the older ends") {
            Ok(numbers) => released = [numbers, released].concat(),
            Err(error) => assert_eq!(error, ConsumerError::Superseded { ours: 1, theirs: 2 }),
        }
        assert_eq!(released, [1, 2, 3]);
    });
}

/// All three on threads of their own.
#[test]
fn a_takeover_neither_loses_nor_releases_twice() {
    loom::model(|| {
        let (mut producer, ring) = HeapRing::new(2);
        let mut older = ring.attach(READER).expect("nobody else is attached");
        assert_eq!(produce(&mut producer, &Cells::new(), 2, 2), [1, 2]);
        let reading = thread::spawn(move || consume(&mut older, None));
        let taking = thread::spawn(move || {
            let mut newer = ring
                .attach(READER + 1)
                .expect("the older moves at most once");
            assert!(!newer.resumed_after_fault(), "an honest ring looked broken");
            let read = consume(&mut newer, None).expect("the newest stays attached");
            (newer, read)
        });
        let mut expected = vec![1, 2];
        for number in 3..=4 {
            if producer.push(&record(number)).is_ok() {
                expected.push(number);
            }
        }
        producer.publish();
        let by_older = reading.join().expect("the older ends");
        let (mut newer, by_newer) = taking.join().expect("the newer ends");
        let by_newer = [by_newer, drain(&mut newer)].concat();
        let released = match by_older {
            Ok(numbers) => [numbers, by_newer].concat(),
            Err(error) => {
                assert_eq!(error, ConsumerError::Superseded { ours: 1, theirs: 2 });
                by_newer
            }
        };
        assert_eq!(released, expected);
        assert_eq!(producer.consumer_faults(), 0);
    });
}

#[test]
fn a_ring_in_motion_never_looks_broken_to_a_newcomer() {
    loom::model(|| {
        let (mut producer, ring) = HeapRing::new(2);
        let mut older = ring.attach(READER).expect("nobody else is attached");
        let moving = thread::spawn(move || {
            for number in 1..=2 {
                if producer.push(&record(number)).is_ok() {
                    producer.publish();
                }
                if consume(&mut older, None).is_err() {
                    break;
                }
            }
            producer.consumer_faults()
        });
        let newer = ring
            .attach(READER + 1)
            .expect("the older moves at most twice");
        assert!(!newer.resumed_after_fault(), "an honest ring looked broken");
        assert_eq!(moving.join().expect("the older ends"), 0);
    });
}

#[test]
fn a_consumer_that_was_superseded_never_moves_the_cursor() {
    loom::model(|| {
        let (mut producer, ring) = HeapRing::new(2);
        produce(&mut producer, &Cells::new(), 1, 1);
        let mut older = ring.attach(READER).expect("nobody else is attached");
        let reading = thread::spawn(move || consume(&mut older, None));
        let newer = ring
            .attach(READER + 1)
            .expect("the older moves at most once");
        let cursor = newer.cursor();
        let by_older = reading.join().expect("the older ends");
        // Released before the newer attached, or not at all.
        assert_eq!(by_older == Ok(vec![1]), cursor == 1);
    });
}

fn check_copies(writes: u64, reads: u32) {
    loom::model(move || {
        let block = Arc::new(Block::<2>::new());
        let writer = Arc::clone(&block);
        let writing = thread::spawn(move || (1..=writes).for_each(|n| writer.write(&[n, n])));
        let mut last = 0;
        for _ in 0..reads {
            let mut words = [0; 2];
            match block.read(&mut words) {
                Ok(()) => {
                    assert_eq!(words[0], words[1], "the copy is torn");
                    assert!(words[0] >= last, "the copy is older than the one before");
                    last = words[0];
                }
                Err(StatsError::WriterInside { sequence, .. }) => assert_eq!(sequence % 2, 1),
                Err(StatsError::WriterBusy { .. }) => {}
            }
        }
        writing.join().expect("the writer ends");
        let mut words = [0; 2];
        assert_eq!((block.read(&mut words), words), (Ok(()), [writes; 2]));
    });
}

#[test]
fn a_copy_of_a_block_is_never_torn() {
    check_copies(2, 1);
}

#[test]
fn a_copy_of_a_block_is_never_older_than_the_one_before() {
    check_copies(1, 2);
}

//! The record ring: its obvious twin, threads, broken peers, and what it costs.

use abi::FlowRecord;
use abi::ring::{
    Consumer, ConsumerError, Full, HeapRing, Producer, RING_RECORDS_MAX, RING_RECORDS_MIN,
};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::thread;
use zerocopy::{FromZeros, IntoBytes};

const READER: u32 = 1;

/// Every byte of the record depends on its number, so that a mixed or shifted record shows.
fn record(number: u64) -> FlowRecord {
    let mut record = FlowRecord::new_zeroed();
    for (word, bytes) in (0..).zip(record.as_mut_bytes().chunks_exact_mut(8)) {
        bytes.copy_from_slice(&(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word).to_ne_bytes());
    }
    record.first_ns = number;
    record
}

fn blank() -> FlowRecord {
    FlowRecord::new_zeroed()
}

fn attach(ring: &HeapRing) -> Consumer {
    ring.attach(READER).expect("nobody else moves the cursor")
}

fn fill(producer: &mut Producer, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        producer.push(&record(number)).expect("there is room");
    }
    producer.publish();
}

/// Reads up to `count` records and checks that each is whole.
fn read(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    let mut batch = vec![blank(); count];
    let count = consumer.read(&mut batch).expect("the ring is sound");
    let numbers: Vec<u64> = batch[..count].iter().map(|r| r.first_ns).collect();
    for (number, found) in numbers.iter().zip(&batch) {
        assert_eq!(*found, record(*number));
    }
    numbers
}

#[test]
fn records_are_invisible_until_published() {
    let (mut producer, ring) = HeapRing::new(8);
    let mut consumer = attach(&ring);
    producer.push(&record(1)).expect("there is room");
    assert_eq!(
        (read(&mut consumer, 8), producer.unpublished()),
        (vec![], 1)
    );
    producer.publish();
    assert_eq!(
        (read(&mut consumer, 8), producer.unpublished()),
        (vec![1], 0)
    );
}

#[test]
fn a_full_ring_refuses_and_takes_again_after_a_release() {
    let (mut producer, ring) = HeapRing::new(4);
    let mut consumer = attach(&ring);
    fill(&mut producer, 1..=4);
    assert_eq!(producer.push(&record(5)), Err(Full));
    assert_eq!(read(&mut consumer, 2), [1, 2]);
    assert_eq!(
        producer.push(&record(5)),
        Err(Full),
        "what is read is not yet released"
    );
    consumer.release().expect("still attached");
    fill(&mut producer, 5..=6);
    assert_eq!(producer.push(&record(7)), Err(Full));
    assert_eq!(read(&mut consumer, 8), [3, 4]);
    assert_eq!(read(&mut consumer, 8), [5, 6]);
    assert_eq!(producer.consumer_faults(), 0);
}

#[test]
fn a_ring_fills_with_unpublished_records_too() {
    let (mut producer, ring) = HeapRing::new(2);
    let mut consumer = attach(&ring);
    producer.push(&record(1)).expect("there is room");
    producer.push(&record(2)).expect("there is room");
    assert_eq!(producer.push(&record(3)), Err(Full));
    assert_eq!(read(&mut consumer, 2), []);
    producer.publish();
    assert_eq!(read(&mut consumer, 2), [1, 2]);
}

#[test]
fn a_producer_that_ends_publishes_what_it_pushed() {
    let (mut producer, ring) = HeapRing::new(4);
    producer.push(&record(1)).expect("there is room");
    drop(producer);
    assert_eq!(read(&mut attach(&ring), 4), [1]);
}

#[test]
fn a_successor_goes_on_where_its_predecessor_released() {
    let (mut producer, ring) = HeapRing::new(8);
    fill(&mut producer, 1..=6);
    let mut first = attach(&ring);
    assert_eq!(read(&mut first, 2), [1, 2]);
    first.release().expect("still attached");
    assert_eq!(read(&mut first, 2), [3, 4]);
    // The first dies here: 3 and 4 were read and not released.
    drop(first);
    let mut second = attach(&ring);
    assert!(!second.resumed_after_fault());
    assert_eq!(read(&mut second, 8), [3, 4, 5, 6]);
}

#[test]
fn the_newer_consumer_takes_over_and_the_older_is_told() {
    let (mut producer, ring) = HeapRing::new(8);
    fill(&mut producer, 1..=3);
    let mut older = attach(&ring);
    assert_eq!(read(&mut older, 2), [1, 2]);
    let mut newer = attach(&ring);
    let superseded = ConsumerError::Superseded { ours: 1, theirs: 2 };
    assert_eq!(older.release(), Err(superseded));
    assert_eq!(older.read(&mut [blank(); 1]), Err(superseded));
    assert_eq!(read(&mut newer, 8), [1, 2, 3]);
    newer.release().expect("still attached");
    assert_eq!(newer.cursor(), 3);
}

#[test]
fn attach_numbers_go_round() {
    let (mut producer, ring) = HeapRing::new(2);
    fill(&mut producer, [1]);
    let mut last = attach(&ring);
    for _ in 0..600 {
        last = attach(&ring);
    }
    assert_eq!(read(&mut last, 2), [1]);
    last.release().expect("still attached");
}

#[test]
fn a_consumer_cursor_beyond_the_producer_is_refused_counted_and_mended() {
    let (mut producer, ring) = HeapRing::new(4);
    fill(&mut producer, 1..=4);
    ring.break_head(1_000);
    for _ in 0..100 {
        assert_eq!(producer.push(&record(5)), Err(Full));
    }
    assert_eq!(producer.consumer_faults(), 1, "one bad store is one fault");
    ring.break_head(5);
    assert_eq!(producer.push(&record(5)), Err(Full));
    assert_eq!(producer.consumer_faults(), 2);

    let mut consumer = attach(&ring);
    assert!(consumer.resumed_after_fault());
    assert_eq!(consumer.faults(), 2);
    assert_eq!(read(&mut consumer, 4), [1, 2, 3, 4], "nothing was lost");
    consumer.release().expect("still attached");
    fill(&mut producer, [5]);
    assert_eq!(read(&mut consumer, 4), [5]);
}

#[test]
fn a_consumer_cursor_that_jumps_back_is_refused_counted_and_mended() {
    let (mut producer, ring) = HeapRing::new(4);
    let mut consumer = attach(&ring);
    fill(&mut producer, 1..=4);
    assert_eq!(read(&mut consumer, 3), [1, 2, 3]);
    consumer.release().expect("still attached");
    fill(&mut producer, 5..=7);
    ring.break_head(1);
    assert_eq!(producer.push(&record(8)), Err(Full));
    assert_eq!(producer.consumer_faults(), 1);
    let mut consumer = attach(&ring);
    assert!(consumer.resumed_after_fault());
    assert_eq!(read(&mut consumer, 8), [4, 5, 6, 7]);
}

#[test]
fn a_producer_cursor_that_cannot_be_right_gives_no_record() {
    let (mut producer, ring) = HeapRing::new(4);
    let mut consumer = attach(&ring);
    fill(&mut producer, 1..=2);
    assert_eq!(read(&mut consumer, 2), [1, 2]);
    for tail in [0, 1, 5, u64::MAX] {
        ring.break_tail(tail);
        let error = consumer
            .read(&mut [blank(); 4])
            .expect_err("the cursor is broken");
        assert_eq!(
            error,
            ConsumerError::ProducerBroken {
                tail,
                cursor: 2,
                capacity: 4
            }
        );
    }
    ring.break_tail(2);
    assert_eq!(read(&mut consumer, 2), []);
}

#[test]
fn capacities_are_powers_of_two_within_the_limits() {
    for (asked, given) in [(0, RING_RECORDS_MIN), (3, 4), (1_000, 1_024)] {
        assert_eq!(HeapRing::new(asked).0.capacity(), u64::from(given));
    }
    assert!(RING_RECORDS_MAX.is_power_of_two());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8),
    Publish,
    Read(u8),
    Release,
    /// The consumer dies and another attaches.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12u8).prop_map(Step::Push),
        3 => Just(Step::Publish),
        3 => (1..12u8).prop_map(Step::Read),
        2 => Just(Step::Release),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..200)
}

/// The ring as a queue of what is not released, with two marks in it.
struct Twin {
    capacity: usize,
    records: VecDeque<u64>,
    published: usize,
    read: usize,
}

proptest! {
    #[test]
    fn the_ring_does_what_a_queue_does(bits in 1..6u32, steps in steps()) {
        let (mut producer, ring) = HeapRing::new(1 << bits);
        let mut consumer = attach(&ring);
        let mut twin =
            Twin { capacity: 1 << bits, records: VecDeque::new(), published: 0, read: 0 };
        let mut number = 0;
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    number += 1;
                    let room = twin.records.len() < twin.capacity;
                    prop_assert_eq!(producer.push(&record(number)).is_ok(), room);
                    if room { twin.records.push_back(number); }
                },
                Step::Publish => {
                    producer.publish();
                    twin.published = twin.records.len();
                }
                Step::Read(count) => {
                    let numbers = read(&mut consumer, count.into());
                    let expected = twin.records.range(twin.read..twin.published);
                    prop_assert!(expected.take(numbers.len()).eq(&numbers));
                    // A read may give less than is published only where it stops at the tail that
                    // it knew; it never gives nothing while something is there.
                    prop_assert!(!numbers.is_empty() || twin.read == twin.published);
                    twin.read += numbers.len();
                }
                Step::Release => {
                    prop_assert_eq!(consumer.release(), Ok(()));
                    twin.records.drain(..twin.read);
                    twin.published -= twin.read;
                    twin.read = 0;
                }
                Step::Restart => {
                    consumer = attach(&ring);
                    prop_assert!(!consumer.resumed_after_fault());
                    twin.read = 0;
                }
            }
        }
        prop_assert_eq!(producer.consumer_faults(), 0);
    }

    /// Whatever words a hostile consumer stores, the producer stays within its ring and its bounds.
    #[test]
    fn no_consumer_word_breaks_the_producer(words in prop::collection::vec(any::<u64>(), 1..50)) {
        let (mut producer, ring) = HeapRing::new(4);
        let mut number = 0;
        for word in words {
            ring.break_head(word);
            for _ in 0..6 {
                number += 1;
                let _ = producer.push(&record(number));
            }
            producer.publish();
            let mut consumer = attach(&ring);
            let numbers = read(&mut consumer, 8);
            prop_assert!(numbers.is_sorted() && numbers.len() <= 4);
            prop_assert_eq!(consumer.release(), Ok(()));
        }
    }
}

/// Pushes `count` records from one thread while another reads; returns what was shed.
fn race(capacity: u32, count: u64, retry: bool) -> u64 {
    let (mut producer, ring) = HeapRing::new(capacity);
    let mut consumer = attach(&ring);
    let writing = thread::spawn(move || {
        let mut shed = 0;
        for number in 1..=count {
            while producer.push(&record(number)).is_err() {
                producer.publish();
                if !retry {
                    shed += 1;
                    break;
                }
                thread::yield_now();
            }
            if number % 32 == 0 {
                producer.publish();
            }
        }
        shed
    });
    let (mut last, mut seen) = (0, 0);
    loop {
        // The order matters: ended first, then the read that must find nothing.
        let ended = writing.is_finished();
        let numbers = read(&mut consumer, 64);
        for number in &numbers {
            assert!(*number > last, "{number} came after {last}");
            last = *number;
        }
        seen += numbers.len() as u64;
        consumer.release().expect("still attached");
        if ended && numbers.is_empty() {
            break;
        }
        if numbers.is_empty() {
            thread::yield_now();
        }
    }
    let shed = writing.join().expect("the producer ends");
    assert_eq!(
        seen + shed,
        count,
        "a record was lost without a count, or came twice"
    );
    shed
}

#[test]
fn two_million_records_cross_threads_in_order_and_without_loss() {
    assert_eq!(race(1_024, 2_000_000, true), 0);
}

#[test]
fn a_producer_that_sheds_loses_exactly_what_it_counted() {
    race(64, 1_000_000, false);
}

/// Consumers take each other over all the time while records flow: each record that is released
/// was released by one consumer only, and none is missing.
#[test]
fn takeovers_under_traffic_release_each_record_once() {
    const COUNT: u64 = 300_000;
    let (mut producer, ring) = HeapRing::new(256);
    let writing = thread::spawn(move || {
        for number in 1..=COUNT {
            while producer.push(&record(number)).is_err() {
                producer.publish();
                thread::yield_now();
            }
            if number % 16 == 0 {
                producer.publish();
            }
        }
        producer.publish();
        producer.consumer_faults()
    });
    let reading: Vec<_> = (0..3)
        .map(|process_id| {
            let ring = ring.clone();
            thread::spawn(move || {
                let (mut released, mut batch) = (Vec::new(), [blank(); 16]);
                while released.last() != Some(&COUNT) {
                    let Ok(mut consumer) = ring.attach(process_id) else {
                        continue;
                    };
                    assert!(!consumer.resumed_after_fault());
                    if consumer.cursor() == COUNT {
                        break;
                    }
                    for _ in 0..50 {
                        let Ok(count) = consumer.read(&mut batch) else {
                            break;
                        };
                        for found in &batch[..count] {
                            assert_eq!(*found, record(found.first_ns), "a record is mixed");
                        }
                        if consumer.release().is_ok() {
                            released.extend(batch[..count].iter().map(|r| r.first_ns));
                        }
                    }
                    thread::yield_now();
                }
                released
            })
        })
        .collect();
    let mut all: Vec<u64> = reading
        .into_iter()
        .flat_map(|thread| thread.join().expect("a reader ends"))
        .collect();
    all.sort_unstable();
    assert!(
        all.iter().copied().eq(1..=COUNT),
        "{} records were released",
        all.len()
    );
    assert_eq!(writing.join().expect("the producer ends"), 0);
}

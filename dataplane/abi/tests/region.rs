//! The shared region between two mappings and between two processes.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the test is its own second process, found by environment and heard by standard output"
)]

use abi::counters::WORKERS_MAX;
use abi::ring::{Full, RING_RECORDS_MAX};
use abi::shm::{REGION_ALIGN_BYTES, REGION_MAGIC, RegionError, RegionHeader};
use abi::stats::{
    LaneFacts, LaneKind, NO_PORT, ProcessFacts, RunState, StatsError, name_of, padded_name,
};
use abi::{ABI_EPOCH, CoreCounters, FlowRecord, PortCounters, Region, RegionOptions};
use rustix::fs::{MemfdFlags, SealFlags};
use std::io::{BufRead, BufReader};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use zerocopy::{FromZeros, IntoBytes};

const READER: u32 = 1;

fn options() -> RegionOptions {
    RegionOptions {
        ring_records: 256,
        ..RegionOptions::new(2, 3, *b"0123456789abcdef")
    }
}

fn create() -> (Region, OwnedFd) {
    Region::create(options()).expect("a small memfd can be had")
}

fn record(number: u64) -> FlowRecord {
    FlowRecord {
        first_ns: number,
        bytes_rev: !number,
        ..FlowRecord::new_zeroed()
    }
}

/// A sealed memfd with these bytes at its start, as another process could send it.
fn memfd(bytes: &[u8], size: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create(c"test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .expect("memfd_create");
    rustix::fs::ftruncate(&fd, size).expect("ftruncate");
    rustix::io::pwrite(&fd, bytes, 0).expect("pwrite");
    let size_sealed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, size_sealed).expect("seals");
    fd
}

fn refused(fd: OwnedFd) -> RegionError {
    Region::open(fd).expect_err("the region must be refused")
}

#[test]
fn what_one_mapping_writes_the_other_reads() {
    let (region, fd) = create();
    let view = Region::open(fd).expect("our own region");
    assert_eq!(
        (view.workers(), view.ports(), view.header().boot_id),
        (2, 3, options().boot_id)
    );

    for worker in 0..2 {
        let mut counters = CoreCounters {
            rx_packets: 10 + u64::from(worker),
            ..<_>::default()
        };
        counters.drops[63] = 5;
        region
            .core_writer(worker)
            .expect("not taken")
            .commit(&counters);
        assert_eq!(view.core(worker), Some(Ok(counters)));

        let mut producer = region.producer(worker).expect("not taken");
        let numbers = 100 * u64::from(worker)..100 * u64::from(worker) + 50;
        numbers
            .clone()
            .for_each(|n| producer.push(&record(n)).expect("there is room"));
        producer.publish();
        let mut consumer = view.attach(worker, READER).expect("exists").expect("alone");
        let mut batch = [FlowRecord::new_zeroed(); 64];
        assert_eq!(
            (consumer.backlog(), consumer.read(&mut batch)),
            (50, Ok(50))
        );
        assert!(batch[..50].iter().copied().eq(numbers.map(record)));
        consumer.release().expect("alone");
    }
    let port = PortCounters {
        rx_bytes: 7,
        name: padded_name("pci:0000:01:00.0"),
        ..zero_port()
    };
    region.port_writer(2).expect("not taken").commit(&port);
    assert_eq!(view.port(2), Some(Ok(port)));
    assert_eq!(view.port(1), Some(Ok(zero_port())));
    assert!(view.port(3).is_none() && view.core(2).is_none() && view.attach(2, READER).is_none());
}

fn zero_port() -> PortCounters {
    PortCounters::new_zeroed()
}

#[test]
fn facts_tell_the_process_and_its_lanes() {
    let (region, fd) = create();
    let mut facts = ProcessFacts {
        process_id: 42,
        state: u32::from(RunState::Running.byte()),
        lanes: 1,
        package_version: padded_name("0.1.0"),
        ..ProcessFacts::new()
    };
    facts.lane[0] = LaneFacts {
        name: padded_name("web"),
        kind: u32::from(LaneKind::Mirror.byte()),
        inside_port: 0,
        outside_port: NO_PORT,
        workers_mask: 0b11,
    };
    region.facts_writer().expect("not taken").commit(&facts);
    let read = Region::open(fd)
        .expect("our own region")
        .facts()
        .expect("nobody writes");
    assert_eq!(read, facts);
    assert_eq!(
        (read.abi_epoch, name_of(&read.lane[0].name).as_str()),
        (ABI_EPOCH, "web")
    );
}

#[test]
fn names_are_cut_at_a_character_and_come_back() {
    assert_eq!(name_of(&padded_name::<8>("eth0")), "eth0");
    assert_eq!(name_of(&padded_name::<4>("aüüü")), "aü");
    assert_eq!(name_of(&padded_name::<5>("aüüü")), "aüü");
    assert_eq!(name_of(&[0xff, 0]), "\u{fffd}");
}

#[test]
fn each_producer_and_writer_is_handed_out_once() {
    let region = Region::anonymous(options()).expect("memory");
    let _first = (
        region.producer(1),
        region.core_writer(1),
        region.port_writer(1),
    );
    let _facts = region.facts_writer().expect("not taken");
    let taken = |result: Result<(), RegionError>| matches!(result, Err(RegionError::Taken { .. }));
    assert!(taken(region.producer(1).map(drop)) && taken(region.core_writer(1).map(drop)));
    assert!(taken(region.port_writer(1).map(drop)) && taken(region.facts_writer().map(drop)));
    assert!(taken(region.producer(2).map(drop)) && taken(region.port_writer(3).map(drop)));
    assert!(taken(region.core_writer(u32::MAX).map(drop)));
    assert!(region.producer(0).is_ok());
}

#[test]
fn options_outside_their_limits_are_refused_by_name() {
    let with = |change: fn(&mut RegionOptions)| {
        let mut options = options();
        change(&mut options);
        Region::anonymous(options)
            .expect_err("outside the limits")
            .to_string()
    };
    assert_eq!(with(|o| o.workers = 0), "workers is 0, allowed are 1 to 32");
    assert_eq!(
        with(|o| o.workers = 33),
        "workers is 33, allowed are 1 to 32"
    );
    assert_eq!(with(|o| o.ports = 65), "ports is 65, allowed are 0 to 64");
    assert_eq!(
        with(|o| o.ring_records = 1),
        "ring_records is 1, allowed are 2 to 4194304"
    );
    let text = with(|o| o.ring_records = 1_000);
    assert_eq!(
        text,
        "ring_records is 1000, which is not a power of two; use 1024"
    );
    const { assert!(WORKERS_MAX == 32 && RING_RECORDS_MAX == 4_194_304) };
}

#[test]
fn every_part_begins_on_a_page_of_its_own() {
    let (region, _fd) = create();
    let small = *region.view().header();
    assert_eq!(small.region_bytes % REGION_ALIGN_BYTES, 0);
    for offset in [
        small.facts_offset,
        small.cores_offset,
        small.ports_offset,
        small.producers_offset,
        small.consumers_offset,
        small.slots_offset,
    ] {
        assert_eq!(offset % REGION_ALIGN_BYTES, 0);
    }
}

#[test]
fn memory_without_sealed_size_is_refused() {
    let fd = rustix::fs::memfd_create(c"test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .expect("memfd_create");
    let text = refused(fd).to_string();
    assert!(text.contains("not sealed against resizing"), "{text}");
    // A pipe knows no seals at all.
    let (pipe, _other) = rustix::pipe::pipe().expect("pipe");
    assert!(matches!(refused(pipe), RegionError::Descriptor { .. }));
}

#[test]
fn the_size_can_no_longer_be_changed() {
    let (_region, fd) = create();
    assert!(rustix::fs::ftruncate(&fd, 0).is_err());
    assert!(rustix::fs::ftruncate(&fd, 1 << 30).is_err());
}

#[test]
fn another_abi_epoch_is_refused_with_both_numbers_and_the_way_out() {
    let (region, _fd) = create();
    let mut header = *region.view().header();
    header.abi_epoch = 77;
    // Everything else may differ too: the epoch is what the operator must hear.
    header.header_bytes = 4_096;
    let text = refused(memfd(header.as_bytes(), header.region_bytes)).to_string();
    assert_eq!(
        text,
        format!(
            "the dataplane's region has abi epoch 77, this control process has {ABI_EPOCH}; \
             restart both processes from one release"
        )
    );
}

#[test]
fn short_empty_and_foreign_memory_is_refused() {
    for size in [0, 1, 127] {
        assert!(
            matches!(refused(memfd(&[], size)), RegionError::Magic { .. }),
            "{size} bytes"
        );
    }
    let text = refused(memfd(&[0x7f; 200], 65_536)).to_string();
    assert!(text.contains("0x7f7f7f7f7f7f7f7f"), "{text}");
    assert_eq!(REGION_MAGIC.as_bytes(), b"RNGFENCE");
}

/// A header with any one bit flipped is refused, but for the boot id, which may be anything, and
/// for another number of ports that fits the same space: those ports read as zero.
#[test]
fn every_flipped_bit_of_the_header_is_refused_or_harmless() {
    let (region, _fd) = create();
    let header = *region.view().header();
    let boot_id = offset_of!(RegionHeader, boot_id)..offset_of!(RegionHeader, boot_id) + 16;
    let ports = offset_of!(RegionHeader, ports)..offset_of!(RegionHeader, ports) + 1;
    for bit in 0..size_of::<RegionHeader>() * 8 {
        let mut bytes = header.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = Region::open(memfd(&bytes, header.region_bytes));
        match opened {
            Ok(view) if ports.contains(&(bit / 8)) => {
                let copies: Vec<_> = (0..view.ports())
                    .map_while(|port| view.port(port))
                    .collect();
                assert_eq!(copies, vec![Ok(zero_port()); copies.len()]);
            }
            Ok(_) => assert!(boot_id.contains(&(bit / 8)), "bit {bit} was believed"),
            Err(_) => assert!(!boot_id.contains(&(bit / 8)), "bit {bit} was refused"),
        }
    }
}

#[test]
fn a_file_of_another_size_than_its_header_says_is_refused() {
    let (region, _fd) = create();
    let header = *region.view().header();
    for size in [header.region_bytes - 1, header.region_bytes + 1, 128, 4_096] {
        let error = refused(memfd(header.as_bytes(), size));
        let expected = matches!(
            error,
            RegionError::Header {
                field: "region_bytes",
                ..
            }
        );
        assert!(expected, "{size}: {error}");
    }
}

#[test]
fn a_reader_keeps_the_memory_after_the_dataplane_has_gone() {
    let (region, fd) = create();
    let view = Region::open(fd).expect("our own region");
    let mut producer = region.producer(0).expect("not taken");
    producer.push(&record(1)).expect("there is room");
    drop((producer, region));
    let mut consumer = view.attach(0, READER).expect("exists").expect("alone");
    drop(view);
    let mut batch = [FlowRecord::new_zeroed(); 2];
    assert_eq!((consumer.read(&mut batch), batch[0]), (Ok(1), record(1)));
}

/// The writer dies between the odd and the even number; the bytes are set as it leaves them.
#[test]
fn a_writer_that_died_inside_is_told_after_bounded_tries() {
    let (region, fd) = create();
    let offset = region.view().header().cores_offset;
    region
        .core_writer(0)
        .expect("not taken")
        .commit(&CoreCounters::new());
    rustix::io::pwrite(&fd, &3u64.to_ne_bytes(), offset).expect("pwrite");
    let view = Region::open(fd).expect("our own region");
    let error = view
        .core(0)
        .expect("exists")
        .expect_err("a commit was begun");
    assert_eq!(
        error,
        StatsError::WriterInside {
            sequence: 3,
            tries: 1_000
        }
    );
    assert!(error.to_string().contains("did not finish"));
    assert!(
        view.core(1).is_some_and(|copy| copy.is_ok()),
        "other blocks are not concerned"
    );
}

#[test]
fn copies_are_consistent_while_the_writer_commits_all_the_time() {
    let region = Region::anonymous(options()).expect("memory");
    let (mut writer, view) = (region.core_writer(0).expect("not taken"), region.view());
    let writing = std::thread::spawn(move || {
        for number in 1..=200_000u64 {
            let mut counters = CoreCounters {
                rx_packets: number,
                ..<_>::default()
            };
            counters.drops = [number; 64];
            counters.policies_adopted = number;
            writer.commit(&counters);
        }
    });
    let (mut last, mut copies) = (0, 0u64);
    while !writing.is_finished() {
        let Some(Ok(copy)) = view.core(0) else {
            continue;
        };
        assert!(copy.drops == [copy.rx_packets; 64], "the copy is torn");
        assert_eq!(copy.policies_adopted, copy.rx_packets, "the copy is torn");
        assert!(
            copy.rx_packets >= last,
            "the copy is older than the one before"
        );
        (last, copies) = (copy.rx_packets, copies + 1);
    }
    writing.join().expect("the writer ends");
    assert_eq!(
        view.core(0)
            .and_then(Result::ok)
            .map(|copy| copy.rx_packets),
        Some(200_000)
    );
    assert!(
        copies > 0,
        "the reader never got a copy beside a busy writer"
    );
}

const CHILD: &str = "RINGFENCE_ABI_TEST_REGION";

/// The other process of the test below: reads 30, releases 20 of them, says so, and hangs.
#[test]
fn child_consumer() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let fd = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("the region");
    let view = Region::open(fd.into()).expect("the parent's region");
    let mut consumer = view
        .attach(0, std::process::id())
        .expect("exists")
        .expect("alone");
    let mut batch = [FlowRecord::new_zeroed(); 20];
    assert_eq!(consumer.read(&mut batch), Ok(20));
    consumer.release().expect("alone");
    assert_eq!(consumer.read(&mut batch[..10]), Ok(10));
    println!("\nread");
    std::thread::park();
}

/// A consumer in a process of its own is killed with -9; its successor reads again exactly what it
/// had read and not released, and the producer lost only what the full ring refused.
#[test]
fn a_killed_consumer_process_loses_nothing_that_was_published() {
    let (region, fd) = create();
    let mut producer = region.producer(0).expect("not taken");
    (0..100).for_each(|n| producer.push(&record(n)).expect("there is room"));
    producer.publish();

    let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_consumer", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test as another process");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(
        lines.map_while(Result::ok).any(|line| line == "read"),
        "the child read nothing"
    );
    child.kill().expect("SIGKILL");
    child.wait().expect("the child ends");

    let accepted = (100..1_000)
        .filter(|n| producer.push(&record(*n)) != Err(Full))
        .count();
    assert_eq!(
        accepted,
        256 - 80,
        "the ring holds what was not released, and no more"
    );
    producer.publish();
    let view = Region::open(fd).expect("our own region");
    let mut consumer = view
        .attach(0, READER)
        .expect("exists")
        .expect("the other is dead");
    assert!(!consumer.resumed_after_fault());
    let mut batch = [FlowRecord::new_zeroed(); 300];
    let mut numbers = Vec::new();
    while let Some(count) = consumer.read(&mut batch).ok().filter(|count| *count > 0) {
        numbers.extend(batch[..count].iter().map(|r| r.first_ns));
    }
    assert!(numbers.into_iter().eq(20..276));
}

//! net_pcap through the owners: what a capture holds is what is received, and what is sent is
//! what a capture then holds.

mod support;

use std::path::Path;
use std::{fs, io};

use dpdk::{Burst, CaptureFile, CaptureReader, PortConfig, ProbedPort, RxQueue};
use support::{EAL, Frame, PLAIN, Pcap, frame, pool, start};

const NANOS: u64 = 1_700_000_000_123_456_789;

/// Everything that comes until the port has no more.
fn receive_all(rx: &mut RxQueue) -> Vec<(Vec<u8>, Option<u64>, u16)> {
    let mut burst = Burst::<32>::new();
    let mut frames = Vec::new();
    while rx.rx_burst(&mut burst) > 0 {
        for mbuf in &*burst {
            let bytes = mbuf.segments().collect::<Vec<_>>().concat();
            assert_eq!(bytes.len(), mbuf.wire_len() as usize);
            frames.push((bytes, mbuf.timestamp(), mbuf.segment_count()));
        }
        burst.clear();
    }
    frames
}

fn write(folder: &Path, name: &str, file: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, file).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_capture_is_received_whole_with_its_own_times() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool("whole", 255);
    for (big_endian, nanoseconds) in [(false, false), (true, false), (false, true), (true, true)] {
        // More frames than mbufs: they must come back.
        let written: Vec<Frame> = (60_u16..760)
            .map(|n| frame(NANOS + u64::from(n) * 1_000, usize::from(n)))
            .collect();
        let file = Pcap {
            big_endian,
            nanoseconds,
            link_type: 1,
        }
        .file(&written);
        let path = write(folder.path(), "whole.pcap", &file);
        let (port, mut rx, _tx) = start(&format!("pcap:in={path}"), &pool);
        let received = receive_all(&mut rx);
        assert_eq!(received.len(), written.len());
        for ((bytes, time, segments), written) in received.iter().zip(&written) {
            assert_eq!(bytes, &written.bytes);
            // libpcap is asked for microseconds by this driver.
            assert_eq!(*time, Some(written.nanos / 1000 * 1000));
            assert_eq!(*segments, 1);
        }
        let stats = port.stats();
        assert_eq!(
            (stats.rx_packets, stats.no_mbuf, stats.rx_errors),
            (700, 0, 0)
        );
    }
    assert_eq!(pool.in_use_count(), 0);
}

#[test]
fn frames_longer_than_a_buffer_come_in_segments() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool("jumbo", 127);
    let written = [
        frame(NANOS, 9000),
        frame(NANOS, 0),
        frame(NANOS, 2048),
        frame(NANOS, 65_535),
    ];
    let path = write(folder.path(), "jumbo.pcap", &PLAIN.file(&written));
    let (_port, mut rx, _tx) = start(&format!("pcap:in={path}"), &pool);
    let received = receive_all(&mut rx);
    let bytes: Vec<_> = received.iter().map(|(bytes, _, _)| bytes.clone()).collect();
    assert_eq!(bytes, written.map(|frame| frame.bytes));
    assert!(received[0].2 > 1 && received[3].2 > received[0].2);
    assert_eq!((received[1].2, received[2].2), (1, 1));
    drop(rx);
    assert_eq!(pool.in_use_count(), 0);
}

#[test]
fn what_is_sent_is_in_the_output_capture() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool("output", 255);
    let written: Vec<Frame> = (0..100)
        .map(|n| frame(NANOS, 60 + n))
        .chain([frame(0, 5000)])
        .collect();
    let input = write(folder.path(), "in.pcap", &PLAIN.file(&written));
    let output = folder.path().join("out.pcap");
    let (port, mut rx, mut tx) = start(&format!("pcap:in={input},out={}", output.display()), &pool);
    let mut burst = Burst::<32>::new();
    while rx.rx_burst(&mut burst) > 0 {
        let count = burst.len();
        assert_eq!(tx.tx_burst(&mut burst), count);
        assert!(burst.is_empty());
    }
    assert_eq!(port.stats().tx_packets, 101);
    drop((port, rx, tx));
    let mut reader =
        CaptureReader::new(io::BufReader::new(fs::File::open(&output).unwrap())).unwrap();
    let mut bytes = Vec::new();
    for frame in &written {
        reader.next_frame(&mut bytes).unwrap().unwrap();
        assert_eq!(bytes, frame.bytes);
    }
    assert_eq!(reader.next_record().unwrap(), None);
    assert_eq!(pool.in_use_count(), 0);
}

#[test]
fn a_capture_cut_at_any_length_ends_where_its_summary_says() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool("cut", 127);
    let file = PLAIN.file(&[frame(NANOS, 60), frame(NANOS, 30), frame(NANOS, 1)]);
    for length in 24..=file.len() {
        let path = write(folder.path(), "cut.pcap", &file[..length]);
        let summary = CaptureFile::open(Path::new(&path))
            .unwrap()
            .summary()
            .unwrap();
        let (port, mut rx, _tx) = start(&format!("pcap:in={path}"), &pool);
        assert_eq!(
            receive_all(&mut rx).len() as u64,
            summary.port_frames(),
            "cut at {length}"
        );
        assert_eq!(
            port.stats().rx_errors != 0,
            summary.damaged_at.is_some(),
            "cut at {length}"
        );
    }
}

#[test]
fn infinite_repeats_a_capture_that_the_pool_holds_and_refuses_a_larger_one() {
    let folder = tempfile::tempdir().unwrap();
    let written: Vec<Frame> = (0..200).map(|n| frame(NANOS, 60 + n)).collect();
    let path = write(folder.path(), "again.pcap", &PLAIN.file(&written));
    let spec = format!("pcap:in={path},infinite");
    let enough = pool("enough", 511);
    let (_port, mut rx, _tx) = start(&spec, &enough);
    let mut burst = Burst::<32>::new();
    let mut received = 0;
    while received < 1000 {
        rx.rx_burst(&mut burst);
        for mbuf in &*burst {
            assert_eq!(mbuf.bytes(), written[received % written.len()].bytes);
            received += 1;
        }
        burst.clear();
    }
    let small = pool("small", 127);
    let probed = ProbedPort::probe(&EAL, &spec.parse().unwrap()).unwrap();
    let error = probed
        .start(&PortConfig::default(), &small)
        .unwrap_err()
        .to_string();
    assert!(error.contains("keeps its 200 frames in memory"), "{error}");
    assert!(error.contains("the pool has 127 free"), "{error}");

    let path = write(
        folder.path(),
        "jumbo.pcap",
        &PLAIN.file(&[frame(NANOS, 9000)]),
    );
    let spec = format!("pcap:in={path},infinite").parse().unwrap();
    let error = ProbedPort::probe(&EAL, &spec)
        .unwrap()
        .start(&PortConfig::default(), &small);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("frames of 9000 bytes do not fit in buffers of 2048"),
        "{error}"
    );
}

#[test]
fn an_exhausted_pool_shows_in_the_counters_and_not_as_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool("exhausted", 31);
    let written: Vec<Frame> = (0..40).map(|_| frame(NANOS, 60)).collect();
    let path = write(folder.path(), "many.pcap", &PLAIN.file(&written));
    let (port, mut rx, _tx) = start(&format!("pcap:in={path}"), &pool);
    let mut kept = Burst::<64>::new();
    while rx.rx_burst(&mut kept) > 0 {}
    assert_eq!((kept.len(), pool.available_count()), (31, 0));
    assert!(port.stats().no_mbuf > 0);
    kept.clear();
    assert!(
        rx.rx_burst(&mut kept) > 0,
        "an empty burst with no_mbuf grown is not the end"
    );
}

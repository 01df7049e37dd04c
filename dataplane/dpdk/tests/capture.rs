//! Captures of every form, read from bytes that the test wrote.

mod support;

use std::fs;

use dpdk::{
    CaptureError, CaptureFile, CaptureFormat, CaptureReader, CaptureSummary, Damage, LinkType,
    PortStop,
};
use proptest::prelude::*;
use support::{Frame, PLAIN, Pcap, frame};

const NANOS: u64 = 1_700_000_000_123_456_789;

fn summary(file: &[u8]) -> CaptureSummary {
    CaptureReader::new(file).unwrap().summary().unwrap()
}

/// Every frame of a capture as the reader sees it.
fn frames(file: &[u8]) -> Vec<Frame> {
    let mut reader = CaptureReader::new(file).unwrap();
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    while let Some(record) = reader.next_frame(&mut bytes).unwrap() {
        assert_eq!(record.captured_bytes as usize, bytes.len());
        frames.push(Frame {
            nanos: record.timestamp_ns,
            bytes: bytes.clone(),
            wire_bytes: record.wire_bytes,
        });
    }
    frames
}

#[test]
fn both_byte_orders_and_both_units_read_alike() {
    for (big_endian, nanoseconds) in [(false, false), (false, true), (true, false), (true, true)] {
        let file = Pcap {
            big_endian,
            nanoseconds,
            link_type: 1,
        };
        let written = [
            frame(NANOS, 60),
            frame(NANOS + 5, 0),
            frame(NANOS + 1_000_000, 1514),
        ];
        let read = frames(&file.file(&written));
        let unit = if nanoseconds { 1 } else { 1000 };
        for (read, written) in read.iter().zip(&written) {
            assert_eq!(read.nanos, written.nanos / unit * unit);
            assert_eq!(read.bytes, written.bytes);
        }
        assert_eq!(read.len(), 3);
    }
}

#[test]
fn frames_cut_short_are_counted_with_their_length_on_the_wire() {
    let cut = Frame {
        wire_bytes: 1500,
        ..frame(NANOS, 96)
    };
    let summary = summary(&PLAIN.file(&[cut, frame(NANOS, 64)]));
    assert_eq!(summary.format, CaptureFormat::Pcap);
    assert_eq!((summary.frames, summary.frames_cut_short), (2, 1));
    assert_eq!((summary.captured_bytes, summary.wire_bytes), (160, 1564));
    assert_eq!(summary.frame_bytes_max, 96);
    assert_eq!(summary.damaged_at, None);
}

#[test]
fn a_pcap_cut_at_any_length_keeps_its_whole_frames() {
    let written = [frame(NANOS, 60), frame(NANOS, 100), frame(NANOS, 1)];
    let file = PLAIN.file(&written);
    let mut ends = vec![24];
    for frame in &written {
        ends.push(ends.last().unwrap() + 16 + frame.bytes.len());
    }
    for length in 0..=file.len() {
        let Ok(mut reader) = CaptureReader::new(&file[..length]) else {
            assert!(length < 24, "header of {length} bytes refused");
            continue;
        };
        let summary = reader.summary().unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count() as u64 - 1;
        assert_eq!(summary.frames, whole, "cut at {length}");
        let damage = (!ends.contains(&length)).then_some((whole + 1, Damage::Cut));
        assert_eq!(summary.damaged_at, damage, "cut at {length}");
    }
}

#[test]
fn a_pcapng_cut_at_any_length_keeps_its_whole_frames() {
    let blocks = [
        PLAIN.section(),
        PLAIN.interface(1, 0, 6),
        PLAIN.packet(0, 1, &frame(0, 61)),
        PLAIN.block(5, &[0; 12]),
        PLAIN.packet(0, 2, &frame(0, 62)),
    ];
    let file = blocks.concat();
    let ends: Vec<usize> = (1..=blocks.len())
        .map(|count| blocks[..count].concat().len())
        .collect();
    for length in 0..=file.len() {
        let Ok(mut reader) = CaptureReader::new(&file[..length]) else {
            assert!(length < ends[0]);
            continue;
        };
        let summary = reader.summary().unwrap();
        let whole = u64::from(length >= ends[2]) + u64::from(length >= ends[4]);
        assert_eq!(summary.frames, whole, "cut at {length}");
        assert_eq!(
            summary.damaged_at.is_none(),
            ends.contains(&length),
            "cut at {length}"
        );
    }
}

#[test]
fn interfaces_of_a_pcapng_keep_their_own_time_units() {
    for big_endian in [false, true] {
        let order = Pcap {
            big_endian,
            ..PLAIN
        };
        let file = [
            order.section(),
            order.interface(1, 0, 9),
            order.interface(1, 0, 6),
            order.interface(1, 0, 0x80 | 30),
            order.packet(0, NANOS, &frame(0, 60)),
            order.packet(1, NANOS / 1000, &frame(0, 60)),
            order.packet(2, 3 << 29, &frame(0, 60)),
        ]
        .concat();
        let nanos: Vec<u64> = frames(&file).iter().map(|frame| frame.nanos).collect();
        assert_eq!(nanos, [NANOS, NANOS / 1000 * 1000, 1_500_000_000]);
        assert_eq!(summary(&file).port_stops_at, None);
    }
}

#[test]
fn what_libpcap_refuses_in_a_whole_pcapng_is_said_and_rewritten() {
    let big = Pcap {
        big_endian: true,
        ..PLAIN
    };
    let start = [
        PLAIN.section(),
        PLAIN.interface(1, 0, 6),
        PLAIN.packet(0, 1, &frame(0, 60)),
    ];
    let other_link = [
        PLAIN.interface(101, 0, 6),
        PLAIN.packet(1, 1, &frame(0, 20)),
    ]
    .concat();
    let other_length = [PLAIN.interface(1, 96, 6), PLAIN.packet(1, 1, &frame(0, 61))].concat();
    let other_order = [
        big.section(),
        big.interface(1, 0, 6),
        big.packet(0, 1, &frame(0, 62)),
    ]
    .concat();
    for (rest, stop, ethernet) in [
        (other_link, PortStop::LinkType(LinkType(101)), 1),
        (other_length, PortStop::SnapshotLength(96), 2),
        (other_order, PortStop::ByteOrder, 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (mixed, plain) = (folder.path().join("mixed"), folder.path().join("plain"));
        let bytes = [start.concat(), rest].concat();
        fs::write(&mixed, &bytes).unwrap();
        let file = CaptureFile::open(&mixed).unwrap();
        let summary = file.summary().unwrap();
        assert_eq!((summary.frames, summary.damaged_at), (2, None));
        assert_eq!(summary.port_stops_at, Some((2, stop)));
        assert_eq!(summary.port_frames(), 1);

        assert_eq!(file.write_plain(&plain).unwrap(), ethernet);
        let rewritten = CaptureFile::open(&plain).unwrap().summary().unwrap();
        assert_eq!(
            (rewritten.frames, rewritten.port_frames()),
            (ethernet, ethernet)
        );
        assert_eq!(rewritten.port_stops_at, None);
        let before = frames(&bytes);
        assert_eq!(
            frames(&fs::read(&plain).unwrap()),
            before[..usize::try_from(ethernet).unwrap()]
        );
    }
}

#[test]
fn damage_is_named_with_its_frame() {
    let mut long = PLAIN.file(&[frame(NANOS, 60), frame(NANOS, 60)]);
    long[24 + 16 + 60 + 8..][..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    assert_eq!(
        summary(&long).damaged_at,
        Some((2, Damage::Length { bytes: 0x7fff_ffff }))
    );

    let unknown = [PLAIN.section(), PLAIN.packet(3, 1, &frame(0, 60))].concat();
    let damage = Damage::UnknownInterface { interface: 3 };
    assert_eq!(summary(&unknown).damaged_at, Some((1, damage)));
}

/// The message of opening a file with these bytes, without its path.
fn message(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let error: CaptureError = CaptureFile::open(file.path()).unwrap_err();
    error
        .to_string()
        .replace(file.path().to_str().unwrap(), "FILE")
}

#[test]
fn what_is_no_capture_is_refused_in_words() {
    assert_eq!(
        message(b""),
        "capture `FILE` is empty: 0 bytes, not even a header"
    );
    assert_eq!(
        message(b"hello world"),
        "`FILE` is not a capture: it begins with [68, 65, 6c, 6c]; pcap and pcapng are read \
         (decompress .gz first)"
    );
    assert_eq!(
        message(&PLAIN.file(&[])[..20]),
        "capture `FILE` ends within its header: it was cut off, copy it again"
    );
    assert_eq!(
        message(
            &Pcap {
                link_type: 113,
                ..PLAIN
            }
            .file(&[])
        ),
        "capture `FILE` holds Linux cooked v1 (link type 113), not Ethernet frames: capture on \
         an Ethernet interface (with tcpdump not `-i any`)"
    );
    let pcapng = [PLAIN.section(), PLAIN.interface(105, 0, 6)].concat();
    assert!(message(&pcapng).contains("holds 802.11 (link type 105)"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(
        bytes in proptest::collection::vec(any::<u8>(), 0..400), which in 0..3_usize,
    ) {
        let heads = [
            PLAIN.file(&[]),
            [PLAIN.section(), PLAIN.interface(1, 0, 6)].concat(),
            Vec::new(),
        ];
        let file = [heads[which].clone(), bytes].concat();
        if let Ok(mut reader) = CaptureReader::new(&file[..]) {
            let summary = reader.summary().unwrap();
            prop_assert!(summary.captured_bytes <= file.len() as u64);
        }
    }

    #[test]
    fn a_flipped_byte_never_yields_more_than_the_file_holds(
        position in 0..400_usize, value in any::<u8>(),
    ) {
        let mut file = [
            PLAIN.section(),
            PLAIN.interface(1, 0, 6),
            PLAIN.packet(0, 1, &frame(0, 61)),
            PLAIN.packet(0, 2, &frame(0, 62)),
        ].concat();
        let position = position % file.len();
        file[position] = value;
        if let Ok(mut reader) = CaptureReader::new(&file[..]) {
            let mut bytes = Vec::new();
            while let Some(record) = reader.next_frame(&mut bytes).unwrap() {
                prop_assert_eq!(record.captured_bytes as usize, bytes.len());
                prop_assert!(bytes.len() <= file.len());
            }
        }
    }
}

//! Captures that are whole, cut, lying, or none: what the walk over their headers says.

#![forbid(unsafe_code)]

use std::path::Path;

use cli::replay::capture::{Capture, CaptureError, PassedOver, Refused, inspect};
use proptest::prelude::*;
use tempfile::NamedTempFile;

/// Two frames of 60 and 4 bytes in a little endian pcap file.
fn pcap() -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    file.extend([0; 8]);
    file.extend(65_535_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for length in [60_u32, 4] {
        file.extend([0; 8]);
        file.extend(length.to_le_bytes());
        file.extend(length.to_le_bytes());
        file.extend(vec![0xaa; length as usize]);
    }
    file
}

/// The same frames in a big endian pcapng file.
fn pcapng() -> Vec<u8> {
    let mut file = section();
    file.extend(interface(1, 65_535));
    for length in [60_u32, 4] {
        let mut body = vec![0; 12];
        body.extend(length.to_be_bytes());
        body.extend(length.to_be_bytes());
        body.extend(vec![0xaa; length as usize]);
        file.extend(block(6, &body));
    }
    file
}

fn section() -> Vec<u8> {
    let mut body = vec![0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0];
    body.extend([0xff; 8]);
    block(0x0a0d_0d0a, &body)
}

fn interface(link_type: u16, snapshot: u32) -> Vec<u8> {
    let mut body = link_type.to_be_bytes().to_vec();
    body.extend([0; 2]);
    body.extend(snapshot.to_be_bytes());
    block(1, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 12)
        .expect("a short block")
        .to_be_bytes();
    [&kind.to_be_bytes()[..], &length, body, &length].concat()
}

fn inspect_bytes(bytes: &[u8]) -> Result<Capture, CaptureError> {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    inspect(file.path())
}

/// What is said about the bytes, with the file's name taken out.
fn said(bytes: &[u8]) -> String {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("written");
    match inspect(file.path()) {
        Ok(Capture {
            format,
            frames,
            cut,
            ..
        }) => match cut {
            None => format!("{format}, {frames} frames"),
            Some(cut) => format!(
                "{format}, cut after frame {}: {}",
                cut.after_frame, cut.reason
            ),
        },
        Err(error) => error
            .to_string()
            .replace(&file.path().display().to_string(), "FILE"),
    }
}

#[test]
fn whole_captures_are_counted_in_both_formats_and_byte_orders() {
    assert_eq!(said(&pcap()), "pcap, 2 frames");
    assert_eq!(said(&pcapng()), "pcapng, 2 frames");
}

#[test]
fn a_capture_cut_at_any_byte_tells_how_many_frames_are_whole() {
    for (file, ends) in [(pcap(), [24, 100, 120]), (pcapng(), [48, 140, 176])] {
        assert_eq!(file.len(), ends[2]);
        for length in 0..file.len() {
            let whole = ends[1..].iter().filter(|end| length >= **end).count() as u64;
            match inspect_bytes(&file[..length]) {
                Ok(capture) => {
                    assert_eq!(capture.frames, whole, "cut at {length}");
                    assert_eq!(
                        capture.cut.is_some(),
                        !ends.contains(&length),
                        "cut at {length}"
                    );
                }
                Err(CaptureError::Empty { .. }) => assert_eq!(length, 0),
                Err(CaptureError::NotACapture { .. } | CaptureError::NoFrames { .. }) => {
                    assert_eq!(whole, 0, "cut at {length}");
                }
                Err(other) => panic!("cut at {length}: {other}"),
            }
        }
    }
}

#[test]
fn a_cut_capture_says_where() {
    assert_eq!(
        said(&pcap()[..110]),
        "pcap, cut after frame 1: the file ends 10 bytes into a frame header of 16"
    );
    assert_eq!(
        said(&pcap()[..118]),
        "pcap, cut after frame 1: the file ends 2 bytes into a frame of 4"
    );
}

#[test]
fn what_is_no_capture_says_what_it_is_and_what_to_do() {
    assert_eq!(
        said(b"<html>"),
        "FILE is not a capture: it begins with the bytes 3c 68 74 6d; ringfence replays pcap and \
         pcapng"
    );
    assert_eq!(
        said(&[0x1f, 0x8b, 8, 0, 0]),
        "FILE is not a capture: it is gzip; ringfence replays pcap and pcapng; unpack it first with \
         `gunzip`"
    );
    assert!(said(b"").starts_with("capture FILE is empty (0 bytes)"));
    assert_eq!(
        said(&pcap()[..24]),
        "capture FILE holds no frames: it is a pcap file with a header and nothing else; there is \
         nothing to replay"
    );
    let missing = inspect(Path::new("/nonexistent/a.pcap"))
        .expect_err("it is missing")
        .to_string();
    assert!(missing.starts_with("cannot read capture /nonexistent/a.pcap: No such file"));
    let directory = inspect(Path::new("/proc"))
        .expect_err("it is a directory")
        .to_string();
    assert!(directory.contains("it is a directory"), "{directory}");
}

#[test]
fn a_link_type_that_is_not_replayed_is_named() {
    let mut radio = pcap();
    radio[20] = 127;
    let expected = "capture FILE has link type 127 (802.11 with radiotap header); ringfence replays \
                    Ethernet, Linux cooked, raw IP, BSD loopback, PPP and Cisco HDLC";
    assert_eq!(said(&radio), expected);
    let mut radio = pcapng();
    let at = section().len() + 8;
    radio[at..at + 2].copy_from_slice(&127_u16.to_be_bytes());
    assert_eq!(said(&radio), expected);
}

#[test]
fn links_that_are_replayed_become_ethernet() {
    for link_type in [0, 9, 12, 50, 51, 101, 104, 108, 113, 228, 229] {
        let mut other = pcap();
        other[20] = link_type;
        let capture = inspect_bytes(&other).expect("a capture");
        assert_eq!(
            (capture.frames, capture.refused),
            (2, Some(Refused::OtherLink))
        );
    }
}

#[test]
fn frames_of_links_that_are_not_replayed_are_passed_over_beside_others() {
    let frame = |number: u32| {
        let mut body = number.to_be_bytes().to_vec();
        body.extend([0; 8]);
        body.extend(4_u32.to_be_bytes().repeat(2));
        body.extend([0xaa; 4]);
        block(6, &body)
    };
    let mut file = pcapng();
    file.extend([interface(249, 65_535), frame(1), frame(0), frame(1)].concat());
    let capture = inspect_bytes(&file).expect("a capture");
    let passed_over = PassedOver {
        frames: 2,
        link_type: 249,
    };
    assert_eq!(
        (capture.frames, capture.cut, capture.passed_over),
        (3, None, Some(passed_over))
    );
    // An interface that no frame names is no reason to refuse, nor one of another snapshot length.
    let mut file = pcapng();
    file.extend(interface(127, 65_535));
    assert!(
        inspect_bytes(&file)
            .expect("a capture")
            .passed_over
            .is_none()
    );
    let mut file = pcapng();
    file.extend(interface(1, 96));
    let capture = inspect_bytes(&file).expect("a capture");
    assert_eq!(
        (capture.frames, capture.cut, capture.refused),
        (2, None, Some(Refused::MixedSnapshots))
    );
}

#[test]
fn the_flows_of_a_pcapng_file_are_counted_by_their_ends() {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53, 0, 8, 0, 0]);
    let length = u32::try_from(frame.len()).expect("a short frame");
    let mut body = vec![0; 12];
    body.extend(length.to_be_bytes().repeat(2));
    body.extend(frame);
    let mut file = [section(), interface(1, 65_535)].concat();
    file.extend(block(6, &[&body[..], &[0; 2]].concat()).repeat(1_000));
    let capture = inspect_bytes(&file).expect("a capture");
    assert_eq!((capture.frames, capture.fragments_max), (1_000, 0));
    assert!(capture.flows_max < 20, "{}", capture.flows_max);
}

#[test]
fn lengths_that_lie_end_the_reading() {
    let mut file = pcap();
    file[108..112].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    assert!(
        said(&file).contains("cut after frame 1: the next frame header claims 2147483647 bytes")
    );
    let mut file = pcapng();
    let end = file.len();
    file[end - 1] = 0;
    assert!(said(&file).contains("cut after frame 1: a block's two length fields contradict"));
}

#[test]
fn the_repositorys_own_bad_captures_are_refused_or_cut() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures/bad");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory)
        .expect("the captures are there")
        .flatten()
    {
        seen += 1;
        match inspect(&entry.path()) {
            Ok(capture) => assert!(capture.cut.is_some(), "{:?}", entry.path()),
            Err(error) => assert!(
                error
                    .to_string()
                    .contains(&*entry.file_name().to_string_lossy())
            ),
        }
    }
    assert!(seen >= 5);
}

proptest! {
    #[test]
    fn any_change_of_any_capture_is_judged_without_a_crash(
        at in 0_usize..176, value: u8, ng: bool, length in 0_usize..200
    ) {
        let mut file = if ng { pcapng() } else { pcap() };
        if let Some(byte) = file.get_mut(at) {
            *byte = value;
        }
        file.truncate(length);
        if let Ok(capture) = inspect_bytes(&file) {
            prop_assert!(capture.frames > 0 && capture.frames * 16 < file.len() as u64);
        }
    }
}

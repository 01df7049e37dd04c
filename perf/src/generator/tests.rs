//! Builds the generator and reads back the frames it writes, through testpmd, without hugepages.

use super::*;
use crate::traffic::{Family, ends};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long testpmd may take to pass the frames, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(120);

fn dpdk_is_there() -> bool {
    let finds = |program: &str, argument: &str| {
        let status = Command::new(program)
            .arg(argument)
            .arg("libdpdk")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok()
    };
    let testpmd = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| dir.join("dpdk-testpmd").is_file())
    });
    let there = testpmd && finds("cc", "--version") && finds("pkg-config", "--modversion");
    if !there {
        println!("SKIPPED: dpdk-testpmd, cc or libdpdk is not installed");
    }
    there
}

/// A testpmd that ends with this value.
struct Testpmd(Child);

impl Testpmd {
    fn start(generator: &Generator, dir: &Path, out: &Path) -> Self {
        let mut command = Command::new("dpdk-testpmd");
        generator.load_into(&mut command);
        let log = std::fs::File::create(dir.join("testpmd.log")).expect("a log");
        let child = command
            .args(["--lcores", "(0,1)@0", "--main-lcore", "0", "--no-pci"])
            .args(["--no-huge", "-m", "128", "--no-telemetry", "--no-shconf"])
            .args(["--vdev", "net_null0,size=64", "--vdev"])
            .arg(format!("net_pcap0,tx_pcap={}", out.display()))
            .args(["--", "--forward-mode=io", "--auto-start", "--no-flush-rx"])
            .args(["--total-num-mbufs=4096", "--stats-period=1"])
            .env("XDG_RUNTIME_DIR", dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("testpmd starts");
        Self(child)
    }

    fn end(mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The frames that the generator writes until it has written `total`.
fn frames(traffic: &Traffic, total: u64) -> (Vec<Vec<u8>>, Counts) {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out.pcap");
    let mut generator = Generator::new(dir.path(), traffic, &["net_null0"]).expect("it builds");
    generator.settings += &format!(",total={total},scan_total=300");
    let mut testpmd = Testpmd::start(&generator, dir.path(), &out);
    let began = Instant::now();
    while generator.counts().expect("counts").written() < total {
        let log = || std::fs::read_to_string(dir.path().join("testpmd.log")).unwrap_or_default();
        assert!(
            testpmd.0.try_wait().expect("a child").is_none(),
            "testpmd ended: {}",
            log()
        );
        assert!(began.elapsed() < PATIENCE, "testpmd is stuck: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let counts = generator.counts().expect("counts");
    testpmd.end();
    let bytes = std::fs::read(&out).expect("a capture");
    (capture_frames(&bytes), counts)
}

/// The frames of a pcap file, without those that left the port before the generator was there.
fn capture_frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    bytes = &bytes[24..];
    while bytes.len() >= 16 {
        let count = u32::from_le_bytes(bytes[8..12].try_into().expect("four")) as usize;
        frames.push(bytes[16..16 + count].to_vec());
        bytes = &bytes[16 + count..];
    }
    frames.retain(|frame| frame[..6] == [2, 0, 0, 0, 0, 2]);
    frames
}

fn sum(bytes: &[u8], begun: u32) -> u32 {
    let words = bytes.chunks(2);
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0));
    let mut sum = begun + words.map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

type End = (IpAddr, u16);

/// The ends of a frame of UDP, and every check that a receiver would make.
fn ends_of(frame: &[u8]) -> (End, End) {
    let port = |at: usize| u16::from(frame[at]) << 8 | u16::from(frame[at + 1]);
    if frame[12..14] == [8, 0] {
        assert_eq!(sum(&frame[14..34], 0), 0xffff, "IPv4 checksum");
        assert_eq!(usize::from(port(16)), frame.len() - 14, "IPv4 total length");
        assert_eq!(usize::from(port(38)), frame.len() - 34, "UDP length");
        let at = |at: usize| {
            let bytes: [u8; 4] = frame[at..at + 4].try_into().expect("four");
            Ipv4Addr::from(bytes).into()
        };
        ((at(26), port(34)), (at(30), port(36)))
    } else {
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!(
            usize::from(port(18)),
            frame.len() - 54,
            "IPv6 payload length"
        );
        assert_eq!(usize::from(port(58)), frame.len() - 54, "UDP length");
        let pseudo = u32::from(port(18)) + 17;
        assert_eq!(sum(&frame[22..], pseudo), 0xffff, "UDP checksum");
        let at = |at: usize| {
            let bytes: [u8; 16] = frame[at..at + 16].try_into().expect("sixteen");
            Ipv6Addr::from(bytes).into()
        };
        ((at(22), port(54)), (at(38), port(56)))
    }
}

#[test]
fn established_flows_are_there_both_ways_with_right_checksums() {
    if !dpdk_is_there() {
        return;
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        let traffic = Traffic {
            family,
            frame: Frame::Imix,
            ..Traffic::established(50, true)
        };
        let (frames, counts) = frames(&traffic, 1_000);
        assert_eq!(frames.len(), 1_000);
        assert_eq!(counts.established(), 1_000);
        let mut seen: HashMap<(End, End), u32> = HashMap::new();
        for frame in &frames {
            let (src, dst) = ends_of(frame);
            if src.1 == crate::traffic::PORT_ESTABLISHED {
                assert!(seen.contains_key(&(dst, src)), "a reply before its flow");
            }
            *seen.entry((src, dst)).or_default() += 1;
        }
        let wanted: HashSet<(End, End)> = (0..50)
            .map(|flow| ends(flow, family))
            .flat_map(|(client, server)| [(client, server), (server, client)])
            .collect();
        assert_eq!(seen.keys().copied().collect::<HashSet<_>>(), wanted);
        assert!(
            seen.values().all(|count| (8..=12).contains(count)),
            "{seen:?}"
        );
        let longest = frames.iter().map(Vec::len).max();
        assert_eq!(longest, Some(1514));
    }
}

#[test]
fn new_flows_are_new_and_as_many_as_asked_for() {
    if !dpdk_is_there() {
        return;
    }
    let traffic = Traffic {
        new_flow_percent: 25,
        ..Traffic::established(10, false)
    };
    let (frames, counts) = frames(&traffic, 2_000);
    let ends: Vec<_> = frames.iter().map(|frame| ends_of(frame)).collect();
    let new: Vec<_> = ends.iter().filter(|(_, dst)| dst.1 == 5001).collect();
    assert_eq!((new.len(), counts.fresh), (500, 500));
    assert_eq!(new.iter().collect::<HashSet<_>>().len(), 500);
}

#[test]
fn a_tunnel_carries_the_flows_and_a_scan_ends_when_told() {
    if !dpdk_is_there() {
        return;
    }
    let traffic = Traffic {
        vxlan: true,
        scan_per_second: 1_000_000_000,
        ..Traffic::established(10, false)
    };
    let (frames, counts) = frames(&traffic, 1_000);
    assert_eq!((frames.len(), counts.scan), (1_000, 300));
    let mut targets = HashSet::new();
    for frame in &frames {
        let (outer_src, outer_dst) = ends_of(frame);
        assert_eq!((outer_src.1, outer_dst.1), (50_000, 4789));
        let (src, dst) = ends_of(&frame[50..]);
        if src.0 == IpAddr::from([10, 15, 255, 254]) && src.1 == 40_000 {
            targets.insert(dst);
        }
    }
    assert_eq!(
        targets.len(),
        300,
        "every frame of the scan has a target of its own"
    );
}

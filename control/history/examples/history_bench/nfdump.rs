//! The same flows for nfdump: NetFlow v9 to its nfcapd on loopback, its best compression, its questions.

use crate::flows::{Generator, host};
use crate::{RUNS, fastest};
use api::flow::Flow;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PORT: u16 = 29_995;
const TEMPLATE_V4: u16 = 256;
const TEMPLATE_V6: u16 = 257;
/// Flow records of one packet.
const RECORDS: usize = 12;
/// Bytes in the socket of nfcapd after which sending waits for it.
const QUEUE_BYTES: u64 = 1 << 20;
/// Bytes that nfcapd's socket may hold.
const SOCKET_BYTES: &str = "16777216";

/// Fields of NetFlow v9 and their lengths (RFC 3954, section 8; times by their IPFIX ids).
fn fields(is_v4: bool) -> Vec<(u16, u16)> {
    let addresses = if is_v4 {
        [(8, 4), (12, 4)]
    } else {
        [(27, 16), (28, 16)]
    };
    let rest = [
        (152, 8),
        (153, 8),
        (1, 8),
        (2, 8),
        (23, 8),
        (24, 8),
        (7, 2),
        (11, 2),
        (4, 1),
        (6, 1),
        (5, 1),
    ];
    addresses.into_iter().chain(rest).collect()
}

fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => bytes.extend(a.octets()),
        IpAddr::V6(a) => bytes.extend(a.octets()),
    }
}

fn push_record(bytes: &mut Vec<u8>, flow: &Flow) {
    push_address(bytes, flow.src);
    push_address(bytes, flow.dst);
    for number in [
        flow.first_ns / 1_000_000,
        flow.last_ns / 1_000_000,
        flow.bytes_fwd,
        flow.pkts_fwd,
        flow.bytes_rev,
        flow.pkts_rev,
    ] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(flow.sport.to_be_bytes());
    bytes.extend(flow.dport.to_be_bytes());
    bytes.push(flow.proto);
    bytes.push(u8::try_from(flow.tcp_flags_fwd & 0xff).unwrap_or(0));
    bytes.push(flow.tos_fwd);
}

fn flow_set(id: u16, content: &[u8]) -> Vec<u8> {
    let padding = (4 - content.len() % 4) % 4;
    let length = u16::try_from(4 + content.len() + padding).expect("a packet is small");
    let mut set = [id.to_be_bytes(), length.to_be_bytes()].concat();
    set.extend(content);
    set.extend(vec![0; padding]);
    set
}

struct Exporter {
    socket: UdpSocket,
    sequence: u32,
    begun: Instant,
}

impl Exporter {
    fn send(&mut self, count: usize, sets: &[u8], now_ns: u64) {
        let uptime_ms = u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(0);
        let mut packet = [
            9_u16.to_be_bytes(),
            u16::try_from(count).unwrap_or(0).to_be_bytes(),
        ]
        .concat();
        packet.extend(uptime_ms.to_be_bytes());
        packet.extend(
            u32::try_from(now_ns / 1_000_000_000)
                .unwrap_or(0)
                .to_be_bytes(),
        );
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(1_u32.to_be_bytes());
        packet.extend(sets);
        self.sequence += 1;
        if self.sequence.is_multiple_of(64) {
            while queued() > QUEUE_BYTES {
                sleep(Duration::from_millis(1));
            }
        }
        self.socket.send(&packet).expect("loopback takes a packet");
    }

    fn templates(&mut self, now_ns: u64) {
        let mut content = Vec::new();
        for (id, is_v4) in [(TEMPLATE_V4, true), (TEMPLATE_V6, false)] {
            let fields = fields(is_v4);
            content.extend(id.to_be_bytes());
            content.extend(u16::try_from(fields.len()).unwrap_or(0).to_be_bytes());
            for (field, length) in fields {
                content.extend([field.to_be_bytes(), length.to_be_bytes()].concat());
            }
        }
        self.send(2, &flow_set(0, &content), now_ns);
    }
}

/// Bytes that wait in the socket of nfcapd.
fn queued() -> u64 {
    let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let port = format!(":{PORT:04X}");
    table
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let is_ours = columns.get(1)?.ends_with(&port);
            let waiting = columns.get(4)?.split_once(':')?.1;
            is_ours.then(|| u64::from_str_radix(waiting, 16).unwrap_or(0))
        })
        .sum()
}

fn send_all(flows: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(("127.0.0.1", PORT)).expect("loopback");
    let mut exporter = Exporter {
        socket,
        sequence: 0,
        begun: Instant::now(),
    };
    let mut waiting: [Vec<Flow>; 2] = [Vec::new(), Vec::new()];
    for (index, flow) in Generator::new(flows).enumerate() {
        if index % 10_000 == 0 {
            exporter.templates(flow.last_ns);
        }
        let family = usize::from(flow.src.is_ipv6());
        waiting[family].push(flow);
        if waiting[family].len() == RECORDS {
            send_family(&mut exporter, family, &mut waiting[family]);
        }
    }
    for (family, rest) in waiting.iter_mut().enumerate() {
        send_family(&mut exporter, family, rest);
    }
    while queued() > 0 {
        sleep(Duration::from_millis(10));
    }
}

fn send_family(exporter: &mut Exporter, family: usize, flows: &mut Vec<Flow>) {
    let Some(last) = flows.last() else { return };
    let now_ns = last.last_ns;
    let mut content = Vec::new();
    flows
        .iter()
        .for_each(|flow| push_record(&mut content, flow));
    let template = if family == 0 {
        TEMPLATE_V4
    } else {
        TEMPLATE_V6
    };
    exporter.send(flows.len(), &flow_set(template, &content), now_ns);
    flows.clear();
}

fn start_nfcapd(dir: &Path) -> Child {
    let child = Command::new("nfcapd")
        .args(["-w", &dir.display().to_string(), "-b", "127.0.0.1"])
        .args(["-p", &PORT.to_string(), "-B", SOCKET_BYTES, "-t", "86400"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nfcapd starts (Debian's package nfdump)");
    let is_bound = || {
        let table = fs::read_to_string("/proc/net/udp").unwrap_or_default();
        table.contains(&format!(":{PORT:04X} "))
    };
    while !is_bound() {
        sleep(Duration::from_millis(10));
    }
    child
}

/// nfcapd writes its file when it is told to end.
fn stop(mut child: Child) {
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(told.is_ok_and(|s| s.success()), "nfcapd is told to end");
    child.wait().expect("nfcapd ends");
}

fn output(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("nfdump")
        .args(["-R", &dir.display().to_string()])
        .args(arguments)
        .output()
        .expect("nfdump runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bytes_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).expect("the directory is there");
    files
        .filter_map(|f| f.ok()?.metadata().ok())
        .map(|m| m.len())
        .sum()
}

/// Sends the flows to nfcapd, which keeps them in `dir`.
fn feed(dir: &Path, flows: usize) {
    if dir.exists() {
        fs::remove_dir_all(dir).expect("the directory of an earlier run goes");
    }
    fs::create_dir_all(dir).expect("a directory for nfdump");
    let nfcapd = start_nfcapd(dir);
    send_all(flows);
    stop(nfcapd);
    let summary = output(dir, &["-I"]);
    let stored = summary
        .lines()
        .find_map(|line| line.strip_prefix("Flows: "))
        .and_then(|n| n.trim().parse::<usize>().ok());
    assert_eq!(stored, Some(flows), "nfcapd stored every flow: {summary}");
}

/// Turns the files of a directory to a compression, by nfdump's number for it.
fn compress(dir: &Path, level: &str) {
    for file in fs::read_dir(dir).expect("the directory is there").flatten() {
        let path = file.path();
        let done = Command::new("nfdump")
            .args(["-J", level, "-r", &path.display().to_string()])
            .stdout(Stdio::null())
            .status();
        let done = done.is_ok_and(|s| s.success());
        assert!(done, "nfdump compresses {}", path.display());
    }
}

const ENDS: &str = "fmt:%sa %da %byt";
const EDGES: &str = "fmt:%sa %da %dp %byt";

/// Name of a question, compression, time.
pub(crate) fn measure(
    dir: &Path,
    flows: usize,
    our_bytes: u64,
) -> Vec<(&'static str, &'static str, Duration)> {
    feed(dir, flows);
    let one_host = format!("host {}", host());
    let matrix = "proto,srcip4/24,dstip4/24,dstport";
    let edges = "proto,srcip,dstip,dstport";
    let pairs = "srcip,dstip";
    let questions: [(&str, Vec<&str>); 5] = [
        ("matrix", vec!["-q", "-A", matrix, "-o", EDGES]),
        (
            "top",
            vec!["-q", "-A", pairs, "-O", "bytes", "-n", "20", "-o", ENDS],
        ),
        (
            "host",
            vec!["-q", "-A", edges, "-O", "bytes", "-o", EDGES, &one_host],
        ),
        (
            "host-top",
            vec!["-q", "-A", pairs, "-O", "bytes", "-o", ENDS, &one_host],
        ),
        ("host-flows", vec!["-q", "-c", "1000", &one_host]),
    ];
    let mut told = Vec::new();
    for (compression, level) in [("lz4", "3"), ("bz2", "2")] {
        compress(dir, level);
        let bytes = bytes_of(dir);
        println!(
            "nfdump {compression}         {bytes:>27} bytes {:>5.2} a flow; ours are {:.2} of it",
            bytes as f64 / flows as f64,
            our_bytes as f64 / bytes as f64
        );
        for (name, arguments) in &questions {
            let runs = if compression == "bz2" { 1 } else { RUNS };
            let (time, _) = fastest(runs, || output(dir, arguments).lines().count());
            told.push((*name, compression, time));
        }
    }
    told
}

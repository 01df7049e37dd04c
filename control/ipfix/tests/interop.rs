//! What real collectors read: nfcapd with nfdump, and tshark. Each test says so and passes over
//! itself where its tool is not installed. Loopback only, ports of their own.

mod support;

use ipfix::{Announcement, Biflow, Message, Personality, SegmentEntry, Session, Settings};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{START_MS, icmp_v4, tcp_v4, udp_v6};

const NOW: u64 = START_MS * 1_000_000;

fn installed(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("-h")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("passed over: {tool} is not installed");
    }
    found
}

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringfence-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn messages(personality: Personality, flows: &[Biflow]) -> Vec<Message> {
    let settings = Settings {
        personality,
        ..Settings::default()
    };
    let announcement = Announcement {
        domain_name: "ringfence".to_owned(),
        segments: vec![SegmentEntry {
            id: 0xaaaa_0001,
            name: "shop-web".into(),
            revision: 9,
        }],
        ..Announcement::default()
    };
    let mut session = Session::new(settings, announcement).unwrap();
    let mut out = Vec::new();
    for flow in flows {
        session.flow(NOW, flow, &mut out);
    }
    session.flush(NOW, &mut out);
    out
}

/// 400 flows, all different: several messages, both families, all end reasons.
fn many_flows() -> Vec<Biflow> {
    let number = |i: u32, base: Biflow| Biflow {
        sport: 10_000 + u16::try_from(i).unwrap(),
        packets_fwd: 1 + u64::from(i),
        bytes_fwd: 40 * (1 + u64::from(i)),
        packets_rev: u64::from(i % 7),
        bytes_rev: 1500 * u64::from(i % 7),
        first_ms: START_MS + u64::from(i),
        last_ms: START_MS + 10 * u64::from(i),
        end_reason: u8::try_from(1 + i % 5).unwrap(),
        flow_id: u64::from(i),
        ..base
    };
    (0..200)
        .flat_map(|i| [number(2 * i, tcp_v4()), number(2 * i + 1, udp_v6())])
        .collect()
}

/// Sends to nfcapd, ends it, and gives its log and what nfdump prints with `format`.
fn through_nfcapd(scratch: &Path, messages: &[Message], format: &str) -> (String, Vec<String>) {
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let store = scratch.join("nf");
    fs::create_dir_all(&store).unwrap();
    let log = scratch.join("nfcapd.log");
    let file = fs::File::create(&log).unwrap();
    let mut nfcapd = Command::new("nfcapd")
        .args([
            "-b",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-t",
            "3600",
            "-v",
            "-w",
        ])
        .arg(&store)
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    // Its socket is open when the kernel lists the port. Binding it to try would get in its way.
    let listed = format!(":{port:04X} ");
    let until = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string("/proc/net/udp")
        .unwrap()
        .contains(&listed)
    {
        assert!(Instant::now() < until, "nfcapd did not open its port");
        std::thread::sleep(Duration::from_millis(20));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for message in messages {
        socket.send_to(&message.bytes, ("127.0.0.1", port)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill")
        .args(["-TERM", &nfcapd.id().to_string()])
        .status()
        .unwrap();
    nfcapd.wait().unwrap();
    let nfdump = Command::new("nfdump")
        .arg("-R")
        .arg(&store)
        .args(["-6", "-q", "-N", "-o", format])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&nfdump.stdout).into_owned();
    let lines = text
        .lines()
        .map(|l| l.replace(' ', ""))
        .filter(|l| !l.is_empty())
        .collect();
    (fs::read_to_string(log).unwrap(), lines)
}

fn clock(ms: u64) -> String {
    // The flows of this test lie within 2026-11-22T20:00: only seconds and milliseconds differ.
    let since = ms - START_MS;
    format!("{:02}.{:03}", since / 1000 % 60, since % 1000)
}

#[test]
fn nfcapd_counts_what_was_sent_both_ways_with_times_and_end_reasons() {
    if !installed("nfcapd") || !installed("nfdump") {
        return;
    }
    let scratch = Scratch::new("nfcapd");
    let flows = many_flows();
    let format = "fmt:%ts|%te|%sa|%da|%sp|%dp|%pr|%flg|%ipkt|%ibyt|%opkt|%obyt";
    let sent = messages(Personality::Biflow, &flows);
    assert!(sent.len() > 20, "several messages");
    let (log, lines) = through_nfcapd(&scratch.0, &sent, format);
    assert!(log.contains("Sequence Errors: 0, Bad Packets: 0"), "{log}");
    let packets: u64 = flows.iter().map(Biflow::packets).sum();
    let bytes: u64 = flows.iter().map(Biflow::bytes).sum();
    let summary = format!(
        "Flows: {}, Packets: {packets}, Bytes: {bytes},",
        flows.len()
    );
    assert!(log.contains(&summary), "wanted {summary} in\n{log}");
    assert_eq!(lines.len(), flows.len());
    for flow in &flows {
        let proto = flow.proto;
        let ends = format!(
            "|{}|{}|{}|{}|{proto}|",
            flow.src, flow.dst, flow.sport, flow.dport
        );
        let counts = format!(
            "|{}|{}|{}|{}",
            flow.packets_fwd, flow.bytes_fwd, flow.packets_rev, flow.bytes_rev
        );
        let found = lines.iter().find(|l| l.contains(&ends));
        let line = found.unwrap_or_else(|| panic!("no line with {ends} in {lines:#?}"));
        assert!(line.ends_with(&counts), "{line} should end with {counts}");
        let times: Vec<&str> = line.split('|').take(2).collect();
        assert!(
            times[0].ends_with(&clock(flow.first_ms)),
            "{line}: {}",
            clock(flow.first_ms)
        );
        assert!(
            times[1].ends_with(&clock(flow.last_ms)),
            "{line}: {}",
            clock(flow.last_ms)
        );
    }
}

#[test]
fn nfcapd_reads_end_reason_direction_flags_vlans_and_ports() {
    if !installed("nfcapd") || !installed("nfdump") {
        return;
    }
    let scratch = Scratch::new("nfraw");
    let flows = [tcp_v4(), udp_v6(), icmp_v4()];
    let (_, lines) = through_nfcapd(&scratch.0, &messages(Personality::Biflow, &flows), "raw");
    let text = lines.join("\n");
    // Version 1.7.1 does not show forwardingStatus of IPFIX; tshark does, see below.
    for wanted in [
        "biFlowDir=0x01initiator",
        "endreason=0x03endofFlowdetected",
        "endreason=0x02activetimeout",
        "endreason=0x01idletimeout",
        "tcpflags=0x1b",
        "srctos=40",
        "ICMP=8.0",
        "srcvlan=100",
        "input=1\noutput=2",
    ] {
        assert!(
            text.contains(wanted),
            "no {wanted} in what nfdump printed:\n{text}"
        );
    }
}

#[test]
fn nfcapd_reads_uniflows_as_two_flows() {
    if !installed("nfcapd") || !installed("nfdump") {
        return;
    }
    let scratch = Scratch::new("nfuni");
    let sent = messages(Personality::Uniflow, &[tcp_v4()]);
    let (log, mut lines) = through_nfcapd(&scratch.0, &sent, "fmt:%sa|%sp|%da|%dp|%ipkt|%ibyt");
    assert!(log.contains("Sequence Errors: 0, Bad Packets: 0"), "{log}");
    lines.sort();
    assert_eq!(
        lines,
        [
            "10.0.1.10|40001|10.0.2.20|5432|11|1111",
            "10.0.2.20|5432|10.0.1.10|40001|9|9999"
        ]
    );
}

/// Messages as UDP over IPv4 in a classic capture file, link type raw IP (101).
fn capture(messages: &[Message], port: u16) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    file.extend_from_slice(&[2, 0, 4, 0]);
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(&65_535_u32.to_le_bytes());
    file.extend_from_slice(&101_u32.to_le_bytes());
    for message in messages {
        let udp_length = u16::try_from(message.bytes.len() + 8).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend_from_slice(&(udp_length + 20).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend_from_slice(&port.to_be_bytes());
        packet.extend_from_slice(&port.to_be_bytes());
        packet.extend_from_slice(&udp_length.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(&message.bytes);
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        file.extend_from_slice(&u32::try_from(START_MS / 1000).unwrap().to_le_bytes());
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&length);
        file.extend_from_slice(&length);
        file.extend_from_slice(&packet);
    }
    file
}

fn tshark(scratch: &Path, messages: &[Message], arguments: &[&str]) -> String {
    let file = scratch.join("exports.pcap");
    fs::write(&file, capture(messages, 4739)).unwrap();
    let output = Command::new("tshark")
        .args(["-n", "-d", "udp.port==4739,cflow", "-r"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tshark_finds_nothing_malformed_and_no_gap_in_the_sequence() {
    if !installed("tshark") {
        return;
    }
    let scratch = Scratch::new("tshark");
    for personality in [Personality::Biflow, Personality::Uniflow] {
        let sent = messages(personality, &many_flows());
        let wrong = ["-Y", "_ws.malformed || _ws.expert.severity >= 4194304"];
        assert_eq!(tshark(&scratch.0, &sent, &wrong), "");
        let text = tshark(&scratch.0, &sent, &["-V"]);
        assert!(!text.contains("Unexpected flow sequence"));
        let flows = text.matches("[Duration: ").count();
        let expected: usize = many_flows()
            .iter()
            .map(|f| 1 + usize::from(personality == Personality::Uniflow && f.packets_rev > 0))
            .sum();
        assert_eq!(flows, expected, "flows that tshark shows");
    }
}

#[test]
fn tshark_agrees_that_options_count_in_the_sequence() {
    if !installed("tshark") {
        return;
    }
    let scratch = Scratch::new("tsharkseq");
    let mut session = Session::new(Settings::default(), Announcement::default()).unwrap();
    let mut out = Vec::new();
    for (number, flow) in many_flows().iter().enumerate() {
        let name = format!("segment {number}");
        let id = u32::try_from(number).unwrap();
        session.learn_segment(
            NOW,
            SegmentEntry {
                id,
                name,
                revision: 1,
            },
            &mut out,
        );
        session.flow(NOW, flow, &mut out);
    }
    session.announce(NOW, &mut out);
    session.conclude(NOW, &mut out);
    let text = tshark(&scratch.0, &out, &["-V"]);
    assert!(
        text.matches("FlowSequence: ").count() >= 20,
        "several messages"
    );
    assert!(!text.contains("Unexpected flow sequence"));
    // The same messages without one of them: tshark does look.
    out.remove(out.len() / 2);
    assert!(tshark(&scratch.0, &out, &["-V"]).contains("Unexpected flow sequence"));
}

#[test]
fn tshark_shows_reverse_counters_and_our_enterprise_values() {
    if !installed("tshark") {
        return;
    }
    let scratch = Scratch::new("tsharkown");
    let flow = tcp_v4();
    let text = tshark(
        &scratch.0,
        &messages(Personality::Biflow, std::slice::from_ref(&flow)),
        &["-V"],
    );
    for line in [
        "SrcAddr: 10.0.1.10".to_owned(),
        "DstAddr: 10.0.2.20".to_owned(),
        "Octets: 1111".to_owned(),
        "Packets: 11".to_owned(),
        "Flow End Reason: End of Flow detected (3)".to_owned(),
        "Biflow Direction: Initiator (1)".to_owned(),
        "Octets: 9999 (Reverse Type 1 BYTES)".to_owned(),
        "Packets: 9 (Reverse Type 2 PKTS)".to_owned(),
        "ForwardingStatus: Forward (1)".to_owned(),
        "Dot1q Customer Vlan Id: 200".to_owned(),
        format!("Flow Id: {}", flow.flow_id),
        // Own elements: number and value.
        format!("Type {}: Value (hex bytes): {}", 1, "aa aa 00 01"),
        format!("Type {}: Value (hex bytes): {}", 2, "bb bb 00 02"),
        format!(
            "Type {}: Value (hex bytes): {}",
            5, "11 22 33 44 55 66 77 88"
        ),
        format!(
            "Type {}: Value (hex bytes): {}",
            6, "00 ab cd ef 00 00 00 42"
        ),
        format!("Type {}: Value (hex bytes): {}", 8, "01"),
        format!("Type {}: Value (hex bytes): {}", 9, "04"),
        format!(
            "Type {}: Value (hex bytes): {}",
            10, "00 00 00 00 de ad be ef"
        ),
        format!("Type {}: Value (hex bytes): {}", 11, "02"),
        format!("Type {}: Value (hex bytes): {}", 17, "ff"),
        format!("Type {}: Value (hex bytes): {}", 20, "00 00 01 41"),
        format!("Type {}: Value (hex bytes): {}", 26, "00 00 00 2a"),
        format!("Type {}: Value (hex bytes): {}", 34, "05"),
        format!("Type {}: Value (hex bytes): {}", 36, "00 00 00 04"),
        format!(
            "Type {}: Value (hex bytes): {}",
            37, "00 00 00 00 00 00 00 11"
        ),
    ] {
        assert!(
            text.contains(&line),
            "no `{line}` in what tshark printed:\n{text}"
        );
    }
}

//! What decoders of others read from the IPFIX of a replay equals the flows that it prints.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_tests::command::{Background, run, wait_until, words};
use ringfence_tests::datagrams::{Datagrams, write_capture};
use ringfence_tests::places::{binary, own_captures, root};
use ringfence_tests::suite::{Needs, Promise};
use ringfence_tests::table::named;

/// What takes a second, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(180);
/// What is replayed: both families, tunnels, fragments, errors, and a policy that allows and denies.
const CAPTURES: [&str; 5] = [
    "plain.pcap",
    "ipv6.pcap",
    "tunnels.pcap",
    "fragments.pcap",
    "story.pcap",
];

type Row = BTreeMap<String, String>;

pub(crate) fn promises() -> Vec<Promise> {
    vec![
        Promise {
            name: "export::nfcapd_reads_the_flows_that_replay_prints",
            needs: Needs::Binaries,
            programs: &["nfcapd", "nfdump"],
            show: nfcapd_reads_the_flows_that_replay_prints,
        },
        Promise {
            name: "export::tshark_reads_the_flows_and_our_own_elements",
            needs: Needs::Binaries,
            programs: &["tshark"],
            show: tshark_reads_the_flows_and_our_own_elements,
        },
    ]
}

/// Replays a capture with the demo's policy, exports to a port, and returns the rows it prints.
fn replay(capture: &str, port: u16) -> Vec<Row> {
    let mut command = words(&[binary("ringfence")]);
    command
        .arg("replay")
        .arg(own_captures().join(capture))
        .args(["--format", "tsv"]);
    command
        .arg("--policy")
        .arg(root().join("tests/demo/policy-enforce.toml"));
    command.args(["--ipfix", &format!("127.0.0.1:{port}")]);
    named(&run(&mut command, LIMIT).must().stdout)
}

fn cell<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).map_or("", String::as_str)
}

/// `2023-11-14T22:13:20.001000000Z` as nfdump and tshark are asked to print it: to the millisecond.
fn milliseconds(ts: &str) -> String {
    ts.replace('T', " ").chars().take(23).collect()
}

/// ICMP type and code, which nfdump shows in the place of the destination port.
fn ports(row: &Row) -> (String, String) {
    if ["1", "58"].contains(&cell(row, "proto")) {
        return (
            "0".into(),
            format!("{}.{}", cell(row, "icmp_type"), cell(row, "icmp_code")),
        );
    }
    (cell(row, "sport").into(), cell(row, "dport").into())
}

/// Bytes that wait in a UDP socket of this host (`rx_queue` of proc_net_udp(5)); none where no socket has the port.
fn waiting_bytes(port: u16) -> Option<u64> {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let mut rows = sockets.lines().map(|row| row.split_whitespace());
    let local = format!(":{port:04X}");
    rows.find_map(|mut row| {
        row.nth(1).filter(|address| address.ends_with(&local))?;
        let (_, waiting) = row.nth(2)?.split_once(':')?;
        u64::from_str_radix(waiting, 16).ok()
    })
}

struct Collector {
    process: Background,
    port: u16,
    store: PathBuf,
    _directory: tempfile::TempDir,
}

impl Collector {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("nf");
        std::fs::create_dir(&store).expect("a directory");
        let port = UdpSocket::bind("127.0.0.1:0")
            .and_then(|s| s.local_addr())
            .expect("a free port")
            .port();
        let mut command = words(&[
            "nfcapd",
            "-b",
            "127.0.0.1",
            "-t",
            "3600",
            "-p",
            &port.to_string(),
            "-w",
        ]);
        command.arg(&store);
        let process = Background::start(&mut command, directory.path().join("nfcapd.log"));
        assert!(
            wait_until(LIMIT, || waiting_bytes(port).is_some()),
            "nfcapd did not open its port"
        );
        Self {
            process,
            port,
            store,
            _directory: directory,
        }
    }

    /// Ends the collector and returns what nfdump prints, one vector of cells a flow, and nfcapd's log.
    fn stop(mut self) -> (Vec<Vec<String>>, String) {
        // Everything was sent when the replay ended; what nfcapd has not fetched by its end is gone.
        let fetched = wait_until(LIMIT, || waiting_bytes(self.port) == Some(0));
        assert!(fetched, "{:?} bytes wait", waiting_bytes(self.port));
        self.process.stop(LIMIT);
        let mut command = words(&["nfdump", "-6", "-q", "-N", "-R"]);
        command.arg(&self.store).env("TZ", "UTC");
        command.args([
            "-o",
            "fmt:%ts|%te|%sa|%da|%sp|%dp|%pr|%ipkt|%ibyt|%opkt|%obyt",
        ]);
        let printed = run(&mut command, LIMIT).must().stdout;
        let cells = |line: &str| {
            line.split('|')
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        };
        (
            printed
                .lines()
                .map(cells)
                .filter(|row| row.len() == 11)
                .collect(),
            self.process.log(),
        )
    }
}

fn nfcapd_reads_the_flows_that_replay_prints() {
    for capture in CAPTURES {
        let collector = Collector::start();
        let rows = replay(capture, collector.port);
        assert!(!rows.is_empty(), "{capture}: flows are printed");
        let (mut read, log) = collector.stop();
        // nfdump 1.7 leaves options records out of its sequence count, so tshark judges that.
        assert!(log.contains("Bad Packets: 0"), "{capture}: {log}");
        let mut printed: Vec<Vec<String>> = rows.iter().map(as_nfdump).collect();
        printed.sort();
        read.sort();
        assert_eq!(
            read, printed,
            "{capture}: nfdump on the left, replay on the right"
        );
    }
}

fn as_nfdump(row: &Row) -> Vec<String> {
    let (sport, dport) = ports(row);
    let mut cells = vec![
        milliseconds(cell(row, "first_ts")),
        milliseconds(cell(row, "last_ts")),
    ];
    cells.extend(["src", "dst"].map(|column| cell(row, column).to_owned()));
    cells.extend([sport, dport]);
    cells.extend(
        ["proto", "pkts_fwd", "bytes_fwd", "pkts_rev", "bytes_rev"]
            .map(|column| cell(row, column).to_owned()),
    );
    cells
}

fn tshark_reads_the_flows_and_our_own_elements() {
    for capture in CAPTURES {
        let collector = Datagrams::listen();
        let port = collector.port();
        let rows = replay(capture, port);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("export.pcap");
        write_capture(&collector.stop(), port, &path);
        let wrong = tshark(
            &path,
            port,
            &["-Y", "_ws.malformed || _ws.expert.severity >= 4194304"],
        );
        assert_eq!(
            wrong, "",
            "{capture}: tshark finds nothing malformed and no gap"
        );
        let text = tshark(&path, port, &["-V"]);
        let mut read: Vec<Row> = flows(&text);
        let mut printed: Vec<Row> = rows.iter().map(as_tshark).collect();
        read.sort();
        printed.sort();
        assert_eq!(
            read, printed,
            "{capture}: tshark on the left, replay on the right"
        );
    }
}

fn tshark(capture: &Path, port: u16, arguments: &[&str]) -> String {
    let mut command = words(&[
        "tshark",
        "-n",
        "-d",
        &format!("udp.port=={port},cflow"),
        "-r",
    ]);
    command.arg(capture).args(arguments).env("TZ", "UTC");
    run(&mut command, LIMIT).must().stdout
}

/// One of our own elements as tshark names it, and the column of our TSV.
const OWN: [(u16, &str); 9] = [
    (8, "verdict"),
    (11, "pending_verdict"),
    (16, "coverage"),
    (17, "initiator_confidence"),
    (22, "retransmits_fwd"),
    (26, "tunnel_id"),
    (34, "worker"),
    (37, "epoch"),
    (38, "kind"),
];

/// What tshark should read of a printed flow, under the names of our TSV.
fn as_tshark(row: &Row) -> Row {
    const SAME: [&str; 9] = [
        "src",
        "dst",
        "proto",
        "sport",
        "dport",
        "pkts_fwd",
        "bytes_fwd",
        "pkts_rev",
        "bytes_rev",
    ];
    let mut out: Row = SAME
        .map(|column| (column.to_owned(), cell(row, column).to_owned()))
        .into();
    let mut put = |column: &str, value: String| out.insert(column.to_owned(), value);
    put("first_ts", tshark_time(cell(row, "first_ts")));
    put("last_ts", tshark_time(cell(row, "last_ts")));
    put("end_reason", code(cell(row, "end_reason")).to_string());
    put(
        "flow_id",
        u64::from_str_radix(cell(row, "flow_id"), 16)
            .expect("hexadecimal")
            .to_string(),
    );
    put("dropped_packets", cell(row, "dropped_packets").to_owned());
    for (_, column) in OWN {
        put(column, code(cell(row, column)).to_string());
    }
    out
}

/// The number behind a word, as docs/5-ipfix.md lists it; numbers stay.
fn code(word: &str) -> u64 {
    const WORDS: [&[&str]; 5] = [
        &["allow", "deny", "reject", "limit"],
        &[
            "idle-timeout",
            "active-timeout",
            "end-of-flow",
            "forced-end",
            "lack-of-resources",
        ],
        &["rule", "uncovered"],
        &["denied", "update", "end"],
        &["idle", "active"],
    ];
    let listed = WORDS
        .iter()
        .find_map(|list| list.iter().position(|w| *w == word));
    match listed {
        Some(at) => at as u64 + 1,
        None if word == "-" => 0,
        None => word
            .parse()
            .unwrap_or_else(|_| panic!("`{word}` is neither a number nor known")),
    }
}

/// `2023-11-14T22:13:20.001000000Z` as tshark prints it, to the millisecond.
fn tshark_time(ts: &str) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let number = |from: usize, to: usize| ts[from..to].parse::<usize>().expect("a time stamp");
    let (month, day) = (MONTHS[number(5, 7) - 1], number(8, 10));
    format!("{month} {day:2}, {} {}", &ts[..4], &ts[11..23])
}

/// The flows in what `tshark -V` prints: data of the templates 256 and 257.
fn flows(text: &str) -> Vec<Row> {
    let mut flows: Vec<Row> = Vec::new();
    let mut in_flows = false;
    for line in text.lines() {
        let (depth, line) = (line.len() - line.trim_start().len(), line.trim());
        if depth <= 4 {
            in_flows = line.contains("[id=256]") || line.contains("[id=257]");
        } else if in_flows && depth == 8 && line.starts_with("Flow ") && !line.contains('[') {
            flows.push(Row::new());
        } else if let (true, Some(flow)) = (in_flows, flows.last_mut()) {
            read_line(line, flow);
        }
    }
    flows
}

fn read_line(line: &str, flow: &mut Row) {
    let in_parentheses = |text: &str| {
        text.rsplit(['(', ')'])
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    let Some((name, value)) = line.split_once(": ") else {
        return;
    };
    let (value, reverse) = match value.split_once(" (Reverse") {
        Some((value, _)) => (value, true),
        None => (value, false),
    };
    let column = match (name, reverse) {
        ("SrcAddr", _) => "src",
        ("DstAddr", _) => "dst",
        ("SrcPort", _) => "sport",
        ("DstPort", _) => "dport",
        ("Octets", false) => "bytes_fwd",
        ("Packets", false) => "pkts_fwd",
        ("Octets", true) => "bytes_rev",
        ("Packets", true) => "pkts_rev",
        ("Flow Id", _) => "flow_id",
        ("Dropped Packets", _) => "dropped_packets",
        ("StartTime", _) => "first_ts",
        ("EndTime", _) => "last_ts",
        ("Protocol", _) => "proto",
        ("Flow End Reason", _) => "end_reason",
        ("Enterprise Private entry", _) => return read_own(value, flow),
        _ => return,
    };
    let value = match column {
        "first_ts" | "last_ts" => value
            .trim_end_matches(" UTC")
            .trim_end_matches("000000")
            .to_owned(),
        "proto" | "end_reason" => in_parentheses(value),
        _ => value.to_owned(),
    };
    flow.insert(column.to_owned(), value);
}

/// `(...) Type 17: Value (hex bytes): ff`
fn read_own(value: &str, flow: &mut Row) {
    let (number, bytes) = value
        .split_once(") Type ")
        .and_then(|(_, rest)| rest.split_once(": Value (hex bytes): "))
        .unwrap_or_else(|| panic!("an element of ours: {value}"));
    let known = OWN.iter().find(|(own, _)| number.parse() == Ok(*own));
    if let Some((_, column)) = known {
        let value = u64::from_str_radix(&bytes.replace(' ', ""), 16).expect("hexadecimal");
        flow.insert((*column).to_owned(), value.to_string());
    }
}

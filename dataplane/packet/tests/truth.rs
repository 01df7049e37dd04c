//! Every Ethernet capture of the shared traffic folder, counted by the oracle's rules, against the
//! truth that Wireshark gave. Differences must be those listed in `TRUTH.md`, to the row.
#![allow(clippy::disallowed_macros, reason = "this program is there to print")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use packet::{Headers, ParseOptions, parse};
use support::capture;
use support::table::{self, Tables};

/// Rows that only we have and rows that only the truth has, per capture and table.
type Differences = BTreeMap<(String, String), (usize, usize)>;

fn traffic_folder() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traffic");
    let folder = env::var_os("RINGFENCE_TRAFFIC").map_or(default, PathBuf::from);
    folder.join("captures").is_dir().then_some(folder)
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for topic in fs::read_dir(folder.join("captures")).expect("a readable folder") {
        let topic = topic.expect("a readable entry").path();
        if !topic.is_dir() {
            continue;
        }
        for file in fs::read_dir(topic).expect("a readable folder") {
            let file = file.expect("a readable entry").path();
            if file
                .extension()
                .is_some_and(|name| name == "pcap" || name == "pcapng")
            {
                found.push(file);
            }
        }
    }
    found.sort();
    found
}

/// Differences that `TRUTH.md` lists: `| capture | table | ours only | truth only | why |`.
fn listed() -> Differences {
    let text = include_str!("../TRUTH.md");
    let mut listed = Differences::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let count = |at: usize| cells[at].parse().expect("a count in TRUTH.md");
        let capture = cells[1].trim_matches('`').to_owned();
        listed.insert((capture, cells[2].to_owned()), (count(3), count(4)));
    }
    listed
}

fn count(path: &Path) -> Option<Tables> {
    let frames = capture::read(path).expect("a readable capture");
    if frames
        .iter()
        .any(|frame| frame.link_type != capture::ETHERNET)
    {
        return None;
    }
    let options = ParseOptions {
        tunnel_depth_max: u8::MAX,
        ..ParseOptions::default()
    };
    let (mut tables, mut headers) = (Tables::default(), Headers::new());
    for frame in &frames {
        parse(&frame.bytes, frame.wire_len, &options, &mut headers);
        tables.add(&headers);
    }
    Some(tables)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Compares one table; answers rows compared and rows equal.
fn compare(
    name: (&str, &str),
    ours: &BTreeSet<String>,
    truth: &BTreeSet<String>,
    differences: &mut Differences,
) -> (usize, usize) {
    let (ours_only, truth_only) = (ours.difference(truth), truth.difference(ours));
    let counts = (ours_only.clone().count(), truth_only.clone().count());
    if counts != (0, 0) {
        println!(
            "{} {}: {} only ours, {} only truth",
            name.0, name.1, counts.0, counts.1
        );
        ours_only
            .take(4)
            .for_each(|line| println!("    ours  {}", line.replace('\t', " ")));
        truth_only
            .take(4)
            .for_each(|line| println!("    truth {}", line.replace('\t', " ")));
        differences.insert((name.0.to_owned(), name.1.to_owned()), counts);
    }
    (truth.len(), truth.len() - counts.1)
}

#[test]
fn flows_of_every_ethernet_capture_are_those_of_the_truth() {
    let Some(folder) = traffic_folder() else {
        println!("skipped: no traffic folder (set RINGFENCE_TRAFFIC)");
        return;
    };
    let mut differences = Differences::new();
    let (mut captures_seen, mut rows, mut exact) = (0, 0, 0);
    for path in captures(&folder) {
        let Some(outer) = table::truth(&beside(&path, ".flows.tsv"), false) else {
            continue;
        };
        let Some(tables) = count(&path) else { continue };
        captures_seen += 1;
        let file = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let or_outer = |suffix: &str| {
            table::truth(&beside(&path, suffix), false).unwrap_or_else(|| outer.clone())
        };
        let mut sets = vec![
            ("outer", tables.outer.lines(false), outer.clone()),
            (
                "inner",
                tables.inner.lines(false),
                or_outer(".flows.inner.tsv"),
            ),
            (
                "fragments",
                tables.fragments.lines(false),
                or_outer(".flows.frag.tsv"),
            ),
        ];
        // Without a file the truth is only that the VLAN stack makes no more flows.
        if let Some(vlan) = table::truth(&beside(&path, ".flows.vlan.tsv"), true) {
            sets.push(("vlan", tables.vlan.lines(true), vlan));
        } else {
            let more = tables
                .vlan
                .lines(false)
                .len()
                .abs_diff(tables.outer.lines(false).len());
            if more != 0 {
                differences.insert((file.clone(), "vlan".to_owned()), (more, 0));
            }
        }
        for (name, ours, truth) in sets {
            let (compared, equal) = compare((&file, name), &ours, &truth, &mut differences);
            rows += compared;
            exact += equal;
        }
    }
    let differing: BTreeSet<&String> = differences.keys().map(|(capture, _)| capture).collect();
    println!(
        "{} of {captures_seen} captures exact, {exact} of {rows} rows exact",
        captures_seen - differing.len()
    );
    assert!(
        captures_seen > 0,
        "the traffic folder has no Ethernet capture"
    );
    assert_eq!(
        differences,
        listed(),
        "left: found; right: listed in TRUTH.md"
    );
}

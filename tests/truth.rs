//! Flows of captures against truth computed by others: the real dataplane replays every capture for
//! the outer, the inner and the VLAN key, and what it prints must be what the truth says, row by row.
//!
//! The repository's own captures always run; the shared set runs where it exists (beside the
//! repository, or where `RINGFENCE_TRAFFIC` says). A row that differs stands in
//! `tests/truth-differences.toml` with the reason why ours is right, or the test fails.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ringfence_tests::capture::{Key, below, is_replayed};
use ringfence_tests::command::{Outcome, run, words};
use ringfence_tests::places::{binary, own_captures, root, traffic};
use ringfence_tests::table::{self, Rows};
use serde::Deserialize;

/// One replay; the largest capture takes seconds.
const REPLAY_LIMIT: Duration = Duration::from_secs(60);
/// The machine has two cores, and each replay polls on one.
const REPLAYS_AT_A_TIME: usize = 2;
/// Of all flows, at most one in a hundred may differ, even where a reason is given.
const DIFFERENCES_PER_FLOWS: usize = 100;

/// What is known to differ.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// Rows of one capture that differ, and why ours are right.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Path below `captures/`.
    capture: String,
    /// For which keys.
    keys: Vec<String>,
    /// Rows that only the truth has.
    missing: usize,
    /// Rows that only we have.
    added: usize,
    /// Why ours is right.
    reason: String,
}

/// One capture under one key.
struct Comparison {
    capture: String,
    key: Key,
    rows: usize,
    missing: Rows,
    added: Rows,
}

#[test]
fn own_captures_equal_their_truth() {
    let captures = captures(&own_captures(), |path| !is_below(path, "bad"));
    assert!(
        captures.len() >= 10,
        "the captures were found: {captures:?}"
    );
    let report = compare_all(&own_captures(), &captures);
    assert!(report.findings.is_empty(), "{}", report.findings.join("\n"));
}

#[test]
fn shared_captures_equal_their_truth() {
    let Some(directory) = traffic().map(|path| path.join("captures")) else {
        println!(
            "SKIPPED: the shared captures are not beside the repository; RINGFENCE_TRAFFIC can name them"
        );
        return;
    };
    let report = compare_all(&directory, &captures(&directory, is_replayed));
    assert!(report.findings.is_empty(), "{}", report.findings.join("\n"));
}

#[test]
fn captures_of_other_link_types_are_refused_in_a_sentence() {
    let mut captures = vec![own_captures().join("bad/not-ethernet.pcap")];
    if let Some(directory) = traffic() {
        captures.extend(
            below(&directory.join("captures"))
                .into_iter()
                .filter(|path| !is_replayed(path)),
        );
    }
    let findings = Mutex::new(Vec::new());
    each(&captures, |path| {
        let outcome = replay(path, Key::Outer);
        let refused = outcome.code == Some(4)
            && outcome.stdout.is_empty()
            && outcome.stderr.contains("Ethernet");
        if !refused {
            findings
                .lock()
                .expect("no replay panics")
                .push(format!("{outcome}"));
        }
    });
    let findings = findings.into_inner().expect("no replay panics");
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

fn captures(directory: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    below(directory)
        .into_iter()
        .filter(|path| wanted(path))
        .collect()
}

fn is_below(path: &Path, directory: &str) -> bool {
    path.components().any(|part| part.as_os_str() == directory)
}

/// What a run over many captures found.
#[derive(Default)]
struct Report {
    comparisons: Vec<Comparison>,
    findings: Vec<String>,
}

fn compare_all(directory: &Path, captures: &[PathBuf]) -> Report {
    let report = Mutex::new(Report::default());
    let work: Vec<(&PathBuf, Key)> = captures
        .iter()
        .flat_map(|path| Key::ALL.map(|key| (path, key)))
        .collect();
    each(&work, |(path, key)| {
        let name = path
            .strip_prefix(directory)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned();
        let compared = compare(path, *key, &name);
        let mut report = report.lock().expect("no comparison panics");
        match compared {
            Ok(Some(comparison)) => report.comparisons.push(comparison),
            Ok(None) => {}
            Err(finding) => report.findings.push(finding),
        }
    });
    let mut report = report.into_inner().expect("no comparison panics");
    report
        .comparisons
        .sort_by(|a, b| (&a.capture, a.key).cmp(&(&b.capture, b.key)));
    judge(&mut report);
    report
}

fn each<T: Sync>(work: &[T], act: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..REPLAYS_AT_A_TIME {
            scope.spawn(|| {
                while let Some(item) =
                    work.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    act(item);
                }
            });
        }
    });
}

fn replay(path: &Path, key: Key) -> Outcome {
    let mut command = words(&[binary("ringfence")]);
    command
        .arg("replay")
        .arg(path)
        .args(["--format", "tsv", "--truth-rules"])
        .args(key.arguments());
    run(&mut command, REPLAY_LIMIT)
}

/// Replays and compares. None where there is no truth: then only the replay itself is judged.
fn compare(path: &Path, key: Key, name: &str) -> Result<Option<Comparison>, String> {
    let outcome = replay(path, key);
    if !outcome.ok() {
        return Err(format!("{name} ({}): {outcome}", key.word()));
    }
    if !outcome.stderr.contains("balanced") || outcome.stderr.contains("not balanced") {
        return Err(format!(
            "{name} ({}): the replay does not say that its accounting is balanced: {outcome}",
            key.word()
        ));
    }
    let ours = table::rows(&outcome.stdout)
        .map_err(|error| format!("{name} ({}): {error}", key.word()))?;
    let Some(truth) = key.truth(path) else {
        return Ok(None);
    };
    let text =
        std::fs::read_to_string(&truth).map_err(|error| format!("{}: {error}", truth.display()))?;
    let truth = table::rows(&text).map_err(|error| format!("{name}: {error}"))?;
    Ok(Some(Comparison {
        capture: name.to_owned(),
        key,
        rows: table::count(&truth),
        missing: table::missing(&truth, &ours),
        added: table::missing(&ours, &truth),
    }))
}

/// Prints the shares and adds what is not listed, or listed wrongly, to the findings.
fn judge(report: &mut Report) {
    let path = root().join("tests/truth-differences.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let known: Differences =
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut totals: BTreeMap<Key, [usize; 4]> = BTreeMap::new();
    for comparison in &report.comparisons {
        let exact = comparison.missing.is_empty() && comparison.added.is_empty();
        let total = totals.entry(comparison.key).or_default();
        total[0] += 1;
        total[1] += usize::from(exact);
        total[2] += comparison.rows;
        total[3] += comparison.rows - table::count(&comparison.missing);
        report
            .findings
            .extend(finding(comparison, &known.difference));
    }
    for (key, [captures, exact, rows, same]) in totals {
        println!(
            "{:<5} key: {exact} of {captures} captures exact, {same} of {rows} flows exact",
            key.word()
        );
        if (rows - same) * DIFFERENCES_PER_FLOWS > rows {
            report.findings.push(format!(
                "{}: more than 1 in {DIFFERENCES_PER_FLOWS} flows differ",
                key.word()
            ));
        }
    }
}

fn finding(comparison: &Comparison, known: &[Difference]) -> Option<String> {
    let key = comparison.key.word();
    let counts = (
        table::count(&comparison.missing),
        table::count(&comparison.added),
    );
    let listed = known.iter().find(|known| {
        known.capture == comparison.capture && known.keys.iter().any(|listed| listed == key)
    });
    let expected = listed.map_or((0, 0), |listed| (listed.missing, listed.added));
    if counts == expected && listed.is_none_or(|listed| listed.reason.len() > 20) {
        return None;
    }
    let show = |rows: &Rows| {
        rows.keys()
            .take(12)
            .map(|row| format!("\n    {row}"))
            .collect::<String>()
    };
    Some(format!(
        "{} ({key}): {} rows only in the truth, {} only ours; listed are {} and {}\n  only in the truth:{}\n  only ours:{}",
        comparison.capture,
        counts.0,
        counts.1,
        expected.0,
        expected.1,
        show(&comparison.missing),
        show(&comparison.added)
    ))
}

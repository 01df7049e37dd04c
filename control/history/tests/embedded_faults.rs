//! The embedded engine under faults: kills, damaged files, a full disk, clocks that jump, a second process; and what
//! it lets go, and refuses, on purpose.
#![forbid(unsafe_code)]

mod suite;

use api::filter::Filter;
use api::flow::Flow;
use history::{EmbeddedHistory, EmbeddedOptions, History, HistoryError, Retention, Selection};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use suite::{FlowBuilder, HOUR_NS, MINUTE_NS, START_NS};

const FOR_EVER: Retention = Retention {
    age_max_s: u64::MAX,
    bytes_max: u64::MAX,
};
/// Where a child of this test keeps history.
const CHILD_DIR: &str = "RINGFENCE_TEST_HISTORY_DIR";
/// Flow records of one append of the child.
const CHILD_ROWS: usize = 40;

fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        flows: FOR_EVER,
        short: FOR_EVER,
        long: FOR_EVER,
        query_threads: NonZeroUsize::MIN,
        ..EmbeddedOptions::default()
    }
}

fn open(dir: &Path) -> EmbeddedHistory {
    EmbeddedHistory::open(dir, options()).expect("a directory to keep")
}

fn everything() -> Selection {
    Selection {
        since_ns: 0,
        until_ns: u64::MAX,
        filter: Filter::parse("").expect("everything"),
    }
}

/// `count` flow records of an hour after the start, of different ends.
fn rows(hour: u64, count: usize) -> Vec<Flow> {
    (0..count as u64)
        .map(|n| {
            let at = hour * HOUR_NS + n % 60 * MINUTE_NS;
            FlowBuilder::new(hour * 1_000_000 + n)
                .at(at, at + 1)
                .ends(&format!("10.1.{}.{}", n % 7, n % 200), "10.0.2.20")
                .done()
        })
        .collect()
}

fn found(history: &dyn History) -> usize {
    history.flows(&everything(), 0).expect("flows").len()
}

/// Flows that conversations count; each record of these tests begins one.
fn counted(history: &dyn History) -> u64 {
    history.coverage(&everything()).expect("sums").all.flows
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Not a test of its own: what the next test kills.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let history = open(Path::new(&dir));
    let mut told = std::io::stdout();
    for round in 0_u64.. {
        history
            .append(&rows(round / 3 % 5, CHILD_ROWS))
            .expect("rows are taken");
        writeln!(told, "taken").expect("the parent listens");
        if round % 2 == 1 {
            history.flush().expect("there is room");
        }
        if round % 3 == 2 {
            history
                .maintain(START_NS + (round / 3 % 7) * HOUR_NS)
                .expect("there is room");
        }
    }
}

#[test]
fn after_a_kill_at_any_moment_what_was_taken_is_found_or_counted_as_lost() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut taken = 0;
    for lines in [1, 4, 7, 13, 20, 29] {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "child_that_appends_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test runs itself");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut output = output
            .lines()
            .map_while(Result::ok)
            .filter(|l| l.ends_with("taken"));
        let mut appends = output.by_ref().take(lines).count();
        child.kill().expect("it can be killed");
        child.wait().expect("it is dead");
        // What it said before it died.
        appends += output.count();
        taken += appends * CHILD_ROWS;

        let history = open(dir.path());
        let lost = usize::try_from(history.state().lost).expect("few");
        let rows = found(&history);
        // It may have taken one append more than it came to say.
        assert!(rows + lost >= taken, "{rows} + {lost} of {taken}");
        assert!(
            rows + lost <= taken + CHILD_ROWS,
            "{rows} + {lost} of {taken}"
        );
        assert_eq!(counted(&history), rows as u64, "nothing is counted twice");
        assert_eq!(history.state().set_aside, []);
        taken = rows + lost;
    }
}

#[test]
fn a_commit_is_finished_at_the_next_start_wherever_it_stood() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let history = open(dir.path());
    for _ in 0..2 {
        history.append(&rows(0, 30)).expect("rows are taken");
        history.flush().expect("there is room");
    }
    drop(history);
    let parts = files(&dir.path().join("conversations-5m"), ".parquet");
    assert_eq!(parts.len(), 2);
    let below = |path: &Path| {
        let path = path.strip_prefix(dir.path()).expect("it is below");
        path.to_string_lossy().into_owned()
    };
    let before = |accounted: u64, add: &Path, remove: &str| {
        let text = format!(
            r#"{{"add":["{}"],"remove":["{remove}"],"accounted":{accounted}}}"#,
            below(add)
        );
        fs::write(dir.path().join("commits/00000000000000ff.json"), text).expect("room");
    };
    // The journal was written and no name turned; then a name was turned and the journal not removed.
    let tmp = PathBuf::from(format!("{}.tmp", parts[1].display()));
    fs::rename(&parts[1], &tmp).expect("it is there");
    for _ in 0..2 {
        before(
            60,
            &parts[1],
            "conversations-5m/1970-01-01T00/nothing.parquet",
        );
        let history = open(dir.path());
        assert_eq!((found(&history), counted(&history)), (60, 60));
        assert_eq!(files(&dir.path().join("commits"), ".json").len(), 0);
    }
    // What was never committed goes.
    let stray = PathBuf::from(format!("{}.tmp", parts[0].display()));
    fs::copy(&parts[0], &stray).expect("room");
    assert_eq!(counted(&open(dir.path())), 60);
    assert!(!stray.exists());
}

#[test]
fn a_truncated_file_is_set_aside_by_name_and_the_rest_answers() {
    let length_of = |path: &Path| fs::metadata(path).expect("it is there").len();
    let cuts: [fn(u64) -> u64; 7] = [
        |_| 0,
        |_| 3,
        |_| 12,
        |all| all / 2,
        |all| all - 100,
        |all| all - 8,
        |all| all - 1,
    ];
    for cut in cuts {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let history = open(dir.path());
        history.append(&rows(0, 50)).expect("rows are taken");
        history.append(&rows(1, 20)).expect("rows are taken");
        drop(history);
        let damaged = files(&dir.path().join("flows"), ".parquet").remove(0);
        let length = cut(length_of(&damaged));
        let file = fs::File::options()
            .write(true)
            .open(&damaged)
            .expect("it is there");
        file.set_len(length).expect("it can be cut");
        let history = open(dir.path());
        let state = history.state();
        assert_eq!(state.set_aside.len(), 1, "cut to {length}");
        assert!(!state.set_aside[0].why.is_empty(), "cut to {length}");
        assert!(
            Path::new(&state.set_aside[0].file).exists(),
            "cut to {length}"
        );
        assert_eq!(
            (found(&history), counted(&history)),
            (20, 70),
            "cut to {length}"
        );
        assert_eq!(state.lost, 0, "what is set aside is not lost");
    }
}

#[test]
fn a_page_that_cannot_be_read_is_noticed_by_a_question_or_a_roll_up_and_the_rest_answers() {
    for by_question in [true, false] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let history = open(dir.path());
        history.append(&rows(0, 50)).expect("rows are taken");
        history.append(&rows(1, 20)).expect("rows are taken");
        drop(history);
        let damaged = files(&dir.path().join("conversations-5m"), ".parquet").remove(0);
        let mut bytes = fs::read(&damaged).expect("it is there");
        let footer = bytes.len() / 3;
        bytes[4..footer].fill(0xff);
        fs::write(&damaged, bytes).expect("room");
        let history = open(dir.path());
        assert_eq!(history.state().set_aside, [], "the footer is whole");
        if !by_question {
            let refused = history.maintain(START_NS + 9 * HOUR_NS);
            assert!(refused.is_err(), "the first failure is told");
            history
                .maintain(START_NS + 9 * HOUR_NS)
                .expect("the rest is rolled up");
        }
        assert_eq!((found(&history), counted(&history)), (70, 20));
        assert_eq!(history.state().set_aside.len(), 1);
    }
}

#[test]
fn a_second_engine_on_a_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = open(dir.path());
    let refused = EmbeddedHistory::open(dir.path(), options()).expect_err("it is open");
    assert!(
        refused.to_string().contains("another process has"),
        "{refused}"
    );
    drop(first);
    open(dir.path());
}

/// A small file system in memory, gone when the test ends.
struct Mount(PathBuf);

impl Mount {
    /// None where nothing can be mounted.
    fn new(dir: &Path, size: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "none"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|s| s.success())
            .then(|| Self(dir.to_owned()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,{size}");
        let done = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(done.is_ok_and(|s| s.success()), "it was mounted before");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It goes with the machine at the latest.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_harms_nothing_and_what_was_taken_is_safe_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(mount) = Mount::new(dir.path(), "size=512k") else {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    };
    let root = dir.path().join("history");
    let bounded = EmbeddedOptions {
        memory_rows_max: 20_000,
        ..options()
    };
    let history = EmbeddedHistory::open(&root, bounded).expect("room for the beginning");
    let mut taken = 0;
    let error = loop {
        let batch = rows(taken as u64 / 1000, 1000);
        history
            .append(&batch)
            .expect("memory takes what the disk does not");
        taken += batch.len();
        if let Err(error) = history.flush() {
            break error;
        }
        assert!(taken < 1_000_000, "512 KiB are full by then");
    };
    assert!(history.state().error.is_some(), "{error}");
    assert_eq!(found(&history), taken, "all of it answers");
    let refused = loop {
        match history.append(&rows(0, 1000)) {
            Ok(()) => taken += 1000,
            Err(refused) => break refused,
        }
    };
    assert!(refused.to_string().contains("wait in memory"), "{refused}");
    let state = history.state();
    assert_eq!((state.shed, state.unflushed <= 20_000), (1000, true));
    mount.resize("size=64m");
    history.flush().expect("there is room again");
    let state = history.state();
    assert_eq!((state.unflushed, state.error), (0, None));
    assert_eq!((found(&history), counted(&history)), (taken, taken as u64));
    drop(history);
    let history = open(&root);
    assert_eq!((found(&history), history.state().lost), (taken, 0));
    assert_eq!(history.state().set_aside, []);
    drop(history);
}

#[test]
fn a_clock_that_jumps_harms_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let history = EmbeddedHistory::open(
        dir.path(),
        EmbeddedOptions {
            query_threads: NonZeroUsize::MIN,
            ..EmbeddedOptions::default()
        },
    )
    .expect("a directory to keep");
    history.append(&rows(0, 10)).expect("rows are taken");
    let odd = |seq, first_ns: u64, last_ns: u64| {
        let mut flow = FlowBuilder::new(seq).done();
        (flow.first_ns, flow.last_ns) = (first_ns, last_ns);
        (flow.first_ts, flow.last_ts) = (api::Ts(first_ns), api::Ts(last_ns));
        flow
    };
    let strange = [
        odd(1, u64::MAX - 1, u64::MAX),
        // The last packet before the first.
        odd(2, START_NS + 10, START_NS - 10),
        odd(3, START_NS, u64::MAX),
    ];
    history.append(&strange).expect("rows are taken");
    history.flush().expect("there is room");
    for now_ns in [
        START_NS + 2 * HOUR_NS,
        u64::MAX,
        0,
        u64::MAX,
        START_NS + 3 * HOUR_NS,
    ] {
        history.maintain(now_ns).expect("any time will do");
    }
    let of = Selection {
        until_ns: u64::MAX,
        ..everything()
    };
    let told = history.flows(&of, 0).expect("flows");
    assert_eq!(told.len(), 13);
    for flow in strange {
        assert!(told.contains(&flow), "{flow:?}");
    }
    assert_eq!(counted(&history), 13);
}

#[test]
fn rows_go_by_age_and_by_bytes_and_the_longer_roll_up_still_answers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let day = Retention {
        age_max_s: 86_400,
        bytes_max: u64::MAX,
    };
    let shorter = EmbeddedOptions {
        flows: day,
        short: day,
        ..options()
    };
    let history = EmbeddedHistory::open(dir.path(), shorter).expect("a directory to keep");
    for hour in [0, 30] {
        history.append(&rows(hour, 40)).expect("rows are taken");
    }
    history.flush().expect("there is room");
    history
        .maintain(START_NS + 32 * HOUR_NS)
        .expect("there is room");
    assert_eq!((found(&history), counted(&history)), (40, 80));
    // Late rows of the hour whose short conversations are gone are added to the long ones.
    history.append(&rows(0, 5)).expect("rows are taken");
    history.flush().expect("there is room");
    assert_eq!(counted(&history), 85);
    history
        .maintain(START_NS + 32 * HOUR_NS)
        .expect("there is room");
    assert_eq!((found(&history), counted(&history)), (40, 85));
    drop(history);

    let few = EmbeddedOptions {
        flows: Retention {
            age_max_s: u64::MAX,
            bytes_max: 1,
        },
        ..options()
    };
    let history = EmbeddedHistory::open(dir.path(), few).expect("a directory to keep");
    history
        .maintain(START_NS + 33 * HOUR_NS)
        .expect("there is room");
    assert_eq!((found(&history), counted(&history)), (0, 85));
    assert_eq!(history.state().tiers[0].files, 0);
}

#[test]
fn sql_answers_one_select_over_its_tables_and_refuses_everything_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let history = open(dir.path());
    history.append(&rows(0, 40)).expect("rows are taken");
    history.flush().expect("there is room");
    history
        .maintain(START_NS + 2 * HOUR_NS)
        .expect("there is room");
    history.append(&rows(0, 2)).expect("rows are taken");
    let table = history
        .sql("SELECT dst, count(*) AS n FROM flows WHERE first_ns > 0 GROUP BY dst")
        .expect("an answer");
    assert_eq!(table.columns, ["dst", "n"]);
    assert_eq!(
        table.rows,
        [[Some("10.0.2.20".to_owned()), Some("42".to_owned())]]
    );
    let sum = history
        .sql("SELECT sum(flows) FROM conversations")
        .expect("an answer");
    assert_eq!(sum.rows, [[Some("42".to_owned())]]);
    let none = history
        .sql("SELECT workload, until_ns FROM memberships")
        .expect("an answer");
    assert_eq!((none.rows.len(), none.cut), (0, false));
    let many = "SELECT a.seq FROM flows a CROSS JOIN flows b CROSS JOIN conversations c";
    let many = history.sql(many).expect("an answer");
    assert_eq!((many.rows.len(), many.cut), (history::SQL_ROWS_MAX, true));
    let file = files(&dir.path().join("flows"), ".parquet").remove(0);
    for refused in [
        "DROP TABLE flows".to_owned(),
        "INSERT INTO flows SELECT * FROM flows".to_owned(),
        "CREATE TABLE x AS SELECT 1".to_owned(),
        "SELECT * INTO x FROM flows".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "EXPLAIN SELECT 1".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "SELECT".to_owned(),
        "SELECT nothing FROM flows".to_owned(),
        format!("COPY flows TO '{}/out.csv'", dir.path().display()),
        format!("SELECT * FROM '{}'", file.display()),
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
    ] {
        let answer = history.sql(&refused);
        assert!(
            matches!(answer, Err(HistoryError::Sql { .. })),
            "{refused}: {answer:?}"
        );
    }
    assert_eq!(found(&history), 42);
}

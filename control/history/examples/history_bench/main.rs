//! Figures of the embedded engine beside nfdump's, on the same flows.
//!
//! ```console
//! $ cargo run --release -p ringfence-history --example history_bench -- --flows 20000000 --dir /var/tmp/bench --nfdump
//! ```
//!
//! Flows are synthetic and skewed as real ones are: a stable graph of 300 000 edges drawn by Zipf's law, heavy-tailed
//! bytes and durations, 24 hours, some IPv6, times in milliseconds as NetFlow has them. One thread takes them, generation not
//! counted; maintenance goes on in a second one unless `--one-thread` says otherwise. nfdump gets the same flows as
//! NetFlow v9 through its own nfcapd on loopback.
#![forbid(unsafe_code)]

mod flows;
mod nfdump;

use api::filter::Filter;
use api::history::Conversation;
use flows::{END_NS, Generator, START_NS};
use history::{EmbeddedHistory, EmbeddedOptions, History, HistoryError, Retention, Selection};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Flows of one append.
const BATCH: usize = 8192;
/// How often a question is asked; the fastest counts, for both. nfdump over bz2, whose questions take the better part of
/// a minute each, is asked once.
pub(crate) const RUNS: usize = 3;

struct Arguments {
    flows: usize,
    dir: PathBuf,
    is_one_thread: bool,
    is_ingest_only: bool,
    /// Asks what an earlier run has left.
    is_ask_only: bool,
    only: Option<String>,
    nfdump: bool,
    threads: NonZeroUsize,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments {
        flows: 1_000_000,
        dir: std::env::temp_dir().join("ringfence-history-bench"),
        is_one_thread: false,
        is_ingest_only: false,
        is_ask_only: false,
        only: None,
        nfdump: false,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("the option has a value");
        match word.as_str() {
            "--flows" => arguments.flows = value().parse().expect("a number of flows"),
            "--dir" => arguments.dir = value().into(),
            "--threads" => arguments.threads = value().parse().expect("a number of threads"),
            "--one-thread" => arguments.is_one_thread = true,
            "--ingest-only" => arguments.is_ingest_only = true,
            "--ask-only" => arguments.is_ask_only = true,
            "--only" => arguments.only = Some(value()),
            "--nfdump" => arguments.nfdump = true,
            other => {
                panic!(
                    "{other}: --flows N --dir DIR --threads N --one-thread --ingest-only --ask-only --only QUESTION --nfdump"
                )
            }
        }
    }
    arguments
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// The fastest of some runs, and how many rows came.
pub(crate) fn fastest(runs: usize, mut run: impl FnMut() -> usize) -> (Duration, usize) {
    let mut best = (Duration::MAX, 0);
    for _ in 0..runs {
        let begin = Instant::now();
        let rows = run();
        best = best.min((begin.elapsed(), rows));
    }
    best
}

/// Takes the flows in this thread, and maintains every ten minutes of theirs: beside it in a second thread, as the
/// control process does, or in between.
fn ingest(history: &EmbeddedHistory, arguments: &Arguments) {
    let mut generator = Generator::new(arguments.flows);
    let mut batch = Vec::with_capacity(BATCH);
    let (mut spent, mut appended) = (Duration::ZERO, 0);
    let (mut maintained_ns, mut in_maintain) = (START_NS, Duration::ZERO);
    let maintain = |now_ns| {
        let begin = Instant::now();
        history.maintain(now_ns).expect("the engine rolls up");
        begin.elapsed()
    };
    std::thread::scope(|scope| {
        let (due, asked) = sync_channel(1);
        let beside = scope.spawn(move || asked.into_iter().map(maintain).sum::<Duration>());
        loop {
            batch.clear();
            batch.extend(generator.by_ref().take(BATCH));
            let Some(newest) = batch.last() else { break };
            let now_ns = newest.last_ns;
            let begin = Instant::now();
            history.append(&batch).expect("the engine takes rows");
            spent += begin.elapsed();
            appended += batch.len();
            if now_ns > maintained_ns + 600_000_000_000 {
                maintained_ns = now_ns;
                if arguments.is_one_thread {
                    in_maintain += maintain(now_ns);
                } else {
                    // One that still goes on finds what is due now the next time.
                    let _ = due.try_send(now_ns);
                }
            }
        }
        let begin = Instant::now();
        history.flush().expect("the engine flushes");
        spent += begin.elapsed();
        drop(due);
        in_maintain += beside.join().expect("maintenance does not panic");
    });
    in_maintain += maintain(END_NS + 86_400_000_000_000);
    let rate = |time: Duration| format!("{:.0}", appended as f64 / time.as_secs_f64());
    println!(
        "append and flush      {:>10} flows/s  {}",
        rate(spent),
        seconds(spent)
    );
    println!(
        "with roll-up, merges  {:>10} flows/s  {}{}",
        rate(spent + in_maintain),
        seconds(spent + in_maintain),
        match arguments.is_one_thread {
            true => "",
            false => ", both threads together",
        }
    );
}

/// How many conversations are handed over.
fn counted(
    ask: impl FnOnce(&mut dyn FnMut(Conversation) -> ControlFlow<()>) -> Result<(), HistoryError>,
) -> usize {
    let mut read = 0;
    let asked = ask(&mut |_| {
        read += 1;
        ControlFlow::Continue(())
    });
    asked.expect("conversations");
    read
}

fn questions(
    history: &EmbeddedHistory,
    only: Option<&str>,
) -> Vec<(&'static str, Duration, usize)> {
    let of = |filter: &str| Selection {
        since_ns: START_NS,
        until_ns: END_NS,
        filter: Filter::parse(filter).expect("a filter"),
    };
    let all = of("");
    let host = flows::host().to_string();
    let by = api::top::TopBy::Pairs;
    let metric = api::top::Metric::Bytes;
    let one_host = of(&format!("host {host}"));
    let mut told = Vec::new();
    let mut ask = |name, run: &mut dyn FnMut() -> usize| {
        if only.is_some_and(|only| only != name) {
            return;
        }
        let (time, rows) = fastest(RUNS, run);
        println!("{name:<12} {:>9} {rows:>9} rows", seconds(time));
        told.push((name, time, rows));
    };
    ask("matrix", &mut || {
        history.matrix(&all).expect("matrix").len()
    });
    ask("top", &mut || {
        history.top(&all, by, metric, 20).expect("top").len()
    });
    ask("host", &mut || {
        history.talkers(&host, &all).expect("talkers").len()
    });
    ask("host-top", &mut || {
        history.top(&one_host, by, metric, 0).expect("top").len()
    });
    ask("host-flows", &mut || {
        history.flows(&one_host, 1000).expect("flows").len()
    });
    ask("series", &mut || {
        history.series(&all, 3600).expect("series").len()
    });
    ask("series-5m", &mut || {
        history.series(&all, 300).expect("series").len()
    });
    ask("conversations", &mut || {
        counted(|each| history.conversations(&all, each))
    });
    ask("to-add-up", &mut || {
        counted(|each| history.conversations_to_add_up(&all, each))
    });
    ask("coverage", &mut || {
        history.coverage(&all).expect("coverage");
        1
    });
    told
}

/// Bytes of each column of a tier, the largest first.
fn columns(dir: &Path, flows: usize) {
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    for partition in std::fs::read_dir(dir).expect("a tier").flatten() {
        for file in std::fs::read_dir(partition.path())
            .expect("a partition")
            .flatten()
        {
            let file = std::fs::File::open(file.path()).expect("a file of rows");
            let reader = SerializedFileReader::new(file).expect("a file of rows");
            for group in reader.metadata().row_groups() {
                for column in group.columns() {
                    let name = column.column_path().string();
                    *sizes.entry(name).or_default() += column.compressed_size();
                }
            }
        }
    }
    let mut sizes: Vec<(String, i64)> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    for (name, bytes) in sizes.iter().take(20) {
        println!(
            "  {name:<20} {:>6.3} bytes a flow",
            *bytes as f64 / flows as f64
        );
    }
}

fn main() {
    let arguments = arguments();
    let dir = arguments.dir.join("ringfence");
    if dir.exists() && !arguments.is_ask_only {
        std::fs::remove_dir_all(&dir).expect("the directory of an earlier run goes");
    }
    let for_ever = Retention {
        age_max_s: u64::MAX,
        bytes_max: u64::MAX,
    };
    let options = EmbeddedOptions {
        flows: for_ever,
        short: for_ever,
        long: for_ever,
        query_threads: arguments.threads,
        ..EmbeddedOptions::default()
    };
    let history = EmbeddedHistory::open(&dir, options).expect("a directory to keep");
    println!("{} flows", arguments.flows);
    if !arguments.is_ask_only {
        ingest(&history, &arguments);
    }
    if arguments.is_ingest_only {
        return;
    }
    let mut bytes = 0;
    for tier in history.state().tiers {
        println!(
            "{:<18} {:>10} rows {:>12} bytes {:>5.2} a flow, {} files",
            tier.name,
            tier.rows,
            tier.bytes,
            tier.bytes as f64 / arguments.flows as f64,
            tier.files
        );
        columns(&dir.join(&tier.name), arguments.flows);
        bytes += tier.bytes;
    }
    println!(
        "all                {bytes:>28} bytes {:>5.2} a flow",
        bytes as f64 / arguments.flows as f64
    );
    let ours = questions(&history, arguments.only.as_deref());
    let theirs = match arguments.nfdump {
        true => nfdump::measure(&arguments.dir.join("nfdump"), arguments.flows, bytes),
        false => Vec::new(),
    };
    for (name, time, rows) in ours {
        print!("{name:<12} {:>9} {rows:>9} rows", seconds(time));
        for (their_name, compression, their_time) in &theirs {
            if *their_name == name {
                let ratio = their_time.as_secs_f64() / time.as_secs_f64();
                print!(
                    "   nfdump {compression} {} {ratio:.1}x",
                    seconds(*their_time)
                );
            }
        }
        println!();
    }
}

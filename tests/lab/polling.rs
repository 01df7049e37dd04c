//! A polling core calls the system never: strace on its thread sees nothing while packets flow.

use std::path::PathBuf;
use std::time::Duration;

use ringfence_tests::lab::{Appliance, Lab, Settings};
use ringfence_tests::places::own_captures;
use ringfence_tests::suite::{Needs, Promise};

/// How long strace watches.
const WATCH_SECONDS: &str = "4";

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "polling::a_polling_core_makes_no_system_call",
        needs: Needs::Namespaces,
        programs: &["strace", "timeout"],
        show: a_polling_core_makes_no_system_call,
    }]
}

fn a_polling_core_makes_no_system_call() {
    let lab = Lab::new();
    let capture = own_captures().join("plain.pcap");
    let lanes = format!(
        "[[lane]]\nname = \"loop\"\ninside = \"pcap:in={},infinite\"\noutside = \"null:no-rx\"\n",
        capture.display()
    );
    let settings = Settings {
        lanes: Some(lanes),
        idle: Some("none"),
        ..Settings::default()
    };
    let appliance = lab.appliance(&settings);
    let before = received(&appliance);
    let workers = worker_threads(appliance.dataplane_pid());
    assert!(
        !workers.is_empty(),
        "a thread is named after its work: {}",
        appliance.log()
    );
    for thread in workers {
        let trace = lab.directory().join(format!("trace-{thread}"));
        let command = [
            "timeout",
            "--signal=INT",
            WATCH_SECONDS,
            "strace",
            "-qq",
            "-e",
            "signal=none",
            "-p",
            &thread,
            "-o",
            &trace.display().to_string(),
        ];
        let watched = lab.run("box", &command, Duration::from_secs(180));
        assert!(trace.exists(), "strace ran: {watched}");
        let calls = std::fs::read_to_string(&trace).unwrap_or_default();
        assert!(
            calls.is_empty(),
            "thread {thread} called the system:\n{calls}"
        );
    }
    let after = received(&appliance);
    assert!(
        after > before + 10_000,
        "packets flowed meanwhile: {before} before, {after} after"
    );
    appliance.finish();
}

fn received(appliance: &Appliance<'_>) -> u64 {
    appliance.json(&["status"])["traffic"]["rx_packets"]
        .as_u64()
        .unwrap_or(0)
}

/// Ids of the threads whose name begins with `worker`.
fn worker_threads(process: u64) -> Vec<String> {
    let tasks = PathBuf::from(format!("/proc/{process}/task"));
    let entries = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            std::fs::read_to_string(entry.path().join("comm"))
                .is_ok_and(|name| name.starts_with("worker"))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

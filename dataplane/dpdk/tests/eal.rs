//! How EAL refuses to start. Every case is a process of its own: this test starts itself.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::{env, fs};

use dpdk::{Eal, EalOptions, LogLevel, Memory};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Tells the child what to do.
const CASE: &str = "RINGFENCE_TEST_EAL_CASE";

fn ordinary() -> EalOptions {
    let memory = Memory::Ordinary {
        mb: NonZeroU32::new(32).unwrap(),
    };
    EalOptions {
        memory,
        ..EalOptions::default()
    }
}

fn run(case: &str) -> String {
    let output: Output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--include-ignored"])
        .env(CASE, case)
        .output()
        .unwrap();
    assert!(output.status.success(), "{case}: {output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("OUTCOME "))
        .unwrap_or(&text)
        .to_owned()
}

/// Where libdpdk keeps files of the instance: of root, of a user with a session, of any other.
fn runtime_directory(prefix: &str) -> Option<PathBuf> {
    let session = env::var_os("XDG_RUNTIME_DIR").map(|path| PathBuf::from(path).join("dpdk"));
    let above = ["/var/run/dpdk".into(), "/tmp/dpdk".into()];
    let mut directories = above.into_iter().chain(session);
    directories.find_map(|path| Some(path.join(prefix)).filter(|path| path.is_dir()))
}

/// Not a test by itself: what the processes of the other tests run.
#[test]
#[ignore = "runs in the processes that the other tests start"]
fn child() {
    let Some(case) = env::var_os(CASE) else {
        return;
    };
    let prefix = format!("ringfence-test-{}", std::process::id());
    let outcome = match case.to_str().unwrap() {
        "hugepages" => Eal::start(&EalOptions::default()),
        "too-few" => {
            let memory = Memory::PrivateHugepages {
                mb: NonZeroU32::new(u32::MAX),
            };
            Eal::start(&EalOptions {
                memory,
                ..EalOptions::default()
            })
        }
        "twice" => {
            let first = Eal::start(&ordinary()).unwrap();
            let second = Eal::start(&ordinary());
            drop(first);
            second
        }
        "prefix" => {
            let options = EalOptions {
                file_prefix: Some(prefix.clone()),
                ..ordinary()
            };
            let first = Eal::start(&options).unwrap();
            // SAFETY: this process has one other thread, the test harness, which is waiting.
            unsafe { env::set_var("RINGFENCE_TEST_EAL_PREFIX", &prefix) };
            let outcome = run("second");
            let directory = runtime_directory(&prefix).expect("kept as long as EAL runs");
            assert!(directory.join("config").exists(), "the refused one took it");
            drop(first);
            assert!(!directory.exists(), "left behind: {}", directory.display());
            eprintln!("OUTCOME {outcome}");
            return;
        }
        "second" => {
            let file_prefix = env::var_os("RINGFENCE_TEST_EAL_PREFIX");
            let file_prefix = file_prefix.map(|prefix| prefix.into_string().unwrap());
            Eal::start(&EalOptions {
                file_prefix,
                ..ordinary()
            })
        }
        "nul" => Eal::start(&EalOptions {
            file_prefix: Some("a\0b".into()),
            ..ordinary()
        }),
        "cpu" => Eal::start(&EalOptions {
            main_cpu: Some(9999),
            ..ordinary()
        }),
        "affinity" => {
            let before = sched_getaffinity(None).unwrap();
            let first = (0..CpuSet::MAX_CPU)
                .find(|cpu| before.is_set(*cpu))
                .unwrap();
            let main_cpu = Some(u16::try_from(first).unwrap());
            let started = Eal::start(&EalOptions {
                main_cpu,
                ..ordinary()
            });
            assert!(
                sched_getaffinity(None).unwrap() == before,
                "eal kept its caller pinned"
            );
            started
        }
        "locked" => {
            let eal = Eal::start(&EalOptions {
                lock_memory: true,
                ..ordinary()
            })
            .unwrap();
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let locked = status
                .lines()
                .find_map(|line| line.strip_prefix("VmLck:"))
                .unwrap();
            let locked_kb: u64 = locked.trim_end_matches("kB").trim().parse().unwrap();
            assert_eq!(
                eal.memory_locked(),
                locked_kb >= 32 * 1024,
                "{locked_kb} kB are locked"
            );
            Ok(eal)
        }
        "debug" => Eal::start(&EalOptions {
            log_level: LogLevel::Debug,
            ..ordinary()
        }),
        case => panic!("unknown case {case}"),
    };
    match outcome {
        Ok(eal) => eprintln!("OUTCOME started {}", eal.dpdk_release()),
        Err(error) => eprintln!("OUTCOME {error}"),
    }
}

#[test]
fn a_host_without_hugepages_is_told_what_to_do() {
    static FREE: AtomicBool = AtomicBool::new(false);
    for size in fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten()
    {
        let pages = fs::read_to_string(size.path().join("free_hugepages")).unwrap_or_default();
        FREE.fetch_or(pages.trim() != "0", std::sync::atomic::Ordering::Relaxed);
    }
    let outcome = run("hugepages");
    if FREE.load(std::sync::atomic::Ordering::Relaxed) {
        assert!(outcome.starts_with("started DPDK"), "{outcome}");
        assert!(run("too-few").contains("hugepages asked for"));
    } else {
        assert!(outcome.starts_with("no free hugepages"), "{outcome}");
        assert!(outcome.contains("./hugepage-setup reserve"), "{outcome}");
    }
}

#[test]
fn it_starts_once_in_a_process() {
    assert!(run("twice").contains("started before in this process"));
}

#[test]
fn a_second_instance_with_the_same_prefix_is_refused_by_name() {
    let outcome = run("prefix");
    assert!(
        outcome.contains("another instance with the file prefix `ringfence-test-"),
        "{outcome}"
    );
}

#[test]
fn nonsense_is_refused_in_words() {
    assert_eq!(run("nul"), "option `--file-prefix=ab` holds a NUL byte");
    let outcome = run("cpu");
    assert!(outcome.contains("dpdk did not start"), "{outcome}");
}

#[test]
fn the_thread_that_starts_it_keeps_its_affinity() {
    assert!(run("affinity").starts_with("started DPDK"));
}

#[test]
fn it_says_whether_memory_is_locked() {
    assert!(run("locked").starts_with("started DPDK"));
}

#[test]
fn debug_log_is_not_lost() {
    assert!(run("debug").starts_with("started DPDK"));
}

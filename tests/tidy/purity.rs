//! Pure rooms, the addresses of `unsafe`, and what never stands in product code.

use ringfence_tests::places::root;

use crate::assert_none;
use crate::source::{Source, sources};

const PURE: &[&str] = &[
    "dataplane/packet/src/",
    "dataplane/flow/src/",
    "dataplane/acl/src/",
    "dataplane/abi/src/",
    "control/policy/src/",
    "control/ipfix/src/",
    "control/api/src/",
];
/// Shared memory is opened here; everything else of abi only looks at bytes.
const PURE_EXCEPT: &[&str] = &["dataplane/abi/src/shm.rs"];
/// Addresses of `std::net` are plain values; its sockets are not.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "std::os::",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "stdin()",
    "stdout()",
    "stderr()",
    "println!",
    "eprintln!",
    "thread_local!",
];
const UNSAFE_ADDRESSES: &[&str] = &[
    "dataplane/dpdk-sys/",
    "dataplane/dpdk/",
    "dataplane/abi/src/shm.rs",
    "dataplane/abi/src/ring.rs",
    "dataplane/abi/src/stats.rs",
    "dataplane/flow/src/prefetch.rs",
    "perf/",
];
/// Counting allocators of tests: an allocator cannot be written without `unsafe`.
const UNSAFE_ALLOCATORS: &[&str] = &[
    "allocations.rs",
    "allocation.rs",
    "alloc_count.rs",
    "allocator.rs",
    "zero_alloc.rs",
];
const LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Places in product code where one of the words stands.
fn places(source: &Source, words: &[&str]) -> Vec<String> {
    let lines = source.product().lines().enumerate();
    lines
        .flat_map(|(index, line)| {
            words
                .iter()
                .filter(|word| has_word(line, word))
                .map(move |word| (index, *word))
        })
        .map(|(index, word)| format!("{}:{}: {word}", source.path, index + 1))
        .collect()
}

/// Whether `word` stands in `line`, not as a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let starts = !word.starts_with(is_name) || !line[..at].ends_with(is_name);
        let ends = !word.ends_with(is_name) || !line[at + word.len()..].starts_with(is_name);
        starts && ends
    })
}

#[test]
fn pure_rooms_touch_no_socket_file_clock_thread_or_environment() {
    let rooms = sources()
        .iter()
        .filter(|s| starts_with_any(&s.path, PURE) && !PURE_EXCEPT.contains(&s.path.as_str()));
    let findings: Vec<String> = rooms.flat_map(|source| places(source, OUTSIDE)).collect();
    assert_none("bytes and time come as arguments:", &findings);
}

#[test]
fn unsafe_stands_only_at_its_addresses() {
    let is_allocator =
        |s: &Source| s.is_test && UNSAFE_ALLOCATORS.iter().any(|name| s.path.ends_with(name));
    let elsewhere = sources()
        .iter()
        .filter(|s| !starts_with_any(&s.path, UNSAFE_ADDRESSES) && !is_allocator(s));
    let mut findings = Vec::new();
    for source in elsewhere {
        let lines = source
            .code
            .lines()
            .enumerate()
            .filter(|(_, line)| has_word(line, "unsafe"));
        findings.extend(
            lines.map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim())),
        );
    }
    assert_none("unsafe has an address:", &findings);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut findings = Vec::new();
    for source in sources() {
        let (text, code): (Vec<&str>, Vec<&str>) =
            (source.text.lines().collect(), source.code.lines().collect());
        for (index, line) in code
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains("unsafe {") || line.contains("unsafe impl"))
        {
            let above = &text[index.saturating_sub(12)..=index];
            if !above.iter().any(|line| line.contains("SAFETY:")) {
                findings.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    assert_none("a `// SAFETY:` reason stands above each:", &findings);
}

#[test]
fn crates_without_an_address_forbid_unsafe() {
    let roots = sources()
        .iter()
        .filter(|s| s.path.ends_with("src/lib.rs") || s.path.ends_with("src/main.rs"));
    let findings: Vec<String> = roots
        .filter(|s| {
            !starts_with_any(
                &s.path,
                &["dataplane/dpdk-sys/", "dataplane/dpdk/", "perf/", "fuzz/"],
            )
        })
        .filter(|s| {
            let has_address = starts_with_any(&s.path, &["dataplane/abi/", "dataplane/flow/"]);
            let law = if has_address {
                "#![deny(unsafe_code)]"
            } else {
                "#![forbid(unsafe_code)]"
            };
            !s.code.contains(law)
        })
        .map(|s| s.path.clone())
        .collect();
    assert_none(
        "the crate root forbids unsafe (abi and flow deny it):",
        &findings,
    );
}

#[test]
fn nothing_is_left_to_do_in_code() {
    let words = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("db", "g!"),
    ];
    let findings: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            let lines = source.code.lines().enumerate();
            lines
                .filter(|(_, line)| words.iter().any(|word| has_word(line, word)))
                .map(|(index, _)| format!("{}:{}", source.path, index + 1))
        })
        .collect();
    assert_none("unfinished or left over:", &findings);
}

#[test]
fn a_file_is_read_in_a_sitting() {
    let counted = sources().iter().map(|s| (s, s.text.lines().count()));
    let findings: Vec<String> = counted
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(s, lines)| format!("{}: {lines} lines", s.path))
        .collect();
    assert_none(&format!("at most {LINES_MAX} lines:"), &findings);
}

#[test]
fn a_function_fits_a_screen() {
    let findings: Vec<String> = sources().iter().flat_map(long_functions).collect();
    assert_none(&format!("at most {FUNCTION_LINES_MAX} lines:"), &findings);
}

/// rustfmt puts the closing brace of a function at the indentation of its first line.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.product().lines().collect();
    let mut findings = Vec::new();
    for (index, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| has_word(line, "fn"))
    {
        let indentation = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indentation}}}");
        let opens = lines[index..]
            .iter()
            .take(20)
            .position(|l| l.trim_end().ends_with('{') || l.contains(';') || l.ends_with('}'));
        if !opens.is_some_and(|at| lines[index + at].trim_end().ends_with('{')) {
            continue;
        }
        let length = lines[index..]
            .iter()
            .position(|l| l.trim_end() == close)
            .map_or(0, |at| at + 1);
        if length > FUNCTION_LINES_MAX {
            findings.push(format!("{}:{}: {length} lines", source.path, index + 1));
        }
    }
    findings
}

#[test]
fn the_build_script_is_one() {
    let scripts: Vec<String> = sources()
        .iter()
        .filter(|s| s.path.ends_with("build.rs"))
        .map(|s| s.path.clone())
        .collect();
    assert_eq!(scripts, ["build.rs"]);
    assert!(root().join("build.rs").is_file());
}

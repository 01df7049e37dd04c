//! Instructions a packet have not changed by more than 5 % against the record.
//!
//! Of an optimised build, so it says nothing in others: `cargo test --release -p ringfence-perf
//! --test instructions`. Says SKIPPED where valgrind is missing.
#![cfg(not(debug_assertions))]

use std::process::Command;

fn instructions(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringfence-perf"))
        .arg("instructions")
        .args(arguments)
        .output()
        .expect("ringfence-perf runs");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), text.concat())
}

#[test]
fn instructions_a_packet_are_those_of_the_record() {
    let (holds, text) = instructions(&[]);
    println!("{text}");
    assert!(holds, "{text}");
}

#[test]
fn a_record_of_a_cheaper_packet_fails_with_the_function_that_grew() {
    let dir = tempfile::tempdir().expect("a directory");
    let record = dir.path().join("record.toml");
    let text = "[record]\na_packet = 3.0\n[record.functions]\n";
    std::fs::write(&record, text).expect("written");
    let (holds, text) = instructions(&["record", "--record", &record.display().to_string()]);
    if text.contains("SKIPPED") {
        println!("{text}");
        return;
    }
    assert!(
        !holds && text.contains("record: grew from 3.0 to"),
        "{text}"
    );
    assert!(text.contains("ring"), "no function is named: {text}");
}

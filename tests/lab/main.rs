//! Promises that need a whole appliance: one file each, shown with real hosts and real tools.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use ringfence_tests::suite::{self, Promise};

fn main() -> ExitCode {
    let promises: Vec<Promise> = Vec::new();
    suite::main(&promises)
}

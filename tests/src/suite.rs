//! The harness of the lab: one promise after the other, because each needs the machine for itself.
//! Says what is skipped and why, and prints the result line that cargo's own harness prints.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What a promise cannot be shown without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Root, and the right to make network namespaces.
    Namespaces,
    /// Only the binaries.
    Binaries,
}

/// One promise and how it is shown.
pub struct Promise {
    /// A sentence.
    pub name: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Programs it needs besides.
    pub programs: &'static [&'static str],
    /// Shows it, or panics with a sentence.
    pub show: fn(),
}

/// Says that a test is skipped, and why, past what a harness keeps back of a test that passes: `make test` counts it.
pub fn say_skipped(why: &str) {
    // Nothing can be done where standard error is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Shows every promise whose name contains one of the words on the command line.
#[must_use]
pub fn main(promises: &[Promise]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let listing = arguments.iter().any(|argument| argument == "--list");
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen: Vec<&Promise> = promises
        .iter()
        .filter(|promise| {
            filters.is_empty()
                || filters
                    .iter()
                    .any(|filter| promise.name.contains(filter.as_str()))
        })
        .collect();
    if listing {
        chosen
            .iter()
            .for_each(|promise| println!("{}: test", promise.name));
        return ExitCode::SUCCESS;
    }
    crate::lab::remove_leftovers();
    show_all(&chosen, promises.len() - chosen.len())
}

fn show_all(chosen: &[&Promise], filtered_out: usize) -> ExitCode {
    let begin = Instant::now();
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    println!("\nrunning {} tests", chosen.len());
    for promise in chosen {
        if let Some(why) = obstacle(promise) {
            println!("test {} ... SKIPPED: {why}", promise.name);
            skipped += 1;
            continue;
        }
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(promise.show)) {
            Ok(()) => {
                println!(
                    "test {} ... ok ({:.1} s)",
                    promise.name,
                    start.elapsed().as_secs_f64()
                );
                passed += 1;
            }
            Err(_) => {
                println!(
                    "test {} ... FAILED ({:.1} s)",
                    promise.name,
                    start.elapsed().as_secs_f64()
                );
                failed.push(promise.name);
            }
        }
    }
    failed.iter().for_each(|name| println!("failed: {name}"));
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {filtered_out} filtered out; \
         finished in {:.2}s\n",
        failed.len(),
        begin.elapsed().as_secs_f64()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn obstacle(promise: &Promise) -> Option<String> {
    if promise.needs == Needs::Namespaces
        && let Err(why) = crate::lab::possible()
    {
        return Some(why);
    }
    promise
        .programs
        .iter()
        .find(|program| !crate::lab::has_program(program))
        .map(|program| format!("`{program}` is not installed"))
}

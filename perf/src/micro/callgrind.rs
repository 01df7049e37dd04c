//! Counts the instructions of a program's named functions with valgrind's callgrind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// What callgrind counted inside the chosen functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Instructions by function, its callees not among them. Names without their hash.
    pub(crate) functions: BTreeMap<String, u64>,
    /// What the program printed.
    pub(crate) printed: String,
}

impl Counted {
    /// Instructions in all.
    pub(crate) fn total(&self) -> u64 {
        self.functions.values().sum()
    }
}

/// Whether valgrind can be run here.
pub(crate) fn is_here() -> bool {
    let asked = Command::new("valgrind").arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

/// Runs `program` with `arguments` and counts what is executed inside the functions that `pattern`
/// names, callees included. No caches are simulated.
///
/// # Errors
/// A sentence: valgrind did not start, the program failed under it, or nothing was counted.
pub(crate) fn count(program: &Path, arguments: &[&str], pattern: &str) -> Result<Counted, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let out = dir.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--cache-sim=no",
            "--branch-sim=no",
            "-q",
        ])
        .arg("--collect-atstart=no")
        .arg(format!("--toggle-collect={pattern}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(arguments)
        // The C library picks its copying by the processor; the count must not depend on that.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM",
        )
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("valgrind did not start ({error}); install it with `apt-get install valgrind`")
        })?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("nothing on stderr");
        return Err(format!("under valgrind, {arguments:?} failed: {last}"));
    }
    let text =
        std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let functions = functions(&text);
    if functions.is_empty() {
        return Err(format!(
            "callgrind counted nothing in functions named {pattern}; were they inlined?"
        ));
    }
    Ok(Counted { functions, printed })
}

/// Instructions of each function itself, from callgrind's output file (its manual, "Callgrind
/// Format Specification").
fn functions(text: &str) -> BTreeMap<String, u64> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut costs = BTreeMap::new();
    let mut now = "";
    let mut after_call = false;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            let named = match key {
                "fn" | "cfn" => resolve(value, &mut names),
                _ => "",
            };
            match key {
                "fn" => now = named,
                "calls" => after_call = true,
                _ => {}
            }
            continue;
        }
        if !line.starts_with([
            '+', '-', '*', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
        ]) {
            continue;
        }
        // The line after `calls=` has what the callee cost, which is counted there.
        if std::mem::take(&mut after_call) {
            continue;
        }
        let cost = line.split_ascii_whitespace().nth(1);
        if let Some(cost) = cost.and_then(|cost| cost.parse::<u64>().ok()) {
            *costs.entry(plain(now)).or_default() += cost;
        }
    }
    costs.retain(|_, cost| *cost > 0);
    costs
}

/// `(12) name` gives the number a name; `(12)` alone means that name again.
fn resolve<'a>(value: &'a str, names: &mut BTreeMap<&'a str, &'a str>) -> &'a str {
    match value.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(value).copied().unwrap_or(value),
    }
}

/// A function's name as it stands in the source: without the hash of its crate.
fn plain(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            path.to_owned()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callee_is_counted_once_and_names_are_remembered() {
        let text = "version: 1\npositions: line\nevents: Ir\nsummary: 999\n\n\
                    fl=(1) core.rs\nfn=(1) room::outer::h0123456789abcdef\n10 5\n+1 7\n\
                    cfi=(2) other.rs\ncfn=(2) room::inner\ncalls=3 20\n* 300\n12 1\n\n\
                    fl=(2)\nfn=(2)\n20 100\nfi=(1)\n30 200\nfe=(2)\n\nfn=(1)\n13 2\ntotals: 315\n";
        let counted = functions(text);
        let expected = [("room::outer", 15), ("room::inner", 300)];
        assert_eq!(
            counted,
            expected.map(|(name, cost)| (name.to_owned(), cost)).into()
        );
    }

    #[test]
    fn functions_that_cost_nothing_are_left_out() {
        assert!(functions("fn=(1) idle\n1 0\n").is_empty());
    }
}

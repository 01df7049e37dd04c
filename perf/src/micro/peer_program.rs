//! Small programs of the peers: C sources under `peers/`, compiled here against the installed
//! libdpdk, and whatever else is run pinned to one core.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the peers' sources are.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers")).join(path)
}

/// Compiles a C source into `dir`, for this very processor, and gives the program.
///
/// # Errors
/// A sentence: no compiler, no libdpdk, or what the compiler said.
pub(crate) fn compile(source: &Path, libraries: &[&str], dir: &Path) -> Result<PathBuf, String> {
    let flags = Command::new("pkg-config")
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| format!("pkg-config did not start: {error}"))?;
    if !flags.status.success() {
        return Err(
            "libdpdk is not installed; install it with `apt-get install libdpdk-dev`".into(),
        );
    }
    let program = dir.join(source.file_stem().unwrap_or(OsStr::new("peer")));
    let output = Command::new("cc")
        .args(["-O3", "-std=gnu11"])
        .args(String::from_utf8_lossy(&flags.stdout).split_ascii_whitespace())
        // After pkg-config's own choice of a processor, which is an old one.
        .arg("-march=native")
        .arg(source)
        .arg("-o")
        .arg(&program)
        .args(libraries)
        .output()
        .map_err(|error| {
            format!("cc did not start ({error}); install it with `apt-get install build-essential`")
        })?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {said}", source.display()))
}

/// A command that runs on one CPU and nowhere else, for `limit_s` seconds at most.
pub(crate) fn pinned(core: usize, limit_s: u32, program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", &limit_s.to_string()])
        .args(["taskset", "-c", &core.to_string()])
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// Arguments for libdpdk that leave every device and every other DPDK program alone.
pub(crate) fn eal_arguments(core: usize, memory_mb: u32, hugepages: bool) -> Vec<String> {
    let mut arguments: Vec<String> = ["--no-pci", "--no-telemetry", "--log-level=error"]
        .map(str::to_owned)
        .into();
    arguments.extend(["-l".to_owned(), core.to_string()]);
    arguments.extend(["-m".to_owned(), memory_mb.to_string()]);
    arguments.push(format!(
        "--file-prefix=ringfence-perf-{}",
        std::process::id()
    ));
    arguments.push(
        if hugepages {
            "--in-memory"
        } else {
            "--no-huge"
        }
        .to_owned(),
    );
    arguments
}

/// Runs a command and gives the numbers of its last line.
///
/// # Errors
/// A sentence: it did not start, failed, or its last line is not `count` numbers.
pub(crate) fn numbers(command: &mut Command, count: usize) -> Result<Vec<f64>, String> {
    let name = format!("{:?}", command.get_args().nth(6).unwrap_or_default());
    let output = command
        .output()
        .map_err(|error| format!("{name} did not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text
        .lines()
        .last()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    if output.status.success() && numbers.len() == count {
        return Ok(numbers);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("nothing on stderr");
    Err(format!("{name} ended with {}: {last}", output.status))
}

/// Free hugepages of 2 MiB.
pub(crate) fn hugepages_free() -> u64 {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Command {
        let mut command = pinned(0, 10, Path::new("/bin/sh"));
        command.args(["-c", text]);
        command
    }

    #[test]
    fn the_numbers_of_the_last_line_are_read() {
        let read = numbers(&mut shell("echo EAL: 5 lcores; echo 12.5 3"), 2);
        assert_eq!(read, Ok(vec![12.5, 3.0]));
    }

    #[test]
    fn a_program_that_fails_or_says_too_little_is_an_error_with_its_words() {
        let error = numbers(&mut shell("echo 1; echo no memory >&2; exit 1"), 1);
        assert!(error.is_err_and(|error| error.contains("no memory")));
        assert!(numbers(&mut shell("echo 1"), 2).is_err());
    }
}

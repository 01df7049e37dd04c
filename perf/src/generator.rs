//! The generator: builds `generator/generator.c`, says what it writes, reads what it has written.

use crate::traffic::{Frame, Traffic};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The source of the generator, so that a program that was moved can still build it.
const SOURCE: &str = include_str!("../generator/generator.c");
/// Sources (port queues) whose counters there are; as in `generator.c`.
const SOURCES_MAX: u64 = 16;
/// Bytes of counters of a source.
const COUNTS_BYTES: u64 = 64;

/// Where in the counters of a source stands the word that ends its scan.
const SCAN_STOP_OFFSET: u64 = 40;

/// What one source has written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Frames of established flows, first to last end.
    pub(crate) forward: u64,
    /// Their replies.
    pub(crate) reply: u64,
    /// First frames of new flows.
    pub(crate) fresh: u64,
    /// Frames of the scan.
    pub(crate) scan: u64,
    /// Frames of the scan that were not fetched in time.
    pub(crate) scan_missed: u64,
}

impl Counts {
    /// Frames of established flows.
    pub(crate) fn established(&self) -> u64 {
        self.forward + self.reply
    }

    /// All frames written.
    #[cfg(test)]
    pub(crate) fn written(&self) -> u64 {
        self.established() + self.fresh + self.scan
    }

    fn plus(self, other: Self) -> Self {
        Self {
            forward: self.forward + other.forward,
            reply: self.reply + other.reply,
            fresh: self.fresh + other.fresh,
            scan: self.scan + other.scan,
            scan_missed: self.scan_missed + other.scan_missed,
        }
    }
}

/// A generator for one run of one program.
pub(crate) struct Generator {
    library: PathBuf,
    settings: String,
    counts: std::fs::File,
}

impl Generator {
    /// Builds the library into `dir` and names the `net_null` ports it feeds.
    ///
    /// # Errors
    /// A sentence: no compiler, no libdpdk.
    pub(crate) fn new(dir: &Path, traffic: &Traffic, ports: &[&str]) -> Result<Self, String> {
        let library = build(dir)?;
        let path = dir.join("counts");
        let counts = std::fs::File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        counts
            .set_len(SOURCES_MAX * COUNTS_BYTES)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let settings = format!("{},counts={}", settings(traffic, ports), path.display());
        Ok(Self {
            library,
            settings,
            counts,
        })
    }

    /// Has `command` load it. The command must be the program itself, not one that starts it.
    pub(crate) fn load_into(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("RINGFENCE_GENERATOR", &self.settings);
    }

    /// Ends the scan of every source.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn stop_scan(&self) -> Result<(), String> {
        for source in 0..SOURCES_MAX {
            let at = source * COUNTS_BYTES + SCAN_STOP_OFFSET;
            let written = self.counts.write_all_at(&1_u64.to_ne_bytes(), at);
            written.map_err(|error| format!("counts of the generator: {error}"))?;
        }
        Ok(())
    }

    /// What all sources have written so far.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn counts(&self) -> Result<Counts, String> {
        let mut bytes = [0_u8; (SOURCES_MAX * COUNTS_BYTES) as usize];
        self.counts
            .read_exact_at(&mut bytes, 0)
            .map_err(|error| format!("counts of the generator: {error}"))?;
        let sources = bytes.chunks_exact(COUNTS_BYTES as usize);
        Ok(sources.map(counts_of).fold(Counts::default(), Counts::plus))
    }
}

fn counts_of(bytes: &[u8]) -> Counts {
    let word = |index: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
        u64::from_ne_bytes(word)
    };
    Counts {
        forward: word(0),
        reply: word(1),
        fresh: word(2),
        scan: word(3),
        scan_missed: word(4),
    }
}

/// What `RINGFENCE_GENERATOR` says.
fn settings(traffic: &Traffic, ports: &[&str]) -> String {
    format!(
        "ports={},flows={},both={},new={},scan={},family={},vxlan={},imix={}",
        ports.join("+"),
        traffic.flows,
        u8::from(traffic.both_directions),
        traffic.new_flow_percent,
        traffic.scan_per_second,
        traffic.family.number(),
        u8::from(traffic.vxlan),
        u8::from(traffic.frame == Frame::Imix),
    )
}

/// Compiles the library with the C compiler and the flags of libdpdk.
fn build(dir: &Path) -> Result<PathBuf, String> {
    let (source, library) = (dir.join("generator.c"), dir.join("generator.so"));
    std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let flags = Command::new("pkg-config")
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| format!("pkg-config did not start: {error}"))?;
    if !flags.status.success() {
        return Err("pkg-config does not know libdpdk; install libdpdk-dev".into());
    }
    let output = Command::new("cc")
        .args(["-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
        .args(String::from_utf8_lossy(&flags.stdout).split_whitespace())
        .arg(&source)
        .arg("-o")
        .arg(&library)
        .args(["-lrte_ethdev", "-lrte_mbuf", "-lrte_mempool", "-lrte_eal"])
        .output()
        .map_err(|error| format!("cc did not start: {error}"))?;
    if output.status.success() {
        Ok(library)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("the generator does not compile: {said}"))
    }
}

#[cfg(test)]
mod tests;

//! A capture file to flow records, everything of each side on one CPU: `ringfence replay` beside
//! softflowd, nfpcapd and pmacctd.
//!
//! Time is what the whole command, its children with it, spends on the CPU, less that of the same
//! command on a capture of one frame: starting, ending and waiting do not count, reading, counting and handing the records on do. Ours are in the
//! control process then; softflowd and pmacctd have sent theirs as `NetFlow` v9, nfpcapd has
//! written its file. pmacctd, an order of magnitude behind the others, runs once. What it takes to print every flow as text besides is told beside it.

use crate::rows::{Check, Effort, Outcome};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Frames of the capture.
const FRAMES: u32 = 4_000_000;
/// Seconds any of the commands may take.
const LIMIT_S: u32 = 900;
/// No generated flow has this port: nothing is printed.
const NO_FLOW: &str = "port 1";

/// Who makes records of a capture.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Ringfence,
    RingfencePrinted,
    Softflowd,
    Nfpcapd,
    Pmacctd,
}

impl Side {
    const ALL: [Self; 5] = [
        Self::Ringfence,
        Self::RingfencePrinted,
        Self::Softflowd,
        Self::Nfpcapd,
        Self::Pmacctd,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Ringfence => "ringfence",
            Self::RingfencePrinted => "ringfence, every flow printed",
            Self::Softflowd => "softflowd",
            Self::Nfpcapd => "nfpcapd",
            Self::Pmacctd => "pmacctd",
        }
    }

    const fn is_peer(self) -> bool {
        matches!(self, Self::Softflowd | Self::Nfpcapd | Self::Pmacctd)
    }
}

/// Captures and scratch of one row.
struct Bench {
    dir: tempfile::TempDir,
    capture: PathBuf,
    one_frame: PathBuf,
    /// Takes what is exported and throws it away.
    collector: UdpSocket,
    core: usize,
}

/// The row with so many flows.
///
/// # Errors
/// A sentence: a program is missing, failed, or the capture cannot be written.
pub(crate) fn row(flows: u32, effort: &Effort) -> Result<Outcome, String> {
    let bench = Bench::new(flows, effort.core)?;
    let mut rates: BTreeMap<Side, Vec<f64>> = BTreeMap::new();
    let mut checks = Vec::new();
    for run in 0..effort.runs {
        for side in Side::ALL {
            if side == Side::Pmacctd && run > 0 {
                // An order of magnitude behind the others: once is enough to know.
                continue;
            }
            let (idle_s, _) = bench.time(side, &bench.one_frame)?;
            let (s, told) = bench.time(side, &bench.capture)?;
            rates
                .entry(side)
                .or_default()
                .push(f64::from(FRAMES) / (s - idle_s).max(1e-3));
            if run == 0 {
                checks.extend(bench.check(side, flows, &told));
            }
        }
    }
    let middle: BTreeMap<Side, f64> = rates
        .iter()
        .map(|(side, rates)| (*side, crate::median(&mut rates.clone())))
        .collect();
    let best = Side::ALL.into_iter().filter(|side| side.is_peer());
    let best = best
        .max_by(|a, b| middle[a].total_cmp(&middle[b]))
        .ok_or("no peer ran")?;
    let ratios = rates[&Side::Ringfence]
        .iter()
        .zip(&rates[&best])
        .map(|(our, their)| our / their);
    let told = middle
        .iter()
        .map(|(side, rate)| format!("{} {:.2}", side.name(), rate / 1e6));
    Ok(Outcome {
        value: middle[&Side::Ringfence] / middle[&best],
        spread: ratios.fold((f64::MAX, f64::MIN), |(low, high), r| {
            (low.min(r), high.max(r))
        }),
        told: format!("Mpps: {}", told.collect::<Vec<_>>().join("; ")),
        samples: rates
            .into_iter()
            .map(|(side, rates)| (side.name().into(), rates))
            .collect(),
        checks,
        command: format!(
            "taskset -c {} ringfence replay CAPTURE --filter '{NO_FLOW}'",
            effort.core
        ),
        ..Outcome::default()
    })
}

impl Bench {
    fn new(flows: u32, core: usize) -> Result<Self, String> {
        let dir =
            tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let (capture, one_frame) = (dir.path().join("capture"), dir.path().join("one"));
        write(&capture, flows, FRAMES)
            .and_then(|()| write(&one_frame, 1, 1))
            .map_err(|error| format!("{}: {error}", dir.path().display()))?;
        let collector = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        Ok(Self {
            dir,
            capture,
            one_frame,
            collector,
            core,
        })
    }

    /// CPU seconds that a side takes for a capture, and what it said.
    fn time(&self, side: Side, capture: &Path) -> Result<(f64, String), String> {
        let mut command = self.command(side, capture)?;
        let before = children_cpu_s()?;
        let output = command
            .output()
            .map_err(|error| format!("{} did not start: {error}", side.name()))?;
        let seconds = children_cpu_s()? - before;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() {
            return Ok((seconds, said));
        }
        let last = said.lines().last().unwrap_or("it said nothing");
        Err(format!(
            "{} ended with {}: {last}",
            side.name(),
            output.status
        ))
    }

    fn command(&self, side: Side, capture: &Path) -> Result<Command, String> {
        let mut command = Command::new("timeout");
        command.args(["-s", "INT", "-k", "5", &LIMIT_S.to_string()]);
        command.args(["taskset", "-c", &self.core.to_string()]);
        command.env("PATH", path()).stdin(Stdio::null());
        let address = self
            .collector
            .local_addr()
            .map_err(|error| error.to_string())?;
        let (dir, file) = (self.dir.path(), capture.display().to_string());
        match side {
            Side::Ringfence | Side::RingfencePrinted => {
                let own = std::env::current_exe().map_err(|error| error.to_string())?;
                command
                    .arg(own.with_file_name("ringfence"))
                    .args(["replay", &file]);
                command
                    .args(["--format", "tsv", "--out"])
                    .arg(dir.join("flows.tsv"));
                if side == Side::Ringfence {
                    command.args(["--filter", NO_FLOW]);
                }
            }
            Side::Softflowd => {
                command.args([
                    "softflowd",
                    "-d",
                    "-a",
                    "-v",
                    "9",
                    "-c",
                    "none",
                    "-m",
                    "2000000",
                ]);
                command.args(["-r", &file, "-n", &address.to_string(), "-p"]);
                command.arg(dir.join("softflowd.pid"));
            }
            Side::Nfpcapd => {
                let flows = dir.join("nfpcapd");
                let _ = std::fs::remove_dir_all(&flows);
                std::fs::create_dir(&flows).map_err(|error| error.to_string())?;
                // A node cache with room for both directions of every flow.
                command
                    .args(["nfpcapd", "-B", "4194304", "-r", &file, "-w"])
                    .arg(&flows);
            }
            Side::Pmacctd => {
                let config = dir.join("pmacctd.conf");
                let text = format!(
                    "daemonize: false\npcap_savefile: {file}\nplugins: nfprobe\n\
                     aggregate: src_host, dst_host, src_port, dst_port, proto, tos, tcpflags\n\
                     nfprobe_receiver: {address}\nnfprobe_version: 9\nnfprobe_maxflows: 4000000\n"
                );
                std::fs::write(&config, text).map_err(|error| error.to_string())?;
                command.args(["pmacctd", "-f"]).arg(config);
            }
        }
        Ok(command)
    }

    /// That a side made the records that the capture holds, by its own words. pmacctd says nothing.
    fn check(&self, side: Side, flows: u32, told: &str) -> Option<Check> {
        let (made, expected) = match side {
            Side::Ringfence | Side::RingfencePrinted => (before(told, " flow records"), flows),
            Side::Softflowd => (after(told, "Flows expired:"), flows),
            // One record for each direction.
            Side::Nfpcapd => {
                let mut command = Command::new("nfdump");
                let output = command
                    .args(["-I", "-R"])
                    .arg(self.dir.path().join("nfpcapd"))
                    .output();
                let text = output.map(|output| output.stdout).unwrap_or_default();
                (after(&String::from_utf8_lossy(&text), "Flows:"), 2 * flows)
            }
            Side::Pmacctd => return None,
        };
        Some(Check {
            what: format!("{} made {expected} records (it says {made:?})", side.name()),
            holds: made == Some(expected),
        })
    }
}

/// CPU seconds of all children that have ended, and of theirs: `cutime` and `cstime` of proc_pid_stat(5), in
/// hundredths.
fn children_cpu_s() -> Result<f64, String> {
    const CUTIME: usize = 13;
    let path = "/proc/self/stat";
    let stat = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    // The name of the program, in brackets, may hold anything; what is behind it begins with field 3.
    let fields = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = fields.split_ascii_whitespace().skip(CUTIME).take(2);
    let ticks: Result<Vec<f64>, _> = ticks.map(str::parse).collect();
    match ticks.as_deref() {
        Ok([user, system]) => Ok((user + system) / 100.0),
        _ => Err(format!("{path} has no CPU times: {stat}")),
    }
}

/// Daemons live where an ordinary user does not look.
fn path() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

/// The number, with or without commas, that stands before some words.
fn before(text: &str, words: &str) -> Option<u32> {
    let number = text.split_once(words)?.0.rsplit(' ').next()?;
    number.replace(',', "").parse().ok()
}

/// The number that stands behind some words.
fn after(text: &str, words: &str) -> Option<u32> {
    text.split_once(words)?
        .1
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// UDP over IPv4, flow after flow forward, then all of them back, and so on, a microsecond apart:
/// the whole file is shorter than any timeout.
fn write(path: &Path, flows: u32, frames: u32) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    out.write_all(&65_535_u32.to_le_bytes())?;
    out.write_all(&1_u32.to_le_bytes())?;
    for number in 0..frames {
        let frame = frame(number, flows);
        out.write_all(&(1_700_000_000 + number / 1_000_000).to_le_bytes())?;
        out.write_all(&(number % 1_000_000).to_le_bytes())?;
        out.write_all(&60_u32.to_le_bytes())?;
        out.write_all(&60_u32.to_le_bytes())?;
        out.write_all(&frame)?;
    }
    out.flush()
}

fn frame(number: u32, flows: u32) -> [u8; 60] {
    // 40,503 is prime and divides no round number of flows: each has its turn, out of order.
    let flow = (u64::from(number) * 40_503 % u64::from(flows)) as u32;
    let mut ends = [
        (0x0a00_0000 + flow, 20_000_u16),
        (0x0af0_0000 + flow % 16, 5000),
    ];
    if number / flows % 2 == 1 {
        ends.reverse();
    }
    let [(src, src_port), (dst, dst_port)] = ends;
    let mut frame = [0; 60];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
    frame[26..30].copy_from_slice(&src.to_be_bytes());
    frame[30..34].copy_from_slice(&dst.to_be_bytes());
    frame[34..36].copy_from_slice(&src_port.to_be_bytes());
    frame[36..38].copy_from_slice(&dst_port.to_be_bytes());
    frame[38..40].copy_from_slice(&26_u16.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_flow_is_there_in_both_directions() {
        let ends = |number| {
            let frame = frame(number, 1000);
            let (src, dst) = (frame[26..30].to_vec(), frame[30..34].to_vec());
            (src.clone().min(dst.clone()), src.max(dst))
        };
        let there: HashSet<_> = (0..1000).map(ends).collect();
        let back: HashSet<_> = (1000..2000).map(ends).collect();
        assert_eq!(there.len(), 1000);
        assert_eq!(there, back);
        assert_ne!(frame(0, 1000), frame(1000, 1000));
    }

    #[test]
    fn what_the_programs_say_is_read() {
        let ours = "/x/capture: 2,000,000 frames, 1,000,000 flow records\n";
        assert_eq!(before(ours, " flow records"), Some(1_000_000));
        assert_eq!(
            after("Flows expired: 10000 (0 forced)", "Flows expired:"),
            Some(10_000)
        );
        assert_eq!(after("nothing", "Flows:"), None);
    }
}

//! The dataplane as a process: its configuration, its start, its end.

use super::Setup;
use crate::generator::Generator;
use crate::traffic::{Frame, Source};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the dataplane may take to start.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Flows that a core's cache can hold at most.
const FLOWS_MAX: u64 = 100_000_000;
/// Flows of a cache into which new flows come all the time.
const FLOWS_MAX_WITH_NEW: u64 = 1 << 22;

/// A dataplane that ends with this value.
pub(crate) struct Running {
    child: Child,
    dir: tempfile::TempDir,
    /// Its source, where that is the generator.
    pub(crate) generator: Option<Generator>,
}

impl Running {
    /// Where it listens for its control process.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/dataplane.sock")
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let kib = status.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

/// Starts it and waits until it polls.
///
/// # Errors
/// A sentence with what it said.
pub(crate) fn start(setup: &Setup<'_>) -> Result<Running, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let config = dir.path().join("dataplane.toml");
    std::fs::write(&config, configuration(setup, dir.path())).map_err(|error| error.to_string())?;
    let mut command = Command::new(setup.binary);
    let generator = match setup.traffic.source {
        Source::Pcap | Source::Bare => None,
        Source::Generator => {
            let ports: Vec<_> = (0..setup.lanes())
                .map(|n| format!("net_null{}", 2 * n))
                .collect();
            let ports: Vec<_> = ports.iter().map(String::as_str).collect();
            let generator = Generator::new(dir.path(), setup.traffic, &ports)?;
            generator.load_into(&mut command);
            Some(generator)
        }
    };
    let log = std::fs::File::create(dir.path().join("log")).map_err(|error| error.to_string())?;
    let child = command
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| {
            let binary = setup.binary.display();
            format!("{binary} did not start: {error}; build it with `cargo build --release`")
        })?;
    let mut running = Running {
        child,
        dir,
        generator,
    };
    let began = Instant::now();
    loop {
        let log = running.log();
        if log.contains("running:") {
            return Ok(running);
        }
        if let Ok(Some(status)) = running.child.try_wait() {
            return Err(format!("the dataplane ended with {status}: {log}"));
        }
        if began.elapsed() > START_PATIENCE {
            let seconds = START_PATIENCE.as_secs();
            return Err(format!("the dataplane did not start in {seconds} s: {log}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Flows that a core's cache holds: what the row says, else as an operator would size it.
fn flows_max(setup: &Setup<'_>) -> u64 {
    let with_new = setup.traffic.new_flow_percent > 0 || setup.traffic.scan_per_second > 0;
    let least = if with_new { FLOWS_MAX_WITH_NEW } else { 16 };
    let sized = setup
        .traffic
        .flows
        .next_power_of_two()
        .clamp(least, FLOWS_MAX);
    setup.knobs.flows_max.unwrap_or(sized)
}

fn configuration(setup: &Setup<'_>, dir: &Path) -> String {
    let main = usize::from(setup.cores == [0]);
    let mut text = format!(
        "[dataplane]\nrun_dir = \"{dir}/run\"\nstate_dir = \"{dir}/state\"\nworkers = {cores:?}\nmain_cpu = {main}\nidle = \"none\"\n\
         [memory]\nmbufs = {mbufs}\nmbuf_bytes = {mbuf_bytes}\n\
         [eal]\nfile_prefix = \"ringfence-perf-{id}\"\n\
         [flow]\nflows_max = {flows}\n",
        dir = dir.display(),
        cores = setup.cores,
        // The pool is that of the peer, less what the dataplane adds for its ports and the capture.
        mbufs = crate::SPARE_MBUFS,
        mbuf_bytes = setup.traffic.mbuf_bytes() - 128,
        id = std::process::id(),
        flows = flows_max(setup),
    );
    // Writing to a string does not fail.
    for line in &setup.knobs.flow {
        let _ = writeln!(text, "{line}");
    }
    for number in 0..setup.lanes() {
        let inside = match (setup.traffic.source, setup.traffic.frame) {
            (Source::Pcap, _) => format!("pcap:in={},infinite", setup.capture.display()),
            (_, Frame::Small) => "null:size=64".to_owned(),
            (_, Frame::Imix) => "null:size=1514".to_owned(),
        };
        let _ = writeln!(
            text,
            "[[lane]]\nname = \"bench-{number}\"\ninside = \"{inside}\"\noutside = \"null:no-rx\""
        );
        for line in &setup.knobs.lane {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

//! `dpdk-testpmd`: the floor and the limit of what a program on libdpdk can do.

use super::{Measured, Setup, pool_mbufs};
use crate::generator::Generator;
use crate::traffic::Source;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A testpmd that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let began = Instant::now();
        while began.elapsed() < END_PATIENCE {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs testpmd in a forwarding mode and returns packets received per second: its own readings
/// after the first, and their median.
pub(super) fn run(mode: &str, setup: &Setup<'_>) -> Result<Measured, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let log = dir.path().join("log");
    let (child, generator) = start(mode, setup, dir.path())?;
    let mut running = Running(child);
    // The first reading is of a second that had no beginning.
    let wanted = setup.seconds as usize + 1;
    let began = Instant::now();
    let mut rates = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let rates = received_rates(&text, 2 * setup.cores.len());
        if rates.len() >= wanted {
            break rates;
        }
        let last = || text.lines().last().unwrap_or("nothing").to_owned();
        if let Ok(Some(status)) = running.0.try_wait() {
            return Err(format!(
                "dpdk-testpmd ended with {status}; it said: {}",
                last()
            ));
        }
        let patience = START_PATIENCE + 2 * Duration::from_secs(u64::from(setup.seconds));
        if began.elapsed() > patience {
            return Err(format!(
                "dpdk-testpmd told {} rates in {patience:?}, {wanted} are needed; it said: {}",
                rates.len(),
                last()
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let generated = generator.map(|generator| generator.counts()).transpose()?;
    drop(running);
    rates.drain(..1);
    Ok(Measured {
        rate: crate::median(&mut rates.clone()),
        readings: rates,
        generated,
        ..Measured::default()
    })
}

fn start(mode: &str, setup: &Setup<'_>, dir: &Path) -> Result<(Child, Option<Generator>), String> {
    let mut command = Command::new("dpdk-testpmd");
    command
        .arg(format!("--lcores={}", lcores(setup.cores)))
        .args([
            "--main-lcore=0",
            "--no-pci",
            "--in-memory",
            "--no-telemetry",
        ])
        .arg(format!(
            "--file-prefix=ringfence-perf-{}",
            std::process::id()
        ));
    let mut sources = Vec::new();
    for number in 0..setup.cores.len() {
        let source = match setup.traffic.source {
            Source::Pcap => format!(
                "net_pcap{number},rx_pcap={},infinite_rx=1",
                setup.capture.display()
            ),
            Source::Generator | Source::Bare => format!("net_null{},size=64", 2 * number),
        };
        sources.push(source.split(',').next().unwrap_or_default().to_owned());
        let sink = format!("net_null{},no-rx=1", 2 * number + 1);
        command.args(["--vdev", &source, "--vdev", &sink]);
    }
    let generator = match setup.traffic.source {
        Source::Pcap | Source::Bare => None,
        Source::Generator => {
            let ports: Vec<_> = sources.iter().map(String::as_str).collect();
            let generator = Generator::new(dir, setup.traffic, &ports)?;
            generator.load_into(&mut command);
            Some(generator)
        }
    };
    let log = std::fs::File::create(dir.join("log")).map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    let child = command
        .args(["--", &format!("--forward-mode={mode}"), "--stats-period=1"])
        .args(["--auto-start", "--no-flush-rx"])
        .arg(format!("--nb-cores={}", setup.cores.len()))
        .arg(format!("--mbuf-size={}", setup.traffic.mbuf_bytes()))
        .arg(format!("--total-num-mbufs={}", pool_mbufs(setup)))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| {
            format!("dpdk-testpmd did not start ({error}); install it with `apt-get install dpdk`")
        })?;
    Ok((child, generator))
}

/// Lcore 0 is the main thread, on a CPU that does not poll where there is one; lcores 1 and up
/// poll, each on its CPU.
fn lcores(cores: &[usize]) -> String {
    let main = usize::from(cores == [0]);
    let polling = (1..)
        .zip(cores)
        .map(|(lcore, cpu)| format!(",{lcore}@{cpu}"));
    format!("0@{main}{}", polling.collect::<String>())
}

/// What is received per second, of each report of `ports` ports the sum.
fn received_rates(text: &str, ports: usize) -> Vec<f64> {
    let all: Vec<f64> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Rx-pps:"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    all.chunks_exact(ports)
        .map(|report| report.iter().sum())
        .filter(|rate| *rate > 0.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_of_the_receiving_ports_are_read() {
        let text = "  Rx-pps:       0   Rx-bps: 0\n  Tx-pps: 9\n Rx-pps:  0  Rx-bps: 0\n\
                    Rx-pps:     21000000          Rx-bps:  1\n Rx-pps:            0  Rx-bps: 0\n\
                    Rx-pps:     7\n";
        assert_eq!(received_rates(text, 2), [21_000_000.0]);
        let two = "Rx-pps: 5\nRx-pps: 0\nRx-pps: 6\nRx-pps: 0\n";
        assert_eq!(received_rates(two, 4), [11.0]);
    }

    #[test]
    fn polling_cores_are_not_the_main_one_where_there_is_another() {
        assert_eq!(lcores(&[1]), "0@0,1@1");
        assert_eq!(lcores(&[0]), "0@1,1@0");
        assert_eq!(lcores(&[1, 0]), "0@0,1@1,2@0");
    }
}

//! OVS-DPDK from the distribution: its own database and switch in a directory of their own, no
//! service of the system, one PMD thread for each core, conntrack, and rules for new connections.

mod rules;

use super::{Measured, Setup};
use crate::generator::Generator;
use crate::traffic::{Family, Source};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian and Ubuntu keep the switch that is linked with libdpdk.
const SWITCH: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// What its database looks like.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// How long anything of it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long its connections may take to be there.
const WARM_UP_MAX: Duration = Duration::from_secs(60);
/// A wait while nothing has happened yet.
const STEP: Duration = Duration::from_millis(50);
/// MiB of hugepages that it takes at its start.
const MEMORY_MB: u32 = 1024;
/// Frames of a capture at most: its pool has fewer mbufs than 262,144.
const FRAMES_MAX: u64 = 250_000;

/// A process that is ended, and waited for, with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(STEP);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running switch. The switch ends before its database, and both before the directory goes.
struct Switch {
    _switch: Process,
    _database: Process,
    generator: Option<Generator>,
    dir: tempfile::TempDir,
}

/// Runs the switch and returns the packets that its PMD threads received per second, second by
/// second, once every connection is there.
pub(super) fn run(setup: &Setup<'_>) -> Result<Measured, String> {
    if setup.traffic.family == Family::Ipv6 || setup.traffic.vxlan {
        return Err("the rules for OVS-DPDK are those of IPv4 without a tunnel".to_owned());
    }
    if setup.traffic.source == Source::Pcap && setup.traffic.frames() > FRAMES_MAX {
        return Err(format!(
            "a pool of OVS-DPDK holds {FRAMES_MAX} frames of a capture at most: use --source generator"
        ));
    }
    if !Path::new(SWITCH).is_file() {
        return Err(
            "OVS-DPDK is not installed: apt-get install openvswitch-switch-dpdk".to_owned(),
        );
    }
    let switch = Switch::start(setup)?;
    switch.configure(setup)?;
    switch.warm_up(setup)?;
    let mut readings = vec![switch.reading()?];
    for _ in 0..setup.seconds {
        std::thread::sleep(Duration::from_secs(1));
        readings.push(switch.reading()?);
    }
    let pairs = readings.iter().zip(&readings[1..]);
    let rates: Vec<f64> = pairs.map(|(before, now)| now.rate_since(before)).collect();
    let (first, last) = (&readings[0], &readings[readings.len() - 1]);
    let forwarded = (last.sent - first.sent) / (last.received - first.received).max(1.0);
    let said = switch.appctl(&["dpif-netdev/pmd-perf-show"])?;
    let connections = switch.appctl(&["dpctl/ct-get-nconns"])?;
    let generated = switch
        .generator
        .as_ref()
        .map(Generator::counts)
        .transpose()?;
    let mut said: Vec<String> = said.lines().map(|line| line.trim().to_owned()).collect();
    said.push(format!("connections: {}", connections.trim()));
    Ok(Measured {
        rate: crate::median(&mut rates.clone()),
        readings: rates,
        forwarded: Some(forwarded),
        generated,
        said,
    })
}

impl Switch {
    fn start(setup: &Setup<'_>) -> Result<Self, String> {
        let dir =
            tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let path = dir.path().to_owned();
        let database = path.join("conf.db");
        let mut tool = own("ovsdb-tool", &path);
        finished(tool.arg("create").arg(&database).arg(SCHEMA))?;
        let mut server = own("ovsdb-server", &path);
        server
            .arg(&database)
            .arg(format!("--remote=punix:{}", path.join("db.sock").display()))
            .arg(format!("--unixctl={}", path.join("db.ctl").display()));
        let server = spawn(server, &path.join("database.log"))?;
        wait_for("the database of OVS", || path.join("db.sock").exists())?;
        let mut init = vsctl(&path);
        finished(init.args(["--no-wait", "init"]))?;
        let mask: u64 = setup.cores.iter().map(|core| 1 << core).sum();
        let main = usize::from(setup.cores == [0]);
        let mut options = vsctl(&path);
        options.args([
            "--no-wait",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:dpdk-init=true",
        ]);
        options
            .arg(format!("other_config:pmd-cpu-mask={mask:#x}"))
            .arg(format!("other_config:dpdk-lcore-mask={:#x}", 1 << main))
            .arg(format!("other_config:dpdk-socket-mem={MEMORY_MB}"))
            .arg(format!(
                "other_config:dpdk-extra=--no-pci --in-memory --no-telemetry --file-prefix=ringfence-perf-{}",
                std::process::id()
            ));
        finished(&mut options)?;
        let mut switch = own(SWITCH, &path);
        switch
            .arg(format!("unix:{}", path.join("db.sock").display()))
            .arg(format!("--unixctl={}", path.join("switch.ctl").display()));
        let generator = match setup.traffic.source {
            Source::Generator => {
                let ports: Vec<_> = (0..setup.cores.len())
                    .map(|n| format!("net_null{}", 2 * n))
                    .collect();
                let ports: Vec<_> = ports.iter().map(String::as_str).collect();
                let generator = Generator::new(&path, setup.traffic, &ports)?;
                generator.load_into(&mut switch);
                Some(generator)
            }
            Source::Pcap | Source::Bare => None,
        };
        let switch = spawn(switch, &path.join("switch.log"))?;
        let switch = Self {
            _switch: switch,
            _database: server,
            generator,
            dir,
        };
        wait_for("OVS-DPDK", || switch.appctl(&["version"]).is_ok())?;
        Ok(switch)
    }

    /// The bridge, its ports, the rules.
    fn configure(&self, setup: &Setup<'_>) -> Result<(), String> {
        let mut command = vsctl(self.dir.path());
        command.args(["add-br", "br0", "--", "set", "bridge", "br0"]);
        command.args(["datapath_type=netdev", "fail-mode=secure"]);
        for number in 0..setup.cores.len() {
            let source = match setup.traffic.source {
                Source::Pcap => format!(
                    "net_pcap{number},rx_pcap={},infinite_rx=1",
                    setup.capture.display()
                ),
                Source::Generator | Source::Bare => format!("net_null{},size=64", 2 * number),
            };
            let sink = format!("net_null{},no-rx=1", 2 * number + 1);
            for (name, device) in [
                (format!("in{number}"), source),
                (format!("out{number}"), sink),
            ] {
                command.args([
                    "--",
                    "add-port",
                    "br0",
                    &name,
                    "--",
                    "set",
                    "Interface",
                    &name,
                ]);
                command.args(["type=dpdk", &format!("options:dpdk-devargs={device}")]);
            }
        }
        finished(&mut command)?;
        for number in 0..setup.cores.len() {
            for name in [format!("in{number}"), format!("out{number}")] {
                self.refuse_a_broken_port(&name)?;
            }
        }
        let most = (setup.traffic.flows * 2).max(1_000_000) * setup.cores.len() as u64;
        self.appctl(&["dpctl/ct-set-maxconns", &most.to_string()])?;
        let file = self.dir.path().join("rules");
        std::fs::write(&file, rules::text(setup.rules, setup.cores.len()))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let bridge = self.dir.path().join("br0.mgmt");
        let mut command = own("ovs-ofctl", self.dir.path());
        finished(
            command
                .arg("add-flows")
                .arg(format!("unix:{}", bridge.display()))
                .arg(&file),
        )
    }

    fn refuse_a_broken_port(&self, name: &str) -> Result<(), String> {
        let mut command = vsctl(self.dir.path());
        let error = output(command.args(["get", "Interface", name, "error"]))?;
        match error.trim() {
            "[]" => Ok(()),
            said => Err(format!("OVS-DPDK does not take port {name}: {said}")),
        }
    }

    /// Until every flow is a connection and nothing more goes up to the switch's slow path.
    fn warm_up(&self, setup: &Setup<'_>) -> Result<(), String> {
        let wanted = match setup.traffic.new_flow_percent {
            0 => setup.traffic.flows,
            _ => 1,
        };
        let began = Instant::now();
        loop {
            let connections = self.appctl(&["dpctl/ct-get-nconns"])?;
            let connections: u64 = connections.trim().parse().unwrap_or(0);
            if connections >= wanted {
                // The caches of the fast path have seen every flow a second later.
                std::thread::sleep(Duration::from_secs(1));
                return Ok(());
            }
            if began.elapsed() > WARM_UP_MAX {
                return Err(format!(
                    "OVS-DPDK has {connections} of {wanted} connections"
                ));
            }
            std::thread::sleep(STEP);
        }
    }

    /// What the PMD threads have counted. It is never cleared: a thread does that some time later.
    fn reading(&self) -> Result<Reading, String> {
        let text = self.appctl(&["dpif-netdev/pmd-perf-show"])?;
        Reading::parse(&text).ok_or_else(|| format!("pmd-perf-show is not understood: {text}"))
    }

    fn appctl(&self, words: &[&str]) -> Result<String, String> {
        let mut command = own("ovs-appctl", self.dir.path());
        let target = self.dir.path().join("switch.ctl");
        output(command.args(["--timeout=20", "-t"]).arg(target).args(words))
    }
}

/// A command of OVS that keeps to its own directory.
fn own(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(name, dir);
    }
    command
}

fn vsctl(dir: &Path) -> Command {
    let mut command = own("ovs-vsctl", dir);
    let socket: PathBuf = dir.join("db.sock");
    command.args([&format!("--db=unix:{}", socket.display()), "--timeout=60"]);
    command
}

fn spawn(mut command: Command, log: &Path) -> Result<Process, String> {
    let file = std::fs::File::create(log).map_err(|error| error.to_string())?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn();
    child
        .map(Process)
        .map_err(|error| format!("{name} did not start: {error}"))
}

fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} did not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}", said.trim()))
}

fn finished(command: &mut Command) -> Result<(), String> {
    output(command).map(|_| ())
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !there() {
        if began.elapsed() > PATIENCE {
            return Err(format!("{what} did not start in {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// What all PMD threads have counted since they began.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    seconds: f64,
    received: f64,
    sent: f64,
}

impl Reading {
    fn parse(text: &str) -> Option<Self> {
        let of = |what: &str| -> Option<Vec<f64>> {
            let lines = text.lines().map(str::trim);
            let rests = lines.filter_map(|line| line.strip_prefix(what));
            let numbers = rests.map(|rest| rest.split_whitespace().next()?.parse().ok());
            numbers.collect()
        };
        Some(Self {
            seconds: of("Measurement duration:")?.first().copied()?,
            received: of("Rx packets:")?.iter().sum(),
            sent: of("Tx packets:")?.iter().sum(),
        })
    }

    /// Packets received a second.
    fn rate_since(&self, before: &Self) -> f64 {
        (self.received - before.received) / (self.seconds - before.seconds).max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::Reading;

    #[test]
    fn the_counts_of_all_threads_are_added() {
        let text = "Time: 03:40:36.910\nMeasurement duration: 4.000 s\n\n\
                    pmd thread numa_id 0 core_id 1:\n\n  Iterations: 148304  (27.12 us/it)\n  \
                    Rx packets:              4745760  (1178 Kpps, 2204 cycles/pkt)\n  \
                    Tx packets:              4745728  (1178 Kpps)\n\
                    pmd thread numa_id 0 core_id 0:\n  Rx packets:   240  (22 Kpps, 2 cycles/pkt)\n";
        let reading = Reading::parse(text).unwrap();
        assert_eq!((reading.received, reading.sent), (4_746_000.0, 4_745_728.0));
        let before = Reading {
            seconds: 2.0,
            received: 746_000.0,
            sent: 0.0,
        };
        assert_eq!(reading.rate_since(&before), 2_000_000.0);
        assert_eq!(Reading::parse("nothing"), None);
    }
}

//! A lab of network namespaces: six hosts, two switches, and the appliance as the wire between.
//!
//! ```text
//!   client   ──┐                                                     ┌── web
//!   attacker ──┤                                                     │
//!              ├── switch "out" ── out0 [ appliance ] in0 ── switch "in" ──┤
//!   app      ──┤                                                     │
//!   admin    ──┘                                                     └── db
//! ```
//!
//! Every lab has namespaces of its own, named after this process, and removes them when it is
//! dropped, also when a test fails. Nothing is done to the namespace that the tests run in.

mod appliance;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use appliance::{Appliance, Settings};

use crate::command::{Background, Outcome, run, wait_until, words};

/// Names of all labs begin so.
const PREFIX: &str = "rfl";
/// A step of setting up or taking down; each takes milliseconds.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// Which side of the appliance a host is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    In,
    Out,
}

/// A host of the lab.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Its name, also that of its workload.
    pub name: &'static str,
    /// IPv4 address.
    pub v4: &'static str,
    /// IPv6 address.
    pub v6: &'static str,
    side: Side,
}

/// A user's machine.
pub const CLIENT: Host = Host {
    name: "client",
    v4: "10.77.0.5",
    v6: "fd77::5",
    side: Side::Out,
};
/// A machine that nobody should trust; no workload has its address.
pub const ATTACKER: Host = Host {
    name: "attacker",
    v4: "10.77.0.66",
    v6: "fd77::66",
    side: Side::Out,
};
/// A web server.
pub const WEB: Host = Host {
    name: "web",
    v4: "10.77.0.10",
    v6: "fd77::10",
    side: Side::In,
};
/// A database.
pub const DB: Host = Host {
    name: "db",
    v4: "10.77.0.20",
    v6: "fd77::20",
    side: Side::In,
};

/// An application server, on the far side of the appliance from both web and database.
pub const APP: Host = Host {
    name: "app",
    v4: "10.77.0.30",
    v6: "fd77::30",
    side: Side::Out,
};
/// Where administrators sit.
pub const ADMIN: Host = Host {
    name: "admin",
    v4: "10.77.0.40",
    v6: "fd77::40",
    side: Side::Out,
};

const HOSTS: [Host; 6] = [CLIENT, ATTACKER, WEB, DB, APP, ADMIN];

/// The namespaces, for as long as it lives.
#[derive(Debug)]
pub struct Lab {
    name: String,
    directory: tempfile::TempDir,
}

impl Lab {
    /// Lays out hosts, switches and the two ends of the appliance's lane.
    ///
    /// # Panics
    /// If a namespace or link cannot be made; ask [`possible`] first.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{PREFIX}{}x{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = tempfile::Builder::new()
            .prefix(&name)
            .tempdir()
            .expect("a temporary directory");
        let lab = Self { name, directory };
        lab.lay_out();
        lab
    }

    fn lay_out(&self) {
        let boxed = self.namespace("box");
        must(&["ip", "netns", "add", &boxed]);
        must(&["ip", "-n", &boxed, "link", "set", "lo", "up"]);
        // The ends in the appliance's namespace are wires: the kernel must not speak on them.
        must(&[
            "ip",
            "netns",
            "exec",
            &boxed,
            "sysctl",
            "-qw",
            "net.ipv6.conf.default.disable_ipv6=1",
        ]);
        for switch in ["sw-in", "sw-out"] {
            must(&[
                "ip",
                "-n",
                &boxed,
                "link",
                "add",
                switch,
                "type",
                "bridge",
                "mcast_snooping",
                "0",
            ]);
            must(&["ip", "-n", &boxed, "link", "set", switch, "up"]);
        }
        for (wire, switch) in [("in0", "sw-in"), ("out0", "sw-out")] {
            let end = format!("{wire}s");
            must(&[
                "ip", "-n", &boxed, "link", "add", wire, "type", "veth", "peer", "name", &end,
            ]);
            self.plug(&end, switch);
            must(&[
                "ip", "-n", &boxed, "link", "set", wire, "up", "promisc", "on",
            ]);
        }
        HOSTS.iter().for_each(|host| self.add_host(host));
    }

    fn add_host(&self, host: &Host) {
        let (boxed, own) = (self.namespace("box"), self.namespace(host.name));
        must(&["ip", "netns", "add", &own]);
        must(&["ip", "-n", &own, "link", "set", "lo", "up"]);
        must(&[
            "ip", "link", "add", "eth0", "netns", &own, "type", "veth", "peer", "name", host.name,
            "netns", &boxed,
        ]);
        self.plug(
            host.name,
            if host.side == Side::In {
                "sw-in"
            } else {
                "sw-out"
            },
        );
        must(&[
            "ip",
            "-n",
            &own,
            "addr",
            "add",
            &format!("{}/24", host.v4),
            "dev",
            "eth0",
        ]);
        must(&[
            "ip",
            "-n",
            &own,
            "addr",
            "add",
            &format!("{}/64", host.v6),
            "dev",
            "eth0",
            "nodad",
        ]);
        must(&["ip", "-n", &own, "link", "set", "eth0", "up"]);
        // veth leaves checksums to a card that is not there; a program as the wire cannot fill them.
        must(&[
            "ip", "netns", "exec", &own, "ethtool", "-K", "eth0", "tx", "off",
        ]);
    }

    fn plug(&self, end: &str, switch: &str) {
        must(&[
            "ip",
            "-n",
            &self.namespace("box"),
            "link",
            "set",
            end,
            "master",
            switch,
            "up",
        ]);
    }

    /// Name of a host's namespace; `box` is the appliance's.
    #[must_use]
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// A directory that goes with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the lab's directory.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory().join(name);
        std::fs::write(&path, content)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Runs a command on a host (or `box`).
    #[must_use]
    pub fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        host: &str,
        command: &[S],
        limit: Duration,
    ) -> Outcome {
        run(&mut self.on(host, command), limit)
    }

    /// Starts a command on a host (or `box`) that runs beside the test.
    #[must_use]
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        &self,
        host: &str,
        command: &[S],
        log: &str,
    ) -> Background {
        Background::start(
            &mut self.on(host, command),
            self.directory().join(format!("{log}.log")),
        )
    }

    /// Waits until something listens on a port of a host; `over` is `udp` or `tcp`.
    ///
    /// # Panics
    /// If nothing does for minutes.
    #[track_caller]
    pub fn await_listener(&self, host: &str, over: &str, port: u16) {
        let family = if over == "udp" { "-Hlun" } else { "-Hltn" };
        let asked = ["ss", family, &format!("sport = :{port}")];
        let listens = || !self.run(host, &asked, STEP_LIMIT).stdout.is_empty();
        assert!(wait_until(STEP_LIMIT, listens), "{over}/{port} of {host}");
    }

    /// Starts the appliance and waits until it forwards.
    #[must_use]
    pub fn appliance(&self, settings: &Settings) -> Appliance<'_> {
        Appliance::start(self, settings)
    }

    pub(crate) fn on<S: AsRef<std::ffi::OsStr>>(&self, host: &str, command: &[S]) -> Command {
        let mut whole = words(&["ip", "netns", "exec", &self.namespace(host)]);
        whole.args(command).current_dir(self.directory());
        whole
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        HOSTS
            .iter()
            .map(|host| host.name)
            .chain(["box"])
            .for_each(|host| remove(&self.namespace(host)));
        if std::thread::panicking() && std::env::var_os("RINGFENCE_LAB_KEEP").is_some() {
            self.directory.disable_cleanup(true);
            eprintln!("kept: {}", self.directory().display());
        }
    }
}

/// Whether namespaces can be made here, and if not, why.
///
/// # Errors
/// The reason, for people.
pub fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root, so no network namespaces".to_owned());
    }
    let name = format!("{PREFIX}{}probe", std::process::id());
    let made = run(&mut words(&["ip", "netns", "add", &name]), STEP_LIMIT);
    remove(&name);
    if made.ok() {
        Ok(())
    } else {
        Err(format!(
            "no network namespaces here: {}",
            made.stderr.trim()
        ))
    }
}

/// Whether a program is on the path.
#[must_use]
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file())
}

/// Removes the namespaces of test processes that are gone, with what still runs in them.
pub fn remove_leftovers() {
    if possible().is_err() {
        return;
    }
    let list = run(&mut words(&["ip", "netns", "list"]), STEP_LIMIT);
    for name in list
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let owner: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !owner.is_empty() && !Path::new("/proc").join(&owner).exists() {
            remove(name);
        }
    }
}

fn remove(namespace: &str) {
    let inside = run(&mut words(&["ip", "netns", "pids", namespace]), STEP_LIMIT);
    if inside.ok() {
        for process in inside.stdout.split_whitespace() {
            let _ = run(&mut words(&["kill", "-KILL", process]), STEP_LIMIT);
        }
        let _ = run(&mut words(&["ip", "netns", "del", namespace]), STEP_LIMIT);
    }
}

#[track_caller]
fn must(command: &[&str]) {
    let _ = run(&mut words(command), STEP_LIMIT).must();
}

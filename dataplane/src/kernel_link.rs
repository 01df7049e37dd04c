//! Whether the kernel's interfaces under a port carry frames.
//!
//! Drivers on sockets of the kernel (`af_packet`, `af_xdp`, `pcap` on an interface) call their link up
//! whatever happens to the interface. The kernel knows, and tells in sysfs. The main thread reads it
//! with the counters of ports; no polling core does.

use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use std::path::{Path, PathBuf};

/// Where the kernel tells about interfaces.
const SYSFS: &str = "/sys/class/net";

/// What the kernel says about the link of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Every interface of the port is there, up, and has a carrier.
    pub up: bool,
    /// Megabits per second of the slowest; `None` where the kernel does not know.
    pub mbps: Option<u32>,
}

/// The interfaces of one port, watched from its start on.
#[derive(Debug, Default)]
pub struct KernelLink {
    interfaces: Vec<Interface>,
}

#[derive(Debug)]
struct Interface {
    directory: PathBuf,
    /// The kernel's number of it. One that is removed and made again has another, and the port is
    /// not on it any more.
    index: u32,
}

impl KernelLink {
    /// Watches those of `names` that sysfs tells about. It may be mounted for another network
    /// namespace: such an interface is left to its driver.
    #[must_use]
    pub fn watch(names: &[&str]) -> Self {
        Self::watch_in(Path::new(SYSFS), names, index_here)
    }

    fn watch_in(root: &Path, names: &[&str], index_of: impl Fn(&str) -> Option<u32>) -> Self {
        let interfaces = names.iter().filter_map(|name| {
            let directory = root.join(name);
            let index = number(&directory, "ifindex")?;
            (index_of(name) == Some(index)).then_some(Interface { directory, index })
        });
        Self {
            interfaces: interfaces.collect(),
        }
    }

    /// What the kernel says now; `None` where the port is on no interface that it tells about.
    #[must_use]
    pub fn read(&self) -> Option<LinkState> {
        if self.interfaces.is_empty() {
            return None;
        }
        let up = self.interfaces.iter().all(Interface::is_up);
        let speeds = self
            .interfaces
            .iter()
            .map(|each| number(&each.directory, "speed"));
        // Unknown is told as -1, or as an error.
        let slowest = speeds.min().flatten().filter(|mbps| *mbps > 0);
        Some(LinkState {
            up,
            mbps: slowest.filter(|_| up),
        })
    }
}

impl Interface {
    fn is_up(&self) -> bool {
        // An interface that is set down has no readable carrier.
        let has_carrier = number(&self.directory, "carrier") == Some(1);
        // RFC 2863 section 3.1.14; drivers without a notion of it stay at unknown.
        let state = word(&self.directory, "operstate");
        let operates = matches!(state.as_deref(), Some("up" | "unknown"));
        has_carrier && operates && number(&self.directory, "ifindex") == Some(self.index)
    }
}

fn word(directory: &Path, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(file)).ok()?;
    Some(text.trim().to_owned())
}

fn number(directory: &Path, file: &str) -> Option<u32> {
    word(directory, file)?.parse().ok()
}

/// The number of an interface of this network namespace.
fn index_here(name: &str) -> Option<u32> {
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    name_to_index(any, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs with one interface, `eth1`, number 7.
    struct Sysfs(tempfile::TempDir);

    impl Sysfs {
        fn new() -> Self {
            let sysfs = Self(tempfile::tempdir().expect("a directory"));
            std::fs::create_dir(sysfs.0.path().join("eth1")).expect("a directory");
            for (file, text) in [
                ("ifindex", "7\n"),
                ("carrier", "1\n"),
                ("operstate", "up\n"),
                ("speed", "25000\n"),
            ] {
                sysfs.write(file, text);
            }
            sysfs
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.0.path().join("eth1").join(file), text).expect("written");
        }

        fn watch(&self, names: &[&str], index: u32) -> KernelLink {
            KernelLink::watch_in(self.0.path(), names, |_| Some(index))
        }
    }

    #[test]
    fn an_interface_with_a_carrier_is_up_at_its_own_speed() {
        let sysfs = Sysfs::new();
        let up = |mbps| Some(LinkState { up: true, mbps });
        assert_eq!(sysfs.watch(&["eth1"], 7).read(), up(Some(25_000)));
        sysfs.write("speed", "-1\n");
        sysfs.write("operstate", "unknown\n");
        assert_eq!(sysfs.watch(&["eth1"], 7).read(), up(None));
    }

    #[test]
    fn an_interface_that_is_out_down_or_gone_is_down() {
        let down = Some(LinkState {
            up: false,
            mbps: None,
        });
        for (file, text) in [
            ("carrier", "0\n"),
            // What a failing read amounts to: the kernel refuses while the interface is set down.
            ("carrier", ""),
            ("operstate", "lowerlayerdown\n"),
            ("operstate", "dormant\n"),
            // Removed and made again: the port's socket was on the one before.
            ("ifindex", "8\n"),
        ] {
            let sysfs = Sysfs::new();
            let link = sysfs.watch(&["eth1"], 7);
            sysfs.write(file, text);
            assert_eq!(link.read(), down, "{file}: {text}");
        }
        let sysfs = Sysfs::new();
        let link = sysfs.watch(&["eth1"], 7);
        std::fs::remove_dir_all(sysfs.0.path().join("eth1")).expect("removed");
        assert_eq!(link.read(), down);
    }

    #[test]
    fn an_interface_of_another_namespace_is_left_to_the_driver() {
        let sysfs = Sysfs::new();
        assert_eq!(sysfs.watch(&["eth1"], 3).read(), None);
        assert_eq!(sysfs.watch(&["eth2"], 7).read(), None);
        assert_eq!(sysfs.watch(&[], 7).read(), None);
    }

    #[test]
    fn an_interface_of_this_namespace_is_told() {
        // Every namespace has a loopback, and its number is 1 in each.
        let is_told = KernelLink::watch(&["lo"]).read().is_some();
        assert_eq!(is_told, Path::new(SYSFS).join("lo").exists());
    }
}

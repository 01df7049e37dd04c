//! The private directory of one replay: sockets, state and both configurations. It goes with the
//! value.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use toml::{Table, Value};

use super::capture::{Capture, Refused};
use super::rewrite::{renumber, rewrite};
use crate::args::{Key, ReplayArgs};
use crate::configuration::{path_text, set, write};
use crate::error::CliError;
use crate::process::{Environment, remove_on_panic};

/// Bytes of a buffer of a replay: the longest frame of a jumbo network, and some.
const BUFFER_BYTES: i64 = 16_384;
/// Buffers of a replay: a burst at a time is all that it holds, so 32 MiB are plenty.
const BUFFERS: i64 = 2_048;
/// Longest path of a Unix socket with its final NUL, bytes (unix(7), `sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 108;
/// Flows that the cache can hold at most, whatever the size of the capture.
const FLOWS_MAX: u64 = 1 << 22;
/// Slots of the fragment table at most.
const FRAGMENTS_MAX: u64 = 1 << 20;
/// Flow records that the control process keeps at most.
const RECORDS_KEPT_MAX: u64 = 50_000_000;
/// Tunnels inside one another that are followed with the rules of the truth files, which know no
/// depth.
const TRUTH_TUNNEL_DEPTH: i64 = 8;

/// Why the private directory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Making or writing failed.
    #[error("replay: cannot make a private directory in {path}: {source}; name another with TMPDIR",
        path = path.display())]
    Unusable {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A configuration could not be written.
    #[error("replay: {0}")]
    Configuration(Box<CliError>),
}

/// Whether the private control process keeps history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// Its recent flows are all that is asked for.
    Off,
    /// In memory, every record.
    Kept,
}

/// The private directory.
#[derive(Debug)]
pub(super) struct Workspace {
    directory: TempDir,
}

impl Workspace {
    /// Makes the directory and writes both configurations.
    pub(super) fn make(
        args: &ReplayArgs,
        capture: &Capture,
        history: History,
    ) -> Result<Self, WorkspaceError> {
        let workspace = Self {
            directory: directory()?,
        };
        remove_on_panic(workspace.path());
        workspace.lay_capture(&args.capture, capture)?;
        let configurations = [
            (
                workspace.dataplane_config(),
                workspace.dataplane_table(args, capture),
            ),
            (
                workspace.control_config(),
                workspace.control_table(args, capture, history),
            ),
        ];
        for (path, table) in configurations {
            write(&path, &table).map_err(|error| WorkspaceError::Configuration(Box::new(error)))?;
        }
        Ok(workspace)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    pub(super) fn dataplane_config(&self) -> PathBuf {
        self.path().join("dataplane.toml")
    }

    pub(super) fn control_config(&self) -> PathBuf {
        self.path().join("control.toml")
    }

    /// What both processes find in their environment: DPDK's runtime files belong into this
    /// directory too (`RUNTIME_DIRECTORY`, EAL's and systemd's variable).
    pub(super) fn environment(&self) -> Environment {
        Environment {
            set: vec![("RUNTIME_DIRECTORY", self.path().join("eal"))],
            without_configuration: true,
        }
    }

    /// Puts the capture into the directory: a link, because a port name cannot hold every
    /// character that a file name can; or a copy that libpcap reads where it would not the file.
    fn lay_capture(&self, path: &Path, capture: &Capture) -> Result<(), WorkspaceError> {
        let lay = |target: PathBuf| match capture.refused {
            None => std::os::unix::fs::symlink(target, self.capture()),
            Some(Refused::OtherLink | Refused::MixedSnapshots) => {
                rewrite(&target, &self.capture(), capture.frames)
            }
            Some(Refused::UnknownMinor) => renumber(&target, &self.capture()),
        };
        std::fs::canonicalize(path)
            .and_then(lay)
            .and_then(|()| std::fs::create_dir(self.path().join("eal")))
            .map_err(|source| WorkspaceError::Unusable {
                path: self.path().to_owned(),
                source,
            })
    }

    fn capture(&self) -> PathBuf {
        self.path().join("capture")
    }

    fn dataplane_table(&self, args: &ReplayArgs, capture: &Capture) -> Table {
        let mut table = Table::new();
        set(&mut table, "dataplane", "run_dir", path_text(self.path()));
        set(
            &mut table,
            "dataplane",
            "state_dir",
            path_text(&self.path().join("dataplane")),
        );
        set(&mut table, "dataplane", "idle", "sleep");
        set(&mut table, "memory", "hugepages", "never");
        // Headers are read from the first buffer of a frame: here no frame is in a hurry, so each
        // fits one buffer, however deep its headers lie.
        set(&mut table, "memory", "mbuf_bytes", BUFFER_BYTES);
        set(&mut table, "memory", "mbufs", BUFFERS);
        set(&mut table, "eal", "file_prefix", self.file_prefix());
        let lane = Table::from_iter([
            ("name".to_owned(), Value::from("capture")),
            (
                "mirror".to_owned(),
                Value::from(format!("pcap:in={}", self.capture().display())),
            ),
        ]);
        table.insert("lane".to_owned(), Value::Array(vec![Value::Table(lane)]));
        // Nothing ever has to make room, unless there are more flows than any cache may hold; and the index
        // of the cache is never crowded.
        let flows = capture.flows_max.saturating_mul(5) / 4;
        let flows = flows.clamp(1 << 12, FLOWS_MAX);
        set(&mut table, "flow", "flows_max", whole(flows));
        set(
            &mut table,
            "flow",
            "fragments_max",
            whole(capture.fragments_max.clamp(1 << 12, FRAGMENTS_MAX)),
        );
        let key = args.key.unwrap_or(if args.truth_rules {
            Key::Outer
        } else {
            Key::Inner
        });
        set(&mut table, "flow", "key", key.word());
        set(&mut table, "flow", "vlan_key", args.vlan_key);
        set(&mut table, "flow", "truth", args.truth_rules);
        if args.truth_rules {
            set(&mut table, "flow", "tunnel_depth_max", TRUTH_TUNNEL_DEPTH);
        }
        set(&mut table, "replay", "finish", true);
        set(&mut table, "replay", "clock", "capture");
        set(&mut table, "replay", "wait_policy", args.policy.is_some());
        set(&mut table, "replay", "checked", capture.is_whole_pcap());
        table
    }

    fn control_table(&self, args: &ReplayArgs, capture: &Capture, history: History) -> Table {
        let mut table = Table::new();
        set(&mut table, "control", "run_dir", path_text(self.path()));
        let state = path_text(&self.path().join("control"));
        set(&mut table, "control", "state_dir", state);
        set(&mut table, "dataplane", "reconnect_min", "5ms");
        set(&mut table, "dataplane", "reconnect_max", "20ms");
        set(&mut table, "metrics", "listen", "off");
        // Every record counts at least one frame, but the last record of a denied flow, which has
        // told its frames before: there are never more than twice as many records as frames.
        let records = capture
            .frames
            .saturating_mul(2)
            .clamp(1 << 10, RECORDS_KEPT_MAX);
        set(&mut table, "flows", "recent_max", whole(records));
        match history {
            // What happened here is no news: a replay tells its flows, not its findings.
            History::Off => {
                set(&mut table, "history", "engine", "off");
                set(&mut table, "watch", "enabled", false);
            }
            History::Kept => {
                set(&mut table, "history", "engine", "memory");
                set(&mut table, "history", "memory_records_max", whole(records));
                set(&mut table, "history", "when_full", "wait");
            }
        }
        set(&mut table, "export", "when_full", "wait");
        // The summary waits until the last message has been sent.
        set(&mut table, "export", "flush", "100ms");
        let collectors: Vec<Value> = args
            .ipfix
            .iter()
            .map(|collector| Value::Table(collector.to_table()))
            .collect();
        set(&mut table, "export", "collectors", collectors);
        table
    }

    /// EAL's prefix, unique as the directory's name is.
    fn file_prefix(&self) -> String {
        let name = self.path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Makes the directory where temporary files go, or in `/tmp` where a socket's path would be too
/// long there.
fn directory() -> Result<TempDir, WorkspaceError> {
    let make = |parent: &Path| {
        tempfile::Builder::new()
            .prefix("ringfence-replay-")
            .tempdir_in(parent)
            .map_err(|source| WorkspaceError::Unusable {
                path: parent.to_owned(),
                source,
            })
    };
    let directory = make(&std::env::temp_dir())?;
    let longest = directory.path().join("dataplane.sock");
    if longest.as_os_str().as_bytes().len() < SOCKET_PATH_BYTES_MAX {
        return Ok(directory);
    }
    make(Path::new("/tmp"))
}

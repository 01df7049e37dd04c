//! Why a command failed: what, where, and what to do; each with its exit code.

use std::io;
use std::path::PathBuf;

use api::{ApiError, ErrorCode};

use crate::exit::Exit;
use crate::offline::OfflineError;
use crate::process::{ChildError, LocateError};
use crate::replay::ReplayError;

/// Why a command failed. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The control process cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file given on the command line cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `up` may not write where the sockets are to be.
    #[error("cannot write {path}: {source}; run as root, or give --run-dir DIR and --state-dir DIR \
             that are yours, and ports that need no privilege, for example \
             `--mirror pcap:in=FILE`", path = path.display())]
    NotRoot {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output cannot be written; never a broken pipe.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// A filter on the command line is not understood.
    #[error("--filter: {error}\n  {text}\n  {marker:>column$}", column = error.column, marker = "^")]
    Filter {
        /// The filter.
        text: String,
        /// Where and why.
        error: api::filter::FilterError,
    },
    /// A configuration file is no TOML.
    #[error("{path}: {message}", path = path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// `up` would have nothing to forward.
    #[error("no lane: give --lane INSIDE,OUTSIDE or --mirror PORT, or write [[lane]] into {path}; \
             for example `ringfence up --lane af_packet:eth1,af_packet:eth2`", path = path.display())]
    NoLane {
        /// The dataplane's configuration.
        path: PathBuf,
    },
    /// Another instance has the socket.
    #[error("ringfence is already running here: {what} answers at {socket}; use it \
             (`ringfence status`), stop it, or give this one its own --socket", socket = socket.display())]
    AlreadyRunning {
        /// Which process answers.
        what: &'static str,
        /// Its socket.
        socket: PathBuf,
    },
    /// A program is missing.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// A child failed.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A policy could not be checked without a control process.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// A replay failed.
    #[error(transparent)]
    Replay(#[from] Box<ReplayError>),
    /// The runtime could not be started.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl CliError {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => error.exit(),
            Self::Filter { .. } | Self::NoLane { .. } => Exit::Usage,
            Self::Replay(error) => error.exit(),
            _ => Exit::Failed,
        }
    }
}

/// Why the control process did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the control process is not running: nobody listens at {socket}; start it with \
             `ringfence up`, or name another socket with --socket or RINGFENCE_SOCKET",
            socket = socket.display())]
    NotRunning {
        /// Where it should listen.
        socket: PathBuf,
    },
    /// The socket's permissions forbid it.
    #[error("no permission to open {socket}, the socket of the control process; run as root, or as \
             a member of the group that owns it (`ls -l {socket}`)", socket = socket.display())]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be opened for another reason.
    #[error("cannot open {socket}, the socket of the control process: {source}; name another with \
             --socket or RINGFENCE_SOCKET", socket = socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It accepted the connection and then said nothing.
    #[error("the control process at {socket} did not answer {path} within {seconds} s; look at its \
             log, or restart it (traffic does not notice)", socket = socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        path: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection ended before the answer did.
    #[error("the control process at {socket} broke off while answering {path}: {message}; it may \
             have been stopped, see `ringfence status`", socket = socket.display())]
    BrokenOff {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        path: String,
        /// What the transport said.
        message: String,
    },
    /// What came is not what this release understands.
    #[error("the answer to {path} is not understood ({message}); this is ringfence {}, and the \
             control process may be another release: see `ringfence status --json`",
            env!("CARGO_PKG_VERSION"))]
    NotUnderstood {
        /// What was asked.
        path: String,
        /// Where it stops being understood.
        message: String,
    },
    /// It said no.
    #[error("{0}")]
    Refused(ApiError),
}

impl ClientError {
    /// Whether no connection was made at all.
    #[must_use]
    pub fn is_not_connected(&self) -> bool {
        matches!(
            self,
            Self::NotRunning { .. } | Self::Forbidden { .. } | Self::Socket { .. }
        )
    }

    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRunning { .. }
            | Self::Forbidden { .. }
            | Self::Socket { .. }
            | Self::Silent { .. }
            | Self::BrokenOff { .. } => Exit::Unreachable,
            Self::Refused(error)
                if matches!(
                    error.code,
                    ErrorCode::InvalidPolicy | ErrorCode::InvariantBroken | ErrorCode::NotReady
                ) =>
            {
                Exit::No
            }
            Self::Refused(error) if error.code == ErrorCode::BadRequest => Exit::Usage,
            Self::NotUnderstood { .. } | Self::Refused(_) => Exit::Failed,
        }
    }
}

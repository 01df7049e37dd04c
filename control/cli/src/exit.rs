//! Exit codes: one table, shown by `--help` and the README.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; where the command asks a question, the answer is yes.
    Ok = 0,
    /// The answer is no: policy invalid, accounting differs, flow denied, a check failed.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The control process cannot be reached.
    Unreachable = 3,
    /// Refused or failed: a bad file, a request that was refused, a process that died.
    Failed = 4,
    /// Interrupted by Ctrl-C or SIGTERM before the work was done (128 + SIGINT).
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table as `--help` shows it.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    done; where the command asks a question, the answer is yes
  1    the answer is no: policy invalid (policy check, policy apply), an invariant broken (policy
       check), reach differs (policy diff), flow denied or rejected (explain), packets not accounted
       for (verify accounting), a check failed (doctor)
  2    the command line is wrong
  3    the control process cannot be reached
  4    refused or failed: a file that cannot be used, a refused request, a process that died
  130  interrupted before the work was done

Environment:
  RINGFENCE_SOCKET  socket of the control process, as --socket
  NO_COLOR          if set and not empty, no colour even on a terminal";

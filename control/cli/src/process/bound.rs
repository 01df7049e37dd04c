//! A child that cannot outlive its parent.
//!
//! Between fork and exec only unsafe code could ask the kernel to signal the child at its parent's
//! death, so the parent starts this very program again; that asks by itself and then becomes the
//! program it was told to be. The request survives exec (prctl(2), PR_SET_PDEATHSIG).

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::exit::Exit;

/// Becomes `command`; returns only where that fails.
#[must_use]
pub fn become_bound_child(parent: i32, command: &[OsString]) -> Exit {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("cannot ask for a signal at the parent's death: {error}");
        return Exit::Failed;
    }
    // The parent may have died before the request: then nobody would ever end this process.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Exit::Interrupted;
    }
    let Some((program, arguments)) = command.split_first() else {
        return Exit::Usage;
    };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot start {}: {error}", program.display());
    Exit::Failed
}

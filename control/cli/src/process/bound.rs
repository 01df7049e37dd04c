//! A child that cannot outlive its parent.
//!
//! Between fork and exec only unsafe code could ask the kernel to signal the child at its parent's
//! death, so the parent starts this very program again; that asks by itself and then becomes the
//! program it was told to be. The request survives exec (prctl(2), PR_SET_PDEATHSIG).

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::exit::Exit;

/// The word that asks for it. It is no command of the command line: an operator has no use for it,
/// and neither help nor completions offer it.
const WORD: &str = "bound-child";

/// A program that is to be ended when its parent dies.
#[derive(Clone, Copy, Debug)]
pub struct BoundChild<'a> {
    parent: i32,
    program: &'a OsString,
    arguments: &'a [OsString],
}

impl<'a> BoundChild<'a> {
    /// What comes before the program and its arguments, where `parent` starts this program again.
    #[must_use]
    pub fn ask(parent: Pid) -> [String; 3] {
        let parent = parent.as_raw_nonzero().to_string();
        [WORD.to_owned(), parent, "--".to_owned()]
    }

    /// What the arguments of this process (its own name first) ask for, if it is this.
    #[must_use]
    pub fn asked(arguments: &'a [OsString]) -> Option<Self> {
        let [_, word, parent, dashes, program, arguments @ ..] = arguments else {
            return None;
        };
        if word != WORD || dashes != "--" {
            return None;
        }
        let parent = parent.to_str()?.parse().ok()?;
        Some(Self {
            parent,
            program,
            arguments,
        })
    }

    /// Becomes the program; returns only where that fails.
    #[must_use]
    pub fn become_it(self) -> Exit {
        if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
            eprintln!("cannot ask for a signal at the parent's death: {error}");
            return Exit::Failed;
        }
        // The parent may have died before the request: then nobody would ever end this process.
        if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(self.parent) {
            return Exit::Interrupted;
        }
        let error = Command::new(self.program).args(self.arguments).exec();
        eprintln!("cannot start {}: {error}", self.program.display());
        Exit::Failed
    }
}

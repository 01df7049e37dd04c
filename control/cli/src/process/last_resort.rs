//! What is done when this program panics: its children end and its private directory goes.
//!
//! Release builds abort on panic, so no destructor runs; the panic hook does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

struct Registered {
    children: Vec<Pid>,
    directories: Vec<PathBuf>,
}

static REGISTERED: Mutex<Registered> = Mutex::new(Registered {
    children: Vec::new(),
    directories: Vec::new(),
});

fn registered() -> MutexGuard<'static, Registered> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the panic hook, in front of the one that prints the message.
pub fn guard_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        // The panicking thread may hold the lock: then its children still get SIGTERM by their
        // own request, see `bound`.
        if let Ok(registered) = REGISTERED.try_lock() {
            for pid in &registered.children {
                let _ = kill_process(*pid, Signal::KILL);
            }
            for directory in &registered.directories {
                let _ = std::fs::remove_dir_all(directory);
            }
        }
    }));
}

/// Has a directory removed should this program panic.
pub fn remove_on_panic(directory: &Path) {
    registered().directories.push(directory.to_owned());
}

pub(super) fn kill_on_panic(pid: Pid) {
    registered().children.push(pid);
}

/// Called once the child is reaped: its number may belong to another process afterwards.
pub(super) fn forget(pid: Pid) {
    registered().children.retain(|other| *other != pid);
}

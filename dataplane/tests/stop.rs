//! What a process that was stopped in order leaves behind: nothing.

#![cfg(feature = "dpdk")]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Killed, should the test fail.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where libdpdk keeps files of the instance: of root, of a user with a session, of any other.
fn runtime_directory(prefix: &str) -> Option<PathBuf> {
    let session = env::var_os("XDG_RUNTIME_DIR").map(|path| PathBuf::from(path).join("dpdk"));
    let above = ["/var/run/dpdk".into(), "/tmp/dpdk".into()];
    let mut directories = above.into_iter().chain(session);
    directories.find_map(|path| Some(path.join(prefix)).filter(|path| path.is_dir()))
}

#[test]
fn a_process_that_is_stopped_leaves_no_file_of_its_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let prefix = format!("ringfence-stop-{}", std::process::id());
    let config = format!(
        "[dataplane]\nrun_dir = \"{0}/run\"\nstate_dir = \"{0}/state\"\nidle = \"sleep\"\n\n\
         [eal]\nfile_prefix = \"{prefix}\"\n\n[memory]\nhugepages = \"never\"\nmbufs = 1024\n\n\
         [flow]\nflows_max = 1024\n\n[[lane]]\nmirror = \"null:no-rx\"\n",
        directory.path().display()
    );
    let path = directory.path().join("dataplane.toml");
    std::fs::write(&path, config).expect("written");
    let child = Command::new(env!("CARGO_BIN_EXE_ringfence-dataplane"))
        .arg("--config")
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.expect("it starts"));
    let mut said = Vec::new();
    let stderr = process.0.stderr.take().expect("piped");
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        said.push(line);
        if said
            .last()
            .is_some_and(|line| line.starts_with("running: "))
        {
            break;
        }
    }
    let runtime = runtime_directory(&prefix).unwrap_or_else(|| panic!("it runs: {said:?}"));
    kill_process(Pid::from_child(&process.0), Signal::TERM).expect("told to stop");
    let status = process.0.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(!runtime.exists(), "left behind: {}", runtime.display());
    assert!(!directory.path().join("run/dataplane.sock").exists());
}

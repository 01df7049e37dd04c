//! The directory in which EAL keeps the files of one instance, such as `/var/run/dpdk/ringfence`.
//! libdpdk makes it and leaves it, a few MiB a run where memory is ordinary.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// EAL holds a lock on this file until the process ends.
const LOCKED_FILE: &str = "config";

/// The directory of this process's instance.
pub(crate) struct RuntimeDir {
    path: PathBuf,
    /// The files in it are this instance's: it holds their lock. With private hugepages EAL keeps
    /// no file and takes no lock, and whatever is there is another's.
    is_locked: bool,
}

impl RuntimeDir {
    pub(crate) fn new(path: &Path, is_locked: bool) -> Self {
        Self {
            path: path.to_owned(),
            is_locked,
        }
    }

    /// Removes the instance's own files, and the directory where nothing else is in it. Only after
    /// EAL has been cleaned up. What cannot be removed stays: the next start takes it over.
    pub(crate) fn remove(&self) {
        if self.is_locked {
            self.remove_files();
        }
        let _ = fs::remove_dir(&self.path);
    }

    fn remove_files(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if is_made_by_eal(&entry.file_name()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Last: a new instance of the same name is refused until here, so no file of its was removed.
        let _ = fs::remove_file(self.path.join(LOCKED_FILE));
    }
}

/// Whether EAL makes files of this name, beside [`LOCKED_FILE`].
fn is_made_by_eal(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["fbarray_", "hugepage_", "mp_socket", "dpdk_telemetry"]
        .iter()
        .any(|kind| name.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let above = tempfile::tempdir().expect("a directory");
        let path = above.path().join("ringfence");
        fs::create_dir(&path).expect("made");
        for file in files {
            fs::write(path.join(file), "").expect("written");
        }
        (above, path)
    }

    #[test]
    fn the_files_of_an_instance_go_with_their_directory() {
        let (_above, path) = directory(&["config", "fbarray_memzone", "hugepage_info"]);
        RuntimeDir::new(&path, true).remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_eal_did_not_make_stays() {
        let (_above, path) = directory(&["config", "fbarray_memzone", "notes"]);
        RuntimeDir::new(&path, true).remove();
        let left: Vec<_> = fs::read_dir(&path).expect("there").flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "notes");
    }

    #[test]
    fn without_the_lock_the_files_are_anothers_and_stay() {
        let (_above, path) = directory(&["config", "fbarray_memzone"]);
        RuntimeDir::new(&path, false).remove();
        assert!(path.join("config").exists() && path.join("fbarray_memzone").exists());
        let (_above, path) = directory(&[]);
        RuntimeDir::new(&path, false).remove();
        assert!(!path.exists());
    }
}

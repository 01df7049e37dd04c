//! Small writes that are whole or not there: temporary name, fsync, rename, fsync of the directory.

use crate::HistoryError;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What temporary files end in. What ends so when the engine opens was never finished, and is removed.
pub(super) const TMP: &str = "tmp";

/// Says what was being done to which file.
pub(super) fn failed(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::File { what, path, source }
}

/// Makes renames and removals in a directory last.
pub(super) fn sync_dir(dir: &Path) -> Result<(), HistoryError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(failed("sync directory", dir))
}

pub(super) fn create_dir(dir: &Path) -> Result<(), HistoryError> {
    fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// The name that a file is written under.
pub(super) fn tmp_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TMP);
    PathBuf::from(name)
}

/// Puts a small file in the place of the one of this name.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), HistoryError> {
    let tmp = tmp_of(path);
    let written = File::create(&tmp).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        remove(&tmp);
        return Err(failed("write", &tmp)(error));
    }
    fs::rename(&tmp, path).map_err(failed("rename to", path))?;
    // The rename is done whatever the directory says; a later one makes it last too.
    if let Some(dir) = path.parent()
        && let Err(error) = sync_dir(dir)
    {
        tracing::warn!(%error, "a rename may not outlive a loss of power");
    }
    Ok(())
}

/// Removes a file that may be gone already. What cannot be removed now is removed when the engine opens next.
pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "cannot remove a file"),
    }
}

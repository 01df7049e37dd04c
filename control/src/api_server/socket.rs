//! The Unix socket's path: mode, stale sockets, second instances.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Owner and group may speak to the API.
const MODE: u32 = 0o660;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another control process answers at {path}; stop it, or name another control.run_dir")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}; check that control.run_dir exists and is writable")]
    Io {
        /// `make`, `listen at` ...
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket in the file system, removed when this process has done with it.
#[derive(Debug)]
pub struct SocketPath(PathBuf);

impl SocketPath {
    /// Listens at `path`. A socket that nobody answers is removed first. The socket appears under
    /// its name only with its final mode.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn listen(path: &Path) -> Result<(UnixListener, Self), SocketError> {
        let failed = |what| {
            let path = path.to_owned();
            move |source| SocketError::Io { what, path, source }
        };
        if UnixStream::connect(path).is_ok() {
            return Err(SocketError::InUse {
                path: path.to_owned(),
            });
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed("make the directory of"))?;
        }
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        remove(&beside).map_err(failed("remove the stale socket beside"))?;
        let listener = UnixListener::bind(&beside).map_err(failed("listen at"))?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(MODE))
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(failed("put the socket at"))?;
        Ok((listener, Self(path.to_owned())))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // A socket that stays is removed by the next start.
        let _ = remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "stale");
        let (listener, kept) = SocketPath::listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let second = SocketPath::listen(&path).unwrap_err().to_string();
        assert!(
            second.starts_with("another control process answers at"),
            "{second}"
        );
        drop((listener, kept));
        assert!(!path.exists(), "removed at the end");
    }
}

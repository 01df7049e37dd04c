//! Where the two programs are.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The two programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// `ringfence-dataplane`.
    pub dataplane: PathBuf,
    /// `ringfence-control`.
    pub control: PathBuf,
}

/// A program that is nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot find the program {name}; looked in {searched}; install it beside this program or \
         put its directory into PATH", searched = display(searched))]
pub struct LocateError {
    /// Its name.
    pub name: &'static str,
    /// Directories that were looked into, in this order.
    pub searched: Vec<PathBuf>,
}

fn display(searched: &[PathBuf]) -> String {
    searched
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

impl Programs {
    /// Looks beside this program, then in `PATH`.
    ///
    /// # Errors
    /// A program is in none of these directories.
    pub fn locate() -> Result<Self, LocateError> {
        let searched = directories();
        Ok(Self {
            dataplane: locate("ringfence-dataplane", &searched)?,
            control: locate(CONTROL, &searched)?,
        })
    }

    /// Looks for `ringfence-control` only.
    ///
    /// # Errors
    /// It is in none of these directories.
    pub fn locate_control() -> Result<PathBuf, LocateError> {
        locate(CONTROL, &directories())
    }
}

const CONTROL: &str = "ringfence-control";

fn directories() -> Vec<PathBuf> {
    let own = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(env::split_paths(&path)).collect()
}

fn locate(name: &'static str, searched: &[PathBuf]) -> Result<PathBuf, LocateError> {
    searched
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| is_program(path))
        .ok_or_else(|| LocateError {
            name,
            searched: searched.to_vec(),
        })
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_every_directory_that_was_searched() {
        let error = locate(
            "ringfence-dataplane",
            &["/nonexistent".into(), "/proc".into()],
        );
        assert_eq!(
            error.map_err(|error| error.to_string()),
            Err("cannot find the program ringfence-dataplane; looked in /nonexistent, /proc; install \
                 it beside this program or put its directory into PATH"
                .to_owned())
        );
    }

    #[test]
    fn the_first_directory_with_an_executable_wins() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::write(first.path().join("ringfence-control"), "not executable").unwrap();
        let program = second.path().join("ringfence-control");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let searched = [first.path().to_owned(), second.path().to_owned()];
        assert_eq!(locate("ringfence-control", &searched), Ok(program));
    }
}

//! Where things are: the repository, the release binaries, the captures.

use std::env;
use std::path::{Path, PathBuf};

use crate::suite::say_skipped;

/// Root of the repository.
///
/// # Panics
/// Never in a checkout: this crate lies one directory below the root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies below the root")
        .to_owned()
}

/// Directory of the release binaries: `RINGFENCE_BIN_DIR`, else `release` of the target directory.
#[must_use]
pub fn binaries() -> PathBuf {
    if let Some(directory) = env::var_os("RINGFENCE_BIN_DIR") {
        return directory.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target).join("release")
}

/// A binary of the product.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make build` first",
        path.display()
    );
    path
}

/// The shared captures, where both they and the binaries that replay them are here; else says what is missing.
#[must_use]
pub fn replayable_captures() -> Option<PathBuf> {
    if !binaries().join("ringfence").is_file() {
        let place = binaries();
        say_skipped(&format!(
            "no binaries in {}; `make build` makes them, RINGFENCE_BIN_DIR can name others",
            place.display()
        ));
        return None;
    }
    let found = traffic().map(|path| path.join("captures"));
    if found.is_none() {
        say_skipped(
            "the shared captures are not beside the repository; RINGFENCE_TRAFFIC can name them",
        );
    }
    found
}

/// The shared set of captures, where it exists: `RINGFENCE_TRAFFIC`, else beside the repository.
#[must_use]
pub fn traffic() -> Option<PathBuf> {
    let path = env::var_os("RINGFENCE_TRAFFIC")
        .map_or_else(|| root().join("../shared/traffic"), PathBuf::from);
    path.join("captures").is_dir().then_some(path)
}

/// The repository's own captures.
#[must_use]
pub fn own_captures() -> PathBuf {
    root().join("tests/captures")
}

//! The policy on disk, for the next start: a whole image, and the changes that came since.
//!
//! A whole image is written beside, flushed and renamed over the old one; then the changes before it
//! go. Changes are appended, each behind its length, and flushed. Whatever moment the machine stops,
//! what is there is an image and changes that follow it, or changes of an older image, which name
//! another base and are left alone.

use acl::PolicyImage;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the kept image in the state directory.
const IMAGE_NAME: &str = "policy.image";
/// Name of the changes since.
const CHANGES_NAME: &str = "policy.changes";
/// Changes kept before the whole image is: a start lays each over the image.
const CHANGES_MAX: u32 = 64;
/// Their bytes at most, as a part of the image's.
const CHANGES_DIVISOR: u64 = 4;
/// Bytes of the length before each change.
const LENGTH_BYTES: usize = 8;

/// Keeps policies in the state directory.
#[derive(Debug)]
pub(crate) struct PolicyFiles {
    dir: PathBuf,
    /// Where changes go, while the image that they follow is the one on disk.
    changes: Option<Changes>,
}

#[derive(Debug)]
struct Changes {
    file: File,
    count: u32,
    bytes: u64,
    bytes_max: u64,
}

/// What an earlier run kept.
pub(crate) struct KeptPolicy {
    pub(crate) image: Vec<u8>,
    /// As they came; the last may be cut.
    pub(crate) changes: Vec<Vec<u8>>,
}

impl PolicyFiles {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            changes: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the whole image is.
    pub(crate) fn image_path(&self) -> PathBuf {
        self.dir.join(IMAGE_NAME)
    }

    /// What is there; `None` where nothing is.
    pub(crate) fn read(&self) -> io::Result<Option<KeptPolicy>> {
        let image = match std::fs::read(self.image_path()) {
            Ok(image) => image,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let changes = match std::fs::read(self.dir.join(CHANGES_NAME)) {
            Ok(changes) => changes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let changes = split(&changes);
        Ok(Some(KeptPolicy { image, changes }))
    }

    /// Keeps an image as a whole.
    pub(crate) fn keep_image(&mut self, image: &PolicyImage) -> io::Result<()> {
        self.changes = None;
        std::fs::create_dir_all(&self.dir)?;
        let beside = self.dir.join("policy.image.new");
        let written = File::create(&beside).and_then(|mut file| {
            image.runs().try_for_each(|run| file.write_all(run))?;
            file.sync_all()
        });
        if let Err(error) = written {
            let _ = std::fs::remove_file(&beside);
            return Err(error);
        }
        std::fs::rename(&beside, self.image_path())?;
        // Emptied, not appended to: those in it are of an older image.
        let file = File::create(self.dir.join(CHANGES_NAME))?;
        File::open(&self.dir)?.sync_all()?;
        self.changes = Some(Changes {
            file,
            count: 0,
            bytes: 0,
            bytes_max: image.byte_count() as u64 / CHANGES_DIVISOR,
        });
        Ok(())
    }

    /// Keeps the change that made an image of the one kept last, or that image where there is no room
    /// for more changes.
    pub(crate) fn keep_change(&mut self, change: &[u8], image: &PolicyImage) -> io::Result<()> {
        match self
            .changes
            .take()
            .filter(|changes| changes.has_room(change))
        {
            Some(mut changes) => {
                changes.append(change)?;
                self.changes = Some(changes);
                Ok(())
            }
            None => self.keep_image(image),
        }
    }
}

impl Changes {
    fn has_room(&self, change: &[u8]) -> bool {
        self.count < CHANGES_MAX && self.bytes + change.len() as u64 <= self.bytes_max
    }

    /// Where it fails, what was written of it is taken back.
    fn append(&mut self, change: &[u8]) -> io::Result<()> {
        let length = (change.len() as u64).to_le_bytes();
        let appended = self
            .file
            .write_all(&length)
            .and_then(|()| self.file.write_all(change))
            .and_then(|()| self.file.sync_data());
        if appended.is_err() {
            let _ = self.file.set_len(self.bytes);
        }
        self.count += 1;
        self.bytes += (LENGTH_BYTES + change.len()) as u64;
        appended
    }
}

/// The changes in a file, without what is cut at its end.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut changes = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((change, rest)) = rest.split_at_checked(length) else {
            break;
        };
        changes.push(change.to_vec());
        bytes = rest;
    }
    changes
}

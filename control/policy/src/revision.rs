//! A revision is named by the hash of its text.

use core::fmt;
use sha2::{Digest, Sha256};

/// SHA-256 of the canonical text of a policy: line ends are LF, the text ends with exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub [u8; 32]);

impl Revision {
    /// The revision of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(revision_hash(text))
    }

    /// 12 hexadecimal digits, what people see and type.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// All 64 hexadecimal digits.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({self})")
    }
}

/// SHA-256 of the canonical text, see [`Revision`].
#[must_use]
pub fn revision_hash(text: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let trimmed = text.trim_end();
    if !trimmed.contains('\r') {
        // Nearly every text: nothing between its ends is to be changed.
        if !trimmed.is_empty() {
            hasher.update(trimmed);
            hasher.update("\n");
        }
        return hasher.finalize().into();
    }
    for line in trimmed.lines() {
        hasher.update(line);
        hasher.update("\n");
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_do_not_change_a_revision_and_words_do() {
        let unix = Revision::of("a = 1\nb = 2\n");
        assert_eq!(unix, Revision::of("a = 1\r\nb = 2"));
        assert_ne!(unix, Revision::of("a = 1\nb = 3\n"));
        assert_eq!(unix, Revision::of("a = 1\nb = 2\r\n\n"));
        assert_eq!(Revision::of(""), Revision::of("\r\n"));
        assert_eq!(unix.short().len(), 12);
        assert!(unix.to_string().starts_with(&unix.short()));
    }
}

//! Revisions by name, the way back to one, and the log of all changes.

use super::log::VerifyError;
use super::{Change, PolicyService, REVISION_DIGITS_MIN, SHOWN_DIGITS, Terms, lock, stored_text};
use api::error::{ApiError, ErrorCode};
use api::life::LogVerification;
use api::policy::{ApplyResult, Outcome, PolicyChange, PolicyLog, PolicyLogEntry, Revision};

/// The revision that was in force before `current`. One that was tried and has reverted was never
/// accepted, and nobody is brought back to it.
fn previous(log: &[PolicyLogEntry], current: &str) -> Option<String> {
    let mut reverted_to: Option<&str> = None;
    for entry in log.iter().rev().filter(|e| e.outcome == Outcome::Adopted) {
        match reverted_to {
            Some(revision) if entry.revision != revision => continue,
            Some(_) => reverted_to = None,
            None => {}
        }
        if entry.change == PolicyChange::Revert {
            reverted_to = Some(&entry.revision);
        }
        if entry.revision != current {
            return Some(entry.revision.clone());
        }
    }
    None
}

impl PolicyService {
    /// Goes back to an earlier revision.
    ///
    /// # Errors
    /// No such revision, or as [`PolicyService::apply`].
    pub async fn rollback(&self, wanted: &str, change: Change) -> Result<ApplyResult, ApiError> {
        let found = self.revision(wanted)?;
        let digits = found.revision.get(..SHOWN_DIGITS).unwrap_or_default();
        let change = Change {
            file_name: format!("revision {digits}"),
            ..change
        };
        self.apply(found.text, change, &Terms::default()).await
    }

    /// A revision by name, by its first digits, or `previous`.
    ///
    /// # Errors
    /// None or several fit.
    pub fn revision(&self, wanted: &str) -> Result<Revision, ApiError> {
        let not_found = |message: String| ApiError::new(ErrorCode::NotFound, message);
        let mut store = lock(&self.store);
        let revision = if wanted == "previous" {
            let current = lock(&self.current).record.revision.clone();
            let none = || not_found("no other revision has been in force here".to_owned());
            previous(&store.log().entries()?, &current).ok_or_else(none)?
        } else {
            let hexadecimal = wanted.bytes().all(|b| b.is_ascii_hexdigit());
            if wanted.len() < REVISION_DIGITS_MIN || !hexadecimal {
                let message = format!(
                    "`{wanted}` names no revision: give at least {REVISION_DIGITS_MIN} of its \
                     hexadecimal digits, or `previous`"
                );
                return Err(ApiError::new(ErrorCode::BadRequest, message));
            }
            let mut found = store.revisions(&wanted.to_ascii_lowercase())?;
            match (found.pop(), found.len()) {
                (Some(only), 0) => only,
                (None, _) => {
                    let message = format!("no revision begins with {wanted}; see the policy log");
                    return Err(not_found(message));
                }
                (Some(_), more) => {
                    let message = format!("{} revisions begin with {wanted}: give more", more + 1);
                    return Err(ApiError::new(ErrorCode::BadRequest, message));
                }
            }
        };
        let text = stored_text(&store, &revision)?;
        Ok(Revision { revision, text })
    }

    /// Every change, oldest first.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn history(&self) -> Result<PolicyLog, ApiError> {
        Ok(PolicyLog {
            entries: lock(&self.store).log().entries()?,
        })
    }

    /// Whether the log is what was written; `head` is a hash that was noted earlier.
    ///
    /// # Errors
    /// The log cannot be read, or `head` is no hash. A broken log is an answer.
    pub fn verify_log(&self, head: Option<&str>) -> Result<LogVerification, ApiError> {
        let verified = lock(&self.store).log().verify(head);
        verified.map_err(|error| match error {
            VerifyError::NoHash { .. } => ApiError::new(ErrorCode::BadRequest, error.to_string()),
            VerifyError::Store(error) => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Ts;

    fn log(entries: &[(PolicyChange, &str)]) -> Vec<PolicyLogEntry> {
        let entry = |(change, revision): &(PolicyChange, &str)| PolicyLogEntry {
            ts: Ts(0),
            change: *change,
            revision: (*revision).to_owned(),
            epoch: 1,
            outcome: Outcome::Adopted,
            message: String::new(),
            author: String::new(),
            note: String::new(),
            file_name: String::new(),
            inventory: String::new(),
            adoption_us: None,
            peer: None,
            seq: 0,
            previous_hash: String::new(),
            hash: String::new(),
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn the_revision_before_is_never_one_that_reverted() {
        use PolicyChange::{Apply, Revert, Rollback};
        let told = |entries: &[(PolicyChange, &str)], current| previous(&log(entries), current);
        assert_eq!(
            told(&[(Apply, "a"), (Apply, "b")], "b").as_deref(),
            Some("a")
        );
        assert_eq!(told(&[(Apply, "a")], "a"), None);
        let tried = [(Apply, "a"), (Apply, "b"), (Apply, "c"), (Revert, "b")];
        assert_eq!(told(&tried, "b").as_deref(), Some("a"), "not c");
        assert_eq!(told(&tried[1..], "b"), None);
        let back = [&tried[..], &[(Rollback, "a")]].concat();
        assert_eq!(told(&back, "a").as_deref(), Some("b"));
    }
}

//! Policies of other times, compiled as they were: the text of the revision, the inventory that stood
//! beside it, the rules that had not expired then.

use super::members::Sources;
use super::press::Press;
use super::{InForce, PolicyService, lock, stored_text};
use api::Ts;
use api::error::{ApiError, ErrorCode};
use api::policy::{Outcome, PolicyLogEntry};

/// A policy that was in force.
#[derive(Clone, Debug)]
pub struct Past {
    /// As it was.
    pub in_force: InForce,
    /// Since when its revision was in force.
    pub since: Ts,
    /// What is not known about it, and what was taken instead.
    pub uncertain: Option<String>,
}

fn adopted(entry: &PolicyLogEntry) -> bool {
    entry.outcome == Outcome::Adopted && entry.epoch > 0
}

impl PolicyService {
    /// The policy that was in force at a time. Takes long for a large policy.
    ///
    /// # Errors
    /// None was, or its text is gone.
    pub fn in_force_at(&self, at_ns: u64) -> Result<Past, ApiError> {
        let entries = lock(&self.store).log().entries()?;
        let before = entries.iter().take_while(|entry| entry.ts.0 <= at_ns);
        let before: Vec<&PolicyLogEntry> = before.filter(|entry| adopted(entry)).collect();
        self.past(&before, at_ns).unwrap_or_else(|| {
            let at = Ts(at_ns);
            let message = format!(
                "no policy was in force at {at} as far as the log goes back; `ringfence policy log` \
                 lists what was"
            );
            Err(ApiError::new(ErrorCode::NotFound, message))
        })
    }

    /// The policy that was published under an epoch. Takes long for a large policy.
    ///
    /// # Errors
    /// None was, or its text is gone.
    pub fn in_force_of(&self, epoch: u64) -> Result<Past, ApiError> {
        let entries = lock(&self.store).log().entries()?;
        let until = entries
            .iter()
            .rposition(|entry| adopted(entry) && entry.epoch == epoch);
        let until = until.map_or(0, |index| index + 1);
        let before = entries.get(..until).unwrap_or_default().iter();
        let before: Vec<&PolicyLogEntry> = before.filter(|entry| adopted(entry)).collect();
        let at_ns = before.last().map_or(0, |entry| entry.ts.0);
        self.past(&before, at_ns).unwrap_or_else(|| {
            let message = match epoch {
                0 => "no policy judged it".to_owned(),
                epoch => format!("the log does not tell which policy had epoch {epoch}"),
            };
            Err(ApiError::new(ErrorCode::NotFound, message))
        })
    }

    /// The last of some adoptions, compiled.
    fn past(&self, adoptions: &[&PolicyLogEntry], at_ns: u64) -> Option<Result<Past, ApiError>> {
        let last = adoptions.last()?;
        let same = adoptions
            .iter()
            .rev()
            .take_while(|entry| entry.revision == last.revision);
        let since = same.last().map_or(last.ts, |entry| entry.ts);
        Some(
            self.compile_past(last, at_ns)
                .map(|(in_force, uncertain)| Past {
                    in_force,
                    since,
                    uncertain,
                }),
        )
    }

    fn compile_past(
        &self,
        entry: &PolicyLogEntry,
        at_ns: u64,
    ) -> Result<(InForce, Option<String>), ApiError> {
        let (text, sources) = {
            let store = lock(&self.store);
            let text = stored_text(&store, &entry.revision)?;
            (text, Sources::stored(&store, &entry.inventory))
        };
        let (sources, uncertain) = match sources {
            Ok(sources) => (sources, None),
            Err(_) => {
                let why = "the inventory of that time is not kept any more: workloads of inventories \
                           and addresses of DNS names are those of now";
                ((*self.sources()).clone(), Some(why.to_owned()))
            }
        };
        let date = crate::clock::date_of(at_ns);
        let file = &entry.file_name;
        let past = Press::default().compile_on(date, &text, file, entry.epoch, &sources)?;
        Ok((past, uncertain))
    }
}

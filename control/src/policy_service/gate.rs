//! What stands between a policy and its publication: the invariants that it states itself.

use super::{Change, InForce, PolicyService, proof};
use api::error::{ApiError, ErrorCode, ErrorDetail};
use api::policy::PolicyChange;
use api::reach::BrokenInvariant;
use std::sync::Arc;

/// How a change is held to the invariants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// To every one.
    Every,
    /// To those that the policy in force keeps: it is an edit of that policy.
    Kept,
}

/// Whether a kind of change is held to invariants. What takes something back or holds somebody is not:
/// it must always be possible.
const fn hold(kind: Option<PolicyChange>) -> Option<Hold> {
    match kind {
        Some(PolicyChange::Apply) => Some(Hold::Every),
        Some(PolicyChange::Workload | PolicyChange::Promote) => Some(Hold::Kept),
        _ => None,
    }
}

async fn broken(in_force: &InForce) -> Result<Vec<BrokenInvariant>, ApiError> {
    let compiled = Arc::clone(&in_force.compiled);
    tokio::task::spawn_blocking(move || proof::broken(&compiled))
        .await
        .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
}

fn told(broken: &BrokenInvariant) -> ErrorDetail {
    let path = broken.paths.first().map(|path| format!(": {}", path.told));
    let mut detail = broken.place.clone();
    detail.what.push_str(&path.unwrap_or_default());
    detail
}

impl PolicyService {
    /// Refuses a policy that breaks an invariant which nobody has named; gives what was named and is
    /// broken, to be told, and puts it into the note that the log keeps.
    pub(super) async fn hold_to_invariants(
        &self,
        draft: &InForce,
        change: &mut Change,
    ) -> Result<Vec<ErrorDetail>, ApiError> {
        let Some(hold) = hold(change.kind) else {
            return Ok(Vec::new());
        };
        let found = broken(draft).await?;
        let named = |b: &&BrokenInvariant| change.breaks.contains(&b.name);
        let mut refused: Vec<&BrokenInvariant> = found.iter().filter(|b| !named(b)).collect();
        if hold == Hold::Kept && !refused.is_empty() {
            let before = match self.in_force() {
                Some(in_force) => broken(&in_force).await?,
                None => Vec::new(),
            };
            refused.retain(|b| before.iter().all(|before| before.name != b.name));
        }
        let accepted: Vec<&BrokenInvariant> = found.iter().filter(named).collect();
        let names: Vec<&str> = refused.iter().map(|b| b.name.as_str()).collect();
        if names.is_empty() {
            let allowed: Vec<&str> = accepted.iter().map(|b| b.name.as_str()).collect();
            if !allowed.is_empty() {
                let gap = if change.note.is_empty() { "" } else { " " };
                change.note = format!("{}{gap}(breaks {})", change.note, allowed.join(", "));
            }
            return Ok(accepted.into_iter().map(told).collect());
        }
        let mend = match hold {
            Hold::Every => {
                "; mend the policy, or say `--break-invariant NAME` for each that may break"
            }
            Hold::Kept => "; `ringfence policy apply` can be told that it may",
        };
        Err(ApiError {
            code: ErrorCode::InvariantBroken,
            message: format!("the policy would break {}{mend}", names.join(", ")),
            details: refused.into_iter().map(told).collect(),
        })
    }
}

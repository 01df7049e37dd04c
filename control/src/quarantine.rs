//! Holding a workload: what that would cut of what was seen lately, and the quarantine that a finding
//! of the watch offers.

use crate::app::App;
use crate::foresight::Draft;
use crate::policy_service::InForce;
use api::error::{ApiError, ErrorCode};
use api::foresight::Foresight;
use api::life::Peer;
use api::quarantine::{QuarantineRequest, QuarantineResult};
use api::watch::{
    Finding, FindingKind, FindingState, FindingStateRequest, QuarantineOffer, WatchEnd,
};
use std::sync::Arc;

/// For how long a quarantine is offered, as the commands say it.
const OFFERED_FOR: (u64, &str) = (3600, "1h");
const NS_PER_S: u64 = 1_000_000_000;

/// The ends of a finding that are worth holding, first the one that matters most.
fn suspects(finding: &Finding) -> Vec<&WatchEnd> {
    // Of a chain, who was reached first and went on from there: what began it may be an
    // administrator's own host.
    let pivot = match (finding.kind, finding.hops.as_slice()) {
        (FindingKind::Chain, [first, ..]) => Some(&first.dst),
        _ => None,
    };
    pivot.into_iter().chain([&finding.src]).collect()
}

/// The host to begin with, whether it can be held or not.
pub(crate) fn suspect(finding: &Finding) -> String {
    let first = suspects(finding).first().map(|end| end.label());
    first.unwrap_or_else(|| finding.src.label())
}

/// The workload to hold.
fn offered(finding: &Finding, in_force: Option<&InForce>) -> Result<String, ApiError> {
    let workloads = in_force.map_or(&[][..], |f| &f.valid.workloads[..]);
    let suspects = suspects(finding);
    let named = suspects.iter().filter_map(|end| end.name.as_deref());
    let mut held = named.filter(|name| workloads.iter().any(|w| &w.name == name));
    held.next().map(str::to_owned).ok_or_else(|| {
        let labels: Vec<String> = suspects.iter().map(|end| end.label()).collect();
        let message = format!(
            "{} is no workload of the policy in force or of an inventory beside it, so that it cannot be \
             held by name; `ringfence watch draft {} --quarantine {}` writes a draft that isolates its addresses",
            labels.join(" or "),
            finding.id,
            labels[0]
        );
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// Everything from and to a workload: by its name then, and by the addresses that it has now.
fn about(workload: &str, addresses: &[String]) -> String {
    let mut filter = format!("workload \"{workload}\"");
    for address in addresses {
        let test = if address.contains('/') { "net" } else { "host" };
        filter.push_str(&format!(" or {test} {address}"));
    }
    filter
}

impl App {
    /// What a quarantine cuts, beside the policy that was in force before it.
    fn foresee_quarantine(
        &self,
        from: Option<&InForce>,
        result: &QuarantineResult,
        since: Option<&str>,
    ) -> Foresight {
        let Some(from) = from else {
            return Foresight::unknown("no policy was in force to compare with".to_owned());
        };
        self.foresee(&Draft {
            from,
            text: &result.text,
            since,
            filter: about(&result.held.workload, &result.addresses),
            but: Vec::new(),
        })
    }

    /// `POST /v1/quarantine`.
    ///
    /// # Errors
    /// It cannot be held, there is no such finding, or as applying a policy; then it is not held.
    pub async fn quarantine(
        self: &Arc<Self>,
        mut request: QuarantineRequest,
        peer: Option<Peer>,
    ) -> Result<QuarantineResult, ApiError> {
        let before = self.policy.in_force();
        let finding = request.finding.map(|id| self.finding(id)).transpose()?;
        if let Some(finding) = &finding {
            if request.workload.is_empty() {
                request.workload = offered(finding, before.as_ref())?;
            }
            if request.note.is_empty() {
                request.note = format!("finding {}", finding.id);
            }
        }
        let (author, since) = (request.author.clone(), request.since.clone());
        let mut result = self.policy.quarantine(request, peer).await?;
        if let (Some(finding), Some(_)) = (&finding, &result.applied) {
            self.note_held(finding, &result, author);
        }
        let app = Arc::clone(self);
        let looked = move || {
            let since = since.as_deref();
            result.foresight = app.foresee_quarantine(before.as_ref(), &result, since);
            result
        };
        tokio::task::spawn_blocking(looked)
            .await
            .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
    }

    /// Somebody acted on a finding. That the disk does not keep that undoes nothing.
    fn note_held(&self, finding: &Finding, result: &QuarantineResult, author: String) {
        let request = FindingStateRequest {
            id: finding.id,
            state: match finding.state {
                FindingState::Resolved => FindingState::Resolved,
                FindingState::Open | FindingState::Acknowledged => FindingState::Acknowledged,
            },
            author,
            note: format!(
                "{} is in quarantine until {}",
                result.held.workload, result.held.until_ts
            ),
        };
        if let Err(error) = self.say_finding(request) {
            tracing::warn!(finding = finding.id, %error, "a quarantine is not noted at its finding");
        }
    }

    /// The quarantine that a finding offers, judged over history.
    ///
    /// # Errors
    /// Nobody of it can be held.
    pub(crate) fn quarantine_offer(&self, finding: &Finding) -> Result<QuarantineOffer, ApiError> {
        let in_force = self.policy.in_force();
        let workload = offered(finding, in_force.as_ref())?;
        let (for_s, time) = OFFERED_FOR;
        let id = finding.id;
        if let Some(offer) = self.held_already(&workload) {
            return Ok(offer);
        }
        let drafted = self.policy.quarantine_draft(&QuarantineRequest {
            workload: workload.clone(),
            for_s,
            note: format!("finding {id}"),
            ..QuarantineRequest::default()
        })?;
        let foresight = self.foresee_quarantine(in_force.as_ref(), &drafted, None);
        Ok(QuarantineOffer {
            command: format!("ringfence watch quarantine {id}"),
            same: format!("ringfence quarantine {workload} --for {time} -m 'finding {id}'"),
            workload,
            addresses: drafted.addresses,
            for_s,
            held_until_ts: None,
            foresight,
        })
    }

    /// What is to be said where somebody held it before.
    fn held_already(&self, workload: &str) -> Option<QuarantineOffer> {
        let quarantines = self.policy.quarantines();
        let mut held = quarantines.held.into_iter();
        let held = held.find(|held| held.workload == workload)?;
        let lift = format!("ringfence quarantine lift {workload}");
        Some(QuarantineOffer {
            for_s: held.until_ts.0.saturating_sub(held.since_ts.0) / NS_PER_S,
            workload: held.workload,
            addresses: Vec::new(),
            command: lift.clone(),
            same: lift,
            held_until_ts: Some(held.until_ts),
            foresight: Foresight::default(),
        })
    }
}

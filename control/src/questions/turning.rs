//! The smallest change of the policy in force that turns the verdict of a flow.

use crate::policy_service::{InForce, reach_change};
use acl::Service;
use api::reach::View;
use api::turning::{Step, StepKind, Turning, TurningChange};
use policy::{Repair, RepairError, RepairStep, Repaired, Wanted};
use std::net::IpAddr;

/// Rules of the largest policy for which changes are tried: each is compiled and compared whole.
const TURNED_RULES_MAX: usize = 10_000;

/// How the verdict of a flow can be turned. Where the flow would be decided otherwise once everything
/// is enforced, what keeps it as it is comes first.
pub(super) fn turnings(
    in_force: &InForce,
    ends: (IpAddr, IpAddr),
    service: Service,
) -> Vec<Turning> {
    let asked = |permit, view| Wanted {
        src: ends.0,
        dst: ends.1,
        service,
        permit,
        view,
    };
    let passes = policy::passes(&in_force.compiled, &asked(true, policy::View::Enforced));
    let kept = turning(in_force, &asked(passes, policy::View::Intended));
    let turned = turning(in_force, &asked(!passes, policy::View::Enforced));
    kept.into_iter().chain(turned).collect()
}

/// None where it is decided as wanted already.
fn turning(in_force: &InForce, wanted: &Wanted) -> Option<Turning> {
    let rules = in_force.valid.rules.len();
    let found = if rules <= TURNED_RULES_MAX {
        let policy = Repaired {
            text: in_force.text(),
            inventory: &in_force.members.inventory,
            compiled: &in_force.compiled,
        };
        policy::repair(policy, wanted).map_err(|error| match error {
            RepairError::AlreadySo { .. } => None,
            error => Some(error.to_string()),
        })
    } else if policy::passes(&in_force.compiled, wanted) == wanted.permit {
        Err(None)
    } else {
        Err(Some(format!(
            "the policy has {rules} rules: changes are tried for up to {TURNED_RULES_MAX}"
        )))
    };
    let (changes, none) = match found {
        Ok(changes) => (changes, None),
        Err(Some(why)) => (Vec::new(), Some(why)),
        Err(None) => return None,
    };
    Some(Turning {
        view: match wanted.view {
            policy::View::Intended => View::Intended,
            policy::View::Enforced => View::Enforced,
        },
        permits: wanted.permit,
        changes: changes.into_iter().map(change).collect(),
        none,
    })
}

fn change(repair: Repair) -> TurningChange {
    let rows = repair.diff.reach;
    let untold = rows.len().saturating_sub(TurningChange::REACH_TOLD_MAX);
    let told = rows.into_iter().take(TurningChange::REACH_TOLD_MAX);
    TurningChange {
        steps: repair.steps.into_iter().map(step).collect(),
        reach: told.map(reach_change).collect(),
        reach_untold: untold as u64,
    }
}

fn step(step: RepairStep) -> Step {
    let blank = |kind, told| Step {
        kind,
        told,
        rule: None,
        key: None,
        without: Vec::new(),
        tables: None,
        workload: None,
    };
    match step {
        RepairStep::Add { tables } => Step {
            tables: Some(tables),
            ..blank(StepKind::Add, "add to the policy".to_owned())
        },
        RepairStep::Remove { rule } => Step {
            rule: Some(rule.clone()),
            ..blank(StepKind::Remove, format!("take rule {rule} out"))
        },
        RepairStep::Narrow { rule, key, without } => {
            let told = format!("leave {} out of `{key}` of rule {rule}", without.join(", "));
            Step {
                rule: Some(rule),
                key: Some(key.to_owned()),
                without,
                ..blank(StepKind::Narrow, told)
            }
        }
        RepairStep::Lift { workload } => {
            let told = format!("let {workload} go: `ringfence quarantine lift {workload}`");
            Step {
                workload: Some(workload),
                ..blank(StepKind::Lift, told)
            }
        }
    }
}

//! What the policy's own invariants say about it.

use api::error::ErrorDetail;
use api::reach::{BrokenInvariant, Opening, Path, PathEnd, PathHop};
use policy::{CompiledPolicy, View, prove};

/// Invariants of a policy that do not hold.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Broken by the policy as it is meant.
    pub(super) broken: Vec<BrokenInvariant>,
    /// Kept as the policy is meant, and not by what is enforced so far.
    pub(super) not_yet: Vec<ErrorDetail>,
}

impl Proof {
    /// Takes long for a large policy: call it off the event loop.
    pub(super) fn of(compiled: &CompiledPolicy) -> Self {
        let file = &compiled.policy().file;
        let meant = prove(compiled, View::Intended);
        let now = prove(compiled, View::Enforced);
        let kept = |broken: &&policy::BrokenInvariant| meant.iter().all(|m| m.name != broken.name);
        Self {
            not_yet: now.iter().filter(kept).map(|b| not_yet(file, b)).collect(),
            broken: meant.iter().map(|broken| told(file, broken)).collect(),
        }
    }
}

/// What a policy breaks as it is meant. Takes long for a large policy: call it off the event loop.
pub(super) fn broken(compiled: &CompiledPolicy) -> Vec<BrokenInvariant> {
    let meant = prove(compiled, View::Intended);
    let file = &compiled.policy().file;
    meant.iter().map(|broken| told(file, broken)).collect()
}

fn sentence(broken: &policy::BrokenInvariant) -> String {
    let policy::BrokenInvariant {
        name,
        from,
        to,
        hops,
        ..
    } = broken;
    let within = match hops {
        1 => "in 1 hop".to_owned(),
        hops => format!("within {hops} hops"),
    };
    format!("invariant `{name}` is broken: {from} reaches {to} {within}")
}

fn not_yet(file: &str, broken: &policy::BrokenInvariant) -> ErrorDetail {
    let name = &broken.name;
    ErrorDetail {
        file: file.to_owned(),
        line: broken.line,
        column: 1,
        what: format!(
            "invariant `{name}` holds for the policy as it is meant, and not for what is enforced so far: {}",
            broken
                .paths
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        ),
        mend: "it holds once these segments and rules enforce".to_owned(),
    }
}

pub(super) fn told(file: &str, broken: &policy::BrokenInvariant) -> BrokenInvariant {
    let path = |path: &policy::Path| Path {
        told: path.to_string(),
        ends: path.ends.iter().map(end).collect(),
        hops: path.hops.iter().map(hop).collect(),
    };
    BrokenInvariant {
        name: broken.name.clone(),
        place: ErrorDetail {
            file: file.to_owned(),
            line: broken.line,
            column: 1,
            what: sentence(broken),
            mend: "remove or narrow a rule on each path, or change the invariant".to_owned(),
        },
        from: broken.from.clone(),
        to: broken.to.clone(),
        hops: u32::try_from(broken.hops).unwrap_or(u32::MAX),
        paths: broken.paths.iter().map(path).collect(),
        untold: broken.untold as u64,
    }
}

fn end(end: &policy::PathEnd) -> PathEnd {
    PathEnd {
        segment: end.segment.clone(),
        host: end.host.clone(),
    }
}

fn hop(hop: &policy::PathHop) -> PathHop {
    let opening = |opening: &policy::Opening| Opening {
        rule: opening.rule.clone(),
        services: opening.services.clone(),
    };
    PathHop {
        openings: hop.openings.iter().map(opening).collect(),
    }
}

//! Prefixes to identities: which set of segments each address is in.

use super::{Interner, index};
use crate::prefix::Span;
use crate::validate::ValidPolicy;
use abi::Mode;
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY, SEGMENT_INTERNET, SEGMENT_UNMANAGED};
use ipnet::IpNet;

/// Every identity, and which prefix has which.
pub(super) struct Identities {
    /// Segments of each identity, ascending.
    pub(super) sets: Vec<Vec<u32>>,
    /// Mode of each identity.
    pub(super) modes: Vec<Mode>,
    /// Sorted by address, then length: a prefix stands behind all that cover it.
    pub(super) prefixes: Vec<(Span, u32)>,
    /// Identity of an address that no prefix covers.
    pub(super) default: u32,
}

/// What a prefix says about the addresses within.
#[derive(Clone, Copy)]
enum Claim {
    Segment(u32),
    Workload(u32),
    Internal,
}

/// What is known about the addresses of a prefix, those that cover it included.
#[derive(Clone, Default)]
struct Known {
    segments: Vec<u32>,
    managed: bool,
    internal: bool,
}

impl Known {
    fn learn(&mut self, claim: Claim, of_workload: &[Vec<u32>]) {
        match claim {
            Claim::Segment(segment) => self.segments.push(segment),
            Claim::Internal => self.internal = true,
            Claim::Workload(workload) => {
                self.managed = true;
                self.segments.extend(&of_workload[workload as usize]);
            }
        }
    }

    fn set(&self) -> Vec<u32> {
        let mut set = self.segments.clone();
        set.push(SEGMENT_ANY);
        match (self.managed, self.internal) {
            (true, _) => {}
            (false, true) => set.push(SEGMENT_UNMANAGED),
            (false, false) => set.push(SEGMENT_INTERNET),
        }
        set.sort_unstable();
        set.dedup();
        set
    }
}

pub(super) fn identities(policy: &ValidPolicy) -> Identities {
    let of_workload = segments_of_workloads(policy);
    let mut claims = claims(policy);
    claims.sort_by_key(|(span, _)| *span);
    let mut interner = Interner::new();
    let mut ids = Identities {
        sets: Vec::new(),
        modes: Vec::new(),
        prefixes: Vec::new(),
        default: 0,
    };
    ids.default = ids.number(&mut interner, policy, Known::default().set());
    let mut open: Vec<(Span, Known)> = Vec::new();
    for same in claims.chunk_by(|(one, _), (other, _)| one == other) {
        let span = same[0].0;
        while open
            .last()
            .is_some_and(|(wide, _)| wide.v4 != span.v4 || wide.last() < span.last())
        {
            open.pop();
        }
        let mut known = open
            .last()
            .map(|(_, known)| known.clone())
            .unwrap_or_default();
        same.iter()
            .for_each(|(_, claim)| known.learn(*claim, &of_workload));
        let identity = ids.number(&mut interner, policy, known.set());
        ids.prefixes.push((span, identity));
        open.push((span, known));
    }
    ids
}

impl Identities {
    fn number(
        &mut self,
        interner: &mut Interner<Vec<u32>>,
        policy: &ValidPolicy,
        set: Vec<u32>,
    ) -> u32 {
        let (identity, new) = interner.number(set.clone());
        if new {
            let mode_of = |segment: &u32| {
                let own = (*segment as usize).checked_sub(BUILT_IN_SEGMENTS.len())?;
                Some(policy.segments.get(own)?.mode)
            };
            self.modes.push(
                set.iter()
                    .filter_map(mode_of)
                    .max()
                    .unwrap_or(Mode::Observe),
            );
            self.sets.push(set);
        }
        identity
    }
}

/// Segments whose selector selects each workload, as images number them.
fn segments_of_workloads(policy: &ValidPolicy) -> Vec<Vec<u32>> {
    let mut of_workload = vec![Vec::new(); policy.workloads.len()];
    for (at, segment) in policy.segments.iter().enumerate() {
        for workload in &segment.workloads {
            of_workload[*workload as usize].push(index(at + BUILT_IN_SEGMENTS.len()));
        }
    }
    of_workload
}

fn claims(policy: &ValidPolicy) -> Vec<(Span, Claim)> {
    let claim = |nets: &[IpNet], claim: Claim| -> Vec<(Span, Claim)> {
        nets.iter().map(|net| (Span::from(*net), claim)).collect()
    };
    let segments = policy
        .segments
        .iter()
        .enumerate()
        .flat_map(|(at, segment)| {
            claim(
                &segment.addresses,
                Claim::Segment(index(at + BUILT_IN_SEGMENTS.len())),
            )
        });
    let workloads = policy
        .workloads
        .iter()
        .enumerate()
        .flat_map(|(at, workload)| claim(&workload.addresses, Claim::Workload(index(at))));
    segments
        .chain(workloads)
        .chain(claim(&policy.internal, Claim::Internal))
        .collect()
}

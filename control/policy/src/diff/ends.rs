//! Ends that neither of two policies tells apart, and their names.

use super::EndSet;
use crate::compile::CompiledPolicy;
use crate::reach::ends::{address, pieces_of, spans as spans_of};
use crate::validate::ValidPolicy;
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY};
use acl::IdentityId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Addresses of one family with the same identity in either policy.
pub(super) struct Joint {
    pub(super) old: IdentityId,
    pub(super) new: IdentityId,
    v4: bool,
    /// Workloads of the new policy.
    workloads: BTreeSet<u32>,
    /// One of its hosts.
    host: String,
    /// Segments by name, as the new policy has them; those of the old that the new has no more too.
    segments: BTreeSet<u32>,
}

/// All of them.
pub(super) struct JointEnds {
    pub(super) all: Vec<Joint>,
    /// Names of segments of either policy.
    names: Vec<String>,
    /// Ends of each segment, by family.
    members: [Vec<Vec<u32>>; 2],
}

impl JointEnds {
    pub(super) fn of(old: &CompiledPolicy, new: &CompiledPolicy) -> Self {
        let mut spans = spans_of(new.policy(), true);
        spans.extend(spans_of(old.policy(), false));
        let mut numbers: HashMap<(IdentityId, IdentityId, bool), usize> = HashMap::new();
        let (names, of_old) = names(old.policy(), new.policy());
        let mut all: Vec<Joint> = Vec::new();
        for piece in pieces_of(spans) {
            let bytes = piece.first.to_be_bytes();
            let (before, after) = (old.image.identity(&bytes), new.image.identity(&bytes));
            let at = *numbers
                .entry((before, after, piece.v4))
                .or_insert(all.len());
            if at == all.len() {
                let gone = old.image.segments_of(before);
                let gone = gone.filter_map(|segment| of_old.get(&segment).copied());
                let own = new.image.segments_of(after).filter(|s| *s != SEGMENT_ANY);
                all.push(Joint {
                    old: before,
                    new: after,
                    v4: piece.v4,
                    workloads: BTreeSet::new(),
                    host: address(piece.first).to_string(),
                    segments: own.chain(gone).collect(),
                });
            }
            if let Some(workload) = piece.workload {
                if all[at].workloads.is_empty() {
                    all[at].host = new.policy().workloads[workload as usize].name.clone();
                }
                all[at].workloads.insert(workload);
            }
        }
        let mut members = [vec![Vec::new(); names.len()], vec![Vec::new(); names.len()]];
        for (at, joint) in (0..).zip(&all) {
            for segment in joint.segments.iter().chain([&SEGMENT_ANY]) {
                members[usize::from(joint.v4)][*segment as usize].push(at);
            }
        }
        Self {
            all,
            names,
            members,
        }
    }

    pub(super) fn of_family(&self, v4: bool) -> Vec<u32> {
        self.members[usize::from(v4)][SEGMENT_ANY as usize].clone()
    }

    /// Names for some ends of one family: `any` or segments whose members are all among them, the
    /// largest first, and one by one what is left.
    pub(super) fn named(&self, ends: &[u32]) -> EndSet {
        let set: BTreeSet<u32> = ends.iter().copied().collect();
        let v4 = ends.first().is_some_and(|at| self.all[*at as usize].v4);
        let members = &self.members[usize::from(v4)];
        let mut candidates: BTreeSet<u32> = [SEGMENT_ANY].into();
        candidates.extend(ends.iter().flat_map(|at| &self.all[*at as usize].segments));
        let mut whole: Vec<u32> = candidates
            .into_iter()
            .filter(|segment| members[*segment as usize].iter().all(|at| set.contains(at)))
            .collect();
        whole.sort_by_key(|segment| core::cmp::Reverse(members[*segment as usize].len()));
        let mut left = set.clone();
        let mut names = Vec::new();
        for segment in whole {
            let before = left.len();
            members[segment as usize].iter().for_each(|at| {
                left.remove(at);
            });
            if left.len() < before {
                names.push(self.names[segment as usize].clone());
            }
        }
        names.sort();
        let mut partly: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for at in left {
            let joint = &self.all[at as usize];
            let own: Vec<&str> = joint
                .segments
                .iter()
                .map(|s| self.names[*s as usize].as_str())
                .collect();
            let entry = partly
                .entry(own.join("+"))
                .or_insert((joint.host.clone(), 0));
            entry.1 += joint.workloads.len().max(1);
        }
        names.extend(partly.into_iter().map(|(own, (host, count))| match count {
            1 => format!("{own} [{host}]"),
            count => format!("{own} [{host} and {} more]", count - 1),
        }));
        let workloads: BTreeSet<u32> = set
            .iter()
            .flat_map(|at| &self.all[*at as usize].workloads)
            .copied()
            .collect();
        EndSet {
            names,
            workloads: workloads.len() as u64,
        }
    }
}

/// Names of segments: those of the new policy as its image numbers them, then those that only the
/// old one has; and these by their number in the old image.
fn names(old: &ValidPolicy, new: &ValidPolicy) -> (Vec<String>, HashMap<u32, u32>) {
    let built_in = BUILT_IN_SEGMENTS.iter().map(|name| (*name).to_owned());
    let own = new.segments.iter().map(|segment| segment.name.clone());
    let mut names: Vec<String> = built_in.chain(own).collect();
    let known: BTreeSet<&str> = new.segments.iter().map(|s| s.name.as_str()).collect();
    let mut of_old = HashMap::new();
    let first = u32::try_from(BUILT_IN_SEGMENTS.len()).unwrap_or(0);
    for (at, segment) in (first..).zip(old.segments.iter()) {
        if !known.contains(segment.name.as_str()) {
            of_old.insert(at, u32::try_from(names.len()).unwrap_or(u32::MAX));
            names.push(format!("{} (removed)", segment.name));
        }
    }
    (names, of_old)
}

//! What can be reached from a segment, hop by hop.

use crate::compile::CompiledPolicy;
use crate::reach::walk::{Bits, Walk};
use crate::reach::{Reach, View};
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY, SEGMENT_INTERNET, SEGMENT_UNMANAGED};

/// Hops that are counted at most.
pub const BLAST_HOPS_MAX: usize = 16;

/// What whoever holds a host of a segment can get at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blast {
    /// The segment.
    pub segment: String,
    /// Workloads in it.
    pub workloads: u64,
    /// Its hosts reach each other.
    pub among: bool,
    /// Within 1 hop, 2 hops and so on; each holds what those before it hold.
    pub rings: Vec<Ring>,
}

/// What is reached within some hops, outside of the segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Workloads.
    pub workloads: u64,
    /// Segments with a host that is reached, by name.
    pub segments: Vec<String>,
    /// Addresses of the internet are among them.
    pub internet: bool,
    /// Internal addresses of no workload are among them.
    pub unmanaged: bool,
}

/// The blast radius of one segment, or of each that the policy has, in its order. Hops are those of
/// invariants, by anything but ICMP. `None` where there is no such segment.
///
/// # Unbounded
/// Asks about each pair of identities once.
#[must_use]
pub fn blast(
    compiled: &CompiledPolicy,
    view: View,
    segment: Option<&str>,
    hops: usize,
) -> Option<Vec<Blast>> {
    let own = u32::try_from(BUILT_IN_SEGMENTS.len()).unwrap_or(0);
    let name = |at: u32| compiled.image.segment(at).map(|segment| segment.name);
    let asked: Vec<u32> = match segment {
        None => (own..compiled.image.segment_count()).collect(),
        Some(wanted) => {
            let mut all = 0..compiled.image.segment_count();
            vec![all.find(|at| name(*at) == Some(wanted))?]
        }
    };
    let mut reach = Reach::new(compiled, view);
    let mut by_name: Vec<(&str, u32)> = (own..compiled.image.segment_count())
        .filter_map(|at| Some((name(at)?, at)))
        .collect();
    by_name.sort_unstable();
    let mut walk = Walk::new(&mut reach, None);
    let hops = hops.min(BLAST_HOPS_MAX);
    Some(
        asked
            .iter()
            .map(|at| of_segment(&mut walk, &by_name, *at, hops))
            .collect(),
    )
}

/// `by_name`: the policy's own segments, by name.
fn of_segment(
    walk: &mut Walk<'_, '_>,
    by_name: &[(&str, u32)],
    segment: u32,
    hops: usize,
) -> Blast {
    let kinds = (0..).zip(&walk.reach.ends.kinds);
    let within = kinds.filter(|(_, kind)| {
        segment == SEGMENT_ANY || kind.segments.binary_search(&segment).is_ok()
    });
    let from = Bits::of(walk.kinds(), within.map(|(at, _)| at));
    let spread = walk.spread(&from, hops);
    let workloads = |kind: u32| walk.reach.kind(kind).workloads.len() as u64;
    let mut ring = Ring::default();
    let all = walk.reach.compiled.image.segment_count() as usize;
    let mut segments = Bits::new(all);
    let mut among = false;
    let mut rings = Vec::with_capacity(hops);
    for reached in &spread {
        for kind in reached.iter() {
            if from.has(kind) {
                among = true;
                continue;
            }
            ring.workloads += workloads(kind);
            for at in &walk.reach.kind(kind).segments {
                match *at {
                    SEGMENT_INTERNET => ring.internet = true,
                    SEGMENT_UNMANAGED => ring.unmanaged = true,
                    at => segments.set(at),
                }
            }
        }
        let reached = by_name.iter().filter(|(_, at)| segments.has(*at));
        ring.segments = reached.map(|(name, _)| (*name).to_owned()).collect();
        rings.push(ring.clone());
    }
    Blast {
        segment: walk.reach.segment_name(segment).to_owned(),
        workloads: from.iter().map(workloads).sum(),
        among,
        rings,
    }
}

//! The baseline: every edge that is known, bounded, those not seen for the longest time out first.

use super::edge::{Attempt, EdgeKey, EndKey};
use api::watch::EdgeOutcome;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// What makes room at once: one in so many entries. Looking for the oldest costs a walk over all of them.
const OUT_PART: usize = 16;

/// What is known of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// First packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Last packet.
    pub last_ns: u64,
    /// It was answered at least once.
    pub answered: bool,
    /// Address of the initiator, the last one.
    pub src: IpAddr,
    /// Address of the responder, the last one.
    pub dst: IpAddr,
}

/// How new an attempt is to the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// The edge was answered before.
    Known,
    /// The edge was tried before, and never answered; nor is it now.
    TriedBefore,
    /// The edge was tried before, and is answered for the first time.
    FirstAnswer,
    /// Nothing is known of the edge.
    New,
}

/// Every edge that is known.
#[derive(Clone, Debug)]
pub struct Baseline {
    edges: HashMap<EdgeKey, Known>,
    edges_max: usize,
    forget_ns: u64,
    since_ns: Option<u64>,
    out: u64,
}

impl Baseline {
    /// An empty one of at most `edges_max` edges; what was not seen for `forget_ns` is novel again.
    #[must_use]
    pub fn new(edges_max: usize, forget_ns: u64) -> Self {
        Self {
            edges: HashMap::new(),
            edges_max,
            forget_ns,
            since_ns: None,
            out: 0,
        }
    }

    /// How new an attempt is. An end that got its name since is looked for under its address too.
    #[must_use]
    pub fn novelty(&self, attempt: &Attempt) -> Novelty {
        let known = self.known(&attempt.key).or_else(|| {
            others(attempt)
                .iter()
                .find_map(|key| self.known(key).filter(|known| known.answered))
        });
        let known = known.filter(|k| k.last_ns.saturating_add(self.forget_ns) >= attempt.first_ns);
        let is_answered = attempt.outcome == EdgeOutcome::Answered;
        match known {
            None => Novelty::New,
            Some(known) if known.answered => Novelty::Known,
            Some(_) if is_answered => Novelty::FirstAnswer,
            Some(_) => Novelty::TriedBefore,
        }
    }

    /// What is known of an edge.
    #[must_use]
    pub fn known(&self, key: &EdgeKey) -> Option<&Known> {
        self.edges.get(key)
    }

    /// From when on edges are known.
    #[must_use]
    pub const fn since_ns(&self) -> Option<u64> {
        self.since_ns
    }

    /// Something was watched at this time, edge or not.
    pub fn watched(&mut self, at_ns: u64) {
        self.since_ns = Some(self.since_ns.map_or(at_ns, |since| since.min(at_ns)));
    }

    /// Learns an attempt.
    pub fn learn(&mut self, attempt: &Attempt) {
        let answered = attempt.outcome == EdgeOutcome::Answered;
        self.keep(
            attempt.key.clone(),
            Known {
                first_ns: attempt.first_ns,
                last_ns: attempt.last_ns,
                answered,
                src: attempt.src,
                dst: attempt.dst,
            },
        );
    }

    /// Adds what is known of an edge to what is known of it already.
    pub fn keep(&mut self, key: EdgeKey, known: Known) {
        self.watched(known.first_ns);
        let entry = self.edges.entry(key).or_insert_with(|| known.clone());
        if known.last_ns >= entry.last_ns {
            (entry.src, entry.dst) = (known.src, known.dst);
        }
        entry.first_ns = entry.first_ns.min(known.first_ns);
        entry.last_ns = entry.last_ns.max(known.last_ns);
        entry.answered |= known.answered;
        if self.edges.len() > self.edges_max {
            let keep = self.edges_max - self.edges_max / OUT_PART;
            self.out += oldest_out(&mut self.edges, keep, |known| known.last_ns);
        }
    }

    /// Every edge.
    pub fn edges(&self) -> impl Iterator<Item = (&EdgeKey, &Known)> {
        self.edges.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// Edges given up because newer ones needed the room.
    #[must_use]
    pub const fn out(&self) -> u64 {
        self.out
    }
}

/// The edge as it may have been kept before its ends had names.
fn others(attempt: &Attempt) -> Vec<EdgeKey> {
    let key = &attempt.key;
    let under = |end: &EndKey, address: IpAddr| match end {
        EndKey::Workload(_) => Some(EndKey::Address(address)),
        EndKey::Address(_) | EndKey::Internet => None,
    };
    let (src, dst) = (under(&key.src, attempt.src), under(&key.dst, attempt.dst));
    let with = |src: &EndKey, dst: &EndKey| EdgeKey {
        src: src.clone(),
        dst: dst.clone(),
        ..*key
    };
    let mut others = Vec::new();
    others.extend(src.as_ref().map(|src| with(src, &key.dst)));
    others.extend(dst.as_ref().map(|dst| with(&key.src, dst)));
    if let (Some(src), Some(dst)) = (&src, &dst) {
        others.push(with(src, dst));
    }
    others
}

/// Lets the oldest go until at most `keep` are left, those of one age together; answers how many went.
///
/// # Unbounded
/// A walk over all entries.
pub(super) fn oldest_out<K: Eq + Hash, V>(
    entries: &mut HashMap<K, V>,
    keep: usize,
    age_ns: impl Fn(&V) -> u64,
) -> u64 {
    let before = entries.len();
    let Some(surplus) = before.checked_sub(keep).filter(|surplus| *surplus > 0) else {
        return 0;
    };
    let mut ages: Vec<u64> = entries.values().map(&age_ns).collect();
    let (_, last_out, _) = ages.select_nth_unstable(surplus - 1);
    let last_out = *last_out;
    entries.retain(|_, value| age_ns(value) > last_out);
    (before - entries.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(last_ns: u64) -> Known {
        let address = IpAddr::from([10, 0, 0, 1]);
        Known {
            first_ns: last_ns,
            last_ns,
            answered: true,
            src: address,
            dst: address,
        }
    }

    fn key(port: u16) -> EdgeKey {
        EdgeKey {
            src: EndKey::Internet,
            dst: EndKey::Internet,
            proto: 6,
            port,
        }
    }

    proptest! {
        #[test]
        fn the_newest_edges_stay_and_the_rest_is_counted(times in prop::collection::vec(0_u64..1000, 1..200)) {
            let mut baseline = Baseline::new(32, u64::MAX);
            for (port, at) in times.iter().enumerate() {
                baseline.keep(key(u16::try_from(port).unwrap()), known(*at));
                prop_assert!(baseline.len() <= 32);
            }
            prop_assert_eq!(baseline.len() as u64 + baseline.out(), times.len() as u64);
            prop_assert_eq!(baseline.since_ns(), times.iter().min().copied());
        }

        #[test]
        fn what_goes_is_older_than_what_stays(ages in prop::collection::vec(0_u64..50, 1..100), keep in 0_usize..100) {
            let mut entries: HashMap<usize, u64> = ages.iter().copied().enumerate().collect();
            let out = oldest_out(&mut entries, keep, |age| *age);
            prop_assert_eq!(out + entries.len() as u64, ages.len() as u64);
            prop_assert!(entries.len() <= keep.max(ages.len().min(keep)));
            let gone = ages.iter().enumerate().filter(|(at, _)| !entries.contains_key(at)).map(|(_, age)| *age).max();
            prop_assert!(entries.values().min() > gone.as_ref() || gone.is_none() || entries.is_empty());
        }
    }
}

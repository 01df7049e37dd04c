//! Chains: A reaches B over a novel administrative edge, then B reaches C over another.
//!
//! Records come when flows end or at their active timeout, so that the second hop may be told before the first: hops
//! are joined by their times, whatever the order they come in.

use super::edge::{EdgeKey, EndKey};
use api::watch::{EdgeOutcome, Hop};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Novel administrative edges that are remembered; the oldest make room.
pub const ADMIN_EDGES_MAX: usize = 4096;
/// Edges of one end that are tried against another.
const NEIGHBOURS_MAX: usize = 256;

/// A novel administrative edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminEdge {
    /// Its edge.
    pub key: EdgeKey,
    /// What a finding tells about it.
    pub hop: Hop,
    /// The chain that it belongs to.
    pub finding: Option<u64>,
}

impl AdminEdge {
    /// Whether the responder was there and was let answer.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.hop.outcome == EdgeOutcome::Answered
    }

    /// Whether `next` may be what somebody did who came over this edge.
    #[must_use]
    pub fn leads_to(&self, next: &Self, window_ns: u64) -> bool {
        let (first, last) = (self.hop.first_ts.0, self.hop.last_ts.0);
        let at = next.hop.first_ts.0;
        self.key.dst == next.key.src
            && self.key.src != next.key.dst
            && self.is_reached()
            && first <= at
            && at <= last.saturating_add(window_ns)
    }
}

/// The novel administrative edges of late.
#[derive(Debug)]
pub struct Chains {
    window_ns: u64,
    edges: BTreeMap<u64, AdminEdge>,
    next: u64,
    by_key: HashMap<EdgeKey, u64>,
    by_src: HashMap<EndKey, Vec<u64>>,
    by_dst: HashMap<EndKey, Vec<u64>>,
}

impl Chains {
    /// None yet.
    #[must_use]
    pub fn new(window_ns: u64) -> Self {
        Self {
            window_ns,
            edges: BTreeMap::new(),
            next: 0,
            by_key: HashMap::new(),
            by_src: HashMap::new(),
            by_dst: HashMap::new(),
        }
    }

    /// The edge, where it is remembered as novel.
    pub fn get_mut(&mut self, key: &EdgeKey) -> Option<&mut AdminEdge> {
        self.edges.get_mut(self.by_key.get(key)?)
    }

    /// Remembers an edge. What was remembered of it before is replaced.
    pub fn insert(&mut self, edge: AdminEdge) {
        if let Some(at) = self.by_key.get(&edge.key).copied() {
            self.remove(at);
        }
        while self.edges.len() >= ADMIN_EDGES_MAX {
            let Some((at, _)) = self.edges.first_key_value() else {
                break;
            };
            self.remove(*at);
        }
        let at = self.next;
        self.next += 1;
        self.by_key.insert(edge.key.clone(), at);
        self.by_src
            .entry(edge.key.src.clone())
            .or_default()
            .push(at);
        self.by_dst
            .entry(edge.key.dst.clone())
            .or_default()
            .push(at);
        self.edges.insert(at, edge);
    }

    fn remove(&mut self, at: u64) {
        let Some(edge) = self.edges.remove(&at) else {
            return;
        };
        self.by_key.remove(&edge.key);
        for (index, end) in [
            (&mut self.by_src, &edge.key.src),
            (&mut self.by_dst, &edge.key.dst),
        ] {
            if let Some(ids) = index.get_mut(end) {
                ids.retain(|id| *id != at);
                if ids.is_empty() {
                    index.remove(end);
                }
            }
        }
    }

    /// Edges that an edge follows from, or that follow from it, within the window.
    #[must_use]
    pub fn neighbours(&self, key: &EdgeKey) -> Vec<&AdminEdge> {
        let Some(of) = self.by_key.get(key).and_then(|at| self.edges.get(at)) else {
            return Vec::new();
        };
        let before = self.by_dst.get(&of.key.src).into_iter().flatten();
        let after = self.by_src.get(&of.key.dst).into_iter().flatten();
        let edge = |at: &u64| self.edges.get(at);
        let before = before.rev().take(NEIGHBOURS_MAX).filter_map(edge);
        let after = after.rev().take(NEIGHBOURS_MAX).filter_map(edge);
        before
            .filter(|e| e.leads_to(of, self.window_ns))
            .chain(after.filter(|e| of.leads_to(e, self.window_ns)))
            .collect()
    }

    /// Says that edges belong to a chain, and that those of the chains `merged` do.
    pub fn join(&mut self, finding: u64, keys: &[EdgeKey], merged: &[u64]) {
        for edge in self.edges.values_mut() {
            let was_merged = edge.finding.is_some_and(|id| merged.contains(&id));
            if was_merged || keys.contains(&edge.key) {
                edge.finding = Some(finding);
            }
        }
    }

    /// Forgets the edges of a chain.
    pub fn leave(&mut self, finding: u64) {
        let belongs =
            |(at, edge): (&u64, &AdminEdge)| (edge.finding == Some(finding)).then_some(*at);
        let gone: Vec<u64> = self.edges.iter().filter_map(belongs).collect();
        gone.into_iter().for_each(|at| self.remove(at));
    }

    /// Edges of a chain, in order of time.
    #[must_use]
    pub fn of(&self, finding: u64) -> Vec<&AdminEdge> {
        let belongs = |edge: &&AdminEdge| edge.finding == Some(finding);
        let mut edges: Vec<_> = self.edges.values().filter(belongs).collect();
        edges.sort_by_key(|edge| (edge.hop.first_ts, edge.key.clone()));
        edges
    }

    /// Every edge, the one remembered first, first.
    pub fn edges(&self) -> impl Iterator<Item = &AdminEdge> {
        self.edges.values()
    }

    /// Hops of the longest path among these edges, which are in order of time; and of the longest whose last hop was
    /// reached too.
    #[must_use]
    pub fn longest(&self, edges: &[&AdminEdge]) -> (usize, usize) {
        let mut lengths: Vec<usize> = Vec::with_capacity(edges.len());
        for (at, edge) in edges.iter().enumerate() {
            let before = edges[..at].iter().zip(&lengths);
            let led = before.filter(|(e, _)| e.leads_to(edge, self.window_ns));
            lengths.push(led.map(|(_, length)| *length).max().unwrap_or(0) + 1);
        }
        let reached = edges.iter().zip(&lengths).filter(|(e, _)| e.is_reached());
        (
            lengths.iter().copied().max().unwrap_or(0),
            reached.map(|(_, length)| *length).max().unwrap_or(0),
        )
    }
}

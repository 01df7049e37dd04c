//! The IPv4 trie as cores walk it: hosts that stand alone in a hash table of their own, what is left
//! in nodes.
//!
//! A node of the trie's last level is a kilobyte. Where few of its addresses differ from the prefix
//! around them, as with workloads scattered over a large network, they take a few dozen bytes in the
//! hash table. Where most differ the node is the denser of the two, and stays.

use super::hosts;
use crate::tables::{Hosts, V4_ROOT_ENTRIES};
use abi::image::{V4_CHILD, V4_NODE_ENTRIES};
use std::sync::Arc;

/// Addresses of a node that may leave it for the host table.
const NODE_HOSTS_MAX: usize = 16;
/// The level of nodes whose entries are single addresses.
const LAST_LEVEL: u8 = 4;

type Node = [u32; V4_NODE_ENTRIES];

/// What cores walk.
pub(super) struct V4Tables {
    pub(super) hosts: Hosts,
    pub(super) root: Arc<[u32; V4_ROOT_ENTRIES]>,
    pub(super) nodes: Arc<[u32]>,
}

impl V4Tables {
    /// From a trie that has been checked: children stand behind their parents, `levels` begin with 1.
    pub(super) fn of(nodes: &[Node], levels: &[u8]) -> Self {
        let addresses = addresses(nodes, levels);
        let all = nodes.iter().zip(levels).zip(addresses).enumerate();
        let last = all.filter(|(_, ((_, level), _))| **level == LAST_LEVEL);
        let sparse: Vec<Sparse<'_>> = last
            .filter_map(|(index, ((node, _), address))| Sparse::of(index, address, node))
            .collect();
        let hosts = hosts::table(sparse.iter().flat_map(Sparse::hosts).collect());
        // What stands in the place of a node that has become one value. A host without a place in the
        // table stays in the trie, with its whole node.
        let mut instead: Vec<Option<u32>> = vec![None; nodes.len()];
        for sparse in &sparse {
            let is_there = |(host, identity)| hosts.find(host, &mut ()) == identity + 1;
            if let Some(instead) = instead.get_mut(sparse.index)
                && sparse.hosts().all(is_there)
            {
                *instead = Some(sparse.around);
            }
        }
        let (root, nodes) = without(nodes, &instead);
        Self { hosts, root, nodes }
    }
}

/// A node of which nearly all addresses are the same.
struct Sparse<'a> {
    index: usize,
    /// Its first address.
    address: u32,
    node: &'a Node,
    around: u32,
}

impl<'a> Sparse<'a> {
    fn of(index: usize, address: u32, node: &'a Node) -> Option<Self> {
        let [first, .., last] = *node;
        let middle = *node.get(V4_NODE_ENTRIES / 2)?;
        // Two of three are what is around, unless hosts stand in two of these very places.
        let around = if first == middle { first } else { last };
        let hosts = node.iter().filter(|entry| **entry != around).count();
        (hosts <= NODE_HOSTS_MAX).then_some(Self {
            index,
            address,
            node,
            around,
        })
    }

    /// Addresses that differ from what is around, and their identities.
    fn hosts(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let all = (self.address..=u32::MAX).zip(self.node.iter().copied());
        all.filter(|(_, identity)| *identity != self.around)
    }
}

/// First address of each node.
fn addresses(nodes: &[Node], levels: &[u8]) -> Vec<u32> {
    let mut addresses = vec![0; nodes.len()];
    for (index, (node, level)) in nodes.iter().zip(levels).enumerate() {
        let own = addresses.get(index).copied().unwrap_or(0);
        let shift = 32_u32.saturating_sub(8 * u32::from(*level));
        for (byte, entry) in (0_u32..).zip(node) {
            let child = addresses.get_mut((entry & !V4_CHILD) as usize);
            if let Some(child) = child.filter(|_| entry & V4_CHILD != 0) {
                *child = own | byte << shift;
            }
        }
    }
    addresses
}

/// The first two levels flattened, and the nodes that are left.
fn without(nodes: &[Node], instead: &[Option<u32>]) -> (Arc<[u32; V4_ROOT_ENTRIES]>, Arc<[u32]>) {
    let mut left = 0;
    let number = |instead: &Option<u32>| {
        instead.unwrap_or_else(|| {
            left += 1;
            (left - 1) | V4_CHILD
        })
    };
    let entries: Vec<u32> = instead.iter().map(number).collect();
    let entry = |entry: &u32| {
        let child = entries.get((entry & !V4_CHILD) as usize).copied();
        child.filter(|_| entry & V4_CHILD != 0).unwrap_or(*entry)
    };
    let kept = nodes
        .iter()
        .zip(instead)
        .filter(|(_, instead)| instead.is_none());
    let kept: Vec<u32> = kept.flat_map(|(node, _)| node.iter().map(entry)).collect();
    let (nodes, _) = kept.as_chunks::<V4_NODE_ENTRIES>();
    let first = nodes.first().into_iter().flatten();
    let mut root = Box::new([0; V4_ROOT_ENTRIES]);
    let (below, _) = root.as_chunks_mut::<V4_NODE_ENTRIES>();
    for (below, entry) in below.iter_mut().zip(first) {
        *below = match nodes.get((entry & !V4_CHILD) as usize) {
            Some(child) if entry & V4_CHILD != 0 => *child,
            _ => [*entry; V4_NODE_ENTRIES],
        };
    }
    (root.into(), kept.into())
}

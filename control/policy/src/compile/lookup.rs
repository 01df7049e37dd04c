//! The longest-prefix tables: a trie for IPv4, hashed prefixes and markers for IPv6.

use super::identities::Identities;
use crate::prefix::Span;
use abi::image::{
    ImageWriter, Section, V4_CHILD, V4_NODE_ENTRIES, V6_EMPTY, V6_PROBES_MAX, V6Slot, v6_home,
    v6_masked,
};
use std::collections::HashMap;
use zerocopy::little_endian::U32;

/// Writes both tables; returns the identity of an IPv6 address that no prefix covers.
pub(super) fn write(ids: &Identities, writer: &mut ImageWriter<'_>) -> u32 {
    let v4 = ids.prefixes.iter().filter(|(span, _)| span.v4);
    let nodes = v4_nodes(v4, ids.default);
    let rows: Vec<U32> = nodes
        .iter()
        .flatten()
        .map(|entry| U32::new(*entry))
        .collect();
    writer.put(Section::V4Nodes, &rows);
    let v6: Vec<_> = ids
        .prefixes
        .iter()
        .filter(|(span, _)| !span.v4)
        .copied()
        .collect();
    let default = v6
        .first()
        .filter(|(span, _)| span.length == 0)
        .map_or(ids.default, |(_, id)| *id);
    let lengths = v6_lengths(&v6);
    let slots = v6_slots(&v6_entries(&v6, &lengths, default));
    writer.put(Section::V6Lengths, &lengths);
    writer.put(Section::V6Slots, &slots);
    default
}

/// One address byte a level. Prefixes come with the covering ones first, so that each may
/// overwrite what stands in its range: nothing longer can be there yet.
fn v4_nodes<'a>(
    prefixes: impl Iterator<Item = &'a (Span, u32)>,
    default: u32,
) -> Vec<[u32; V4_NODE_ENTRIES]> {
    let mut nodes = vec![[default; V4_NODE_ENTRIES]];
    for (span, identity) in prefixes {
        let bytes = &span.address.to_be_bytes()[12..];
        let length = usize::from(span.length - 96);
        // The level in which the prefix ends; the default route ends in the first.
        let last = length.saturating_sub(1) / 8;
        let mut node = 0;
        for byte in &bytes[..last] {
            let entry = nodes[node][usize::from(*byte)];
            if entry & V4_CHILD == 0 {
                let child = u32::try_from(nodes.len()).unwrap_or(0);
                nodes[node][usize::from(*byte)] = child | V4_CHILD;
                nodes.push([entry; V4_NODE_ENTRIES]);
            }
            node = (nodes[node][usize::from(*byte)] & !V4_CHILD) as usize;
        }
        let first = usize::from(bytes[last]);
        let entries = 1 << (8 * (last + 1) - length);
        nodes[node][first..first + entries].fill(*identity);
    }
    nodes
}

fn v6_lengths(prefixes: &[(Span, u32)]) -> Vec<u8> {
    let mut lengths: Vec<u8> = prefixes
        .iter()
        .map(|(span, _)| span.length)
        .filter(|length| *length > 0)
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

type Entries = HashMap<(u8, u128), u32>;

/// Prefixes, and at each length that a binary search for a prefix passes on its way, a marker
/// that knows the best identity up to there (Waldvogel et al., SIGCOMM 1997).
fn v6_entries(prefixes: &[(Span, u32)], lengths: &[u8], default: u32) -> Entries {
    let mut entries: Entries = prefixes
        .iter()
        .filter(|(span, _)| span.length > 0)
        .map(|(span, identity)| ((span.length, span.address), *identity))
        .collect();
    let real = entries.clone();
    let best = |address: u128, below: usize| {
        let covering = lengths[..below].iter().rev();
        covering
            .filter_map(|length| real.get(&(*length, v6_masked(address, *length))))
            .copied()
            .next()
            .unwrap_or(default)
    };
    for (span, _) in prefixes {
        let (mut low, mut high) = (0, lengths.len());
        while low < high {
            let middle = low.midpoint(high);
            if lengths[middle] > span.length {
                high = middle;
                continue;
            }
            if lengths[middle] < span.length {
                let marker = v6_masked(span.address, lengths[middle]);
                entries
                    .entry((lengths[middle], marker))
                    .or_insert_with(|| best(marker, middle));
            }
            low = middle + 1;
        }
    }
    entries
}

/// Grows until every entry is found within the probes that a core makes.
fn v6_slots(entries: &Entries) -> Vec<V6Slot> {
    const EMPTY: V6Slot = V6Slot {
        prefix: [0; 16],
        identity: U32::ZERO,
        length: V6_EMPTY,
        reserved: [0; 3],
    };
    // The same policy gives the same bytes.
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_unstable();
    let mut size = (2 * sorted.len())
        .next_power_of_two()
        .max(V6_PROBES_MAX as usize);
    loop {
        let mut slots = vec![EMPTY; size];
        let mask = u32::try_from(size - 1).unwrap_or(u32::MAX);
        let placed = sorted.iter().all(|((length, prefix), identity)| {
            let home = v6_home(*prefix, *length, mask);
            let free = (0..V6_PROBES_MAX)
                .map(|step| ((home + step) & mask) as usize)
                .find(|at| slots[*at].length == V6_EMPTY);
            if let Some(at) = free {
                slots[at] = V6Slot {
                    prefix: prefix.to_be_bytes(),
                    identity: U32::new(**identity),
                    length: *length,
                    reserved: [0; 3],
                };
            }
            free.is_some()
        });
        if placed {
            return slots;
        }
        size *= 2;
    }
}

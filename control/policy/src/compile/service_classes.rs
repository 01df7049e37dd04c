//! Services to classes: services that no rule tells apart are one class.

use super::{CompileError, Interner, index};
use crate::validate::ValidPolicy;
use abi::image::{ImageWriter, SERVICE_PAGE, Section};
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::little_endian::{U16, U32};

/// Entries of a page and of a block.
const PAGE: usize = SERVICE_PAGE as usize;
/// Classes fit 16 bits.
const CLASSES_MAX: usize = 1 << 16;

/// The classes, and what each service and each key of each protocol belongs to.
#[derive(Debug)]
pub(super) struct ServiceClasses {
    /// Classes of each service of the policy, ascending.
    pub(super) of_service: Vec<Vec<u32>>,
    count: usize,
    /// Table of each protocol.
    protos: Vec<U32>,
    /// Block of each page of each table.
    pages: Vec<U32>,
    /// Class of each key of each block.
    blocks: Vec<U16>,
}

/// A service begins or ends to hold at a key of a protocol.
struct Edge {
    key: u32,
    begins: bool,
    service: u32,
}

pub(super) fn classes(policy: &ValidPolicy, today: Date) -> Result<ServiceClasses, CompileError> {
    let mut used = vec![false; policy.services.len()];
    for rule in policy.rules.iter().filter(|rule| !rule.expired(today)) {
        rule.services
            .iter()
            .for_each(|at| used[*at as usize] = true);
    }
    let mut everywhere = BTreeSet::new();
    let mut edges: Vec<Vec<Edge>> = (0..256).map(|_| Vec::new()).collect();
    for (at, service) in policy
        .services
        .iter()
        .enumerate()
        .filter(|(at, _)| used[*at])
    {
        let service_index = index(at);
        for port in &service.ports {
            let Some(proto) = port.proto else {
                everywhere.insert(service_index);
                continue;
            };
            let edge = |key, begins| Edge {
                key,
                begins,
                service: service_index,
            };
            let (low, high) = (u32::from(port.low), u32::from(port.high));
            edges[usize::from(proto)].extend([edge(low, true), edge(high + 1, false)]);
        }
    }
    let mut builder = Builder {
        sets: Interner::new(),
        of_service: vec![Vec::new(); policy.services.len()],
        blocks: Interner::new(),
        block_keys: Vec::new(),
        tables: Interner::new(),
        pages: Vec::new(),
    };
    let protos = edges
        .into_iter()
        .map(|edges| U32::new(builder.protocol(edges, &everywhere)))
        .collect();
    let count = builder.sets.count();
    if count > CLASSES_MAX {
        return Err(CompileError::ServiceClasses { classes: count });
    }
    let Builder {
        mut of_service,
        block_keys,
        pages,
        ..
    } = builder;
    of_service
        .iter_mut()
        .for_each(|classes| classes.sort_unstable());
    Ok(ServiceClasses {
        of_service,
        count,
        protos,
        pages: pages.into_iter().map(U32::new).collect(),
        blocks: block_keys.into_iter().map(U16::new).collect(),
    })
}

impl ServiceClasses {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn write<'a>(&'a self, writer: &mut ImageWriter<'a>) {
        writer.lend(Section::ServiceProtos, &self.protos);
        writer.lend(Section::ServicePages, &self.pages);
        writer.lend(Section::ServiceBlocks, &self.blocks);
    }
}

struct Builder {
    /// A class is a set of services.
    sets: Interner<Vec<u32>>,
    of_service: Vec<Vec<u32>>,
    blocks: Interner<Vec<u16>>,
    block_keys: Vec<u16>,
    tables: Interner<Vec<u32>>,
    pages: Vec<u32>,
}

impl Builder {
    /// The table of one protocol: sweeps over the keys at which services begin and end.
    fn protocol(&mut self, mut edges: Vec<Edge>, everywhere: &BTreeSet<u32>) -> u32 {
        edges.sort_unstable_by_key(|edge| edge.key);
        // How often a service holds: its ranges may overlap.
        let mut holds: BTreeMap<u32, u32> = BTreeMap::new();
        let mut keys = Vec::with_capacity(1 << 16);
        for same in edges.chunk_by(|one, other| one.key == other.key) {
            self.fill(&mut keys, same[0].key, &holds, everywhere);
            for edge in same {
                let count = holds.entry(edge.service).or_insert(0);
                *count = if edge.begins { *count + 1 } else { *count - 1 };
                if *count == 0 {
                    holds.remove(&edge.service);
                }
            }
        }
        self.fill(&mut keys, 1 << 16, &holds, everywhere);
        let blocks: Vec<u32> = keys.chunks(PAGE).map(|block| self.block(block)).collect();
        let (table, new) = self.tables.number(blocks.clone());
        if new {
            self.pages.extend(blocks);
        }
        table
    }

    /// Gives every key up to `end` the class of what holds now.
    fn fill(
        &mut self,
        keys: &mut Vec<u16>,
        end: u32,
        holds: &BTreeMap<u32, u32>,
        everywhere: &BTreeSet<u32>,
    ) {
        if end as usize <= keys.len() {
            return;
        }
        let set: BTreeSet<u32> = holds.keys().chain(everywhere).copied().collect();
        let (class, new) = self.sets.number(set.iter().copied().collect());
        if new {
            set.iter()
                .for_each(|service| self.of_service[*service as usize].push(class));
        }
        // More classes than 16 bits hold are refused once all are counted.
        keys.resize(end as usize, u16::try_from(class).unwrap_or(0));
    }

    fn block(&mut self, keys: &[u16]) -> u32 {
        let (block, new) = self.blocks.number(keys.to_vec());
        if new {
            self.block_keys.extend(keys);
        }
        block
    }
}

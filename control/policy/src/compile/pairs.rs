//! Pairs of classes to row sets: which rules meet where.

use super::classes::Classes;
use super::groups::Groups;
use super::row_sets::RowSets;
use super::service_classes::ServiceClasses;
use super::{CompileError, Interner, index};
use crate::validate::ValidPolicy;
use abi::Mode;
use abi::image::{IMAGE_BYTES_MAX, ImageWriter, PAIR_BLOCK, Section};
use zerocopy::little_endian::U32;

/// Destination classes in one block.
const BLOCK: usize = PAIR_BLOCK as usize;
/// The cell without groups.
const EMPTY_CELL: u32 = 0;

/// Writes the pair table, and the row sets and verdicts behind it.
pub(super) fn write(
    policy: &ValidPolicy,
    classes: &Classes,
    groups: &Groups,
    services: &ServiceClasses,
    writer: &mut ImageWriter,
) -> Result<(), CompileError> {
    let (sources, destinations) = (classes.source.count(), classes.destination.count());
    let too_many = CompileError::Pairs {
        sources,
        destinations,
    };
    let stride = destinations.div_ceil(BLOCK);
    if sources.saturating_mul(stride) > IMAGE_BYTES_MAX / 8 {
        return Err(too_many);
    }
    let mut cells = Cells::new();
    let mut rows = RowSets::new(policy, groups, services);
    let mut row_set_of = RowSetOf { of: Vec::new() };
    let mut blocks: Interner<Vec<u32>> = Interner::new();
    let mut block_rows: Vec<U32> = Vec::new();
    let mut pair_index: Vec<U32> = Vec::with_capacity(sources * stride);
    let shared = cells.row_from_anybody(groups, classes);
    let mut row = Vec::with_capacity(destinations);
    let mut block = Vec::with_capacity(BLOCK);
    for source in 0..sources {
        row.clone_from(&shared);
        cells.add_source(&mut row, source, groups, classes);
        let mode = classes.source.modes[source];
        for (chunk, modes) in row
            .chunks(BLOCK)
            .zip(classes.destination.modes.chunks(BLOCK))
        {
            block.clear();
            for (cell, other) in chunk.iter().zip(modes) {
                block.push(row_set_of.get(*cell, mode.max(*other), &cells, &mut rows));
            }
            // Columns that no class has deny by the first row set, like everything unknown.
            block.resize(BLOCK, 0);
            let (number, new) = blocks.number_of(&block);
            if new {
                block_rows.extend(block.iter().map(|row_set| U32::new(*row_set)));
            }
            pair_index.push(U32::new(number));
        }
        if block_rows.len() > IMAGE_BYTES_MAX / 8 {
            return Err(too_many);
        }
    }
    writer.put(Section::PairIndex, &pair_index);
    writer.put(Section::PairBlocks, &block_rows);
    rows.write(writer);
    Ok(())
}

/// Sets of groups, built one group at a time; the same set has the same number, because groups
/// always come in ascending order.
pub(super) struct Cells {
    numbers: Interner<(u32, u32)>,
    /// The cell without the last group, and the last group. Cell 0 has none.
    chain: Vec<(u32, u32)>,
}

impl Cells {
    fn new() -> Self {
        let mut cells = Self {
            numbers: Interner::new(),
            chain: Vec::new(),
        };
        cells.add(u32::MAX, u32::MAX);
        cells
    }

    fn add(&mut self, cell: u32, group: u32) -> u32 {
        let (number, new) = self.numbers.number((cell, group));
        if new {
            self.chain.push((cell, group));
        }
        number
    }

    /// Groups of a cell, the last first.
    pub(super) fn groups(&self, cell: u32) -> impl Iterator<Item = u32> + '_ {
        let link = |cell: u32| (cell != EMPTY_CELL).then(|| self.chain[cell as usize]);
        core::iter::successors(link(cell), move |(before, _)| link(*before)).map(|(_, group)| group)
    }

    /// What every row begins with: the groups whose initiators are everybody.
    fn row_from_anybody(&mut self, groups: &Groups, classes: &Classes) -> Vec<u32> {
        let mut row = vec![EMPTY_CELL; classes.destination.count()];
        for group in 0..index(groups.from_anybody) {
            self.add_group(&mut row, group, groups, classes);
        }
        row
    }

    /// Adds the groups that one class of initiators is in.
    fn add_source(&mut self, row: &mut [u32], source: usize, groups: &Groups, classes: &Classes) {
        let sets = &classes.source.sets_of_class[source];
        let mut own: Vec<u32> = sets
            .iter()
            .flat_map(|set| &groups.of_set[*set as usize])
            .copied()
            .collect();
        own.sort_unstable();
        for group in own {
            self.add_group(row, group, groups, classes);
        }
    }

    fn add_group(&mut self, row: &mut [u32], group: u32, groups: &Groups, classes: &Classes) {
        let Some(found) = groups.all.get(group as usize) else {
            return;
        };
        if found.to_universal {
            // Neighbours mostly hold the same cell: ask once per run.
            let mut last = (u32::MAX, 0);
            for cell in row.iter_mut() {
                if last.0 != *cell {
                    last = (*cell, self.add(*cell, group));
                }
                *cell = last.1;
            }
            return;
        }
        for class in &classes.destination.classes_of_set[found.to as usize] {
            let cell = &mut row[*class as usize];
            *cell = self.add(*cell, group);
        }
    }
}

/// Row set of each cell in each mode, once it is known.
struct RowSetOf {
    of: Vec<u32>,
}

impl RowSetOf {
    fn get(&mut self, cell: u32, mode: Mode, cells: &Cells, rows: &mut RowSets<'_>) -> u32 {
        const UNKNOWN: u32 = u32::MAX;
        let at = cell as usize * 3 + usize::from(mode.byte() - 1);
        if self.of.len() <= at {
            self.of.resize(at + 1, UNKNOWN);
        }
        if self.of[at] == UNKNOWN {
            self.of[at] = rows.of_groups(cells.groups(cell), mode);
        }
        self.of[at]
    }
}

//! Pairs of classes to row sets: which rules meet where.

use super::classes::Classes;
use super::groups::Groups;
use super::row_sets::RowSets;
use super::service_classes::ServiceClasses;
use super::{CompileError, Interner, index};
use crate::validate::Rule;
use abi::Mode;
use abi::image::{IMAGE_BYTES_MAX, ImageWriter, PAIR_BLOCK, Section};
use zerocopy::little_endian::U32;

/// Destination classes in one block.
const BLOCK: usize = PAIR_BLOCK as usize;
/// The cell without groups.
const EMPTY_CELL: u32 = 0;

/// What meets where.
#[derive(Clone, Copy)]
pub(super) struct Meet<'a> {
    pub(super) rules: &'a [Rule],
    pub(super) groups: &'a Groups,
    pub(super) classes: &'a Classes,
}

/// The pair table, and the row sets and verdicts behind it. It only ever grows: by the classes that
/// have come since.
#[derive(Debug)]
pub(super) struct Pairs {
    cells: Cells,
    rows: RowSets,
    /// Row set of each cell in each mode, once it is known.
    row_set_of: Vec<u32>,
    blocks: Interner<[u32; BLOCK]>,
    block_rows: Vec<U32>,
    /// Block of each source class and block of destination classes.
    index: Vec<U32>,
    sources: usize,
    destinations: usize,
    /// Cells of a source class that is in no end set but those of everybody.
    shared: Vec<u32>,
    /// Blocks of such a class, by its mode.
    shared_blocks: [Option<Vec<u32>>; 3],
}

impl Pairs {
    /// A table without classes.
    pub(super) fn new(rules: &[Rule], groups: &Groups, services: &ServiceClasses) -> Self {
        Self {
            cells: Cells::new(),
            rows: RowSets::new(rules, groups, services),
            row_set_of: Vec::new(),
            blocks: Interner::new(),
            block_rows: Vec::new(),
            index: Vec::new(),
            sources: 0,
            destinations: 0,
            shared: Vec::new(),
            shared_blocks: [const { None }; 3],
        }
    }

    /// Takes in the classes that have come.
    pub(super) fn extend(&mut self, meet: &Meet<'_>) -> Result<(), CompileError> {
        let (sources, destinations) = (
            meet.classes.source.count(),
            meet.classes.destination.count(),
        );
        let too_many = CompileError::Pairs {
            sources,
            destinations,
        };
        if sources.saturating_mul(destinations.div_ceil(BLOCK)) > IMAGE_BYTES_MAX / 8 {
            return Err(too_many);
        }
        // A block in which the last class stood is filled again from its first column.
        let from = self.destinations / BLOCK * BLOCK;
        let grown = destinations > self.destinations;
        self.widen(destinations);
        self.add_shared(self.shared.len(), meet);
        for known in self.shared_blocks.iter_mut().flatten() {
            known.truncate(from / BLOCK);
        }
        let mut row = Row::of(&self.shared);
        if grown {
            for source in 0..self.sources {
                self.fill(&mut row, source, from, meet);
            }
        }
        let first_new = core::mem::replace(&mut self.sources, sources);
        let stride = destinations.div_ceil(BLOCK);
        self.index.resize(sources * stride, U32::ZERO);
        for source in first_new..sources {
            self.fill(&mut row, source, 0, meet);
            if self.block_rows.len() > IMAGE_BYTES_MAX / 8 {
                return Err(too_many);
            }
        }
        Ok(())
    }

    /// Makes room for more destination classes in every row of the index.
    fn widen(&mut self, destinations: usize) {
        let before = self.destinations.div_ceil(BLOCK);
        let stride = destinations.div_ceil(BLOCK);
        self.destinations = destinations;
        if stride == before {
            return;
        }
        let mut wider = Vec::with_capacity(self.sources * stride);
        for row in self.index.chunks(before.max(1)) {
            wider.extend_from_slice(row);
            wider.resize(wider.len() + stride - before, U32::ZERO);
        }
        self.index = wider;
    }

    /// What every row begins with, in the columns from `from`: the groups whose initiators are
    /// everybody.
    fn add_shared(&mut self, from: usize, meet: &Meet<'_>) {
        self.shared.resize(self.destinations, EMPTY_CELL);
        for group in 0..index(meet.groups.from_anybody) {
            for column in columns(group, from, self.destinations, meet) {
                let cell = &mut self.shared[column];
                *cell = self.cells.add(*cell, group);
            }
        }
    }

    /// Fills the blocks of one source class that hold the columns from `from`.
    fn fill(&mut self, row: &mut Row, source: usize, from: usize, meet: &Meet<'_>) {
        let mut own: Vec<u32> = meet.classes.source.sets_of_class[source]
            .iter()
            .flat_map(|set| &meet.groups.of_set[*set as usize])
            .copied()
            .collect();
        own.sort_unstable();
        for group in own {
            for column in columns(group, from, self.destinations, meet) {
                row.touch(column);
                row.cells[column] = self.cells.add(row.cells[column], group);
            }
        }
        let mode = meet.classes.source.modes[source];
        let stride = self.destinations.div_ceil(BLOCK);
        let first = source * stride;
        self.know_shared_blocks(mode, meet);
        let shared = self.shared_blocks[mode_index(mode)].as_deref();
        for (block, number) in (from / BLOCK..).zip(&shared.unwrap_or(&[])[from / BLOCK..]) {
            self.index[first + block] = U32::new(*number);
        }
        for block in row.touched_blocks() {
            let number = self.block(&row.cells, block, mode, meet);
            self.index[first + block] = U32::new(number);
        }
        row.restore(&self.shared);
    }

    /// Numbers of the blocks of a class of this mode that only rules about everybody speak of.
    fn know_shared_blocks(&mut self, mode: Mode, meet: &Meet<'_>) {
        let mut known = self.shared_blocks[mode_index(mode)]
            .take()
            .unwrap_or_default();
        let shared = core::mem::take(&mut self.shared);
        for block in known.len()..self.destinations.div_ceil(BLOCK) {
            known.push(self.block(&shared, block, mode, meet));
        }
        self.shared = shared;
        self.shared_blocks[mode_index(mode)] = Some(known);
    }

    /// The number of the block of these cells.
    fn block(&mut self, cells: &[u32], block: usize, mode: Mode, meet: &Meet<'_>) -> u32 {
        // Columns that no class has deny by the first row set, like everything unknown.
        let mut rows = [0; BLOCK];
        let modes = meet.classes.destination.modes.iter().skip(block * BLOCK);
        let cells = cells.iter().skip(block * BLOCK);
        for ((row, cell), other) in rows.iter_mut().zip(cells).zip(modes) {
            *row = self.row_set(*cell, mode.max(*other), meet);
        }
        let (number, new) = self.blocks.number(rows);
        if new {
            self.block_rows.extend(rows.map(U32::new));
        }
        number
    }

    fn row_set(&mut self, cell: u32, mode: Mode, meet: &Meet<'_>) -> u32 {
        const UNKNOWN: u32 = u32::MAX;
        let at = cell as usize * 3 + mode_index(mode);
        if self.row_set_of.len() <= at {
            self.row_set_of.resize(at + 1, UNKNOWN);
        }
        if self.row_set_of[at] == UNKNOWN {
            let groups = self.cells.groups(cell);
            self.row_set_of[at] = self.rows.of_groups(groups, mode, meet.rules, meet.groups);
        }
        self.row_set_of[at]
    }

    pub(super) fn write<'a>(&'a self, writer: &mut ImageWriter<'a>) {
        writer.lend(Section::PairIndex, &self.index);
        writer.lend(Section::PairBlocks, &self.block_rows);
        self.rows.write(writer);
    }
}

/// 0 to 2.
fn mode_index(mode: Mode) -> usize {
    usize::from(mode.byte() - 1)
}

/// Columns from `from` that a group speaks of, ascending.
fn columns<'a>(
    group: u32,
    from: usize,
    destinations: usize,
    meet: &Meet<'a>,
) -> impl Iterator<Item = usize> + use<'a> {
    let (mut all, mut listed) = (0..0, &[][..]);
    if let Some(found) = meet.groups.all.get(group as usize) {
        if found.to_universal {
            all = from..destinations;
        } else {
            let classes = &meet.classes.destination.classes_of_set[found.to as usize];
            listed = &classes[classes.partition_point(|class| (*class as usize) < from)..];
        }
    }
    all.chain(listed.iter().map(|class| *class as usize))
}

/// The cells of one source class while it is worked out, and which differ from the shared ones.
struct Row {
    cells: Vec<u32>,
    touched: Vec<usize>,
    is_touched: Vec<bool>,
}

impl Row {
    fn of(shared: &[u32]) -> Self {
        Self {
            cells: shared.to_vec(),
            touched: Vec::new(),
            is_touched: vec![false; shared.len()],
        }
    }

    fn touch(&mut self, column: usize) {
        if !core::mem::replace(&mut self.is_touched[column], true) {
            self.touched.push(column);
        }
    }

    /// Ascending, each once.
    fn touched_blocks(&mut self) -> Vec<usize> {
        self.touched.sort_unstable();
        let mut blocks: Vec<usize> = self.touched.iter().map(|column| column / BLOCK).collect();
        blocks.dedup();
        blocks
    }

    fn restore(&mut self, shared: &[u32]) {
        for column in self.touched.drain(..) {
            self.cells[column] = shared[column];
            self.is_touched[column] = false;
        }
    }
}

/// Sets of groups, built one group at a time; the same set has the same number, because groups
/// always come in ascending order.
#[derive(Debug)]
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
}

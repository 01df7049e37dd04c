//! Checks what a core walks, and copies it into aligned tables. Tables whose sections did not change
//! are those of the base.

use super::sections::{At, Sections, numbered};
use super::v4::V4Tables;
use crate::error::ImageError;
use crate::tables::{
    Classes, FAIL_CLOSED, NO_CLASS, PairEntry, RowSetEntry, SlotEntry, Tables, V6Entry, V6Tables,
};
use abi::image::{
    CANDIDATES_MAX, IdentityRow, NONE, PAIR_BLOCK, RowSet, RowSlot, RuleRow, SERVICE_PAGE, Section,
    V4_CHILD, V4_NODE_ENTRIES, V6_EMPTY, V6Slot, VerdictRow, row_slot, v6_masked,
};
use abi::verdict::{Coverage, OnChange};
use abi::{Action, Decision, Mode, VerdictSource};
use std::sync::Arc;
use zerocopy::little_endian::{U16, U32};

/// Levels of the IPv4 trie: one per address byte.
const V4_LEVELS: u8 = 4;

pub(super) fn check(sections: &Sections<'_>) -> Result<Tables, ImageError> {
    let v4 = v4(sections)?;
    let verdicts = verdicts(sections)?;
    let (row_sets, row_slots) = row_sets(sections, &verdicts)?;
    let (pair_index, pair_cells) = pairs(sections)?;
    let (service_protos, service_pages, service_blocks) = services(sections)?;
    Ok(Tables {
        v4_hosts: v4.hosts,
        v4_root: v4.root,
        v4_nodes: v4.nodes,
        v6: v6(sections)?,
        v6_default: sections.header.v6_default_identity.get(),
        identities: identities(sections),
        pair_stride: sections.header.pair_stride.get(),
        pair_index,
        pair_cells,
        row_sets,
        row_slots,
        verdicts,
        service_protos,
        service_pages,
        service_blocks,
    })
}

/// `u32` entries of one section, each naming a block of `per_block` rows in another.
fn indexes(
    sections: &Sections<'_>,
    section: Section,
    target: Section,
    per_block: u32,
) -> Result<Box<[u32]>, ImageError> {
    whole_blocks(sections, target, per_block)?;
    let limit = sections.count(target) / per_block as usize;
    let rows = sections.rows::<U32>(section);
    let copied: Box<[u32]> = rows.iter().map(|row| row.get()).collect();
    // The largest says that all are good; only where it is not, each is asked.
    if copied
        .iter()
        .max()
        .is_some_and(|most| *most as usize >= limit)
    {
        for (at, row) in numbered(section, rows) {
            at.below("index", row.get(), limit)?;
        }
    }
    Ok(copied)
}

/// The section holds whole blocks of `per_block` rows, at least one.
fn whole_blocks(
    sections: &Sections<'_>,
    section: Section,
    per_block: u32,
) -> Result<(), ImageError> {
    let count = sections.count(section);
    if count == 0 || !count.is_multiple_of(per_block as usize) {
        return Err(ImageError::SectionCount { section, count });
    }
    Ok(())
}

/// The trie is a tree of at most four levels whose leaves are identities. Returns what
/// cores walk.
fn v4(sections: &Sections<'_>) -> Result<V4Tables, ImageError> {
    if let Some(base) = sections.kept(&[Section::V4Nodes], &[Section::Identities]) {
        return Ok(V4Tables {
            hosts: base.tables.v4_hosts.clone(),
            root: Arc::clone(&base.tables.v4_root),
            nodes: Arc::clone(&base.tables.v4_nodes),
        });
    }
    whole_blocks(sections, Section::V4Nodes, 256)?;
    let entries: Box<[u32]> = sections
        .rows::<U32>(Section::V4Nodes)
        .iter()
        .map(|row| row.get())
        .collect();
    let (nodes, _) = entries.as_chunks::<V4_NODE_ENTRIES>();
    let identities = sections.count(Section::Identities);
    let mut levels = vec![0_u8; nodes.len()];
    if let Some(root) = levels.first_mut() {
        *root = 1;
    }
    for (index, node) in nodes.iter().enumerate() {
        let level = levels.get(index).copied().unwrap_or(0);
        for (column, entry) in node.iter().enumerate() {
            let at = At {
                section: Section::V4Nodes,
                row: index * V4_NODE_ENTRIES + column,
            };
            if entry & V4_CHILD == 0 {
                at.below("identity", *entry, identities)?;
                continue;
            }
            // A child stands behind its parent and has no other: no cycle, no level beyond four.
            let child = (entry & !V4_CHILD) as usize;
            at.when(child > index && level < V4_LEVELS, "child", *entry)?;
            match levels.get_mut(child) {
                Some(unset @ 0) => *unset = level + 1,
                _ => return Err(at.refuse("child", *entry)),
            }
        }
    }
    if let Some(row) = levels.iter().position(|level| *level == 0) {
        return Err(At {
            section: Section::V4Nodes,
            row,
        }
        .refuse("parent", 0_u32));
    }
    Ok(V4Tables::of(nodes, &levels))
}

/// Lengths ascend, the table is a power of two, and the very probe that cores use finds each entry.
fn v6(sections: &Sections<'_>) -> Result<V6Tables, ImageError> {
    let own = [Section::V6Lengths, Section::V6Slots];
    if let Some(base) = sections.kept(&own, &[Section::Identities]) {
        return Ok(base.tables.v6.clone());
    }
    let identities = sections.count(Section::Identities);
    let default = sections.header.v6_default_identity.get();
    if default as usize >= identities {
        return Err(ImageError::Header {
            field: "v6_default_identity",
            value: u64::from(default),
        });
    }
    let lengths = sections.rows::<u8>(Section::V6Lengths);
    let mut shorter = 0;
    for (at, length) in numbered(Section::V6Lengths, lengths) {
        at.when(*length > shorter && *length <= 128, "length", *length)?;
        shorter = *length;
    }
    let rows = sections.rows::<V6Slot>(Section::V6Slots);
    if !rows.len().is_power_of_two() {
        return Err(ImageError::SectionCount {
            section: Section::V6Slots,
            count: rows.len(),
        });
    }
    let entry = |row: &V6Slot| V6Entry {
        prefix: u128::from_be_bytes(row.prefix),
        identity: row.identity.get(),
        length: row.length,
    };
    let tables = V6Tables {
        lengths: lengths.into(),
        slots: rows.iter().map(entry).collect(),
        mask: u32::try_from(rows.len() - 1).unwrap_or(0),
    };
    for (at, slot) in numbered(Section::V6Slots, &tables.slots) {
        if slot.length == V6_EMPTY {
            continue;
        }
        at.below("identity", slot.identity, identities)?;
        at.when(
            tables.lengths.binary_search(&slot.length).is_ok(),
            "length",
            slot.length,
        )?;
        at.when(
            v6_masked(slot.prefix, slot.length) == slot.prefix,
            "prefix",
            slot.length,
        )?;
        let found = tables.probe(slot.prefix, slot.length, &mut ());
        at.when(found == Some(slot.identity), "prefix", slot.length)?;
    }
    Ok(tables)
}

fn identities(sections: &Sections<'_>) -> Arc<[Classes]> {
    if let Some(base) = sections.kept(&[Section::Identities], &[]) {
        return Arc::clone(&base.tables.identities);
    }
    let classes = |row: &IdentityRow| Classes {
        source: row.source_class.get(),
        destination: row.destination_class.get(),
    };
    sections
        .rows::<IdentityRow>(Section::Identities)
        .iter()
        .map(classes)
        .collect()
}

type PairTables = (Arc<[PairEntry]>, Arc<[u32]>);

/// Blocks as the row set of most columns and those of the columns that differ.
fn pairs(sections: &Sections<'_>) -> Result<PairTables, ImageError> {
    let own = [Section::PairIndex, Section::PairBlocks];
    if let Some(base) = sections.kept(&own, &[Section::RowSets]) {
        let tables = &base.tables;
        return Ok((
            Arc::clone(&tables.pair_index),
            Arc::clone(&tables.pair_cells),
        ));
    }
    let index = indexes(
        sections,
        Section::PairIndex,
        Section::PairBlocks,
        PAIR_BLOCK,
    )?;
    let rows = indexes(sections, Section::PairBlocks, Section::RowSets, 1)?;
    let (blocks, _) = rows.as_chunks::<{ PAIR_BLOCK as usize }>();
    let mut cells = Vec::with_capacity(2 * blocks.len());
    let entries: Vec<PairEntry> = blocks
        .iter()
        .map(|block| {
            let most = most_of(block);
            let first = u32::try_from(cells.len()).unwrap_or(u32::MAX);
            let mut differ = 0;
            cells.push(most);
            for (column, row_set) in block.iter().enumerate() {
                if *row_set != most {
                    differ |= 1 << column;
                    cells.push(*row_set);
                }
            }
            PairEntry { differ, first }
        })
        .collect();
    let none = PairEntry {
        differ: 0,
        first: 0,
    };
    let entry = |block: &u32| entries.get(*block as usize).copied().unwrap_or(none);
    Ok((index.iter().map(entry).collect(), cells.into()))
}

/// What more than half of these are, where more than half are the same; else one of them.
fn most_of(values: &[u32]) -> u32 {
    let (mut most, mut lead) = (0, 0_u32);
    for value in values {
        if lead == 0 {
            most = *value;
        }
        lead = if *value == most { lead + 1 } else { lead - 1 };
    }
    most
}

type RowTables = (Arc<[RowSetEntry]>, Arc<[SlotEntry]>);

fn row_sets(sections: &Sections<'_>, verdicts: &Arc<[Decision]>) -> Result<RowTables, ImageError> {
    let own = [Section::RowSets, Section::RowSlots];
    match sections.kept(&own, &[Section::Verdicts]) {
        Some(base) => Ok(row_sets_kept(&base.tables, verdicts)),
        None => row_sets_anew(sections, verdicts),
    }
}

/// Those of the base, but for the verdicts in them.
fn row_sets_kept(base: &Tables, verdicts: &Arc<[Decision]>) -> RowTables {
    let slots = Arc::clone(&base.row_slots);
    if Arc::ptr_eq(verdicts, &base.verdicts) {
        return (Arc::clone(&base.row_sets), slots);
    }
    let both = verdicts.iter().zip(&*base.verdicts);
    let is_other: Vec<bool> = both.map(|(new, old)| new != old).collect();
    let mut sets: Arc<[RowSetEntry]> = Arc::from(&*base.row_sets);
    for set in Arc::get_mut(&mut sets).into_iter().flatten() {
        let row = slots
            .get(set.first as usize)
            .map_or(0, |slot| slot.row as usize);
        if is_other.get(row) == Some(&true) {
            set.alone = verdicts.get(row).copied().unwrap_or(FAIL_CLOSED);
        }
    }
    (sets, slots)
}

fn row_sets_anew(sections: &Sections<'_>, verdicts: &[Decision]) -> Result<RowTables, ImageError> {
    let verdict_count = verdicts.len();
    let classes = sections.header.service_classes.get();
    let sets = sections.rows::<RowSet>(Section::RowSets);
    let slots = sections.rows::<RowSlot>(Section::RowSlots);
    for (at, slot) in numbered(Section::RowSlots, slots) {
        let class = slot.service_class.get();
        at.when(class == NONE || class < classes, "service_class", class)?;
        at.below("row", slot.row.get(), verdict_count)?;
    }
    for (at, set) in numbered(Section::RowSets, sets) {
        at.below("default_row", set.default_row.get(), verdict_count)?;
        at.when(set.shift.get() < 32, "shift", set.shift.get())?;
        let mask = set.mask.get();
        at.when(
            mask & mask.wrapping_add(1) == 0 && mask < NONE,
            "mask",
            mask,
        )?;
        at.within("first", set.first, U32::new(mask + 1), slots.len())?;
        let own = slots
            .get(crate::image::span(set.first, U32::new(mask + 1)))
            .unwrap_or(&[]);
        for (place, slot) in (0..).zip(own) {
            let class = slot.service_class.get();
            let home = row_slot(class, set.multiplier.get(), set.shift.get(), mask);
            at.when(class == NONE || home == place, "multiplier", class)?;
        }
    }
    let slot = |row: &RowSlot| SlotEntry {
        service_class: row.service_class.get(),
        row: row.row.get(),
    };
    let slots: Arc<[SlotEntry]> = slots.iter().map(slot).collect();
    let none = SlotEntry {
        service_class: NONE,
        row: 0,
    };
    let set = |row: &RowSet| {
        let alone = slots.get(row.first.get() as usize).copied().unwrap_or(none);
        RowSetEntry {
            first: row.first.get(),
            default_row: row.default_row.get(),
            multiplier: row.multiplier.get(),
            mask: row.mask.get(),
            shift: row.shift.get(),
            alone_class: match (row.mask.get(), alone.service_class) {
                (0, class) if class != NONE => class,
                _ => NO_CLASS,
            },
            alone: verdicts
                .get(alone.row as usize)
                .copied()
                .unwrap_or(FAIL_CLOSED),
        }
    };
    Ok((sets.iter().map(set).collect(), slots))
}

/// Entries of one page or one block.
const PAGE: usize = SERVICE_PAGE as usize;

type ServiceTables = (Arc<[u32; PAGE]>, Arc<[[u32; PAGE]]>, Arc<[[u16; PAGE]]>);

fn services(sections: &Sections<'_>) -> Result<ServiceTables, ImageError> {
    let own = [
        Section::ServiceProtos,
        Section::ServicePages,
        Section::ServiceBlocks,
    ];
    if let Some(base) = sections.kept(&own, &[]) {
        let tables = &base.tables;
        return Ok((
            Arc::clone(&tables.service_protos),
            Arc::clone(&tables.service_pages),
            Arc::clone(&tables.service_blocks),
        ));
    }
    let protos = indexes(
        sections,
        Section::ServiceProtos,
        Section::ServicePages,
        SERVICE_PAGE,
    )?;
    let count = protos.len();
    let protos: Box<[u32; PAGE]> = protos.try_into().map_err(|_| ImageError::SectionCount {
        section: Section::ServiceProtos,
        count,
    })?;
    let pages = indexes(
        sections,
        Section::ServicePages,
        Section::ServiceBlocks,
        SERVICE_PAGE,
    )?;
    let blocks = sections.rows::<U16>(Section::ServiceBlocks);
    for (at, class) in numbered(Section::ServiceBlocks, blocks) {
        at.below(
            "class",
            u32::from(class.get()),
            sections.header.service_classes.get() as usize,
        )?;
    }
    let (pages, _) = pages.as_chunks();
    let blocks: Box<[u16]> = blocks.iter().map(|class| class.get()).collect();
    let (blocks, _) = blocks.as_chunks();
    Ok((protos.into(), pages.into(), blocks.into()))
}

/// Rows are asked where they or the rules they speak of changed.
fn verdicts(sections: &Sections<'_>) -> Result<Arc<[Decision]>, ImageError> {
    let rules = sections.rows::<RuleRow>(Section::Rules);
    let rows = sections.rows::<VerdictRow>(Section::Verdicts);
    let all = numbered(Section::Verdicts, rows);
    let both = [Section::Verdicts, Section::Rules];
    let Some(base) = sections.kept(&[], &both) else {
        let all: Result<Vec<_>, _> = all.map(|(at, row)| verdict(at, row, rules)).collect();
        return Ok(all?.into());
    };
    if sections.kept(&both, &[]).is_some() {
        return Ok(Arc::clone(&base.tables.verdicts));
    }
    let is_changed = sections.is_changed(Section::Verdicts);
    let is_rule_changed = sections.is_changed(Section::Rules);
    let speaks_of_changed = |rule: U32| is_rule_changed.get(rule.get() as usize) == Some(&true);
    let mut verdicts: Arc<[Decision]> = Arc::from(&*base.tables.verdicts);
    let decisions = Arc::get_mut(&mut verdicts).unwrap_or_default();
    for ((decision, changed), (at, row)) in decisions.iter_mut().zip(is_changed).zip(all) {
        let rules_changed = [row.rule_index, row.pending_rule_index].map(speaks_of_changed);
        if changed || rules_changed != [false; 2] {
            *decision = verdict(at, row, rules)?;
        }
    }
    Ok(verdicts)
}

/// A row says what its rules say, and nothing else.
fn verdict(at: At, row: &VerdictRow, rules: &[RuleRow]) -> Result<Decision, ImageError> {
    let enforced = at.byte("enforced", row.enforced, Action::from_byte(row.enforced))?;
    let pending = at.byte("pending", row.pending, Action::from_byte(row.pending))?;
    let sources = [row.enforced_source, row.pending_source].map(VerdictSource::from_byte);
    for (field, index, id, action, source) in [
        (
            "rule_index",
            row.rule_index,
            row.rule_id,
            row.enforced,
            sources[0],
        ),
        (
            "pending_rule_index",
            row.pending_rule_index,
            row.pending_rule_id,
            row.pending,
            sources[1],
        ),
    ] {
        let fits = match rules.get(index.get() as usize) {
            Some(rule) => {
                rule.id == id && rule.action == action && source == Some(VerdictSource::Rule)
            }
            None => {
                index.get() == NONE
                    && id.get() == 0
                    && source == Some(VerdictSource::Default)
                    && [Action::Allow.byte(), Action::Deny.byte()].contains(&action)
            }
        };
        at.when(fits, field, index.get())?;
    }
    let rule = rules.get(row.rule_index.get() as usize);
    let limit = rule.map_or(NONE, |rule| rule.limit_index.get());
    at.when(
        row.limit_index.get() == limit,
        "limit_index",
        row.limit_index.get(),
    )?;
    let on_change = rule.map_or(OnChange::Reevaluate.byte(), |rule| rule.on_change);
    at.when(row.on_change == on_change, "on_change", row.on_change)?;
    at.when(
        usize::from(row.candidate_count) <= CANDIDATES_MAX,
        "candidate_count",
        row.candidate_count,
    )?;
    Ok(Decision {
        enforced,
        enforced_source: at.byte("enforced_source", row.enforced_source, sources[0])?,
        rule_id: row.rule_id.get(),
        pending,
        pending_source: at.byte("pending_source", row.pending_source, sources[1])?,
        pending_rule_id: row.pending_rule_id.get(),
        mode: at.byte("mode", row.mode, Mode::from_byte(row.mode))?,
        coverage: at.byte("coverage", row.coverage, Coverage::from_byte(row.coverage))?,
        on_change: at.byte(
            "on_change",
            row.on_change,
            OnChange::from_byte(row.on_change),
        )?,
        limit_index: u16::try_from(limit).unwrap_or(0),
        src_identity: 0,
        dst_identity: 0,
    })
}

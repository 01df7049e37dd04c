//! Cells to row sets, verdict rows and their collision-free slots.

use super::groups::{First, Groups, Profile};
use super::service_classes::ServiceClasses;
use super::{Interner, index};
use crate::validate::Rule;
use abi::image::{
    CANDIDATES_MAX, CandidateVerdict, ImageWriter, NONE, RowSet, RowSlot, Section, VerdictRow,
    row_slot, rule_id,
};
use abi::verdict::{Coverage, OnChange};
use abi::{Action, Mode, VerdictSource};
use zerocopy::FromZeros;
use zerocopy::little_endian::{U32, U64};

/// Multipliers tried for one size before the size doubles.
const TRIES: u32 = 64;

/// Where the slots of a row set are.
#[derive(Clone, Copy, Debug)]
struct Slots {
    first: u32,
    multiplier: u32,
    mask: u32,
    shift: u32,
}

/// Row sets as they are found, each once.
#[derive(Debug)]
pub(super) struct RowSets {
    class_count: usize,
    /// Index of each rule's limit.
    limits: Vec<u32>,
    verdicts: Interner<(First, Mode)>,
    verdict_rows: Vec<VerdictRow>,
    sets: Interner<(u32, u32)>,
    set_rows: Vec<RowSet>,
    exceptions: Interner<Vec<(u32, u32)>>,
    slots_of: Vec<Slots>,
    slots: Vec<RowSlot>,
}

impl RowSets {
    pub(super) fn new(rules: &[Rule], groups: &Groups, services: &ServiceClasses) -> Self {
        let mut rows = Self {
            class_count: services.count(),
            limits: limit_indexes(rules),
            verdicts: Interner::new(),
            verdict_rows: Vec::new(),
            sets: Interner::new(),
            set_rows: Vec::new(),
            exceptions: Interner::new(),
            slots_of: Vec::new(),
            slots: Vec::new(),
        };
        // Row set 0 and verdict 0 deny: what no pair of classes points at fails closed.
        rows.of_groups(core::iter::empty(), Mode::Enforce, rules, groups);
        rows
    }

    /// The row set of pairs that these groups speak of, in this mode.
    pub(super) fn of_groups(
        &mut self,
        cell: impl Iterator<Item = u32>,
        mode: Mode,
        rules: &[Rule],
        groups: &Groups,
    ) -> u32 {
        let merged = merge(cell, mode, groups);
        let rule_at = &groups.rule_at;
        let default_row = self.verdict(merged.any, mode, rules, rule_at);
        let mut exceptions = Vec::with_capacity(merged.classes.len());
        for (class, first) in merged.classes {
            let row = self.verdict(first, mode, rules, rule_at);
            if row != default_row {
                exceptions.push((class, row));
            }
        }
        let slots = self.slots(&exceptions);
        let (set, new) = self.sets.number((default_row, slots));
        if new {
            let Slots {
                first,
                multiplier,
                mask,
                shift,
            } = self.slots_of[slots as usize];
            self.set_rows.push(RowSet {
                first: U32::new(first),
                default_row: U32::new(default_row),
                multiplier: U32::new(multiplier),
                mask: U32::new(mask),
                shift: U32::new(shift),
            });
        }
        set
    }

    fn verdict(&mut self, first: First, mode: Mode, rules: &[Rule], rule_at: &[u32]) -> u32 {
        let (row, new) = self.verdicts.number((first, mode));
        if new {
            let verdict = self.verdict_row(first, mode, rules, rule_at);
            self.verdict_rows.push(verdict);
        }
        row
    }

    fn verdict_row(&self, first: First, mode: Mode, rules: &[Rule], rule_at: &[u32]) -> VerdictRow {
        let rule = |place: u32| {
            let at = *rule_at.get(place as usize)?;
            Some((at, &rules[at as usize]))
        };
        let view = |place, denies: bool| match rule(place) {
            Some((at, rule)) => (at, rule_id(&rule.name), rule.action, VerdictSource::Rule),
            None => (
                NONE,
                0,
                if denies { Action::Deny } else { Action::Allow },
                VerdictSource::Default,
            ),
        };
        let (at, id, enforced, source) = view(first.enforced, mode == Mode::Enforce);
        let (pending_at, pending_id, pending, pending_source) =
            view(first.pending, mode >= Mode::Test);
        let covered = at != NONE || pending_at != NONE;
        let coverage = if covered {
            Coverage::Rule
        } else {
            Coverage::Uncovered
        };
        let on_change = rule(first.enforced).map_or(OnChange::Reevaluate, |(_, r)| r.on_change);
        VerdictRow {
            rule_id: U64::new(id),
            pending_rule_id: U64::new(pending_id),
            rule_index: U32::new(at),
            pending_rule_index: U32::new(pending_at),
            enforced: enforced.byte(),
            enforced_source: source.byte(),
            pending: pending.byte(),
            pending_source: pending_source.byte(),
            mode: mode.byte(),
            coverage: coverage.byte(),
            on_change: on_change.byte(),
            candidate_count: 0,
            limit_index: U32::new(self.limits.get(at as usize).copied().unwrap_or(NONE)),
            candidates: [CandidateVerdict::new_zeroed(); CANDIDATES_MAX],
            reserved: [0; 4],
        }
    }

    /// The slots that hold exactly these exceptions; the same exceptions share them.
    fn slots(&mut self, exceptions: &[(u32, u32)]) -> u32 {
        let (number, new) = self.exceptions.number_of(exceptions);
        if new {
            let (multiplier, mask, shift) = collision_free(exceptions, self.class_count);
            let first = index(self.slots.len());
            let empty = RowSlot {
                service_class: U32::new(NONE),
                row: U32::ZERO,
            };
            self.slots
                .resize(self.slots.len() + mask as usize + 1, empty);
            for (class, row) in exceptions {
                let at = first + row_slot(*class, multiplier, shift, mask);
                self.slots[at as usize] = RowSlot {
                    service_class: U32::new(*class),
                    row: U32::new(*row),
                };
            }
            self.slots_of.push(Slots {
                first,
                multiplier,
                mask,
                shift,
            });
        }
        number
    }

    pub(super) fn write<'a>(&'a self, writer: &mut ImageWriter<'a>) {
        writer.lend(Section::RowSets, &self.set_rows);
        writer.lend(Section::RowSlots, &self.slots);
        writer.lend(Section::Verdicts, &self.verdict_rows);
    }
}

/// Of all groups of a cell, the rules that come first.
fn merge(cell: impl Iterator<Item = u32>, mode: Mode, groups: &Groups) -> Profile {
    let profiles: Vec<&Profile> = cell
        .map(|group| groups.all[group as usize].profile(mode))
        .collect();
    let any = profiles
        .iter()
        .fold(First::NONE, |any, profile| any.min(profile.any));
    let all = profiles
        .iter()
        .flat_map(|profile| &profile.classes)
        .copied()
        .collect();
    Profile::of(any, all)
}

/// Limits stand in the order of their rules.
fn limit_indexes(rules: &[Rule]) -> Vec<u32> {
    let mut next = 0;
    let number = |rule: &Rule| match rule.limit {
        Some(_) => {
            next += 1;
            next - 1
        }
        None => NONE,
    };
    rules.iter().map(number).collect()
}

/// A multiplier, mask and shift by which no two classes meet. Sizes double from the smallest that
/// could do to a table of all classes, where no two can meet.
fn collision_free(exceptions: &[(u32, u32)], class_count: usize) -> (u32, u32, u32) {
    if exceptions.len() <= 1 {
        return (0, 0, 0);
    }
    let whole = index(class_count.next_power_of_two());
    let mut size = index(exceptions.len().next_power_of_two());
    let mut taken = vec![u32::MAX; size as usize];
    let mut stamp = 0;
    while size < whole {
        taken.resize(size as usize, u32::MAX);
        let shift = 32 - size.trailing_zeros();
        for attempt in 0..TRIES {
            let multiplier = 0x9e37_79b1_u32.wrapping_mul(2 * attempt + 1);
            let meet = exceptions.iter().any(|(class, _)| {
                let slot = &mut taken[row_slot(*class, multiplier, shift, size - 1) as usize];
                core::mem::replace(slot, stamp) == stamp
            });
            if !meet {
                return (multiplier, size - 1, shift);
            }
            stamp += 1;
        }
        size *= 2;
    }
    (1, whole - 1, 0)
}

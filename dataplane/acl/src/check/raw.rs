//! Checks what people and the oracle read: names, prefixes, rules, identities, limits.

use super::sections::{At, Sections};
use crate::error::ImageError;
use abi::image::{
    BUILT_IN_SEGMENTS, IdentityRow, LimitRow, NONE, PortRow, PrefixRow, RULE_EXPIRED, RateKind,
    RuleMode, RuleRow, Section, SegmentRow, ServiceRow, Tier, WorkloadRow, rule_id, v6_masked,
};
use abi::verdict::OnChange;
use abi::{Action, Mode};
use std::sync::Arc;
use zerocopy::little_endian::U32;

/// Returns the rule indexes by ascending id.
pub(super) fn check(sections: &Sections<'_>) -> Result<Arc<[u32]>, ImageError> {
    let strings = core::str::from_utf8(sections.rows::<u8>(Section::Strings))
        .map_err(|_| ImageError::Strings)?;
    let names = Names { strings };
    prefixes(sections)?;
    segments(sections, names)?;
    workloads(sections, names)?;
    services(sections, names)?;
    identities(sections)?;
    rules(sections, names)?;
    limits(sections)?;
    rules_by_id(sections)
}

#[derive(Clone, Copy)]
struct Names<'a> {
    strings: &'a str,
}

impl<'a> Names<'a> {
    fn get(self, at: At, first: U32, bytes: U32) -> Result<&'a str, ImageError> {
        self.strings
            .get(crate::image::span(first, bytes))
            .filter(|name| !name.is_empty())
            .ok_or_else(|| at.refuse("name", first.get()))
    }
}

fn prefixes(sections: &Sections<'_>) -> Result<(), ImageError> {
    for section in [Section::Prefixes, Section::Internal] {
        for (at, row) in sections.asked::<PrefixRow>(section, &[], &[]) {
            let address = u128::from_be_bytes(row.address);
            at.when(row.length <= 128, "length", row.length)?;
            at.when(
                v6_masked(address, row.length) == address,
                "address",
                row.length,
            )?;
            let mapped = row.length >= 96 && address >> 32 == 0xffff;
            let family = if mapped { 4 } else { 6 };
            at.when(row.family == family, "family", row.family)?;
        }
    }
    Ok(())
}

fn segments(sections: &Sections<'_>, names: Names<'_>) -> Result<(), ImageError> {
    let rows = sections.rows::<SegmentRow>(Section::Segments);
    if rows.len() < BUILT_IN_SEGMENTS.len() {
        return Err(ImageError::SectionCount {
            section: Section::Segments,
            count: rows.len(),
        });
    }
    let prefixes = sections.count(Section::Prefixes);
    let asked =
        sections.asked::<SegmentRow>(Section::Segments, &[Section::Strings], &[Section::Prefixes]);
    for (at, row) in asked {
        let name = names.get(at, row.name_first, row.name_bytes)?;
        at.within("prefixes", row.prefixes_first, row.prefixes_count, prefixes)?;
        match BUILT_IN_SEGMENTS.get(at.row) {
            Some(built_in) => {
                at.when(name == *built_in, "name", row.name_first.get())?;
                at.when(row.mode == 0, "mode", row.mode)?;
                at.when(
                    row.prefixes_count.get() == 0,
                    "prefixes",
                    row.prefixes_count.get(),
                )?;
            }
            None => {
                at.byte("mode", row.mode, Mode::from_byte(row.mode))?;
            }
        }
    }
    Ok(())
}

fn workloads(sections: &Sections<'_>, names: Names<'_>) -> Result<(), ImageError> {
    let prefixes = sections.count(Section::Prefixes);
    let asked = sections.asked::<WorkloadRow>(
        Section::Workloads,
        &[Section::Strings],
        &[Section::Prefixes],
    );
    for (at, row) in asked {
        names.get(at, row.name_first, row.name_bytes)?;
        at.within("prefixes", row.prefixes_first, row.prefixes_count, prefixes)?;
    }
    Ok(())
}

fn services(sections: &Sections<'_>, names: Names<'_>) -> Result<(), ImageError> {
    let ports = sections.count(Section::Ports);
    for (at, row) in sections.asked::<PortRow>(Section::Ports, &[], &[]) {
        at.when(row.any <= 1, "any", row.any)?;
        at.when(row.low <= row.high, "low", row.low.get())?;
    }
    let asked =
        sections.asked::<ServiceRow>(Section::Services, &[Section::Strings], &[Section::Ports]);
    for (at, row) in asked {
        names.get(at, row.name_first, row.name_bytes)?;
        at.within("ports", row.ports_first, row.ports_count, ports)?;
    }
    Ok(())
}

/// The mode of an identity is the strictest of its segments', and each of them exists.
fn identities(sections: &Sections<'_>) -> Result<(), ImageError> {
    let lists = sections.rows::<U32>(Section::Lists);
    let segments = sections.rows::<SegmentRow>(Section::Segments);
    let header = sections.header;
    if sections.count(Section::Identities) == 0 {
        return Err(ImageError::SectionCount {
            section: Section::Identities,
            count: 0,
        });
    }
    let asked = sections.asked::<IdentityRow>(
        Section::Identities,
        &[Section::Lists, Section::Segments],
        &[],
    );
    for (at, row) in asked {
        let (source, destination) = (row.source_class.get(), row.destination_class.get());
        at.below("source_class", source, header.source_classes.get() as usize)?;
        at.below(
            "destination_class",
            destination,
            header.destination_classes.get() as usize,
        )?;
        let members = list(
            at,
            "segments",
            lists,
            row.segments_first,
            row.segments_count,
        )?;
        at.when(
            members.is_sorted_by(|a, b| a < b),
            "segments",
            row.segments_first.get(),
        )?;
        let mut mode = Mode::Observe.byte();
        for member in members {
            let segment = segments
                .get(member.get() as usize)
                .ok_or_else(|| at.refuse("segments", member.get()))?;
            mode = mode.max(segment.mode);
        }
        at.when(row.mode == mode, "mode", row.mode)?;
    }
    Ok(())
}

fn list<'a>(
    at: At,
    field: &'static str,
    lists: &'a [U32],
    first: U32,
    count: U32,
) -> Result<&'a [U32], ImageError> {
    lists
        .get(crate::image::span(first, count))
        .ok_or_else(|| at.refuse(field, first.get()))
}

fn rules(sections: &Sections<'_>, names: Names<'_>) -> Result<(), ImageError> {
    let lists = sections.rows::<U32>(Section::Lists);
    let segment_count = sections.count(Section::Segments);
    let service_count = sections.count(Section::Services);
    let limits = sections.rows::<LimitRow>(Section::Limits);
    let asked = sections.asked::<RuleRow>(
        Section::Rules,
        &[Section::Strings, Section::Lists, Section::Limits],
        &[Section::Segments, Section::Services],
    );
    for (at, row) in asked {
        let name = names.get(at, row.name_first, row.name_bytes)?;
        at.when(row.id.get() == rule_id(name), "id", row.id.get())?;
        at.byte("tier", row.tier, Tier::from_byte(row.tier))?;
        let action = at.byte("action", row.action, Action::from_byte(row.action))?;
        at.byte("mode", row.mode, RuleMode::from_byte(row.mode))?;
        at.byte(
            "on_change",
            row.on_change,
            OnChange::from_byte(row.on_change),
        )?;
        at.when(
            row.flags.get() & !RULE_EXPIRED == 0,
            "flags",
            row.flags.get(),
        )?;
        at.when(row.from_count.get() > 0, "from", 0_u32)?;
        at.when(row.to_count.get() > 0, "to", 0_u32)?;
        for (field, first, count, limit) in [
            ("from", row.from_first, row.from_count, segment_count),
            ("to", row.to_first, row.to_count, segment_count),
            (
                "services",
                row.services_first,
                row.services_count,
                service_count,
            ),
        ] {
            for member in list(at, field, lists, first, count)? {
                at.below(field, member.get(), limit)?;
            }
        }
        let limit = limits.get(row.limit_index.get() as usize);
        let fits = match action {
            Action::Limit => limit.is_some_and(|limit| limit.rule_index.get() as usize == at.row),
            _ => row.limit_index.get() == NONE,
        };
        at.when(fits, "limit_index", row.limit_index.get())?;
    }
    Ok(())
}

/// A limit's index has 16 bits in a [`abi::Decision`].
fn limits(sections: &Sections<'_>) -> Result<(), ImageError> {
    let rows = sections.rows::<LimitRow>(Section::Limits);
    let rules = sections.rows::<RuleRow>(Section::Rules);
    if rows.len() > usize::from(u16::MAX) {
        return Err(ImageError::SectionCount {
            section: Section::Limits,
            count: rows.len(),
        });
    }
    for (at, row) in sections.asked::<LimitRow>(Section::Limits, &[Section::Rules], &[]) {
        at.byte("kind", row.kind, RateKind::from_byte(row.kind))?;
        at.when(row.rate.get() > 0, "rate", 0_u32)?;
        at.when(row.burst.get() > 0, "burst", 0_u32)?;
        let rule = rules.get(row.rule_index.get() as usize);
        let own = rule.is_some_and(|rule| {
            rule.id == row.rule_id && rule.limit_index.get() as usize == at.row
        });
        at.when(own, "rule_index", row.rule_index.get())?;
    }
    Ok(())
}

fn rules_by_id(sections: &Sections<'_>) -> Result<Arc<[u32]>, ImageError> {
    let rules = sections.rows::<RuleRow>(Section::Rules);
    if let Some(base) = sections.kept(&[], &[Section::Rules]) {
        let before = base.rows::<RuleRow>(Section::Rules);
        let has_its_id = |(at, row): (At, &RuleRow)| {
            before.get(at.row).is_some_and(|before| before.id == row.id)
        };
        if sections.asked(Section::Rules, &[], &[]).all(has_its_id) {
            return Ok(Arc::clone(&base.rules_by_id));
        }
    }
    let mut ids: Vec<(u64, u32)> = (0..)
        .zip(rules)
        .map(|(at, row)| (row.id.get(), at))
        .collect();
    ids.sort_unstable();
    for (one, other) in ids.iter().zip(ids.iter().skip(1)) {
        if one.0 == other.0 {
            let at = At {
                section: Section::Rules,
                row: other.1 as usize,
            };
            return Err(at.refuse("id", other.0));
        }
    }
    Ok(ids.into_iter().map(|(_, index)| index).collect())
}

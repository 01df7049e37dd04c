//! What people and the oracle read: names, prefixes, rules, services and limits as written.

use super::classes::Classes;
use super::identities::Identities;
use super::index;
use crate::prefix::Span;
use crate::validate::{Rule, ValidPolicy};
use abi::image::{
    BUILT_IN_SEGMENTS, IdentityRow, ImageWriter, LimitRow, NONE, PortRow, PrefixRow, RULE_EXPIRED,
    RuleRow, Section, SegmentRow, ServiceRow, WorkloadRow, rule_id,
};
use ipnet::IpNet;
use jiff::civil::Date;
use zerocopy::little_endian::{U16, U32, U64};

/// The pool of index lists; the same list is kept once when it comes twice in a row.
#[derive(Clone, Debug, Default)]
struct Lists {
    pool: Vec<U32>,
    last: (usize, usize),
}

impl Lists {
    /// First entry and count of a list.
    fn add(&mut self, list: &[u32]) -> (U32, U32) {
        let (first, count) = self.last;
        let same = self.pool[first..first + count]
            .iter()
            .map(|entry| entry.get());
        if !same.eq(list.iter().copied()) {
            self.last = (self.pool.len(), list.len());
            self.pool.extend(list.iter().map(|entry| U32::new(*entry)));
        }
        (U32::new(index(self.last.0)), U32::new(index(self.last.1)))
    }
}

#[derive(Clone, Debug, Default)]
struct Strings {
    bytes: Vec<u8>,
}

impl Strings {
    fn name(&mut self, name: &str) -> (U32, U32) {
        let first = index(self.bytes.len());
        self.bytes.extend_from_slice(name.as_bytes());
        (U32::new(first), U32::new(index(name.len())))
    }
}

#[derive(Default)]
struct Prefixes {
    rows: Vec<PrefixRow>,
}

impl Prefixes {
    fn add<'n>(&mut self, nets: impl Iterator<Item = &'n IpNet>) -> (U32, U32) {
        let first = self.rows.len();
        self.rows.extend(nets.map(|net| Span::from(*net).row()));
        (
            U32::new(index(first)),
            U32::new(index(self.rows.len() - first)),
        )
    }
}

/// What is the same whoever the members of segments are. Its names and lists stand first in their
/// pools, so that those of members follow without moving them.
#[derive(Debug)]
pub(super) struct Fixed {
    strings: Strings,
    lists: Lists,
    /// Name of each segment, the built-in ones first.
    segment_names: Vec<(U32, U32)>,
    services: Vec<ServiceRow>,
    ports: Vec<PortRow>,
    rules: Vec<RuleRow>,
    limits: Vec<LimitRow>,
}

impl Fixed {
    pub(super) fn new(policy: &ValidPolicy, today: Date) -> Self {
        let mut strings = Strings::default();
        let own = policy.segments.iter().map(|segment| segment.name.as_str());
        let segment_names = BUILT_IN_SEGMENTS
            .into_iter()
            .chain(own)
            .map(|name| strings.name(name))
            .collect();
        let mut fixed = Self {
            strings,
            lists: Lists::default(),
            segment_names,
            services: Vec::with_capacity(policy.services.len()),
            ports: Vec::new(),
            rules: Vec::with_capacity(policy.rules.len()),
            limits: Vec::new(),
        };
        fixed.services(policy);
        fixed.rules(policy, today);
        fixed
    }

    fn services(&mut self, policy: &ValidPolicy) {
        for service in policy.services.iter() {
            let (name_first, name_bytes) = self.strings.name(&service.name);
            let ports_first = U32::new(index(self.ports.len()));
            self.ports.extend(service.ports.iter().map(|port| PortRow {
                any: u8::from(port.proto.is_none()),
                proto: port.proto.unwrap_or(0),
                low: U16::new(port.low),
                high: U16::new(port.high),
                reserved: U16::ZERO,
            }));
            let ports_count = U32::new(index(service.ports.len()));
            self.services.push(ServiceRow {
                name_first,
                name_bytes,
                ports_first,
                ports_count,
            });
        }
    }

    fn rules(&mut self, policy: &ValidPolicy, today: Date) {
        for (at, rule) in policy.rules.iter().enumerate() {
            let id = rule_id(&rule.name);
            let limit_index = rule.limit.map_or(NONE, |(rate, burst)| {
                self.limits.push(LimitRow {
                    rule_id: U64::new(id),
                    rate: U64::new(rate.per_second),
                    burst: U64::new(burst),
                    rule_index: U32::new(index(at)),
                    kind: rate.kind.byte(),
                    reserved: [0; 3],
                });
                index(self.limits.len() - 1)
            });
            let row = rule_row(
                rule,
                id,
                limit_index,
                today,
                &mut self.strings,
                &mut self.lists,
            );
            self.rules.push(row);
        }
    }

    /// Writes every section of this kind: what is fixed, and who the members are now.
    pub(super) fn write<'a>(
        &'a self,
        policy: &ValidPolicy,
        ids: &Identities,
        classes: &Classes,
        writer: &mut ImageWriter<'a>,
    ) {
        let (mut strings, mut lists) = (self.strings.clone(), self.lists.clone());
        let mut prefixes = Prefixes::default();
        let segments = self.segments(policy, &mut prefixes);
        let workload = |workload: &crate::validate::Workload| {
            let (name_first, name_bytes) = strings.name(&workload.name);
            let (prefixes_first, prefixes_count) = prefixes.add(workload.addresses.iter());
            WorkloadRow {
                name_first,
                name_bytes,
                prefixes_first,
                prefixes_count,
            }
        };
        let workloads: Vec<WorkloadRow> = policy.workloads.iter().map(workload).collect();
        let internal: Vec<PrefixRow> = policy
            .internal
            .iter()
            .map(|net| Span::from(*net).row())
            .collect();
        writer.put(Section::Identities, &identities(ids, classes, &mut lists));
        writer.lend(Section::Services, &self.services);
        writer.lend(Section::Ports, &self.ports);
        writer.lend(Section::Rules, &self.rules);
        writer.lend(Section::Limits, &self.limits);
        writer.put(Section::Lists, &lists.pool);
        writer.put(Section::Segments, &segments);
        writer.put(Section::Workloads, &workloads);
        writer.put(Section::Prefixes, &prefixes.rows);
        writer.put(Section::Internal, &internal);
        writer.put(Section::Strings, &strings.bytes);
    }

    fn segments(&self, policy: &ValidPolicy, prefixes: &mut Prefixes) -> Vec<SegmentRow> {
        let zero = U32::ZERO;
        let row = |(name, (first, count), mode): ((U32, U32), (U32, U32), u8)| SegmentRow {
            name_first: name.0,
            name_bytes: name.1,
            prefixes_first: first,
            prefixes_count: count,
            mode,
            reserved: [0; 3],
        };
        let (built_in, own) = self.segment_names.split_at(BUILT_IN_SEGMENTS.len());
        let mut rows: Vec<SegmentRow> = built_in
            .iter()
            .map(|name| row((*name, (zero, zero), 0)))
            .collect();
        rows.extend(
            own.iter()
                .zip(policy.segments.iter())
                .map(|(name, segment)| {
                    let selected = segment.workloads.iter();
                    let of_workloads =
                        selected.flat_map(|at| &policy.workloads[*at as usize].addresses);
                    let own = prefixes.add(segment.addresses.iter().chain(of_workloads));
                    row((*name, own, segment.mode.byte()))
                }),
        );
        rows
    }
}

fn identities(ids: &Identities, classes: &Classes, lists: &mut Lists) -> Vec<IdentityRow> {
    let row = |(at, set): (usize, &Vec<u32>)| {
        let (segments_first, segments_count) = lists.add(set);
        IdentityRow {
            source_class: U32::new(classes.source.of_identity[at]),
            destination_class: U32::new(classes.destination.of_identity[at]),
            segments_first,
            segments_count,
            mode: ids.modes[at].byte(),
            reserved: [0; 7],
        }
    };
    ids.sets.iter().enumerate().map(row).collect()
}

fn rule_row(
    rule: &Rule,
    id: u64,
    limit_index: u32,
    today: Date,
    strings: &mut Strings,
    lists: &mut Lists,
) -> RuleRow {
    let (name_first, name_bytes) = strings.name(&rule.name);
    let (from_first, from_count) = lists.add(&rule.from);
    let (to_first, to_count) = lists.add(&rule.to);
    let (services_first, services_count) = lists.add(&rule.services);
    RuleRow {
        id: U64::new(id),
        name_first,
        name_bytes,
        from_first,
        from_count,
        to_first,
        to_count,
        services_first,
        services_count,
        limit_index: U32::new(limit_index),
        tier: rule.tier.byte(),
        action: rule.action.byte(),
        mode: rule.mode.byte(),
        on_change: rule.on_change.byte(),
        flags: U32::new(if rule.expired(today) { RULE_EXPIRED } else { 0 }),
        reserved: U32::ZERO,
    }
}

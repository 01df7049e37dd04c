//! What people and the oracle read: names, prefixes, rules, services and limits as written.

use super::index;
use crate::prefix::Span;
use crate::validate::{Rule, ValidPolicy};
use abi::image::{
    BUILT_IN_SEGMENTS, ImageWriter, LimitRow, NONE, PortRow, PrefixRow, RULE_EXPIRED, RuleRow,
    Section, SegmentRow, ServiceRow, WorkloadRow, rule_id,
};
use ipnet::IpNet;
use jiff::civil::Date;
use zerocopy::little_endian::{U16, U32, U64};

/// The pool of index lists; the same list is kept once when it comes twice in a row.
#[derive(Default)]
pub(super) struct Lists {
    pool: Vec<U32>,
    last: (usize, usize),
}

impl Lists {
    /// First entry and count of a list.
    pub(super) fn add(&mut self, list: &[u32]) -> (U32, U32) {
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

#[derive(Default)]
struct Pools {
    strings: Vec<u8>,
    prefixes: Vec<PrefixRow>,
}

impl Pools {
    fn name(&mut self, name: &str) -> (U32, U32) {
        let first = index(self.strings.len());
        self.strings.extend_from_slice(name.as_bytes());
        (U32::new(first), U32::new(index(name.len())))
    }

    fn prefixes<'n>(&mut self, nets: impl Iterator<Item = &'n IpNet>) -> (U32, U32) {
        let first = self.prefixes.len();
        self.prefixes.extend(nets.map(|net| Span::from(*net).row()));
        (
            U32::new(index(first)),
            U32::new(index(self.prefixes.len() - first)),
        )
    }
}

pub(super) fn write(policy: &ValidPolicy, today: Date, mut lists: Lists, writer: &mut ImageWriter) {
    let mut pools = Pools::default();
    let segments = segments(policy, &mut pools);
    let workloads: Vec<WorkloadRow> = policy
        .workloads
        .iter()
        .map(|workload| {
            let (name_first, name_bytes) = pools.name(&workload.name);
            let (prefixes_first, prefixes_count) = pools.prefixes(workload.addresses.iter());
            WorkloadRow {
                name_first,
                name_bytes,
                prefixes_first,
                prefixes_count,
            }
        })
        .collect();
    let internal: Vec<PrefixRow> = policy
        .internal
        .iter()
        .map(|net| Span::from(*net).row())
        .collect();
    services(policy, &mut pools, writer);
    rules(policy, today, &mut pools, &mut lists, writer);
    writer.put(Section::Lists, &lists.pool);
    writer.put(Section::Segments, &segments);
    writer.put(Section::Workloads, &workloads);
    writer.put(Section::Prefixes, &pools.prefixes);
    writer.put(Section::Internal, &internal);
    writer.put(Section::Strings, &pools.strings);
}

fn segments(policy: &ValidPolicy, pools: &mut Pools) -> Vec<SegmentRow> {
    let mut rows = Vec::with_capacity(policy.segments.len() + BUILT_IN_SEGMENTS.len());
    for name in BUILT_IN_SEGMENTS {
        let (name_first, name_bytes) = pools.name(name);
        let zero = U32::ZERO;
        let (prefixes_first, prefixes_count) = (zero, zero);
        rows.push(SegmentRow {
            name_first,
            name_bytes,
            prefixes_first,
            prefixes_count,
            mode: 0,
            reserved: [0; 3],
        });
    }
    for segment in &policy.segments {
        let (name_first, name_bytes) = pools.name(&segment.name);
        let selected = segment.workloads.iter();
        let of_workloads = selected.flat_map(|at| &policy.workloads[*at as usize].addresses);
        let (prefixes_first, prefixes_count) =
            pools.prefixes(segment.addresses.iter().chain(of_workloads));
        rows.push(SegmentRow {
            name_first,
            name_bytes,
            prefixes_first,
            prefixes_count,
            mode: segment.mode.byte(),
            reserved: [0; 3],
        });
    }
    rows
}

fn services(policy: &ValidPolicy, pools: &mut Pools, writer: &mut ImageWriter) {
    let mut ports = Vec::new();
    let mut rows = Vec::with_capacity(policy.services.len());
    for service in &policy.services {
        let (name_first, name_bytes) = pools.name(&service.name);
        let ports_first = U32::new(index(ports.len()));
        ports.extend(service.ports.iter().map(|port| PortRow {
            any: u8::from(port.proto.is_none()),
            proto: port.proto.unwrap_or(0),
            low: U16::new(port.low),
            high: U16::new(port.high),
            reserved: U16::ZERO,
        }));
        let ports_count = U32::new(index(service.ports.len()));
        rows.push(ServiceRow {
            name_first,
            name_bytes,
            ports_first,
            ports_count,
        });
    }
    writer.put(Section::Services, &rows);
    writer.put(Section::Ports, &ports);
}

fn rules(
    policy: &ValidPolicy,
    today: Date,
    pools: &mut Pools,
    lists: &mut Lists,
    writer: &mut ImageWriter,
) {
    let mut limits: Vec<LimitRow> = Vec::new();
    let mut rows = Vec::with_capacity(policy.rules.len());
    for (at, rule) in policy.rules.iter().enumerate() {
        let id = rule_id(&rule.name);
        let limit_index = rule.limit.map_or(NONE, |(rate, burst)| {
            limits.push(LimitRow {
                rule_id: U64::new(id),
                rate: U64::new(rate.per_second),
                burst: U64::new(burst),
                rule_index: U32::new(index(at)),
                kind: rate.kind.byte(),
                reserved: [0; 3],
            });
            index(limits.len() - 1)
        });
        rows.push(rule_row(rule, id, limit_index, today, pools, lists));
    }
    writer.put(Section::Rules, &rows);
    writer.put(Section::Limits, &limits);
}

fn rule_row(
    rule: &Rule,
    id: u64,
    limit_index: u32,
    today: Date,
    pools: &mut Pools,
    lists: &mut Lists,
) -> RuleRow {
    let (name_first, name_bytes) = pools.name(&rule.name);
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

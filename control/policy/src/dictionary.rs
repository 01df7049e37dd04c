//! Names for what records and decisions tell in numbers.

use crate::prefix::{Span, address_bytes};
use crate::rate::Rate;
use crate::validate::ValidPolicy;
use abi::image::{BUILT_IN_SEGMENTS, RuleMode, Tier, rule_id};
use abi::verdict::OnChange;
use abi::{Action, Mode};
use acl::PolicyImage;
use core::net::IpAddr;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names and facts of one compiled policy. Keep one per epoch for as long as records of that epoch
/// may come.
#[derive(Clone, Debug)]
pub struct Dictionary {
    /// In the order of the file; the place is the image's rule index.
    pub rules: Arc<[RuleEntry]>,
    /// By the image's segment index: `any`, `internet`, `unmanaged`, then those of the file.
    pub segments: Vec<SegmentEntry>,
    /// In the order of the file.
    pub workloads: Vec<WorkloadEntry>,
    rule_by_id: Arc<HashMap<u64, u32>>,
    rule_lines: Arc<[u32]>,
    /// First and last address of each workload's prefixes, apart and ascending.
    addresses: Vec<(bool, u128, u128, u32)>,
    identities: Vec<Vec<u32>>,
}

/// A rule, as lists and explanations show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleEntry {
    /// Stable id, in records.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Tier.
    pub tier: Tier,
    /// Action.
    pub action: Action,
    /// Its own mode.
    pub mode: RuleMode,
    /// Segments of the initiator, by index.
    pub from: Vec<u32>,
    /// Segments of the responder, by index.
    pub to: Vec<u32>,
    /// Names of services; empty means any.
    pub services: Vec<String>,
    /// Rate and burst (tokens) of a limit.
    pub limit: Option<(Rate, u64)>,
    /// What a change of policy does to flows it decided.
    pub on_change: OnChange,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// Last day on which it matches.
    pub expires: Option<Date>,
    /// It had expired when the policy was compiled.
    pub expired: bool,
    /// What the author says about it.
    pub comment: Option<String>,
}

/// A segment, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Name.
    pub name: String,
    /// Mode; `None` for the built-in segments.
    pub mode: Option<Mode>,
    /// Its selector, where it has one.
    pub select: Option<String>,
    /// Its own prefixes, where it has no selector.
    pub addresses: Vec<String>,
    /// Workloads with at least one address in it, by index.
    pub workloads: Vec<u32>,
    /// Rules that name it, by index.
    pub rules: Arc<[u32]>,
    /// What the author says about it.
    pub comment: Option<String>,
    /// Line of the policy text, 0 for the built-in segments.
    pub line: u32,
}

/// A workload, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Name.
    pub name: String,
    /// Addresses as people write them.
    pub addresses: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Segments that at least one of its addresses is in, by index; `any` is left out.
    pub segments: Vec<u32>,
    /// Strictest mode of those.
    pub mode: Mode,
    /// Line of the policy text.
    pub line: u32,
}

/// What dictionaries of the same rules share, whoever the members of segments are.
#[derive(Debug)]
pub(crate) struct RuleEntries {
    rules: Arc<[RuleEntry]>,
    by_id: Arc<HashMap<u64, u32>>,
    /// Rules that name each segment, the built-in ones first.
    of_segment: Vec<Arc<[u32]>>,
}

impl RuleEntries {
    pub(crate) fn new(policy: &ValidPolicy, today: Date) -> Self {
        let rules: Arc<[RuleEntry]> = policy
            .rules
            .iter()
            .map(|rule| rule_entry(policy, rule, today))
            .collect();
        let mut of_segment = vec![Vec::new(); BUILT_IN_SEGMENTS.len() + policy.segments.len()];
        for (at, rule) in (0..).zip(rules.iter()) {
            let mut named: Vec<u32> = rule.from.iter().chain(&rule.to).copied().collect();
            named.sort_unstable();
            named.dedup();
            named.iter().for_each(|s| of_segment[*s as usize].push(at));
        }
        let by_id = (0..).zip(rules.iter()).map(|(at, rule)| (rule.id, at));
        Self {
            by_id: Arc::new(by_id.collect()),
            of_segment: of_segment.into_iter().map(Into::into).collect(),
            rules,
        }
    }
}

impl Dictionary {
    pub(crate) fn new(policy: &ValidPolicy, image: &PolicyImage, rules: &RuleEntries) -> Self {
        let mut addresses = Vec::new();
        let mut workloads = Vec::with_capacity(policy.workloads.len());
        for (index, workload) in (0..).zip(policy.workloads.iter()) {
            let spans: Vec<Span> = workload
                .addresses
                .iter()
                .map(|net| Span::from(*net))
                .collect();
            addresses.extend(spans.iter().map(|s| (s.v4, s.address, s.last(), index)));
            let identities = spans
                .iter()
                .map(|s| image.identity(&s.address.to_be_bytes()));
            let mut segments: Vec<u32> = identities
                .flat_map(|id| image.segments_of(id))
                .filter(|at| *at > 0)
                .collect();
            segments.sort_unstable();
            segments.dedup();
            let mode_of = |at: &u32| image.segment(*at).and_then(|segment| segment.mode);
            workloads.push(WorkloadEntry {
                name: workload.name.clone(),
                addresses: spans.iter().map(ToString::to_string).collect(),
                labels: workload.labels.clone(),
                mode: segments
                    .iter()
                    .filter_map(mode_of)
                    .max()
                    .unwrap_or(Mode::Observe),
                segments,
                line: workload.line,
            });
        }
        addresses.sort_unstable();
        addresses.dedup_by(|next, wide| next.0 == wide.0 && next.2 <= wide.2);
        let segments = segment_entries(policy, rules, &workloads);
        Self {
            rule_by_id: Arc::clone(&rules.by_id),
            rules: Arc::clone(&rules.rules),
            rule_lines: Arc::clone(&policy.rule_lines),
            segments,
            workloads,
            addresses,
            identities: (0..image.identity_count())
                .map(|id| image.segments_of(id).filter(|at| *at > 0).collect())
                .collect(),
        }
    }

    /// The rule of a record's rule id; `None` for 0 and for rules of other policies.
    #[must_use]
    pub fn rule(&self, id: u64) -> Option<&RuleEntry> {
        self.rules.get(*self.rule_by_id.get(&id)? as usize)
    }

    /// Line of the policy text where a rule stands, by the rule's index.
    #[must_use]
    pub fn rule_line(&self, index: u32) -> Option<u32> {
        self.rule_lines.get(index as usize).copied()
    }

    /// The workload that has an address; IPv4 is `::ffff:a.b.c.d`.
    #[must_use]
    pub fn workload(&self, address: &[u8; 16]) -> Option<&WorkloadEntry> {
        let bits = u128::from_be_bytes(*address);
        let v4 = bits >> 32 == 0xffff;
        let at = self
            .addresses
            .partition_point(|run| (run.0, run.2) < (v4, bits));
        let run = self
            .addresses
            .get(at)
            .filter(|run| run.0 == v4 && run.1 <= bits)?;
        self.workloads.get(run.3 as usize)
    }

    /// The workload that has an address.
    #[must_use]
    pub fn workload_at(&self, address: IpAddr) -> Option<&WorkloadEntry> {
        self.workload(&address_bytes(address))
    }

    /// Segments of a record's identity, by index, `any` left out.
    #[must_use]
    pub fn segments_of(&self, identity: u32) -> &[u32] {
        self.identities
            .get(identity as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// Names of the segments of a record's identity, `any` left out.
    pub fn segment_names(&self, identity: u32) -> impl Iterator<Item = &str> {
        self.segments_of(identity)
            .iter()
            .map(|at| self.segment_name(*at))
    }

    /// Name of a segment by its index.
    #[must_use]
    pub fn segment_name(&self, index: u32) -> &str {
        self.segments
            .get(index as usize)
            .map_or("?", |segment| segment.name.as_str())
    }
}

fn rule_entry(policy: &ValidPolicy, rule: &crate::validate::Rule, today: Date) -> RuleEntry {
    RuleEntry {
        id: rule_id(&rule.name),
        name: rule.name.clone(),
        tier: rule.tier,
        action: rule.action,
        mode: rule.mode,
        from: rule.from.clone(),
        to: rule.to.clone(),
        services: rule
            .services
            .iter()
            .filter_map(|at| policy.services.get(*at as usize))
            .map(|service| service.name.clone())
            .collect(),
        limit: rule.limit,
        on_change: rule.on_change,
        owner: rule.owner.clone(),
        ticket: rule.ticket.clone(),
        expires: rule.expires,
        expired: rule.expired(today),
        comment: rule.comment.clone(),
    }
}

fn segment_entries(
    policy: &ValidPolicy,
    rules: &RuleEntries,
    workloads: &[WorkloadEntry],
) -> Vec<SegmentEntry> {
    let built_in = BUILT_IN_SEGMENTS.map(|name| SegmentEntry {
        name: name.to_owned(),
        mode: None,
        select: None,
        addresses: Vec::new(),
        workloads: Vec::new(),
        rules: Arc::default(),
        comment: None,
        line: 0,
    });
    let own = policy.segments.iter().map(|segment| SegmentEntry {
        name: segment.name.clone(),
        mode: Some(segment.mode),
        select: segment.select.as_ref().map(ToString::to_string),
        addresses: segment
            .addresses
            .iter()
            .map(|net| Span::from(*net).to_string())
            .collect(),
        workloads: Vec::new(),
        rules: Arc::default(),
        comment: segment.comment.clone(),
        line: segment.line,
    });
    let mut entries: Vec<SegmentEntry> = built_in.into_iter().chain(own).collect();
    for (at, workload) in (0..).zip(workloads) {
        workload
            .segments
            .iter()
            .for_each(|s| entries[*s as usize].workloads.push(at));
    }
    for (entry, named) in entries.iter_mut().zip(&rules.of_segment) {
        entry.rules = Arc::clone(named);
    }
    entries
}

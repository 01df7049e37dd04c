//! Judges workloads, segments and services: who is who.

use super::{
    Judge, Names, Segment, Service, ValidPolicy, Workload, dns_name, is_dns_name, is_name, nameless,
};
use crate::file::{At, SegmentText, Words, WorkloadText};
use crate::limits::{
    ADDRESSES_MAX, DNS_NAMES_MAX, LABELS_MAX, PORTS_MAX, SEGMENTS_MAX, SERVICES_MAX, WORKLOADS_MAX,
};
use crate::prefix::{self, Span, internal_default};
use crate::problem::{Kind, Problem};
use crate::selector::{Selector, Test};
use crate::service::Port;
use abi::Mode;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};

/// The words of modes.
const MODES: [(&str, Mode); 3] = [
    ("observe", Mode::Observe),
    ("test", Mode::Test),
    ("enforce", Mode::Enforce),
];

impl Judge<'_> {
    /// Everything that rules speak of.
    pub(super) fn members(&mut self, policy: &mut ValidPolicy) {
        let file = self.file;
        if let Some(name) = &file.name {
            let mut names = Names::of(Kind::Policy);
            let _ = self.name(&mut names, 0, Some(name));
        }
        policy.internal = match &file.internal {
            Some(words) => self
                .prefixes(Kind::Policy, "internal", words)
                .into_iter()
                .map(|p| p.1)
                .collect(),
            None => internal_default(),
        };
        self.workloads(policy);
        self.segments(policy);
        self.services(policy);
    }

    /// The prefixes of a list, each with where it stands; the bad ones are told and left out.
    fn prefixes(&mut self, kind: Kind, name: &str, words: &Words) -> Vec<(usize, IpNet)> {
        self.count(
            words.at,
            "addresses in one list",
            words.value.len(),
            ADDRESSES_MAX,
        );
        let mut prefixes = Vec::with_capacity(words.value.len());
        for At { value, at } in &words.value {
            match prefix::parse(value) {
                Ok(net) => prefixes.push((*at, net)),
                Err(error) => self.problem(
                    *at,
                    Problem::Prefix {
                        kind,
                        name: name.to_owned(),
                        error,
                    },
                ),
            }
        }
        prefixes
    }

    /// Workloads, of a file that has nothing else.
    pub(super) fn only_workloads(&mut self, policy: &mut ValidPolicy) {
        self.workloads(policy);
    }

    fn workloads(&mut self, policy: &mut ValidPolicy) {
        let file = self.file;
        let at = file
            .workloads
            .get(WORKLOADS_MAX)
            .map_or(0, |first_over| first_over.at);
        self.count(at, "workloads", file.workloads.len(), WORKLOADS_MAX);
        let mut names = Names::of(Kind::Workload);
        let mut claims = Vec::new();
        let mut workloads = Vec::with_capacity(file.workloads.len());
        for (index, text) in file.workloads.iter().enumerate() {
            let name = self.name(&mut names, index, text.name.as_ref());
            let name = name.continue_value().unwrap_or_else(nameless);
            let addresses = text.addresses.as_ref().map_or(Vec::new(), |words| {
                if words.value.is_empty() && text.dns.is_none() {
                    let (kind, name) = (Kind::Workload, name.clone());
                    self.problem(
                        words.at,
                        Problem::Empty {
                            kind,
                            name,
                            key: "addresses",
                        },
                    );
                }
                self.prefixes(Kind::Workload, &name, words)
            });
            claims.extend(
                addresses
                    .iter()
                    .map(|(at, net)| (Span::from(*net), index, *at)),
            );
            let labels = self.labels(&name, text);
            let dns = self.dns(&name, text);
            workloads.push(Workload {
                name,
                addresses: addresses.into_iter().map(|(_, net)| net).collect(),
                dns,
                resolved_count: 0,
                labels,
                line: file.lines.line(text.at),
            });
        }
        self.resolve(&mut workloads, &claims);
        policy.workloads = workloads.into();
        self.claims(policy, claims);
    }

    /// The DNS names of a workload, as names are compared.
    fn dns(&mut self, workload: &str, text: &WorkloadText) -> Vec<String> {
        let Some(words) = &text.dns else {
            return Vec::new();
        };
        let count = words.value.len();
        self.count(words.at, "DNS names of one workload", count, DNS_NAMES_MAX);
        if count == 0 && text.addresses.as_ref().is_none_or(|a| a.value.is_empty()) {
            let workload = workload.to_owned();
            self.problem(words.at, Problem::NoAddress { workload });
        }
        for word in words.value.iter().filter(|word| !is_dns_name(&word.value)) {
            let (workload, found) = (workload.to_owned(), word.value.escape_debug().to_string());
            self.problem(word.at, Problem::DnsName { workload, found });
        }
        words
            .value
            .iter()
            .map(|word| dns_name(&word.value))
            .collect()
    }

    /// Gives workloads the addresses that their DNS names stand for. An address that is another
    /// workload's stays there: one that is written down before one that was resolved, and among
    /// those the first of the file.
    fn resolve(&mut self, workloads: &mut [Workload], claims: &[(Span, usize, usize)]) {
        let file = self.file;
        if file.resolved.is_empty() {
            return;
        }
        let written = Outermost::of(claims);
        let mut taken: HashMap<IpNet, usize> = HashMap::new();
        for index in 0..workloads.len() {
            let words = file.workloads[index]
                .dns
                .iter()
                .flat_map(|words| &words.value);
            for word in words {
                let stands_for = file.resolved.get(&dns_name(&word.value));
                for address in stands_for.into_iter().flatten() {
                    let net = IpNet::from(*address);
                    let owner = written.owner(Span::from(net));
                    match owner.unwrap_or_else(|| *taken.entry(net).or_insert(index)) {
                        owner if owner != index => {
                            let problem = Problem::ResolvedTwice {
                                workload: workloads[index].name.clone(),
                                name: word.value.clone(),
                                address: address.to_string(),
                                other: workloads[owner].name.clone(),
                                other_line: workloads[owner].line,
                            };
                            self.problem(word.at, problem);
                        }
                        _ if workloads[index].addresses.contains(&net) || owner.is_some() => {}
                        _ => {
                            workloads[index].addresses.push(net);
                            workloads[index].resolved_count += 1;
                        }
                    }
                }
            }
        }
    }

    fn labels(&mut self, workload: &str, text: &WorkloadText) -> BTreeMap<String, String> {
        self.count(
            text.at,
            "labels of one workload",
            text.labels.len(),
            LABELS_MAX,
        );
        for word in text.labels.iter().flat_map(|(key, value)| [key, value]) {
            if !is_name(&word.value) {
                let (workload, word_text) =
                    (workload.to_owned(), word.value.escape_debug().to_string());
                self.problem(
                    word.at,
                    Problem::BadLabel {
                        workload,
                        word: word_text,
                    },
                );
            }
        }
        text.labels
            .iter()
            .map(|(key, value)| (key.value.clone(), value.value.clone()))
            .collect()
    }

    /// An address belongs to one workload. Prefixes nest or are apart, so that after sorting a
    /// prefix can only lie within the last one that has not ended.
    fn claims(&mut self, policy: &ValidPolicy, mut claims: Vec<(Span, usize, usize)>) {
        claims.sort_unstable_by_key(|(span, index, at)| {
            (span.v4, span.address, span.length, *index, *at)
        });
        let mut open: Vec<(Span, usize)> = Vec::new();
        for (span, index, at) in claims {
            open.retain(|(wide, _)| wide.v4 == span.v4 && wide.last() >= span.last());
            if let Some((_, other)) = open.iter().find(|(_, other)| *other != index) {
                // Told where the later of the two workloads stands in the file.
                let (late, early) = (index.max(*other), index.min(*other));
                let at = if late == index {
                    at
                } else {
                    self.file.workloads[late].at
                };
                let problem = Problem::AddressTwice {
                    workload: policy.workloads[late].name.clone(),
                    address: span.to_string(),
                    other: policy.workloads[early].name.clone(),
                    other_line: policy.workloads[early].line,
                };
                self.problem(at, problem);
            }
            open.push((span, index));
        }
    }

    fn segments(&mut self, policy: &mut ValidPolicy) {
        let file = self.file;
        let at = file
            .segments
            .get(SEGMENTS_MAX)
            .map_or(0, |first_over| first_over.at);
        self.count(at, "segments", file.segments.len(), SEGMENTS_MAX);
        let index = LabelIndex::of(&policy.workloads);
        let mut names = Names::of(Kind::Segment);
        let mut segments = Vec::with_capacity(file.segments.len());
        for (place, text) in file.segments.iter().enumerate() {
            segments.push(self.segment(&mut names, place, text, &policy.workloads, &index));
        }
        policy.segments = segments.into();
    }

    fn segment(
        &mut self,
        names: &mut Names,
        place: usize,
        text: &SegmentText,
        workloads: &[Workload],
        index: &LabelIndex<'_>,
    ) -> Segment {
        let name = self.name(names, place, text.name.as_ref());
        let name = name.continue_value().unwrap_or_else(nameless);
        let mode = text
            .mode
            .as_ref()
            .and_then(|m| self.word((Kind::Segment, &name, "mode"), m, &MODES));
        let comment = self.note((Kind::Segment, &name, "comment"), text.comment.as_ref());
        let mut segment = Segment {
            name: name.clone(),
            mode: mode.unwrap_or(Mode::Enforce),
            select: None,
            addresses: Vec::new(),
            workloads: Vec::new(),
            comment,
            line: self.file.lines.line(text.at),
        };
        match (&text.select, &text.addresses) {
            (Some(select), Some(_)) => {
                self.problem(select.at, Problem::TwoMemberships { segment: name });
            }
            // Told by the reader, or of a wrong type.
            (None, None) => {}
            (Some(select), None) => match Selector::parse(&select.value) {
                Ok(selector) => {
                    segment.workloads = index.select(&selector, workloads);
                    if segment.workloads.is_empty() {
                        let selector = selector.to_string();
                        self.problem(
                            select.at,
                            Problem::SelectsNothing {
                                segment: name,
                                selector,
                            },
                        );
                    }
                    segment.select = Some(selector);
                }
                Err(error) => self.problem(
                    select.at,
                    Problem::Selector {
                        segment: name,
                        error,
                    },
                ),
            },
            (None, Some(words)) => {
                if words.value.is_empty() {
                    let problem = Problem::Empty {
                        kind: Kind::Segment,
                        name: name.clone(),
                        key: "addresses",
                    };
                    self.problem(words.at, problem);
                }
                let prefixes = self.prefixes(Kind::Segment, &name, words);
                segment.addresses = prefixes.into_iter().map(|(_, net)| net).collect();
            }
        }
        segment
    }

    fn services(&mut self, policy: &mut ValidPolicy) {
        let file = self.file;
        let at = file
            .services
            .get(SERVICES_MAX)
            .map_or(0, |first_over| first_over.at);
        self.count(at, "services", file.services.len(), SERVICES_MAX);
        let mut names = Names::of(Kind::Service);
        let mut services = Vec::with_capacity(file.services.len());
        for (index, text) in file.services.iter().enumerate() {
            let name = self.name(&mut names, index, text.name.as_ref());
            let name = name.continue_value().unwrap_or_else(nameless);
            let mut ports = Vec::new();
            if let Some(words) = &text.ports {
                self.count(
                    words.at,
                    "ports of one service",
                    words.value.len(),
                    PORTS_MAX,
                );
                if words.value.is_empty() {
                    let (kind, name) = (Kind::Service, name.clone());
                    self.problem(
                        words.at,
                        Problem::Empty {
                            kind,
                            name,
                            key: "ports",
                        },
                    );
                }
                for At { value, at } in &words.value {
                    match Port::parse(value) {
                        Ok(port) => ports.push(port),
                        Err(error) => {
                            self.problem(
                                *at,
                                Problem::Port {
                                    service: name.clone(),
                                    error,
                                },
                            );
                        }
                    }
                }
            }
            services.push(Service { name, ports });
        }
        policy.services = services.into();
    }
}

/// Prefixes that no other contains, ascending, each with the workload that claims it.
struct Outermost(Vec<(Span, usize)>);

impl Outermost {
    fn of(claims: &[(Span, usize, usize)]) -> Self {
        let mut all: Vec<(Span, usize)> = claims.iter().map(|(span, of, _)| (*span, *of)).collect();
        all.sort_unstable_by_key(|(span, index)| (span.v4, span.address, span.length, *index));
        let mut outermost: Vec<(Span, usize)> = Vec::with_capacity(all.len());
        for (span, index) in all {
            let within =
                |(wide, _): &(Span, usize)| wide.v4 == span.v4 && wide.last() >= span.last();
            if !outermost.last().is_some_and(within) {
                outermost.push((span, index));
            }
        }
        Self(outermost)
    }

    /// Who claims an address.
    fn owner(&self, host: Span) -> Option<usize> {
        let key = (host.v4, host.address);
        let behind = self
            .0
            .partition_point(|(span, _)| (span.v4, span.address) <= key);
        let (span, index) = self.0.get(behind.checked_sub(1)?)?;
        (span.v4 == host.v4 && span.last() >= host.address).then_some(*index)
    }
}

/// Workloads by label and value, so that a selector asks few of them.
struct LabelIndex<'w> {
    by_label: HashMap<(&'w str, &'w str), Vec<u32>>,
}

impl<'w> LabelIndex<'w> {
    fn of(workloads: &'w [Workload]) -> Self {
        let mut by_label: HashMap<_, Vec<u32>> = HashMap::new();
        for (index, workload) in (0..).zip(workloads) {
            for (key, value) in &workload.labels {
                by_label
                    .entry((key.as_str(), value.as_str()))
                    .or_default()
                    .push(index);
            }
        }
        Self { by_label }
    }

    /// Workloads that a selector selects, ascending. Begins with its rarest `=` or `in` term.
    fn select(&self, selector: &Selector, workloads: &[Workload]) -> Vec<u32> {
        let candidates = selector
            .terms
            .iter()
            .filter_map(|term| match &term.test {
                Test::AnyOf(values) => Some((term, values)),
                _ => None,
            })
            .map(|(term, values)| {
                let mut found: Vec<u32> = values
                    .iter()
                    .filter_map(|value| self.by_label.get(&(term.key.as_str(), value.as_str())))
                    .flatten()
                    .copied()
                    .collect();
                found.sort_unstable();
                found.dedup();
                found
            })
            .min_by_key(Vec::len);
        let all = || (0..).take(workloads.len()).collect();
        let mut selected: Vec<u32> = candidates.unwrap_or_else(all);
        selected.retain(|index| {
            workloads
                .get(*index as usize)
                .is_some_and(|workload| selector.selects(&workload.labels))
        });
        selected
    }
}

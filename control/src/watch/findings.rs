//! Findings: told once, kept up, bounded.

use super::edge::EdgeKey;
use super::sweep::Initiator;
use api::flow::Flow;
use api::watch::{
    DecidedBy, EdgeOutcome, Evidence, Finding, FindingKind, FindingSaid, FindingSeverity,
    FindingState,
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Flow ids of a finding.
pub const FLOW_IDS_MAX: usize = 8;
/// Responders and services of a finding.
pub const TARGETS_SHOWN_MAX: usize = 16;
/// Deciders of a finding.
pub const DECIDED_BY_MAX: usize = 8;
/// Sweeps of one initiator that are looked through for whether they are still the same.
pub const OF_ONE_MAX: usize = 64;
/// Things said about a finding; the oldest go.
pub const SAID_MAX: usize = 32;

/// What makes two findings the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Same {
    /// The edge.
    Edge(EdgeKey),
    /// One host's ports.
    Ports(Initiator, Initiator),
    /// Many hosts; of one service, or of several.
    Hosts(Initiator, Option<(u8, u16)>),
    /// Who fans out.
    FanOut(Initiator),
    /// Who is denied.
    Denied(Initiator),
    /// A chain of its own.
    Chain(u64),
}

impl Same {
    const fn initiator(&self) -> Option<&Initiator> {
        match self {
            Self::Ports(who, _) | Self::Hosts(who, _) | Self::FanOut(who) | Self::Denied(who) => {
                Some(who)
            }
            Self::Edge(_) | Self::Chain(_) => None,
        }
    }
}

/// How often something was found, by kind, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FindingCounts {
    /// Made, in the order of [`FindingKind::ALL`].
    pub made: [u64; FindingKind::ALL.len()],
    /// Given up because newer ones needed the room.
    pub out: u64,
}

/// All of them.
#[derive(Debug)]
pub struct FindingStore {
    findings: BTreeMap<u64, Finding>,
    same: HashMap<Same, u64>,
    keys: HashMap<u64, Same>,
    of_initiator: HashMap<Initiator, VecDeque<u64>>,
    new_edges: VecDeque<u64>,
    findings_max: usize,
    repeat_ns: u64,
    last_id: u64,
    change: u64,
    counts: FindingCounts,
}

impl FindingStore {
    /// None yet.
    #[must_use]
    pub fn new(findings_max: usize, repeat_ns: u64) -> Self {
        Self {
            findings: BTreeMap::new(),
            same: HashMap::new(),
            keys: HashMap::new(),
            of_initiator: HashMap::new(),
            new_edges: VecDeque::new(),
            findings_max,
            repeat_ns,
            last_id: 0,
            change: 0,
            counts: FindingCounts::default(),
        }
    }

    /// Those of an earlier process. What comes next of the same is a new finding, except of chains.
    pub fn restore(&mut self, findings: Vec<Finding>, last_id: u64, change: u64) {
        for finding in findings {
            self.last_id = self.last_id.max(finding.id);
            self.change = self.change.max(finding.change);
            if finding.kind == FindingKind::NewEdge {
                self.new_edges.push_back(finding.id);
            }
            self.findings.insert(finding.id, finding);
        }
        self.last_id = self.last_id.max(last_id);
        self.change = self.change.max(change);
    }

    /// The id that the next finding gets.
    #[must_use]
    pub const fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    /// Number of the last change.
    #[must_use]
    pub const fn change(&self) -> u64 {
        self.change
    }

    /// What was counted.
    #[must_use]
    pub const fn counts(&self) -> FindingCounts {
        self.counts
    }

    /// By id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Finding> {
        self.findings.get(&id)
    }

    /// By id, to be changed; call [`FindingStore::changed`] where it is worth telling.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Finding> {
        self.findings.get_mut(&id)
    }

    /// All, by id.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Finding> + ExactSizeIterator {
        self.findings.values()
    }

    /// The finding that more of the same at this time belongs to.
    #[must_use]
    pub fn current(&self, same: &Same, at_ns: u64) -> Option<u64> {
        let id = *self.same.get(same)?;
        let finding = self.findings.get(&id)?;
        let is_late = at_ns > finding.last_ts.0.saturating_add(self.repeat_ns);
        (finding.state != FindingState::Resolved && !is_late).then_some(id)
    }

    /// Findings of a kind that more of the same by an initiator would be added to now.
    ///
    /// # Bounded work
    /// Findings of one initiator are looked up, at most [`OF_ONE_MAX`] are kept.
    #[must_use]
    pub fn count_of(&self, who: &Initiator, kind: FindingKind, at_ns: u64) -> usize {
        let ids = self.of_initiator.get(who).into_iter().flatten();
        let is_current = |id: &&u64| {
            let same = self.keys.get(id);
            same.and_then(|same| self.current(same, at_ns)) == Some(**id)
        };
        ids.filter(is_current)
            .filter(|id| self.findings.get(id).is_some_and(|f| f.kind == kind))
            .count()
    }

    /// Adds a finding under the next id.
    pub fn add(&mut self, same: Same, mut finding: Finding) -> u64 {
        while self.findings.len() >= self.findings_max {
            // Of new edges there are many, and history has them all.
            let oldest = self
                .new_edges
                .pop_front()
                .or_else(|| self.findings.first_key_value().map(|(id, _)| *id));
            let Some(oldest) = oldest else { break };
            self.remove(oldest);
            self.counts.out += 1;
        }
        self.last_id += 1;
        let id = self.last_id;
        self.change += 1;
        finding.id = id;
        finding.change = self.change;
        let at = FindingKind::ALL.iter().position(|k| *k == finding.kind);
        self.counts.made[at.unwrap_or(0)] += 1;
        if finding.kind == FindingKind::NewEdge {
            self.new_edges.push_back(id);
        }
        if let Some(who) = same.initiator() {
            let ids = self.of_initiator.entry(who.clone()).or_default();
            if ids.len() >= OF_ONE_MAX {
                ids.pop_front();
            }
            ids.push_back(id);
        }
        self.keys.insert(id, same.clone());
        self.same.insert(same, id);
        self.findings.insert(id, finding);
        id
    }

    fn remove(&mut self, id: u64) {
        self.findings.remove(&id);
        let Some(same) = self.keys.remove(&id) else {
            return;
        };
        if let Some(who) = same.initiator()
            && let Some(ids) = self.of_initiator.get_mut(who)
        {
            ids.retain(|of| *of != id);
            if ids.is_empty() {
                self.of_initiator.remove(who);
            }
        }
        if self.same.get(&same) == Some(&id) {
            self.same.remove(&same);
        }
    }

    /// A finding has changed in a way that is worth telling.
    pub fn changed(&mut self, id: u64) {
        if let Some(finding) = self.findings.get_mut(&id) {
            self.change += 1;
            finding.change = self.change;
        }
    }

    /// Raises a finding's severity, never lowers it; tells where that is worth telling.
    pub fn raise(&mut self, id: u64, severity: FindingSeverity) {
        if self
            .findings
            .get(&id)
            .is_some_and(|f| f.severity < severity)
        {
            if let Some(finding) = self.findings.get_mut(&id) {
                finding.severity = severity;
            }
            self.changed(id);
        }
    }

    /// Somebody says something about a finding.
    pub fn say(&mut self, id: u64, said: FindingSaid) -> Option<Finding> {
        let finding = self.findings.get_mut(&id)?;
        finding.state = said.state;
        if finding.said.len() >= SAID_MAX {
            finding.said.remove(0);
        }
        finding.said.push(said);
        self.changed(id);
        self.findings.get(&id).cloned()
    }
}

/// Adds what a flow record tells to the evidence of a finding.
pub(super) fn add_evidence(evidence: &mut Evidence, flow: &Flow, outcome: EdgeOutcome) {
    let aggregate = flow.aggregate.as_ref();
    let flows = flow.flows_begun();
    evidence.flows = evidence.flows.saturating_add(flows);
    evidence.packets = evidence.packets.saturating_add(flow.packets());
    evidence.bytes = evidence.bytes.saturating_add(flow.bytes());
    let refused = aggregate.map_or(0, |a| a.refused);
    let attempts = aggregate.map_or(1, |a| a.flows.saturating_sub(a.refused));
    evidence.refused += refused;
    *match outcome {
        EdgeOutcome::Answered => &mut evidence.answered,
        EdgeOutcome::Unanswered => &mut evidence.unanswered,
        EdgeOutcome::Refused => &mut evidence.refused,
        EdgeOutcome::Denied => &mut evidence.denied,
    } += attempts;
    evidence.initiator_evidence = evidence.initiator_evidence.min(flow.initiator_evidence);
    if evidence.flow_ids.len() < FLOW_IDS_MAX && !evidence.flow_ids.contains(&flow.flow_id) {
        evidence.flow_ids.push(flow.flow_id);
    }
    let target = format!("{} {}", flow.dst_label(), flow.service_label());
    if evidence.targets.len() < TARGETS_SHOWN_MAX && !evidence.targets.contains(&target) {
        evidence.targets.push(target);
    }
    let is_same = |d: &&mut DecidedBy| {
        d.verdict == flow.verdict && d.source == flow.verdict_source && d.rule == flow.rule
    };
    let has_room = evidence.decided_by.len() < DECIDED_BY_MAX;
    match evidence.decided_by.iter_mut().find(is_same) {
        Some(decided) => decided.records += 1,
        None if has_room => evidence.decided_by.push(DecidedBy {
            verdict: flow.verdict,
            source: flow.verdict_source,
            rule: flow.rule.clone(),
            records: 1,
        }),
        None => {}
    }
}

//! The detector: one flow record after the other, no clock, no file. What it finds depends on the records and their
//! order alone.

mod sweeps;

use super::baseline::{Baseline, Novelty};
use super::chain::{AdminEdge, Chains};
use super::edge::{
    AdminServices, Attempt, EdgeKey, EndKey, ends, is_allowed_by_rule, is_guessed, technique,
};
use super::findings::{FindingStore, Same, add_evidence};
use super::sweep::{Sweeps, Thresholds};
use crate::config::WatchConfig;
use api::Ts;
use api::flow::Flow;
use api::history::Conversation;
use api::watch::{
    EdgeOutcome, Evidence, Finding, FindingKind, FindingSaid, FindingSeverity, FindingState, Hop,
    WatchEnd,
};
use std::sync::Arc;

/// Remote services.
const REMOTE_SERVICES: &str = "T1021";

/// Judges flow records against what is known.
#[derive(Debug)]
pub struct Detector {
    config: WatchConfig,
    services: AdminServices,
    /// What is known.
    pub baseline: Baseline,
    sweeps: Sweeps,
    /// Novel administrative edges.
    pub chains: Chains,
    /// What was found.
    pub findings: FindingStore,
    records: u64,
    /// The newest packet of any record.
    now_ns: u64,
}

/// What a finding is made of.
struct Found<'f> {
    same: Same,
    kind: FindingKind,
    severity: FindingSeverity,
    flow: &'f Flow,
    dst: Option<WatchEnd>,
    service: Option<Arc<str>>,
    sentence: String,
    technique: Option<&'static str>,
}

impl Detector {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: &WatchConfig) -> Self {
        let thresholds = Thresholds {
            window_ns: config.sweep_window.ns(),
            fan_out: config.fan_out_min,
            ports: config.port_sweep_min,
            hosts: config.host_sweep_min,
            denied: config.denied_min as u64,
            denied_targets: config.denied_targets_min,
        };
        Self {
            services: AdminServices::new(&config.admin_services),
            baseline: Baseline::new(config.edges_max, config.forget.ns()),
            sweeps: Sweeps::new(thresholds),
            chains: Chains::new(config.chain_window.ns()),
            findings: FindingStore::new(config.findings_max, config.repeat.ns()),
            records: 0,
            now_ns: 0,
            config: config.clone(),
        }
    }

    /// Flow records judged.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Initiators whose attempts were given up because others needed the room.
    #[must_use]
    pub const fn sources_out(&self) -> u64 {
        self.sweeps.out()
    }

    /// The newest packet of any record, nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Whether less was watched, until this time, than is asked for.
    #[must_use]
    pub fn is_learning(&self, at_ns: u64) -> bool {
        let since = self.baseline.since_ns().unwrap_or(at_ns);
        at_ns.saturating_sub(since) < self.config.learning.ns()
    }

    /// Whether a service administers hosts.
    #[must_use]
    pub fn is_administrative(&self, key: &EdgeKey) -> bool {
        self.services.contain(key.proto, key.port)
    }

    /// Learns from history.
    pub fn learn(&mut self, conversation: &Conversation) {
        self.baseline.watched(conversation.first_ts.0);
        if let Some(attempt) = self.services.attempt_of_conversation(conversation) {
            self.baseline.learn(&attempt);
        }
    }

    /// Somebody says something about a finding. The edges of a chain that is resolved are no longer novel.
    pub fn say(&mut self, id: u64, said: FindingSaid) -> Option<Finding> {
        if said.state == FindingState::Resolved {
            self.chains.leave(id);
        }
        self.findings.say(id, said)
    }

    /// Judges a record.
    ///
    /// # Bounded work
    /// One look-up where the edge is known; else by the limits of sweeps and chains.
    pub fn observe(&mut self, flow: &Flow) {
        self.records += 1;
        self.now_ns = self.now_ns.max(flow.last_ns);
        self.baseline.watched(flow.first_ns);
        if let Some(aggregate) = &flow.aggregate {
            self.folded(flow, aggregate);
        } else if let Some(attempt) = self.services.attempt_of(flow) {
            let reply_of = self.services.reversed(flow, &attempt.key);
            // The answering half of a known edge, whose beginning was not seen.
            if !reply_of.is_some_and(|key| self.baseline.known(&key).is_some_and(|k| k.answered)) {
                self.judge(flow, &attempt);
            }
        }
    }

    fn judge(&mut self, flow: &Flow, attempt: &Attempt) {
        let novelty = self.baseline.novelty(attempt);
        let mut is_sweep = false;
        if novelty != Novelty::Known || attempt.outcome == EdgeOutcome::Denied {
            let denied = u64::from(attempt.outcome == EdgeOutcome::Denied) * flow.flows_begun();
            let crossed = self.sweeps.add(attempt, denied);
            is_sweep = !crossed.is_empty();
            for crossed in crossed {
                self.crossed(flow, attempt, crossed);
            }
        }
        // What a sweep tries and does not get must push nothing out of the baseline.
        if attempt.outcome == EdgeOutcome::Answered || !is_sweep {
            self.baseline.learn(attempt);
        }
        let is_new = match novelty {
            Novelty::New => matches!(attempt.outcome, EdgeOutcome::Answered | EdgeOutcome::Denied),
            Novelty::FirstAnswer => true,
            Novelty::Known | Novelty::TriedBefore => false,
        };
        if is_new {
            self.new_edge(flow, attempt);
        } else {
            self.more_of(flow, attempt);
        }
    }

    /// More of an edge that was new a while ago.
    fn more_of(&mut self, flow: &Flow, attempt: &Attempt) {
        let at_ns = flow.first_ns;
        if let Some(id) = self
            .findings
            .current(&Same::Edge(attempt.key.clone()), at_ns)
            && let Some(finding) = self.findings.get_mut(id)
        {
            touch(finding, flow, attempt.outcome);
        }
        if let Some(edge) = self.chains.get_mut(&attempt.key) {
            let hop = &mut edge.hop;
            hop.last_ts = hop.last_ts.max(Ts(flow.last_ns));
            hop.flows += flow.flows_begun();
            hop.packets = hop.packets.saturating_add(flow.packets());
            hop.bytes = hop.bytes.saturating_add(flow.bytes());
            self.chain(flow, attempt);
        }
    }

    fn new_edge(&mut self, flow: &Flow, attempt: &Attempt) {
        let is_admin = self.is_administrative(&attempt.key);
        let is_expected = is_among(&flow.src_segments, &self.config.expected_admin);
        let is_kept = attempt.outcome == EdgeOutcome::Answered
            && (!self.is_learning(flow.first_ns) || self.config.alarm_while_learning);
        if is_kept {
            self.tell_new_edge(flow, attempt, is_admin, is_expected);
        }
        if is_admin && !is_expected && attempt.key.dst != EndKey::Internet {
            self.chains.insert(AdminEdge {
                key: attempt.key.clone(),
                hop: hop(flow, attempt),
                finding: None,
            });
            self.chain(flow, attempt);
        }
    }

    fn tell_new_edge(&mut self, flow: &Flow, attempt: &Attempt, is_admin: bool, expected: bool) {
        let is_allowed = is_allowed_by_rule(flow);
        let severity = match (is_admin && !expected, is_allowed) {
            (true, false) => FindingSeverity::Medium,
            (true, true) => FindingSeverity::Low,
            (false, _) => FindingSeverity::Info,
        };
        let [src, dst] = ends(flow);
        let service: Arc<str> = flow.service_label().into();
        let sentence = format!(
            "{} reached {} on {service} for the first time",
            src.label(),
            dst.label()
        );
        let same = Same::Edge(attempt.key.clone());
        let id = self.found(
            Found {
                same,
                kind: FindingKind::NewEdge,
                severity,
                flow,
                dst: Some(dst),
                service: Some(service),
                sentence,
                technique: technique(attempt.key.proto, attempt.port).filter(|_| is_admin),
            },
            attempt.outcome,
        );
        let Some(finding) = self.findings.get_mut(id).filter(|f| f.hops.is_empty()) else {
            return;
        };
        finding.hops = vec![hop(flow, attempt)];
        finding.remarks.push(match &flow.rule {
            Some(rule) if is_allowed => {
                format!("rule {rule} allows it: expected by the policy, and yet never seen before")
            }
            _ => format!("no rule allows it: decided by {}", flow.verdict_source),
        });
        if expected {
            let said = "its initiator is in a segment of watch.expected_admin";
            finding.remarks.push(said.to_owned());
        }
        weigh_evidence(finding, flow);
    }

    /// Makes a finding, or adds to the one that it is more of.
    fn found(&mut self, found: Found<'_>, outcome: EdgeOutcome) -> u64 {
        let flow = found.flow;
        if let Some(id) = self.findings.current(&found.same, flow.first_ns) {
            if let Some(finding) = self.findings.get_mut(id) {
                finding.sentence = found.sentence;
                touch(finding, flow, outcome);
            }
            self.findings.raise(id, found.severity);
            return id;
        }
        let [src, _] = ends(flow);
        let mut finding = Finding {
            id: 0,
            kind: found.kind,
            severity: found.severity,
            learning: self.is_learning(flow.first_ns),
            state: FindingState::Open,
            first_ts: Ts(flow.first_ns),
            last_ts: Ts(flow.last_ns),
            src,
            dst: found.dst,
            service: found.service,
            sentence: found.sentence,
            technique: found.technique.map(str::to_owned),
            evidence: Evidence::default(),
            hops: Vec::new(),
            hops_left_out: 0,
            remarks: Vec::new(),
            said: Vec::new(),
            change: 0,
        };
        touch(&mut finding, flow, outcome);
        self.findings.add(found.same, finding)
    }

    /// Joins an administrative edge with what it follows from and what follows from it.
    fn chain(&mut self, flow: &Flow, attempt: &Attempt) {
        let neighbours = self.chains.neighbours(&attempt.key);
        if neighbours.is_empty() {
            return;
        }
        let mut keys: Vec<EdgeKey> = neighbours.iter().map(|e| e.key.clone()).collect();
        let mut ids: Vec<u64> = neighbours.iter().filter_map(|e| e.finding).collect();
        keys.push(attempt.key.clone());
        ids.extend(self.chains.get_mut(&attempt.key).and_then(|e| e.finding));
        let is_open = |id: &u64| {
            let finding = self.findings.get(*id);
            finding.is_some_and(|f| f.state != FindingState::Resolved)
        };
        ids.retain(is_open);
        ids.sort_unstable();
        ids.dedup();
        let id = match ids.first() {
            Some(id) => *id,
            None => self.new_chain(flow, attempt),
        };
        let merged = ids.get(1..).unwrap_or_default();
        self.chains.join(id, &keys, merged);
        for other in merged {
            self.merge(*other, id, flow.last_ns);
        }
        self.tell_chain(id);
    }

    fn new_chain(&mut self, flow: &Flow, attempt: &Attempt) -> u64 {
        let same = Same::Chain(self.findings.next_id());
        let found = Found {
            same,
            kind: FindingKind::Chain,
            severity: FindingSeverity::Info,
            flow,
            dst: None,
            service: None,
            sentence: String::new(),
            technique: Some(REMOTE_SERVICES),
        };
        self.found(found, attempt.outcome)
    }

    /// A chain turned out to be part of another.
    fn merge(&mut self, part: u64, whole: u64, at_ns: u64) {
        let said = FindingSaid {
            ts: Ts(at_ns),
            author: "watch".to_owned(),
            state: FindingState::Resolved,
            note: format!("part of {whole}"),
        };
        self.findings.say(part, said);
    }

    /// Writes a chain's finding anew, out of its edges.
    fn tell_chain(&mut self, id: u64) {
        let edges = self.chains.of(id);
        let (Some(first), (longest, reached)) = (edges.first(), self.chains.longest(&edges)) else {
            return;
        };
        let hops: Vec<Hop> = edges.iter().map(|edge| edge.hop.clone()).collect();
        let (src, dst) = (
            first.hop.src.clone(),
            edges.last().map(|e| e.hop.dst.clone()),
        );
        let mut severity = match reached {
            0..=1 => FindingSeverity::Medium,
            2 => FindingSeverity::High,
            _ => FindingSeverity::Critical,
        };
        let mut remarks = Vec::new();
        if reached < 2 {
            remarks.push("it was stopped: no second hop was answered".to_owned());
        }
        let guessed = hops.iter().filter(|h| is_guessed(h.initiator_evidence));
        for hop in guessed.clone() {
            let evidence = hop.initiator_evidence;
            let label = hop.label();
            remarks.push(format!("who began {label} is a guess ({evidence})"));
        }
        if guessed.count() > 0 {
            severity = severity.lowered();
        }
        if hops
            .iter()
            .all(|hop| hop.rule.is_some() && hop.verdict.permits())
        {
            remarks.push("every hop is allowed by a rule, and none was seen before".to_owned());
        }
        let sentence = path_sentence(&hops, longest);
        let kept = hops.len().min(self.config.chain_hops_max);
        let left_out = (hops.len() - kept) as u64;
        let Some(finding) = self.findings.get_mut(id) else {
            return;
        };
        let is_longer = hops.len() as u64 > finding.hops.len() as u64 + finding.hops_left_out;
        finding.evidence = evidence_of(&hops);
        (finding.first_ts, finding.src, finding.dst) = (hops[0].first_ts, src, dst);
        finding.last_ts = hops.iter().map(|h| h.last_ts).max().unwrap_or_default();
        (finding.sentence, finding.remarks) = (sentence, remarks);
        finding.hops = hops.into_iter().take(kept).collect();
        finding.hops_left_out = left_out;
        let differs = finding.severity != severity;
        finding.severity = severity;
        if is_longer || differs {
            self.findings.changed(id);
        }
    }
}

/// More of a finding.
fn touch(finding: &mut Finding, flow: &Flow, outcome: EdgeOutcome) {
    finding.first_ts = finding.first_ts.min(Ts(flow.first_ns));
    finding.last_ts = finding.last_ts.max(Ts(flow.last_ns));
    add_evidence(&mut finding.evidence, flow, outcome);
}

/// Lowers the severity of what rests on a guess, and says so.
fn weigh_evidence(finding: &mut Finding, flow: &Flow) {
    if is_guessed(flow.initiator_evidence) {
        finding.severity = finding.severity.lowered();
        let evidence = flow.initiator_evidence;
        let remark = format!("who began is a guess ({evidence}): it may be the other way round");
        finding.remarks.push(remark);
    }
}

fn is_among(segments: &[Arc<str>], expected: &[String]) -> bool {
    let mut segments = segments.iter();
    segments.any(|segment| expected.iter().any(|name| **name == **segment))
}

fn hop(flow: &Flow, attempt: &Attempt) -> Hop {
    let [src, dst] = ends(flow);
    Hop {
        src,
        dst,
        proto: flow.proto,
        port: attempt.port,
        service: flow.service_label().into(),
        first_ts: Ts(flow.first_ns),
        last_ts: Ts(flow.last_ns),
        outcome: attempt.outcome,
        verdict: flow.verdict,
        verdict_source: flow.verdict_source,
        rule: flow.rule.clone(),
        initiator_evidence: flow.initiator_evidence,
        technique: technique(flow.proto, attempt.port).map(str::to_owned),
        flow_id: flow.flow_id,
        flows: flow.flows_begun(),
        packets: flow.packets(),
        bytes: flow.bytes(),
    }
}

/// `a -> b (tcp/22) -> c (tcp/445): 2 novel administrative hops`
fn path_sentence(hops: &[Hop], longest: usize) -> String {
    let mut sentence = hops.first().map_or_else(String::new, |h| h.src.label());
    let mut at = sentence.clone();
    let mut branches = 0;
    for hop in hops {
        if hop.src.label() == at {
            at = hop.dst.label();
            sentence = format!("{sentence} -> {at} ({})", hop.service);
        } else {
            branches += 1;
        }
    }
    let more = match branches {
        0 => String::new(),
        1 => ", and 1 hop beside the path".to_owned(),
        more => format!(", and {more} hops beside the path"),
    };
    format!("{sentence}: {longest} hops in a row over novel administrative edges{more}")
}

fn evidence_of(hops: &[Hop]) -> Evidence {
    let mut evidence = Evidence::default();
    for hop in hops {
        evidence.flows += hop.flows;
        evidence.packets = evidence.packets.saturating_add(hop.packets);
        evidence.bytes = evidence.bytes.saturating_add(hop.bytes);
        *match hop.outcome {
            EdgeOutcome::Answered => &mut evidence.answered,
            EdgeOutcome::Unanswered => &mut evidence.unanswered,
            EdgeOutcome::Refused => &mut evidence.refused,
            EdgeOutcome::Denied => &mut evidence.denied,
        } += 1;
        evidence.initiator_evidence = evidence.initiator_evidence.min(hop.initiator_evidence);
        if evidence.flow_ids.len() < super::findings::FLOW_IDS_MAX {
            evidence.flow_ids.push(hop.flow_id);
        }
    }
    let mut hosts: Vec<_> = hops.iter().map(|h| h.dst.label()).collect();
    let mut services: Vec<_> = hops.iter().map(|h| &h.service).collect();
    hosts.sort_unstable();
    hosts.dedup();
    services.sort_unstable();
    services.dedup();
    evidence.destinations = hosts.len() as u64;
    evidence.services = services.len() as u64;
    evidence
}

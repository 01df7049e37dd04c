//! What becomes of attempts that are many: sweeps, fan-outs, bursts of denials.

use super::super::edge::{Attempt, EndKey, ends, outcome};
use super::super::findings::Same;
use super::super::sweep::{Crossed, Initiator};
use super::{Detector, Found, REMOTE_SERVICES, is_among};
use api::flow::{Aggregate, Flow};
use api::watch::{FindingKind, FindingSeverity, WatchEnd};
use std::sync::Arc;

/// Sweeps of one kind by one initiator that are told apart by host or service; further ones are told together.
const SWEEPS_APART_MAX: usize = 3;
/// Network service discovery.
const DISCOVERY: &str = "T1046";

/// What is many, in words.
struct Many {
    same: Same,
    kind: FindingKind,
    dst: Option<WatchEnd>,
    service: Option<Arc<str>>,
    sentence: String,
}

/// What knocks from the internet is the weather there.
const fn sweep_severity(who: &Initiator) -> FindingSeverity {
    match who {
        Initiator::External(_) => FindingSeverity::Low,
        Initiator::Internal(_) => FindingSeverity::Medium,
    }
}

impl Detector {
    /// Tells what an attempt made many.
    pub(super) fn crossed(&mut self, flow: &Flow, attempt: &Attempt, crossed: Crossed) {
        if is_among(&flow.src_segments, &self.config.expected_sweep) {
            return;
        }
        let who = Initiator::of(&attempt.key.src, attempt.src);
        let severity = sweep_severity(&who);
        let distinct = self.sweeps.distinct(&who);
        let Some(many) = self.many(flow, attempt, who, crossed) else {
            return;
        };
        let is_admin = self.is_administrative(&attempt.key);
        let (technique, severity) = match many.kind {
            FindingKind::FanOut if is_admin => (Some(REMOTE_SERVICES), FindingSeverity::High),
            FindingKind::FanOut => (None, FindingSeverity::Medium),
            FindingKind::DeniedBurst => (None, severity),
            _ => (Some(DISCOVERY), severity),
        };
        let found = Found {
            same: many.same,
            kind: many.kind,
            severity,
            flow,
            dst: many.dst,
            service: many.service,
            sentence: many.sentence,
            technique,
        };
        let id = self.found(found, attempt.outcome);
        self.reached_most(id, distinct);
    }

    fn many(
        &self,
        flow: &Flow,
        attempt: &Attempt,
        who: Initiator,
        crossed: Crossed,
    ) -> Option<Many> {
        let at_ns = flow.first_ns;
        let [src, dst] = ends(flow);
        let (from, to) = (src.label(), dst.label());
        let window = humantime::format_duration(self.config.sweep_window.0);
        let many = |same, kind, sentence| Many {
            same,
            kind,
            dst: None,
            service: None,
            sentence,
        };
        Some(match crossed {
            Crossed::Ports { ports } => {
                let host = Initiator::of(&attempt.key.dst, attempt.dst);
                let same = Same::Ports(who.clone(), host);
                if !self.is_apart(&same, &who, FindingKind::PortSweep, at_ns) {
                    return Some(self.all_over(&from, who));
                }
                let sentence = format!("{from} tried {ports} ports of {to} within {window}");
                Many {
                    dst: Some(dst),
                    ..many(same, FindingKind::PortSweep, sentence)
                }
            }
            Crossed::Hosts { hosts } => {
                let one = Some((attempt.key.proto, attempt.port));
                let same = Same::Hosts(who.clone(), one);
                if !self.is_apart(&same, &who, FindingKind::HostSweep, at_ns) {
                    return Some(self.all_over(&from, who));
                }
                let service: Arc<str> = flow.service_label().into();
                let sentence = format!("{from} tried {service} at {hosts} hosts within {window}");
                Many {
                    service: Some(service),
                    ..many(same, FindingKind::HostSweep, sentence)
                }
            }
            Crossed::FanOut { hosts } => {
                let sentence = format!(
                    "{from} reached {hosts} hosts within {window} that it never spoke to before"
                );
                many(Same::FanOut(who), FindingKind::FanOut, sentence)
            }
            Crossed::Denied { flows, targets } => {
                let kinds = [FindingKind::PortSweep, FindingKind::HostSweep];
                let count = |kind: &FindingKind| self.findings.count_of(&who, *kind, at_ns);
                // A sweep says it already.
                if kinds.iter().map(count).sum::<usize>() > 0 {
                    return None;
                }
                let sentence = format!(
                    "{from} was denied {flows} flows to {targets} ends and services within {window}"
                );
                many(Same::Denied(who), FindingKind::DeniedBurst, sentence)
            }
        })
    }

    /// Whether a sweep has a finding of its own, or may have one.
    fn is_apart(&self, same: &Same, who: &Initiator, kind: FindingKind, at_ns: u64) -> bool {
        self.findings.current(same, at_ns).is_some()
            || self.findings.count_of(who, kind, at_ns) < SWEEPS_APART_MAX
    }

    /// Many services at many hosts.
    fn all_over(&self, from: &str, who: Initiator) -> Many {
        let (hosts, services) = self.sweeps.distinct(&who);
        let window = humantime::format_duration(self.config.sweep_window.0);
        Many {
            same: Same::Hosts(who, None),
            kind: FindingKind::HostSweep,
            dst: None,
            service: None,
            sentence: format!("{from} tried {services} services at {hosts} hosts within {window}"),
        }
    }

    /// The evidence tells the most of distinct hosts and services that was seen at once.
    fn reached_most(&mut self, id: u64, (hosts, services): (u64, u64)) {
        if let Some(finding) = self.findings.get_mut(id) {
            let evidence = &mut finding.evidence;
            evidence.destinations = evidence.destinations.max(hosts);
            evidence.services = evidence.services.max(services);
        }
    }

    /// Many flows of one source in one record.
    pub(super) fn folded(&mut self, flow: &Flow, aggregate: &Aggregate) {
        let is_expected = is_among(&flow.src_segments, &self.config.expected_sweep);
        if aggregate.is_of_many_sources() || is_expected {
            return;
        }
        let key = EndKey::of(flow.src, flow.src_name.as_ref(), &flow.src_segments);
        let who = Initiator::of(&key, flow.src);
        let count = |of: u32| usize::try_from(of).unwrap_or(usize::MAX);
        let is_hosts = count(aggregate.destinations) >= self.config.host_sweep_min;
        let is_ports = count(aggregate.ports) >= self.config.port_sweep_min;
        if !is_hosts && !is_ports {
            return;
        }
        let severity = sweep_severity(&who);
        let many = folded_many(flow, aggregate, who, is_hosts);
        let found = Found {
            same: many.same,
            kind: many.kind,
            severity,
            flow,
            dst: many.dst,
            service: many.service,
            sentence: many.sentence,
            technique: Some(DISCOVERY),
        };
        let id = self.found(found, outcome(flow));
        let (hosts, ports) = (aggregate.destinations, aggregate.ports);
        self.reached_most(id, (u64::from(hosts), u64::from(ports)));
    }
}

fn folded_many(flow: &Flow, aggregate: &Aggregate, who: Initiator, is_hosts: bool) -> Many {
    let [src, dst] = ends(flow);
    let from = src.label();
    let Aggregate {
        destinations,
        ports,
        ..
    } = aggregate;
    if *destinations > 1 {
        let one = *ports == 1 && aggregate.protocols.len() == 1;
        let kind = if is_hosts {
            FindingKind::HostSweep
        } else {
            FindingKind::PortSweep
        };
        let service = flow.service_label();
        return Many {
            same: Same::Hosts(who, one.then_some((flow.proto, aggregate.port_low))),
            kind,
            dst: None,
            service: None,
            sentence: format!("{from} tried {service} at {destinations} hosts"),
        };
    }
    let key = EndKey::of(flow.dst, flow.dst_name.as_ref(), &flow.dst_segments);
    let sentence = format!("{from} tried {ports} ports of {}", dst.label());
    Many {
        same: Same::Ports(who, Initiator::of(&key, flow.dst)),
        kind: FindingKind::PortSweep,
        dst: Some(dst),
        service: None,
        sentence,
    }
}

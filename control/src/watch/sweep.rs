//! Sweeps: what one initiator tries within a window, added up as it comes.
//!
//! Only what the baseline does not know as answered comes here, each target once a window, so that a busy client costs
//! nothing and cannot alarm.

use super::baseline::oldest_out;
use super::edge::{Attempt, EndKey, TCP, UDP};
use api::watch::EdgeOutcome;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Initiators that are looked at; those silent for the longest time make room.
pub const SOURCES_MAX: usize = 4096;
/// Targets of all initiators together; the same.
pub const TARGETS_MAX: usize = 262_144;
/// Targets of one initiator; further ones are not told apart.
pub const TARGETS_OF_ONE_MAX: usize = 4096;
/// Of targets, at least one in so many must have failed for it to be a sweep.
const FAILED_PART: u32 = 2;
/// What makes room at once: one in so many.
const OUT_PART: usize = 16;

/// What is many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// How long targets are added up, nanoseconds.
    pub window_ns: u64,
    /// Hosts newly reached.
    pub fan_out: usize,
    /// Ports of one host.
    pub ports: usize,
    /// Hosts of one service.
    pub hosts: usize,
    /// Denied flows ...
    pub denied: u64,
    /// ... at so many targets.
    pub denied_targets: usize,
}

/// Who tries, by name or, of the internet too, by address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Initiator {
    /// A workload, or an internal address.
    Internal(EndKey),
    /// Any other address.
    External(IpAddr),
}

impl Initiator {
    /// Of an attempt.
    #[must_use]
    pub fn of(key: &EndKey, address: IpAddr) -> Self {
        match key {
            EndKey::Internet => Self::External(address),
            internal => Self::Internal(internal.clone()),
        }
    }
}

/// What was tried: a port of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    host: Initiator,
    proto: u8,
    port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    at_ns: u64,
    outcome: EdgeOutcome,
}

/// Distinct targets, and those of them that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    targets: u32,
    failed: u32,
}

impl Tally {
    const fn is_sweep(self) -> bool {
        self.failed * FAILED_PART >= self.targets
    }

    const fn is_reached(self) -> bool {
        self.failed < self.targets
    }
}

/// What one initiator tries.
#[derive(Debug, Default)]
struct Source {
    newest_ns: u64,
    targets: HashMap<Target, Tried>,
    order: VecDeque<(u64, Target)>,
    hosts: HashMap<Initiator, Tally>,
    services: HashMap<(u8, u16), Tally>,
    /// Internal hosts of which at least one target did not fail.
    reached: usize,
    denied: VecDeque<(u64, u64)>,
    denied_flows: u64,
    denied_targets: usize,
}

/// Something crossed its threshold, or is still above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossed {
    /// Hosts newly reached.
    FanOut {
        /// How many.
        hosts: usize,
    },
    /// Ports of the responder.
    Ports {
        /// How many.
        ports: usize,
    },
    /// Hosts of the service.
    Hosts {
        /// How many.
        hosts: usize,
    },
    /// Denied flows.
    Denied {
        /// How many within the window.
        flows: u64,
        /// At how many targets.
        targets: usize,
    },
}

/// What every initiator tries.
#[derive(Debug)]
pub struct Sweeps {
    thresholds: Thresholds,
    sources: HashMap<Initiator, Source>,
    targets: usize,
    out: u64,
}

impl Sweeps {
    /// Nobody tries anything yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            sources: HashMap::new(),
            targets: 0,
            out: 0,
        }
    }

    /// Initiators given up because others needed the room.
    #[must_use]
    pub const fn out(&self) -> u64 {
        self.out
    }

    /// Targets of an initiator within the window, distinct hosts and services.
    #[must_use]
    pub fn distinct(&self, who: &Initiator) -> (u64, u64) {
        self.sources
            .get(who)
            .map_or((0, 0), |s| (s.hosts.len() as u64, s.services.len() as u64))
    }

    /// Adds an attempt at what is not known as answered, and `denied_flows` of it; tells what is many now.
    pub fn add(&mut self, attempt: &Attempt, denied_flows: u64) -> Vec<Crossed> {
        self.make_room();
        let who = Initiator::of(&attempt.key.src, attempt.src);
        let target = Target {
            host: Initiator::of(&attempt.key.dst, attempt.dst),
            proto: attempt.key.proto,
            port: attempt.port,
        };
        let source = self.sources.entry(who).or_default();
        let before = source.targets.len();
        source.newest_ns = source.newest_ns.max(attempt.last_ns);
        let oldest_ns = source.newest_ns.saturating_sub(self.thresholds.window_ns);
        source.expire(oldest_ns);
        source.add(&target, attempt);
        source.deny(attempt.first_ns, denied_flows);
        self.targets = (self.targets + source.targets.len()).saturating_sub(before);
        source.crossed(&target, &self.thresholds)
    }

    fn make_room(&mut self) {
        if self.sources.len() < SOURCES_MAX && self.targets < TARGETS_MAX {
            return;
        }
        let keep = self.sources.len() - (self.sources.len() / OUT_PART).max(1);
        self.out += oldest_out(&mut self.sources, keep, |source| source.newest_ns);
        self.targets = self.sources.values().map(|s| s.targets.len()).sum();
    }
}

const fn has_failed(outcome: EdgeOutcome) -> bool {
    !matches!(outcome, EdgeOutcome::Answered)
}

impl Source {
    fn expire(&mut self, oldest_ns: u64) {
        while self.order.front().is_some_and(|(at, _)| *at < oldest_ns) {
            if let Some((_, target)) = self.order.pop_front()
                && let Some(tried) = self.targets.remove(&target)
            {
                self.count(&target, tried.outcome, false);
            }
        }
        while self.denied.front().is_some_and(|(at, _)| *at < oldest_ns) {
            if let Some((_, flows)) = self.denied.pop_front() {
                self.denied_flows -= flows;
            }
        }
    }

    fn add(&mut self, target: &Target, attempt: &Attempt) {
        let tried = Tried {
            at_ns: attempt.first_ns,
            outcome: attempt.outcome,
        };
        match self.targets.get(target).copied() {
            // An answer once is an answer.
            Some(before) if has_failed(before.outcome) && before.outcome != tried.outcome => {
                self.count(target, before.outcome, false);
                self.count(target, tried.outcome, true);
                let at_ns = before.at_ns;
                self.targets
                    .insert(target.clone(), Tried { at_ns, ..tried });
            }
            Some(_) => {}
            None if self.targets.len() >= TARGETS_OF_ONE_MAX => {}
            None => {
                self.count(target, tried.outcome, true);
                self.order.push_back((tried.at_ns, target.clone()));
                self.targets.insert(target.clone(), tried);
            }
        }
    }

    /// Counts a target in or out.
    fn count(&mut self, target: &Target, outcome: EdgeOutcome, is_in: bool) {
        let failed = u32::from(has_failed(outcome));
        let apply = |tally: &mut Tally| {
            if is_in {
                tally.targets += 1;
                tally.failed += failed;
            } else {
                tally.targets -= 1;
                tally.failed -= failed;
            }
            *tally
        };
        let host = self.hosts.entry(target.host.clone()).or_default();
        let (before, after) = (*host, apply(host));
        if matches!(target.host, Initiator::Internal(_)) {
            self.reached += usize::from(!before.is_reached() && after.is_reached());
            self.reached -= usize::from(before.is_reached() && !after.is_reached());
        }
        if after.targets == 0 {
            self.hosts.remove(&target.host);
        }
        let key = (target.proto, target.port);
        if apply(self.services.entry(key).or_default()).targets == 0 {
            self.services.remove(&key);
        }
        if outcome == EdgeOutcome::Denied {
            self.denied_targets = if is_in {
                self.denied_targets + 1
            } else {
                self.denied_targets - 1
            };
        }
    }

    fn deny(&mut self, at_ns: u64, flows: u64) {
        if flows == 0 {
            return;
        }
        self.denied_flows += flows;
        match self.denied.back_mut() {
            // One entry a second is exact enough and bounds them.
            Some((at, sum)) if at_ns.saturating_sub(*at) < 1_000_000_000 => *sum += flows,
            _ => self.denied.push_back((at_ns, flows)),
        }
    }

    fn crossed(&self, target: &Target, many: &Thresholds) -> Vec<Crossed> {
        let mut crossed = Vec::new();
        let count = |tally: &Tally| usize::try_from(tally.targets).unwrap_or(usize::MAX);
        let host = self.hosts.get(&target.host).copied().unwrap_or_default();
        if count(&host) >= many.ports && host.is_sweep() && matches!(target.proto, TCP | UDP) {
            crossed.push(Crossed::Ports {
                ports: count(&host),
            });
        }
        let key = (target.proto, target.port);
        let service = self.services.get(&key).copied().unwrap_or_default();
        // What talks to peers all over the internet over UDP gets no answer from many: that is no sweep.
        let is_of_peers = target.proto == UDP && matches!(target.host, Initiator::External(_));
        if count(&service) >= many.hosts && service.is_sweep() && !is_of_peers {
            crossed.push(Crossed::Hosts {
                hosts: count(&service),
            });
        }
        let is_new_host = matches!(target.host, Initiator::Internal(_)) && host.is_reached();
        if self.reached >= many.fan_out && is_new_host {
            crossed.push(Crossed::FanOut {
                hosts: self.reached,
            });
        }
        if self.denied_flows >= many.denied && self.denied_targets >= many.denied_targets {
            crossed.push(Crossed::Denied {
                flows: self.denied_flows,
                targets: self.denied_targets,
            });
        }
        crossed
    }
}

//! What DNS names stand for, and for how long: asked by time to live, kept while flows need it.
//!
//! Holds no socket and reads no clock: questions go out by [`Names::due`], answers and the time come
//! in as arguments.

use crate::config::DnsConfig;
use api::Ts;
use api::inventory::{DnsAddress, DnsName};
use policy::Resolved;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

/// How often an address that only flows keep is looked at again.
const FLOW_LOOK_NS: u64 = 5_000_000_000;

/// What came of asking about one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Addresses, each with its time to live in seconds.
    pub(super) addresses: Vec<(IpAddr, u32)>,
    /// Why there is no address, or not of both families.
    pub(super) failed: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Until when the last answer that had it holds.
    until_ns: u64,
    /// The last answer had it.
    in_last: bool,
}

#[derive(Debug, Default)]
struct Name {
    addresses: BTreeMap<IpAddr, Kept>,
    next_ns: u64,
    asking: bool,
    answers: u64,
    failures: u64,
    error: Option<String>,
}

/// Names and what they stand for.
#[derive(Debug)]
pub(super) struct Names {
    config: DnsConfig,
    by_name: BTreeMap<String, Name>,
    /// When flows are looked at again for addresses that only they keep.
    flows_ns: u64,
}

impl Names {
    /// Names that were known before; each is asked at once and keeps what it stood for until it is
    /// answered.
    pub(super) fn new(config: DnsConfig, known: &Resolved) -> Self {
        let kept = Kept {
            until_ns: 0,
            in_last: true,
        };
        let name = |(name, addresses): (&String, &Vec<IpAddr>)| {
            let addresses = addresses.iter().map(|address| (*address, kept)).collect();
            let known = Name {
                addresses,
                ..Name::default()
            };
            (name.clone(), known)
        };
        Self {
            config,
            by_name: known.iter().map(name).collect(),
            flows_ns: 0,
        }
    }

    /// Takes these names from now on and forgets others.
    pub(super) fn want(&mut self, names: &BTreeSet<String>) {
        self.by_name.retain(|name, _| names.contains(name));
        for name in names {
            if !self.by_name.contains_key(name) {
                self.by_name.insert(name.clone(), Name::default());
            }
        }
    }

    /// Up to `max` names whose time has come. Each is to be answered by [`Self::answered`].
    pub(super) fn due(&mut self, now_ns: u64, max: usize) -> Vec<String> {
        let due = self.by_name.iter_mut();
        let due = due.filter(|(_, name)| !name.asking && name.next_ns <= now_ns);
        due.take(max)
            .map(|(text, name)| {
                name.asking = true;
                text.clone()
            })
            .collect()
    }

    /// When there is something to do again; none where there is no name, or all wait for answers.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let asks = self.by_name.values().filter(|name| !name.asking);
        let asks = asks.map(|name| name.next_ns).min();
        let grace_ns = self.config.flow_grace.ns();
        let leaving = self.by_name.values().filter(|name| name.error.is_none());
        let leaving = leaving.flat_map(|name| name.addresses.values());
        let leaving = leaving
            .filter(|kept| !kept.in_last)
            .map(|kept| kept.until_ns.saturating_add(grace_ns).max(self.flows_ns))
            .min();
        asks.into_iter().chain(leaving).min()
    }

    /// Takes an answer. A failure keeps what was known.
    pub(super) fn answered(&mut self, name: &str, answer: Answer, now_ns: u64) {
        let Some(name) = self.by_name.get_mut(name) else {
            // No workload has it any more.
            return;
        };
        let DnsConfig {
            ttl_min, ttl_max, ..
        } = self.config;
        let ttl_ns = |ttl_s: u32| {
            let ns = u64::from(ttl_s) * 1_000_000_000;
            ns.clamp(ttl_min.ns(), ttl_max.ns())
        };
        name.asking = false;
        let whole = answer.failed.is_none();
        if whole {
            // What only one family answered says nothing about the other.
            name.addresses
                .values_mut()
                .for_each(|kept| kept.in_last = false);
        }
        let mut next_ns = now_ns.saturating_add(ttl_max.ns());
        for (address, ttl_s) in &answer.addresses {
            let until_ns = now_ns.saturating_add(ttl_ns(*ttl_s));
            let kept = Kept {
                until_ns,
                in_last: true,
            };
            name.addresses.insert(*address, kept);
            next_ns = next_ns.min(until_ns);
        }
        if whole {
            name.answers += 1;
        } else {
            name.failures += 1;
            next_ns = next_ns.min(now_ns.saturating_add(self.config.retry.ns()));
        }
        name.next_ns = next_ns;
        name.error = answer.failed;
    }

    /// Lets go of addresses that the last answer does not have, whose time to live and grace have
    /// passed, and that no flow needs. `live` says which of some addresses flows need.
    pub(super) fn expire(
        &mut self,
        now_ns: u64,
        live: impl FnOnce(&HashSet<IpAddr>) -> HashSet<IpAddr>,
    ) {
        let grace_ns = self.config.flow_grace.ns();
        let leaves =
            |kept: &Kept| !kept.in_last && kept.until_ns.saturating_add(grace_ns) <= now_ns;
        // After a failure nobody knows what the name stands for.
        let answered = |name: &&mut Name| name.error.is_none();
        let names = self.by_name.values_mut().filter(answered);
        let addresses = names.flat_map(|name| name.addresses.iter());
        let leaving: HashSet<IpAddr> = addresses
            .filter(|(_, kept)| leaves(kept))
            .map(|(address, _)| *address)
            .collect();
        if leaving.is_empty() || now_ns < self.flows_ns {
            return;
        }
        self.flows_ns = now_ns.saturating_add(FLOW_LOOK_NS);
        let live = live(&leaving);
        for name in self.by_name.values_mut().filter(answered) {
            name.addresses
                .retain(|address, kept| !leaves(kept) || live.contains(address));
        }
    }

    /// What every name stands for.
    pub(super) fn resolved(&self) -> Resolved {
        let known = self
            .by_name
            .iter()
            .filter(|(_, name)| !name.addresses.is_empty());
        known
            .map(|(text, name)| (text.clone(), name.addresses.keys().copied().collect()))
            .collect()
    }

    /// As it is told.
    pub(super) fn state(&self, now_ns: u64) -> Vec<DnsName> {
        let address = |(address, kept): (&IpAddr, &Kept)| DnsAddress {
            address: *address,
            until_ts: Ts(kept.until_ns),
            kept_for_flows: !kept.in_last && kept.until_ns <= now_ns,
        };
        let names = self.by_name.iter();
        names
            .map(|(text, name)| DnsName {
                name: text.clone(),
                addresses: name.addresses.iter().map(address).collect(),
                next_ts: Ts(name.next_ns),
                answers: name.answers,
                failures: name.failures,
                error: name.error.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    const S: u64 = 1_000_000_000;
    const NAME: &str = "db.example.internal";

    fn names() -> Names {
        let config = DnsConfig {
            ttl_min: Span::s(5),
            ttl_max: Span::s(100),
            retry: Span::s(15),
            flow_grace: Span::s(10),
            ..DnsConfig::default()
        };
        let mut names = Names::new(config, &Resolved::new());
        names.want(&BTreeSet::from([NAME.to_owned()]));
        names
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn answer(addresses: &[(u8, u32)]) -> Answer {
        Answer {
            addresses: addresses
                .iter()
                .map(|(last, ttl)| (ip(*last), *ttl))
                .collect(),
            failed: None,
        }
    }

    fn failed(why: &str) -> Answer {
        Answer {
            failed: Some(why.to_owned()),
            ..Answer::default()
        }
    }

    fn ask(names: &mut Names, now_s: u64, with: Answer) {
        assert_eq!(names.due(now_s * S, 9), [NAME], "at {now_s} s");
        assert_eq!(names.due(now_s * S, 9), [""; 0], "one question at a time");
        names.answered(NAME, with, now_s * S);
    }

    fn known(names: &Names) -> Vec<IpAddr> {
        names.resolved().remove(NAME).unwrap_or_default()
    }

    fn no_flow(_: &HashSet<IpAddr>) -> HashSet<IpAddr> {
        HashSet::new()
    }

    #[test]
    fn a_name_is_asked_again_when_its_time_to_live_has_passed_within_bounds() {
        let mut names = names();
        ask(&mut names, 100, answer(&[(1, 30), (2, 20)]));
        assert_eq!(names.next_ns(), Some(120 * S));
        ask(&mut names, 120, answer(&[(1, 0)]));
        assert_eq!(names.next_ns(), Some(125 * S), "0 counts as ttl_min");
        ask(&mut names, 125, answer(&[(1, 999)]));
        assert_eq!(names.due(224 * S, 9), [""; 0]);
        ask(&mut names, 225, answer(&[(1, 999)]));
    }

    #[test]
    fn an_address_goes_when_its_time_and_the_grace_have_passed() {
        let mut names = names();
        ask(&mut names, 0, answer(&[(1, 20)]));
        ask(&mut names, 20, answer(&[(2, 20)]));
        for now_s in [20, 29] {
            names.expire(now_s * S, no_flow);
            assert_eq!(known(&names), [ip(1), ip(2)], "at {now_s} s");
        }
        assert!(names.state(20 * S)[0].addresses[0].kept_for_flows);
        assert_eq!(names.next_ns(), Some(30 * S));
        names.expire(30 * S, no_flow);
        assert_eq!(known(&names), [ip(2)]);
    }

    #[test]
    fn an_address_stays_as_long_as_flows_of_it_live() {
        let mut names = names();
        ask(&mut names, 0, answer(&[(1, 5)]));
        ask(&mut names, 5, answer(&[(2, 100)]));
        names.expire(1000 * S, |asked| {
            assert_eq!(asked.iter().copied().collect::<Vec<_>>(), [ip(1)]);
            asked.clone()
        });
        assert_eq!(known(&names), [ip(1), ip(2)]);
        names.expire(1001 * S, |_| unreachable!("flows are looked at every 5 s"));
        names.expire(1005 * S, no_flow);
        assert_eq!(known(&names), [ip(2)]);
    }

    #[test]
    fn an_address_that_comes_back_stays() {
        let mut names = names();
        ask(&mut names, 0, answer(&[(1, 5)]));
        ask(&mut names, 5, answer(&[(2, 5)]));
        ask(&mut names, 10, answer(&[(1, 5)]));
        names.expire(1000 * S, no_flow);
        assert_eq!(known(&names), [ip(1)]);
    }

    #[test]
    fn a_failure_keeps_what_was_known_and_is_counted() {
        let mut names = names();
        ask(&mut names, 0, answer(&[(1, 5)]));
        ask(&mut names, 5, failed("timed out"));
        names.expire(900 * S, no_flow);
        assert_eq!(known(&names), [ip(1)]);
        let state = &names.state(900 * S)[0];
        assert_eq!((state.answers, state.failures), (1, 1));
        assert_eq!(state.error.as_deref(), Some("timed out"));
        assert_eq!(names.next_ns(), Some(20 * S), "asked again after retry");
        ask(&mut names, 20, answer(&[(2, 5)]));
        names.expire(900 * S, no_flow);
        assert_eq!(known(&names), [ip(2)]);
    }

    #[test]
    fn half_an_answer_adds_and_takes_nothing_away() {
        let mut names = names();
        ask(&mut names, 0, answer(&[(1, 5), (2, 5)]));
        let half = Answer {
            failed: Some("AAAA timed out".to_owned()),
            ..answer(&[(3, 50)])
        };
        ask(&mut names, 5, half);
        names.expire(900 * S, no_flow);
        assert_eq!(known(&names), [ip(1), ip(2), ip(3)]);
    }

    #[test]
    fn what_was_known_before_a_restart_holds_until_the_first_answer() {
        let before = Resolved::from([(NAME.to_owned(), vec![ip(9)])]);
        let mut names = Names::new(DnsConfig::default(), &before);
        names.want(&BTreeSet::from([NAME.to_owned()]));
        names.expire(u64::MAX, no_flow);
        assert_eq!(known(&names), [ip(9)]);
        ask(&mut names, 100, answer(&[(1, 5)]));
        names.expire(1000 * S, no_flow);
        assert_eq!(known(&names), [ip(1)]);
    }

    #[test]
    fn a_name_that_nobody_has_is_forgotten() {
        let mut names = names();
        assert_eq!(names.due(0, 9), [NAME]);
        names.want(&BTreeSet::new());
        names.answered(NAME, answer(&[(1, 5)]), 0);
        assert_eq!((names.next_ns(), names.resolved()), (None, Resolved::new()));
    }
}

//! `ringfence policy simulate`: history through the draft, by the code that enforces.

use crate::app::App;
use crate::clock::now_ns;
use crate::history_questions::{selection, told};
use crate::questions::bad;
use abi::verdict::InitiatorEvidence;
use abi::{Action, VerdictSource};
use api::error::{ApiError, ErrorCode};
use api::history::{Conversation, HistoryQuery, HistoryState, Membership, TierState};
use api::simulate as told_as;
use api::simulate::{Period, Progress, SimulateRequest, SimulatedEdge, SimulatedRule, Totals};
use api::{Ts, words};
use history::Selection;
use ipnet::IpNet;
use policy::simulate::{
    After, Before, EdgeOutcome, EndOutcome, Listing, NameThen, Observed, Outcome, Simulation, Sums,
    Tally, Verdict,
};
use policy::{CompiledPolicy, ValidPolicy};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often progress is told, and a client that has gone is noticed.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// Conversations between two looks at the clock.
const LOOK_EVERY: u64 = 4_096;

/// A draft that can be simulated.
#[derive(Debug)]
pub struct Prepared {
    request: SimulateRequest,
    valid: ValidPolicy,
    compiled: CompiledPolicy,
    of: Selection,
    pasts: Pasts,
}

/// Told how far the work has come; breaks where nobody waits for it any more.
pub type Told<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Reads history for something that takes long: tells progress, and ends where nobody waits.
pub(crate) fn read_history(
    app: &App,
    of: &Selection,
    tell: Told<'_>,
    mut each: impl FnMut(Conversation),
) -> Result<(), ApiError> {
    let expected = expected(&app.history.state(), of);
    let (mut read, mut told_at) = (0_u64, Instant::now());
    let mut gone = tell(Progress {
        conversations: 0,
        of: expected,
    })
    .is_break();
    let mut take = |conversation: Conversation| {
        each(conversation);
        read += 1;
        if read.is_multiple_of(LOOK_EVERY) && told_at.elapsed() >= PROGRESS_INTERVAL {
            told_at = Instant::now();
            let progress = Progress {
                conversations: read,
                of: expected,
            };
            gone = tell(progress).is_break();
        }
        if gone {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    told(app.history.conversations_to_add_up(of, &mut take))?;
    if gone {
        let message = "nobody waits for the answer any more";
        return Err(ApiError::new(ErrorCode::Timeout, message));
    }
    Ok(())
}

/// About how many conversations history will hand over: those of a part of its time by that part's share. 0 where a
/// filter leaves out nobody knows how many.
fn expected(state: &HistoryState, of: &Selection) -> u64 {
    if !of.filter.is_empty() {
        return 0;
    }
    let conversations = state
        .tiers
        .iter()
        .filter(|tier| tier.name.starts_with("conversations"));
    conversations.map(|tier| rows_within(tier, of)).sum()
}

/// Rows of a tier in a period, were they spread evenly over its time, but for those that are read in longer intervals.
fn rows_within(tier: &TierState, of: &Selection) -> u64 {
    let read = tier.rows.saturating_sub(tier.rolled_rows);
    let (Some(oldest), Some(newest)) = (tier.oldest_ts, tier.newest_ts) else {
        return read;
    };
    let begin = of.since_ns.max(oldest.0);
    let end = of.until_ns.min(newest.0);
    let length = u128::from(newest.0.saturating_sub(oldest.0)) + 1;
    let part = match end.checked_sub(begin) {
        Some(between) => u128::from(between) + 1,
        None => return 0,
    };
    let rows = u128::from(read) * part / length;
    u64::try_from(rows).unwrap_or(read)
}

impl App {
    /// Reads, checks and compiles what is to be simulated. Takes long for a large draft.
    ///
    /// # Errors
    /// The draft is not valid, there is none, or the period or filter is not understood.
    pub fn prepare_simulation(&self, request: SimulateRequest) -> Result<Prepared, ApiError> {
        let query = HistoryQuery {
            since: request.since.clone(),
            until: request.until.clone(),
            filter: request.filter.clone(),
            ..HistoryQuery::default()
        };
        let of = selection(&query, now_ns())?;
        let pasts = Pasts::new(&told(self.history.names(0, u64::MAX))?);
        let (text, file_name) = self.draft_text(&request)?;
        let (valid, compiled) = self.policy.draft(&text, &file_name, request.enforce)?;
        Ok(Prepared {
            request: SimulateRequest {
                file_name,
                ..request
            },
            valid,
            compiled,
            of,
            pasts,
        })
    }

    fn draft_text(&self, request: &SimulateRequest) -> Result<(String, String), ApiError> {
        match (&request.text, &request.revision) {
            (Some(_), Some(_)) => {
                let what = "a text and a revision are two drafts".to_owned();
                Err(bad("revision", what, "send one of them"))
            }
            (Some(text), None) => Ok((text.clone(), request.file_name.clone())),
            (None, Some(revision)) => {
                let found = self.policy.revision(revision)?;
                let digits = found.revision.get(..12).unwrap_or_default();
                Ok((found.text, format!("revision {digits}")))
            }
            (None, None) => {
                let shown = self.policy.show();
                if shown.text.is_empty() {
                    let message = "no policy is in force whose text is known; name a draft";
                    return Err(ApiError::new(ErrorCode::NotFound, message));
                }
                Ok((shown.text, shown.file_name))
            }
        }
    }

    /// `POST /v1/policy/simulate`.
    ///
    /// # Errors
    /// History does not answer, or nobody waits any more.
    pub fn simulate(
        &self,
        prepared: &Prepared,
        tell: Told<'_>,
    ) -> Result<told_as::Simulation, ApiError> {
        let began = Instant::now();
        let mut simulation = Simulation::new(&prepared.valid, &prepared.compiled, seed());
        read_history(self, &prepared.of, tell, |conversation| {
            observe(&prepared.pasts, &conversation, |seen| simulation.push(seen));
        })?;
        let limit = prepared
            .request
            .limit
            .unwrap_or(SimulateRequest::LIMIT_DEFAULT);
        let outcome = simulation.finish(&Listing {
            unchanged: prepared.request.unchanged,
            limit: (limit > 0).then(|| usize::try_from(limit).unwrap_or(usize::MAX)),
        });
        let period = period(
            &self.history_state(),
            &prepared.of,
            outcome.first_ns,
            outcome.last_ns,
        );
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(answer(prepared, outcome, period, took_ms))
    }
}

/// A key for the tables of one piece of work: nobody outside learns where an address falls.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Addresses that had names before and lost them: whose they were since is not known.
#[derive(Debug, Default)]
pub(crate) struct Pasts {
    /// When the first of its names ended.
    hosts: HashMap<IpAddr, u64>,
    nets: Vec<(IpNet, u64)>,
}

impl Pasts {
    pub(crate) fn new(names: &[Membership]) -> Self {
        let mut pasts = Self::default();
        for name in names {
            let Some(until) = name.until_ts else { continue };
            if let Ok(host) = name.prefix.parse::<IpAddr>() {
                let ended = pasts.hosts.entry(host).or_insert(until.0);
                *ended = (*ended).min(until.0);
            } else if let Ok(net) = name.prefix.parse::<IpNet>() {
                pasts.nets.push((net, until.0));
            }
        }
        pasts
    }

    fn lost_its_name(&self, address: IpAddr, by_ns: u64) -> bool {
        self.hosts
            .get(&address)
            .is_some_and(|ended| *ended <= by_ns)
            || self
                .nets
                .iter()
                .any(|(net, ended)| *ended <= by_ns && net.contains(&address))
    }

    fn then<'n>(
        &self,
        address: IpAddr,
        name: Option<&'n std::sync::Arc<str>>,
        at_ns: u64,
    ) -> NameThen<'n> {
        match name {
            Some(name) => NameThen::Named(name),
            None if self.lost_its_name(address, at_ns) => NameThen::Unknown,
            None => NameThen::Unnamed,
        }
    }
}

/// The one conversion from a conversation to what is simulated.
pub(crate) fn observe(pasts: &Pasts, seen: &Conversation, take: impl FnOnce(&Observed<'_>)) {
    let before = Before {
        enforced: Verdict {
            action: action(seen.verdict),
            source: source(seen.verdict_source),
            rule: seen.rule.clone(),
        },
        pending: Verdict {
            action: action(seen.pending_verdict),
            source: source(seen.pending_source),
            rule: seen.pending_rule.clone(),
        },
    };
    take(&Observed {
        src: seen.src,
        dst: seen.dst,
        src_then: pasts.then(seen.src, seen.src_name.as_ref(), seen.first_ts.0),
        dst_then: pasts.then(seen.dst, seen.dst_name.as_ref(), seen.first_ts.0),
        proto: seen.proto,
        port: seen.port,
        evidence: evidence(seen.initiator_evidence),
        folded: seen.folded,
        before: &before,
        sums: Sums {
            flows: seen.sums.flows,
            pkts_fwd: seen.sums.pkts_fwd,
            pkts_rev: seen.sums.pkts_rev,
            bytes: seen.sums.bytes(),
        },
        first_ns: seen.first_ts.0,
        last_ns: seen.last_ts.0,
    });
}

const fn action(word: words::Action) -> Action {
    match word {
        words::Action::Allow => Action::Allow,
        words::Action::Deny => Action::Deny,
        words::Action::Reject => Action::Reject,
        words::Action::Limit => Action::Limit,
    }
}

const fn source(word: words::VerdictSource) -> VerdictSource {
    match word {
        words::VerdictSource::Rule => VerdictSource::Rule,
        words::VerdictSource::Default => VerdictSource::Default,
        words::VerdictSource::Exception => VerdictSource::Exception,
        words::VerdictSource::NoPolicy => VerdictSource::NoPolicy,
        words::VerdictSource::Kept => VerdictSource::Kept,
        words::VerdictSource::Related => VerdictSource::Related,
    }
}

const fn evidence(word: words::InitiatorEvidence) -> InitiatorEvidence {
    match word {
        words::InitiatorEvidence::FirstPacket => InitiatorEvidence::FirstPacket,
        words::InitiatorEvidence::PortAsymmetry => InitiatorEvidence::PortAsymmetry,
        words::InitiatorEvidence::KnownListener => InitiatorEvidence::KnownListener,
        words::InitiatorEvidence::Request => InitiatorEvidence::Request,
        words::InitiatorEvidence::SynAck => InitiatorEvidence::SynAck,
        words::InitiatorEvidence::Syn => InitiatorEvidence::Syn,
    }
}

/// The word of the public protocol for a value of the contract; a test in `flow` holds the two lists together.
macro_rules! word {
    ($api:ty, $value:expr) => {
        <$api>::from_word($value.name()).unwrap_or(<$api>::ALL[0])
    };
}

pub(crate) use word;

/// Which time was looked at, and whether history has all of it.
pub(crate) fn period(state: &HistoryState, of: &Selection, first_ns: u64, last_ns: u64) -> Period {
    let some = |ns: u64, none: u64| (ns != none).then_some(Ts(ns));
    // What has not been flushed yet is found and in no tier.
    let kept = state.tiers.iter().filter_map(|tier| tier.oldest_ts);
    let kept_since_ts = kept.chain(some(first_ns, 0)).min();
    Period {
        since_ts: some(of.since_ns, 0),
        until_ts: some(of.until_ns, u64::MAX),
        first_ts: some(first_ns, 0),
        last_ts: some(last_ns, 0),
        kept_since_ts,
        is_whole: of.since_ns == 0 || kept_since_ts.is_some_and(|kept| kept.0 <= of.since_ns),
        engine: state.engine.clone(),
    }
}

fn answer(
    prepared: &Prepared,
    outcome: Outcome,
    period: Period,
    took_ms: u64,
) -> told_as::Simulation {
    let rules = prepared.valid.rules.iter().zip(&outcome.rules);
    let ts = |ns: u64| (ns > 0).then_some(Ts(ns));
    told_as::Simulation {
        file_name: prepared.request.file_name.clone(),
        revision: prepared.valid.revision.to_string(),
        enforce: prepared.request.enforce,
        period,
        all: tally(&outcome.all),
        enforced: totals(&outcome.enforced),
        pending: totals(&outcome.pending),
        doubts: outcome
            .doubts
            .iter()
            .map(|(why, sum)| told_as::DoubtSum {
                doubt: doubt(*why),
                tally: tally(sum),
            })
            .collect(),
        edge_count: outcome.edge_count,
        unlisted: outcome.unlisted,
        matched: outcome.matched,
        rules: rules
            .map(|(rule, used)| SimulatedRule {
                rule: used.rule.clone(),
                action: word!(words::Action, rule.action),
                enforced: tally(&used.enforced),
                pending: tally(&used.pending),
                uncertain_flows: used.uncertain_flows,
                sources: used.sources,
                destinations: used.destinations,
                first_ts: ts(used.first_ns),
                last_ts: ts(used.last_ns),
            })
            .collect(),
        edges: outcome.edges.into_iter().map(edge).collect(),
        took_ms,
    }
}

const fn doubt(why: policy::simulate::Doubt) -> told_as::Doubt {
    use policy::simulate::Doubt;
    match why {
        Doubt::Direction => told_as::Doubt::Direction,
        Doubt::Midstream => told_as::Doubt::Midstream,
        Doubt::NameUnknown => told_as::Doubt::NameUnknown,
        Doubt::NameGone => told_as::Doubt::NameGone,
        Doubt::Moved => told_as::Doubt::Moved,
        Doubt::Folded => told_as::Doubt::Folded,
        Doubt::Related => told_as::Doubt::Related,
        Doubt::Exception => told_as::Doubt::Exception,
    }
}

const fn change(change: policy::simulate::Change) -> told_as::Change {
    use policy::simulate::Change;
    match change {
        Change::NewlyDenied => told_as::Change::NewlyDenied,
        Change::NewlyAllowed => told_as::Change::NewlyAllowed,
        Change::StaysDenied => told_as::Change::StaysDenied,
        Change::StaysAllowed => told_as::Change::StaysAllowed,
    }
}

pub(crate) const fn tally(tally: &Tally) -> told_as::Tally {
    told_as::Tally {
        conversations: tally.conversations,
        flows: tally.flows,
        packets: tally.packets,
        bytes: tally.bytes,
    }
}

const fn totals(totals: &policy::simulate::Totals) -> Totals {
    Totals {
        stays_allowed: tally(&totals.stays_allowed),
        stays_denied: tally(&totals.stays_denied),
        newly_denied: tally(&totals.newly_denied),
        newly_allowed: tally(&totals.newly_allowed),
        uncertain: tally(&totals.uncertain),
        by_other_rule: tally(&totals.by_other_rule),
    }
}

fn verdict(verdict: Verdict) -> told_as::Verdict {
    told_as::Verdict {
        action: word!(words::Action, verdict.action),
        source: word!(words::VerdictSource, verdict.source),
        rule: verdict.rule,
    }
}

fn verdicts(after: After) -> told_as::Verdicts {
    told_as::Verdicts {
        enforced: verdict(after.enforced),
        pending: verdict(after.pending),
    }
}

fn end(end: EndOutcome) -> told_as::End {
    told_as::End {
        address: end.address,
        name_then: end.then,
        workload: end.workload,
        segments: end.segments,
    }
}

pub(crate) fn edge(edge: EdgeOutcome) -> SimulatedEdge {
    SimulatedEdge {
        change: change(edge.change),
        pending_change: change(edge.pending_change),
        doubts: edge.doubts.into_iter().map(doubt).collect(),
        src: end(edge.src),
        dst: end(edge.dst),
        proto: edge.proto,
        port: edge.port,
        service: edge.service,
        folded: edge.folded,
        before: told_as::Verdicts {
            enforced: verdict(edge.before.enforced),
            pending: verdict(edge.before.pending),
        },
        mode: word!(words::Mode, edge.after.mode),
        coverage: word!(words::Coverage, edge.after.coverage),
        after: verdicts(edge.after),
        other: edge.other.map(verdicts),
        tally: tally(&edge.tally),
        first_ts: Ts(edge.first_ns),
        last_ts: Ts(edge.last_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::filter::Filter;

    #[test]
    fn the_rows_of_a_part_of_history_are_expected_by_its_share_of_time() {
        let tier = TierState {
            name: "conversations-5m".to_owned(),
            rows: 1_200,
            rolled_rows: 200,
            oldest_ts: Some(Ts(10_000)),
            newest_ts: Some(Ts(19_999)),
            ..TierState::default()
        };
        let state = HistoryState {
            tiers: vec![tier],
            ..HistoryState::default()
        };
        let within = |since_ns, until_ns| {
            let filter = Filter::parse("").expect("the filter of everything");
            let of = Selection {
                since_ns,
                until_ns,
                filter,
            };
            expected(&state, &of)
        };
        assert_eq!(within(0, u64::MAX), 1_000);
        assert_eq!(within(15_000, u64::MAX), 500);
        assert_eq!(within(0, 10_999), 100);
        assert_eq!(within(20_000, u64::MAX), 0);
        assert_eq!(within(0, 9_999), 0);
    }
}

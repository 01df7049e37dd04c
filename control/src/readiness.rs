//! Is a segment ready for its next mode? Judged by history under the policy in force, through the
//! code that enforces.
//!
//! One image answers for every segment and both steps: the policy in force with every segment in
//! enforce. What it denies is what a segment in enforce would deny; rules in test are kept apart by its
//! two views. History keeps what was seen, the image says what would become of it today, so that a rule
//! that was added since counts.

mod asked;

use crate::flow::{address_bytes, service_of};
use abi::verdict::Coverage;
use acl::PolicyImage;
use api::Ts;
use api::filter::Filter;
use api::history::Conversation;
use api::readiness::{Lacking, SegmentReadiness, Thresholds, Unexpected};
use api::words::Mode;
use history::{History, HistoryError, Selection};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Pairs and services that are kept apart for one segment; further ones count, but are not listed.
const KINDS_MAX: usize = 10_000;
/// Of those, how many are told.
const TOLD_MAX: usize = 10;
/// A day, nanoseconds and seconds.
const DAY_NS: u64 = 86_400_000_000_000;
const DAY_S: u64 = 86_400;

/// A segment whose readiness is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Name.
    pub name: String,
    /// Its mode.
    pub mode: Mode,
    /// Since when, where that is known.
    pub mode_since_ns: Option<u64>,
}

/// The mode after one.
#[must_use]
pub const fn next(mode: Mode) -> Option<Mode> {
    match mode {
        Mode::Observe => Some(Mode::Test),
        Mode::Test => Some(Mode::Enforce),
        Mode::Enforce => None,
    }
}

/// The mode before one.
#[must_use]
pub const fn before(mode: Mode) -> Option<Mode> {
    match mode {
        Mode::Observe => None,
        Mode::Test => Some(Mode::Observe),
        Mode::Enforce => Some(Mode::Test),
    }
}

#[derive(Default)]
struct Seen {
    first_ns: Option<u64>,
    flows: u64,
    covered_flows: u64,
    would_deny_flows: u64,
    last: Option<Unexpected>,
    kinds: HashMap<Kind, Unexpected>,
}

/// What is summed up as one.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    src: Arc<str>,
    dst: Arc<str>,
    service: String,
}

/// How segments stand, by the last `window_days` before `now_ns`. `image` has every segment in enforce.
///
/// # Errors
/// History does not answer.
pub fn judge(
    history: &dyn History,
    image: &PolicyImage,
    asked: &[Asked],
    thresholds: &Thresholds,
    now_ns: u64,
) -> Result<Vec<SegmentReadiness>, HistoryError> {
    let mut seen: HashMap<&str, Seen> = asked
        .iter()
        .map(|segment| (&*segment.name, Seen::default()))
        .collect();
    let of = Selection {
        since_ns: now_ns.saturating_sub(u64::from(thresholds.window_days).saturating_mul(DAY_NS)),
        until_ns: u64::MAX,
        filter: filter(asked),
    };
    history.conversations(&of, &mut |conversation| {
        let found = Found::of(image, &conversation);
        let ends = conversation.src_segments.iter();
        let mut names: Vec<&Arc<str>> = ends.chain(conversation.dst_segments.iter()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            if let Some(seen) = seen.get_mut(&**name) {
                seen.add(&conversation, &found);
            }
        }
        ControlFlow::Continue(())
    })?;
    let judged = asked.iter().map(|segment| {
        let seen = seen.remove(&*segment.name).unwrap_or_default();
        conclude(segment, seen, thresholds, now_ns)
    });
    Ok(judged.collect())
}

/// One segment can be asked for by name; for several everything is read.
fn filter(asked: &[Asked]) -> Filter {
    let text = match asked {
        [one] => format!("segment \"{}\"", one.name),
        _ => String::new(),
    };
    // A name has no quotes, and the empty filter matches everything.
    Filter::parse(&text).unwrap_or_else(|_| unreachable!("the filter `{text}` is well formed"))
}

/// What would become of a conversation.
struct Found {
    denied: bool,
    covered: bool,
    rule: Option<String>,
}

impl Found {
    fn of(image: &PolicyImage, seen: &Conversation) -> Self {
        let service = service_of(seen);
        let (src, dst) = (address_bytes(seen.src), address_bytes(seen.dst));
        let decision = image.evaluate(&src, &dst, &service);
        let rule = image.rule_by_id(decision.rule_id);
        // What passes whatever the policy says, an ICMP error or neighbour discovery, passes then too.
        let by_itself = matches!(
            seen.verdict_source,
            api::words::VerdictSource::Related | api::words::VerdictSource::Exception
        );
        Self {
            denied: !decision.enforced.permits() && !by_itself,
            covered: decision.coverage == Coverage::Rule || by_itself,
            rule: rule.map(|rule| rule.name.to_owned()),
        }
    }
}

impl Seen {
    fn add(&mut self, conversation: &Conversation, found: &Found) {
        let flows = conversation.sums.flows;
        let first_ns = conversation.first_ts.0;
        self.first_ns = Some(self.first_ns.map_or(first_ns, |ns| ns.min(first_ns)));
        self.flows = self.flows.saturating_add(flows);
        if found.covered {
            self.covered_flows = self.covered_flows.saturating_add(flows);
        }
        if !found.denied {
            return;
        }
        self.would_deny_flows = self.would_deny_flows.saturating_add(flows);
        let unexpected = unexpected(conversation, found);
        let later = |last: &Unexpected| last.last_ts < unexpected.last_ts;
        if self.last.as_ref().is_none_or(later) {
            self.last = Some(unexpected.clone());
        }
        let end = |name: &Option<Arc<str>>, address: std::net::IpAddr| {
            name.clone().unwrap_or_else(|| address.to_string().into())
        };
        let kind = Kind {
            src: end(&conversation.src_name, conversation.src),
            dst: end(&conversation.dst_name, conversation.dst),
            service: unexpected.service.clone(),
        };
        let room = self.kinds.len() < KINDS_MAX;
        match self.kinds.get_mut(&kind) {
            Some(sum) => {
                sum.flows = sum.flows.saturating_add(unexpected.flows);
                sum.bytes = sum.bytes.saturating_add(unexpected.bytes);
                sum.last_ts = sum.last_ts.max(unexpected.last_ts);
            }
            None if room => {
                self.kinds.insert(kind, unexpected);
            }
            None => {}
        }
    }
}

fn unexpected(conversation: &Conversation, found: &Found) -> Unexpected {
    Unexpected {
        src: conversation.src,
        dst: conversation.dst,
        src_name: conversation.src_name.clone(),
        dst_name: conversation.dst_name.clone(),
        service: conversation.service_label(),
        rule: found.rule.clone(),
        flows: conversation.sums.flows,
        bytes: conversation.sums.bytes(),
        last_ts: conversation.last_ts,
    }
}

fn conclude(segment: &Asked, seen: Seen, thresholds: &Thresholds, now_ns: u64) -> SegmentReadiness {
    let mut conversations: Vec<Unexpected> = seen.kinds.into_values().collect();
    conversations.sort_by(|a, b| {
        let key = |u: &Unexpected| (u.flows, u.bytes, u.last_ts);
        key(b)
            .cmp(&key(a))
            .then_with(|| (a.src, a.dst).cmp(&(b.src, b.dst)))
    });
    conversations.truncate(TOLD_MAX);
    let began_ns = seen
        .first_ns
        .map(|first| first.max(segment.mode_since_ns.unwrap_or(0)));
    let mut readiness = SegmentReadiness {
        segment: segment.name.clone(),
        mode: segment.mode,
        next: next(segment.mode),
        ready: false,
        mode_since_ts: segment.mode_since_ns.map(Ts),
        first_ts: seen.first_ns.map(Ts),
        watched_s: began_ns.map_or(0, |ns| now_ns.saturating_sub(ns) / 1_000_000_000),
        flows: seen.flows,
        covered_flows: seen.covered_flows,
        would_deny_flows: seen.would_deny_flows,
        last_unexpected: seen.last,
        conversations,
        lacking: Vec::new(),
    };
    readiness.lacking = lacking(&readiness, thresholds, now_ns);
    readiness.ready = readiness.next.is_some() && readiness.lacking.is_empty();
    readiness
}

fn days(seconds: u64) -> String {
    format!("{}.{} days", seconds / DAY_S, seconds % DAY_S * 10 / DAY_S)
}

/// What is missing for the next mode.
#[must_use]
pub fn lacking(readiness: &SegmentReadiness, thresholds: &Thresholds, now_ns: u64) -> Vec<Lacking> {
    let Some(next) = readiness.next else {
        return Vec::new();
    };
    let mut lacking = Vec::new();
    let mut lacks = |threshold: &str, what: String, mend: &str| {
        lacking.push(Lacking {
            threshold: format!("readiness.{threshold}"),
            what,
            mend: mend.to_owned(),
        });
    };
    let (name, mode) = (&readiness.segment, readiness.mode);
    if readiness.watched_s < u64::from(thresholds.days_min).saturating_mul(DAY_S) {
        let watched = days(readiness.watched_s);
        let what = format!(
            "watched {watched} in {mode}, at least {} days",
            thresholds.days_min
        );
        lacks("days_min", what, "wait");
    }
    if readiness.coverage_permille() < u64::from(thresholds.coverage_permille_min) {
        let share = |permille: u64| format!("{}.{} %", permille / 10, permille % 10);
        let what = format!(
            "rules speak about {} of its flows, at least {}",
            share(readiness.coverage_permille()),
            share(u64::from(thresholds.coverage_permille_min))
        );
        lacks(
            "coverage_min",
            what,
            "write rules for the rest: `ringfence policy suggest`",
        );
    }
    if next == Mode::Enforce {
        if readiness.would_deny_flows > thresholds.would_deny_flows_max {
            let what = format!(
                "{} flows of the last {} days would be denied, at most {}",
                readiness.would_deny_flows, thresholds.window_days, thresholds.would_deny_flows_max
            );
            let mend = format!("allow them, or stop them: `ringfence segments readiness {name}`");
            lacks("would_deny_flows_max", what, &mend);
        }
        let quiet_s = readiness
            .last_unexpected
            .as_ref()
            .map(|last| now_ns.saturating_sub(last.last_ts.0) / 1_000_000_000);
        let quiet_min_s = u64::from(thresholds.quiet_days_min).saturating_mul(DAY_S);
        if let Some(quiet_s) = quiet_s.filter(|quiet_s| *quiet_s < quiet_min_s) {
            let what = format!(
                "the last flow that would be denied was {} ago, at least {} days",
                days(quiet_s),
                thresholds.quiet_days_min
            );
            lacks(
                "quiet_days_min",
                what,
                "wait, once it is allowed or stopped",
            );
        }
    }
    lacking
}

#[cfg(test)]
mod tests;

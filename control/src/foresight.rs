//! What a draft would cut of what history saw lately: the draft and the policy in force are both
//! simulated over the same conversations, and what only the draft denies is told.

use crate::app::App;
use crate::clock::now_ns;
use crate::history_questions::{selection, told};
use crate::policy_service::InForce;
use crate::simulate::{Pasts, edge, observe, period, seed, tally};
use api::error::ApiError;
use api::foresight::Foresight;
use api::history::{Conversation, HistoryQuery};
use history::Selection;
use policy::simulate::{Change, EdgeOutcome, Listing, Outcome, Simulation, Tally};
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// Two ends and a service: initiator, responder, protocol, port as in [`Conversation::port`].
pub(crate) type Between = (IpAddr, IpAddr, u8, u16);

/// A draft to hold against what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'d> {
    /// The policy that it changes.
    pub(crate) from: &'d InForce,
    /// What it becomes.
    pub(crate) text: &'d str,
    /// From this time on; none: [`Foresight::SINCE_DEFAULT`].
    pub(crate) since: Option<&'d str>,
    /// Only this traffic, in the filter language.
    pub(crate) filter: String,
    /// What the draft is meant to cut is no news.
    pub(crate) but: Vec<Between>,
}

impl App {
    /// What a draft would cut. That nothing is known is an answer too.
    #[must_use]
    pub(crate) fn foresee(&self, draft: &Draft<'_>) -> Foresight {
        self.foreseen(draft)
            .unwrap_or_else(|error| Foresight::unknown(error.message))
    }

    fn foreseen(&self, draft: &Draft<'_>) -> Result<Foresight, ApiError> {
        let began = Instant::now();
        let since = draft.since.unwrap_or(Foresight::SINCE_DEFAULT);
        let query = HistoryQuery {
            since: Some(since.to_owned()),
            filter: Some(draft.filter.clone()),
            ..HistoryQuery::default()
        };
        let of = selection(&query, now_ns())?;
        let pasts = Pasts::new(&told(self.history.names(0, u64::MAX))?);
        let from = draft.from;
        let (valid, compiled) = self.policy.draft(draft.text, &from.valid.file, false)?;
        let seed = seed();
        let mut before = Simulation::new(&from.valid, &from.compiled, seed);
        let mut after = Simulation::new(&valid, &compiled, seed);
        let partial = self.first(&of, |conversation| {
            observe(&pasts, conversation, |seen| {
                before.push(seen);
                after.push(seen);
            });
        })?;
        let all = Listing {
            unchanged: false,
            limit: None,
        };
        let (before, after) = (before.finish(&all), after.finish(&all));
        let mut foresight = told_apart(before, after, &draft.but, |outcome| {
            period(
                &self.history_state(),
                &of,
                outcome.first_ns,
                outcome.last_ns,
            )
        });
        foresight.partial = partial;
        foresight.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(foresight)
    }

    /// Reads the first conversations; whether there are more.
    fn first(&self, of: &Selection, mut each: impl FnMut(&Conversation)) -> Result<bool, ApiError> {
        let mut read = 0;
        let mut take = |conversation: Conversation| {
            if read == Foresight::CONVERSATIONS_MAX {
                read += 1;
                return ControlFlow::Break(());
            }
            read += 1;
            each(&conversation);
            ControlFlow::Continue(())
        };
        told(self.history.conversations_to_add_up(of, &mut take))?;
        Ok(read > Foresight::CONVERSATIONS_MAX)
    }
}

/// What tells edges of two simulations over the same conversations apart.
type Key = (Between, bool, Option<Arc<str>>, Option<Arc<str>>);

fn between(edge: &EdgeOutcome) -> Between {
    (edge.src.address, edge.dst.address, edge.proto, edge.port)
}

fn key(edge: &EdgeOutcome) -> Key {
    let names = (edge.src.then.clone(), edge.dst.then.clone());
    (between(edge), edge.folded, names.0, names.1)
}

/// What the draft alone does to an edge, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Does {
    Cuts,
    Opens,
    Unsure,
}

fn does(edge: &EdgeOutcome) -> Option<Does> {
    match edge.change {
        _ if !edge.doubts.is_empty() => Some(Does::Unsure),
        Change::NewlyDenied => Some(Does::Cuts),
        Change::NewlyAllowed => Some(Does::Opens),
        Change::StaysAllowed | Change::StaysDenied => None,
    }
}

/// What becomes of edges under the draft and does not under the policy before it.
fn told_apart(
    before: Outcome,
    after: Outcome,
    but: &[Between],
    period: impl FnOnce(&Outcome) -> api::simulate::Period,
) -> Foresight {
    let anyway: HashSet<(Key, Does)> = before
        .edges
        .iter()
        .filter_map(|edge| Some((key(edge), does(edge)?)))
        .collect();
    let period = period(&after);
    let mut sums = [Tally::default(); 3];
    // What was decided then is not told here: an edge that several policies decided is one.
    let mut places: HashMap<(Key, Does), usize> = HashMap::new();
    let mut edges: Vec<(Does, EdgeOutcome)> = Vec::new();
    for edge in after.edges {
        let Some(does) = does(&edge) else { continue };
        let same = (key(&edge), does);
        if anyway.contains(&same) || but.contains(&between(&edge)) {
            continue;
        }
        add(&mut sums[does as usize], &edge.tally);
        match places.entry(same) {
            Entry::Occupied(place) => join(&mut edges[*place.get()].1, &edge),
            Entry::Vacant(place) => {
                place.insert(edges.len());
                edges.push((does, edge));
            }
        }
    }
    edges.sort_by_key(|(does, edge)| (*does, Reverse((edge.tally.bytes, edge.tally.flows))));
    let edge_count = edges.len() as u64;
    let told = edges.into_iter().take(Foresight::EDGES_TOLD_MAX);
    Foresight {
        unknown: None,
        period,
        seen: tally(&after.all),
        partial: false,
        cut: tally(&sums[Does::Cuts as usize]),
        opened: tally(&sums[Does::Opens as usize]),
        uncertain: tally(&sums[Does::Unsure as usize]),
        edges: told.map(|(_, outcome)| edge(outcome)).collect(),
        edge_count,
        took_ms: 0,
    }
}

/// The same edge once more.
fn join(edge: &mut EdgeOutcome, more: &EdgeOutcome) {
    add(&mut edge.tally, &more.tally);
    edge.first_ns = edge.first_ns.min(more.first_ns);
    edge.last_ns = edge.last_ns.max(more.last_ns);
}

fn add(sum: &mut Tally, more: &Tally) {
    sum.conversations = sum.conversations.saturating_add(more.conversations);
    sum.flows = sum.flows.saturating_add(more.flows);
    sum.packets = sum.packets.saturating_add(more.packets);
    sum.bytes = sum.bytes.saturating_add(more.bytes);
}

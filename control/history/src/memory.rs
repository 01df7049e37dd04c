//! The obvious twin: a list of flow records, and loops over it.
//!
//! The suite of tests holds the engines to it. The control process takes it where `history.engine` is `memory`: history
//! of the last `rows_max` records, gone when the process ends.

mod questions;

use crate::{History, HistoryError, INTERVAL_S, Selection};
use api::Ts;
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Membership, RuleUse, SeriesPoint,
    Table, TierState, TopLine,
};
use api::top::{Metric, TopBy};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// History in memory, bounded; nothing outlives it.
#[derive(Debug)]
pub struct MemoryHistory {
    rows_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// In the order in which they came.
    flows: VecDeque<Flow>,
    names: Vec<Membership>,
    noted_ns: u64,
    appended: u64,
}

/// Order of flow records: by first packet, and always the same.
pub(crate) const fn flow_order(flow: &Flow) -> (u64, u64, u64, u64) {
    (flow.first_ns, flow.last_ns, flow.flow_id.0, flow.seq)
}

impl Selection {
    /// Refuses a filter that conversations cannot answer.
    pub(crate) fn check_kept(&self) -> Result<(), HistoryError> {
        match self.filter.not_kept() {
            Some(test) => Err(HistoryError::NotKept { test }),
            None => Ok(()),
        }
    }

    const fn overlaps(&self, first_ns: u64, last_ns: u64) -> bool {
        last_ns >= self.since_ns && first_ns < self.until_ns
    }

    fn takes_flow(&self, flow: &Flow) -> bool {
        self.overlaps(flow.first_ns, flow.last_ns) && self.filter.matches(flow)
    }

    fn takes(&self, c: &Conversation) -> bool {
        self.overlaps(c.first_ts.0, c.last_ts.0) && self.filter.matches_conversation(c)
    }
}

impl MemoryHistory {
    /// Keeps the `rows_max` flow records that came last; of those before, nothing is left.
    #[must_use]
    pub fn new(rows_max: NonZeroUsize) -> Self {
        Self {
            rows_max: rows_max.get(),
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What a panicking thread left is whole: every change is one push or one pop.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every conversation that is kept.
    fn all(&self) -> Vec<Conversation> {
        let mut all: HashMap<Conversation, Conversation> = HashMap::new();
        for flow in &self.kept().flows {
            let one = Conversation::of(flow, INTERVAL_S);
            all.entry(one.key())
                .and_modify(|c| c.add(&one))
                .or_insert(one);
        }
        all.into_values().collect()
    }

    fn selected(&self, of: &Selection) -> Result<Vec<Conversation>, HistoryError> {
        of.check_kept()?;
        let mut selected = self.all();
        selected.retain(|c| of.takes(c));
        Ok(selected)
    }
}

/// Whether a name is told as it was: the revision may be another.
fn is_same_name(a: &Membership, b: &Membership) -> bool {
    (&a.prefix, &a.workload, &a.labels, &a.segments)
        == (&b.prefix, &b.workload, &b.labels, &b.segments)
}

impl History for MemoryHistory {
    fn append(&self, flows: &[Flow]) -> Result<(), HistoryError> {
        let mut kept = self.kept();
        for flow in flows {
            if kept.flows.len() == self.rows_max {
                kept.flows.pop_front();
            }
            kept.flows.push_back(flow.clone());
            kept.appended += 1;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), HistoryError> {
        Ok(())
    }

    fn maintain(&self, _now_ns: u64) -> Result<(), HistoryError> {
        Ok(())
    }

    fn flows(&self, of: &Selection, limit: u64) -> Result<Vec<Flow>, HistoryError> {
        let kept = self.kept();
        let selected = kept.flows.iter().filter(|f| of.takes_flow(f));
        let mut flows: Vec<&Flow> = selected.collect();
        flows.sort_by_key(|f| flow_order(f));
        let left_out = match usize::try_from(limit) {
            Ok(0) | Err(_) => 0,
            Ok(limit) => flows.len().saturating_sub(limit),
        };
        Ok(flows.into_iter().skip(left_out).cloned().collect())
    }

    fn conversations(
        &self,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        // What `each` breaks off is no error.
        let _ = self.selected(of)?.into_iter().try_for_each(each);
        Ok(())
    }

    fn matrix(&self, of: &Selection) -> Result<Vec<MatrixCell>, HistoryError> {
        Ok(questions::matrix(&self.selected(of)?))
    }

    fn series(&self, of: &Selection, step_s: u32) -> Result<Vec<SeriesPoint>, HistoryError> {
        Ok(questions::series(&self.selected(of)?, step_s))
    }

    fn top(
        &self,
        of: &Selection,
        by: TopBy,
        metric: Metric,
        limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError> {
        Ok(questions::top(&self.selected(of)?, by, metric, limit))
    }

    fn first_seen(&self, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        let mut edges = questions::edges(&self.selected(of)?, &self.all());
        edges.retain(|e| (of.since_ns..of.until_ns).contains(&e.first_ts.0));
        edges.sort_by_key(|e| (e.first_ts, e.src, e.dst, e.proto, e.port));
        Ok(edges)
    }

    fn rule_use(&self, of: &Selection) -> Result<Vec<RuleUse>, HistoryError> {
        Ok(questions::rule_use(&self.selected(of)?))
    }

    fn coverage(&self, of: &Selection) -> Result<CoverageShare, HistoryError> {
        Ok(questions::coverage(&self.selected(of)?))
    }

    fn talkers(&self, workload: &str, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        let mut selected = self.selected(of)?;
        match workload.parse::<std::net::IpAddr>() {
            Ok(address) => selected.retain(|c| c.src == address || c.dst == address),
            Err(_) => selected.retain(|c| {
                c.src_name.as_deref() == Some(workload) || c.dst_name.as_deref() == Some(workload)
            }),
        }
        let mut edges = questions::edges(&selected, &self.all());
        edges.sort_by(|a, b| {
            let place = |e: &Edge| (e.src, e.dst, e.proto, e.port);
            let bytes = |e: &Edge| e.sums.bytes();
            bytes(b).cmp(&bytes(a)).then(place(a).cmp(&place(b)))
        });
        Ok(edges)
    }

    fn sql(&self, _text: &str) -> Result<Table, HistoryError> {
        Err(HistoryError::Sql {
            why: "the engine `memory` has no tables and answers no SQL: set history.engine to \
                  `embedded` or `clickhouse`"
                .to_owned(),
        })
    }

    fn note_names(&self, at_ns: u64, names: &[Membership]) -> Result<(), HistoryError> {
        let mut kept = self.kept();
        let at = Ts(at_ns.max(kept.noted_ns));
        kept.noted_ns = at.0;
        for old in kept.names.iter_mut().filter(|m| m.until_ts.is_none()) {
            if !names.iter().any(|new| is_same_name(old, new)) {
                old.until_ts = Some(at);
            }
        }
        // What began and ended at one time never held.
        kept.names.retain(|m| m.until_ts != Some(m.from_ts));
        for new in names {
            let goes_on = |m: &Membership| m.until_ts.is_none() && is_same_name(m, new);
            if !kept.names.iter().any(goes_on) {
                kept.names.push(Membership {
                    from_ts: at,
                    until_ts: None,
                    ..new.clone()
                });
            }
        }
        Ok(())
    }

    fn names(&self, since_ns: u64, until_ns: u64) -> Result<Vec<Membership>, HistoryError> {
        let holds = |m: &&Membership| {
            m.from_ts.0 < until_ns && m.until_ts.is_none_or(|until| until.0 > since_ns)
        };
        let mut names: Vec<Membership> = self.kept().names.iter().filter(holds).cloned().collect();
        names.sort_by(|a, b| {
            (a.from_ts, &a.prefix, &a.workload).cmp(&(b.from_ts, &b.prefix, &b.workload))
        });
        Ok(names)
    }

    fn state(&self) -> HistoryState {
        let kept = self.kept();
        HistoryState {
            engine: "memory".to_owned(),
            tiers: vec![TierState {
                name: "flows".to_owned(),
                rows: u64::try_from(kept.flows.len()).unwrap_or(u64::MAX),
                oldest_ts: kept.flows.iter().map(|f| f.first_ts).min(),
                newest_ts: kept.flows.iter().map(|f| f.last_ts).max(),
                ..TierState::default()
            }],
            appended: kept.appended,
            ..HistoryState::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_refused_with_what_to_set() {
        let history = MemoryHistory::new(NonZeroUsize::MIN);
        let refused = history.sql("SELECT 1").unwrap_err().to_string();
        assert!(refused.contains("set history.engine"), "{refused}");
    }
}

//! Which tier, and which files, answer a question about conversations.
//!
//! An hour that the selection takes whole may be answered from the hourly roll-up: its sums are the same. At the edges
//! of the selection, where a conversation is in or out by its own times, and where its own sums are asked for, the
//! conversations of five minutes answer while they are kept, and parts of one conversation are added up first.

use super::ask::{StoredTable, Tables};
use super::conversation_table::{CONVERSATION_SCHEMA, conversations_view};
use super::files::{HOUR_NS, HOUR_S, StoredFile, Tier};
use super::state::Snapshot;
use crate::question::{Question, whole};
use crate::{HistoryError, INTERVAL_S, LONG_INTERVAL_S, Selection};
use api::filter::{Expr, Filter, WholeTest};
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of an hour there is.
#[derive(Default)]
struct Hour {
    short: Vec<Arc<StoredFile>>,
    long: Vec<Arc<StoredFile>>,
    /// Places of batches in memory.
    hot: Vec<usize>,
    last_ns: u64,
}

/// Hours and files that are read in one way.
#[derive(Default)]
struct Part {
    short: Vec<Arc<StoredFile>>,
    long: BTreeMap<u64, Arc<StoredFile>>,
    long_hours: BTreeSet<u64>,
    hot: BTreeSet<usize>,
    hot_hours: BTreeSet<u64>,
}

/// Whether the answer depends on the sums of single conversations.
fn tests_sums(expr: &Expr) -> bool {
    match expr {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(tests_sums),
        Expr::Not(inner) => tests_sums(inner),
        Expr::End(..) => false,
        Expr::Whole(test) => matches!(test, WholeTest::Number(..)),
    }
}

fn looks_at_sums(filter: &Filter) -> bool {
    filter.expr().is_some_and(tests_sums)
}

fn hours_of(snapshot: &Snapshot) -> BTreeMap<u64, Hour> {
    let mut hours: BTreeMap<u64, Hour> = BTreeMap::new();
    let long = [Tier::Short, Tier::Long];
    for file in long.iter().flat_map(|tier| snapshot.catalog.of(*tier)) {
        for number in &file.held.hours {
            let hour = hours.entry(*number).or_default();
            hour.last_ns = hour.last_ns.max(file.held.last_ns);
            match file.tier {
                Tier::Long => hour.long.push(Arc::clone(file)),
                _ => hour.short.push(Arc::clone(file)),
            }
        }
    }
    for (place, hot) in snapshot.hot.iter().enumerate() {
        for (number, _) in &hot.conversations {
            let hour = hours.entry(*number).or_default();
            hour.last_ns = hour.last_ns.max(hot.last_ns);
            hour.hot.push(place);
        }
    }
    hours
}

/// The selection to ask the source of [`conversations`] for: its times need no test where they are those of all rows.
pub(super) fn tested(snapshot: &Snapshot, question: &Question, of: &Selection) -> Selection {
    let is_all = hours_of(snapshot).iter().all(|(number, hour)| {
        let begin_ns = number.saturating_mul(HOUR_NS);
        let end_ns = begin_ns.saturating_add(HOUR_NS);
        let is_left_out =
            (begin_ns >= of.until_ns || hour.last_ns < of.since_ns) && !question.is_of_all_time();
        is_left_out || (of.since_ns <= begin_ns && end_ns <= of.until_ns)
    });
    if is_all { of.of_all_time() } else { of.clone() }
}

/// Registers the tables of a question, and gives its source.
pub(super) fn conversations(
    tables: &Tables,
    snapshot: &Snapshot,
    question: &Question,
    of: &Selection,
) -> Result<String, HistoryError> {
    let by_sums = looks_at_sums(&of.filter);
    let one_by_one = *question == Question::Conversations;
    let fine = match question {
        Question::Series { step_s } => step_s % LONG_INTERVAL_S != 0,
        _ => one_by_one || by_sums,
    };
    let (mut plain, mut parts) = (Part::default(), Part::default());
    for (number, hour) in hours_of(snapshot) {
        let begin_ns = number.saturating_mul(HOUR_NS);
        let end_ns = begin_ns.saturating_add(HOUR_NS);
        let is_outside = begin_ns >= of.until_ns || hour.last_ns < of.since_ns;
        if is_outside && !question.is_of_all_time() {
            continue;
        }
        let is_taken_whole = of.since_ns <= begin_ns && end_ns <= of.until_ns;
        let is_clear = is_outside || is_taken_whole;
        let is_short_whole = hour.short.iter().any(|f| f.rolled);
        let use_long = !hour.long.is_empty() && (!is_short_whole || (is_clear && !fine));
        let short: Vec<Arc<StoredFile>> = hour
            .short
            .into_iter()
            .filter(|f| !(use_long && f.rolled))
            .collect();
        let long = if use_long { hour.long } else { Vec::new() };
        let in_parts = short.len() + long.len() + hour.hot.len() > 1;
        let must_be_whole = one_by_one || by_sums || !is_clear;
        let part = if in_parts && must_be_whole {
            &mut parts
        } else {
            &mut plain
        };
        part.short.extend(short);
        if !long.is_empty() {
            part.long_hours.insert(number);
        }
        part.long.extend(long.into_iter().map(|f| (f.id, f)));
        if !hour.hot.is_empty() {
            part.hot_hours.insert(number);
        }
        part.hot.extend(hour.hot);
    }
    let mut selects = plain.selects(tables, snapshot, "plain")?;
    let in_parts = parts.selects(tables, snapshot, "parts")?;
    if !in_parts.is_empty() {
        let parts = format!("({})", in_parts.join(" UNION ALL "));
        selects.push(format!("SELECT * FROM {}", whole(&parts, "1 = 1")));
    }
    if selects.is_empty() {
        tables.add(
            "nothing",
            StoredTable::new(&CONVERSATION_SCHEMA, vec![], vec![]),
        )?;
        selects.push(conversations_view("nothing", INTERVAL_S));
    }
    Ok(format!("({})", selects.join(" UNION ALL ")))
}

impl Part {
    /// One `SELECT` for each kind of rows there is.
    fn selects(
        self,
        tables: &Tables,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Vec<String>, HistoryError> {
        let mut selects = Vec::new();
        let stored = |files, batches| StoredTable::new(&CONVERSATION_SCHEMA, files, batches);
        if !self.short.is_empty() {
            let table = format!("{name}_short");
            tables.add(&table, stored(self.short, vec![]))?;
            selects.push(conversations_view(&table, INTERVAL_S));
        }
        if !self.long_hours.is_empty() {
            let table = format!("{name}_long");
            tables.add(&table, stored(self.long.into_values().collect(), vec![]))?;
            let view = conversations_view(&table, LONG_INTERVAL_S);
            selects.push(format!("{view} WHERE {}", within(&self.long_hours)));
        }
        if !self.hot.is_empty() {
            let batches: Vec<RecordBatch> = self
                .hot
                .iter()
                .filter_map(|place| snapshot.hot.get(*place))
                .flat_map(|hot| &hot.conversations)
                .filter(|(hour, _)| self.hot_hours.contains(hour))
                .map(|(_, batch)| batch.clone())
                .collect();
            let table = format!("{name}_hot");
            tables.add(&table, stored(vec![], batches))?;
            selects.push(conversations_view(&table, INTERVAL_S));
        }
        Ok(selects)
    }
}

/// A condition that a conversation begins in one of these hours, in as few ranges as there are.
fn within(hours: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for hour in hours {
        match ranges.last_mut() {
            Some((_, end)) if *end == *hour => *end = hour + 1,
            _ => ranges.push((*hour, hour + 1)),
        }
    }
    let conditions: Vec<String> = ranges
        .iter()
        .map(|(begin, end)| {
            format!(
                "start_s >= {} AND start_s < {}",
                begin * HOUR_S,
                end * HOUR_S
            )
        })
        .collect();
    format!("({})", conditions.join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_follow_one_another_are_one_range() {
        assert_eq!(
            within(&BTreeSet::from([1, 2, 3, 7])),
            "(start_s >= 3600 AND start_s < 14400 OR start_s >= 25200 AND start_s < 28800)"
        );
    }

    #[test]
    fn only_a_test_of_sums_asks_for_single_conversations() {
        let looks = |text: &str| Filter::parse(text).is_ok_and(|f| looks_at_sums(&f));
        assert!(looks("tcp and not (bytes > 1k or udp)"));
        assert!(!looks("tcp and segment a and port 80"));
    }
}

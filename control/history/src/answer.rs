//! From the rows that [`Question`](crate::question::Question)s are answered with to answers, in their final order.

use crate::HistoryError;
use crate::question::{NAMES_BETWEEN, SUM_COLUMNS};
use api::Ts;
use api::history::{CoverageShare, Edge, MatrixCell, RuleUse, SeriesPoint, Sums, TopLine};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number; what is missing is 0, which is what a sum over nothing is.
    Number(u64),
}

/// Takes a row apart from the left. What is not there, or of another kind, is an error of the engine.
#[derive(Debug)]
pub struct Reader {
    values: std::vec::IntoIter<Value>,
}

impl Reader {
    /// At the row's first value.
    #[must_use]
    pub fn new(row: Vec<Value>) -> Self {
        Self {
            values: row.into_iter(),
        }
    }

    /// The next value, a text.
    ///
    /// # Errors
    /// [`HistoryError::Engine`].
    pub fn text(&mut self) -> Result<String, HistoryError> {
        match self.values.next() {
            Some(Value::Text(text)) => Ok(text),
            other => Err(odd("a text", &format!("{other:?}"))),
        }
    }

    /// The next value, a number.
    ///
    /// # Errors
    /// [`HistoryError::Engine`].
    pub fn number(&mut self) -> Result<u64, HistoryError> {
        match self.values.next() {
            Some(Value::Number(number)) => Ok(number),
            other => Err(odd("a number", &format!("{other:?}"))),
        }
    }

    /// The next values, in the order of [`SUM_COLUMNS`].
    ///
    /// # Errors
    /// [`HistoryError::Engine`].
    pub fn sums(&mut self) -> Result<Sums, HistoryError> {
        let mut numbers = [0; SUM_COLUMNS.len()];
        for number in &mut numbers {
            *number = self.number()?;
        }
        let [
            flows,
            pkts_fwd,
            bytes_fwd,
            pkts_rev,
            bytes_rev,
            dropped_packets,
            dropped_bytes,
        ] = numbers;
        Ok(Sums {
            flows,
            pkts_fwd,
            bytes_fwd,
            pkts_rev,
            bytes_rev,
            dropped_packets,
            dropped_bytes,
        })
    }

    fn address(&mut self) -> Result<IpAddr, HistoryError> {
        let text = self.text()?;
        text.parse().map_err(|_| odd("an address", &text))
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, HistoryError> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| odd("a smaller number", &number.to_string()))
    }

    fn name(&mut self) -> Result<Arc<str>, HistoryError> {
        self.text().map(Arc::from)
    }
}

fn odd(expected: &str, found: &str) -> HistoryError {
    HistoryError::Engine {
        what: "answer",
        why: format!("{expected} was expected in a row and {found} found"),
    }
}

/// A name that is there.
fn named(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// The names of a list; one that is missing where the list is empty.
fn each_segment(list: &str) -> Vec<Option<Arc<str>>> {
    list.split(',').map(named).collect()
}

/// Answer to [`Question::Matrix`](crate::question::Question::Matrix).
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn matrix(rows: Vec<Vec<Value>>) -> Result<Vec<MatrixCell>, HistoryError> {
    let mut cells = BTreeMap::new();
    for row in rows {
        let mut row = Reader::new(row);
        let (from, to) = (row.text()?, row.text()?);
        let (service, denied, would_deny, sums) =
            (row.name()?, row.number()?, row.number()?, row.sums()?);
        for src in each_segment(&from) {
            for dst in each_segment(&to) {
                let key = (src.clone(), dst, Arc::clone(&service));
                let (denied_flows, would_deny_flows, total): &mut (u64, u64, Sums) =
                    cells.entry(key).or_default();
                *denied_flows += denied;
                *would_deny_flows += would_deny;
                total.add(&sums);
            }
        }
    }
    let mut cells: Vec<MatrixCell> = cells
        .into_iter()
        .map(
            |((src_segment, dst_segment, service), (denied_flows, would_deny_flows, sums))| {
                MatrixCell {
                    src_segment,
                    dst_segment,
                    service,
                    denied_flows,
                    would_deny_flows,
                    sums,
                }
            },
        )
        .collect();
    // The sort is stable: cells of the same bytes stay by name.
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.sums.bytes()));
    Ok(cells)
}

/// Answer to [`Question::Series`](crate::question::Question::Series).
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn series(rows: Vec<Vec<Value>>) -> Result<Vec<SeriesPoint>, HistoryError> {
    let mut points = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = Reader::new(row);
        points.push(SeriesPoint {
            start_ts: Ts(row.number()?.saturating_mul(1_000_000_000)),
            denied_flows: row.number()?,
            sums: row.sums()?,
        });
    }
    points.sort_by_key(|point| point.start_ts);
    Ok(points)
}

/// Answer to [`Question::Top`](crate::question::Question::Top), whose order is final.
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn top(rows: Vec<Vec<Value>>) -> Result<Vec<TopLine>, HistoryError> {
    let line = |row| {
        let mut row = Reader::new(row);
        Ok(TopLine {
            name: row.name()?,
            denied_flows: row.number()?,
            sums: row.sums()?,
        })
    };
    rows.into_iter().map(line).collect()
}

fn edges(rows: Vec<Vec<Value>>) -> Result<Vec<Edge>, HistoryError> {
    let mut edges = Vec::with_capacity(rows.len());
    for row in rows {
        let mut row = Reader::new(row);
        let (src, dst) = (row.address()?, row.address()?);
        let (proto, port) = (row.small()?, row.small()?);
        let names = row.text()?;
        let mut names = names.split(NAMES_BETWEEN).map(named);
        edges.push(Edge {
            src,
            dst,
            proto,
            port,
            src_name: names.next().flatten(),
            dst_name: names.next().flatten(),
            service: names.next().flatten(),
            first_ts: Ts(row.number()?),
            last_ts: Ts(row.number()?),
            denied_flows: row.number()?,
            sums: row.sums()?,
        });
    }
    Ok(edges)
}

const fn place(edge: &Edge) -> (IpAddr, IpAddr, u8, u16) {
    (edge.src, edge.dst, edge.proto, edge.port)
}

/// Answer to [`Question::FirstSeen`](crate::question::Question::FirstSeen).
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn first_seen(rows: Vec<Vec<Value>>) -> Result<Vec<Edge>, HistoryError> {
    let mut edges = edges(rows)?;
    edges.sort_by_key(|edge| (edge.first_ts, place(edge)));
    Ok(edges)
}

/// Answer to [`Question::Talkers`](crate::question::Question::Talkers).
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn talkers(rows: Vec<Vec<Value>>) -> Result<Vec<Edge>, HistoryError> {
    let mut edges = edges(rows)?;
    edges.sort_by_key(|edge| (std::cmp::Reverse(edge.sums.bytes()), place(edge)));
    Ok(edges)
}

/// Answers to [`Question::RuleUse`](crate::question::Question::RuleUse) and to
/// [`Question::PendingRuleUse`](crate::question::Question::PendingRuleUse), together.
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn rule_use(
    decided: Vec<Vec<Value>>,
    pending: Vec<Vec<Value>>,
) -> Result<Vec<RuleUse>, HistoryError> {
    let mut rules: BTreeMap<Arc<str>, RuleUse> = BTreeMap::new();
    for row in decided {
        let mut row = Reader::new(row);
        let rule = row.name()?;
        let used = RuleUse {
            rule: Arc::clone(&rule),
            first_ts: Ts(row.number()?),
            last_ts: Ts(row.number()?),
            sources: row.number()?,
            destinations: row.number()?,
            services: row.number()?,
            pending_flows: 0,
            sums: row.sums()?,
        };
        rules.insert(rule, used);
    }
    for row in pending {
        let mut row = Reader::new(row);
        let rule = row.name()?;
        let used = rules.entry(Arc::clone(&rule)).or_insert_with(|| RuleUse {
            rule,
            first_ts: Ts(0),
            last_ts: Ts(0),
            sources: 0,
            destinations: 0,
            services: 0,
            pending_flows: 0,
            sums: Sums::default(),
        });
        used.pending_flows = row.number()?;
    }
    Ok(rules.into_values().collect())
}

/// Answer to [`Question::Coverage`](crate::question::Question::Coverage).
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn coverage(rows: Vec<Vec<Value>>) -> Result<CoverageShare, HistoryError> {
    let Some(row) = rows.into_iter().next() else {
        return Ok(CoverageShare::default());
    };
    let mut row = Reader::new(row);
    Ok(CoverageShare {
        all: row.sums()?,
        covered: row.sums()?,
        would_deny: row.sums()?,
        denied: row.sums()?,
    })
}

/// Answer to [`Question::TalkerAddresses`](crate::question::Question::TalkerAddresses), sorted.
///
/// # Errors
/// [`HistoryError::Engine`].
pub fn addresses(rows: Vec<Vec<Value>>) -> Result<Vec<String>, HistoryError> {
    let mut addresses = Vec::with_capacity(rows.len());
    for row in rows {
        addresses.push(Reader::new(row).text()?);
    }
    addresses.sort();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn numbers(numbers: &[u64]) -> Vec<Value> {
        numbers.iter().copied().map(Value::Number).collect()
    }

    #[test]
    fn an_end_in_two_segments_counts_in_the_cells_of_both() {
        let row = |src: &str, dst: &str, bytes| {
            let mut row = vec![text(src), text(dst), text("tcp/443")];
            row.extend(numbers(&[1, 2, 3, 4, bytes, 5, 6, 7, 8]));
            row
        };
        let cells = matrix(vec![row("a,b", "", 100), row("a", "", 50)]).unwrap();
        let told: Vec<(Option<&str>, Option<&str>, u64, u64)> = cells
            .iter()
            .map(|c| {
                let (src, dst) = (c.src_segment.as_deref(), c.dst_segment.as_deref());
                (src, dst, c.sums.bytes(), c.denied_flows)
            })
            .collect();
        assert_eq!(told, [(Some("a"), None, 162, 2), (Some("b"), None, 106, 1)]);
    }

    #[test]
    fn a_rule_that_decided_nothing_yet_is_told_with_what_it_would_have_decided() {
        let mut decided = vec![text("b")];
        decided.extend(numbers(&[10, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
        let pending = |rule: &str, flows| vec![text(rule), Value::Number(flows)];
        let rules = rule_use(vec![decided], vec![pending("b", 7), pending("a", 9)]).unwrap();
        let told: Vec<(&str, u64, u64, u64)> = rules
            .iter()
            .map(|r| (&*r.rule, r.first_ts.0, r.pending_flows, r.sums.flows))
            .collect();
        assert_eq!(told, [("a", 0, 9, 0), ("b", 10, 7, 4)]);
    }

    #[test]
    fn a_row_of_another_shape_is_the_engine_s_error() {
        let error = top(vec![vec![Value::Number(1)]]).unwrap_err().to_string();
        assert!(error.contains("a text was expected"), "{error}");
    }
}

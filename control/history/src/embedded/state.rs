//! What is in memory: rows that are not on disk yet, and the list of files.

use super::conversation_table::{CONVERSATION_SCHEMA, ConversationTable, Stored};
use super::files::{Catalog, HOUR_NS, Held, Tier};
use super::flow_columns::{FLOW_SCHEMA, FlowColumns, MS_NS, Words, odd};
use super::nothing;
use super::texts::Texts;
use crate::{HistoryError, INTERVAL_S};
use api::flow::Flow;
use api::history::SetAside;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows as they come.
#[derive(Debug)]
pub(super) struct Hot {
    texts: Texts,
    words: Words,
    rows: usize,
    /// By the hour since 1970 in which they begin.
    flows: BTreeMap<u64, FlowColumns>,
    conversations: ConversationTable,
    last_ns: u64,
}

impl Default for Hot {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl Hot {
    /// One that so many conversations fit into.
    fn with_room(conversations: usize) -> Self {
        let mut texts = Texts::default();
        Self {
            words: Words::new(&mut texts),
            texts,
            rows: 0,
            flows: BTreeMap::new(),
            conversations: ConversationTable::with_room(INTERVAL_S, conversations),
            last_ns: 0,
        }
    }

    /// An empty one, with room for as much as this one has.
    fn next(&self) -> Self {
        Self::with_room(self.conversations.rows())
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn push(&mut self, flow: &Flow) {
        let ids = self.words.shared_of(&mut self.texts, flow);
        let flows = self.flows.entry(flow.first_ns / HOUR_NS).or_default();
        flows.push(&self.words, &mut self.texts, flow, &ids);
        self.conversations.add_flow(flow, ids);
        self.last_ns = self.last_ns.max(flow.last_ns);
        self.rows += 1;
    }

    /// The rows, which nothing is added to any more.
    fn freeze(self) -> Result<Frozen, HistoryError> {
        let order = self.texts.order();
        let values = self.texts.values();
        let flows = self.flows.into_iter();
        let flows = flows.map(|(hour, columns)| Ok((hour, columns.into_batch(&values)?)));
        Ok(Frozen {
            rows: self.rows,
            flows: flows.collect::<Result<_, HistoryError>>()?,
            conversations: self.conversations.into_hours(&self.texts, &order)?,
            last_ns: self.last_ns,
        })
    }
}

/// Rows in memory that are told to questions and wait to be on disk. Columns in which no row of a batch has anything may
/// be missing.
#[derive(Debug)]
pub(super) struct Frozen {
    pub rows: usize,
    /// By the hour since 1970 in which they begin.
    pub flows: Vec<(u64, RecordBatch)>,
    /// As `flows`.
    pub conversations: Vec<(u64, RecordBatch)>,
    pub last_ns: u64,
}

impl Frozen {
    /// Several as one: fewer files.
    pub(super) fn together(all: &[Arc<Self>]) -> Result<Arc<Self>, HistoryError> {
        if let [one] = all {
            return Ok(Arc::clone(one));
        }
        let mut texts = Texts::default();
        let mut table = ConversationTable::new(INTERVAL_S);
        for (_, batch) in all.iter().flat_map(|f| &f.conversations) {
            let batch = nothing::with_all(batch, &CONVERSATION_SCHEMA)?;
            table.add_stored(&Stored::new(&mut texts, &batch)?);
        }
        let mut flows: BTreeMap<u64, Vec<&RecordBatch>> = BTreeMap::new();
        for (hour, batch) in all.iter().flat_map(|f| &f.flows) {
            flows.entry(*hour).or_default().push(batch);
        }
        let flows = flows
            .into_iter()
            .map(|(hour, batches)| Ok((hour, nothing::concat(&FLOW_SCHEMA, &batches)?)));
        let order = texts.order();
        Ok(Arc::new(Self {
            rows: all.iter().map(|f| f.rows).sum(),
            flows: flows.collect::<Result<_, HistoryError>>()?,
            conversations: table.into_hours(&texts, &order)?,
            last_ns: all.iter().map(|f| f.last_ns).max().unwrap_or(0),
        }))
    }
}

/// Columns that times stand in.
struct Times<'b> {
    start_s: Option<&'b [i64]>,
    first_ms: &'b [i64],
    first_sub_ns: Option<&'b [i64]>,
    span_ms: &'b [i64],
    last_sub_ns: Option<&'b [i64]>,
}

impl<'b> Times<'b> {
    fn new(batch: &'b RecordBatch, tier: Tier) -> Result<Self, HistoryError> {
        let optional = |name: &str| {
            let column = batch.column_by_name(name);
            let numbers = column.and_then(|c| c.as_primitive_opt::<Int64Type>());
            numbers.map(|n| n.values().as_ref())
        };
        let column =
            |name: &str| optional(name).ok_or_else(|| odd(format!("there is no column {name}")));
        let start_s = match tier {
            Tier::Flows => None,
            Tier::Short | Tier::Long => Some(column("start_s")?),
        };
        Ok(Self {
            start_s,
            first_ms: column("first_ms")?,
            first_sub_ns: optional("first_sub_ns"),
            span_ms: column("span_ms")?,
            last_sub_ns: optional("last_sub_ns"),
        })
    }

    /// First and last packet.
    fn of(&self, row: usize) -> (u64, u64) {
        let at = |numbers: Option<&[i64]>| numbers.map_or(0, |n| n.get(row).copied().unwrap_or(0));
        let ns = |ms: i64, sub: i64| {
            let ms = u64::try_from(ms).unwrap_or(0);
            ms.saturating_mul(MS_NS)
                .saturating_add(u64::try_from(sub).unwrap_or(0))
        };
        let first_ms = at(Some(self.first_ms)) + at(self.start_s) * 1000;
        let last_ms = first_ms + at(Some(self.span_ms));
        let first_ns = ns(first_ms, at(self.first_sub_ns));
        (first_ns, ns(last_ms, at(self.last_sub_ns)))
    }
}

/// What a file of these rows says of itself.
pub(super) fn held(batch: &RecordBatch, tier: Tier, partition: u64) -> Result<Held, HistoryError> {
    let times = Times::new(batch, tier)?;
    let mut hours = BTreeSet::new();
    let mut newest_hour = None;
    let mut held = Held {
        partition,
        rows: 0,
        first_ns: u64::MAX,
        last_ns: 0,
        hours: Vec::new(),
    };
    for row in 0..batch.num_rows() {
        let (first_ns, last_ns) = times.of(row);
        held.rows += 1;
        held.first_ns = held.first_ns.min(first_ns);
        held.last_ns = held.last_ns.max(last_ns);
        let hour = Some(first_ns / HOUR_NS);
        if newest_hour != hour {
            newest_hour = hour;
            hours.extend(hour);
        }
    }
    held.hours = hours.into_iter().collect();
    Ok(held)
}

/// Everything that a question needs, as it is at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub catalog: Catalog,
    pub hot: Vec<Arc<Frozen>>,
}

impl Snapshot {
    /// The flow records in memory.
    pub(super) fn hot_flows(&self) -> Vec<RecordBatch> {
        let flows = self.hot.iter().flat_map(|hot| &hot.flows);
        flows.map(|(_, batch)| batch.clone()).collect()
    }
}

/// What every thread shares.
#[derive(Debug, Default)]
pub(super) struct State {
    pub hot: Hot,
    /// Older first.
    pub frozen: Vec<Arc<Frozen>>,
    pub catalog: Catalog,
    /// Since this process started.
    pub appended: u64,
    pub refused: u64,
    /// Flow records ever taken, by any process.
    pub taken: u64,
    pub lost: u64,
    pub error: Option<String>,
    pub set_aside: Vec<SetAside>,
}

impl State {
    pub(super) fn rows_in_memory(&self) -> usize {
        self.hot.rows() + self.frozen.iter().map(|f| f.rows).sum::<usize>()
    }

    /// What came so far is frozen, not copied: a question costs each row once.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot, HistoryError> {
        Ok(Snapshot {
            hot: self.freeze()?,
            catalog: self.catalog.clone(),
        })
    }

    /// Nothing is added any more to what is in memory; it waits to be on disk.
    pub(super) fn freeze(&mut self) -> Result<Vec<Arc<Frozen>>, HistoryError> {
        if self.hot.rows() > 0 {
            let next = self.hot.next();
            let hot = std::mem::replace(&mut self.hot, next);
            self.frozen.push(Arc::new(hot.freeze()?));
        }
        Ok(self.frozen.clone())
    }
}

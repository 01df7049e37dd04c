//! What is in memory: rows that are not on disk yet, and the list of files.

use super::conversation_table::{ConversationTable, Stored};
use super::files::{Catalog, HOUR_NS, Held, Tier};
use super::flow_columns::{FLOW_SCHEMA, FlowColumns, MS_NS, odd};
use super::texts::Texts;
use crate::{HistoryError, INTERVAL_S};
use api::flow::Flow;
use api::history::SetAside;
use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Int64Type;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows as they come.
#[derive(Debug)]
pub(super) struct Hot {
    texts: Texts,
    flows: FlowColumns,
    conversations: ConversationTable,
    last_ns: u64,
}

impl Default for Hot {
    fn default() -> Self {
        let mut texts = Texts::default();
        Self {
            flows: FlowColumns::new(&mut texts),
            texts,
            conversations: ConversationTable::new(INTERVAL_S),
            last_ns: 0,
        }
    }
}

impl Hot {
    pub(super) fn rows(&self) -> usize {
        self.flows.rows()
    }

    pub(super) fn push(&mut self, flow: &Flow) {
        let ids = self.flows.push(&mut self.texts, flow);
        self.conversations.add_flow(flow, ids);
        self.last_ns = self.last_ns.max(flow.last_ns);
    }

    /// The rows, which nothing is added to any more.
    fn freeze(self) -> Result<Frozen, HistoryError> {
        let order = self.texts.order();
        let conversations = self.conversations.into_batch(&self.texts, &order)?;
        Ok(Frozen {
            rows: self.flows.rows(),
            flows: self.flows.into_batch(&self.texts)?,
            conversation_hours: hours(&conversations, Tier::Short)?,
            conversations,
            last_ns: self.last_ns,
        })
    }
}

/// Rows in memory that are told to questions and wait to be on disk.
#[derive(Debug)]
pub(super) struct Frozen {
    pub rows: usize,
    pub flows: RecordBatch,
    pub conversations: RecordBatch,
    /// Hours since 1970 in which conversations begin.
    pub conversation_hours: Vec<u64>,
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
        for frozen in all {
            table.add_stored(&Stored::new(&mut texts, &frozen.conversations)?);
        }
        let order = texts.order();
        let conversations = table.into_batch(&texts, &order)?;
        Ok(Arc::new(Self {
            rows: all.iter().map(|f| f.rows).sum(),
            flows: concat_batches(&FLOW_SCHEMA, all.iter().map(|f| &f.flows)).map_err(odd)?,
            conversation_hours: hours(&conversations, Tier::Short)?,
            conversations,
            last_ns: all.iter().map(|f| f.last_ns).max().unwrap_or(0),
        }))
    }
}

/// Columns that times stand in.
struct Times<'b> {
    start_s: Option<&'b [i64]>,
    first_ms: &'b [i64],
    first_sub_ns: &'b [i64],
    span_ms: &'b [i64],
    last_sub_ns: &'b [i64],
}

impl<'b> Times<'b> {
    fn new(batch: &'b RecordBatch, tier: Tier) -> Result<Self, HistoryError> {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            let numbers = column.and_then(|c| c.as_primitive_opt::<Int64Type>());
            numbers
                .map(|n| n.values().as_ref())
                .ok_or_else(|| odd(format!("there is no column {name}")))
        };
        let start_s = match tier {
            Tier::Flows => None,
            Tier::Short | Tier::Long => Some(column("start_s")?),
        };
        Ok(Self {
            start_s,
            first_ms: column("first_ms")?,
            first_sub_ns: column("first_sub_ns")?,
            span_ms: column("span_ms")?,
            last_sub_ns: column("last_sub_ns")?,
        })
    }

    /// First and last packet, and the hour that the row belongs to.
    fn of(&self, row: usize) -> (u64, u64, u64) {
        let at = |numbers: &[i64]| numbers.get(row).copied().unwrap_or(0);
        let ns = |ms: i64, sub: i64| {
            let ms = u64::try_from(ms).unwrap_or(0);
            ms.saturating_mul(MS_NS)
                .saturating_add(u64::try_from(sub).unwrap_or(0))
        };
        let first_ms = at(self.first_ms) + self.start_s.map_or(0, |s| at(s) * 1000);
        let first_ns = ns(first_ms, at(self.first_sub_ns));
        let last_ns = ns(first_ms + at(self.span_ms), at(self.last_sub_ns));
        (first_ns, last_ns, first_ns / HOUR_NS)
    }
}

fn hours(batch: &RecordBatch, tier: Tier) -> Result<Vec<u64>, HistoryError> {
    let times = Times::new(batch, tier)?;
    let mut hours: Vec<u64> = (0..batch.num_rows()).map(|row| times.of(row).2).collect();
    hours.sort_unstable();
    hours.dedup();
    Ok(hours)
}

/// What a file of these rows says of itself.
pub(super) fn held(batch: &RecordBatch, tier: Tier, partition: u64) -> Result<Held, HistoryError> {
    let times = Times::new(batch, tier)?;
    let mut held = Held {
        partition,
        rows: 0,
        first_ns: u64::MAX,
        last_ns: 0,
        hours: hours(batch, tier)?,
    };
    for row in 0..batch.num_rows() {
        let (first_ns, last_ns, _) = times.of(row);
        held.rows += 1;
        held.first_ns = held.first_ns.min(first_ns);
        held.last_ns = held.last_ns.max(last_ns);
    }
    Ok(held)
}

/// The rows by the hour that they belong to.
pub(super) fn by_hour(
    batch: &RecordBatch,
    tier: Tier,
) -> Result<Vec<(u64, RecordBatch)>, HistoryError> {
    if let [hour] = hours(batch, tier)?.as_slice() {
        return Ok(vec![(*hour, batch.clone())]);
    }
    let times = Times::new(batch, tier)?;
    let mut rows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        rows.entry(times.of(row).2).or_default().push(row as u64);
    }
    let mut parts = Vec::with_capacity(rows.len());
    for (hour, rows) in rows {
        let part = take_record_batch(batch, &UInt64Array::from(rows)).map_err(odd)?;
        parts.push((hour, part));
    }
    Ok(parts)
}

/// Everything that a question needs, as it is at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub catalog: Catalog,
    pub hot: Vec<Arc<Frozen>>,
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
            let hot = std::mem::take(&mut self.hot);
            self.frozen.push(Arc::new(hot.freeze()?));
        }
        Ok(self.frozen.clone())
    }
}

//! Conversations being added up: from flow records as they come, and from conversations that are rolled up or merged.

use super::files::HOUR_S;
use super::flow_columns::{SharedIds, odd, schema_of, split_ns, text_column};
use super::nothing;
use super::texts::Texts;
use crate::HistoryError;
use crate::question::{KEY_COLUMNS, SUM_COLUMNS};
use api::flow::Flow;
use api::history::Sums;
use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type, UInt64Type};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

const TEXTS: [&str; 16] = [
    "src",
    "dst",
    "src_name",
    "dst_name",
    "src_segments",
    "dst_segments",
    "service",
    "verdict",
    "verdict_source",
    "rule",
    "pending_verdict",
    "pending_source",
    "pending_rule",
    "mode",
    "coverage",
    "initiator_evidence",
];
const SMALL: [&str; 8] = [
    "start_s",
    "proto",
    "port",
    "folded",
    "first_ms",
    "first_sub_ns",
    "span_ms",
    "last_sub_ns",
];
const LARGE: [&str; 7] = [
    "flows",
    "pkts_fwd",
    "bytes_fwd",
    "pkts_rev",
    "bytes_rev",
    "dropped_packets",
    "dropped_bytes",
];

/// As [`super::flow_columns::SCATTERED`].
pub(super) const SCATTERED: &[&str] = &[
    "first_ms",
    "first_sub_ns",
    "span_ms",
    "last_sub_ns",
    "bytes_fwd",
    "bytes_rev",
    "pkts_fwd",
    "pkts_rev",
];

/// What is written and read. `first_ms` is the distance from the beginning of the interval.
pub(super) static CONVERSATION_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| schema_of(&TEXTS, &SMALL, &LARGE));

/// Conversations as questions see them, over the columns that are kept.
pub(super) fn conversations_view(stored: &str, interval_s: u32) -> String {
    let unsigned = |text: &str| format!("CAST({text} AS BIGINT UNSIGNED)");
    let million = unsigned("1000000");
    let column_of = |column: &str| nothing::or_nothing(&CONVERSATION_SCHEMA, column);
    let columns: Vec<String> = KEY_COLUMNS
        .iter()
        .chain(&["first_ns", "last_ns"])
        .chain(SUM_COLUMNS)
        .map(|column| match *column {
            "interval_s" => format!("{interval_s} AS interval_s"),
            "first_ns" => format!(
                "{} * {million} + {} AS first_ns",
                unsigned("start_s * 1000 + first_ms"),
                unsigned(&column_of("first_sub_ns"))
            ),
            "last_ns" => format!(
                "{} * {million} + {} AS last_ns",
                unsigned("start_s * 1000 + first_ms + span_ms"),
                unsigned(&column_of("last_sub_ns"))
            ),
            column => match nothing::may_lack(column) {
                true => format!("{} AS {column}", column_of(column)),
                false => column.to_owned(),
            },
        })
        .collect();
    format!("SELECT {} FROM {stored}", columns.join(", "))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    start_s: u64,
    ids: SharedIds,
    proto: u8,
    folded: bool,
    port: u16,
}

/// Conversations of the same ends, service, time and rules seldom differ in what is left: that is compared, not hashed.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        state.write_u64(pair(self.ids.src, self.ids.dst));
        state.write_u64(pair(self.ids.rule, self.ids.pending_rule));
        state.write_u64(self.start_s << 24 | u64::from(self.proto) << 16 | u64::from(self.port));
    }
}

type Hashes = foldhash::fast::RandomState;

#[derive(Clone, Copy, Debug)]
struct Added {
    first_ns: u64,
    last_ns: u64,
    sums: Sums,
}

/// Conversations by what they are.
#[derive(Debug)]
pub(super) struct ConversationTable {
    interval_s: u64,
    added: IndexMap<Key, Added, Hashes>,
}

/// A conversation, and where it stands among others.
type Placed<'t> = ([u64; 4], &'t Key, &'t Added);

/// The conversations of one interval of `span_s` after the other, each in the order in which they are kept.
fn sorted(
    added: &IndexMap<Key, Added, Hashes>,
    order: &[u32],
    span_s: u64,
) -> BTreeMap<u64, Vec<(Key, Added)>> {
    let place = |id: u32| -> u64 {
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        order.get(index).copied().unwrap_or(u32::MAX).into()
    };
    let mut spans: BTreeMap<u64, Vec<Placed<'_>>> = BTreeMap::new();
    for (key, added) in added {
        let ends = place(key.ids.src) << 32 | place(key.ids.dst);
        let service = u64::from(key.proto) << 16 | u64::from(key.port);
        let place = [ends, service, key.start_s, added.first_ns];
        let span = spans.entry(key.start_s / span_s).or_default();
        span.push((place, key, added));
    }
    let sort = |mut rows: Vec<Placed<'_>>| {
        rows.sort_unstable_by_key(|(place, ..)| *place);
        let rows = rows.iter().map(|(_, key, added)| (**key, **added));
        rows.collect()
    };
    spans
        .into_iter()
        .map(|(span, rows)| (span, sort(rows)))
        .collect()
}

impl ConversationTable {
    pub(super) fn new(interval_s: u32) -> Self {
        Self::with_room(interval_s, 0)
    }

    /// One that `rows` fit into.
    pub(super) fn with_room(interval_s: u32, rows: usize) -> Self {
        Self {
            interval_s: u64::from(interval_s.max(1)),
            added: IndexMap::with_capacity_and_hasher(rows, Hashes::default()),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.added.len()
    }

    fn add(&mut self, key: Key, added: &Added) {
        self.added
            .entry(key)
            .and_modify(|sum| {
                sum.first_ns = sum.first_ns.min(added.first_ns);
                sum.last_ns = sum.last_ns.max(added.last_ns);
                sum.sums.add(&added.sums);
            })
            .or_insert(*added);
    }

    /// Adds a flow record; the same as [`api::history::Conversation::of`] says.
    pub(super) fn add_flow(&mut self, flow: &Flow, ids: SharedIds) {
        let interval_ns = self.interval_s * 1_000_000_000;
        let key = Key {
            start_s: (flow.first_ns - flow.first_ns % interval_ns) / 1_000_000_000,
            ids,
            proto: flow.proto,
            folded: flow.aggregate.is_some(),
            port: port_of(flow),
        };
        let added = Added {
            first_ns: flow.first_ns,
            last_ns: flow.last_ns,
            sums: Sums::of(flow),
        };
        self.add(key, &added);
    }

    /// Adds conversations of an interval that this one's is a multiple of.
    pub(super) fn add_stored(&mut self, stored: &Stored<'_>) {
        for row in 0..stored.rows {
            let (mut key, added) = stored.row(row);
            key.start_s -= key.start_s % self.interval_s;
            self.add(key, &added);
        }
    }

    /// The conversations as one batch, in the order of [`Self::into_hours`].
    pub(super) fn into_batch(
        self,
        texts: &Texts,
        order: &[u32],
    ) -> Result<RecordBatch, HistoryError> {
        let mut spans = sorted(&self.added, order, u64::MAX);
        batch(&spans.remove(&0).unwrap_or_default(), &texts.values())
    }

    /// The conversations of each hour since 1970 as a batch: by source, destination and service, then time, so that
    /// what one host did lies together. `order` is that of `texts`.
    pub(super) fn into_hours(
        self,
        texts: &Texts,
        order: &[u32],
    ) -> Result<Vec<(u64, RecordBatch)>, HistoryError> {
        let values = texts.values();
        let hours = sorted(&self.added, order, HOUR_S).into_iter();
        let batches = hours.map(|(hour, rows)| Ok((hour, batch(&rows, &values)?)));
        batches.collect()
    }
}

fn batch(rows: &[(Key, Added)], values: &Arc<StringArray>) -> Result<RecordBatch, HistoryError> {
    let id = |of: fn(&SharedIds) -> u32| -> Result<ArrayRef, HistoryError> {
        let ids = UInt32Array::from_iter_values(rows.iter().map(|(key, _)| of(&key.ids)));
        text_column(ids, values)
    };
    let small = |of: fn(&Key, &Added) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            rows.iter().map(|(key, added)| of(key, added)),
        ))
    };
    let large = |of: fn(&Sums) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(
            rows.iter().map(|(_, added)| of(&added.sums)),
        ))
    };
    let columns = vec![
        id(|i| i.src)?,
        id(|i| i.dst)?,
        id(|i| i.src_name)?,
        id(|i| i.dst_name)?,
        id(|i| i.src_segments)?,
        id(|i| i.dst_segments)?,
        id(|i| i.service)?,
        id(|i| i.verdict)?,
        id(|i| i.verdict_source)?,
        id(|i| i.rule)?,
        id(|i| i.pending_verdict)?,
        id(|i| i.pending_source)?,
        id(|i| i.pending_rule)?,
        id(|i| i.mode)?,
        id(|i| i.coverage)?,
        id(|i| i.evidence)?,
        small(|key, _| signed(key.start_s)),
        small(|key, _| key.proto.into()),
        small(|key, _| key.port.into()),
        small(|key, _| key.folded.into()),
        small(|key, added| split_ns(added.first_ns).0 - signed(key.start_s) * 1000),
        small(|_, added| split_ns(added.first_ns).1),
        small(|_, added| split_ns(added.last_ns).0 - split_ns(added.first_ns).0),
        small(|_, added| split_ns(added.last_ns).1),
        large(|s| s.flows),
        large(|s| s.pkts_fwd),
        large(|s| s.bytes_fwd),
        large(|s| s.pkts_rev),
        large(|s| s.bytes_rev),
        large(|s| s.dropped_packets),
        large(|s| s.dropped_bytes),
    ];
    RecordBatch::try_new(Arc::clone(&CONVERSATION_SCHEMA), columns).map_err(odd)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// [`api::history::Conversation::port`].
fn port_of(flow: &Flow) -> u16 {
    match (&flow.aggregate, flow.proto) {
        (Some(_), _) => 0,
        (None, 1 | 58) => {
            u16::from(flow.icmp_type.unwrap_or(0)) << 8 | u16::from(flow.icmp_code.unwrap_or(0))
        }
        (None, _) => flow.dport,
    }
}

/// Rows as they are kept, with the ids that their texts have in another dictionary.
#[derive(Debug)]
pub(super) struct Stored<'b> {
    rows: usize,
    texts: Vec<(&'b UInt32Array, Vec<u32>)>,
    small: Vec<&'b Int64Array>,
    large: Vec<&'b UInt64Array>,
}

impl<'b> Stored<'b> {
    pub(super) fn new(texts: &mut Texts, batch: &'b RecordBatch) -> Result<Self, HistoryError> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| odd(format!("there is no column {name}")))
        };
        let mut stored = Self {
            rows: batch.num_rows(),
            texts: Vec::with_capacity(TEXTS.len()),
            small: Vec::with_capacity(SMALL.len()),
            large: Vec::with_capacity(LARGE.len()),
        };
        for name in TEXTS {
            let dictionary = column(name)?.as_dictionary_opt::<UInt32Type>();
            let Some(dictionary) = dictionary else {
                return Err(odd(format!("column {name} is no dictionary")));
            };
            let values = dictionary.values().as_string::<i32>();
            let ids = values.iter().map(|t| texts.text(t.unwrap_or(""))).collect();
            stored.texts.push((dictionary.keys(), ids));
        }
        for name in SMALL {
            let numbers = column(name)?.as_primitive_opt::<Int64Type>();
            stored.small.push(numbers.ok_or_else(|| odd(name))?);
        }
        for name in LARGE {
            let numbers = column(name)?.as_primitive_opt::<UInt64Type>();
            stored.large.push(numbers.ok_or_else(|| odd(name))?);
        }
        Ok(stored)
    }

    fn row(&self, row: usize) -> (Key, Added) {
        let id = |column: usize| {
            self.texts.get(column).map_or(0, |(keys, ids)| {
                let key = usize::try_from(keys.value(row)).unwrap_or(usize::MAX);
                ids.get(key).copied().unwrap_or(0)
            })
        };
        let small = |column: usize| self.small.get(column).map_or(0, |n| n.value(row));
        let large = |column: usize| self.large.get(column).map_or(0, |n| n.value(row));
        let ns = |ms: i64, sub: i64| {
            u64::try_from(ms)
                .unwrap_or(0)
                .saturating_mul(super::flow_columns::MS_NS)
                .saturating_add(u64::try_from(sub).unwrap_or(0))
        };
        let first_ms = small(0) * 1000 + small(4);
        let ids = SharedIds {
            src: id(0),
            dst: id(1),
            src_name: id(2),
            dst_name: id(3),
            src_segments: id(4),
            dst_segments: id(5),
            service: id(6),
            verdict: id(7),
            verdict_source: id(8),
            rule: id(9),
            pending_verdict: id(10),
            pending_source: id(11),
            pending_rule: id(12),
            mode: id(13),
            coverage: id(14),
            evidence: id(15),
        };
        let key = Key {
            start_s: u64::try_from(small(0)).unwrap_or(0),
            ids,
            proto: u8::try_from(small(1)).unwrap_or(0),
            port: u16::try_from(small(2)).unwrap_or(0),
            folded: small(3) != 0,
        };
        let added = Added {
            first_ns: ns(first_ms, small(5)),
            last_ns: ns(first_ms + small(6), small(7)),
            sums: Sums {
                flows: large(0),
                pkts_fwd: large(1),
                bytes_fwd: large(2),
                pkts_rev: large(3),
                bytes_rev: large(4),
                dropped_packets: large(5),
                dropped_bytes: large(6),
            },
        };
        (key, added)
    }
}

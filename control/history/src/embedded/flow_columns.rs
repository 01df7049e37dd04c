//! Flow records as columns: in memory, on disk, and back.
//!
//! Times are kept as milliseconds and the nanoseconds beside them: where a clock counts milliseconds the second column
//! is constant and costs nothing. The last packet is kept as its distance from the first.

use super::nothing;
use super::texts::{Texts, word_ids};
use crate::HistoryError;
use crate::question::FLOW_COLUMNS;
use api::Ts;
use api::flow::{Aggregate, Flow, FlowId, Tunnel};
use api::words::{
    Action, Coverage, EndReason, InitiatorEvidence, Kind, Mode, NamedBy, TcpState, VerdictSource,
};
use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// Nanoseconds of a millisecond.
pub(super) const MS_NS: u64 = 1_000_000;

/// Columns of text, in the order of [`FlowColumns::texts_of`].
const TEXTS: [&str; 28] = [
    "src",
    "dst",
    "src_name",
    "dst_name",
    "src_segments",
    "dst_segments",
    "named_by",
    "service",
    "end_reason",
    "kind",
    "verdict",
    "verdict_source",
    "rule",
    "pending_verdict",
    "pending_source",
    "pending_rule",
    "mode",
    "coverage",
    "drop_reason",
    "initiator_evidence",
    "tcp_state",
    "tunnel_kind",
    "outer_src",
    "outer_dst",
    "vlans",
    "ingress_port",
    "egress_port",
    "aggregate_protocols",
];

/// Columns of numbers below 2^63, or -1 where there is none, in the order of [`small_of`].
const SMALL: [&str; 28] = [
    "first_ms",
    "first_sub_ns",
    "span_ms",
    "last_sub_ns",
    "proto",
    "sport",
    "dport",
    "icmp_type",
    "icmp_code",
    "initiator_confidence",
    "initiator_flipped",
    "tcp_flags_fwd",
    "tcp_flags_rev",
    "rtt_initiator_us",
    "rtt_responder_us",
    "retransmits_fwd",
    "retransmits_rev",
    "tos_fwd",
    "tos_rev",
    "tunnel_id",
    "worker",
    "begins",
    "aggregate_flows",
    "aggregate_sources",
    "aggregate_destinations",
    "aggregate_ports",
    "aggregate_port_low",
    "aggregate_port_high",
];

/// Columns of other numbers, in the order of [`large_of`].
const LARGE: [&str; 11] = [
    "seq",
    "pkts_fwd",
    "bytes_fwd",
    "pkts_rev",
    "bytes_rev",
    "dropped_packets",
    "dropped_bytes",
    "epoch",
    "flow_id",
    "aggregate_refused",
    "aggregate_since_ns",
];

/// Columns whose values differ from row to row: packed as differences from the row before.
pub(super) const COUNTING: &[&str] = &["first_ms", "seq", "flow_id"];
/// Columns whose values differ from row to row without order: split into bytes, each compressed alone.
pub(super) const SCATTERED: &[&str] = &[
    "first_sub_ns",
    "span_ms",
    "last_sub_ns",
    "sport",
    "bytes_fwd",
    "bytes_rev",
    "rtt_initiator_us",
    "rtt_responder_us",
];

/// A dictionary column in memory; on disk, and in questions, plain text.
pub(super) fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

pub(super) fn schema_of(texts: &[&str], small: &[&str], large: &[&str]) -> SchemaRef {
    let field =
        |data_type: DataType| move |name: &&str| Field::new(*name, data_type.clone(), false);
    let fields: Vec<Field> = texts
        .iter()
        .map(field(text_type()))
        .chain(small.iter().map(field(DataType::Int64)))
        .chain(large.iter().map(field(DataType::UInt64)))
        .collect();
    Arc::new(Schema::new(fields))
}

/// What is written and read.
pub(super) static FLOW_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| schema_of(&TEXTS, &SMALL, &LARGE));

/// The table `flows` as questions see it, over the columns that are kept.
pub(super) fn flows_view(stored: &str) -> String {
    let unsigned = |text: &str| format!("CAST({text} AS BIGINT UNSIGNED)");
    let column_of = |column: &str| nothing::or_nothing(&FLOW_SCHEMA, column);
    let columns: Vec<String> = FLOW_COLUMNS
        .iter()
        .map(|column| match *column {
            "first_ns" => format!(
                "{} * {} + {} AS first_ns",
                unsigned("first_ms"),
                unsigned("1000000"),
                unsigned(&column_of("first_sub_ns"))
            ),
            "last_ns" => format!(
                "{} * {} + {} AS last_ns",
                unsigned("first_ms + span_ms"),
                unsigned("1000000"),
                unsigned(&column_of("last_sub_ns"))
            ),
            "flow_id" => "hex16(flow_id) AS flow_id".to_owned(),
            column => match nothing::may_lack(column) {
                true => format!("{} AS {column}", column_of(column)),
                false => column.to_owned(),
            },
        })
        .collect();
    format!("SELECT {} FROM {stored}", columns.join(", "))
}

/// Ids of words, by the place of a value in its enumeration.
#[derive(Debug)]
pub(super) struct Words {
    named_by: Vec<u32>,
    end_reason: Vec<u32>,
    kind: Vec<u32>,
    action: Vec<u32>,
    source: Vec<u32>,
    mode: Vec<u32>,
    coverage: Vec<u32>,
    evidence: Vec<u32>,
    tcp_state: Vec<u32>,
}

impl Words {
    pub(super) fn new(texts: &mut Texts) -> Self {
        Self {
            named_by: word_ids!(texts, NamedBy),
            end_reason: word_ids!(texts, EndReason),
            kind: word_ids!(texts, Kind),
            action: word_ids!(texts, Action),
            source: word_ids!(texts, VerdictSource),
            mode: word_ids!(texts, Mode),
            coverage: word_ids!(texts, Coverage),
            evidence: word_ids!(texts, InitiatorEvidence),
            tcp_state: word_ids!(texts, TcpState),
        }
    }
}

fn of(ids: &[u32], place: usize) -> u32 {
    ids.get(place).copied().unwrap_or(0)
}

/// What a flow record shares with its conversation, as ids of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedIds {
    pub src: u32,
    pub dst: u32,
    pub src_name: u32,
    pub dst_name: u32,
    pub src_segments: u32,
    pub dst_segments: u32,
    pub service: u32,
    pub verdict: u32,
    pub verdict_source: u32,
    pub rule: u32,
    pub pending_verdict: u32,
    pub pending_source: u32,
    pub pending_rule: u32,
    pub mode: u32,
    pub coverage: u32,
    pub evidence: u32,
}

/// A column in memory. One that a file may lack takes no room until a row has something in it.
#[derive(Debug)]
enum Filled<T> {
    /// So many rows, with this in each.
    Nothing(T, usize),
    Rows(Vec<T>),
}

impl<T: Copy + PartialEq> Filled<T> {
    fn new(column: &str, nothing: T) -> Self {
        match nothing::may_lack(column) {
            true => Self::Nothing(nothing, 0),
            false => Self::Rows(Vec::new()),
        }
    }

    fn push(&mut self, value: T) {
        match self {
            Self::Rows(rows) => rows.push(value),
            Self::Nothing(nothing, rows) if *nothing == value => *rows += 1,
            Self::Nothing(nothing, rows) => {
                let mut filled = vec![*nothing; *rows];
                filled.push(value);
                *self = Self::Rows(filled);
            }
        }
    }

    /// The values, if there is anything.
    fn rows(self) -> Option<Vec<T>> {
        match self {
            Self::Rows(rows) => Some(rows),
            Self::Nothing(..) => None,
        }
    }
}

/// Flow records in memory, by column.
#[derive(Debug)]
pub(super) struct FlowColumns {
    texts: [Filled<u32>; TEXTS.len()],
    small: [Filled<i64>; SMALL.len()],
    large: [Filled<u64>; LARGE.len()],
}

impl Default for FlowColumns {
    fn default() -> Self {
        Self {
            texts: TEXTS.map(|column| Filled::new(column, 0)),
            small: SMALL.map(|column| Filled::new(column, nothing::number_for_nothing(column))),
            large: LARGE.map(|column| Filled::new(column, 0)),
        }
    }
}

impl FlowColumns {
    /// Adds a row.
    pub(super) fn push(
        &mut self,
        words: &Words,
        texts: &mut Texts,
        flow: &Flow,
        shared: &SharedIds,
    ) {
        for (column, id) in self
            .texts
            .iter_mut()
            .zip(texts_of(words, texts, flow, shared))
        {
            column.push(id);
        }
        for (column, number) in self.small.iter_mut().zip(small_of(flow)) {
            column.push(number);
        }
        for (column, number) in self.large.iter_mut().zip(large_of(flow)) {
            column.push(number);
        }
    }

    /// The rows as a batch, without the columns in which no row has anything. `values` are those of all texts.
    pub(super) fn into_batch(self, values: &Arc<StringArray>) -> Result<RecordBatch, HistoryError> {
        let mut columns: Vec<Option<ArrayRef>> = Vec::with_capacity(FLOW_SCHEMA.fields().len());
        for ids in self.texts {
            let column = ids
                .rows()
                .map(|ids| text_column(UInt32Array::from(ids), values));
            columns.push(column.transpose()?);
        }
        let small = self.small.into_iter().map(Filled::rows);
        columns.extend(small.map(|n| n.map(|n| Arc::new(Int64Array::from(n)) as ArrayRef)));
        let large = self.large.into_iter().map(Filled::rows);
        columns.extend(large.map(|n| n.map(|n| Arc::new(UInt64Array::from(n)) as ArrayRef)));
        let fields = FLOW_SCHEMA.fields().iter().zip(columns);
        let (fields, columns): (Vec<_>, Vec<ArrayRef>) = fields
            .filter_map(|(field, column)| Some((Arc::clone(field), column?)))
            .unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(odd)
    }
}

impl Words {
    /// What a flow shares with its conversation.
    pub(super) fn shared_of(&self, texts: &mut Texts, flow: &Flow) -> SharedIds {
        let src = texts.end(flow.src, flow.src_name.as_ref(), &flow.src_segments);
        let dst = texts.end(flow.dst, flow.dst_name.as_ref(), &flow.dst_segments);
        SharedIds {
            src: src.address,
            dst: dst.address,
            src_name: src.name,
            dst_name: dst.name,
            src_segments: src.segments,
            dst_segments: dst.segments,
            service: texts.name(flow.service.as_ref()),
            verdict: of(&self.action, flow.verdict as usize),
            verdict_source: of(&self.source, flow.verdict_source as usize),
            rule: texts.name(flow.rule.as_ref()),
            pending_verdict: of(&self.action, flow.pending_verdict as usize),
            pending_source: of(&self.source, flow.pending_source as usize),
            pending_rule: texts.name(flow.pending_rule.as_ref()),
            mode: of(&self.mode, flow.mode as usize),
            coverage: of(&self.coverage, flow.coverage as usize),
            evidence: of(&self.evidence, flow.initiator_evidence as usize),
        }
    }
}

/// A column of text out of ids.
pub(super) fn text_column(
    ids: UInt32Array,
    values: &Arc<StringArray>,
) -> Result<ArrayRef, HistoryError> {
    let values: ArrayRef = Arc::<StringArray>::clone(values);
    let column = DictionaryArray::<UInt32Type>::try_new(ids, values).map_err(odd)?;
    Ok(Arc::new(column))
}

pub(super) fn odd(error: impl std::fmt::Display) -> HistoryError {
    HistoryError::Engine {
        what: "lay rows out in columns",
        why: error.to_string(),
    }
}

fn texts_of(
    words: &Words,
    texts: &mut Texts,
    flow: &Flow,
    shared: &SharedIds,
) -> [u32; TEXTS.len()] {
    let (mut kind, mut outer) = (0, [0, 0]);
    if let Some(tunnel) = &flow.tunnel {
        kind = texts.text(tunnel.kind.word());
        outer = [tunnel.outer_src, tunnel.outer_dst].map(|a| texts.address(a));
    }
    let vlans = match flow.vlans.as_slice() {
        [] => 0,
        some => {
            let some: Vec<String> = some.iter().map(u16::to_string).collect();
            texts.text(&some.join(","))
        }
    };
    let protocols = match &flow.aggregate {
        None => 0,
        Some(aggregate) => texts.text(&aggregate.protocols.join(",")),
    };
    [
        shared.src,
        shared.dst,
        shared.src_name,
        shared.dst_name,
        shared.src_segments,
        shared.dst_segments,
        of(&words.named_by, flow.named_by as usize),
        shared.service,
        of(&words.end_reason, flow.end_reason as usize),
        of(&words.kind, flow.kind as usize),
        shared.verdict,
        shared.verdict_source,
        shared.rule,
        shared.pending_verdict,
        shared.pending_source,
        shared.pending_rule,
        shared.mode,
        shared.coverage,
        texts.name(flow.drop_reason.as_ref()),
        shared.evidence,
        of(&words.tcp_state, flow.tcp_state as usize),
        kind,
        outer[0],
        outer[1],
        vlans,
        texts.name(Some(&flow.ingress_port)),
        texts.name(flow.egress_port.as_ref()),
        protocols,
    ]
}

/// Milliseconds, which fit whatever the nanoseconds are, and the nanoseconds beside them.
pub(super) fn split_ns(ns: u64) -> (i64, i64) {
    let ms = i64::try_from(ns / MS_NS).unwrap_or(i64::MAX);
    (ms, i64::try_from(ns % MS_NS).unwrap_or(0))
}

fn small_of(flow: &Flow) -> [i64; SMALL.len()] {
    let optional = |number: Option<i64>| number.unwrap_or(-1);
    let (first_ms, first_sub_ns) = split_ns(flow.first_ns);
    let (last_ms, last_sub_ns) = split_ns(flow.last_ns);
    let aggregate = flow.aggregate.as_ref();
    let of_aggregate = |number: fn(&Aggregate) -> i64| aggregate.map_or(0, number);
    [
        first_ms,
        first_sub_ns,
        last_ms - first_ms,
        last_sub_ns,
        flow.proto.into(),
        flow.sport.into(),
        flow.dport.into(),
        optional(flow.icmp_type.map(Into::into)),
        optional(flow.icmp_code.map(Into::into)),
        flow.initiator_confidence.into(),
        flow.initiator_flipped.into(),
        flow.tcp_flags_fwd.into(),
        flow.tcp_flags_rev.into(),
        optional(flow.rtt_initiator_us.map(Into::into)),
        optional(flow.rtt_responder_us.map(Into::into)),
        flow.retransmits_fwd.into(),
        flow.retransmits_rev.into(),
        flow.tos_fwd.into(),
        flow.tos_rev.into(),
        optional(flow.tunnel.as_ref().map(|t| t.id.into())),
        flow.worker.into(),
        flow.begins.into(),
        optional(aggregate.map(|a| i64::try_from(a.flows).unwrap_or(i64::MAX))),
        of_aggregate(|a| a.sources.into()),
        of_aggregate(|a| a.destinations.into()),
        of_aggregate(|a| a.ports.into()),
        of_aggregate(|a| a.port_low.into()),
        of_aggregate(|a| a.port_high.into()),
    ]
}

fn large_of(flow: &Flow) -> [u64; LARGE.len()] {
    let aggregate = flow.aggregate.as_ref();
    [
        flow.seq,
        flow.pkts_fwd,
        flow.bytes_fwd,
        flow.pkts_rev,
        flow.bytes_rev,
        flow.dropped_packets,
        flow.dropped_bytes,
        flow.epoch,
        flow.flow_id.0,
        aggregate.map_or(0, |a| a.refused),
        aggregate.map_or(0, |a| a.since_ts.0),
    ]
}

/// Reads the rows of an answer: every value by the name of its column.
pub(super) struct Rows<'b> {
    columns: HashMap<&'b str, Column<'b>>,
    names: HashMap<String, Arc<str>>,
    lists: HashMap<String, Arc<[Arc<str>]>>,
}

enum Column<'b> {
    Text(&'b arrow::array::StringViewArray),
    Small(&'b Int64Array),
    Large(&'b UInt64Array),
}

impl<'b> Rows<'b> {
    pub(super) fn new(batch: &'b RecordBatch) -> Result<Self, HistoryError> {
        let schema = batch.schema_ref();
        let mut columns = HashMap::new();
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            let any = array.as_any();
            let column = if let Some(texts) = any.downcast_ref() {
                Column::Text(texts)
            } else if let Some(numbers) = any.downcast_ref() {
                Column::Small(numbers)
            } else if let Some(numbers) = any.downcast_ref() {
                Column::Large(numbers)
            } else {
                return Err(odd(format!("{field} is of no kind that was asked for")));
            };
            columns.insert(field.name().as_str(), column);
        }
        Ok(Self {
            columns,
            names: HashMap::new(),
            lists: HashMap::new(),
        })
    }

    fn text(&self, column: &str, row: usize) -> &'b str {
        match self.columns.get(column) {
            Some(Column::Text(texts)) => texts.value(row),
            _ => "",
        }
    }

    fn number(&self, column: &str, row: usize) -> i64 {
        match self.columns.get(column) {
            Some(Column::Small(numbers)) => numbers.value(row),
            Some(Column::Large(numbers)) => i64::try_from(numbers.value(row)).unwrap_or(i64::MAX),
            _ => 0,
        }
    }

    fn large(&self, column: &str, row: usize) -> u64 {
        match self.columns.get(column) {
            Some(Column::Large(numbers)) => numbers.value(row),
            Some(Column::Small(numbers)) => u64::try_from(numbers.value(row)).unwrap_or(0),
            _ => 0,
        }
    }

    fn small<T: TryFrom<i64> + Default>(&self, column: &str, row: usize) -> T {
        T::try_from(self.number(column, row)).unwrap_or_default()
    }

    fn optional<T: TryFrom<i64>>(&self, column: &str, row: usize) -> Option<T> {
        T::try_from(self.number(column, row)).ok()
    }

    fn parsed<T: FromStr>(&self, column: &str, row: usize) -> Result<T, HistoryError> {
        let text = self.text(column, row);
        text.parse()
            .map_err(|_| odd(format!("column {column} holds `{text}`")))
    }

    fn name(&mut self, column: &str, row: usize) -> Option<Arc<str>> {
        let text = self.text(column, row);
        if text.is_empty() {
            return None;
        }
        if let Some(name) = self.names.get(text) {
            return Some(Arc::clone(name));
        }
        let name: Arc<str> = text.into();
        self.names.insert(text.to_owned(), Arc::clone(&name));
        Some(name)
    }

    fn list(&mut self, column: &str, row: usize) -> Arc<[Arc<str>]> {
        let text = self.text(column, row);
        if let Some(list) = self.lists.get(text) {
            return Arc::clone(list);
        }
        let list: Arc<[Arc<str>]> = match text {
            "" => Arc::default(),
            some => some.split(',').map(Arc::from).collect(),
        };
        self.lists.insert(text.to_owned(), Arc::clone(&list));
        list
    }

    /// The flow record of a row that has [`FLOW_COLUMNS`].
    pub(super) fn flow(&mut self, row: usize) -> Result<Flow, HistoryError> {
        let (first_ns, last_ns) = (self.large("first_ns", row), self.large("last_ns", row));
        let flow_id = u64::from_str_radix(self.text("flow_id", row), 16).unwrap_or(0);
        Ok(Flow {
            seq: self.large("seq", row),
            first_ts: Ts(first_ns),
            last_ts: Ts(last_ns),
            first_ns,
            last_ns,
            src: self.parsed("src", row)?,
            dst: self.parsed("dst", row)?,
            src_name: self.name("src_name", row),
            dst_name: self.name("dst_name", row),
            src_segments: self.list("src_segments", row),
            dst_segments: self.list("dst_segments", row),
            named_by: self.parsed("named_by", row)?,
            proto: self.small("proto", row),
            sport: self.small("sport", row),
            dport: self.small("dport", row),
            service: self.name("service", row),
            icmp_type: self.optional("icmp_type", row),
            icmp_code: self.optional("icmp_code", row),
            pkts_fwd: self.large("pkts_fwd", row),
            bytes_fwd: self.large("bytes_fwd", row),
            pkts_rev: self.large("pkts_rev", row),
            bytes_rev: self.large("bytes_rev", row),
            dropped_packets: self.large("dropped_packets", row),
            dropped_bytes: self.large("dropped_bytes", row),
            end_reason: self.parsed("end_reason", row)?,
            kind: self.parsed("kind", row)?,
            verdict: self.parsed("verdict", row)?,
            verdict_source: self.parsed("verdict_source", row)?,
            rule: self.name("rule", row),
            pending_verdict: self.parsed("pending_verdict", row)?,
            pending_source: self.parsed("pending_source", row)?,
            pending_rule: self.name("pending_rule", row),
            mode: self.parsed("mode", row)?,
            coverage: self.parsed("coverage", row)?,
            drop_reason: self.name("drop_reason", row),
            initiator_evidence: self.parsed("initiator_evidence", row)?,
            initiator_confidence: self.small("initiator_confidence", row),
            initiator_flipped: self.number("initiator_flipped", row) != 0,
            tcp_state: self.parsed("tcp_state", row)?,
            tcp_flags_fwd: self.small("tcp_flags_fwd", row),
            tcp_flags_rev: self.small("tcp_flags_rev", row),
            rtt_initiator_us: self.optional("rtt_initiator_us", row),
            rtt_responder_us: self.optional("rtt_responder_us", row),
            retransmits_fwd: self.small("retransmits_fwd", row),
            retransmits_rev: self.small("retransmits_rev", row),
            tos_fwd: self.small("tos_fwd", row),
            tos_rev: self.small("tos_rev", row),
            tunnel: self.tunnel(row)?,
            vlans: self.vlans(row),
            ingress_port: self.name("ingress_port", row).unwrap_or_default(),
            egress_port: self.name("egress_port", row),
            epoch: self.large("epoch", row),
            flow_id: FlowId(flow_id),
            worker: self.small("worker", row),
            begins: self.number("begins", row) != 0,
            aggregate: self.aggregate(row),
        })
    }

    fn tunnel(&self, row: usize) -> Result<Option<Tunnel>, HistoryError> {
        let Some(id) = self.optional("tunnel_id", row) else {
            return Ok(None);
        };
        Ok(Some(Tunnel {
            kind: self.parsed("tunnel_kind", row)?,
            id,
            outer_src: self.parsed("outer_src", row)?,
            outer_dst: self.parsed("outer_dst", row)?,
        }))
    }

    fn vlans(&self, row: usize) -> Vec<u16> {
        let ids = self.text("vlans", row).split(',');
        ids.filter_map(|id| id.parse().ok()).collect()
    }

    fn aggregate(&mut self, row: usize) -> Option<Aggregate> {
        let flows = self.optional("aggregate_flows", row)?;
        Some(Aggregate {
            flows,
            refused: self.large("aggregate_refused", row),
            since_ts: Ts(self.large("aggregate_since_ns", row)),
            sources: self.small("aggregate_sources", row),
            destinations: self.small("aggregate_destinations", row),
            ports: self.small("aggregate_ports", row),
            port_low: self.small("aggregate_port_low", row),
            port_high: self.small("aggregate_port_high", row),
            protocols: self.list("aggregate_protocols", row).to_vec(),
        })
    }
}

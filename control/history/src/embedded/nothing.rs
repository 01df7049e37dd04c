//! Columns in which most rows have nothing. A file in which no row has anything lacks the column: it would cost no bytes,
//! but the time to say so for every row.

use super::flow_columns::{odd, text_column};
use crate::HistoryError;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use std::sync::Arc;

/// Columns of flow records and of conversations that a file may lack.
const MAY_LACK: &[&str] = &[
    "drop_reason",
    "tunnel_kind",
    "outer_src",
    "outer_dst",
    "vlans",
    "aggregate_protocols",
    "first_sub_ns",
    "last_sub_ns",
    "icmp_type",
    "icmp_code",
    "initiator_flipped",
    "rtt_initiator_us",
    "rtt_responder_us",
    "retransmits_fwd",
    "retransmits_rev",
    "tos_fwd",
    "tos_rev",
    "tunnel_id",
    "folded",
    "aggregate_flows",
    "aggregate_sources",
    "aggregate_destinations",
    "aggregate_ports",
    "aggregate_port_low",
    "aggregate_port_high",
    "aggregate_refused",
    "aggregate_since_ns",
    "dropped_packets",
    "dropped_bytes",
];

/// Those of them in which -1 stands for nothing; in the others it is 0 or the empty text.
const MINUS_ONE: &[&str] = &[
    "icmp_type",
    "icmp_code",
    "rtt_initiator_us",
    "rtt_responder_us",
    "tunnel_id",
    "aggregate_flows",
];

/// Whether a file may lack a column.
pub(super) fn may_lack(column: &str) -> bool {
    MAY_LACK.contains(&column)
}

pub(super) fn number_for_nothing(column: &str) -> i64 {
    if MINUS_ONE.contains(&column) { -1 } else { 0 }
}

/// A column of `schema` as SQL that has a value for rows of files that lack it.
pub(super) fn or_nothing(schema: &Schema, column: &str) -> String {
    if !may_lack(column) {
        return column.to_owned();
    }
    let data_type = schema.field_with_name(column).map(|f| f.data_type());
    match data_type {
        Ok(DataType::Int64) => format!("coalesce({column}, {})", number_for_nothing(column)),
        Ok(DataType::UInt64) => format!("coalesce({column}, CAST(0 AS BIGINT UNSIGNED))"),
        _ => format!("coalesce({column}, '')"),
    }
}

fn has_anything(name: &str, column: &ArrayRef) -> bool {
    let nothing = number_for_nothing(name);
    match column.data_type() {
        DataType::Int64 => {
            let numbers = column.as_primitive::<Int64Type>();
            numbers.values().iter().any(|n| *n != nothing)
        }
        DataType::UInt64 => {
            let numbers = column.as_primitive::<UInt64Type>();
            numbers.values().iter().any(|n| *n != 0)
        }
        _ => column
            .as_dictionary_opt::<UInt32Type>()
            .is_none_or(|texts| {
                let values = texts.values().as_string::<i32>();
                let is_text = |key: &u32| {
                    let key = usize::try_from(*key).unwrap_or(usize::MAX);
                    key >= values.len() || !values.value(key).is_empty()
                };
                texts.keys().values().iter().any(is_text)
            }),
    }
}

/// The columns that a file of these rows must have.
pub(super) fn needed(batch: &RecordBatch) -> SchemaRef {
    let schema = batch.schema_ref();
    let fields = schema.fields().iter().zip(batch.columns());
    let needed = fields
        .filter(|(field, column)| !may_lack(field.name()) || has_anything(field.name(), column))
        .map(|(field, _)| Arc::clone(field));
    Arc::new(Schema::new(needed.collect::<Vec<_>>()))
}

/// The columns of `whole` that are in any of the others, in its order.
pub(super) fn in_any(whole: &Schema, others: &[SchemaRef]) -> SchemaRef {
    let fields = whole.fields().iter();
    let in_any = fields.filter(|field| {
        let is_in = |other: &SchemaRef| other.field_with_name(field.name()).is_ok();
        others.iter().any(is_in)
    });
    Arc::new(Schema::new(in_any.cloned().collect::<Vec<_>>()))
}

/// The rows with the columns of `schema` alone.
pub(super) fn only(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, HistoryError> {
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let column = batch.column_by_name(field.name()).cloned();
        column.ok_or_else(|| odd(format!("there is no column {}", field.name())))
    };
    let columns: Result<Vec<ArrayRef>, HistoryError> = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(Arc::clone(schema), columns?).map_err(odd)
}

/// The rows with every column of `schema`, nothing in those that they lack.
pub(super) fn with_all(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, HistoryError> {
    let rows = batch.num_rows();
    let empty = Arc::new(StringArray::from_iter_values([""]));
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        columns.push(match (batch.column_by_name(name), field.data_type()) {
            (Some(column), _) => Arc::clone(column),
            (None, _) if !may_lack(name) => return Err(odd(format!("there is no column {name}"))),
            (None, DataType::Int64) => {
                Arc::new(Int64Array::from(vec![number_for_nothing(name); rows]))
            }
            (None, DataType::UInt64) => Arc::new(UInt64Array::from(vec![0; rows])),
            (None, _) => text_column(UInt32Array::from(vec![0; rows]), &empty)?,
        });
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(odd)
}

/// Rows one after the other, with the columns that any of them has.
pub(super) fn concat(
    whole: &SchemaRef,
    batches: &[&RecordBatch],
) -> Result<RecordBatch, HistoryError> {
    let schemas: Vec<SchemaRef> = batches.iter().map(|b| b.schema()).collect();
    let columns = in_any(whole, &schemas);
    let batches: Result<Vec<RecordBatch>, HistoryError> =
        batches.iter().map(|b| with_all(b, &columns)).collect();
    concat_batches(&columns, &batches?).map_err(odd)
}

//! Conversations out of the rows of an answer. They lie by ends and service, so a text is mostly that of the row before:
//! it is read once.

use super::flow_columns::odd;
use crate::HistoryError;
use crate::question::{KEY_COLUMNS, SUM_COLUMNS};
use api::Ts;
use api::history::{Conversation, Sums};
use api::words::{Action, Coverage, InitiatorEvidence, Mode, VerdictSource};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt64Array};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

/// Names that are remembered; beyond, they are forgotten together and made anew.
const NAMES_MAX: usize = 65_536;

type Hashes = foldhash::fast::RandomState;

/// A text of the row before, and what it stands for.
#[derive(Debug)]
struct Last<T> {
    text: String,
    value: Option<T>,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            text: String::new(),
            value: None,
        }
    }
}

impl<T: Clone> Last<T> {
    fn known(&self, text: &str) -> Option<T> {
        let value = self.value.as_ref()?;
        (self.text == text).then(|| value.clone())
    }

    fn set(&mut self, text: &str, value: T) -> T {
        self.text.clear();
        self.text.push_str(text);
        self.value.insert(value).clone()
    }

    fn or(&mut self, text: &str, read: impl FnOnce(&str) -> T) -> T {
        match self.known(text) {
            Some(value) => value,
            None => self.set(text, read(text)),
        }
    }
}

impl<T: Clone + FromStr> Last<T> {
    fn parsed(&mut self, text: &str) -> Result<T, HistoryError> {
        if let Some(value) = self.known(text) {
            return Ok(value);
        }
        let parsed = text.parse();
        let value = parsed.map_err(|_| odd(format!("a conversation holds `{text}`")))?;
        Ok(self.set(text, value))
    }
}

/// Names, each in one place.
#[derive(Debug, Default)]
struct Names(HashMap<String, Arc<str>, Hashes>);

impl Names {
    fn name(&mut self, text: &str) -> Option<Arc<str>> {
        if text.is_empty() {
            return None;
        }
        if let Some(name) = self.0.get(text) {
            return Some(Arc::clone(name));
        }
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let name: Arc<str> = text.into();
        self.0.insert(text.to_owned(), Arc::clone(&name));
        Some(name)
    }

    fn list(&mut self, text: &str) -> Arc<[Arc<str>]> {
        let names = text.split(',').filter_map(|name| self.name(name));
        names.collect()
    }
}

#[derive(Debug)]
enum Numbers<'b> {
    Signed(&'b Int64Array),
    Unsigned(&'b UInt64Array),
}

impl Numbers<'_> {
    fn large(&self, row: usize) -> u64 {
        match self {
            Self::Signed(numbers) => u64::try_from(numbers.value(row)).unwrap_or(0),
            Self::Unsigned(numbers) => numbers.value(row),
        }
    }

    fn small<T: TryFrom<u64> + Default>(&self, row: usize) -> T {
        T::try_from(self.large(row)).unwrap_or_default()
    }
}

fn texts(column: &ArrayRef) -> Result<&StringViewArray, HistoryError> {
    let texts = column.as_any().downcast_ref();
    texts.ok_or_else(|| odd(format!("a column of {} is no text", column.data_type())))
}

fn numbers(column: &ArrayRef) -> Result<Numbers<'_>, HistoryError> {
    let any = column.as_any();
    let signed = any.downcast_ref().map(Numbers::Signed);
    signed
        .or_else(|| any.downcast_ref().map(Numbers::Unsigned))
        .ok_or_else(|| odd(format!("a column of {} is no number", column.data_type())))
}

/// Columns of text, in the order of [`Columns::texts`].
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
/// Columns of numbers, in the order of [`Columns::numbers`]; sums follow.
const NUMBERS: [&str; 7] = [
    "start_s",
    "interval_s",
    "proto",
    "port",
    "folded",
    "first_ns",
    "last_ns",
];

/// The columns of a batch that answers [`crate::question::Question::Conversations`].
struct Columns<'b> {
    texts: [&'b StringViewArray; TEXTS.len()],
    numbers: [Numbers<'b>; NUMBERS.len()],
    sums: [Numbers<'b>; SUM_COLUMNS.len()],
}

impl<'b> Columns<'b> {
    fn new(batch: &'b RecordBatch) -> Result<Self, HistoryError> {
        let column = |name: &str| {
            let told = KEY_COLUMNS.iter().chain(&["first_ns", "last_ns"]);
            let place = told.chain(SUM_COLUMNS).position(|told| *told == name);
            let array = place.and_then(|place| batch.columns().get(place));
            array.ok_or_else(|| odd(format!("the answer has no column {name}")))
        };
        let text = |name: &&str| texts(column(name)?);
        let number = |name: &&str| numbers(column(name)?);
        let texts = TEXTS.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let small = NUMBERS.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let sums = SUM_COLUMNS.iter().map(number);
        let sums = sums.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            texts: texts.try_into().map_err(|_| odd("columns of text"))?,
            numbers: small.try_into().map_err(|_| odd("columns of numbers"))?,
            sums: sums.try_into().map_err(|_| odd("columns of sums"))?,
        })
    }

    fn sums(&self, row: usize) -> Sums {
        let [
            flows,
            pkts_fwd,
            bytes_fwd,
            pkts_rev,
            bytes_rev,
            dropped_packets,
            dropped_bytes,
        ] = self.sums.each_ref().map(|column| column.large(row));
        Sums {
            flows,
            pkts_fwd,
            bytes_fwd,
            pkts_rev,
            bytes_rev,
            dropped_packets,
            dropped_bytes,
        }
    }
}

/// Reads batches of one answer.
#[derive(Debug, Default)]
pub(super) struct ConversationRows {
    names: Names,
    src: Last<IpAddr>,
    dst: Last<IpAddr>,
    /// Of the source, of the destination, of the service, of the rule, of the pending rule.
    named: [Last<Option<Arc<str>>>; 5],
    src_segments: Last<Arc<[Arc<str>]>>,
    dst_segments: Last<Arc<[Arc<str>]>>,
    verdict: Last<Action>,
    pending_verdict: Last<Action>,
    source: Last<VerdictSource>,
    pending_source: Last<VerdictSource>,
    mode: Last<Mode>,
    coverage: Last<Coverage>,
    evidence: Last<InitiatorEvidence>,
}

impl ConversationRows {
    /// Hands each row over, until `each` breaks.
    pub(super) fn each(
        &mut self,
        batch: &RecordBatch,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, HistoryError> {
        let columns = Columns::new(batch)?;
        for row in 0..batch.num_rows() {
            if each(self.conversation(&columns, row)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn conversation(
        &mut self,
        columns: &Columns<'_>,
        row: usize,
    ) -> Result<Conversation, HistoryError> {
        let texts = columns.texts.map(|texts| texts.value(row));
        let [
            src,
            dst,
            src_name,
            dst_name,
            src_segments,
            dst_segments,
            service,
            decided @ ..,
        ] = texts;
        let [verdict, source, rule, pending @ ..] = decided;
        let [
            pending_verdict,
            pending_source,
            pending_rule,
            mode,
            coverage,
            evidence,
        ] = pending;
        let [src_name, dst_name, service, rule, pending_rule] =
            self.names_of([src_name, dst_name, service, rule, pending_rule]);
        let [start_s, interval_s, proto, port, folded, first_ns, last_ns] = &columns.numbers;
        let names = &mut self.names;
        Ok(Conversation {
            start_ts: Ts(start_s.large(row).saturating_mul(1_000_000_000)),
            interval_s: interval_s.small(row),
            src: self.src.parsed(src)?,
            dst: self.dst.parsed(dst)?,
            proto: proto.small(row),
            port: port.small(row),
            src_name,
            dst_name,
            src_segments: self.src_segments.or(src_segments, |text| names.list(text)),
            dst_segments: self.dst_segments.or(dst_segments, |text| names.list(text)),
            service,
            verdict: self.verdict.parsed(verdict)?,
            verdict_source: self.source.parsed(source)?,
            rule,
            pending_verdict: self.pending_verdict.parsed(pending_verdict)?,
            pending_source: self.pending_source.parsed(pending_source)?,
            pending_rule,
            mode: self.mode.parsed(mode)?,
            coverage: self.coverage.parsed(coverage)?,
            initiator_evidence: self.evidence.parsed(evidence)?,
            folded: folded.large(row) != 0,
            first_ts: Ts(first_ns.large(row)),
            last_ts: Ts(last_ns.large(row)),
            sums: columns.sums(row),
        })
    }

    fn names_of(&mut self, texts: [&str; 5]) -> [Option<Arc<str>>; 5] {
        let (names, mut last) = (&mut self.names, self.named.iter_mut());
        texts.map(|text| {
            let last = last.next()?;
            last.or(text, |text| names.name(text))
        })
    }
}

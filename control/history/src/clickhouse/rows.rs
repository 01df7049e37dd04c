//! Flow records as the servers' rows, and back.

use crate::HistoryError;
use crate::INTERVAL_S;
use api::Ts;
use api::flow::{Aggregate, Flow, FlowId, Tunnel};
use api::history::{Conversation, Sums, interval_start_ns};
use api::words::UnknownWord;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// Columns beside those of [`crate::question::FLOW_COLUMNS`], which come first in a row: what the row is found by, and
/// what its conversation needs.
pub(super) const PLACE_COLUMNS: [(&str, &str); 7] = [
    ("day", "Date"),
    ("appliance", "String"),
    ("batch", "UInt64"),
    ("start_s", "Int64"),
    ("port", "UInt16"),
    ("folded", "UInt8"),
    ("flows", "UInt64"),
];

/// Types of [`crate::question::FLOW_COLUMNS`], in their order.
pub(super) const FLOW_TYPES: [&str; 65] = [
    "UInt64", "UInt64", "UInt64", "String", "String", "String", "String", "String", "String",
    "String", "UInt8", "UInt16", "UInt16", "String", "Int16", "Int16", "UInt64", "UInt64",
    "UInt64", "UInt64", "UInt64", "UInt64", "String", "String", "String", "String", "String",
    "String", "String", "String", "String", "String", "String", "String", "UInt8", "UInt8",
    "String", "UInt16", "UInt16", "Int64", "Int64", "UInt32", "UInt32", "UInt8", "UInt8", "String",
    "Int64", "String", "String", "String", "String", "String", "UInt64", "String", "UInt8",
    "UInt8", "Int64", "UInt64", "UInt64", "UInt32", "UInt32", "UInt32", "UInt16", "UInt16",
    "String",
];

const DAY_S: u64 = 86_400;
const SECOND_NS: u64 = 1_000_000_000;

/// Days since the Unix epoch, as the servers keep them: 16 bits, until the year 2149.
pub(super) fn day_of(first_ns: u64) -> u16 {
    u16::try_from(first_ns / SECOND_NS / DAY_S).unwrap_or(u16::MAX)
}

/// Where `RowBinary` is written to.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) bytes: Vec<u8>,
}

impl Encoder {
    fn text(&mut self, text: &str) {
        let mut rest = text.len();
        while rest >= 0x80 {
            self.bytes
                .push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        self.bytes.push(u8::try_from(rest).unwrap_or(0));
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn name(&mut self, name: Option<&Arc<str>>) {
        self.text(name.map_or("", |n| n));
    }

    fn shown(&mut self, value: impl Display) {
        self.text(&value.to_string());
    }

    fn u8(&mut self, number: u8) {
        self.bytes.push(number);
    }

    fn u16(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// A number that may be missing: -1.
    fn i64(&mut self, number: Option<u64>) {
        let number = number.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn i16(&mut self, number: Option<u8>) {
        let number = number.map_or(-1, i16::from);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// One row: [`PLACE_COLUMNS`], then those of a flow.
    pub(super) fn flow(&mut self, appliance: &str, batch: u64, f: &Flow) {
        let c = Conversation::of(f, INTERVAL_S);
        self.u16(day_of(f.first_ns));
        self.text(appliance);
        self.u64(batch);
        self.i64(Some(interval_start_ns(f.first_ns, INTERVAL_S) / SECOND_NS));
        self.u16(c.port);
        self.u8(u8::from(c.folded));
        self.u64(c.sums.flows);
        self.ends(f);
        self.decision(f);
        self.behaviour(f);
        self.aggregate(f.aggregate.as_ref());
    }

    fn ends(&mut self, f: &Flow) {
        self.u64(f.seq);
        self.u64(f.first_ns);
        self.u64(f.last_ns);
        self.shown(f.src);
        self.shown(f.dst);
        self.name(f.src_name.as_ref());
        self.name(f.dst_name.as_ref());
        self.text(&f.src_segments.join(","));
        self.text(&f.dst_segments.join(","));
        self.text(f.named_by.word());
        self.u8(f.proto);
        self.u16(f.sport);
        self.u16(f.dport);
        self.name(f.service.as_ref());
        self.i16(f.icmp_type);
        self.i16(f.icmp_code);
        self.u64(f.pkts_fwd);
        self.u64(f.bytes_fwd);
        self.u64(f.pkts_rev);
        self.u64(f.bytes_rev);
        self.u64(f.dropped_packets);
        self.u64(f.dropped_bytes);
    }

    fn decision(&mut self, f: &Flow) {
        self.text(f.end_reason.word());
        self.text(f.kind.word());
        self.text(f.verdict.word());
        self.text(f.verdict_source.word());
        self.name(f.rule.as_ref());
        self.text(f.pending_verdict.word());
        self.text(f.pending_source.word());
        self.name(f.pending_rule.as_ref());
        self.text(f.mode.word());
        self.text(f.coverage.word());
        self.name(f.drop_reason.as_ref());
        self.text(f.initiator_evidence.word());
        self.u8(f.initiator_confidence);
        self.u8(u8::from(f.initiator_flipped));
    }

    fn behaviour(&mut self, f: &Flow) {
        self.text(f.tcp_state.word());
        self.u16(f.tcp_flags_fwd);
        self.u16(f.tcp_flags_rev);
        self.i64(f.rtt_initiator_us.map(u64::from));
        self.i64(f.rtt_responder_us.map(u64::from));
        self.u32(f.retransmits_fwd);
        self.u32(f.retransmits_rev);
        self.u8(f.tos_fwd);
        self.u8(f.tos_rev);
        let tunnel = f.tunnel.as_ref();
        self.text(tunnel.map_or("", |t| t.kind.word()));
        self.i64(tunnel.map(|t| u64::from(t.id)));
        self.text(&tunnel.map_or_else(String::new, |t| t.outer_src.to_string()));
        self.text(&tunnel.map_or_else(String::new, |t| t.outer_dst.to_string()));
        let vlans: Vec<String> = f.vlans.iter().map(ToString::to_string).collect();
        self.text(&vlans.join(","));
        self.text(&f.ingress_port);
        self.name(f.egress_port.as_ref());
        self.u64(f.epoch);
        self.shown(f.flow_id);
        self.u8(f.worker);
        self.u8(u8::from(f.begins));
    }

    fn aggregate(&mut self, a: Option<&Aggregate>) {
        self.i64(a.map(|a| a.flows));
        self.u64(a.map_or(0, |a| a.refused));
        self.u64(a.map_or(0, |a| a.since_ts.0));
        self.u32(a.map_or(0, |a| a.sources));
        self.u32(a.map_or(0, |a| a.destinations));
        self.u32(a.map_or(0, |a| a.ports));
        self.u16(a.map_or(0, |a| a.port_low));
        self.u16(a.map_or(0, |a| a.port_high));
        self.text(&a.map_or_else(String::new, |a| a.protocols.join(",")));
    }
}

/// Takes a row of texts apart from the left.
#[derive(Debug)]
pub(super) struct Decoder {
    values: std::vec::IntoIter<Option<String>>,
}

fn odd(expected: &str, found: &str) -> HistoryError {
    HistoryError::Engine {
        what: "answer",
        why: format!("{expected} was expected in a row and `{found}` found"),
    }
}

impl Decoder {
    pub(super) fn new(row: Vec<Option<String>>) -> Self {
        Self {
            values: row.into_iter(),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, HistoryError> {
        let value = self.values.next().flatten();
        value.ok_or_else(|| odd("a value", "nothing"))
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Result<T, HistoryError> {
        let text = self.text()?;
        text.parse().map_err(|_| odd("a number", &text))
    }

    fn address(&mut self) -> Result<std::net::IpAddr, HistoryError> {
        let text = self.text()?;
        text.parse().map_err(|_| odd("an address", &text))
    }

    fn word<W: FromStr<Err = UnknownWord>>(&mut self) -> Result<W, HistoryError> {
        let text = self.text()?;
        text.parse()
            .map_err(|e: UnknownWord| odd("a word", &e.to_string()))
    }

    /// -1 is missing.
    fn optional<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, HistoryError> {
        let number: i64 = self.number()?;
        Ok(T::try_from(number).ok().filter(|_| number >= 0))
    }

    fn flag(&mut self) -> Result<bool, HistoryError> {
        Ok(self.number::<u8>()? == 1)
    }

    fn name(&mut self) -> Result<Option<Arc<str>>, HistoryError> {
        let text = self.text()?;
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn list(&mut self) -> Result<Vec<Arc<str>>, HistoryError> {
        let text = self.text()?;
        let names = text.split(',').filter(|name| !name.is_empty());
        Ok(names.map(Arc::from).collect())
    }

    /// A row of [`crate::question::FLOW_COLUMNS`].
    pub(super) fn flow(mut self) -> Result<Flow, HistoryError> {
        let seq = self.number()?;
        let (first_ns, last_ns) = (self.number()?, self.number()?);
        let mut flow = Flow {
            seq,
            first_ts: Ts(first_ns),
            last_ts: Ts(last_ns),
            first_ns,
            last_ns,
            src: self.address()?,
            dst: self.address()?,
            src_name: self.name()?,
            dst_name: self.name()?,
            src_segments: self.list()?.into(),
            dst_segments: self.list()?.into(),
            named_by: self.word()?,
            proto: self.number()?,
            sport: self.number()?,
            dport: self.number()?,
            service: self.name()?,
            icmp_type: self.optional()?,
            icmp_code: self.optional()?,
            pkts_fwd: self.number()?,
            bytes_fwd: self.number()?,
            pkts_rev: self.number()?,
            bytes_rev: self.number()?,
            dropped_packets: self.number()?,
            dropped_bytes: self.number()?,
            end_reason: self.word()?,
            kind: self.word()?,
            verdict: self.word()?,
            verdict_source: self.word()?,
            rule: self.name()?,
            pending_verdict: self.word()?,
            pending_source: self.word()?,
            pending_rule: self.name()?,
            mode: self.word()?,
            coverage: self.word()?,
            drop_reason: self.name()?,
            initiator_evidence: self.word()?,
            initiator_confidence: self.number()?,
            initiator_flipped: self.flag()?,
            tcp_state: self.word()?,
            tcp_flags_fwd: self.number()?,
            tcp_flags_rev: self.number()?,
            rtt_initiator_us: self.optional()?,
            rtt_responder_us: self.optional()?,
            retransmits_fwd: self.number()?,
            retransmits_rev: self.number()?,
            tos_fwd: self.number()?,
            tos_rev: self.number()?,
            tunnel: self.tunnel()?,
            vlans: self.vlans()?,
            ingress_port: self.text()?.into(),
            egress_port: self.name()?,
            epoch: self.number()?,
            flow_id: FlowId(0),
            worker: 0,
            begins: false,
            aggregate: None,
        };
        let id = self.text()?;
        flow.flow_id = FlowId(u64::from_str_radix(&id, 16).map_err(|_| odd("an id", &id))?);
        (flow.worker, flow.begins) = (self.number()?, self.flag()?);
        flow.aggregate = self.aggregate()?;
        Ok(flow)
    }

    fn tunnel(&mut self) -> Result<Option<Tunnel>, HistoryError> {
        let kind = self.text()?;
        let id: Option<u32> = self.optional()?;
        let (src, dst) = (self.text()?, self.text()?);
        let Some(id) = id else { return Ok(None) };
        let address = |text: &str| text.parse().map_err(|_| odd("an address", text));
        Ok(Some(Tunnel {
            kind: kind.parse().map_err(|_| odd("a tunnel", &kind))?,
            id,
            outer_src: address(&src)?,
            outer_dst: address(&dst)?,
        }))
    }

    fn vlans(&mut self) -> Result<Vec<u16>, HistoryError> {
        let vlans = self.list()?;
        let number = |text: &Arc<str>| text.parse().map_err(|_| odd("a VLAN", text));
        vlans.iter().map(number).collect()
    }

    fn aggregate(&mut self) -> Result<Option<Aggregate>, HistoryError> {
        let flows: Option<u64> = self.optional()?;
        let aggregate = Aggregate {
            flows: flows.unwrap_or(0),
            refused: self.number()?,
            since_ts: Ts(self.number()?),
            sources: self.number()?,
            destinations: self.number()?,
            ports: self.number()?,
            port_low: self.number()?,
            port_high: self.number()?,
            protocols: self.list()?,
        };
        Ok(flows.map(|_| aggregate))
    }

    /// A row of [`crate::question::KEY_COLUMNS`], first and last packet, and sums.
    pub(super) fn conversation(mut self) -> Result<Conversation, HistoryError> {
        let start_s: u64 = self.number()?;
        Ok(Conversation {
            start_ts: Ts(start_s.saturating_mul(SECOND_NS)),
            interval_s: self.number()?,
            src: self.address()?,
            dst: self.address()?,
            proto: self.number()?,
            port: self.number()?,
            src_name: self.name()?,
            dst_name: self.name()?,
            src_segments: self.list()?.into(),
            dst_segments: self.list()?.into(),
            service: self.name()?,
            verdict: self.word()?,
            verdict_source: self.word()?,
            rule: self.name()?,
            pending_verdict: self.word()?,
            pending_source: self.word()?,
            pending_rule: self.name()?,
            mode: self.word()?,
            coverage: self.word()?,
            initiator_evidence: self.word()?,
            folded: self.flag()?,
            first_ts: Ts(self.number()?),
            last_ts: Ts(self.number()?),
            sums: Sums {
                flows: self.number()?,
                pkts_fwd: self.number()?,
                bytes_fwd: self.number()?,
                pkts_rev: self.number()?,
                bytes_rev: self.number()?,
                dropped_packets: self.number()?,
                dropped_bytes: self.number()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::FLOW_COLUMNS;

    #[test]
    fn every_column_of_a_flow_has_a_type() {
        let typed: Vec<(&str, &str)> = FLOW_COLUMNS.iter().copied().zip(FLOW_TYPES).collect();
        assert_eq!(FLOW_COLUMNS.len(), FLOW_TYPES.len());
        for expected in [
            ("src", "String"),
            ("proto", "UInt8"),
            ("icmp_type", "Int16"),
            ("initiator_flipped", "UInt8"),
            ("tunnel_id", "Int64"),
            ("epoch", "UInt64"),
            ("begins", "UInt8"),
            ("aggregate_port_high", "UInt16"),
        ] {
            assert!(typed.contains(&expected), "{expected:?}");
        }
    }

    #[test]
    fn a_long_text_has_its_length_in_seven_bits_a_byte() {
        let mut encoder = Encoder::default();
        encoder.text(&"x".repeat(300));
        assert_eq!(encoder.bytes.get(..3), Some(&[0xac, 0x02, b'x'][..]));
    }
}

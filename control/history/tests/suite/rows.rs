//! Flow records for tests.

use api::Ts;
use api::flow::{Aggregate, Flow, FlowId};
use api::words::{
    Action, Coverage, EndReason, InitiatorEvidence, Kind, Mode, NamedBy, TcpState, VerdictSource,
};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) const MINUTE_NS: u64 = 60_000_000_000;
pub(crate) const INTERVAL_NS: u64 = 5 * MINUTE_NS;
pub(crate) const HOUR_NS: u64 = 60 * MINUTE_NS;
/// 2023-11-14T22:00:00Z: the beginning of an hour, two hours before the end of a day.
pub(crate) const START_NS: u64 = 1_699_999_200_000_000_000;

pub(crate) fn names(list: &[&str]) -> Arc<[Arc<str>]> {
    list.iter().map(|n| Arc::from(*n)).collect()
}

/// A flow record that is web-1 asking db-1 for postgres, allowed by a rule, unless told otherwise.
pub(crate) struct FlowBuilder(pub(crate) Flow);

impl FlowBuilder {
    pub(crate) fn new(seq: u64) -> Self {
        Self(Flow {
            seq,
            first_ts: Ts(START_NS),
            last_ts: Ts(START_NS),
            first_ns: START_NS,
            last_ns: START_NS,
            src: IpAddr::from([10, 0, 1, 10]),
            dst: IpAddr::from([10, 0, 2, 20]),
            src_name: Some("web-1".into()),
            dst_name: Some("db-1".into()),
            src_segments: names(&["shop-web"]),
            dst_segments: names(&["shop-db"]),
            named_by: NamedBy::Epoch,
            proto: 6,
            sport: 40_000,
            dport: 5432,
            service: Some("postgres".into()),
            icmp_type: None,
            icmp_code: None,
            pkts_fwd: 2,
            bytes_fwd: 200,
            pkts_rev: 1,
            bytes_rev: 100,
            dropped_packets: 0,
            dropped_bytes: 0,
            end_reason: EndReason::EndOfFlow,
            kind: Kind::End,
            verdict: Action::Allow,
            verdict_source: VerdictSource::Rule,
            rule: Some("web-to-db".into()),
            pending_verdict: Action::Allow,
            pending_source: VerdictSource::Rule,
            pending_rule: Some("web-to-db".into()),
            mode: Mode::Enforce,
            coverage: Coverage::Rule,
            drop_reason: None,
            initiator_evidence: InitiatorEvidence::Syn,
            initiator_confidence: 255,
            initiator_flipped: false,
            tcp_state: TcpState::Closed,
            tcp_flags_fwd: 0x1b,
            tcp_flags_rev: 0x1b,
            rtt_initiator_us: Some(120),
            rtt_responder_us: None,
            retransmits_fwd: 0,
            retransmits_rev: 3,
            tos_fwd: 0,
            tos_rev: 8,
            tunnel: None,
            vlans: vec![10, 20],
            ingress_port: "inside0".into(),
            egress_port: Some("outside0".into()),
            epoch: 7,
            flow_id: FlowId(0x0100_0000_0000_0000 + seq),
            worker: 1,
            begins: true,
            aggregate: None,
        })
    }

    /// Times after [`START_NS`], of the first and of the last packet.
    pub(crate) fn at(mut self, first_ns: u64, last_ns: u64) -> Self {
        (self.0.first_ns, self.0.last_ns) = (START_NS + first_ns, START_NS + last_ns);
        (self.0.first_ts, self.0.last_ts) = (Ts(self.0.first_ns), Ts(self.0.last_ns));
        self
    }

    pub(crate) fn ends(mut self, src: &str, dst: &str) -> Self {
        let address = |text: &str| text.parse().expect("the test writes an address");
        (self.0.src, self.0.dst) = (address(src), address(dst));
        self
    }

    pub(crate) fn named(mut self, src: Option<&str>, dst: Option<&str>) -> Self {
        (self.0.src_name, self.0.dst_name) = (src.map(Arc::from), dst.map(Arc::from));
        self
    }

    pub(crate) fn segments(mut self, src: &[&str], dst: &[&str]) -> Self {
        (self.0.src_segments, self.0.dst_segments) = (names(src), names(dst));
        self
    }

    /// Protocol and responder's port; no service.
    pub(crate) fn asks(mut self, proto: u8, dport: u16) -> Self {
        (self.0.proto, self.0.dport, self.0.service) = (proto, dport, None);
        self
    }

    /// Bytes of the initiator; none of the responder.
    pub(crate) fn bytes(mut self, bytes: u64) -> Self {
        (self.0.bytes_fwd, self.0.bytes_rev) = (bytes, 0);
        self
    }

    /// Denied by the default of two ends that enforce.
    pub(crate) fn denied(mut self) -> Self {
        (self.0.verdict, self.0.pending_verdict) = (Action::Deny, Action::Deny);
        (self.0.verdict_source, self.0.pending_source) =
            (VerdictSource::Default, VerdictSource::Default);
        (self.0.rule, self.0.pending_rule) = (None, None);
        self.0.coverage = Coverage::Uncovered;
        (self.0.dropped_packets, self.0.dropped_bytes) = (3, 300);
        self.0.drop_reason = Some("denied-by-default".into());
        self.0.kind = Kind::Denied;
        self
    }

    /// Permitted by the default of ends in test; a rule in test would deny it.
    pub(crate) fn would_be_denied(mut self, rule: &str) -> Self {
        self.0.verdict_source = VerdictSource::Default;
        self.0.rule = None;
        self.0.pending_verdict = Action::Deny;
        self.0.pending_rule = Some(rule.into());
        self.0.mode = Mode::Test;
        self
    }

    /// A later record of its flow.
    pub(crate) fn goes_on(mut self) -> Self {
        self.0.begins = false;
        self.0.kind = Kind::Update;
        self
    }

    /// So many flows told together.
    pub(crate) fn folded(mut self, flows: u64) -> Self {
        self.0.kind = Kind::Aggregate;
        (self.0.proto, self.0.sport, self.0.dport) = (0, 0, 0);
        self.0.service = None;
        self.0.aggregate = Some(Aggregate {
            flows,
            refused: 1,
            since_ts: self.0.first_ts,
            sources: 1,
            destinations: 254,
            ports: 3,
            port_low: 22,
            port_high: 443,
            protocols: vec!["tcp".into(), "icmp".into()],
        });
        self
    }

    pub(crate) fn done(self) -> Flow {
        self.0
    }
}

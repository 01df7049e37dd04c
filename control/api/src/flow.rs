//! A flow as people and programs read it.

use crate::label::{end_label, service_label};
use crate::time::Ts;
use crate::words::{
    Action, Coverage, EndReason, InitiatorEvidence, Kind, Mode, NamedBy, TcpState, TunnelKind,
    VerdictSource,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// One flow record, both ends named. `src` is the initiator, `fwd` is initiator to responder.
/// Counters are those of this record: deltas since the flow's previous record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Order of arrival at the control process, 1 the first since its start.
    pub seq: u64,
    /// First packet counted here.
    pub first_ts: Ts,
    /// Last packet counted here.
    pub last_ts: Ts,
    /// `first_ts` in nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// `last_ts` in nanoseconds since the Unix epoch.
    pub last_ns: u64,
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// Workload of the initiator.
    pub src_name: Option<Arc<str>>,
    /// Workload of the responder.
    pub dst_name: Option<Arc<str>>,
    /// Segments of the initiator.
    pub src_segments: Arc<[Arc<str>]>,
    /// Segments of the responder.
    pub dst_segments: Arc<[Arc<str>]>,
    /// By which policy the ends were named.
    pub named_by: NamedBy,
    /// IP protocol number.
    pub proto: u8,
    /// Port of the initiator; 0 where the protocol has none.
    pub sport: u16,
    /// Port of the responder; 0 where the protocol has none.
    pub dport: u16,
    /// Service, where the policy names it.
    pub service: Option<Arc<str>>,
    /// ICMP or ICMPv6 type of the first packet.
    pub icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code of the first packet.
    pub icmp_code: Option<u8>,
    /// Packets from the initiator, forwarded or not.
    pub pkts_fwd: u64,
    /// IP-layer bytes from the initiator.
    pub bytes_fwd: u64,
    /// Packets from the responder, forwarded or not.
    pub pkts_rev: u64,
    /// IP-layer bytes from the responder.
    pub bytes_rev: u64,
    /// Of all those packets, how many the box dropped.
    pub dropped_packets: u64,
    /// Of all those bytes, how many the box dropped.
    pub dropped_bytes: u64,
    /// Why the record was written.
    pub end_reason: EndReason,
    /// Where in the flow's life it stands.
    pub kind: Kind,
    /// What happens to the packets.
    pub verdict: Action,
    /// Who says so.
    pub verdict_source: VerdictSource,
    /// Rule that decided.
    pub rule: Option<Arc<str>>,
    /// What would happen if everything in test were enforced.
    pub pending_verdict: Action,
    /// Who would say so.
    pub pending_source: VerdictSource,
    /// Rule that would decide.
    pub pending_rule: Option<Arc<str>>,
    /// Mode of the stricter end.
    pub mode: Mode,
    /// Whether a rule speaks about the flow.
    pub coverage: Coverage,
    /// Reason of the last dropped packet.
    pub drop_reason: Option<Arc<str>>,
    /// How the initiator was decided.
    pub initiator_evidence: InitiatorEvidence,
    /// The same as a number: 255 a SYN was seen, 50 order of arrival only.
    pub initiator_confidence: u8,
    /// A later packet turned the initiator round after an earlier record.
    pub initiator_flipped: bool,
    /// State of a TCP flow.
    pub tcp_state: TcpState,
    /// TCP flags from the initiator, or-ed (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32 ...).
    pub tcp_flags_fwd: u16,
    /// TCP flags from the responder, or-ed.
    pub tcp_flags_rev: u16,
    /// Microseconds from SYN/ACK to ACK: network and initiator.
    pub rtt_initiator_us: Option<u32>,
    /// Microseconds from SYN to SYN/ACK: network and responder.
    pub rtt_responder_us: Option<u32>,
    /// Retransmitted TCP segments from the initiator.
    pub retransmits_fwd: u32,
    /// Retransmitted TCP segments from the responder.
    pub retransmits_rev: u32,
    /// Type of service byte from the initiator.
    pub tos_fwd: u8,
    /// Type of service byte from the responder.
    pub tos_rev: u8,
    /// Tunnel around the flow.
    pub tunnel: Option<Tunnel>,
    /// VLAN ids of the first packet, outermost first.
    pub vlans: Vec<u16>,
    /// Port where the first packet came in.
    pub ingress_port: Arc<str>,
    /// Port where it left; none for mirror ports and dropped flows.
    pub egress_port: Option<Arc<str>>,
    /// Policy epoch of the verdict, 0 none.
    pub epoch: u64,
    /// The same in every record of one flow; 16 hexadecimal digits.
    pub flow_id: FlowId,
    /// Worker (core) that owns the flow.
    pub worker: u8,
    /// No record of the flow was written before this one.
    pub begins: bool,
    /// What the record adds up, where its kind is aggregate: many flows of one source. Then `dst` is
    /// the destination that was tried last, and ports are 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
}

/// What is only known of many flows together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Flows, or attempts at them, since the aggregate's previous record.
    pub flows: u64,
    /// Of those, TCP flows that their destination reset.
    pub refused: u64,
    /// When counting of what is distinct began.
    pub since_ts: Ts,
    /// Distinct sources: 1, or an estimate where the record is of all that found no place of their own.
    pub sources: u32,
    /// Distinct destinations: exact up to 64, then an estimate with a standard error of 6.5 %.
    pub destinations: u32,
    /// Distinct destination ports, as exact.
    pub ports: u32,
    /// Lowest destination port.
    pub port_low: u16,
    /// Highest destination port.
    pub port_high: u16,
    /// Protocols seen: `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `other`.
    pub protocols: Vec<Arc<str>>,
}

impl Aggregate {
    /// `tcp 1000 ports 1-65535`, `icmp`.
    fn service_label(&self) -> String {
        let protocols = self.protocols.join("+");
        match (self.ports, self.port_low, self.port_high) {
            (0, ..) => protocols,
            (1, port, _) => format!("{protocols}/{port}"),
            (ports, low, high) => format!("{protocols} {ports} ports {low}-{high}"),
        }
    }

    /// Whether it adds up sources that found no place of their own.
    #[must_use]
    pub const fn is_of_many_sources(&self) -> bool {
        self.sources != 1
    }
}

/// Id of a flow, unique per start of the dataplane. A text in JSON, because programs that read
/// JSON numbers as floating point would round it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl std::fmt::Display for FlowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for FlowId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FlowId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Tunnel around a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Kind of the innermost tunnel.
    pub kind: TunnelKind,
    /// VNI, TEID or key.
    pub id: u32,
    /// Source of the outermost header.
    pub outer_src: IpAddr,
    /// Destination of the outermost header.
    pub outer_dst: IpAddr,
}

/// Writes what is missing as `-`, as every column of the TSV does.
fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

/// A list in one column, separated by commas; `-` where it is empty.
fn list<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// What an address is that no host keeps: `unspecified` (0.0.0.0 and ::, a host that has no address
/// yet), `loopback`, `link-local`, `multicast` or `broadcast`; none for every other.
#[must_use]
pub fn special_address(address: IpAddr) -> Option<&'static str> {
    let (link_local, broadcast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    [
        (address.is_unspecified(), "unspecified"),
        (address.is_loopback(), "loopback"),
        (link_local, "link-local"),
        (address.is_multicast(), "multicast"),
        (broadcast, "broadcast"),
    ]
    .into_iter()
    .find_map(|(is, name)| is.then_some(name))
}

impl Flow {
    /// Header line of the TSV, in the order of [`Flow::tsv_row`].
    pub const TSV_COLUMNS: &'static [&'static str] = &[
        "src",
        "dst",
        "proto",
        "sport",
        "dport",
        "pkts_fwd",
        "bytes_fwd",
        "pkts_rev",
        "bytes_rev",
        "first_ts",
        "last_ts",
        "end_reason",
        "verdict",
        "rule",
        "pending_verdict",
        "pending_rule",
        "src_segment",
        "dst_segment",
        "initiator_confidence",
        "initiator_evidence",
        "src_name",
        "dst_name",
        "service",
        "kind",
        "verdict_source",
        "pending_source",
        "mode",
        "coverage",
        "drop_reason",
        "dropped_packets",
        "dropped_bytes",
        "icmp_type",
        "icmp_code",
        "tcp_state",
        "tcp_flags_fwd",
        "tcp_flags_rev",
        "rtt_initiator_us",
        "rtt_responder_us",
        "retransmits_fwd",
        "retransmits_rev",
        "tos_fwd",
        "tos_rev",
        "tunnel_kind",
        "tunnel_id",
        "outer_src",
        "outer_dst",
        "vlans",
        "ingress_port",
        "egress_port",
        "epoch",
        "flow_id",
        "worker",
        "seq",
        "folded_flows",
        "destinations",
        "ports",
    ];

    /// The columns of one line, without the tabs.
    #[must_use]
    pub fn tsv_columns(&self) -> Vec<String> {
        let tunnel = self.tunnel.as_ref();
        let aggregate = self.aggregate.as_ref();
        vec![
            self.src.to_string(),
            self.dst.to_string(),
            self.proto.to_string(),
            self.sport.to_string(),
            self.dport.to_string(),
            self.pkts_fwd.to_string(),
            self.bytes_fwd.to_string(),
            self.pkts_rev.to_string(),
            self.bytes_rev.to_string(),
            self.first_ts.to_string(),
            self.last_ts.to_string(),
            self.end_reason.to_string(),
            self.verdict.to_string(),
            or_dash(self.rule.as_deref()),
            self.pending_verdict.to_string(),
            or_dash(self.pending_rule.as_deref()),
            list(&self.src_segments),
            list(&self.dst_segments),
            self.initiator_confidence.to_string(),
            self.initiator_evidence.to_string(),
            or_dash(self.src_name.as_deref()),
            or_dash(self.dst_name.as_deref()),
            or_dash(self.service.as_deref()),
            self.kind.to_string(),
            self.verdict_source.to_string(),
            self.pending_source.to_string(),
            self.mode.to_string(),
            self.coverage.to_string(),
            or_dash(self.drop_reason.as_deref()),
            self.dropped_packets.to_string(),
            self.dropped_bytes.to_string(),
            or_dash(self.icmp_type),
            or_dash(self.icmp_code),
            self.tcp_state.to_string(),
            format!("0x{:02x}", self.tcp_flags_fwd),
            format!("0x{:02x}", self.tcp_flags_rev),
            or_dash(self.rtt_initiator_us),
            or_dash(self.rtt_responder_us),
            self.retransmits_fwd.to_string(),
            self.retransmits_rev.to_string(),
            self.tos_fwd.to_string(),
            self.tos_rev.to_string(),
            or_dash(tunnel.map(|t| t.kind)),
            or_dash(tunnel.map(|t| t.id)),
            or_dash(tunnel.map(|t| t.outer_src)),
            or_dash(tunnel.map(|t| t.outer_dst)),
            list(&self.vlans),
            self.ingress_port.to_string(),
            or_dash(self.egress_port.as_deref()),
            self.epoch.to_string(),
            self.flow_id.to_string(),
            self.worker.to_string(),
            self.seq.to_string(),
            or_dash(aggregate.map(|a| a.flows)),
            or_dash(aggregate.map(|a| a.destinations)),
            or_dash(aggregate.map(|a| a.ports)),
        ]
    }

    /// One line of the TSV, without the line end. Tabs and line ends inside names are impossible:
    /// the policy refuses them.
    #[must_use]
    pub fn tsv_row(&self) -> String {
        self.tsv_columns().join("\t")
    }

    /// The header line of the TSV, without the line end.
    #[must_use]
    pub fn tsv_header() -> String {
        Self::TSV_COLUMNS.join("\t")
    }

    /// Flows that the record tells: 1, or those of an aggregate.
    #[must_use]
    pub fn flow_count(&self) -> u64 {
        self.aggregate.as_ref().map_or(1, |a| a.flows)
    }

    /// Flows that began with this record: 1 for the first record of a flow, 0 for later ones, those of an aggregate.
    #[must_use]
    pub fn flows_begun(&self) -> u64 {
        self.aggregate
            .as_ref()
            .map_or(u64::from(self.begins), |a| a.flows)
    }

    /// Packets in both directions.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.pkts_fwd.saturating_add(self.pkts_rev)
    }

    /// IP-layer bytes in both directions.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes_fwd.saturating_add(self.bytes_rev)
    }

    /// The initiator's name, or its address where no workload has it.
    #[must_use]
    pub fn src_label(&self) -> String {
        end_label(self.src_name.as_deref(), self.src)
    }

    /// The responder's name, or its address where no workload has it.
    #[must_use]
    pub fn dst_label(&self) -> String {
        end_label(self.dst_name.as_deref(), self.dst)
    }

    /// The service's name where the policy names it, else `tcp/443`, `icmp/echo`, `proto/47`.
    #[must_use]
    pub fn service_label(&self) -> String {
        if let Some(aggregate) = &self.aggregate {
            return aggregate.service_label();
        }
        let port = self.icmp_type.map_or(self.dport, |t| u16::from(t) << 8);
        service_label(self.service.as_deref(), self.proto, port)
    }
}

words! {
    /// How `GET /v1/flows` writes its answer.
    pub enum FlowsFormat {
        /// One object `{"flows": [...], "matched": n}`. Not with `follow`.
        Json => "json",
        /// One JSON object a line.
        Ndjson => "ndjson",
        /// A header line and one line a flow, columns [`Flow::TSV_COLUMNS`].
        Tsv => "tsv",
    }
}

/// Parameters of `GET /v1/flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowsQuery {
    /// Filter language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Newest so many flows that match; 0 all. Default [`FlowsQuery::LIMIT_DEFAULT`].
    /// With `follow`, how many of the past come first, and the default is 0 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Only flows with a packet at or after this time: RFC 3339, or nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only flows that arrived after the one with this `seq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Stay and send flows as their records come. Always NDJSON or TSV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// How the answer is written. Default json, with `follow` ndjson.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<FlowsFormat>,
}

impl FlowsQuery {
    /// Flows in an answer where the query says nothing.
    pub const LIMIT_DEFAULT: u64 = 100;
}

/// Answer to `GET /v1/flows` in format json. Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// The flows, in the order of their arrival.
    pub flows: Vec<Flow>,
}

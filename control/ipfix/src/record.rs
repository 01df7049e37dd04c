//! Flow templates: which elements, in which order, from which field of a flow.

use crate::element::{self as ie, Element};
use std::net::{IpAddr, Ipv6Addr};

/// One flow, as it is exported. `fwd` is initiator to responder; counters are deltas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the element table describes each field")]
pub struct Biflow {
    pub first_ms: u64,
    pub last_ms: u64,
    /// Initiator; both addresses are of one family.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
    pub packets_fwd: u64,
    pub packets_rev: u64,
    pub bytes_fwd: u64,
    pub bytes_rev: u64,
    /// Both directions together.
    pub dropped_packets: u64,
    /// Both directions together.
    pub dropped_bytes: u64,
    pub tcp_flags_fwd: u16,
    pub tcp_flags_rev: u16,
    pub tos_fwd: u8,
    pub tos_rev: u8,
    /// Type * 256 + code.
    pub icmp_type_code: u16,
    pub end_reason: u8,
    pub firewall_event: u8,
    pub forwarding_status: u8,
    /// Port index + 1.
    pub ingress_interface: u32,
    /// Port index + 1, 0 none.
    pub egress_interface: u32,
    /// Outermost and second VLAN, 0 none.
    pub vlans: [u16; 2],
    pub layer2_segment_id: u64,
    pub flow_id: u64,
    pub src_segment_id: u32,
    pub dst_segment_id: u32,
    pub policy_revision: u64,
    pub policy_epoch: u64,
    pub rule_id: u64,
    pub rule_action: u8,
    pub enforcement_mode: u8,
    pub pending_rule_id: u64,
    pub pending_action: u8,
    pub verdict_source: u8,
    pub deny_reason: u16,
    pub coverage: u8,
    pub initiator_confidence: u8,
    pub tcp_state: u8,
    pub rtt_initiator_us: u32,
    pub rtt_responder_us: u32,
    pub retransmits_fwd: u32,
    pub retransmits_rev: u32,
    pub tunnel_type: u8,
    pub tunnel_id: u32,
    pub outer_src: Ipv6Addr,
    pub outer_dst: Ipv6Addr,
    pub worker: u8,
    pub kind: u8,
}

/// What a collector can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Personality {
    /// RFC 5103: one record a flow, reverse counters under PEN 29305.
    #[default]
    Biflow,
    /// One record a direction, for collectors that lose reverse elements (goflow2, pmacct).
    Uniflow,
}

impl Personality {
    /// The word in configuration and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Biflow => "biflow",
            Self::Uniflow => "uniflow",
        }
    }
}

impl Biflow {
    /// Whether the addresses are IPv4.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.src.is_ipv4()
    }

    /// Packets both ways.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets_fwd.saturating_add(self.packets_rev)
    }

    /// Bytes both ways.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes_fwd.saturating_add(self.bytes_rev)
    }

    /// The two directions as flows of their own; the second only where packets came back.
    ///
    /// Dropped packets are not known by direction: they are laid on the forward one as far as it
    /// has packets, the rest on the reverse one, so that their sum is right.
    #[must_use]
    pub fn split(&self) -> (Self, Option<Self>) {
        let dropped_packets_fwd = self.dropped_packets.min(self.packets_fwd);
        let dropped_bytes_fwd = self.dropped_bytes.min(self.bytes_fwd);
        let reverse = Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            packets_fwd: self.packets_rev,
            packets_rev: 0,
            bytes_fwd: self.bytes_rev,
            bytes_rev: 0,
            dropped_packets: self.dropped_packets - dropped_packets_fwd,
            dropped_bytes: self.dropped_bytes - dropped_bytes_fwd,
            tcp_flags_fwd: self.tcp_flags_rev,
            tcp_flags_rev: 0,
            tos_fwd: self.tos_rev,
            tos_rev: 0,
            ingress_interface: self.egress_interface,
            egress_interface: self.ingress_interface,
            src_segment_id: self.dst_segment_id,
            dst_segment_id: self.src_segment_id,
            retransmits_fwd: self.retransmits_rev,
            retransmits_rev: 0,
            outer_src: self.outer_dst,
            outer_dst: self.outer_src,
            ..self.clone()
        };
        let forward = Self {
            packets_rev: 0,
            bytes_rev: 0,
            tcp_flags_rev: 0,
            tos_rev: 0,
            retransmits_rev: 0,
            dropped_packets: dropped_packets_fwd,
            dropped_bytes: dropped_bytes_fwd,
            ..self.clone()
        };
        let answered = self.packets_rev > 0;
        (forward, answered.then_some(reverse))
    }
}

/// A value on its way to the wire; its size must be that of the element's type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    Address(IpAddr),
    Text(&'a str),
}

/// Bytes of a text on the wire; longer ones are cut at a character.
pub const TEXT_BYTES_MAX: usize = 200;

impl Value<'_> {
    /// Appends the value, big endian; texts with their length in front (RFC 7011 section 7).
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::U8(v) => out.push(v),
            Self::U16(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::U32(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::U64(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::Address(IpAddr::V4(v)) => out.extend_from_slice(&v.octets()),
            Self::Address(IpAddr::V6(v)) => out.extend_from_slice(&v.octets()),
            Self::Text(text) => {
                let mut length = text.len().min(TEXT_BYTES_MAX);
                while !text.is_char_boundary(length) {
                    length -= 1;
                }
                // TEXT_BYTES_MAX is below 255: one byte of length is enough.
                out.push(u8::try_from(length).unwrap_or(0));
                out.extend_from_slice(text.get(..length).unwrap_or_default().as_bytes());
            }
        }
    }
}

/// A column of a template: an element and the value it carries for a row.
pub(crate) struct Column<Row> {
    pub(crate) element: &'static Element,
    pub(crate) value: for<'a> fn(&'a Row) -> Value<'a>,
}

impl<Row> Clone for Column<Row> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Row> Copy for Column<Row> {}

macro_rules! columns {
    ($row:ty; $($element:ident => |$r:ident| $value:expr;)+) => {
        &[$(crate::record::Column::<$row> { element: crate::element::$element, value: |$r| $value },)+]
    };
}
pub(crate) use columns;

use Value::{Address, U8, U16, U32, U64};

const TIMES: &[Column<Biflow>] = columns! { Biflow;
    START => |f| U64(f.first_ms);
    END => |f| U64(f.last_ms);
};
const V4: &[Column<Biflow>] = columns! { Biflow;
    SOURCE_V4 => |f| Address(f.src);
    DESTINATION_V4 => |f| Address(f.dst);
};
const V6: &[Column<Biflow>] = columns! { Biflow;
    SOURCE_V6 => |f| Address(f.src);
    DESTINATION_V6 => |f| Address(f.dst);
};
const FORWARD: &[Column<Biflow>] = columns! { Biflow;
    SOURCE_PORT => |f| U16(f.sport);
    DESTINATION_PORT => |f| U16(f.dport);
    PROTOCOL => |f| U8(f.proto);
    IP_VERSION => |f| U8(if f.is_v4() { 4 } else { 6 });
    OCTETS => |f| U64(f.bytes_fwd);
    PACKETS => |f| U64(f.packets_fwd);
    TCP_FLAGS => |f| U16(f.tcp_flags_fwd);
    TOS => |f| U8(f.tos_fwd);
};
const REVERSE: &[Column<Biflow>] = columns! { Biflow;
    REVERSE_OCTETS => |f| U64(f.bytes_rev);
    REVERSE_PACKETS => |f| U64(f.packets_rev);
    REVERSE_TCP_FLAGS => |f| U16(f.tcp_flags_rev);
    REVERSE_TOS => |f| U8(f.tos_rev);
    REVERSE_RETRANSMITS => |f| U32(f.retransmits_rev);
    // The source is the initiator as well as it could be told; initiatorConfidence says how well.
    BIFLOW_DIRECTION => |_f| U8(1);
};
const ICMP_OF_V4: &[Column<Biflow>] = columns! { Biflow; ICMP_V4 => |f| U16(f.icmp_type_code); };
const ICMP_OF_V6: &[Column<Biflow>] = columns! { Biflow; ICMP_V6 => |f| U16(f.icmp_type_code); };
const REST: &[Column<Biflow>] = columns! { Biflow;
    END_REASON => |f| U8(f.end_reason);
    FIREWALL_EVENT => |f| U8(f.firewall_event);
    FORWARDING => |f| U8(f.forwarding_status);
    INGRESS => |f| U32(f.ingress_interface);
    EGRESS => |f| U32(f.egress_interface);
    VLAN => |f| U16(f.vlans[0]);
    DOT1Q_VLAN => |f| U16(f.vlans[0]);
    DOT1Q_CUSTOMER_VLAN => |f| U16(f.vlans[1]);
    LAYER2_SEGMENT => |f| U64(f.layer2_segment_id);
    FLOW_ID => |f| U64(f.flow_id);
    DROPPED_PACKETS => |f| U64(f.dropped_packets);
    DROPPED_OCTETS => |f| U64(f.dropped_bytes);
    SRC_SEGMENT => |f| U32(f.src_segment_id);
    DST_SEGMENT => |f| U32(f.dst_segment_id);
    POLICY_REVISION => |f| U64(f.policy_revision);
    POLICY_EPOCH => |f| U64(f.policy_epoch);
    RULE_ID => |f| U64(f.rule_id);
    RULE_ACTION => |f| U8(f.rule_action);
    ENFORCEMENT_MODE => |f| U8(f.enforcement_mode);
    PENDING_RULE_ID => |f| U64(f.pending_rule_id);
    PENDING_ACTION => |f| U8(f.pending_action);
    VERDICT_SOURCE => |f| U8(f.verdict_source);
    DENY_REASON => |f| U16(f.deny_reason);
    COVERAGE => |f| U8(f.coverage);
    CONFIDENCE => |f| U8(f.initiator_confidence);
    TCP_STATE => |f| U8(f.tcp_state);
    RTT_INITIATOR => |f| U32(f.rtt_initiator_us);
    RTT_RESPONDER => |f| U32(f.rtt_responder_us);
    RETRANSMITS => |f| U32(f.retransmits_fwd);
    TUNNEL_TYPE => |f| U8(f.tunnel_type);
    TUNNEL_ID => |f| U32(f.tunnel_id);
    OUTER_SOURCE => |f| Address(IpAddr::V6(f.outer_src));
    OUTER_DESTINATION => |f| Address(IpAddr::V6(f.outer_dst));
    WORKER => |f| U8(f.worker);
    RECORD_KIND => |f| U8(f.kind);
};

/// Id of the template of a flow. Ids are never reused for another layout (RFC 7011 section 8.1).
pub(crate) const fn flow_template_id(personality: Personality, v4: bool) -> u16 {
    match (personality, v4) {
        (Personality::Biflow, true) => 256,
        (Personality::Biflow, false) => 257,
        (Personality::Uniflow, true) => 258,
        (Personality::Uniflow, false) => 259,
    }
}

/// The columns of a flow template.
pub(crate) fn flow_columns(personality: Personality, v4: bool) -> Vec<Column<Biflow>> {
    let (addresses, icmp) = if v4 {
        (V4, ICMP_OF_V4)
    } else {
        (V6, ICMP_OF_V6)
    };
    let reverse = match personality {
        Personality::Biflow => REVERSE,
        Personality::Uniflow => &[],
    };
    // Reverse before forward: nfdump 1.7 writes reverse flags and ToS over the forward ones, so that
    // what comes last is what it shows.
    [TIMES, addresses, reverse, FORWARD, icmp, REST].concat()
}

/// Appends one data record.
pub(crate) fn write_row<Row>(columns: &[Column<Row>], row: &Row, out: &mut Vec<u8>) {
    for column in columns {
        let before = out.len();
        (column.value)(row).write(out);
        debug_assert!(
            column.element.kind.length() == ie::VARIABLE
                || out.len() - before == usize::from(column.element.kind.length()),
            "{} has another size than its template says",
            column.element.name
        );
    }
}

//! The flow record: what a core tells about a flow when it ends, times out actively, or is denied.

use crate::byte_enum;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

byte_enum! {
    /// Why a record was written. Codes 1 to 5 are IPFIX `flowEndReason` (RFC 5102 section 5.11.3).
    pub enum FlowEndReason {
        /// No packet for the idle timeout of the flow's class.
        IdleTimeout = 1 => "idle-timeout",
        /// The flow goes on and is only told: its active timeout came, it was denied, or its verdict
        /// changed. IPFIX has one code for "terminated for reporting purposes while still active".
        ActiveTimeout = 2 => "active-timeout",
        /// TCP FIN both ways or RST.
        EndOfFlow = 3 => "end-of-flow",
        /// The process stopped, or the policy killed the flow.
        ForcedEnd = 4 => "forced-end",
        /// The entry was taken for another flow.
        LackOfResources = 5 => "lack-of-resources",
    }
}

byte_enum! {
    /// Where in the flow's life a record stands.
    pub enum RecordKind {
        /// A denied flow, told at once on its first packet; later packets follow in `Update` or `End`.
        Denied = 1 => "denied",
        /// Counters since the previous record; the flow goes on.
        Update = 2 => "update",
        /// Counters since the previous record; the flow is over.
        End = 3 => "end",
        /// Many flows of one source in one record: an
        /// [`AggregateRecord`](crate::aggregate::AggregateRecord).
        Aggregate = 4 => "aggregate",
    }
}

byte_enum! {
    /// State of a TCP flow as this box saw it (RFC 9293 section 3.3.2, seen from the middle).
    pub enum TcpState {
        /// Not TCP.
        None = 0 => "none",
        /// SYN seen.
        SynSent = 1 => "syn-sent",
        /// SYN and SYN/ACK seen.
        SynReceived = 2 => "syn-received",
        /// Handshake complete, or picked up midstream.
        Established = 3 => "established",
        /// One FIN seen.
        Closing = 4 => "closing",
        /// FIN both ways, acknowledged.
        Closed = 5 => "closed",
        /// RST seen.
        Reset = 6 => "reset",
    }
}

byte_enum! {
    /// Kind of the innermost tunnel around the classified header.
    pub enum TunnelKind {
        /// Not tunnelled.
        None = 0 => "none",
        /// IP in IP, any of the four combinations (RFC 2003, RFC 4213, RFC 2473).
        IpInIp = 1 => "ip-in-ip",
        /// GRE (RFC 2784, RFC 2890), with NVGRE and ERSPAN.
        Gre = 2 => "gre",
        /// VXLAN (RFC 7348) and VXLAN-GPE.
        Vxlan = 3 => "vxlan",
        /// Geneve (RFC 8926).
        Geneve = 4 => "geneve",
        /// GTP-U (3GPP TS 29.281).
        GtpU = 5 => "gtp-u",
        /// Any other that the parser crosses (Teredo, MPLS over UDP, L2TP ...).
        Other = 6 => "other",
    }
}

/// One flow record: 256 bytes, native byte order (the two processes share one machine).
///
/// `fwd` is initiator to responder. All packet and byte counters are *deltas* since the flow's
/// previous record, so that summing records never counts twice. Addresses are 16 bytes; IPv4 is
/// `::ffff:a.b.c.d`. Times are nanoseconds since the Unix epoch.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FlowRecord {
    /// First packet that this record counts.
    pub first_ns: u64,
    /// Last packet that this record counts.
    pub last_ns: u64,
    /// Packets from the initiator, forwarded or not.
    pub packets_fwd: u64,
    /// Packets from the responder, forwarded or not.
    pub packets_rev: u64,
    /// IP-layer bytes from the initiator (IPv4 total length, IPv6 payload length + 40).
    pub bytes_fwd: u64,
    /// IP-layer bytes from the responder.
    pub bytes_rev: u64,
    /// Of all those packets, how many this box dropped.
    pub dropped_packets: u64,
    /// Of all those bytes, how many this box dropped.
    pub dropped_bytes: u64,
    /// Initiator.
    pub src: [u8; 16],
    /// Responder.
    pub dst: [u8; 16],
    /// Source of the outermost header where the flow is tunnelled, else zero.
    pub outer_src: [u8; 16],
    /// Destination of the outermost header where the flow is tunnelled, else zero.
    pub outer_dst: [u8; 16],
    /// The same in every record of one flow; unique per dataplane start (core in the top byte).
    pub flow_id: u64,
    /// Policy epoch of the verdict; 0 where no policy has been adopted.
    pub epoch: u64,
    /// Rule that decided; 0 none.
    pub rule_id: u64,
    /// Rule that would decide; 0 none.
    pub pending_rule_id: u64,
    /// Identity of the initiator in the image of `epoch`.
    pub src_identity: u32,
    /// Identity of the responder in the image of `epoch`.
    pub dst_identity: u32,
    /// VNI, TEID or key of the innermost tunnel.
    pub tunnel_id: u32,
    /// TCP handshake: SYN to SYN/ACK at this box (network and responder), microseconds, 0 unknown.
    pub rtt_responder_us: u32,
    /// TCP handshake: SYN/ACK to ACK at this box (network and initiator), microseconds, 0 unknown.
    pub rtt_initiator_us: u32,
    /// TCP segments from the initiator whose sequence number was already covered.
    pub retransmits_fwd: u32,
    /// TCP segments from the responder whose sequence number was already covered.
    pub retransmits_rev: u32,
    /// Port of the initiator; 0 where the protocol has none.
    pub sport: u16,
    /// Port of the responder; 0 where the protocol has none.
    pub dport: u16,
    /// VLAN ids of the flow's first packet, outermost first.
    pub vlans: [u16; 4],
    /// TCP flags from the initiator, or-ed (RFC 9293 section 3.1, 9 bits).
    pub tcp_flags_fwd: u16,
    /// TCP flags from the responder, or-ed.
    pub tcp_flags_rev: u16,
    /// Port where the flow's first packet came in.
    pub ingress_port: u16,
    /// Port where it left, 0xffff for mirror ports and dropped flows.
    pub egress_port: u16,
    /// IP protocol number after the extension chain.
    pub proto: u8,
    /// 4 or 6.
    pub ip_version: u8,
    /// ICMP type of the first packet.
    pub icmp_type: u8,
    /// ICMP code of the first packet.
    pub icmp_code: u8,
    /// Type of service byte of the first packet from the initiator.
    pub tos_fwd: u8,
    /// Type of service byte of the first packet from the responder.
    pub tos_rev: u8,
    /// [`FlowEndReason`].
    pub end_reason: u8,
    /// [`RecordKind`].
    pub kind: u8,
    /// [`InitiatorEvidence`](crate::verdict::InitiatorEvidence).
    pub initiator_evidence: u8,
    /// [`Action`](crate::Action) enforced.
    pub enforced: u8,
    /// [`VerdictSource`](crate::VerdictSource) of the enforced verdict.
    pub enforced_source: u8,
    /// [`Action`](crate::Action) pending.
    pub pending: u8,
    /// [`VerdictSource`](crate::VerdictSource) of the pending verdict.
    pub pending_source: u8,
    /// [`Reason`](crate::Reason) of the flow's last dropped packet, 0 none.
    pub drop_reason: u8,
    /// [`Mode`](crate::Mode) of the stricter end.
    pub mode: u8,
    /// [`Coverage`](crate::verdict::Coverage).
    pub coverage: u8,
    /// [`TcpState`] at the time of the record.
    pub tcp_state: u8,
    /// [`TunnelKind`].
    pub tunnel_kind: u8,
    /// How many of `vlans` are used.
    pub vlan_count: u8,
    /// Worker (core) that owns the flow.
    pub worker: u8,
    /// 1 where a later packet turned the initiator round after an earlier record was written.
    pub initiator_flipped: u8,
    /// 1 where no record of the flow was written before this one.
    pub begins: u8,
    /// Zero. Room for what comes.
    pub reserved: [u8; 26],
}

/// Size of a record in bytes; the ring's slot size.
pub const RECORD_BYTES: usize = 256;

const _: () = assert!(size_of::<FlowRecord>() == RECORD_BYTES);

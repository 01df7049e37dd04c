//! The table of information elements: number, owner, name, type, units and where the value comes
//! from. One row an element; templates refer to rows.
//!
//! IANA numbers: <https://www.iana.org/assignments/ipfix>. Reverse elements (RFC 5103 section 6.1)
//! carry the number of the forward one under PEN 29305. Ours carry the configured PEN.

/// PEN of reverse elements (RFC 5103 section 6.1).
pub const REVERSE_PEN: u32 = 29305;
/// PEN of our own elements where none is configured: reserved for documentation (RFC 5612).
pub const OWN_PEN_DEFAULT: u32 = 32473;
/// Length of a field that carries its own length (RFC 7011 section 7).
pub const VARIABLE: u16 = 0xffff;

/// Who numbers an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pen {
    /// IANA: no enterprise number on the wire.
    Iana,
    /// The reverse of an IANA element.
    Reverse,
    /// Ours, the configured enterprise number.
    Own,
}

/// Abstract data type (RFC 7012 section 3.1); the code is that of RFC 5610 section 3.1.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 1 byte.
    U8 = 1,
    /// 2 bytes.
    U16 = 2,
    /// 4 bytes.
    U32 = 3,
    /// 8 bytes.
    U64 = 4,
    /// UTF-8, variable length.
    Text = 13,
    /// 8 bytes, milliseconds since 1970.
    Milliseconds = 15,
    /// 4 bytes.
    Ipv4 = 18,
    /// 16 bytes.
    Ipv6 = 19,
}

impl Type {
    /// Bytes on the wire.
    #[must_use]
    pub const fn length(self) -> u16 {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::Ipv4 => 4,
            Self::U64 | Self::Milliseconds => 8,
            Self::Ipv6 => 16,
            Self::Text => VARIABLE,
        }
    }
}

/// Semantics (RFC 5610 section 3.2).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantics {
    /// None of the others.
    Default = 0,
    /// A measured amount.
    Quantity = 1,
    /// A sum since the exporting process started.
    TotalCounter = 2,
    /// A sum since the previous record.
    DeltaCounter = 3,
    /// A number that names something.
    Identifier = 4,
    /// A set of bits.
    Flags = 5,
}

/// Units (RFC 5610 section 3.3).
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// None.
    None = 0,
    /// Bytes.
    Octets = 2,
    /// Packets.
    Packets = 3,
    /// Flows.
    Flows = 4,
    /// Seconds.
    Seconds = 5,
    /// Milliseconds.
    Milliseconds = 6,
    /// Microseconds.
    Microseconds = 7,
    /// IPFIX messages.
    Messages = 11,
}

/// One information element.
#[derive(Debug, PartialEq, Eq)]
pub struct Element {
    /// Number, below 32768.
    pub id: u16,
    /// Who numbers it.
    pub pen: Pen,
    /// Name, as registered or as ours.
    pub name: &'static str,
    /// Abstract data type; its length is the length on the wire.
    pub kind: Type,
    /// Semantics.
    pub semantics: Semantics,
    /// Units.
    pub units: Units,
    /// Where the value comes from; for our own elements the description that collectors are told.
    pub source: &'static str,
}

macro_rules! elements {
    ($($const:ident = $id:literal $pen:ident $name:literal $kind:ident $semantics:ident $units:ident $source:literal;)+) => {
        $(
            #[doc = concat!($name, ": ", $source)]
            pub const $const: &Element = &Element {
                id: $id, pen: Pen::$pen, name: $name, kind: Type::$kind,
                semantics: Semantics::$semantics, units: Units::$units, source: $source,
            };
        )+
        /// Every element of the table.
        pub const ALL: &[&Element] = &[$($const,)+];
    };
}

elements! {
    // The flow, forward: initiator to responder.
    OCTETS = 1 Iana "octetDeltaCount" U64 DeltaCounter Octets "IP-layer bytes from the source";
    PACKETS = 2 Iana "packetDeltaCount" U64 DeltaCounter Packets "packets from the source";
    PROTOCOL = 4 Iana "protocolIdentifier" U8 Identifier None "protocol after the extension chain";
    TOS = 5 Iana "ipClassOfService" U8 Identifier None "first packet from the source";
    TCP_FLAGS = 6 Iana "tcpControlBits" U16 Flags None "or-ed over packets from the source";
    SOURCE_PORT = 7 Iana "sourceTransportPort" U16 Identifier None "port of the source";
    SOURCE_V4 = 8 Iana "sourceIPv4Address" Ipv4 Default None "the source; in a biflow the initiator";
    INGRESS = 10 Iana "ingressInterface" U32 Identifier None "port index + 1 where the flow came in";
    DESTINATION_PORT = 11 Iana "destinationTransportPort" U16 Identifier None "port of the destination";
    DESTINATION_V4 = 12 Iana "destinationIPv4Address" Ipv4 Default None "the destination; in a biflow the responder";
    EGRESS = 14 Iana "egressInterface" U32 Identifier None "port index + 1 where the flow left, 0 nowhere";
    SOURCE_V6 = 27 Iana "sourceIPv6Address" Ipv6 Default None "the source; in a biflow the initiator";
    DESTINATION_V6 = 28 Iana "destinationIPv6Address" Ipv6 Default None "the destination; in a biflow the responder";
    ICMP_V4 = 32 Iana "icmpTypeCodeIPv4" U16 Identifier None "type * 256 + code of the first packet";
    VLAN = 58 Iana "vlanId" U16 Identifier None "outermost VLAN of the first packet, 0 none";
    IP_VERSION = 60 Iana "ipVersion" U8 Identifier None "4 or 6";
    FORWARDING = 89 Iana "forwardingStatus" U8 Identifier None "RFC 7270: 64 forwarded, 129 rejected, 130 dropped, 138 policed ...";
    DROPPED_OCTETS = 132 Iana "droppedOctetDeltaCount" U64 DeltaCounter Octets "bytes of the flow that the box dropped";
    DROPPED_PACKETS = 133 Iana "droppedPacketDeltaCount" U64 DeltaCounter Packets "packets of the flow that the box dropped";
    END_REASON = 136 Iana "flowEndReason" U8 Identifier None "1 idle, 2 active, 3 end, 4 forced, 5 lack of resources";
    ICMP_V6 = 139 Iana "icmpTypeCodeIPv6" U16 Identifier None "type * 256 + code of the first packet";
    FLOW_ID = 148 Iana "flowId" U64 Identifier None "the same in every record of one flow";
    START = 152 Iana "flowStartMilliseconds" Milliseconds Default Milliseconds "first packet counted";
    END = 153 Iana "flowEndMilliseconds" Milliseconds Default Milliseconds "last packet counted";
    FIREWALL_EVENT = 233 Iana "firewallEvent" U8 Default None "2 flow deleted, 3 flow denied, 5 flow update";
    BIFLOW_DIRECTION = 239 Iana "biflowDirection" U8 Identifier None "RFC 5103 section 6.3: 1, source is the initiator";
    DOT1Q_VLAN = 243 Iana "dot1qVlanId" U16 Identifier None "outermost VLAN of the first packet, 0 none";
    DOT1Q_CUSTOMER_VLAN = 245 Iana "dot1qCustomerVlanId" U16 Identifier None "second VLAN of the first packet, 0 none";
    LAYER2_SEGMENT = 351 Iana "layer2SegmentId" U64 Identifier None "RFC 7133: top byte 1 VXLAN, then the VNI";
    // The flow, reverse: responder to initiator.
    REVERSE_OCTETS = 1 Reverse "reverseOctetDeltaCount" U64 DeltaCounter Octets "IP-layer bytes from the responder";
    REVERSE_PACKETS = 2 Reverse "reversePacketDeltaCount" U64 DeltaCounter Packets "packets from the responder";
    REVERSE_TOS = 5 Reverse "reverseIpClassOfService" U8 Identifier None "first packet from the responder";
    REVERSE_TCP_FLAGS = 6 Reverse "reverseTcpControlBits" U16 Flags None "or-ed over packets from the responder";
    // What explains the flows.
    SAMPLING_INTERVAL = 34 Iana "samplingInterval" U32 Quantity Packets "1: every packet is looked at";
    SAMPLING_ALGORITHM = 35 Iana "samplingAlgorithm" U8 Identifier None "1: deterministic";
    ACTIVE_TIMEOUT = 36 Iana "flowActiveTimeout" U16 Default Seconds "as configured";
    IDLE_TIMEOUT = 37 Iana "flowIdleTimeout" U16 Default Seconds "longest of the classes, as configured";
    EXPORTED_OCTETS = 40 Iana "exportedOctetTotalCount" U64 TotalCounter Octets "bytes of messages sent to this collector";
    EXPORTED_MESSAGES = 41 Iana "exportedMessageTotalCount" U64 TotalCounter Messages "messages sent to this collector";
    EXPORTED_FLOWS = 42 Iana "exportedFlowRecordTotalCount" U64 TotalCounter Flows "flow records sent to this collector";
    SAMPLER_ID = 48 Iana "samplerId" U8 Identifier None "0: there is one";
    INTERFACE_NAME = 82 Iana "interfaceName" Text Default None "name of the port as configured";
    INTERFACE_DESCRIPTION = 83 Iana "interfaceDescription" Text Default None "role and lane of the port";
    EXPORTING_PROCESS = 144 Iana "exportingProcessId" U32 Identifier None "process id of control";
    DOMAIN = 149 Iana "observationDomainId" U32 Identifier None "as configured";
    INIT_TIME = 160 Iana "systemInitTimeMilliseconds" Milliseconds Default Milliseconds "start of the dataplane";
    IGNORED_PACKETS = 164 Iana "ignoredPacketTotalCount" U64 TotalCounter Packets "packets that are in no flow record";
    IGNORED_OCTETS = 165 Iana "ignoredOctetTotalCount" U64 TotalCounter Octets "bytes of those, where they are known";
    NOT_SENT_FLOWS = 166 Iana "notSentFlowTotalCount" U64 TotalCounter Flows "flow records not sent to this collector";
    NOT_SENT_PACKETS = 167 Iana "notSentPacketTotalCount" U64 TotalCounter Packets "packets in those";
    NOT_SENT_OCTETS = 168 Iana "notSentOctetTotalCount" U64 TotalCounter Octets "bytes in those";
    POINT_TYPE = 277 Iana "observationPointType" U8 Identifier None "1: physical port";
    DOMAIN_NAME = 300 Iana "observationDomainName" Text Default None "as configured";
    SELECTOR = 302 Iana "selectorId" U64 Identifier None "0: there is one";
    ELEMENT_ID = 303 Iana "informationElementId" U16 Identifier None "number of one of our elements";
    SELECTOR_ALGORITHM = 304 Iana "selectorAlgorithm" U16 Identifier None "1: systematic, count based";
    SAMPLING_PACKETS = 305 Iana "samplingPacketInterval" U32 Quantity Packets "1: packets looked at in a row";
    SAMPLING_SPACE = 306 Iana "samplingPacketSpace" U32 Quantity Packets "0: packets passed over in a row";
    SELECTOR_OBSERVED = 318 Iana "selectorIdTotalPktsObserved" U64 TotalCounter Packets "packets received";
    SELECTOR_SELECTED = 319 Iana "selectorIdTotalPktsSelected" U64 TotalCounter Packets "packets looked at: all";
    OBSERVATION_TIME = 323 Iana "observationTimeMilliseconds" Milliseconds Quantity Milliseconds "first, then last time of a loss";
    ELEMENT_TYPE = 339 Iana "informationElementDataType" U8 Default None "RFC 5610 section 3.1";
    ELEMENT_DESCRIPTION = 340 Iana "informationElementDescription" Text Default None "what an element of ours says";
    ELEMENT_NAME = 341 Iana "informationElementName" Text Default None "name of an element of ours";
    ELEMENT_SEMANTICS = 344 Iana "informationElementSemantics" U8 Default None "RFC 5610 section 3.2";
    ELEMENT_UNITS = 345 Iana "informationElementUnits" U16 Default None "RFC 5610 section 3.3";
    ENTERPRISE = 346 Iana "privateEnterpriseNumber" U32 Identifier None "the configured PEN";
    // Ours.
    SRC_SEGMENT = 1 Own "srcSegmentId" U32 Identifier None "segments of the source, named in the segment dictionary";
    DST_SEGMENT = 2 Own "dstSegmentId" U32 Identifier None "segments of the destination, named in the segment dictionary";
    SEGMENT_NAME = 3 Own "srcSegmentName" Text Default None "names of the segments, comma separated";
    POLICY_REVISION = 5 Own "policyRevision" U64 Identifier None "first 64 bits of the revision that decided, 0 none";
    RULE_ID = 6 Own "ruleId" U64 Identifier None "rule that decided, 0 none; named in the rule dictionary";
    RULE_NAME = 7 Own "ruleName" Text Default None "name of the rule";
    RULE_ACTION = 8 Own "ruleAction" U8 Identifier None "enforced: 1 allow, 2 drop, 3 reject, 4 rate limit";
    ENFORCEMENT_MODE = 9 Own "enforcementMode" U8 Identifier None "stricter end: 1 observe, 2 test, 4 enforce";
    PENDING_RULE_ID = 10 Own "pendingRuleId" U64 Identifier None "rule that would decide if tests were enforced, 0 none";
    PENDING_ACTION = 11 Own "pendingAction" U8 Identifier None "the action then: 1 allow, 2 drop, 3 reject, 4 rate limit";
    VERDICT_SOURCE = 14 Own "verdictSource" U8 Identifier None "1 rule, 2 default, 3 exception, 4 no policy, 5 kept, 6 related";
    DENY_REASON = 15 Own "denyReason" U16 Identifier None "drop reason of the last dropped packet, 0 none";
    COVERAGE = 16 Own "coverageClass" U8 Identifier None "1 a rule speaks about the flow, 2 none does";
    CONFIDENCE = 17 Own "initiatorConfidence" U8 Quantity None "255 SYN, 250 SYN/ACK, 200 request, 150 listener, 100 ports, 50 order";
    TCP_STATE = 19 Own "tcpState" U8 Identifier None "0 none, 1 SYN sent, 2 SYN received, 3 established, 4 closing, 5 closed, 6 reset";
    RTT_INITIATOR = 20 Own "tcpHandshakeRttInitiatorMicroseconds" U32 Quantity Microseconds "SYN/ACK to ACK, 0 unknown";
    RTT_RESPONDER = 21 Own "tcpHandshakeRttResponderMicroseconds" U32 Quantity Microseconds "SYN to SYN/ACK, 0 unknown";
    RETRANSMITS = 22 Own "tcpRetransmitDeltaCount" U32 DeltaCounter Packets "retransmitted segments from the source";
    TUNNEL_TYPE = 25 Own "tunnelType" U8 Identifier None "0 none, 1 IP in IP, 2 GRE, 3 VXLAN, 4 Geneve, 5 GTP-U, 6 other";
    TUNNEL_ID = 26 Own "tunnelId" U32 Identifier None "VNI, TEID or key of the innermost tunnel";
    OUTER_SOURCE = 27 Own "outerSourceAddress" Ipv6 Default None "outermost source, IPv4 as ::ffff:a.b.c.d, :: none";
    OUTER_DESTINATION = 28 Own "outerDestinationAddress" Ipv6 Default None "outermost destination, IPv4 as ::ffff:a.b.c.d, :: none";
    WORKER = 34 Own "workerId" U8 Identifier None "core that owns the flow";
    REVERSE_RETRANSMITS = 36 Own "reverseTcpRetransmitDeltaCount" U32 DeltaCounter Packets "retransmitted segments from the destination";
    POLICY_EPOCH = 37 Own "policyEpoch" U64 Identifier None "epoch of the policy that decided, 0 none";
    RECORD_KIND = 38 Own "recordKind" U8 Identifier None "1 denied at once, 2 update, 3 end";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_element_has_two_rows_and_every_reverse_one_has_its_forward_twin() {
        for (index, element) in ALL.iter().enumerate() {
            assert!(element.id > 0 && element.id < 0x8000);
            assert!(!element.source.is_empty());
            for other in &ALL[..index] {
                assert!(
                    (element.id, element.pen) != (other.id, other.pen)
                        && element.name != other.name,
                    "{} and {}",
                    element.name,
                    other.name
                );
            }
            if element.pen == Pen::Reverse {
                let twin = ALL
                    .iter()
                    .find(|e| e.pen == Pen::Iana && e.id == element.id)
                    .unwrap();
                assert_eq!(element.kind, twin.kind);
                assert!(
                    element
                        .name
                        .to_lowercase()
                        .ends_with(&twin.name.to_lowercase())
                );
            }
        }
    }
}

//! Options templates: what explains the flows (RFC 7011 section 4 and those named below).

use crate::element::{self as ie, Element};
use crate::record::{Column, Value, columns, write_row};
use Value::{Text, U8, U16, U32, U64};

/// What the exporter tells about itself and about the ids in its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Name of the observation domain.
    pub domain_name: String,
    /// Process id of the exporting process.
    pub exporting_process: u32,
    /// When the dataplane started, milliseconds since 1970; 0 unknown.
    pub init_ms: u64,
    /// Seconds.
    pub active_timeout_s: u16,
    /// Seconds, the longest of the classes.
    pub idle_timeout_s: u16,
    /// Ports.
    pub interfaces: Vec<Interface>,
    /// Segment dictionary.
    pub segments: Vec<SegmentEntry>,
    /// Rule dictionary.
    pub rules: Vec<RuleEntry>,
}

/// One row of the interface table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Port index + 1.
    pub index: u32,
    /// Name as configured.
    pub name: String,
    /// Role and lane.
    pub description: String,
}

/// One row of the segment dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentEntry {
    /// As in srcSegmentId and dstSegmentId.
    pub id: u32,
    /// Names of the segments, comma separated.
    pub name: String,
    /// First 64 bits of the revision in which it was last seen.
    pub revision: u64,
}

/// One row of the rule dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleEntry {
    /// As in ruleId and pendingRuleId.
    pub id: u64,
    /// Name of the rule.
    pub name: String,
    /// First 64 bits of the revision in which it was last seen.
    pub revision: u64,
    /// As in ruleAction.
    pub action: u8,
    /// As in enforcementMode; 0 where the rule takes the mode of its segments.
    pub mode: u8,
}

/// Totals that the reliability records tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the element table describes each field")]
pub struct Statistics {
    pub observed_packets: u64,
    pub ignored_packets: u64,
    pub ignored_octets: u64,
    pub ignored_first_ms: u64,
    pub ignored_last_ms: u64,
    pub not_sent_flows: u64,
    pub not_sent_packets: u64,
    pub not_sent_octets: u64,
    pub not_sent_first_ms: u64,
    pub not_sent_last_ms: u64,
    pub exported_messages: u64,
    pub exported_flows: u64,
    pub exported_octets: u64,
}

/// A row of the options that there is once for each domain.
pub(crate) struct DomainRow<'a> {
    pub(crate) domain: u32,
    pub(crate) announcement: &'a Announcement,
    pub(crate) statistics: Statistics,
}

/// The rows above do not borrow while they are columns: values are copied out here.
struct Domain {
    domain: u32,
    process: u32,
    name: String,
    init_ms: u64,
    active_s: u16,
    idle_s: u16,
    s: Statistics,
}

struct TypeRow {
    pen: u32,
    element: &'static Element,
}

/// One options template and its records, ready for the wire.
pub(crate) struct Table {
    pub(crate) id: u16,
    /// The template record (RFC 7011 section 3.4.2.2).
    pub(crate) template: Vec<u8>,
    /// Data records.
    pub(crate) records: Vec<Vec<u8>>,
}

pub(crate) const SEGMENTS_ID: u16 = 267;
pub(crate) const RULES_ID: u16 = 268;
/// What was exported, metering reliability, exporting reliability.
pub(crate) const STATISTICS_IDS: [u16; 3] = [266, 269, 270];

/// RFC 7011 section 4.1.
const STATISTICS: &[Column<Domain>] = columns! { Domain;
    DOMAIN => |r| U32(r.domain);
    EXPORTED_MESSAGES => |r| U64(r.s.exported_messages);
    EXPORTED_FLOWS => |r| U64(r.s.exported_flows);
    EXPORTED_OCTETS => |r| U64(r.s.exported_octets);
};
/// RFC 7011 section 4.2.
const METERING_RELIABILITY: &[Column<Domain>] = columns! { Domain;
    DOMAIN => |r| U32(r.domain);
    IGNORED_PACKETS => |r| U64(r.s.ignored_packets);
    IGNORED_OCTETS => |r| U64(r.s.ignored_octets);
    OBSERVATION_TIME => |r| U64(r.s.ignored_first_ms);
    OBSERVATION_TIME => |r| U64(r.s.ignored_last_ms);
};
/// RFC 7011 section 4.3.
const EXPORTING_RELIABILITY: &[Column<Domain>] = columns! { Domain;
    EXPORTING_PROCESS => |r| U32(r.process);
    NOT_SENT_FLOWS => |r| U64(r.s.not_sent_flows);
    NOT_SENT_PACKETS => |r| U64(r.s.not_sent_packets);
    NOT_SENT_OCTETS => |r| U64(r.s.not_sent_octets);
    OBSERVATION_TIME => |r| U64(r.s.not_sent_first_ms);
    OBSERVATION_TIME => |r| U64(r.s.not_sent_last_ms);
};
/// RFC 5477 section 8: one of one packets. Collectors drop flows whose sampling they do not know.
const SELECTOR: &[Column<Domain>] = columns! { Domain;
    SELECTOR => |_r| U64(0);
    SELECTOR_ALGORITHM => |_r| U16(1);
    SAMPLING_PACKETS => |_r| U32(1);
    SAMPLING_SPACE => |_r| U32(0);
    SELECTOR_OBSERVED => |r| U64(r.s.observed_packets);
    SELECTOR_SELECTED => |r| U64(r.s.observed_packets);
};
/// The same in the elements of NetFlow version 9 (RFC 3954), for collectors that know only those.
const SAMPLER: &[Column<Domain>] = columns! { Domain;
    DOMAIN => |r| U32(r.domain);
    SAMPLER_ID => |_r| U8(0);
    SAMPLING_INTERVAL => |_r| U32(1);
    SAMPLING_ALGORITHM => |_r| U8(1);
};
const OBSERVATION_DOMAIN: &[Column<Domain>] = columns! { Domain;
    DOMAIN => |r| U32(r.domain);
    DOMAIN_NAME => |r| Text(&r.name);
    POINT_TYPE => |_r| U8(1);
    INIT_TIME => |r| U64(r.init_ms);
};
const TIMEOUTS: &[Column<Domain>] = columns! { Domain;
    DOMAIN => |r| U32(r.domain);
    ACTIVE_TIMEOUT => |r| U16(r.active_s);
    IDLE_TIMEOUT => |r| U16(r.idle_s);
};
const INTERFACES: &[Column<Interface>] = columns! { Interface;
    INGRESS => |r| U32(r.index);
    INTERFACE_NAME => |r| Text(&r.name);
    INTERFACE_DESCRIPTION => |r| Text(&r.description);
};
/// RFC 5610 section 3.9. Two scope fields.
const TYPES: &[Column<TypeRow>] = columns! { TypeRow;
    ENTERPRISE => |r| U32(r.pen);
    ELEMENT_ID => |r| U16(r.element.id);
    ELEMENT_TYPE => |r| U8(r.element.kind as u8);
    ELEMENT_SEMANTICS => |r| U8(r.element.semantics as u8);
    ELEMENT_UNITS => |r| U16(r.element.units as u16);
    ELEMENT_NAME => |r| Text(r.element.name);
    ELEMENT_DESCRIPTION => |r| Text(r.element.source);
};
const SEGMENTS: &[Column<SegmentEntry>] = columns! { SegmentEntry;
    SRC_SEGMENT => |r| U32(r.id);
    SEGMENT_NAME => |r| Text(&r.name);
    POLICY_REVISION => |r| U64(r.revision);
};
const RULES: &[Column<RuleEntry>] = columns! { RuleEntry;
    RULE_ID => |r| U64(r.id);
    RULE_NAME => |r| Text(&r.name);
    POLICY_REVISION => |r| U64(r.revision);
    RULE_ACTION => |r| U8(r.action);
    ENFORCEMENT_MODE => |r| U8(r.mode);
};

/// Every options template with its records, in the order in which a collector should read them.
pub(crate) fn tables(row: &DomainRow<'_>, pen: u32) -> Vec<Table> {
    let announcement = row.announcement;
    let domain = [Domain {
        domain: row.domain,
        process: announcement.exporting_process,
        name: announcement.domain_name.clone(),
        init_ms: announcement.init_ms,
        active_s: announcement.active_timeout_s,
        idle_s: announcement.idle_timeout_s,
        s: row.statistics,
    }];
    let types: Vec<TypeRow> = ie::ALL
        .iter()
        .filter(|e| e.pen == ie::Pen::Own)
        .map(|element| TypeRow { pen, element })
        .collect();
    vec![
        table(265, 2, TYPES, &types, pen),
        table(260, 1, SELECTOR, &domain, pen),
        table(261, 1, SAMPLER, &domain, pen),
        table(262, 1, OBSERVATION_DOMAIN, &domain, pen),
        table(263, 1, TIMEOUTS, &domain, pen),
        table(264, 1, INTERFACES, &announcement.interfaces, pen),
        table(SEGMENTS_ID, 1, SEGMENTS, &announcement.segments, pen),
        table(RULES_ID, 1, RULES, &announcement.rules, pen),
        table(266, 1, STATISTICS, &domain, pen),
        table(269, 1, METERING_RELIABILITY, &domain, pen),
        table(270, 1, EXPORTING_RELIABILITY, &domain, pen),
    ]
}

fn table<Row>(id: u16, scopes: u16, columns: &[Column<Row>], rows: &[Row], pen: u32) -> Table {
    let record = |row: &Row| {
        let mut bytes = Vec::new();
        write_row(columns, row, &mut bytes);
        bytes
    };
    Table {
        id,
        template: template(id, Some(scopes), columns, pen),
        records: rows.iter().map(record).collect(),
    }
}

/// One data record of the segment dictionary.
pub(crate) fn segment_record(entry: &SegmentEntry) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_row(SEGMENTS, entry, &mut bytes);
    bytes
}

/// One data record of the rule dictionary.
pub(crate) fn rule_record(entry: &RuleEntry) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_row(RULES, entry, &mut bytes);
    bytes
}

/// A template record (RFC 7011 section 3.4.1), or with `scopes` an options template record
/// (section 3.4.2.2).
pub(crate) fn template<Row>(
    id: u16,
    scopes: Option<u16>,
    columns: &[Column<Row>],
    pen: u32,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(6 + columns.len() * 8);
    let count = u16::try_from(columns.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&count.to_be_bytes());
    if let Some(scopes) = scopes {
        bytes.extend_from_slice(&scopes.to_be_bytes());
    }
    for column in columns {
        let element = column.element;
        let pen = match element.pen {
            ie::Pen::Iana => None,
            ie::Pen::Reverse => Some(ie::REVERSE_PEN),
            ie::Pen::Own => Some(pen),
        };
        let enterprise_bit = if pen.is_some() { 0x8000 } else { 0 };
        bytes.extend_from_slice(&(element.id | enterprise_bit).to_be_bytes());
        bytes.extend_from_slice(&element.kind.length().to_be_bytes());
        if let Some(pen) = pen {
            bytes.extend_from_slice(&pen.to_be_bytes());
        }
    }
    bytes
}

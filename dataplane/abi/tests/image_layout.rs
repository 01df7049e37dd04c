//! `LAYOUT-IMAGE.md` cannot rot: its rows and rulers are compared with the compiler's offsets.

use abi::image::{
    CandidateVerdict, Header, IdentityRow, LimitRow, PortRow, PrefixRow, RowSet, RowSlot, RuleRow,
    SECTION_COUNT, SECTIONS_OFFSET, Section, SectionEntry, SegmentRow, ServiceRow, V6Slot,
    VerdictRow, WorkloadRow,
};
use std::mem::offset_of;

const LAYOUT: &str = include_str!("../LAYOUT-IMAGE.md");

/// Bytes of the fields that a line like `limit, 32   rule id 8 | rate 8 (per second) | ...` tells,
/// continued on lines that begin with spaces: the last number of each part, remarks left out.
fn told(name: &str) -> (usize, Vec<usize>) {
    let begin = LAYOUT
        .find(&format!("\n{name}, "))
        .unwrap_or_else(|| panic!("LAYOUT-IMAGE.md has no row `{name}`"));
    let mut lines = LAYOUT[begin + 1..].lines();
    let mut text = lines.next().unwrap_or_default().to_owned();
    for line in lines.take_while(|line| line.starts_with("   ")) {
        text.push_str(line);
    }
    let mut plain = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let (head, fields) = plain[name.len() + 2..]
        .split_once("  ")
        .unwrap_or_else(|| panic!("{plain}"));
    let number = |part: &str| {
        let last = part.split_whitespace().last().unwrap_or_default();
        last.parse().unwrap_or_else(|_| panic!("{name}: `{part}`"))
    };
    let sizes = fields
        .split(['|', ','])
        .filter(|part| !part.trim().is_empty())
        .map(number)
        .collect();
    (number(head), sizes)
}

/// Compares a row of the document with its declaration: all fields, in order, without a gap.
macro_rules! check_row {
    ($name:literal, $type:ty { $($field:ident),+ $(,)? }) => {{
        let begins = [$(offset_of!($type, $field)),+];
        let ends = begins[1..].iter().copied().chain([size_of::<$type>()]);
        let sizes: Vec<usize> = begins.iter().zip(ends).map(|(begin, end)| end - begin).collect();
        assert_eq!(told($name), (size_of::<$type>(), sizes), $name);
    }};
}

#[test]
fn every_row_of_the_image_is_told_as_it_is() {
    check_row!(
        "v6-slot",
        V6Slot {
            prefix,
            identity,
            length,
            reserved
        }
    );
    check_row!(
        "identity",
        IdentityRow {
            source_class,
            destination_class,
            segments_first,
            segments_count,
            mode,
            reserved
        }
    );
    check_row!(
        "row-set",
        RowSet {
            first,
            default_row,
            multiplier,
            mask,
            shift
        }
    );
    check_row!("row-slot", RowSlot { service_class, row });
    check_row!(
        "rule",
        RuleRow {
            id,
            name_first,
            name_bytes,
            from_first,
            from_count,
            to_first,
            to_count,
            services_first,
            services_count,
            limit_index,
            tier,
            action,
            mode,
            on_change,
            flags,
            reserved
        }
    );
    check_row!(
        "segment",
        SegmentRow {
            name_first,
            name_bytes,
            prefixes_first,
            prefixes_count,
            mode,
            reserved
        }
    );
    check_row!(
        "workload",
        WorkloadRow {
            name_first,
            name_bytes,
            prefixes_first,
            prefixes_count
        }
    );
    check_row!(
        "prefix",
        PrefixRow {
            address,
            length,
            family
        }
    );
    check_row!(
        "service",
        ServiceRow {
            name_first,
            name_bytes,
            ports_first,
            ports_count
        }
    );
    check_row!(
        "port",
        PortRow {
            any,
            proto,
            low,
            high,
            reserved
        }
    );
    check_row!(
        "limit",
        LimitRow {
            rule_id,
            rate,
            burst,
            rule_index,
            kind,
            reserved
        }
    );
    check_row!(
        "candidate",
        CandidateVerdict {
            rule_index,
            action,
            source,
            reserved
        }
    );
}

#[test]
fn header_and_verdict_row_are_where_their_rulers_say() {
    let header = [
        offset_of!(Header, magic),
        offset_of!(Header, abi_epoch),
        offset_of!(Header, image_format),
        offset_of!(Header, epoch),
        offset_of!(Header, total_bytes),
        offset_of!(Header, checksum),
        offset_of!(Header, revision),
        offset_of!(Header, section_count),
        offset_of!(Header, source_classes),
        offset_of!(Header, destination_classes),
        offset_of!(Header, pair_stride),
        offset_of!(Header, service_classes),
        offset_of!(Header, v6_default_identity),
        offset_of!(Header, compiled_day),
        offset_of!(Header, next_expiry_day),
        offset_of!(Header, reserved),
    ];
    let drawn = [
        0, 8, 12, 16, 24, 32, 40, 72, 76, 80, 84, 88, 92, 96, 100, 104,
    ];
    assert_eq!(header, drawn);
    let verdict = [
        offset_of!(VerdictRow, rule_id),
        offset_of!(VerdictRow, pending_rule_id),
        offset_of!(VerdictRow, rule_index),
        offset_of!(VerdictRow, pending_rule_index),
        offset_of!(VerdictRow, enforced),
        offset_of!(VerdictRow, enforced_source),
        offset_of!(VerdictRow, pending),
        offset_of!(VerdictRow, pending_source),
        offset_of!(VerdictRow, mode),
        offset_of!(VerdictRow, coverage),
        offset_of!(VerdictRow, on_change),
        offset_of!(VerdictRow, candidate_count),
        offset_of!(VerdictRow, limit_index),
        offset_of!(VerdictRow, candidates),
        offset_of!(VerdictRow, reserved),
    ];
    let drawn = [0, 8, 16, 20, 24, 25, 26, 27, 28, 29, 30, 31, 32, 36, 60];
    assert_eq!(verdict, drawn);
    assert_eq!(size_of::<SectionEntry>(), 32);
    assert_eq!(SECTIONS_OFFSET, 128 + 32 * SECTION_COUNT);
}

#[test]
fn sections_are_told_in_order_with_their_row_bytes() {
    for (index, section) in Section::ALL.iter().enumerate() {
        let row = format!("| {} | {section} | {} |", index + 1, section.row_bytes());
        assert!(LAYOUT.contains(&row), "LAYOUT-IMAGE.md has no `{row}`");
    }
}

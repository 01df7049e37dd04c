//! `LAYOUT.md` cannot rot: every offset and size in its tables is compared with the compiler's.

use abi::link::{FRAME_HEADER_BYTES, Hello, Message, RefusalCode, Role, encode};
use abi::shm::RegionHeader;
use abi::stats::{LaneFacts, ProcessFacts};
use abi::{AggregateRecord, CoreCounters, FlowRecord, PortCounters};
use std::mem::offset_of;
use zerocopy::FromZeros;

const LAYOUT: &str = include_str!("../LAYOUT.md");

#[derive(Debug, PartialEq, Eq)]
struct Row {
    offset: usize,
    /// `None` where the table says `rest`.
    size: Option<usize>,
    field: String,
}

/// The text under a heading, up to the next heading of any depth.
fn section(heading: &str) -> &'static str {
    let start = LAYOUT
        .find(heading)
        .unwrap_or_else(|| panic!("LAYOUT.md has no `{heading}`"));
    let body = &LAYOUT[start + heading.len()..];
    &body[..body.find("\n#").unwrap_or(body.len())]
}

fn rows(section: &str) -> Vec<Row> {
    let table = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    table
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{line}"));
            Row {
                offset: number(cells[0]),
                size: (cells[1] != "rest").then(|| number(cells[1])),
                field: cells[2].trim_matches('`').to_owned(),
            }
        })
        .collect()
}

/// The number in a heading like `FlowRecord (256 bytes)`.
fn heading_bytes(name: &str) -> usize {
    let rest = section(&format!("## {name} ("));
    rest[..rest.find(' ').expect("bytes")]
        .parse()
        .expect("a number of bytes")
}

/// Every row of a ruler begins with its offset, and the offsets rise by the bytes drawn.
fn check_ruler(name: &str, section: &str, bytes: usize) {
    let drawn = section.lines().filter(|line| line.contains('│'));
    let mut next = 0;
    for line in drawn {
        let offset: usize = line
            .split('│')
            .next()
            .map(str::trim)
            .expect("text")
            .parse()
            .expect(line);
        assert_eq!(offset, next, "{name}: the ruler's row {line}");
        let last = line
            .split("bytes), to ")
            .nth(1)
            .map(|text| text.trim_matches([' ', '│']));
        next = last.map_or(offset + 8, |last| last.parse::<usize>().expect(line) + 1);
    }
    assert_eq!(next, bytes.next_multiple_of(8), "{name}: the ruler's end");
}

/// Compares the table of a struct with its declaration: all fields, in order, without a gap.
macro_rules! check_struct {
    ($name:literal, $type:ty { $($field:ident),+ $(,)? }) => {{
        let sample = <$type>::new_zeroed();
        let compiled = vec![$(Row {
            offset: offset_of!($type, $field),
            size: Some(size_of_val(&sample.$field)),
            field: stringify!($field).to_owned(),
        }),+];
        let end = compiled.iter().fold(0, |end, row| {
            assert_eq!(row.offset, end, "{}: there is a gap before `{}`", $name, row.field);
            end + row.size.unwrap_or(0)
        });
        assert_eq!(end, size_of::<$type>(), "{}: the test does not name all fields", $name);
        assert_eq!(heading_bytes($name), end, "{}: the heading", $name);
        let section = section(concat!("## ", $name, " ("));
        check_ruler($name, section, end);
        assert_eq!(rows(section), compiled, "{}: the table", $name);
    }};
}

#[test]
fn every_offset_in_layout_md_is_the_compilers() {
    check_struct!(
        "RegionHeader",
        RegionHeader {
            magic,
            abi_epoch,
            header_bytes,
            region_bytes,
            boot_id,
            workers,
            ports,
            ring_records,
            record_bytes,
            facts_block_bytes,
            core_block_bytes,
            port_block_bytes,
            ring_block_bytes,
            facts_offset,
            cores_offset,
            ports_offset,
            producers_offset,
            consumers_offset,
            slots_offset,
            reserved
        }
    );
    check_struct!(
        "FlowRecord",
        FlowRecord {
            first_ns,
            last_ns,
            packets_fwd,
            packets_rev,
            bytes_fwd,
            bytes_rev,
            dropped_packets,
            dropped_bytes,
            src,
            dst,
            outer_src,
            outer_dst,
            flow_id,
            epoch,
            rule_id,
            pending_rule_id,
            src_identity,
            dst_identity,
            tunnel_id,
            rtt_responder_us,
            rtt_initiator_us,
            retransmits_fwd,
            retransmits_rev,
            sport,
            dport,
            vlans,
            tcp_flags_fwd,
            tcp_flags_rev,
            ingress_port,
            egress_port,
            proto,
            ip_version,
            icmp_type,
            icmp_code,
            tos_fwd,
            tos_rev,
            end_reason,
            kind,
            initiator_evidence,
            enforced,
            enforced_source,
            pending,
            pending_source,
            drop_reason,
            mode,
            coverage,
            tcp_state,
            tunnel_kind,
            vlan_count,
            worker,
            initiator_flipped,
            begins,
            reserved
        }
    );
    check_struct!(
        "AggregateRecord",
        AggregateRecord {
            first_ns,
            last_ns,
            packets_fwd,
            packets_rev,
            bytes_fwd,
            bytes_rev,
            dropped_packets,
            dropped_bytes,
            src,
            dst,
            flows,
            refused,
            since_ns,
            sources,
            destinations,
            aggregate_id,
            epoch,
            rule_id,
            pending_rule_id,
            src_identity,
            dst_identity,
            ports,
            port_low,
            port_high,
            protocols,
            reserved_ends,
            tcp_flags_fwd,
            tcp_flags_rev,
            ingress_port,
            egress_port,
            proto,
            ip_version,
            reserved_icmp,
            end_reason,
            kind,
            initiator_evidence,
            enforced,
            enforced_source,
            pending,
            pending_source,
            drop_reason,
            mode,
            coverage,
            tcp_state,
            tunnel_kind,
            vlan_count,
            worker,
            reserved
        }
    );
    check_struct!(
        "CoreCounters",
        CoreCounters {
            committed_ns,
            rounds,
            empty_rounds,
            idle_waits,
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            mirror_packets,
            generated_packets,
            answers_suppressed,
            drops,
            flow_packets,
            unflowed_packets,
            recorded_packets,
            cached_packets,
            shed_packets,
            shed_bytes,
            records,
            shed_records,
            flows_created,
            flows_cached,
            flows_established,
            flows_max,
            flows_ended_idle,
            flows_ended_eof,
            flows_ended_forced,
            flows_evicted,
            flow_table_full,
            fragments_tracked,
            fragment_table_full,
            fragments_inherited,
            flows_midstream,
            icmp_errors_related,
            flows_judged,
            flows_rejudged,
            flows_verdict_changed,
            permitted_packets,
            would_deny_packets,
            uncovered_packets,
            superseded_packets,
            policy_epoch,
            policy_adopted_ns,
            policies_adopted,
            stage_rounds,
            stage_cycles,
            stage_packets,
            folded_flows,
            folded_packets,
            folded_rest_packets,
            scan_sources,
            steered_out_packets,
            steered_in_packets,
            returned_out_packets,
            returned_in_packets,
            returned_answers,
            resteer_ring_full
        }
    );
    check_struct!(
        "PortCounters",
        PortCounters {
            read_ns,
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            rx_missed,
            rx_errors,
            tx_errors,
            rx_no_buffer,
            link_up,
            link_mbps,
            role,
            lane,
            name
        }
    );
    check_struct!(
        "ProcessFacts",
        ProcessFacts {
            process_id,
            started_ns,
            heartbeat_ns,
            boot_id,
            abi_epoch,
            state,
            workers,
            ports,
            lanes,
            ring_records,
            consumer_faults,
            package_version,
            idle,
            worker_cpus,
            lane,
            tsc_hz
        }
    );
    check_struct!(
        "LaneFacts",
        LaneFacts {
            name,
            kind,
            inside_port,
            outside_port,
            workers_mask
        }
    );
}

/// The fields of the shared blocks are private to their modules, whose const assertions pin the
/// same numbers to the structs.
#[test]
fn the_blocks_of_rings_and_locks_are_as_drawn() {
    let row = |offset, size, field: &str| Row {
        offset,
        size: Some(size),
        field: field.to_owned(),
    };
    let producer = [
        row(0, 8, "tail"),
        row(8, 8, "accepted"),
        row(16, 8, "faults"),
    ];
    assert_eq!(rows(section("## ProducerBlock (")), producer);
    let consumer = [row(0, 8, "head"), row(8, 8, "process_id")];
    assert_eq!(rows(section("## ConsumerBlock (")), consumer);
    for (name, bytes) in [
        ("ProducerBlock", size_of::<abi::ring::ProducerBlock>()),
        ("ConsumerBlock", size_of::<abi::ring::ConsumerBlock>()),
    ] {
        assert_eq!(heading_bytes(name), bytes);
        check_ruler(name, section(&format!("## {name} (")), bytes);
    }
    let block = [row(0, 8, "sequence"), row(8, 56, "reserved")];
    assert_eq!(rows(section("## Block\n")), block);
    let words = size_of::<CoreCounters>();
    assert_eq!(
        size_of::<abi::stats::CoreBlock>(),
        (64 + words).next_multiple_of(128)
    );
}

#[test]
fn every_frame_is_as_long_as_its_table_says() {
    let frames: [(&str, u16, Message); 10] = [
        (
            "Hello",
            1,
            Message::Hello(Hello::new(Role::Control, 1, [0; 16])),
        ),
        ("Region", 2, Message::Region { bytes: 0 }),
        (
            "PublishImage",
            3,
            Message::PublishImage {
                epoch: 1,
                image: vec![0; 5],
            },
        ),
        (
            "Adopted",
            4,
            Message::Adopted {
                epoch: 1,
                workers: 1,
                received_to_published_ns: 1,
                published_to_adopted_ns: 1,
            },
        ),
        (
            "Refused",
            5,
            Message::Refused {
                epoch: 1,
                code: RefusalCode::NotKept,
                sentence: "five.".to_owned(),
            },
        ),
        (
            "PolicyInForce",
            6,
            Message::PolicyInForce {
                epoch: 1,
                image_hash: [0; 32],
            },
        ),
        ("RequestImage", 7, Message::RequestImage),
        (
            "Image",
            8,
            Message::Image {
                epoch: 1,
                image: vec![0; 5],
            },
        ),
        ("Shutdown", 9, Message::Shutdown),
        (
            "PublishChange",
            10,
            Message::PublishChange {
                epoch: 1,
                change: vec![0; 5],
            },
        ),
    ];
    let header = rows(section("### Frame header (type any)"));
    let end = header.last().map(|row| row.offset + row.size.unwrap_or(0));
    assert_eq!(end, Some(FRAME_HEADER_BYTES));
    for (name, kind, message) in frames {
        let mut bytes = Vec::new();
        encode(&message, &mut bytes).expect("small");
        assert_eq!(bytes[4..6], kind.to_le_bytes(), "{name}");
        let rows = rows(section(&format!("### Frame {name} (type {kind})")));
        let end = rows.iter().fold(0, |end, row| {
            assert_eq!(row.offset, end, "{name}: offset of `{}`", row.field);
            // Every text and image above has five bytes.
            end + row.size.unwrap_or(5)
        });
        assert_eq!(bytes.len() - FRAME_HEADER_BYTES, end, "{name}");
    }
}

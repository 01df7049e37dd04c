//! What is encoded comes back through a decoder that knows only the RFC.

mod support;

use ipfix::{
    Announcement, Biflow, Interface, MESSAGE_BYTES_MIN, Message, Personality, RuleEntry,
    SegmentEntry, Session, Settings, SettingsError, Statistics,
};
use proptest::prelude::*;
use std::net::IpAddr;
use support::{Collector, Record, START_MS, icmp_v4, tcp_v4, udp_v6};

const OWN: u32 = 32473;
const REVERSE: u32 = 29305;
const SECOND: u64 = 1_000_000_000;
const NOW: u64 = START_MS * 1_000_000;

fn announcement() -> Announcement {
    Announcement {
        domain_name: "ringfence".to_owned(),
        exporting_process: 4711,
        init_ms: START_MS,
        active_timeout_s: 60,
        idle_timeout_s: 300,
        interfaces: vec![
            Interface {
                index: 1,
                name: "inside0".to_owned(),
                description: "lane 0".to_owned(),
            },
            Interface {
                index: 2,
                name: "outside0".to_owned(),
                description: "lane 0".to_owned(),
            },
        ],
        segments: vec![SegmentEntry {
            id: 0xaaaa_0001,
            name: "shop-web".to_owned(),
            revision: 9,
        }],
        rules: vec![RuleEntry {
            id: 0x42,
            name: "shop-web-to-db".to_owned(),
            revision: 9,
            action: 1,
            mode: 0,
        }],
    }
}

fn session(settings: Settings) -> Session {
    Session::new(settings, announcement()).expect("valid settings")
}

fn collect(messages: &[Message]) -> Collector {
    let mut collector = Collector::default();
    for message in messages {
        collector.receive(&message.bytes);
    }
    collector
}

/// Every field that a flow record must carry, in both personalities.
#[track_caller]
fn assert_common(record: &Record, flow: &Biflow) {
    let expected = [
        (0, 152, flow.first_ms),
        (0, 153, flow.last_ms),
        (0, 7, u64::from(flow.sport)),
        (0, 11, u64::from(flow.dport)),
        (0, 4, u64::from(flow.proto)),
        (0, 60, if flow.is_v4() { 4 } else { 6 }),
        (0, 1, flow.bytes_fwd),
        (0, 2, flow.packets_fwd),
        (0, 6, u64::from(flow.tcp_flags_fwd)),
        (0, 5, u64::from(flow.tos_fwd)),
        (
            0,
            if flow.is_v4() { 32 } else { 139 },
            u64::from(flow.icmp_type_code),
        ),
        (0, 136, u64::from(flow.end_reason)),
        (0, 233, u64::from(flow.firewall_event)),
        (0, 89, u64::from(flow.forwarding_status)),
        (0, 10, u64::from(flow.ingress_interface)),
        (0, 14, u64::from(flow.egress_interface)),
        (0, 58, u64::from(flow.vlans[0])),
        (0, 243, u64::from(flow.vlans[0])),
        (0, 245, u64::from(flow.vlans[1])),
        (0, 351, flow.layer2_segment_id),
        (0, 148, flow.flow_id),
        (0, 133, flow.dropped_packets),
        (0, 132, flow.dropped_bytes),
        (OWN, 1, u64::from(flow.src_segment_id)),
        (OWN, 2, u64::from(flow.dst_segment_id)),
        (OWN, 5, flow.policy_revision),
        (OWN, 6, flow.rule_id),
        (OWN, 8, u64::from(flow.rule_action)),
        (OWN, 9, u64::from(flow.enforcement_mode)),
        (OWN, 10, flow.pending_rule_id),
        (OWN, 11, u64::from(flow.pending_action)),
        (OWN, 14, u64::from(flow.verdict_source)),
        (OWN, 15, u64::from(flow.deny_reason)),
        (OWN, 16, u64::from(flow.coverage)),
        (OWN, 17, u64::from(flow.initiator_confidence)),
        (OWN, 19, u64::from(flow.tcp_state)),
        (OWN, 20, u64::from(flow.rtt_initiator_us)),
        (OWN, 21, u64::from(flow.rtt_responder_us)),
        (OWN, 22, u64::from(flow.retransmits_fwd)),
        (OWN, 25, u64::from(flow.tunnel_type)),
        (OWN, 26, u64::from(flow.tunnel_id)),
        (OWN, 34, u64::from(flow.worker)),
        (OWN, 37, flow.policy_epoch),
        (OWN, 38, u64::from(flow.kind)),
    ];
    for (pen, id, value) in expected {
        assert_eq!(record.number(pen, id), value, "element {pen}/{id}");
    }
    let (source, destination) = if flow.is_v4() { (8, 12) } else { (27, 28) };
    let address = |bytes: &[u8]| match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
    };
    assert_eq!(address(record.bytes(0, source)), flow.src);
    assert_eq!(address(record.bytes(0, destination)), flow.dst);
    assert_eq!(record.bytes(OWN, 27), flow.outer_src.octets());
    assert_eq!(record.bytes(OWN, 28), flow.outer_dst.octets());
}

#[track_caller]
fn assert_biflow(record: &Record, flow: &Biflow) {
    assert_common(record, flow);
    assert_eq!(record.number(REVERSE, 1), flow.bytes_rev);
    assert_eq!(record.number(REVERSE, 2), flow.packets_rev);
    assert_eq!(record.number(REVERSE, 6), u64::from(flow.tcp_flags_rev));
    assert_eq!(record.number(REVERSE, 5), u64::from(flow.tos_rev));
    assert_eq!(record.number(OWN, 36), u64::from(flow.retransmits_rev));
    assert_eq!(record.number(0, 239), 1, "the source is the initiator");
}

#[test]
fn every_field_of_a_biflow_comes_back() {
    let mut session = session(Settings::default());
    let mut out = Vec::new();
    let flows = [tcp_v4(), udp_v6(), icmp_v4()];
    for flow in &flows {
        session.flow(NOW, flow, &mut out);
    }
    session.flush(NOW, &mut out);
    let collector = collect(&out);
    let records = collector.flows();
    assert_eq!(records.len(), flows.len());
    for (record, flow) in records.iter().zip(&flows) {
        assert_biflow(record, flow);
    }
    assert_eq!(collector.domain, Some(1));
}

#[test]
fn a_uniflow_pair_carries_both_directions_without_reverse_elements() {
    let settings = Settings {
        personality: Personality::Uniflow,
        ..Settings::default()
    };
    let mut session = session(settings);
    let mut out = Vec::new();
    session.flow(NOW, &tcp_v4(), &mut out);
    session.flow(NOW, &udp_v6(), &mut out);
    session.flush(NOW, &mut out);
    let collector = collect(&out);
    let records = collector.flows();
    let (forward, reverse) = tcp_v4().split();
    let reverse = reverse.expect("it was answered");
    assert_eq!(
        (reverse.src, reverse.packets_fwd),
        (tcp_v4().dst, tcp_v4().packets_rev)
    );
    assert_eq!(records.len(), 3, "the UDP flow was not answered");
    for (record, flow) in records.iter().zip([&forward, &reverse, &udp_v6()]) {
        assert_common(record, flow);
        assert!(record.values.iter().all(|(pen, _, _)| *pen != REVERSE));
        assert!(!record.has(0, 239));
    }
    assert_eq!(
        out.iter().map(|m| m.flows).sum::<u64>(),
        2,
        "flows, not records, are counted"
    );
}

#[test]
fn options_explain_what_the_records_refer_to() {
    let mut session = session(Settings {
        pen: 12_345,
        ..Settings::default()
    });
    session.set_statistics(Statistics {
        observed_packets: 100,
        ignored_packets: 3,
        not_sent_flows: 4,
        not_sent_packets: 44,
        not_sent_octets: 444,
        exported_messages: 5,
        exported_flows: 50,
        exported_octets: 5000,
        ignored_first_ms: START_MS,
        ignored_last_ms: START_MS + 1,
        ..Statistics::default()
    });
    let mut out = Vec::new();
    session.announce(NOW, &mut out);
    let collector = collect(&out);
    assert!(collector.flows().is_empty());
    let find = |id: u16| -> Vec<&Record> {
        collector
            .records
            .iter()
            .filter(|r| r.template == id)
            .collect()
    };
    let selector = find(260);
    assert_eq!(selector[0].number(0, 305), 1, "samplingPacketInterval");
    assert_eq!(selector[0].number(0, 306), 0, "samplingPacketSpace");
    assert_eq!(selector[0].number(0, 318), 100);
    assert_eq!(find(261)[0].number(0, 34), 1, "samplingInterval");
    assert_eq!(find(262)[0].text(0, 300), "ringfence");
    assert_eq!(
        (find(263)[0].number(0, 36), find(263)[0].number(0, 37)),
        (60, 300)
    );
    assert_eq!(
        find(264).iter().map(|r| r.text(0, 82)).collect::<Vec<_>>(),
        ["inside0", "outside0"]
    );
    assert_eq!(find(267)[0].text(12_345, 3), "shop-web");
    assert_eq!(find(268)[0].text(12_345, 7), "shop-web-to-db");
    assert_eq!(
        find(266)[0].number(0, 42),
        50,
        "exportedFlowRecordTotalCount"
    );
    assert_eq!(find(269)[0].number(0, 164), 3, "ignoredPacketTotalCount");
    let times: Vec<_> = find(269)[0].values.iter().filter(|v| v.1 == 323).collect();
    assert_eq!(times.len(), 2, "first and last");
    assert_eq!(find(270)[0].number(0, 166), 4, "notSentFlowTotalCount");
    assert_eq!(find(270)[0].number(0, 144), 4711);
    // RFC 5610: each of our elements that a template uses is described, with its length's type.
    let described = find(265);
    for template in collector.templates.values() {
        for field in template.fields.iter().filter(|f| f.pen == 12_345) {
            let row = described
                .iter()
                .find(|r| r.number(0, 303) == u64::from(field.id))
                .unwrap_or_else(|| panic!("element {} is not described", field.id));
            assert_eq!(row.number(0, 346), 12_345);
            let length = [
                0, 1, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0xffff, 0, 8, 0, 0, 4, 16,
            ][usize::try_from(row.number(0, 339)).unwrap()];
            assert_eq!(length, field.length, "element {}", field.id);
        }
    }
}

#[test]
fn templates_come_again_by_time_and_by_messages() {
    let settings = Settings {
        refresh_ns: 10 * SECOND,
        refresh_messages: 10,
        ..Settings::default()
    };
    let mut session = session(settings);
    let mut out = Vec::new();
    session.flow(NOW, &tcp_v4(), &mut out);
    session.flush(NOW, &mut out);
    let announced = |out: &[Message]| out.iter().filter(|m| m.bytes[16..18] == [0, 2]).count();
    assert_eq!(announced(&out), 1);
    session.flow(NOW + 9 * SECOND, &tcp_v4(), &mut out);
    session.flush(NOW + 9 * SECOND, &mut out);
    assert_eq!(announced(&out), 1);
    session.flow(NOW + 10 * SECOND, &tcp_v4(), &mut out);
    session.flush(NOW + 10 * SECOND, &mut out);
    assert_eq!(announced(&out), 2, "10 s have passed");
    for _ in 0..10 {
        session.flow(NOW + 10 * SECOND, &tcp_v4(), &mut out);
        session.flush(NOW + 10 * SECOND, &mut out);
    }
    assert_eq!(announced(&out), 3, "10 messages have been sent");
    assert_eq!(collect(&out).flows().len(), 13);
}

#[test]
fn a_new_dictionary_entry_is_told_before_the_flow_that_needs_it() {
    let mut session = session(Settings::default());
    let mut out = Vec::new();
    session.flow(NOW, &tcp_v4(), &mut out);
    let db = SegmentEntry {
        id: 0xbbbb_0002,
        name: "shop-db".to_owned(),
        revision: 10,
    };
    session.learn_segment(NOW, db.clone(), &mut out);
    session.learn_segment(NOW, db, &mut out);
    let rule = RuleEntry {
        id: 7,
        name: "late".to_owned(),
        ..RuleEntry::default()
    };
    session.learn_rule(NOW, rule, &mut out);
    session.flow(NOW, &udp_v6(), &mut out);
    session.flush(NOW, &mut out);
    let collector = collect(&out);
    let names: Vec<String> = collector
        .records
        .iter()
        .filter(|r| r.template == 267)
        .map(|r| r.text(OWN, 3))
        .collect();
    assert_eq!(names, ["shop-web", "shop-db"], "told once");
    let position = |id: u16| {
        collector
            .records
            .iter()
            .rposition(|r| r.template == id)
            .unwrap()
    };
    assert!(position(267) < position(257) && position(268) < position(257));
}

#[test]
fn the_last_word_of_a_session_tells_the_totals_after_every_flow() {
    let mut session = session(Settings::default());
    let mut out = Vec::new();
    session.conclude(NOW, &mut out);
    assert!(out.is_empty(), "nothing was announced");
    session.flow(NOW, &tcp_v4(), &mut out);
    session.set_statistics(Statistics {
        not_sent_flows: 7,
        ..Statistics::default()
    });
    session.conclude(NOW, &mut out);
    let collector = collect(&out);
    let last = collector.records.last().unwrap();
    assert_eq!((last.template, last.number(0, 166)), (270, 7));
    let flow = collector
        .records
        .iter()
        .position(|r| r.template == 256)
        .unwrap();
    assert_eq!(
        flow,
        collector.records.len() - 4,
        "three tables follow the last flow"
    );
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_bounds() {
    let refused = |settings| Session::new(settings, Announcement::default()).unwrap_err();
    let small = Settings {
        message_bytes_max: 100,
        ..Settings::default()
    };
    assert_eq!(
        refused(small).to_string(),
        "message_bytes_max is 100; it must be from 576 to 65507"
    );
    let pen = Settings {
        pen: REVERSE,
        ..Settings::default()
    };
    assert_eq!(refused(pen), SettingsError::Pen { pen: REVERSE });
    let always = Settings {
        refresh_messages: 1,
        ..Settings::default()
    };
    assert_eq!(refused(always), SettingsError::Refresh);
}

fn any_flow() -> impl Strategy<Value = Biflow> {
    let base = prop_oneof![Just(tcp_v4()), Just(udp_v6()), Just(icmp_v4())];
    (
        base,
        any::<[u64; 6]>(),
        any::<[u16; 4]>(),
        any::<[u8; 6]>(),
        any::<[u32; 4]>(),
    )
        .prop_map(|(base, a, b, c, d)| Biflow {
            packets_fwd: a[0],
            packets_rev: a[1],
            bytes_fwd: a[2],
            bytes_rev: a[3],
            rule_id: a[4],
            flow_id: a[5],
            sport: b[0],
            dport: b[1],
            tcp_flags_fwd: b[2],
            vlans: [b[3], b[0]],
            tos_fwd: c[0],
            end_reason: c[1],
            worker: c[2],
            coverage: c[3],
            kind: c[4],
            tcp_state: c[5],
            src_segment_id: d[0],
            retransmits_rev: d[1],
            rtt_initiator_us: d[2],
            tunnel_id: d[3],
            ..base
        })
}

proptest! {
    #[test]
    fn any_flows_in_messages_of_any_size_come_back_in_order(
        flows in prop::collection::vec(any_flow(), 1..60),
        size in MESSAGE_BYTES_MIN..3000,
        name in "\\PC{0,300}",
    ) {
        let mut session = session(Settings { message_bytes_max: size, ..Settings::default() });
        let mut out = Vec::new();
        let long = SegmentEntry { id: 5, name, revision: 1 };
        session.learn_segment(NOW, long, &mut out);
        for flow in &flows {
            session.flow(NOW, flow, &mut out);
        }
        session.flush(NOW, &mut out);
        let collector = collect(&out);
        prop_assert!(collector.longest <= size);
        let records = collector.flows();
        prop_assert_eq!(records.len(), flows.len());
        for (record, flow) in records.iter().zip(&flows) {
            assert_biflow(record, flow);
        }
        prop_assert_eq!(out.iter().map(|m| m.flows).sum::<u64>(), flows.len() as u64);
    }

    #[test]
    fn the_two_halves_of_a_flow_count_what_the_flow_counts(mut flow in any_flow(), dropped: u64) {
        flow.dropped_packets = dropped.min(flow.packets());
        let (forward, reverse) = flow.split();
        let reverse = reverse.map_or((0, 0), |r| (r.packets_fwd, r.dropped_packets));
        prop_assert_eq!(forward.packets_fwd.saturating_add(reverse.0), flow.packets());
        prop_assert_eq!(forward.dropped_packets + reverse.1, flow.dropped_packets);
    }
}

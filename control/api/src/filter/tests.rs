use super::*;
use crate::flow::FlowId;
use crate::time::Ts;
use crate::words::{InitiatorEvidence, NamedBy};
use proptest::prelude::*;

/// web-1 (segment shop-web) asks db-1 (segment shop-db) for postgres, and is denied.
pub(super) fn flow() -> Flow {
    Flow {
        seq: 1,
        first_ts: Ts(1),
        last_ts: Ts(2),
        first_ns: 1,
        last_ns: 2,
        src: "10.0.1.10".parse().unwrap(),
        dst: "10.0.2.20".parse().unwrap(),
        src_name: Some("web-1".into()),
        dst_name: Some("db-1".into()),
        src_segments: vec!["shop-web".into(), "prod".into()].into(),
        dst_segments: vec!["shop-db".into()].into(),
        named_by: NamedBy::Epoch,
        proto: 6,
        sport: 40_000,
        dport: 5432,
        service: Some("postgres".into()),
        icmp_type: None,
        icmp_code: None,
        pkts_fwd: 3,
        bytes_fwd: 1200,
        pkts_rev: 2,
        bytes_rev: 800,
        dropped_packets: 5,
        dropped_bytes: 2000,
        end_reason: EndReason::IdleTimeout,
        kind: Kind::End,
        verdict: Action::Deny,
        verdict_source: VerdictSource::Rule,
        rule: Some("no-web-to-db".into()),
        pending_verdict: Action::Allow,
        pending_source: VerdictSource::Rule,
        pending_rule: Some("web-to-db".into()),
        mode: Mode::Enforce,
        coverage: Coverage::Rule,
        drop_reason: Some("denied-by-rule".into()),
        initiator_evidence: InitiatorEvidence::Syn,
        initiator_confidence: 255,
        initiator_flipped: false,
        tcp_state: TcpState::SynSent,
        tcp_flags_fwd: 2,
        tcp_flags_rev: 0,
        rtt_initiator_us: None,
        rtt_responder_us: Some(80),
        retransmits_fwd: 2,
        retransmits_rev: 0,
        tos_fwd: 0,
        tos_rev: 0,
        tunnel: Some(crate::flow::Tunnel {
            kind: TunnelKind::Vxlan,
            id: 42,
            outer_src: "192.0.2.1".parse().unwrap(),
            outer_dst: "192.0.2.2".parse().unwrap(),
        }),
        vlans: vec![10, 20],
        ingress_port: "inside0".into(),
        egress_port: None,
        epoch: 7,
        flow_id: FlowId(0x0100_0000_0000_0001),
        worker: 1,
        begins: true,
        aggregate: None,
    }
}

#[track_caller]
fn check(filter: &str, expected: bool) {
    let parsed = Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
    assert_eq!(parsed.matches(&flow()), expected, "{filter}");
}

#[track_caller]
fn check_error(filter: &str, expected: &str) {
    let error = Filter::parse(filter).expect_err(filter).to_string();
    assert!(
        error.starts_with(expected),
        "{filter}\n  gave     {error}\n  expected {expected}"
    );
}

#[test]
fn ends_are_tested_at_the_side_that_is_named_or_at_either() {
    check("src 10.0.0.0/8 and dst port 5432 and verdict deny", true);
    check("src host 10.0.2.20", false);
    check("host 10.0.2.20", true);
    check("10.0.2.20", true);
    check("dst net 10.0.2.0/24", true);
    check("src 2001:db8::/32", false);
    check("net 0.0.0.0/0", true);
    check("net ::/0", false);
    check("port 5432", true);
    check("src port 5432", false);
    check("dst port 5000-6000", true);
    check("segment shop-db", true);
    check("src segment prod", true);
    check("dst segment shop-*", true);
    check("src workload \"web-1\"", true);
    check("dst workload web-1", false);
}

#[test]
fn whole_flows_are_tested_by_word_and_by_number() {
    check("tcp", true);
    check("proto 17 or udp", false);
    check("service postgres", true);
    check("service tcp/5432", false);
    check(
        "rule no-web-to-db and pending-rule web-to-db and pending allow",
        true,
    );
    check("source rule and mode enforce and coverage rule", true);
    check(
        "end idle-timeout and kind end and state syn-sent and drop denied-by-rule",
        true,
    );
    check("tunnel vxlan and vni 42 and vlan 20", true);
    check("tunnel none", false);
    check("bytes > 1k and bytes<=2k", true);
    check("packets>=5 and packets != 6 and dropped = 5", true);
    check("bytes > 2k", false);
    check("epoch = 7 and worker = 1", true);
    check_error(
        "worker 1",
        "filter, column 8: `1`; expected one of >, >=, <, <=, =, !=",
    );
}

#[test]
fn ports_may_follow_their_protocol_as_tcpdump_has_it() {
    let same =
        |one: &str, other: &str| assert_eq!(Filter::parse(one), Filter::parse(other), "{one}");
    same("tcp port 445", "tcp and port 445");
    same(
        "tcp dst port 80-90 or udp port 53",
        "(tcp and dst port 80-90) or (udp and port 53)",
    );
    same("not tcp src port 22", "not (tcp and src port 22)");
    for refused in [
        "icmp port 8",
        "tcp host 10.0.0.1",
        "tcp src 10.0.0.1",
        "tcp port",
    ] {
        assert!(Filter::parse(refused).is_err(), "{refused}");
    }
}

#[test]
fn precedence_is_not_then_and_then_or() {
    check("udp and udp or tcp", true);
    check("udp and (udp or tcp)", false);
    check("not udp and tcp", true);
    check("! (tcp or udp)", false);
    check("", true);
    check("   ", true);
}

#[test]
fn errors_name_the_column_and_what_was_expected() {
    check_error(
        "src",
        "filter, column 4: the filter ends; expected host, net, port",
    );
    check_error(
        "dst prot 80",
        "filter, column 5: `prot`; expected host, net, port",
    );
    check_error(
        "port 70000",
        "filter, column 6: `70000`; expected a port from 0 to 65535",
    );
    check_error("port 9-3", "filter, column 6: `9-3`; expected a port");
    check_error(
        "verdict block",
        "filter, column 9: `block`; expected one of allow, deny, reject",
    );
    check_error(
        "tcp udp",
        "filter, column 5: `udp`; expected `and`, `or` or the end",
    );
    check_error(
        "(tcp",
        "filter, column 5: the filter ends; expected `)`, `and` or `or`",
    );
    check_error(
        "rule \"x",
        "filter, column 6: a text that does not end; expected a closing",
    );
    check_error("tcp & udp", "filter, column 5: `&`; expected a word");
    check_error(
        "net 10.0.0.0/33",
        "filter, column 5: `10.0.0.0/33`; expected an address, or",
    );
    check_error(
        "bytes > many",
        "filter, column 9: `many`; expected a number",
    );
}

#[test]
fn length_and_depth_are_bounded() {
    check_error(
        &"(".repeat(FILTER_DEPTH_MAX + 1),
        "filter, column 65: too many parentheses",
    );
    check_error(
        &"not ".repeat(1000),
        "filter, column 257: too many parentheses",
    );
    check_error(
        &" ".repeat(FILTER_BYTES_MAX + 1),
        "filter, column 1: the filter has 4097 bytes",
    );
    let deep = format!("{}tcp{}", "(".repeat(63), ")".repeat(63));
    check(&deep, true);
}

fn any_net() -> impl Strategy<Value = Net> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(a, b)| Net::new(IpAddr::V4(a.into()), b)),
        (any::<u128>(), 0u8..=128).prop_map(|(a, b)| Net::new(IpAddr::V6(a.into()), b)),
        Just(Net::new("10.0.1.0".parse().unwrap(), 24)),
    ]
}

fn any_leaf() -> impl Strategy<Value = Expr> {
    let side = prop_oneof![Just(Side::Src), Just(Side::Dst), Just(Side::Either)];
    let end = prop_oneof![
        any_net().prop_map(EndTest::Net),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| EndTest::Port {
            first: a.min(b),
            last: a.max(b)
        }),
        "[a-z *-]{0,8}".prop_map(EndTest::Segment),
        Just(EndTest::Workload("web-1".to_owned())),
    ];
    let whole = prop_oneof![
        any::<u8>().prop_map(WholeTest::Proto),
        prop::sample::select(Action::ALL).prop_map(WholeTest::Verdict),
        prop::sample::select(TunnelKind::ALL).prop_map(WholeTest::Tunnel),
        prop::sample::select(EndReason::ALL).prop_map(WholeTest::End),
        Just(WholeTest::Rule("no-*".to_owned())),
        (
            prop::sample::select(Quantity::ALL),
            prop::sample::select(Compare::ALL),
            prop_oneof![0u64..10, any::<u64>()]
        )
            .prop_map(|(q, c, n)| WholeTest::Number(q, c, n)),
    ];
    prop_oneof![
        (side, end).prop_map(|(side, test)| Expr::End(side, test)),
        whole.prop_map(Expr::Whole),
    ]
}

fn any_expr() -> impl Strategy<Value = Expr> {
    any_leaf().prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Any),
            inner.prop_map(|e| Expr::Not(Box::new(e))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_understood_as_the_same_filter(expr in any_expr()) {
        let filter = Filter { expr: Some(expr) };
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(&text), Ok(filter), "{}", text);
    }

    #[test]
    fn not_and_or_keep_de_morgans_laws(a in any_expr(), b in any_expr()) {
        let flow = flow();
        let holds = |text: String| Filter::parse(&text).map(|f| f.matches(&flow));
        let (a, b) = (Filter { expr: Some(a) }, Filter { expr: Some(b) });
        prop_assert_eq!(
            holds(format!("not ({a} and {b})")),
            holds(format!("not {a} or not {b}"))
        );
        prop_assert_eq!(holds(format!("{a}")), Ok(a.matches(&flow)));
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused_with_a_column_inside_it(text in "\\PC{0,60}") {
        if let Err(error) = Filter::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}", error);
        }
    }

    #[test]
    fn a_prefix_contains_exactly_the_addresses_that_share_its_bits(
        a in any::<u32>(), b in any::<u32>(), bits in 0u8..=32
    ) {
        let net = Net::new(IpAddr::V4(a.into()), bits);
        let same = (0..u32::from(bits)).all(|i| (a >> (31 - i)) & 1 == (b >> (31 - i)) & 1);
        prop_assert_eq!(net.contains(IpAddr::V4(b.into())), same);
    }
}

#[test]
fn a_tsv_line_has_one_column_for_each_name_and_begins_as_promised() {
    let columns = flow().tsv_columns();
    assert_eq!(columns.len(), Flow::TSV_COLUMNS.len());
    assert!(Flow::tsv_header().starts_with(
        "src\tdst\tproto\tsport\tdport\tpkts_fwd\tbytes_fwd\tpkts_rev\tbytes_rev\tfirst_ts\tlast_ts"
    ));
    assert!(flow().tsv_row().starts_with(
        "10.0.1.10\t10.0.2.20\t6\t40000\t5432\t3\t1200\t2\t800\t1970-01-01T00:00:00.000000001Z"
    ));
    assert!(
        columns
            .iter()
            .all(|c| !c.is_empty() && !c.contains(['\t', '\n']))
    );
}

#[test]
fn a_flow_comes_back_from_its_json() {
    let text = serde_json::to_string(&flow()).unwrap();
    assert!(text.contains("\"flow_id\":\"0100000000000001\""));
    assert_eq!(serde_json::from_str::<Flow>(&text).unwrap(), flow());
}

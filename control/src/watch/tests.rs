//! What is found, with times made by hand; and what is not.

use super::detector::Detector;
use super::state::WatchFile;
use crate::config::WatchConfig;
use api::Ts;
use api::flow::{Aggregate, Flow, FlowId};
use api::watch::{EdgeOutcome, Finding, FindingKind, FindingSaid, FindingSeverity, FindingState};
use api::words::{
    Action, Coverage, EndReason, InitiatorEvidence, Kind, Mode, NamedBy, TcpState, VerdictSource,
};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;

const S: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * S;
/// When the tests begin: long after anything was learned.
const NOON: u64 = 20_000 * DAY;

/// A host by its number: `h7` at 10.0.0.7, in segment `lan`; from 200 on without a name.
fn host(number: u8) -> (IpAddr, Option<Arc<str>>) {
    let name = (number < 200).then(|| format!("h{number}").into());
    (IpAddr::from([10, 0, 0, number]), name)
}

/// A flow over TCP that was answered, as tests begin with.
fn flow(at_s: u64, from: u8, to: u8, port: u16) -> Flow {
    let ((src, src_name), (dst, dst_name)) = (host(from), host(to));
    let segments: Arc<[Arc<str>]> = [Arc::from("lan")].into();
    let (first_ns, last_ns) = (NOON + at_s * S, NOON + at_s * S + S);
    Flow {
        seq: 0,
        first_ts: Ts(first_ns),
        last_ts: Ts(last_ns),
        first_ns,
        last_ns,
        src,
        dst,
        src_name,
        dst_name,
        src_segments: Arc::clone(&segments),
        dst_segments: segments,
        named_by: NamedBy::Epoch,
        proto: 6,
        sport: 50_000,
        dport: port,
        service: None,
        icmp_type: None,
        icmp_code: None,
        pkts_fwd: 10,
        bytes_fwd: 1000,
        pkts_rev: 8,
        bytes_rev: 9000,
        dropped_packets: 0,
        dropped_bytes: 0,
        end_reason: EndReason::EndOfFlow,
        kind: Kind::End,
        verdict: Action::Allow,
        verdict_source: VerdictSource::Default,
        rule: None,
        pending_verdict: Action::Allow,
        pending_source: VerdictSource::Default,
        pending_rule: None,
        mode: Mode::Observe,
        coverage: Coverage::Uncovered,
        drop_reason: None,
        initiator_evidence: InitiatorEvidence::Syn,
        initiator_confidence: 255,
        initiator_flipped: false,
        tcp_state: TcpState::Closed,
        tcp_flags_fwd: 0x1b,
        tcp_flags_rev: 0x1b,
        rtt_initiator_us: None,
        rtt_responder_us: None,
        retransmits_fwd: 0,
        retransmits_rev: 0,
        tos_fwd: 0,
        tos_rev: 0,
        tunnel: None,
        vlans: Vec::new(),
        ingress_port: "inside0".into(),
        egress_port: None,
        epoch: 1,
        flow_id: FlowId(at_s << 32 | u64::from(from) << 24 | u64::from(to) << 16 | u64::from(port)),
        worker: 0,
        begins: true,
        aggregate: None,
    }
}

fn unanswered(mut flow: Flow) -> Flow {
    (flow.pkts_rev, flow.bytes_rev, flow.tcp_flags_rev) = (0, 0, 0);
    flow
}

fn denied(flow: Flow) -> Flow {
    Flow {
        verdict: Action::Deny,
        kind: Kind::Denied,
        ..unanswered(flow)
    }
}

fn guessed(flow: Flow) -> Flow {
    Flow {
        initiator_evidence: InitiatorEvidence::PortAsymmetry,
        ..flow
    }
}

fn to_address(address: [u8; 4], flow: Flow) -> Flow {
    Flow {
        dst: address.into(),
        dst_name: None,
        dst_segments: [].into(),
        ..flow
    }
}

/// A detector that has watched a quiet network for a month: h1 reached h2 by HTTPS.
fn detector() -> Detector {
    detector_of(&WatchConfig::default())
}

fn detector_of(config: &WatchConfig) -> Detector {
    let mut detector = Detector::new(config);
    let mut old = flow(0, 1, 2, 443);
    (old.first_ns, old.last_ns) = (NOON - 29 * DAY, NOON - 29 * DAY);
    detector.observe(&old);
    detector.observe(&flow(0, 1, 2, 443));
    assert_eq!(found(&detector), [], "what is learned is not told");
    detector
}

fn kinds(detector: &Detector) -> Vec<FindingKind> {
    detector.findings.all().map(|f| f.kind).collect()
}

fn found(detector: &Detector) -> Vec<(FindingKind, FindingSeverity, String)> {
    let told = |f: &Finding| (f.kind, f.severity, f.sentence.clone());
    detector.findings.all().map(told).collect()
}

fn chains(detector: &Detector) -> Vec<&Finding> {
    let is_chain = |f: &&Finding| f.kind == FindingKind::Chain && f.state == FindingState::Open;
    detector.findings.all().filter(is_chain).collect()
}

#[test]
fn an_edge_that_was_never_seen_is_told_once() {
    let mut detector = detector();
    detector.observe(&flow(10, 1, 3, 443));
    detector.observe(&flow(20, 1, 3, 443));
    detector.observe(&flow(30, 1, 2, 443));
    let expected = "h1 reached h3 on tcp/443 for the first time".to_owned();
    assert_eq!(
        found(&detector),
        [(FindingKind::NewEdge, FindingSeverity::Info, expected)]
    );
    let finding = detector.findings.get(1).unwrap();
    assert_eq!((finding.evidence.flows, finding.evidence.packets), (2, 36));
    assert_eq!(finding.last_ts, Ts(NOON + 21 * S));
    assert!(!finding.learning);
}

#[test]
fn an_administrative_edge_matters_more_and_a_rule_or_a_guess_lowers_it() {
    let mut detector = detector();
    detector.observe(&flow(10, 1, 3, 22));
    let by_rule = Flow {
        rule: Some("ssh-in".into()),
        verdict_source: VerdictSource::Rule,
        ..flow(11, 1, 4, 22)
    };
    detector.observe(&by_rule);
    detector.observe(&guessed(flow(12, 1, 5, 22)));
    let all: Vec<_> = detector.findings.all().collect();
    assert_eq!(all[0].severity, FindingSeverity::Medium);
    assert_eq!(all[0].technique.as_deref(), Some("T1021.004"));
    assert_eq!(all[1].severity, FindingSeverity::Low);
    assert!(all[1].remarks[0].contains("ssh-in"), "{:?}", all[1].remarks);
    assert_eq!(all[2].severity, FindingSeverity::Low);
    assert!(all[2].remarks[1].contains("guess"), "{:?}", all[2].remarks);
}

#[test]
fn nothing_is_new_while_everything_is() {
    let mut detector = Detector::new(&WatchConfig::default());
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&flow(10, 2, 3, 22));
    assert_eq!(kinds(&detector), [FindingKind::Chain]);
    assert!(detector.findings.get(1).unwrap().learning);
    let config = WatchConfig {
        alarm_while_learning: true,
        ..WatchConfig::default()
    };
    let mut asked = Detector::new(&config);
    asked.observe(&flow(0, 1, 2, 22));
    assert_eq!(kinds(&asked), [FindingKind::NewEdge]);
}

#[test]
fn a_workload_keeps_its_edges_when_it_moves_and_when_it_gets_its_name() {
    let mut detector = detector();
    let moved = Flow {
        src: IpAddr::from([10, 9, 9, 9]),
        src_segments: [Arc::from("elsewhere")].into(),
        ..flow(10, 1, 2, 443)
    };
    detector.observe(&moved);
    assert_eq!(found(&detector), []);
    let unnamed = |at| Flow {
        src_name: None,
        ..flow(at, 7, 2, 443)
    };
    detector.observe(&unnamed(20));
    assert_eq!(kinds(&detector), [FindingKind::NewEdge]);
    detector.observe(&flow(30, 7, 2, 443));
    assert_eq!(
        kinds(&detector),
        [FindingKind::NewEdge],
        "its name is new, it is not"
    );
}

#[test]
fn an_attempt_is_no_edge_until_it_is_answered() {
    let mut detector = detector();
    detector.observe(&unanswered(flow(10, 1, 3, 443)));
    assert_eq!(found(&detector), []);
    detector.observe(&flow(20, 1, 3, 443));
    assert_eq!(kinds(&detector), [FindingKind::NewEdge]);
}

#[test]
fn two_administrative_hops_within_the_window_are_a_chain() {
    let mut detector = detector();
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&flow(1800, 2, 3, 445));
    let chains = chains(&detector);
    assert_eq!(chains.len(), 1);
    let chain = chains[0];
    assert_eq!(chain.severity, FindingSeverity::High);
    assert_eq!(
        chain.sentence,
        "h1 -> h2 (tcp/22) -> h3 (tcp/445): 2 hops in a row over novel administrative edges"
    );
    let techniques: Vec<_> = chain.hops.iter().map(|h| h.technique.as_deref()).collect();
    assert_eq!(techniques, [Some("T1021.004"), Some("T1021.002")]);
    assert_eq!(chain.first_ts, Ts(NOON));
}

#[test]
fn hops_are_joined_whatever_the_order_their_records_come_in() {
    let hops = [
        flow(0, 1, 2, 22),
        flow(60, 2, 3, 445),
        flow(120, 3, 4, 3389),
    ];
    for order in [
        [0, 1, 2],
        [2, 1, 0],
        [1, 0, 2],
        [2, 0, 1],
        [0, 2, 1],
        [1, 2, 0],
    ] {
        let mut detector = detector();
        order.iter().for_each(|at| detector.observe(&hops[*at]));
        let chains = chains(&detector);
        assert_eq!(chains.len(), 1, "{order:?}");
        assert_eq!(chains[0].severity, FindingSeverity::Critical, "{order:?}");
        let path: Vec<_> = chains[0].hops.iter().map(|h| h.dst.label()).collect();
        assert_eq!(path, ["h2", "h3", "h4"], "{order:?}");
    }
}

#[test]
fn no_chain_without_time_order_window_novelty_or_administration() {
    let cases: [(&str, Vec<Flow>); 6] = [
        ("too late", vec![flow(0, 1, 2, 22), flow(3700, 2, 3, 22)]),
        ("before", vec![flow(60, 1, 2, 22), flow(0, 2, 3, 22)]),
        ("back again", vec![flow(0, 1, 2, 22), flow(60, 2, 1, 22)]),
        (
            "no administration",
            vec![flow(0, 1, 2, 22), flow(60, 2, 3, 80)],
        ),
        (
            "first hop stopped",
            vec![denied(flow(0, 1, 2, 22)), flow(60, 2, 3, 22)],
        ),
        (
            "first hop refused",
            vec![unanswered(flow(0, 1, 2, 22)), flow(60, 2, 3, 22)],
        ),
    ];
    for (why, flows) in cases {
        let mut detector = detector();
        flows.iter().for_each(|f| detector.observe(f));
        assert!(
            chains(&detector).is_empty(),
            "{why}: {:?}",
            found(&detector)
        );
    }
    let mut known = detector();
    known.observe(&flow(0, 2, 3, 22));
    known.observe(&flow(7200, 1, 2, 22));
    known.observe(&flow(7300, 2, 3, 22));
    assert!(chains(&known).is_empty(), "known: {:?}", found(&known));
}

#[test]
fn a_long_stay_keeps_the_window_open() {
    let mut detector = detector();
    detector.observe(&flow(0, 1, 2, 22));
    for minute in 1..180 {
        let more = Flow {
            begins: false,
            ..flow(minute * 60, 1, 2, 22)
        };
        detector.observe(&more);
    }
    detector.observe(&flow(180 * 60, 2, 3, 22));
    assert_eq!(chains(&detector).len(), 1);
}

#[test]
fn a_chain_that_the_policy_stopped_matters_less_and_says_so() {
    let mut detector = detector();
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&denied(flow(60, 2, 3, 445)));
    let chain = chains(&detector)[0];
    assert_eq!(chain.severity, FindingSeverity::Medium);
    assert!(chain.remarks[0].contains("stopped"), "{:?}", chain.remarks);
    assert_eq!(chain.hops[1].outcome, EdgeOutcome::Denied);
}

#[test]
fn a_guess_about_who_began_lowers_a_chain_and_is_said() {
    let mut detector = detector();
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&guessed(flow(60, 2, 3, 445)));
    let chain = chains(&detector)[0];
    assert_eq!(chain.severity, FindingSeverity::Medium);
    assert!(chain.remarks[0].contains("guess"), "{:?}", chain.remarks);
}

#[test]
fn a_jump_host_administers_as_its_work() {
    let config = WatchConfig {
        expected_admin: vec!["jump".to_owned()],
        ..WatchConfig::default()
    };
    let mut detector = detector_of(&config);
    let from_jump = Flow {
        src_segments: [Arc::from("jump")].into(),
        ..flow(60, 2, 3, 22)
    };
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&from_jump);
    detector.observe(&flow(120, 3, 4, 22));
    assert!(chains(&detector).is_empty(), "{:?}", found(&detector));
}

#[test]
fn what_is_resolved_is_over_and_what_is_acknowledged_goes_on() {
    let mut detector = detector();
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&flow(60, 2, 3, 445));
    let id = chains(&detector)[0].id;
    let said = |state| FindingSaid {
        ts: Ts(NOON),
        author: "mira".to_owned(),
        state,
        note: "a migration".to_owned(),
    };
    detector.say(id, said(FindingState::Acknowledged)).unwrap();
    detector.observe(&flow(90, 3, 4, 22));
    assert_eq!(detector.findings.get(id).unwrap().hops.len(), 3);
    detector.say(id, said(FindingState::Resolved)).unwrap();
    detector.observe(&flow(100, 2, 3, 445));
    assert!(chains(&detector).is_empty(), "{:?}", found(&detector));
    assert!(detector.say(999, said(FindingState::Open)).is_none());
}

#[test]
fn many_ports_of_one_host_are_a_port_sweep_told_once() {
    let mut detector = detector();
    for port in 1..=200 {
        detector.observe(&unanswered(flow(u64::from(port) / 10, 5, 6, port)));
    }
    assert_eq!(kinds(&detector), [FindingKind::PortSweep]);
    let finding = detector.findings.get(1).unwrap();
    assert_eq!(finding.sentence, "h5 tried 200 ports of h6 within 5m");
    assert_eq!(finding.technique.as_deref(), Some("T1046"));
    assert_eq!(finding.severity, FindingSeverity::Medium);
    assert_eq!(finding.evidence.services, 200);
    assert!(detector.baseline.len() < 30, "a sweep is not learned");
}

#[test]
fn one_service_at_many_hosts_is_a_host_sweep_and_many_sweeps_are_told_together() {
    let mut detector = detector();
    for number in 10..60 {
        detector.observe(&unanswered(flow(u64::from(number), 5, number, 445)));
    }
    assert_eq!(kinds(&detector), [FindingKind::HostSweep]);
    for port in 1000..1040 {
        for number in 10..60 {
            detector.observe(&unanswered(flow(60, 5, number, port)));
        }
    }
    let kinds = kinds(&detector);
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert!(count(FindingKind::PortSweep) <= 3, "{:?}", found(&detector));
    assert!(count(FindingKind::HostSweep) <= 4, "{:?}", found(&detector));
}

#[test]
fn a_sweep_slower_than_the_window_is_none_and_the_window_slides() {
    let mut slow = detector();
    for port in 1..=200 {
        slow.observe(&unanswered(flow(u64::from(port) * 20, 5, 6, port)));
    }
    assert_eq!(found(&slow), []);
    let mut detector = detector();
    for port in 1..=19 {
        detector.observe(&unanswered(flow(u64::from(port), 5, 6, port)));
    }
    assert_eq!(found(&detector), []);
    detector.observe(&unanswered(flow(300, 5, 6, 20)));
    assert_eq!(kinds(&detector), [FindingKind::PortSweep]);
}

#[test]
fn reaching_many_hosts_for_the_first_time_is_a_fan_out() {
    let mut detector = detector();
    for number in 10..40 {
        detector.observe(&flow(u64::from(number), 5, number, 22));
    }
    let fan_outs: Vec<_> = detector
        .findings
        .all()
        .filter(|f| f.kind == FindingKind::FanOut)
        .collect();
    assert_eq!(fan_outs.len(), 1);
    assert_eq!(fan_outs[0].severity, FindingSeverity::High, "over SSH");
    assert_eq!(
        fan_outs[0].sentence,
        "h5 reached 30 hosts within 5m that it never spoke to before"
    );
    assert!(!kinds(&detector).contains(&FindingKind::HostSweep));
}

#[test]
fn denials_at_several_places_are_a_burst_and_one_stubborn_client_is_none() {
    let mut detector = detector();
    for second in 0..200 {
        detector.observe(&denied(flow(second, 5, 6, 443)));
    }
    assert_eq!(found(&detector), []);
    for second in 0..40 {
        let port = 8000 + u16::try_from(second % 8).unwrap();
        detector.observe(&denied(flow(200 + second, 7, 6, port)));
    }
    assert_eq!(kinds(&detector), [FindingKind::DeniedBurst]);
}

#[test]
fn a_folded_scan_is_a_sweep_by_itself() {
    let mut detector = detector();
    let aggregate = Aggregate {
        flows: 900,
        refused: 40,
        since_ts: Ts(NOON),
        sources: 1,
        destinations: 254,
        ports: 1,
        port_low: 22,
        port_high: 22,
        protocols: vec!["tcp".into()],
    };
    let folded = Flow {
        kind: Kind::Aggregate,
        aggregate: Some(aggregate.clone()),
        ..unanswered(flow(0, 5, 6, 0))
    };
    detector.observe(&folded);
    assert_eq!(
        found(&detector),
        [(
            FindingKind::HostSweep,
            FindingSeverity::Medium,
            "h5 tried tcp/22 at 254 hosts".to_owned()
        )]
    );
    let evidence = &detector.findings.get(1).unwrap().evidence;
    assert_eq!((evidence.flows, evidence.refused), (900, 40));
    let many = Flow {
        aggregate: Some(Aggregate {
            sources: 40,
            ..aggregate
        }),
        ..folded
    };
    detector.observe(&many);
    assert_eq!(detector.findings.all().len(), 1, "of nobody in particular");
}

#[test]
fn what_is_usual_in_a_network_alarms_nobody() {
    let mut detector = detector();
    let quiet = detector.findings.all().len();
    for second in 0..400_u64 {
        let octet = u8::try_from(second % 250).unwrap();
        let udp = |f: Flow| Flow {
            proto: 17,
            pkts_fwd: 3,
            ..f
        };
        // A busy client of one server, one browser, everybody's resolver, and what is said to everybody.
        let port = 40_000 + u16::try_from(second).unwrap();
        detector.observe(&flow(second, 1, 2, 443));
        detector.observe(&to_address([93, 184, 216, octet], flow(second, 1, 0, 443)));
        detector.observe(&guessed(Flow {
            sport: 443,
            ..flow(second, 2, 1, port)
        }));
        detector.observe(&unanswered(udp(to_address(
            [239, 255, 255, 250],
            flow(second, octet, 0, 1900),
        ))));
        detector.observe(&unanswered(udp(to_address(
            [10, 0, 0, 255],
            flow(second, octet, 0, 137),
        ))));
        detector.observe(&unanswered(udp(to_address(
            [255, 255, 255, 255],
            flow(second, octet, 0, 67),
        ))));
        detector.observe(&unanswered(udp(to_address(
            [203, 0, 113, octet],
            flow(second, 1, 0, 51_413),
        ))));
    }
    let told: Vec<_> = found(&detector).split_off(quiet);
    assert_eq!(told.len(), 1, "one new edge, to the internet: {told:?}");
    assert_eq!(told[0].0, FindingKind::NewEdge);
    // A resolver that everybody asks.
    for number in 10..190 {
        let ask = Flow {
            proto: 17,
            ..flow(500, number, 53, 53)
        };
        detector.observe(&ask);
    }
    assert!(
        kinds(&detector)
            .iter()
            .all(|kind| *kind == FindingKind::NewEdge)
    );
}

#[test]
fn findings_are_bounded_and_new_edges_make_room_first() {
    let config = WatchConfig {
        findings_max: 16,
        ..WatchConfig::default()
    };
    let mut detector = detector_of(&config);
    detector.observe(&flow(0, 1, 2, 22));
    detector.observe(&flow(1, 2, 3, 22));
    for number in 0..100_u8 {
        detector.observe(&flow(1000 * u64::from(number), number, 150, 443));
    }
    assert_eq!(detector.findings.all().len(), 16);
    assert_eq!(chains(&detector).len(), 1);
    let counts = detector.findings.counts();
    let made: u64 = counts.made.iter().sum();
    assert_eq!(made - counts.out, 16);
}

#[test]
fn what_is_known_found_and_said_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("watch.json");
    let mut before = detector();
    before.observe(&flow(0, 1, 2, 22));
    WatchFile::of(&before, true).write(&path).unwrap();
    let mut after = Detector::new(&WatchConfig::default());
    WatchFile::read(&path).unwrap().unwrap().restore(&mut after);
    assert_eq!(after.baseline.len(), before.baseline.len());
    after.observe(&flow(10, 1, 2, 443));
    assert_eq!(found(&after), found(&before));
    after.observe(&flow(60, 2, 3, 445));
    assert_eq!(chains(&after).len(), 1, "a chain goes on over a restart");
    assert_eq!(after.findings.all().last().unwrap().id, 3);

    std::fs::write(&path, b"{\"layout\":1").unwrap();
    let error = WatchFile::read(&path).unwrap_err().to_string();
    assert!(error.contains("watch.damaged"), "{error}");
    assert!(
        WatchFile::read(&path).unwrap().is_none(),
        "it was set aside"
    );
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let port = prop_oneof![Just(22_u16), Just(445), Just(443), 1_u16..60];
    (0_u64..8000, 0_u8..12, 0_u8..12, port, 0_u8..6).prop_map(|(at, from, to, port, how)| {
        let flow = flow(at, from, to, port);
        match how {
            0 => unanswered(flow),
            1 => denied(flow),
            2 => guessed(flow),
            _ => flow,
        }
    })
}

proptest! {
    #[test]
    fn chains_are_what_a_search_over_every_pair_finds(
        flows in prop::collection::vec(any_flow(), 1..60),
    ) {
        let mut detector = detector();
        flows.iter().for_each(|flow| detector.observe(flow));
        // The obvious twin: of the edges that are remembered, every pair.
        let window = WatchConfig::default().chain_window.ns();
        let edges: Vec<_> = detector.chains.edges().collect();
        for edge in &edges {
            let joined = edges.iter().any(|o| o.leads_to(edge, window) || edge.leads_to(o, window));
            prop_assert!(!joined || edge.finding.is_some(), "{:?}", edge.hop.label());
        }
        for finding in chains(&detector) {
            prop_assert!(finding.hops.len() >= 2, "{:?}", finding.sentence);
        }
    }
}

use super::*;
use abi::verdict::InitiatorEvidence;
use abi::{Action, VerdictSource};
use acl::Service;
use jiff::civil::date;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn compiled(text: &str) -> Arc<CompiledPolicy> {
    let today = date(2026, 1, 31);
    let valid = policy::load(text, "c.toml", today).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    Arc::new(policy::compile(&valid, 1, today).unwrap())
}

const TEXT: &str = r#"
[[segment]]
name = "a"
addresses = ["10.0.0.0/25"]
mode = "enforce"

[[segment]]
name = "b"
addresses = ["10.0.0.64/26"]
mode = "test"

[[service]]
name = "low"
ports = ["tcp/0-1023", "udp/0-1023", "icmp/echo"]

[[rule]]
name = "a-to-b"
from = ["a"]
to = ["b"]
services = ["low"]
action = "allow"

[[rule]]
name = "not-this"
from = ["b"]
to = ["any"]
services = ["low"]
action = "deny"
mode = "test"
"#;

fn record(src: u8, dst: u8, proto: u8, ports: (u16, u16)) -> FlowRecord {
    let mut r = <FlowRecord as zerocopy::FromZeros>::new_zeroed();
    let address = |last| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
    (r.src, r.dst, r.proto, r.ip_version) = (address(src), address(dst), proto, 4);
    (r.sport, r.dport) = ports;
    (r.icmp_type, r.packets_fwd, r.packets_rev) = (8, 1, 1);
    (r.flow_id, r.begins, r.kind) = (1, 1, RecordKind::End.byte());
    r.end_reason = abi::record::FlowEndReason::EndOfFlow.byte();
    r.initiator_evidence = InitiatorEvidence::SynAck.byte();
    (r.enforced, r.pending) = (Action::Allow.byte(), Action::Allow.byte());
    r.enforced_source = VerdictSource::Default.byte();
    r
}

proptest! {
    #[test]
    fn a_candidate_decides_as_the_rule_by_rule_twin(
        src: u8, dst: u8,
        proto in prop::sample::select(vec![1_u8, 6, 17, 47]),
        ports in (0_u16..2000, 0_u16..2000),
    ) {
        let policy = compiled(TEXT);
        let r = record(src, dst, proto, ports);
        let judged = judge(&policy.image, &r);
        let service = match proto {
            1 => Service::icmp(1, 8, 0),
            proto => Service::port(proto, ports.1),
        };
        let twin = acl::reference::evaluate(&policy.image, &r.src, &r.dst, &service);
        prop_assert_eq!(judged.decision, twin);
        prop_assert!(!judged.uncertain);
        let turn = judged.turn(&r);
        prop_assert_eq!(turn, (!twin.enforced.permits()).then_some(Turn::DenyNewly));
    }
}

#[test]
fn where_the_initiator_is_guessed_the_other_direction_is_asked_too() {
    let policy = compiled(TEXT);
    // From a to b's low port it is allowed; had b begun, it would be denied.
    let mut r = record(1, 70, 17, (40_000, 53));
    r.initiator_evidence = InitiatorEvidence::PortAsymmetry.byte();
    let spoken = judge(&policy.image, &r);
    assert!(spoken.decision.enforced.permits() && spoken.uncertain);
    r.packets_fwd = 0;
    let silent = judge(&policy.image, &r);
    assert!(!silent.decision.enforced.permits() && silent.uncertain);
    r.proto = 6;
    assert!(judge(&policy.image, &r).decision.enforced.permits());
    r.initiator_evidence = InitiatorEvidence::SynAck.byte();
    assert!(!judge(&policy.image, &r).uncertain);
}

#[test]
fn what_passes_by_itself_passes_under_a_candidate_too() {
    let policy = compiled(TEXT);
    let mut r = record(1, 200, 1, (0, 0));
    assert!(!judge(&policy.image, &r).decision.enforced.permits());
    for source in [VerdictSource::Related, VerdictSource::Exception] {
        r.enforced_source = source.byte();
        let judged = judge(&policy.image, &r);
        assert!(judged.decision.enforced.permits() && judged.turn(&r).is_none());
    }
}

#[test]
fn a_flow_counts_once_by_the_first_record_that_is_seen_of_it() {
    let mut live = HashSet::new();
    let mut told = |id: u64, begins: u8, kind: RecordKind| {
        let mut r = record(1, 2, 6, (1, 2));
        (r.flow_id, r.begins, r.kind) = (id, begins, kind.byte());
        counts(&mut live, &r).is_some()
    };
    use RecordKind::{Denied, End, Update};
    assert!(told(1, 1, Update) && !told(1, 0, Update) && !told(1, 0, End));
    assert!(
        told(2, 0, Update),
        "it began before the candidate was there"
    );
    assert!(!told(2, 0, Update) && !told(2, 0, End));
    assert!(told(3, 1, End) && told(4, 0, End) && told(5, 1, Denied) && !told(5, 0, Update));
    assert!(told(5, 1, Update), "the id is used anew");
    assert_eq!(live.len(), 1);
}

fn about(name: &str) -> Candidate {
    Candidate {
        name: name.into(),
        ..Candidate::default()
    }
}

fn batch(records: &[FlowRecord]) -> Batch {
    let stored = records.iter().map(|record| crate::flow::StoredFlow {
        seq: 1,
        record: *record,
    });
    stored.collect()
}

#[test]
fn what_does_not_fit_the_queue_is_counted_and_judged_by_nobody() {
    let (sender, receiver) = sync_channel(1);
    let candidates = Candidates::default();
    let shared = Arc::clone(&candidates.shared);
    let queue = CandidateQueue { sender, shared };
    let one = batch(&[record(1, 70, 6, (40_000, 22))]);
    queue.offer(&one);
    assert!(receiver.try_recv().is_err(), "nobody asks");
    candidates.put(about("draft"), Ok(compiled(TEXT)));
    for _ in 0..3 {
        queue.offer(&one);
    }
    drop(queue);
    candidates.shared.judge_all(&receiver);
    let counts = candidates.all()[0].counts;
    assert_eq!((counts.flows, counts.lost_records), (1, 2));
}

#[test]
fn a_watcher_gets_changed_flows_only_and_ends_with_its_candidate() {
    let (candidates, queue) = Candidates::start();
    candidates.put(about("draft"), Ok(compiled(TEXT)));
    candidates.put(about("broken"), Err("gone".into()));
    let Some(Entry::Judging(judging)) = candidates.get("draft") else {
        panic!("it is judged");
    };
    let mut watching = judging.watch().unwrap();
    let others: Vec<_> = (1..WATCHERS_MAX)
        .map(|_| judging.watch().unwrap())
        .collect();
    assert!(judging.watch().is_none());
    drop(others);
    let denied = record(1, 70, 6, (40_000, 5000));
    let mut newly = record(1, 70, 6, (40_000, 22));
    newly.enforced = Action::Deny.byte();
    queue.offer(&batch(&[record(1, 70, 6, (40_000, 22)), denied, newly]));
    let got = watching.blocking_recv().unwrap();
    let turns: Vec<Turn> = got.iter().map(|changed| changed.turn).collect();
    assert_eq!(turns, [Turn::DenyNewly, Turn::AllowNewly]);
    let counts = candidates.all()[0].counts;
    assert_eq!(
        (counts.flows, counts.deny_newly, counts.allow_newly),
        (3, 1, 1)
    );
    assert_eq!(candidates.all()[1].error.as_deref(), Some("gone"));
    assert!(candidates.remove("draft") && !candidates.remove("draft"));
    assert!(watching.blocking_recv().is_none());
}

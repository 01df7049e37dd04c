//! Metrics and accounting of cores that are played over the real contract.

#[expect(dead_code, reason = "each file of tests uses a part of these")]
mod support;

use api::Accounting;
use std::io::{Read, Write};
use support::{POLICY, record, with_dataplane};

#[test]
fn metrics_tell_what_is_counted() {
    let (control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    let image = dataplane.image();
    let candidate = api::candidate::CandidateRequest {
        name: "next".into(),
        text: POLICY.replace("tcp/5432", "tcp/22"),
        ..Default::default()
    };
    let added: Result<api::candidate::Candidate, _> =
        control.client.post(api::endpoint::CANDIDATES, &candidate);
    added.unwrap();
    let mut flow = record(Some(&image), 1);
    flow.begins = 1;
    dataplane.push(1, &flow);
    control.collected(1);
    control.client.wait("judged", |_| {
        let path = api::endpoint::CANDIDATES;
        let all: api::candidate::Candidates = control.client.get(path);
        all.candidates[0].counts.flows == 1
    });
    let address = control.running.as_ref().unwrap().metrics_address.unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    for line in [
        "ringfence_worker_rx_packets_total{worker=\"1\"} 9",
        "ringfence_worker_rx_packets_total{worker=\"0\"} 0",
        "ringfence_stage_cycles_total{worker=\"1\",stage=\"decide\"} 180",
        "ringfence_stage_packets_total{worker=\"1\",stage=\"decide\"} 9",
        "ringfence_tsc_hz 2000000000",
        "ringfence_collector_records_total{worker=\"1\"} 1",
        "ringfence_port_rx_packets_total{port=\"inside0\",lane=\"0\",role=\"inside\"} 7",
        "ringfence_rule_hits_total{rule=\"web-to-db\"} 1",
        "ringfence_policy_changes_total{outcome=\"adopted\"} 1",
        "ringfence_policy_adoption_seconds 0.000042",
        "ringfence_policy_publications_total{form=\"image\"} 1",
        "ringfence_policy_publications_total{form=\"change\"} 0",
        "ringfence_accounting_difference{kind=\"records\"} 0",
        "ringfence_dataplane_up 1",
        "ringfence_candidates 1",
        "ringfence_candidate_flows_total{candidate=\"next\"} 1",
        "ringfence_candidate_changed_flows_total{candidate=\"next\",turn=\"deny-newly\"} 1",
        "ringfence_candidate_changed_flows_total{candidate=\"next\",turn=\"allow-newly\"} 0",
        "ringfence_candidate_lost_records_total{candidate=\"next\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn what_workers_hand_to_each_other_is_received_once_and_sent_once() {
    let (control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    // The first receives 100 and hands 60 over; the second drops 5, answers 2 of them, and hands
    // the rest back, of which 7 still wait.
    dataplane.count(0, |counters| {
        counters.rx_packets = 100;
        counters.steered_out_packets = 60;
        counters.flow_packets = 40;
        counters.cached_packets = 40;
        counters.returned_in_packets = 50;
        counters.tx_packets = 90;
    });
    dataplane.count(1, |counters| {
        counters.steered_in_packets = 60;
        counters.flow_packets = 60;
        counters.cached_packets = 60;
        counters.drops[usize::from(abi::Reason::RejectedByRule.byte())] = 5;
        counters.generated_packets = 2;
        counters.returned_answers = 2;
        counters.returned_out_packets = 57;
    });
    let account: Accounting = control.client.get("/v1/accounting");
    assert!(account.balanced, "{account:#?}");
    assert_eq!(
        (account.total.received, account.total.transmitted),
        (100, 90)
    );
    assert_eq!(account.between_workers, 7);
    // One that was handed over and never counted again is missed.
    dataplane.count(1, |counters| counters.flow_packets -= 1);
    let account: Accounting = control.client.get("/v1/accounting");
    assert!(!account.balanced);
    assert_eq!(account.workers[1].flow_difference, 1);
    assert_eq!(account.workers[1].packet_difference, 0);
}

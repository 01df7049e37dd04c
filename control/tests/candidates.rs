//! Candidates are judged beside the policy in force: the control process against a played dataplane.

#[allow(
    dead_code,
    reason = "written for the tests of the process, which use all of it"
)]
mod support;

use abi::verdict::InitiatorEvidence;
use abi::{Action, FlowRecord};
use api::candidate::{Candidate, CandidateName, CandidateRequest, Candidates, ChangedFlow, Turn};
use api::error::{ApiError, ErrorCode};
use api::policy::{ApplyResult, PolicyChange, PolicyInForce, PolicyLog};
use api::simulate::{Change, Line, SimulateRequest, SimulatedEdge, Simulation};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use support::{Box, Client, POLICY, TestDataplane, denied, record, with_dataplane};

fn add(client: &Client, name: &str, text: &str) -> Result<Candidate, (u16, ApiError)> {
    let request = CandidateRequest {
        name: name.into(),
        text: text.into(),
        file_name: "drafts/next.toml".into(),
        author: "ada".into(),
        ..CandidateRequest::default()
    };
    client.post(api::endpoint::CANDIDATES, &request)
}

fn list(client: &Client) -> Vec<Candidate> {
    client
        .get::<Candidates>(api::endpoint::CANDIDATES)
        .candidates
}

/// Waits until a candidate has judged so many flows.
#[track_caller]
fn judged(client: &Client, name: &str, flows: u64) -> Candidate {
    client.wait("judged", |_| {
        let all = list(client);
        all.iter()
            .any(|c| c.name == name && c.counts.flows >= flows)
    });
    list(client).into_iter().find(|c| c.name == name).unwrap()
}

/// No flow to the database, and ssh to it.
fn draft() -> String {
    POLICY.replace("tcp/5432", "tcp/22")
}

#[test]
fn candidates_are_judged_on_the_flows_that_are_told_counted_and_watched() {
    let (mut control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    assert_eq!(add(&control.client, "", &draft()).unwrap().name, "next");
    add(&control.client, "same", POLICY).unwrap();
    let path = "/v1/policy/candidates/watch?name=next";
    let stream = control.client.open("GET", path, "");
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}

    let image = dataplane.image();
    for number in 0..20 {
        let mut r = record(Some(&image), number);
        r.begins = 1;
        assert!(dataplane.push(usize::from(number % 2), &r));
    }
    let mut ssh = denied(&image, 99);
    ssh.begins = 1;
    assert!(dataplane.push(0, &ssh));
    let next = judged(&control.client, "next", 21).counts;
    assert_eq!((next.flows, next.deny_newly, next.allow_newly), (21, 20, 1));
    assert_eq!((next.uncertain, next.lost_records), (0, 0));
    let same = judged(&control.client, "same", 21).counts;
    assert_eq!((same.deny_newly, same.allow_newly), (0, 0));
    let mut turns = [0, 0];
    for _ in 0..21 {
        let line = lines.next().unwrap().unwrap();
        let changed: ChangedFlow = serde_json::from_str(&line).unwrap();
        assert_eq!(changed.flow.src_name.as_deref(), Some("web-1"));
        match changed.turn {
            Turn::DenyNewly => turns[0] += 1,
            Turn::AllowNewly => {
                turns[1] += 1;
                assert_eq!(changed.candidate_rule.as_deref(), Some("web-to-db"));
            }
        }
    }
    assert_eq!(turns, [20, 1]);
    // Kept over a restart, with what was counted.
    control.stop();
    control.start();
    control.client.wait_running();
    assert_eq!(judged(&control.client, "next", 21).counts, next);
    let mut r = record(Some(&image), 30);
    (r.begins, r.flow_id) = (1, 4711);
    assert!(dataplane.push(0, &r));
    assert_eq!(judged(&control.client, "next", 22).counts.deny_newly, 21);
}

#[test]
fn candidates_are_few_named_logged_and_promoted() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    client.apply(POLICY).unwrap();
    let (code, error) = add(client, "wrong", "mood = 1\n").unwrap_err();
    assert_eq!((code, error.code), (422, ErrorCode::InvalidPolicy));
    assert_eq!(add(client, "no name", POLICY).unwrap_err().0, 400);
    for name in ["one", "two", "three", "two"] {
        add(client, name, &draft()).unwrap();
    }
    let (code, error) = add(client, "four", POLICY).unwrap_err();
    assert_eq!((code, error.code), (409, ErrorCode::Conflict));
    assert!(error.message.contains("one, two, three"), "{error}");
    let remove = CandidateName {
        name: "one".into(),
        author: "ada".into(),
        ..CandidateName::default()
    };
    let removed = |request: &CandidateName| {
        client.post::<Candidate>(api::endpoint::CANDIDATES_REMOVE, request)
    };
    assert_eq!(removed(&remove).unwrap().name, "one");
    assert_eq!(removed(&remove).unwrap_err().0, 404);
    assert_eq!(dataplane.published(), [1], "candidates are not published");
    let promote = CandidateName {
        name: "two".into(),
        confirm_s: Some(600),
        ..remove
    };
    let path = api::endpoint::CANDIDATES_PROMOTE;
    let applied: ApplyResult = client.post(path, &promote).unwrap();
    assert!(applied.unconfirmed.is_some());
    let in_force: PolicyInForce = client.get("/v1/policy");
    assert_eq!(in_force.text, draft());
    assert!(
        in_force.note.starts_with("candidate two: 0 flows judged"),
        "{in_force:?}"
    );
    let log: PolicyLog = client.get("/v1/policy/log");
    let kinds: Vec<_> = log.entries.iter().map(|e| e.change).collect();
    for kind in [PolicyChange::CandidateAdd, PolicyChange::CandidateRemove] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(
        client
            .ask("GET", "/v1/policy/candidates/watch?name=four", "")
            .0,
        404
    );
}

/// Ends of drawn flows: in the policy's segments, and in none.
const ENDS: [[u8; 4]; 5] = [
    [10, 0, 1, 10],
    [10, 0, 2, 20],
    [10, 0, 9, 9],
    [198, 51, 100, 7],
    [10, 0, 1, 77],
];
/// Protocol and port, or ICMP type and code, of drawn flows.
const SERVICES: [(u8, u16); 6] = [
    (6, 5432),
    (6, 22),
    (6, 8443),
    (17, 53),
    (17, 5432),
    (1, 0x0800),
];
/// How their initiators are known.
const EVIDENCE: [InitiatorEvidence; 4] = [
    InitiatorEvidence::Syn,
    InitiatorEvidence::KnownListener,
    InitiatorEvidence::PortAsymmetry,
    InitiatorEvidence::FirstPacket,
];

/// Between whom, about what: one flow each.
type Between = (IpAddr, IpAddr, u8, u16);

/// One flow of each kind there is, as a core under this image would record it.
fn every_flow(image: &acl::PolicyImage) -> Vec<(Between, FlowRecord)> {
    let now = control::clock::now_ns();
    let mut flows = Vec::new();
    for src in ENDS {
        for dst in ENDS.iter().filter(|dst| **dst != src) {
            for (proto, port) in SERVICES {
                let number = u16::try_from(flows.len()).unwrap();
                let mut r = record(None, number);
                let address = |of: [u8; 4]| Ipv4Addr::from(of).to_ipv6_mapped().octets();
                (r.src, r.dst, r.proto, r.begins) = (address(src), address(*dst), proto, 1);
                (r.first_ns, r.last_ns) = (now, now + u64::from(number));
                // Of every kind of evidence some, whatever the ends are.
                let evidence = EVIDENCE[flows.len() % EVIDENCE.len()];
                r.initiator_evidence = evidence.byte();
                let service = if proto == 1 {
                    [r.icmp_type, r.icmp_code] = port.to_be_bytes();
                    (r.sport, r.dport) = (0, 0);
                    r.initiator_evidence = InitiatorEvidence::Request.byte();
                    acl::Service::icmp(proto, r.icmp_type, r.icmp_code)
                } else {
                    r.dport = port;
                    acl::Service::port(proto, port)
                };
                decide(image, &mut r, &service);
                let ends = [src, *dst].map(|end| IpAddr::from(Ipv4Addr::from(end)));
                flows.push(((ends[0], ends[1], proto, port), r));
            }
        }
    }
    flows
}

fn decide(image: &acl::PolicyImage, r: &mut FlowRecord, service: &acl::Service) {
    let decision = image.evaluate(&r.src, &r.dst, service);
    r.epoch = image.epoch();
    (r.enforced, r.enforced_source) = (decision.enforced.byte(), decision.enforced_source.byte());
    (r.pending, r.pending_source) = (decision.pending.byte(), decision.pending_source.byte());
    (r.rule_id, r.pending_rule_id) = (decision.rule_id, decision.pending_rule_id);
    (r.src_identity, r.dst_identity) = (decision.src_identity, decision.dst_identity);
    (r.mode, r.coverage) = (decision.mode.byte(), decision.coverage.byte());
    if !decision.enforced.permits() {
        (r.packets_rev, r.bytes_rev) = (0, 0);
        (r.dropped_packets, r.dropped_bytes) = (r.packets_fwd, r.bytes_fwd);
    }
}

/// A draft over all of history, once that has so many flows.
fn simulated(client: &Client, text: &str, flows: u64) -> Simulation {
    let request = SimulateRequest {
        text: Some(text.to_owned()),
        file_name: "draft.toml".into(),
        limit: Some(0),
        unchanged: true,
        ..SimulateRequest::default()
    };
    let body = serde_json::to_string(&request).unwrap();
    loop {
        let (status, answer) = client.ask("POST", api::endpoint::POLICY_SIMULATE, &body);
        assert_eq!(status, 200, "{answer}");
        let last = answer.lines().last().unwrap();
        match serde_json::from_str(last).unwrap() {
            Line::<Simulation>::Done(done) if done.all.flows == flows => return done,
            Line::Done(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            other => panic!("{other:?}"),
        }
    }
}

/// What a watcher is told of each flow that changes: how, whether that is certain, and by which rule.
type Watched = HashMap<Between, (Turn, bool, Option<String>)>;

/// Every draft is judged live and simulated over the history of the same flows; `policy simulate` is held
/// to replays of captures elsewhere.
#[test]
fn a_candidate_says_of_every_flow_what_simulation_says_of_it() {
    let control = Box::new(|config| {
        config.history.engine = control::config::HistoryEngine::Memory;
    });
    let mut dataplane = TestDataplane::with_region(&control.config, 1024);
    let client = &control.client;
    client.wait_running();
    client.apply(POLICY).unwrap();
    let drafts = [
        ("other-port", draft()),
        ("observed", POLICY.replace("\"enforce\"", "\"observe\"")),
        (
            "turned",
            format!(
                "{}\n[[rule]]\nname = \"ping\"\nfrom = [\"any\"]\nto = [\"shop-web\"]\n\
                 services = [\"icmp\"]\naction = \"allow\"\n\n[[service]]\nname = \"icmp\"\n\
                 ports = [\"icmp/echo\", \"udp/53\"]\n",
                POLICY
                    .replace("from = [\"shop-web\"]", "from = [\"any\"]")
                    .replace("to = [\"shop-db\"]", "to = [\"any\"]")
            ),
        ),
    ];
    let mut watchers = Vec::new();
    for (name, text) in &drafts {
        add(client, name, text).unwrap();
        let path = format!("/v1/policy/candidates/watch?name={name}");
        let mut lines = BufReader::new(client.open("GET", &path, "")).lines();
        while !lines.next().unwrap().unwrap().is_empty() {}
        watchers.push(lines);
    }
    let image = dataplane.image();
    let flows = every_flow(&image);
    let count = flows.len() as u64;
    for (at, (_, record)) in flows.iter().enumerate() {
        assert!(dataplane.push(at % 2, record));
    }
    for ((name, text), lines) in drafts.iter().zip(&mut watchers) {
        let counts = judged(client, name, count).counts;
        let mut watched = Watched::new();
        for _ in 0..counts.deny_newly + counts.allow_newly {
            let line = lines.next().unwrap().unwrap();
            let changed: ChangedFlow = serde_json::from_str(&line).unwrap();
            let flow = &changed.flow;
            let icmp = |of: u8| u16::from_be_bytes([of, flow.icmp_code.unwrap_or(0)]);
            let port = flow.icmp_type.map_or(flow.dport, icmp);
            let rule = changed.candidate_rule.as_deref().map(str::to_owned);
            let told = (changed.turn, changed.uncertain, rule);
            watched.insert((flow.src, flow.dst, flow.proto, port), told);
        }
        assert!(!watched.is_empty(), "{name} changes something");
        let simulation = simulated(client, text, count);
        agree(name, &flows, &watched, &simulation);
    }
}

/// Flow by flow: where both are certain they say the same; where somebody was seen to begin, both are.
#[track_caller]
fn agree(name: &str, flows: &[(Between, FlowRecord)], watched: &Watched, simulation: &Simulation) {
    let mut certain = 0;
    for (between, record) in flows {
        let is_it = |edge: &&SimulatedEdge| {
            (edge.src.address, edge.dst.address, edge.proto, edge.port) == *between
        };
        let edge = simulation.edges.iter().find(is_it);
        let edge = edge.unwrap_or_else(|| panic!("{name}: {between:?} is not simulated"));
        let live = watched.get(between);
        let sure = record.initiator_evidence > InitiatorEvidence::PortAsymmetry.byte();
        let doubted = !edge.doubts.is_empty() || live.is_some_and(|(_, uncertain, _)| *uncertain);
        assert!(!(sure && doubted), "{name}: {between:?}: {edge:?} {live:?}");
        if doubted {
            continue;
        }
        certain += 1;
        let turn = match edge.change {
            Change::NewlyDenied => Some(Turn::DenyNewly),
            Change::NewlyAllowed => Some(Turn::AllowNewly),
            Change::StaysAllowed | Change::StaysDenied => None,
        };
        assert_eq!(
            live.map(|(turn, ..)| *turn),
            turn,
            "{name}: {between:?}: {edge:?}"
        );
        if let Some((_, _, rule)) = live {
            assert_eq!(rule.as_deref(), edge.after.enforced.rule.as_deref());
        }
        let permitted = Action::from_byte(record.enforced).is_some_and(Action::permits);
        assert_eq!(edge.before.enforced.action.permits(), permitted);
    }
    assert!(
        certain * 2 > flows.len(),
        "{name}: {certain} of {}",
        flows.len()
    );
}

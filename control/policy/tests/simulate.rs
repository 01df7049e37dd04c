//! A simulation against its obvious twin: every conversation asked rule by rule, nothing summed before it is judged.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod drawn;

use abi::verdict::InitiatorEvidence;
use abi::{Action, VerdictSource};
use acl::reference;
use core::net::{IpAddr, Ipv6Addr};
use drawn::{Drawn, TODAY, address, drawn, service};
use policy::simulate::{
    Before, Change, Doubt, EdgeOutcome, Listing, NameThen, Observed, Outcome, Simulation, Sums,
    Tally, Verdict,
};
use policy::{CompiledPolicy, ValidPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::sync::Arc;

const ALL: Listing = Listing {
    unchanged: true,
    limit: None,
};
const SEED: u64 = 0x5eed;

fn compiled(text: &str) -> (ValidPolicy, CompiledPolicy) {
    let valid = policy::load(text, "draft.toml", TODAY).unwrap();
    let compiled = policy::compile(&valid, 1, TODAY).unwrap();
    (valid, compiled)
}

fn allowed() -> Before {
    let verdict = Verdict {
        action: Action::Allow,
        source: VerdictSource::Default,
        rule: None,
    };
    Before {
        enforced: verdict.clone(),
        pending: verdict,
    }
}

fn denied() -> Before {
    let verdict = Verdict {
        action: Action::Deny,
        source: VerdictSource::Rule,
        rule: Some("old".into()),
    };
    Before {
        enforced: verdict.clone(),
        pending: verdict,
    }
}

/// A conversation of one flow, surely begun by `src`, allowed by default then.
fn seen<'a>(src: &str, dst: &str, proto: u8, port: u16, before: &'a Before) -> Observed<'a> {
    Observed {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_then: NameThen::Unnamed,
        dst_then: NameThen::Unnamed,
        proto,
        port,
        evidence: InitiatorEvidence::Syn,
        folded: false,
        before,
        sums: Sums {
            flows: 1,
            pkts_fwd: 3,
            pkts_rev: 2,
            bytes: 500,
        },
        first_ns: 1_000,
        last_ns: 2_000,
    }
}

fn simulate(text: &str, seen: &[Observed<'_>]) -> Outcome {
    let (valid, compiled) = compiled(text);
    let mut simulation = Simulation::new(&valid, &compiled, SEED);
    seen.iter().for_each(|seen| simulation.push(seen));
    simulation.finish(&ALL)
}

fn only(outcome: &Outcome) -> &EdgeOutcome {
    assert_eq!(outcome.edges.len(), 1, "{outcome:#?}");
    &outcome.edges[0]
}

const SHOP: &str = r#"
[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { role = "web" }
[[workload]]
name = "db-1"
addresses = ["10.0.2.10"]
labels = { role = "db" }
[[segment]]
name = "web"
select = "role=web"
mode = "enforce"
[[segment]]
name = "db"
select = "role=db"
mode = "enforce"
[[service]]
name = "postgres"
ports = ["tcp/5432"]
[[service]]
name = "dns"
ports = ["udp/53"]
[[rule]]
name = "web-to-db"
from = ["web"]
to = ["db"]
services = ["postgres", "dns"]
action = "allow"
"#;

#[test]
fn what_a_rule_allows_stays_allowed_and_what_none_does_is_newly_denied() {
    let then = allowed();
    let outcome = simulate(
        SHOP,
        &[
            seen("10.0.1.10", "10.0.2.10", 6, 5432, &then),
            seen("10.0.1.10", "10.0.2.10", 6, 22, &then),
        ],
    );
    let [denied, kept] = &outcome.edges[..] else {
        panic!("{outcome:#?}")
    };
    assert_eq!(
        (denied.port, denied.change, &denied.after.enforced.rule),
        (22, Change::NewlyDenied, &None)
    );
    assert_eq!((kept.port, kept.change), (5432, Change::StaysAllowed));
    assert_eq!(kept.after.enforced.rule.as_deref(), Some("web-to-db"));
    assert_eq!(kept.service.as_deref(), Some("postgres"));
    assert_eq!(
        (kept.src.workload.as_deref(), &kept.src.segments[..]),
        (Some("web-1"), &["web".to_owned()][..])
    );
    assert_eq!(outcome.enforced.newly_denied.flows, 1);
    assert_eq!(outcome.enforced.stays_allowed.flows, 1);
    // It was allowed by default, and is by a rule.
    assert_eq!(outcome.enforced.by_other_rule.flows, 1);
    let rule = &outcome.rules[0];
    assert_eq!(
        (rule.enforced.flows, rule.sources, rule.destinations),
        (1, 1, 1)
    );
}

#[test]
fn what_was_denied_and_a_rule_allows_is_newly_allowed() {
    let then = denied();
    let outcome = simulate(SHOP, &[seen("10.0.1.10", "10.0.2.10", 6, 5432, &then)]);
    assert_eq!(only(&outcome).change, Change::NewlyAllowed);
    assert_eq!(outcome.enforced.newly_allowed.bytes, 500);
}

#[test]
fn an_address_is_judged_by_the_name_it_had() {
    let (then, web) = (allowed(), Arc::from("web-1"));
    // 10.0.9.9 was web-1's then; the draft knows web-1 elsewhere.
    let moved = Observed {
        src_then: NameThen::Named(&web),
        ..seen("10.0.9.9", "10.0.2.10", 6, 5432, &then)
    };
    let outcome = simulate(SHOP, &[moved]);
    let edge = only(&outcome);
    assert_eq!(
        (edge.change, edge.doubts.len()),
        (Change::StaysAllowed, 0),
        "{edge:#?}"
    );
    assert_eq!(edge.src.workload.as_deref(), Some("web-1"));
}

#[test]
fn a_name_that_the_draft_does_not_know_is_in_doubt() {
    let (then, gone) = (allowed(), Arc::from("web-0"));
    let seen = Observed {
        src_then: NameThen::Named(&gone),
        ..seen("10.0.1.10", "10.0.2.10", 6, 5432, &then)
    };
    let outcome = simulate(SHOP, &[seen]);
    assert_eq!(only(&outcome).doubts, [Doubt::NameGone]);
    assert_eq!(outcome.enforced.uncertain.flows, 1);
    assert_eq!(outcome.enforced.stays_allowed.flows, 0);
}

#[test]
fn an_address_of_unknown_past_is_in_doubt() {
    let then = allowed();
    let seen = Observed {
        dst_then: NameThen::Unknown,
        ..seen("10.0.1.10", "10.0.2.10", 6, 5432, &then)
    };
    assert_eq!(only(&simulate(SHOP, &[seen])).doubts, [Doubt::NameUnknown]);
}

#[test]
fn a_guessed_direction_is_in_doubt_only_where_the_other_is_decided_otherwise() {
    let then = allowed();
    let guessed = |port| Observed {
        evidence: InitiatorEvidence::FirstPacket,
        ..seen("10.0.1.10", "10.0.2.10", 17, port, &then)
    };
    let outcome = simulate(SHOP, &[guessed(53)]);
    let edge = only(&outcome);
    assert_eq!(edge.doubts, [Doubt::Direction]);
    assert_eq!(edge.other.as_ref().unwrap().enforced.action, Action::Deny);
    // Denied whoever began.
    assert_eq!(only(&simulate(SHOP, &[guessed(123)])).doubts, []);
    let midstream = Observed {
        evidence: InitiatorEvidence::FirstPacket,
        ..seen("10.0.1.10", "10.0.2.10", 6, 5432, &then)
    };
    assert_eq!(
        only(&simulate(SHOP, &[midstream])).doubts,
        [Doubt::Midstream]
    );
}

#[test]
fn ports_are_believed_unless_only_the_responder_spoke() {
    let then = allowed();
    let by_ports = |pkts_fwd| {
        let seen = seen("10.0.1.10", "10.0.2.10", 17, 53, &then);
        Observed {
            evidence: InitiatorEvidence::PortAsymmetry,
            sums: Sums {
                pkts_fwd,
                ..seen.sums
            },
            ..seen
        }
    };
    assert_eq!(only(&simulate(SHOP, &[by_ports(1)])).doubts, []);
    assert_eq!(
        only(&simulate(SHOP, &[by_ports(0)])).doubts,
        [Doubt::Direction]
    );
    // Two flows told together, and one packet from the initiator: in one of them only the responder spoke.
    let mut two = by_ports(1);
    two.sums.flows = 2;
    assert_eq!(only(&simulate(SHOP, &[two])).doubts, [Doubt::Direction]);
}

#[test]
fn neighbour_discovery_passes_by_exception_unless_other_packets_are_in_its_flow() {
    let closed = "[[segment]]\nname = \"all\"\naddresses = [\"::/0\"]\nmode = \"enforce\"\n";
    let by = |source| {
        let verdict = Verdict {
            action: Action::Allow,
            source,
            rule: None,
        };
        Before {
            enforced: verdict.clone(),
            pending: verdict,
        }
    };
    let advertisement = 136 << 8;
    let check = |source, permits, doubts: &[Doubt]| {
        let then = by(source);
        let outcome = simulate(
            closed,
            &[seen("fe80::1", "fe80::2", 58, advertisement, &then)],
        );
        let edge = only(&outcome);
        assert_eq!(edge.after.enforced.action.permits(), permits);
        assert_eq!(edge.doubts, doubts);
    };
    check(VerdictSource::Exception, true, &[]);
    check(VerdictSource::NoPolicy, false, &[Doubt::Exception]);
}

#[test]
fn a_folded_scan_is_certain_only_where_everything_is_decided_alike() {
    let then = allowed();
    let scan = |src| Observed {
        folded: true,
        port: 0,
        ..seen(src, "10.0.2.10", 6, 0, &then)
    };
    // Nobody but web may reach db, but whoever is neither may reach who is neither.
    assert_eq!(
        only(&simulate(SHOP, &[scan("10.0.7.7")])).doubts,
        [Doubt::Folded]
    );
    let closed = format!(
        "{SHOP}\n[[segment]]\nname = \"all\"\naddresses = [\"0.0.0.0/0\", \"::/0\"]\nmode = \"enforce\"\n"
    );
    let outcome = simulate(&closed, &[scan("10.0.7.7"), scan("10.0.1.10")]);
    let told: Vec<_> = outcome
        .edges
        .iter()
        .map(|e| (e.change, e.doubts.clone()))
        .collect();
    assert_eq!(
        told,
        [
            (Change::NewlyDenied, vec![]),
            (Change::StaysAllowed, vec![Doubt::Folded])
        ]
        .map(|(change, doubts)| if doubts.is_empty() {
            (change, doubts)
        } else {
            (Change::NewlyDenied, doubts)
        })
    );
}

#[test]
fn an_icmp_error_follows_the_flows_of_its_receiver() {
    let then = allowed();
    let related = Before {
        enforced: Verdict {
            source: VerdictSource::Related,
            ..then.enforced.clone()
        },
        ..then.clone()
    };
    let error = Observed {
        evidence: InitiatorEvidence::FirstPacket,
        ..seen("10.0.2.10", "10.0.1.10", 1, 0x0301, &related)
    };
    let good = seen("10.0.1.10", "10.0.2.10", 6, 5432, &then);
    let bad = seen("10.0.1.10", "10.0.2.10", 6, 22, &then);
    let of_error = |outcome: &Outcome| {
        let edge = outcome.edges.iter().find(|e| e.proto == 1).unwrap();
        (edge.change, edge.doubts.clone())
    };
    assert_eq!(
        of_error(&simulate(SHOP, &[error.clone(), good.clone()])),
        (Change::StaysAllowed, vec![])
    );
    assert_eq!(
        of_error(&simulate(SHOP, &[error.clone(), bad.clone()])),
        (Change::NewlyDenied, vec![])
    );
    assert_eq!(
        of_error(&simulate(SHOP, &[error, good, bad])).1,
        [Doubt::Related]
    );
}

#[test]
fn what_changes_is_told_first_the_largest_first() {
    let then = allowed();
    let large = |port, bytes| {
        let seen = seen("10.0.1.10", "10.0.2.10", 6, port, &then);
        Observed {
            sums: Sums { bytes, ..seen.sums },
            ..seen
        }
    };
    let seen = [large(5432, 9_000), large(22, 10), large(23, 20)];
    let (valid, compiled) = compiled(SHOP);
    let mut simulation = Simulation::new(&valid, &compiled, SEED);
    seen.iter().for_each(|seen| simulation.push(seen));
    let outcome = simulation.finish(&Listing {
        unchanged: false,
        limit: Some(1),
    });
    assert_eq!((outcome.matched, only(&outcome).port), (2, 23));
}

/// One conversation of the twin test.
#[derive(Clone, Debug)]
struct Flow {
    src: [u8; 16],
    dst: [u8; 16],
    service: acl::Service,
    denied: bool,
    flows: u64,
}

/// Any service but neighbour discovery, about which policies do not decide: it has a test of its own.
fn decided() -> impl Strategy<Value = acl::Service> {
    service().prop_filter("neighbour discovery", |service| {
        service.proto != 58 || !matches!(service.icmp_type, 130..=137 | 143)
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    (address(), address(), decided(), any::<bool>(), 1_u64..5).prop_map(
        |(src, dst, service, denied, flows)| Flow {
            src,
            dst,
            service,
            denied,
            flows,
        },
    )
}

fn ip(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// Every listed edge against the rule-by-rule twin.
fn each_edge_is_what_the_rules_say(
    compiled: &CompiledPolicy,
    outcome: &Outcome,
) -> Result<(), TestCaseError> {
    for edge in &outcome.edges {
        let [src, dst] = [&edge.src, &edge.dst].map(|end| drawn::bytes(&end.address.to_string()));
        let service = if matches!(edge.proto, 1 | 58) {
            let [kind, code] = edge.port.to_be_bytes();
            acl::Service::icmp(edge.proto, kind, code)
        } else {
            acl::Service::port(edge.proto, edge.port)
        };
        let decision = reference::evaluate(&compiled.image, &src, &dst, &service);
        let name = |id| compiled.image.rule_by_id(id).map(|r| r.name);
        prop_assert_eq!(edge.after.enforced.action, decision.enforced);
        prop_assert_eq!(edge.after.enforced.source, decision.enforced_source);
        prop_assert_eq!(edge.after.enforced.rule.as_deref(), name(decision.rule_id));
        prop_assert_eq!(edge.after.pending.action, decision.pending);
        prop_assert_eq!(
            edge.after.pending.rule.as_deref(),
            name(decision.pending_rule_id)
        );
        prop_assert_eq!(
            (edge.after.mode, edge.after.coverage),
            (decision.mode, decision.coverage)
        );
    }
    Ok(())
}

/// Sums of both views against those of the twin: newly denied, stays allowed, stays denied, newly allowed.
fn the_sums_agree(outcome: &Outcome, twin: [[Tally; 4]; 2]) -> Result<(), TestCaseError> {
    for (totals, twin) in [outcome.enforced, outcome.pending].iter().zip(twin) {
        let [newly_denied, stays_allowed, stays_denied, newly_allowed] = twin;
        prop_assert_eq!(totals.newly_denied, newly_denied);
        prop_assert_eq!(totals.stays_allowed, stays_allowed);
        prop_assert_eq!(totals.stays_denied, stays_denied);
        prop_assert_eq!(totals.newly_allowed, newly_allowed);
        prop_assert_eq!(totals.uncertain, Tally::default());
    }
    Ok(())
}

fn twin_agrees(drawn: &Drawn, flows: &[Flow], edges_max: usize) -> Result<(), TestCaseError> {
    let text = drawn.text();
    let Ok(valid) = policy::load(&text, "draft.toml", TODAY) else {
        return Ok(());
    };
    let compiled = policy::compile(&valid, 1, TODAY).unwrap();
    let befores = [allowed(), denied()];
    let mut simulation = Simulation::with_limit(&valid, &compiled, SEED, edges_max);
    let mut twin: [[Tally; 4]; 2] = Default::default();
    let mut rules = vec![(Tally::default(), Tally::default()); valid.rules.len()];
    let mut edges = BTreeSet::new();
    for flow in flows {
        let before = &befores[usize::from(flow.denied)];
        let sums = Sums {
            flows: flow.flows,
            pkts_fwd: 2,
            pkts_rev: 1,
            bytes: 100 * flow.flows,
        };
        simulation.push(&Observed {
            src: ip(flow.src),
            dst: ip(flow.dst),
            src_then: NameThen::Unnamed,
            dst_then: NameThen::Unnamed,
            proto: flow.service.proto,
            port: flow.service.key(),
            evidence: InitiatorEvidence::Syn,
            folded: false,
            before,
            sums,
            first_ns: 5,
            last_ns: 6,
        });
        let decision = reference::evaluate(&compiled.image, &flow.src, &flow.dst, &flow.service);
        let add = |tally: &mut Tally| {
            tally.conversations += 1;
            tally.flows += sums.flows;
            tally.packets += 3;
            tally.bytes += sums.bytes;
        };
        for (view, action) in [decision.enforced, decision.pending]
            .into_iter()
            .enumerate()
        {
            let place = usize::from(flow.denied) * 2 + usize::from(action.permits());
            add(&mut twin[view][place]);
        }
        let at = |id| compiled.image.rule_by_id(id).map(|r| r.index as usize);
        if let Some(at) = at(decision.rule_id) {
            add(&mut rules[at].0);
        }
        if let Some(at) = at(decision.pending_rule_id) {
            add(&mut rules[at].1);
        }
        let service = (flow.service.proto, flow.service.key());
        edges.insert((flow.src, flow.dst, service, flow.denied));
    }
    let outcome = simulation.finish(&ALL);
    the_sums_agree(&outcome, twin)?;
    let told: Vec<_> = outcome
        .rules
        .iter()
        .map(|r| (r.enforced, r.pending))
        .collect();
    prop_assert_eq!(told, rules);
    prop_assert_eq!(outcome.all.conversations, flows.len() as u64);
    let kept = edges.len().min(edges_max) as u64;
    prop_assert_eq!((outcome.edge_count, outcome.matched), (kept, kept));
    each_edge_is_what_the_rules_say(&compiled, &outcome)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_simulation_is_what_the_rules_say_of_each_conversation(
        drawn in drawn(), flows in vec(flow(), 1..40)
    ) {
        twin_agrees(&drawn, &flows, usize::MAX)?;
    }

    #[test]
    fn beyond_the_limit_of_edges_the_sums_stay_exact(
        drawn in drawn(), flows in vec(flow(), 1..40), edges_max in select(&[0_usize, 1, 5][..])
    ) {
        twin_agrees(&drawn, &flows, edges_max)?;
    }
}

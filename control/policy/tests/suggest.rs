//! Suggestions: what is proposed, what is left out, and that the proposal covers what it was made from and no more.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod drawn;

use abi::verdict::InitiatorEvidence;
use abi::{Action, VerdictSource};
use drawn::{Drawn, TODAY, drawn};
use policy::simulate::{
    Before, Change, Listing, NameThen, Observed, Outcome, Simulation, Sums, Verdict, enforced,
};
use policy::suggest::{FAN_OUT_MAX, Lack, LeftOutWhy, Manner, Suggester, Suggestion};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;

const SEED: u64 = 0x5eed;
const MINUTE_NS: u64 = 60_000_000_000;
const START_NS: u64 = 1_790_000_000_000_000_000;

/// A conversation of one flow with an answer, surely begun by its source.
#[derive(Clone, Debug)]
struct Seen {
    src: String,
    dst: String,
    proto: u8,
    port: u16,
    flows: u64,
    answers: bool,
    at_ns: u64,
}

fn seen(src: &str, dst: &str, proto: u8, port: u16) -> Seen {
    Seen {
        src: src.to_owned(),
        dst: dst.to_owned(),
        proto,
        port,
        flows: 1,
        answers: true,
        at_ns: START_NS,
    }
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

fn observed<'a>(seen: &Seen, before: &'a Before) -> Observed<'a> {
    let [fwd, rev] = if seen.answers { [9, 7] } else { [2, 0] };
    Observed {
        src: seen.src.parse().unwrap(),
        dst: seen.dst.parse().unwrap(),
        src_then: NameThen::Unnamed,
        dst_then: NameThen::Unnamed,
        proto: seen.proto,
        port: seen.port,
        evidence: InitiatorEvidence::Syn,
        folded: false,
        before,
        sums: Sums {
            flows: seen.flows,
            pkts_fwd: fwd * seen.flows,
            pkts_rev: rev * seen.flows,
            bytes: 1_000 * seen.flows,
        },
        first_ns: seen.at_ns,
        last_ns: seen.at_ns + MINUTE_NS,
    }
}

fn suggest_as(text: &str, seen: &[Seen], prefix: &str) -> Suggestion {
    let valid = policy::load(text, "own.toml", TODAY).unwrap();
    let compiled = policy::compile(&valid, 1, TODAY).unwrap();
    let before = allowed();
    let mut suggester = Suggester::new(&valid, &compiled, SEED);
    seen.iter()
        .for_each(|seen| suggester.push(&observed(seen, &before)));
    let manner = Manner {
        name_prefix: prefix.to_owned(),
    };
    suggester.finish(text, TODAY, &manner).unwrap()
}

fn suggest(text: &str, seen: &[Seen]) -> Suggestion {
    suggest_as(text, seen, "")
}

/// What a policy with every segment in enforce does to what was seen.
fn simulate(text: &str, seen: &[Seen]) -> Outcome {
    let valid = enforced(&policy::load(text, "draft.toml", TODAY).unwrap());
    let compiled = policy::compile(&valid, 1, TODAY).unwrap();
    let before = allowed();
    let mut simulation = Simulation::new(&valid, &compiled, SEED);
    seen.iter()
        .for_each(|seen| simulation.push(&observed(seen, &before)));
    simulation.finish(&Listing {
        unchanged: false,
        limit: None,
    })
}

const EMPTY: &str = "[policy]\nname = \"lab\"\n";

const SHOP: &str = r#"[policy]
name = "shop"

[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { app = "shop", role = "web" }
[[workload]]
name = "web-2"
addresses = ["10.0.1.11"]
labels = { app = "shop", role = "web" }
[[workload]]
name = "web-canary"
addresses = ["10.0.1.12"]
labels = { app = "shop", role = "web", canary = "yes" }
[[workload]]
name = "db-1"
addresses = ["10.0.2.10"]
labels = { app = "shop", role = "db" }
"#;

/// Web servers ask the database, clients from outside ask the web servers.
fn shop() -> Vec<Seen> {
    vec![
        seen("203.0.113.7", "10.0.1.10", 6, 443),
        seen("203.0.113.8", "10.0.1.11", 6, 443),
        seen("10.0.1.10", "10.0.2.10", 6, 5432),
        seen("10.0.1.11", "10.0.2.10", 6, 5432),
    ]
}

#[test]
fn labels_make_segments_and_ports_make_services() {
    let found = suggest(SHOP, &shop());
    let names: Vec<_> = found.rules.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        ["internet-to-https", "shop-web-to-postgres"],
        "{}",
        found.text
    );
    let selects: Vec<_> = found
        .segments
        .iter()
        .map(|s| (s.name.as_str(), s.select.as_deref().unwrap()))
        .collect();
    assert_eq!(
        selects,
        [
            ("shop-db", "app=shop, role=db"),
            // The canary has the same labels and one more.
            ("shop-web", "app=shop, role=web, !canary exists"),
        ]
    );
    let rule = &found.rules[1];
    assert_eq!(
        (rule.from.as_str(), &rule.to[..], rule.service.as_str()),
        ("shop-web", &["shop-db".to_owned()][..], "postgres")
    );
    assert_eq!(
        (
            rule.evidence.flows,
            rule.evidence.sources,
            rule.evidence.destinations
        ),
        (2, 2, 1)
    );
    assert!(found.text.starts_with(SHOP), "the policy's own text stays");
    assert!(found.left_out.is_empty());
}

#[test]
fn the_text_of_a_suggestion_reads_well() {
    let expected = r#"
# suggested: 1 of 1 workloads with these labels
[[segment]]
name = "shop-db"
select = "app=shop, role=db"
mode = "test"

# suggested: 2 of 2 workloads with these labels
[[segment]]
name = "shop-web"
select = "app=shop, role=web, !canary exists"
mode = "test"

[[service]]
name = "https"
ports = ["tcp/443"]

[[service]]
name = "postgres"
ports = ["tcp/5432"]

# suggested: 2 flows, 2000 bytes, 1 -> 2 ends, 2026-09-21T14:13:20Z to 2026-09-21T14:14:20Z, direction sure
[[rule]]
name = "internet-to-https"
from = ["internet"]
to = ["shop-web"]
services = ["https"]
action = "allow"

# suggested: 2 flows, 2000 bytes, 2 -> 1 ends, 2026-09-21T14:13:20Z to 2026-09-21T14:14:20Z, direction sure
[[rule]]
name = "shop-web-to-postgres"
from = ["shop-web"]
to = ["shop-db"]
services = ["postgres"]
action = "allow"
"#;
    assert_eq!(suggest(SHOP, &shop()).text, format!("{SHOP}{expected}"));
}

#[test]
fn what_is_proposed_covers_what_was_seen_and_denies_what_was_not() {
    let found = suggest(SHOP, &shop());
    let outcome = simulate(&found.text, &shop());
    assert_eq!(outcome.enforced.newly_denied.flows, 0, "{outcome:#?}");
    assert_eq!(outcome.enforced.stays_allowed.flows, 4);
    let attack = [
        seen("10.0.1.10", "10.0.2.10", 6, 22),
        seen("203.0.113.7", "10.0.2.10", 6, 5432),
        seen("10.0.2.10", "10.0.1.10", 6, 445),
        seen("10.0.9.9", "10.0.2.10", 6, 5432),
    ];
    let outcome = simulate(&found.text, &attack);
    assert_eq!(outcome.enforced.newly_denied.flows, 4, "{outcome:#?}");
}

#[test]
fn run_again_over_the_same_traffic_it_proposes_nothing() {
    let mut traffic = shop();
    let scanner = (0..50).map(|port| Seen {
        answers: false,
        ..seen("10.0.7.7", "10.0.2.10", 6, 1_000 + port)
    });
    traffic.extend(scanner);
    traffic.push(seen("10.0.5.5", "10.0.5.6", 17, 53));
    traffic.push(seen("10.0.5.5", "239.1.2.3", 17, 9_999));
    let first = suggest(SHOP, &traffic);
    assert!(!first.rules.is_empty());
    let second = suggest(&first.text, &traffic);
    assert_eq!(
        (second.rules.len(), second.segments.len()),
        (0, 0),
        "{}",
        second.text
    );
    assert_eq!(second.text, first.text);
    assert_eq!(second.left_out, first.left_out);
}

#[test]
fn after_a_change_only_the_difference_is_proposed() {
    let first = suggest(SHOP, &shop());
    let mut traffic = shop();
    traffic.push(seen("10.0.1.10", "10.0.3.3", 17, 53));
    traffic.push(seen("10.0.1.11", "10.0.3.3", 17, 53));
    let second = suggest(&first.text, &traffic);
    let told: Vec<_> = second
        .rules
        .iter()
        .map(|r| (r.name.as_str(), r.from.as_str(), r.to.join(",")))
        .collect();
    assert_eq!(
        told,
        [("shop-web-to-dns", "shop-web", "dns-servers".to_owned())]
    );
    assert_eq!(second.segments.len(), 1);
}

#[test]
fn a_segment_of_which_few_were_seen_is_not_widened() {
    let mut text = String::from(EMPTY);
    for number in 1..=5 {
        text += &format!(
            "[[workload]]\nname = \"w{number}\"\naddresses = [\"10.0.1.{number}\"]\nlabels = {{ role = \"w\" }}\n"
        );
    }
    text += "[[segment]]\nname = \"all-w\"\nselect = \"role=w\"\nmode = \"observe\"\n";
    let one = suggest(&text, &[seen("10.0.1.1", "10.0.9.1", 6, 22)]);
    let rule = &one.rules[0];
    assert_eq!(rule.from, "all-w-ssh-clients");
    let narrower = one.segments.iter().find(|s| s.name == rule.from).unwrap();
    // It must not put its members into a stricter mode than their own.
    assert_eq!(
        (narrower.addresses.join(","), narrower.mode.name()),
        ("10.0.1.1".into(), "observe")
    );
    let three: Vec<Seen> = (1..=3)
        .map(|n| seen(&format!("10.0.1.{n}"), "10.0.9.1", 6, 22))
        .collect();
    assert_eq!(suggest(&text, &three).rules[0].from, "all-w");
}

#[test]
fn a_service_is_reused_only_where_enough_of_its_ports_were_seen() {
    let text = format!(
        "{EMPTY}[[service]]\nname = \"web\"\nports = [\"tcp/80\", \"tcp/443\"]\n[[service]]\nname = \"high\"\nports = [\"tcp/8000-8099\"]\n"
    );
    let found = suggest(
        &text,
        &[
            seen("10.0.1.1", "10.0.9.1", 6, 443),
            seen("10.0.1.1", "10.0.9.1", 6, 8_001),
        ],
    );
    let services: BTreeSet<_> = found.rules.iter().map(|r| r.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["tcp-8001", "web"]));
}

#[test]
fn ends_without_labels_are_grouped_by_what_they_serve_or_ask() {
    let mut traffic = Vec::new();
    for client in 1..=3 {
        for server in 1..=2 {
            let [client, server] = [format!("10.0.1.{client}"), format!("10.0.2.{server}")];
            traffic.push(seen(&client, &server, 6, 80));
        }
    }
    traffic.push(seen("10.0.1.1", "10.0.3.1", 6, 5432));
    let found = suggest(EMPTY, &traffic);
    let told: Vec<_> = found
        .segments
        .iter()
        .map(|s| (s.name.as_str(), s.addresses.join(",")))
        .collect();
    assert_eq!(
        told,
        [
            // One of the clients asks for more than the others: it is none of them.
            ("http-clients", "10.0.1.1".to_owned()),
            ("http-clients-2", "10.0.1.2,10.0.1.3".to_owned()),
            ("http-servers", "10.0.2.1,10.0.2.2".to_owned()),
            ("postgres-servers", "10.0.3.1".to_owned()),
        ]
    );
    assert_eq!(
        simulate(&found.text, &traffic).enforced.newly_denied.flows,
        0
    );
    let other = [seen("10.0.1.2", "10.0.3.1", 6, 5432)];
    assert_eq!(simulate(&found.text, &other).enforced.newly_denied.flows, 1);
}

#[test]
fn a_scan_is_left_out_and_told_and_so_is_what_nothing_answered() {
    let tries = u16::try_from(FAN_OUT_MAX).unwrap() + 1;
    let mut traffic: Vec<Seen> = (0..tries)
        .map(|port| Seen {
            answers: false,
            ..seen("10.0.7.7", "10.0.2.10", 6, 1_000 + port)
        })
        .collect();
    traffic.push(Seen {
        answers: false,
        ..seen("10.0.1.10", "10.0.2.99", 6, 5432)
    });
    traffic.push(seen("203.0.113.1", "198.51.100.1", 6, 443));
    let found = suggest(SHOP, &traffic);
    let told: Vec<_> = found
        .left_out
        .iter()
        .map(|left| (left.why, left.src.to_string(), left.asked))
        .collect();
    assert_eq!(
        told,
        [
            (LeftOutWhy::Scan, "10.0.7.7".to_owned(), usize::from(tries)),
            (LeftOutWhy::Unanswered, "10.0.1.10".to_owned(), 1),
            (LeftOutWhy::Outside, "203.0.113.1".to_owned(), 1),
        ]
    );
    assert_eq!((found.rules.len(), found.text.as_str()), (0, SHOP));
}

#[test]
fn multicast_and_link_local_have_segments_of_their_own() {
    let traffic = [
        Seen {
            answers: false,
            ..seen("10.0.1.10", "224.0.0.251", 17, 5353)
        },
        Seen {
            answers: false,
            ..seen("0.0.0.0", "255.255.255.255", 17, 67)
        },
        Seen {
            answers: false,
            ..seen("fe80::1", "ff02::fb", 17, 5353)
        },
        Seen {
            answers: false,
            ..seen("10.0.1.10", "10.0.1.255", 17, 138)
        },
    ];
    let found = suggest(SHOP, &traffic);
    let told: Vec<_> = found
        .segments
        .iter()
        .filter(|s| s.select.is_none())
        .map(|s| (s.name.as_str(), s.addresses.join(" ")))
        .collect();
    assert_eq!(
        told,
        [
            ("link-local", "0.0.0.0 fe80::/10".to_owned()),
            (
                "multicast",
                "10.0.1.255 224.0.0.0/4 255.255.255.255 ff00::/8".to_owned()
            ),
        ]
    );
    assert_eq!(
        simulate(&found.text, &traffic).enforced.newly_denied.flows,
        0
    );
}

#[test]
fn a_prefix_stands_before_every_new_name_once() {
    let found = suggest_as(SHOP, &shop(), "x-");
    let names = found
        .segments
        .iter()
        .map(|s| &s.name)
        .chain(found.services.iter().map(|s| &s.name))
        .chain(found.rules.iter().map(|r| &r.name));
    for name in names {
        assert!(
            name.starts_with("x-") && !name[2..].contains("x-"),
            "{name}"
        );
    }
}

#[test]
fn it_says_for_how_long_it_has_watched_and_what_is_missing() {
    let found = suggest(SHOP, &shop());
    assert_eq!(
        found.watched.lacks,
        [Lack::Days, Lack::Weekdays, Lack::Hours]
    );
    let late = Seen {
        at_ns: START_NS + 60 * MINUTE_NS,
        ..seen("10.0.1.11", "10.0.2.10", 6, 22)
    };
    let found = suggest(SHOP, &[shop(), vec![late]].concat());
    assert!(found.watched.lacks.contains(&Lack::StillLearning));
    let fortnight: Vec<Seen> = (0..14 * 24)
        .map(|hour| Seen {
            at_ns: START_NS + hour * 60 * MINUTE_NS,
            ..seen("10.0.1.10", "10.0.2.10", 6, 5432)
        })
        .collect();
    let found = suggest(SHOP, &fortnight);
    assert_eq!((found.watched.hours, found.watched.weekdays), (24, 7));
    assert_eq!(found.watched.lacks, []);
}

fn traffic() -> impl Strategy<Value = Vec<Seen>> {
    let addresses = &drawn::ADDRESSES[..];
    let one = (
        select(addresses),
        select(addresses),
        select(
            &[
                (6_u8, 80_u16),
                (6, 256),
                (6, 5432),
                (17, 53),
                (1, 0x0800),
                (47, 0),
            ][..],
        ),
        prop::bool::weighted(0.9),
        1_u64..4,
    );
    let one = one.prop_map(|(src, dst, (proto, port), answers, flows)| Seen {
        flows,
        answers,
        ..seen(src, dst, proto, port)
    });
    vec(one, 1..60)
}

/// Whatever is suggested is valid, covers everything that was seen but what it left out, leaves nothing for a second
/// run, and is the same whatever came first.
fn holds(drawn: &Drawn, traffic: &[Seen]) -> Result<(), TestCaseError> {
    let own = drawn.text();
    if policy::load(&own, "own.toml", TODAY).is_err() {
        return Ok(());
    }
    let found = suggest(&own, traffic);
    let mut backwards = traffic.to_vec();
    backwards.reverse();
    prop_assert_eq!(&suggest(&own, &backwards).text, &found.text);
    let again = suggest(&found.text, traffic);
    prop_assert_eq!(&again.text, &found.text);
    let valid = policy::load(&own, "own.toml", TODAY).unwrap();
    let compiled = policy::compile(&valid, 1, TODAY).unwrap();
    let covered = |edge: &policy::simulate::EdgeOutcome| {
        let [src, dst] = [&edge.src, &edge.dst].map(|end| drawn::bytes(&end.address.to_string()));
        let service = if edge.proto == 1 {
            acl::Service::icmp(1, 8, 0)
        } else {
            acl::Service::port(edge.proto, edge.port)
        };
        compiled.image.evaluate(&src, &dst, &service).coverage == abi::verdict::Coverage::Rule
    };
    let left: BTreeSet<_> = found.left_out.iter().map(|left| left.src).collect();
    for edge in &simulate(&found.text, traffic).edges {
        let is_denied = edge.change == Change::NewlyDenied;
        // A rule of the policy's own may deny it, and what nothing answered is left out.
        prop_assert!(
            !is_denied || covered(edge) || left.contains(&edge.src.address),
            "{edge:#?}\n{}",
            found.text
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_suggestion_covers_what_it_was_made_from(drawn in drawn(), traffic in traffic()) {
        holds(&drawn, &traffic)?;
    }
}

//! Findings about rules: by hand, and against a twin that takes each rule out and asks every case.

mod drawn;

use abi::Decision;
use acl::{PolicyImage, Service, reference};
use drawn::{ADDRESSES, Drawn, TODAY, bytes, drawn};
use jiff::ToSpan as _;
use policy::{CompiledPolicy, FindingKind, Remedy, RuleFacts, Usage, analyze, compile, load};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn compiled(text: &str) -> CompiledPolicy {
    let policy = load(text, "p.toml", TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"));
    compile(&policy, 1, TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[track_caller]
fn check(text: &str, usage: Option<&Usage>, expected: &str) {
    let findings = analyze(&compiled(text), usage);
    let line = |f: &policy::Finding| {
        let remedy = match &f.remedy {
            Remedy::Look => &*f.advice,
            Remedy::Remove => "remove",
            Remedy::Replace(_) => "replace",
        };
        format!("{} {}: {} [{remedy}]\n", f.kind, f.rule, f.because)
    };
    let found: String = findings.iter().map(line).collect();
    assert_eq!(found, expected, "\n--- found:\n{found}---");
}

const ENDS: &str = r#"
workload = [
    { name = "a1", addresses = ["10.0.0.1"], labels = { s = "a" } },
    { name = "a2", addresses = ["10.0.0.2"], labels = { s = "a" } },
    { name = "b1", addresses = ["10.0.1.1"], labels = { s = "b" } },
    { name = "b2", addresses = ["10.0.1.2"], labels = { s = "b" } },
    { name = "b3", addresses = ["10.0.1.3"], labels = { s = "b" } },
    { name = "v6", addresses = ["2001:db8::1"], labels = { s = "six" } },
]
[[segment]]
name = "a"
select = "s=a"
mode = "enforce"
[[segment]]
name = "b"
select = "s=b"
mode = "enforce"
[[segment]]
name = "six"
select = "s=six"
mode = "enforce"
[[segment]]
name = "empty"
select = "s=none"
mode = "enforce"
[[service]]
name = "ssh"
ports = ["tcp/22"]
[[service]]
name = "apps"
ports = ["tcp/8000-8099"]
"#;

fn with(rules: &[&str]) -> String {
    let rules: Vec<String> = rules.iter().map(|r| format!("    {{ {r} }},\n")).collect();
    format!("rule = [\n{}]\n{ENDS}", rules.concat())
}

#[test]
fn a_rule_that_never_decides_is_shadowed_and_one_that_changes_nothing_is_redundant() {
    check(
        &with(&[
            r#"name = "wide", from = ["a"], to = ["any"], action = "allow""#,
            r#"name = "ztwin", from = ["a"], to = ["any"], action = "allow""#,
            r#"name = "narrow", from = ["a"], to = ["b"], services = ["ssh"], action = "allow""#,
            r#"name = "low", tier = "baseline", from = ["a"], to = ["b"], action = "deny""#,
            r#"name = "rest", tier = "baseline", from = ["any"], to = ["b"], action = "deny""#,
            r#"name = "needed", from = ["b"], to = ["a"], services = ["ssh"], action = "allow""#,
        ]),
        None,
        "shadowed ztwin: wherever it matches, wide or narrow decides [remove]\n\
         shadowed low: wherever it matches, wide or narrow decides [remove]\n\
         redundant wide: without it ztwin would decide the same [remove]\n\
         redundant narrow: without it wide would decide the same [remove]\n\
         redundant rest: without it the default would decide the same [remove]\n",
    );
}

/// What `observe` lets pass anyhow is not for nothing: it is what `enforce` will let pass.
#[test]
fn an_allow_rule_of_segments_in_observe_is_not_redundant() {
    let text = with(&[
        r#"name = "needed", from = ["a"], to = ["b"], services = ["ssh"], action = "allow""#,
        r#"name = "outside", from = ["internet"], to = ["internet"], action = "allow""#,
    ]);
    check(
        &text.replace("\"enforce\"", "\"observe\""),
        None,
        "redundant outside: without it the default would decide the same [remove]\n",
    );
}

#[test]
fn a_rule_in_test_decides_what_is_pending() {
    // The deny in test shadows nothing that is enforced, and is not for nothing itself.
    check(
        &with(&[
            r#"name = "open", from = ["a"], to = ["b"], action = "allow""#,
            r#"name = "shut", from = ["a"], to = ["b"], action = "deny", mode = "test""#,
        ]),
        None,
        "conflicting open: in some cases shut of the same tier (application) wins over it \
         [if that is meant, put shut into tier guardrail]\n",
    );
}

#[test]
fn a_rule_that_nobody_can_meet_is_unmatched() {
    check(
        &with(&[
            r#"name = "none", from = ["a"], to = ["empty"], action = "allow""#,
            r#"name = "families", from = ["a"], to = ["six"], action = "allow""#,
            r#"name = "gone", from = ["a"], to = ["b"], action = "allow", expires = "2026-11-21""#,
            r#"name = "soon", from = ["a"], to = ["b"], action = "allow", expires = "2026-11-24""#,
        ]),
        None,
        "expired gone: it expired on 2026-11-21 and matches nothing [remove]\n\
         expiring soon: it expires on 2026-11-24, in 2 days [renew its date if it is still needed]\n\
         unmatched none: no address is in its from, or none that it could speak to is in its to [remove]\n\
         unmatched families: no address is in its from, or none that it could speak to is in its to [remove]\n",
    );
}

fn facts(sources: &[&str], destinations: &[&str], services: &[(u8, u16)]) -> RuleFacts {
    let addresses = |list: &[&str]| {
        list.iter()
            .map(|a| a.parse().expect("an address"))
            .collect()
    };
    RuleFacts {
        flows: 5,
        sources: addresses(sources),
        destinations: addresses(destinations),
        services: services.iter().copied().collect(),
        ..RuleFacts::default()
    }
}

fn usage(days: u64, rules: &[(&str, RuleFacts)]) -> Usage {
    Usage {
        days,
        rules: rules
            .iter()
            .map(|(name, facts)| ((*name).to_owned(), facts.clone()))
            .collect(),
    }
}

#[test]
fn use_is_judged_only_where_it_was_watched_long_enough() {
    let text = with(&[
        r#"name = "broad", owner = "ops", from = ["any"], to = ["a", "b"], action = "allow""#,
        r#"name = "idle", from = ["b"], to = ["a"], services = ["apps"], tier = "guardrail", action = "allow""#,
        r#"name = "wall", from = ["b"], to = ["a"], services = ["ssh"], action = "deny""#,
    ]);
    let seen = facts(
        &["10.0.0.1", "10.0.0.2"],
        &["10.0.1.2"],
        &[(6, 22), (6, 8001), (1, 2048)],
    );
    let short = usage(6, &[("broad", seen.clone())]);
    let conflict = "redundant idle: without it broad would decide the same [remove]\n\
         conflicting broad: in some cases wall of the same tier (application) wins over it \
         [if that is meant, put wall into tier guardrail]\n";
    check(&text, Some(&short), conflict);
    let long = usage(30, &[("broad", seen)]);
    check(
        &text,
        Some(&long),
        &format!(
            "{conflict}\
             unused idle: in the 30 days watched it decided no flow, nor would have [remove]\n\
             unused wall: in the 30 days watched it decided no flow, nor would have [keep it where it guards, else remove it]\n\
             over-broad broad: in the 30 days watched 1 of 5 workloads of its to, 2 of 131072 ports were used [replace]\n"
        ),
    );
    let findings = analyze(&compiled(&text), Some(&long));
    let Some(Remedy::Replace(tables)) = findings.last().map(|f| &f.remedy) else {
        panic!("{findings:?}");
    };
    assert_eq!(
        tables,
        r#"[[service]]
name = "broad-used"
ports = ["icmp/8/0", "tcp/8001"]

[[rule]]
name = "broad"
from = ["a"]
to = ["b"]
services = ["ssh", "broad-used"]
action = "allow"
owner = "ops"
"#
    );
    // What is proposed is a policy, and still permits what was seen.
    let narrowed = format!("{}{tables}", ENDS);
    let image = compiled(&narrowed).image;
    for service in [
        Service::port(6, 22),
        Service::port(6, 8001),
        Service::icmp(1, 8, 0),
    ] {
        let decision = image.evaluate(&bytes("10.0.0.1"), &bytes("10.0.1.2"), &service);
        assert!(decision.enforced.permits());
    }
    assert!(
        !image
            .evaluate(
                &bytes("10.0.0.1"),
                &bytes("10.0.1.2"),
                &Service::port(6, 23)
            )
            .enforced
            .permits()
    );
}

#[test]
fn a_rule_without_use_is_told_with_its_last_flow_and_one_that_came_lately_is_not_told() {
    let text = with(&[
        r#"name = "idle", from = ["a"], to = ["b"], services = ["apps"], action = "allow""#,
        r#"name = "old", from = ["a"], to = ["b"], services = ["ssh"], action = "allow""#,
        r#"name = "young", from = ["b"], to = ["a"], services = ["ssh"], action = "allow""#,
    ]);
    let known = |last_before, in_force_since| RuleFacts {
        last_before,
        in_force_since,
        ..RuleFacts::default()
    };
    let days_ago = |days: i32| TODAY.checked_sub(days.days()).expect("a day");
    let rules = [
        ("idle", known(None, Some(days_ago(7)))),
        ("old", known(Some(days_ago(40)), None)),
        ("young", known(None, Some(days_ago(6)))),
    ];
    check(
        &text,
        Some(&usage(30, &rules)),
        "unused idle: in the 30 days watched it decided no flow, nor would have; it is in force since 2026-11-15 [remove]\n\
         unused old: in the 30 days watched it decided no flow, nor would have; the last one was on 2026-10-13 [remove]\n",
    );
}

#[test]
fn a_rule_in_conflict_is_offered_without_what_the_other_denies() {
    let text = with(&[
        r#"name = "open", owner = "ops", from = ["a"], to = ["a", "b"], services = ["ssh", "apps"], action = "allow""#,
        r#"name = "shut", from = ["a"], to = ["b"], action = "deny""#,
    ]);
    let findings = analyze(&compiled(&text), None);
    let [conflict] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(conflict.kind, FindingKind::Conflicting);
    let Remedy::Replace(tables) = &conflict.remedy else {
        panic!("{conflict:?}");
    };
    assert_eq!(
        tables,
        "[[rule]]\nname = \"open\"\nfrom = [\"a\"]\nto = [\"a\"]\nservices = [\"ssh\", \"apps\"]\n\
         action = \"allow\"\nowner = \"ops\"\n"
    );
    // In its place it says the same, and nothing is found any more.
    let shut = "[[rule]]\nname = \"shut\"\nfrom = [\"a\"]\nto = [\"b\"]\naction = \"deny\"\n";
    let mended = compiled(&format!("{ENDS}{tables}{shut}"));
    assert!(
        !analyze(&mended, None)
            .iter()
            .any(|f| f.kind == FindingKind::Conflicting)
    );
    let diff = policy::diff(&compiled(&text), &mended, policy::View::Intended);
    assert_eq!(diff.reach, []);
}

#[test]
fn a_rule_that_expires_is_let_go_or_renewed_as_narrow_as_it_was_used() {
    let text = with(&[
        r#"name = "soon", from = ["a"], to = ["a", "b"], action = "allow", expires = "2026-11-24""#,
    ]);
    let expiring = |usage: Option<&Usage>| {
        let findings = analyze(&compiled(&text), usage);
        findings
            .into_iter()
            .find(|f| f.kind == FindingKind::Expiring)
            .expect("it expires")
    };
    let advice = expiring(Some(&usage(30, &[]))).advice;
    assert_eq!(advice, "let it expire: unused in the 30 days watched");
    let seen = facts(&["10.0.0.1"], &["10.0.1.2"], &[(6, 22)]);
    let found = expiring(Some(&usage(30, &[("soon", seen.clone())])));
    let Remedy::Replace(tables) = &found.remedy else {
        panic!("{found:?}");
    };
    for line in [
        "to = [\"b\"]",
        "services = [\"ssh\"]",
        "expires = \"2026-11-24\"",
    ] {
        assert!(tables.contains(line), "{tables}");
    }
    let short = expiring(Some(&usage(6, &[("soon", seen)])));
    assert_eq!(short.advice, "renew its date if it is still needed");
}

// The twin -----------------------------------------------------------------------------------------

fn every_service() -> Vec<Service> {
    let mut all: Vec<Service> = Vec::new();
    for port in [0, 80, 84, 85, 90, 91, 255, 256, 257, 1000, 1001, 65535] {
        all.push(Service::port(6, port));
    }
    all.extend([0, 53, 54].map(|port| Service::port(17, port)));
    all.extend([79, 80, 81].map(|port| Service::port(132, port)));
    all.extend([(3, 0), (8, 0), (8, 1), (8, 2)].map(|(kind, code)| Service::icmp(1, kind, code)));
    all.extend([(134, 9), (135, 0)].map(|(kind, code)| Service::icmp(58, kind, code)));
    all.extend([Service::port(47, 0), Service::port(99, 0)]);
    all
}

/// One address for each set of segments and family that any address has.
fn ends(image: &PolicyImage, policy: &policy::ValidPolicy) -> Vec<[u8; 16]> {
    let mut candidates: Vec<[u8; 16]> = ADDRESSES.iter().map(|a| bytes(a)).collect();
    let nets = policy.segments.iter().flat_map(|s| &s.addresses);
    let nets = nets.chain(policy.workloads.iter().flat_map(|w| &w.addresses));
    for net in nets.chain(&policy.internal) {
        for edge in [net.network(), net.broadcast()] {
            let (v4, bits) = match edge {
                core::net::IpAddr::V4(v4) => (true, u128::from(v4.to_ipv6_mapped())),
                core::net::IpAddr::V6(v6) => (false, u128::from(v6)),
            };
            for step in [0, 1, u128::MAX] {
                let near = bits.wrapping_add(step);
                if (near >> 32 == 0xffff) == v4 {
                    candidates.push(near.to_be_bytes());
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    candidates.retain(|address| {
        let v4 = u128::from_be_bytes(*address) >> 32 == 0xffff;
        seen.insert((v4, reference::segments(image, address)))
    });
    candidates
}

/// The verdict of every case.
fn cases(image: &PolicyImage, ends: &[[u8; 16]]) -> Vec<([u8; 16], [u8; 16], Service, Decision)> {
    let v4 = |address: &[u8; 16]| u128::from_be_bytes(*address) >> 32 == 0xffff;
    let mut cases = Vec::new();
    for src in ends {
        for dst in ends.iter().filter(|dst| v4(dst) == v4(src)) {
            for service in every_service() {
                let decision = image.evaluate(src, dst, &service);
                cases.push((*src, *dst, service, decision));
            }
        }
    }
    cases
}

/// What would happen, were every segment in enforce.
fn meant(image: &PolicyImage, ends: [&[u8; 16]; 2], decision: &Decision) -> abi::Action {
    let built_in = u32::try_from(abi::image::BUILT_IN_SEGMENTS.len()).expect("few");
    let is_in_segment = |end: &&[u8; 16]| {
        let segments = reference::segments(image, end);
        segments.iter().any(|at| *at >= built_in)
    };
    match decision.pending_source {
        abi::VerdictSource::Default if ends.iter().any(is_in_segment) => abi::Action::Deny,
        _ => decision.pending,
    }
}

/// What the definitions say about each rule.
fn expected(drawn: &Drawn) -> BTreeMap<String, FindingKind> {
    let with_all = compiled(&drawn.text());
    let image = &with_all.image;
    let ends = ends(image, with_all.policy());
    let before = cases(image, &ends);
    let mut expected = BTreeMap::new();
    for (at, rule) in image.rules().enumerate() {
        let matches = before.iter().any(|(src, dst, service, _)| {
            let [from, to] = [src, dst].map(|a| reference::segments(image, a));
            reference::matches(image, &rule, &from, &to, service)
        });
        let decides = before.iter().any(|(_, _, _, d)| {
            (d.rule_id, d.pending_rule_id).0 == rule.id || d.pending_rule_id == rule.id
        });
        if rule.expired {
            continue;
        }
        if !matches {
            expected.insert(rule.name.to_owned(), FindingKind::Unmatched);
            continue;
        }
        if !decides {
            expected.insert(rule.name.to_owned(), FindingKind::Shadowed);
            continue;
        }
        // The text without the rule, its other rules under the names that they had.
        let tables: Vec<String> = drawn.text().split("[[rule]]").map(str::to_owned).collect();
        let kept = tables
            .iter()
            .enumerate()
            .filter(|(table, _)| *table != at + 1);
        let less: Vec<String> = kept.map(|(_, text)| text.clone()).collect();
        let without = compiled(&less.join("[[rule]]"));
        let after = cases(&without.image, &ends);
        let same = before
            .iter()
            .zip(&after)
            .all(|((src, dst, _, a), (.., b))| {
                let meant_a = meant(image, [src, dst], a);
                let as_meant = meant_a == meant(&without.image, [src, dst], b);
                let limits = a.rule_id == rule.id && a.enforced == abi::Action::Limit
                    || a.pending_rule_id == rule.id && a.pending == abi::Action::Limit;
                let told =
                    (a.enforced, a.pending, a.on_change) == (b.enforced, b.pending, b.on_change);
                told && as_meant && !limits
            });
        if same {
            expected.insert(rule.name.to_owned(), FindingKind::Redundant);
        }
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_unmatched_shadowed_or_redundant_is_so_case_by_case(drawn in drawn()) {
        let found: BTreeMap<String, FindingKind> = analyze(&compiled(&drawn.text()), None)
            .into_iter()
            .filter(|f| {
                use FindingKind::{Redundant, Shadowed, Unmatched};
                [Unmatched, Shadowed, Redundant].contains(&f.kind)
            })
            .map(|f| (f.rule, f.kind))
            .collect();
        prop_assert_eq!(found, expected(&drawn), "{}", drawn.text());
    }
}

//! By hand, and against both images asked about each pair of addresses.

use super::*;
use crate::{compile, load};
use core::fmt::Write;
use drawn::{ADDRESSES, Drawn, TODAY, bytes, drawn, rule, service};
use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../tests/drawn/mod.rs"]
mod drawn;

fn compiled(text: &str) -> CompiledPolicy {
    let policy = load(text, "p.toml", TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"));
    compile(&policy, 1, TODAY).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn told(diff: &PolicyDiff) -> String {
    let mut told = String::new();
    let by = |rule: &Option<String>| rule.clone().unwrap_or_else(|| "default".to_owned());
    for row in &diff.reach {
        let (from, to) = (row.from.names.join(", "), row.to.names.join(", "));
        let (before, after) = (by(&row.rule_before), by(&row.rule_after));
        writeln!(
            told,
            "{:?} {from} -> {to}: {}: {} by {before} -> {} by {after}",
            row.turn,
            row.services.join(", "),
            row.before,
            row.after
        )
        .expect("a string");
    }
    for word in &diff.words {
        let details = word.details.join("; ");
        writeln!(
            told,
            "{} {} {}: {details}",
            word.kind, word.name, word.changed
        )
        .expect("a string");
    }
    told
}

#[track_caller]
fn check(old: &str, new: &str, view: View, expected: &str) {
    let found = told(&diff(&compiled(old), &compiled(new), view));
    assert_eq!(found, expected, "\n--- found:\n{found}---");
}

const SHOP: &str = include_str!("../../examples/shop.toml");

#[test]
fn the_same_policy_differs_in_nothing() {
    check(SHOP, SHOP, View::Intended, "");
    check(SHOP, &format!("# a comment\n{SHOP}"), View::Enforced, "");
}

#[test]
fn a_rule_that_came_opens_what_it_says() {
    let new = format!(
        "{SHOP}[[rule]]\nname = \"build-to-app\"\nfrom = [\"development\"]\nto = [\"shop-app\"]\nservices = [\"app-http\", \"ssh\"]\naction = \"allow\"\n"
    );
    check(
        SHOP,
        &new,
        View::Intended,
        "Opens development -> shop-app: app-http: deny by default -> allow by build-to-app\n\
         Opens development -> shop-app: ssh: deny by no-ssh-from-elsewhere -> allow by build-to-app\n\
         rule build-to-app added: action: allow; tier: application; from: development; to: shop-app; services: app-http, ssh; on_change: re-evaluate\n",
    );
    // Back again.
    check(
        &new,
        SHOP,
        View::Intended,
        "Closes development -> shop-app: app-http: allow by build-to-app -> deny by default\n\
         Closes development -> shop-app: ssh: allow by build-to-app -> deny by no-ssh-from-elsewhere\n\
         rule build-to-app removed: action: allow; tier: application; from: development; to: shop-app; services: app-http, ssh; on_change: re-evaluate\n",
    );
    // The application servers are in test: nothing is denied to them now, so that nothing opens.
    let enforced = diff(&compiled(SHOP), &compiled(&new), View::Enforced);
    assert_eq!(enforced.reach, []);
}

#[test]
fn a_mode_and_an_action_are_changes_too() {
    let new = SHOP
        .replace("action = \"reject\"", "action = \"deny\"")
        .replace(
            "select = \"app=shop, role=app, env=prod\"\nmode = \"test\"",
            "select = \"app=shop, role=app, env=prod\"\nmode = \"enforce\"",
        );
    check(
        SHOP,
        &new,
        View::Intended,
        "Changes development -> shop-db: any: reject by development-never-in-db -> deny by development-never-in-db\n\
         segment shop-app changed: mode: test -> enforce\n\
         rule development-never-in-db changed: action: reject -> deny\n",
    );
    let now = diff(&compiled(SHOP), &compiled(&new), View::Enforced);
    let closes = now.reach.iter().filter(|row| row.turn == Turn::Closes);
    assert!(closes.clone().count() > 0);
    assert!(
        closes
            .clone()
            .all(|row| row.after == Action::Deny && row.rule_after.is_none())
    );
}

#[test]
fn a_workload_that_moved_is_named_with_what_it_gained() {
    let new = SHOP.replace(
        "labels = { app = \"build\", role = \"ci\", env = \"dev\" }",
        "labels = { app = \"shop\", role = \"web\", env = \"prod\" }",
    );
    let found = told(&diff(&compiled(SHOP), &compiled(&new), View::Intended));
    let expected = [
        "Opens internet -> shop-web+development [build-1]: web: deny by default -> allow by customers-to-web\n",
        "Opens shop-web+development [build-1] -> shop-app: app-http: deny by default -> allow by web-to-app\n",
        "workload build-1 changed: labels: app=build, env=dev, role=ci -> app=shop, env=prod, role=web; selected by: none -> shop-web\n",
    ];
    for line in expected {
        assert!(found.contains(line), "{found}");
    }
}

/// A policy and what became of it: other rules, other modes, other members.
fn pair() -> impl Strategy<Value = (Drawn, Drawn)> {
    (drawn(), vec(rule(), 0..6), any::<u8>(), any::<u64>()).prop_map(|(old, more, what, seed)| {
        let mut new = old.clone();
        if what & 1 != 0 {
            new.rules.truncate(new.rules.len() / 2);
        }
        new.rules.extend(more);
        // Names of drawn rules come again after 16.
        new.rules.truncate(16);
        for (at, segment) in new.segments.iter_mut().enumerate() {
            if what & 2 != 0 {
                segment.0 = (segment.0 + usize::from(seed >> at & 1 == 1)) % 3;
            }
            if what & 4 != 0 && seed >> (at + 8) & 1 == 1 {
                segment.1.truncate(1);
            }
        }
        if what & 8 != 0 {
            new.workloads.pop();
        }
        if what & 16 != 0 {
            new.services.reverse();
        }
        (old, new)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_connection_that_differs_is_in_one_row_and_no_other_is(
        (old, new) in pair(),
        services in vec(service(), 12),
        enforced in any::<bool>(),
    ) {
        let view = if enforced { View::Enforced } else { View::Intended };
        let (old, new) = (compiled(&old.text()), compiled(&new.text()));
        let found = Found::of(&old, &new, view);
        let joint = |address: &str| {
            let bits = bytes(address);
            let key = (old.image.identity(&bits), new.image.identity(&bits), !address.contains(':'));
            let is = |j: &ends::Joint| (j.old, j.new) == (key.0, key.1);
            let family = found.ends.of_family(key.2);
            family.into_iter().find(|at| is(&found.ends.all[*at as usize])).expect("an end")
        };
        let rows: Vec<_> = found
            .parts
            .iter()
            .map(|(stroke, from, to)| (&found.sides.strokes[*stroke as usize], from, to))
            .collect();
        for src in ADDRESSES {
            for dst in ADDRESSES.iter().filter(|dst| dst.contains(':') == src.contains(':')) {
                let ends = (joint(src), joint(dst));
                for service in &services {
                    let [before, after] = [&old, &new].map(|policy| {
                        let reach = Reach::new(policy, view);
                        let decision = policy.image.evaluate(&bytes(src), &bytes(dst), service);
                        let of = |at: &[u8; 16]| policy.image.identity(at);
                        let governed = reach.ends.governed(of(&bytes(src)), of(&bytes(dst)));
                        match (view, decision.pending_rule_id) {
                            (View::Enforced, _) => decision.enforced,
                            (View::Intended, 0) if governed => Action::Deny,
                            (View::Intended, _) => decision.pending,
                        }
                    });
                    let class = found.sides.new.services.class_of(service);
                    let fitting: Vec<_> = rows
                        .iter()
                        .filter(|((_, set), from, to)| {
                            set.contains(&class) && from.contains(&ends.0) && to.contains(&ends.1)
                        })
                        .map(|((sign, _), _, _)| (sign.before.0, sign.after.0))
                        .collect();
                    let expected = (before != after).then_some((before.byte(), after.byte()));
                    prop_assert_eq!(fitting, Vec::from_iter(expected), "{} to {} {:?}", src, dst, service);
                }
            }
        }
    }
}

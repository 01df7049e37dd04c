//! Several people apply at once, each over the revision that they have looked at: one of them does, the others are told
//! what is in force now, and nothing is mixed, lost or broken.

use std::sync::Barrier;
use std::thread;

use ringfence_tests::command::Outcome;
use ringfence_tests::lab::{Appliance, Lab, Settings};
use ringfence_tests::suite::{Needs, Promise};
use serde_json::Value;

use crate::policies::{ALLOW, policy, rule};

/// People at once.
const APPLIERS: usize = 4;
/// How often they try.
const ROUNDS: usize = 5;

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "two_appliers::of_those_who_apply_over_one_revision_at_once_one_does",
        needs: Needs::Namespaces,
        programs: &[],
        show: of_those_who_apply_over_one_revision_at_once_one_does,
    }]
}

/// Nobody else's draft is the same.
fn draft(round: usize, applier: usize) -> String {
    let name = format!("by-{applier}-in-{round}");
    policy(
        "enforce",
        &[rule(&name, ("clients", "shop-web"), "http", ALLOW)],
    )
}

fn in_force(appliance: &Appliance<'_>) -> Value {
    appliance.json(&["policy", "show"])
}

fn entries(appliance: &Appliance<'_>) -> Vec<Value> {
    let log = appliance.json(&["policy", "log"]);
    log["entries"].as_array().cloned().unwrap_or_default()
}

fn of_those_who_apply_over_one_revision_at_once_one_does() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings {
        policy: Some(draft(0, 0)),
        ..Settings::default()
    });
    for round in 1..=ROUNDS {
        one_of_them(&lab, &appliance, round);
    }
    let _ = appliance.cli(&["policy", "log", "--verify"]).must();
    let adopted = entries(&appliance)
        .iter()
        .filter(|e| e["outcome"] == "adopted")
        .count();
    assert_eq!(adopted, 1 + ROUNDS, "the first, and one of each round");
    appliance.finish();
}

fn one_of_them(lab: &Lab, appliance: &Appliance<'_>, round: usize) {
    let before = in_force(appliance);
    let seen = before["revision"].as_str().expect("a revision");
    let start = Barrier::new(APPLIERS);
    let apply = |applier: usize| -> Outcome {
        let name = format!("draft-{applier}.toml");
        let draft = lab.file(&name, draft(round, applier)).display().to_string();
        start.wait();
        let note = format!("applier {applier}");
        appliance.cli(&[
            "policy",
            "apply",
            &draft,
            "--if-revision",
            seen,
            "-m",
            &note,
        ])
    };
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let apply = &apply;
        let all: Vec<_> = (0..APPLIERS)
            .map(|a| scope.spawn(move || apply(a)))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("ended"))
            .collect()
    });
    let winners: Vec<usize> = (0..APPLIERS).filter(|a| outcomes[*a].ok()).collect();
    let [winner] = winners[..] else {
        panic!("{winners:?} of round {round} applied: {outcomes:#?}")
    };
    for loser in outcomes.iter().filter(|outcome| !outcome.ok()) {
        assert_eq!(loser.code, Some(4), "{loser}");
        // Either the other was under way, or was done.
        let says = |words: &str| loser.stderr.contains(words);
        assert!(says("another change") || says("in force"), "{loser}");
    }
    let after = in_force(appliance);
    assert_ne!(after["revision"], before["revision"]);
    let text = after["text"].as_str().expect("a text");
    assert_eq!(text, draft(round, winner), "the winner's text, whole");
    let last = entries(appliance)
        .into_iter()
        .rfind(|e| e["outcome"] == "adopted");
    let last = last.expect("an entry");
    assert_eq!(
        (&last["revision"], &last["note"]),
        (&after["revision"], &format!("applier {winner}").into())
    );
}

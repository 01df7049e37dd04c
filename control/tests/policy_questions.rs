//! `ringfence-control --policy-question`: answers about policies from texts alone.

use std::io::Write;
use std::process::{Command, Stdio};

use api::reach::{Analysis, BlastRadius, PolicyDiff, Turn};
use serde_json::{Value, json};

const SHOP: &str = include_str!("../policy/examples/shop.toml");

/// Exit code and what is on standard output.
fn ask(question: &str, asked: &Value) -> (Option<i32>, Vec<u8>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringfence-control"))
        .arg(format!("--policy-question={question}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin
        .write_all(asked.to_string().as_bytes())
        .expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), output.stdout)
}

fn text(text: &str) -> Value {
    json!({ "text": text, "file_name": "shop.toml" })
}

#[test]
fn two_texts_are_compared_without_a_process_or_state() {
    let open = "[[rule]]\nname = \"build-to-db\"\ntier = \"guardrail\"\nfrom = [\"office\"]\nto = [\"shop-db\"]\nservices = [\"postgres\"]\naction = \"allow\"\n[[invariant]]\nname = \"office-keeps-out\"\nnever = { from = \"office\", to = \"shop-db\", services = [\"postgres\"] }\n";
    let new = format!("{SHOP}{open}");
    let (code, answer) = ask("diff", &json!({ "old": text(SHOP), "new": text(&new) }));
    assert_eq!(code, Some(0));
    let diff: PolicyDiff = serde_json::from_slice(&answer).expect("the API's answer");
    let rows: Vec<_> = diff
        .reach
        .iter()
        .map(|row| {
            (
                row.turn,
                row.from.names.join(","),
                row.to.names.join(","),
                row.services.join(","),
            )
        })
        .collect();
    let expected = (
        Turn::Opens,
        "office".into(),
        "shop-db".into(),
        "postgres".into(),
    );
    assert_eq!(rows, [expected]);
    assert_eq!(diff.newly_broken.len(), 1);
    assert_eq!(
        diff.newly_broken[0].paths[0].told,
        "office -> shop-db (rule build-to-db, postgres)"
    );
    let (_, answer) = ask("diff", &json!({ "old": text(&new), "new": text(SHOP) }));
    let back: PolicyDiff = serde_json::from_slice(&answer).expect("the API's answer");
    // It is gone with the rule, so that nothing is mended.
    assert_eq!((back.reach[0].turn, back.mended.len()), (Turn::Closes, 0));
}

#[test]
fn blast_and_analysis_are_answered_alone_and_say_what_they_lack() {
    let asked = json!({ "policy": text(SHOP), "segment": "shop-web" });
    let (code, answer) = ask("blast", &asked);
    assert_eq!(code, Some(0));
    let radius: BlastRadius = serde_json::from_slice(&answer).expect("the API's answer");
    let first = &radius.segments[0].rings[0];
    assert_eq!(
        (first.workloads, first.segments.join(",")),
        (2, "shop-app".to_owned())
    );
    let (code, answer) = ask("analyze", &json!({ "policy": text(SHOP) }));
    assert_eq!(code, Some(0));
    let analysis: Analysis = serde_json::from_slice(&answer).expect("the API's answer");
    assert_eq!(analysis.rules, 8);
    assert!(
        analysis
            .use_not_judged
            .contains("no control process was asked")
    );
}

#[test]
fn what_cannot_be_answered_alone_is_refused_in_words() {
    let refused = |question: &str, asked: &Value| {
        let (code, answer) = ask(question, asked);
        assert_eq!(code, Some(1), "{asked}");
        let body: api::ErrorBody = serde_json::from_slice(&answer).expect("an error body");
        body.error.message
    };
    let revision = json!({ "old": { "revision": "in-force" }, "new": text(SHOP) });
    assert!(refused("diff", &revision).contains("revisions are kept by the control process"));
    let segment = json!({ "policy": text(SHOP), "segment": "shop-wbe" });
    assert!(refused("blast", &segment).contains("there is no segment `shop-wbe`"));
    let invalid = json!({ "policy": text("rule = 1") });
    assert!(refused("analyze", &invalid).contains("shop.toml is not valid"));
    let hops = json!({ "policy": text(SHOP), "hops": 17 });
    assert!(refused("blast", &hops).contains("hops is 17"));
    assert!(refused("blast", &json!({ "policies": 1 })).contains("unknown field"));
}

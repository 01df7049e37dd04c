//! `policy diff`, `policy blast` and `policy analyze`: what they ask, print and answer.
//! `UPDATE_GOLDEN=1 cargo test -p ringfence` writes the golden files anew.

#![forbid(unsafe_code)]

mod fixtures;

use api::endpoint;
use api::reach::{
    Analysis, Blast, BlastRadius, Changed, EndSet, Finding, PolicyDiff, ReachChange, Ring, Turn,
    View, WordChange,
};
use api::words::Action;
use cli::page::Page;
use cli::print;
use fixtures::REVISION;
use fixtures::server::Server;

#[track_caller]
fn check(name: &str, page: &Page) {
    let path = fixtures::golden_path(name);
    let found = page.render(false);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).expect("golden files can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name} differs from {}", path.display());
}

fn ends(names: &[&str]) -> EndSet {
    EndSet {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        workloads: 2,
    }
}

fn diff() -> PolicyDiff {
    let row = |turn, from: &[&str], service: &str, (before, after)| ReachChange {
        turn,
        from: ends(from),
        to: ends(&["shop-app"]),
        services: vec![service.to_owned()],
        before,
        rule_before: None,
        after,
        rule_after: Some("build-to-app".to_owned()),
    };
    PolicyDiff {
        old_revision: format!("a0d3e8f1b2c4{}", "0".repeat(52)),
        new_revision: REVISION.to_owned(),
        view: View::Intended,
        reach: vec![
            row(
                Turn::Opens,
                &["development", "monitoring"],
                "ssh",
                (Action::Deny, Action::Allow),
            ),
            row(
                Turn::Closes,
                &["shop-web+development [build-1 and 2 more]"],
                "tcp/1-5431, tcp/5433-65535",
                (Action::Allow, Action::Reject),
            ),
        ],
        changes: vec![
            WordChange {
                kind: "segment".to_owned(),
                name: "shop-app".to_owned(),
                changed: Changed::Altered,
                details: vec!["mode: test -> enforce".to_owned()],
            },
            WordChange {
                kind: "rule".to_owned(),
                name: "build-to-app".to_owned(),
                changed: Changed::Added,
                details: vec!["action: allow".to_owned(), "from: development".to_owned()],
            },
        ],
        newly_broken: vec![fixtures::broken_invariant()],
        mended: vec!["tills-apart".to_owned()],
    }
}

fn blast(draft: bool) -> BlastRadius {
    let ring = |workloads, segments: &[&str], internet| Ring {
        workloads,
        segments: segments.iter().map(|name| (*name).to_owned()).collect(),
        internet,
        unmanaged: false,
    };
    let of = |segment: &str, rings: Vec<Ring>| Blast {
        segment: segment.to_owned(),
        workloads: 2,
        among: segment == "shop-web",
        rings,
    };
    let web = of(
        "shop-web",
        vec![
            ring(2, &["shop-app"], false),
            ring(3, &["shop-app", "shop-db"], false),
            ring(3, &["shop-app", "shop-db"], true),
        ],
    );
    let none = of("shop-db", vec![Ring::default(); 3]);
    let mut narrower = web.clone();
    narrower.rings[1] = ring(2, &["shop-app"], false);
    narrower.rings[2] = ring(2, &["shop-app"], false);
    BlastRadius {
        view: View::Intended,
        segments: vec![web, none.clone()],
        draft: draft.then(|| vec![narrower, none]),
    }
}

fn analysis() -> Analysis {
    let finding = |kind: &str, rule: &str, because: &str, replace: Option<&str>| Finding {
        rule: rule.to_owned(),
        line: 41,
        kind: kind.to_owned(),
        because: because.to_owned(),
        others: Vec::new(),
        remove: replace.is_none(),
        replace: replace.map(str::to_owned),
        advice: match replace {
            Some(_) => "narrow it, see below",
            None => "remove it",
        }
        .to_owned(),
    };
    Analysis {
        revision: REVISION.to_owned(),
        rules: 9,
        days_watched: 30,
        use_not_judged: String::new(),
        findings: vec![
            finding(
                "shadowed",
                "web-to-db-old",
                "wherever it matches, web-to-db decides",
                None,
            ),
            finding(
                "over-broad",
                "ops",
                "in the 30 days watched 1 of 5 workloads of its to, 2 of 131072 ports were used",
                Some(
                    "[[rule]]\nname = \"ops\"\nfrom = [\"office\"]\nto = [\"shop-db\"]\nservices = [\"ssh\"]\naction = \"allow\"\n",
                ),
            ),
        ],
    }
}

#[test]
fn a_diff_says_what_opens_what_closes_and_what_is_written_differently() {
    check(
        "policy-diff",
        &print::policy_diff(("in-force", "draft.toml"), &diff()),
    );
    let same = PolicyDiff {
        view: View::Enforced,
        ..PolicyDiff::default()
    };
    check(
        "policy-diff-none",
        &print::policy_diff(("a.toml", "b.toml"), &same),
    );
}

#[test]
fn a_blast_radius_is_a_line_a_segment_and_names_the_segments_of_one() {
    check("policy-blast", &print::blast(&blast(false)));
    check("policy-blast-draft", &print::blast(&blast(true)));
    let mut one = blast(false);
    one.segments.truncate(1);
    check("policy-blast-one", &print::blast(&one));
}

#[test]
fn an_analysis_ends_with_the_rules_that_would_do() {
    check("policy-analyze", &print::analysis(&analysis()));
    let nothing = Analysis {
        use_not_judged: "history holds nothing".to_owned(),
        revision: REVISION.to_owned(),
        rules: 1,
        ..Analysis::default()
    };
    check("policy-analyze-none", &print::analysis(&nothing));
}

#[test]
fn a_difference_is_answered_with_1_and_none_with_0() {
    let server = Server::start();
    server.json("POST", endpoint::POLICY_DIFF, &diff());
    let draft = server
        .file("draft.toml", "[policy]\n")
        .display()
        .to_string();
    let ended = server.run(&["policy", "diff", &draft]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("dev -> jump (rule dev-to-jump, ssh)"),
        "{ended:?}"
    );
    let asked: serde_json::Value = serde_json::from_str(&server.asked()[0].2).expect("JSON");
    assert_eq!(asked["old"]["revision"], "in-force");
    assert_eq!(asked["new"]["text"], "[policy]\n");
    assert_eq!(asked["view"], "intended");
    server.json("POST", endpoint::POLICY_DIFF, &PolicyDiff::default());
    let ended = server.run(&[
        "policy",
        "diff",
        "3f9c0a",
        "previous",
        "--enforced",
        "--json",
    ]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    let asked: serde_json::Value = serde_json::from_str(&server.asked()[0].2).expect("JSON");
    assert_eq!(asked["old"]["revision"], "3f9c0a");
    assert_eq!(
        (&asked["new"]["revision"], &asked["view"]),
        (&"previous".into(), &"enforced".into())
    );
}

#[test]
fn blast_and_analyze_ask_about_the_policy_in_force_where_no_other_is_named() {
    let server = Server::start();
    server.json("POST", endpoint::POLICY_BLAST, &blast(false));
    server.json("POST", endpoint::POLICY_ANALYZE, &analysis());
    assert_eq!(server.run(&["policy", "blast", "shop-web"]).code, Some(0));
    assert_eq!(
        server.run(&["policy", "analyze", "--since", "30d"]).code,
        Some(0)
    );
    let asked = server.asked();
    let bodies: Vec<serde_json::Value> = asked
        .iter()
        .map(|question| serde_json::from_str(&question.2).expect("JSON"))
        .collect();
    assert_eq!(bodies[0]["policy"]["revision"], "in-force");
    assert_eq!(
        (&bodies[0]["segment"], &bodies[0]["hops"]),
        (&"shop-web".into(), &3.into())
    );
    assert_eq!(bodies[1]["since"], "30d");
}

#[test]
fn what_is_neither_a_file_nor_a_revision_is_refused() {
    let server = Server::start();
    for arguments in [
        &["policy", "diff", "no-such.toml"][..],
        &["policy", "blast", "--policy", "abc"],
    ] {
        let ended = server.run(arguments);
        assert_eq!(ended.code, Some(4), "{ended:?}");
        assert!(ended.stderr.contains("cannot read"), "{ended:?}");
    }
    assert_eq!(
        server.run(&["policy", "blast", "--hops", "17"]).code,
        Some(2)
    );
    assert_eq!(server.asked(), []);
}

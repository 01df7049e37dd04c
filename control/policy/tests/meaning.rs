//! The truth tables of the README, line by line, and the days on which rules end.

use abi::verdict::Coverage;
use acl::{PolicyImage, Service};
use jiff::civil::{Date, date};
use policy::{compile, load};
use std::sync::Arc;

const TODAY: Date = date(2026, 11, 22);

fn image(text: &str, today: Date) -> Arc<PolicyImage> {
    let policy = load(text, "meaning.toml", today).unwrap_or_else(|errors| panic!("{errors}"));
    compile(&policy, 1, today).expect("it compiles").image
}

/// Two segments in these modes, and rules from the first to the second.
fn policy(modes: [&str; 2], rules: &[&str]) -> String {
    let segment = |name: &str, net: &str, mode: &str| {
        format!("[[segment]]\nname = \"{name}\"\naddresses = [\"{net}\"]\nmode = \"{mode}\"\n")
    };
    let mut text = segment("a", "10.1.0.0/16", modes[0]) + &segment("b", "10.2.0.0/16", modes[1]);
    for (at, rule) in rules.iter().enumerate() {
        text += &format!("[[rule]]\nname = \"r{at}\"\nfrom = [\"a\"]\nto = [\"b\"]\n{rule}\n");
    }
    text
}

/// `enforced, pending` of a flow from the first segment to the second.
fn verdict(image: &PolicyImage) -> (String, Coverage) {
    let [src, dst] = [[10, 1, 0, 1], [10, 2, 0, 1]]
        .map(|a| core::net::Ipv4Addr::from(a).to_ipv6_mapped().octets());
    let decision = image.evaluate(&src, &dst, &Service::port(6, 80));
    (
        format!("{}, {}", decision.enforced, decision.pending),
        decision.coverage,
    )
}

/// Verdicts where M is observe, test and enforce, whichever end is the stricter.
fn row(rules: &[&str]) -> [String; 3] {
    ["observe", "test", "enforce"].map(|mode| {
        let one = verdict(&image(&policy([mode, "observe"], rules), TODAY));
        let other = verdict(&image(&policy(["observe", mode], rules), TODAY));
        assert_eq!(one, other, "either end may be the stricter");
        let covered = if rules.is_empty() {
            Coverage::Uncovered
        } else {
            Coverage::Rule
        };
        assert_eq!(one.1, covered);
        one.0
    })
}

const ALLOW: &str = "action = \"allow\"";
const DENY: &str = "action = \"deny\"";
const REJECT: &str = "action = \"reject\"";
const LIMIT: &str = "action = \"limit\"\nrate = \"1pps\"";
const IN_TEST: &str = "mode = \"test\"";
const ENFORCED: &str = "mode = \"enforce\"";

#[test]
fn without_a_rule_the_modes_decide() {
    assert_eq!(row(&[]), ["allow, allow", "allow, deny", "deny, deny"]);
}

#[test]
fn an_allow_rule_takes_effect_everywhere() {
    assert_eq!(
        row(&[ALLOW]),
        ["allow, allow", "allow, allow", "allow, allow"]
    );
    let tested = format!("{ALLOW}\n{IN_TEST}");
    assert_eq!(
        row(&[&tested]),
        ["allow, allow", "allow, allow", "deny, allow"]
    );
}

#[test]
fn a_deny_rule_takes_effect_where_an_end_enforces_or_it_says_so_itself() {
    assert_eq!(
        row(&[ALLOW, DENY]),
        ["allow, deny", "allow, deny", "deny, deny"]
    );
    let tested = format!("{DENY}\n{IN_TEST}");
    assert_eq!(
        row(&[ALLOW, &tested]),
        ["allow, deny", "allow, deny", "allow, deny"]
    );
    let enforced = format!("{DENY}\n{ENFORCED}");
    assert_eq!(
        row(&[ALLOW, &enforced]),
        ["deny, deny", "deny, deny", "deny, deny"]
    );
}

#[test]
fn deny_beats_reject_beats_limit_beats_allow_in_any_order() {
    let strongest_of = |rules: &[&str]| row(rules)[2].clone();
    for rules in [[DENY, REJECT, LIMIT, ALLOW], [ALLOW, LIMIT, REJECT, DENY]] {
        assert_eq!(strongest_of(&rules), "deny, deny");
    }
    assert_eq!(strongest_of(&[ALLOW, REJECT, LIMIT]), "reject, reject");
    assert_eq!(strongest_of(&[ALLOW, LIMIT]), "limit, limit");
}

#[test]
fn the_first_tier_with_a_match_decides() {
    let guardrail = format!("{ALLOW}\ntier = \"guardrail\"");
    let baseline = format!("{DENY}\ntier = \"baseline\"");
    assert_eq!(row(&[DENY, &guardrail])[2], "allow, allow");
    assert_eq!(row(&[ALLOW, &baseline])[2], "allow, allow");
    // What takes no effect shadows nothing: in observe the guardrail's deny lets the allow decide.
    let closed = format!("{DENY}\ntier = \"guardrail\"");
    assert_eq!(
        row(&[&closed, ALLOW]),
        ["allow, deny", "allow, deny", "deny, deny"]
    );
}

#[test]
fn a_rule_matches_through_its_last_day_and_no_longer() {
    let rule = format!("{ALLOW}\nexpires = \"2026-11-22\"");
    let text = policy(["enforce", "enforce"], &[&rule]);
    let today = image(&text, TODAY);
    assert_eq!(verdict(&today).0, "allow, allow");
    let tomorrow = date(2026, 11, 23);
    let days = (tomorrow - date(1970, 1, 1)).get_days();
    assert_eq!(today.next_expiry_day(), u32::try_from(days).ok());
    let later = image(&text, tomorrow);
    assert_eq!(verdict(&later), ("deny, deny".into(), Coverage::Uncovered));
    assert_eq!(later.next_expiry_day(), None);
}

#[test]
fn the_lowest_name_is_the_one_that_is_named() {
    let text = policy(["enforce", "enforce"], &[ALLOW, ALLOW, ALLOW])
        .replace("\"r0\"", "\"zebra\"")
        .replace("\"r1\"", "\"aardvark\"");
    let image = image(&text, TODAY);
    let [src, dst] = [[10, 1, 0, 1], [10, 2, 0, 1]]
        .map(|a| core::net::Ipv4Addr::from(a).to_ipv6_mapped().octets());
    let decision = image.evaluate(&src, &dst, &Service::port(6, 80));
    assert_eq!(
        image.rule_by_id(decision.rule_id).expect("a rule").name,
        "aardvark"
    );
}

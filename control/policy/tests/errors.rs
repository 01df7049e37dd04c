//! Every error and warning as people read it: file, line, column, what, how to mend.

use jiff::civil::{Date, date};
use policy::load;

const TODAY: Date = date(2026, 11, 22);

/// A policy that nothing can be said about; tests append to it.
const GOOD: &str = r#"[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { app = "shop" }
[[segment]]
name = "web"
select = "app=shop"
mode = "test"
[[service]]
name = "http"
ports = ["tcp/80"]
[[rule]]
name = "to-web"
from = ["any"]
to = ["web"]
services = ["http"]
action = "allow"
"#;

/// Errors or warnings of a text, one after the other.
fn told(text: &str) -> String {
    match load(text, "p.toml", TODAY) {
        Err(errors) => errors.to_string(),
        Ok(policy) => {
            let texts: Vec<_> = policy.warnings.iter().map(|w| w.text("p.toml")).collect();
            texts.join("\n")
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let found = told(text);
    assert_eq!(found.trim(), expected.trim(), "\n--- found:\n{found}\n---");
}

/// The same for lines appended to the good policy, which has 17 lines: `more` begins on line 18.
#[track_caller]
fn check_more(more: &str, expected: &str) {
    check(&format!("{GOOD}{more}"), expected);
}

#[test]
fn a_good_policy_is_not_talked_about() {
    check(GOOD, "");
}

#[test]
fn an_empty_policy_is_an_error_and_one_without_segment_is_warned_of() {
    let empty = r#"p.toml:1:1: error: the policy is empty: it has no table
    look whether it is the right file; to enforce nothing on purpose write [policy] with a name
"#;
    for text in ["", "\n\n", "# nothing but a comment\n"] {
        check(text, empty);
    }
    let warning = r#"p.toml:1:1: warning: no segment: nothing is enforced
    add a [[segment]] with mode = "enforce" and the rules it needs; until then every flow passes that no rule in enforce denies
"#;
    check("[policy]\nname = \"nothing\"\n", warning);
    let rule =
        "[[rule]]\nname = \"r\"\nfrom = [\"internet\"]\nto = [\"unmanaged\"]\naction = \"deny\"\n";
    check(rule, warning);
    // A rule in enforce denies without any segment.
    check(&format!("{rule}mode = \"enforce\"\n"), "");
}

#[test]
fn all_errors_are_told_by_line() {
    check(
        r#"[[segment]]
nmae = "web"
select = "app=shop"
mode = "observe"
[[rule]]
name = "r"
tier = "guardrails"
from = []
to = ["wbe"]
action = "block"
"#,
        r#"p.toml:1:1: error: this segment has no `name`
    add name = "..."; records, metrics and explain speak of it by name
p.toml:2:1: error: [[segment]] has an unknown key `nmae`
    did you mean `name`?
p.toml:3:10: warning: segment `?` selects no workload: no workload has the labels app=shop
    mend the selector or the labels; until then the segment is empty
p.toml:7:8: error: rule `r`: unknown tier `guardrails`
    did you mean `guardrail`?
p.toml:8:8: error: rule `r`: `from` is empty
    name at least one segment; any, internet and unmanaged are always there
p.toml:9:7: error: rule `r`: unknown segment `wbe` in `to`
    add a [[segment]] of this name, or use any, internet or unmanaged
p.toml:10:10: error: rule `r`: unknown action `block`
    it may be allow, deny, reject, limit
"#,
    );
}

#[test]
fn what_is_not_toml_is_told_where() {
    check(
        r#"[[rule]]
name = "r
from = ["any"]
"#,
        r#"p.toml:2:10: error: not TOML: invalid basic string, expected `"`
    mend the TOML here; nothing else was checked
"#,
    );
}

#[test]
fn keys_given_twice_are_told() {
    check_more(
        r#"[[rule]]
name = "r"
from = ["any"]
to = ["web"]
action = "allow"
action = "deny"
"#,
        r#"p.toml:23:1: error: not TOML: duplicate key
    mend the TOML here; nothing else was checked
"#,
    );
}

#[test]
fn unknown_keys_and_tables_name_the_nearest() {
    check_more(
        r#"[[rules]]
name = "x"
[policy]
nmae = "p"
[[service]]
name = "s"
ports = ["udp/53"]
colour = "red"
"#,
        r#"p.toml:18:3: error: unknown table `rules`
    did you mean `rule`?
p.toml:21:1: error: [policy] has an unknown key `nmae`
    did you mean `name`?
p.toml:25:1: error: [[service]] has an unknown key `colour`
    known keys are name, ports, comment
"#,
    );
}

#[test]
fn wrong_types_say_what_to_write() {
    check(
        r#"[policy]
name = 3
[[segment]]
name = "s"
mode = true
addresses = "10.0.0.0/8"
[[rule]]
name = "r"
from = "any"
to = ["any", 1]
action = "limit"
rate = 100
burst = "many"
[service]
name = "x"
"#,
        r#"p.toml:2:8: error: [policy]: `name` is a number
    write a string in quotes
p.toml:5:8: error: [[segment]]: `mode` is true or false
    write a string in quotes
p.toml:6:13: error: [[segment]]: `addresses` is a string
    write a list of strings in quotes: ["one", "two"]
p.toml:9:8: error: [[rule]]: `from` is a string
    write a list of strings in quotes: ["one", "two"]
p.toml:10:14: error: [[rule]]: `to` is a number
    write a list of strings in quotes: ["one", "two"]
p.toml:12:8: error: [[rule]]: `rate` is a number
    write a string in quotes
p.toml:13:9: error: [[rule]]: `burst` is a string
    write a whole number
p.toml:14:1: error: the policy: `service` is a table
    write [[double brackets]]
"#,
    );
}

#[test]
fn a_missing_mode_explains_the_three() {
    check_more(
        r#"[[segment]]
name = "db"
addresses = ["10.0.2.0/24"]
"#,
        r#"p.toml:18:1: error: segment `db` has no mode
    add mode = "observe" (nothing is denied, uncovered flows are marked), "test" (nothing is denied, what would be is recorded) or "enforce" (what no rule allows is denied)
"#,
    );
}

#[test]
fn a_rule_that_limits_without_rate_is_one_error() {
    check_more(
        r#"[[rule]]
name = "r"
from = ["any"]
to = ["web"]
action = "limit"
rate = 5
"#,
        r#"p.toml:23:8: error: [[rule]]: `rate` is a number
    write a string in quotes
"#,
    );
}

#[test]
fn missing_keys_say_what_to_add() {
    check_more(
        r#"[[workload]]
[[service]]
[[rule]]
[[invariant]]
[[invariant]]
name = "i"
never = { to = "web" }
"#,
        r#"p.toml:18:1: error: this workload has no `name`
    add name = "..."; records, metrics and explain speak of it by name
p.toml:18:1: error: this workload has no `addresses`
    add addresses = ["10.0.1.10"], or dns = ["db.example.internal"]
p.toml:19:1: error: this service has no `name`
    add name = "..."; records, metrics and explain speak of it by name
p.toml:19:1: error: this service has no `ports`
    add ports = ["tcp/5432"]
p.toml:20:1: error: this rule has no `name`
    add name = "..."; records, metrics and explain speak of it by name
p.toml:20:1: error: this rule has no `from`
    add from = ["..."], the segments that may initiate; any is always there
p.toml:20:1: error: this rule has no `to`
    add to = ["..."], the segments that may be reached; any is always there
p.toml:20:1: error: this rule has no `action`
    add action = "allow", "deny", "reject" or "limit"
p.toml:21:1: error: this invariant has no `name`
    add name = "..."; records, metrics and explain speak of it by name
p.toml:21:1: error: this invariant has no `never`
    add never = { from = "dev", to = "cardholder", hops = 3 }
p.toml:24:9: error: this invariant has no `from`
    add from and to, one segment each
"#,
    );
}

#[test]
fn two_alike_name_both_lines() {
    check_more(
        r#"[[workload]]
name = "web-1"
addresses = ["10.0.1.11"]
labels = { app = "shop" }
[[segment]]
name = "web"
select = "app=shop"
mode = "test"
[[service]]
name = "http"
ports = ["tcp/81"]
[[rule]]
name = "to-web"
from = ["any"]
to = ["web"]
action = "allow"
"#,
        r#"p.toml:19:8: error: two workloads are named `web-1`, the first on line 2
    give it another name
p.toml:23:8: error: two segments are named `web`, the first on line 6
    give it another name
p.toml:27:8: error: two services are named `http`, the first on line 10
    give it another name
p.toml:30:8: error: two rules are named `to-web`, the first on line 13
    give it another name
"#,
    );
}

#[test]
fn an_address_in_two_workloads_names_both() {
    check_more(
        r#"[[workload]]
name = "web-2"
addresses = ["10.0.1.10", "2001:db8::1"]
labels = { app = "shop" }
[[workload]]
name = "web-3"
addresses = ["10.0.1.0/28", "2001:db8::/64"]
labels = { app = "shop" }
"#,
        r#"p.toml:22:1: error: workload `web-3`: address 2001:db8::1 belongs to workload `web-2` (line 18) as well
    an address belongs to one workload: remove it from one of the two
p.toml:22:1: error: workload `web-3`: address 10.0.1.10 belongs to workload `web-1` (line 1) as well
    an address belongs to one workload: remove it from one of the two
p.toml:22:1: error: workload `web-3`: address 10.0.1.10 belongs to workload `web-2` (line 18) as well
    an address belongs to one workload: remove it from one of the two
"#,
    );
}

#[test]
fn bad_prefixes_say_the_right_one() {
    check_more(
        r#"[[segment]]
name = "db"
addresses = ["10.0.2.7/24", "10.0.2.300", "::ffff:10.0.0.1", "2001:db8::1/64"]
mode = "test"
"#,
        r#"p.toml:20:14: error: segment `db`: `10.0.2.7/24` has host bits set
    write 10.0.2.0/24 for the whole prefix, or 10.0.2.7 for the one address
p.toml:20:29: error: segment `db`: `10.0.2.300` is neither an address nor a prefix
    write an address (10.0.1.10, 2001:db8::10) or a prefix (10.0.1.0/24)
p.toml:20:43: error: segment `db`: `::ffff:10.0.0.1` is an IPv4 address in IPv6 form
    write it as IPv4
p.toml:20:62: error: segment `db`: `2001:db8::1/64` has host bits set
    write 2001:db8::/64 for the whole prefix, or 2001:db8::1 for the one address
"#,
    );
}

#[test]
fn names_are_words() {
    check_more(
        r#"[[segment]]
name = "web servers"
select = "app=shop"
mode = "test"
[[segment]]
name = "any"
select = "app=shop"
mode = "test"
[[service]]
name = "any"
ports = ["any"]
[[workload]]
name = ""
addresses = ["10.0.1.11"]
labels = { app = "sh op", "k\n" = "v" }
"#,
        r#"p.toml:19:8: error: `web servers` cannot name a segment
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
p.toml:23:8: error: segment `any`: this name is built in
    give it another name
p.toml:27:8: error: service `any`: this name is built in
    give it another name
p.toml:30:8: error: `` cannot name a workload
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
p.toml:32:18: error: workload ``: `sh op` cannot be a label or its value
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
p.toml:32:27: error: workload ``: `k\n` cannot be a label or its value
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
"#,
    );
}

#[test]
fn bad_selectors_say_what_was_expected() {
    check_more(
        r#"[[segment]]
name = "a"
select = "app shop"
mode = "test"
[[segment]]
name = "b"
select = ""
mode = "test"
[[segment]]
name = "c"
select = "role in (web"
mode = "test"
"#,
        r#"p.toml:20:10: error: segment `a`: expected `=`, `!=`, `in`, `notin` or `exists` at "shop"
    write e.g. "app=shop, role in (web, api), env!=dev, tier exists, !old exists"
p.toml:24:10: error: segment `b`: the selector is empty
    write e.g. "app=shop, role in (web, api), env!=dev, tier exists, !old exists"
p.toml:28:10: error: segment `c`: expected a comma or `)` at ""
    write e.g. "app=shop, role in (web, api), env!=dev, tier exists, !old exists"
"#,
    );
}

#[test]
fn membership_is_said_once() {
    check_more(
        r#"[[segment]]
name = "a"
select = "app=shop"
addresses = ["10.0.1.0/24"]
mode = "test"
[[segment]]
name = "b"
mode = "test"
[[segment]]
name = "c"
addresses = []
mode = "tset"
"#,
        r#"p.toml:20:10: error: segment `a` has both `select` and `addresses`
    keep one, and make a second segment of the other; a rule may name both
p.toml:23:1: error: segment `b` has neither `select` nor `addresses`
    add select = "app=shop" or addresses = ["10.0.1.0/24"]
p.toml:28:13: error: segment `c`: `addresses` is empty
    write e.g. addresses = ["10.0.1.10"]
p.toml:29:8: error: segment `c`: unknown mode `tset`
    did you mean `test`?
"#,
    );
}

#[test]
fn bad_ports_say_how_to_write_them() {
    check_more(
        r#"[[service]]
name = "s"
ports = ["tcp/99999", "udp/20-10", "icmp/ehco", "gre", "proto/300"]
[[service]]
name = "empty"
ports = []
"#,
        r#"p.toml:20:10: error: service `s`: `tcp/99999`: not a port from 0 to 65535, nor a range of them
    write tcp/5432, tcp/8000-8099 or tcp/any
p.toml:20:23: error: service `s`: `udp/20-10`: the range ends before it begins
    write the lower port first
p.toml:20:36: error: service `s`: `icmp/ehco`: unknown icmp type
    did you mean `echo`?
p.toml:20:49: error: service `s`: `gre`: unknown protocol
    write tcp/PORT, udp/PORT, sctp/PORT, icmp/TYPE, icmpv6/TYPE, proto/NUMBER or any
p.toml:20:56: error: service `s`: `proto/300`: not a protocol number from 0 to 255
    write proto/47 for GRE, proto/50 for ESP
p.toml:23:9: error: service `empty`: `ports` is empty
    write e.g. ports = ["tcp/5432"]
"#,
    );
}

#[test]
fn unknown_names_in_rules_ask_what_was_meant() {
    check_more(
        r#"[[rule]]
name = "r"
from = ["wbe"]
to = ["internets", "database"]
services = ["htttp", "tcp/22", "smtp"]
action = "alow"
tier = "base"
mode = "testing"
on_change = "reevaluate"
"#,
        r#"p.toml:20:9: error: rule `r`: unknown segment `wbe` in `from`
    did you mean `web`?
p.toml:21:7: error: rule `r`: unknown segment `internets` in `to`
    did you mean `internet`?
p.toml:21:20: error: rule `r`: unknown segment `database` in `to`
    add a [[segment]] of this name, or use any, internet or unmanaged
p.toml:22:13: error: rule `r`: unknown service `htttp`
    did you mean `http`?
p.toml:22:22: error: rule `r`: unknown service `tcp/22`
    rules name services: add [[service]] with ports = ["tcp/22"]
p.toml:22:32: error: rule `r`: unknown service `smtp`
    add a [[service]] of this name, or use any
p.toml:23:10: error: rule `r`: unknown action `alow`
    did you mean `allow`?
p.toml:24:8: error: rule `r`: unknown tier `base`
    it may be guardrail, application, baseline
p.toml:25:8: error: rule `r`: unknown mode `testing`
    it may be test, enforce
p.toml:26:13: error: rule `r`: unknown on_change `reevaluate`
    did you mean `re-evaluate`?
"#,
    );
}

#[test]
fn limits_need_a_rate_and_others_must_not_have_one() {
    check_more(
        r#"[[rule]]
name = "r"
from = ["any"]
to = ["web"]
action = "limit"
[[rule]]
name = "r2"
from = ["any"]
to = ["web"]
action = "limit"
rate = "10 MB/s"
[[rule]]
name = "r3"
from = ["any"]
to = ["web"]
action = "limit"
rate = "10Mbps"
burst = 1500
[[rule]]
name = "r4"
from = ["any"]
to = ["web"]
action = "deny"
rate = "10pps"
burst = 5
"#,
        r#"p.toml:18:1: error: rule `r` limits and has no rate
    write rate = "100pps" (packets), "10Mbps" (bits) or "50cps" (new flows), k, M and G may precede the unit
p.toml:28:8: error: rule `r2`: `10 MB/s` is not a rate
    write rate = "100pps" (packets), "10Mbps" (bits) or "50cps" (new flows), k, M and G may precede the unit
p.toml:35:9: error: rule `r3`: a burst of 1500 is too small, the least is 12112
    leave burst out for one second of the rate, or write packets, bits or flows as the rate counts them
p.toml:41:8: error: rule `r4` has a `rate` and does not limit
    remove `rate`, or write action = "limit"
p.toml:42:9: error: rule `r4` has a `burst` and does not limit
    remove `burst`, or write action = "limit"
"#,
    );
}

#[test]
fn dates_are_days() {
    check_more(
        r#"[[rule]]
name = "r"
from = ["any"]
to = ["web"]
action = "allow"
expires = "31.1.2027"
"#,
        r#"p.toml:23:11: error: rule `r`: `31.1.2027` is not a date
    write the last day on which the rule holds: "2027-01-31"
"#,
    );
}

#[test]
fn expiry_is_told_before_and_after() {
    check_more(
        r#"[[rule]]
name = "r"
from = ["any"]
to = ["web"]
action = "allow"
expires = "2026-11-21"
[[rule]]
name = "r2"
from = ["any"]
to = ["web"]
action = "allow"
expires = 2026-11-22
[[rule]]
name = "r3"
from = ["any"]
to = ["web"]
action = "allow"
expires = "2026-12-23"
"#,
        r#"p.toml:23:11: warning: rule `r` expired on 2026-11-21: it matches nothing
    remove the rule, or move the date
p.toml:29:11: warning: rule `r2` expires on 2026-11-22, in 0 days
    move the date if the rule is still needed
"#,
    );
}

#[test]
fn what_nobody_uses_is_told() {
    check_more(
        r#"[[workload]]
name = "lonely"
addresses = ["10.0.9.9"]
[[segment]]
name = "db"
select = "app=db"
mode = "enforce"
[[service]]
name = "smtp"
ports = ["tcp/25"]
"#,
        r#"p.toml:18:1: warning: workload `lonely` is in no segment
    only rules about any speak of it, and nothing is denied to it by default
p.toml:21:1: warning: no rule speaks of segment `db`
    write the rules it needs before it enforces, or remove it
p.toml:23:10: warning: segment `db` selects no workload: no workload has the labels app=db
    mend the selector or the labels; until then the segment is empty
p.toml:25:1: warning: no rule uses service `smtp`
    remove it, or write the rule it was meant for
"#,
    );
}

#[test]
fn an_invariant_names_what_there_is() {
    check_more(
        r#"[[invariant]]
name = "i"
never = { from = "internet", to = "wbe", hops = 0 }
[[invariant]]
name = "j"
never = { from = "internet", to = "web", services = ["shs"], except = ["wbe"] }
"#,
        r#"p.toml:20:35: error: invariant `i`: unknown segment `wbe` in `to`
    did you mean `web`?
p.toml:20:49: error: invariant `i`: hops is 0, it may be 1 to 16
    write hops = 3, or leave it out for 1
p.toml:23:54: error: invariant `j`: unknown service `shs`
    add a [[service]] of this name, or use any
p.toml:23:72: error: invariant `j`: unknown segment `wbe` in `except`
    did you mean `web`?
"#,
    );
}

#[test]
fn columns_count_characters() {
    check_more(
        r#"[[segment]]
name = "ä"
mode = "test"
addresses = ["10.0.0.0/8", "ö"]
"#,
        r#"p.toml:19:8: error: `ä` cannot name a segment
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
p.toml:21:28: error: segment `ä`: `ö` is neither an address nor a prefix
    write an address (10.0.1.10, 2001:db8::10) or a prefix (10.0.1.0/24)
"#,
    );
}

#[test]
fn long_names_and_notes_are_refused() {
    check_more(
        r#"[[service]]
name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
ports = ["tcp/1"]
"#,
        r#"p.toml:19:8: error: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` cannot name a service
    use 1 to 64 letters, digits and - _ . / :, a letter or digit first
"#,
    );
}

#[test]
fn no_truncation_of_a_policy_panics() {
    let shop = include_str!("../examples/shop.toml");
    for end in (0..=shop.len()).filter(|end| shop.is_char_boundary(*end)) {
        if let Err(errors) = load(&shop[..end], "p.toml", TODAY) {
            assert!(
                errors
                    .diagnostics
                    .iter()
                    .all(|d| d.line > 0 && d.column > 0)
            );
            assert!(!errors.to_string().is_empty());
        }
    }
}

#[test]
fn no_changed_character_of_a_policy_panics() {
    let shop = include_str!("../examples/shop.toml");
    for at in (0..shop.len()).step_by(23) {
        for with in ['"', '\n', '[', ',', '/', '0', 'ß', '\0'] {
            let text: String = shop
                .char_indices()
                .map(|(place, c)| if place == at { with } else { c })
                .collect();
            if let Ok(policy) = load(&text, "p.toml", TODAY) {
                policy::compile(&policy, 1, TODAY).expect("a valid policy compiles");
            }
        }
    }
}

#[test]
fn too_much_of_anything_is_refused_by_name() {
    let mut text = String::from(GOOD);
    let list = |count: usize| vec!["\"any\""; count].join(", ");
    text.push_str(&format!(
        "[[rule]]\nname = \"r\"\nfrom = [{}]\nto = [\"web\"]\naction = \"allow\"\n",
        list(1_025)
    ));
    check(
        &text,
        "p.toml:20:8: error: 1025 segments in one list, the limit is 1024\n    \
         split the policy over several appliances, or merge entries",
    );
    let many: String = (0..=policy::limits::WORKLOADS_MAX)
        .map(|at| format!("[[workload]]\nname = \"w{at}\"\naddresses = [\"2001:db8::{at:x}\"]\n"))
        .collect();
    let errors = load(&many, "p.toml", TODAY).expect_err("one workload too many");
    let text = errors.diagnostics[0].text("p.toml");
    assert!(
        text.contains("65537 workloads, the limit is 65536"),
        "{text}"
    );
}

#[test]
fn a_thousand_errors_are_told_and_the_rest_counted() {
    let text = "[[rule]]\n".repeat(300);
    let errors = load(&text, "p.toml", TODAY).expect_err("nothing but errors");
    assert_eq!((errors.diagnostics.len(), errors.untold), (1_000, 200));
    assert!(errors.to_string().ends_with("p.toml: and 200 more"));
}

//! What is reached within so many hops, by hand.

use jiff::civil::date;
use policy::{View, blast, compile, load};

fn told(text: &str, view: View, segment: Option<&str>) -> String {
    let today = date(2026, 11, 22);
    let policy = load(text, "p.toml", today).unwrap_or_else(|e| panic!("{e}"));
    let compiled = compile(&policy, 1, today).expect("it compiles");
    let mut told = String::new();
    for blast in blast(&compiled, view, segment, 3).expect("a segment") {
        told += &format!(
            "{} ({}{})",
            blast.segment,
            blast.workloads,
            [".", ", among"][usize::from(blast.among)]
        );
        for ring in &blast.rings {
            let beyond = [
                (ring.internet, " +internet"),
                (ring.unmanaged, " +unmanaged"),
            ];
            let beyond: String = beyond.iter().filter(|b| b.0).map(|b| b.1).collect();
            told += &format!(" | {} {}{beyond}", ring.workloads, ring.segments.join(","));
        }
        told += "\n";
    }
    told
}

const CHAIN: &str = r#"
workload = [
    { name = "a1", addresses = ["10.0.0.1"], labels = { s = "a" } },
    { name = "a2", addresses = ["10.0.0.2"], labels = { s = "a" } },
    { name = "b1", addresses = ["10.0.1.1"], labels = { s = "b" } },
    { name = "b2", addresses = ["10.0.1.2"], labels = { s = "b" } },
    { name = "c1", addresses = ["10.0.2.1"], labels = { s = "c" } },
    { name = "d1", addresses = ["10.0.3.1"], labels = { s = "d" } },
]
segment = [
    { name = "a", select = "s=a", mode = "enforce" },
    { name = "b", select = "s=b", mode = "observe" },
    { name = "c", select = "s=c", mode = "enforce" },
    { name = "d", select = "s=d", mode = "enforce" },
]
service = [{ name = "ssh", ports = ["tcp/22"] }, { name = "ping", ports = ["icmp/echo"] }]
rule = [
    { name = "ab", from = ["a"], to = ["b"], services = ["ssh"], action = "allow" },
    { name = "bc", from = ["b"], to = ["c"], services = ["ssh"], action = "limit", rate = "1cps" },
    { name = "cd", from = ["c"], to = ["d", "internet"], services = ["ssh"], action = "allow" },
    { name = "da", from = ["d"], to = ["a"], services = ["ping"], action = "allow" },
]
"#;

#[test]
fn each_hop_adds_what_it_is_the_first_to_reach() {
    // Nothing stands between the internet and the unmanaged: no segment has either.
    assert_eq!(
        told(CHAIN, View::Intended, None),
        "a (2.) | 2 b | 3 b,c | 4 b,c,d +internet\n\
         b (2.) | 1 c | 2 c,d +internet | 2 c,d +internet +unmanaged\n\
         c (1.) | 1 d +internet | 1 d +internet +unmanaged | 1 d +internet +unmanaged\n\
         d (1.) | 0  | 0  | 0 \n"
    );
}

#[test]
fn what_is_open_now_is_larger_while_segments_observe() {
    // b observes: its hosts reach each other, the internet and whatever is in no segment.
    assert_eq!(
        told(CHAIN, View::Enforced, Some("b")),
        "b (2, among) | 1 c +internet +unmanaged | 2 c,d +internet +unmanaged | 2 c,d +internet +unmanaged\n"
    );
}

#[test]
fn a_segment_that_is_not_there_is_not_answered_for() {
    let today = date(2026, 11, 22);
    let policy = load(CHAIN, "p.toml", today).expect("valid");
    let compiled = compile(&policy, 1, today).expect("it compiles");
    assert_eq!(blast(&compiled, View::Intended, Some("e"), 3), None);
}

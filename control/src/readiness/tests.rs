use super::*;
use abi::Mode as AbiMode;
use history::MemoryHistory;
use std::net::IpAddr;

const NOW_NS: u64 = 1_769_860_800_000_000_000;

const TEXT: &str = r#"
[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { role = "web" }

[[workload]]
name = "db-1"
addresses = ["10.0.2.20"]
labels = { role = "db" }

[[segment]]
name = "web"
select = "role=web"
mode = "observe"

[[segment]]
name = "db"
select = "role=db"
mode = "test"

[[service]]
name = "postgres"
ports = ["tcp/5432"]

[[rule]]
name = "web-to-db"
from = ["web"]
to = ["db"]
services = ["postgres"]
action = "allow"
"#;

fn image() -> policy::CompiledPolicy {
    let text = policy::set_every_mode(TEXT, AbiMode::Enforce).unwrap();
    let today = jiff::civil::date(2026, 1, 31);
    let valid = policy::load(&text, "shop.toml", today).unwrap();
    policy::compile(&valid, 1, today).unwrap()
}

fn asked() -> Vec<Asked> {
    let segment = |name: &str, mode, days: u64| Asked {
        name: name.into(),
        mode,
        mode_since_ns: Some(NOW_NS - days * DAY_NS),
    };
    vec![
        segment("web", Mode::Observe, 20),
        segment("db", Mode::Test, 10),
    ]
}

const THRESHOLDS: Thresholds = Thresholds {
    days_min: 7,
    would_deny_flows_max: 0,
    coverage_permille_min: 950,
    quiet_days_min: 3,
    window_days: 30,
};

/// A flow of so many days ago, as history keeps it: by the names of its time.
fn flow(src: &str, dst: &str, dport: u16, days_ago: u64) -> api::Flow {
    let record = <abi::FlowRecord as zerocopy::FromZeros>::new_zeroed();
    let stored = crate::flow::StoredFlow { seq: 1, record };
    let names = crate::names::Names::default();
    let ports = crate::flow::PortNames::default();
    let mut flow = crate::flow::flow(&stored, &names.naming(0), &ports);
    let end = |text: &str| -> (IpAddr, Arc<[Arc<str>]>) {
        let segments: &[&str] = match text {
            "10.0.1.10" => &["web"],
            "10.0.2.20" => &["db"],
            _ => &["unmanaged"],
        };
        let segments: Vec<Arc<str>> = segments.iter().map(|s| Arc::from(*s)).collect();
        (text.parse().unwrap(), segments.into())
    };
    (flow.src, flow.src_segments) = end(src);
    (flow.dst, flow.dst_segments) = end(dst);
    (flow.proto, flow.dport, flow.sport) = (6, dport, 40_000);
    (flow.pkts_fwd, flow.bytes_fwd, flow.begins) = (1, 100, true);
    flow.verdict = api::words::Action::Allow;
    flow.verdict_source = api::words::VerdictSource::Rule;
    flow.first_ns = NOW_NS - days_ago * DAY_NS;
    flow.last_ns = flow.first_ns + 1;
    (flow.first_ts, flow.last_ts) = (Ts(flow.first_ns), Ts(flow.last_ns));
    flow
}

fn judged(flows: &[api::Flow]) -> Vec<SegmentReadiness> {
    let history = MemoryHistory::new(std::num::NonZeroUsize::new(10_000).unwrap());
    history.append(flows).unwrap();
    judge(&history, &image().image, &asked(), &THRESHOLDS, NOW_NS).unwrap()
}

fn thresholds_of(readiness: &SegmentReadiness) -> Vec<&str> {
    let lacking = readiness.lacking.iter();
    lacking.map(|lacks| lacks.threshold.as_str()).collect()
}

#[test]
fn a_segment_that_was_watched_long_and_is_covered_is_ready() {
    let flows: Vec<_> = (0..12)
        .map(|d| flow("10.0.1.10", "10.0.2.20", 5432, d))
        .collect();
    let found = judged(&flows);
    for (readiness, next, days) in [(&found[0], Mode::Test, 11), (&found[1], Mode::Enforce, 10)] {
        assert!(readiness.ready, "{readiness:?}");
        assert_eq!(readiness.next, Some(next));
        assert_eq!(readiness.watched_s, days * DAY_S, "{}", readiness.segment);
        assert_eq!((readiness.flows, readiness.covered_flows), (12, 12));
        assert_eq!(readiness.coverage_permille(), 1000);
    }
}

#[test]
fn what_is_missing_is_told_by_its_threshold() {
    let found = judged(&[]);
    assert_eq!(thresholds_of(&found[0]), ["readiness.days_min"]);
    assert_eq!(found[0].watched_s, 0, "never seen");

    let mut flows: Vec<_> = (0..9)
        .map(|d| flow("10.0.1.10", "10.0.2.20", 5432, d))
        .collect();
    flows.push(flow("10.0.1.10", "10.0.2.20", 22, 2));
    flows.push(flow("10.9.9.9", "10.0.2.20", 22, 5));
    flows.push(flow("10.9.9.9", "10.0.2.20", 22, 6));
    let found = judged(&flows);
    let [web, db] = &found[..] else { panic!() };
    assert_eq!(
        thresholds_of(web),
        ["readiness.coverage_min"],
        "test is there to find them"
    );
    assert_eq!(
        (web.flows, web.covered_flows, web.would_deny_flows),
        (10, 9, 1)
    );
    assert_eq!(
        thresholds_of(db),
        [
            "readiness.coverage_min",
            "readiness.would_deny_flows_max",
            "readiness.quiet_days_min"
        ]
    );
    assert_eq!((db.flows, db.would_deny_flows), (12, 3));
    let last = db.last_unexpected.as_ref().unwrap();
    assert_eq!(
        (last.src.to_string(), &*last.service),
        ("10.0.1.10".into(), "tcp/22")
    );
    let most = &db.conversations[0];
    assert_eq!((most.src.to_string(), most.flows), ("10.9.9.9".into(), 2));
    assert!(
        db.lacking[2].what.contains("1.9 days ago"),
        "{:?}",
        db.lacking[2]
    );
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut flows: Vec<_> = (0..30)
        .map(|d| flow("10.0.1.10", "10.0.2.20", 5432, d))
        .collect();
    flows.push(flow("10.9.9.9", "10.0.2.20", 22, 31));
    let found = judged(&flows);
    assert!(found[1].ready, "{:?}", found[1]);
}

#[test]
fn every_mode_has_its_next_and_the_one_before() {
    assert_eq!(next(Mode::Observe).and_then(next), Some(Mode::Enforce));
    assert_eq!(before(Mode::Enforce).and_then(before), Some(Mode::Observe));
    assert_eq!((next(Mode::Enforce), before(Mode::Observe)), (None, None));
}

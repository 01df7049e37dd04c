//! The page about capacity says what the code computes, and the code what can be computed by hand.

#![forbid(unsafe_code)]

use cli::capacity::{Capacity, Costs, Setup, capacity};
use cli::print;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/6-capacity.md");

fn appliance(workers: u64, ports: u64, port_gbps: f64, nodes: u64) -> Setup {
    Setup {
        workers,
        ports,
        ports_gbps: Some(ports as f64 * port_gbps),
        nodes,
        flows_max: 10_000_000,
        ring_records: workers * 65_536,
    }
}

fn computed(setup: Setup) -> Capacity {
    capacity(&Costs::recorded().expect("the table reads"), setup, None)
}

/// `UPDATE_GOLDEN=1 cargo test -p ringfence --test capacity` writes the figures into the page anew.
#[test]
fn the_page_has_the_figures_that_the_code_computes() {
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    let mut expected = page.clone();
    for (name, setup) in [
        ("one worker, 2 x 25", appliance(1, 2, 25.0, 1)),
        ("8 workers, 2 x 100", appliance(8, 2, 100.0, 1)),
        ("16 workers, 2 x 400", appliance(16, 2, 400.0, 2)),
    ] {
        let text = print::capacity(&computed(setup)).render(false);
        let begin = format!("<!-- computed: {name} -->\n```\n");
        let at = expected.find(&begin).expect(name) + begin.len();
        let end = at + expected[at..].find("```").expect("the end of the block");
        expected.replace_range(at..end, &text);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PAGE, &expected).expect("the page is written");
    }
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    assert!(
        page == expected,
        "run this with UPDATE_GOLDEN=1:\n{expected}"
    );
}

#[test]
fn a_link_of_100_gigabits_carries_148_8_million_small_frames() {
    let found = computed(appliance(4, 1, 100.0, 1));
    let links = found.limits.iter().find(|limit| limit.what == "links");
    let [small, _] = links.expect("a limit of links").mpps;
    assert!((small - 148.81).abs() < 0.01, "{small}");
}

#[test]
fn what_gives_out_first_is_the_least_limit_and_moves_with_what_is_measured() {
    let slow = computed(appliance(1, 2, 100.0, 1));
    assert_eq!(slow.first, ["cores", "cores"]);
    assert!(slow.limits.is_sorted_by(|a, b| a.mpps[0] <= b.mpps[0]));
    let costs = Costs::recorded().expect("the table reads");
    let fast = capacity(&costs, appliance(64, 2, 10.0, 1), Some(10.0));
    assert_eq!(fast.first, ["links", "links"]);
    assert!((fast.gbps[0] - 20.0).abs() < 1e-6 && fast.packet_how.contains("live"));
    let unknown = Setup {
        ports_gbps: None,
        ..appliance(1, 2, 10.0, 1)
    };
    assert!(
        computed(unknown)
            .limits
            .iter()
            .all(|limit| limit.what != "links")
    );
}

#[test]
fn handing_settled_flows_to_the_nic_needs_fewer_workers() {
    let cores: Vec<f64> = computed(appliance(8, 2, 100.0, 1))
        .offloaded
        .iter()
        .map(|o| o.1)
        .collect();
    assert!(cores.is_sorted_by(|a, b| a >= b), "{cores:?}");
    assert!(cores.first() > cores.last(), "{cores:?}");
}

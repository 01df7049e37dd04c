//! A flow that goes on is shown while it goes on.

use std::time::{Duration, Instant};

use ringfence_tests::lab::{Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

/// The first active timeout by default, a pass of the sweep, and time for a loaded machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "live_flows::a_flow_that_lives_is_shown_within_seconds",
        needs: Needs::Namespaces,
        programs: &["ping"],
        show: a_flow_that_lives_is_shown_within_seconds,
    }]
}

fn a_flow_that_lives_is_shown_within_seconds() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings::default());
    let mut ping = lab.start("client", &["ping", "-i", "0.2", WEB.v4], "ping");
    let begin = Instant::now();
    let flow = appliance.flow("is the ping", |flow| {
        flow["proto"] == 1 && flow["dst"] == WEB.v4
    });
    let shown = begin.elapsed();
    assert!(ping.runs(), "it goes on: {}", ping.log());
    assert!(shown < SHOWN_WITHIN, "shown after {shown:?}: {flow}");
    assert_eq!(flow["end_reason"], "active-timeout", "{flow}");
    // That was the one early record: the next comes with the active timeout, or the end.
    std::thread::sleep(SHOWN_WITHIN);
    let told = appliance
        .flows()
        .into_iter()
        .filter(|other| other["flow_id"] == flow["flow_id"])
        .count();
    assert_eq!(told, 1, "{flow}");
    ping.stop(SHOWN_WITHIN);
    appliance.finish();
}

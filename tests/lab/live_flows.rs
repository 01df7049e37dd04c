//! A flow that goes on is shown while it goes on.

use std::time::Duration;

use ringfence_tests::lab::{Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

/// The first active timeout by default, a pass of the sweep, and time for a loaded machine; by the clock of packets.
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
    let flow = appliance.flow("is the ping", |flow| {
        flow["proto"] == 1 && flow["dst"] == WEB.v4
    });
    let [first_ns, last_ns] = ["first_ns", "last_ns"].map(|key| flow[key].as_u64());
    let lasted = first_ns.zip(last_ns).map(|(first, last)| last - first);
    let lasted = Duration::from_nanos(lasted.expect("times"));
    assert!(ping.runs(), "it goes on: {}", ping.log());
    assert!(lasted < SHOWN_WITHIN, "shown after {lasted:?}: {flow}");
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

//! The link that is told is the cable's, not the driver's opinion of itself.

use std::time::Duration;

use ringfence_tests::command::wait_until;
use ringfence_tests::lab::{Appliance, Lab, Settings};
use ringfence_tests::suite::{Needs, Promise};

/// Links are read twice a second; a loaded machine takes longer.
const TOLD_LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "port_links::a_pulled_cable_is_told_by_ports_and_doctor_until_it_is_back",
        needs: Needs::Namespaces,
        programs: &[],
        show: a_pulled_cable_is_told_by_ports_and_doctor_until_it_is_back,
    }]
}

fn a_pulled_cable_is_told_by_ports_and_doctor_until_it_is_back() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings::default());
    assert_links(&appliance, "when both ends are in", [true, true]);
    // The other end of the cable, then the interface itself.
    for (end, what) in [("out0s", "its cable is out"), ("out0", "it is set down")] {
        set(&lab, end, "down");
        assert_links(&appliance, what, [true, false]);
        let checks = appliance.cli(&["--json", "doctor"]).stdout;
        let checks: serde_json::Value = serde_json::from_str(&checks).expect("JSON");
        let told = checks["checks"].as_array().into_iter().flatten();
        let port = told
            .clone()
            .find(|check| check["name"] == "port af_packet:out0")
            .unwrap_or_else(|| panic!("no check of the port: {checks}"));
        assert_eq!(port["state"], "failed", "{port}");
        set(&lab, end, "up");
        assert_links(&appliance, "when it is back", [true, true]);
    }
    appliance.finish();
}

fn set(lab: &Lab, interface: &str, state: &str) {
    let command = ["ip", "link", "set", interface, state];
    let _ = lab.run("box", &command, TOLD_LIMIT).must();
}

/// Waits until the ports inside and outside are told as up or not.
fn assert_links(appliance: &Appliance<'_>, what: &str, up: [bool; 2]) {
    let mut ports = serde_json::Value::Null;
    let came = wait_until(TOLD_LIMIT, || {
        ports = appliance.json(&["ports"]);
        (0..2).all(|index| ports["ports"][index]["link_up"] == up[index])
    });
    assert!(came, "{what}: {ports}");
}

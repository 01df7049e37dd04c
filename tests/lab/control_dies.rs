//! The control process dies under traffic and comes back: no packet is lost, the policy stays in force, and what
//! is lost of the records is counted.

use ringfence_tests::lab::{ATTACKER, CLIENT, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};
use crate::policy_changes::PORT;
use crate::streams::{
    LIMIT, Streams, assert_no_retransmission, assert_nothing_lost, await_progress, ended, serve,
};

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "control_dies::killed_control_loses_no_packet_and_comes_back",
        needs: Needs::Namespaces,
        programs: &["curl", "ss"],
        show: killed_control_loses_no_packet_and_comes_back,
    }]
}

fn killed_control_loses_no_packet_and_comes_back() {
    let lab = Lab::new();
    let rules = [rule(
        "clients-to-web",
        ("clients", "shop-web"),
        "stream",
        ALLOW,
    )];
    let settings = Settings {
        policy: Some(policy("enforce", &rules)),
        apart: true,
        ..Settings::default()
    };
    let mut appliance = lab.appliance(&settings);
    let both = ["udp", "tcp"];
    let _servers = both.map(|over| serve(&lab, WEB, over, PORT));
    let pid = appliance.dataplane_pid();
    let streams = Streams::new(&lab);
    let [mut udp, mut tcp] = both.map(|over| streams.begin(CLIENT, WEB, over, PORT));
    await_progress(&[&udp, &tcp]);
    appliance.kill_control();
    let url = format!("http://{}:{PORT}/", WEB.v4);
    let curl = ["curl", "-sS", "--max-time", "2", &url];
    let denied = lab.run(ATTACKER.name, &curl, LIMIT);
    assert_eq!(
        denied.code,
        Some(28),
        "the policy stays in force without control: {denied}"
    );
    await_progress(&[&udp, &tcp]);
    appliance.start_control();
    appliance.wait_ready();
    await_progress(&[&udp, &tcp]);
    streams.end();
    let [udp, tcp] = [ended(&mut udp), ended(&mut tcp)];
    assert_nothing_lost(&appliance, &[&udp]);
    assert_eq!(
        (&tcp["echoed"], &tcp["end"]),
        (&tcp["sent"], &"done".into()),
        "{tcp}"
    );
    for host in [CLIENT, WEB] {
        assert_no_retransmission(&lab, host, &udp);
    }
    assert_eq!(
        appliance.dataplane_pid(),
        pid,
        "the dataplane is the same process"
    );
    let status = appliance.json(&["status"]);
    assert_eq!(status["policy"]["state"], "adopted", "{status}");
    let accounting = appliance.json(&["verify", "accounting"]);
    assert_eq!(accounting["records"]["difference"], 0, "{accounting}");
    appliance.finish();
}

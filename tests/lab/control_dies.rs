//! The control process dies under traffic and comes back: no packet is lost, the policy stays in force, and what
//! is lost of the records is counted.

use std::time::Duration;

use ringfence_tests::lab::{ATTACKER, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};
use crate::policy_changes::{finished, retransmissions, servers, stream};

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "control_dies::killed_control_loses_no_packet_and_comes_back",
        needs: Needs::Namespaces,
        programs: &["curl"],
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
    let _servers = servers(&lab, WEB);
    std::thread::sleep(Duration::from_millis(300));
    let pid = appliance.dataplane_pid();
    let mut streams = [
        stream(&lab, "client", "stream-udp", WEB),
        stream(&lab, "client", "stream-tcp", WEB),
    ];
    std::thread::sleep(Duration::from_secs(2));
    appliance.kill_control();
    let url = format!("http://{}:7007/", WEB.v4);
    let denied = lab.run(
        ATTACKER.name,
        &["curl", "-sS", "--max-time", "2", &url],
        Duration::from_secs(10),
    );
    assert_eq!(
        denied.code,
        Some(28),
        "the policy stays in force without control: {denied}"
    );
    appliance.start_control();
    appliance.wait_ready();
    let [udp, tcp] = [0, 1].map(|index| finished(&mut streams[index]));
    assert_eq!(
        (&udp["echoed"], &udp["counted_there"]),
        (&udp["sent"], &udp["sent"]),
        "no datagram is lost: {udp}"
    );
    assert_eq!(
        (&tcp["echoed"], &tcp["end"]),
        (&tcp["sent"], &"done".into()),
        "{tcp}"
    );
    for host in ["client", "web"] {
        assert_eq!(
            retransmissions(&lab, host),
            0,
            "{host} sent no segment twice"
        );
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

//! Two appliances on one interface would forward every packet twice: the second is refused.

use std::time::Duration;

use ringfence_tests::command::{Outcome, wait_until};
use ringfence_tests::lab::{CLIENT, Lab, Settings, WEB};
use ringfence_tests::places::binary;
use ringfence_tests::suite::{Needs, Promise};

const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "second_appliance::a_second_appliance_on_an_interface_in_use_is_refused_before_a_port_opens",
        needs: Needs::Namespaces,
        programs: &["ping"],
        show: a_second_appliance_on_an_interface_in_use_is_refused_before_a_port_opens,
    }]
}

/// Starts a dataplane with directories and a file prefix of its own.
fn start_second(lab: &Lab, name: &str, lane: &str) -> Outcome {
    let directory = lab.directory().join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let config = format!(
        "[dataplane]\nrun_dir = \"{0}\"\nstate_dir = \"{0}\"\n\n[eal]\nfile_prefix = \"{1}\"\n\n\
         [memory]\nhugepages = \"never\"\n\n[[lane]]\nname = \"{name}\"\n{lane}\n",
        directory.display(),
        lab.namespace(name)
    );
    let path = lab.file(&format!("{name}.toml"), config);
    let program = binary("ringfence-dataplane").display().to_string();
    lab.run(
        "box",
        &[&program, "--config", &path.display().to_string()],
        LIMIT,
    )
}

fn a_second_appliance_on_an_interface_in_use_is_refused_before_a_port_opens() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings::default());
    let holder = format!("process {}", appliance.dataplane_pid());
    let lanes = [
        (
            "pair",
            "in0",
            "inside = \"af_packet:in0\"\noutside = \"af_packet:out0\"",
        ),
        ("mirror", "out0", "mirror = \"af_packet:out0\""),
        ("other", "in0", "mirror = \"vdev:net_pcap0,rx_iface=in0\""),
    ];
    for (name, interface, lane) in lanes {
        let refused = start_second(&lab, name, lane);
        assert_eq!(refused.code, Some(1), "{name}: {refused}");
        for word in [name, &format!("`{interface}`"), &holder, "stop that one"] {
            assert!(refused.stderr.contains(word), "`{word}` is told: {refused}");
        }
        assert_eq!(refused.stderr.lines().count(), 1, "{name}: {refused}");
    }
    let ping = lab.run("client", &["ping", "-c", "5", "-i", "0.2", WEB.v4], LIMIT);
    assert!(
        ping.ok() && !ping.stdout.contains("DUP!"),
        "{} hears each answer once: {ping}",
        CLIENT.name
    );
    appliance.finish();
    // The claim ended with its process: what was refused starts now.
    let path = lab.directory().join("pair.toml").display().to_string();
    let program = binary("ringfence-dataplane").display().to_string();
    let mut next = lab.start("box", &[&program, "--config", &path], "next");
    let runs = wait_until(LIMIT, || {
        next.log().contains("running: 1 lanes") || !next.runs()
    });
    assert!(runs && next.runs(), "{}", next.log());
    let ended = next.stop(LIMIT);
    assert!(ended.success(), "{ended}: {}", next.log());
}

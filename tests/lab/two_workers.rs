//! One lane of ordinary interfaces, two workers: nothing is lost, changed or counted twice.

use std::time::Duration;

use ringfence_tests::command::wait_until;
use ringfence_tests::lab::{ATTACKER, Appliance, CLIENT, DB, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

const FILE_BYTES: usize = 2 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn promises() -> Vec<Promise> {
    vec![Promise {
        name: "two_workers::a_lane_of_two_workers_passes_files_byte_for_byte_and_balances",
        needs: Needs::Namespaces,
        programs: &["curl", "python3", "ethtool", "ping"],
        show: a_lane_of_two_workers_passes_files_byte_for_byte_and_balances,
    }]
}

fn a_lane_of_two_workers_passes_files_byte_for_byte_and_balances() {
    let lab = Lab::new();
    let content: Vec<u8> = (0..FILE_BYTES)
        .map(|at| (at * 31 + at / 251).to_le_bytes()[0])
        .collect();
    let _ = lab.file("file.bin", &content);
    let appliance = lab.appliance(&Settings {
        workers: Some(2),
        lanes: Some(
            "[[lane]]\nname = \"rack\"\ninside = \"af_packet:in0\"\noutside = \"af_packet:out0\"\n\
             workers = [0, 1]\n"
                .to_owned(),
        ),
        ..Settings::default()
    });
    let server = ["python3", "-m", "http.server", "80", "--bind", "::"];
    let _servers = [(WEB, "web"), (DB, "db"), (CLIENT, "client")]
        .map(|(host, log)| lab.start(host.name, &server, log));
    // Eight pairs of hosts, both versions, begun from either side: of one worker and of the other.
    for (from, to) in [
        (CLIENT, WEB),
        (CLIENT, DB),
        (ATTACKER, WEB),
        (ATTACKER, DB),
        (DB, CLIENT),
    ] {
        for host in [to.v4.to_owned(), format!("[{}]", to.v6)] {
            let url = format!("http://{host}/file.bin");
            let fetched = fetch(&lab, from, &url);
            assert!(
                fetched == content,
                "{} fetches {url}: {} bytes of {}, or others",
                from.name,
                fetched.len(),
                content.len()
            );
        }
        let ping = ["ping", "-n", "-c", "2", "-i", "0.2", "-w", "20", to.v4];
        let _ = lab.run(from.name, &ping, TRANSFER_LIMIT).must();
    }
    // Addresses are dealt by chance: of sixteen more pairs both workers own some.
    let many = format!(
        "for n in $(seq 100 115); do ip addr add 10.77.0.$n/24 dev eth0 && \
         ping -n -c 1 -w 20 -I 10.77.0.$n {} || exit 1; done",
        WEB.v4
    );
    let _ = lab
        .run("client", &["sh", "-c", &many], TRANSFER_LIMIT)
        .must();
    let accounting = settled_accounting(&appliance);
    let of = |worker: usize, field: &str| accounting["workers"][worker][field].as_u64();
    assert_eq!(
        of(1, "received"),
        Some(0),
        "one worker receives: {accounting:#}"
    );
    for worker in [0, 1] {
        assert!(
            of(worker, "flow_packets") > Some(0),
            "both judge: {accounting:#}"
        );
    }
    assert!(of(0, "steered_out") > Some(0), "{accounting:#}");
    let ports = appliance.json(&["ports"]);
    assert_eq!(ports["ports"][0]["workers"], serde_json::json!([0, 1]));
    appliance.finish();
}

/// The accounting of a moment at which all that was handed from worker to worker has been taken, both ways. Hosts speak
/// unasked (neighbour and router discovery), so a later reading may find packets on the way again; and each worker
/// commits its counters for itself: of a packet that went and came back one worker may have told both ways and the other
/// neither, which is 0 in `between_workers`.
fn settled_accounting(appliance: &Appliance<'_>) -> serde_json::Value {
    let mut accounting = serde_json::Value::Null;
    let settled = wait_until(TRANSFER_LIMIT, || {
        accounting = appliance.json(&["verify", "accounting"]);
        let workers = &accounting["workers"];
        accounting["between_workers"] == 0
            && accounting["balanced"] == true
            && workers[0]["steered_out"] == workers[1]["steered_in"]
    });
    assert!(settled, "{accounting:#}");
    accounting
}

fn fetch(lab: &Lab, from: Host, url: &str) -> Vec<u8> {
    let to = lab.directory().join("fetched.bin");
    let _ = std::fs::remove_file(&to);
    let path = to.display().to_string();
    // The server may still be starting.
    let patience = ["--retry", "20", "--retry-connrefused", "--retry-delay", "1"];
    let curl = ["curl", "-sS", "-g", "--max-time", "150", "-o", &path, url];
    let curl = [&curl[..], &patience].concat();
    let _ = lab.run(from.name, &curl, TRANSFER_LIMIT).must();
    std::fs::read(&to).unwrap_or_default()
}

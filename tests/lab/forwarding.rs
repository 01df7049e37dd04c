//! What is allowed passes, byte for byte, and is known by name afterwards.

use std::time::Duration;

use ringfence_tests::command::wait_until;
use ringfence_tests::lab::{ATTACKER, CLIENT, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};

/// Several thousand full-size segments.
const FILE_BYTES: usize = 6 << 20;
/// What takes a second, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn promises() -> Vec<Promise> {
    vec![
        Promise {
            name: "forwarding::files_pass_byte_for_byte_over_ipv4_and_ipv6",
            needs: Needs::Namespaces,
            programs: &["curl", "python3", "ethtool"],
            show: files_pass_byte_for_byte_over_ipv4_and_ipv6,
        },
        Promise {
            name: "forwarding::fragments_pass_and_are_one_flow",
            needs: Needs::Namespaces,
            programs: &["ping"],
            show: fragments_pass_and_are_one_flow,
        },
        Promise {
            name: "forwarding::without_a_policy_everything_passes_and_is_recorded",
            needs: Needs::Namespaces,
            programs: &["curl", "python3", "ping"],
            show: without_a_policy_everything_passes_and_is_recorded,
        },
    ]
}

fn files_pass_byte_for_byte_over_ipv4_and_ipv6() {
    let lab = Lab::new();
    let text = policy(
        "enforce",
        &[rule(
            "clients-to-web",
            ("clients", "shop-web"),
            "http",
            ALLOW,
        )],
    );
    let appliance = lab.appliance(&Settings {
        policy: Some(text),
        ..Settings::default()
    });
    let content = noise(FILE_BYTES);
    let _ = lab.file("file.bin", &content);
    let _server = lab.start(
        "web",
        &["python3", "-m", "http.server", "80", "--bind", "::"],
        "web",
    );
    for host in [WEB.v4.to_owned(), format!("[{}]", WEB.v6)] {
        let url = format!("http://{host}/file.bin");
        let fetched = fetch(&lab, CLIENT, &url);
        assert!(
            fetched == content,
            "{url}: {} bytes came, {} were sent, and they differ",
            fetched.len(),
            content.len()
        );
    }
    for address in [(CLIENT.v4, WEB.v4), (CLIENT.v6, WEB.v6)] {
        let flow = appliance.flow("is a transfer that ended", |flow| {
            (flow["src"].as_str(), flow["dst"].as_str()) == (Some(address.0), Some(address.1))
                && flow["dport"] == 80
                && flow["bytes_rev"].as_u64() > Some(FILE_BYTES as u64)
        });
        assert_eq!(
            (&flow["src_name"], &flow["dst_name"]),
            (&"client".into(), &"web".into()),
            "{flow}"
        );
        assert_eq!(
            (&flow["service"], &flow["rule"]),
            (&"http".into(), &"clients-to-web".into()),
            "{flow}"
        );
        assert_eq!(
            (&flow["verdict"], &flow["dropped_packets"]),
            (&"allow".into(), &0.into()),
            "{flow}"
        );
    }
    appliance.finish();
}

fn without_a_policy_everything_passes_and_is_recorded() {
    let lab = Lab::new();
    let appliance = lab.appliance(&Settings::default());
    let _ = lab.file("page.html", "a page\n");
    let _server = lab.start(
        "web",
        &["python3", "-m", "http.server", "80", "--bind", "::"],
        "web",
    );
    assert_eq!(
        fetch(&lab, ATTACKER, &format!("http://{}/page.html", WEB.v4)),
        b"a page\n"
    );
    for address in [WEB.v4, WEB.v6] {
        let _ = lab
            .run(
                "client",
                &["ping", "-n", "-c", "2", "-i", "0.2", "-w", "120", address],
                LIMIT,
            )
            .must();
        // The largest packet that fits a frame.
        let size = if address.contains(':') {
            "1452"
        } else {
            "1472"
        };
        let whole = [
            "ping", "-n", "-c", "1", "-w", "120", "-M", "do", "-s", size, address,
        ];
        let _ = lab.run("client", &whole, LIMIT).must();
    }
    let flow = appliance.flow("is the page", |flow| {
        flow["src"] == ATTACKER.v4 && flow["dport"] == 80
    });
    assert_eq!(
        (&flow["verdict"], &flow["verdict_source"]),
        (&"allow".into(), &"no-policy".into()),
        "{flow}"
    );
    appliance.finish();
}

/// Over af_xdp: DPDK's af_packet has the kernel put IPv4 fragments together before it sees them.
fn fragments_pass_and_are_one_flow() {
    let lab = Lab::new();
    let lanes = "[[lane]]\nname = \"rack\"\ninside = \"vdev:net_af_xdp0,iface=in0\"\n\
                 outside = \"vdev:net_af_xdp1,iface=out0\"\n";
    let settings = Settings {
        lanes: Some(lanes.to_owned()),
        ..Settings::default()
    };
    let appliance = lab.appliance(&settings);
    for address in [WEB.v4, WEB.v6] {
        // Without a deadline (-w), so that a late answer is not asked for once more.
        let command = [
            "ping", "-n", "-c", "3", "-i", "0.2", "-W", "60", "-s", "4000", address,
        ];
        let _ = lab.run("client", &command, LIMIT).must();
        // Of a slow machine the flow is told in parts.
        let mut sums = [0; 3];
        let whole = wait_until(LIMIT, || {
            let flows = appliance.flows();
            let of_ping = flows.iter().filter(|flow| flow["dst"] == address);
            sums = ["pkts_fwd", "pkts_rev", "dropped_packets"].map(|key| {
                let counts = of_ping.clone().filter_map(|flow| flow[key].as_u64());
                counts.sum::<u64>()
            });
            sums[..2].iter().all(|packets| *packets >= 9)
        });
        assert!(whole && sums == [9, 9, 0], "{address}: {sums:?}");
        let begun = |flow: &&serde_json::Value| flow["dst"] == address && flow["begins"] == true;
        assert_eq!(appliance.flows().iter().filter(begun).count(), 1);
    }
    appliance.finish();
}

/// Bytes without a pattern that a fault could hide behind (xorshift).
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8))
        .flat_map(|_| next())
        .take(size)
        .collect()
}

/// Fetches with curl, once the server listens.
fn fetch(lab: &Lab, from: Host, url: &str) -> Vec<u8> {
    let path = lab.directory().join("fetched");
    let target = path.display().to_string();
    let command = [
        "curl",
        "-sS",
        "--fail",
        "--max-time",
        "150",
        "--connect-timeout",
        "10",
        "-o",
        &target,
        url,
    ];
    let mut last = None;
    wait_until(LIMIT, || {
        let outcome = lab.run(from.name, &command, LIMIT);
        let fetched = outcome.ok();
        last = Some(outcome);
        fetched
    });
    let _ = last.expect("curl ran").must();
    std::fs::read(&path).unwrap_or_default()
}

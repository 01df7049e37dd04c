//! What is allowed passes, byte for byte, and is known by name afterwards.

use std::time::Duration;

use ringfence_tests::command::wait_until;
use ringfence_tests::lab::{ATTACKER, CLIENT, Host, Lab, Settings, WEB};
use ringfence_tests::suite::{Needs, Promise};

use crate::policies::{ALLOW, policy, rule};

/// Several thousand full-size segments.
const FILE_BYTES: usize = 6 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(60);

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
                &["ping", "-n", "-c", "2", "-i", "0.2", "-w", "5", address],
                Duration::from_secs(10),
            )
            .must();
        // The largest packet that fits a frame.
        let size = if address.contains(':') {
            "1452"
        } else {
            "1472"
        };
        let whole = [
            "ping", "-n", "-c", "1", "-w", "5", "-M", "do", "-s", size, address,
        ];
        let _ = lab.run("client", &whole, Duration::from_secs(10)).must();
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
        let command = [
            "ping", "-n", "-c", "3", "-i", "0.2", "-w", "5", "-s", "4000", address,
        ];
        let _ = lab.run("client", &command, Duration::from_secs(10)).must();
        let flow = appliance.flow("is the ping", |flow| flow["dst"] == address);
        assert_eq!(
            (&flow["pkts_fwd"], &flow["pkts_rev"]),
            (&9.into(), &9.into()),
            "{flow}"
        );
        assert_eq!(flow["dropped_packets"], 0, "{flow}");
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
        "50",
        "--connect-timeout",
        "3",
        "-o",
        &target,
        url,
    ];
    let mut last = None;
    wait_until(Duration::from_secs(15), || {
        let outcome = lab.run(from.name, &command, TRANSFER_LIMIT);
        let fetched = outcome.ok();
        last = Some(outcome);
        fetched
    });
    let _ = last.expect("curl ran").must();
    std::fs::read(&path).unwrap_or_default()
}

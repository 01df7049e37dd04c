//! The control process against a dataplane that is played over the real contract.

mod support;

#[path = "../ipfix/tests/support/mod.rs"]
mod ipfix_support;

use api::error::ErrorCode;
use api::policy::{
    Outcome, PolicyChange, PolicyInForce, PolicyLog, PolicyState, RollbackRequest, Rules, Segments,
    Workloads,
};
use api::status::DataplaneState;
use api::{Accounting, Drops, Explain, Flow, Ports, Top, Ts};
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::time::Duration;
use support::{Behaviour, Box, POLICY, TestDataplane, denied, record, with_dataplane};

#[test]
fn records_come_out_named_counted_and_balanced() {
    let (control, mut dataplane) = with_dataplane();
    let client = &control.client;
    let applied = client.apply(POLICY).unwrap();
    assert_eq!(
        (applied.epoch, applied.workers, applied.adoption_us),
        (1, 2, 42)
    );
    assert_eq!(applied.preparation_us, 7000, "told apart from the adoption");
    let image = dataplane.image();
    for number in 0..40 {
        assert!(dataplane.push(usize::from(number % 2), &record(Some(&image), number)));
    }
    assert!(dataplane.push(0, &denied(&image, 99)));
    control.collected(41);

    let flows = control.flows("limit=0");
    assert_eq!(flows.len(), 41);
    let flow = flows.iter().find(|f| f.sport == 40_000).unwrap();
    assert_eq!(flow.src_name.as_deref(), Some("web-1"));
    assert_eq!(flow.dst_name.as_deref(), Some("db-1"));
    assert!(
        flow.src_segments.iter().any(|s| &**s == "shop-web"),
        "{:?}",
        flow.src_segments
    );
    assert_eq!(flow.rule.as_deref(), Some("web-to-db"));
    assert_eq!(flow.service.as_deref(), Some("postgres"));
    assert_eq!(
        (&*flow.ingress_port, flow.egress_port.as_deref()),
        ("inside0", Some("outside0"))
    );
    assert_eq!(flow.named_by, api::words::NamedBy::Epoch);
    assert_eq!(control.flows("limit=3").len(), 3);
    assert_eq!(
        control
            .flows("filter=verdict%20deny%20and%20dst%20port%2022")
            .len(),
        1
    );
    let (status, error) = client.ask("GET", "/v1/flows?filter=dst%20prot%2022", "");
    assert!(status == 400 && error.contains("column 5"), "{error}");

    let (_, tsv) = client.ask("GET", "/v1/flows?format=tsv&limit=0", "");
    assert_eq!(tsv.lines().next(), Some(&*Flow::tsv_header()));
    assert_eq!(tsv.lines().count(), 42);

    let top: Top = client.get("/v1/top?by=segments&metric=packets");
    assert_eq!((top.total.flows, top.total.packets), (41, 40 * 9 + 5));
    assert!(top.rows[0].name.contains("shop-web"), "{top:?}");
    let rules: Rules = client.get("/v1/rules");
    assert_eq!((rules.rules[0].hits, rules.rules[0].packets), (40, 360));
    let segments: Segments = client.get("/v1/segments");
    let web = segments
        .segments
        .iter()
        .find(|s| s.name == "shop-web")
        .unwrap();
    assert_eq!(
        (web.flows_from, web.denied_flows, &*web.workloads[0]),
        (41, 1, "web-1")
    );
    let workloads: Workloads = client.get("/v1/workloads");
    assert_eq!(
        (
            workloads.workloads[1].flows_to,
            &*workloads.workloads[1].name
        ),
        (41, "db-1")
    );
    let explain: Explain = client.get("/v1/explain?src=web-1&dst=10.0.2.20&service=tcp/5432");
    assert_eq!(explain.verdict, api::words::Action::Allow);
    assert_eq!(explain.rule.as_deref(), Some("web-to-db"));
    assert_eq!(explain.observed.len(), 5);
    let explain: Explain = client.get("/v1/explain?src=db-1&dst=web-1&service=tcp/22");
    assert_eq!(
        explain.verdict,
        api::words::Action::Deny,
        "{}",
        explain.sentence
    );
    for (asked, service, port) in [
        ("postgres", "tcp/5432", 5432),
        ("icmp/echo", "icmp/echo", 8),
        ("icmp/8/0", "icmp/8/0", 8),
        ("icmp/200", "icmp/200", 200),
        ("icmpv6/echo", "icmpv6/echo", 128),
        ("icmpv6/135", "icmpv6/neighbor-solicitation", 135),
        ("tcp/8000-8099", "tcp/8000", 8000),
        ("proto/47", "proto/47", 0),
    ] {
        let path = format!("/v1/explain?src=web-1&dst=db-1&service={asked}");
        let explain: Explain = client.get(&path);
        assert_eq!((&*explain.service, explain.port), (service, port), "{path}");
    }

    let drops: Drops = client.get("/v1/drops");
    let by_default = drops
        .drops
        .iter()
        .find(|d| d.reason == "denied-by-default")
        .unwrap();
    assert_eq!(
        (drops.total, by_default.packets, &*by_default.workers),
        (5, 5, &[5, 0][..])
    );
    let ports: Ports = client.get("/v1/ports");
    assert_eq!(
        (&*ports.ports[1].name, &*ports.ports[1].role),
        ("outside0", "outside")
    );
    let stages: api::Stages = client.get("/v1/stages");
    let decide = stages.total.stages.iter().find(|s| s.stage == "decide");
    let costs = decide.map(|cost| (cost.cycles, cost.packets));
    assert_eq!(
        (stages.tsc_hz, stages.total.rounds, costs),
        (2_000_000_000, 41, Some((7300, 365)))
    );
    let account: Accounting = client.get("/v1/accounting");
    assert!(account.balanced, "{account:#?}");
    assert_eq!(
        (account.total.received, account.records.collected),
        (365, 41)
    );
}

#[test]
fn a_wrong_policy_is_refused_with_line_and_mend_and_nothing_is_published() {
    let (control, dataplane) = with_dataplane();
    let wrong = POLICY.replace("mode = \"enforce\"", "mood = \"enforce\"");
    let (status, error) = control.client.apply(&wrong).unwrap_err();
    assert_eq!((status, error.code), (422, ErrorCode::InvalidPolicy));
    assert!(
        error
            .details
            .iter()
            .all(|d| d.file == "shop.toml" && d.line > 0 && !d.mend.is_empty())
    );
    let request = api::policy::CheckRequest {
        text: wrong,
        file_name: "shop.toml".into(),
    };
    let checked: api::policy::CheckResult = control
        .client
        .post(api::endpoint::POLICY_CHECK, &request)
        .unwrap();
    assert!(!checked.valid && !checked.errors.is_empty());
    assert_eq!(dataplane.published(), [0; 0]);
}

#[test]
fn without_a_dataplane_nothing_is_applied_and_the_error_says_so() {
    let control = Box::new(|_| {});
    let (status, error) = control.client.apply(POLICY).unwrap_err();
    assert_eq!((status, error.code), (503, ErrorCode::NoDataplane));
    let show: PolicyInForce = control.client.get("/v1/policy");
    assert_eq!(show.state, PolicyState::None);
    assert!(!control.dir.path().join("state/pending.json").exists());
}

#[test]
fn a_refused_policy_leaves_the_old_one_in_force() {
    let (control, dataplane) = with_dataplane();
    let first = control.client.apply(POLICY).unwrap();
    dataplane.set_behaviour(Behaviour::Refuse);
    let changed = POLICY.replace("web-to-db", "web-may-ask-db");
    let (status, error) = control.client.apply(&changed).unwrap_err();
    assert_eq!((status, error.code), (502, ErrorCode::Refused));
    assert!(error.message.contains("no room for it in this test"));
    let show: PolicyInForce = control.client.get("/v1/policy");
    assert_eq!(
        (show.revision, show.state),
        (first.revision, PolicyState::Refused)
    );
    let log: PolicyLog = control.client.get("/v1/policy/log");
    let outcomes: Vec<_> = log
        .entries
        .iter()
        .map(|e| (e.outcome, &*e.author))
        .collect();
    assert_eq!(
        outcomes,
        [(Outcome::Adopted, "ada"), (Outcome::Refused, "ada")]
    );
}

#[test]
fn a_policy_whose_answer_was_lost_is_found_in_force_at_the_next_link() {
    let (control, dataplane) = with_dataplane();
    let first = control.client.apply(POLICY).unwrap();
    dataplane.set_behaviour(Behaviour::AdoptAndHangUp);
    let (status, error) = control
        .client
        .apply(&POLICY.replace("web-to-db", "web-may-ask-db"))
        .unwrap_err();
    assert_eq!((status, error.code), (503, ErrorCode::NoDataplane));
    assert!(error.message.contains("not known"), "{}", error.message);
    let status = control.client.wait("found", |s| s.policy.epoch == 2);
    assert_eq!(status.policy.state, PolicyState::Adopted);
    assert_ne!(status.policy.revision, first.revision);
    assert_eq!(
        dataplane.published(),
        [1, 2],
        "nothing had to be published again"
    );
    let log: PolicyLog = control.client.get("/v1/policy/log");
    let outcomes: Vec<_> = log.entries.iter().map(|e| e.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Adopted, Outcome::Disconnected, Outcome::Adopted]
    );
}

#[test]
fn a_control_process_without_state_learns_the_names_of_the_image_in_force() {
    let (mut control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    let image = dataplane.image();
    control.stop();
    std::fs::remove_dir_all(control.dir.path().join("state")).unwrap();
    control.start();
    control.client.wait("learned", |s| s.policy.epoch == 1);
    dataplane.push(0, &record(Some(&image), 1));
    control.collected(1);
    let told = Some(Ts(support::ADOPTED_NS));
    control
        .client
        .wait("told by the cores", |s| s.policy.adopted_ts == told);
    let flows = control.flows("");
    assert_eq!(flows[0].src_name.as_deref(), Some("web-1"));
    assert_eq!(flows[0].rule.as_deref(), Some("web-to-db"));
    // The next epoch is above what the dataplane has.
    assert_eq!(control.client.apply(POLICY).unwrap().epoch, 2);
}

#[test]
fn rollback_goes_back_to_the_previous_revision_under_a_new_epoch() {
    let (control, dataplane) = with_dataplane();
    let client = &control.client;
    let first = client.apply(POLICY).unwrap();
    let second = client
        .apply(&POLICY.replace("web-to-db", "web-may-ask-db"))
        .unwrap();
    assert_eq!(second.previous_revision, Some(first.revision.clone()));
    let request = RollbackRequest {
        revision: "previous".into(),
        ..RollbackRequest::default()
    };
    let third: api::policy::ApplyResult = client
        .post(api::endpoint::POLICY_ROLLBACK, &request)
        .unwrap();
    assert_eq!((third.epoch, &third.revision), (3, &first.revision));
    let by_digits = RollbackRequest {
        revision: second.revision[..8].into(),
        ..request
    };
    let fourth: api::policy::ApplyResult = client
        .post(api::endpoint::POLICY_ROLLBACK, &by_digits)
        .unwrap();
    assert_eq!(fourth.revision, second.revision);
    assert_eq!(dataplane.published(), [1, 2, 3, 4]);
    let unknown = RollbackRequest {
        revision: "ffffffffffff".into(),
        ..by_digits
    };
    let refused = client.post::<api::policy::ApplyResult>(api::endpoint::POLICY_ROLLBACK, &unknown);
    assert_eq!(refused.unwrap_err().0, 404);
    let log: PolicyLog = client.get("/v1/policy/log");
    let told = (log.entries[2].change, &*log.entries[2].file_name);
    let expected = format!("revision {}", &first.revision[..12]);
    assert_eq!(told, (PolicyChange::Rollback, &*expected));
}

#[test]
fn a_full_disk_stops_a_policy_before_it_is_published() {
    let (control, dataplane) = with_dataplane();
    let first = control.client.apply(POLICY).unwrap();
    let state = control.dir.path().join("state");
    // Every write to this file fails as on a full disk.
    std::os::unix::fs::symlink("/dev/full", state.join("pending.new")).unwrap();
    let (status, error) = control
        .client
        .apply(&POLICY.replace("web-to-db", "other"))
        .unwrap_err();
    assert_eq!((status, error.code), (507, ErrorCode::Storage));
    assert!(error.message.contains("No space left") && error.message.contains("unchanged"));
    assert_eq!(dataplane.published(), [1]);
    let show: PolicyInForce = control.client.get("/v1/policy");
    assert_eq!(
        (show.revision, show.state),
        (first.revision, PolicyState::Adopted)
    );
    // The disk has room again.
    control
        .client
        .apply(&POLICY.replace("web-to-db", "other"))
        .unwrap();
    assert_eq!(dataplane.published().len(), 2);
}

#[test]
fn a_dataplane_that_comes_back_without_policy_gets_it_again_under_a_higher_epoch() {
    let (control, mut dataplane) = with_dataplane();
    let first = control.client.apply(POLICY).unwrap();
    let applied = control.client.status();
    let image = dataplane.image();
    dataplane.push(0, &record(Some(&image), 1));
    dataplane.close(false);
    drop(dataplane);
    control.client.wait("disconnected", |s| {
        s.dataplane.state == DataplaneState::Disconnected
    });
    let dataplane = TestDataplane::start(&control.config);
    let status = control.client.wait("restored", |s| s.policy.epoch == 2);
    assert_eq!(
        (status.policy.state, status.policy.revision),
        (PolicyState::Adopted, first.revision)
    );
    assert_eq!(dataplane.published(), [2]);
    let log: PolicyLog = control.client.get("/v1/policy/log");
    assert_eq!(log.entries.last().unwrap().change, PolicyChange::Restore);
    // Who applied it, why and when is not forgotten because it had to be published again.
    let show: PolicyInForce = control.client.get("/v1/policy");
    assert_eq!((&*show.author, &*show.note), ("ada", "a test"));
    assert_eq!(show.adopted_ts, applied.policy.adopted_ts);
    // What the old region held is not lost, and is still named by the epoch that judged it.
    let flows = control.flows("");
    assert_eq!((flows.len(), flows[0].epoch), (1, 1));
    assert_eq!(flows[0].named_by, api::words::NamedBy::Epoch);
}

#[test]
fn a_change_while_the_policy_is_restored_waits_for_it() {
    let (control, mut dataplane) = with_dataplane();
    control.client.apply(POLICY).unwrap();
    dataplane.close(false);
    control.client.wait("disconnected", |s| {
        s.dataplane.state == DataplaneState::Disconnected
    });
    dataplane.forget_policy();
    dataplane.set_behaviour(Behaviour::Hold);
    dataplane.listen();
    control.client.wait("connected", |s| {
        s.dataplane.state == DataplaneState::Running
    });
    let other = POLICY.replace("web-to-db", "web-may-ask-db");
    let applied = std::thread::scope(|scope| {
        let change = scope.spawn(|| control.client.apply(&other));
        std::thread::sleep(Duration::from_millis(100));
        dataplane.set_behaviour(Behaviour::Adopt);
        change.join().unwrap().unwrap()
    });
    assert_eq!((applied.epoch, dataplane.published()), (3, vec![1, 2, 3]));
    let log: PolicyLog = control.client.get("/v1/policy/log");
    let changes: Vec<_> = log.entries.iter().map(|e| e.change).collect();
    let expected = [
        PolicyChange::Apply,
        PolicyChange::Restore,
        PolicyChange::Apply,
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_second_change_is_refused_while_the_first_is_under_way() {
    let (control, dataplane) = with_dataplane();
    dataplane.set_behaviour(Behaviour::Hold);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| control.client.apply(POLICY));
        control
            .client
            .wait("publishing", |s| s.policy.state == PolicyState::Publishing);
        let (status, error) = control.client.apply(POLICY).unwrap_err();
        assert_eq!((status, error.code), (409, ErrorCode::Busy));
        dataplane.set_behaviour(Behaviour::Adopt);
        assert_eq!(first.join().unwrap().unwrap().epoch, 1);
    });
    assert_eq!(dataplane.published(), [1]);
}

#[test]
fn a_control_process_that_comes_back_publishes_nothing_and_loses_no_record() {
    let (mut control, mut dataplane) = with_dataplane();
    let before = Ts(control::clock::now_ns());
    let first = control.client.apply(POLICY).unwrap();
    let after = Ts(control::clock::now_ns());
    let image = dataplane.image();
    dataplane.push(0, &record(Some(&image), 1));
    control.collected(1);
    control.stop();
    for number in 2..12 {
        assert!(dataplane.push(0, &record(Some(&image), number)));
    }
    control.start();
    control.client.wait_running();
    control.collected(10);
    let show: PolicyInForce = control.client.get("/v1/policy");
    assert_eq!(
        (show.revision, show.state),
        (first.revision, PolicyState::Adopted)
    );
    let since = show.adopted_ts.unwrap();
    assert!(
        (before..=after).contains(&since),
        "{since} is when it was applied"
    );
    assert_eq!(control.client.status().policy.adopted_ts, Some(since));
    assert_eq!(dataplane.published(), [1]);
    let flows = control.flows("limit=0");
    assert!(
        flows.iter().all(|f| f.src_name.as_deref() == Some("web-1")),
        "names came back"
    );
    let account: Accounting = control.client.get("/v1/accounting");
    assert!(account.balanced, "{account:#?}");
    assert_eq!(
        (account.records.collected_before, account.records.pushed),
        (1, 11)
    );
}

#[test]
fn a_full_ring_sheds_and_the_loss_is_told() {
    let (mut control, mut dataplane) = with_dataplane();
    control.stop();
    let pushed = (0..100)
        .filter(|n| dataplane.push(0, &record(None, *n)))
        .count();
    assert_eq!(pushed, 64, "the ring holds 64");
    control.start();
    control.client.wait_running();
    control.collected(64);
    let account: Accounting = control.client.get("/v1/accounting");
    assert!(account.balanced, "{account:#?}");
    assert_eq!((account.records.shed, account.total.shed), (36, 36 * 9));
}

#[test]
fn a_dataplane_that_finishes_is_finished_only_when_every_record_was_collected() {
    let (control, mut dataplane) = with_dataplane();
    for number in 0..60 {
        dataplane.push(usize::from(number % 2), &record(None, number));
    }
    dataplane.finish();
    let status = control.client.wait("finished", |s| {
        s.dataplane.state == DataplaneState::Finished
    });
    assert!(status.flows.drained);
    assert_eq!(status.flows.collected, 60);
    let (_, ndjson) = control
        .client
        .ask("GET", "/v1/flows?limit=0&format=ndjson", "");
    assert_eq!(ndjson.lines().count(), 60);
    let account: Accounting = control.client.get("/v1/accounting");
    assert!(account.balanced, "{account:#?}");
    let running = control.running.as_ref().unwrap();
    control.runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), running.finished())
            .await
            .unwrap();
    });
}

#[test]
fn a_dataplane_that_dies_leaves_its_records() {
    let (control, mut dataplane) = with_dataplane();
    for number in 0..50 {
        dataplane.push(0, &record(None, number));
    }
    dataplane.close(false);
    let status = control.client.wait("drained", |s| {
        s.dataplane.state == DataplaneState::Disconnected && s.flows.drained
    });
    assert_eq!(status.flows.collected, 50);
}

#[test]
fn a_dataplane_of_another_release_is_refused_with_a_clear_error() {
    let control = Box::new(|_| {});
    let path = control.config.dataplane_socket();
    let listener = UnixListener::bind(&path).unwrap();
    let mut hello = abi::link::Hello::new(abi::link::Role::Dataplane, 1, [0; 16]);
    hello.abi_epoch += 1;
    let mut bytes = Vec::new();
    abi::link::encode(&abi::link::Message::Hello(hello), &mut bytes).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&bytes).unwrap();
    let status = control.client.wait("incompatible", |s| {
        s.dataplane.state == DataplaneState::Incompatible
    });
    let error = status.dataplane.error.unwrap();
    assert!(
        error.contains("abi epoch") && error.contains("one release"),
        "{error}"
    );
}

#[test]
fn followers_see_flows_as_they_come() {
    let (control, mut dataplane) = with_dataplane();
    let stream = control
        .client
        .open("GET", "/v1/flows?follow=true&filter=port%2040003", "");
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}
    control.client.wait("followed", |s| s.flows.followers == 1);
    for number in 0..5 {
        dataplane.push(0, &record(None, number));
    }
    let flow: Flow = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(flow.sport, 40_003);
}

#[test]
fn collectors_get_every_flow_with_its_names() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let address = collector.local_addr().unwrap();
    let mut control = Box::new(|config| {
        config.export.collectors = vec![address.to_string().parse().unwrap()];
    });
    let mut dataplane = TestDataplane::start(&control.config);
    control.client.wait_running();
    control.client.apply(POLICY).unwrap();
    let image = dataplane.image();
    for number in 0..50 {
        dataplane.push(0, &record(Some(&image), number));
    }
    dataplane.push(0, &denied(&image, 99));
    control.collected(51);
    control
        .client
        .wait("exported", |s| s.export[0].records == 51);
    control.stop();
    let mut decoded = ipfix_support::Collector::default();
    let mut buffer = [0; 65_536];
    while let Ok(bytes) = collector.recv(&mut buffer) {
        decoded.receive(&buffer[..bytes]);
    }
    let flows = decoded.flows();
    assert_eq!(flows.len(), 51);
    let sum = |id| flows.iter().map(|f| f.number(0, id)).sum::<u64>();
    let reverse = |id| flows.iter().map(|f| f.number(29305, id)).sum::<u64>();
    assert_eq!(
        (sum(2), sum(1), reverse(2), reverse(1)),
        (255, 25_500, 200, 200_000)
    );
    let names: Vec<String> = decoded
        .records
        .iter()
        .filter(|r| r.template == 267)
        .map(|r| r.text(32473, 3))
        .collect();
    assert!(names.iter().any(|n| n.contains("shop-web")), "{names:?}");
    let rule = decoded.records.iter().find(|r| r.template == 268).unwrap();
    assert_eq!(rule.text(32473, 7), "web-to-db");
    assert_eq!(flows[0].number(32473, 6), rule.number(32473, 6));
    assert_eq!(flows.last().unwrap().number(0, 89), 130, "ACL drop");
    let ports: Vec<String> = decoded
        .records
        .iter()
        .filter(|r| r.template == 264)
        .map(|r| r.text(0, 82))
        .collect();
    assert!(ports.contains(&"outside0".to_owned()), "{ports:?}");
}

#[test]
fn a_metrics_port_that_is_taken_is_told_with_what_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_ringfence-control"))
        .arg("--run-dir")
        .arg(dir.path())
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .args(["--metrics", &address.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let expected = format!("cannot listen at {address} for metrics: Address already in use");
    assert!(said.contains(&expected), "{said}");
    let mend = "name another ADDRESS:PORT, or off, with --metrics or metrics.listen";
    assert!(said.contains(mend), "{said}");
}

#[test]
fn check_ends_with_2_where_the_configuration_or_its_policy_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (config, policy) = (dir.path().join("c.toml"), dir.path().join("p.toml"));
    let check = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_ringfence-control"))
            .arg("--check")
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        (ended.status.code(), said)
    };
    let with_policy = format!(
        "[metrics]\nlisten = \"off\"\n[policy]\nfile = \"{}\"\n",
        policy.display()
    );
    std::fs::write(&policy, POLICY).unwrap();
    assert_eq!(check(&with_policy), (Some(0), String::new()));
    std::fs::write(&policy, "mood = 1\n").unwrap();
    let place = format!("file {}", config.display());
    for (text, key) in [
        (&*with_policy, "policy.file"),
        ("[log]\nlevel = \"infoo\"\n", "key log.level"),
        (
            "[metrics]\nlisten = \"192.0.2.1:80\"\n",
            "key metrics.listen",
        ),
        ("[flows]\nrecent = 5\n", "key flows.recent"),
        (
            "[collector]\nsleep_max = \"0s\"\n",
            "key collector.sleep_max",
        ),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(key), "{text}: {said}");
        assert!(key == "policy.file" || said.contains(&place), "{said}");
    }
}

#[test]
fn a_second_control_process_is_refused() {
    let control = Box::new(|_| {});
    let second = control
        .runtime
        .block_on(control::start(control.config.clone()));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another control process answers"), "{error}");
    let mut elsewhere = control.config.clone();
    elsewhere.api.socket = Some(control.dir.path().join("other.sock"));
    let error = control
        .runtime
        .block_on(control::start(elsewhere))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("in use by another control process"),
        "{error}"
    );
}

#[test]
fn a_policy_named_in_the_configuration_is_applied_at_the_first_link() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("first.toml");
    std::fs::write(&file, POLICY).unwrap();
    let control = Box::new(|config| config.policy.file = Some(file));
    let dataplane = TestDataplane::start(&control.config);
    control
        .client
        .wait("applied", |s| s.policy.state == PolicyState::Adopted);
    assert_eq!(dataplane.published(), [1]);
    let log: PolicyLog = control.client.get("/v1/policy/log");
    let [entry] = &log.entries[..] else {
        panic!("{log:?}");
    };
    assert_eq!(
        (entry.change, &*entry.author, &*entry.note),
        (
            PolicyChange::Start,
            "ringfence-control",
            "policy.file of the configuration"
        )
    );
    assert!(entry.file_name.ends_with("first.toml"), "{entry:?}");
}

#[test]
fn every_endpoint_answers_json_and_errors_do_too() {
    let (control, _dataplane) = with_dataplane();
    // What is followed has no end; tests of its own read it.
    let has_end = |path: &&'static str| {
        ![api::endpoint::WATCH_FOLLOW, api::endpoint::CANDIDATES_WATCH].contains(path)
    };
    for (method, path) in api::endpoint::ALL {
        if !has_end(path) {
            continue;
        }
        let (_, body) = control.client.ask(method, path, "{}");
        assert!(!body.trim().is_empty(), "{path}");
        // One object, or one a line where work goes on while it is told.
        for line in body.lines() {
            let answer: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(answer.is_object(), "{path}: {body}");
        }
    }
    let (status, body) = control.client.ask("GET", "/v1/nothing", "");
    assert!(status == 404 && body.contains("not-found"), "{body}");
    let (status, body) = control.client.ask("POST", "/v1/status", "");
    assert!(
        status == 405 && body.contains("method-not-allowed"),
        "{body}"
    );
    let (status, body) = control.client.ask("GET", "/v1/flows?colour=red", "");
    assert!(status == 400 && body.contains("colour"), "{body}");
}

#[test]
fn a_policy_is_checked_without_a_control_process_as_with_one() {
    let control = Box::new(|_| {});
    let warned = POLICY.replace("mode = \"enforce\"", "mode = \"observe\"");
    for text in [POLICY, &warned, &POLICY.replace("mode =", "mood =")] {
        let request = api::policy::CheckRequest {
            text: text.to_owned(),
            file_name: "-shop.toml".into(),
        };
        let with_one: api::policy::CheckResult = control
            .client
            .post(api::endpoint::POLICY_CHECK, &request)
            .unwrap();
        // Neither configuration nor directories of this process are looked at.
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ringfence-control"))
            .arg("--check-policy=-shop.toml")
            .env("RINGFENCE_CONTROL_LOG__LEVEL", "7")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let without: api::policy::CheckResult = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(without, with_one);
        assert_eq!(without.valid, text.contains("mode ="));
    }
}

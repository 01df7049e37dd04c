//! What an operator sees, word by word: printers over fixed API values against files in `golden/`.
//! `UPDATE_GOLDEN=1 cargo test -p ringfence` writes the files anew; the diff is then reviewed.

#![forbid(unsafe_code)]

mod fixtures;

use api::{Drops, Ports};
use cli::page::Page;
use cli::print;
use fixtures::NOON;

/// Compares a page with `golden/NAME.txt`.
#[track_caller]
fn check(name: &str, page: &Page) {
    let path = fixtures::golden_path(name);
    let found = page.render(false);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).expect("golden files can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found,
        expected,
        "{name} differs from {}; if the new text is right, run with UPDATE_GOLDEN=1",
        path.display()
    );
}

#[test]
fn status_is_one_screen() {
    let (status, ports) = (fixtures::status(), fixtures::ports());
    let page = print::status(print::Overview {
        status: &status,
        ports: &ports,
        now: NOON,
    });
    assert!(
        page.render(false).lines().count() <= 24,
        "more than a terminal's 24 lines"
    );
    check("status", &page);
}

#[test]
fn status_without_dataplane_and_policy_says_what_to_do() {
    let mut status = fixtures::status();
    status.dataplane.state = api::status::DataplaneState::Disconnected;
    status.dataplane.error = Some("no such file or directory".into());
    status.dataplane.workers.clear();
    status.policy.state = api::policy::PolicyState::None;
    status.export.clear();
    let ports = Ports::default();
    let page = print::status(print::Overview {
        status: &status,
        ports: &ports,
        now: NOON,
    });
    check("status-disconnected", &page);
}

#[test]
fn status_says_what_the_cores_enforce_where_it_is_not_the_policy() {
    let mut status = fixtures::status();
    status.policy.state = api::policy::PolicyState::Waiting;
    let line = |status: &api::Status| {
        let page = print::status(print::Overview {
            status,
            ports: &Ports::default(),
            now: NOON,
        });
        let text = page.render(false);
        let found = text.lines().find(|line| line.starts_with("policy"));
        found.unwrap().to_owned()
    };
    for worker in &mut status.dataplane.workers {
        worker.policy_epoch = 0;
    }
    assert_eq!(
        line(&status),
        "policy       NONE ENFORCED, every packet follows no_policy; revision 3f9c0ad2b7e1 (epoch \
         7) waiting, not adopted; see `ringfence doctor`"
    );
    status.dataplane.workers[1].policy_epoch = 6;
    assert_eq!(
        line(&status),
        "policy       epochs 0, 6 enforced (0: none); revision 3f9c0ad2b7e1 (epoch 7) waiting, not \
         adopted; see `ringfence doctor`"
    );
    // Nothing is known of the cores of a dataplane that is away.
    status.dataplane.state = api::status::DataplaneState::Disconnected;
    assert!(
        line(&status).starts_with("policy       waiting"),
        "{}",
        line(&status)
    );
}

#[test]
fn flows_name_workloads_first_and_addresses_last() {
    check("flows", &print::flows(&fixtures::flows().flows, NOON));
    let tomorrow = api::Ts(NOON.0 + 86_400_000_000_000);
    check(
        "flows-dated",
        &print::flows(&fixtures::flows().flows, tomorrow),
    );
    check("flows-none", &print::flows(&[], NOON));
}

#[test]
fn followed_flows_stand_in_the_columns_of_their_header() {
    let mut text = print::flow_header().render(false);
    for flow in fixtures::flows().flows {
        text.push_str(&print::flow_line(&flow).render(false));
    }
    let mut page = Page::new();
    page.text(cli::page::Tone::Plain, &text);
    check("flows-follow", &page);
}

#[test]
fn a_broken_invariant_shows_its_paths() {
    let mut page = print::broken(&[fixtures::broken_invariant()]);
    let mut checked = fixtures::valid();
    checked.broken_invariants.push(fixtures::broken_invariant());
    let end = print::checked("shop.toml", &checked).render(false);
    page.text(cli::page::Tone::Plain, &end);
    check("policy-check-broken", &page);
}

#[test]
fn top_ends_with_the_sum_of_all() {
    check("top", &print::top(&fixtures::top()));
}

#[test]
fn ports_tell_what_is_down_and_what_was_missed() {
    check("ports", &print::ports(&fixtures::ports()));
}

#[test]
fn a_lane_of_two_workers_shows_what_they_hand_to_each_other() {
    let mut accounting = fixtures::accounting();
    accounting.workers[0].steered_out = 400_000;
    accounting.workers[0].returned_in = 390_000;
    accounting.workers[1].steered_in = 399_990;
    accounting.workers[1].returned_out = 390_010;
    accounting.workers[1].returned_answers = 20;
    accounting.total.steered_out = 400_000;
    accounting.total.steered_in = 399_990;
    accounting.total.returned_out = 390_010;
    accounting.total.returned_in = 390_000;
    accounting.total.returned_answers = 20;
    accounting.between_workers = 20;
    check("accounting-two-workers", &print::accounting(&accounting));
    let mut ports = fixtures::ports();
    for port in ports.ports.iter_mut().take(2) {
        port.workers = vec![0, 1];
    }
    check("ports-two-workers", &print::ports(&ports));
}

#[test]
fn stages_show_what_a_packet_costs_in_each() {
    check("stages", &print::stages(&fixtures::stages()));
    let mut off = fixtures::stages();
    for cost in &mut off.total.stages {
        (cost.cycles, cost.packets) = (0, 0);
    }
    check("stages-off", &print::stages(&off));
}

#[test]
fn drops_show_reasons_that_happened_with_their_sentence() {
    check("drops", &print::drops(&fixtures::drops()));
    check("drops-none", &print::drops(&Drops::default()));
}

#[test]
fn accounting_shows_every_core_the_total_and_the_differences() {
    check("accounting", &print::accounting(&fixtures::accounting()));
    check(
        "accounting-differs",
        &print::accounting(&fixtures::unbalanced()),
    );
}

#[test]
fn segments_workloads_and_rules_are_tables() {
    check("segments", &print::segments(&fixtures::segments()));
    check("workloads", &print::workloads(&fixtures::workloads(), NOON));
    check("policy-rules", &print::rules(&fixtures::rules(), NOON));
}

#[test]
fn policy_answers_tell_revision_epoch_and_adoption() {
    check(
        "policy-check",
        &print::checked("policy.toml", &fixtures::valid()),
    );
    check(
        "policy-check-invalid",
        &print::checked("policy.toml", &fixtures::invalid()),
    );
    check(
        "policy-apply",
        &print::applied("policy.toml", &fixtures::applied()),
    );
    check("policy-show", &print::policy_in_force(&fixtures::policy()));
    check("policy-log", &print::policy_log(&fixtures::policy_log()));
}

#[test]
fn places_in_a_policy_read_as_a_compiler_writes_them() {
    check(
        "policy-errors",
        &print::details(&fixtures::details(), "error"),
    );
}

#[test]
fn explain_tells_the_verdict_the_rule_and_what_was_seen() {
    check("explain", &print::explain(&fixtures::explain(), NOON));
    check(
        "explain-denied",
        &print::explain(&fixtures::explain_denied(), NOON),
    );
}

#[test]
fn doctor_tells_what_to_do() {
    check("doctor", &print::doctor(&fixtures::doctor()));
    check(
        "doctor-summary",
        &print::doctor_summary(&fixtures::doctor()),
    );
}

#[test]
fn what_a_change_did_to_live_flows_is_told_in_one_line() {
    let settled = |live, rejudged, changed, killed| cli::settle::Settled {
        live,
        rejudged,
        changed,
        killed,
        superseded_packets: 0,
        waited: std::time::Duration::from_millis(1_003),
    };
    for (settled, line) in [
        (settled(0, 0, 0, 0), "none, so nothing changed"),
        (
            settled(1, 0, 0, 0),
            "1 live flow was idle; it is judged at its next packet",
        ),
        (
            settled(31, 0, 0, 0),
            "31 live flows were idle; each is judged at its next packet",
        ),
        (
            settled(40, 40, 0, 0),
            "40 of 40 flows judged again within 1 s: no verdict changed",
        ),
        (
            settled(40, 12, 1, 0),
            "12 of 40 flows judged again within 1 s: 1 verdict changed; 28 at the next packet",
        ),
        (
            settled(40, 40, 3, 1),
            "40 of 40 flows judged again within 1 s: 3 verdicts changed, 1 flow ended \
             (on_change = \"kill\")",
        ),
    ] {
        let page = print::settled(&settled).render(false);
        let superseded = "superseded   no packet passed under the verdict before, within 1 s";
        assert_eq!(page, format!("live flows   {line}\n{superseded}\n"));
    }
    let one = cli::settle::Settled {
        superseded_packets: 1,
        ..settled(1, 1, 0, 0)
    };
    let page = print::settled(&one).render(false);
    let line = "superseded   1 packet passed under the verdict before, within 1 s\n";
    assert!(page.ends_with(line), "{page}");
}

#[test]
fn an_address_that_no_host_keeps_is_told_for_what_it_is() {
    for (address, segments, expected) in [
        ("0.0.0.0", &["unmanaged"][..], "0.0.0.0 (unspecified)"),
        // With another idea of what is internal the policy may count it to the internet.
        ("::", &["internet"], ":: (unspecified)"),
        (
            "255.255.255.255",
            &["unmanaged"],
            "255.255.255.255 (broadcast)",
        ),
        ("224.0.0.251", &["unmanaged"], "224.0.0.251 (multicast)"),
        ("ff02::1", &["unmanaged"], "ff02::1 (multicast)"),
        ("169.254.7.7", &["unmanaged"], "169.254.7.7 (link-local)"),
        ("fe80::7", &[], "fe80::7 (link-local)"),
        ("127.0.0.1", &["unmanaged"], "127.0.0.1 (loopback)"),
        ("10.9.9.9", &["unmanaged"], "10.9.9.9 (unmanaged)"),
        ("198.51.100.7", &["internet"], "198.51.100.7 (internet)"),
        // What an operator has named says more.
        ("224.0.0.251", &["unmanaged", "mdns"], "224.0.0.251 (mdns)"),
    ] {
        let flow = api::Flow {
            src: address.parse().unwrap(),
            src_name: None,
            src_segments: segments.iter().map(|s| (*s).into()).collect(),
            ..fixtures::allowed()
        };
        let page = print::flows(&[flow], NOON).render(false);
        assert!(page.contains(&format!("  {expected}  ")), "{page}");
    }
}

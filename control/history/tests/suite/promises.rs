//! What every engine promises, each as one story. Each is asked before a flush, after it, after maintenance, and after
//! the place was opened again.

use super::{FlowBuilder, HOUR_NS, INTERVAL_NS, MINUTE_NS, Place, START_NS};
use api::flow::{Flow, Tunnel};
use api::history::{Conversation, Membership, Sums};
use api::top::{Metric, TopBy};
use api::words::{EndReason, TcpState, TunnelKind};
use api::{Filter, Ts};
use history::{History, HistoryError, Selection};
use std::collections::HashMap;
use std::ops::ControlFlow;

type Make<'a> = &'a dyn Fn() -> Box<dyn Place>;

/// Everything that passes the filter, whenever.
pub(crate) fn whenever(filter: &str) -> Selection {
    during(0, u64::MAX, filter)
}

fn during(since_ns: u64, until_ns: u64, filter: &str) -> Selection {
    let filter = Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
    Selection {
        since_ns,
        until_ns,
        filter,
    }
}

/// Conversations in an order of their own.
pub(crate) fn conversations(
    history: &dyn History,
    of: &Selection,
) -> Result<Vec<Conversation>, HistoryError> {
    let mut all = Vec::new();
    history.conversations(of, &mut |c| {
        all.push(c);
        ControlFlow::Continue(())
    })?;
    all.sort_by_cached_key(|c| format!("{c:?}"));
    Ok(all)
}

/// What conversations add up to, whatever their intervals.
pub(crate) fn added_up(history: &dyn History, of: &Selection) -> Result<Vec<String>, HistoryError> {
    let mut all: HashMap<Conversation, Conversation> = HashMap::new();
    history.conversations_to_add_up(of, &mut |mut c| {
        (c.start_ts, c.interval_s) = (Ts(0), 0);
        all.entry(c.key())
            .and_modify(|sum| sum.add(&c))
            .or_insert(c);
        ControlFlow::Continue(())
    })?;
    let mut told: Vec<String> = all.into_values().map(|c| format!("{c:#?}")).collect();
    told.sort();
    Ok(told)
}

/// Appends the flows and checks the answers at every stage of their keeping.
fn told(make: Make, flows: &[Flow], check: impl Fn(&dyn History)) {
    let place = make();
    {
        let history = place.open();
        history.append(flows).expect("rows are taken");
        check(&*history);
        history.flush().expect("rows are made safe");
        check(&*history);
        history
            .maintain(START_NS + 3 * HOUR_NS)
            .expect("maintenance is done");
        check(&*history);
    }
    check(&*place.open());
}

pub(crate) fn flow_records_come_back_as_they_went_in_and_in_order(make: Make) {
    let mut tunnelled = FlowBuilder::new(3).at(MINUTE_NS, 2 * MINUTE_NS).done();
    tunnelled.tunnel = Some(Tunnel {
        kind: TunnelKind::Vxlan,
        id: 4_000_000_000,
        outer_src: [192, 0, 2, 1].into(),
        outer_dst: "2001:db8::9".parse().expect("an address"),
    });
    (tunnelled.vlans, tunnelled.egress_port) = (Vec::new(), None);
    (tunnelled.rtt_initiator_us, tunnelled.rtt_responder_us) = (None, Some(u32::MAX));
    let mut ping = FlowBuilder::new(4)
        .at(2 * MINUTE_NS, 2 * MINUTE_NS)
        .asks(1, 0)
        .named(None, None)
        .segments(&[], &["shop-db", "prod"])
        .done();
    (ping.sport, ping.icmp_type, ping.icmp_code) = (0, Some(8), Some(0));
    (ping.tcp_state, ping.end_reason) = (TcpState::None, EndReason::IdleTimeout);
    let six = FlowBuilder::new(5)
        .at(2 * MINUTE_NS, 3 * MINUTE_NS)
        .ends("2001:db8::1", "::ffff:10.0.0.1")
        .bytes(u64::from(u32::MAX) * 1000)
        .done();
    let flows = [
        FlowBuilder::new(1).at(0, 9).denied().done(),
        FlowBuilder::new(2).at(1, 1).goes_on().done(),
        tunnelled,
        ping,
        six,
        FlowBuilder::new(6)
            .at(3 * MINUTE_NS, HOUR_NS)
            .folded(900)
            .done(),
    ];
    let mut mixed = flows.clone();
    mixed.reverse();
    mixed.swap(1, 4);
    told(make, &mixed, |history| {
        assert_eq!(history.flows(&whenever(""), 0).expect("rows"), flows);
        let of = whenever("vni 4000000000 or end idle-timeout and icmp or src port 0");
        let some = history.flows(&of, 0).expect("rows");
        assert_eq!(some, [flows[2].clone(), flows[3].clone(), flows[5].clone()]);
    });
}

pub(crate) fn the_newest_of_a_selection_are_told_first_packet_first(make: Make) {
    let flows: Vec<Flow> = (1..=6)
        .map(|seq| {
            FlowBuilder::new(seq)
                .at((seq / 2) * MINUTE_NS, HOUR_NS)
                .done()
        })
        .collect();
    told(make, &flows, |history| {
        let newest = |filter, limit| -> Vec<u64> {
            let flows = history.flows(&whenever(filter), limit).expect("rows");
            flows.iter().map(|f| f.seq).collect()
        };
        assert_eq!(newest("", 3), [4, 5, 6]);
        assert_eq!(newest("", 100), [1, 2, 3, 4, 5, 6]);
        assert_eq!(newest("src port 40000", 2), [5, 6]);
        assert_eq!(newest("udp", 2), [0_u64; 0]);
    });
}

pub(crate) fn a_selection_takes_what_overlaps_its_time(make: Make) {
    let flows = [FlowBuilder::new(1).at(MINUTE_NS, 7 * MINUTE_NS).done()];
    told(make, &flows, |history| {
        let found = |since, until| {
            let of = during(START_NS + since, START_NS + until, "");
            let flows = history.flows(&of, 0).expect("rows").len();
            let told = conversations(history, &of).expect("rows").len();
            assert_eq!(flows, told, "{since}..{until}");
            flows
        };
        assert_eq!(found(0, MINUTE_NS), 0, "until is exclusive");
        assert_eq!(found(0, MINUTE_NS + 1), 1);
        assert_eq!(found(3 * MINUTE_NS, 4 * MINUTE_NS), 1, "it lasts through");
        assert_eq!(found(7 * MINUTE_NS, HOUR_NS), 1, "since is inclusive");
        assert_eq!(found(7 * MINUTE_NS + 1, HOUR_NS), 0);
    });
}

pub(crate) fn records_of_one_key_and_interval_are_one_conversation(make: Make) {
    let flows = [
        FlowBuilder::new(1).at(0, MINUTE_NS).done(),
        FlowBuilder::new(1)
            .at(2 * MINUTE_NS, 6 * MINUTE_NS)
            .goes_on()
            .done(),
        FlowBuilder::new(2).at(MINUTE_NS, 3 * MINUTE_NS).done(),
        FlowBuilder::new(3)
            .at(0, 0)
            .named(Some("web-2"), Some("db-1"))
            .done(),
        FlowBuilder::new(4)
            .at(0, 0)
            .would_be_denied("no-web-to-db")
            .done(),
    ];
    told(make, &flows, |history| {
        let all = conversations(history, &whenever("")).expect("conversations");
        assert_eq!(all.len(), 3, "{all:#?}");
        let whole = all
            .iter()
            .find(|c| c.sums.flows == 2)
            .expect("two flows began");
        assert_eq!(
            (
                whole.start_ts,
                whole.interval_s,
                whole.first_ts,
                whole.last_ts
            ),
            (
                Ts(START_NS),
                300,
                Ts(START_NS),
                Ts(START_NS + 6 * MINUTE_NS)
            )
        );
        assert_eq!((whole.sums.bytes_fwd, whole.sums.pkts_rev), (600, 3));
        assert_eq!(whole.key(), Conversation::of(&flows[0], 300).key());
        let mut seen = 0;
        let broken_off = history.conversations(&whenever(""), &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert!(broken_off.is_ok() && seen == 1, "{seen}");
    });
}

pub(crate) fn a_record_belongs_to_the_interval_of_its_first_packet(make: Make) {
    let flows = [
        FlowBuilder::new(1)
            .at(INTERVAL_NS - 1, 3 * INTERVAL_NS)
            .done(),
        FlowBuilder::new(2).at(INTERVAL_NS, INTERVAL_NS).done(),
    ];
    told(make, &flows, |history| {
        let series = history.series(&whenever(""), 300).expect("points");
        let starts: Vec<u64> = series.iter().map(|p| p.start_ts.0 - START_NS).collect();
        assert_eq!(starts, [0, INTERVAL_NS]);
        assert!(
            series
                .iter()
                .all(|p| p.sums.flows == 1 && p.sums.bytes() == 300)
        );
    });
}

pub(crate) fn a_filter_that_conversations_cannot_answer_is_refused_by_its_test(make: Make) {
    told(make, &[FlowBuilder::new(1).done()], |history| {
        let of = whenever("tcp and vlan 10");
        let refusals = [
            conversations(history, &of).map(drop),
            history.matrix(&of).map(drop),
            history.series(&of, 300).map(drop),
            history.top(&of, TopBy::Pairs, Metric::Bytes, 0).map(drop),
            history.first_seen(&of).map(drop),
            history.rule_use(&of).map(drop),
            history.coverage(&of).map(drop),
            history.talkers("web-1", &of).map(drop),
        ];
        for refusal in refusals {
            assert!(
                matches!(&refusal, Err(HistoryError::NotKept { test }) if test == "vlan 10"),
                "{refusal:?}"
            );
        }
        assert_eq!(history.flows(&of, 0).expect("flows keep VLANs").len(), 1);
    });
}

pub(crate) fn the_matrix_counts_an_end_in_each_of_its_segments(make: Make) {
    let flows = [
        FlowBuilder::new(1)
            .segments(&["web", "prod"], &["db"])
            .bytes(50)
            .done(),
        FlowBuilder::new(2)
            .segments(&[], &["db"])
            .asks(6, 22)
            .bytes(100)
            .denied()
            .done(),
        FlowBuilder::new(3)
            .segments(&["web"], &["db"])
            .bytes(7)
            .would_be_denied("x")
            .done(),
    ];
    told(make, &flows, |history| {
        let cells = history.matrix(&whenever("")).expect("cells");
        let lines: Vec<_> = cells
            .iter()
            .map(|c| {
                let name = |s: &Option<std::sync::Arc<str>>| s.as_deref().unwrap_or("-").to_owned();
                (
                    format!(
                        "{} {} {}",
                        name(&c.src_segment),
                        name(&c.dst_segment),
                        c.service
                    ),
                    (
                        c.sums.bytes(),
                        c.sums.flows,
                        c.denied_flows,
                        c.would_deny_flows,
                    ),
                )
            })
            .collect();
        let expected = [
            ("- db tcp/22", (100, 1, 1, 0)),
            ("web db postgres", (57, 2, 0, 1)),
            ("prod db postgres", (50, 1, 0, 0)),
        ];
        assert_eq!(
            lines,
            expected.map(|(name, counts)| (name.to_owned(), counts))
        );
    });
}

pub(crate) fn a_series_has_a_point_for_each_step_with_anything_in_it(make: Make) {
    let flows = [
        FlowBuilder::new(1).at(0, 0).done(),
        FlowBuilder::new(2)
            .at(55 * MINUTE_NS, 55 * MINUTE_NS)
            .denied()
            .done(),
        FlowBuilder::new(3).at(2 * HOUR_NS, 2 * HOUR_NS).done(),
    ];
    told(make, &flows, |history| {
        let points = |step_s, filter| -> Vec<(u64, u64, u64)> {
            let series = history.series(&whenever(filter), step_s).expect("points");
            series
                .iter()
                .map(|p| {
                    (
                        (p.start_ts.0 - START_NS) / MINUTE_NS,
                        p.sums.flows,
                        p.denied_flows,
                    )
                })
                .collect()
        };
        assert_eq!(points(3600, ""), [(0, 2, 1), (120, 1, 0)]);
        assert_eq!(points(300, "verdict deny"), [(55, 1, 1)]);
    });
}

pub(crate) fn the_largest_come_first_and_then_by_name(make: Make) {
    let flows = [
        FlowBuilder::new(1).bytes(10).done(),
        FlowBuilder::new(2)
            .bytes(10)
            .named(Some("a-1"), Some("db-1"))
            .done(),
        FlowBuilder::new(3)
            .named(None, Some("web-1"))
            .asks(17, 53)
            .bytes(500)
            .done(),
        FlowBuilder::new(4)
            .named(Some("web-1"), Some("web-1"))
            .bytes(3)
            .denied()
            .done(),
        FlowBuilder::new(5)
            .segments(&["a", "b"], &[])
            .bytes(0)
            .folded(40)
            .done(),
    ];
    told(make, &flows, |history| {
        let top = |by, metric, limit| -> Vec<(String, u64)> {
            let lines = history
                .top(&whenever(""), by, metric, limit)
                .expect("lines");
            let size = |s: &Sums| match metric {
                Metric::Bytes => s.bytes(),
                Metric::Packets => s.packets(),
                Metric::Flows => s.flows,
            };
            lines
                .iter()
                .map(|l| (l.name.to_string(), size(&l.sums)))
                .collect()
        };
        let check = |given: Vec<(String, u64)>, expected: &[(&str, u64)]| {
            let given: Vec<_> = given.iter().map(|(n, size)| (n.as_str(), *size)).collect();
            assert_eq!(given, expected);
        };
        check(
            top(TopBy::Pairs, Metric::Bytes, 3),
            &[
                ("10.0.1.10 -> web-1", 500),
                ("a-1 -> db-1", 10),
                ("web-1 -> db-1", 10),
            ],
        );
        check(
            top(TopBy::Workloads, Metric::Flows, 2),
            &[("web-1", 43), ("db-1", 42)],
        );
        check(
            top(TopBy::Services, Metric::Flows, 0),
            &[("(folded)", 40), ("postgres", 3), ("udp/53", 1)],
        );
        check(top(TopBy::Segments, Metric::Flows, 1), &[("a,b -> -", 40)]);
        check(
            top(TopBy::Rules, Metric::Bytes, 0),
            &[("web-to-db", 520), ("(default)", 3)],
        );
        check(top(TopBy::Scanners, Metric::Packets, 0), &[("web-1", 6)]);
    });
}

pub(crate) fn an_edge_is_first_seen_when_its_first_packet_ever_was(make: Make) {
    let flows = [
        FlowBuilder::new(1)
            .at(0, 0)
            .named(None, Some("db-0"))
            .done(),
        FlowBuilder::new(2).at(HOUR_NS, HOUR_NS).done(),
        FlowBuilder::new(3)
            .at(HOUR_NS, 2 * HOUR_NS)
            .asks(6, 22)
            .denied()
            .done(),
        FlowBuilder::new(4)
            .at(2 * HOUR_NS, 2 * HOUR_NS)
            .asks(6, 22)
            .done(),
        FlowBuilder::new(5).at(HOUR_NS, HOUR_NS).folded(7).done(),
    ];
    told(make, &flows, |history| {
        let seen = |since: u64, until: u64, filter| -> Vec<(u16, u64, u64, u64)> {
            let of = during(START_NS + since, START_NS + until, filter);
            let edges = history.first_seen(&of).expect("edges");
            edges
                .iter()
                .map(|e| {
                    let last = (e.last_ts.0 - START_NS) / MINUTE_NS;
                    (e.port, e.sums.flows, e.denied_flows, last)
                })
                .collect()
        };
        assert_eq!(
            seen(0, 3 * HOUR_NS, ""),
            [(5432, 2, 0, 60), (22, 2, 1, 120)]
        );
        assert_eq!(seen(MINUTE_NS, 3 * HOUR_NS, ""), [(22, 2, 1, 120)]);
        assert_eq!(
            seen(MINUTE_NS, 3 * HOUR_NS, "verdict allow"),
            [(22, 1, 0, 120)]
        );
        assert_eq!(seen(2 * HOUR_NS + 1, 3 * HOUR_NS, ""), []);
        let first = history
            .first_seen(&whenever("dst port 5432"))
            .expect("edges");
        assert_eq!(
            (first[0].src_name.as_deref(), first[0].dst_name.as_deref()),
            (None, Some("db-0")),
            "names are those of the first packet's time"
        );
    });
}

pub(crate) fn talkers_are_found_by_name_and_by_address(make: Make) {
    let flows = [
        FlowBuilder::new(1).bytes(10).done(),
        FlowBuilder::new(2)
            .bytes(30)
            .asks(17, 53)
            .ends("10.0.1.10", "2001:db8::53")
            .done(),
        FlowBuilder::new(3)
            .bytes(20)
            .named(Some("db-1"), None)
            .ends("10.0.2.20", "10.0.9.9")
            .done(),
        FlowBuilder::new(4)
            .bytes(99)
            .named(Some("db-1"), None)
            .folded(3)
            .done(),
    ];
    told(make, &flows, |history| {
        let talkers = |of: &str| -> Vec<u64> {
            let edges = history.talkers(of, &whenever("")).expect("edges");
            edges.iter().map(|e| e.sums.bytes()).collect()
        };
        assert_eq!(talkers("db-1"), [30, 20, 10]);
        assert_eq!(talkers("10.0.1.10"), [30, 10]);
        assert_eq!(talkers("2001:db8:0::53"), [30]);
        assert_eq!(talkers("nobody"), [0_u64; 0]);
    });
}

pub(crate) fn rules_tell_what_they_decided_and_would_have(make: Make) {
    let flows = [
        FlowBuilder::new(1).at(0, MINUTE_NS).done(),
        FlowBuilder::new(2)
            .at(HOUR_NS, HOUR_NS)
            .ends("10.0.1.11", "10.0.2.20")
            .done(),
        FlowBuilder::new(3)
            .at(0, 0)
            .asks(6, 80)
            .would_be_denied("no-web")
            .done(),
        FlowBuilder::new(4).denied().done(),
    ];
    told(make, &flows, |history| {
        let rules = history.rule_use(&whenever("")).expect("rules");
        let names: Vec<&str> = rules.iter().map(|r| &*r.rule).collect();
        assert_eq!(names, ["no-web", "web-to-db"]);
        let [no_web, web] = &rules[..] else {
            unreachable!("two names were told");
        };
        assert_eq!(
            (
                no_web.first_ts,
                no_web.sums.flows,
                no_web.sources,
                no_web.pending_flows
            ),
            (Ts(0), 0, 0, 1)
        );
        assert_eq!(
            (web.first_ts.0, web.last_ts.0),
            (START_NS, START_NS + HOUR_NS)
        );
        assert_eq!((web.sources, web.destinations, web.services), (2, 1, 1));
        assert_eq!((web.sums.flows, web.pending_flows), (2, 2));
    });
}

pub(crate) fn coverage_sums_what_rules_speak_about(make: Make) {
    let flows = [
        FlowBuilder::new(1).bytes(1).done(),
        FlowBuilder::new(2).bytes(10).denied().done(),
        FlowBuilder::new(3)
            .bytes(100)
            .would_be_denied("no-web")
            .done(),
    ];
    told(make, &flows, |history| {
        let share = history.coverage(&whenever("")).expect("sums");
        let flows_and_bytes = |s: &Sums| (s.flows, s.bytes());
        assert_eq!(flows_and_bytes(&share.all), (3, 111));
        assert_eq!(flows_and_bytes(&share.covered), (2, 101));
        assert_eq!(flows_and_bytes(&share.denied), (1, 10));
        assert_eq!(flows_and_bytes(&share.would_deny), (1, 100));
        let nothing = history.coverage(&whenever("udp")).expect("sums");
        assert_eq!(nothing.all, Sums::default());
    });
}

fn name(prefix: &str, workload: &str, segments: &[&str], revision: &str) -> Membership {
    Membership {
        from_ts: Ts(0),
        until_ts: None,
        prefix: prefix.to_owned(),
        workload: workload.into(),
        labels: [("app".to_owned(), "shop".to_owned())].into(),
        segments: segments.iter().map(|s| (*s).into()).collect(),
        revision: revision.into(),
    }
}

pub(crate) fn names_hold_from_the_time_they_were_noted_until_they_are_gone(make: Make) {
    let web = |revision| name("10.0.1.10", "web-1", &["shop-web"], revision);
    let db = |segment| name("10.0.2.20", "db-1", &[segment], "r1");
    let held = |m: Membership, from: u64, until: Option<u64>| Membership {
        from_ts: Ts(from),
        until_ts: until.map(Ts),
        ..m
    };
    let expected = [
        held(web("r1"), 100, Some(400)),
        held(db("shop-db"), 100, Some(200)),
        held(db("vault"), 200, None),
    ];
    let check = |history: &dyn History| {
        assert_eq!(history.names(0, u64::MAX).expect("names"), expected);
        assert_eq!(
            history.names(0, 100).expect("names"),
            [],
            "until is exclusive"
        );
        assert_eq!(
            history.names(200, 201).expect("names"),
            [expected[0].clone(), expected[2].clone()]
        );
        assert_eq!(
            history.names(400, 500).expect("names"),
            [expected[2].clone()]
        );
    };
    let place = make();
    {
        let history = place.open();
        let note = |at, names: &[Membership]| history.note_names(at, names).expect("noted");
        note(100, &[web("r1"), db("shop-db")]);
        note(200, &[db("vault"), web("r2")]);
        note(300, &[db("vault"), web("r3")]);
        note(250, &[db("vault"), web("r3")]);
        history.flush().expect("names are made safe");
    }
    {
        let history = place.open();
        history.note_names(400, &[db("vault")]).expect("noted");
        check(&*history);
        history.flush().expect("names are made safe");
        history.maintain(START_NS).expect("maintenance is done");
        check(&*history);
    }
    check(&*place.open());
}

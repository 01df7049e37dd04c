//! The embedded engine keeps the promises of history, and answers as its obvious twin does, whatever was flushed,
//! rolled up, merged and opened again in between.
#![forbid(unsafe_code)]

mod suite;

use api::filter::Filter;
use api::flow::Flow;
use api::history::Conversation;
use api::top::{Metric, TopBy};
use history::{EmbeddedHistory, EmbeddedOptions, History, MemoryHistory, Retention, Selection};
use proptest::prelude::*;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use suite::{FlowBuilder, HOUR_NS, MINUTE_NS, Place, START_NS};
use tempfile::TempDir;

/// Years in which no row of a test goes.
const FOR_EVER: Retention = Retention {
    age_max_s: u64::MAX,
    bytes_max: u64::MAX,
};

fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        flows: FOR_EVER,
        short: FOR_EVER,
        long: FOR_EVER,
        query_threads: NonZeroUsize::MIN,
        ..EmbeddedOptions::default()
    }
}

fn open(dir: &TempDir) -> EmbeddedHistory {
    EmbeddedHistory::open(&dir.path().join("history"), options()).expect("a directory to keep")
}

struct OnDisk(TempDir);

impl Place for OnDisk {
    fn open(&self) -> Arc<dyn History> {
        Arc::new(open(&self.0))
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the suite asks whether the engine runs here; this one always does"
)]
fn make() -> Option<OnDisk> {
    Some(OnDisk(tempfile::tempdir().expect("a temporary directory")))
}

suite::suite_of!(make);

/// What is done to both between questions.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Flow>),
    Flush,
    /// Hours after the start.
    Maintain(u64),
    Reopen,
}

fn flow() -> impl Strategy<Value = Flow> {
    let ends = (0_u8..4, 0_u8..4, any::<bool>());
    let times = (0_u64..48, 0_u64..20, 0_u64..3);
    let kind = (0_u8..6, 0_u16..3, 1_u64..5000, any::<bool>());
    (ends, times, kind, 0_u64..1000).prop_map(|((src, dst, v6), (at, long, odd), kind, seq)| {
        let (what, port, bytes, begins) = kind;
        let address = |n: u8| {
            if v6 {
                format!("2001:db8::{n}")
            } else {
                format!("10.0.{n}.1")
            }
        };
        let name = |n: u8| (n > 0).then(|| format!("host-{n}"));
        let segments: [&[&str]; 4] = [&[], &["a"], &["a", "b"], &["bb"]];
        let segment = |n: u8| segments[usize::from(n)];
        let first_ns = at * 7 * MINUTE_NS + odd;
        let flow = FlowBuilder::new(seq)
            .at(first_ns, first_ns + long * MINUTE_NS / 2)
            .ends(&address(src), &address(dst))
            .named(name(src).as_deref(), name(dst).as_deref())
            .segments(segment(src), segment(dst))
            .bytes(bytes);
        let mut flow = match what {
            0 => flow.denied(),
            1 => flow.would_be_denied("later"),
            2 => flow.folded(bytes),
            3 => flow.asks(17, 53 + port),
            4 => flow.asks(6, 440 + port),
            _ => flow,
        }
        .done();
        if what == 3 && port == 0 {
            (flow.proto, flow.dport, flow.sport) = (1, 0, 0);
            (flow.icmp_type, flow.icmp_code) = (Some(8), Some(0));
        }
        flow.begins = begins;
        flow
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(flow(), 1..40).prop_map(Step::Append),
        2 => Just(Step::Flush),
        2 => (0_u64..12).prop_map(Step::Maintain),
        1 => Just(Step::Reopen),
    ]
}

const FILTERS: &[&str] = &[
    "",
    "src net 10.0.0.0/15 and not dst host 10.0.1.1",
    "segment a or workload host-3",
    "dst segment b* and proto 6",
    "verdict deny or pending deny",
    "bytes > 2k and not packets = 3",
    "service tcp/44* or service postgres or service icmp/8",
    "port 53-54 and not rule *",
    "kind aggregate",
    "src net 2001:db8::/64 and dropped >= 3",
];

fn selection() -> impl Strategy<Value = Selection> {
    (0_u64..300, 0_u64..400, 0..FILTERS.len(), any::<bool>()).prop_map(
        |(since, span, filter, all)| {
            let since_ns = START_NS + since * MINUTE_NS;
            Selection {
                since_ns: if all { 0 } else { since_ns },
                until_ns: if all {
                    u64::MAX
                } else {
                    since_ns + span * MINUTE_NS
                },
                filter: Filter::parse(FILTERS[filter]).expect("a filter of this file"),
            }
        },
    )
}

fn conversations(history: &dyn History, of: &Selection) -> Vec<Conversation> {
    let mut all = Vec::new();
    history
        .conversations(of, &mut |c| {
            all.push(c);
            ControlFlow::Continue(())
        })
        .expect("conversations");
    all.sort_by_key(|c| format!("{c:?}"));
    all
}

/// One of the questions.
const QUESTIONS: usize = 24;

/// An answer, as text.
fn answer(history: &dyn History, question: usize, of: &Selection, limit: u64) -> String {
    let by = TopBy::ALL[question % TopBy::ALL.len()];
    let talkers = |workload| format!("{:#?}", history.talkers(workload, of).expect("talkers"));
    match question {
        0 | 1 => format!("{:#?}", conversations(history, of)),
        2 => format!("{:#?}", history.matrix(of).expect("matrix")),
        3 => format!("{:#?}", history.series(of, 300).expect("series")),
        4 => format!("{:#?}", history.series(of, 7200).expect("series")),
        5 => format!("{:#?}", history.first_seen(of).expect("edges")),
        6 => format!("{:#?}", history.rule_use(of).expect("rules")),
        7 => format!("{:#?}", history.coverage(of).expect("coverage")),
        8 => format!("{:#?}", history.flows(of, limit).expect("flows")),
        9 => format!("{:#?}", history.flows(of, 0).expect("flows")),
        10 => talkers("host-1"),
        11 => talkers("10.0.2.1"),
        12..18 => format!(
            "{:#?}",
            history.top(of, by, Metric::Bytes, limit).expect("top")
        ),
        _ => format!("{:#?}", history.top(of, by, Metric::Flows, 0).expect("top")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_was_flushed_rolled_up_merged_and_opened_again_the_answers_are_those_of_the_twin(
        steps in proptest::collection::vec(step(), 1..12),
        asked in proptest::collection::vec((0..QUESTIONS, selection(), 0_u64..9), 4),
    ) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let twin = MemoryHistory::new(NonZeroUsize::MAX);
        let mut engine = Some(open(&dir));
        for step in steps {
            let history = engine.as_ref().expect("it is open");
            match step {
                Step::Append(flows) => {
                    history.append(&flows).expect("rows are taken");
                    twin.append(&flows).expect("rows are taken");
                }
                Step::Flush => history.flush().expect("there is room"),
                Step::Maintain(hours) => {
                    history.maintain(START_NS + hours * HOUR_NS).expect("there is room");
                }
                Step::Reopen => {
                    drop(engine.take());
                    engine = Some(open(&dir));
                }
            }
        }
        let history = engine.as_ref().expect("it is open");
        for (question, of, limit) in &asked {
            let told = answer(history, *question, of, *limit);
            prop_assert_eq!(told, answer(&twin, *question, of, *limit), "{} {:?}", question, of);
        }
        prop_assert_eq!(history.state().lost, 0);
    }
}

/// Rows that come, roll-ups and merges, and questions, all at once.
#[test]
fn rows_come_and_questions_are_answered_while_hours_are_rolled_up_and_merged() {
    const FLUSHES: u64 = 60;
    const FLOWS: u64 = 40;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let twin = MemoryHistory::new(NonZeroUsize::MAX);
    let engine = open(&dir);
    let everything = Selection {
        since_ns: 0,
        until_ns: u64::MAX,
        filter: Filter::parse("").expect("the filter of everything"),
    };
    let is_done = AtomicBool::new(false);
    let flow = |at: u64| {
        let first_ns = at * 5 * MINUTE_NS / FLOWS;
        FlowBuilder::new(at)
            .at(first_ns, first_ns + MINUTE_NS)
            .ends(&format!("10.0.0.{}", at % 7), "10.0.1.1")
            .done()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Hours end while their rows still come; those that come later are late.
            for hours in (1..).take_while(|_| !is_done.load(Ordering::Acquire)) {
                let now_ns = START_NS + hours % 6 * HOUR_NS;
                engine.maintain(now_ns).expect("the engine is maintained");
            }
        });
        scope.spawn(|| {
            let mut told = 0;
            while !is_done.load(Ordering::Acquire) {
                let flows = engine.coverage(&everything).expect("an answer").all.flows;
                assert!(flows >= told, "{told} flows, then {flows}");
                told = flows;
            }
        });
        for flush in 0..FLUSHES {
            let flows: Vec<Flow> = (flush * FLOWS..(flush + 1) * FLOWS).map(flow).collect();
            engine.append(&flows).expect("the engine takes rows");
            twin.append(&flows).expect("the twin takes rows");
            engine.flush().expect("the engine makes rows safe");
        }
        is_done.store(true, Ordering::Release);
    });
    for _ in 0..2 {
        for question in 0..QUESTIONS {
            let given = answer(&engine, question, &everything, 7);
            assert_eq!(given, answer(&twin, question, &everything, 7), "{question}");
        }
        let day_later = START_NS + 48 * HOUR_NS;
        engine
            .maintain(day_later)
            .expect("the engine is maintained");
    }
    drop(engine);
    let state = open(&dir).state();
    assert_eq!((state.lost, state.set_aside), (0, vec![]));
}

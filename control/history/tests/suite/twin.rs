//! An engine beside `MemoryHistory`: the same rows, the same questions, the same answers.

use super::draw::{Asked, any_asked, any_flows};
use super::promises::{added_up, conversations};
use super::{HOUR_NS, Place, START_NS};
use api::flow::Flow;
use history::{History, MemoryHistory};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::num::NonZeroUsize;

/// Histories that are drawn, each asked some questions at every stage. `PROPTEST_CASES` says how many.
const CASES: u32 = 8;
const FLOWS_MAX: usize = 60;

/// What happens between two parts of the rows.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Nothing,
    Flush,
    Maintain,
    Reopen,
}

fn any_stages() -> impl Strategy<Value = Vec<(usize, Stage)>> {
    let stage = prop::sample::select(vec![
        Stage::Nothing,
        Stage::Flush,
        Stage::Maintain,
        Stage::Reopen,
    ]);
    prop::collection::vec((1..FLOWS_MAX, stage), 1..3)
}

/// Fails with the question where the two do not answer alike.
#[track_caller]
fn compare(engine: &dyn History, twin: &dyn History, asked: &Asked) {
    let of = &asked.of;
    macro_rules! alike {
        ($($ask:tt)+) => {
            let (given, expected) = (engine.$($ask)+, twin.$($ask)+);
            let expected = expected.expect("the twin answers");
            match given {
                Ok(given) => assert_eq!(given, expected, "{} {asked:?}", stringify!($($ask)+)),
                Err(e) => panic!("{} {asked:?}: {e}", stringify!($($ask)+)),
            }
        };
    }
    alike!(flows(&asked.flows_of, asked.limit));
    alike!(matrix(of));
    alike!(series(of, asked.step_s));
    alike!(top(of, asked.by, asked.metric, asked.limit));
    alike!(first_seen(of));
    alike!(rule_use(of));
    alike!(coverage(of));
    alike!(talkers(asked.workload, of));
    assert_eq!(
        conversations(engine, of).expect("the engine tells conversations"),
        conversations(twin, of).expect("the twin tells conversations"),
        "conversations {asked:?}"
    );
    assert_eq!(
        added_up(engine, of).expect("the engine tells what adds up"),
        added_up(twin, of).expect("the twin tells what adds up"),
        "conversations to add up {asked:?}"
    );
}

fn run(place: &dyn Place, flows: &[Flow], stages: &[(usize, Stage)], questions: &[Asked]) {
    let twin = MemoryHistory::new(NonZeroUsize::MAX);
    let mut engine = place.open();
    let mut rest = flows;
    let mut told = 0;
    for (count, stage) in stages.iter().copied().chain([(usize::MAX, Stage::Reopen)]) {
        let (part, behind) = rest.split_at(count.min(rest.len()));
        rest = behind;
        told += part.len();
        engine.append(part).expect("the engine takes rows");
        twin.append(part).expect("the twin takes rows");
        match stage {
            Stage::Nothing => {}
            Stage::Flush => engine.flush().expect("the engine makes rows safe"),
            Stage::Maintain => engine
                .maintain(START_NS + 4 * HOUR_NS)
                .expect("the engine is maintained"),
            Stage::Reopen => {
                engine.flush().expect("the engine makes rows safe");
                drop(engine);
                engine = place.open();
            }
        }
        for asked in questions {
            compare(&*engine, &twin, asked);
        }
    }
    assert_eq!(told, flows.len());
}

pub(crate) fn the_engine_answers_as_its_twin<P: Place>(make: fn() -> Option<P>) {
    if make().is_none() {
        return;
    }
    let mut runner = TestRunner::new(Config {
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(CASES),
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let drawn = (
        any_flows(FLOWS_MAX),
        any_stages(),
        prop::collection::vec(any_asked(), 1..3),
    );
    let result = runner.run(&drawn, |(flows, stages, questions)| {
        if let Some(place) = make() {
            run(&place, &flows, &stages, &questions);
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}

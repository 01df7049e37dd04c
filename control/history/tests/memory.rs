//! The obvious twin keeps the promises of history too, as far as it outlives a process: not at all.
#![forbid(unsafe_code)]

mod suite;

use api::flow::Flow;
use history::{History, MemoryHistory, Selection};
use std::num::NonZeroUsize;
use std::sync::Arc;
use suite::{FlowBuilder, Place};

/// A place that lasts as long as the test: opening it again gives the same list.
struct InMemory(Arc<MemoryHistory>);

impl Place for InMemory {
    fn open(&self) -> Arc<dyn History> {
        Arc::clone(&self.0) as Arc<dyn History>
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the suite asks whether the engine runs here; this one always does"
)]
fn make() -> Option<InMemory> {
    Some(InMemory(Arc::new(MemoryHistory::new(NonZeroUsize::MAX))))
}

suite::suite_of!(make);

#[test]
fn beyond_its_rows_the_records_that_came_first_go() {
    let history = MemoryHistory::new(NonZeroUsize::new(2).expect("2 is not 0"));
    let flows: Vec<Flow> = (1..=3).map(|seq| FlowBuilder::new(seq).done()).collect();
    history.append(&flows).expect("memory takes rows");
    let all = Selection {
        since_ns: 0,
        until_ns: u64::MAX,
        filter: api::Filter::parse("").expect("everything"),
    };
    assert_eq!(history.flows(&all, 0).expect("kept"), flows[1..]);
    let state = history.state();
    assert_eq!((state.appended, state.tiers[0].rows), (3, 2));
}

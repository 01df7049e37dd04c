//! One suite for every engine: what `History` promises, as tests with names, and questions drawn at random whose
//! answers must be those of `MemoryHistory`, the obvious twin.
//!
//! An engine's own test file says `mod suite;`, `suite::suite_of!(make);` and `suite::twin_of!(make);`, where `make`
//! gives a new, empty place.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each engine's test file uses the part that it can keep"
)]

mod draw;
mod promises;
mod rows;
pub(crate) mod twin;

pub(crate) use rows::{FlowBuilder, HOUR_NS, INTERVAL_NS, MINUTE_NS, START_NS};

use history::History;
use std::sync::Arc;

/// Where an engine keeps history. It is opened again after the one before was dropped, and then holds the same.
pub(crate) trait Place {
    /// Opens what is there.
    fn open(&self) -> Arc<dyn History>;
}

/// Declares the test that holds an engine to its twin.
macro_rules! twin_of {
    ($make:path) => {
        #[test]
        fn the_engine_answers_as_its_twin() {
            $crate::suite::twin::the_engine_answers_as_its_twin($make);
        }
    };
}
pub(crate) use twin_of;

/// Declares one test for each promise. `$make` is a function that gives a new, empty [`Place`], or `None` where the
/// engine cannot run here (it has then said why).
macro_rules! suite_of {
    ($make:path) => {
        $crate::suite::suite_of!($make:
            flow_records_come_back_as_they_went_in_and_in_order,
            the_newest_of_a_selection_are_told_first_packet_first,
            a_selection_takes_what_overlaps_its_time,
            records_of_one_key_and_interval_are_one_conversation,
            a_record_belongs_to_the_interval_of_its_first_packet,
            a_filter_that_conversations_cannot_answer_is_refused_by_its_test,
            the_matrix_counts_an_end_in_each_of_its_segments,
            a_series_has_a_point_for_each_step_with_anything_in_it,
            the_largest_come_first_and_then_by_name,
            an_edge_is_first_seen_when_its_first_packet_ever_was,
            talkers_are_found_by_name_and_by_address,
            rules_tell_what_they_decided_and_would_have,
            coverage_sums_what_rules_speak_about,
            names_hold_from_the_time_they_were_noted_until_they_are_gone,
        );
    };
    ($make:path: $($name:ident,)+) => {
        $(
            #[test]
            fn $name() {
                $crate::suite::run($make, $crate::suite::named::$name);
            }
        )+
    };
}
pub(crate) use suite_of;

/// The promises by name, for the macro.
pub(crate) mod named {
    pub(crate) use super::promises::*;
}

/// Runs a promise where the engine runs.
pub(crate) fn run<P: Place + 'static>(
    make: fn() -> Option<P>,
    promise: fn(&dyn Fn() -> Box<dyn Place>),
) {
    if make().is_none() {
        return;
    }
    promise(&|| match make() {
        Some(place) => Box::new(place),
        None => unreachable!("a place was made a moment ago"),
    });
}

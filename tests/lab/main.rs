//! Promises that need a whole appliance, shown with real hosts and real tools. One file each; the
//! harness runs them one after the other, because each needs the machine for itself.

#![forbid(unsafe_code)]

mod bad_input;
mod confirm;
mod control_dies;
mod export;
mod forwarding;
mod live_flows;
mod moves;
mod policies;
mod policy_changes;
mod polling;
mod port_links;
mod recorded;
mod second_appliance;
mod story;
mod streams;
mod two_appliers;
mod two_workers;
mod verdicts;

use std::process::ExitCode;

use ringfence_tests::suite::{self, Promise};

fn main() -> ExitCode {
    let groups: [Vec<Promise>; 16] = [
        forwarding::promises(),
        verdicts::promises(),
        policy_changes::promises(),
        confirm::promises(),
        control_dies::promises(),
        export::promises(),
        polling::promises(),
        bad_input::promises(),
        second_appliance::promises(),
        live_flows::promises(),
        moves::promises(),
        port_links::promises(),
        two_appliers::promises(),
        two_workers::promises(),
        story::promises(),
        recorded::promises(),
    ];
    let promises: Vec<Promise> = groups.into_iter().flatten().collect();
    suite::main(&promises)
}

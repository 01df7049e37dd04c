//! The promises of one core, from frame to verdict, record and counter, through ports in memory:
//! no namespaces, no root, time moved by hand.

mod frames;
mod rig;

mod adoption;
mod attacks;
mod conservation;
mod exceptions;
mod live_flows;
mod stages;
mod stalls;
mod steered;
mod straight;
mod two_workers;
mod verdicts;

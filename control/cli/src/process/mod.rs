//! The two processes that `up` and `replay` start: found, started, watched, stopped.

mod ask;
mod bound;
mod child;
mod last_resort;
mod locate;
mod signals;

pub use ask::ask;
pub use bound::BoundChild;
pub use child::{Child, ChildError, Environment, Logs};
pub use last_resort::{guard_panics, remove_on_panic};
pub use locate::{LocateError, Programs};
pub use signals::Signals;

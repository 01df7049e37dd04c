//! What the tests of the whole house share: where things are, commands with a time limit, flow
//! tables, and the lab of network namespaces.
//!
//! Only `tests/tidy.rs`, `tests/truth.rs` and `tests/lab/` call it. It is not part of the product,
//! so a condition that a test depends on and that does not hold panics with a sentence.

#![forbid(unsafe_code)]

pub mod capture;
pub mod command;
pub mod datagrams;
pub mod golden;
pub mod lab;
pub mod places;
pub mod recorded;
pub mod suite;
pub mod table;
pub mod terminal;

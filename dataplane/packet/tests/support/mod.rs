//! What the tests need beside the parser. Each test file uses its own part of it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "one support module serves several test binaries"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "frames of the tests are short"
)]

pub mod capture;
pub mod frames;
pub mod table;

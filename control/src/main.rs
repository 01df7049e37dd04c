//! The polling process.
fn main() {}

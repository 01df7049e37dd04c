//! What the truth test needs beside the parser: capture files, and flow tables by the oracle's rules.

pub mod capture;
pub mod table;

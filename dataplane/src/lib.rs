//! The polling process.

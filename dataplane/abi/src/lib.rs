//! The bytes both processes agree on.

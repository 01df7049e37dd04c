//! Promises: the lab harness and one file per promise.

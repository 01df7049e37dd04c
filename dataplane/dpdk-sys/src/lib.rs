//! Raw bindings to libdpdk: what bindgen reads from its headers on the allow-list of `build.rs`,
//! and the `shim_*` functions of `src/shim.c` for what is inline, a macro or a thread-local there.
//!
//! Only the `dpdk` crate calls this. It never decides anything: no safety, no errors, no names of
//! its own.
#![allow(
    missing_docs,
    non_camel_case_types,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::ptr_as_ptr,
    clippy::undocumented_unsafe_blocks,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "names and shapes are those of libdpdk's headers, written by bindgen"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

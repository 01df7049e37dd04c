//! Parts measured alone: instructions a packet, looking a flow up, classifying, collecting records.

pub(crate) mod callgrind;
pub(crate) mod classify;
pub(crate) mod instructions;
pub(crate) mod lookup;
pub(crate) mod peer_program;
pub(crate) mod work;

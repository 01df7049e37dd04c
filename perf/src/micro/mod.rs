//! Parts measured alone: instructions a packet, looking a flow up, classifying, collecting records.

pub(crate) mod callgrind;
pub(crate) mod instructions;
pub(crate) mod work;

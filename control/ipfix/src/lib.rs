//! IPFIX encoder: pure.

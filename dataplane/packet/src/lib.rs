//! Frames to headers: pure parsers, one file per protocol.

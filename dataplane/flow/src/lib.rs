//! The flow cache of one core: fixed capacity, bidirectional, time passed in.

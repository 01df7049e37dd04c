//! Flows of captures against truth computed by others.

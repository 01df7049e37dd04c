//! The public protocol: request and response types.

//! IPFIX encoder: flows and what explains them in, messages out.
//!
//! Called by the exporter of the control process, one [`Session`] for each collector. This room is
//! pure: it never opens a socket and never reads a clock; time and bytes are arguments. What is
//! exported is in two tables: [`element`] has every information element once, [`record`] binds the
//! elements of each template to the values they carry, so a template and its data cannot drift
//! apart.
//!
//! RFC 7011 (protocol), RFC 5103 (biflow), RFC 5610 (type information), RFC 7270 (forwarding
//! status), RFC 5477 (sampling).
#![forbid(unsafe_code)]

pub mod element;
mod message;
pub mod options;
pub mod record;
mod session;

pub use element::{Element, Pen};
pub use message::Message;
pub use options::{Announcement, Interface, RuleEntry, SegmentEntry, Statistics};
pub use record::{Biflow, Personality};
pub use session::{
    DICTIONARY_MAX, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN, Session, Settings, SettingsError,
};

//! The public protocol: what the control process answers and what it is asked, as JSON over
//! HTTP/1.1.
//!
//! Called by the control process (which fills these types) and by every client (which reads them);
//! it is the only public protocol of the product. The same words stand in JSON, in the TSV of
//! `replay`, in the filter language and in metrics. This room never opens a socket or a file and
//! never reads a clock: no transport, no time but what is passed in.
#![forbid(unsafe_code)]

#[macro_use]
pub mod words;

pub mod accounting;
pub mod candidate;
pub mod endpoint;
pub mod error;
pub mod explain;
pub mod filter;
pub mod flow;
pub mod foresight;
pub mod history;
pub mod inventory;
pub mod label;
pub mod life;
pub mod policy;
pub mod quarantine;
pub mod reach;
pub mod readiness;
pub mod simulate;
pub mod stages;
pub mod status;
pub mod suggest;
pub mod time;
pub mod top;
pub mod turning;
pub mod watch;

pub use accounting::{Accounting, Drops, Ports};
pub use error::{ApiError, ErrorBody, ErrorCode, ErrorDetail};
pub use explain::Explain;
pub use filter::{Filter, FilterError};
pub use flow::{Flow, FlowsQuery, Tunnel};
pub use stages::Stages;
pub use status::{Doctor, Status};
pub use time::Ts;
pub use top::{Top, TopQuery};

/// Number of this protocol, the `v1` of every path.
pub const API_EPOCH: u32 = 1;

//! Errors of the API: one JSON shape for all, with the HTTP status that belongs to the code.

use serde::{Deserialize, Serialize};

words! {
    /// What kind of error; programs decide by this word.
    pub enum ErrorCode {
        /// A parameter or a body that cannot be understood.
        BadRequest => "bad-request",
        /// No such path, revision, segment ...
        NotFound => "not-found",
        /// The path has no such method.
        MethodNotAllowed => "method-not-allowed",
        /// The policy is not valid; `details` say where and how to mend it.
        InvalidPolicy => "invalid-policy",
        /// The policy breaks an invariant that it states; `details` say the path.
        InvariantBroken => "invariant-broken",
        /// The dataplane refused the policy image; the old policy stays in force.
        Refused => "refused",
        /// The dataplane is not connected.
        NoDataplane => "no-dataplane",
        /// The dataplane did not answer in time; it may still adopt.
        Timeout => "timeout",
        /// Another change of policy is under way.
        Busy => "busy",
        /// The request does not fit what is in force: another revision is, or one waits for its
        /// confirmation.
        Conflict => "conflict",
        /// A segment is not ready for its next mode; `details` say what is missing.
        NotReady => "not-ready",
        /// The state directory could not be written; the old policy stays in force.
        Storage => "storage",
        /// An error of the control process itself.
        Internal => "internal",
    }
}

impl ErrorCode {
    /// The HTTP status code that goes with it.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Busy | Self::Conflict | Self::NotReady => 409,
            Self::InvalidPolicy | Self::InvariantBroken => 422,
            Self::Internal => 500,
            Self::Refused => 502,
            Self::NoDataplane => 503,
            Self::Timeout => 504,
            Self::Storage => 507,
        }
    }
}

/// The body of every answer whose status is 400 or above: `{"error": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what, where and what to do.
    pub message: String,
    /// Places in a policy file or in a parameter; may be empty.
    #[serde(default)]
    pub details: Vec<ErrorDetail>,
}

impl ApiError {
    /// An error without details.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }
}

/// One place and what is wrong there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// File, or name of the parameter.
    pub file: String,
    /// Line, 1-based; 0 where it is not known.
    pub line: u32,
    /// Column, 1-based, in characters; 0 where it is not known.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

//! The list of endpoints. HTTP/1.1, JSON, by default over the Unix socket [`SOCKET_PATH`].

/// Where the control process listens by default.
pub const SOCKET_PATH: &str = "/run/ringfence/control.sock";

/// `GET` -> [`crate::Status`].
pub const STATUS: &str = "/v1/status";
/// `GET` [`crate::FlowsQuery`] -> [`crate::flow::Flows`], NDJSON or TSV.
pub const FLOWS: &str = "/v1/flows";
/// `GET` [`crate::TopQuery`] -> [`crate::Top`].
pub const TOP: &str = "/v1/top";
/// `GET` -> [`crate::Ports`].
pub const PORTS: &str = "/v1/ports";
/// `GET` -> [`crate::Stages`].
pub const STAGES: &str = "/v1/stages";
/// `GET` -> [`crate::Drops`].
pub const DROPS: &str = "/v1/drops";
/// `GET` -> [`crate::policy::Segments`].
pub const SEGMENTS: &str = "/v1/segments";
/// `GET` -> [`crate::policy::Workloads`]; `POST` [`crate::policy::WorkloadRequest`] ->
/// [`crate::policy::ApplyResult`].
pub const WORKLOADS: &str = "/v1/workloads";
/// `GET` -> [`crate::policy::PolicyInForce`].
pub const POLICY: &str = "/v1/policy";
/// `POST` [`crate::policy::CheckRequest`] -> [`crate::policy::CheckResult`].
pub const POLICY_CHECK: &str = "/v1/policy/check";
/// `POST` [`crate::policy::ApplyRequest`] -> [`crate::policy::ApplyResult`].
pub const POLICY_APPLY: &str = "/v1/policy/apply";
/// `GET` -> [`crate::policy::PolicyLog`].
pub const POLICY_LOG: &str = "/v1/policy/log";
/// `POST` [`crate::policy::RollbackRequest`] -> [`crate::policy::ApplyResult`].
pub const POLICY_ROLLBACK: &str = "/v1/policy/rollback";
/// `GET` [`crate::policy::RevisionQuery`] -> [`crate::policy::Revision`].
pub const POLICY_REVISION: &str = "/v1/policy/revision";
/// `GET` -> [`crate::policy::Rules`].
pub const RULES: &str = "/v1/rules";
/// `GET` [`crate::explain::ExplainQuery`] -> [`crate::Explain`].
pub const EXPLAIN: &str = "/v1/explain";
/// `GET` -> [`crate::Accounting`].
pub const ACCOUNTING: &str = "/v1/accounting";
/// `GET` -> [`crate::Doctor`].
pub const DOCTOR: &str = "/v1/doctor";

/// Every endpoint: method and path.
pub const ALL: &[(&str, &str)] = &[
    ("GET", STATUS),
    ("GET", FLOWS),
    ("GET", TOP),
    ("GET", PORTS),
    ("GET", STAGES),
    ("GET", DROPS),
    ("GET", SEGMENTS),
    ("GET", WORKLOADS),
    ("POST", WORKLOADS),
    ("GET", POLICY),
    ("POST", POLICY_CHECK),
    ("POST", POLICY_APPLY),
    ("GET", POLICY_LOG),
    ("POST", POLICY_ROLLBACK),
    ("GET", POLICY_REVISION),
    ("GET", RULES),
    ("GET", EXPLAIN),
    ("GET", ACCOUNTING),
    ("GET", DOCTOR),
];

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
/// `POST` [`crate::inventory::ImportRequest`] -> [`crate::inventory::ImportResult`].
pub const WORKLOADS_IMPORT: &str = "/v1/workloads/import";
/// `GET` -> [`crate::inventory::Inventory`].
pub const INVENTORY: &str = "/v1/inventory";
/// `GET` -> [`crate::policy::PolicyInForce`].
pub const POLICY: &str = "/v1/policy";
/// `POST` [`crate::policy::CheckRequest`] -> [`crate::policy::CheckResult`].
pub const POLICY_CHECK: &str = "/v1/policy/check";
/// `POST` [`crate::reach::DiffRequest`] -> [`crate::reach::PolicyDiff`].
pub const POLICY_DIFF: &str = "/v1/policy/diff";
/// `POST` [`crate::reach::BlastRequest`] -> [`crate::reach::BlastRadius`].
pub const POLICY_BLAST: &str = "/v1/policy/blast";
/// `POST` [`crate::reach::AnalyzeRequest`] -> [`crate::reach::Analysis`].
pub const POLICY_ANALYZE: &str = "/v1/policy/analyze";
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
/// `GET` [`crate::explain::FlowExplainQuery`] -> [`crate::explain::FlowExplain`].
pub const EXPLAIN_FLOW: &str = "/v1/explain/flow";
/// `GET` -> [`crate::Accounting`].
pub const ACCOUNTING: &str = "/v1/accounting";
/// `GET` -> [`crate::Doctor`].
pub const DOCTOR: &str = "/v1/doctor";

/// `GET` -> [`crate::history::HistoryState`].
pub const HISTORY: &str = "/v1/history";
/// `GET` [`crate::history::HistoryQuery`] -> [`crate::history::Rows`] of [`crate::Flow`].
pub const HISTORY_FLOWS: &str = "/v1/history/flows";
/// `GET` the same -> rows of [`crate::history::Conversation`].
pub const HISTORY_CONVERSATIONS: &str = "/v1/history/conversations";
/// `GET` the same -> rows of [`crate::history::MatrixCell`].
pub const HISTORY_MATRIX: &str = "/v1/history/matrix";
/// `GET` the same -> rows of [`crate::history::SeriesPoint`].
pub const HISTORY_SERIES: &str = "/v1/history/series";
/// `GET` the same -> rows of [`crate::history::TopLine`].
pub const HISTORY_TOP: &str = "/v1/history/top";
/// `GET` the same -> rows of [`crate::history::Edge`].
pub const HISTORY_FIRST_SEEN: &str = "/v1/history/first-seen";
/// `GET` the same -> rows of [`crate::history::RuleUse`].
pub const HISTORY_RULES: &str = "/v1/history/rules";
/// `GET` the same -> [`crate::history::CoverageShare`].
pub const HISTORY_COVERAGE: &str = "/v1/history/coverage";
/// `GET` the same, with `workload` -> rows of [`crate::history::Edge`].
pub const HISTORY_TALKERS: &str = "/v1/history/talkers";
/// `GET` the same -> rows of [`crate::history::Membership`].
pub const HISTORY_NAMES: &str = "/v1/history/names";
/// `POST` [`crate::history::SqlRequest`] -> [`crate::history::Table`].
pub const HISTORY_SQL: &str = "/v1/history/sql";
/// `POST` [`crate::life::ConfirmRequest`] -> [`crate::life::Confirmed`].
pub const POLICY_CONFIRM: &str = "/v1/policy/confirm";
/// `POST` [`crate::life::RevertRequest`] -> [`crate::policy::ApplyResult`].
pub const POLICY_REVERT: &str = "/v1/policy/revert";
/// `GET` [`crate::life::VerifyQuery`] -> [`crate::life::LogVerification`].
pub const POLICY_LOG_VERIFY: &str = "/v1/policy/log/verify";
/// `GET` [`crate::readiness::ReadinessQuery`] -> [`crate::readiness::Readiness`].
pub const SEGMENTS_READINESS: &str = "/v1/segments/readiness";
/// `POST` [`crate::readiness::ModeRequest`] -> [`crate::policy::ApplyResult`].
pub const SEGMENTS_MODE: &str = "/v1/segments/mode";
/// `GET` -> [`crate::quarantine::Quarantines`]; `POST` [`crate::quarantine::QuarantineRequest`] ->
/// [`crate::quarantine::QuarantineResult`].
pub const QUARANTINE: &str = "/v1/quarantine";
/// `POST` [`crate::quarantine::LiftRequest`] -> [`crate::policy::ApplyResult`].
pub const QUARANTINE_LIFT: &str = "/v1/quarantine/lift";
/// `POST` [`crate::simulate::SimulateRequest`] -> lines of [`crate::simulate::Line`], the last a
/// [`crate::simulate::Simulation`].
pub const POLICY_SIMULATE: &str = "/v1/policy/simulate";
/// `POST` [`crate::suggest::SuggestRequest`] -> lines of [`crate::simulate::Line`], the last a
/// [`crate::suggest::Suggestion`].
pub const POLICY_SUGGEST: &str = "/v1/policy/suggest";

/// `GET` [`crate::watch::WatchQuery`] -> [`crate::watch::Findings`].
pub const WATCH: &str = "/v1/watch";
/// `GET` the same -> NDJSON of [`crate::watch::Finding`] as they change, without end.
pub const WATCH_FOLLOW: &str = "/v1/watch/follow";
/// `GET` [`crate::watch::FindingQuery`] -> [`crate::watch::FindingReport`].
pub const WATCH_FINDING: &str = "/v1/watch/finding";
/// `POST` [`crate::watch::FindingStateRequest`] -> [`crate::watch::Finding`].
pub const WATCH_STATE: &str = "/v1/watch/state";
/// `GET` [`crate::watch::FindingQuery`] -> [`crate::watch::WatchDraft`].
pub const WATCH_DRAFT: &str = "/v1/watch/draft";
/// `GET` [`crate::watch::BaselineQuery`] -> [`crate::watch::BaselineEdges`].
pub const WATCH_BASELINE: &str = "/v1/watch/baseline";
/// `GET` -> [`crate::candidate::Candidates`]; `POST` [`crate::candidate::CandidateRequest`] ->
/// [`crate::candidate::Candidate`].
pub const CANDIDATES: &str = "/v1/policy/candidates";
/// `POST` [`crate::candidate::CandidateName`] -> [`crate::candidate::Candidate`].
pub const CANDIDATES_REMOVE: &str = "/v1/policy/candidates/remove";
/// `POST` [`crate::candidate::CandidateName`] -> [`crate::policy::ApplyResult`].
pub const CANDIDATES_PROMOTE: &str = "/v1/policy/candidates/promote";
/// `GET` [`crate::candidate::WatchQuery`] -> [`crate::candidate::ChangedFlow`], NDJSON or TSV, without end.
pub const CANDIDATES_WATCH: &str = "/v1/policy/candidates/watch";

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
    ("POST", WORKLOADS_IMPORT),
    ("GET", INVENTORY),
    ("GET", POLICY),
    ("POST", POLICY_CHECK),
    ("POST", POLICY_DIFF),
    ("POST", POLICY_BLAST),
    ("POST", POLICY_ANALYZE),
    ("POST", POLICY_APPLY),
    ("GET", POLICY_LOG),
    ("POST", POLICY_ROLLBACK),
    ("POST", POLICY_CONFIRM),
    ("POST", POLICY_REVERT),
    ("GET", POLICY_LOG_VERIFY),
    ("GET", SEGMENTS_READINESS),
    ("POST", SEGMENTS_MODE),
    ("GET", QUARANTINE),
    ("POST", QUARANTINE),
    ("POST", QUARANTINE_LIFT),
    ("GET", CANDIDATES),
    ("POST", CANDIDATES),
    ("POST", CANDIDATES_REMOVE),
    ("POST", CANDIDATES_PROMOTE),
    ("GET", CANDIDATES_WATCH),
    ("GET", POLICY_REVISION),
    ("GET", RULES),
    ("GET", EXPLAIN),
    ("GET", EXPLAIN_FLOW),
    ("GET", ACCOUNTING),
    ("GET", DOCTOR),
    ("GET", HISTORY),
    ("GET", HISTORY_FLOWS),
    ("GET", HISTORY_CONVERSATIONS),
    ("GET", HISTORY_MATRIX),
    ("GET", HISTORY_SERIES),
    ("GET", HISTORY_TOP),
    ("GET", HISTORY_FIRST_SEEN),
    ("GET", HISTORY_RULES),
    ("GET", HISTORY_COVERAGE),
    ("GET", HISTORY_TALKERS),
    ("GET", HISTORY_NAMES),
    ("POST", HISTORY_SQL),
    ("GET", WATCH),
    ("GET", WATCH_FOLLOW),
    ("GET", WATCH_FINDING),
    ("POST", WATCH_STATE),
    ("GET", WATCH_DRAFT),
    ("GET", WATCH_BASELINE),
    ("POST", POLICY_SIMULATE),
    ("POST", POLICY_SUGGEST),
];

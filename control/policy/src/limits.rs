//! What a policy may hold. Reaching a limit is an error that names it; nothing is cut silently.

/// Workloads.
pub const WORKLOADS_MAX: usize = 65_536;
/// Addresses of one workload, or prefixes of one segment.
pub const ADDRESSES_MAX: usize = 4_096;
/// DNS names of one workload.
pub const DNS_NAMES_MAX: usize = 64;
/// Labels of one workload.
pub const LABELS_MAX: usize = 64;
/// Segments, without the three built-in ones.
pub const SEGMENTS_MAX: usize = 8_192;
/// Services.
pub const SERVICES_MAX: usize = 8_192;
/// Port entries of one service.
pub const PORTS_MAX: usize = 1_024;
/// Rules.
pub const RULES_MAX: usize = 262_144;
/// Rules with `action = "limit"`: their index has 16 bits in a decision.
pub const LIMIT_RULES_MAX: usize = 65_535;
/// Entries in one `from`, `to` or `services`.
pub const RULE_ENDS_MAX: usize = 1_024;
/// Invariants.
pub const INVARIANTS_MAX: usize = 1_024;
/// Bytes of a name, a label or a label's value.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of owner, ticket and comment.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// Bytes of a policy text.
pub const TEXT_BYTES_MAX: usize = 64 << 20;
/// Terms of one selector, and values of one of its terms.
pub const SELECTOR_TERMS_MAX: usize = 64;
/// Hops of an invariant.
pub const HOPS_MAX: i64 = 16;
/// A rule that expires within this many days is told.
pub const EXPIRY_WARNING_DAYS: i32 = 30;
/// Smallest burst of a limit in bits: one full Ethernet frame, 1,514 bytes. A smaller bucket would
/// never let one pass.
pub const BURST_BITS_MIN: u64 = 1_514 * 8;
/// Errors told at once; the number of the others is told with them.
pub const PROBLEMS_MAX: usize = 1_000;

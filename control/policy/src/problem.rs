//! What can be wrong with a policy, or worth saying about it: one row a kind, with how to mend it.

use crate::limits::NAME_BYTES_MAX;
use crate::prefix::PrefixError;
use crate::read::ADDRESSES;
use crate::selector::SelectorError;
use crate::service::PortError;
use core::fmt;
use jiff::civil::Date;

/// Whether a problem stops the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policy cannot be applied.
    Error,
    /// The policy can be applied and is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One problem and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line, from 1.
    pub line: u32,
    /// Character within the line, from 1.
    pub column: u32,
    /// What it is.
    pub problem: Problem,
}

impl Diagnostic {
    /// As people and editors read it: `file:line:column: error: what` and, indented, how to mend it.
    #[must_use]
    pub fn text(&self, file: &str) -> String {
        let Self {
            line,
            column,
            problem,
        } = self;
        let severity = problem.severity();
        format!(
            "{file}:{line}:{column}: {severity}: {problem}\n    {}",
            problem.mend()
        )
    }
}

/// Every error of a policy text, by line, and the warnings found beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors {
    /// Name that was given for the text.
    pub file: String,
    /// By line; at least one is an error.
    pub diagnostics: Vec<Diagnostic>,
    /// Problems found beyond [`PROBLEMS_MAX`](crate::limits::PROBLEMS_MAX), not told.
    pub untold: usize,
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, diagnostic) in self.diagnostics.iter().enumerate() {
            let newline = if place == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", diagnostic.text(&self.file))?;
        }
        match self.untold {
            0 => Ok(()),
            untold => write!(f, "\n{}: and {untold} more", self.file),
        }
    }
}

impl core::error::Error for PolicyErrors {}

/// A kind of thing that a policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `[policy]`.
    Policy,
    /// `[[workload]]`.
    Workload,
    /// `[[segment]]`.
    Segment,
    /// `[[service]]`.
    Service,
    /// `[[rule]]`.
    Rule,
    /// `[[invariant]]`.
    Invariant,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::Workload => "workload",
            Self::Segment => "segment",
            Self::Service => "service",
            Self::Rule => "rule",
            Self::Invariant => "invariant",
        })
    }
}

/// What is wrong, or worth saying. The display text says what; [`Problem::mend`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each variant's text is its documentation, its fields are named in it"
)]
pub enum Problem {
    #[error("not TOML: {message}")]
    Syntax { message: String },
    #[error("the policy has {bytes} bytes, the limit is {limit}")]
    TextTooLong { bytes: usize, limit: usize },
    #[error("the policy is empty: it has no table")]
    NothingWritten,
    #[error("unknown table `{key}`")]
    UnknownTable {
        key: String,
        near: Option<&'static str>,
    },
    #[error("{table} has an unknown key `{key}`")]
    UnknownKey {
        table: &'static str,
        key: String,
        near: Option<&'static str>,
        known: &'static [&'static str],
    },
    #[error("{table}: `{key}` is {found}")]
    WrongType {
        table: &'static str,
        key: String,
        found: &'static str,
        expected: &'static str,
    },
    #[error("this {kind} has no `{key}`")]
    MissingKey {
        kind: Kind,
        key: &'static str,
        mend: &'static str,
    },
    #[error("segment `{segment}` has no mode")]
    MissingMode { segment: String },
    #[error("`{name}` cannot name a {kind}")]
    BadName { kind: Kind, name: String },
    #[error("{kind} `{name}`: this name is built in")]
    ReservedName { kind: Kind, name: String },
    #[error("two {kind}s are named `{name}`, the first on line {first_line}")]
    TwiceNamed {
        kind: Kind,
        name: String,
        first_line: u32,
    },
    #[error("rules `{name}` and `{other}` (line {other_line}) have the same stable id")]
    SameId {
        name: String,
        other: String,
        other_line: u32,
    },
    #[error("{kind} `{name}`: {error}")]
    Prefix {
        kind: Kind,
        name: String,
        error: PrefixError,
    },
    #[error(
        "workload `{workload}`: address {address} belongs to workload `{other}` (line {other_line}) as well"
    )]
    AddressTwice {
        workload: String,
        address: String,
        other: String,
        other_line: u32,
    },
    #[error("workload `{workload}`: `{found}` is not a DNS name")]
    DnsName { workload: String, found: String },
    #[error(
        "workload `{workload}`: {name} stands for {address}, which is workload `{other}`'s (line {other_line})"
    )]
    ResolvedTwice {
        workload: String,
        name: String,
        address: String,
        other: String,
        other_line: u32,
    },
    #[error("unknown column `{column}`")]
    UnknownColumn {
        column: String,
        near: Option<&'static str>,
    },
    #[error("two columns are named `{column}`")]
    ColumnTwice { column: String },
    #[error("there is no column `{column}`")]
    MissingColumn { column: &'static str },
    #[error("this line has {found} cells, the first line has {expected}")]
    Cells { found: usize, expected: usize },
    #[error("a cell of column `{column}` goes on over a line end")]
    CellLines { column: String },
    #[error("workload `{workload}`: `{found}` is not a label")]
    LabelCell { workload: String, found: String },
    #[error("workload `{workload}` has neither an address nor a DNS name")]
    NoAddress { workload: String },
    #[error("an inventory has [[workload]] tables only")]
    NotInventory,
    #[error("there is no workload in it")]
    NoWorkload,
    #[error(
        "workload `{workload}` is in {other}:{other_line} as well; a name stands in one inventory file only"
    )]
    NamedElsewhere {
        workload: String,
        other: String,
        other_line: u32,
    },
    #[error(
        "workload `{workload}`: address {address} belongs to workload `{owner}` ({other}:{other_line}) as well"
    )]
    AddressElsewhere {
        workload: String,
        address: String,
        owner: String,
        other: String,
        other_line: u32,
    },
    #[error("workload `{workload}`: `{word}` cannot be a label or its value")]
    BadLabel { workload: String, word: String },
    #[error("segment `{segment}`: {error}")]
    Selector {
        segment: String,
        error: SelectorError,
    },
    #[error("segment `{segment}` has both `select` and `addresses`")]
    TwoMemberships { segment: String },
    #[error("segment `{segment}` has neither `select` nor `addresses`")]
    NoMembership { segment: String },
    #[error("service `{service}`: {error}")]
    Port { service: String, error: PortError },
    #[error("{kind} `{name}`: `{key}` is empty")]
    Empty {
        kind: Kind,
        name: String,
        key: &'static str,
    },
    #[error("{kind} `{name}`: unknown {key} `{found}`")]
    UnknownWord {
        kind: Kind,
        name: String,
        key: &'static str,
        found: String,
        known: Vec<&'static str>,
        near: Option<&'static str>,
    },
    #[error("{kind} `{name}`: unknown segment `{found}` in `{key}`")]
    UnknownSegment {
        kind: Kind,
        name: String,
        key: &'static str,
        found: String,
        near: Option<String>,
    },
    #[error("{kind} `{name}`: unknown service `{found}`")]
    UnknownService {
        kind: Kind,
        name: String,
        found: String,
        near: Option<String>,
    },
    #[error("rule `{rule}` limits and has no rate")]
    RateMissing { rule: String },
    #[error("rule `{rule}`: `{found}` is not a rate")]
    Rate { rule: String, found: String },
    #[error("rule `{rule}` has a `{key}` and does not limit")]
    RateUnused { rule: String, key: &'static str },
    #[error("rule `{rule}`: a burst of {found} is too small, the least is {least}")]
    Burst {
        rule: String,
        found: i64,
        least: u64,
    },
    #[error("rule `{rule}`: `{found}` is not a date")]
    Date { rule: String, found: String },
    #[error("invariant `{invariant}`: hops is {found}, it may be 1 to {limit}")]
    Hops {
        invariant: String,
        found: i64,
        limit: i64,
    },
    #[error("{count} {what}, the limit is {limit}")]
    TooMany {
        what: String,
        count: usize,
        limit: usize,
    },
    #[error("{kind} `{name}`: `{key}` has {bytes} bytes, the limit is {limit}")]
    TooLong {
        kind: Kind,
        name: String,
        key: &'static str,
        bytes: usize,
        limit: usize,
    },

    #[error("no segment: nothing is enforced")]
    NoSegment,
    #[error("segment `{segment}` selects no workload: no workload has the labels {selector}")]
    SelectsNothing { segment: String, selector: String },
    #[error("no rule speaks of segment `{segment}`")]
    SegmentWithoutRules { segment: String },
    #[error("no rule uses service `{service}`")]
    ServiceUnused { service: String },
    #[error("workload `{workload}` is in no segment")]
    WorkloadAlone { workload: String },
    #[error("rule `{rule}` expired on {expires}: it matches nothing")]
    Expired { rule: String, expires: Date },
    #[error("rule `{rule}` expires on {expires}, in {days} days")]
    Expiring {
        rule: String,
        expires: Date,
        days: i32,
    },
}

impl Problem {
    /// Whether it stops the policy.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::NoSegment
            | Self::SelectsNothing { .. }
            | Self::SegmentWithoutRules { .. }
            | Self::ServiceUnused { .. }
            | Self::WorkloadAlone { .. }
            | Self::ResolvedTwice { .. }
            | Self::Expired { .. }
            | Self::Expiring { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// What to do about it, one sentence.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Syntax { .. } => "mend the TOML here; nothing else was checked".into(),
            Self::TextTooLong { .. } | Self::TooMany { .. } => {
                "split the policy over several appliances, or merge entries".into()
            }
            Self::TooLong { .. } => "write less".into(),
            Self::NothingWritten => {
                "look whether it is the right file; to enforce nothing on purpose write [policy] with a name".into()
            }
            Self::UnknownTable { near, .. } => mean(
                near.as_deref(),
                "a policy has [policy], [[workload]], [[segment]], [[service]], [[rule]] and [[invariant]]",
            ),
            Self::UnknownKey { near, known, .. } => mean(
                near.as_deref(),
                &format!("known keys are {}", known.join(", ")),
            ),
            Self::WrongType { expected, .. } => format!("write {expected}"),
            Self::MissingKey { mend, .. } => (*mend).into(),
            Self::MissingMode { .. } => MODES.into(),
            Self::BadName { .. } | Self::BadLabel { .. } => format!(
                "use 1 to {NAME_BYTES_MAX} letters, digits and - _ . / :, a letter or digit first"
            ),
            Self::ReservedName { .. } | Self::TwiceNamed { .. } | Self::SameId { .. } => {
                "give it another name".into()
            }
            Self::Prefix { error, .. } => error.mend(),
            Self::AddressTwice { .. } => {
                "an address belongs to one workload: remove it from one of the two".into()
            }
            Self::Selector { .. } => {
                "write e.g. \"app=shop, role in (web, api), env!=dev, tier exists, !old exists\""
                    .into()
            }
            _ => self.mend_membership(),
        }
    }

    fn mend_membership(&self) -> String {
        match self {
            Self::DnsName { .. } => "write a name such as db.example.internal".into(),
            Self::ResolvedTwice { .. } => {
                "the address stays with the other; give each workload a name of its own, or one \
                 workload both names"
                    .into()
            }
            Self::UnknownColumn { near, .. } => mean(
                near.as_deref(),
                "columns are name, addresses, dns, labels (k=v;k=v), comment, and label:KEY for one label",
            ),
            Self::ColumnTwice { .. } => "remove one of them".into(),
            Self::MissingColumn { .. } => {
                "the first line names the columns: name,addresses,labels".into()
            }
            Self::Cells { .. } => {
                "put a cell that holds a comma in \"double quotes\"; leave no cell out".into()
            }
            Self::CellLines { .. } => "close the quote that opens it".into(),
            Self::LabelCell { .. } => "write key=value, several with ; between them".into(),
            Self::NoAddress { .. } => ADDRESSES.into(),
            Self::NotInventory => {
                "segments, services and rules stand in the policy; `ringfence policy apply` takes it"
                    .into()
            }
            Self::NoWorkload => {
                "look whether the file is whole; to have none take it out of inventory.files".into()
            }
            Self::NamedElsewhere { .. } | Self::AddressElsewhere { .. } => {
                "remove one of the two; the inventory that was good before stays in force".into()
            }
            Self::TwoMemberships { .. } => {
                "keep one, and make a second segment of the other; a rule may name both".into()
            }
            Self::NoMembership { .. } => {
                "add select = \"app=shop\" or addresses = [\"10.0.1.0/24\"]".into()
            }
            _ => self.mend_rule(),
        }
    }

    fn mend_rule(&self) -> String {
        match self {
            Self::Port { error, .. } => error.mend(),
            Self::Empty { key: "services", .. } => "leave it out, or write [\"any\"]".into(),
            Self::Empty { key: "ports", .. } => "write e.g. ports = [\"tcp/5432\"]".into(),
            Self::Empty { key: "addresses", .. } => "write e.g. addresses = [\"10.0.1.10\"]".into(),
            Self::Empty { .. } => {
                "name at least one segment; any, internet and unmanaged are always there".into()
            }
            Self::UnknownWord { near, known, .. } => {
                mean(near.as_deref(), &format!("it may be {}", known.join(", ")))
            }
            Self::UnknownSegment { near, .. } => mean(
                near.as_deref(),
                "add a [[segment]] of this name, or use any, internet or unmanaged",
            ),
            Self::UnknownService { near, found, .. } if found.contains('/') && near.is_none() => {
                format!("rules name services: add [[service]] with ports = [\"{found}\"]")
            }
            Self::UnknownService { near, .. } => {
                mean(near.as_deref(), "add a [[service]] of this name, or use any")
            }
            Self::RateMissing { .. } | Self::Rate { .. } => {
                "write rate = \"100pps\" (packets), \"10Mbps\" (bits) or \"50cps\" (new flows), k, M and G may precede the unit".into()
            }
            Self::RateUnused { key, .. } => {
                format!("remove `{key}`, or write action = \"limit\"")
            }
            Self::Burst { .. } => {
                "leave burst out for one second of the rate, or write packets, bits or flows as the rate counts them".into()
            }
            Self::Date { .. } => "write the last day on which the rule holds: \"2027-01-31\"".into(),
            Self::Hops { .. } => "write hops = 3, or leave it out for 1".into(),
            Self::NoSegment => {
                "add a [[segment]] with mode = \"enforce\" and the rules it needs; until then every flow passes that no rule in enforce denies".into()
            }
            Self::SelectsNothing { .. } => {
                "mend the selector or the labels; until then the segment is empty".into()
            }
            Self::SegmentWithoutRules { .. } => {
                "write the rules it needs before it enforces, or remove it".into()
            }
            Self::ServiceUnused { .. } => "remove it, or write the rule it was meant for".into(),
            Self::WorkloadAlone { .. } => {
                "only rules about any speak of it, and nothing is denied to it by default".into()
            }
            Self::Expired { .. } => "remove the rule, or move the date".into(),
            Self::Expiring { .. } => "move the date if the rule is still needed".into(),
            _ => "see the policy language reference".into(),
        }
    }
}

/// The three modes, for who has to choose one.
const MODES: &str = "add mode = \"observe\" (nothing is denied, uncovered flows are marked), \"test\" (nothing is denied, what would be is recorded) or \"enforce\" (what no rule allows is denied)";

fn mean(near: Option<&str>, otherwise: &str) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise.to_owned(),
    }
}

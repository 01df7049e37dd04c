//! Judges what was written: every error and warning at once, or a policy that compiles.

mod members;
mod rules;

use crate::file::{At, PolicyFile};
use crate::limits::{NAME_BYTES_MAX, NOTE_BYTES_MAX, PROBLEMS_MAX};
use crate::near::nearest;
use crate::problem::{Diagnostic, Kind, PolicyErrors, Problem, Severity};
use crate::rate::Rate;
use crate::revision::Revision;
use crate::selector::{Selector, is_word_char};
use crate::service::Port;
use abi::image::{BUILT_IN_SEGMENTS, RuleMode, Tier};
use abi::verdict::OnChange;
use abi::{Action, Mode};
use core::ops::ControlFlow;
use ipnet::IpNet;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A policy without errors.
#[derive(Clone, Debug)]
pub struct ValidPolicy {
    /// Name of the text.
    pub file: String,
    /// Hash of the text.
    pub revision: Revision,
    /// `[policy] name`.
    pub name: Option<String>,
    /// Internal address space.
    pub internal: Vec<IpNet>,
    /// In the order of the file.
    pub workloads: Arc<[Workload]>,
    /// In the order of the file; segment `i` here is segment `i + 3` in images.
    pub segments: Arc<[Segment]>,
    /// In the order of the file.
    pub services: Arc<[Service]>,
    /// In the order of the file, which means nothing.
    pub rules: Arc<[Rule]>,
    /// Line of the text where each rule stands.
    pub rule_lines: Arc<[u32]>,
    /// Proved by [`crate::prove`].
    pub invariants: Arc<[Invariant]>,
    /// By line.
    pub warnings: Vec<Diagnostic>,
}

/// A machine, container or service with addresses of its own.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Unique among workloads.
    pub name: String,
    /// Nobody else's: those written, then those that its DNS names stand for.
    pub addresses: Vec<IpNet>,
    /// DNS names that it has the addresses of.
    pub dns: Vec<String>,
    /// Of its addresses, how many came by DNS: the last ones.
    pub resolved_count: usize,
    /// Labels that selectors ask.
    pub labels: BTreeMap<String, String>,
    /// Line of the text.
    pub line: u32,
}

/// A group of workloads or addresses that rules speak of.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Unique among segments.
    pub name: String,
    /// How far it has come on the way to enforcement.
    pub mode: Mode,
    /// The selector, where it has one.
    pub select: Option<Selector>,
    /// Its own prefixes, where it has no selector.
    pub addresses: Vec<IpNet>,
    /// Workloads that the selector selects, ascending.
    pub workloads: Vec<u32>,
    /// What the author says about it.
    pub comment: Option<String>,
    /// Line of the text.
    pub line: u32,
}

/// A named list of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Any of these.
    pub ports: Vec<Port>,
}

/// What may, or may not, connect to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique among rules.
    pub name: String,
    /// Tier.
    pub tier: Tier,
    /// Segments of the initiator as images number them, never empty.
    pub from: Vec<u32>,
    /// Segments of the responder, never empty.
    pub to: Vec<u32>,
    /// Services by their place in [`ValidPolicy::services`]; empty means any.
    pub services: Vec<u32>,
    /// Action.
    pub action: Action,
    /// Rate and burst (tokens) where the action is limit.
    pub limit: Option<(Rate, u64)>,
    /// Its own mode.
    pub mode: RuleMode,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// Last day on which it matches.
    pub expires: Option<Date>,
    /// What a change of policy does to flows it decided.
    pub on_change: OnChange,
    /// What the author says about it.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule that allows everything between two segments.
    pub(crate) fn plain(name: String, tier: Tier, (from, to): (u32, u32)) -> Self {
        Self {
            name,
            tier,
            from: vec![from],
            to: vec![to],
            services: Vec::new(),
            action: Action::Allow,
            limit: None,
            mode: RuleMode::Inherit,
            owner: None,
            ticket: None,
            expires: None,
            on_change: OnChange::Reevaluate,
            comment: None,
        }
    }

    /// Whether its date has passed: it then matches nothing.
    #[must_use]
    pub fn expired(&self, today: Date) -> bool {
        self.expires.is_some_and(|last| last < today)
    }
}

/// Something that no rule may make possible.
#[derive(Clone, Debug)]
pub struct Invariant {
    /// Unique among invariants.
    pub name: String,
    /// Segment that must not reach `to`, as images number it.
    pub from: u32,
    /// Segment that must not be reached.
    pub to: u32,
    /// Within how many hops.
    pub hops: i64,
    /// Services that hops may use, by their place in [`ValidPolicy::services`]; empty means any.
    pub services: Vec<u32>,
    /// Segments whose members begin no path and carry none on.
    pub except: Vec<u32>,
    /// Line of the text.
    pub line: u32,
}

/// Judges a policy. `today` decides which rules have expired.
///
/// # Errors
/// Every error, and the warnings beside them, by line.
pub fn validate(file: &PolicyFile, today: Date) -> Result<ValidPolicy, PolicyErrors> {
    judge(file, today).map(|judged| judged.policy)
}

/// A policy without errors, and what was found that does not depend on its workloads.
pub(crate) struct Judged {
    pub(crate) policy: ValidPolicy,
    pub(crate) lasting: Vec<(usize, Problem)>,
}

pub(crate) fn judge(file: &PolicyFile, today: Date) -> Result<Judged, PolicyErrors> {
    let mut judge = Judge::of(file, today);
    let mut policy = ValidPolicy::nothing(file);
    let mut lasting = Vec::new();
    if !file.unreadable {
        judge.members(&mut policy);
        let before = judge.problems.len();
        judge.rules(&mut policy);
        judge.unused(&policy);
        lasting = judge.problems[before..].to_vec();
        judge.members_without_use(&policy);
    }
    let policy = judge.conclude(policy)?;
    Ok(Judged { policy, lasting })
}

/// Judges a file whose workloads alone differ from those of `before`, of which `lasting` was found.
pub(crate) fn judge_members(
    file: &PolicyFile,
    today: Date,
    before: &ValidPolicy,
    lasting: &[(usize, Problem)],
) -> Result<ValidPolicy, PolicyErrors> {
    let mut judge = Judge::of(file, today);
    let mut policy = ValidPolicy {
        rules: Arc::clone(&before.rules),
        rule_lines: Arc::clone(&before.rule_lines),
        invariants: Arc::clone(&before.invariants),
        ..ValidPolicy::nothing(file)
    };
    judge.members(&mut policy);
    judge.problems.extend_from_slice(lasting);
    judge.members_without_use(&policy);
    judge.conclude(policy)
}

/// Judges the workloads of a file that has nothing else.
pub(crate) fn judge_workloads(file: &PolicyFile) -> Result<Vec<Workload>, PolicyErrors> {
    let mut judge = Judge::of(file, Date::MIN);
    let mut policy = ValidPolicy::nothing(file);
    if !file.unreadable {
        judge.only_workloads(&mut policy);
    }
    judge
        .conclude(policy)
        .map(|policy| policy.workloads.to_vec())
}

impl ValidPolicy {
    /// What a file says before anything in it is judged.
    fn nothing(file: &PolicyFile) -> Self {
        Self {
            file: file.file.clone(),
            revision: file.revision,
            name: file.name.as_ref().map(|name| name.value.clone()),
            internal: Vec::new(),
            workloads: Arc::default(),
            segments: Arc::default(),
            services: Arc::default(),
            rules: Arc::default(),
            rule_lines: Arc::default(),
            invariants: Arc::default(),
            warnings: Vec::new(),
        }
    }
}

/// A policy under judgement, with what has been found so far.
pub(crate) struct Judge<'f> {
    pub(crate) file: &'f PolicyFile,
    pub(crate) today: Date,
    problems: Vec<(usize, Problem)>,
}

/// Names of one kind, and where each was given first.
pub(crate) struct Names {
    kind: Kind,
    first: HashMap<String, (u32, usize)>,
}

impl Names {
    pub(crate) fn of(kind: Kind) -> Self {
        Self {
            kind,
            first: HashMap::new(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<u32> {
        self.first.get(name).map(|(index, _)| *index)
    }

    pub(crate) fn nearest(&self, name: &str, also: &[&str]) -> Option<String> {
        let known = self
            .first
            .keys()
            .map(String::as_str)
            .chain(also.iter().copied());
        nearest(name, known).map(str::to_owned)
    }
}

impl<'f> Judge<'f> {
    fn of(file: &'f PolicyFile, today: Date) -> Self {
        Self {
            file,
            today,
            problems: file.problems.clone(),
        }
    }

    /// A policy with its warnings, or every error.
    fn conclude(self, mut policy: ValidPolicy) -> Result<ValidPolicy, PolicyErrors> {
        let lines = &self.file.lines;
        let places = self.problems.into_iter();
        let mut diagnostics: Vec<Diagnostic> = places
            .map(|(at, problem)| lines.place(at, problem))
            .collect();
        diagnostics.sort_by_key(|d| (d.line, d.column));
        if diagnostics
            .iter()
            .all(|d| d.problem.severity() == Severity::Warning)
        {
            policy.warnings = diagnostics;
            return Ok(policy);
        }
        let untold = diagnostics.len().saturating_sub(PROBLEMS_MAX);
        if untold > 0 {
            // Errors first when not all can be told; by line again below.
            diagnostics.sort_by_key(|d| d.problem.severity());
            diagnostics.truncate(PROBLEMS_MAX);
            diagnostics.sort_by_key(|d| (d.line, d.column));
        }
        Err(PolicyErrors {
            file: self.file.file.clone(),
            diagnostics,
            untold,
        })
    }

    /// Whether nothing but warnings has been found so far.
    pub(crate) fn is_good(&self) -> bool {
        let mut problems = self.problems.iter();
        problems.all(|(_, problem)| problem.severity() == Severity::Warning)
    }

    /// What depends on workloads and is told only of a policy that is otherwise good.
    fn members_without_use(&mut self, policy: &ValidPolicy) {
        if !self.file.unreadable {
            self.alone(policy);
            self.something_enforces(policy);
        }
    }

    pub(crate) fn problem(&mut self, at: usize, problem: Problem) {
        self.problems.push((at, problem));
    }

    /// Says that a policy that is otherwise good takes every enforcement away. An enforced rule
    /// takes effect whatever the modes of its ends, the built-in segments included.
    fn something_enforces(&mut self, policy: &ValidPolicy) {
        let enforces = |rule: &Rule| rule.mode == RuleMode::Enforce;
        if self.is_good() && policy.segments.is_empty() && !policy.rules.iter().any(enforces) {
            self.problem(0, Problem::NoSegment);
        }
    }

    pub(crate) fn count(&mut self, at: usize, what: &str, count: usize, limit: usize) {
        if count > limit {
            self.problem(
                at,
                Problem::TooMany {
                    what: what.to_owned(),
                    count,
                    limit,
                },
            );
        }
    }

    /// Judges the name of a thing and takes it. Breaks where the thing has no usable name.
    pub(crate) fn name(
        &mut self,
        names: &mut Names,
        index: usize,
        name: Option<&At<String>>,
    ) -> ControlFlow<(), String> {
        let Some(At { value: name, at }) = name else {
            return ControlFlow::Break(());
        };
        let kind = names.kind;
        let reserved = match kind {
            Kind::Segment => BUILT_IN_SEGMENTS.contains(&name.as_str()),
            Kind::Service => name == "any",
            _ => false,
        };
        if !is_name(name) {
            self.problem(
                *at,
                Problem::BadName {
                    kind,
                    name: name.escape_debug().to_string(),
                },
            );
        } else if reserved {
            self.problem(
                *at,
                Problem::ReservedName {
                    kind,
                    name: name.clone(),
                },
            );
        } else if let Some((_, first)) = names.first.get(name) {
            let first_line = self.file.lines.line(*first);
            self.problem(
                *at,
                Problem::TwiceNamed {
                    kind,
                    name: name.clone(),
                    first_line,
                },
            );
        } else {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            names.first.insert(name.clone(), (index, *at));
        }
        ControlFlow::Continue(name.clone())
    }

    /// A word out of a fixed list.
    pub(crate) fn word<T: Copy>(
        &mut self,
        (kind, name, key): (Kind, &str, &'static str),
        found: &At<String>,
        known: &[(&'static str, T)],
    ) -> Option<T> {
        let value = known
            .iter()
            .find(|(word, _)| *word == found.value)
            .map(|(_, value)| *value);
        if value.is_none() {
            let known: Vec<_> = known.iter().map(|(word, _)| *word).collect();
            let near = nearest(&found.value, known.iter().copied());
            let (name, found_word) = (name.to_owned(), found.value.clone());
            let problem = Problem::UnknownWord {
                kind,
                name,
                key,
                found: found_word,
                known,
                near,
            };
            self.problem(found.at, problem);
        }
        value
    }

    /// Free text of bounded length.
    pub(crate) fn note(
        &mut self,
        (kind, name, key): (Kind, &str, &'static str),
        note: Option<&At<String>>,
    ) -> Option<String> {
        let At { value, at } = note?;
        if value.len() > NOTE_BYTES_MAX {
            let (name, bytes) = (name.to_owned(), value.len());
            let problem = Problem::TooLong {
                kind,
                name,
                key,
                bytes,
                limit: NOTE_BYTES_MAX,
            };
            self.problem(*at, problem);
        }
        Some(value.clone())
    }
}

/// What stands for a name that is missing; it is no valid name itself.
pub(crate) fn nameless() -> String {
    String::from("?")
}

/// Whether a text can be a name: what the terminal, TSV, metrics and selectors take as one word.
/// Whether a text can be a DNS name (RFC 1123 section 2.1, and `_` for names of services).
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let bare = text.strip_suffix('.').unwrap_or(text);
    bare.len() <= 253 && !is_address && bare.split('.').all(label)
}

/// A DNS name as names are compared: lower case, without the dot of the root.
pub(crate) fn dns_name(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(is_word_char)
}

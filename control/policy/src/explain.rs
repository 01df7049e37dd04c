//! Explains a decision in names: why a flow is allowed or denied, and by which rule.

use crate::compile::CompiledPolicy;
use crate::dictionary::{Dictionary, RuleEntry};
use crate::prefix::address_bytes;
use abi::image::{RuleMode, SEGMENT_ANY};
use abi::verdict::Coverage;
use abi::{Action, Mode, VerdictSource};
use acl::{End, Explanation, RuleMatch, Service, Standing};
use core::net::IpAddr;

/// Why a flow from `src` to `dst` is decided as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Initiator.
    pub src: EndReport,
    /// Responder.
    pub dst: EndReport,
    /// Policy epoch.
    pub epoch: u64,
    /// Mode of the stricter end.
    pub mode: Mode,
    /// Whether any rule speaks about the flow.
    pub coverage: Coverage,
    /// What happens.
    pub enforced: ViewReport,
    /// What would happen if all tests were enforced.
    pub pending: ViewReport,
    /// Every rule that speaks about the flow, those that decide first.
    pub matches: Vec<RuleReport>,
    /// The tables and the rule-by-rule twin agree. `false` is a defect of this program.
    pub consistent: bool,
}

/// One end of the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndReport {
    /// Address.
    pub address: IpAddr,
    /// Workload that has it.
    pub workload: Option<String>,
    /// Identity in this epoch's image.
    pub identity: u32,
    /// Names of its segments, `any` left out.
    pub segments: Vec<String>,
    /// Its mode.
    pub mode: Mode,
}

/// One of the two verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewReport {
    /// What happens, or would.
    pub action: Action,
    /// Rule or default.
    pub source: VerdictSource,
    /// Name of the rule, where one decides.
    pub rule: Option<String>,
    /// One sentence.
    pub reason: String,
}

/// One rule that speaks about the flow, and what became of it in both views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleReport {
    /// The rule.
    pub rule: RuleEntry,
    /// In the view that happens.
    pub enforced: String,
    /// In the view that would happen if all tests were enforced.
    pub pending: String,
}

/// Explains the decision about a flow, by the very code that enforces, and checks it against the
/// rule-by-rule twin.
#[must_use]
pub fn explain(compiled: &CompiledPolicy, src: IpAddr, dst: IpAddr, service: &Service) -> Report {
    let (image, dictionary) = (&compiled.image, compiled.dictionary());
    let Explanation {
        src: src_end,
        dst: dst_end,
        decision,
        reference,
        matches,
    } = image.explain(&address_bytes(src), &address_bytes(dst), service);
    let mode = decision.mode;
    Report {
        src: end(dictionary, src, &src_end),
        dst: end(dictionary, dst, &dst_end),
        epoch: image.epoch(),
        mode,
        coverage: decision.coverage,
        enforced: view(
            dictionary,
            decision.enforced,
            decision.enforced_source,
            decision.rule_id,
            || match mode {
                Mode::Enforce => "no rule that takes effect matches and an end is in enforce",
                Mode::Test => "no rule that takes effect matches and neither end is in enforce",
                Mode::Observe => "no rule that takes effect matches and both ends are in observe",
            },
        ),
        pending: view(
            dictionary,
            decision.pending,
            decision.pending_source,
            decision.pending_rule_id,
            || match mode {
                Mode::Enforce => "no rule matches and an end is in enforce",
                Mode::Test => "no rule matches and the stricter end is in test",
                Mode::Observe => "no rule matches and both ends are in observe",
            },
        ),
        matches: matches
            .iter()
            .filter_map(|m| rule_report(dictionary, m))
            .collect(),
        consistent: decision == reference,
    }
}

fn end(dictionary: &Dictionary, address: IpAddr, end: &End) -> EndReport {
    let named = end.segments.iter().filter(|at| **at != SEGMENT_ANY);
    EndReport {
        address,
        workload: end.workload.clone(),
        identity: end.identity,
        segments: named
            .map(|at| dictionary.segment_name(*at).to_owned())
            .collect(),
        mode: end.mode,
    }
}

fn view(
    dictionary: &Dictionary,
    action: Action,
    source: VerdictSource,
    rule_id: u64,
    default_reason: impl Fn() -> &'static str,
) -> ViewReport {
    let rule = dictionary.rule(rule_id);
    let reason = match rule {
        Some(rule) => {
            let why = match rule.mode {
                RuleMode::Enforce => ", which enforces whatever the modes of the ends",
                RuleMode::Test => ", which is in test",
                RuleMode::Inherit => "",
            };
            format!("rule {} of tier {}{why}", rule.name, rule.tier)
        }
        None => default_reason().to_owned(),
    };
    ViewReport {
        action,
        source,
        rule: rule.map(|rule| rule.name.clone()),
        reason,
    }
}

fn rule_report(dictionary: &Dictionary, found: &RuleMatch) -> Option<RuleReport> {
    let rule = dictionary.rules.get(found.rule as usize)?.clone();
    let standing = |standing| told(dictionary, standing);
    Some(RuleReport {
        enforced: standing(found.enforced),
        pending: standing(found.pending),
        rule,
    })
}

fn told(dictionary: &Dictionary, standing: Standing) -> String {
    let lost = |index: u32, how: &dyn Fn(&RuleEntry) -> String| {
        dictionary
            .rules
            .get(index as usize)
            .map(how)
            .unwrap_or_default()
    };
    match standing {
        Standing::Decides => "decides".into(),
        Standing::InTest => "in test, never takes effect".into(),
        Standing::NotEnforced => "takes no effect: neither end is in enforce".into(),
        Standing::LostToTier(index) => lost(index, &|winner| {
            format!("tier {} comes first: {}", winner.tier, winner.name)
        }),
        Standing::LostToAction(index) => lost(index, &|winner| {
            format!("{} beats it: {}", winner.action, winner.name)
        }),
        Standing::LostToName(index) => lost(index, &|winner| {
            format!("same action, lower name: {}", winner.name)
        }),
    }
}

//! Rules that do nothing, too much, or against each other.
//!
//! A *case* is a pair of ends that addresses really have, and a service. Two verdicts are decided in
//! each case, the enforced one and the pending one (see README, "What it means").

mod meet;
mod narrow;
mod usage;

use crate::compile::CompiledPolicy;
use crate::limits::EXPIRY_WARNING_DAYS;
use crate::validate::{Rule, ValidPolicy};
use abi::image::Tier;
use core::fmt;
use meet::Standing;
use std::collections::BTreeSet;

pub use usage::{RuleFacts, Usage};
pub(crate) use usage::{free_name, port_text};

/// Rules that one finding names; the number of the others is told with them.
pub const RULES_TOLD_MAX: usize = 4;
/// A rule whose used share of ports, or of members of an end, is below this is over-broad.
pub const OVER_BROAD_PERCENT: u64 = 50;
/// Days of history below which nothing is said to be unused or over-broad.
pub const USAGE_DAYS_MIN: u64 = 7;

/// What is found about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Its date has passed: it matches nothing.
    Expired,
    /// It will, within 30 days.
    Expiring,
    /// No address is in its `from`, or none in its `to`: it matches in no case.
    Unmatched,
    /// It matches, and in every case, in either verdict, another rule decides.
    Shadowed,
    /// It decides, and without it every case would have the same action in either verdict, and were every segment in
    /// enforce.
    Redundant,
    /// It allows or limits in a case in which a rule of the same tier denies or rejects, and wins.
    Conflicting,
    /// No flow in the time watched was decided by it, or would have been.
    Unused,
    /// Of what it permits, less than half was used in the time watched.
    OverBroad,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Expiring => "expiring",
            Self::Unmatched => "unmatched",
            Self::Shadowed => "shadowed",
            Self::Redundant => "redundant",
            Self::Conflicting => "conflicting",
            Self::Unused => "unused",
            Self::OverBroad => "over-broad",
        })
    }
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing that can be worked out: look at it.
    Look,
    /// Take the rule out.
    Remove,
    /// Put these tables in the place of the rule's.
    Replace(String),
}

/// One finding. Each is about its rule alone: act on one, then ask again. Of two rules that say the
/// same, one is shadowed and the other redundant, and one of them is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: String,
    /// Line of the policy text.
    pub line: u32,
    /// What is found.
    pub kind: FindingKind,
    /// Why, one sentence.
    pub because: String,
    /// Other rules that it is about.
    pub others: Vec<String>,
    /// What to do.
    pub remedy: Remedy,
    /// The same in words.
    pub advice: String,
}

/// Everything that is found, by kind, then by line. `usage`: what history tells; without it nothing
/// is said about use.
///
/// # Unbounded
/// Works on every pair of classes of ends once, and once on every different set of rules that meet.
#[must_use]
pub fn analyze(compiled: &CompiledPolicy, usage: Option<&Usage>) -> Vec<Finding> {
    let policy = compiled.policy();
    let standings = meet::standings(compiled);
    let mut findings = Vec::new();
    let mut tries = narrow::TRIES_MAX;
    for (at, rule) in policy.rules.iter().enumerate() {
        let line = policy.rule_lines.get(at).copied().unwrap_or(0);
        let mut found = Found {
            compiled,
            policy,
            rule,
            at,
            line,
            findings: &mut findings,
        };
        found.dates(compiled.today(), usage);
        if !rule.expired(compiled.today()) {
            found.standing(&standings[at], &mut tries);
            // What never decides is not used either, and has been told.
            if let Some(usage) = usage.filter(|_| standings[at].decides) {
                usage::judge(compiled, &mut found, at, usage);
            }
        }
    }
    findings.sort_by_key(|finding| (finding.kind, finding.line));
    findings
}

/// What is found about one rule.
struct Found<'p> {
    compiled: &'p CompiledPolicy,
    policy: &'p ValidPolicy,
    rule: &'p Rule,
    at: usize,
    line: u32,
    findings: &'p mut Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, kind: FindingKind, because: String, others: Vec<String>, remedy: Remedy) {
        let advice = match &remedy {
            Remedy::Look => "look at it",
            Remedy::Remove => "remove it",
            Remedy::Replace(_) => "narrow it, see below",
        };
        self.add_with(kind, because, others, (remedy, advice.to_owned()));
    }

    fn add_with(
        &mut self,
        kind: FindingKind,
        because: String,
        others: Vec<String>,
        (remedy, advice): (Remedy, String),
    ) {
        self.findings.push(Finding {
            advice,
            rule: self.rule.name.clone(),
            line: self.line,
            kind,
            because,
            others,
            remedy,
        });
    }

    fn dates(&mut self, today: jiff::civil::Date, usage: Option<&Usage>) {
        let Some(expires) = self.rule.expires else {
            return;
        };
        match (expires - today).get_days() {
            days if days < 0 => {
                let because = format!("it expired on {expires} and matches nothing");
                self.add(FindingKind::Expired, because, Vec::new(), Remedy::Remove);
            }
            days if days <= EXPIRY_WARNING_DAYS => {
                let because = format!("it expires on {expires}, in {days} days");
                let what = usage::of_expiring(self.compiled, self.at, usage);
                self.add_with(FindingKind::Expiring, because, Vec::new(), what);
            }
            _ => {}
        }
    }

    fn standing(&mut self, standing: &Standing, tries: &mut usize) {
        let named = |rules: &BTreeSet<u32>| -> Vec<String> {
            let names = rules.iter().take(RULES_TOLD_MAX);
            names
                .map(|at| self.policy.rules[*at as usize].name.clone())
                .collect()
        };
        let list =
            |rules: &BTreeSet<u32>, names: &[String]| match rules.len().saturating_sub(names.len())
            {
                0 => names.join(" or "),
                more => format!("{} or one of {more} more", names.join(", ")),
            };
        if !standing.matches {
            let because = "no address is in its from, or none that it could speak to is in its to";
            let because = because.to_owned();
            self.add(FindingKind::Unmatched, because, Vec::new(), Remedy::Remove);
            return;
        }
        if !standing.decides {
            let names = named(&standing.lost_to);
            let because = format!(
                "wherever it matches, {} decides",
                list(&standing.lost_to, &names)
            );
            self.add(FindingKind::Shadowed, because, names, Remedy::Remove);
            return;
        }
        if !standing.needed {
            let names = named(&standing.instead);
            let mut instead = list(&standing.instead, &names);
            if standing.default_instead {
                instead = match instead.as_str() {
                    "" => "the default".to_owned(),
                    rules => format!("{rules} or the default"),
                };
            }
            let because = format!("without it {instead} would decide the same");
            self.add(FindingKind::Redundant, because, names, Remedy::Remove);
        }
        let names = named(&standing.denied_by);
        if !names.is_empty() {
            let winners = list(&standing.denied_by, &names);
            let because = format!(
                "in some cases {winners} of the same tier ({}) wins over it",
                self.rule.tier
            );
            let what = match narrow::without_denied(self.compiled, self.at, tries) {
                Some(tables) => (Remedy::Replace(tables), "narrow it, see below".to_owned()),
                None => (Remedy::Look, self.on_purpose(&winners)),
            };
            self.add_with(FindingKind::Conflicting, because, names, what);
        }
    }

    /// How a conflict that no list can say is told to be meant.
    fn on_purpose(&self, winners: &str) -> String {
        let before = match self.rule.tier {
            Tier::Guardrail => return "if that is meant, say so in a comment".to_owned(),
            Tier::Application => Tier::Guardrail,
            Tier::Baseline => Tier::Application,
        };
        format!("if that is meant, put {winners} into tier {before}")
    }
}

//! Answers what a policy lets reach what: diff, blast radius, analysis.

use super::members::Sources;
use super::press::Press;
use super::proof::told as told_broken;
use super::{InForce, PolicyService};
use crate::app::App;
use crate::clock::now_ns;
use crate::flow::{address_bytes, service_of};
use crate::history_questions::selection;
use crate::questions::action_word;
use api::error::{ApiError, ErrorCode};
use api::history::{Conversation, HistoryQuery};
use api::policy::Outcome;
use api::reach::{
    Analysis, AnalyzeRequest, Blast, BlastRadius, BlastRequest, Changed, DiffRequest, EndSet,
    Finding, PolicyDiff, PolicySource, ReachChange, Ring, Turn, View, WordChange,
};
use history::Selection;
use jiff::civil::Date;
use policy::{CompiledPolicy, Remedy, RuleFacts, USAGE_DAYS_MIN, Usage};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Hops of a blast radius where none are asked for.
const HOPS: u32 = 3;
/// Addresses, and services, that are remembered of one rule; one with more is not narrowed.
const FACTS_MAX: usize = 4_096;
const DAY_NS: u64 = 86_400_000_000_000;

/// Finds a policy.
type Find<'f> = &'f dyn Fn(&PolicySource) -> Result<Arc<CompiledPolicy>, ApiError>;

/// A question that needs no running process where it names files only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PolicyQuestion {
    /// [`DiffRequest`].
    Diff,
    /// [`BlastRequest`].
    Blast,
    /// [`AnalyzeRequest`]; nothing is said about use.
    Analyze,
}

/// Answers a question from nothing but itself: JSON in, JSON out.
///
/// # Errors
/// The question is not understood, names a revision, or names a policy that is not valid.
pub fn answer_alone(question: PolicyQuestion, json: &str) -> Result<String, ApiError> {
    let bad = |e: serde_json::Error| ApiError::new(ErrorCode::BadRequest, e.to_string());
    let answer = match question {
        PolicyQuestion::Diff => {
            let asked = serde_json::from_str(json).map_err(bad)?;
            serde_json::to_string(&diff(&text_only, &asked)?)
        }
        PolicyQuestion::Blast => {
            let asked = serde_json::from_str(json).map_err(bad)?;
            serde_json::to_string(&blast(&text_only, &asked)?)
        }
        PolicyQuestion::Analyze => {
            let asked: AnalyzeRequest = serde_json::from_str(json).map_err(bad)?;
            let why = "no control process was asked, so that there is no history";
            let usage = Err(why.to_owned());
            serde_json::to_string(&analyze(&text_only, &asked.policy, usage)?)
        }
    };
    answer.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))
}

fn text_only(source: &PolicySource) -> Result<Arc<CompiledPolicy>, ApiError> {
    match &source.text {
        Some(text) => Ok(compile(text, &source.file_name, &Sources::default())?.compiled),
        None => {
            let message = "revisions are kept by the control process, and none was asked: start it, \
                           or name files";
            Err(ApiError::new(ErrorCode::BadRequest, message))
        }
    }
}

fn compile(text: &str, file: &str, sources: &Sources) -> Result<InForce, ApiError> {
    // Any epoch will do: the image is thrown away.
    Press::default().compile(text, file, 1, sources)
}

impl PolicyService {
    /// The policy of a source, compiled.
    fn find(&self, source: &PolicySource) -> Result<Arc<CompiledPolicy>, ApiError> {
        let wanted = source.revision.as_deref().unwrap_or_default();
        match (&source.text, wanted) {
            (Some(text), _) => Ok(compile(text, &source.file_name, &self.sources())?.compiled),
            (None, "in-force") => self.in_force().map(|policy| policy.compiled).ok_or_else(|| {
                let message = "no policy is in force here whose text is known; `ringfence policy \
                               apply FILE` first, or name two files";
                ApiError::new(ErrorCode::NotFound, message)
            }),
            (None, revision) => {
                let revision = self.revision(revision)?;
                let file = format!("revision {}", revision.revision.get(..12).unwrap_or_default());
                Ok(compile(&revision.text, &file, &self.sources())?.compiled)
            }
        }
    }
}

impl App {
    /// `POST /v1/policy/diff`.
    ///
    /// # Errors
    /// A policy is not found or not valid.
    pub fn policy_diff(&self, asked: &DiffRequest) -> Result<PolicyDiff, ApiError> {
        diff(&|source| self.policy.find(source), asked)
    }

    /// `POST /v1/policy/blast`.
    ///
    /// # Errors
    /// A policy is not found or not valid, or has no such segment.
    pub fn policy_blast(&self, asked: &BlastRequest) -> Result<BlastRadius, ApiError> {
        blast(&|source| self.policy.find(source), asked)
    }

    /// `POST /v1/policy/analyze`.
    ///
    /// # Errors
    /// A policy is not found or not valid, or history fails.
    pub fn policy_analyze(&self, asked: &AnalyzeRequest) -> Result<Analysis, ApiError> {
        let compiled = self.policy.find(&asked.policy)?;
        let usage = self.usage(&compiled, asked.since.as_deref())?;
        let find = |_: &PolicySource| Ok(Arc::clone(&compiled));
        analyze(&find, &asked.policy, usage)
    }

    /// What history tells of the rules of a policy, or why it does not.
    fn usage(
        &self,
        of: &CompiledPolicy,
        since: Option<&str>,
    ) -> Result<Result<Usage, String>, ApiError> {
        let internal = |e: history::HistoryError| ApiError::new(ErrorCode::Internal, e.to_string());
        let query = HistoryQuery {
            since: since.map(str::to_owned),
            ..HistoryQuery::default()
        };
        let selection = selection(&query, now_ns())?;
        let (mut usage, mut days) = (Usage::default(), BTreeSet::new());
        let mut each = |conversation: Conversation| {
            days.insert(conversation.start_ts.0 / DAY_NS);
            note(&mut usage, of, &conversation);
            ControlFlow::Continue(())
        };
        let answered = self.history.conversations_to_add_up(&selection, &mut each);
        answered.map_err(internal)?;
        usage.days = days.len() as u64;
        let Some(oldest) = days.first().filter(|_| usage.days >= USAGE_DAYS_MIN) else {
            let days = usage.days;
            let message = format!(
                "history saw traffic on {days} day{} of that time, and less than {USAGE_DAYS_MIN} tell too little",
                if days == 1 { "" } else { "s" }
            );
            return Ok(Err(message));
        };
        let before = Selection {
            since_ns: 0,
            until_ns: selection.since_ns,
            ..selection
        };
        if before.until_ns > 0 {
            for used in self.history.rule_use(&before).map_err(internal)? {
                let facts = usage.rules.entry(used.rule.to_string()).or_default();
                facts.last_before = date_of(used.last_ts.0).filter(|_| used.last_ts.0 > 0);
            }
        }
        self.note_young(&mut usage, of, oldest.saturating_mul(DAY_NS))?;
        Ok(Ok(usage))
    }

    /// Notes since when each unused rule has been in force, where that is later than `since_ns`.
    fn note_young(
        &self,
        usage: &mut Usage,
        of: &CompiledPolicy,
        since_ns: u64,
    ) -> Result<(), ApiError> {
        let rules = of.policy().rules.iter().map(|rule| rule.name.as_str());
        let is_used = |name: &str| usage.rules.get(name).is_some_and(|facts| facts.flows > 0);
        let mut unused: BTreeSet<&str> = rules.filter(|name| !is_used(name)).collect();
        // From the newest revision to the oldest; a rule came with the one after the first that lacks it.
        let mut came_ns = None;
        let log = self.policy.history()?.entries;
        let adopted = log.iter().filter(|e| e.outcome == Outcome::Adopted);
        let mut read: (String, BTreeSet<String>) = <_>::default();
        for entry in adopted.rev() {
            if unused.is_empty() {
                break;
            }
            if read.0 != entry.revision {
                let text = self.policy.revision(&entry.revision)?.text;
                let names = policy::parse(&text, "revision");
                let names = names.rule_names().map(str::to_owned).collect();
                read = (entry.revision.clone(), names);
            }
            let is_there = |name: &&str| read.1.contains(*name);
            let (there, lacking) = unused.into_iter().partition(is_there);
            unused = there;
            note_since(usage, lacking, came_ns);
            came_ns = Some(entry.ts.0);
            if entry.ts.0 < since_ns {
                return Ok(());
            }
        }
        note_since(usage, unused, came_ns);
        Ok(())
    }
}

/// Notes since when rules have been in force; those of a draft, which never were, are left as they are.
fn note_since(usage: &mut Usage, rules: BTreeSet<&str>, came_ns: Option<u64>) {
    let Some(date) = came_ns.and_then(date_of) else {
        return;
    };
    for rule in rules {
        let facts = usage.rules.entry(rule.to_owned()).or_default();
        facts.in_force_since = Some(date);
    }
}

/// The day of a time, in UTC.
fn date_of(ns: u64) -> Option<Date> {
    let at = jiff::Timestamp::from_nanosecond(i128::from(ns)).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).date())
}

/// Adds what one conversation says about the rules that decided it, and about those of the policy asked about that
/// decide it now: that one may have come later, or never have been in force.
fn note(usage: &mut Usage, of: &CompiledPolicy, conversation: &Conversation) {
    let mut rules: BTreeSet<&str> = [&conversation.rule, &conversation.pending_rule]
        .into_iter()
        .flatten()
        .map(AsRef::as_ref)
        .collect();
    let dictionary = of.dictionary();
    if !conversation.folded {
        let [src, dst] = [conversation.src, conversation.dst].map(address_bytes);
        let service = service_of(conversation);
        let decision = of.image.evaluate(&src, &dst, &service);
        let now = [decision.rule_id, decision.pending_rule_id];
        rules.extend(
            now.into_iter()
                .filter_map(|id| Some(dictionary.rule(id)?.name.as_str())),
        );
    }
    for rule in rules {
        let facts = match usage.rules.get_mut(rule) {
            Some(facts) => facts,
            None => usage.rules.entry(rule.to_owned()).or_default(),
        };
        // A conversation that began earlier still is use.
        facts.flows += conversation.sums.flows.max(1);
        // Of what was folded only the last destination is known.
        facts.cut |= conversation.folded;
        let RuleFacts {
            sources,
            destinations,
            services,
            cut,
            ..
        } = facts;
        sources.insert(conversation.src);
        destinations.insert(conversation.dst);
        services.insert((conversation.proto, conversation.port));
        if sources.len().max(destinations.len()).max(services.len()) > FACTS_MAX {
            *cut = true;
            sources.clear();
            destinations.clear();
            services.clear();
        }
    }
}

fn diff(find: Find<'_>, asked: &DiffRequest) -> Result<PolicyDiff, ApiError> {
    let (old, new) = (find(&asked.old)?, find(&asked.new)?);
    let found = policy::diff(&old, &new, view(asked.view));
    let [before, after] = [&old, &new].map(|policy| policy::prove(policy, policy::View::Intended));
    let named = |list: &[policy::BrokenInvariant], name: &str| list.iter().any(|b| b.name == name);
    let has = |name: &str| new.policy().invariants.iter().any(|own| own.name == name);
    let newly = after.iter().filter(|broken| !named(&before, &broken.name));
    let mended = before
        .iter()
        .filter(|broken| has(&broken.name) && !named(&after, &broken.name));
    Ok(PolicyDiff {
        old_revision: old.policy().revision.to_string(),
        new_revision: new.policy().revision.to_string(),
        view: asked.view,
        reach: found.reach.into_iter().map(reach_change).collect(),
        changes: found.words.into_iter().map(word_change).collect(),
        newly_broken: newly
            .map(|broken| told_broken(&new.policy().file, broken))
            .collect(),
        mended: mended.map(|broken| broken.name.clone()).collect(),
    })
}

fn view(view: View) -> policy::View {
    match view {
        View::Intended => policy::View::Intended,
        View::Enforced => policy::View::Enforced,
    }
}

pub(crate) fn reach_change(change: policy::ReachChange) -> ReachChange {
    let ends = |ends: policy::EndSet| EndSet {
        names: ends.names,
        workloads: ends.workloads,
    };
    ReachChange {
        turn: match change.turn {
            policy::Turn::Opens => Turn::Opens,
            policy::Turn::Closes => Turn::Closes,
            policy::Turn::Changes => Turn::Changes,
        },
        from: ends(change.from),
        to: ends(change.to),
        services: change.services,
        before: action_word(change.before),
        rule_before: change.rule_before,
        after: action_word(change.after),
        rule_after: change.rule_after,
    }
}

fn word_change(change: policy::WordChange) -> WordChange {
    WordChange {
        kind: change.kind.to_owned(),
        name: change.name,
        changed: match change.changed {
            policy::Changed::Added => Changed::Added,
            policy::Changed::Removed => Changed::Removed,
            policy::Changed::Altered => Changed::Altered,
        },
        details: change.details,
    }
}

fn blast(find: Find<'_>, asked: &BlastRequest) -> Result<BlastRadius, ApiError> {
    let hops = asked.hops.unwrap_or(HOPS) as usize;
    if hops == 0 || hops > policy::BLAST_HOPS_MAX {
        let message = format!("hops is {hops}, it may be 1 to {}", policy::BLAST_HOPS_MAX);
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    }
    let segment = asked.segment.as_deref();
    let of = |source: &PolicySource| {
        let compiled = find(source)?;
        let found = policy::blast(&compiled, view(asked.view), segment, hops);
        let found = found.map(|all| all.into_iter().map(told_blast).collect::<Vec<_>>());
        Ok::<_, ApiError>(found)
    };
    let before = of(&asked.policy)?;
    let draft = asked.draft.as_ref().map(of).transpose()?;
    if before.is_none() && draft.as_ref().is_none_or(Option::is_none) {
        let message = format!(
            "there is no segment `{}`; `ringfence segments` lists them",
            segment.unwrap_or_default()
        );
        return Err(ApiError::new(ErrorCode::NotFound, message));
    }
    Ok(BlastRadius {
        view: asked.view,
        segments: before.unwrap_or_default(),
        draft: draft.map(Option::unwrap_or_default),
    })
}

fn told_blast(blast: policy::Blast) -> Blast {
    let ring = |ring: policy::Ring| Ring {
        workloads: ring.workloads,
        segments: ring.segments,
        internet: ring.internet,
        unmanaged: ring.unmanaged,
    };
    Blast {
        segment: blast.segment,
        workloads: blast.workloads,
        among: blast.among,
        rings: blast.rings.into_iter().map(ring).collect(),
    }
}

/// `usage`: what history tells, or why it does not.
fn analyze(
    find: Find<'_>,
    source: &PolicySource,
    usage: Result<Usage, String>,
) -> Result<Analysis, ApiError> {
    let compiled = find(source)?;
    let findings = policy::analyze(&compiled, usage.as_ref().ok());
    let finding = |finding: policy::Finding| Finding {
        rule: finding.rule,
        line: finding.line,
        kind: finding.kind.to_string(),
        because: finding.because,
        others: finding.others,
        remove: finding.remedy == Remedy::Remove,
        advice: finding.advice,
        replace: match finding.remedy {
            Remedy::Replace(tables) => Some(tables),
            Remedy::Look | Remedy::Remove => None,
        },
    };
    Ok(Analysis {
        revision: compiled.policy().revision.to_string(),
        rules: compiled.policy().rules.len() as u64,
        days_watched: usage.as_ref().map_or(0, |usage| usage.days),
        use_not_judged: usage.err().unwrap_or_default(),
        findings: findings.into_iter().map(finding).collect(),
    })
}

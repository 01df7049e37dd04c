//! The smallest change of a policy that turns the verdict of one flow.

use crate::analysis::{free_name, port_text};
use crate::compile::{CompiledPolicy, compile};
use crate::diff::{PolicyDiff, diff};
use crate::inventory::Inventory;
use crate::loader::Loader;
use crate::prefix::address_bytes;
use crate::quarantine::{held_by, without_quarantine};
use crate::reach::View;
use crate::validate::Rule;
use crate::written;
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY, Tier};
use abi::{Action, Mode, VerdictSource};
use acl::Service;
use core::net::IpAddr;
use toml_edit::{Array, DocumentMut, Item};

/// Changes that are told at most, the smallest first.
pub const REPAIRS_TOLD_MAX: usize = 3;
/// Steps of one change.
pub const REPAIR_STEPS_MAX: usize = 3;
/// Policies that are compiled and asked; changes that would need more are not found.
pub const REPAIR_TRIES_MAX: usize = 24;

/// A flow, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Initiator.
    pub src: IpAddr,
    /// Responder.
    pub dst: IpAddr,
    /// What is asked of it.
    pub service: Service,
    /// Whether it is to pass.
    pub permit: bool,
    /// In which view.
    pub view: View,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// Add these tables to the policy.
    Add {
        /// `[[rule]]`, and the `[[service]]` that it needs.
        tables: String,
    },
    /// Take a rule out.
    Remove {
        /// Its name.
        rule: String,
    },
    /// Leave out an entry of one of a rule's lists.
    Narrow {
        /// Its name.
        rule: String,
        /// `from`, `to` or `services`.
        key: &'static str,
        /// Entries that go.
        without: Vec<String>,
    },
    /// Let a workload go that is in quarantine.
    Lift {
        /// Its name.
        workload: String,
    },
}

/// A change that turns the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What is to be done, all of it; one step wherever one will do.
    pub steps: Vec<RepairStep>,
    /// The whole policy with it: `policy check` accepts it.
    pub text: String,
    /// Everything that it changes, the flow itself included.
    pub diff: PolicyDiff,
}

/// Why there is no change to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// Nothing needs to be changed.
    #[error("the flow is decided so already: {action}")]
    AlreadySo {
        /// As it is decided.
        action: Action,
    },
    /// Both ends are of one family.
    #[error("{src} and {dst} are not of one family: no flow is between them")]
    Families {
        /// Initiator.
        src: IpAddr,
        /// Responder.
        dst: IpAddr,
    },
    /// None of the changes that were tried turns it.
    #[error(
        "no change of at most {REPAIR_STEPS_MAX} rules that was tried turns this flow; look at the \
         rules that match it with `ringfence explain`"
    )]
    NotFound,
}

/// The policy that is to be changed.
#[derive(Clone, Copy, Debug)]
pub struct Repaired<'p> {
    /// Its text.
    pub text: &'p str,
    /// What stands beside the text.
    pub inventory: &'p Inventory,
    /// Both, compiled.
    pub compiled: &'p CompiledPolicy,
}

/// A policy on the way to one that turns the flow.
struct Draft {
    steps: Vec<RepairStep>,
    text: String,
    compiled: CompiledPolicy,
}

/// The smallest changes that turn the verdict of a flow, each tried: compiled and asked. Changes of
/// one step come first; those of more are looked for only where none of fewer turns it.
///
/// # Errors
/// [`RepairError`] says why there is none.
///
/// # Unbounded
/// Reads, compiles and compares the policy once for each change that is tried,
/// [`REPAIR_TRIES_MAX`] at most.
pub fn repair(policy: Repaired<'_>, wanted: &Wanted) -> Result<Vec<Repair>, RepairError> {
    if wanted.src.is_ipv4() != wanted.dst.is_ipv4() {
        let (src, dst) = (wanted.src, wanted.dst);
        return Err(RepairError::Families { src, dst });
    }
    let (action, rule) = decided(policy.compiled, wanted);
    if action.permits() == wanted.permit {
        return Err(RepairError::AlreadySo { action });
    }
    let mut loader = Loader::new();
    let mut tries = REPAIR_TRIES_MAX;
    let mut drafts = next(&mut loader, &mut tries, policy, &[], wanted, rule);
    for _ in 0..REPAIR_STEPS_MAX {
        let turns = |draft: &Draft| decided(&draft.compiled, wanted).0.permits() == wanted.permit;
        let (found, rest): (Vec<Draft>, Vec<Draft>) = drafts.into_iter().partition(turns);
        if !found.is_empty() {
            return Ok(smallest(policy.compiled, wanted.view, found));
        }
        let on = |draft: &Draft| {
            let from = Repaired {
                text: &draft.text,
                compiled: &draft.compiled,
                ..policy
            };
            let rule = decided(&draft.compiled, wanted).1;
            next(&mut loader, &mut tries, from, &draft.steps, wanted, rule)
        };
        drafts = rest.iter().flat_map(on).collect();
    }
    Err(RepairError::NotFound)
}

/// What a policy becomes by each step that may help.
fn next(
    loader: &mut Loader,
    tries: &mut usize,
    from: Repaired<'_>,
    before: &[RepairStep],
    wanted: &Wanted,
    rule: Option<u32>,
) -> Vec<Draft> {
    // No rule may be added that only the next step would make hold: it comes last.
    let ended = matches!(before.last(), Some(RepairStep::Add { .. }));
    if before.len() >= REPAIR_STEPS_MAX || ended {
        return Vec::new();
    }
    let (file, today) = (&from.compiled.policy().file, from.compiled.today());
    let mut drafts = Vec::new();
    for (step, text) in steps(from.text, from.compiled, wanted, rule) {
        if *tries == 0 {
            break;
        }
        *tries -= 1;
        let valid = loader.load_with(&text, from.inventory, file, today).ok();
        let compiled = valid.and_then(|valid| compile(&valid, from.compiled.epoch(), today).ok());
        let steps = [before, &[step]].concat();
        drafts.extend(compiled.map(|compiled| Draft {
            steps,
            text,
            compiled,
        }));
    }
    drafts
}

/// Those that change least.
fn smallest(policy: &CompiledPolicy, view: View, found: Vec<Draft>) -> Vec<Repair> {
    let compared = |draft: Draft| {
        let diff = diff(policy, &draft.compiled, view);
        let Draft { steps, text, .. } = draft;
        (weight(&diff), Repair { steps, text, diff })
    };
    let mut found: Vec<(u128, Repair)> = found.into_iter().map(compared).collect();
    found.sort_by_key(|(weight, _)| *weight);
    found.truncate(REPAIRS_TOLD_MAX);
    found.into_iter().map(|(_, repair)| repair).collect()
}

/// Whether a flow passes, in the view that is asked about.
#[must_use]
pub fn passes(policy: &CompiledPolicy, wanted: &Wanted) -> bool {
    decided(policy, wanted).0.permits()
}

/// How a flow is decided in the view that is asked about, and by which rule.
fn decided(policy: &CompiledPolicy, wanted: &Wanted) -> (Action, Option<u32>) {
    let [src, dst] = [wanted.src, wanted.dst].map(address_bytes);
    let decision = policy.image.evaluate(&src, &dst, &wanted.service);
    let rules = policy.image.deciding_rules(&decision);
    if wanted.view == View::Enforced {
        return (decision.enforced, rules[0]);
    }
    let own = |at: &[u8; 16]| {
        let mut segments = policy.image.segments_of(policy.image.identity(at));
        segments.any(|segment| segment as usize >= BUILT_IN_SEGMENTS.len())
    };
    let by_default = decision.pending_source != VerdictSource::Rule;
    match by_default && (own(&src) || own(&dst)) {
        true => (Action::Deny, None),
        false => (decision.pending, rules[1]),
    }
}

/// How much a change changes: pairs of ends, each with its services.
fn weight(diff: &PolicyDiff) -> u128 {
    let ends =
        |ends: &crate::diff::EndSet| u128::from(ends.workloads).max(ends.names.len() as u128);
    let rows = diff.reach.iter();
    rows.map(|row| ends(&row.from) * ends(&row.to) * (row.services.len() as u128 + wide(row)))
        .sum()
}

/// What names a wide set of services weighs more than one that names a port.
fn wide(row: &crate::diff::ReachChange) -> u128 {
    let everything = |service: &String| service.starts_with("any");
    if row.services.iter().any(everything) {
        1_000
    } else {
        0
    }
}

/// Changes that may do, with the text that each makes.
fn steps(
    text: &str,
    policy: &CompiledPolicy,
    wanted: &Wanted,
    rule: Option<u32>,
) -> Vec<(RepairStep, String)> {
    let mut steps = Vec::new();
    let decider = rule.and_then(|at| policy.policy().rules.get(at as usize));
    if let Some(workload) = decider.and_then(|rule| held_by(&rule.name)) {
        let workload = workload.to_owned();
        let lifted = without_quarantine(text, &workload).ok();
        steps.extend(lifted.map(|text| (RepairStep::Lift { workload }, text)));
        return steps;
    }
    let tier = match (wanted.permit, decider.map(|rule| rule.tier)) {
        (_, None) => Some(Tier::Application),
        // Within a tier what denies wins already.
        (false, Some(tier)) => Some(tier),
        (true, Some(Tier::Baseline)) => Some(Tier::Application),
        (true, Some(Tier::Application)) => Some(Tier::Guardrail),
        (true, Some(Tier::Guardrail)) => None,
    };
    if let Some(tables) = tier.and_then(|tier| new_rule(policy, wanted, tier)) {
        let changed = format!("{}\n\n{tables}", text.trim_end());
        steps.push((RepairStep::Add { tables }, changed));
    }
    let Some(decider) = decider else {
        return steps;
    };
    if let Some(changed) = without_rule(text, &decider.name) {
        let rule = decider.name.clone();
        steps.push((RepairStep::Remove { rule }, changed));
    }
    for (key, without) in narrowings(policy, wanted, decider) {
        if let Some(changed) = narrower(text, &decider.name, key, &without) {
            let rule = decider.name.clone();
            steps.push((RepairStep::Narrow { rule, key, without }, changed));
        }
    }
    steps
}

/// A rule about the smallest segments of both ends and this service alone.
fn new_rule(policy: &CompiledPolicy, wanted: &Wanted, tier: Tier) -> Option<String> {
    let valid = policy.policy();
    let from = smallest_segment(policy, wanted.src);
    let to = smallest_segment(policy, wanted.dst);
    let key = (wanted.service.proto, wanted.service.key());
    let port = port_text(key);
    let exact = |service: &&crate::validate::Service| {
        service.ports.len() == 1 && service.ports[0].to_string() == port
    };
    let mut text = String::new();
    let service = match valid.services.iter().find(exact) {
        Some(service) => service.name.clone(),
        None => {
            let taken = |name: &str| valid.services.iter().any(|service| service.name == name);
            let name = free_name(&port.replace('/', "-"), taken)?;
            text = written::service(&name, core::slice::from_ref(&port));
            text.push('\n');
            name
        }
    };
    let [from_name, to_name] = [from, to].map(|at| written::segment_name(valid, at).to_owned());
    let taken = |name: &str| valid.rules.iter().any(|rule| rule.name == name);
    let verb = if wanted.permit { "" } else { "no-" };
    let name = free_name(&format!("{verb}{from_name}-to-{to_name}-{service}"), taken)?;
    let enforces = [from, to]
        .iter()
        .any(|at| written::segment_mode(valid, *at) == Some(Mode::Enforce));
    let mut rule = Rule::plain(name, tier, (from, to));
    if !wanted.permit {
        rule.action = Action::Deny;
        if wanted.view == View::Enforced && !enforces {
            rule.mode = abi::image::RuleMode::Enforce;
        }
    }
    let instead = written::Instead {
        services: Some(vec![service]),
        ..written::Instead::default()
    };
    text.push_str(&written::rule(valid, &rule, instead));
    Some(text)
}

/// The segment of an address with the fewest workloads, its own ones before the built-in ones.
fn smallest_segment(policy: &CompiledPolicy, address: IpAddr) -> u32 {
    let identity = policy.image.identity(&address_bytes(address));
    let own = policy
        .image
        .segments_of(identity)
        .filter(|at| *at != SEGMENT_ANY);
    let size = |at: &u32| {
        let segment = policy.dictionary().segments.get(*at as usize);
        (*at as usize) < BUILT_IN_SEGMENTS.len() || segment.is_none_or(|s| s.workloads.is_empty())
    };
    let workloads = |at: &u32| {
        policy
            .dictionary()
            .segments
            .get(*at as usize)
            .map(|s| s.workloads.len())
    };
    own.min_by_key(|at| {
        (
            size(at),
            (*at as usize) < BUILT_IN_SEGMENTS.len(),
            workloads(at),
        )
    })
    .unwrap_or(SEGMENT_ANY)
}

/// Entries of a rule's lists by which it matches the flow, where others are left.
fn narrowings(
    policy: &CompiledPolicy,
    wanted: &Wanted,
    rule: &Rule,
) -> Vec<(&'static str, Vec<String>)> {
    let valid = policy.policy();
    let end = |list: &[u32], address: IpAddr| -> Vec<String> {
        let identity = policy.image.identity(&address_bytes(address));
        let own: Vec<u32> = policy.image.segments_of(identity).collect();
        let matching: Vec<u32> = list.iter().copied().filter(|at| own.contains(at)).collect();
        let others = matching.len() < list.len();
        let named = matching.iter().filter(|_| others);
        named
            .map(|at| written::segment_name(valid, *at).to_owned())
            .collect()
    };
    let covers = |at: &&u32| {
        let service = policy.image.service(**at);
        service.is_some_and(|s| s.ports().any(|port| port.covers(&wanted.service)))
    };
    let services: Vec<&u32> = rule.services.iter().filter(covers).collect();
    let others = services.len() < rule.services.len();
    let services = services
        .into_iter()
        .filter(|_| others)
        .map(|at| valid.services[*at as usize].name.clone())
        .collect();
    [
        ("from", end(&rule.from, wanted.src)),
        ("to", end(&rule.to, wanted.dst)),
        ("services", services),
    ]
    .into_iter()
    .filter(|(_, without)| !without.is_empty())
    .collect()
}

/// The text with one rule changed; none where its rules are not written as `[[rule]]` tables.
fn with_rule(
    text: &str,
    name: &str,
    change: impl FnOnce(&mut toml_edit::ArrayOfTables, usize) -> Option<()>,
) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let rules = document.get_mut("rule")?.as_array_of_tables_mut()?;
    let is_it = |table: &toml_edit::Table| table.get("name").and_then(Item::as_str) == Some(name);
    let at = rules.iter().position(is_it)?;
    change(rules, at)?;
    Some(document.to_string())
}

fn without_rule(text: &str, name: &str) -> Option<String> {
    with_rule(text, name, |rules, at| {
        rules.remove(at);
        Some(())
    })
}

fn narrower(text: &str, name: &str, key: &str, without: &[String]) -> Option<String> {
    with_rule(text, name, |rules, at| {
        let list = rules.get_mut(at)?.get_mut(key)?.as_array_mut()?;
        let kept = list.iter().filter_map(|word| word.as_str());
        let kept: Array = kept
            .filter(|word| !without.iter().any(|w| w == word))
            .collect();
        *list = kept;
        Some(())
    })
}

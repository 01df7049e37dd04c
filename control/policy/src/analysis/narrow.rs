//! A rule that another of its tier partly overrules, without what never takes effect.

use super::meet::standings;
use crate::compile::{CompiledPolicy, compile};
use crate::diff::diff;
use crate::reach::View;
use crate::validate::{Rule, ValidPolicy};
use crate::written;

/// Rules of the largest policy in which narrower rules are tried: each is compiled and compared.
const TRIED_RULES_MAX: usize = 2_000;
/// Policies that are compiled for one analysis; what is left is not narrowed.
pub(super) const TRIES_MAX: usize = 64;

/// The rule without the entries of its lists that another rule denies altogether: what it lets pass
/// stays the same, and it conflicts no more. None where no entries say that.
pub(super) fn without_denied(
    compiled: &CompiledPolicy,
    at: usize,
    tries: &mut usize,
) -> Option<String> {
    let policy = compiled.policy();
    if policy.rules.len() > TRIED_RULES_MAX {
        return None;
    }
    let mut kept = policy.rules[at].clone();
    for list in [list_services, list_from, list_to] {
        let mut entry = 0;
        while entry < list(&mut kept).len() && list(&mut kept).len() > 1 && *tries > 0 {
            *tries -= 1;
            let mut less = kept.clone();
            list(&mut less).remove(entry);
            match same_reach(compiled, at, &less) {
                Some(_) => kept = less,
                None => entry += 1,
            }
        }
    }
    let narrowed = same_reach(compiled, at, &kept)?;
    let mended = standings(&narrowed)[at].denied_by.is_empty();
    mended.then(|| written::rule(policy, &kept, written::Instead::default()))
}

const fn list_services(rule: &mut Rule) -> &mut Vec<u32> {
    &mut rule.services
}

const fn list_from(rule: &mut Rule) -> &mut Vec<u32> {
    &mut rule.from
}

const fn list_to(rule: &mut Rule) -> &mut Vec<u32> {
    &mut rule.to
}

/// The policy with another rule at that place, where nobody reaches more or less by it.
fn same_reach(compiled: &CompiledPolicy, at: usize, rule: &Rule) -> Option<CompiledPolicy> {
    let policy = compiled.policy();
    let mut rules = policy.rules.to_vec();
    rules[at] = rule.clone();
    let changed = ValidPolicy {
        rules: rules.into(),
        ..policy.clone()
    };
    let changed = compile(&changed, compiled.epoch(), compiled.today()).ok()?;
    let same = |view| diff(compiled, &changed, view).reach.is_empty();
    (same(View::Intended) && same(View::Enforced)).then_some(changed)
}

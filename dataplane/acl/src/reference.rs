//! The obvious twin: evaluates the same image rule by rule, by the sentences of the policy
//! language and none of the tables. Slow on purpose.

use crate::Service;
use crate::image::{Limit, PolicyImage, Rule, SegmentIndex};
use abi::image::{RuleMode, SEGMENT_ANY, SEGMENT_INTERNET, SEGMENT_UNMANAGED, Tier};
use abi::verdict::{Coverage, OnChange};
use abi::{Action, Decision, Mode, VerdictSource};

/// Segments of an address, ascending: every prefix of every segment is asked.
#[must_use]
pub fn segments(image: &PolicyImage, address: &[u8; 16]) -> Vec<SegmentIndex> {
    let managed = image
        .workloads()
        .any(|w| w.prefixes().any(|p| p.covers(address)));
    let internal = image.internal().any(|p| p.covers(address));
    (0..image.segment_count())
        .filter(|index| match *index {
            SEGMENT_ANY => true,
            SEGMENT_INTERNET => !managed && !internal,
            SEGMENT_UNMANAGED => !managed && internal,
            _ => image
                .segment(*index)
                .is_some_and(|segment| segment.prefixes().any(|p| p.covers(address))),
        })
        .collect()
}

/// Mode of an end: the strictest of its segments, observe if none has one.
#[must_use]
pub fn mode(image: &PolicyImage, segments: &[SegmentIndex]) -> Mode {
    segments
        .iter()
        .filter_map(|index| image.segment(*index)?.mode)
        .max()
        .unwrap_or(Mode::Observe)
}

/// Whether a rule speaks about a flow between two sets of segments. An expired rule does not.
#[must_use]
pub fn matches(
    image: &PolicyImage,
    rule: &Rule<'_>,
    src: &[SegmentIndex],
    dst: &[SegmentIndex],
    service: &Service,
) -> bool {
    let any_service = rule.services.is_empty();
    !rule.expired
        && rule.from().any(|segment| src.contains(&segment))
        && rule.to().any(|segment| dst.contains(&segment))
        && (any_service
            || rule.services().any(|index| {
                image
                    .service(index)
                    .is_some_and(|s| s.ports().any(|p| p.covers(service)))
            }))
}

/// Whether a rule takes effect between ends whose stricter mode is `mode`.
#[must_use]
pub fn takes_effect(rule: &Rule<'_>, mode: Mode) -> bool {
    match (rule.mode, rule.action) {
        (RuleMode::Test, _) => false,
        (RuleMode::Enforce, _) | (_, Action::Allow) => true,
        (RuleMode::Inherit, _) => mode == Mode::Enforce,
    }
}

/// The one that decides among matching rules: the first tier that has any; in it deny before
/// reject before limit before allow; among those the lowest name.
#[must_use]
pub fn decides<'a>(rules: &[Rule<'a>]) -> Option<Rule<'a>> {
    for tier in Tier::ALL {
        for action in [Action::Deny, Action::Reject, Action::Limit, Action::Allow] {
            let first = rules
                .iter()
                .filter(|rule| rule.tier == *tier && rule.action == action)
                .min_by_key(|rule| rule.name);
            if first.is_some() {
                return first.copied();
            }
        }
    }
    None
}

/// What [`PolicyImage::evaluate`] must say.
///
/// # Unbounded
/// Asks every rule, every segment and every prefix.
#[must_use]
pub fn evaluate(
    image: &PolicyImage,
    src: &[u8; 16],
    dst: &[u8; 16],
    service: &Service,
) -> Decision {
    let [from, to] = [src, dst].map(|address| segments(image, address));
    let mode = mode(image, &from).max(mode(image, &to));
    let matching: Vec<_> = image
        .rules()
        .filter(|rule| matches(image, rule, &from, &to, service))
        .collect();
    let effective: Vec<_> = matching
        .iter()
        .filter(|rule| takes_effect(rule, mode))
        .copied()
        .collect();
    let enforced = decides(&effective);
    let pending = decides(&matching);
    let view = |rule: Option<Rule<'_>>, denies_by_default: bool| match rule {
        Some(rule) => (rule.action, VerdictSource::Rule, rule.id),
        None if denies_by_default => (Action::Deny, VerdictSource::Default, 0),
        None => (Action::Allow, VerdictSource::Default, 0),
    };
    let (enforced_action, enforced_source, rule_id) = view(enforced, mode == Mode::Enforce);
    let (pending_action, pending_source, pending_rule_id) = view(pending, mode >= Mode::Test);
    let spoken = enforced.is_some() || pending.is_some();
    Decision {
        enforced: enforced_action,
        enforced_source,
        rule_id,
        pending: pending_action,
        pending_source,
        pending_rule_id,
        mode,
        coverage: if spoken {
            Coverage::Rule
        } else {
            Coverage::Uncovered
        },
        on_change: enforced.map_or(OnChange::Reevaluate, |rule| rule.on_change),
        limit_index: enforced.map_or(0, |rule| limit_index(&image.limits(), &rule)),
        src_identity: identity(image, &from),
        dst_identity: identity(image, &to),
    }
}

/// The limit whose rule this is, 0 where there is none.
fn limit_index(limits: &[Limit], rule: &Rule<'_>) -> u16 {
    let own = limits.iter().position(|limit| limit.rule_id == rule.id);
    if rule.action == Action::Limit {
        own.unwrap_or(0).try_into().unwrap_or(0)
    } else {
        0
    }
}

/// The identity that is exactly this set of segments; no identity is told as `u32::MAX`.
fn identity(image: &PolicyImage, segments: &[SegmentIndex]) -> u32 {
    (0..image.identity_count())
        .find(|identity| image.segments_of(*identity).eq(segments.iter().copied()))
        .unwrap_or(u32::MAX)
}

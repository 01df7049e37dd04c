//! Why a flow is decided as it is: both ends, every rule that speaks about it, and which of them
//! lost to which.

use crate::Service;
use crate::image::{IdentityId, PolicyImage, Rule, RuleIndex, SegmentIndex};
use crate::reference;
use abi::{Decision, Mode, image::RuleMode};

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its identity in this image.
    pub identity: IdentityId,
    /// Its segments, ascending.
    pub segments: Vec<SegmentIndex>,
    /// Its mode.
    pub mode: Mode,
    /// Its workload: name, where one has the address.
    pub workload: Option<String>,
}

/// Where a matching rule stands in one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It decides.
    Decides,
    /// It is in test, so that it never takes effect.
    InTest,
    /// It would deny, reject or limit, neither end enforces and it does not say so itself.
    NotEnforced,
    /// A rule of an earlier tier decides.
    LostToTier(RuleIndex),
    /// A rule of the same tier with a stronger action decides.
    LostToAction(RuleIndex),
    /// A rule of the same tier and action with a lower name decides.
    LostToName(RuleIndex),
}

/// One rule that speaks about the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// The rule.
    pub rule: RuleIndex,
    /// In the view that happens.
    pub enforced: Standing,
    /// In the view that would happen if all tests were enforced.
    pub pending: Standing,
}

/// The whole account of one decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Initiator.
    pub src: End,
    /// Responder.
    pub dst: End,
    /// What the tables say: exactly what a core would do.
    pub decision: Decision,
    /// What the rule-by-rule twin says. Anything but equal is a defect of this program.
    pub reference: Decision,
    /// Every rule that speaks about the flow, those that decide first.
    pub matches: Vec<RuleMatch>,
}

impl PolicyImage {
    /// Explains the decision about a flow.
    ///
    /// # Unbounded
    /// Asks every rule. Control only.
    #[must_use]
    pub fn explain(&self, src: &[u8; 16], dst: &[u8; 16], service: &Service) -> Explanation {
        let ends = [self.end(src), self.end(dst)];
        let mode = ends[0].mode.max(ends[1].mode);
        let matching: Vec<_> = self
            .rules()
            .filter(|r| reference::matches(self, r, &ends[0].segments, &ends[1].segments, service))
            .collect();
        let effective: Vec<_> = matching
            .iter()
            .filter(|r| reference::takes_effect(r, mode))
            .copied()
            .collect();
        let enforced = reference::decides(&effective);
        let pending = reference::decides(&matching);
        let mut matches: Vec<_> = matching
            .iter()
            .map(|rule| RuleMatch {
                rule: rule.index,
                enforced: standing_enforced(rule, mode, enforced.as_ref()),
                pending: standing(rule, pending.as_ref()),
            })
            .collect();
        matches.sort_by_key(|m| {
            (
                m.enforced != Standing::Decides,
                m.pending != Standing::Decides,
                m.rule,
            )
        });
        let [src_end, dst_end] = ends;
        Explanation {
            src: src_end,
            dst: dst_end,
            decision: self.evaluate(src, dst, service),
            reference: reference::evaluate(self, src, dst, service),
            matches,
        }
    }

    /// What an address is.
    #[must_use]
    pub fn end(&self, address: &[u8; 16]) -> End {
        let identity = self.identity(address);
        End {
            identity,
            segments: self.segments_of(identity).collect(),
            mode: self.mode_of(identity),
            workload: self
                .workloads()
                .find(|workload| workload.prefixes().any(|prefix| prefix.covers(address)))
                .map(|workload| workload.name.to_owned()),
        }
    }
}

fn standing_enforced(rule: &Rule<'_>, mode: Mode, winner: Option<&Rule<'_>>) -> Standing {
    if rule.mode == RuleMode::Test {
        Standing::InTest
    } else if !reference::takes_effect(rule, mode) {
        Standing::NotEnforced
    } else {
        standing(rule, winner)
    }
}

fn standing(rule: &Rule<'_>, winner: Option<&Rule<'_>>) -> Standing {
    match winner {
        Some(winner) if winner.index == rule.index => Standing::Decides,
        Some(winner) if winner.tier != rule.tier => Standing::LostToTier(winner.index),
        Some(winner) if winner.action != rule.action => Standing::LostToAction(winner.index),
        Some(winner) => Standing::LostToName(winner.index),
        None => Standing::Decides,
    }
}

//! What a draft decides about one edge, and what about that is in doubt.

use super::draft::{Draft, EndJudged};
use super::{DIRECTION_SURE_FROM, Verdict};
use abi::verdict::{Coverage, InitiatorEvidence};
use abi::{Action, Decision, Mode, VerdictSource};
use acl::Service;

/// Protocol numbers.
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// How sure the initiator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sureness {
    Sure,
    /// By ports alone, and no handshake will say it better: the dataplane turns such a flow round where only the other
    /// end may begin.
    ByPorts,
    /// Weaker than [`DIRECTION_SURE_FROM`].
    Unsure,
}

impl Sureness {
    pub(crate) fn of(proto: u8, evidence: InitiatorEvidence) -> Self {
        if evidence < DIRECTION_SURE_FROM {
            Self::Unsure
        } else if evidence == InitiatorEvidence::PortAsymmetry && proto != TCP {
            Self::ByPorts
        } else {
            Self::Sure
        }
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Sure => 0,
            Self::ByPorts => 1,
            Self::Unsure => 2,
        }
    }
}

/// What of an edge the judgement rests on, beside its ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) proto: u8,
    pub(crate) port: u16,
    pub(crate) folded: bool,
    pub(crate) sureness: Sureness,
    /// In some flow no packet came from the initiator; only asked where the direction is not sure.
    pub(crate) initiator_silent: bool,
    /// No packet came from the responder; only asked where the direction is not sure.
    pub(crate) responder_silent: bool,
    /// Who decided then.
    pub(crate) source: VerdictSource,
}

impl Case {
    pub(crate) fn service(&self) -> Service {
        service(self.proto, self.port)
    }

    /// Neighbour discovery passes by the dataplane's own exception policy, whatever the policy says.
    fn is_discovery(&self) -> bool {
        self.proto == ICMPV6 && matches!(self.port >> 8, 130..=137 | 143)
    }
}

/// A service by protocol and key (port, or type * 256 + code).
pub(crate) fn service(proto: u8, key: u16) -> Service {
    if matches!(proto, 1 | ICMPV6) {
        let [kind, code] = key.to_be_bytes();
        Service::icmp(proto, kind, code)
    } else {
        Service::port(proto, key)
    }
}

/// Why it is not certain what a draft would have decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Who began is only guessed, and the draft decides otherwise about the other direction.
    Direction,
    /// A TCP flow whose beginning was not seen; else as [`Doubt::Direction`].
    Midstream,
    /// The address has had names at other times, and whose it was then is not known.
    NameUnknown,
    /// The draft has no workload of the name that the address had then.
    NameGone,
    /// The workload has other addresses now, and the draft decides otherwise about some of them.
    Moved,
    /// Flows that were told together: the draft decides otherwise about some destinations or services.
    Folded,
    /// An ICMP error passes with the flow that it is about, and not all flows of its receiver are decided alike.
    Related,
    /// An exception decided then (the policy was stale), or about some packets of a flow of neighbour discovery.
    Exception,
}

impl Doubt {
    /// Every doubt.
    pub const ALL: [Self; 8] = [
        Self::Direction,
        Self::Midstream,
        Self::NameUnknown,
        Self::NameGone,
        Self::Moved,
        Self::Folded,
        Self::Related,
        Self::Exception,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of doubts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubts(u8);

impl Doubts {
    pub(crate) fn add(&mut self, doubt: Doubt) {
        self.0 |= doubt.bit();
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn list(self) -> Vec<Doubt> {
        Doubt::ALL
            .into_iter()
            .filter(|doubt| self.0 & doubt.bit() != 0)
            .collect()
    }
}

/// What a draft decides, as numbers of its image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) decision: Decision,
    /// What else it may be.
    pub(crate) other: Option<Decision>,
    pub(crate) doubts: Doubts,
}

/// What a draft decides, in names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// What would happen.
    pub enforced: Verdict,
    /// What would happen, were everything in test enforced.
    pub pending: Verdict,
    /// Mode of the stricter end.
    pub mode: Mode,
    /// Whether a rule speaks about it.
    pub coverage: Coverage,
}

/// Whether packets pass in either view.
pub(crate) fn permits(decision: &Decision) -> [bool; 2] {
    [decision.enforced.permits(), decision.pending.permits()]
}

/// What the dataplane's own exception policy makes of a decision.
const fn by_exception(decision: &Decision) -> Decision {
    Decision {
        enforced: Action::Allow,
        enforced_source: VerdictSource::Exception,
        rule_id: 0,
        pending: Action::Allow,
        pending_source: VerdictSource::Exception,
        pending_rule_id: 0,
        coverage: Coverage::Rule,
        ..*decision
    }
}

impl Draft<'_> {
    /// Judges a flow whose ends are known as identities.
    fn ask(&self, src: u32, dst: u32, service: &Service) -> Decision {
        self.image.evaluate_identities(src, dst, service)
    }

    /// What the draft decides about an edge. What an ICMP error is about is left to [`Draft::judge_error`].
    pub(crate) fn judge(&mut self, case: &Case, src: &EndJudged, dst: &EndJudged) -> Judged {
        if case.folded {
            return self.judge_folded(case, src, dst);
        }
        let service = case.service();
        let decision = self.ask(src.identity, dst.identity, &service);
        let mut judged = Judged {
            decision,
            other: None,
            doubts: Doubts::default(),
        };
        if case.is_discovery() && case.source == VerdictSource::Exception {
            judged.decision = by_exception(&decision);
            return judged;
        }
        self.doubt_names(&mut judged, &service, src, dst);
        self.doubt_direction(&mut judged, case, src, dst);
        if case.source == VerdictSource::Exception {
            judged.doubts.add(Doubt::Exception);
        } else if case.is_discovery() && permits(&judged.decision) != [true; 2] {
            // It began as neighbour discovery, and the policy decided about other packets of it.
            judged.other = Some(by_exception(&decision));
            judged.doubts.add(Doubt::Exception);
        }
        judged
    }

    fn doubt_names(
        &self,
        judged: &mut Judged,
        service: &Service,
        src: &EndJudged,
        dst: &EndJudged,
    ) {
        for doubt in [src.doubt, dst.doubt].into_iter().flatten() {
            judged.doubts.add(doubt);
        }
        let pairs = src
            .others
            .iter()
            .map(|src| (*src, dst.identity))
            .chain(dst.others.iter().map(|dst| (src.identity, *dst)));
        for (src, dst) in pairs {
            let other = self.ask(src, dst, service);
            if permits(&other) != permits(&judged.decision) {
                judged.doubts.add(Doubt::Moved);
                judged.other = Some(other);
            }
        }
    }

    /// Judges the other direction where it counts, and doubts where it is decided otherwise.
    ///
    /// A flow by ports that is permitted stays so once its initiator has spoken; one that is denied is turned round by
    /// a packet from the responder, where the draft lets that one begin.
    fn doubt_direction(
        &mut self,
        judged: &mut Judged,
        case: &Case,
        src: &EndJudged,
        dst: &EndJudged,
    ) {
        let permitted = judged.decision.enforced.permits();
        let asks = match case.sureness {
            Sureness::Sure => false,
            Sureness::ByPorts if permitted => case.initiator_silent,
            Sureness::ByPorts => !case.responder_silent,
            Sureness::Unsure => case.source != VerdictSource::Related,
        };
        if !asks {
            return;
        }
        let back = self.back(dst.identity, src.identity, case);
        let here = permits(&judged.decision);
        if let Some(other) = back.iter().find(|other| permits(other) != here) {
            judged.other = Some(*other);
            judged.doubts.add(if case.proto == TCP {
                Doubt::Midstream
            } else {
                Doubt::Direction
            });
        }
    }

    /// What the draft may decide about the other direction: the port of the initiator is not kept, so each service of
    /// the protocol is asked about.
    fn back(&mut self, src: u32, dst: u32, case: &Case) -> Vec<Decision> {
        let image = self.image;
        let mut decisions: Vec<Decision> = Vec::new();
        let own = [case.service()];
        let services = if has_ports(case.proto) {
            self.services_of(case.proto)
        } else {
            &own
        };
        for service in services {
            let decision = image.evaluate_identities(src, dst, service);
            if decisions.iter().all(|d| permits(d) != permits(&decision)) {
                decisions.push(decision);
            }
        }
        decisions
    }

    /// Folded flows went to destinations and services that are not known: certain only where all are decided alike.
    fn judge_folded(&mut self, case: &Case, src: &EndJudged, dst: &EndJudged) -> Judged {
        let decision = self.ask(src.identity, dst.identity, &case.service());
        let mut doubts = Doubts::default();
        if let Some(doubt) = src.doubt {
            doubts.add(doubt);
        }
        let known = !src.address.is_unspecified() && src.others.is_empty();
        let uniform = known.then(|| self.uniform(src.identity)).flatten();
        let Some(uniform) = uniform else {
            doubts.add(Doubt::Folded);
            return Judged {
                decision,
                other: None,
                doubts,
            };
        };
        Judged {
            decision: uniform,
            other: None,
            doubts,
        }
    }

    /// What an ICMP error comes to: it passes with the flow that it is about, one of its receiver's. `flows` says
    /// how those are decided: whether any is permitted and whether any is not, in either view.
    pub(crate) fn judge_error(&mut self, judged: &mut Judged, flows: Fate) {
        let by_policy = permits(&judged.decision);
        let [enforced, pending] = [0, 1].map(|view| match flows.of(view) {
            (true, false) => Some(true),
            (false, true) => Some(by_policy[view]),
            (_, _) if by_policy[view] => Some(true),
            _ => None,
        });
        if flows.of(0) == (true, false) {
            let pending_action = |permits| if permits { Action::Allow } else { Action::Deny };
            judged.decision.enforced = Action::Allow;
            judged.decision.enforced_source = VerdictSource::Related;
            judged.decision.rule_id = 0;
            judged.decision.pending = pending_action(flows.of(1).0);
            judged.decision.pending_source = VerdictSource::Related;
            judged.decision.pending_rule_id = 0;
            judged.decision.coverage = Coverage::Rule;
        }
        if enforced.is_none() || pending.is_none() {
            judged.doubts.add(Doubt::Related);
        }
    }
}

/// Whether a protocol's service is the responder's port.
const fn has_ports(proto: u8) -> bool {
    matches!(proto, 6 | 17 | 132)
}

/// How the flows of one end are decided, in the enforced and the pending view.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    permitted: [bool; 2],
    denied: [bool; 2],
}

impl Fate {
    pub(crate) fn add(&mut self, judged: &Judged) {
        for decision in [Some(&judged.decision), judged.other.as_ref()]
            .into_iter()
            .flatten()
        {
            for (view, permits) in permits(decision).into_iter().enumerate() {
                self.permitted[view] |= permits;
                self.denied[view] |= !permits;
            }
        }
    }

    const fn of(&self, view: usize) -> (bool, bool) {
        (self.permitted[view], self.denied[view])
    }
}

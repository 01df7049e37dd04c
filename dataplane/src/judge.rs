//! Judging a flow: the policy image, the exception policy, and what a change of policy does to a
//! flow that is alive.

use crate::burst::Packet;
use crate::core::{AnswerTo, Core, Ingress};
use crate::exception::Condition;
use crate::foresee::Foreseen;
use abi::verdict::{Coverage, InitiatorEvidence, OnChange};
use abi::{Action, Decision, Reason, Stage, VerdictSource};
use acl::Service;
use flow::{Attempt, Blocked, Ends, FlowIndex, Gate, KeyedPacket, Side, Tuple, Verdict, proto};
use packet::Headers;

use crate::core::Disposition;

/// What judging a live flow again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejudged {
    /// The flow goes on, under its old or its new verdict.
    GoesOn,
    /// Its rule says that a changed verdict kills it.
    Killed,
}

impl Core {
    /// Judges a flow that an older policy decided, before its packet is counted, so that no record
    /// mixes packets of two verdicts.
    pub(crate) fn judge_again(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        foreseen: &Foreseen,
        flow: FlowIndex,
    ) -> Rejudged {
        let (Some(ends), Some((_, old))) = (self.flows.ends(flow), self.flows.decision(flow))
        else {
            return Rejudged::GoesOn;
        };
        let policy = self.policy_on(packet, &ends, foreseen);
        let mut new = self.decide_by(policy, packet, headers, &ends);
        self.counters.flows_rejudged += 1;
        self.unsettle();
        let falls = old.enforced.permits() && !new.enforced.permits();
        if falls && old.on_change == OnChange::Keep {
            new = kept(&old, &new);
        }
        if new.enforced != old.enforced {
            self.counters.flows_verdict_changed += 1;
        }
        if (new.enforced, new.rule_id, new.pending, new.pending_rule_id)
            != (old.enforced, old.rule_id, old.pending, old.pending_rule_id)
        {
            self.flows.tell_update(flow, &mut self.sink);
        }
        self.flows.set_decision(flow, self.policy.epoch(), &new);
        if falls && old.on_change == OnChange::Kill {
            Rejudged::Killed
        } else {
            Rejudged::GoesOn
        }
    }

    /// Drops the packet that met a killed flow, tells both ends, ends the flow.
    pub(crate) fn kill(
        &mut self,
        packet: &Packet,
        flow: FlowIndex,
        ingress: Ingress,
    ) -> Disposition {
        if ingress.egress.is_some() {
            self.answers.push(AnswerTo {
                packet: usize::from(packet.index),
                both_ends: true,
            });
            self.flows
                .note_drop(flow, packet.seen.facts.ip_bytes, Reason::KilledOnChange);
        }
        self.flows.kill(flow, packet.now, &mut self.sink);
        Disposition::Drop(Reason::KilledOnChange)
    }

    /// The verdict for a packet whose flow is not simply allowed: undecided, or denied, or limited.
    pub(crate) fn judge(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        flow: FlowIndex,
        settled: Option<Verdict>,
        ingress: Ingress,
    ) -> Result<Verdict, Reason> {
        match settled {
            None => self.judge_new(packet, headers, flow, ingress),
            Some(verdict) if verdict.enforced == Action::Limit => Ok(verdict),
            Some(verdict) => Ok(self.judge_denied(packet, headers, flow, verdict, ingress)),
        }
    }

    fn judge_new(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        flow: FlowIndex,
        ingress: Ingress,
    ) -> Result<Verdict, Reason> {
        let Some(ends) = self.flows.ends(flow) else {
            return Err(Reason::FlowTableFull);
        };
        let decision = self.decide_flow(packet, headers, &ends);
        self.settle(flow, &decision, ingress);
        self.settled(packet, flow, &decision)
    }

    /// What the policy says about a packet that would open a flow. An error where the packet is
    /// denied and folded: then that was all.
    pub(crate) fn decide_new(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Result<(Ends, Decision), Disposition> {
        let KeyedPacket { key, side, facts } = &packet.seen;
        let (ends, policy) = self.foreseen_or_asked(packet, foreseen);
        let decision = self.decide_by(policy, packet, headers, &ends);
        if decision.enforced.permits() {
            return Ok((ends, decision));
        }
        let reason = denial_reason(&decision);
        let attempt = Attempt {
            key,
            sender: *side,
            facts,
            ingress_port: ingress.port,
            initiator: ends.initiator,
            decision: &decision,
            epoch: self.policy.epoch(),
            dropped: ingress.egress.map(|_| reason),
        };
        if !self.flows.fold_denied(&attempt, packet.now, &mut self.sink) {
            return Ok((ends, decision));
        }
        self.counters.flow_packets += 1;
        self.count_verdict(verdict_of(&decision));
        self.answer_reject(packet, reason, ingress);
        Err(Disposition::Drop(reason))
    }

    /// What a decision, which the flow has got, means for the packet that asked for it.
    pub(crate) fn settled(
        &mut self,
        packet: &Packet,
        flow: FlowIndex,
        decision: &Decision,
    ) -> Result<Verdict, Reason> {
        if decision.enforced == Action::Limit && !self.admits_flow(decision, packet.now) {
            // Its next packet asks for a token again.
            self.flows.set_undecided(flow);
            return Err(Reason::Limited);
        }
        if matches!(
            decision.enforced_source,
            VerdictSource::Related | VerdictSource::Exception
        ) {
            // That holds for this packet, not for whatever else the same two ends may send.
            self.flows.set_undecided(flow);
        }
        Ok(verdict_of(decision))
    }

    /// A packet of a denied flow passes where it passes by itself, or where it comes from the
    /// other end and the initiator had only been guessed: if the policy lets *that* end begin, it
    /// has just begun.
    fn judge_denied(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        flow: FlowIndex,
        verdict: Verdict,
        ingress: Ingress,
    ) -> Verdict {
        if let Some(by_itself) = self.passes_by_itself(packet, headers) {
            return verdict_of(&by_itself.decision(Decision::without_policy(Action::Allow)));
        }
        let side = packet.seen.side;
        if self.flows.is_denial_final(flow, side) {
            return verdict;
        }
        let Some(ends) = self.flows.ends(flow) else {
            return verdict;
        };
        if may_turn_round(&ends, side) {
            let begun = Ends {
                tuple: packet.seen.key.tuple(side),
                initiator: side,
                ..ends
            };
            let decision = self.decide_flow(packet, headers, &begun);
            if decision.enforced.permits() {
                self.flows.tell_update(flow, &mut self.sink);
                self.flows.turn_round(flow, side);
                self.settle(flow, &decision, ingress);
                return verdict_of(&decision);
            }
        }
        // ICMP may pass by itself, and what a policy says that is too old depends on the time.
        let depends_on_ends = matches!(packet.seen.key.proto(), proto::TCP | proto::UDP)
            && !self.exceptions.drops(Condition::PolicyStale);
        if depends_on_ends {
            self.flows.make_denial_final(flow, side);
        }
        verdict
    }

    /// Drops a packet of a denied flow whose denial is final, and says true: it is counted, and that was
    /// all. What [`Core::verdict`] does about it, with less to ask.
    #[inline]
    pub(crate) fn blocks(&mut self, gate: &Gate, packet: &Packet, ingress: Ingress) -> bool {
        let (seen, notes_drop) = (&packet.seen, ingress.egress.is_some());
        let blocked = self
            .flows
            .block(gate, packet.likely, seen, packet.now, notes_drop);
        let Some(Blocked { source, uncovered }) = blocked else {
            return false;
        };
        self.counters.flow_packets += 1;
        self.counters.uncovered_packets += u64::from(uncovered);
        self.count_drop(packet, reason_of(source, Action::Deny), ingress);
        true
    }

    fn settle(&mut self, flow: FlowIndex, decision: &Decision, ingress: Ingress) {
        self.flows.set_decision(flow, self.policy.epoch(), decision);
        if let (Some(egress), true) = (ingress.egress, decision.enforced.permits()) {
            self.flows.set_egress(flow, egress);
        }
    }

    /// A packet that finds no room for its flow: the policy is asked for this packet alone, and it
    /// passes where it permits either direction, unless the exception policy drops.
    pub(crate) fn without_state(&mut self, packet: &Packet) -> Disposition {
        self.counters.unflowed_packets += 1;
        if self.exceptions.drops(Condition::FlowTableFull) {
            return Disposition::Drop(Reason::FlowTableFull);
        }
        let (tuple, now) = (packet.seen.key.tuple(packet.seen.side), packet.now);
        let back = Tuple {
            src: tuple.dst,
            dst: tuple.src,
            src_port: tuple.dst_port,
            dst_port: tuple.src_port,
            proto: tuple.proto,
        };
        let (kind, code) = match packet.seen.facts.transport {
            flow::TransportFacts::Icmp { kind, code } => (kind, code),
            _ => (0, 0),
        };
        let there = self.ask_policy(&tuple, kind, code, now);
        let permits =
            there.enforced.permits() || self.ask_policy(&back, kind, code, now).enforced.permits();
        if permits {
            Disposition::Forward
        } else {
            Disposition::Drop(denial_reason(&there))
        }
    }

    /// Why a denied packet is dropped: by what its flow's decision says.
    pub(crate) fn denial(&self, flow: FlowIndex, verdict: Verdict) -> Reason {
        match self.flows.decision(flow) {
            Some((_, decision)) => denial_reason(&decision),
            None if verdict.enforced == Action::Reject => Reason::RejectedByRule,
            None => Reason::DeniedByDefault,
        }
    }

    /// The ends of the flow that a packet would open, and what the policy says about them.
    #[inline]
    fn foreseen_or_asked(&mut self, packet: &Packet, foreseen: &Foreseen) -> (Ends, Decision) {
        let KeyedPacket { key, side, facts } = &packet.seen;
        let ends = match foreseen.ends_of_new(packet) {
            // What a segment other than a SYN is taken for depends on who was seen answering, even in
            // this burst.
            Some(ends) if !facts.is_midstream() => *ends,
            _ => self.flows.ends_of_new(key, *side, facts),
        };
        let decision = self.policy_on(packet, &ends, foreseen);
        (ends, decision)
    }

    /// What the policy says about a flow with these ends, of which this packet is one.
    #[inline]
    fn policy_on(&mut self, packet: &Packet, ends: &Ends, foreseen: &Foreseen) -> Decision {
        match foreseen.of(packet) {
            Some((asked, decision)) if asked.initiator == ends.initiator => {
                self.unless_stale(*decision, packet.now)
            }
            _ => self.ask_policy(&ends.tuple, ends.icmp_type, ends.icmp_code, packet.now),
        }
    }

    /// What is decided about a flow with these ends, of which this packet is one.
    fn decide_flow(&mut self, packet: &Packet, headers: Option<&Headers>, ends: &Ends) -> Decision {
        let policy = self.ask_policy(&ends.tuple, ends.icmp_type, ends.icmp_code, packet.now);
        self.decide_by(policy, packet, headers, ends)
    }

    /// The same where it is known what the policy says.
    #[inline]
    fn decide_by(
        &mut self,
        decision: Decision,
        packet: &Packet,
        headers: Option<&Headers>,
        ends: &Ends,
    ) -> Decision {
        self.counters.flows_judged += 1;
        if let Some(by_itself) = self.passes_by_itself(packet, headers) {
            return by_itself.decision(decision);
        }
        let initiator_spoke = packet.seen.side == ends.initiator || ends.initiator_spoke;
        if !is_guess(ends) || initiator_spoke || !decision.enforced.permits() {
            return decision;
        }
        // Only the ports say that the other end is the initiator, and a sender picks its ports:
        // the policy must permit the sender to begin, until the other end speaks.
        let back = packet.seen.key.tuple(packet.seen.side);
        let strict = self.ask_policy(&back, ends.icmp_type, ends.icmp_code, packet.now);
        if strict.enforced.permits() {
            return decision;
        }
        Decision {
            src_identity: strict.dst_identity,
            dst_identity: strict.src_identity,
            ..strict
        }
    }

    fn ask_policy(&mut self, tuple: &Tuple, icmp_type: u8, icmp_code: u8, now: u64) -> Decision {
        if !self.stages.is_running() {
            return self.policy_decision(tuple, icmp_type, icmp_code, now);
        }
        let began = self.stages.now();
        let decision = self.policy_decision(tuple, icmp_type, icmp_code, now);
        self.stages.give(Stage::Classify, began);
        decision
    }

    fn policy_decision(&self, tuple: &Tuple, icmp_type: u8, icmp_code: u8, now: u64) -> Decision {
        let is_forced = self.exceptions.is_forced(Condition::NoPolicy);
        let Some(image) = self.policy.image().filter(|_| !is_forced) else {
            let drops = self.exceptions.drops(Condition::NoPolicy);
            return Decision::without_policy(if drops { Action::Deny } else { Action::Allow });
        };
        let service = Service {
            proto: tuple.proto,
            dport: tuple.dst_port,
            icmp_type,
            icmp_code,
        };
        self.unless_stale(image.evaluate(&tuple.src, &tuple.dst, &service), now)
    }

    /// A decision of the policy, where the policy is not too old to be believed.
    #[inline]
    pub(crate) fn unless_stale(&self, decision: Decision, now: u64) -> Decision {
        if self.exceptions.drops(Condition::PolicyStale)
            && self.exceptions.is_stale(self.policy_adopted_ns, now)
        {
            let source = VerdictSource::Exception;
            return Decision {
                enforced: Action::Deny,
                enforced_source: source,
                rule_id: 0,
                ..decision
            };
        }
        decision
    }

    fn admits_flow(&mut self, decision: &Decision, now: u64) -> bool {
        self.policy
            .limits_mut()
            .and_then(|limits| limits.get_mut(decision.limit_index))
            .is_some_and(|bucket| bucket.admits_flow(now))
    }
}

/// Why a packet passes whatever the policy says about its flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByItself {
    pub(crate) source: VerdictSource,
    /// Whether it would pass, were everything in test enforced: an ICMP error does as far as the
    /// flow it is about does.
    pub(crate) pending_permits: bool,
}

impl ByItself {
    /// The decision for such a packet: enforced and pending come from here, the rest from what the
    /// policy says. No rule needs to speak about it, so it is not uncovered.
    fn decision(self, policy: Decision) -> Decision {
        let pending = if self.pending_permits {
            Action::Allow
        } else {
            Action::Deny
        };
        Decision {
            enforced: Action::Allow,
            enforced_source: self.source,
            rule_id: 0,
            pending,
            pending_source: self.source,
            pending_rule_id: 0,
            coverage: Coverage::Rule,
            ..policy
        }
    }
}

/// Whether nothing but ports and order say who began, and no handshake will say it better.
fn is_guess(ends: &Ends) -> bool {
    ends.tuple.proto != proto::TCP && ends.evidence <= InitiatorEvidence::PortAsymmetry
}

/// Whether a packet from `sender` may show that a denied flow was begun by the other end, or, where
/// the ports had been believed over the sender, by the end they named.
fn may_turn_round(ends: &Ends, sender: Side) -> bool {
    is_guess(ends)
        && (sender != ends.initiator || ends.evidence == InitiatorEvidence::PortAsymmetry)
}

/// An allowed flow whose rule says keep stays allowed; what is pending is the new policy's.
fn kept(old: &Decision, new: &Decision) -> Decision {
    Decision {
        enforced: old.enforced,
        enforced_source: VerdictSource::Kept,
        rule_id: old.rule_id,
        on_change: OnChange::Keep,
        limit_index: old.limit_index,
        ..*new
    }
}

fn verdict_of(decision: &Decision) -> Verdict {
    Verdict {
        enforced: decision.enforced,
        pending_permits: decision.pending.permits(),
        uncovered: decision.coverage == Coverage::Uncovered,
    }
}

pub(crate) fn denial_reason(decision: &Decision) -> Reason {
    reason_of(decision.enforced_source, decision.enforced)
}

const fn reason_of(source: VerdictSource, enforced: Action) -> Reason {
    match (source, enforced) {
        (VerdictSource::NoPolicy, _) => Reason::NoPolicy,
        (VerdictSource::Exception, _) => Reason::PolicyStale,
        (_, Action::Reject) => Reason::RejectedByRule,
        (VerdictSource::Default, _) => Reason::DeniedByDefault,
        _ => Reason::DeniedByRule,
    }
}

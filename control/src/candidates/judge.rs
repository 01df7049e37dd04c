//! What a policy would have decided about a flow that is told, by the code that enforces.

use crate::flow::service;
use abi::verdict::InitiatorEvidence;
use abi::{Action, Decision, FlowRecord, VerdictSource};
use acl::{PolicyImage, Service};
use api::candidate::Turn;

/// TCP: a handshake says who began.
const TCP: u8 = 6;

/// What another policy would do.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// Its decision.
    pub decision: Decision,
    /// Who began is only guessed and it decides otherwise about the other direction, or flows were told
    /// together.
    pub uncertain: bool,
}

impl Judged {
    /// What changes. Flows that were told together have no one verdict.
    #[must_use]
    pub fn turn(&self, record: &FlowRecord) -> Option<Turn> {
        if record.as_aggregate().is_some() {
            return None;
        }
        let permitted = Action::from_byte(record.enforced).is_some_and(Action::permits);
        match (permitted, self.decision.enforced.permits()) {
            (true, false) => Some(Turn::DenyNewly),
            (false, true) => Some(Turn::AllowNewly),
            _ => None,
        }
    }
}

/// What a policy would have decided about the flow of a record, had it been in force.
#[must_use]
pub fn judge(image: &PolicyImage, record: &FlowRecord) -> Judged {
    let mut decision = image.evaluate(&record.src, &record.dst, &service(record));
    let evidence = InitiatorEvidence::from_byte(record.initiator_evidence)
        .unwrap_or(InitiatorEvidence::FirstPacket);
    let source = VerdictSource::from_byte(record.enforced_source);
    // What passes whatever the policy says: ICMP errors with their flow, neighbour discovery.
    if matches!(
        source,
        Some(VerdictSource::Related | VerdictSource::Exception)
    ) {
        decision.enforced = Action::from_byte(record.enforced).unwrap_or(decision.enforced);
        decision.enforced_source = source.unwrap_or(decision.enforced_source);
        decision.rule_id = 0;
        let uncertain = false;
        return Judged {
            decision,
            uncertain,
        };
    }
    if record.as_aggregate().is_some() {
        let uncertain = true;
        return Judged {
            decision,
            uncertain,
        };
    }
    if evidence > InitiatorEvidence::PortAsymmetry {
        let uncertain = false;
        return Judged {
            decision,
            uncertain,
        };
    }
    let back = image.evaluate(&record.dst, &record.src, &back(record));
    let differs = back.enforced.permits() != decision.enforced.permits();
    // As the dataplane: where only ports name the initiator and it has not spoken, the policy must
    // permit the sender to begin.
    let silent = record.proto != TCP && record.packets_fwd == 0;
    if differs && silent && decision.enforced.permits() {
        decision = Decision {
            src_identity: back.dst_identity,
            dst_identity: back.src_identity,
            ..back
        };
    }
    Judged {
        decision,
        uncertain: differs,
    }
}

/// The same flow had the other end begun it.
fn back(record: &FlowRecord) -> Service {
    match service(record) {
        Service {
            proto: proto @ (1 | 58),
            icmp_type,
            icmp_code,
            ..
        } => Service::icmp(proto, icmp_type, icmp_code),
        Service { proto, .. } => Service::port(proto, record.sport),
    }
}

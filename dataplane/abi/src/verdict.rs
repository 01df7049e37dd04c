//! What is decided about a flow, and on whose authority.
//!
//! Two verdicts stand side by side and are never mixed: the *enforced* one is what happens to the
//! packets, the *pending* one is what would happen if every rule in test took effect and every
//! segment in test enforced.

use crate::byte_enum;

byte_enum! {
    /// What a rule or a default asks for. Codes 1 to 3 are those of other exporters' `ruleAction`.
    pub enum Action {
        /// Packets pass.
        Allow = 1 => "allow",
        /// Packets are dropped silently.
        Deny = 2 => "deny",
        /// Packets are dropped and answered: TCP RST, else ICMP administratively prohibited.
        Reject = 3 => "reject",
        /// Packets pass while the rule's token bucket has tokens, and are dropped silently otherwise.
        Limit = 4 => "limit",
    }
}

impl Action {
    /// Whether packets of the flow may pass at all.
    #[must_use]
    pub const fn permits(self) -> bool {
        matches!(self, Self::Allow | Self::Limit)
    }
}

byte_enum! {
    /// Which authority gave a verdict.
    pub enum VerdictSource {
        /// A rule, named by the rule id beside this field.
        Rule = 1 => "rule",
        /// No rule matched: the default of the ends' modes.
        Default = 2 => "default",
        /// A row of the exception policy (table full, midstream, malformed ...).
        Exception = 3 => "exception",
        /// No policy has been adopted yet.
        NoPolicy = 4 => "no-policy",
        /// An earlier policy's verdict, kept because the rule says `on_change = "keep"`.
        Kept = 5 => "kept",
        /// The verdict of another flow that this one belongs to (ICMP error, fragment).
        Related = 6 => "related",
    }
}

byte_enum! {
    /// How far a segment, or a pair of ends, has come on the way to enforcement. The order is the
    /// order of strictness.
    pub enum Mode {
        /// Nothing is denied by default, uncovered flows are marked.
        Observe = 1 => "observe",
        /// Nothing is denied; what would be denied is recorded as pending.
        Test = 2 => "test",
        /// What no rule allows is denied.
        Enforce = 3 => "enforce",
    }
}

byte_enum! {
    /// Whether anything in the policy speaks about this flow.
    pub enum Coverage {
        /// A rule decided.
        Rule = 1 => "rule",
        /// No rule matched; the default decided.
        Uncovered = 2 => "uncovered",
    }
}

byte_enum! {
    /// What becomes of a live flow when the policy that decided it changes.
    pub enum OnChange {
        /// Its next packet is judged again (the default).
        Reevaluate = 1 => "re-evaluate",
        /// An allowed flow stays allowed until it ends.
        Keep = 2 => "keep",
        /// If the new verdict differs, the flow is ended: both ends get a TCP RST.
        Kill = 3 => "kill",
    }
}

byte_enum! {
    /// By what evidence the initiator of a flow was decided. The code is the confidence exported as
    /// `initiatorConfidence`: higher is surer.
    pub enum InitiatorEvidence {
        /// Nothing better than the order of arrival.
        FirstPacket = 50 => "first-packet",
        /// One port is well known or far lower than the other.
        PortAsymmetry = 100 => "port-asymmetry",
        /// One end has been seen answering on this port before.
        KnownListener = 150 => "known-listener",
        /// An ICMP or ICMPv6 request names its sender.
        Request = 200 => "request",
        /// A SYN/ACK was seen: its receiver is the initiator.
        SynAck = 250 => "syn-ack",
        /// A SYN was seen: its sender is the initiator.
        Syn = 255 => "syn",
    }
}

/// One whole decision about a flow: what `acl` returns, what a flow's entry keeps, what a record
/// tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to the packets.
    pub enforced: Action,
    /// Who says so.
    pub enforced_source: VerdictSource,
    /// Stable id of the enforced rule; 0 where no rule decided.
    pub rule_id: u64,
    /// What would happen if all tests were enforced.
    pub pending: Action,
    /// Who would say so.
    pub pending_source: VerdictSource,
    /// Stable id of the pending rule; 0 where no rule would decide.
    pub pending_rule_id: u64,
    /// The stricter end's mode.
    pub mode: Mode,
    /// Whether a rule speaks about the flow.
    pub coverage: Coverage,
    /// What a change of policy does to the flow.
    pub on_change: OnChange,
    /// Index into the image's limits where `enforced` is [`Action::Limit`].
    pub limit_index: u16,
    /// Identity of the initiator in the image of `epoch`.
    pub src_identity: u32,
    /// Identity of the responder in the image of `epoch`.
    pub dst_identity: u32,
}

impl Decision {
    /// The decision where no policy has been adopted: `action` comes from the exception policy.
    #[must_use]
    pub const fn without_policy(action: Action) -> Self {
        Self {
            enforced: action,
            enforced_source: VerdictSource::NoPolicy,
            rule_id: 0,
            pending: action,
            pending_source: VerdictSource::NoPolicy,
            pending_rule_id: 0,
            mode: Mode::Observe,
            coverage: Coverage::Uncovered,
            on_change: OnChange::Reevaluate,
            limit_index: 0,
            src_identity: 0,
            dst_identity: 0,
        }
    }
}

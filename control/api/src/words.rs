//! The words: every enumeration of the public protocol with its one spelling.
//!
//! The spellings are those of the contract between the processes; a test in the control process
//! holds the two lists together.

/// Declares an enumeration whose values have one spelling everywhere.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        $vis enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value.
            $vis const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word.
            #[must_use]
            $vis const fn word(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value of a word, or `None` where the protocol has no such word.
            #[must_use]
            $vis fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, $crate::words::UnknownWord> {
                Self::from_word(word).ok_or_else(|| $crate::words::UnknownWord {
                    word: word.to_owned(),
                    known: Self::ALL.iter().map(|value| value.word()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

/// A word that the protocol does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {known}")]
pub struct UnknownWord {
    /// What was given.
    pub word: String,
    /// What would have been understood.
    pub known: String,
}

words! {
    /// What is decided about a flow.
    pub enum Action {
        /// Packets pass.
        Allow => "allow",
        /// Packets are dropped silently.
        Deny => "deny",
        /// Packets are dropped and answered.
        Reject => "reject",
        /// Packets pass as far as the rule's limit allows.
        Limit => "limit",
    }
}

impl Action {
    /// Whether packets of the flow may pass at all.
    #[must_use]
    pub const fn permits(self) -> bool {
        matches!(self, Self::Allow | Self::Limit)
    }
}

words! {
    /// Which authority gave a verdict.
    pub enum VerdictSource {
        /// A rule, named beside this word.
        Rule => "rule",
        /// No rule matched: the default of the ends' modes.
        Default => "default",
        /// A row of the exception policy.
        Exception => "exception",
        /// No policy has been adopted yet.
        NoPolicy => "no-policy",
        /// An earlier policy's verdict, kept because its rule says `on_change = "keep"`.
        Kept => "kept",
        /// The verdict of another flow that this one belongs to.
        Related => "related",
    }
}

words! {
    /// How far a segment, or a pair of ends, has come on the way to enforcement.
    pub enum Mode {
        /// Nothing is denied by default.
        Observe => "observe",
        /// What would be denied is recorded as pending.
        Test => "test",
        /// What no rule allows is denied.
        Enforce => "enforce",
    }
}

words! {
    /// Whether anything in the policy speaks about a flow.
    pub enum Coverage {
        /// A rule decided.
        Rule => "rule",
        /// No rule matched; the default decided.
        Uncovered => "uncovered",
    }
}

words! {
    /// By what evidence the initiator of a flow was decided, weakest first.
    pub enum InitiatorEvidence {
        /// Nothing better than the order of arrival.
        FirstPacket => "first-packet",
        /// One port is well known or far lower than the other.
        PortAsymmetry => "port-asymmetry",
        /// One end has been seen answering on this port before.
        KnownListener => "known-listener",
        /// A request names its sender.
        Request => "request",
        /// A SYN/ACK was seen.
        SynAck => "syn-ack",
        /// A SYN was seen.
        Syn => "syn",
    }
}

words! {
    /// Why a flow record was written (IPFIX `flowEndReason`).
    pub enum EndReason {
        /// No packet for the idle timeout.
        IdleTimeout => "idle-timeout",
        /// The flow goes on; its active timeout came.
        ActiveTimeout => "active-timeout",
        /// TCP FIN both ways or RST.
        EndOfFlow => "end-of-flow",
        /// The process stopped, or the policy killed the flow.
        ForcedEnd => "forced-end",
        /// The entry was taken for another flow.
        LackOfResources => "lack-of-resources",
    }
}

words! {
    /// Where in the flow's life a record stands.
    pub enum Kind {
        /// A denied flow, told at once on its first packet.
        Denied => "denied",
        /// Counters since the previous record; the flow goes on.
        Update => "update",
        /// Counters since the previous record; the flow is over.
        End => "end",
        /// Many flows of one source in one record.
        Aggregate => "aggregate",
    }
}

words! {
    /// State of a TCP flow as the box saw it.
    pub enum TcpState {
        /// Not TCP.
        None => "none",
        /// SYN seen.
        SynSent => "syn-sent",
        /// SYN and SYN/ACK seen.
        SynReceived => "syn-received",
        /// Handshake complete, or picked up midstream.
        Established => "established",
        /// One FIN seen.
        Closing => "closing",
        /// FIN both ways, acknowledged.
        Closed => "closed",
        /// RST seen.
        Reset => "reset",
    }
}

words! {
    /// Kind of the innermost tunnel around a flow.
    pub enum TunnelKind {
        /// Not tunnelled.
        None => "none",
        /// IP in IP.
        IpInIp => "ip-in-ip",
        /// GRE.
        Gre => "gre",
        /// VXLAN.
        Vxlan => "vxlan",
        /// Geneve.
        Geneve => "geneve",
        /// GTP-U.
        GtpU => "gtp-u",
        /// Any other.
        Other => "other",
    }
}

words! {
    /// By which policy the ends of a flow were named.
    pub enum NamedBy {
        /// The policy that judged the flow.
        Epoch => "epoch",
        /// A later policy: the one that judged the flow is no longer kept, or the flow was judged
        /// before any policy was adopted.
        Reresolved => "re-resolved",
        /// No policy is known.
        None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back_from_its_spelling() {
        assert!(Action::ALL.iter().all(|a| a.word().parse() == Ok(*a)));
        assert!(EndReason::ALL.iter().all(|a| a.word().parse() == Ok(*a)));
        assert_eq!(
            "block".parse::<Action>().map_err(|e| e.to_string()),
            Err("`block` is not one of allow, deny, reject, limit".to_owned())
        );
        assert_eq!(
            serde_json::to_string(&TcpState::SynSent).ok().as_deref(),
            Some("\"syn-sent\"")
        );
    }
}

//! The tests of a filter over a conversation: those that its fields can answer.
//!
//! Conversations keep one port, the responder's: `port` asks for it, and `src port` is not kept. `bytes`, `packets` and
//! `dropped` compare the sums of the conversation. `kind aggregate` holds where flows were told together.

use super::{EndTest, Expr, Filter, Quantity, Side, WholeTest, names, names_optional};
use crate::history::Conversation;
use crate::words::Kind;

impl Filter {
    /// The first test, as it is written, that asks for what conversations do not keep.
    #[must_use]
    pub fn not_kept(&self) -> Option<String> {
        self.expr.as_ref().and_then(Expr::not_kept)
    }

    /// Whether the conversation passes. A test that conversations do not keep ([`Filter::not_kept`]) holds for none.
    #[must_use]
    pub fn matches_conversation(&self, conversation: &Conversation) -> bool {
        self.expr
            .as_ref()
            .is_none_or(|expr| expr.holds_of(conversation))
    }
}

impl Expr {
    fn not_kept(&self) -> Option<String> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().find_map(Self::not_kept),
            Self::Not(inner) => inner.not_kept(),
            Self::End(Side::Src, EndTest::Port { .. }) => Some(self.to_string()),
            Self::End(..) => None,
            Self::Whole(test) => (!test.is_kept()).then(|| test.to_string()),
        }
    }

    fn holds_of(&self, c: &Conversation) -> bool {
        match self {
            Self::All(all) => all.iter().all(|e| e.holds_of(c)),
            Self::Any(any) => any.iter().any(|e| e.holds_of(c)),
            Self::Not(inner) => !inner.holds_of(c),
            Self::End(Side::Src, test) => test.holds_at_src_of(c),
            Self::End(Side::Dst, test) => test.holds_at_dst_of(c),
            Self::End(Side::Either, test) => test.holds_at_src_of(c) || test.holds_at_dst_of(c),
            Self::Whole(test) => test.holds_of(c),
        }
    }
}

impl EndTest {
    fn holds_at_src_of(&self, c: &Conversation) -> bool {
        match self {
            Self::Net(net) => net.contains(c.src),
            Self::Port { .. } => false,
            Self::Segment(name) => c.src_segments.iter().any(|s| names(name, s)),
            Self::Workload(name) => names_optional(name, c.src_name.as_deref()),
        }
    }

    fn holds_at_dst_of(&self, c: &Conversation) -> bool {
        match self {
            Self::Net(net) => net.contains(c.dst),
            Self::Port { first, last } => (*first..=*last).contains(&c.dport()),
            Self::Segment(name) => c.dst_segments.iter().any(|s| names(name, s)),
            Self::Workload(name) => names_optional(name, c.dst_name.as_deref()),
        }
    }
}

impl WholeTest {
    const fn is_kept(&self) -> bool {
        match self {
            Self::Proto(_)
            | Self::Service(_)
            | Self::Rule(_)
            | Self::PendingRule(_)
            | Self::Verdict(_)
            | Self::Pending(_)
            | Self::Source(_)
            | Self::Mode(_)
            | Self::Coverage(_)
            | Self::Kind(Kind::Aggregate)
            | Self::Number(Quantity::Bytes | Quantity::Packets | Quantity::Dropped, ..) => true,
            Self::End(_)
            | Self::Kind(_)
            | Self::State(_)
            | Self::Drop(_)
            | Self::Tunnel(_)
            | Self::Vlan(_)
            | Self::Vni(_)
            | Self::Number(Quantity::Epoch | Quantity::Worker, ..) => false,
        }
    }

    fn holds_of(&self, c: &Conversation) -> bool {
        match self {
            Self::Proto(proto) => c.proto == *proto,
            Self::Service(name) => {
                names_optional(name, c.service.as_deref()) || names(name, &c.service_label())
            }
            Self::Rule(name) => names_optional(name, c.rule.as_deref()),
            Self::PendingRule(name) => names_optional(name, c.pending_rule.as_deref()),
            Self::Verdict(action) => c.verdict == *action,
            Self::Pending(action) => c.pending_verdict == *action,
            Self::Source(source) => c.verdict_source == *source,
            Self::Mode(mode) => c.mode == *mode,
            Self::Coverage(coverage) => c.coverage == *coverage,
            Self::Kind(Kind::Aggregate) => c.folded,
            Self::Number(Quantity::Bytes, compare, number) => {
                compare.holds(c.sums.bytes(), *number)
            }
            Self::Number(Quantity::Packets, compare, number) => {
                compare.holds(c.sums.packets(), *number)
            }
            Self::Number(Quantity::Dropped, compare, number) => {
                compare.holds(c.sums.dropped_packets, *number)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::flow;
    use super::*;
    use crate::flow::Aggregate;
    use crate::time::Ts;

    #[track_caller]
    fn check(conversation: &Conversation, filter: &str, expected: bool) {
        let parsed = Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
        assert_eq!(parsed.not_kept(), None, "{filter}");
        assert_eq!(
            parsed.matches_conversation(conversation),
            expected,
            "{filter}"
        );
    }

    #[test]
    fn what_a_conversation_keeps_is_tested_as_of_the_flow_it_came_from() {
        let c = Conversation::of(&flow(), 300);
        for (filter, expected) in [
            (
                "src 10.0.0.0/8 and dst port 5432 and port 5432 and tcp",
                true,
            ),
            ("src segment prod and dst workload db-*", true),
            ("service postgres and not service tcp/5432", true),
            (
                "verdict deny and pending allow and source rule and mode enforce",
                true,
            ),
            (
                "rule no-web-to-db and pending-rule web-* and coverage rule",
                true,
            ),
            ("bytes > 1k and packets = 5 and dropped = 5", true),
            ("kind aggregate", false),
            ("port 40000 or workload nobody or net ::/0", false),
        ] {
            check(&c, filter, expected);
        }
    }

    #[test]
    fn tests_of_what_conversations_do_not_keep_are_named() {
        for (filter, test) in [
            ("tcp and (udp or not src port 80)", "src port 80-80"),
            ("vlan 10", "vlan 10"),
            ("kind end", "kind end"),
            ("epoch = 7", "epoch = 7"),
            ("state closed", "state closed"),
        ] {
            let parsed = Filter::parse(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
            assert_eq!(parsed.not_kept().as_deref(), Some(test), "{filter}");
        }
    }

    #[test]
    fn icmp_keeps_type_and_code_and_has_no_port_and_a_scan_says_that_it_was_folded() {
        let mut ping = flow();
        (ping.proto, ping.sport, ping.dport, ping.service) = (1, 0, 0, None);
        (ping.icmp_type, ping.icmp_code) = (Some(3), Some(13));
        let mut c = Conversation::of(&ping, 300);
        assert_eq!(
            (c.port, c.service_label().as_str()),
            (3 * 256 + 13, "icmp/destination-unreachable")
        );
        check(&c, "service icmp/3 and port 0 and not port 781", true);

        (ping.proto, ping.dport) = (0, 0);
        ping.aggregate = Some(Aggregate {
            flows: 900,
            refused: 0,
            since_ts: Ts(0),
            sources: 1,
            destinations: 254,
            ports: 3,
            port_low: 22,
            port_high: 443,
            protocols: vec!["tcp".into()],
        });
        c = Conversation::of(&ping, 300);
        assert_eq!(
            (c.sums.flows, c.port, c.service_label().as_str()),
            (900, 0, "(folded)")
        );
        check(&c, "kind aggregate", true);
    }
}

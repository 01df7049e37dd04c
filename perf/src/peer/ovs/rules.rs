//! The rules of the subject's plan as OpenFlow: what is established passes, what is new is judged
//! by as many rules and then committed, everything else is dropped.

use crate::rules::{End, Plan};
use std::fmt::Write;

/// One table that asks conntrack, one that judges. Lane `n` goes from port `inN` to `outN`.
pub(super) fn text(rules: u32, lanes: usize) -> String {
    let mut text = String::from(
        "table=0,priority=10,udp,actions=ct(table=1)\n\
         table=0,priority=1,actions=drop\n\
         table=1,priority=65535,ct_state=+trk+est,actions=resubmit(,2)\n\
         table=1,priority=0,actions=drop\n",
    );
    for lane in 0..lanes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "table=2,in_port=in{lane},actions=output:out{lane}");
    }
    // A service of one port or two; the rule for two is two in OpenFlow, under one number.
    for (number, rule) in (1_u32..).zip(Plan::new(rules).flat_rules()) {
        let verdict = if rule.denies {
            "drop"
        } else {
            "ct(commit),resubmit(,2)"
        };
        // In the subject a deny beats an allow; priority says the same here.
        let priority = if rule.denies { 200 } else { 100 };
        for port in rule.ports {
            let _ = writeln!(
                text,
                "table=1,priority={priority},cookie={number},ct_state=+trk+new,udp,nw_src={},nw_dst={},tp_dst={port},actions={verdict}",
                prefix(rule.from),
                prefix(rule.to)
            );
        }
    }
    text
}

fn prefix(end: End) -> String {
    format!("{}/{}", std::net::Ipv4Addr::from(end.bits), end.length)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn there_are_as_many_rules_as_the_subject_has() {
        for rules in [10, 1_000] {
            let text = text(rules, 1);
            let cookies = text
                .lines()
                .filter_map(|line| line.split("cookie=").nth(1)?.split(',').next());
            let numbers: std::collections::HashSet<_> = cookies.collect();
            assert_eq!(numbers.len(), rules as usize);
            assert!(text.contains("nw_src=10.0.0.0/"), "{text}");
        }
    }
}

//! Questions as SQL: one generator, so that every engine is asked the same and answers the same.
//!
//! [`Question::sql`] writes one `SELECT` over a *source*: a table, or a subquery in parentheses, that has the columns
//! below. What engines write differently stands in [`Dialect`]. The rows that come back become an answer in
//! [`crate::answer`], where what is easier said in a loop than in SQL is done: splitting lists of segments, final order.
//!
//! # Columns of conversations
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `start_s` | 64 bits signed | beginning of the interval, seconds since the Unix epoch |
//! | `interval_s` | 32 bits | its length |
//! | `src`, `dst` | text | addresses, as Rust writes them (RFC 5952) |
//! | `proto`, `port` | 8, 16 bits | as in [`api::history::Conversation`] |
//! | `src_name`, `dst_name` | text | workloads; empty where there is none |
//! | `src_segments`, `dst_segments` | text | names with commas between (no name has a comma); empty where there is none |
//! | `service` | text | empty where there is none |
//! | `verdict`, `verdict_source`, `rule`, `pending_verdict`, `pending_source`, `pending_rule`, `mode`, `coverage`, `initiator_evidence` | text | words of the protocol; rules empty where there is none |
//! | `folded` | 8 bits | 1 or 0 |
//! | `first_ns`, `last_ns` | 64 bits | nanoseconds since the Unix epoch |
//! | `flows`, `pkts_fwd`, `bytes_fwd`, `pkts_rev`, `bytes_rev`, `dropped_packets`, `dropped_bytes` | 64 bits | sums |
//!
//! A source must hold *whole* conversations, one row a key, where the question looks at one conversation's times or
//! sums: an engine that keeps parts of them (of one flush, of one insert) puts [`whole`] between.
//!
//! # Columns of flows
//!
//! The same but `start_s`, `interval_s`, `port`, `folded` and `flows`, and: `sport`, `dport` (16 bits), `named_by`,
//! `end_reason`, `kind`, `tcp_state`, `drop_reason`, `tunnel_kind`, `outer_src`, `outer_dst`, `vlans` (numbers with
//! commas between), `ingress_port`, `egress_port`, `flow_id` (16 digits), `aggregate_protocols` (with commas between)
//! as text, empty where there is none; `icmp_type`, `icmp_code`, `rtt_initiator_us`, `rtt_responder_us`, `tunnel_id`,
//! `aggregate_flows` (64 bits signed, -1 where there is none); `seq`, `epoch`, `aggregate_refused`,
//! `aggregate_since_ns`, `aggregate_sources`, `aggregate_destinations`, `aggregate_ports`, `aggregate_port_low`,
//! `aggregate_port_high`, `tcp_flags_fwd`, `tcp_flags_rev`, `retransmits_fwd`, `retransmits_rev`, `tos_fwd`,
//! `tos_rev`, `worker`, `initiator_confidence` (unsigned; 0 where there is none), `initiator_flipped`, `begins` (8
//! bits, 1 or 0).

mod dialect;
mod filter;
#[cfg(test)]
mod tests;

pub use dialect::{ClickHouse, DataFusion, Dialect};

use crate::{HistoryError, Selection};
use api::label::{ICMP_TYPES, ICMPV6_TYPES};
use api::top::{Metric, TopBy};
use filter::Kept;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Columns that make a conversation what it is, in the order of the answer to [`Question::Conversations`].
pub const KEY_COLUMNS: &[&str] = &[
    "start_s",
    "interval_s",
    "src",
    "dst",
    "proto",
    "port",
    "src_name",
    "dst_name",
    "src_segments",
    "dst_segments",
    "service",
    "verdict",
    "verdict_source",
    "rule",
    "pending_verdict",
    "pending_source",
    "pending_rule",
    "mode",
    "coverage",
    "initiator_evidence",
    "folded",
];

/// Columns that add up, in the order of [`api::history::Sums`].
pub const SUM_COLUMNS: &[&str] = &[
    "flows",
    "pkts_fwd",
    "bytes_fwd",
    "pkts_rev",
    "bytes_rev",
    "dropped_packets",
    "dropped_bytes",
];

/// Columns of flows, in the order of the answer to [`Question::Flows`].
pub const FLOW_COLUMNS: &[&str] = &[
    "seq",
    "first_ns",
    "last_ns",
    "src",
    "dst",
    "src_name",
    "dst_name",
    "src_segments",
    "dst_segments",
    "named_by",
    "proto",
    "sport",
    "dport",
    "service",
    "icmp_type",
    "icmp_code",
    "pkts_fwd",
    "bytes_fwd",
    "pkts_rev",
    "bytes_rev",
    "dropped_packets",
    "dropped_bytes",
    "end_reason",
    "kind",
    "verdict",
    "verdict_source",
    "rule",
    "pending_verdict",
    "pending_source",
    "pending_rule",
    "mode",
    "coverage",
    "drop_reason",
    "initiator_evidence",
    "initiator_confidence",
    "initiator_flipped",
    "tcp_state",
    "tcp_flags_fwd",
    "tcp_flags_rev",
    "rtt_initiator_us",
    "rtt_responder_us",
    "retransmits_fwd",
    "retransmits_rev",
    "tos_fwd",
    "tos_rev",
    "tunnel_kind",
    "tunnel_id",
    "outer_src",
    "outer_dst",
    "vlans",
    "ingress_port",
    "egress_port",
    "epoch",
    "flow_id",
    "worker",
    "begins",
    "aggregate_flows",
    "aggregate_refused",
    "aggregate_since_ns",
    "aggregate_sources",
    "aggregate_destinations",
    "aggregate_ports",
    "aggregate_port_low",
    "aggregate_port_high",
    "aggregate_protocols",
];

const DENIED: &str = "verdict IN ('deny', 'reject')";
const WOULD_DENY: &str = "verdict IN ('allow', 'limit') AND pending_verdict IN ('deny', 'reject')";
const SRC_LABEL: &str = "CASE WHEN src_name = '' THEN src ELSE src_name END";
const DST_LABEL: &str = "CASE WHEN dst_name = '' THEN dst ELSE dst_name END";

/// What is asked. The columns of its answer are told in order; *sums* are those of [`SUM_COLUMNS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// [`FLOW_COLUMNS`], newest first.
    Flows {
        /// Rows, 0 all.
        limit: u64,
    },
    /// [`KEY_COLUMNS`], `first_ns`, `last_ns`, sums.
    Conversations,
    /// The same columns; rows of any length of interval, and parts of conversations, do.
    ConversationsToAddUp,
    /// Segments of the initiator, of the responder, label of the service, denied flows, flows that would be, sums. A
    /// row for each *list* of segments.
    Matrix,
    /// Beginning of the step in seconds, denied flows, sums.
    Series {
        /// Seconds.
        step_s: u32,
    },
    /// Name, denied flows, sums, amount; largest first.
    Top {
        /// What rows stand for.
        by: TopBy,
        /// What they are ordered by.
        metric: Metric,
        /// Rows, 0 all.
        limit: u64,
    },
    /// `src`, `dst`, `proto`, `port`, names (below), first and last packet, denied flows, sums. Over everything that is
    /// kept, not the selection's time alone. Names are three texts with [`NAMES_BETWEEN`] between.
    FirstSeen,
    /// Rule, first and last packet, distinct initiators, responders, services, sums.
    RuleUse,
    /// Rule in test, flows.
    PendingRuleUse,
    /// Four times sums: all, covered, would be denied, denied.
    Coverage,
    /// The addresses that were the workload's, one a row.
    TalkerAddresses {
        /// Name of the workload.
        workload: String,
    },
    /// As [`Question::FirstSeen`], over everything that is kept.
    Talkers {
        /// Name of the workload, or an address as Rust writes it.
        workload: String,
        /// What [`Question::TalkerAddresses`] answered, or the workload itself where it is an address, as Rust writes it.
        addresses: Vec<String>,
    },
}

/// Between the names of an edge: sorts before every character of a name.
pub const NAMES_BETWEEN: char = '\u{1}';

impl Question {
    /// Whether the question looks at everything that is kept, beside its selection's time.
    #[must_use]
    pub const fn is_of_all_time(&self) -> bool {
        matches!(self, Self::FirstSeen | Self::Talkers { .. })
    }

    /// The question as one `SELECT` over `source`.
    ///
    /// # Errors
    /// [`HistoryError::NotKept`].
    pub fn sql(
        &self,
        dialect: &dyn Dialect,
        source: &str,
        of: &Selection,
    ) -> Result<String, HistoryError> {
        let kept = match self {
            Self::Flows { .. } => Kept::Flows,
            _ => Kept::Conversations,
        };
        let filter = filter::condition(dialect, kept, &of.filter)?;
        let selected = format!("{} AND {filter}", in_time(of));
        let ask = Ask {
            dialect,
            source,
            selected: &selected,
        };
        Ok(match self {
            Self::Flows { limit } => format!(
                "SELECT {} FROM {source} WHERE {selected} ORDER BY first_ns DESC, last_ns DESC, flow_id DESC, seq \
                 DESC{}",
                FLOW_COLUMNS.join(", "),
                limit_of(*limit)
            ),
            Self::Conversations | Self::ConversationsToAddUp => format!(
                "SELECT {}, first_ns, last_ns, {} FROM {source} WHERE {selected}",
                KEY_COLUMNS.join(", "),
                SUM_COLUMNS.join(", ")
            ),
            Self::Matrix => ask.matrix(),
            Self::Series { step_s } => ask.series(*step_s),
            Self::Top { by, metric, limit } => ask.top(*by, *metric, *limit),
            Self::FirstSeen => ask.edges("folded = 0", &selected, Some(of)),
            Self::RuleUse => ask.rule_use(),
            Self::PendingRuleUse => format!(
                "SELECT pending_rule, sum(flows) FROM {source} WHERE {selected} AND pending_rule != '' GROUP BY \
                 pending_rule"
            ),
            Self::Coverage => ask.coverage(),
            Self::TalkerAddresses { workload } => ask.talker_addresses(workload),
            Self::Talkers {
                workload,
                addresses,
            } => ask.talkers(workload, addresses),
        })
    }
}

/// Whatever overlaps the selection's time. Where that is all there is nothing is tested: it would cost reading times.
fn in_time(of: &Selection) -> String {
    let since = (of.since_ns > 0).then(|| format!("last_ns >= {}", of.since_ns));
    let until = (of.until_ns < u64::MAX).then(|| format!("first_ns < {}", of.until_ns));
    match (since, until) {
        (Some(since), Some(until)) => format!("{since} AND {until}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "1 = 1".to_owned(),
    }
}

fn limit_of(limit: u64) -> String {
    match limit {
        0 => String::new(),
        limit => format!(" LIMIT {limit}"),
    }
}

/// `sum(flows) AS sum_flows, ...`. Aliases differ from columns: to ClickHouse an alias hides the column.
fn sums() -> String {
    let parts: Vec<String> = SUM_COLUMNS
        .iter()
        .map(|c| format!("sum({c}) AS sum_{c}"))
        .collect();
    parts.join(", ")
}

/// The conversations that parts of them in `parts` add up to, as a subquery. `only` says which parts, by columns of
/// [`KEY_COLUMNS`] alone: a condition on times or sums would take a conversation apart.
#[must_use]
pub fn whole(parts: &str, only: &str) -> String {
    let key = KEY_COLUMNS.join(", ");
    let renamed: Vec<String> = SUM_COLUMNS
        .iter()
        .map(|c| format!("sum_{c} AS {c}"))
        .collect();
    format!(
        "(SELECT {key}, whole_first_ns AS first_ns, whole_last_ns AS last_ns, {} FROM (SELECT {key}, min(first_ns) AS \
         whole_first_ns, max(last_ns) AS whole_last_ns, {} FROM {parts} WHERE {only} GROUP BY {key}))",
        renamed.join(", "),
        sums()
    )
}

/// A question being written.
struct Ask<'a> {
    dialect: &'a dyn Dialect,
    source: &'a str,
    /// Condition of the selection.
    selected: &'a str,
}

impl Ask<'_> {
    fn denied_flows(&self) -> String {
        format!("{} AS denied_flows", self.dialect.sum_if("flows", DENIED))
    }

    /// [`Conversation::service_label`](api::history::Conversation::service_label).
    fn service_label(&self) -> String {
        service_label(self.dialect, "port", "folded = 1", "'(folded)'")
    }

    fn matrix(&self) -> String {
        format!(
            "SELECT src_segments, dst_segments, {label} AS label, {denied}, {would} AS would_deny_flows, {sums} FROM \
             {source} WHERE {selected} GROUP BY src_segments, dst_segments, {label}",
            label = self.service_label(),
            denied = self.denied_flows(),
            would = self.dialect.sum_if("flows", WOULD_DENY),
            sums = sums(),
            source = self.source,
            selected = self.selected,
        )
    }

    fn series(&self, step_s: u32) -> String {
        let step = format!(
            "{} * {step_s}",
            self.dialect.quotient("start_s", u64::from(step_s.max(1)))
        );
        format!(
            "SELECT {step} AS step_start_s, {}, {} FROM {} WHERE {} GROUP BY {step} ORDER BY step_start_s",
            self.denied_flows(),
            sums(),
            self.source,
            self.selected,
        )
    }

    fn top(&self, by: TopBy, metric: Metric, limit: u64) -> String {
        let amount = match metric {
            Metric::Bytes => "sum(bytes_fwd) + sum(bytes_rev)",
            Metric::Packets => "sum(pkts_fwd) + sum(pkts_rev)",
            Metric::Flows => "sum(flows)",
        };
        let (keys, source) = self.top_keys(by);
        let aliases: Vec<String> = (0..keys.len()).map(|i| format!("key_{i}")).collect();
        let name = match aliases.as_slice() {
            [src, dst] => format!("concat({src}, ' -> ', {dst})"),
            _ => "key_0".to_owned(),
        };
        let keyed: Vec<String> = keys
            .iter()
            .zip(&aliases)
            .map(|(key, alias)| format!("{key} AS {alias}"))
            .collect();
        let outer: Vec<String> = SUM_COLUMNS.iter().map(|c| format!("sum_{c}")).collect();
        format!(
            "SELECT {name} AS name, denied_flows, {}, amount FROM (SELECT {}, {}, {}, {amount} AS amount FROM {source} \
             GROUP BY {}) ORDER BY amount DESC, name{}",
            outer.join(", "),
            keyed.join(", "),
            self.denied_flows(),
            sums(),
            keys.join(", "),
            limit_of(limit),
        )
    }

    /// What a row of top is known by, one text or two, and out of what.
    fn top_keys(&self, by: TopBy) -> (Vec<String>, String) {
        let selected = format!("{} WHERE {}", self.source, self.selected);
        let one = |key: &str| vec![key.to_owned()];
        match by {
            TopBy::Pairs => (vec![SRC_LABEL.to_owned(), DST_LABEL.to_owned()], selected),
            TopBy::Segments => {
                let or_dash =
                    |column: &str| format!("CASE WHEN {column} = '' THEN '-' ELSE {column} END");
                (
                    vec![or_dash("src_segments"), or_dash("dst_segments")],
                    selected,
                )
            }
            TopBy::Services => (vec![self.service_label()], selected),
            TopBy::Rules => (
                one("CASE WHEN rule = '' THEN concat('(', verdict_source, ')') ELSE rule END"),
                selected,
            ),
            TopBy::Scanners => (
                one(SRC_LABEL),
                format!("{selected} AND (folded = 1 OR {DENIED})"),
            ),
            TopBy::Workloads => (one("label"), self.both_ends()),
        }
    }

    /// Every selected conversation once for each of its labels, under `label`.
    fn both_ends(&self) -> String {
        let columns = format!("verdict, {}", SUM_COLUMNS.join(", "));
        format!(
            "(SELECT {SRC_LABEL} AS label, {columns} FROM {source} WHERE {selected} UNION ALL SELECT {DST_LABEL} AS \
             label, {columns} FROM {source} WHERE {selected} AND {SRC_LABEL} != {DST_LABEL})",
            source = self.source,
            selected = self.selected,
        )
    }

    fn rule_use(&self) -> String {
        format!(
            "SELECT rule, min(first_ns) AS rule_first_ns, max(last_ns) AS rule_last_ns, count(DISTINCT src) AS \
             sources, count(DISTINCT dst) AS destinations, count(DISTINCT proto * 65536 + port) AS services, {} FROM {} \
             WHERE {} AND rule != '' GROUP BY rule",
            sums(),
            self.source,
            self.selected,
        )
    }

    fn coverage(&self) -> String {
        let mut columns = sums();
        let conditions = [
            ("covered", "coverage = 'rule'"),
            ("would_deny", WOULD_DENY),
            ("denied", DENIED),
        ];
        for (name, condition) in conditions {
            for column in SUM_COLUMNS {
                let sum = self.dialect.sum_if(column, condition);
                // Writing to a text does not fail.
                let _ = write!(columns, ", {sum} AS {name}_{column}");
            }
        }
        format!(
            "SELECT {columns} FROM {} WHERE {}",
            self.source, self.selected
        )
    }

    fn talker_addresses(&self, workload: &str) -> String {
        let name = self.dialect.text(workload);
        format!(
            "SELECT DISTINCT address FROM (SELECT src AS address FROM {source} WHERE {selected} AND src_name = {name} \
             UNION ALL SELECT dst AS address FROM {source} WHERE {selected} AND dst_name = {name})",
            source = self.source,
            selected = self.selected,
        )
    }

    fn talkers(&self, workload: &str, addresses: &[String]) -> String {
        let name = self.dialect.text(workload);
        let listed: Vec<String> = addresses.iter().map(|a| self.dialect.text(a)).collect();
        let one_of = |column: &str| match listed.as_slice() {
            [] => "1 = 0".to_owned(),
            [one] => format!("{column} = {one}"),
            many => format!("{column} IN ({})", many.join(", ")),
        };
        let only = format!("folded = 0 AND ({} OR {})", one_of("src"), one_of("dst"));
        let is_end = match workload.parse::<IpAddr>() {
            Ok(_) => format!("(src = {name} OR dst = {name})"),
            Err(_) => format!("(src_name = {name} OR dst_name = {name})"),
        };
        self.edges(&only, &format!("{} AND {is_end}", self.selected), None)
    }

    /// Edges among the conversations that `only` leaves, with the sums of those that are `wanted`; where a selection
    /// is given, only those that began within its time.
    fn edges(&self, only: &str, wanted: &str, begun_in: Option<&Selection>) -> String {
        let names =
            format!("concat(src_name, '{NAMES_BETWEEN}', dst_name, '{NAMES_BETWEEN}', service)");
        let sums: Vec<String> = SUM_COLUMNS
            .iter()
            .map(|c| format!("{} AS sum_{c}", self.dialect.sum_if(c, wanted)))
            .collect();
        let begun = begun_in.map_or_else(String::new, |of| {
            format!(
                " AND min(first_ns) >= {} AND min(first_ns) < {}",
                of.since_ns, of.until_ns
            )
        });
        let denied = self
            .dialect
            .sum_if("flows", &format!("({wanted}) AND {DENIED}"));
        format!(
            "SELECT src, dst, proto, port, {} AS names, min(first_ns) AS edge_first_ns, max(last_ns) AS edge_last_ns, \
             {denied} AS denied_flows, {} FROM {} WHERE {only} GROUP BY src, dst, proto, port HAVING {} > 0{begun}",
            self.dialect.first_text(&names, "first_ns"),
            sums.join(", "),
            self.source,
            self.dialect.count_if(wanted),
        )
    }
}

/// The service's name, else what `special` holds for, else protocol and port.
fn service_label(dialect: &dyn Dialect, port: &str, special: &str, label: &str) -> String {
    let of = |word: &str, number: &str| format!("concat('{word}/', {})", dialect.to_text(number));
    let icmp_type = dialect.quotient(port, 256);
    let icmp = |proto: &str, types: &[(&str, u8)]| {
        let named = types
            .iter()
            .fold(String::new(), |mut told, (name, number)| {
                // Writing to a String cannot fail.
                let _ = write!(told, " WHEN {icmp_type} = {number} THEN '{proto}/{name}'");
                told
            });
        format!("CASE{named} ELSE {} END", of(proto, &icmp_type))
    };
    format!(
        "CASE WHEN service != '' THEN service WHEN {special} THEN {label} WHEN proto = 6 THEN {} WHEN proto = 17 THEN \
         {} WHEN proto = 132 THEN {} WHEN proto = 1 THEN {} WHEN proto = 58 THEN {} ELSE {} END",
        of("tcp", port),
        of("udp", port),
        of("sctp", port),
        icmp("icmp", &ICMP_TYPES),
        icmp("icmpv6", &ICMPV6_TYPES),
        of("proto", "proto"),
    )
}

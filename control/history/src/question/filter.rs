//! A filter as a condition in SQL.

use super::{Dialect, service_label};
use crate::HistoryError;
use api::filter::{Compare, EndTest, Expr, Filter, Quantity, Side, WholeTest};
use api::words::{Kind, TunnelKind};

/// Whose columns there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Everything.
    Flows,
    /// What conversations keep.
    Conversations,
}

const NEVER: &str = "1 = 0";
const ALWAYS: &str = "1 = 1";

/// The condition, in parentheses where it needs them.
///
/// # Errors
/// [`HistoryError::NotKept`] for the first test that conversations do not keep.
pub(super) fn condition(
    dialect: &dyn Dialect,
    kept: Kept,
    filter: &Filter,
) -> Result<String, HistoryError> {
    let writer = Writer { dialect, kept };
    filter
        .expr()
        .map_or_else(|| Ok(ALWAYS.to_owned()), |expr| writer.expr(expr))
}

struct Writer<'a> {
    dialect: &'a dyn Dialect,
    kept: Kept,
}

impl Writer<'_> {
    fn expr(&self, expr: &Expr) -> Result<String, HistoryError> {
        match expr {
            Expr::All(parts) => self.joined(parts, " AND "),
            Expr::Any(parts) => self.joined(parts, " OR "),
            Expr::Not(inner) => Ok(format!("NOT ({})", self.expr(inner)?)),
            Expr::End(side, test) => self
                .end(*side, test)
                .ok_or_else(|| not_kept(&expr.to_string())),
            Expr::Whole(test) => self.whole(test).ok_or_else(|| not_kept(&expr.to_string())),
        }
    }

    fn joined(&self, parts: &[Expr], word: &str) -> Result<String, HistoryError> {
        let parts: Result<Vec<String>, HistoryError> =
            parts.iter().map(|part| self.expr(part)).collect();
        Ok(format!("({})", parts?.join(word)))
    }

    fn end(&self, side: Side, test: &EndTest) -> Option<String> {
        match side {
            Side::Src => self.one_end("src", test),
            Side::Dst => self.one_end("dst", test),
            Side::Either => {
                let ends = [self.one_end("src", test), self.one_end("dst", test)];
                let ends: Vec<String> = ends.into_iter().flatten().collect();
                (!ends.is_empty()).then(|| format!("({})", ends.join(" OR ")))
            }
        }
    }

    fn one_end(&self, end: &str, test: &EndTest) -> Option<String> {
        Some(match test {
            EndTest::Net(net) => self.dialect.in_net(end, *net),
            EndTest::Segment(name) => self.has_element(&format!("{end}_segments"), name),
            EndTest::Workload(name) => self.named(&format!("{end}_name"), name),
            EndTest::Port { first, last } => {
                let port = match (self.kept, end) {
                    (Kept::Flows, "src") => "sport",
                    (Kept::Flows, _) => "dport",
                    (Kept::Conversations, "src") => return None,
                    // A flow of ICMP has no port: the column holds type and code.
                    (Kept::Conversations, _) => "CASE WHEN proto IN (1, 58) THEN 0 ELSE port END",
                };
                format!("({port}) >= {first} AND ({port}) <= {last}")
            }
        })
    }

    /// Whether a name is there and is what the pattern says.
    fn named(&self, column: &str, pattern: &str) -> String {
        match pattern.strip_suffix('*') {
            Some("") => format!("{column} != ''"),
            Some(prefix) => self.dialect.starts_with(column, prefix),
            None if pattern.is_empty() => NEVER.to_owned(),
            None => format!("{column} = {}", self.dialect.text(pattern)),
        }
    }

    /// Whether one of the names of a list is what the pattern says.
    fn has_element(&self, column: &str, pattern: &str) -> String {
        let listed = |part: &str| {
            self.dialect
                .contains(&format!("concat(',', {column}, ',')"), part)
        };
        match pattern.strip_suffix('*') {
            // No name has a comma, and none is empty.
            _ if pattern.contains(',') => NEVER.to_owned(),
            Some("") => format!("{column} != ''"),
            Some(prefix) => listed(&format!(",{prefix}")),
            None if pattern.is_empty() => NEVER.to_owned(),
            None => listed(&format!(",{pattern},")),
        }
    }

    fn service(&self, pattern: &str) -> String {
        let label = match self.kept {
            Kept::Conversations => service_label(self.dialect, "port", "folded = 1", "'(folded)'"),
            Kept::Flows => self.flow_service_label(),
        };
        let by_label = match pattern.strip_suffix('*') {
            Some(prefix) => self.dialect.starts_with(&format!("({label})"), prefix),
            None => format!("({label}) = {}", self.dialect.text(pattern)),
        };
        format!("({} OR {by_label})", self.named("service", pattern))
    }

    /// [`api::Flow::service_label`], whose aggregates tell protocols and ports before the service's name.
    fn flow_service_label(&self) -> String {
        let number = |column: &str| self.dialect.to_text(column);
        let protocols = self.dialect.replace("aggregate_protocols", ",", "+");
        let plain = service_label(
            self.dialect,
            "CASE WHEN proto IN (1, 58) THEN icmp_type * 256 ELSE dport END",
            "proto IN (1, 58) AND icmp_type < 0",
            &format!("concat('proto/', {})", number("proto")),
        );
        format!(
            "CASE WHEN aggregate_flows < 0 THEN {plain} WHEN aggregate_ports = 0 THEN {protocols} WHEN \
             aggregate_ports = 1 THEN concat({protocols}, '/', {low}) ELSE concat({protocols}, ' ', {ports}, ' ports ', \
             {low}, '-', {high}) END",
            ports = number("aggregate_ports"),
            low = number("aggregate_port_low"),
            high = number("aggregate_port_high"),
        )
    }

    fn whole(&self, test: &WholeTest) -> Option<String> {
        let word = |column: &str, word: &str| format!("{column} = '{word}'");
        let of_flows = self.kept == Kept::Flows;
        Some(match test {
            WholeTest::Proto(proto) => format!("proto = {proto}"),
            WholeTest::Service(name) => self.service(name),
            WholeTest::Rule(name) => self.named("rule", name),
            WholeTest::PendingRule(name) => self.named("pending_rule", name),
            WholeTest::Verdict(action) => word("verdict", action.word()),
            WholeTest::Pending(action) => word("pending_verdict", action.word()),
            WholeTest::Source(source) => word("verdict_source", source.word()),
            WholeTest::Mode(mode) => word("mode", mode.word()),
            WholeTest::Coverage(coverage) => word("coverage", coverage.word()),
            WholeTest::Kind(Kind::Aggregate) if !of_flows => "folded = 1".to_owned(),
            WholeTest::Number(quantity, compare, number) => {
                self.number(*quantity, *compare, *number)?
            }
            _ if !of_flows => return None,
            WholeTest::End(reason) => word("end_reason", reason.word()),
            WholeTest::Kind(kind) => word("kind", kind.word()),
            WholeTest::State(state) => word("tcp_state", state.word()),
            WholeTest::Drop(name) => self.named("drop_reason", name),
            // A tunnel is of a kind; a flow without one has none, and so may one of an unknown kind.
            WholeTest::Tunnel(TunnelKind::None) => "tunnel_id < 0".to_owned(),
            WholeTest::Tunnel(kind) => word("tunnel_kind", kind.word()),
            WholeTest::Vlan(id) => self.has_element("vlans", &id.to_string()),
            WholeTest::Vni(id) => format!("tunnel_id = {id}"),
        })
    }

    fn number(&self, quantity: Quantity, compare: Compare, number: u64) -> Option<String> {
        let left = match quantity {
            Quantity::Bytes => "bytes_fwd + bytes_rev",
            Quantity::Packets => "pkts_fwd + pkts_rev",
            Quantity::Dropped => "dropped_packets",
            Quantity::Epoch if self.kept == Kept::Flows => "epoch",
            Quantity::Worker if self.kept == Kept::Flows => "worker",
            Quantity::Epoch | Quantity::Worker => return None,
        };
        Some(format!("{left} {compare} {number}"))
    }
}

fn not_kept(test: &str) -> HistoryError {
    HistoryError::NotKept {
        test: test.to_owned(),
    }
}

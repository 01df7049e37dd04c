//! The filter language for flows, in the manner of tcpdump and nfdump.
//!
//! ```text
//! filter     = [ or ]                                an empty filter matches everything
//! or         = and { "or" and }
//! and        = not { "and" not }
//! not        = ( "not" | "!" ) not | "(" or ")" | test
//! test       = [ "src" | "dst" ] end | whole
//! end        = [ "host" | "net" ] ADDRESS [ "/" BITS ]
//!            | "port" NUMBER [ "-" NUMBER ] | "segment" NAME | "workload" NAME
//! whole      = ( "tcp" | "udp" | "sctp" ) [ [ "src" | "dst" ] "port" NUMBER [ "-" NUMBER ] ]
//!            | "icmp" | "icmpv6" | "gre" | "esp" | "proto" ( NAME | NUMBER )
//!            | "service" NAME | "rule" NAME | "pending-rule" NAME
//!            | "verdict" WORD | "pending" WORD | "source" WORD | "mode" WORD | "coverage" WORD
//!            | "end" WORD | "kind" WORD | "state" WORD | "drop" WORD | "tunnel" WORD
//!            | "vlan" NUMBER | "vni" NUMBER
//!            | ( "bytes" | "packets" | "dropped" | "epoch" | "worker" ) COMPARE NUMBER
//! COMPARE    = ">" | ">=" | "<" | "<=" | "=" | "!="
//! NUMBER     = digits with an optional k, m or g (powers of 1000)
//! NAME       = a word, or a text in double quotes; a final * stands for any rest
//! ```
//!
//! Without `src` or `dst` an end test holds where either end fulfils it. `src` is the initiator.

mod conversation;
mod parse;

use crate::flow::Flow;
use crate::words::{Action, Coverage, EndReason, Kind, Mode, TcpState, TunnelKind, VerdictSource};
use std::fmt;
use std::net::IpAddr;

/// Bytes of a filter's text.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Parentheses and `not` inside one another.
pub const FILTER_DEPTH_MAX: usize = 64;

/// A filter that has been understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    expr: Option<Expr>,
}

/// Where and why a filter cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, column {column}: {what}; expected {expected}")]
pub struct FilterError {
    /// Column, 1-based, in characters.
    pub column: usize,
    /// What stands there.
    pub what: String,
    /// What would have been understood.
    pub expected: String,
}

/// A filter as a tree, for whoever asks its question in another language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Holds where all hold; two or more.
    All(Vec<Self>),
    /// Holds where one holds; two or more.
    Any(Vec<Self>),
    /// Holds where it does not.
    Not(Box<Self>),
    /// A test of an end.
    End(Side, EndTest),
    /// A test of the whole flow.
    Whole(WholeTest),
}

/// Which end a test is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The initiator.
    Src,
    /// The responder.
    Dst,
    /// Holds where one of the two fulfils it.
    Either,
}

/// A test of an end. A final `*` of a name stands for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndTest {
    /// Its address is within.
    Net(Net),
    /// Its port is one of these.
    Port {
        /// Lowest.
        first: u16,
        /// Highest, inclusive.
        last: u16,
    },
    /// One of its segments has this name.
    Segment(String),
    /// Its workload has this name.
    Workload(String),
}

/// A test of the whole flow. A final `*` of a name stands for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the fields of `Flow` that they test")]
pub enum WholeTest {
    Proto(u8),
    /// The service's name, or its label ([`Flow::service_label`]).
    Service(String),
    Rule(String),
    PendingRule(String),
    Verdict(Action),
    Pending(Action),
    Source(VerdictSource),
    Mode(Mode),
    Coverage(Coverage),
    End(EndReason),
    Kind(Kind),
    State(TcpState),
    Drop(String),
    Tunnel(TunnelKind),
    Vlan(u16),
    /// The tunnel's id.
    Vni(u32),
    Number(Quantity, Compare, u64),
}

words! {
    /// What of a flow can be compared with a number.
    pub enum Quantity {
        /// Bytes both ways.
        Bytes => "bytes",
        /// Packets both ways.
        Packets => "packets",
        /// Packets that the box dropped.
        Dropped => "dropped",
        /// Epoch of the verdict.
        Epoch => "epoch",
        /// Worker that owns the flow.
        Worker => "worker",
    }
}

words! {
    /// How a quantity is compared with a number, the quantity on the left.
    pub enum Compare {
        /// Greater.
        More => ">",
        /// Greater or equal.
        AtLeast => ">=",
        /// Less.
        Less => "<",
        /// Less or equal.
        AtMost => "<=",
        /// Equal.
        Equal => "=",
        /// Not equal.
        Unequal => "!=",
    }
}

/// An address prefix, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    fn new(address: IpAddr, bits: u8) -> Self {
        Self {
            address: mask(address, bits),
            bits,
        }
    }

    /// First address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Leading bits that count.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether the address is within; one of the other family never is.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.bits) == self.address
    }
}

/// Bits of an address of this family.
const fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits.min(32)))
                .unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits.min(128)))
                .unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

/// Whether `name` is what `pattern` says; a final `*` stands for any rest.
fn names(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

fn names_optional(pattern: &str, name: Option<&str>) -> bool {
    name.is_some_and(|name| names(pattern, name))
}

impl Filter {
    /// Understands a filter.
    ///
    /// # Errors
    /// The first place that cannot be understood, with what was expected there; also where the text
    /// is longer than [`FILTER_BYTES_MAX`] or nests deeper than [`FILTER_DEPTH_MAX`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(|expr| Self { expr })
    }

    /// Whether the flow passes.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.expr.as_ref().is_none_or(|expr| expr.holds(flow))
    }

    /// The filter as a tree; none where everything passes.
    #[must_use]
    pub const fn expr(&self) -> Option<&Expr> {
        self.expr.as_ref()
    }

    /// Whether everything passes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.expr.is_none()
    }
}

impl Expr {
    fn holds(&self, flow: &Flow) -> bool {
        match self {
            Self::All(all) => all.iter().all(|e| e.holds(flow)),
            Self::Any(any) => any.iter().any(|e| e.holds(flow)),
            Self::Not(inner) => !inner.holds(flow),
            Self::End(Side::Src, test) => test.holds_at_src(flow),
            Self::End(Side::Dst, test) => test.holds_at_dst(flow),
            Self::End(Side::Either, test) => test.holds_at_src(flow) || test.holds_at_dst(flow),
            Self::Whole(test) => test.holds(flow),
        }
    }
}

impl EndTest {
    fn holds_at_src(&self, flow: &Flow) -> bool {
        match self {
            Self::Net(net) => net.contains(flow.src),
            Self::Port { first, last } => (*first..=*last).contains(&flow.sport),
            Self::Segment(name) => flow.src_segments.iter().any(|s| names(name, s)),
            Self::Workload(name) => names_optional(name, flow.src_name.as_deref()),
        }
    }

    fn holds_at_dst(&self, flow: &Flow) -> bool {
        match self {
            Self::Net(net) => net.contains(flow.dst),
            Self::Port { first, last } => (*first..=*last).contains(&flow.dport),
            Self::Segment(name) => flow.dst_segments.iter().any(|s| names(name, s)),
            Self::Workload(name) => names_optional(name, flow.dst_name.as_deref()),
        }
    }
}

impl WholeTest {
    fn holds(&self, flow: &Flow) -> bool {
        match self {
            Self::Proto(proto) => flow.proto == *proto,
            Self::Service(name) => {
                names_optional(name, flow.service.as_deref()) || names(name, &flow.service_label())
            }
            Self::Rule(name) => names_optional(name, flow.rule.as_deref()),
            Self::PendingRule(name) => names_optional(name, flow.pending_rule.as_deref()),
            Self::Verdict(action) => flow.verdict == *action,
            Self::Pending(action) => flow.pending_verdict == *action,
            Self::Source(source) => flow.verdict_source == *source,
            Self::Mode(mode) => flow.mode == *mode,
            Self::Coverage(coverage) => flow.coverage == *coverage,
            Self::End(reason) => flow.end_reason == *reason,
            Self::Kind(kind) => flow.kind == *kind,
            Self::State(state) => flow.tcp_state == *state,
            Self::Drop(name) => names_optional(name, flow.drop_reason.as_deref()),
            Self::Tunnel(TunnelKind::None) => flow.tunnel.is_none(),
            Self::Tunnel(kind) => flow.tunnel.as_ref().is_some_and(|t| t.kind == *kind),
            Self::Vlan(id) => flow.vlans.contains(id),
            Self::Vni(id) => flow.tunnel.as_ref().is_some_and(|t| t.id == *id),
            Self::Number(quantity, compare, number) => compare.holds(quantity.of(flow), *number),
        }
    }
}

impl Quantity {
    fn of(self, flow: &Flow) -> u64 {
        match self {
            Self::Bytes => flow.bytes(),
            Self::Packets => flow.packets(),
            Self::Dropped => flow.dropped_packets,
            Self::Epoch => flow.epoch,
            Self::Worker => u64::from(flow.worker),
        }
    }
}

impl Compare {
    const fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::More => left > right,
            Self::AtLeast => left >= right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Equal => left == right,
            Self::Unequal => left != right,
        }
    }
}

/// Writes the filter in the language it came from; what is written means the same.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr
            .as_ref()
            .map_or(Ok(()), |expr| write!(f, "{expr}"))
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expr], word: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            write!(f, " {word} ")?;
        }
        write!(f, "{part}")?;
    }
    f.write_str(")")
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => joined(f, parts, "and"),
            Self::Any(parts) => joined(f, parts, "or"),
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::End(side, test) => {
                f.write_str(match side {
                    Side::Src => "src ",
                    Side::Dst => "dst ",
                    Side::Either => "",
                })?;
                match test {
                    EndTest::Net(net) => write!(f, "net {}/{}", net.address, net.bits),
                    EndTest::Port { first, last } => write!(f, "port {first}-{last}"),
                    EndTest::Segment(name) => write!(f, "segment \"{name}\""),
                    EndTest::Workload(name) => write!(f, "workload \"{name}\""),
                }
            }
            Self::Whole(test) => write!(f, "{test}"),
        }
    }
}

impl fmt::Display for WholeTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proto(proto) => write!(f, "proto {proto}"),
            Self::Service(name) => write!(f, "service \"{name}\""),
            Self::Rule(name) => write!(f, "rule \"{name}\""),
            Self::PendingRule(name) => write!(f, "pending-rule \"{name}\""),
            Self::Verdict(word) => write!(f, "verdict {word}"),
            Self::Pending(word) => write!(f, "pending {word}"),
            Self::Source(word) => write!(f, "source {word}"),
            Self::Mode(word) => write!(f, "mode {word}"),
            Self::Coverage(word) => write!(f, "coverage {word}"),
            Self::End(word) => write!(f, "end {word}"),
            Self::Kind(word) => write!(f, "kind {word}"),
            Self::State(word) => write!(f, "state {word}"),
            Self::Drop(name) => write!(f, "drop \"{name}\""),
            Self::Tunnel(word) => write!(f, "tunnel {word}"),
            Self::Vlan(id) => write!(f, "vlan {id}"),
            Self::Vni(id) => write!(f, "vni {id}"),
            Self::Number(quantity, compare, number) => write!(f, "{quantity} {compare} {number}"),
        }
    }
}

#[cfg(test)]
mod tests;

//! What engines write differently.

use api::filter::Net;
use std::fmt::Debug;
use std::net::IpAddr;

/// One engine's SQL. Every method gives an expression; columns and conditions are expressions too.
pub trait Dialect: Debug {
    /// A text.
    fn text(&self, text: &str) -> String;

    /// Whether a text begins with `prefix`.
    fn starts_with(&self, column: &str, prefix: &str) -> String;

    /// Whether a text has `part` in it.
    fn contains(&self, column: &str, part: &str) -> String;

    /// A text with every `from` in it turned to `to`.
    fn replace(&self, text: &str, from: &str, to: &str) -> String;

    /// A whole number as text, in digits.
    fn to_text(&self, number: &str) -> String;

    /// A whole number divided by another, rounded down.
    fn quotient(&self, number: &str, divisor: u64) -> String;

    /// Sum of `column` where `condition` holds; 0 or missing where it holds nowhere.
    fn sum_if(&self, column: &str, condition: &str) -> String;

    /// How often `condition` holds.
    fn count_if(&self, condition: &str) -> String;

    /// The text of the row whose `number` is least; of several such the smallest text. Numbers are below
    /// 8 446 744 073 709 551 616, which nanoseconds are until the year 2237.
    fn first_text(&self, text: &str, number: &str) -> String;

    /// Whether an address, as text, is within a prefix.
    fn in_net(&self, column: &str, net: Net) -> String;
}

/// SQL of the embedded engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataFusion;

/// SQL of the distributed engine: what 18.16 and today's releases both take.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClickHouse;

/// Where bits end at a byte, an IPv4 prefix is a beginning of the text, which statistics can prune by.
fn text_prefix(net: Net) -> Option<String> {
    let IpAddr::V4(address) = net.address() else {
        return None;
    };
    let [a, b, c, _] = address.octets();
    match net.bits() {
        8 => Some(format!("{a}.")),
        16 => Some(format!("{a}.{b}.")),
        24 => Some(format!("{a}.{b}.{c}.")),
        _ => None,
    }
}

/// A prefix of one address.
const fn is_host(net: Net) -> bool {
    match net.address() {
        IpAddr::V4(_) => net.bits() >= 32,
        IpAddr::V6(_) => net.bits() >= 128,
    }
}

impl Dialect for DataFusion {
    fn text(&self, text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }

    fn starts_with(&self, column: &str, prefix: &str) -> String {
        format!("starts_with({column}, {})", self.text(prefix))
    }

    fn contains(&self, column: &str, part: &str) -> String {
        format!("strpos({column}, {}) > 0", self.text(part))
    }

    fn replace(&self, text: &str, from: &str, to: &str) -> String {
        format!("replace({text}, {}, {})", self.text(from), self.text(to))
    }

    fn to_text(&self, number: &str) -> String {
        format!("CAST({number} AS VARCHAR)")
    }

    fn quotient(&self, number: &str, divisor: u64) -> String {
        format!("CAST({number} AS BIGINT) / {divisor}")
    }

    fn sum_if(&self, column: &str, condition: &str) -> String {
        format!("sum({column}) FILTER (WHERE {condition})")
    }

    fn count_if(&self, condition: &str) -> String {
        format!("count(*) FILTER (WHERE {condition})")
    }

    fn first_text(&self, text: &str, number: &str) -> String {
        format!("first_value({text} ORDER BY {number}, {text})")
    }

    /// `in_net` is a function that the engine registers.
    fn in_net(&self, column: &str, net: Net) -> String {
        if is_host(net) {
            return format!("{column} = {}", self.text(&net.address().to_string()));
        }
        match text_prefix(net) {
            Some(prefix) => self.starts_with(column, &prefix),
            None => format!("in_net({column}, '{}/{}')", net.address(), net.bits()),
        }
    }
}

impl Dialect for ClickHouse {
    fn text(&self, text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }

    fn starts_with(&self, column: &str, prefix: &str) -> String {
        format!("position({column}, {}) = 1", self.text(prefix))
    }

    fn contains(&self, column: &str, part: &str) -> String {
        format!("position({column}, {}) > 0", self.text(part))
    }

    fn replace(&self, text: &str, from: &str, to: &str) -> String {
        format!("replaceAll({text}, {}, {})", self.text(from), self.text(to))
    }

    fn to_text(&self, number: &str) -> String {
        format!("toString({number})")
    }

    fn quotient(&self, number: &str, divisor: u64) -> String {
        format!("intDiv({number}, {divisor})")
    }

    fn sum_if(&self, column: &str, condition: &str) -> String {
        format!("sumIf({column}, {condition})")
    }

    fn count_if(&self, condition: &str) -> String {
        format!("countIf({condition})")
    }

    /// 18.16 takes no tuple in `argMin`: the number stands before the text in 20 digits, and the least is cut.
    fn first_text(&self, text: &str, number: &str) -> String {
        format!("substring(min(concat(toString(10000000000000000000 + {number}), {text})), 21)")
    }

    fn in_net(&self, column: &str, net: Net) -> String {
        if is_host(net) {
            return format!("{column} = {}", self.text(&net.address().to_string()));
        }
        if let Some(prefix) = text_prefix(net) {
            return self.starts_with(column, &prefix);
        }
        match net.address() {
            IpAddr::V4(address) => {
                let first = u32::from(address);
                let rest = u32::MAX.checked_shr(u32::from(net.bits())).unwrap_or(0);
                format!(
                    "(position({column}, ':') = 0 AND IPv4StringToNum({column}) >= {first} AND \
                     IPv4StringToNum({column}) <= {})",
                    first | rest
                )
            }
            IpAddr::V6(address) => {
                let first = u128::from(address);
                let rest = u128::MAX.checked_shr(u32::from(net.bits())).unwrap_or(0);
                let hex = format!("hex(IPv6StringToNum({column}))");
                format!(
                    "(position({column}, ':') > 0 AND {hex} >= '{first:032X}' AND {hex} <= '{:032X}')",
                    first | rest
                )
            }
        }
    }
}
